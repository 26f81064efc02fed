"""Voids: which runs the authority voided, what the ledger took back, which epoch their energy is booked with."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE voids (
    void_id BIGINT PRIMARY KEY CHECK (void_id > 0),
    at TIMESTAMPTZ NOT NULL,
    reason TEXT NOT NULL,
    decided_by TEXT NOT NULL,
    from_seq BIGINT,
    next_seq BIGINT NOT NULL
);
COMMENT ON COLUMN voids.from_seq IS 'bookings from this seq on were taken back; null: none was booked';
CREATE TABLE voided_runs (
    void_id BIGINT NOT NULL REFERENCES voids (void_id),
    epoch BIGINT NOT NULL,
    run BIGINT NOT NULL CHECK (run >= 0),
    kind BIGINT NOT NULL CHECK (kind BETWEEN 1 AND 3),
    booked_seq BIGINT,
    on_chain BOOLEAN NOT NULL,
    used_seq BIGINT NOT NULL CHECK (used_seq >= 0),
    PRIMARY KEY (void_id, epoch, run)
);
COMMENT ON TABLE voided_runs IS 'every run that a void took back: void on the chain, or booked anew afterwards';
COMMENT ON COLUMN voided_runs.used_seq IS 'the seq that the run used on the chain, 0: none';
CREATE INDEX voided_runs_of_epoch ON voided_runs (epoch);
CREATE TABLE voided_epochs (
    epoch BIGINT PRIMARY KEY,
    void_id BIGINT NOT NULL REFERENCES voids (void_id),
    booked_epoch BIGINT NOT NULL CHECK (booked_epoch >= epoch)
);
COMMENT ON TABLE voided_epochs IS 'epochs without trades whose energy is booked late, with `booked_epoch`';
CREATE INDEX voided_epochs_booked ON voided_epochs (booked_epoch);
CREATE TABLE voided_rows (
    void_id BIGINT NOT NULL REFERENCES voids (void_id),
    of_table TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    wallet TEXT,
    content JSONB NOT NULL
);
COMMENT ON TABLE voided_rows IS 'what stood in other tables before the void, as it stood';
CREATE INDEX voided_rows_of_wallet ON voided_rows (wallet, of_table);
CREATE TRIGGER voids_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON voids
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER voided_runs_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON voided_runs
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER voided_epochs_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON voided_epochs
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER voided_rows_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON voided_rows
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE ledger_entries ADD COLUMN reverses BIGINT UNIQUE REFERENCES ledger_entries (entry_id);
CREATE VIEW standing_entries AS
    SELECT entry_id, seq, epoch, debit, credit, unit, amount, memo FROM ledger_entries e
    WHERE reverses IS NULL AND NOT EXISTS (SELECT FROM ledger_entries r WHERE r.reverses = e.entry_id);
COMMENT ON VIEW standing_entries IS 'double-entry rows that no void has taken back';
ALTER TABLE corrections ADD COLUMN concluded_after BIGINT;
COMMENT ON COLUMN corrections.concluded_after IS 'the newest run when it was booked, recorded or rejected';
ALTER TABLE market_outbox DROP CONSTRAINT market_outbox_event_check;
ALTER TABLE market_outbox ADD CONSTRAINT market_outbox_event_check
    CHECK (event IN ('cleared', 'settled', 'chain', 'voided'));
"""

BACK = """
DROP VIEW standing_entries;
ALTER TABLE ledger_entries DROP COLUMN reverses;
ALTER TABLE corrections DROP COLUMN concluded_after;
ALTER TABLE market_outbox DROP CONSTRAINT market_outbox_event_check;
ALTER TABLE market_outbox ADD CONSTRAINT market_outbox_event_check CHECK (event IN ('cleared', 'settled', 'chain'));
DROP TABLE voided_rows, voided_epochs, voided_runs, voids;
"""


def upgrade() -> None:
    """Create the tables and the view."""
    op.get_bind().exec_driver_sql(TABLES)


def downgrade() -> None:
    """Drop them."""
    op.get_bind().exec_driver_sql(BACK)
