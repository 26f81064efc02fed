"""The processes of the flows: settings, recovery store, signals. `python -m streaming.run telemetry --brokers …`.

Belongs here: what stands around a flow. Does not belong here: the flows themselves (telemetry.py, orders.py). SIGTERM
and SIGINT let the flow finish its batch, snapshot, and end with code 0; after any other end it goes on from the last
snapshot.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import msgspec
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main

from gridtokenx_pipelines.config import ConfigError, Settings
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.messaging.influx import InfluxWriter
from gridtokenx_pipelines.messaging.kafka import BrokerError, Sender, partitions_of, read_range, wait_for_broker
from gridtokenx_pipelines.messaging.registry_topic import RegistryTopic
from gridtokenx_pipelines.messaging.topics import METER_READINGS, METER_REGISTRY, NET_ENERGY, ORDERS
from gridtokenx_pipelines.metering.state import StateVersionError
from gridtokenx_pipelines.metering.verify import Verifier
from gridtokenx_pipelines.store.energy import refused_offsets
from gridtokenx_pipelines.store.parquet import ParquetStore
from gridtokenx_pipelines.store.postgres import engine
from streaming import orders, telemetry
from streaming.archive import Archive, archived_points
from streaming.source import KafkaBatches

FLOWS = ("telemetry", "orders")


class FlowSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a flow needs to know. `archive_dir` is the folder in which `archive/` lies; `market` its 32-byte address."""

    brokers: str
    database_url: str
    recovery_dir: Path
    archive_dir: Path
    network_id: int = 3
    snapshot_seconds: float = 1.0
    broker_wait_seconds: float = 30.0
    readings_topic: str = METER_READINGS.name
    orders_topic: str = ORDERS.name
    registry_topic: str = METER_REGISTRY.name
    influxdb_url: str = ""
    influxdb_token: str = ""
    market: bytes = b""
    rules: Rules = Rules()


def run_telemetry(settings: FlowSettings) -> None:
    """Run the telemetry flow until it is told to end."""
    wait_for_broker(settings.brokers, settings.broker_wait_seconds)
    partitions = partitions_of(settings.brokers, settings.readings_topic)
    with contextlib.ExitStack() as resources:
        stop = resources.enter_context(ended_by_signals())
        registry = RegistryTopic(settings.brokers, settings.registry_topic)
        resources.callback(registry.close)
        registry.refresh()
        verifier = Verifier(settings.network_id)
        resources.callback(verifier.close)
        database = engine(settings.database_url, pool_size=1)
        resources.callback(database.dispose)

        def fetch(partition: int, first: int, last: int) -> list:
            return read_range(settings.brokers, (settings.readings_topic, partition), first, last)

        def refused(partition: int, first: int, last: int) -> dict[int, int]:
            with database.connect() as connection:
                return refused_offsets(connection, METER_READINGS.name, partition, first, last)

        archive = Archive(ParquetStore(settings.archive_dir), fetch, refused, registry.view.messages)
        sinks = {
            "postgres": partial(telemetry.write_postgres, database),
            "kafka": partial(
                telemetry.write_kafka, Sender(settings.brokers), partitions_of(settings.brokers, NET_ENERGY.name)
            ),
            "archive": partial(telemetry.write_archive, archive),
        }
        if settings.influxdb_token:
            writer = InfluxWriter(
                settings.influxdb_url,
                settings.influxdb_token,
                archived=archived_points(settings.archive_dir, registry.view),
                notes=settings.recovery_dir.with_name(f"{settings.recovery_dir.name}.influx-owed.json"),
            )
            resources.callback(writer.close)
            sinks["influx"] = partial(telemetry.write_influx, writer)
        flow = telemetry.build_flow(
            KafkaBatches(settings.brokers, settings.readings_topic, partitions, stop),
            partitions,
            verifier,
            telemetry.Registry(registry.view, registry.refresh),
            sinks,
        )
        _run(flow, settings)


def run_orders(settings: FlowSettings) -> None:
    """Run the orders flow until it is told to end."""
    wait_for_broker(settings.brokers, settings.broker_wait_seconds)
    partitions = partitions_of(settings.brokers, settings.orders_topic)
    with contextlib.ExitStack() as resources:
        stop = resources.enter_context(ended_by_signals())
        registry = RegistryTopic(settings.brokers, settings.registry_topic)
        resources.callback(registry.close)
        registry.refresh()
        database = engine(settings.database_url, pool_size=1)
        resources.callback(database.dispose)
        market = orders.Market(settings.network_id, settings.market, settings.rules)
        flow = orders.build_flow(
            KafkaBatches(settings.brokers, settings.orders_topic, partitions, stop),
            partitions,
            market,
            telemetry.Registry(registry.view, registry.refresh),
            {
                "postgres": partial(orders.write_postgres, database),
                "kafka": partial(orders.write_kafka, Sender(settings.brokers)),
            },
        )
        _run(flow, settings)


def _run(flow: Dataflow, settings: FlowSettings) -> None:
    directory = settings.recovery_dir
    directory.mkdir(parents=True, exist_ok=True)
    if not any(directory.glob("*.sqlite3")):
        init_db_dir(directory, 1)
    run_main(
        flow,
        epoch_interval=timedelta(seconds=settings.snapshot_seconds),
        recovery_config=RecoveryConfig(str(directory)),
    )


@contextlib.contextmanager
def ended_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; the sources end at it, so that the flow snapshots and returns."""
    stop = threading.Event()
    former = {wanted: signal.signal(wanted, lambda *_: stop.set()) for wanted in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for wanted, handler in former.items():
            signal.signal(wanted, handler)


def run_flow(flow: str, settings: Settings, recovery: Path, snapshot_seconds: float = 1.0) -> None:
    """Run a flow by name with the process's settings. Raises ConfigError for one that can't be used."""
    if flow not in FLOWS:
        raise ConfigError("flow", flow, f"one of {', '.join(FLOWS)}", "name one of them")
    given = FlowSettings(
        brokers=settings.kafka_bootstrap_servers,
        database_url=settings.database_url,
        recovery_dir=recovery,
        archive_dir=settings.data_dir,
        network_id=settings.network_id,
        snapshot_seconds=snapshot_seconds,
        influxdb_url=settings.influxdb_url,
        influxdb_token=settings.influxdb_token,
    )
    if flow == "telemetry":
        run_telemetry(given)
    else:
        run_orders(msgspec.structs.replace(given, market=_market(), rules=_rules(settings)))


def _market() -> bytes:
    from gridtokenx_pipelines.chain.addresses import market  # noqa: PLC0415 - only the orders flow needs solders

    return bytes(market())


def _rules(settings: Settings) -> Rules:
    try:
        return msgspec.json.decode(settings.rules_path.read_bytes(), type=Rules)
    except (OSError, msgspec.DecodeError) as error:
        bound = f"a readable file of rules ({error})"
        raise ConfigError("GRIDTOKENX_RULES_PATH", str(settings.rules_path), bound, "write one") from error


def main() -> None:
    """Run a flow from plain options, without the environment."""
    parser = argparse.ArgumentParser(prog="python -m streaming.run", description="Run a streaming flow.")
    parser.add_argument("flow", choices=FLOWS)
    parser.add_argument("--brokers", required=True, help="host:port[,host:port …]")
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--recovery", required=True, type=Path, help="folder of the recovery store")
    parser.add_argument("--archive", type=Path, default=Path(), help="folder in which archive/ is written")
    parser.add_argument("--network-id", type=int, default=3, help="1 mainnet-beta, 2 devnet, 3 localnet")
    parser.add_argument("--snapshot-seconds", type=float, default=1.0)
    parser.add_argument("--broker-wait-seconds", type=float, default=30.0)
    parser.add_argument("--market", type=bytes.fromhex, default=b"", help="32 bytes in hex (orders flow)")
    options = parser.parse_args()
    settings = FlowSettings(
        brokers=options.brokers,
        database_url=options.database_url,
        recovery_dir=options.recovery,
        archive_dir=options.archive,
        network_id=options.network_id,
        snapshot_seconds=options.snapshot_seconds,
        broker_wait_seconds=options.broker_wait_seconds,
        market=options.market,
    )
    try:
        if options.flow == "telemetry":
            run_telemetry(settings)
        else:
            run_orders(settings)
    except (BrokerError, StateVersionError, ConfigError) as error:
        sys.exit(f"{options.flow}: {error}")


if __name__ == "__main__":
    main()
