"""The contracts of the tables that epochs leave behind, one declaration each.

Belongs here: declarations. Does not belong here: how they are checked. Ranges are those of domain §3–§6 and of the
programs' integers; what depends on rules with effective epochs (price band, tariffs) is checked in inspections.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from gridtokenx_pipelines.quality.contract import Column, Contract

WH, UTHB, PER_KWH, EPOCH = "Wh", "µTHB", "µTHB/kWh", "epoch (Unix seconds / 900)"
# the chain keeps registers as u64 and moves them as i64; a register never gets near this in a meter's life
REGISTER_MAX = 2**53
# u32 of the programs' batch entries
ENTRY_MAX = 2**32 - 1
MONEY_MAX = 2**53
ZONE_MAX = 63
FIRST_EPOCH = 1_500_000  # 2012: anything before is a unit mistake
METERING, MARKET, SETTLEMENT = "team:metering", "team:market", "team:settlement"


def energy(
    name: str, meaning: str, *, low: int | None = 0, high: int | None = ENTRY_MAX, nullable: bool = False
) -> Column:
    """A column in Wh."""
    return Column(name, meaning, pl.Int64, WH, low, high, nullable)


def money(name: str, meaning: str, *, low: int | None = 0) -> Column:
    """A column in µTHB; signed where `low` is None."""
    return Column(name, meaning, pl.Int64, UTHB, -MONEY_MAX if low is None else low, MONEY_MAX)


def price(name: str, meaning: str, *, nullable: bool = False) -> Column:
    """A column in µTHB per kWh; books from elsewhere may have negative prices, settled ones don't."""
    return Column(name, meaning, pl.Int64, PER_KWH, 0, 2**32 - 1, nullable)


def epoch(name: str, meaning: str, *, nullable: bool = False) -> Column:
    """An epoch number."""
    return Column(name, meaning, pl.Int64, EPOCH, FIRST_EPOCH, 2**32 - 1, nullable)


def zone(name: str = "zone_id", meaning: str = "market zone") -> Column:
    """A zone number."""
    return Column(name, meaning, pl.Int64, minimum=1, maximum=ZONE_MAX)


WALLET: Final = Column("wallet", "owner, base58 address of 32 bytes", pl.String)
METER: Final = Column("meter_id", "meter, at most 32 ASCII characters", pl.String)
SIDE: Final = Column("side", "0 buy, 1 sell", choices=(0, 1))
FRESH: Final = 20

NET_ENERGY: Final = Contract(
    name="net_energy",
    asset="net_energy",
    frame="rows",
    meaning="What each meter produced and consumed in the epoch, from signed cumulative registers.",
    owner=METERING,
    key=("meter_id", "epoch", "revision"),
    fresh_minutes=FRESH,
    columns=(
        METER,
        WALLET,
        zone(),
        epoch("epoch", "the epoch the row is about"),
        Column("revision", "0 on time, then one more for each estimate", minimum=0, maximum=10_000),
        energy("production_start_wh", "production register at the start", high=REGISTER_MAX, nullable=True),
        energy("consumption_start_wh", "consumption register at the start", high=REGISTER_MAX, nullable=True),
        energy("production_end_wh", "production register at the end", high=REGISTER_MAX, nullable=True),
        energy("consumption_end_wh", "consumption register at the end", high=REGISTER_MAX, nullable=True),
        energy("production_wh", "produced in the epoch"),
        energy("consumption_wh", "consumed in the epoch"),
        energy("net_wh", "production less consumption", low=-ENTRY_MAX),
        Column("readings", "accepted readings in the epoch", minimum=0, maximum=1_000_000),
        Column("estimated", "a boundary was interpolated", pl.Boolean),
        Column("missing", "no register at a boundary: no order, no entry", pl.Boolean),
        Column("first_seq", "first accepted reading", minimum=0, nullable=True),
        Column("last_seq", "last accepted reading", minimum=0, nullable=True),
        Column("late", "a reading came after the watermark", pl.Boolean),
        epoch("booked_epoch", "epoch whose completion books the row", nullable=True),
    ),
    may_be_empty=False,
)
BOOK: Final = Contract(
    name="order_book",
    asset="order_book",
    frame="book",
    meaning="Admitted orders in priority order, cut to what their owner's balance covers.",
    owner=MARKET,
    key=("order_id",),
    fresh_minutes=FRESH,
    columns=(
        Column("order_id", "16 bytes, UUIDv7 or a mandate's hash", pl.Binary),
        WALLET,
        zone(),
        Column("meter_id", "meter the order is for; none for a mandate", pl.String, nullable=True),
        SIDE,
        Column("energy_wh", "ordered", pl.Int64, WH, 1, 1_000_000),
        price("limit_uthb_per_kwh", "all-in limit, on the tick"),
        epoch("epoch", "delivery epoch"),
        Column("nonce", "number among the wallet's orders of the epoch", minimum=0, maximum=2**63 - 1),
        Column("placed_at_us", "signed time of placing", pl.Int64, "µs UTC", minimum=0),
        Column("certificate_id", "certificate that backs a sell", pl.Binary, nullable=True),
        Column("is_mandate", "made from a standing instruction at the gate", pl.Boolean),
        Column("broker_us", "broker's time, which priority goes by", pl.Int64, "µs UTC", minimum=0),
        Column("covered_wh", "what the balance covers", pl.Int64, WH, 1, 1_000_000),
        price("net_limit_uthb_per_kwh", "limit before charges: what the book is sorted by"),
    ),
)
FILLS: Final = Contract(
    name="fills",
    asset="clearing_results",
    frame="fills",
    meaning="What each order traded.",
    owner=MARKET,
    key=("order_id",),
    fresh_minutes=FRESH,
    columns=(
        Column("order_id", "the order", pl.Binary),
        WALLET,
        zone(),
        SIDE,
        Column("filled_wh", "traded", pl.Int64, WH, 1, 1_000_000),
        price("price_uthb_per_kwh", "price before charges"),
        Column("is_mandate", "made from a standing instruction", pl.Boolean),
    ),
)
MATCHES: Final = Contract(
    name="matches",
    asset="clearing_results",
    frame="matches",
    meaning="Who traded with whom, for the record.",
    owner=MARKET,
    key=("match_id",),
    fresh_minutes=FRESH,
    columns=(
        Column("match_id", "number within the epoch", minimum=0),
        Column("buy_order_id", "the buyer's order", pl.Binary),
        Column("sell_order_id", "the seller's order", pl.Binary),
        Column("buyer", "buyer's wallet", pl.String),
        Column("seller", "seller's wallet", pl.String),
        Column("energy_wh", "delivered to the buyer", pl.Int64, WH, 1, 1_000_000),
        price("price_uthb_per_kwh", "price of the buyer's zone"),
    ),
)
ZONES: Final = Contract(
    name="zones",
    asset="clearing_results",
    frame="zones",
    meaning="Price and volume of each zone.",
    owner=MARKET,
    key=("zone_id",),
    fresh_minutes=FRESH,
    may_be_empty=False,
    columns=(
        zone(),
        price("price_uthb_per_kwh", "price before charges; none without a trade", nullable=True),
        price("zone_wheeling_uthb_per_kwh", "paid by the zone's buyers on top"),
        energy("bought_wh", "bought in the zone", high=REGISTER_MAX),
        energy("sold_wh", "sold in the zone", high=REGISTER_MAX),
    ),
)
FLOWS: Final = Contract(
    name="flows",
    asset="clearing_results",
    frame="flows",
    meaning="What each link carried, in the direction of the flow.",
    owner=MARKET,
    key=("link_id",),
    fresh_minutes=FRESH,
    columns=(
        Column("link_id", "link between two zones", minimum=0, maximum=10_000),
        zone("from_zone", "zone that sends"),
        zone("to_zone", "zone that receives"),
        energy("sent_wh", "sent", high=REGISTER_MAX),
        energy("delivered_wh", "arrived", high=REGISTER_MAX),
        energy("lost_wh", "sent less arrived, burned", high=REGISTER_MAX),
        money("wheeling_uthb", "link wheeling"),
    ),
)
PARTICIPANTS: Final = Contract(
    name="participants",
    asset="epoch_statement",
    frame="participants",
    meaning="What each wallet earned, paid and owes for the epoch, all its runs together.",
    owner=SETTLEMENT,
    key=("wallet",),
    fresh_minutes=FRESH,
    columns=(
        WALLET,
        zone(),
        energy("net_wh", "net energy of its meters", low=-ENTRY_MAX),
        energy("traded_wh", "bought +, sold −", low=-ENTRY_MAX),
        energy("minted_wh", "GRID credited"),
        energy("burned_wh", "GRID burned against deficit"),
        energy("residual_wh", "billed by the supplier; a refund counts negative", low=-ENTRY_MAX),
        money("cost_uthb", "paid for bought energy, wheeling included"),
        money("fee_uthb", "platform fee, from proceeds"),
        money("zone_wheeling_uthb", "wheeling inside the cost"),
        money("proceeds_uthb", "received for sold energy"),
        money("billed_uthb", "supplier's bill", low=None),
        money("paid_to_supplier_uthb", "of the bill, paid now", low=None),
        money("debt_repaid_uthb", "debt paid from credits"),
        money("debt_delta_uthb", "change of debt", low=None),
        energy("bought_back_wh", "surplus sold to the supplier", low=-ENTRY_MAX),
        money("buy_back_uthb", "received for it", low=None),
        money("refund_uthb", "refunded by corrections"),
        money("returned_uthb", "paid back for returned buy-back"),
        energy("grid_after_wh", "GRID after the epoch", high=REGISTER_MAX),
        money("thbc_after_uthb", "THBC after the epoch"),
        money("debt_after_uthb", "debt after the epoch"),
        money("vat_uthb", "VAT inside the charges", low=None),
        money("saved_uthb", "against supplier's tariffs alone", low=None),
    ),
)
EPOCH_CONTRACTS: Final = (NET_ENERGY, BOOK, FILLS, MATCHES, ZONES, FLOWS, PARTICIPANTS)
BY_ASSET: Final = {
    asset: tuple(each for each in EPOCH_CONTRACTS if each.asset == asset)
    for asset in dict.fromkeys(each.asset for each in EPOCH_CONTRACTS)
}

DATE: Final = Column("date", "UTC day, YYYY-MM-DD", pl.String)
DAILY_METERING: Final = Contract(
    name="daily_metering",
    asset="daily_metering",
    frame="rows",
    meaning="Each meter's day: energy, and how much of it was measured.",
    owner=METERING,
    key=("date", "meter_id"),
    fresh_minutes=60,
    may_be_empty=False,
    columns=(
        DATE,
        METER,
        WALLET,
        zone(),
        energy("production_wh", "produced", high=REGISTER_MAX),
        energy("consumption_wh", "consumed", high=REGISTER_MAX),
        energy("net_wh", "production less consumption", low=-REGISTER_MAX, high=REGISTER_MAX),
        Column("epochs", "epochs with a row", minimum=1, maximum=96),
        Column("missing_epochs", "of them without a register at a boundary", minimum=0, maximum=96),
        Column("estimated_epochs", "of them interpolated", minimum=0, maximum=96),
        Column("readings", "accepted readings", minimum=0, maximum=1_000_000),
    ),
)
DAILY_MARKET: Final = Contract(
    name="daily_market",
    asset="daily_market",
    frame="rows",
    meaning="Price and volume of each zone and epoch of the day.",
    owner=MARKET,
    key=("epoch", "zone_id"),
    fresh_minutes=60,
    may_be_empty=False,
    columns=(
        DATE,
        epoch("epoch", "epoch"),
        *ZONES.columns,
    ),
)
DAILY_SETTLEMENT: Final = Contract(
    name="daily_settlement",
    asset="daily_settlement",
    frame="rows",
    meaning="What each wallet earned, paid and owes for the day, all runs of its epochs together.",
    owner=SETTLEMENT,
    key=("date", "wallet"),
    fresh_minutes=60,
    may_be_empty=False,
    columns=(DATE, *PARTICIPANTS.columns),
)
DAILY_CONTRACTS: Final = (DAILY_METERING, DAILY_MARKET, DAILY_SETTLEMENT)
