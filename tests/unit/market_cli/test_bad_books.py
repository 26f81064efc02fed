"""What is wrong in a book file is refused by line, field, value, bound and remedy; a wrong sum never comes out."""

from __future__ import annotations

import json

import pytest

from gridtokenx_pipelines.config import ConfigError
from tests.unit.market_cli.clearing_files import THB, Run, order, write_book

GOOD = [order("bid", "buy", 10, 4 * THB), order("ask", "sell", 10, 3 * THB)]


def refused(tmp_path, row, *options, suffix=".json", others=GOOD):
    """The refusal of one bad row among good ones, which clear without it."""
    run = Run("clear", write_book(tmp_path, [*others, row], suffix), "--json", *options)
    assert run.code == 1
    assert run.json["volume_wh"] == 10
    (found,) = run.json["refused"]
    assert found["reason"] in run.error
    return found


@pytest.mark.parametrize(
    ("change", "field", "value", "bound"),
    [
        ({"energy_wh": 0}, "energy_wh", "0", "whole Wh from 1 to 1000000"),
        ({"energy_wh": -5}, "energy_wh", "-5", "whole Wh from 1 to 1000000"),
        ({"energy_wh": 1_000_001}, "energy_wh", "1000001", "whole Wh from 1 to 1000000"),
        ({"energy_wh": 1.5}, "energy_wh", "1.5", "whole Wh from 1 to 1000000"),
        ({"energy_wh": "ten"}, "energy_wh", "ten", "whole Wh from 1 to 1000000"),
        ({"energy_wh": True}, "energy_wh", "true", "whole Wh from 1 to 1000000"),
        ({"energy_wh": None}, "energy_wh", "missing", "whole Wh from 1 to 1000000"),
        ({"energy_wh": 2**70}, "energy_wh", str(2**70), "whole Wh from 1 to 1000000"),
        ({"energy_wh": [1]}, "energy_wh", "[1]", "whole Wh from 1 to 1000000"),
        ({"limit_price": 3_000_001}, "limit_price", "3000001", "a multiple of the tick, 10000 µTHB/kWh"),
        ({"limit_price": 1_990_000}, "limit_price", "1990000", "whole µTHB/kWh from 2000000 to 8000000"),
        ({"limit_price": 8_010_000}, "limit_price", "8010000", "whole µTHB/kWh from 2000000 to 8000000"),
        ({"limit_price": -1}, "limit_price", "-1", "whole µTHB/kWh from 2000000 to 8000000"),
        ({"side": "hold"}, "side", "hold", "buy, sell, 0 (buy) or 1 (sell)"),
        ({"side": 2}, "side", "2", "buy, sell, 0 (buy) or 1 (sell)"),
        ({"zone_id": 0}, "zone_id", "0", "a whole number from 1"),
        ({"zone_id": 1.5}, "zone_id", "1.5", "a whole number from 1"),
        (
            {"placed_at": "noon"},
            "placed_at",
            "noon",
            "µs since 1970 or an ISO 8601 time such as 2026-01-27T12:00:00Z",
        ),
        ({"order_id": None}, "order_id", "missing", "a text or number"),
    ],
)
def test_a_bad_value_is_named_with_its_bound(tmp_path, change, field, value, bound):
    found = refused(tmp_path, order("bad", "sell", 10, 3 * THB) | change)
    assert (found["field"], found["value"], found["bound"]) == (field, value, bound)


@pytest.mark.parametrize(("suffix", "line"), [(".json", 1), (".csv", 4), (".parquet", None)])
def test_the_line_of_the_file_is_named_where_it_has_lines(tmp_path, suffix, line):
    found = refused(tmp_path, order("bad", "sell", 0, 3 * THB), suffix=suffix)
    assert (found["line"], found["row"], found["order_id"]) == (line, 3, "bad")


def test_lines_are_counted_over_empty_ones_and_over_quoted_ones(tmp_path):
    path = tmp_path / "book.csv"
    path.write_text(
        'order_id,side,energy_wh,limit_price,note\nbid,buy,10,4000000,"two\nlines"\n\nask,sell,10,3000000,\nbad,sell,,,\n'
    )
    run = Run("clear", path, "--json")
    assert [(each["line"], each["field"], each["value"]) for each in run.json["refused"]] == [
        (6, "energy_wh", "missing")
    ]
    pretty = tmp_path / "book.json"
    pretty.write_text(json.dumps({"orders": [*GOOD, order("bad", "sell", 0, 3 * THB)]}, indent=1))
    (found,) = Run("clear", pretty, "--json").json["refused"]
    assert pretty.read_text().splitlines()[found["line"]].strip() == '"order_id": "bad",'


def test_an_id_used_twice_is_refused_wherever_it_stands(tmp_path):
    orders = [*GOOD, order("twice", "buy", 5, 4 * THB), order("twice", "sell", 5, 3 * THB)]
    run = Run("clear", write_book(tmp_path, orders), "--json")
    assert [(each["row"], each["field"], each["value"]) for each in run.json["refused"]] == [
        (3, "order_id", "twice"),
        (4, "order_id", "twice"),
    ]
    assert run.json["volume_wh"] == 10


def test_the_fifty_first_order_of_a_wallet_is_refused(tmp_path):
    many = [order(f"m{number}", "sell", 1, 5 * THB, wallet="ann", placed_at=100 - number) for number in range(51)]
    found = refused(tmp_path, many[0], others=[*GOOD, *many[1:]])
    assert (found["order_id"], found["value"]) == ("m0", "order 51 of ann")
    assert Run("clear", write_book(tmp_path, [*GOOD, *many]), "--limits", "none").code == 0


def test_a_wallet_has_one_side_and_one_zone(tmp_path):
    ann = order("first", "sell", 1, 5 * THB, wallet="ann", placed_at=1)
    both = refused(tmp_path, order("other", "buy", 1, 2 * THB, wallet="ann", placed_at=2), others=[*GOOD, ann])
    assert (both["field"], both["value"]) == ("side", "buy")
    ann |= {"zone_id": 1}
    zone = refused(
        tmp_path, order("away", "sell", 1, 5 * THB, wallet="ann", placed_at=2, zone_id=2), others=[*GOOD, ann]
    )
    assert (zone["field"], zone["value"], zone["bound"]) == ("zone_id", "2", "the one zone of its wallet")


def test_a_zone_that_the_network_lacks_is_refused(tmp_path):
    network = tmp_path / "zones.json"
    network.write_text(json.dumps({"zones": [{"zone_id": 1}]}))
    found = refused(tmp_path, order("away", "sell", 1, 5 * THB, zone_id=3), "--network", network)
    assert (found["field"], found["value"], found["bound"]) == ("zone_id", "3", "a zone of the network (1)")


def test_a_bid_that_wheeling_eats_up_is_refused(tmp_path):
    charges = tmp_path / "charges.json"
    charges.write_text(json.dumps({"zone_wheeling_uthb_per_kwh": {"2": 4_000_000}}))
    found = refused(tmp_path, order("low", "buy", 1, 4 * THB, zone_id=2), "--charges", charges)
    assert (found["field"], found["value"]) == ("limit_price", "4000000")


def test_sums_beyond_64_bits_are_refused_and_never_wrong(tmp_path):
    huge = [order(f"b{number}", "buy", 2**61, 3 * THB) for number in range(5)]
    run = Run("clear", write_book(tmp_path, huge), "--limits", "none", "--json")
    assert (run.code, run.out) == (1, "")
    assert f"book had {5 * 2**61} Wh" in run.error
    one = [order("b", "buy", 2**45, 3 * THB, wallet="w"), order("s", "sell", 1, 3 * THB)]
    run = Run("clear", write_book(tmp_path, one), "--limits", "none", "--json")
    assert (run.code, run.out) == (1, "")
    assert "wallet w had" in run.error


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("book.json", "[{", "book was not JSON"),
        ("book.json", "5", "book was without a list of orders"),
        ("book.json", '{"orders": 5}', "book was without a list of orders"),
        ("book.json", "[5]", "book was without a list of orders"),
        ("book.json", '[{"order_id": 1}]', "add side, energy_wh, limit_price"),
        ("book.csv", "", "add order_id, side, energy_wh, limit_price"),
        ("book.csv", "order_id,side\n1,buy\n", "add energy_wh, limit_price"),
        ("book.csv", "order_id,side,energy_wh,limit_price\n1,buy,3,4,5\n", "line 2 had 5 values, must have 4"),
        ("book.parquet", "no", "book was not Parquet"),
        ("book.xlsx", "no", "book was a .xlsx file, must be one of"),
    ],
)
def test_what_is_no_book_is_said_in_a_line(tmp_path, name, text, words):
    path = tmp_path / name
    path.write_text(text)
    run = Run("clear", path, "--json")
    assert (run.code, run.out) == (1, "")
    assert words in run.error
    assert len(run.error.splitlines()) == 1


@pytest.mark.parametrize("orders", [[], GOOD[:1], GOOD[1:]])
def test_empty_and_one_sided_books_clear_to_nothing(tmp_path, orders):
    run = Run("clear", write_book(tmp_path, orders), "--json")
    assert run.code == 0
    assert (run.json["price_uthb_per_kwh"], run.json["volume_wh"], run.json["fills"]) == (None, 0, [])


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"zones": []}, "at least one zone"),
        ({"zones": [{"zone_id": 1}, {"zone_id": 1}]}, "used once"),
        ({"zones": [{"name": "x"}]}, "missing required field `zone_id`"),
        ({"zones": [{"zone_id": 1, "zone_wheeling_uthb_per_kwh": -1}]}, "zone_wheeling_uthb_per_kwh"),
        ({"capacity_forward_wh": -1}, "capacity_forward_wh of link 1"),
        ({"capacity_backward_wh": None}, "Expected `int`, got `null`"),
        ({"loss_ppm": 1_000_000}, "loss_ppm of link 1"),
        ({"loss_ppm": 0.5}, "Expected `int`, got `float`"),
        ({"link_wheeling_uthb_per_kwh": -3}, "link_wheeling_uthb_per_kwh of link 1"),
        ({"to_zone": 9}, "an end of link 1"),
        ({"to_zone": 1}, "another zone"),
    ],
)
def test_networks_with_missing_or_negative_data_are_refused(tmp_path, document, words):
    link = {"link_id": 1, "from_zone": 1, "to_zone": 2, "capacity_forward_wh": 1, "capacity_backward_wh": 1}
    whole = document if "zones" in document else {"zones": [{"zone_id": 1}, {"zone_id": 2}], "links": [link | document]}
    path = tmp_path / "zones.json"
    path.write_text(json.dumps(whole))
    with pytest.raises(ConfigError) as error:
        Run("clear", write_book(tmp_path, GOOD), "--network", path)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"fee_bp": 10_000}, "from 0 to 9999"),
        ({"fee_bp": -1}, "from 0 to 9999"),
        ({"free_bp": 1}, "unknown field `free_bp`"),
        ({"zone_wheeling_uthb_per_kwh": -1}, "zone_wheeling_uthb_per_kwh"),
    ],
)
def test_charges_that_cannot_be_are_refused(tmp_path, document, words):
    path = tmp_path / "charges.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError) as error:
        Run("clear", write_book(tmp_path, GOOD), "--charges", path)
    assert words in str(error.value)
