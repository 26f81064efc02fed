"""Resumptions: from which epoch on an operator lets the market trade again after its circuit breaker."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

RESUMPTIONS = """
CREATE TABLE market_resumptions (
    from_epoch BIGINT PRIMARY KEY CHECK (from_epoch >= 0),
    resumed_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
COMMENT ON TABLE market_resumptions IS 'the circuit breaker forgets the prices before these epochs';
CREATE TRIGGER market_resumptions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON market_resumptions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""


def upgrade() -> None:
    """Create the table."""
    op.get_bind().exec_driver_sql(RESUMPTIONS)


def downgrade() -> None:
    """Drop the table."""
    op.execute("DROP TABLE market_resumptions")
