"""The flows by name: what each is built from. `python -m streaming.run telemetry --brokers …`.

Belongs here: adapters handed to the flows. Does not belong here: the flows themselves (telemetry.py, orders.py,
price_guard.py), what stands around them (process.py), restarting them (supervise.py).
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from gridtokenx_pipelines.config import ConfigError, Settings, traces_from_env
from gridtokenx_pipelines.market.rule_book import RuleBook
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.messaging.connection import Brokers, Cluster
from gridtokenx_pipelines.messaging.influx import InfluxWriter
from gridtokenx_pipelines.messaging.kafka import Sender, TopicEnds, partitions_of, read_range, wait_for_broker
from gridtokenx_pipelines.messaging.registry_topic import RegistryTopic
from gridtokenx_pipelines.messaging.topics import (
    MARKET_EVENTS,
    METER_READINGS,
    METER_REGISTRY,
    NET_ENERGY,
    ORDERS,
    TRADES,
)
from gridtokenx_pipelines.metering.verify import Verifier
from gridtokenx_pipelines.observability import logs, tracing
from gridtokenx_pipelines.observability.metrics import READINGS, FlowMetrics
from gridtokenx_pipelines.observability.sampler import Sampler
from gridtokenx_pipelines.store.energy import refused_offsets
from gridtokenx_pipelines.store.parquet import ParquetStore
from gridtokenx_pipelines.store.postgres import engine
from streaming import orders, price_guard, telemetry
from streaming.archive import Archive, archived_points
from streaming.observe import Observer
from streaming.process import Running, ended_by_signals, endpoint_of, named_end, run, run_id
from streaming.source import KafkaBatches

FLOWS = ("telemetry", "orders", "price-guard")
LAG_SECONDS, MARKET_SECONDS = 2.0, 15.0


class FlowSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a flow needs to know. `archive_dir` is the folder in which `archive/` lies; `market` its 32-byte address.

    From `workers` on: how it runs, as `process.Running` has it.
    """

    brokers: Brokers
    database_url: str
    recovery_dir: Path
    archive_dir: Path
    network_id: int = 3
    snapshot_seconds: float = 1.0
    broker_wait_seconds: float = 30.0
    readings_topic: str = METER_READINGS.name
    orders_topic: str = ORDERS.name
    registry_topic: str = METER_REGISTRY.name
    trades_topic: str = TRADES.name
    influxdb_url: str = ""
    influxdb_token: str = ""
    market: bytes = b""
    rules: Rules = Rules()
    workers: int = 1
    addresses: tuple[str, ...] = ()
    index: int = 0
    recovery_partitions: int = 1
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = 0

    def running(self) -> Running:
        """How it runs. Raises ConfigError."""
        return Running(**{name: getattr(self, name) for name in Running.__struct_fields__}).checked()


class _Process(NamedTuple):
    """What every flow's process has: resources to close, its source, its eyes."""

    resources: contextlib.ExitStack
    source: KafkaBatches
    partitions: int
    observer: Observer
    checks: dict


@contextlib.contextmanager
def _process(flow: str, topic: str, settings: FlowSettings) -> Iterator[_Process]:
    running = settings.running()
    observer = Observer(FlowMetrics(flow, READINGS if flow == "telemetry" else f"{flow.replace('-', '_')}_records"))
    with contextlib.ExitStack() as resources:
        stop = resources.enter_context(ended_by_signals())
        checks = resources.enter_context(endpoint_of(flow, running, observer.metrics))
        if not wait_for_broker(settings.brokers, settings.broker_wait_seconds, stop.is_set):
            sys.exit(0)  # nothing was begun, so nothing is left to snapshot
        partitions = partitions_of(settings.brokers, topic)
        ends = TopicEnds(settings.brokers, topic, partitions)
        lag = Sampler("broker", partial(observer.sample_lag, ends), LAG_SECONDS)
        resources.callback(lag.close)
        checks["broker"] = lag.health
        source = KafkaBatches(settings.brokers, topic, partitions, stop, observer.handed)
        yield _Process(resources, source, partitions, observer, checks)


def _registry(process: _Process, settings: FlowSettings) -> RegistryTopic:
    registry = RegistryTopic(settings.brokers, settings.registry_topic)
    process.resources.callback(registry.close)
    registry.refresh()
    return registry


def run_telemetry(settings: FlowSettings) -> None:
    """Run the telemetry flow until it is told to end."""
    with _process(telemetry.FLOW, settings.readings_topic, settings) as process:
        resources, registry = process.resources, _registry(process, settings)
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
        sinks: dict[str, Callable] = {
            "observe": process.observer.telemetry,
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
                notes=_influx_notes(settings),
            )
            resources.callback(writer.close)
            sinks["influx"] = partial(telemetry.write_influx, writer)
        flow = telemetry.build_flow(
            process.source,
            process.partitions,
            verifier,
            telemetry.Registry(registry.view, registry.refresh),
            sinks,
        )
        run(flow, settings.running())


def _influx_notes(settings: FlowSettings) -> Path:
    # each process of a cluster owes what it wrote itself
    number = f"-{settings.index}" * bool(settings.index)
    return settings.recovery_dir.with_name(f"{settings.recovery_dir.name}.influx-owed{number}.json")


def run_orders(settings: FlowSettings) -> None:
    """Run the orders flow until it is told to end."""
    with _process(orders.FLOW, settings.orders_topic, settings) as process:
        resources, registry = process.resources, _registry(process, settings)
        database = engine(settings.database_url, pool_size=1)
        resources.callback(database.dispose)
        sample = Sampler("database", partial(process.observer.sample_market, database), MARKET_SECONDS)
        resources.callback(sample.close)
        process.checks["database"] = sample.health
        market = orders.Market(settings.network_id, settings.market, settings.rules)
        flow = orders.build_flow(
            process.source,
            process.partitions,
            market,
            telemetry.Registry(registry.view, registry.refresh),
            {
                "observe": process.observer.orders,
                "postgres": partial(orders.write_postgres, database),
                "kafka": partial(orders.write_kafka, Sender(settings.brokers)),
            },
        )
        run(flow, settings.running())


def run_price_guard(settings: FlowSettings) -> None:
    """Run the price guard until it is told to end."""
    with _process(price_guard.FLOW, settings.trades_topic, settings) as process:
        database = engine(settings.database_url, pool_size=1)
        process.resources.callback(database.dispose)
        partitions = partitions_of(settings.brokers, MARKET_EVENTS.name)
        flow = price_guard.build_flow(
            process.source,
            {
                "observe": process.observer.price_guard,
                "postgres": partial(price_guard.write_postgres, database),
                "kafka": partial(price_guard.write_kafka, Sender(settings.brokers), partitions),
            },
        )
        run(flow, settings.running())


RUN: dict[str, Callable[[FlowSettings], None]] = {
    telemetry.FLOW: run_telemetry,
    orders.FLOW: run_orders,
    price_guard.FLOW: run_price_guard,
}


def run_flow(flow: str, settings: Settings, running: Running) -> None:
    """Run a flow by name with the process's settings. Raises ConfigError for one that can't be used."""
    given = FlowSettings(
        brokers=Cluster(settings.kafka_bootstrap_servers, settings.kafka_security),
        database_url=settings.database_url,
        archive_dir=settings.data_dir,
        network_id=settings.network_id,
        influxdb_url=settings.influxdb_url,
        influxdb_token=settings.influxdb_token,
        **msgspec.structs.asdict(running),
    )
    if flow == orders.FLOW:
        given = msgspec.structs.replace(given, market=_market(), rules=_rules(settings))
    RUN[flow](given)


def _market() -> bytes:
    from gridtokenx_pipelines.chain.addresses import market  # noqa: PLC0415 - only the orders flow needs solders

    return bytes(market())


def _rules(settings: Settings) -> RuleBook:
    try:
        return msgspec.json.decode(settings.rules_path.read_bytes(), type=RuleBook)
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
    logs.configure(level="WARNING", flow=options.flow, run=run_id())
    target, per_million = traces_from_env()
    tracing.configure(target, f"{options.flow}-flow", per_million)
    sys.exit(ended(options.flow, partial(RUN[options.flow], settings)))


def ended(flow: str, work: Callable[[], None]) -> int:
    """Do the work; the exit code, an error with a name in one line, one without as it is."""
    try:
        work()
    except Exception as error:  # Bytewax wraps what a step raises, so the kind is looked for in its causes
        named = named_end(error)
        if named is None:
            raise
        code, words = named
        sys.stderr.write(f"{flow}: {words}\n")
        return code
    return 0


if __name__ == "__main__":
    main()
