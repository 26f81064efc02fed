"""The market from the command line: books from files cleared, orders explained, curves drawn, statistics.

Belongs here: reading people's files, wording, tables, plots. Does not belong here: clearing and analysing (market/).
"""
