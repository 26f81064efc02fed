"""Backups and restores: Postgres, archive and frames, keys, InfluxDB.

Belongs here: taking, checking, dropping and putting back. Does not belong here: when (backup_operations.py), options
of commands (backup_cli/), bringing database and chain together after a restore (`gridtokenx settle reconcile`).
"""
