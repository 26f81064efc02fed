"""A book from elsewhere made fit for clearing: values checked, defaults filled in, each bad row refused by name.

Belongs here: the limits that a market sets on orders (domain §4), applied to a file's rows, and what no engine could
clear. Does not belong here: reading files (book_files.py), cover and mandates (market/book.py), clearing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import polars as pl

from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.rules import Network, Rules, Zone
from gridtokenx_pipelines.market.schedule import Rates
from gridtokenx_pipelines.market_cli.book_files import RawBook
from gridtokenx_pipelines.market_cli.numbers import instants, sides, whole_numbers
from gridtokenx_pipelines.market_cli.order_types import CANCELLED, MINIMUM, amend, order_types
from gridtokenx_pipelines.market_cli.refusals import Refusal, faults, marked, together
from gridtokenx_pipelines.units import BASIS_POINTS, I64_MAX, PRICE_TICK_UTHB_PER_KWH, ceil_div_expr

BUY, SELL = 0, 1
DEFAULT_ZONE = 1
MOST_ZONE, MOST_PRICE = 2**31 - 1, 10**12
WIDTH_OF_NUMBER = 20


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the market asks of an order (domain §4)."""

    price_min: int
    price_max: int
    most_wh: int
    most_orders: int

    @classmethod
    def of_rules(cls, rules: Rules) -> Limits:
        """The limits that rules set."""
        return cls(
            price_min=rules.price_min_uthb_per_kwh,
            price_max=rules.price_max_uthb_per_kwh,
            most_wh=rules.max_order_wh,
            most_orders=rules.max_orders_per_wallet_epoch,
        )


class CheckedBook(msgspec.Struct, frozen=True, kw_only=True):
    """`frame`: frames.BOOK of the good rows; `ids`: key (the frame's order_id), order_id as it was given; `refused`.

    `network`: the one given, or the zones that the book names, with the wheeling of the charges.
    """

    frame: pl.DataFrame
    network: Network
    ids: pl.DataFrame
    refused: list[Refusal]


def check(
    raw: RawBook, charges: Rates, network: Network | None, limits: Limits | None, mechanism: str = "uniform"
) -> CheckedBook:
    """Judge every row. `network` None: any zone; `limits` None: any whole energy and price that the engine can hold.

    `mechanism`: whose order types the book may use.
    """
    if not raw.height:
        return CheckedBook(
            frame=frames.frame(frames.BOOK),
            network=network or charges.on(network_of([])),
            ids=pl.DataFrame(schema={"key": pl.Binary, "order_id": pl.String}),
            refused=[],
        )
    rows = pl.Series("row", range(raw.height), dtype=pl.Int64)
    table, found = _columns(raw, rows, network, limits, mechanism)
    sound = table.join(together(found), on="row", how="anti") if found else table
    found += _against_each_other(sound, limits)
    bad = together(found)
    good, unamended = amend(table.join(bad, on="row", how="anti") if found else table)
    bad = bad if unamended is None else together([bad, unamended])
    network = network or charges.on(network_of(good["zone_id"].unique().to_list()))
    book = _book(good, charges.fee_bp, network)
    if limits is not None:
        priceless = book.filter(pl.col("net_limit_uthb_per_kwh") <= 0)
        if priceless.height:
            bound = "above the wheeling of the buyer's zone"
            bad = together([bad, faults(priceless["row"], priceless["limit"], "limit_price", bound, "raise it")])
            book = book.join(bad, on="row", how="anti")
    return CheckedBook(
        frame=frames.conform(book, frames.BOOK, "book").with_columns(
            book[name] for name in (MINIMUM, CANCELLED) if name in book.columns
        ),
        network=network,
        ids=_ids(raw, book),
        refused=_refusals(raw, bad),
    )


def network_of(zones: Iterable[int]) -> Network:
    """These zones (none: one) without links, wheeling or losses."""
    return Network(zones=tuple(Zone(zone_id=zone) for zone in sorted(zones) or [DEFAULT_ZONE]))


def _columns(
    raw: RawBook, rows: pl.Series, network: Network | None, limits: Limits | None, mechanism: str
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    side = sides(raw.columns["side"])
    most_wh = limits.most_wh if limits else I64_MAX
    energy = whole_numbers(
        raw.columns["energy_wh"],
        "energy_wh",
        lowest=1,
        highest=most_wh,
        bound=f"whole Wh from 1 to {most_wh}",
        remedy="correct it, or split the order" if limits else "correct it",
    )
    low, high = (limits.price_min, limits.price_max) if limits else (-MOST_PRICE, MOST_PRICE)
    price = whole_numbers(
        raw.columns["limit_price"],
        "limit_price",
        lowest=low,
        highest=high,
        bound=f"whole µTHB/kWh from {low} to {high}",
        remedy="correct it" + (", or clear with --limits none" if limits else ""),
    )
    placed = instants(raw.columns.get("placed_at", _all(0, rows)), "placed_at")
    known = {zone.zone_id for zone in network.zones} if network else None
    zones = raw.columns.get("zone_id", _all(DEFAULT_ZONE, rows)).fill_null(_default_of(raw, "zone_id", DEFAULT_ZONE))
    zone = whole_numbers(
        zones, "zone_id", lowest=1, highest=MOST_ZONE, bound="a whole number from 1", remedy="correct it"
    )
    found = [each for parsed in (side, energy, price, placed, zone) for each in parsed.faults]
    if limits:
        tick = f"a multiple of the tick, {PRICE_TICK_UTHB_PER_KWH} µTHB/kWh"
        off_tick = price.values % PRICE_TICK_UTHB_PER_KWH != 0
        found += marked(price.values, off_tick, "limit_price", tick, "round it, or clear with --limits none")
    if known is not None:
        bound = f"a zone of the network ({', '.join(map(str, sorted(known)))})"
        found += marked(zone.values, ~zone.values.is_in(list(known)), "zone_id", bound, "correct either")
    ids = raw.columns["order_id"]
    text = ids.cast(pl.String, strict=False)
    found += marked(text, (text == "").fill_null(True), "order_id", "a text or number", "give it one")
    table = pl.DataFrame(
        {
            "row": rows,
            "order_id": text,
            "side": side.values,
            "wh": energy.values,
            "limit": price.values,
            "placed_at_us": placed.values,
            "zone_id": zone.values,
            "wallet": raw.columns.get("wallet", _all(None, rows)).cast(pl.String, strict=False),
            "certificate": raw.columns.get("certificate_id", _all(None, rows)).cast(pl.String, strict=False),
        }
    )
    key = _key(ids, typed=raw.typed_ids)
    typed = order_types(raw, energy.values, placed.values, mechanism)
    found += typed.faults
    table = table.with_columns(**typed.columns)
    return table.with_columns(key=key, wallet=pl.coalesce("wallet", pl.format("order {}", "order_id"))), found


def _all(value: int | None, rows: pl.Series) -> pl.Series:
    return pl.Series([value], dtype=pl.Int64).new_from_index(0, len(rows))


def _default_of(raw: RawBook, field: str, value: int) -> Any:
    return str(value) if field in raw.columns and raw.columns[field].dtype == pl.String else value


def _key(ids: pl.Series, *, typed: bool) -> pl.Expr:
    """Bytes that order like the ids: numbers by value and before texts, texts by their UTF-8 bytes.

    A file without types (CSV) has numbers where ids are all digits.
    """
    text, padded = pl.col("order_id"), pl.format("\x00{}", pl.col("order_id").str.zfill(WIDTH_OF_NUMBER))
    if ids.dtype.is_integer():
        return padded.cast(pl.Binary)
    numeric = pl.lit(False) if typed else text.str.contains(rf"^\d{{1,{WIDTH_OF_NUMBER}}}$")
    return pl.when(numeric).then(padded).otherwise(text).cast(pl.Binary)


def _against_each_other(table: pl.DataFrame, limits: Limits | None) -> Iterator[pl.DataFrame]:
    """What only shows beside other rows; which rows are refused never depends on their order in the file."""
    if table["key"].n_unique() < table.height:
        twice = table.filter(pl.col("key").is_duplicated())
        yield faults(twice["row"], twice["order_id"], "order_id", "used once in the book", "give each order its own")
    if table["wallet"].n_unique() == table.height:
        return
    prior = table.filter(pl.col("wallet").is_duplicated()).sort("placed_at_us", "key")
    astray = prior.filter(pl.col("zone_id") != pl.col("zone_id").first().over("wallet"))
    yield faults(astray["row"], astray["zone_id"], "zone_id", "the one zone of its wallet", "name another wallet")
    if limits is not None:
        both = prior.filter(pl.col("side") != pl.col("side").first().over("wallet"))
        words = both["side"].replace_strict({BUY: "buy", SELL: "sell"}, return_dtype=pl.String)
        yield faults(both["row"], words, "side", "that of its wallet's first order", "drop one side, or --limits none")
        count = prior.with_columns(number=pl.int_range(1, pl.len() + 1).over("wallet"))
        over = count.filter(pl.col("number") > limits.most_orders)
        yield faults(
            over["row"],
            over.select(pl.format("order {} of {}", "number", "wallet")).to_series(),
            "wallet",
            f"at most {limits.most_orders} orders of one wallet",
            "drop it, or clear with --limits none",
        )


def _book(table: pl.DataFrame, fee_bp: int, network: Network) -> pl.DataFrame:
    wheeling = {zone.zone_id: zone.zone_wheeling_uthb_per_kwh for zone in network.zones}
    limit = pl.col("limit")
    return table.with_columns(
        order_id=pl.col("key"),
        meter_id=pl.lit(None, pl.String),
        energy_wh=pl.col("wh"),
        limit_uthb_per_kwh=limit,
        epoch=pl.lit(0, pl.Int64),
        nonce=pl.lit(0, pl.Int64),
        certificate_id=pl.col("certificate").replace("", None).cast(pl.Binary),
        is_mandate=pl.lit(False),
        broker_us=pl.col("placed_at_us"),
        covered_wh=pl.col("wh"),
        net_limit_uthb_per_kwh=pl.when(pl.col("side") == SELL)
        .then(ceil_div_expr(limit * BASIS_POINTS, BASIS_POINTS - fee_bp))
        .otherwise(limit - pl.col("zone_id").replace_strict(wheeling, default=0, return_dtype=pl.Int64)),
    )


def _ids(raw: RawBook, book: pl.DataFrame) -> pl.DataFrame:
    return pl.DataFrame({"key": book["key"], "order_id": raw.columns["order_id"].gather(book["row"])})


def _refusals(raw: RawBook, bad: pl.DataFrame) -> list[Refusal]:
    if not bad.height:
        return []
    lines = raw.lines_of(bad["row"].to_list())
    ids = raw.columns["order_id"].cast(pl.String, strict=False)
    return [
        Refusal(
            row=row + 1, line=lines.get(row), order_id=ids[row], field=field, value=value, bound=bound, remedy=remedy
        )
        for row, field, value, bound, remedy in bad.iter_rows()
    ]
