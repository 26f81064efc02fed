"""The settlement side for Prometheus: one process that asks the database and the chain.

Belongs here: gathering and serving. Does not belong here: SQL (store/monitoring.py), a flow's own numbers
(observability/).
"""
