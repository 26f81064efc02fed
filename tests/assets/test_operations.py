"""What an operator does besides settling: disputes, resuming, reconciling; what is seen and told by itself."""

from __future__ import annotations

import json
import shutil
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import msgspec
import pytest
from click.testing import CliRunner
from sqlalchemy import make_url, text

from gridtokenx_pipelines import operations
from gridtokenx_pipelines.alerts.channels import Alert, deliver
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.localnet_process import LocalnetProcess
from gridtokenx_pipelines.config import ConfigError, Settings
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.resources import Settlement
from gridtokenx_pipelines.settle_cli.commands import settle as settle_group
from gridtokenx_pipelines.settlement_service import clearing, finality, instructions, receipts, reconcile, stuck
from gridtokenx_pipelines.settlement_service.disputes import Decision, DisputeRefused, decide
from gridtokenx_pipelines.settlement_service.inspections.verdict import failed
from gridtokenx_pipelines.settlement_service.services import Services, open_services
from tests.assets.market_chain import bring_up, settings
from tests.assets.market_day import FIRST, meter_id, seed
from tests.assets.test_settlement_on_chain import settle

EPOCHS = [FIRST, FIRST + 1, FIRST + 2]


@pytest.fixture
def site(new_database: Callable[[], str], tmp_path: Path) -> Iterator[Site]:
    yield from Site.open(new_database, tmp_path)


class Site:
    """A market on a local chain that can be stopped, put back and started again; a database that can be restored."""

    def __init__(self, chain: Path, configured: Settings, new_database: Callable[[], str]) -> None:
        self.chain, self.configured, self.new_database = chain, configured, new_database

    @classmethod
    def open(cls, new_database: Callable[[], str], folder: Path) -> Iterator[Site]:
        with LocalnetProcess(folder / "localnet", slot_ms=20) as localnet:
            with ChainClient(localnet.url) as client:
                bring_up(client)
            made = cls(folder / "localnet", settings(folder / "data", new_database(), localnet.url), new_database)
            made.url = localnet.url
            with open_services(made.configured) as services:
                made.services = services
                yield made

    url: str
    services: Services

    def scalar(self, sql: str) -> Any:
        with self.services.engine.connect() as connection:
            return connection.execute(text(sql)).scalar_one()

    def cli(self, *arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(settle_group, arguments, env=self.configured.as_env())
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output


def decision(**changes: Any) -> Decision:
    usual = {
        "case_id": "C-17",
        "meter_id": meter_id(3),
        "boundary_epoch": FIRST + 1,
        "production_delta_wh": 30,
        "consumption_delta_wh": 0,
        "reason": "the inverter's own log",
        "decided_by": "somchai",
    }
    return Decision(**{**usual, **changes})


def test_a_decided_dispute_is_a_run_that_names_its_case_as_often_as_needed(site: Site) -> None:
    seed(site.services.engine, 3)
    assert settle(site.services, EPOCHS) == []
    given = ["--meter", meter_id(3), "--boundary", key_of(FIRST + 1), "--reason", "log", "--by", "somchai", "--now"]
    code, output = site.cli("dispute", "--case", "C-17", "--production", "30", *given)
    assert (code, output.splitlines()) == (0, ["case C-17: decided", "booked, x = 4 Wh, run with seq 4"])
    code, output = site.cli("dispute", "--case", "C-17", "--production", "30", *given)
    assert (code, output.splitlines()[0]) == (0, "case C-17: was decided so before")
    code, output = site.cli("dispute", "--case", "C-18", "--production", "-30", *given)
    assert (code, output.splitlines()[1]) == (0, "booked, x = -4 Wh, run with seq 5")
    code, output = site.cli("runs", "--epoch", key_of(FIRST + 1), "--json")
    shown = [(row["run"], row["kind"], row["status"], row["cause"]) for row in json.loads(output)]
    assert shown == [
        (0, "initial", "finalised", "clearing"),
        (1, "resettlement", "finalised", "dispute C-17"),
        (2, "resettlement", "finalised", "dispute C-18"),
    ]
    assert [one.detail for one in failed(receipts.inspect_epochs(site.services, EPOCHS))] == []


def test_a_decision_that_cannot_be_carried_out_gets_a_named_answer_and_changes_nothing(site: Site) -> None:
    seed(site.services.engine, 3)
    assert settle(site.services, EPOCHS[:2]) == []
    wrong = {
        "unknown_meter": {"meter_id": "MEA-999"},
        "not_settled": {"boundary_epoch": FIRST + 2},
        "beyond_horizon": {"boundary_epoch": FIRST - 14 * 96},
        "nothing_moves": {"production_delta_wh": 0},
        "beyond_rating": {"production_delta_wh": 2_751},
    }
    for name, change in wrong.items():
        with pytest.raises(DisputeRefused) as refused:
            decide(site.services, decision(**change))
        assert refused.value.name == name
    assert decide(site.services, decision()) is True
    with pytest.raises(DisputeRefused, match="decided_otherwise"):
        decide(site.services, decision(production_delta_wh=31))
    assert site.scalar("SELECT count(*) FROM corrections") == 1
    code, output = site.cli("debts")
    assert (code, output) == (0, "nobody owes anything\n")


def test_a_run_that_is_open_too_long_is_seen_and_brought_on_by_the_button(site: Site) -> None:
    seed(site.services.engine, 2)
    clearing.clear_epochs(site.services, EPOCHS[:2])
    instructions.plan_epochs(site.services, EPOCHS[:2])
    assert stuck.find(site.services, 900) == []
    later = datetime.now(UTC) + timedelta(seconds=1_000)
    found = stuck.find(site.services, 900, now=later)
    assert [(each.seq, each.status, each.waits_for) for each in found] == [
        (1, "booked", "its oracles' equal roots"),
        (2, "booked", "its oracles' equal roots"),
    ]
    code, output = site.cli("resume")
    assert (code, output.splitlines()[-1][:34]) == (0, "2 epochs brought to their end, 0 r")
    assert stuck.find(site.services, 900, now=later) == []
    code, output = site.cli("keep-house")
    assert (code, output) == (0, "0 epochs closed, 0 lamports returned; 0 days compacted from 0 to 0 files\n")
    assert site.scalar("SELECT count(*) FROM market_epochs WHERE status = 'settled'") == 2


def test_receipts_become_final_and_what_a_reorganisation_takes_away_is_settled_again(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    database, folder = new_database(), tmp_path / "localnet"
    with LocalnetProcess(folder, slot_ms=20) as localnet:
        with ChainClient(localnet.url) as client:
            bring_up(client)
        configured = settings(tmp_path / "data", database, localnet.url)
        with open_services(configured) as services:
            seed(services.engine, 2)
            assert settle(services, EPOCHS[:1]) == []
            time.sleep(0.3)
            assert finality.follow(services).reopened == ()
            unstamped = count(services, "SELECT count(*) FROM blockchain_transactions WHERE commitment <> 'finalized'")
            assert unstamped == 0
    shutil.copytree(folder, tmp_path / "fork")
    with LocalnetProcess(folder, slot_ms=20) as localnet, open_services(at(configured, localnet.url)) as services:
        assert settle(services, EPOCHS[1:2]) == []
    # the fork that lacks the second epoch turns out to be the chain
    with (
        LocalnetProcess(tmp_path / "fork", slot_ms=20) as localnet,
        open_services(at(configured, localnet.url)) as services,
    ):
        time.sleep(0.3)
        seen = finality.follow(services)
        assert (seen.reopened, seen.gone > 0) == ((2,), True)
        assert count(services, "SELECT count(*) FROM market_epochs WHERE status = 'cleared'") == 1
        assert stuck.resume(services).epochs == (FIRST + 1,)
        assert [f"{one.check}: {one.failing}" for one in failed(receipts.inspect_epochs(services, EPOCHS[:2]))] == []


def at(configured: Settings, url: str) -> Settings:
    return msgspec.structs.replace(configured, solana_rpc_url=url)


def count(services: Services, sql: str) -> int:
    with services.engine.connect() as connection:
        return int(connection.execute(text(sql)).scalar_one())


def test_a_database_restored_from_before_the_last_epochs_is_brought_up_to_the_chain_and_nobody_is_paid_twice(
    site: Site,
) -> None:
    services = site.services
    seed(services.engine, 3)
    assert settle(services, EPOCHS[:1]) == []
    restored = copy_of(site)
    assert settle(services, EPOCHS[1:]) == []
    decide(services, decision())
    sent = services.client.call("getTransactionCount")
    before = balances(services)
    services.engine.dispose()
    old = msgspec.structs.replace(site.configured, database_url=restored)
    with open_services(old) as forgetful:
        assert reconcile.reconcile(forgetful, dry_run=True).consistent is False
        found = reconcile.reconcile(forgetful)
        assert found.consistent, found.steps
        assert any("booked again: seq 3" in step for step in found.steps)
        assert balances(forgetful) == before
        assert [f"{o.check}: {o.failing}" for o in failed(receipts.inspect_epochs(forgetful, EPOCHS))] == []
        assert reconcile.reconcile(forgetful).consistent
    assert services.client.call("getTransactionCount") == sent


def test_a_restore_that_lost_mandates_takes_them_from_the_chain(site: Site) -> None:
    services = site.services
    seed(services.engine, 2)
    assert settle(services, EPOCHS[:1]) == []
    restored = copy_of(site)
    assert settle(services, EPOCHS[1:2]) == []
    with open_services(msgspec.structs.replace(site.configured, database_url=restored)) as forgetful:
        with forgetful.engine.begin() as connection:
            connection.execute(text("DELETE FROM mandates WHERE buy_back"))
        found = reconcile.reconcile(forgetful)
        assert balances(forgetful) == balances(services)
    assert found.consistent, found.steps


def test_a_restore_without_the_energy_of_that_time_says_what_to_bring_back(site: Site) -> None:
    services = site.services
    seed(services.engine, 2)
    assert settle(services, EPOCHS[:1]) == []
    restored = copy_of(site)
    assert settle(services, EPOCHS[1:2]) == []
    with open_services(msgspec.structs.replace(site.configured, database_url=restored)) as forgetful:
        with forgetful.engine.begin() as connection:
            moved = "UPDATE net_energy SET production_wh = production_wh + 1, net_wh = net_wh + 1, "
            moved += "production_end_wh = production_end_wh + 1 WHERE epoch = :epoch AND net_wh > 0"
            connection.execute(text(moved), {"epoch": EPOCHS[1]})
        found = reconcile.reconcile(forgetful)
    assert found.consistent is False
    assert "has the final root" in found.steps[-1]


def copy_of(site: Site) -> str:
    """A copy of the database as it stands: what a restore brings back."""
    site.services.engine.dispose()
    import psycopg2  # noqa: PLC0415 - only here

    new = site.new_database()
    source, target = (make_url(url).database for url in (site.configured.database_url, new))
    connection = psycopg2.connect(make_url(new).set(database="postgres").render_as_string(hide_password=False))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f'DROP DATABASE "{target}"')
        cursor.execute(f'CREATE DATABASE "{target}" TEMPLATE "{source}"')
    connection.close()
    return new


def balances(services: Services) -> list[tuple[Any, ...]]:
    with services.engine.connect() as connection:
        sql = text("SELECT owner, grid_wh, thbc_uthb, debt_uthb FROM balances ORDER BY owner")
        return [tuple(row) for row in connection.execute(sql)]


# --- alerts ------------------------------------------------------------------------------------------------------


class Hook(BaseHTTPRequestHandler):
    """Keeps what is posted to it."""

    got: ClassVar[list[dict[str, str]]] = []

    def do_POST(self) -> None:
        Hook.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silent."""


class Mailbox(socketserver.StreamRequestHandler):
    """An SMTP server of the few commands that sending a mail takes."""

    got: ClassVar[list[str]] = []

    def handle(self) -> None:
        self.wfile.write(b"220 sink\r\n")
        lines: list[str] | None = None
        for raw in self.rfile:
            line = raw.decode().rstrip("\r\n")
            if lines is not None:
                if line == ".":
                    Mailbox.got.append("\n".join(lines))
                    lines = None
                    self.wfile.write(b"250 kept\r\n")
                else:
                    lines.append(line)
            elif line.upper() == "DATA":
                lines = []
                self.wfile.write(b"354 go on\r\n")
            elif line.upper() == "QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            else:
                self.wfile.write(b"250 ok\r\n")


@pytest.fixture
def sinks() -> Iterator[dict[str, str]]:
    """A webhook and a mail server, as the settings name them."""
    Hook.got, Mailbox.got = [], []
    servers = (HTTPServer(("127.0.0.1", 0), Hook), socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox))
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    hook, mail = (server.server_address[1] for server in servers)
    yield {
        "GRIDTOKENX_ALERT_WEBHOOK_URL": f"http://127.0.0.1:{hook}/",
        "GRIDTOKENX_ALERT_EMAIL_TO": "operator@example.org, night@example.org",
        "GRIDTOKENX_SMTP_URL": f"smtp://127.0.0.1:{mail}",
    }
    for server in servers:
        server.shutdown()
        server.server_close()


def test_an_alert_reaches_webhook_and_mail_and_a_dead_channel_keeps_none_from_the_other(
    site: Site, sinks: dict[str, str]
) -> None:
    alert = Alert(title="a settlement is stuck", text="run 0 waits", key="stuck/1")
    configured = Settings.from_env(site.configured.as_env() | sinks)
    assert deliver(configured, alert) == []
    assert Hook.got == [{"title": "a settlement is stuck", "text": "run 0 waits", "key": "stuck/1"}]
    assert len(Mailbox.got) == 1
    assert "To: operator@example.org, night@example.org" in Mailbox.got[0]
    assert "Subject: [GridTokenX localnet] a settlement is stuck" in Mailbox.got[0]
    dead = Settings.from_env(site.configured.as_env() | sinks | {"GRIDTOKENX_SMTP_URL": "smtp://127.0.0.1:9"})
    (wrong,) = deliver(dead, alert)
    assert wrong.startswith("e-mail: ConnectionRefusedError")
    assert len(Hook.got) == 2
    with pytest.raises(ConfigError, match="GRIDTOKENX_SMTP_URL"):
        Settings.from_env(site.configured.as_env() | {"GRIDTOKENX_ALERT_EMAIL_TO": "operator@example.org"})


def test_the_sensor_alarms_once_about_a_stuck_run_and_asks_for_the_job_that_resumes_it(
    site: Site, sinks: dict[str, str]
) -> None:
    seed(site.services.engine, 1)
    clearing.clear_epochs(site.services, EPOCHS[:1])
    with site.services.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET booked_at = now() - interval '2 hours'"))
    environment = site.configured.as_env() | sinks
    with dg.DagsterInstance.ephemeral() as instance:
        cursor = None
        for _ in range(2):
            resource = Settlement(environment=environment)
            context = dg.build_sensor_context(
                instance=instance, cursor=cursor, resources={"settlement": resource}, definitions=None
            )
            with context:
                result = operations.stuck_settlement_sensor(context)
            assert isinstance(result, dg.SensorResult)
            assert result.run_requests
            assert result.run_requests[0].run_key is not None
            cursor = result.cursor
        assert [each["key"] for each in Hook.got] == ["stuck/1"]
        done = operations.resume_stuck_settlement.execute_in_process(
            instance=instance, resources={"settlement": Settlement(environment=environment)}
        )
        assert done.success
    assert site.scalar("SELECT count(*) FROM runs WHERE status = 'finalised'") == 1
