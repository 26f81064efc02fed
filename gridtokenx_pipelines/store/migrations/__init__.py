"""Alembic migrations, shipped in the wheel and run by `store.postgres.migrate`; written once, never edited after."""
