"""The cleared state in an AC flow: what it breaks, which link's capacity repairs it, and when none does."""

from __future__ import annotations

import msgspec
import numpy as np
import polars as pl
import pytest

from gridtokenx_pipelines.grid.case import GridCase
from gridtokenx_pipelines.grid.feasibility import Flow, MeterNet, check, repair, schedule_of
from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.rules import Network, Rules
from gridtokenx_pipelines.settlement_service.feasible import MOST_REPAIRS, Feasible, Market, clear_feasibly
from tests.unit.grid.small import case, network

METERS = [
    MeterNet(meter_id=meter, wallet=f"wallet {meter}", net_wh=net)
    for meter, net in (("P1", 90_000), ("C1", -90_000), ("P2", 90_000), ("C2", -90_000))
]


@pytest.fixture(scope="module")
def small() -> GridCase:
    return case()


def flow(sent_wh: int) -> Flow:
    return Flow(link_id=1, from_zone=1, to_zone=2, sent_wh=sent_wh, delivered_wh=sent_wh)


def sold(wh: int, seller: str = "P1", buyer: str = "C2") -> dict[str, int]:
    return {f"wallet {seller}": -wh, f"wallet {buyer}": wh}


def test_a_wallet_sells_from_meters_with_surplus_and_buys_for_those_with_a_deficit(small: GridCase) -> None:
    meters = [
        MeterNet(meter_id="P1", wallet="w", net_wh=300),
        MeterNet(meter_id="P2", wallet="w", net_wh=100),
        MeterNet(meter_id="C1", wallet="w", net_wh=-50),
        MeterNet(meter_id="C2", wallet="other", net_wh=-400),
    ]
    found = schedule_of(small, {"w": -200, "other": 200}, meters)
    columns = small.columns()
    assert found.fed_wh.tolist() == [0.0, 0.0, 150.0, 50.0]
    assert found.drawn_wh[columns["C2"]] == 200.0
    assert float(found.drawn_wh.sum()) == 200.0


def test_grid_sold_from_stock_is_fed_in_at_all_meters_alike(small: GridCase) -> None:
    meters = [MeterNet(meter_id=meter, wallet="w", net_wh=-5) for meter in ("P1", "C1")]
    found = schedule_of(small, {"w": -100}, meters)
    assert sorted(found.fed_wh.tolist()) == [0.0, 0.0, 50.0, 50.0]


def test_a_schedule_that_the_cables_carry_breaks_nothing(small: GridCase) -> None:
    assert check(small, schedule_of(small, sold(10_000), METERS)) == []


def test_a_schedule_beyond_the_cables_names_the_line_and_the_link_that_repairs_it(small: GridCase) -> None:
    schedule = schedule_of(small, sold(60_000), METERS)
    broken = check(small, schedule)
    assert broken[0].words().startswith("line tail 2 loaded")
    cut = repair(small, schedule, [flow(60_000)])
    assert cut is not None
    kept = cut[1]
    assert 0 < kept < 60_000
    assert check(small, schedule_of(small, sold(kept), METERS)) == []
    assert check(small, schedule_of(small, sold(kept + 100), METERS)) != []


def test_trade_inside_a_zone_is_repaired_by_no_link(small: GridCase) -> None:
    schedule = schedule_of(small, sold(60_000, "P1", "C1"), METERS)
    assert check(small, schedule)[0].words().startswith("line tail 1 loaded")
    assert repair(small, schedule, []) is None
    assert repair(small, schedule, [flow(0)]) is None


def test_a_schedule_without_a_power_flow_is_a_violation_and_can_be_repaired(small: GridCase) -> None:
    schedule = schedule_of(small, sold(900_000), METERS)
    assert [each.kind for each in check(small, schedule)] == ["convergence"]
    cut = repair(small, schedule, [flow(900_000)])
    assert cut is not None
    assert check(small, schedule_of(small, sold(cut[1]), METERS)) == []


def order(number: int, meter: str, wh: int, thb: float) -> dict[str, object]:
    limit = int(thb * 1_000_000)
    return {
        "order_id": bytes([number] * 16),
        "wallet": f"wallet {meter}",
        "zone_id": int(meter[1]),
        "meter_id": meter,
        "side": int(meter[0] == "P"),
        "energy_wh": wh,
        "limit_uthb_per_kwh": limit,
        "epoch": 1,
        "nonce": 0,
        "placed_at_us": number,
        "certificate_id": None,
        "is_mandate": False,
        "broker_us": number,
        "covered_wh": wh,
        "net_limit_uthb_per_kwh": limit,
    }


def book(*orders: dict[str, object]) -> pl.DataFrame:
    return frames.frame(frames.BOOK, orders)


def net_energy() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "meter_id": [meter.meter_id for meter in METERS],
            "wallet": [meter.wallet for meter in METERS],
            "net_wh": [meter.net_wh for meter in METERS],
            "missing": [False] * len(METERS),
        }
    )


MARKET = Market(rules=Rules(fee_bp=0), mechanism="zonal", history={})
ACROSS = (order(1, "C2", 60_000, 4.0), order(2, "P1", 60_000, 2.5))


def cleared(at: GridCase | None, over: Network, *orders: dict[str, object]) -> Feasible:
    return clear_feasibly(at, book(*orders), net_energy(), over, MARKET)


def test_a_clearing_is_repeated_with_the_capacity_that_repairs_it_and_says_what_it_cut(small: GridCase) -> None:
    found = cleared(small, network(), *ACROSS)
    (link,) = found.network.links
    assert not found.result.halted
    assert len(found.repairs) <= MOST_REPAIRS
    assert found.repairs[0].startswith("cleared again: line tail 2 loaded")
    assert f"link 1 to {link.capacity_forward_wh} Wh" in found.repairs[-1]
    (sent,) = found.result.flows["sent_wh"].to_list()
    assert 0 < sent <= link.capacity_forward_wh < 60_000
    assert link.capacity_backward_wh == 100_000
    # the result is exactly that of clearing over the cut network: an audit needs nothing else
    again = cleared(None, found.network, *ACROSS)
    assert again.result.fills.equals(found.result.fills)
    assert again.result.zones.equals(found.result.zones)


def test_a_feasible_clearing_is_left_as_it_is(small: GridCase) -> None:
    orders = (order(1, "C2", 5_000, 4.0), order(2, "P1", 5_000, 2.5))
    found = cleared(small, network(), *orders)
    assert (found.repairs, found.network) == ((), network())
    assert found.result.volume_wh > 0


def test_an_epoch_that_no_link_repairs_is_halted_and_names_the_line(small: GridCase) -> None:
    found = cleared(small, network(), order(1, "C1", 60_000, 4.0), order(2, "P1", 60_000, 2.5))
    assert found.result.halted
    assert found.result.volume_wh == 0
    assert found.result.halt_reasons[0].startswith("infeasible: line tail 1 loaded")
    assert found.repairs[0].endswith("and no link's capacity repairs it")


def test_zero_capacity_separates_the_prices() -> None:
    orders = (
        order(1, "C1", 1_000, 3.0),
        order(2, "P1", 2_000, 2.5),
        order(3, "C2", 2_000, 4.0),
        order(4, "P2", 1_000, 3.5),
    )
    joined = cleared(None, lossless(1_000_000), *orders).result
    apart = cleared(None, lossless(0), *orders).result
    assert joined.zones["price_uthb_per_kwh"].n_unique() == 1
    assert apart.zones["price_uthb_per_kwh"].n_unique() == 2
    assert apart.flows["sent_wh"].sum() == 0


def lossless(capacity_wh: int) -> Network:
    over = network(capacity_wh=capacity_wh)
    return msgspec.structs.replace(over, links=(msgspec.structs.replace(over.links[0], loss_ppm=0),))


def test_without_limits_zonal_equals_one_zone() -> None:
    draw = np.random.default_rng(3)
    orders = []
    for number in range(1, 21):
        meter = ("P1", "C1", "P2", "C2")[number % 4]
        orders.append(order(number, meter, int(draw.integers(100, 900)), 2 + int(draw.integers(0, 300)) / 100))
    zonal = cleared(None, lossless(10**9), *orders).result
    one = cleared(None, network(zones=1), *({**each, "zone_id": 1} for each in orders)).result
    assert zonal.volume_wh == one.volume_wh
    columns = ("order_id", "filled_wh", "price_uthb_per_kwh")
    assert zonal.fills.select(columns).sort("order_id").equals(one.fills.select(columns).sort("order_id"))
