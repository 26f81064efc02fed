"""Metering, pure: signed readings in, net energy per meter and epoch out (domain §3).

Belongs here: functions and state on structs, columns and frames. Does not belong here: Kafka, SQL, Dagster, clocks.
"""
