"""The outbox: a signed transaction is stored before it is sent, and the chain is asked before anything is sent again.

Belongs here: what makes settlement survive (pipeline.md §3): storing, sending, asking, re-signing, receipts.
Does not belong here: which transactions a run needs (runs), SQL (`outbox_store`).

Why nothing is ever sent twice in two versions: a new version of a transaction is signed only when the stored one's
blockhash has expired in a *finalised* block and the chain, asked after that, has never seen its signature.
Receipts are written from what the chain says of a signature, never from what was hoped when it was sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec
from solders.compute_budget import set_compute_unit_price
from solders.instruction import Instruction
from sqlalchemy import Engine

from gridtokenx_pipelines.chain.client import Blockhash, ChainClient, SignatureStatus
from gridtokenx_pipelines.chain.errors import ChainError, transaction_error
from gridtokenx_pipelines.chain.outbox_store import Key, OutboxRow, OutboxStore, Receipt
from gridtokenx_pipelines.chain.signer import Signer
from gridtokenx_pipelines.chain.transactions import LookupTable, sign, wire_size
from gridtokenx_pipelines.chain.wire import MAX_TRANSACTION_BYTES
from gridtokenx_pipelines.observability import stages

FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.005, 0.4
RESEND_SECONDS = 2.0
MAX_ATTEMPTS = 5
RECEIPT_PATIENCE_SECONDS = 20.0
# µlamports a compute unit: nothing at first; a version signed anew bids, and four times as much each time
FIRST_BID, BID_FACTOR, HIGHEST_BID = 10_000, 4, 1_000_000
STATUSES_PER_CALL = 256
# errors that say: what this transaction would do has been done already, by whomever
DONE_ALREADY = frozenset({"AlreadySettled", "OrderAlreadyRecorded"})
# refusals that say nothing about whether the transaction can still land
STILL_OPEN = frozenset({"AlreadyProcessed", "BlockhashNotFound"})


class OutboxItem(msgspec.Struct, frozen=True):
    """One transaction of a run, identified by (epoch, kind, run, step, idx); signed when it is its turn."""

    epoch: int
    kind: int
    run: int
    step: str
    idx: int
    instructions: tuple[Instruction, ...]
    payer: Signer
    signers: tuple[Signer, ...] = ()
    lookup_tables: tuple[LookupTable, ...] = ()
    done_already: frozenset[str] = DONE_ALREADY

    @property
    def key(self) -> Key:
        """Its primary key in the outbox."""
        return (self.epoch, self.kind, self.run, self.step, self.idx)


class _Flight:
    """One item on its way."""

    def __init__(self, item: OutboxItem | None, row: OutboxRow, new: bool) -> None:
        self._item, self.row, self.new = item, row, new
        # without an item (after a crash) a transaction's end is only noted
        self.done_already = DONE_ALREADY if item is None else item.done_already
        self.sent_at = float("-inf")
        self.last_refusal = ""
        self.receipt: Receipt | None = None
        self.failure: ChainError | None = None

    @property
    def item(self) -> OutboxItem:
        if self._item is None:
            raise RuntimeError(f"{self.row.key} is only being asked about, not sent")
        return self._item

    @property
    def is_open(self) -> bool:
        return self.receipt is None and self.failure is None


class Outbox:
    """Door to the chain for everything that must happen exactly once."""

    def __init__(
        self,
        engine: Engine,
        client: ChainClient,
        clock: Callable[[], float] = time.monotonic,
        highest_bid: int = HIGHEST_BID,
    ) -> None:
        self.store = OutboxStore(engine)
        self._highest_bid = highest_bid
        self.client = client
        self._clock = clock

    def submit(self, items: Sequence[OutboxItem]) -> list[Receipt]:
        """Bring all items to a confirmed end, concurrently; a receipt per item, in order.

        An item that was confirmed before costs one query. Raises the first item's ChainError after all have ended.
        """
        if not items:
            return []
        started_ns = time.time_ns()
        flights = self._board(items)
        confirmed = [flight for flight in flights if flight.row.status == "confirmed"]
        for flight, receipt in zip(confirmed, self.store.receipts([f.row for f in confirmed]), strict=True):
            flight.receipt = receipt
        self._ask([flight for flight in flights if flight.is_open and not flight.new])
        try:
            self._fly([flight for flight in flights if flight.is_open])
        finally:
            if stages.is_watched():
                _tell([flight for flight in flights if flight not in confirmed and not flight.is_open], started_ns)
        for flight in flights:
            if flight.failure is not None:
                raise flight.failure
        return [flight.receipt for flight in flights if flight.receipt is not None]

    def reconcile(self, runs: Sequence[tuple[int, int, int]]) -> None:
        """Ask the chain about every stored transaction of these runs (epoch, kind, run) that has no end yet.

        Those that landed get their receipts; the others stay stored, for `submit` to send the same bytes again.
        """
        flights = [_Flight(None, row, new=False) for row in self.store.open_rows(runs)]
        self._ask(flights)

    def conclude(self, runs: Sequence[tuple[int, int, int]]) -> None:
        """Give every transaction of runs that the chain has finished its end: a receipt, or that another's did it.

        A node may show a transaction later than what it did; one that it has never seen when the last height it was
        good for is final never landed. What is undecided after some patience stays open for the next call.
        """
        deadline, pause = self._clock() + RECEIPT_PATIENCE_SECONDS, FIRST_POLL_SECONDS
        while flights := [_Flight(None, row, new=False) for row in self.store.open_rows(runs)]:
            self._ask(flights)
            waiting = [flight for flight in flights if flight.is_open]
            for flight in self._gone(waiting):
                self.store.finish([flight.row], "confirmed", "DoneByAnother")
            if self._clock() > deadline:
                return
            if waiting:
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_POLL_SECONDS)

    def stamp_finalized(self) -> tuple[int, list[Receipt]]:
        """Stamp receipts whose slot has been finalised since: how many, and those that a reorganisation took away.

        Gone is what the chain doesn't know although it has finalised the slot that once held it.
        """
        stamped, gone, open_ones = 0, list[Receipt](), self.store.unfinalized()
        for start in range(0, len(open_ones), STATUSES_PER_CALL):
            part = open_ones[start : start + STATUSES_PER_CALL]
            _, slot, statuses = self.client.finalised_and_statuses([receipt.signature for receipt in part])
            final = [
                receipt.signature
                for receipt, status in zip(part, statuses, strict=True)
                if status and status.confirmation == "finalized"
            ]
            self.store.stamp_finalized(final)
            stamped += len(final)
            gone += [r for r, status in zip(part, statuses, strict=True) if status is None and r.slot <= slot]
        return stamped, gone

    # --- one item's way ----------------------------------------------------------------------------------------

    def _board(self, items: Sequence[OutboxItem]) -> list[_Flight]:
        """Store what is new, take up what is stored: the version that was stored first is the one that is sent."""
        blockhash = self.client.blockhash()
        fresh = [self._signed(item, blockhash, attempts=1) for item in items]
        known = self.store.insert(fresh)
        stored = self.store.rows(sorted(known))
        flights = []
        for item, row in zip(items, fresh, strict=True):
            flight = _Flight(item, stored.get(row.key, row), new=row.key not in known)
            if flight.row.status == "failed":
                # asked for again after it failed: the old version has landed as a failure or was refused for good
                self.client.forget_blockhash()
                self._renew(flight)
            flights.append(flight)
        return flights

    def _renew(self, flight: _Flight) -> None:
        """Put a newly signed version in the place of one that can't land any more."""
        renewed = self._signed(flight.item, self.client.blockhash(), flight.row.attempts + 1)
        self.store.replace(flight.row, renewed)
        flight.row, flight.sent_at = renewed, float("-inf")

    def _signed(self, item: OutboxItem, blockhash: Blockhash, attempts: int) -> OutboxRow:
        instructions = with_bid(item, bid_of(attempts, self._highest_bid))
        transaction = sign(instructions, item.payer, item.signers, blockhash.value, item.lookup_tables)
        return OutboxRow(
            *item.key,
            signature=str(transaction.signatures[0]),
            transaction=bytes(transaction),
            last_valid_block_height=blockhash.last_valid_block_height,
            status="stored",
            attempts=attempts,
            error=None,
        )

    def _fly(self, flights: list[_Flight]) -> None:
        pause = FIRST_POLL_SECONDS
        while open_ones := [flight for flight in flights if flight.is_open]:
            now = self._clock()
            self._send([flight for flight in open_ones if now - flight.sent_at >= RESEND_SECONDS])
            self._ask([flight for flight in open_ones if flight.is_open])
            waiting = [flight for flight in open_ones if flight.is_open]
            if not waiting:
                return
            self.store.mark_sent([flight.row for flight in waiting if flight.row.status == "stored"])
            for flight in waiting:
                flight.row = msgspec.structs.replace(flight.row, status="sent")
            self._renew_expired(waiting)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_POLL_SECONDS)

    def _send(self, flights: list[_Flight]) -> None:
        if not flights:
            return
        answers = self.client.send_many([flight.row.transaction for flight in flights])
        now = self._clock()
        for flight, answer in zip(flights, answers, strict=True):
            flight.sent_at = now
            if not isinstance(answer, ChainError) or answer.name in STILL_OPEN:
                flight.last_refusal = answer.name if isinstance(answer, ChainError) else ""
                if flight.last_refusal == "BlockhashNotFound":
                    self.client.forget_blockhash()
            elif answer.name in flight.done_already:
                self._end_as_done(flight, answer)
            elif flight.row.status == "stored":
                # refused by preflight and never sent before: it has not landed and never will
                self._end_as_failed(flight, answer)
            else:
                # an earlier copy may have landed and be the very reason for this refusal: only its status decides
                flight.last_refusal = str(answer)

    def _ask(self, flights: list[_Flight]) -> None:
        """End the flights whose signature the chain knows as confirmed."""
        if not flights:
            return
        statuses = self.client.statuses([flight.row.signature for flight in flights])
        landed = [(f, s) for f, s in zip(flights, statuses, strict=True) if s is not None and s.is_confirmed]
        self._receive(landed)

    def _receive(self, landed: list[tuple[_Flight, SignatureStatus]]) -> None:
        if not landed:
            return
        infos = self._infos([flight.row.signature for flight, _ in landed])
        receipts: list[Receipt] = []
        for (flight, status), info in zip(landed, infos, strict=True):
            name = ""
            if status.err is not None:
                failure = transaction_error(status.err, info.logs, flight.row.signature)
                name = failure.name
                if name not in flight.done_already:
                    self._end_as_failed(flight, failure)
            receipt = Receipt(
                *flight.row.key,
                signature=flight.row.signature,
                slot=info.slot,
                fee_lamports=info.fee_lamports,
                compute_units=info.compute_units,
                status=name or "ok",
                commitment=status.confirmation,
            )
            receipts.append(receipt)
            if flight.failure is None:
                flight.receipt = receipt
        self.store.confirm(receipts, [flight.row for flight, _ in landed if flight.failure is None])

    def _infos(self, signatures: Sequence[str]) -> list:  # type: ignore[type-arg]
        """Costs of confirmed transactions; a node may need a moment after the status."""
        deadline, pause = self._clock() + RECEIPT_PATIENCE_SECONDS, FIRST_POLL_SECONDS
        infos = self.client.transactions(signatures)
        while missing := [index for index, info in enumerate(infos) if info is None]:
            if self._clock() > deadline:
                raise ChainError(
                    f"{signatures[missing[0]]} is confirmed but the node has no record of it; "
                    "use a node that keeps transaction history",
                    name="NoHistory",
                )
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_POLL_SECONDS)
            for index, info in zip(missing, self.client.transactions([signatures[i] for i in missing]), strict=True):
                infos[index] = info
        return infos

    def _renew_expired(self, flights: list[_Flight]) -> None:
        """Sign anew what can't land any more: expired by the finalised height, then still unknown to the chain."""
        oldest = min(flight.row.last_valid_block_height for flight in flights)
        if self.client.block_height("confirmed") <= oldest:
            return
        gone = self._gone(flights)
        if not gone:
            return
        self.client.forget_blockhash()
        for flight in gone:
            if flight.row.attempts >= MAX_ATTEMPTS:
                why = f"; last refusal: {flight.last_refusal}" if flight.last_refusal else ""
                message = (
                    f"{flight.item.key} did not land in {MAX_ATTEMPTS} attempts{why}; look at the node, then retry"
                )
                self._end_as_failed(flight, ChainError(message, name="NotLanded", signature=flight.row.signature))
                continue
            self._renew(flight)

    def _gone(self, flights: Sequence[_Flight]) -> list[_Flight]:
        """Those that never landed and can't any more."""
        gone: list[_Flight] = []
        for start in range(0, len(flights), STATUSES_PER_CALL):
            part = flights[start : start + STATUSES_PER_CALL]
            height, _, statuses = self.client.finalised_and_statuses([flight.row.signature for flight in part])
            gone += [
                flight
                for flight, status in zip(part, statuses, strict=True)
                if status is None and flight.row.last_valid_block_height < height
            ]
        return gone

    def _end_as_done(self, flight: _Flight, error: ChainError) -> None:
        """Somebody else's transaction did it: success, but no receipt of ours is on the chain."""
        row = flight.row
        flight.receipt = Receipt(*flight.row.key, row.signature, 0, 0, 0, error.name, "confirmed")
        self.store.finish([row], "confirmed", error.name)

    def _end_as_failed(self, flight: _Flight, error: ChainError) -> None:
        flight.failure = error
        self.store.finish([flight.row], "failed", f"{error.name}: {error}")


def _tell(flights: Sequence[_Flight], started_ns: int) -> None:
    for flight in flights:
        row, receipt = flight.row, flight.receipt
        found: dict[str, str | int] = {"attempts": row.attempts}
        if receipt is not None:
            found |= {"slot": receipt.slot, "compute_units": receipt.compute_units, "status": receipt.status}
        else:
            found["error"] = str(flight.failure)
        stages.transaction(
            epoch=row.epoch, kind=row.kind, run=row.run, step=row.step, idx=row.idx,
            signature=row.signature, started_ns=started_ns, **found,
        )  # fmt: skip


def bid_of(attempts: int, highest: int) -> int:
    """µlamports a compute unit that the version of this number offers: 0 for the first."""
    return 0 if attempts <= 1 else min(FIRST_BID * BID_FACTOR ** (attempts - 2), highest)


def with_bid(item: OutboxItem, bid: int) -> tuple[Instruction, ...]:
    """The item's instructions with a priority fee, without one where it would not fit the transaction any more."""
    if not bid:
        return item.instructions
    bidding = (set_compute_unit_price(bid), *item.instructions)
    fits = wire_size(bidding, item.payer.pubkey, item.lookup_tables) <= MAX_TRANSACTION_BYTES
    return bidding if fits else item.instructions
