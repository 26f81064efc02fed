"""What is measured and logged of a running flow: counts, watermarks, lag, closed epochs.

Belongs here: from a flow's outputs to metrics and log lines. Does not belong here: names (observability/metrics.py) or
anything that changes what the flow does.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import msgspec
import structlog
from sqlalchemy import Engine, text

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.market.price_guard import Halt
from gridtokenx_pipelines.messaging.kafka import TopicEnds
from gridtokenx_pipelines.observability import tracing
from gridtokenx_pipelines.observability.metrics import FlowMetrics
from streaming.orders import Admitted
from streaming.price_guard import Guarded
from streaming.telemetry import Shard
from streaming.traces import Traces

LOG = structlog.get_logger(__name__)
MICROSECONDS = 1_000_000


class Observer:
    """One process's eyes; `handed` is called by the source, the others are sinks."""

    def __init__(self, metrics: FlowMetrics) -> None:
        self.metrics = metrics
        self._next: dict[int, int] = {}
        self._handed: dict[int, float] = {}
        self._counts: dict[int, Counter[tuple[str, str]]] = {}
        self._traces = Traces()

    def handed(self, partition: int, next_offset: int, records: int) -> None:
        """The source has read so far."""
        self._next[partition] = next_offset
        if records:
            self._handed[partition] = time.perf_counter()

    def _seconds(self, partition: int) -> float:
        # where the cluster routes a partition's state to another process, only that one's own part is known
        return time.perf_counter() - self._handed.get(partition, time.perf_counter())

    def telemetry(self, shards: Sequence[Shard]) -> None:
        """Batches that left the window."""
        for shard in shards:
            outputs, progress = shard.outputs, shard.outputs.progress
            seconds = self._seconds(outputs.partition)
            self.metrics.batch(outputs.partition, outputs.totals, seconds)
            if tracing.is_on():
                self._traces.shard(shard, seconds)
            if progress is not None:
                self._times(progress.partition, progress.watermark_us, progress.closed_epoch)
            for closed in outputs.closed:
                LOG.info(
                    "epoch_closed",
                    epoch=key_of(closed.epoch),
                    partition=outputs.partition,
                    first_offset=closed.first_offset,
                    last_offset=closed.last_offset,
                )
            LOG.debug("batch", partition=outputs.partition, records=len(shard.messages), counts=_words(outputs.counts))

    def orders(self, batches: Sequence[Admitted]) -> None:
        """Batches that left the intake."""
        for batch in batches:
            counts = self._counts.setdefault(batch.partition, Counter())
            counts["accepted", "order"] += len(batch.outputs.accepted)
            counts["accepted", "cancel"] += len(batch.outputs.cancelled)
            for letter in batch.letters:
                counts["rejected", letter.word] += 1
            self.metrics.batch(batch.partition, dict(counts), self._seconds(batch.partition))
            self._times(batch.partition, batch.tick_us, batch.gate_through)
            for epoch in batch.outputs.gate_epochs:
                LOG.info("gate_closed", epoch=key_of(epoch), partition=batch.partition)

    def price_guard(self, batches: Sequence[Guarded]) -> None:
        """Batches that the guard judged."""
        for batch in batches:
            self.metrics.batch(batch.partition, batch.counts, self._seconds(batch.partition))
            for event in batch.events:
                if isinstance(event, Halt):
                    LOG.warning("market_halted", partition=batch.partition, **msgspec.structs.asdict(event))

    def _times(self, partition: int, watermark_us: int | None, closed_epoch: int | None) -> None:
        if watermark_us is not None:
            self.metrics.set_partition("stream_watermark_timestamp_seconds", partition, watermark_us / MICROSECONDS)
        if closed_epoch is not None:
            self.metrics.set_partition("stream_closed_epoch", partition, closed_epoch)

    def sample_lag(self, topic_ends: TopicEnds) -> None:
        """Ask the broker where the topic ends; only partitions that this process reads count as its own."""
        ends = topic_ends.now(10)
        behind = {part: max(ends[part] - max(at, 0), 0) for part, at in list(self._next.items())}
        if not behind:
            return  # nothing is read yet: an empty queue would be a claim
        for partition, lag in behind.items():
            self.metrics.set_partition("stream_consumer_lag_records", partition, lag)
        self.metrics.set("meter_processing_queue_depth", sum(behind.values()))

    def sample_market(self, engine: Engine) -> None:
        """Orders that wait, and all energy traded, from the tables."""
        with engine.connect() as connection:
            connection.execute(text("SET LOCAL statement_timeout = 5000"))
            waiting = connection.execute(text("SELECT count(*) FROM orders WHERE status = 'pending'")).scalar()
            traded = connection.execute(text("SELECT COALESCE(sum(volume_wh), 0) FROM market_epochs")).scalar()
        self.metrics.set("active_orders_total", float(waiting or 0))
        self.metrics.set("total_trading_volume_kwh", float(traded or 0) / 1_000)


def _words(counts: Counter[tuple[str, str]]) -> dict[str, int]:
    return {f"{status}:{reason}": records for (status, reason), records in counts.items()}
