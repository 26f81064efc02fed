"""Names sorted by 64-bit keys stand as a sort of their bytes puts them, whatever they begin or end with."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx_pipelines.market import names
from gridtokenx_pipelines.market.kernel import order_of

TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", "a", "a\x00", "a\x00\x00", "order 1", "order 10", "é" * 9, "é" * 9 + "x", "a" * 30]),
    st.integers(0, 99).map(lambda number: f"a wallet with a long name in front {number}"),
)


@settings(max_examples=400)
@given(st.lists(TEXTS, max_size=40, unique=True))
def test_distinct_names_stand_in_the_order_of_their_bytes(drawn):
    few, names.FEW = names.FEW, 0
    try:
        order = names.order_of_names(pl.Series(drawn, dtype=pl.String))
    finally:
        names.FEW = few
    assert [drawn[row] for row in order] == sorted(drawn, key=str.encode)


@settings(max_examples=300)
@given(st.lists(st.one_of(st.binary(max_size=20), TEXTS.map(str.encode)), max_size=40))
def test_ranks_are_equal_only_for_equal_names(drawn):
    keys = names.ranks_of_names(pl.Series(drawn, dtype=pl.Binary))
    ranked = list(zip(*(key.tolist() for key in keys), strict=True))
    assert [drawn[row] for row in order_of(keys)] == sorted(drawn)
    for first, rank in zip(drawn, ranked, strict=True):
        assert [other == rank for other in ranked] == [other == first for other in drawn]
