"""Assets, thin: what Dagster materialises; the work is in settlement_service."""
