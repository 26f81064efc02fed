"""Domain §3 once more, slow and obvious: all readings of a meter in a list, every question answered by looking at all.

Belongs here: what must come of readings that fit together. Does not belong here: refusals (metering_cases.py has them
with their whole expected results), speed, forgetting.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from gridtokenx_pipelines.metering.registry import MeterRecord

EPOCH_US, WINDOW_US = 900_000_000, 60_000_000


class Seen(NamedTuple):
    """A reading as it came."""

    time_us: int
    production_wh: int
    consumption_wh: int
    is_late: bool


@dataclass
class SlowMeter:
    """`rows`: (epoch, revision, production, consumption, estimated, missing, late); energies Wh."""

    record: MeterRecord
    seen: list[Seen] = field(default_factory=list)
    rows: list[tuple[int, int, int, int, bool, bool, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.settled_to = self.record.first_epoch
        self.start = self.record.baseline_production_wh, self.record.baseline_consumption_wh
        self.starts_estimated = False

    def read(self, time_us: int, production_wh: int, consumption_wh: int, watermark_us: int) -> None:
        self.seen.append(Seen(time_us, production_wh, consumption_wh, time_us <= watermark_us))

    def at_boundary(self, epoch: int, with_late: bool) -> Seen | None:
        """The last reading in (boundary − 60 s, boundary], the boundary being the start of the epoch."""
        end = epoch * EPOCH_US
        found = [s for s in self.seen if end - WINDOW_US < s.time_us <= end and (with_late or not s.is_late)]
        return max(found, default=None)

    def close(self, epoch: int) -> None:
        """What the end of an epoch gives: a row, or a missing one, and what is caught up with it."""
        end = self.at_boundary(epoch + 1, with_late=False)
        if end is None or self.settled_to < epoch:
            self.rows.append((epoch, 0, 0, 0, False, True, False))
        if end is None:
            return
        catching_up = self.settled_to < epoch
        for each in range(self.settled_to, epoch + 1):
            register, is_estimate = self.register(each + 1) if each < epoch else (end[1:3], False)
            production_wh, consumption_wh = (new - old for new, old in zip(register, self.start, strict=True))
            estimated = catching_up and (is_estimate or self.starts_estimated)
            self.rows.append((each, int(catching_up), production_wh, consumption_wh, estimated, False, catching_up))
            self.start, self.starts_estimated, self.settled_to = register, is_estimate, each + 1
        self.starts_estimated = False

    def register(self, epoch: int) -> tuple[tuple[int, int], bool]:
        """At a missing boundary: its reading, or the line between the readings around it, rounded down."""
        found = self.at_boundary(epoch, with_late=True)
        if found is not None:
            return found[1:3], False
        at, base = epoch * EPOCH_US, self.record
        first = Seen(base.baseline_timestamp_us, base.baseline_production_wh, base.baseline_consumption_wh, False)
        before = max([first, *(s for s in self.seen if s.time_us <= at)])
        after = min(s for s in self.seen if s.time_us > at)
        share = at - before.time_us, after.time_us - before.time_us
        produced, consumed = (before[n] + (after[n] - before[n]) * share[0] // share[1] for n in (1, 2))
        return (produced, consumed), True
