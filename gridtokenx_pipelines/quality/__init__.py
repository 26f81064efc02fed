"""Data quality: one declaration per table, the rules it implies, and statistics that warn.

Belongs here: pure functions on frames. Does not belong here: Dagster (checks/), where frames come
from (settlement_service/quality.py), or blocking rules that need more than one table (settlement_service/inspections).
"""
