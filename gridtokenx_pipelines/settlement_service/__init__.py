"""The settlement of epochs as a service: load from the stores, call the domain, write the results. No Dagster.

Belongs here: what the assets, the demo, tests and the audit all call, one file per stage. Does not belong here:
market or settlement rules (market/, settlement/), SQL (store/), transactions (chain/), Dagster types.
"""
