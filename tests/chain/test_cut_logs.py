"""Logs that the runtime cut off at 10 kB: a stranger's stop nobody, the market's own are never passed over."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction, VersionedTransaction

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import _transaction_info
from gridtokenx_pipelines.chain.errors import ChainError
from gridtokenx_pipelines.chain.market_events import _events_of, _layouts, decode_logs
from gridtokenx_pipelines.chain.programs_run import LOG_CUT, programs_run
from tests.chain.svm import key

STRANGER = key("a stranger's program").pubkey()
TRADING = addresses.program_id("trading")
ROW = {"signature": "1" * 64, "slot": 1, "blockTime": 1}


def answer(program: Pubkey, inner: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A `getTransaction` answer of a call that names the market and trading, its log cut off."""
    named = [AccountMeta(addresses.market(), False, False), AccountMeta(TRADING, False, False)]
    payer = key("payer")
    message = Message.new_with_blockhash([Instruction(program, b"", named)], payer.pubkey(), Hash.default())
    raw = bytes(VersionedTransaction.from_legacy(Transaction([payer], message, Hash.default())))
    logs = [f"Program {program} invoke [1]", "Program log: " + "x" * 9_000, LOG_CUT]
    meta = {"err": None, "fee": 5_000, "computeUnitsConsumed": 1, "logMessages": logs, "innerInstructions": inner or []}
    return {"slot": 1, "meta": meta, "transaction": [base64.b64encode(raw).decode(), "base64"]}


def test_a_stranger_s_long_log_that_names_the_market_moved_nothing_and_stops_nobody():
    info = _transaction_info(answer(STRANGER))
    assert info is not None
    assert info.programs == {str(STRANGER)}
    assert list(_events_of(ROW, info)) == []


def test_a_cut_log_of_the_market_s_own_call_is_never_passed_over():
    keys = VersionedTransaction.from_bytes(base64.b64decode(answer(STRANGER)["transaction"][0])).message.account_keys
    called = [{"index": 0, "instructions": [{"programIdIndex": keys.index(TRADING), "accounts": [], "data": ""}]}]
    for told in (answer(TRADING), answer(STRANGER, called)):
        info = _transaction_info(told)
        assert info is not None
        with pytest.raises(ChainError) as failure:
            list(_events_of(ROW, info))
        assert failure.value.name == "LogTruncated"


def test_where_a_node_keeps_no_inner_instructions_every_account_may_have_been_called():
    told = answer(STRANGER)
    told["meta"]["innerInstructions"] = None
    assert str(TRADING) in programs_run(told)


def test_a_program_s_own_text_ends_nothing_that_runs():
    data = base64.b64encode(next(iter(_layouts())) + bytes(400)).decode()
    logs = [
        f"Program {TRADING} invoke [1]",
        "Program log: success",
        f"Program data: {data}",
        f"Program {TRADING} success",
    ]
    assert len(list(decode_logs(logs))) == 1
