"""Adapters to Postgres and Parquet: bound SQL and files, thin; no computing, nothing of Dagster."""
