"""The Merkle tree of abi.md."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtokenx_pipelines.market import roots


def _leaf(row: bytes) -> bytes:
    return sha256(b"\0" + row).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def test_one_row_is_its_own_root():
    assert roots.merkle_root([b"a"]) == _leaf(b"a")
    assert roots.proof([b"a"], 0) == ()


def test_three_rows_are_padded_with_zeros_to_four():
    a, b, c = (_leaf(row) for row in (b"a", b"b", b"c"))
    assert roots.merkle_root([b"a", b"b", b"c"]) == _node(_node(a, b), _node(c, bytes(32)))
    assert roots.proof([b"a", b"b", b"c"], 2) == (bytes(32), _node(a, b))


def test_no_rows_have_the_zero_root():
    assert roots.merkle_root([]) == bytes(32)


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=20), st.data())
def test_every_row_is_proven_and_no_other(rows, data):
    tree = roots.tree_of(rows)
    index = data.draw(st.integers(0, len(rows) - 1))
    siblings = tree.proof(index)
    assert roots.verify(tree.root, rows[index], index, siblings)
    assert not roots.verify(tree.root, rows[index] + b"x", index, siblings)
    assert not roots.verify(tree.root, rows[index], index + (1 << len(siblings)), siblings)


def test_a_proof_of_a_leaf_that_is_not_there_is_refused():
    with pytest.raises(IndexError, match="leaf was 3, must lie in 0…2"):
        roots.proof([b"a", b"b", b"c"], 3)
