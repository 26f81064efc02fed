"""Which corrections are booked, and what each moves: whole expected judgements, computed by hand from domain §7."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtokenx_pipelines.epochs import epoch_of_key
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.settlement.frames import MarketAccounts
from gridtokenx_pipelines.settlement.resettlement import Shift, bound_wh, judge, shift_x_wh

E = epoch_of_key("2026-01-27T16:15Z")  # off-peak, as the epoch before it: 2.58 THB/kWh
RICH = MarketAccounts(supplier_thbc_uthb=10**9, supplier_grid_wh=10**6)


def corrections(*rows: tuple[str, str, int, int, int, int]) -> pl.DataFrame:
    names = ["meter_id", "wallet", "boundary_epoch", "revision", "production_delta_wh", "consumption_delta_wh"]
    return pl.DataFrame(rows, schema=names, orient="row")


def amounts(name: str, *rows: tuple[str, int, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"wallet": pl.String, "epoch": pl.Int64, name: pl.Int64}, orient="row")


def judged(
    given_corrections: pl.DataFrame,
    nets: dict[tuple[str, int], int],
    *,
    residual: tuple[tuple[str, int, int], ...] = (),
    bought_back: tuple[tuple[str, int, int], ...] = (),
    grid: int = 0,
    accounts: MarketAccounts = RICH,
):
    return judge(
        corrections=given_corrections,
        nets=pl.DataFrame(
            [(meter, 1, epoch, net) for (meter, epoch), net in nets.items()],
            schema=["meter_id", "zone_id", "epoch", "net_wh"],
            orient="row",
        ),
        residuals=amounts("residual_wh", *residual),
        bought_back=amounts("bought_back_wh", *bought_back),
        ratings={"m": 4_000, "n": 4_000},
        balances=pl.DataFrame({"owner": ["w"], "grid_wh": [grid], "thbc_uthb": [0], "debt_uthb": [0]}),
        accounts=accounts,
        rules=Rules(),
    )


SURPLUS_THEN_DEFICIT = {("m", E - 1): 300, ("m", E): -500}
DEFICIT_THEN_SURPLUS = {("m", E - 1): -500, ("m", E): 300}


def test_what_can_be_taken_back_is_then_what_was_bought_back_is_returned_and_the_rest_is_rebilled():
    # 200 Wh of production belong to the epoch before: 300 → 500, −500 → −700: both further out, x = +200
    out = judged(corrections(("m", "w", E, 1, 200, 0)), SURPLUS_THEN_DEFICIT)
    assert out.shifts == (Shift(meter_id="m", wallet="w", zone_id=1, deficit_epoch=E, surplus_epoch=E - 1, x_wh=200),)
    # the other way: 300 → 100, −500 → −300, x = −200; 150 of it were residual: 60 held, 70 bought back, 20 rebilled
    inward = judged(
        corrections(("m", "w", E, 1, -200, 0)),
        SURPLUS_THEN_DEFICIT,
        residual=(("w", E, 150), ("w", E - 1, 999)),
        bought_back=(("w", E - 1, 70), ("w", E, 999)),
        grid=60,
    )
    (shift,) = inward.shifts
    assert shift == Shift(
        meter_id="m",
        wallet="w",
        zone_id=1,
        deficit_epoch=E,
        surplus_epoch=E - 1,
        x_wh=-200,
        refund_wh=150,
        taken_back_wh=60,
        returned_wh=70,
        rebilled_wh=20,
    )
    assert shift.booked_x_wh == -180
    assert inward.epoch == E
    assert inward.outcomes.rows() == [("m", E, 1, "booked", -200, None)]


def test_the_deficit_may_be_the_epoch_before_the_boundary():
    (shift,) = judged(
        corrections(("m", "w", E, 1, 0, -100)), DEFICIT_THEN_SURPLUS, residual=(("w", E - 1, 40),), grid=999
    ).shifts
    assert (shift.deficit_epoch, shift.surplus_epoch, shift.x_wh) == (E - 1, E, -100)
    assert (shift.refund_wh, shift.taken_back_wh, shift.booked_x_wh) == (40, 40, -100)


def test_without_residual_x_only_reverses_a_burn_against_a_mint():
    (shift,) = judged(corrections(("m", "w", E, 1, -200, 0)), SURPLUS_THEN_DEFICIT, grid=999).shifts
    assert (shift.refund_wh, shift.taken_back_wh, shift.booked_x_wh) == (0, 0, -200)


def test_a_correction_that_changes_no_surplus_is_recorded_only():
    out = judged(corrections(("m", "w", E, 1, 0, 30)), {("m", E - 1): -500, ("m", E): -30})
    assert (out.epoch, out.shifts) == (None, ())
    assert out.outcomes.rows() == [("m", E, 1, "recorded", 0, None)]


def test_a_shift_beyond_what_the_rating_allows_is_rejected_with_both_numbers():
    assert bound_wh(4_000) == 1_100
    fine = judged(corrections(("m", "w", E, 1, 1_100, 0)), SURPLUS_THEN_DEFICIT)
    assert fine.outcomes["status"].to_list() == ["booked"]
    for row in (("m", "w", E, 1, 1_101, 0), ("m", "w", E, 1, 0, -1_101), ("m", "w", E, 1, 600, -600)):
        out = judged(corrections(row), SURPLUS_THEN_DEFICIT)
        ((*_, status, x, reason),) = out.outcomes.rows()
        assert (out.epoch, status, x) == (None, "rejected", 0)
        assert "at most 1100 Wh is possible" in reason


def test_a_correction_waits_until_both_its_epochs_are_booked():
    out = judged(corrections(("m", "w", E, 1, 200, 0)), {("m", E - 1): 300})
    assert (out.epoch, out.shifts, out.outcomes.rows()) == (None, (), [])


def test_refunds_the_supplier_can_not_cover_wait_and_others_go_ahead():
    both = corrections(("m", "w", E, 1, -200, 0), ("n", "v", E, 1, -100, 0))
    nets = {**SURPLUS_THEN_DEFICIT, ("n", E - 1): 300, ("n", E): -500}
    residual = (("w", E, 500), ("v", E, 500))
    # 200 Wh × 2.58 = 516 000, 100 Wh = 258 000
    poor = MarketAccounts(supplier_thbc_uthb=515_999)
    out = judged(both, nets, residual=residual, accounts=poor)
    assert out.outcomes.rows() == [("n", E, 1, "booked", -100, None)]
    enough = MarketAccounts(supplier_thbc_uthb=516_000 + 258_000)
    assert judged(both, nets, residual=residual, accounts=enough).outcomes.height == 2


def test_revisions_of_a_boundary_add_up_to_one_shift():
    out = judged(corrections(("m", "w", E, 2, 50, 0), ("m", "w", E, 1, 100, 0)), SURPLUS_THEN_DEFICIT)
    assert [shift.x_wh for shift in out.shifts] == [150]
    assert out.outcomes.rows() == [("m", E, 1, "booked", 150, None), ("m", E, 2, "booked", 150, None)]


def test_a_run_has_one_boundary_and_one_entry_a_wallet_and_the_rest_comes_later():
    rows = corrections(
        ("m", "w", E, 1, 100, 0), ("n", "w", E, 1, 100, 0), ("m", "w", E + 1, 1, -5, 0), ("n", "w", E + 2, 1, 1, 0)
    )
    nets = {(meter, E + step): 300 if step % 2 else -500 for meter in "mn" for step in (-1, 0, 1, 2)}
    first = judged(rows, nets)
    assert (first.epoch, [shift.meter_id for shift in first.shifts]) == (E, ["m"])
    assert first.outcomes.rows() == [("m", E, 1, "booked", 100, None)]


def test_a_recorded_correction_moves_net_energy_for_those_after_it():
    # recorded: −20 and −500 become −50 and −470; then 480 Wh into E: only 470 of them are deficit now
    rows = corrections(("m", "w", E, 1, 0, 30), ("m", "w", E + 1, 1, 480, 0))
    out = judged(rows, {("m", E - 1): -20, ("m", E): -500, ("m", E + 1): 0})
    assert out.outcomes.rows() == [("m", E, 1, "recorded", 0, None), ("m", E + 1, 1, "booked", 10, None)]


def test_no_corrections_give_no_run():
    out = judged(corrections(), {("m", E): 1})
    assert (out.epoch, out.shifts, out.outcomes.height) == (None, (), 0)


@given(before=st.integers(-2_000, 2_000), after=st.integers(-2_000, 2_000), moved=st.integers(-2_000, 2_000))
def test_x_is_the_same_change_of_minted_and_of_deficit_and_never_more_than_the_shift(before, after, moved):
    x = shift_x_wh(before, after, moved)
    deficit = [max(-value, 0) for value in (before, after, before + moved, after - moved)]
    assert x == deficit[2] + deficit[3] - deficit[0] - deficit[1]
    assert abs(x) <= abs(moved)
    assert shift_x_wh(before + moved, after - moved, -moved) == -x
    if x < 0:
        assert min(before, after) < 0 < max(before, after)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_order_of_rows_does_not_matter(order):
    rows = corrections(("m", "w", E, 1, -200, 0), ("n", "w", E, 1, 0, 9), ("m", "w", E, 2, 3, 0))
    nets = {**SURPLUS_THEN_DEFICIT, ("n", E - 1): -5, ("n", E): -9}
    out = judged(rows[list(order)], nets, residual=(("w", E, 500),), grid=7)
    assert out.outcomes.equals(judged(rows, nets, residual=(("w", E, 500),), grid=7).outcomes)
