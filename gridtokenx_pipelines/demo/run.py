"""The demo from beginning to end: stack, registration, the day, settlement, resettlement, proof, report.

Belongs here: the order of the steps, their times, what is shown on the way. Does not belong here: any of the steps.
A killed demo is run again: the stream is replayed from its beginning (docs/decisions/0005), settled epochs stay.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine, text

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.errors import ChainError
from gridtokenx_pipelines.chain.setup import SetupError
from gridtokenx_pipelines.config import NETWORK_IDS, Settings, traces_from_env
from gridtokenx_pipelines.demo import prepare
from gridtokenx_pipelines.demo.options import DemoOptions
from gridtokenx_pipelines.demo.play import Player, wait_complete
from gridtokenx_pipelines.demo.result import ProofError, closes, report_data, result_of
from gridtokenx_pipelines.demo.surroundings import RESULT_FILE, claim, settings_for
from gridtokenx_pipelines.demo.validator import validator
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.instance import (
    RangeOutcome,
    dagster_env,
    environment,
    fail_abandoned_runs,
    open_instance,
    run_range,
)
from gridtokenx_pipelines.messaging.kafka import BrokerError, Sender, partitions_of
from gridtokenx_pipelines.messaging.topics import METER_READINGS, ORDERS
from gridtokenx_pipelines.observability import tracing
from gridtokenx_pipelines.report.data import ReportData, savings
from gridtokenx_pipelines.report.html import write_report
from gridtokenx_pipelines.report.summary import print_summary
from gridtokenx_pipelines.settlement_service.progress import complete_unsettled_epochs, epochs_with_corrections
from gridtokenx_pipelines.settlement_service.services import Services, open_services
from gridtokenx_pipelines.simulation.grids import UnknownGridError
from gridtokenx_pipelines.simulation.neighbourhood import Neighbourhood, build_neighbourhood
from gridtokenx_pipelines.simulation.zones import ZonesError
from gridtokenx_pipelines.stack import Stack
from gridtokenx_pipelines.store import transformer
from gridtokenx_pipelines.store.postgres import migrate

EPOCHS_AT_ONCE = 16
MOST_RESETTLEMENT_ROUNDS = 8


class DemoError(RuntimeError):
    """A step of the demo failed; the message says which, and what the checks said."""


class Times:
    """Seconds by stage, in the order of the stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to the stage."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started


def run_demo(options: DemoOptions) -> int:
    """Play, settle, prove, show; 0 if every law closes, 1 if not or if a step failed."""
    logging.disable(logging.WARNING)  # librdkafka and Dagster talk about what the summary tells better
    console = Console(stderr=True)
    try:
        with Stack(options.data_dir) as stack:
            claim(options)
            result, frames = _Demo(options, stack, console).run()
    except (DemoError, UnknownGridError, ZonesError, ProofError, ChainError, SetupError, BrokerError) as error:
        click.echo(f"demo: {error}", err=True)
        return 1
    _show(options, result, frames, console)
    return 0 if closes(result) else 1


def _show(options: DemoOptions, result: dict[str, Any], frames: ReportData, console: Console) -> None:
    document = json.dumps(result, indent=2)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(document + "\n")
    report = write_report(options.output.with_suffix(".html"), frames)
    if options.as_json:
        sys.stdout.write(document + "\n")
        return
    print_summary(result, savings(frames.wallet_entries, frames.rules), Console())
    console.print(f"result: {options.output}\nreport: {report}\n[bold]make ui[/bold] opens Dagster on the same data")


def _traces() -> tuple[str, str, int]:
    target, per_million = traces_from_env()
    return target, "demo", per_million


class _Demo:
    def __init__(self, options: DemoOptions, stack: Stack, console: Console) -> None:
        self.options, self.stack, self.console = options, stack, console
        self.times = Times()
        self.transformer: tuple[transformer.Document, ...] = ()
        self.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=options.as_json,
        )

    def run(self) -> tuple[dict[str, Any], ReportData]:
        """All steps; the result and the report's frames."""
        options = self.options
        tracing.configure(*_traces())
        with self.times.stage("stack"):
            settings, neighbourhood = self._start()
        with environment(dagster_env(settings)), open_services(settings) as services, self.progress:
            with self.times.stage("register"):
                self._say(f"registering {len(neighbourhood.households)} households on the chain")
                rules = services.rules.at(options.start_epoch)
                prepare.register_on_chain(services.client, neighbourhood, rules, options.start_epoch)
                prepare.save_participants(services.engine, services.client, neighbourhood, options.start_epoch)
                prepare.save_transformer(services.engine, neighbourhood)
                self.transformer = prepare.transformer_readings(
                    settings, neighbourhood, options.start_epoch, options.epochs
                )
            player = self._open_day(settings, services.engine, neighbourhood)
            with open_instance(settings) as instance:
                fail_abandoned_runs(instance)  # the folder's lock makes this demo the instance's only owner
                self._settle_day(services, instance, player)
                with self.times.stage("resettle"):
                    self._resettle(services, instance)
            with self.times.stage("proof"):
                result = result_of(services, options, sent=player.sent.sent, seconds=self.times.seconds)
            result["seconds"] = {stage: round(value, 2) for stage, value in self.times.seconds.items()}
            (options.data_dir / RESULT_FILE).write_text(json.dumps(result))
            return result, report_data(services, options, neighbourhood, result)

    def _say(self, words: str) -> None:
        if not self.options.as_json:
            self.console.print(words)

    def _start(self) -> tuple[Settings, Neighbourhood]:
        options, stack = self.options, self.stack
        self._say(f"starting Postgres, broker and chain in {options.data_dir}")
        database_url = stack.postgres()
        brokers = stack.broker()
        if options.chain == "validator":
            rpc_url = stack.enter(validator(options.data_dir))
        else:
            rpc_url = stack.localnet(options.rpc_port)
        settings = settings_for(
            options.data_dir, database_url=database_url, brokers=brokers, rpc_url=rpc_url, mechanism=options.mechanism
        )
        migrate(database_url)
        neighbourhood = build_neighbourhood(
            options.grid,
            options.seed,
            options.zones,
            cache_dir=_cache(options.data_dir),
            network_id=NETWORK_IDS[settings.network],
        )
        prepare.write_files(settings, neighbourhood)
        return settings, neighbourhood

    def _open_day(self, settings: Settings, engine: Engine, neighbourhood: Neighbourhood) -> Player:
        """New broker, so new offsets: the flows begin from nothing and find in the tables what they wrote before."""
        brokers, data_dir = settings.kafka_bootstrap_servers, self.options.data_dir
        partitions = partitions_of(brokers, METER_READINGS.name)
        if partitions_of(brokers, ORDERS.name) != partitions:
            raise DemoError(f"topics {METER_READINGS.name} and {ORDERS.name} differ in partitions; make them alike")
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM stream_progress"))
            connection.execute(text("DELETE FROM stream_counts"))
        player = Player(Sender(brokers), neighbourhood, partitions=partitions, speed=self.options.speed)
        player.announce(self.options.start_epoch)
        for flow in ("telemetry", "orders"):
            recovery = data_dir / "recovery" / flow
            shutil.rmtree(recovery, ignore_errors=True)
            self.stack.start(
                flow,
                ["gridtokenx_pipelines.cli", "stream", flow, "--recovery", str(recovery), "--metrics-port", "0"],
                settings.as_env(),
            )
        player.open(self.options.start_epoch, self.options.epochs, bytes(addresses.market()))
        return player

    def _settle_day(self, services: Services, instance: Any, player: Player) -> None:
        """Play ahead by one chunk while the one before settles: flows and settlement run side by side."""
        options = self.options
        task = self.progress.add_task("epochs settled", total=options.epochs)
        with self.times.stage("play"):
            played = player.play(EPOCHS_AT_ONCE)
        while played is not None:
            with self.times.stage("play"):
                ahead = player.play(EPOCHS_AT_ONCE)
            # a chunk's last epoch closes with the ticks that follow it, which the chunk ahead has brought by now
            complete = played
            with services.engine.begin() as connection:
                until = complete - options.start_epoch + 2  # both ends of the chunk's last epoch
                transformer.take(connection, self.transformer[:until], services.rules.network_id)
            with self.times.stage("wait for flows"):
                wait_complete(services.engine, complete, self.stack.check)
            with self.times.stage("settle"):
                self._settle_through(services, instance, complete)
            self.progress.update(task, completed=complete - options.start_epoch + 1)
            played = ahead

    def _settle_through(self, services: Services, instance: Any, last: int) -> None:
        epochs = [epoch for epoch in complete_unsettled_epochs(services, self.options.epochs) if epoch <= last]
        if epochs:
            _demand(run_range(instance, epochs[0], epochs[-1]), f"epochs {key_of(epochs[0])} to {key_of(epochs[-1])}")

    def _resettle(self, services: Services, instance: Any) -> None:
        """As the sensor does: while corrections of settled epochs wait, run the job over their epochs."""
        for _ in range(MOST_RESETTLEMENT_ROUNDS):
            waiting = epochs_with_corrections(services)
            if not waiting:
                return
            self._say(f"re-settling {sum(waiting.values())} late corrections")
            first, last = min(waiting), max(waiting)
            _demand(run_range(instance, first, last, job="resettle_epoch"), "resettlement")
            if epochs_with_corrections(services) == waiting:
                return  # the supplier can't cover the rest yet: they wait for a later run


def _demand(outcome: RangeOutcome, what: str) -> None:
    if not outcome.success:
        checks = "".join(f"\n  {each.asset}.{each.check}: {each.detail}" for each in outcome.failed_checks)
        raise DemoError(f"{what} failed in run {outcome.run_id}: {outcome.error or 'a check failed'}{checks}")


def _cache(data_dir: Path) -> Path:
    return data_dir / "cache"
