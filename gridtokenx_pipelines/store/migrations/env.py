"""Alembic's entry: runs the revisions on the connection that `store.postgres.migrate` hands over, one transaction.

Belongs here: nothing but that. There is no ini file and no logging set-up, so a migration prints nothing.
"""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
