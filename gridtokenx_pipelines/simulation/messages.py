"""Messages of the simulation as a broker takes them, and what is expected to become of them.

Belongs here: `Event`, `EpochEvents`, `Manifest`. Does not belong here: how they are made (day.py, orders.py) or sent
(messaging/).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

READINGS_TOPIC = "meter-readings"
ORDERS_TOPIC = "orders"
REGISTRY_TOPIC = "meter-registry"


class Event(msgspec.Struct, frozen=True, gc=False):
    """One record for the broker; `timestamp_ms` is its simulated broker time."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a correct pipeline makes of the events. Reasons are the words of `RejectReason` and `OrderReject`.

    `sent` counts records on `meter-readings` without ticks. `accepted` counts good readings (each of a block); `late`
    those of them that come behind the watermark: blocks carry some, disorder makes some, and of those that come after
    their boundary was settled each moves Wh and so gives one of `corrections`. `missing` counts (meter, epoch) pairs
    without a register at a boundary, all caught up later. `orders` counts admitted ones.
    """

    sent: int = 0
    ticks: int = 0
    accepted: int = 0
    late: int = 0
    corrections: int = 0
    duplicates: int = 0
    disordered: int = 0
    missing: int = 0
    rejected: dict[str, int] = {}
    orders: int = 0
    cancels: int = 0
    orders_rejected: dict[str, int] = {}


class EpochEvents(msgspec.Struct, frozen=True, kw_only=True):
    """All events that arrive during one epoch, in order of arrival, and what is expected of those sent in it."""

    epoch: int
    events: tuple[Event, ...]
    manifest: Manifest


def total(manifests: Iterable[Manifest]) -> Manifest:
    """The sum of manifests."""
    numbers: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = {"rejected": Counter(), "orders_rejected": Counter()}
    for manifest in manifests:
        for name, value in msgspec.structs.asdict(manifest).items():
            if isinstance(value, dict):
                reasons[name].update(value)
            else:
                numbers[name] += value
    return Manifest(**numbers, **{name: dict(sorted(counter.items())) for name, counter in reasons.items()})
