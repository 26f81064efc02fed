"""What the streaming benchmark runs on: one real Kafka broker, Postgres, fresh topics and databases.

Belongs here: starting and filling them. Does not belong here: measuring (streaming.py), records (streaming_load.py).
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import streaming_load as loads

HERE = Path(__file__).parent


class Place:
    """Broker, database and folder of one run."""

    def __init__(self, brokers: str, folder: Path, postgres: Any) -> None:
        self.brokers, self.folder, self._postgres, self._databases = brokers, folder, postgres, 0

    def database(self) -> str:
        """URL of a fresh, migrated database."""
        from gridtokenx_pipelines.store.postgres import engine, migrate  # noqa: PLC0415

        self._databases += 1
        name, url = f"bench_{self._databases}", self._postgres.get_uri()
        made = engine(url)
        with made.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(f"CREATE DATABASE {name}")
        made.dispose()
        head, _, query = url.partition("?")
        own = f"{head.rpartition('/')[0]}/{name}?{query}"
        migrate(own)
        return own


@contextmanager
def place(folder: Path) -> Iterator[Place]:
    """One real broker and Postgres."""
    from gridtokenx_pipelines.embedded_postgres import start_postgres  # noqa: PLC0415

    spec = importlib.util.spec_from_file_location("kafka_cluster", HERE.parent / "tests" / "kafka" / "cluster.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError("tests/kafka/cluster.py is not there; run from a whole checkout")
    cluster = importlib.util.module_from_spec(spec)
    sys.modules["kafka_cluster"] = cluster
    spec.loader.exec_module(cluster)
    server = start_postgres(folder)
    try:
        with cluster.running(folder / "kafka", nodes=1) as kafka:
            yield Place(kafka.bootstrap_servers, folder, server)
    finally:
        server.stop()


def fill(where: Place, load: loads.Load, meters: int) -> dict[int, int]:
    """Fresh topics with the load; last offset by partition."""
    from confluent_kafka.admin import AdminClient, NewTopic  # noqa: PLC0415

    from gridtokenx_pipelines.messaging.kafka import Sender  # noqa: PLC0415
    from gridtokenx_pipelines.metering.registry import encode_record  # noqa: PLC0415

    admin = AdminClient({"bootstrap.servers": where.brokers, "log_level": 0})
    names = {"meter-readings": 8, "meter-readings.rejected": 8, "net-energy": 8, "meter-registry": 1}
    there = [name for name in names if name in admin.list_topics(timeout=30).topics]
    for done in admin.delete_topics(there).values() if there else ():
        done.result()
    time.sleep(1.0 if there else 0)
    for done in admin.create_topics([NewTopic(name, count, 1) for name, count in names.items()]).values():
        done.result()
    sender = Sender(where.brokers)
    for record in loads.registry(meters):
        sender.send("meter-registry", encode_record(record), key=b"k", partition=0)
    for partition, records in enumerate(load.records):
        for value, headers in records:
            sender.send("meter-readings", value, key=str(partition + 1).encode(), headers=headers, partition=partition)
    sender.flush(120)
    return {partition: len(records) - 1 for partition, records in enumerate(load.records) if records}
