"""Audits as a service: inputs gathered, recomputed, compared with files, database and chain; nothing is written there.

Belongs here: I/O around the pure room `audit/`, one file per side. Does not belong here: Dagster, the command line.
"""
