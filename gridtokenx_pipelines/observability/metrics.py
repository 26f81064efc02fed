"""The metrics of a flow, by the names that dashboards and alerts use (names.md; docs/reference/metrics.md).

Belongs here: names, labels, units. Does not belong here: where the numbers come from (streaming/observe.py). Totals are
set, not added up: the flow's state counts exactly, and a replay after a crash must not count twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
READINGS = "meter_readings"
GAUGES = {
    "meter_processing_queue_depth": "Records on the broker that this process has not read yet.",
    "active_orders_total": "Orders that wait for their epoch to clear.",
    "total_trading_volume_kwh": "Energy traded in all cleared epochs.",
    "stream_seconds_since_batch": "Since the last batch of this process.",
}
BY_PARTITION = {
    "stream_consumer_lag_records": "Records on the broker behind the last one read.",
    "stream_watermark_timestamp_seconds": "Event time through which the partition is complete.",
    "stream_watermark_delay_seconds": "Wall clock minus watermark.",
    "stream_closed_epoch": "Number of the last closed epoch.",
}


class FlowMetrics:
    """One process's numbers; threads may write and scrape at once."""

    def __init__(self, flow: str, records: str = READINGS) -> None:
        self.flow, self.registry = flow, CollectorRegistry()
        self._records, self._lock = records, threading.Lock()
        self._totals: dict[int, Mapping[tuple[str, str], int]] = {}
        self._gauges: dict[str, float] = {}
        self._by_partition: dict[str, dict[int, float]] = {name: {} for name in BY_PARTITION}
        self._batch_at = time.monotonic()
        self.duration = Histogram(
            "meter_processing_duration_seconds",
            "From a batch's decoding to its outputs, sinks not included.",
            ["flow"],
            registry=self.registry,
            buckets=SECONDS,
        ).labels(flow)
        self.registry.register(_Numbers(self))

    def batch(self, partition: int, totals: Mapping[tuple[str, str], int], seconds: float) -> None:
        """A batch was processed: totals of its partition since the beginning by (status, reason)."""
        with self._lock:
            self._totals[partition] = totals
            self._batch_at = time.monotonic()
        self.duration.observe(seconds)

    def set(self, name: str, value: float) -> None:
        """Set a gauge of `GAUGES`."""
        with self._lock:
            self._gauges[name] = value

    def gauge(self, name: str) -> float:
        """A gauge's value, 0 before it was set."""
        with self._lock:
            return self._gauges.get(name, 0.0)

    def set_partition(self, name: str, partition: int, value: float) -> None:
        """Set a gauge of `BY_PARTITION`."""
        with self._lock:
            self._by_partition[name][partition] = value

    def seconds_since_batch(self) -> float:
        """How long ago the last batch ended (or the process began)."""
        return time.monotonic() - self._batch_at

    def collect(self) -> Iterable[Metric]:
        """All families, for a scrape."""
        with self._lock:
            totals = [dict(each) for each in self._totals.values()]
            gauges = {**self._gauges, "stream_seconds_since_batch": self.seconds_since_batch()}
            by_partition = {name: dict(values) for name, values in self._by_partition.items()}
        watermarks = by_partition["stream_watermark_timestamp_seconds"]
        now = time.time()
        by_partition["stream_watermark_delay_seconds"] = {part: now - at for part, at in watermarks.items()}
        summed: dict[tuple[str, str], int] = {}
        for each in totals:
            for key, value in each.items():
                summed[key] = summed.get(key, 0) + value
        counter = CounterMetricFamily(self._records, "Records by what became of them.", labels=["status", "reason"])
        for (status, reason), value in sorted(summed.items()):
            counter.add_metric([status, reason], value)
        yield counter
        for name, value in gauges.items():
            family = GaugeMetricFamily(name, GAUGES[name], labels=["flow"])
            family.add_metric([self.flow], value)
            yield family
        for name, words in BY_PARTITION.items():
            family = GaugeMetricFamily(name, words, labels=["flow", "partition"])
            for partition, value in sorted(by_partition[name].items()):
                family.add_metric([self.flow, str(partition)], value)
            yield family


class _Numbers(Collector):
    def __init__(self, metrics: FlowMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics.collect()


class Supervision(Collector):
    """A supervisor's numbers; `rows` gives (flow, all processes run, restarts)."""

    def __init__(self, rows: Callable[[], list[tuple[str, bool, int]]]) -> None:
        self._rows, self.registry = rows, CollectorRegistry()
        self.registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Both families, for a scrape."""
        up = GaugeMetricFamily("stream_up", "1 while all processes of the flow run.", labels=["flow"])
        restarts = CounterMetricFamily("stream_restarts", "Restarts of the flow's whole cluster.", labels=["flow"])
        for flow, is_up, count in self._rows():
            up.add_metric([flow], float(is_up))
            restarts.add_metric([flow], count)
        yield up
        yield restarts
