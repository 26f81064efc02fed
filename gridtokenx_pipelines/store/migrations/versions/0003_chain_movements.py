"""What moves balances besides runs: withdrawals, GRID put back, matches; on-chain orders; disputes; how far we read."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE deposits ADD COLUMN chain_reference TEXT UNIQUE;
CREATE TABLE chain_movements (
    reference TEXT NOT NULL,
    leg BIGINT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('withdrawal', 'grid_deposit', 'match')),
    owner TEXT NOT NULL,
    counterparty TEXT,
    grid_wh BIGINT NOT NULL,
    cash_uthb BIGINT NOT NULL,
    debt_delta_uthb BIGINT NOT NULL,
    cost_uthb BIGINT NOT NULL DEFAULT 0,
    proceeds_uthb BIGINT NOT NULL DEFAULT 0,
    fee_uthb BIGINT NOT NULL DEFAULT 0,
    zone_wheeling_uthb BIGINT NOT NULL DEFAULT 0,
    price_uthb_per_kwh BIGINT,
    slot BIGINT NOT NULL,
    event_seq BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    after_seq BIGINT NOT NULL,
    PRIMARY KEY (reference, leg)
);
COMMENT ON TABLE chain_movements IS 'one row per balance that an event on chain moved outside of runs and deposits';
CREATE INDEX chain_movements_of_owner ON chain_movements (owner, after_seq);
CREATE TABLE withdrawal_requests (
    wallet TEXT PRIMARY KEY,
    epoch BIGINT NOT NULL,
    amount_uthb BIGINT NOT NULL CHECK (amount_uthb >= 0),
    energy_wh BIGINT NOT NULL CHECK (energy_wh >= 0)
);
COMMENT ON TABLE withdrawal_requests IS 'requested on chain, not paid yet: covers no order of an epoch after `epoch`';
CREATE TABLE chain_orders (
    number BIGINT PRIMARY KEY,
    wallet TEXT NOT NULL,
    slot BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    side BIGINT NOT NULL CHECK (side IN (0, 1)),
    limit_uthb_per_kwh BIGINT NOT NULL,
    energy_wh BIGINT NOT NULL,
    placed_at_us BIGINT NOT NULL,
    order_id BYTEA NOT NULL UNIQUE CHECK (length(order_id) = 16)
);
CREATE INDEX chain_orders_of_epoch ON chain_orders (epoch);
CREATE TABLE disputes (
    case_id TEXT PRIMARY KEY,
    meter_id TEXT NOT NULL,
    boundary_epoch BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    production_delta_wh BIGINT NOT NULL,
    consumption_delta_wh BIGINT NOT NULL,
    reason TEXT NOT NULL,
    decided_by TEXT NOT NULL,
    decided_at TIMESTAMPTZ NOT NULL,
    UNIQUE (meter_id, boundary_epoch, revision)
);
COMMENT ON TABLE disputes IS 'decided by an operator; each is the correction of the same meter, boundary and revision';
CREATE TABLE chain_progress (
    name TEXT PRIMARY KEY,
    signature TEXT,
    slot BIGINT NOT NULL DEFAULT 0,
    continuous_from BIGINT NOT NULL DEFAULT 0,
    continuous_end BIGINT NOT NULL DEFAULT 0
);
"""


def upgrade() -> None:
    """Create the tables."""
    op.get_bind().exec_driver_sql(TABLES)


def downgrade() -> None:
    """Drop them."""
    for table in ("disputes", "chain_progress", "chain_orders", "withdrawal_requests", "chain_movements"):
        op.execute(f"DROP TABLE {table}")
    op.execute("ALTER TABLE deposits DROP COLUMN chain_reference")
