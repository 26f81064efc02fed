"""Commands about what was measured: the signed archive, dead letters, a wallet's portfolio.

Belongs here: options, words, exit codes. Does not belong here: the work, which lies in metering/, store/, messaging/.
"""
