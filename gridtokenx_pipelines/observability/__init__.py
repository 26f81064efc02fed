"""What an operator sees of a process without its data: structured logs, metrics, health.

Belongs here: how they are written and served. Does not belong here: what is measured of a flow (streaming/observe.py).
"""
