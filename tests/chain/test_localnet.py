"""The local chain's own promises: it survives kill -9, keeps time, and says what is wrong."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.errors import ChainError, ChainUnavailable
from gridtokenx_pipelines.chain.ledger_file import LocalnetError
from gridtokenx_pipelines.chain.localnet_process import LocalnetProcess
from gridtokenx_pipelines.chain.signer import KeypairSigner
from gridtokenx_pipelines.chain.transactions import sign

SOL = 10**9


def transfers(client: ChainClient, payer: KeypairSigner, to: Pubkey, first: int, count: int) -> list[bytes]:
    blockhash = client.blockhash().value
    return [
        bytes(
            sign(
                [transfer(TransferParams(from_pubkey=payer.pubkey, to_pubkey=to, lamports=SOL + number))],
                payer,
                (),
                blockhash,
            )
        )
        for number in range(first, first + count)
    ]


def test_kill_9_loses_no_acknowledged_transaction(tmp_path: Path) -> None:
    payer, to = KeypairSigner(Keypair()), Keypair().pubkey()
    acknowledged: list[str] = []
    process = LocalnetProcess(tmp_path / "chain").start()
    for round_ in range(3):
        with ChainClient(process.url) as client:
            if round_ == 0:
                client.airdrop(payer.pubkey, 10_000 * SOL)

            def send_on(client: ChainClient = client, first: int = 1_000 * round_) -> None:
                number = first
                while True:
                    try:
                        answers = client.send_many(transfers(client, payer, to, number, 10))
                    except ChainUnavailable:
                        return
                    acknowledged.extend(answer for answer in answers if isinstance(answer, str))
                    number += 10

            sender = threading.Thread(target=send_on)
            sender.start()
            time.sleep(0.3)
            process.kill()
            sender.join()
        process.start()
    with ChainClient(process.url) as client:
        statuses = client.statuses(acknowledged)
        assert len(acknowledged) > 100
        assert all(status is not None and status.err is None for status in statuses)
        landed = client.call("getTransactionCount")
        transactions = client.transactions(acknowledged[-5:])
        assert all(info is not None and info.compute_units == 150 for info in transactions)
        # what landed without being acknowledged in time is there too, and the balance is that of all that landed
        rows = client.call("getSignaturesForAddress", str(to), {"commitment": "confirmed"})
        assert len(rows) == min(landed - 1, 1_000) >= min(len(acknowledged), 1_000)
        before = (client.balance(payer.pubkey), client.balance(to), client.slot())
    process.stop()
    with process, ChainClient(process.url) as client:
        # a clean stop leaves a snapshot and nothing to replay
        assert (client.balance(payer.pubkey), client.balance(to)) == before[:2]
        assert client.slot() >= before[2]
        assert client.statuses(acknowledged[:1])[0] is not None


def test_a_torn_end_of_the_ledger_is_cut_away(tmp_path: Path) -> None:
    payer, to = KeypairSigner(Keypair()), Keypair().pubkey()
    with LocalnetProcess(tmp_path / "chain") as process, ChainClient(process.url) as client:
        client.airdrop(payer.pubkey, 100 * SOL)
        client.deliver(transfers(client, payer, to, 0, 3))
        process.kill()
    ledger = tmp_path / "chain" / "ledger.bin"
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:-7])
    with process, ChainClient(process.url) as client:
        assert client.balance(to) == 2 * SOL + 1
        client.deliver(transfers(client, payer, to, 7, 1))
        assert client.balance(to) == 3 * SOL + 8


def test_a_blockhash_from_before_a_restart_is_still_good(tmp_path: Path) -> None:
    payer, to = KeypairSigner(Keypair()), Keypair().pubkey()
    with LocalnetProcess(tmp_path / "chain", slot_ms=1_000) as process, ChainClient(process.url) as client:
        client.airdrop(payer.pubkey, 100 * SOL)
        [early, late] = transfers(client, payer, to, 0, 2)
        client.deliver([early])
        process.kill()
        process.start()
        client.deliver([late])
        [again] = client.send_many([early])
        assert client.balance(to) == 2 * SOL + 1
    assert isinstance(again, ChainError)
    assert again.name == "AlreadyProcessed"


def test_damage_inside_the_ledger_stops_the_start_with_the_remedy(tmp_path: Path) -> None:
    payer = KeypairSigner(Keypair())
    with LocalnetProcess(tmp_path / "chain") as process, ChainClient(process.url) as client:
        client.airdrop(payer.pubkey, 100 * SOL)
        client.deliver(transfers(client, payer, Keypair().pubkey(), 0, 3))
        process.kill()
    ledger = tmp_path / "chain" / "ledger.bin"
    damaged = bytearray(ledger.read_bytes())
    damaged[100] ^= 1
    ledger.write_bytes(bytes(damaged))
    with pytest.raises(LocalnetError, match="is damaged at byte 0; start with --fresh"):
        process.start()


def test_a_blockhash_expires_after_150_slots(tmp_path: Path) -> None:
    payer = KeypairSigner(Keypair())
    with LocalnetProcess(tmp_path / "chain", slot_ms=5) as process, ChainClient(process.url) as client:
        client.airdrop(payer.pubkey, 100 * SOL)
        [early, late] = transfers(client, payer, Keypair().pubkey(), 0, 2)
        last_valid = client.blockhash().last_valid_block_height
        assert client.block_height() <= last_valid
        client.deliver([early])
        while client.block_height() <= last_valid:
            time.sleep(0.05)
        [answer] = client.send_many([late])
        assert isinstance(answer, ChainError)
        assert answer.name == "BlockhashNotFound"


def test_statuses_become_finalized_some_slots_later(tmp_path: Path) -> None:
    payer = KeypairSigner(Keypair())
    with LocalnetProcess(tmp_path / "chain", slot_ms=100) as process, ChainClient(process.url) as client:
        client.airdrop(payer.pubkey, 100 * SOL)
        [signature] = client.deliver(transfers(client, payer, Keypair().pubkey(), 0, 1))
        assert client.statuses([signature])[0].confirmation == "confirmed"  # type: ignore[union-attr]
        time.sleep(1.1)
        assert client.statuses([signature])[0].confirmation == "finalized"  # type: ignore[union-attr]


def test_a_port_or_folder_in_use_is_named(tmp_path: Path) -> None:
    with LocalnetProcess(tmp_path / "one") as process:
        with pytest.raises(LocalnetError, match=rf"port {process.port} of 127.0.0.1 is in use"):
            LocalnetProcess(tmp_path / "two", port=process.port).start()
        with pytest.raises(LocalnetError, match="is in use by another local chain"):
            LocalnetProcess(tmp_path / "one").start()


def test_500_transactions_a_second_pass_through_json_rpc(tmp_path: Path) -> None:
    payer = KeypairSigner(Keypair())
    with LocalnetProcess(tmp_path / "chain") as process, ChainClient(process.url) as client:
        client.airdrop(payer.pubkey, 10_000 * SOL)
        raws = transfers(client, payer, Keypair().pubkey(), 0, 1_000)
        started = time.monotonic()
        answers = client.send_many(raws)
        seconds = time.monotonic() - started
        assert all(isinstance(answer, str) for answer in answers)
        assert len(raws) / seconds > 500
