"""`gridtokenx market explain`, `plot` and `stats` on a folder as settlement leaves it, with a real database."""

from __future__ import annotations

import json

import pytest

from gridtokenx_pipelines.config import ConfigError
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.market import frames
from gridtokenx_pipelines.store.orders import save_orders
from gridtokenx_pipelines.store.postgres import engine, quoted
from tests.unit.market.books import BUY, EPOCH, SELL, THB, order_id, order_row
from tests.unit.market_cli.clearing_files import Run
from tests.unit.market_cli.market_folder import commit, write_folder

KEY = key_of(EPOCH)


def explain(number: int, folder, url, epoch: str = KEY) -> Run:
    return Run("explain", order_id(number).hex(), epoch, "--data-dir", folder, "--database-url", url)


def words(run: Run) -> list[str]:
    return [line.strip() for line in run.out.splitlines()]


def test_a_whole_fill_says_what_it_got_and_how_its_zone_is_joined(tmp_path, postgres_url):
    commit(postgres_url, write_folder(tmp_path))
    run = explain(3, tmp_path, postgres_url)
    said = words(run)
    assert run.code == 0
    assert said[0] == f"order {order_id(3).hex()}, {KEY}: filled"
    assert "for at least 2.000000 THB/kWh with all charges" in said[1]
    assert said[2:] == [
        "with the fee of 1 % it competes as an offer at 2.020203 THB/kWh",
        "filled whole, at 3.000000 THB/kWh (zonal)",
        "that is 0.979797 THB/kWh above its offer",
        "after the fee it earns about 1.782000 THB (charges are summed once per wallet)",
        "link 1 sent to zone 2 at 4.000000 THB/kWh 0.300 of 0.300 kWh: full, so it keeps the prices apart",
    ]


def test_a_partly_filled_order_is_marginal(tmp_path, postgres_url):
    commit(postgres_url, write_folder(tmp_path))
    said = words(explain(4, tmp_path, postgres_url))
    assert said[0].endswith("partly filled")
    assert "filled in part, 0.200 of 0.600 kWh, at 3.000000 THB/kWh (zonal)" in said
    assert "its net limit is the zone's price, 3.000000 THB/kWh: it is marginal, only part at it could trade" in said


def test_an_order_at_the_price_that_came_later_names_who_came_before(tmp_path, postgres_url):
    commit(postgres_url, write_folder(tmp_path))
    said = words(explain(6, tmp_path, postgres_url))
    assert said[0].endswith("not filled")
    assert "1 orders at the same price in its zone came before it by time or id, with 0.600 kWh" in said


def test_an_order_beyond_the_price_is_told_which_limit_would_have_reached_it(tmp_path, postgres_url):
    commit(postgres_url, write_folder(tmp_path))
    assert (
        "its bid was below the zone's price of 3.000000; a limit of at least 3.100000 THB/kWh would have reached the "
        "price"
    ) in words(explain(7, tmp_path, postgres_url))


def test_what_the_book_dropped_is_named_with_its_reason(tmp_path, postgres_url):
    write_folder(tmp_path)
    run = explain(8, tmp_path, postgres_url)
    assert run.code == 0
    assert "it did not enter the book: nothing of it was covered" in run.out


def test_a_halted_epoch_explains_every_order(tmp_path, postgres_url):
    result = write_folder(tmp_path)
    commit(postgres_url, result, halted=True)
    assert "the epoch was halted: it has no trades" in explain(7, tmp_path, postgres_url).out


@pytest.mark.parametrize(
    ("mechanism", "number", "expected"),
    [
        ("uniform", 7, "its bid was below the zone's price"),
        ("pay_as_bid", 7, "it found no counterpart: orders with better priority took every offer in the market"),
        ("pay_as_bid", 1, "filled whole, at 4.000000 THB/kWh (pay_as_bid)"),
    ],
)
def test_other_mechanisms_are_explained_by_their_own_rules(tmp_path, postgres_url, mechanism, number, expected):
    commit(postgres_url, write_folder(tmp_path, mechanism=mechanism))
    run = explain(number, tmp_path, postgres_url)
    assert expected in run.out
    assert "link 1" not in run.out


def test_the_beginning_of_an_id_is_enough_where_it_names_one_order(tmp_path, postgres_url):
    commit(postgres_url, write_folder(tmp_path))
    short = Run("explain", "0000", KEY, "--data-dir", tmp_path, "--database-url", postgres_url)
    assert (short.code, short.out) == (1, "")
    assert "8 orders of" in short.error
    none = Run("explain", "ffff", KEY, "--data-dir", tmp_path, "--database-url", postgres_url)
    assert "no order of" in none.error


def test_orders_of_no_book_are_found_in_the_tables(tmp_path, postgres_url):
    write_folder(tmp_path)
    made = engine(postgres_url)
    orders = [order_row(number, BUY, 1, 3 * THB, epoch=EPOCH) for number in (20, 21)]
    orders.append(order_row(22, BUY, 1, 3 * THB, epoch=EPOCH + 9))
    with made.begin() as connection:
        save_orders(connection, frames.frame(frames.ORDERS, orders))
        for number, status in ((20, "cancelled"), (21, "rejected")):
            connection.exec_driver_sql(
                f"UPDATE {quoted('orders')} SET status = %s, reason = 'why' WHERE order_id = %s",  # noqa: S608
                (status, order_id(number)),
            )
        connection.exec_driver_sql(
            'INSERT INTO dead_letters (topic, partition, "offset", reason_code, reason, detail, value) '
            "VALUES ('orders', 0, 1, 13, 'price_tick', 'limit was 3', %s)",
            (b"tag" + order_id(23) + b"rest",),
        )
    made.dispose()
    assert "cancelled it before the gate" in explain(20, tmp_path, postgres_url).out
    assert "it was refused: why" in explain(21, tmp_path, postgres_url).out
    other = explain(22, tmp_path, postgres_url)
    assert (other.code, key_of(EPOCH + 9) in other.out) == (1, True)
    assert "the intake refused it: price_tick (limit was 3)" in explain(23, tmp_path, postgres_url).out
    never = explain(24, tmp_path, postgres_url)
    assert (never.code, "no such order was ever received" in never.out) == (1, True)


def test_an_explanation_is_also_a_document(tmp_path, postgres_url):
    commit(postgres_url, write_folder(tmp_path))
    run = Run(
        "explain", order_id(7).hex(), str(EPOCH), "--data-dir", tmp_path, "--database-url", postgres_url, "--json"
    )
    found = json.loads(run.out)
    assert (found["order_id"], found["epoch"], found["verdict"]) == (order_id(7).hex(), KEY, "not_filled")
    assert len(found["words"]) == 4


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_plot_is_the_same_picture_every_time(tmp_path, suffix):
    write_folder(tmp_path)
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    for path in (first, second):
        run = Run("plot", KEY, "--data-dir", tmp_path, "--output", path)
        assert (run.code, run.out.strip()) == (0, str(path))
    assert first.read_bytes() == second.read_bytes()
    if suffix == ".svg":
        drawn = first.read_text()
        for text in ("zone 1: 3.000000 THB/kWh", "zone 2: 4.000000 THB/kWh", "bought 0.500 kWh, sold 0.800 kWh"):
            assert text in drawn


def test_one_area_is_drawn_as_one_and_an_epoch_without_trades_too(tmp_path):
    write_folder(tmp_path, mechanism="pay_as_bid")
    path = tmp_path / "one.svg"
    assert Run("plot", KEY, "--data-dir", tmp_path, "--output", path).code == 0
    assert "all zones" in path.read_text()
    write_folder(tmp_path, rows=[])
    assert Run("plot", KEY, "--data-dir", tmp_path, "--output", path).code == 0
    assert "zone 1: no price" in path.read_text()


def test_statistics_of_an_epoch_a_day_and_everything(tmp_path):
    write_folder(tmp_path)
    one = Run("stats", KEY, "--data-dir", tmp_path, "--json").json
    assert (one["epochs"], one["bought_wh"], one["rejected"]) == (1, 800, 1)
    assert one["welfare_uthb"]["total"] == sum(one["welfare_uthb"].values()) - one["welfare_uthb"]["total"]
    assert {"depth", "merit_order"} <= one.keys()
    (guiding,) = one["guiding_prices"]
    assert {name: guiding[f"{name}_uthb_per_kwh"] for name in ("reference", "display", "tariff", "feed_in")} == {
        "reference": 3_000_000 + 3_000_000 * 2_600 // (4 * 1_300),
        "display": 4_500_000,  # no meters are known: no demand to speak of
        "tariff": 4_100_000,
        "feed_in": 2_200_000,
    }
    everything = Run("stats", "--data-dir", tmp_path, "--json").json
    of_day = Run("stats", KEY[:10], "--data-dir", tmp_path, "--json").json
    assert everything == of_day
    assert (of_day["epochs"], of_day["bought_wh"], len(of_day["by_epoch"])) == (2, 1_600, 2)
    shown = Run("stats", "--data-dir", tmp_path)
    assert shown.code == 0
    for title in ("Prices", "Price bands", "Welfare", "Concentration", "Links", "Participants"):
        assert title in shown.out


def test_what_is_not_there_is_said_with_what_is(tmp_path):
    write_folder(tmp_path)
    for command in ("plot", "stats"):
        run = Run(command, "2020-01-01T00:00Z", "--data-dir", tmp_path)
        assert run.code == 1
        assert f"has 2 from {KEY} to {key_of(EPOCH + 1)}" in run.error


@pytest.mark.parametrize(
    "arguments",
    [
        ("explain", "zz", KEY),
        ("explain", "00000000", "noon"),
        ("plot", "noon"),
        ("plot", KEY, "--output", "curves.pdf"),
        ("stats", "noon"),
    ],
)
def test_wrong_words_are_a_usage_error_that_names_the_remedy(tmp_path, arguments):
    write_folder(tmp_path)
    with pytest.raises(ConfigError, match="must be"):
        Run(*arguments, "--data-dir", tmp_path)


def test_a_folder_without_cleared_epochs_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="a folder with cleared epochs"):
        Run("stats", "--data-dir", tmp_path)


def test_an_order_without_a_counterpart_names_the_best_one_left(tmp_path, postgres_url):
    far = [order_row(1, BUY, 10, 2 * THB), order_row(2, SELL, 10, 2_970_000)]
    commit(postgres_url, write_folder(tmp_path, rows=far))
    said = explain(1, tmp_path, postgres_url).out
    assert "it found no counterpart: the lowest offer left in its zone competed at 3.000000 THB/kWh" in said
    commit(postgres_url, write_folder(tmp_path, rows=far[1:]))
    assert "there was no bid in its zone" in explain(2, tmp_path, postgres_url).out
