"""All tables of docs/reference/contract.md: energies in Wh, money in µTHB, epochs by number, all BIGINT."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NEVER = 2**32 - 1  # end_epoch of a mandate without end, as on chain (u32::MAX)

PARTICIPANTS = f"""
CREATE TABLE users (
    wallet TEXT PRIMARY KEY,
    zone_id BIGINT NOT NULL CHECK (zone_id BETWEEN 1 AND 63),
    user_type TEXT NOT NULL CHECK (user_type IN ('consumer', 'prosumer')),
    status TEXT NOT NULL CHECK (status IN ('pending', 'active', 'suspended', 'retired')),
    trader_address BYTEA CHECK (length(trader_address) = 32)
);
CREATE TABLE meters (
    meter_id TEXT PRIMARY KEY CHECK (length(meter_id) BETWEEN 1 AND 32),
    wallet TEXT NOT NULL,
    zone_id BIGINT NOT NULL CHECK (zone_id BETWEEN 1 AND 63),
    meter_type TEXT NOT NULL CHECK (meter_type IN ('Solar', 'Grid', 'Hybrid')),
    rating_w BIGINT NOT NULL CHECK (rating_w > 0),
    device_key BYTEA NOT NULL CHECK (length(device_key) = 32),
    status TEXT NOT NULL CHECK (status IN ('pending', 'active', 'suspended', 'retired')),
    first_epoch BIGINT NOT NULL,
    baseline_production_wh BIGINT NOT NULL CHECK (baseline_production_wh >= 0),
    baseline_consumption_wh BIGINT NOT NULL CHECK (baseline_consumption_wh >= 0),
    baseline_seq BIGINT NOT NULL,
    baseline_timestamp_us BIGINT NOT NULL,
    address BYTEA CHECK (length(address) = 32)
);
CREATE INDEX meters_of_wallet ON meters (wallet);
CREATE TABLE mandates (
    wallet TEXT NOT NULL,
    effective_epoch BIGINT NOT NULL,
    end_epoch BIGINT NOT NULL DEFAULT {NEVER},
    sell_min_uthb_per_kwh BIGINT NOT NULL CHECK (sell_min_uthb_per_kwh >= 0),
    buy_max_uthb_per_kwh BIGINT NOT NULL CHECK (buy_max_uthb_per_kwh >= 0),
    max_wh BIGINT NOT NULL CHECK (max_wh >= 0),
    buy_back BOOLEAN NOT NULL,
    set_at_us BIGINT NOT NULL,
    PRIMARY KEY (wallet, effective_epoch)
);
CREATE TABLE deposits (
    reference TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    amount_uthb BIGINT NOT NULL CHECK (amount_uthb <> 0),
    debt_repaid_uthb BIGINT NOT NULL DEFAULT 0 CHECK (debt_repaid_uthb >= 0),
    epoch BIGINT NOT NULL,
    after_seq BIGINT NOT NULL
);
"""

STREAMS = """
CREATE TABLE orders (
    order_id BYTEA PRIMARY KEY CHECK (length(order_id) = 16),
    wallet TEXT NOT NULL,
    zone_id BIGINT,
    meter_id TEXT,
    side BIGINT NOT NULL CHECK (side IN (0, 1)),
    energy_wh BIGINT NOT NULL,
    limit_uthb_per_kwh BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    nonce BIGINT NOT NULL,
    placed_at_us BIGINT NOT NULL,
    certificate_id BYTEA,
    is_mandate BOOLEAN NOT NULL DEFAULT FALSE,
    market BYTEA,
    message BYTEA,
    signature BYTEA,
    broker_us BIGINT,
    status TEXT NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'filled', 'partly_filled', 'cancelled', 'rejected', 'expired')),
    reason TEXT,
    partition BIGINT,
    "offset" BIGINT,
    cancelled_at_us BIGINT
);
CREATE INDEX orders_of_epoch ON orders (epoch, status);
CREATE INDEX orders_of_wallet ON orders (wallet, epoch);
CREATE TABLE dead_letters (
    topic TEXT NOT NULL,
    partition BIGINT NOT NULL,
    "offset" BIGINT NOT NULL,
    reason_code BIGINT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT,
    key BYTEA,
    value BYTEA,
    headers JSONB,
    broker_us BIGINT,
    PRIMARY KEY (topic, partition, "offset")
);
CREATE INDEX dead_letters_by_reason ON dead_letters (topic, reason);
CREATE TABLE stream_progress (
    flow TEXT NOT NULL,
    partition BIGINT NOT NULL,
    partitions BIGINT NOT NULL CHECK (partitions > 0),
    watermark_us BIGINT,
    closed_epoch BIGINT,
    "offset" BIGINT,
    PRIMARY KEY (flow, partition)
);
CREATE TABLE stream_counts (
    flow TEXT NOT NULL,
    partition BIGINT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    records BIGINT NOT NULL CHECK (records >= 0),
    PRIMARY KEY (flow, partition, status, reason)
);
CREATE TABLE latest_readings (
    meter_id TEXT PRIMARY KEY,
    zone_id BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    timestamp_us BIGINT NOT NULL,
    production_wh BIGINT NOT NULL,
    consumption_wh BIGINT NOT NULL,
    voltage_v DOUBLE PRECISION,
    current_a DOUBLE PRECISION,
    power_factor DOUBLE PRECISION,
    frequency_hz DOUBLE PRECISION,
    battery_soc DOUBLE PRECISION
);
CREATE VIEW meter_readings AS
    SELECT meter_id, zone_id, seq, timestamp_us,
        TIMESTAMPTZ 'epoch' + timestamp_us * INTERVAL '1 microsecond' AS timestamp,
        production_wh, consumption_wh, voltage_v, current_a, power_factor, frequency_hz, battery_soc
    FROM latest_readings;
CREATE TABLE net_energy (
    meter_id TEXT NOT NULL,
    wallet TEXT NOT NULL,
    zone_id BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    revision BIGINT NOT NULL CHECK (revision >= 0),
    production_start_wh BIGINT,
    consumption_start_wh BIGINT,
    production_end_wh BIGINT,
    consumption_end_wh BIGINT,
    production_wh BIGINT NOT NULL CHECK (production_wh >= 0),
    consumption_wh BIGINT NOT NULL CHECK (consumption_wh >= 0),
    net_wh BIGINT NOT NULL CHECK (net_wh = production_wh - consumption_wh),
    readings BIGINT NOT NULL,
    estimated BOOLEAN NOT NULL,
    missing BOOLEAN NOT NULL,
    first_seq BIGINT,
    last_seq BIGINT,
    late BOOLEAN NOT NULL,
    booked_epoch BIGINT,
    PRIMARY KEY (meter_id, epoch, revision)
);
CREATE INDEX net_energy_of_epoch ON net_energy (epoch);
CREATE INDEX net_energy_booked ON net_energy (booked_epoch) WHERE revision > 0;
CREATE TABLE corrections (
    meter_id TEXT NOT NULL,
    wallet TEXT NOT NULL,
    boundary_epoch BIGINT NOT NULL,
    revision BIGINT NOT NULL CHECK (revision >= 1),
    production_delta_wh BIGINT NOT NULL,
    consumption_delta_wh BIGINT NOT NULL,
    seq BIGINT,
    timestamp_us BIGINT,
    booked_seq BIGINT,
    booked_run_epoch BIGINT,
    x_wh BIGINT,
    status TEXT NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'booked', 'recorded', 'rejected')),
    reason TEXT,
    PRIMARY KEY (meter_id, boundary_epoch, revision),
    CHECK ((booked_seq IS NULL) = (status = 'waiting'))
);
COMMENT ON COLUMN corrections.booked_seq IS 'null: waiting; 0: recorded or rejected without a run; else the run';
CREATE INDEX corrections_waiting ON corrections (boundary_epoch) WHERE booked_seq IS NULL;
"""

MARKET = """
CREATE TABLE market_epochs (
    epoch BIGINT PRIMARY KEY,
    status TEXT NOT NULL CHECK (status IN ('pending', 'active', 'expired', 'cleared', 'settled', 'halted')),
    halted BOOLEAN NOT NULL DEFAULT FALSE,
    seq BIGINT,
    mechanism TEXT,
    book_root BYTEA,
    result_root BYTEA,
    volume_wh BIGINT CHECK (volume_wh >= 0),
    lost_wh BIGINT CHECK (lost_wh >= 0),
    link_wheeling_uthb BIGINT CHECK (link_wheeling_uthb >= 0),
    rent_uthb BIGINT,
    welfare_uthb BIGINT,
    fingerprint TEXT,
    cleared_at TIMESTAMPTZ,
    settled_at TIMESTAMPTZ
);
CREATE TABLE fills (
    epoch BIGINT NOT NULL,
    order_id BYTEA NOT NULL,
    wallet TEXT NOT NULL,
    zone_id BIGINT NOT NULL,
    side BIGINT NOT NULL CHECK (side IN (0, 1)),
    filled_wh BIGINT NOT NULL CHECK (filled_wh > 0),
    price_uthb_per_kwh BIGINT NOT NULL CHECK (price_uthb_per_kwh >= 0),
    is_mandate BOOLEAN NOT NULL,
    PRIMARY KEY (epoch, order_id)
);
CREATE INDEX fills_of_wallet ON fills (wallet, epoch);
CREATE TABLE order_matches (
    epoch BIGINT NOT NULL,
    match_id BIGINT NOT NULL,
    buy_order_id BYTEA NOT NULL,
    sell_order_id BYTEA NOT NULL,
    buyer TEXT NOT NULL,
    seller TEXT NOT NULL,
    energy_wh BIGINT NOT NULL CHECK (energy_wh > 0),
    price_uthb_per_kwh BIGINT NOT NULL,
    PRIMARY KEY (epoch, match_id)
);
CREATE TABLE zone_results (
    epoch BIGINT NOT NULL,
    zone_id BIGINT NOT NULL,
    price_uthb_per_kwh BIGINT,
    zone_wheeling_uthb_per_kwh BIGINT NOT NULL,
    bought_wh BIGINT NOT NULL CHECK (bought_wh >= 0),
    sold_wh BIGINT NOT NULL CHECK (sold_wh >= 0),
    PRIMARY KEY (epoch, zone_id)
);
CREATE TABLE flows (
    epoch BIGINT NOT NULL,
    link_id BIGINT NOT NULL,
    from_zone BIGINT NOT NULL,
    to_zone BIGINT NOT NULL,
    sent_wh BIGINT NOT NULL CHECK (sent_wh >= 0),
    delivered_wh BIGINT NOT NULL,
    lost_wh BIGINT NOT NULL CHECK (lost_wh = sent_wh - delivered_wh),
    wheeling_uthb BIGINT NOT NULL CHECK (wheeling_uthb >= 0),
    PRIMARY KEY (epoch, link_id)
);
"""

LEDGER = """
CREATE TABLE runs (
    seq BIGINT PRIMARY KEY CHECK (seq > 0),
    epoch BIGINT NOT NULL,
    run BIGINT NOT NULL CHECK (run >= 0),
    kind BIGINT NOT NULL CHECK (kind BETWEEN 1 AND 3),
    cause TEXT,
    header BYTEA,
    metering_root BYTEA,
    root BYTEA,
    plan BYTEA,
    status TEXT NOT NULL DEFAULT 'booked' CHECK (status IN ('booked', 'attested', 'finalised', 'voided')),
    UNIQUE (epoch, run)
);
CREATE TABLE settlements (
    seq BIGINT NOT NULL REFERENCES runs (seq),
    epoch BIGINT NOT NULL,
    run BIGINT NOT NULL,
    kind BIGINT NOT NULL,
    wallet TEXT NOT NULL,
    zone_id BIGINT NOT NULL,
    net_wh BIGINT NOT NULL,
    traded_wh BIGINT NOT NULL,
    minted_wh BIGINT NOT NULL,
    deficit_wh BIGINT NOT NULL,
    deficit_on_peak_wh BIGINT NOT NULL,
    deficit_off_peak_wh BIGINT NOT NULL,
    burned_wh BIGINT NOT NULL,
    residual_wh BIGINT NOT NULL,
    residual_on_peak_wh BIGINT NOT NULL,
    residual_off_peak_wh BIGINT NOT NULL,
    billed_uthb BIGINT NOT NULL,
    paid_to_supplier_uthb BIGINT NOT NULL,
    debt_delta_uthb BIGINT NOT NULL,
    debt_repaid_uthb BIGINT NOT NULL,
    cost_uthb BIGINT NOT NULL,
    energy_cost_uthb BIGINT NOT NULL,
    zone_wheeling_uthb BIGINT NOT NULL,
    value_uthb BIGINT NOT NULL,
    fee_uthb BIGINT NOT NULL,
    proceeds_uthb BIGINT NOT NULL,
    bought_back_wh BIGINT NOT NULL,
    buy_back_uthb BIGINT NOT NULL,
    refund_wh BIGINT NOT NULL,
    refund_uthb BIGINT NOT NULL,
    taken_back_wh BIGINT NOT NULL,
    returned_wh BIGINT NOT NULL,
    returned_uthb BIGINT NOT NULL,
    rebilled_wh BIGINT NOT NULL,
    grid_after_wh BIGINT NOT NULL CHECK (grid_after_wh >= 0),
    thbc_after_uthb BIGINT NOT NULL CHECK (thbc_after_uthb >= 0),
    debt_after_uthb BIGINT NOT NULL CHECK (debt_after_uthb >= 0),
    refund_epoch BIGINT,
    surplus_epoch BIGINT,
    PRIMARY KEY (seq, wallet)
);
CREATE INDEX settlements_of_wallet ON settlements (wallet, epoch);
CREATE INDEX settlements_of_epoch ON settlements (epoch);
CREATE TABLE meter_settlements (
    seq BIGINT NOT NULL REFERENCES runs (seq),
    epoch BIGINT NOT NULL,
    run BIGINT NOT NULL,
    kind BIGINT NOT NULL,
    meter_id TEXT NOT NULL,
    wallet TEXT NOT NULL,
    last_epoch BIGINT NOT NULL,
    production_delta_wh BIGINT NOT NULL,
    consumption_delta_wh BIGINT NOT NULL,
    surplus_wh BIGINT NOT NULL,
    deficit_wh BIGINT NOT NULL,
    x_wh BIGINT NOT NULL,
    PRIMARY KEY (seq, meter_id)
);
CREATE INDEX meter_settlements_of_meter ON meter_settlements (meter_id, epoch);
CREATE TABLE balances (
    owner TEXT PRIMARY KEY,
    grid_wh BIGINT NOT NULL DEFAULT 0 CHECK (grid_wh >= 0),
    thbc_uthb BIGINT NOT NULL DEFAULT 0 CHECK (thbc_uthb >= 0),
    debt_uthb BIGINT NOT NULL DEFAULT 0 CHECK (debt_uthb >= 0),
    seq BIGINT NOT NULL DEFAULT 0
);
CREATE TABLE market_accounts (
    account TEXT PRIMARY KEY CHECK (account IN ('supplier', 'platform', 'grid_operator')),
    grid_wh BIGINT NOT NULL DEFAULT 0 CHECK (grid_wh >= 0),
    thbc_uthb BIGINT NOT NULL DEFAULT 0 CHECK (thbc_uthb >= 0),
    seq BIGINT NOT NULL DEFAULT 0
);
INSERT INTO market_accounts (account) VALUES ('supplier'), ('platform'), ('grid_operator');
CREATE TABLE ledger_entries (
    entry_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    seq BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    debit TEXT NOT NULL,
    credit TEXT NOT NULL,
    unit TEXT NOT NULL CHECK (unit IN ('GRID', 'THBC')),
    amount BIGINT NOT NULL CHECK (amount > 0),
    memo TEXT NOT NULL,
    CHECK (debit <> credit)
);
CREATE INDEX ledger_entries_of_run ON ledger_entries (seq);
"""

CHAIN_AND_AUDIT = """
CREATE TABLE outbox (
    epoch BIGINT NOT NULL,
    kind BIGINT NOT NULL,
    run BIGINT NOT NULL,
    step TEXT NOT NULL,
    idx BIGINT NOT NULL,
    signature TEXT NOT NULL,
    transaction BYTEA NOT NULL,
    last_valid_block_height BIGINT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('stored', 'sent', 'confirmed', 'failed')),
    attempts BIGINT NOT NULL DEFAULT 0,
    error TEXT,
    PRIMARY KEY (epoch, kind, run, step, idx)
);
CREATE INDEX outbox_open ON outbox (epoch) WHERE status <> 'confirmed';
CREATE TABLE blockchain_transactions (
    signature TEXT PRIMARY KEY,
    epoch BIGINT NOT NULL,
    kind BIGINT NOT NULL,
    run BIGINT NOT NULL,
    step TEXT NOT NULL,
    idx BIGINT NOT NULL,
    slot BIGINT,
    fee_lamports BIGINT,
    compute_units BIGINT,
    status TEXT NOT NULL,
    commitment TEXT
);
CREATE INDEX blockchain_transactions_of_epoch ON blockchain_transactions (epoch);
CREATE TABLE audit_logs (
    id BIGINT PRIMARY KEY CHECK (id > 0),
    at TIMESTAMPTZ NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    detail JSONB NOT NULL,
    previous_hash BYTEA NOT NULL CHECK (length(previous_hash) = 32),
    hash BYTEA NOT NULL UNIQUE CHECK (length(hash) = 32)
);
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused; write a new row that corrects the old one', TG_TABLE_NAME, TG_OP;
END $$;
CREATE TRIGGER audit_logs_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_logs
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""

TABLES = (
    "audit_logs", "blockchain_transactions", "outbox", "ledger_entries", "market_accounts", "balances",
    "meter_settlements", "settlements", "runs", "flows", "zone_results", "order_matches", "fills", "market_epochs",
    "corrections", "net_energy", "latest_readings", "stream_counts", "stream_progress", "dead_letters", "orders",
    "deposits", "mandates", "meters", "users",
)  # fmt: skip


def upgrade() -> None:
    """Create every table, index and the view."""
    for part in (PARTICIPANTS, STREAMS, MARKET, LEDGER, CHAIN_AND_AUDIT):
        # the raw cursor: SQLAlchemy's text() would read the colons and percent signs of the function's body
        op.get_bind().exec_driver_sql(part.replace("%", "%%"))


def downgrade() -> None:
    """Drop everything this revision made."""
    op.execute("DROP VIEW meter_readings")
    for table in TABLES:
        op.execute(f'DROP TABLE "{table}"')
    op.execute("DROP FUNCTION refuse_change")
