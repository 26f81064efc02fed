"""Playing the day: the simulated events go to the broker in order of arrival, and the flows are waited for.

Belongs here: pacing. Does not belong here: what the events say (simulation/), what the flows make of them (streaming/).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from sqlalchemy import Engine

from gridtokenx_pipelines.epochs import EPOCH_SECONDS, key_of
from gridtokenx_pipelines.messaging.kafka import Sender
from gridtokenx_pipelines.simulation.day import day_events, registry_messages
from gridtokenx_pipelines.simulation.messages import EpochEvents, Event, Manifest, total
from gridtokenx_pipelines.simulation.neighbourhood import Neighbourhood
from gridtokenx_pipelines.simulation_cli.traced import traced_headers
from gridtokenx_pipelines.stack import StackError
from gridtokenx_pipelines.store.progress import complete_through

COMPLETE_TIMEOUT_SECONDS = 120


class Player:
    """Sends a neighbourhood's events epoch by epoch; `sent` sums up what a correct pipeline makes of them."""

    def __init__(self, sender: Sender, neighbourhood: Neighbourhood, *, partitions: int, speed: float) -> None:
        self._sender, self._neighbourhood, self._partitions = sender, neighbourhood, partitions
        self._speed = speed
        self._manifests: list[Manifest] = []
        self._chunks: Iterator[EpochEvents] = iter(())
        self._due = 0.0

    def announce(self, start_epoch: int) -> None:
        """Publish who may send readings; flows read it before the first reading."""
        self._send(registry_messages(self._neighbourhood, start_epoch))
        self._sender.flush()

    def open(self, start_epoch: int, epochs: int, market: bytes) -> None:
        """Make the day ready to be played from its beginning."""
        self._chunks = day_events(self._neighbourhood, start_epoch, epochs, market=market, partitions=self._partitions)
        self._due = time.monotonic()

    def play(self, epochs: int) -> int | None:
        """Send the next epochs; the last one sent, or None at the end of the day."""
        last = None
        for _ in range(epochs):
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            if self._speed:
                self._due += EPOCH_SECONDS / self._speed
                time.sleep(max(self._due - time.monotonic(), 0))
            self._send(chunk.events)
            self._manifests.append(chunk.manifest)
            last = chunk.epoch
        self._sender.flush()
        return last

    @property
    def sent(self) -> Manifest:
        """The sum over all epochs sent so far."""
        return total(self._manifests)

    def _send(self, events: tuple[Event, ...]) -> None:
        for event in events:
            self._sender.send(
                event.topic,
                event.value,
                key=event.key,
                headers=traced_headers(event),
                partition=event.partition,
                timestamp_ms=event.timestamp_ms,
            )


def wait_complete(engine: Engine, epoch: int, check: Callable[[], None]) -> None:
    """Return once the flows have closed the epoch; StackError after two minutes or when a part has ended."""
    deadline = time.monotonic() + COMPLETE_TIMEOUT_SECONDS
    while True:
        through = complete_through(engine)
        if through is not None and through >= epoch:
            return
        check()
        if time.monotonic() > deadline:
            reached = "none" if through is None else key_of(through)
            raise StackError(
                f"epoch {key_of(epoch)} was not complete after {COMPLETE_TIMEOUT_SECONDS} s (complete: {reached}); "
                "see the flows' logs in the data folder"
            )
        time.sleep(0.02)
