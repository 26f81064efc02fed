"""`gridtokenx market clear --mechanism continuous --breaker`: the halt, the resumption, and wrong usage."""

from __future__ import annotations

import pytest

from gridtokenx_pipelines.config import ConfigError
from tests.unit.market_cli.clearing_files import THB, Run, order, write_book

SECOND = 1_000_000
BOOK = [
    order("s1", "sell", 10, 3 * THB, wallet="a", placed_at=1 * SECOND),
    order("b1", "buy", 10, 3 * THB, wallet="b", placed_at=2 * SECOND),
    order("s2", "sell", 10, 4 * THB, wallet="a", placed_at=3 * SECOND),
    order("b2", "buy", 10, 4 * THB, wallet="b", placed_at=4 * SECOND),
]


def cleared(folder, *options):
    return Run("clear", write_book(folder, BOOK), "--mechanism", "continuous", "--json", *options).json


def test_a_price_too_far_from_the_minute_before_halts_until_an_operator_resumes(tmp_path):
    plain = cleared(tmp_path)
    assert (plain["volume_wh"], "halted" in plain) == (20, False)
    halted = cleared(tmp_path, "--breaker")
    assert (halted["volume_wh"], halted["halted"], len(halted["halt_reasons"])) == (10, True, 1)
    resumed = cleared(tmp_path, "--resumed-at", "1970-01-01T00:00:09Z")
    assert (resumed["volume_wh"], resumed["halted"], len(resumed["halt_reasons"])) == (20, False, 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--breaker"], "must be continuous"),
        (["--mechanism", "uniform", "--resumed-at", "5"], "must be continuous"),
        (["--mechanism", "continuous", "--resumed-at", "later"], "--resumed-at was 'later'"),
    ],
)
def test_wrong_usage_of_the_breaker_stops_the_command(tmp_path, options, words):
    with pytest.raises(ConfigError, match=words):
        Run("clear", write_book(tmp_path, BOOK), *options)
