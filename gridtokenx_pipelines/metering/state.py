"""State of one partition: what it must remember between batches, in columns, picklable and versioned.

Belongs here: `ShardState`, its slots and tallies, its bytes. Does not belong here: the rules that change it
(window.py, corrections.py, epoch_close.py).
"""

from __future__ import annotations

import pickle
from array import array
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gridtokenx_pipelines.epochs import EPOCH_US, EPOCHS_PER_DAY
from gridtokenx_pipelines.metering.boundaries import Boundaries
from gridtokenx_pipelines.metering.outputs import Outputs
from gridtokenx_pipelines.metering.registry import MeterRecord
from gridtokenx_pipelines.metering.rows import Ints, Rows, as_numpy

if TYPE_CHECKING:
    from gridtokenx_pipelines.metering.bulk_close import Roster
    from gridtokenx_pipelines.metering.lanes import Senders

SCHEMA = "gridtokenx/shard-state"
SCHEMA_VERSION = 2
WATERMARK_LAG_US = 30_000_000
BOUNDARY_WINDOW_US = 60_000_000
MAX_AHEAD_US = 60_000_000
# no gateway is silent for a year: a tick further ahead is a broken clock, and would close tens of thousands of epochs
MAX_TICK_STEP_US = 366 * EPOCHS_PER_DAY * EPOCH_US
HORIZON_EPOCHS = 14 * EPOCHS_PER_DAY


class StateVersionError(RuntimeError):
    """A recovery store written by another version of the flow."""


class Tally:
    """Accepted readings of one open epoch by slot: how many, lowest and highest seq."""

    __slots__ = ("first_seq", "last_seq", "readings")

    def __init__(self) -> None:
        self.readings, self.first_seq, self.last_seq = array("q"), array("q"), array("q")

    def add(self, slot: int, seq: int) -> None:
        """Count one reading."""
        self._grow(slot + 1)
        if not self.readings[slot]:
            self.first_seq[slot] = self.last_seq[slot] = seq
        elif seq < self.first_seq[slot]:
            self.first_seq[slot] = seq
        elif seq > self.last_seq[slot]:
            self.last_seq[slot] = seq
        self.readings[slot] += 1

    def add_many(self, slots: int, slot: Ints, readings: Ints, seqs: tuple[Ints, Ints]) -> None:
        """Count readings of different slots at once, with their lowest and highest seq; `slots`: how many there are."""
        self._grow(slots)
        counted, lowest, highest = as_numpy(self.readings), as_numpy(self.first_seq), as_numpy(self.last_seq)
        fresh = counted[slot] == 0
        lowest[slot] = np.where(fresh, seqs[0], np.minimum(lowest[slot], seqs[0]))
        highest[slot] = np.where(fresh, seqs[1], np.maximum(highest[slot], seqs[1]))
        counted[slot] += readings

    def get_many(self, slots: int, slot: Ints) -> tuple[Ints, Ints, Ints]:
        """`get` of several slots at once; `slots`: how many there are."""
        self._grow(slots)
        return as_numpy(self.readings)[slot], as_numpy(self.first_seq)[slot], as_numpy(self.last_seq)[slot]

    def _grow(self, slots: int) -> None:
        missing = slots - len(self.readings)
        if missing > 0:
            for column in (self.readings, self.first_seq, self.last_seq):
                column.frombytes(bytes(8 * missing))

    def get(self, slot: int) -> tuple[int, int, int]:
        """(readings, lowest seq, highest seq) of a meter."""
        if slot >= len(self.readings):
            return 0, 0, 0
        return self.readings[slot], self.first_seq[slot], self.last_seq[slot]


class ShardState:
    """A partition's accepted readings, boundaries, watermark and open tallies. Times µs, energies Wh.

    `settled[slot]` is the newest epoch whose starting boundary stands, with the registers that were used there
    (`start_*`): the meter's next net energy starts from them whatever is corrected later.
    """

    # copies of what the registry says: not part of what is remembered
    senders: Senders | None = None
    roster: Roster | None = None

    def __init__(self, partition: int, partitions: int) -> None:
        self.partition, self.partitions = partition, partitions
        self.offset = -1
        self.archived_to = -1  # the last offset in a closed epoch's archive
        self.last_tick_us: int | None = None
        self.closed_epoch: int | None = None
        self.slots: dict[str, int] = {}
        self.meter_ids: list[str] = []
        self.settled = array("q")
        self.start_production_wh, self.start_consumption_wh = array("q"), array("q")
        self.rows = Rows()
        self.boundaries = Boundaries()
        self.tallies: dict[int, Tally] = {}
        # (slot, epoch) → readings, lowest and highest seq of epochs that a missing meter has yet to book
        self.waiting: dict[tuple[int, int], tuple[int, int, int]] = {}
        # (status, reason) → records since the beginning: in the state, so that a replay after a crash counts none twice
        self.counts: Counter[tuple[str, str]] = Counter()

    @property
    def watermark_us(self) -> int | None:
        """Last tick − 30 s; None before the first tick."""
        return None if self.last_tick_us is None else self.last_tick_us - WATERMARK_LAG_US

    def slot_of(self, record: MeterRecord) -> int:
        """The meter's slot, made at first sight: its first epoch starts from its baseline."""
        slot = self.slots.get(record.meter_id)
        if slot is None:
            slot = self.slots[record.meter_id] = len(self.meter_ids)
            self.meter_ids.append(record.meter_id)
            self.settled.append(record.first_epoch)
            self.start_production_wh.append(record.baseline_production_wh)
            self.start_consumption_wh.append(record.baseline_consumption_wh)
            self.rows.add_slot()
        return slot

    def wait(self, slot: int, epoch: int, tally: tuple[int, int, int]) -> None:
        """Add a tally to what a missing meter has yet to book of an epoch."""
        readings, first_seq, last_seq = tally
        if not readings:
            return
        known = self.waiting.get((slot, epoch))
        if known:
            readings += known[0]
            first_seq, last_seq = min(first_seq, known[1]), max(last_seq, known[2])
        self.waiting[slot, epoch] = readings, first_seq, last_seq

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("senders", "roster")}

    def to_bytes(self) -> bytes:
        """The state as the recovery store keeps it."""
        return pickle.dumps((SCHEMA, SCHEMA_VERSION, self), protocol=5)

    @staticmethod
    def from_bytes(data: bytes) -> ShardState:
        """The state back; raises StateVersionError, naming both versions, for any other."""
        # our own recovery store: whoever can write there can also change the code
        loaded = pickle.loads(data)  # noqa: S301
        if not isinstance(loaded, tuple) or len(loaded) != 3 or loaded[:2] != (SCHEMA, SCHEMA_VERSION):
            found = loaded[:2] if isinstance(loaded, tuple) else type(loaded).__name__
            raise StateVersionError(
                f"recovered state was {found}, must be {(SCHEMA, SCHEMA_VERSION)}; start with an empty "
                "recovery folder, the topic is then replayed from its beginning"
            )
        state = loaded[2]
        if not isinstance(state, ShardState):
            raise StateVersionError(f"recovered state held a {type(state).__name__}, must hold a ShardState")
        return state


class Meter(NamedTuple):
    """A meter's place in a shard while a record is applied or an epoch closed."""

    state: ShardState
    slot: int
    record: MeterRecord
    outputs: Outputs
