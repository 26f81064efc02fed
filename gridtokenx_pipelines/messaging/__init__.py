"""Messaging: adapters for the Kafka protocol and InfluxDB.

Belongs here: topics, clients' settings, reading and sending in batches. Does not belong here: any rule of the domain.
"""
