"""Certificates locked with sells at the gate, and what of them passed to whom when the epoch was cleared."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE certificate_locks (
    epoch BIGINT NOT NULL,
    order_id BYTEA NOT NULL,
    certificate_id BYTEA NOT NULL,
    locked_wh BIGINT NOT NULL CHECK (locked_wh >= 0),
    reason_code BIGINT NOT NULL DEFAULT 0 CHECK ((reason_code = 0) = (locked_wh > 0)),
    reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (epoch, order_id)
);
COMMENT ON TABLE certificate_locks IS 'what each order that named a certificate locked of it, or why nothing';
CREATE TABLE certificate_passes (
    epoch BIGINT NOT NULL,
    certificate_id BYTEA NOT NULL,
    sell_order_id BYTEA NOT NULL,
    buy_order_id BYTEA NOT NULL,
    seller TEXT NOT NULL,
    buyer TEXT NOT NULL,
    energy_wh BIGINT NOT NULL CHECK (energy_wh > 0),
    PRIMARY KEY (epoch, sell_order_id, buy_order_id),
    FOREIGN KEY (epoch, sell_order_id) REFERENCES certificate_locks (epoch, order_id)
);
CREATE INDEX certificate_passes_certificate ON certificate_passes (certificate_id);
COMMENT ON TABLE certificate_passes IS 'certified Wh that passed from a sell to its buyers';
CREATE TRIGGER certificate_locks_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON certificate_locks
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER certificate_passes_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON certificate_passes
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""


def upgrade() -> None:
    """Create the tables."""
    op.get_bind().exec_driver_sql(TABLES)


def downgrade() -> None:
    """Drop the tables."""
    op.execute("DROP TABLE certificate_passes, certificate_locks")
