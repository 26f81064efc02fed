"""Loss and return of the upstream grid by epoch, and the signed registers of the transformers' own meters."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ISLANDS = """
CREATE TABLE island_events (
    epoch BIGINT PRIMARY KEY CHECK (epoch >= 0),
    what TEXT NOT NULL CHECK (what IN ('lost', 'returned')),
    who TEXT NOT NULL CHECK (who <> ''),
    why TEXT NOT NULL,
    declared_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE island_events IS 'from this epoch on the neighbourhood runs without (lost) or with the upstream grid';
CREATE TRIGGER island_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON island_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""
TRANSFORMERS = """
CREATE TABLE transformers (
    transformer_id TEXT PRIMARY KEY,
    device_key BYTEA NOT NULL CHECK (octet_length(device_key) = 32)
);
CREATE TABLE transformer_registers (
    transformer_id TEXT NOT NULL REFERENCES transformers,
    epoch BIGINT NOT NULL CHECK (epoch >= 0),
    import_wh BIGINT NOT NULL CHECK (import_wh >= 0),
    export_wh BIGINT NOT NULL CHECK (export_wh >= 0),
    document BYTEA NOT NULL,
    signature BYTEA NOT NULL CHECK (octet_length(signature) = 64),
    PRIMARY KEY (transformer_id, epoch)
);
COMMENT ON TABLE transformer_registers IS
    'cumulative registers at the start of an epoch: import_wh from upstream into the network, export_wh out of it';
CREATE TRIGGER transformer_registers_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transformer_registers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""


def upgrade() -> None:
    """Create the tables."""
    op.get_bind().exec_driver_sql(ISLANDS)
    op.get_bind().exec_driver_sql(TRANSFORMERS)


def downgrade() -> None:
    """Drop them; epochs cleared as an island can't be recomputed any more."""
    op.execute("DROP TABLE transformer_registers")
    op.execute("DROP TABLE transformers")
    op.execute("DROP TABLE island_events")
