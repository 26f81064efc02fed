"""`gridtokenx grid`: the network from the command line.

Belongs here: commands and how their results are shown. Does not belong here: power flow (grid/), the market's books.
"""
