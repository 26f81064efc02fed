"""`gridtokenx market clear`: the same book from every format, whole results, charges, networks, many books."""

from __future__ import annotations

import json
import random

import pytest

from tests.unit.market_cli.clearing_files import THB, Run, order, write_book

BOOK = [
    order("bid", "buy", 1_000, 4 * THB, placed_at=1, zone_id=1, wallet="ann"),
    order("ask", "sell", 600, 3 * THB, placed_at=2, zone_id=1, wallet="bob"),
    order("dear", "sell", 600, 3_500_000, placed_at=3, zone_id=1, wallet="cid"),
]
RESULT = {
    "price_uthb_per_kwh": 3_500_000,
    "volume_wh": 1_000,
    "fills": [
        {"order_id": "bid", "filled_wh": 1_000, "price_uthb_per_kwh": 3_500_000},
        {"order_id": "ask", "filled_wh": 600, "price_uthb_per_kwh": 3_500_000},
        {"order_id": "dear", "filled_wh": 400, "price_uthb_per_kwh": 3_500_000},
    ],
    "matches": [
        {
            "match_id": 1,
            "buy_order_id": "bid",
            "sell_order_id": "ask",
            "buyer": "ann",
            "seller": "bob",
            "energy_wh": 600,
            "price_uthb_per_kwh": 3_500_000,
        },
        {
            "match_id": 2,
            "buy_order_id": "bid",
            "sell_order_id": "dear",
            "buyer": "ann",
            "seller": "cid",
            "energy_wh": 400,
            "price_uthb_per_kwh": 3_500_000,
        },
    ],
    "zones": [
        {
            "zone_id": 1,
            "price_uthb_per_kwh": 3_500_000,
            "zone_wheeling_uthb_per_kwh": 0,
            "bought_wh": 1_000,
            "sold_wh": 1_000,
        }
    ],
    "flows": [],
}


def by_id(fills: list[dict]) -> dict:
    return {fill["order_id"]: fill for fill in fills}


def same(found: dict, expected: dict) -> None:
    assert by_id(found["fills"]) == by_id(expected["fills"])
    assert {k: v for k, v in found.items() if k != "fills"} == {k: v for k, v in expected.items() if k != "fills"}


@pytest.mark.parametrize("suffix", [".json", ".csv", ".parquet"])
def test_the_same_book_clears_alike_from_every_format(tmp_path, suffix):
    run = Run("clear", write_book(tmp_path, BOOK, suffix), "--json")
    assert (run.code, run.error) == (0, "")
    same(run.json, RESULT)


def test_row_order_never_changes_the_document(tmp_path):
    first = Run("clear", write_book(tmp_path, BOOK), "--json").out
    shuffled = list(BOOK)
    random.Random(1).shuffle(shuffled)  # noqa: S311
    assert Run("clear", write_book(tmp_path, shuffled), "--json").out == first


def test_sides_numbers_and_times_are_read_as_people_write_them(tmp_path):
    orders = [
        order("bid", 0, 1000.0, "4000000", placed_at="2026-01-27T12:00:00Z", wallet="ann"),
        order("ask", "SELL", "600", 3e6, placed_at="2026-01-27T19:00:00.5+07:00", wallet="bob"),
        order("dear", "1", "600.0", 3_500_000, placed_at=1_769_515_201_000_000, wallet="cid"),
    ]
    run = Run("clear", write_book(tmp_path, orders), "--json")
    assert (run.code, run.error) == (0, "")
    same(run.json, RESULT)


def test_wallet_zone_and_time_may_be_missing(tmp_path):
    orders = [{key: row[key] for key in ("order_id", "side", "energy_wh", "limit_price")} for row in BOOK]
    found = Run("clear", write_book(tmp_path, orders), "--json").json
    assert by_id(found["fills"]) == by_id(RESULT["fills"])


def test_continuous_needs_to_know_when_orders_arrived(tmp_path):
    orders = [{key: row[key] for key in ("order_id", "side", "energy_wh", "limit_price")} for row in BOOK]
    run = Run("clear", write_book(tmp_path, orders), "--mechanism", "continuous", "--json")
    assert (run.code, run.out) == (1, "")
    assert "book had no placed_at" in run.error


def test_ids_come_out_as_they_went_in_and_numbers_order_by_value(tmp_path):
    orders = [order(10, "buy", 5, 3 * THB), order(9, "buy", 5, 3 * THB), order(1, "sell", 6, 3 * THB)]
    expected = {9: 5, 10: 1, 1: 6}
    for suffix in (".json", ".parquet"):
        fills = Run("clear", write_book(tmp_path, orders, suffix), "--json").json["fills"]
        assert {fill["order_id"]: fill["filled_wh"] for fill in fills} == expected
    fills = Run("clear", write_book(tmp_path, orders, ".csv"), "--json").json["fills"]
    assert {fill["order_id"]: fill["filled_wh"] for fill in fills} == {str(key): wh for key, wh in expected.items()}


def test_pay_as_bid_gives_each_match_its_price_and_no_common_one(tmp_path):
    found = Run("clear", write_book(tmp_path, BOOK), "--json", "--mechanism", "pay_as_bid").json
    assert found["price_uthb_per_kwh"] == 4 * THB  # the bid came first, so both matches are at its limit
    late = [BOOK[0] | {"placed_at": 9}, *BOOK[1:]]
    found = Run("clear", write_book(tmp_path, late), "--json", "--mechanism", "pay_as_bid").json
    assert found["price_uthb_per_kwh"] is None
    assert [match["price_uthb_per_kwh"] for match in found["matches"]] == [3 * THB, 3_500_000]
    assert by_id(found["fills"])["bid"]["price_uthb_per_kwh"] == (600 * 3 * THB + 400 * 3_500_000) // 1_000


def test_charges_are_only_taken_where_a_file_gives_them(tmp_path):
    charges = tmp_path / "charges.json"
    charges.write_text(json.dumps({"fee_bp": 100, "vat_bp": 700, "zone_wheeling_uthb_per_kwh": 50_000}))
    found = Run("clear", write_book(tmp_path, BOOK), "--json", "--charges", charges).json
    assert found["price_uthb_per_kwh"] == 3_535_354  # ⌈3.50 ÷ 0.99⌉: the dear offer is partly filled
    ann = next(row for row in found["charges"] if row["wallet"] == "ann")
    assert ann == {
        "wallet": "ann",
        "zone_id": 1,
        "traded_wh": 1_000,
        "cost_uthb": 3_585_354,
        "energy_cost_uthb": 3_535_354,
        "zone_wheeling_uthb": 50_000,
        "value_uthb": 0,
        "fee_uthb": 0,
        "proceeds_uthb": 0,
        "vat_wheeling_uthb": 50_000 * 700 // 10_700,
        "vat_fee_uthb": 0,
    }
    assert "charges" not in Run("clear", write_book(tmp_path, BOOK), "--json").json


def test_zones_couple_over_a_network_and_stand_alone_without(tmp_path):
    network = tmp_path / "zones.json"
    link = {"link_id": 1, "from_zone": 1, "to_zone": 2, "capacity_forward_wh": 300, "capacity_backward_wh": 300}
    network.write_text(json.dumps({"zones": [{"zone_id": 1}, {"zone_id": 2}], "links": [link]}))
    book = write_book(tmp_path, [BOOK[0] | {"zone_id": 2}, *BOOK[1:]])
    found = Run("clear", book, "--json", "--network", network).json
    assert found["price_uthb_per_kwh"] is None
    assert {zone["zone_id"]: zone["price_uthb_per_kwh"] for zone in found["zones"]} == {1: 3 * THB, 2: 4 * THB}
    assert [(flow["link_id"], flow["sent_wh"]) for flow in found["flows"]] == [(1, 300)]
    assert Run("clear", book, "--json", "--mechanism", "zonal").json["volume_wh"] == 0
    assert Run("clear", book, "--json").json["volume_wh"] == 1_000


def test_a_file_of_lines_gives_a_result_for_every_book(tmp_path):
    path = tmp_path / "books.jsonl"
    bad = [BOOK[0] | {"energy_wh": -1}, *BOOK[1:]]
    books = [{"book_id": "x", "orders": BOOK}, {"book_id": 2, "orders": []}, {"book_id": "bad", "orders": bad}]
    path.write_text("\n".join(json.dumps(book) for book in books) + '\n\n{"book_id": "odd"}\n{"orders": [\n')
    run = Run("clear", path, "--json")
    first, empty, half, odd, broken = run.lines
    same(first, {"book_id": "x"} | RESULT)
    assert empty == {
        "book_id": 2,
        "price_uthb_per_kwh": None,
        "volume_wh": 0,
        "fills": [],
        "matches": [],
        "zones": [empty["zones"][0]],
        "flows": [],
    }
    assert (half["volume_wh"], half["refused"][0]["order_id"], half["refused"][0]["line"]) == (0, "bid", 3)
    assert odd["book_id"] == "odd"
    assert "line 5" in odd["error"]
    assert broken["book_id"] == 5
    assert "line 6" in broken["error"]
    assert run.code == 1


def test_people_read_tables_with_exact_decimals(tmp_path):
    run = Run("clear", write_book(tmp_path, BOOK))
    assert run.code == 0
    for words in ("3.500000 THB/kWh", "1.000 kWh bought", "2 whole, 1 in part, 0 not", "dear", "0.400"):
        assert words in run.out


def test_no_float_is_in_any_result(tmp_path):
    orders = [row | {"energy_wh": float(row["energy_wh"]), "limit_price": float(row["limit_price"])} for row in BOOK]

    def walk(value):
        assert not isinstance(value, float)
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(inner)

    for mechanism in ("uniform", "zonal", "pay_as_bid"):
        walk(Run("clear", write_book(tmp_path, orders), "--json", "--mechanism", mechanism).json)


def test_without_limits_any_whole_price_clears_negative_ones_too(tmp_path):
    orders = [
        order("wind", "sell", 3_000_000, -50_000_001, placed_at=1),
        order("hydro", "sell", 10, 0, placed_at=2),
        order("load", "buy", 2_000_000, -1, placed_at=3),
    ]
    assert Run("clear", write_book(tmp_path, orders), "--json").code == 1
    for mechanism in ("uniform", "zonal"):
        run = Run("clear", write_book(tmp_path, orders), "--json", "--limits", "none", "--mechanism", mechanism)
        assert (run.code, run.json["price_uthb_per_kwh"]) == (0, -50_000_001)
        assert {fill["order_id"]: fill["filled_wh"] for fill in run.json["fills"]} == {
            "wind": 2_000_000,
            "load": 2_000_000,
        }
