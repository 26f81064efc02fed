"""`gridtokenx stream`: the flows, and the supervisor that keeps them running.

Belongs here: options and their bounds. Does not belong here: the flows and processes (streaming/).
"""
