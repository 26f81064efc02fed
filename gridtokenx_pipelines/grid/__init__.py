"""The electrical network: power flow, what links between zones can carry, and whether a clearing is feasible.

Belongs here: float physics behind integer doors. Does not belong here: SQL, Dagster, money, who lives where.
"""
