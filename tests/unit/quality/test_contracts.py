"""Contracts: every frame of the code is declared as it is, and each kind of broken rule is named."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from gridtokenx_pipelines.market import frames as market
from gridtokenx_pipelines.metering.outputs import NET_ENERGY_SCHEMA
from gridtokenx_pipelines.quality.contract import Column, Contract
from gridtokenx_pipelines.quality.contracts import (
    BOOK,
    DAILY_CONTRACTS,
    EPOCH_CONTRACTS,
    FILLS,
    FLOWS,
    MATCHES,
    NET_ENERGY,
    PARTICIPANTS,
    ZONES,
)
from gridtokenx_pipelines.quality.expectations import check_names
from gridtokenx_pipelines.quality.violations import holds, violations
from gridtokenx_pipelines.settlement_service.statements import AFTER, SUMMED

DECLARED = {
    "net_energy": (NET_ENERGY, NET_ENERGY_SCHEMA),
    "order_book": (BOOK, market.BOOK),
    "fills": (FILLS, market.FILLS),
    "matches": (MATCHES, market.MATCHES),
    "zones": (ZONES, market.ZONES),
    "flows": (FLOWS, market.FLOWS),
}
SMALL = Contract(
    name="small",
    asset="a",
    frame="rows",
    meaning="three columns",
    owner="team:x",
    key=("name",),
    columns=(
        Column("name", "key", pl.String),
        Column("energy_wh", "energy", pl.Int64, "Wh", 0, 10),
        Column("side", "side", choices=(0, 1), nullable=True),
        Column("voltage_v", "voltage", pl.Float64, "V", 207.0, 253.0, nullable=True),
    ),
    fresh_minutes=1,
    may_be_empty=False,
)


def rows(**changed: list[Any]) -> pl.DataFrame:
    values = {"name": ["a", "b"], "energy_wh": [0, 10], "side": [0, None], "voltage_v": [230.0, None]}
    return pl.DataFrame({**values, **changed}, schema=SMALL.schema)


@pytest.mark.parametrize("name", DECLARED)
def test_a_frame_is_declared_with_the_columns_and_types_that_the_code_gives_it(name: str) -> None:
    contract, schema = DECLARED[name]
    assert list(contract.schema.items()) == list(schema.items())


def test_the_statement_is_declared_with_every_amount_it_sums() -> None:
    assert list(PARTICIPANTS.schema) == ["wallet", "zone_id", *SUMMED, *AFTER, "vat_uthb", "saved_uthb"]


@pytest.mark.parametrize("contract", [*EPOCH_CONTRACTS, *DAILY_CONTRACTS], ids=lambda each: each.name)
def test_every_column_says_what_it_means_and_quantities_carry_their_unit(contract: Contract) -> None:
    assert set(contract.key) <= set(contract.schema)
    for column in contract.columns:
        assert column.meaning
        for ending, unit in (("_wh", "Wh"), ("_uthb", "µTHB"), ("_uthb_per_kwh", "µTHB/kWh"), ("_us", "µs UTC")):
            if column.name.endswith(ending):
                assert column.unit == unit, column.name


def test_rows_as_declared_break_nothing() -> None:
    assert violations(SMALL, rows()) == []


@pytest.mark.parametrize(
    ("changed", "words", "failing"),
    [
        ({"energy_wh": [0, 11]}, "small.energy_wh: must be 0 … 10 Wh, broken by 1 rows", ["b"]),
        ({"energy_wh": [-1, 11]}, "small.energy_wh: must be 0 … 10 Wh, broken by 2 rows", ["a", "b"]),
        ({"energy_wh": [None, 1]}, "small.energy_wh: must not be null, broken by 1 rows", ["a"]),
        ({"side": [2, None]}, "small.side: must be one of 0, 1, broken by 1 rows", ["a"]),
        ({"voltage_v": [float("nan"), 230.0]}, "small.voltage_v: must be 207.0 … 253.0 V, broken by 1 rows", ["a"]),
        ({"name": ["a", "a"]}, "small.name: must be unique, broken by 2 rows", ["a", "a"]),
    ],
)
def test_a_broken_rule_is_named_with_its_bound_and_rows(
    changed: dict[str, list[Any]], words: str, failing: list[str]
) -> None:
    (found,) = violations(SMALL, rows(**changed))
    assert (found.words, found.failing["name"].to_list()) == (words, failing)


def test_a_missing_column_a_wrong_type_and_an_empty_table_are_each_named() -> None:
    (lacking,) = violations(SMALL, rows().drop("side"))
    assert lacking.words == "small.side: must be a column, broken by 2 rows"
    (wrong,) = violations(SMALL, rows().with_columns(pl.col("energy_wh").cast(pl.Float64)))
    assert wrong.words == "small.energy_wh: must be of type Int64, was Float64, broken by 2 rows"
    (empty,) = violations(SMALL, rows().clear())
    assert empty.words == "small.name: must have rows, broken by 1 rows"


def test_great_expectations_finds_what_polars_finds(tmp_path) -> None:
    from gridtokenx_pipelines.quality.expectations import validate  # noqa: PLC0415 - seconds of import

    good = validate(SMALL, rows(), run_name="2026-06-15", pages=tmp_path / "pages")
    assert sorted(each.check for each in good) == sorted(check_names(SMALL))
    assert [each.check for each in good if not each.passed] == []
    page = (tmp_path / "pages" / "index.html").read_text()
    assert "small" in page

    bad = rows(name=["a", "a"], energy_wh=[0, 11], side=[2, None], voltage_v=[100.0, None])
    found = {each.check: each for each in validate(SMALL, bad, run_name="x") if not each.passed}
    assert set(found) == {"key_unique", "energy_wh_range", "side_choices", "voltage_v_range"}
    assert found["energy_wh_range"].failing == [{"energy_wh": 11, "name": "a"}]
    assert (found["energy_wh_range"].severity, found["energy_wh_range"].observed) == (
        "critical",
        "1 of 2 rows unexpected",
    )
    (lacking,) = [each for each in validate(SMALL, rows().drop("side"), run_name="x") if each.check == "side_choices"]
    assert (lacking.passed, 'column "side"' in lacking.observed) == (False, True)
    (empty,) = [each for each in validate(SMALL, rows().clear(), run_name="x") if not each.passed]
    assert (empty.check, empty.observed) == ("row_count", "observed 0")


@pytest.mark.parametrize(
    "second",
    [
        {},
        {"name": ["c", "d"]},
        {"energy_wh": [0, 11]},
        {"energy_wh": [-1, 0]},
        {"side": [2, None]},
        {"voltage_v": [float("nan"), None]},
        {"name": ["a", "a"]},
        {"name": ["a", None]},
    ],
)
def test_two_epochs_hold_together_exactly_where_neither_violates_anything_alone(second: dict[str, list[Any]]) -> None:
    parts = [rows(), rows(**second)]
    whole = pl.concat([part.with_columns(pl.lit(at, pl.Int64).alias("at")) for at, part in enumerate(parts)])
    assert holds(SMALL, whole, "at") == (not any(violations(SMALL, part) for part in parts))


def test_a_frame_of_many_epochs_that_lacks_a_column_does_not_hold() -> None:
    assert not holds(SMALL, rows().drop("side").with_columns(at=pl.lit(1)), "at")
