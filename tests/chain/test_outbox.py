"""Crashes, lost answers, expiry and rivals: whatever happens, a transaction takes effect once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from sqlalchemy import Engine, text

from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.errors import ChainError, ChainUnavailable
from gridtokenx_pipelines.chain.localnet_process import LocalnetProcess
from gridtokenx_pipelines.chain.outbox import Outbox, OutboxItem
from gridtokenx_pipelines.chain.outbox_store import Key, OutboxConflict, OutboxRow
from gridtokenx_pipelines.chain.signer import KeypairSigner
from gridtokenx_pipelines.store.postgres import engine as make_engine

SOL = 10**9
PAYER_SEED = sha256(b"tests/outbox/payer").digest()
PAYER = KeypairSigner.from_seed(PAYER_SEED)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[LocalnetProcess]:
    with LocalnetProcess(tmp_path / "chain", slot_ms=10) as running:
        with ChainClient(running.url) as client:
            client.airdrop(PAYER.pubkey, 1_000 * SOL)
        yield running


@pytest.fixture
def client(process: LocalnetProcess) -> Iterator[ChainClient]:
    with ChainClient(process.url) as connected:
        yield connected


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    made = make_engine(postgres_url)
    yield made
    made.dispose()


def item(idx: int, to: Pubkey, lamports: int = SOL, step: str = "settle") -> OutboxItem:
    pay = transfer(TransferParams(from_pubkey=PAYER.pubkey, to_pubkey=to, lamports=lamports + idx))
    return OutboxItem(epoch=7, kind=1, run=0, step=step, idx=idx, instructions=(pay,), payer=PAYER)


def rows(engine: Engine, columns: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(f"SELECT {columns} FROM outbox ORDER BY idx"))]  # noqa: S608


class Flaky(ChainClient):
    """A client whose node fails before or after the transactions have reached it."""

    def __init__(self, url: str, before: int = 0, after: int = 0) -> None:
        super().__init__(url)
        self.before, self.after = before, after

    def send_many(self, raws: Sequence[bytes]) -> list[str | ChainError]:
        if self.before:
            self.before -= 1
            raise ChainUnavailable("cut before the node had it")
        answers = super().send_many(raws)
        if self.after:
            self.after -= 1
            raise ChainUnavailable("cut after the node had it")
        return answers


class Dropping(ChainClient):
    """A client behind which every transaction of the first sends is lost without a word."""

    def __init__(self, url: str, drops: int) -> None:
        super().__init__(url)
        self.drops = drops

    def send_many(self, raws: Sequence[bytes]) -> list[str | ChainError]:
        if self.drops:
            self.drops -= 1
            return ["lost"] * len(raws)
        return super().send_many(raws)


def test_many_items_go_at_once_and_give_receipts_from_the_chain(client: ChainClient, engine: Engine) -> None:
    to = Keypair().pubkey()
    receipts = Outbox(engine, client).submit([item(number, to) for number in range(300)])
    assert client.balance(to) == 300 * SOL + sum(range(300))
    infos = client.transactions([receipt.signature for receipt in receipts])
    assert [(r.idx, r.slot, r.fee_lamports, r.compute_units, r.status) for r in receipts] == [
        (number, info.slot, 5_000, 150, "ok") for number, info in enumerate(infos) if info
    ]
    with engine.connect() as connection:
        stored = connection.execute(text("SELECT count(*), min(slot), max(fee_lamports) FROM blockchain_transactions"))
        assert stored.one() == (300, min(r.slot for r in receipts), 5_000)


def test_submitting_again_sends_nothing(client: ChainClient, engine: Engine) -> None:
    to = Keypair().pubkey()
    items = [item(number, to) for number in range(5)]
    first = Outbox(engine, client).submit(items)
    count = client.call("getTransactionCount")
    assert Outbox(engine, client).submit(items) == first
    assert client.call("getTransactionCount") == count


@pytest.mark.parametrize("cut", [{"before": 1}, {"after": 1}])
def test_a_cut_connection_around_the_send_never_pays_twice(
    process: LocalnetProcess, client: ChainClient, engine: Engine, cut: dict[str, int]
) -> None:
    to = Keypair().pubkey()
    with Flaky(process.url, **cut) as flaky, pytest.raises(ChainUnavailable):
        Outbox(engine, flaky).submit([item(0, to)])
    [(stored, status)] = rows(engine, "signature, status")
    assert status == "stored"
    [receipt] = Outbox(engine, client).submit([item(0, to)])
    assert receipt.signature == stored
    assert client.balance(to) == SOL


def test_reconciling_after_a_crash_finds_the_receipt_without_sending(
    process: LocalnetProcess, client: ChainClient, engine: Engine
) -> None:
    to = Keypair().pubkey()
    with Flaky(process.url, after=1) as flaky, pytest.raises(ChainUnavailable):
        Outbox(engine, flaky).submit([item(0, to)])
    count = client.call("getTransactionCount")
    outbox = Outbox(engine, client)
    outbox.reconcile([(7, 1, 0)])
    assert rows(engine, "status") == [("confirmed",)]
    [receipt] = outbox.store.receipts_of_runs([(7, 1, 0)])[7, 1, 0]
    assert (receipt.compute_units, receipt.status) == (150, "ok")
    assert client.call("getTransactionCount") == count


def test_a_lost_transaction_is_sent_again_in_the_same_version_while_it_can_land(
    process: LocalnetProcess, engine: Engine
) -> None:
    to = Keypair().pubkey()
    with Dropping(process.url, drops=1) as dropping:
        clock = iter(range(0, 10_000, 3))
        [receipt] = Outbox(engine, dropping, clock=lambda: next(clock)).submit([item(0, to)])
        assert dropping.balance(to) == SOL
    assert rows(engine, "signature, attempts") == [(receipt.signature, 1)]


def test_an_expired_transaction_is_signed_anew_and_pays_once(process: LocalnetProcess, engine: Engine) -> None:
    # 150 slots of 10 ms: the first version expires while the network swallows it
    to = Keypair().pubkey()
    with Dropping(process.url, drops=1) as dropping:
        [receipt] = Outbox(engine, dropping, clock=lambda: 0.0).submit([item(0, to)])
        assert dropping.balance(to) == SOL
        assert rows(engine, "signature, attempts, status") == [(receipt.signature, 2, "confirmed")]


def test_a_stored_transaction_that_landed_before_it_expired_is_never_signed_anew(
    process: LocalnetProcess, client: ChainClient, engine: Engine
) -> None:
    to = Keypair().pubkey()
    with Flaky(process.url, after=1) as flaky, pytest.raises(ChainUnavailable):
        Outbox(engine, flaky).submit([item(0, to)])
    time.sleep(2.0)  # 200 slots
    [receipt] = Outbox(engine, client).submit([item(0, to)])
    assert client.balance(to) == SOL
    assert rows(engine, "signature, attempts") == [(receipt.signature, 1)]


def test_a_refused_transaction_raises_by_name_and_the_others_still_end(client: ChainClient, engine: Engine) -> None:
    to = Keypair().pubkey()
    items = [item(0, to), item(1, to, lamports=10**18), item(2, to)]
    with pytest.raises(ChainError, match=r"Custom\(1\)") as caught:
        Outbox(engine, client).submit(items)
    assert caught.value.logs[-1].endswith("custom program error: 0x1")
    assert client.balance(to) == 2 * SOL + 2
    assert rows(engine, "idx, status") == [(0, "confirmed"), (1, "failed"), (2, "confirmed")]
    client.airdrop(PAYER.pubkey, 2 * 10**18 // 10)
    with pytest.raises(ChainError):
        Outbox(engine, client).submit(items)
    assert rows(engine, "idx, attempts") == [(0, 1), (1, 2), (2, 1)]


def test_an_error_that_says_done_already_counts_as_success(client: ChainClient, engine: Engine) -> None:
    done = msgspec.structs.replace(item(0, Keypair().pubkey(), lamports=10**18), done_already=frozenset({"Custom(1)"}))
    [receipt] = Outbox(engine, client).submit([done])
    assert (receipt.status, receipt.slot, receipt.fee_lamports) == ("Custom(1)", 0, 0)
    assert rows(engine, "status, error") == [("confirmed", "Custom(1)")]
    assert Outbox(engine, client).submit([done]) == [receipt]


def test_a_rival_process_on_the_same_item_sends_the_same_version(client: ChainClient, engine: Engine) -> None:
    to = Keypair().pubkey()
    rival, mine = Outbox(engine, client), Outbox(engine, client)
    insert = mine.store.insert
    rivals: list[object] = []

    def late_insert(fresh: Sequence[OutboxRow]) -> set[Key]:
        # the rival comes first, with another blockhash
        client.forget_blockhash()
        time.sleep(0.05)
        rivals.extend(rival.submit([item(0, to)]))
        return insert(fresh)

    mine.store.insert = late_insert  # type: ignore[method-assign]
    assert mine.submit([item(0, to)]) == rivals
    assert client.balance(to) == SOL


def test_a_version_that_was_replaced_meanwhile_stops_the_slower_process(client: ChainClient, engine: Engine) -> None:
    outbox = Outbox(engine, client)
    with pytest.raises(ChainError):
        outbox.submit([item(0, Keypair().pubkey(), lamports=10**18)])
    [row] = outbox.store.rows([(7, 1, 0, "settle", 0)]).values()
    outbox.store.replace(row, msgspec.structs.replace(row, signature="newer", attempts=2))
    with pytest.raises(OutboxConflict, match="was signed anew by another process"):
        outbox.store.replace(row, msgspec.structs.replace(row, signature="mine", attempts=2))


def test_receipts_are_stamped_when_their_slot_is_finalised(client: ChainClient, engine: Engine) -> None:
    outbox = Outbox(engine, client)
    outbox.submit([item(number, Keypair().pubkey()) for number in range(3)])
    with engine.begin() as connection:
        connection.execute(text("UPDATE blockchain_transactions SET commitment = 'confirmed'"))
    time.sleep(0.2)  # 20 slots
    assert (outbox.stamp_finalized(), outbox.stamp_finalized()) == ((3, []), (0, []))
    with engine.connect() as connection:
        stamped = connection.execute(text("SELECT DISTINCT commitment FROM blockchain_transactions")).all()
    assert stamped == [("finalized",)]


def test_kill_9_of_the_sender_at_any_moment_pays_every_item_once(
    process: LocalnetProcess, client: ChainClient, engine: Engine, postgres_url: str
) -> None:
    to = Keypair().pubkey()
    script = textwrap.dedent(f"""
        from solders.pubkey import Pubkey
        from tests.chain.test_outbox import item
        from gridtokenx_pipelines.chain.client import ChainClient
        from gridtokenx_pipelines.chain.outbox import Outbox
        from gridtokenx_pipelines.store.postgres import engine
        outbox = Outbox(engine({postgres_url!r}), ChainClient({process.url!r}))
        print("ready", flush=True)
        for first in range(0, 600, 20):
            outbox.submit([item(n, Pubkey.from_string({str(to)!r})) for n in range(first, first + 20)])
    """)
    root = Path(__file__).resolve().parents[2]
    for pause in (0.005, 0.02, 0.05):
        environment = {**os.environ, "PYTHONPATH": str(root)}
        sender = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=root, env=environment)
        assert sender.stdout is not None
        assert sender.stdout.readline() == b"ready\n"
        time.sleep(pause)
        sender.kill()
        sender.wait()
    items = [item(number, to) for number in range(600)]
    receipts = Outbox(engine, client).submit(items)
    assert client.balance(to) == 600 * SOL + sum(range(600))
    assert len({receipt.signature for receipt in receipts}) == 600
