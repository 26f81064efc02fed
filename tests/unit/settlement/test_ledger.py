"""Whole expected entries, computed by hand from domain §6 and §7."""

from __future__ import annotations

import polars as pl
import pytest

from gridtokenx_pipelines.epochs import epoch_of_key
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.settlement.frames import LedgerError, MarketAccounts, no_traded
from gridtokenx_pipelines.settlement.ledger import book_initial, book_late, book_resettlement
from gridtokenx_pipelines.settlement.resettlement import Shift

OFF_PEAK = epoch_of_key("2026-01-27T16:00Z")  # a Tuesday, 23:00 in Bangkok: 2.58 THB/kWh
ON_PEAK = epoch_of_key("2026-01-27T14:45Z")  # 21:45 in Bangkok: 4.10 THB/kWh
RULES = Rules()


def net_rows(epoch: int, *rows: tuple[str, str, int, int], **extra: object) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "meter_id": meter,
                "wallet": wallet,
                "zone_id": 1,
                "epoch": epoch,
                "revision": 0,
                "production_wh": production,
                "consumption_wh": consumption,
                "net_wh": production - consumption,
                "missing": False,
                "booked_epoch": epoch,
                **extra,
            }
            for meter, wallet, production, consumption in rows
        ]
    )


def balances(**owners: tuple[int, int, int]) -> pl.DataFrame:
    rows = [(owner, *amounts) for owner, amounts in sorted(owners.items())]
    return pl.DataFrame(rows, schema=["owner", "grid_wh", "thbc_uthb", "debt_uthb"], orient="row")


def nonzero(booking, wallet: str) -> dict[str, int]:
    row = booking.wallet_entries.row(by_predicate=pl.col("wallet") == wallet, named=True)
    left_out = ("seq", "epoch", "run", "kind", "wallet", "zone_id")
    return {name: value for name, value in row.items() if value and name not in left_out}


ZONES = pl.DataFrame(
    {
        "zone_id": [1],
        "price_uthb_per_kwh": [3_333_333],
        "zone_wheeling_uthb_per_kwh": [100_001],
        "bought_wh": [1],
        "sold_wh": [1],
    }
)
# buyer: 101 Wh × (3 333 333 + 100 001) / 1000 = 346 766.734 ↑ 346 767; energy 336 666.633 ↓ 336 666; wheeling 10 101
# seller: 101 Wh: value 336 666, fee 1 % of it ↓ 3 366, proceeds 333 300; the rent is what is left: 0
TRADED = pl.DataFrame(
    {
        "wallet": ["buyer", "seller"],
        "zone_id": [1, 1],
        "traded_wh": [101, -101],
        "cost_uthb": [346_767, 0],
        "energy_cost_uthb": [336_666, 0],
        "zone_wheeling_uthb": [10_101, 0],
        "value_uthb": [0, 336_666],
        "fee_uthb": [0, 3_366],
        "proceeds_uthb": [0, 333_300],
    }
)
BUY_BACK = pl.DataFrame({"wallet": ["seller"], "buy_back": [True]})
FUNDED = MarketAccounts(supplier_thbc_uthb=10_000_000, grid_operator_thbc_uthb=1_000)


def initial(**changes):
    arguments = {
        "seq": 7,
        "epoch": OFF_PEAK,
        "net_energy": net_rows(OFF_PEAK, ("m1", "buyer", 0, 150), ("m2", "seller", 260, 10), ("m3", "seller", 0, 40)),
        "traded": TRADED,
        "buy_back": BUY_BACK,
        "balances": balances(buyer=(20, 400_000, 0), idle=(5, 6, 7), seller=(0, 1, 300_000)),
        "accounts": FUNDED,
        "rules": RULES,
        "zones": ZONES,
    }
    return book_initial(**{**arguments, **changes})


def test_a_buyer_pays_burns_what_is_held_and_is_billed_for_the_rest():
    # held 20 + 101 bought = 121 of a deficit of 150: 29 residual × 2.58 = 74.82 ↑; 53 233 µTHB left of it, 21 587 owed
    assert nonzero(initial(), "buyer") == {
        "net_wh": -150,
        "traded_wh": 101,
        "deficit_wh": 150,
        "deficit_off_peak_wh": 150,
        "burned_wh": 121,
        "residual_wh": 29,
        "residual_off_peak_wh": 29,
        "billed_uthb": 74_820,
        "paid_to_supplier_uthb": 53_233,
        "debt_delta_uthb": 21_587,
        "cost_uthb": 346_767,
        "energy_cost_uthb": 336_666,
        "zone_wheeling_uthb": 10_101,
        "debt_after_uthb": 21_587,
    }


def test_a_seller_repays_debt_first_and_has_the_unsold_surplus_bought_back():
    # two meters net to 210: 250 minted, 40 burned inside the wallet; 101 sold, 109 bought back at 2.20 = 239.8 mTHB
    # proceeds 333 300: 300 000 repay the debt, 33 300 stay; 1 + 33 300 + 239 800
    assert nonzero(initial(), "seller") == {
        "net_wh": 210,
        "traded_wh": -101,
        "minted_wh": 250,
        "deficit_wh": 40,
        "deficit_off_peak_wh": 40,
        "burned_wh": 40,
        "debt_delta_uthb": -300_000,
        "debt_repaid_uthb": 300_000,
        "value_uthb": 336_666,
        "fee_uthb": 3_366,
        "proceeds_uthb": 333_300,
        "bought_back_wh": 109,
        "buy_back_uthb": 239_800,
        "thbc_after_uthb": 273_101,
    }


def test_run_0_moves_the_market_accounts_and_leaves_the_idle_wallet_alone():
    booking = initial()
    assert booking.accounts == MarketAccounts(
        supplier_grid_wh=109,
        supplier_thbc_uthb=10_000_000 + 53_233 + 300_000 - 239_800,
        platform_thbc_uthb=3_366,
        grid_operator_thbc_uthb=1_000 + 10_101,
    )
    assert booking.balances.rows() == [("buyer", 0, 0, 21_587), ("idle", 5, 6, 7), ("seller", 0, 273_101, 0)]
    assert booking.wallet_entries["wallet"].to_list() == ["buyer", "seller"]
    assert booking.header.zones == ((1, 3_333_333, 100_001),)
    assert booking.header.buy_back


def test_run_0_has_one_meter_entry_a_meter_with_what_it_minted_and_lacked():
    key = (7, OFF_PEAK, 0, 1)
    assert initial().meter_entries.rows() == [
        (*key, "m1", "buyer", OFF_PEAK, 0, 150, 0, 150, 0),
        (*key, "m2", "seller", OFF_PEAK, 260, 10, 250, 0, 0),
        (*key, "m3", "seller", OFF_PEAK, 0, 40, 0, 40, 0),
    ]


def test_the_ledger_rows_of_run_0_are_these():
    rows = sorted(initial().ledger_rows.rows())
    assert rows == sorted(
        [
            ("seller", "external:production", "GRID", 250, "surplus minted"),
            ("buyer", "clearing", "GRID", 101, "energy traded"),
            ("clearing", "seller", "GRID", 101, "energy traded"),
            ("external:burned", "buyer", "GRID", 121, "deficit burned"),
            ("external:burned", "seller", "GRID", 40, "deficit burned"),
            ("supplier", "seller", "GRID", 109, "surplus bought back"),
            ("clearing", "buyer", "THBC", 346_767, "purchase"),
            ("seller", "clearing", "THBC", 333_300, "sale"),
            ("supplier", "buyer", "THBC", 53_233, "bill"),
            ("seller", "supplier", "THBC", 239_800, "buy-back"),
            ("supplier", "seller", "THBC", 300_000, "debt repaid"),
            ("debt:buyer", "external:residual", "THBC", 21_587, "debt"),
            ("external:residual", "debt:seller", "THBC", 300_000, "debt"),
            ("platform", "clearing", "THBC", 3_366, "platform fees"),
            ("grid_operator", "clearing", "THBC", 10_101, "zone wheeling"),
        ]
    )


def test_without_cover_for_all_of_it_the_supplier_buys_nothing_back():
    booking = initial(accounts=MarketAccounts(supplier_thbc_uthb=239_799))
    assert not booking.header.buy_back
    assert booking.balances.rows()[2] == ("seller", 109, 33_301, 0)
    assert initial(accounts=MarketAccounts(supplier_thbc_uthb=239_800)).header.buy_back


def test_a_halted_epoch_credits_burns_and_bills_without_trades_or_buy_back():
    booking = initial(traded=no_traded(), halted=True)
    assert booking.header.halted
    assert not booking.header.buy_back
    assert booking.header.zones == ((1, 0, 100_001),)
    assert nonzero(booking, "seller") == {
        "net_wh": 210,
        "minted_wh": 250,
        "deficit_wh": 40,
        "deficit_off_peak_wh": 40,
        "burned_wh": 40,
        "grid_after_wh": 210,
        "thbc_after_uthb": 1,
        "debt_after_uthb": 300_000,
    }
    # 130 Wh residual × 2.58
    assert nonzero(booking, "buyer")["billed_uthb"] == 335_400


def test_missing_meters_and_catch_up_rows_have_no_part_in_run_0():
    missing = net_rows(OFF_PEAK, ("m8", "other", 0, 0), missing=True)
    caught_up = net_rows(OFF_PEAK, ("m9", "other", 5, 0), revision=1)
    both = pl.concat([net_rows(OFF_PEAK, ("m1", "buyer", 0, 1)), missing, caught_up])
    booking = initial(net_energy=both, traded=no_traded())
    assert booking.meter_entries["meter_id"].to_list() == ["m1"]
    assert booking.wallet_entries["wallet"].to_list() == ["buyer"]


def test_an_epoch_in_which_every_meter_is_missing_books_nothing():
    booking = initial(net_energy=net_rows(OFF_PEAK, ("m1", "buyer", 0, 0), missing=True), traded=no_traded())
    assert (booking.wallet_entries.height, booking.meter_entries.height, booking.ledger_rows.height) == (0, 0, 0)
    assert booking.balances.height == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"halted": True}, "halted but has 2 trades"),
        ({"lost_wh": 1}, "traded Wh sum to 0, must be −lost = -1"),
        ({"rent_uthb": 5}, "rent was 5 µTHB, what buyers pay leaves 0"),
        ({"balances": balances(buyer=(0, 346_766, 0), seller=(0, 0, 0))}, "purchase not covered"),
        ({"net_energy": net_rows(OFF_PEAK, ("m1", "buyer", 0, 9), ("m2", "seller", 100, 0))}, "sale not covered"),
        ({"net_energy": net_rows(OFF_PEAK, ("m1", "buyer", 0, 150))}, "wallet traded without a present meter"),
        ({"traded": pl.concat([TRADED, TRADED])}, "wallet traded twice"),
        (
            {"net_energy": net_rows(OFF_PEAK, ("m1", "buyer", 0, 150), ("m1", "seller", 260, 0))},
            "meter with two rows",
        ),
        (
            {
                "link_wheeling_uthb": 0,
                "rent_uthb": -20_000,
                "traded": TRADED.with_columns(pl.col("proceeds_uthb") + pl.Series([0, 20_000])),
            },
            "grid_operator_thbc_uthb would be -8899",
        ),
    ],
)
def test_what_the_chain_would_refuse_is_refused_with_a_reason(changes, message):
    with pytest.raises(LedgerError, match=message):
        initial(**changes)


def late_rows() -> pl.DataFrame:
    return pl.concat(
        [
            net_rows(ON_PEAK, ("m1", "w", 0, 30), revision=1, booked_epoch=OFF_PEAK),
            net_rows(OFF_PEAK - 1, ("m1", "w", 0, 50), revision=1, booked_epoch=OFF_PEAK),
            net_rows(OFF_PEAK, ("m1", "w", 10, 0), revision=1, booked_epoch=OFF_PEAK),
            net_rows(OFF_PEAK, ("m2", "v", 10, 0)),
        ]
    )


def test_late_deficits_burn_the_dearest_class_first_and_bill_the_rest_per_class():
    # held 25 + 10 surplus = 35: all 30 on-peak, 5 of 50 off-peak; 45 × 2.58 = 116.1 mTHB, 100 of it paid
    booking = book_late(
        seq=8,
        epoch=OFF_PEAK,
        run=1,
        net_energy=late_rows(),
        balances=balances(w=(25, 100_000, 0)),
        accounts=MarketAccounts(),
        rules=RULES,
    )
    assert nonzero(booking, "w") == {
        "net_wh": -70,
        "minted_wh": 10,
        "deficit_wh": 80,
        "deficit_on_peak_wh": 30,
        "deficit_off_peak_wh": 50,
        "burned_wh": 35,
        "residual_wh": 45,
        "residual_off_peak_wh": 45,
        "billed_uthb": 116_100,
        "paid_to_supplier_uthb": 100_000,
        "debt_delta_uthb": 16_100,
        "debt_after_uthb": 16_100,
    }
    assert booking.meter_entries.rows() == [(8, OFF_PEAK, 1, 2, "m1", "w", OFF_PEAK, 10, 80, 10, 80, 0)]
    assert booking.accounts.supplier_thbc_uthb == 100_000


def test_late_deficits_of_both_classes_are_billed_apart_and_rounded_up_apart():
    booking = book_late(
        seq=8,
        epoch=OFF_PEAK,
        run=1,
        net_energy=late_rows().filter(pl.col("epoch") < OFF_PEAK),
        balances=balances(w=(29, 10**9, 0)),
        accounts=MarketAccounts(),
        rules=Rules(tariff_on_peak_uthb_per_kwh=4_100_001, tariff_off_peak_uthb_per_kwh=2_580_001),
    )
    # 1 Wh on-peak: 4 100.001 ↑; 50 Wh off-peak: 129 000.05 ↑
    assert nonzero(booking, "w")["billed_uthb"] == 4_101 + 129_001


def test_a_late_run_without_rows_is_refused():
    with pytest.raises(LedgerError, match="skip its late run"):
        book_late(
            seq=8,
            epoch=ON_PEAK,
            run=1,
            net_energy=late_rows().filter(pl.col("revision") == 0),
            balances=balances(),
            accounts=MarketAccounts(),
            rules=RULES,
        )


def shift(**changes) -> Shift:
    base = {
        "meter_id": "m1",
        "wallet": "w",
        "zone_id": 1,
        "deficit_epoch": OFF_PEAK - 1,
        "surplus_epoch": OFF_PEAK,
        "x_wh": -60,
    }
    return Shift(**{**base, **changes})


def resettle(*shifts: Shift, held=(20, 0, 0), accounts=None):
    return book_resettlement(
        seq=9,
        epoch=OFF_PEAK,
        run=1,
        shifts=shifts,
        balances=balances(w=held),
        accounts=accounts or MarketAccounts(supplier_thbc_uthb=1_000_000, supplier_grid_wh=15),
        rules=RULES,
    )


def test_a_refund_is_taken_back_returned_and_rebilled_in_that_order():
    # 50 refunded × 2.58 = 129 mTHB; 20 GRID taken, 15 returned for 33 mTHB, 15 billed for 38.7 mTHB
    booking = resettle(shift(refund_wh=50, taken_back_wh=20, returned_wh=15, rebilled_wh=15))
    assert nonzero(booking, "w") == {
        "minted_wh": -45,
        "deficit_wh": -45,
        "burned_wh": -10,
        "residual_wh": -35,
        "residual_off_peak_wh": -35,
        "billed_uthb": 38_700,
        "paid_to_supplier_uthb": 71_700,
        "refund_wh": 50,
        "refund_uthb": 129_000,
        "taken_back_wh": 20,
        "returned_wh": 15,
        "returned_uthb": 33_000,
        "rebilled_wh": 15,
        "thbc_after_uthb": 57_300,
        "refund_epoch": OFF_PEAK - 1,
        "surplus_epoch": OFF_PEAK,
    }
    assert booking.accounts == MarketAccounts(supplier_thbc_uthb=1_000_000 - 129_000 + 71_700)
    assert booking.meter_entries.rows() == [(9, OFF_PEAK, 1, 3, "m1", "w", OFF_PEAK, 0, 0, -45, -45, -45)]


def test_a_refund_pays_debt_first_and_what_thbc_then_lacks_is_debt_again():
    booking = resettle(shift(refund_wh=10, rebilled_wh=10), held=(0, 0, 20_000))
    # 25 800 refunded: 20 000 repay, 5 800 pay part of the 25 800 billed
    assert nonzero(booking, "w") == {
        "minted_wh": -50,
        "deficit_wh": -50,
        "burned_wh": -50,
        "billed_uthb": 25_800,
        "paid_to_supplier_uthb": 5_800,
        "debt_repaid_uthb": 20_000,
        "refund_wh": 10,
        "refund_uthb": 25_800,
        "rebilled_wh": 10,
        "debt_after_uthb": 20_000,
        "refund_epoch": OFF_PEAK - 1,
        "surplus_epoch": OFF_PEAK,
    }


def test_a_positive_x_is_minted_and_burned_at_once():
    booking = resettle(shift(x_wh=12))
    assert nonzero(booking, "w") == {"minted_wh": 12, "deficit_wh": 12, "burned_wh": 12, "grid_after_wh": 20}


def test_two_entries_of_a_wallet_in_one_resettlement_run_are_refused():
    with pytest.raises(LedgerError, match="split them into runs"):
        resettle(shift(), shift(meter_id="m2"))
