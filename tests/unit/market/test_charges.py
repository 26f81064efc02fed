"""Charges per wallet and epoch, VAT inside them."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.market.charges import charge, vat_report, vat_uthb


def zones(price: int | None, wheeling: int) -> pl.DataFrame:
    return pl.DataFrame([(1, price, wheeling, 0, 0)], schema=dict(frames.ZONES), orient="row")


def traded(**wh: int) -> pl.DataFrame:
    schema = {name: frames.TRADED[name] for name in ("wallet", "zone_id", "traded_wh")}
    return pl.DataFrame([(name, 1, amount) for name, amount in wh.items()], schema=schema, orient="row")


def test_payers_round_up_receivers_and_fees_down():
    charged = charge(traded(anna=7, ben=-7, chai=0), zones(3_333_333, 123_457), 100)
    # 7 Wh: energy 23 333.331, with wheeling 24 197.530
    assert charged.rows() == [
        ("anna", 1, 7, 24_198, 23_333, 865, 0, 0, 0),
        ("ben", 1, -7, 0, 0, 0, 23_333, 233, 23_100),
        ("chai", 1, 0, 0, 0, 0, 0, 0, 0),
    ]
    assert dict(charged.schema) == dict(frames.TRADED)


def test_energy_without_a_price_is_refused():
    with pytest.raises(ValueError, match=r"zones \[1\] traded without a price"):
        charge(traded(anna=1), zones(None, 0), 100)
    assert charge(traded(), zones(None, 0), 100).rows() == []


def test_vat_is_inside_the_charge():
    assert [vat_uthb(charge_uthb, 700) for charge_uthb in (0, 107, 106, 1_000_000)] == [0, 7, 6, 65_420]
    charged = charge(traded(anna=7, ben=-7), zones(3_333_333, 123_457), 100)
    assert vat_report(charged, 700).rows() == [("anna", 56, 0), ("ben", 0, 15)]


@given(st.integers(1, 10**9), st.integers(2_000_000, 8_300_000), st.integers(0, 10**6), st.integers(0, 9_999))
def test_charges_close_to_less_than_a_millionth_of_a_baht(wh, price, wheeling, fee_bp):
    buyer, seller = charge(traded(anna=wh, ben=-wh), zones(price, wheeling), fee_bp).rows(named=True)
    assert buyer["cost_uthb"] == buyer["energy_cost_uthb"] + buyer["zone_wheeling_uthb"]
    assert seller["value_uthb"] == seller["proceeds_uthb"] + seller["fee_uthb"]
    assert buyer["energy_cost_uthb"] == seller["value_uthb"]
    assert 0 <= buyer["cost_uthb"] * 1_000 - wh * (price + wheeling) < 1_000
