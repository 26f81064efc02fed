"""A household changes its mandate on chain, as it may at any time: later books are made on what it says now."""

from __future__ import annotations

import polars as pl
import pytest
from sqlalchemy import text

from gridtokenx_pipelines.settlement_service import mandates
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import audited, participants
from tests.assets.households import Household
from tests.assets.market_day import FIRST, net_rows, seed, wallet
from tests.assets.test_movements_on_chain import problems
from tests.assets.test_settlement_on_chain import settle


@pytest.fixture
def market(live: Services) -> Services:
    """Four epochs of energy on the live market."""
    seed(live.engine, 4, net_rows(4))
    return live


def traded(services: Services, index: int) -> dict[int, int]:
    """Wh that a household's mandate traded by epoch, 0 where it had none."""
    with services.engine.connect() as connection:
        sql = text("SELECT epoch, sum(filled_wh) FROM fills WHERE wallet = :w GROUP BY epoch ORDER BY epoch")
        return {int(epoch): int(wh) for epoch, wh in connection.execute(sql, {"w": wallet(index)})}


def test_a_revoked_and_a_changed_mandate_are_what_the_next_epochs_trade_by(market: Services) -> None:
    mandates.follow(market)
    assert settle(market, [FIRST]) == []
    assert FIRST in traded(market, 0)
    assert FIRST in traded(market, 4)
    Household(market, 0).act("revoke_mandate")
    terms = {"sell_min": 0, "buy_max": 2_000_000, "max_wh": 100_000, "expiry_epoch": 2**32 - 1, "buy_back": 0}
    Household(market, 4).act("set_mandate", **terms)
    assert mandates.follow(market) == 2
    assert mandates.follow(market) == 0
    # without following, the book would trade on what the chain no longer has, and the batch be refused for ever
    assert settle(market, [FIRST + 1, FIRST + 2, FIRST + 3]) == []
    assert problems(market, [FIRST, FIRST + 1, FIRST + 2, FIRST + 3]) == []
    assert (list(traded(market, 0)), list(traded(market, 4))) == ([FIRST], [FIRST])


def test_a_mandate_replaced_before_it_began_is_gone_and_those_of_cleared_epochs_stay(market: Services) -> None:
    mandates.follow(market)
    with market.engine.begin() as connection:
        before = audited.mandates(connection).sort("wallet", "effective_epoch")
        mine = before.filter(pl.col("wallet") == wallet(0))
        later = mine.with_columns(effective_epoch=pl.lit(FIRST + 9, pl.Int64))
        stranger = later.with_columns(wallet=pl.lit("nobody here"))
        participants.save_mandates(connection, pl.concat([later, stranger]))
        assert mandates.adopt(connection, before, FIRST + 9) == 0
        assert mandates.adopt(connection, before, FIRST + 8) == 1
        left = audited.mandates(connection).sort("wallet", "effective_epoch")
    assert left.filter(pl.col("wallet") != "nobody here").equals(before)
    assert left.filter(pl.col("wallet") == "nobody here").height == 1
