"""The circuit breaker end to end: it halts until an operator resumes, and the audit's own breaker says the same."""

from __future__ import annotations

import polars as pl
import pytest

from gridtokenx_pipelines.audit.clearings import Market, clear_books
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.market.clearing import clear
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.store import clearing
from gridtokenx_pipelines.store.postgres import engine
from tests.unit.market.books import BUY, EPOCH, SELL, THB, book_of, network, order_row
from tests.unit.market_cli.clearing_files import Run
from tests.unit.market_cli.market_folder import commit, write_folder

NET, RULES = network(0), Rules(fee_bp=0)


def at_price(thb: int) -> pl.DataFrame:
    """A book that clears at this price."""
    return book_of([order_row(1, BUY, 200, thb * THB), order_row(2, SELL, 100, 2 * THB)], NET)


@pytest.fixture
def url(tmp_path, postgres_url) -> str:
    commit(postgres_url, write_folder(tmp_path))
    return postgres_url


def test_an_operator_resumes_from_the_next_epoch_to_be_cleared(tmp_path, url):
    run = Run("resume", "--data-dir", tmp_path, "--database-url", url)
    assert (run.code, run.error) == (0, "")
    assert run.out == f"resumed from {key_of(EPOCH + 1)} on, without the prices before it\n"
    again = Run("resume", EPOCH + 1, "--data-dir", tmp_path, "--database-url", url)
    assert (again.code, again.out.split(" from ")[0]) == (0, "was resumed already")
    late = Run("resume", key_of(EPOCH), "--data-dir", tmp_path, "--database-url", url)
    assert (late.code, late.out) == (1, "")
    assert f"epoch was {key_of(EPOCH)}, must be {key_of(EPOCH + 1)} or later" in late.error
    made = engine(url)
    with made.begin() as connection:
        assert clearing.resumptions(connection) == (EPOCH + 1,)
        assert clearing.priced_history(connection, 1, EPOCH + 1, 4) == []
    made.dispose()


def test_before_a_resumption_prices_count(tmp_path, url):
    made = engine(url)
    with made.begin() as connection:
        (price,) = clearing.priced_history(connection, 1, EPOCH + 1, 4)
        assert price > 0
        clearing.resume(connection, EPOCH + 2)
        assert clearing.priced_history(connection, 1, EPOCH + 1, 4) == [price]
        assert clearing.priced_history(connection, 1, EPOCH + 2, 4) == []
    made.dispose()


def test_a_halted_epoch_has_no_trades_and_the_market_halts_until_it_is_resumed():
    """Four epochs at 3, then 7 for good: halted each time, until the prices before are forgotten."""
    far, history = at_price(7), {1: [3 * THB] * 4}
    halted = clear(far, NET, RULES, "uniform", history=history)
    assert (halted.halted, halted.volume_wh, halted.fills.height, halted.traded.height) == (True, 0, 0, 0)
    assert halted.zones["price_uthb_per_kwh"].to_list() == [None]
    assert "must lie within 5000 basis points of 3000000" in halted.halt_reasons[0]
    resumed = clear(far, NET, RULES, "uniform", history={1: []})
    assert (resumed.halted, resumed.volume_wh) == (False, 100)


@pytest.mark.parametrize(("resumed", "halts"), [((), [5, 6, 7]), ((106,), [5]), ((100,), [5, 6, 7]), ((107,), [5, 6])])
def test_the_audits_breaker_forgets_prices_where_the_market_was_resumed(resumed, halts):
    books = {100 + number: at_price(3 if number < 5 else 7) for number in range(1, 8)}
    market = Market(rules=RULES, network=NET, mechanism="uniform")
    found = clear_books(books, dict.fromkeys(books, market), {}, halted={}, resumed=resumed, processes=1)
    assert [epoch - 100 for epoch, each in found.items() if each.result.halted] == halts
