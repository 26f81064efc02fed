"""The telemetry flow in this process over real topics and tables, run until a partition's offset is applied."""

from __future__ import annotations

import threading
from datetime import timedelta
from functools import partial
from pathlib import Path

from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main
from sqlalchemy import text

from gridtokenx_pipelines.messaging.kafka import Sender, partitions_of
from gridtokenx_pipelines.messaging.registry_topic import RegistryTopic
from gridtokenx_pipelines.metering.verify import Verifier
from gridtokenx_pipelines.store.postgres import engine
from streaming.source import KafkaBatches
from streaming.telemetry import Registry, Shard, build_flow, write_kafka, write_postgres


class Flow:
    """Each run goes on from the recovery store of the run before, as a restarted process does."""

    def __init__(self, brokers: str, url: str, network_id: int, recovery: Path) -> None:
        self._brokers, self._url, self._network_id = brokers, url, network_id
        init_db_dir(recovery, 1)
        self._recovery = RecoveryConfig(str(recovery))

    def run_until(self, partition: int, offset: int) -> None:
        """Apply the partition's records up to and including the offset; the tables then show all of them."""
        stop, database = threading.Event(), engine(self._url)
        registry = RegistryTopic(self._brokers)
        partitions = partitions_of(self._brokers, "meter-readings")

        def end(shards: list[Shard]) -> None:
            if any(s.outputs.partition == partition and s.outputs.progress.offset >= offset for s in shards):
                stop.set()

        flow = build_flow(
            KafkaBatches(self._brokers, "meter-readings", partitions, stop),
            partitions,
            Verifier(self._network_id),
            Registry(registry.view, registry.refresh),
            {
                "postgres": partial(write_postgres, database),
                "kafka": partial(write_kafka, Sender(self._brokers), partitions),
                "end": end,
            },
        )
        run_main(flow, epoch_interval=timedelta(0), recovery_config=self._recovery)
        with database.connect() as connection:
            applied = connection.execute(
                text("SELECT \"offset\" FROM stream_progress WHERE flow = 'telemetry' AND partition = :partition"),
                {"partition": partition},
            ).scalar_one()
        assert applied >= offset
        registry.close()
        database.dispose()
