"""The embedded broker: librdkafka's mock cluster in a process of its own. `python -m … --port-file F`.

Belongs here: hosting it and telling its address. Does not belong here: clients. It keeps its log in memory, some 5 MB a
partition, makes topics by itself with 4 partitions, and ends with its process: for one machine and tests only.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
from pathlib import Path

from confluent_kafka import Producer

from gridtokenx_pipelines.messaging.kafka import QUIET


class MockBroker:
    """A running mock cluster; lives as long as the object does."""

    def __init__(self, brokers: int = 1) -> None:
        self._host = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": brokers, **QUIET})
        known = self._host.list_topics(timeout=10).brokers.values()
        self.bootstrap_servers = ",".join(sorted(f"{broker.host}:{broker.port}" for broker in known))

    def keep_alive(self, seconds: float) -> None:
        """Serve the host's own callbacks; the cluster itself runs on its threads."""
        self._host.poll(seconds)


def main() -> None:
    """Start it, write its address to the port file, and serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="Embedded Kafka-protocol broker (mock cluster, in memory).")
    parser.add_argument(
        "--port-file", type=Path, required=True, help='gets {"bootstrap_servers": "host:port", "pid": …}'
    )
    parser.add_argument("--brokers", type=int, default=1, help="how many brokers the cluster has")
    options = parser.parse_args()
    ended = threading.Event()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, lambda *_: ended.set())
    broker = MockBroker(options.brokers)
    # renamed into place: who waits for the file never reads half of it
    temporary = options.port_file.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps({"bootstrap_servers": broker.bootstrap_servers, "pid": os.getpid()}))
    os.replace(temporary, options.port_file)
    while not ended.wait(0.2):
        broker.keep_alive(0)


if __name__ == "__main__":
    main()
