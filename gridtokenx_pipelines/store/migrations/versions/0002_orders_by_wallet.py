"""Orders are known by wallet, epoch and nonce: an order id can be copied by a stranger, and used again later."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Another primary key; ids keep an index, by which fills and people find an order."""
    op.execute("ALTER TABLE orders DROP CONSTRAINT orders_pkey, ADD PRIMARY KEY (wallet, epoch, nonce)")
    op.execute("CREATE INDEX orders_by_id ON orders (order_id)")
    op.execute("DROP INDEX orders_of_wallet")  # the key begins with the same columns


def downgrade() -> None:
    """The former key; fails where two orders have one id, which it can't hold."""
    op.execute("CREATE INDEX orders_of_wallet ON orders (wallet, epoch)")
    op.execute("DROP INDEX orders_by_id")
    op.execute("ALTER TABLE orders DROP CONSTRAINT orders_pkey, ADD PRIMARY KEY (order_id)")
