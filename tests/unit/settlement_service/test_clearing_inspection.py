"""Each book and clearing check passes on a sound epoch and fails on a result that deserves it.

Two zones, one link with losses. Zone 1 sells 1 000 Wh and buys 400 Wh; 600 Wh go to zone 2, where 588 Wh arrive.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from gridtokenx_pipelines.market import clearing as market_clearing
from gridtokenx_pipelines.market.frames import BOOK, FILLS, FLOWS, MATCHES, TRADED, ZONES
from gridtokenx_pipelines.market.roots import book_rows, merkle_root
from gridtokenx_pipelines.market.rules import Link, Network, Rules, Zone
from gridtokenx_pipelines.settlement_service.inspections import clearing, order_book
from gridtokenx_pipelines.settlement_service.inspections.verdict import failed

EPOCH = 1_966_080
RULES = Rules()
NETWORK = Network(
    zones=(
        Zone(zone_id=1, zone_wheeling_uthb_per_kwh=100_000),
        Zone(zone_id=2, zone_wheeling_uthb_per_kwh=50_000),
    ),
    links=(
        Link(
            link_id=7,
            from_zone=1,
            to_zone=2,
            capacity_forward_wh=10_000,
            capacity_backward_wh=10_000,
            link_wheeling_uthb_per_kwh=20_000,
            loss_ppm=20_000,
        ),
    ),
)
# ask 2.97 ÷ 0.99 = 3.00; zone 2's price is (3.00 + 0.02) ÷ 0.98, rounded down
PRICE_1, PRICE_2 = 3_000_000, 3_081_632


def frame(schema: Any, *rows: tuple[Any, ...]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=dict(schema), orient="row")


def order(name: str, zone: int, side: int, wh: int, *limits: int) -> dict[str, Any]:
    limit, net_limit = limits
    return {
        "order_id": name.encode().ljust(16, b"\0"),
        "wallet": f"wallet-{name}",
        "zone_id": zone,
        "meter_id": f"meter-{name}",
        "side": side,
        "energy_wh": wh,
        "limit_uthb_per_kwh": limit,
        "epoch": EPOCH,
        "nonce": 0,
        "placed_at_us": 5,
        "certificate_id": None,
        "is_mandate": False,
        "broker_us": 5,
        "covered_wh": wh,
        "net_limit_uthb_per_kwh": net_limit,
    }


ROWS = [
    order("s", 1, 1, 2_000, 2_970_000, 3_000_000),
    order("b", 1, 0, 400, 4_000_000, 3_900_000),
    order("c", 2, 0, 588, 4_000_000, 3_950_000),
]


def book_of(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=dict(BOOK), orient="row")


BOOK_FRAME = book_of(*ROWS)


def key(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")


def result(**changes: Any) -> Any:
    sound: dict[str, Any] = {
        "mechanism": "zonal",
        "halted": False,
        "volume_wh": 988,
        "lost_wh": 12,
        "link_wheeling_uthb": 12_000,
        "rent_uthb": 0,
        "fills": frame(
            FILLS,
            (key("s"), "wallet-s", 1, 1, 1_000, PRICE_1, False),
            (key("b"), "wallet-b", 1, 0, 400, PRICE_1, False),
            (key("c"), "wallet-c", 2, 0, 588, PRICE_2, False),
        ),
        "matches": frame(
            MATCHES,
            (0, key("b"), key("s"), "wallet-b", "wallet-s", 400, PRICE_1),
            (1, key("c"), key("s"), "wallet-c", "wallet-s", 588, PRICE_2),
        ),
        "zones": frame(ZONES, (1, PRICE_1, 100_000, 400, 1_000), (2, PRICE_2, 50_000, 588, 0)),
        "flows": frame(FLOWS, (7, 1, 2, 600, 588, 12, 12_000)),
        "traded": frame(
            TRADED,
            ("wallet-b", 1, 400, 1_240_000, 1_200_000, 40_000, 0, 0, 0),
            ("wallet-c", 2, 588, 1_841_400, 1_811_999, 29_401, 0, 0, 0),
            ("wallet-s", 1, -1_000, 0, 0, 0, 3_000_000, 30_000, 2_970_000),
        ),
    }
    sound["rent_uthb"] = 1_240_000 + 1_841_400 - 2_970_000 - 30_000 - 40_000 - 29_401 - 12_000
    return SimpleNamespace(**(sound | changes))


def failures(given: Any, book: pl.DataFrame = BOOK_FRAME) -> list[str]:
    found = clearing.inspect(book, given, epoch=EPOCH, rules=RULES, network=NETWORK)
    # `feasible` needs the network's state and is asked apart
    assert [one.check for one in found] == [check for check in clearing.CHECKS if check != clearing.FEASIBLE]
    return [one.check for one in failed(found)]


def test_a_sound_result_passes_every_check() -> None:
    found = clearing.inspect(BOOK_FRAME, result(), epoch=EPOCH, rules=RULES, network=NETWORK)
    assert [(one.check, one.detail) for one in failed(found)] == []


def test_a_zone_that_does_not_balance_fails_energy() -> None:
    assert clearing.ENERGY in failures(result(flows=frame(FLOWS, (7, 1, 2, 600, 587, 13, 12_000))))


def test_a_rent_off_by_one_fails_money() -> None:
    assert failures(result(rent_uthb=result().rent_uthb + 1)) == [clearing.MONEY]


def test_a_fill_beyond_its_cover_fails_the_limit() -> None:
    assert failures(result(), book_of(ROWS[0], ROWS[1] | {"covered_wh": 399}, ROWS[2])) == [clearing.LIMIT]


def test_a_buyer_who_pays_above_the_limit_fails_it() -> None:
    assert clearing.LIMIT in failures(result(), book_of(ROWS[0], ROWS[1], ROWS[2] | {"limit_uthb_per_kwh": 3_130_000}))


def test_a_wallet_that_receives_less_than_its_asks_fails_the_limit() -> None:
    traded = result().traded.with_columns(
        proceeds_uthb=pl.when(pl.col("traded_wh") < 0).then(2_969_999).otherwise(0),
        fee_uthb=pl.when(pl.col("traded_wh") < 0).then(30_001).otherwise(0),
    )
    assert failures(result(traded=traded)) == [clearing.LIMIT, clearing.RECOMPUTED]


def test_a_price_outside_the_band_fails() -> None:
    zones = frame(ZONES, (1, PRICE_1, 100_000, 400, 1_000), (2, 8_000_001, 50_000, 588, 0))
    assert clearing.PRICE in failures(result(zones=zones))


def test_a_trade_in_a_halted_epoch_fails() -> None:
    assert failures(result(halted=True)) == [clearing.PRICE]


def test_a_charge_that_plain_integers_find_otherwise_fails_the_recomputation() -> None:
    traded = result().traded.with_columns(
        energy_cost_uthb=pl.col("energy_cost_uthb") + pl.when(pl.col("wallet") == "wallet-c").then(1).otherwise(0),
        zone_wheeling_uthb=pl.col("zone_wheeling_uthb") - pl.when(pl.col("wallet") == "wallet-c").then(1).otherwise(0),
    )
    assert failures(result(traded=traded, rent_uthb=result().rent_uthb + 1)) == [clearing.RECOMPUTED]


def test_an_order_left_out_although_it_could_gain_fails_the_recomputation() -> None:
    assert failures(result(), book_of(*ROWS, order("d", 2, 0, 300, 5_000_000, 4_950_000))) == [clearing.RECOMPUTED]


def test_an_idle_link_across_a_price_gap_fails_the_recomputation() -> None:
    zones = frame(ZONES, (1, PRICE_1, 100_000, 400, 1_000), (2, 3_900_000, 50_000, 588, 0))
    (failing,) = [
        one.failing
        for one in clearing.inspect(BOOK_FRAME, result(zones=zones), epoch=EPOCH, rules=RULES, network=NETWORK)
        if one.check == clearing.RECOMPUTED
    ]
    assert failing is not None
    assert "link 7 to zone 2 could gain, price and parity" in failing["what"].to_list()


NET = pl.DataFrame(
    {
        "wallet": ["wallet-s", "wallet-b", "wallet-c"],
        "net_wh": [1_500, -400, -600],
        "missing": [False, False, False],
    }
)
BALANCES = pl.DataFrame(
    {
        "owner": ["wallet-s", "wallet-b", "wallet-c"],
        "grid_wh": [500, 0, 0],
        "thbc_uthb": [0, 1_600_000, 2_352_000],
        "debt_uthb": [0, 0, 0],
    }
)


def book_failures(book: pl.DataFrame, *, stored: pl.DataFrame | None = None, **frames: pl.DataFrame) -> list[str]:
    found = order_book.inspect(
        book,
        epoch=EPOCH,
        net_energy=frames.get("net_energy", NET),
        balances=frames.get("balances", BALANCES),
        rules=RULES,
        network=NETWORK,
        stored=book if stored is None else stored,
        root=merkle_root(book_rows(book, RULES.network_id, EPOCH)),
    )
    assert [one.check for one in found] == list(order_book.CHECKS)
    return [one.check for one in failed(found)]


def test_a_sound_book_covered_to_the_last_unit_passes() -> None:
    assert book_failures(BOOK_FRAME) == []


@pytest.mark.parametrize(
    "change",
    [
        {"energy_wh": 0},
        {"covered_wh": 401},
        {"limit_uthb_per_kwh": 8_010_000, "net_limit_uthb_per_kwh": 7_910_000},
        {"limit_uthb_per_kwh": 3_995_000, "net_limit_uthb_per_kwh": 3_895_000},
        {"net_limit_uthb_per_kwh": 3_900_001},
        {"epoch": EPOCH + 1},
        {"wallet": "wallet-s"},
    ],
    ids=["no energy", "uncut", "above the band", "off the tick", "net limit", "another epoch", "two sides of a wallet"],
)
def test_an_order_outside_a_limit_fails(change: dict[str, Any]) -> None:
    assert order_book.LIMITS in book_failures(book_of(ROWS[0], ROWS[1] | change, ROWS[2]))


def test_more_orders_than_fifty_of_one_wallet_fail() -> None:
    many = [ROWS[1] | {"order_id": bytes([n] * 16), "energy_wh": 1, "covered_wh": 1} for n in range(51)]
    assert book_failures(book_of(*many)) == [order_book.LIMITS]
    assert book_failures(book_of(*many[:50])) == []


def test_a_sale_of_one_wh_more_than_held_and_produced_fails_cover() -> None:
    assert book_failures(
        BOOK_FRAME, balances=BALANCES.with_columns(grid_wh=pl.col("grid_wh").clip(upper_bound=499))
    ) == [order_book.COVERED]


def test_a_purchase_of_one_uthb_more_than_held_fails_cover() -> None:
    less = BALANCES.with_columns(thbc_uthb=pl.col("thbc_uthb").clip(upper_bound=2_351_999))
    assert book_failures(BOOK_FRAME, balances=less) == [order_book.COVERED]


def test_an_order_that_stands_twice_fails() -> None:
    assert order_book.SINGLE in book_failures(book_of(*ROWS, ROWS[1] | {"energy_wh": 1, "covered_wh": 1}))


def test_a_stored_book_with_another_row_fails_its_root() -> None:
    assert book_failures(BOOK_FRAME, stored=book_of(ROWS[0], ROWS[1] | {"nonce": 1}, ROWS[2])) == [order_book.ROOT]


@pytest.mark.parametrize("mechanism", ["zonal", "uniform"])
def test_what_the_market_itself_clears_passes_every_check(mechanism: str) -> None:
    book = book_of(*ROWS)
    result = market_clearing.clear(book, NETWORK, RULES, mechanism)
    assert result.volume_wh > 0
    assert failed(clearing.inspect(book, result, epoch=EPOCH, rules=RULES, network=NETWORK)) == []
