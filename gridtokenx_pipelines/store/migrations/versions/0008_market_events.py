"""Halts of continuous trading, and the outbox of what the topics are still to be told."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Two tables."""
    op.execute("""
CREATE TABLE market_halts (
    partition BIGINT NOT NULL,
    "offset" BIGINT NOT NULL,
    trade_id TEXT NOT NULL,
    halted_at_us BIGINT NOT NULL,
    price_uthb_per_kwh BIGINT NOT NULL,
    reference_uthb_per_kwh BIGINT NOT NULL,
    resumed_at_us BIGINT,
    resumed_by TEXT,
    PRIMARY KEY (partition, "offset")
)""")
    op.execute("""
CREATE TABLE market_outbox (
    event TEXT NOT NULL CHECK (event IN ('cleared', 'settled', 'chain')),
    number BIGINT NOT NULL,
    document BYTEA,
    published_at TIMESTAMPTZ,
    PRIMARY KEY (event, number)
)""")
    op.execute("COMMENT ON COLUMN market_outbox.number IS 'epoch, or the sequence number of the event on chain'")
    op.execute("CREATE INDEX market_outbox_waiting ON market_outbox (event, number) WHERE published_at IS NULL")


def downgrade() -> None:
    """Both go."""
    op.execute("DROP TABLE market_outbox")
    op.execute("DROP TABLE market_halts")
