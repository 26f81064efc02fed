"""Laws of every mechanism over random, crowded and adversarial books, stated by what they mean to those who trade."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx_pipelines.market.clearing import ClearingResult, clear
from gridtokenx_pipelines.market.mechanisms import MECHANISMS
from gridtokenx_pipelines.market.mechanisms.outcome import ClearingError
from gridtokenx_pipelines.market.rules import Rules
from tests.unit.market.books import BUY, SELL, book_of, link, network, order_row
from tests.unit.market.differential import FEES, crowded, filled, flows, money, prices, rows_of

ONE_AREA = sorted(set(MECHANISMS) - {"zonal"})
NAMES = sorted(MECHANISMS)


def produce(rows, net, fee_bp, mechanism) -> ClearingResult:
    try:
        return clear(book_of(rows, net, fee_bp), net, Rules(fee_bp=fee_bp), mechanism)
    except ClearingError as reason:
        if "arrives with" not in str(reason):
            raise
        pytest.skip(str(reason))


@pytest.mark.parametrize("mechanism", NAMES)
@settings(max_examples=60)
@given(rows_of(), FEES)
def test_nobody_pays_more_or_gets_less_than_their_limit_after_all_charges(mechanism, rows, fee_bp):
    net = network(100_000)
    result = produce(rows, net, fee_bp, mechanism)
    amounts, got = money(result), filled(result, rows)
    for row in rows:
        wh = got[row["order_id"]]
        assert 0 <= wh <= row["energy_wh"]
        if not wh:
            assert row["wallet"] not in amounts
            continue
        cost, _, value, fee = amounts[row["wallet"]]
        if row["side"] == BUY:
            assert cost * 1_000 <= row["limit_uthb_per_kwh"] * wh
        else:
            assert (value - fee) * 1_000 >= row["limit_uthb_per_kwh"] * wh


@pytest.mark.parametrize("mechanism", NAMES)
@settings(max_examples=60)
@given(rows_of(), st.integers(2, 1_000))
def test_scaling_every_quantity_scales_every_fill(mechanism, rows, factor):
    net = network(0)
    scaled = [row | {"energy_wh": row["energy_wh"] * factor} for row in rows]
    small, great = produce(rows, net, 100, mechanism), produce(scaled, net, 100, mechanism)
    assert {key: wh * factor for key, wh in filled(small, rows).items()} == filled(great, scaled)
    assert prices(small) == prices(great)


@pytest.mark.parametrize("mechanism", NAMES)
@settings(max_examples=60)
@given(rows_of(), st.sampled_from([BUY, SELL]), st.integers(0, 5))
def test_adding_an_order_that_loses_changes_nothing(mechanism, rows, side, time):
    net = network(0)
    far = (100 if side == BUY else 10_000) * 10_000  # nobody asks so little or bids so much
    before = produce(rows, net, 0, mechanism)
    after = produce([*rows, order_row(9_999, side, 500, far, broker_us=time)], net, 0, mechanism)
    for name in ("fills", "matches", "zones", "flows", "traded"):
        assert getattr(before, name).equals(getattr(after, name))


@pytest.mark.parametrize("mechanism", ["uniform", "pay_as_bid"])
@settings(max_examples=100)
@given(rows_of(), FEES)
def test_no_order_is_filled_while_one_with_better_priority_waits(mechanism, rows, fee_bp):
    result = produce(rows, network(0), fee_bp, mechanism)
    got = filled(result, rows)
    for side in (BUY, SELL):
        mine = [row for row in rows if row["side"] == side]
        mine.sort(
            key=lambda row: (row["limit_uthb_per_kwh"] * (1 if row["side"] else -1), row["broker_us"], row["order_id"])
        )
        whole = [got[row["order_id"]] == row["energy_wh"] for row in mine]
        some = [got[row["order_id"]] > 0 for row in mine]
        for better, worse in zip(whole, some[1:], strict=False):
            assert better or not worse


@settings(max_examples=60)
@given(st.data(), st.integers(2, 4))
def test_many_zones_with_wide_links_and_no_charges_are_one(data, zones):
    rows = data.draw(rows_of(zones=zones, most=20))
    wide = tuple(link(number, (number, number + 1), 10**12) for number in range(1, zones))
    many = produce(rows, network(*[0] * zones, links=wide), 0, "zonal")
    one = produce(rows, network(*[0] * zones), 0, "uniform")
    assert many.volume_wh == one.volume_wh
    assert many.welfare_uthb == one.welfare_uthb
    # least sent comes before priority among zones, so marginal orders may differ; the price may not
    priced = {price for price in prices(many).values() if price is not None}
    assert priced <= {price for price in prices(one).values() if price is not None}
    (price,) = priced or {None}
    before, after = filled(one, rows), filled(many, rows)
    assert all(before[row["order_id"]] == after[row["order_id"]] for row in rows if row["limit_uthb_per_kwh"] != price)


@pytest.mark.parametrize("seed", range(20))
def test_crowded_networks_conserve_energy_and_money(seed):
    rows, net, fee_bp = crowded(seed, losses=(0, 20_000))
    result = produce(rows, net, fee_bp, "zonal")
    got, arrived = filled(result, rows), flows(result)
    for zone in net.zones:
        sold = sum(got[row["order_id"]] for row in rows if (row["zone_id"], row["side"]) == (zone.zone_id, SELL))
        bought = sum(got[row["order_id"]] for row in rows if (row["zone_id"], row["side"]) == (zone.zone_id, BUY))
        into = sum(delivered for _, end, _, delivered in arrived.values() if end == zone.zone_id)
        out = sum(sent for start, _, sent, _ in arrived.values() if start == zone.zone_id)
        assert sold + into == bought + out
    totals = {name: int(result.traded[name].sum()) for name in ("cost_uthb", "proceeds_uthb", "fee_uthb")}
    wheeling = int(result.traded["zone_wheeling_uthb"].sum()) + result.link_wheeling_uthb
    assert totals["cost_uthb"] == totals["proceeds_uthb"] + totals["fee_uthb"] + wheeling + result.rent_uthb


@settings(max_examples=40)
@given(rows_of())
def test_a_wider_clock_changes_nothing_but_ties(rows):
    """Times far apart or close together give the same uniform result as long as their order is the same."""
    net = network(0)
    stretched = [row | {"broker_us": row["broker_us"] * 10**12} for row in rows]
    near, far = produce(rows, net, 0, "uniform"), produce(stretched, net, 0, "uniform")
    assert near.fills.equals(far.fills)
    assert msgspec.structs.asdict(near)["volume_wh"] == far.volume_wh
