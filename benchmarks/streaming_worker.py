"""One process of the telemetry flow over some partitions of a filled topic, timed stage by stage.

Belongs here: running the product's own source, verifier, window and sinks until the topic's end. Does not belong here:
what the figures are held to. Prints one JSON line: when the first batch came and the last was written, seconds of each
stage's processor time (of all threads), records, and peak memory.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1])]

from bytewax.testing import run_main  # noqa: E402

from gridtokenx_pipelines.messaging.kafka import Sender, partitions_of, read_range  # noqa: E402
from gridtokenx_pipelines.messaging.registry_topic import RegistryTopic  # noqa: E402
from gridtokenx_pipelines.metering.verify import Verifier  # noqa: E402
from gridtokenx_pipelines.store.parquet import ParquetStore  # noqa: E402
from gridtokenx_pipelines.store.postgres import engine  # noqa: E402
from streaming import telemetry  # noqa: E402
from streaming.archive import Archive  # noqa: E402
from streaming.source import KafkaBatches, key_of_partition  # noqa: E402


class SomePartitions(KafkaBatches):
    """The product's source, restricted to this process's partitions."""

    def __init__(self, mine: list[int], *args: Any) -> None:
        super().__init__(*args)
        self._mine = mine

    def list_parts(self) -> list[str]:
        """Keys of this process's partitions."""
        return [key_of_partition(partition) for partition in self._mine]


def main() -> None:
    """Run to the ends given as JSON {partition: last offset}."""
    brokers, url, folder, threads = sys.argv[1:5]
    ends = {int(partition): last for partition, last in json.loads(sys.argv[5]).items()}
    stop, spent, marks = threading.Event(), Counter[str](), {"first": 0.0, "last": 0.0}
    registry = RegistryTopic(brokers)
    registry.refresh()
    partitions = partitions_of(brokers, "meter-readings")
    verifier = Verifier(3, threads=int(threads))
    archive = Archive(
        ParquetStore(folder),
        lambda partition, first, last: read_range(brokers, ("meter-readings", partition), first, last),
        registered=registry.view.messages,
    )

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            started = time.process_time()
            marks["first"] = marks["first"] or time.time()
            try:
                return work(*args)
            finally:
                spent[name] += time.process_time() - started

        return call

    reached: dict[int, int] = {}

    def end(shards: list[telemetry.Shard]) -> None:
        for shard in shards:
            reached[shard.outputs.partition] = shard.outputs.progress.offset  # type: ignore[union-attr]
        marks["last"] = time.time()
        if all(reached.get(partition, -1) >= last for partition, last in ends.items()):
            stop.set()

    verifier.messages = timed("decode and verify", verifier.messages)  # type: ignore[method-assign]
    telemetry.step = timed("window", telemetry.step)
    sinks = {
        "postgres": timed("Postgres", partial(telemetry.write_postgres, engine(url, pool_size=1))),
        "kafka": timed("net energy to Kafka", partial(telemetry.write_kafka, Sender(brokers), partitions)),
        "archive": timed("archive", partial(telemetry.write_archive, archive)),
        "end": end,
    }
    source = SomePartitions(sorted(ends), brokers, "meter-readings", partitions, stop)
    before = resource.getrusage(resource.RUSAGE_SELF)
    flow = telemetry.build_flow(
        source, partitions, verifier, telemetry.Registry(registry.view, registry.refresh), sinks
    )
    run_main(flow)
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    system = used.ru_stime - before.ru_stime
    spent["Kafka, Bytewax"] = max(cpu - sum(spent.values()), 0.0)
    told = {"cpu_seconds": cpu, "system_seconds": system, "mebibytes": used.ru_maxrss / 1_024}
    print(json.dumps({**marks, "spent": dict(spent), **told}))


if __name__ == "__main__":
    main()
