"""`gridtokenx kafka`: topics, rights and users of a real cluster.

Belongs here: options and what is shown. Does not belong here: the work (messaging/).
"""
