"""The restore drill on a real Postgres, by the jobs an operator runs and the commands he types."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from gridtokenx_pipelines import backup_operations
from gridtokenx_pipelines.backups import catalogue, keys, postgres, rehearsal
from gridtokenx_pipelines.backups.catalogue import BackupError
from gridtokenx_pipelines.cli import cli
from gridtokenx_pipelines.definitions import build_definitions
from gridtokenx_pipelines.instance import QUIET
from gridtokenx_pipelines.resources import Settlement
from gridtokenx_pipelines.store.postgres import migrate
from tests.chaos.restore_drill import Server, own

PASSWORD = "a pass/word@of:no value"  # noqa: S105 - of this test's own server; every character a URL must quote
QUOTED = "a%20pass%2Fword%40of%3Ano%20value"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A Postgres as the stack has it: write-ahead log summarised and archived, password, migrated."""
    with tempfile.TemporaryDirectory(prefix="backups-") as name:
        os.chmod(name, 0o755)  # noqa: S103 - Postgres' own user must get to its folders inside
        wal, made = own(Path(name) / "wal"), Server(own(Path(name) / "pg"))
        made.create(wal)
        made.configure(summarize_wal="on")
        made.start()
        made.sql(f"ALTER USER postgres PASSWORD '{PASSWORD}'")
        made.sql(f"CREATE ROLE backup LOGIN REPLICATION PASSWORD '{PASSWORD}'")
        (made.folder / "pg_hba.conf").write_text(
            "host all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n"
        )
        made.url = made.url.replace("postgres@", f"postgres:{QUOTED}@")
        made.sql("SELECT pg_reload_conf()")
        migrate(made.url)
        yield made
        made.stop("immediate")


@pytest.fixture
def environment(server: Server, tmp_path: Path) -> dict[str, str]:
    """Settings of a process that takes backups."""
    data = tmp_path / "data"
    (data / "keys").mkdir(parents=True)
    (data / "keys" / "oracle-1.json").write_text("[1]")
    (data / "frames").mkdir()
    (data / "frames" / "a.parquet").write_bytes(b"frame")
    return {
        "DATABASE_URL": server.url.replace("postgresql://", "postgresql+psycopg2://"),
        # as in the stack: one that may copy the cluster and read no table
        "GRIDTOKENX_BACKUP_DATABASE_URL": server.url.replace("postgres:", "backup:"),
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "SOLANA_RPC_URL": "http://127.0.0.1:1",
        "GRIDTOKENX_DATA_DIR": str(data),
        "GRIDTOKENX_BACKUP_DIR": str(tmp_path / "backups"),
        "GRIDTOKENX_BACKUP_RECIPIENT": keys.new_pair(tmp_path / "private"),
    }


def call(environment: dict[str, str], *words: str) -> Result:
    return CliRunner().invoke(cli, list(words), env=environment)


def run_job(environment: dict[str, str], name: str) -> dg.ExecuteInProcessResult:
    definitions = build_definitions(settlement=Settlement(environment=environment))
    with dg.DagsterInstance.ephemeral() as instance:
        job = definitions.resolve_job_def(name)
        # a job with its own config keeps it; the others run as quiet as a test may
        config = None if name == "back_up_what_is_new" else QUIET
        return job.execute_in_process(instance=instance, run_config=config, raise_on_error=False)


def settle(server: Server, epochs: range) -> None:
    for epoch in epochs:
        server.sql(f"INSERT INTO audit_logs_of_the_drill VALUES ({epoch:d})")  # noqa: S608 - a number


def count(url: str) -> str:
    return postgres.run("psql", "-AtX", "-c", "SELECT count(*) FROM audit_logs_of_the_drill", url=url)


def test_a_lost_database_comes_back_from_base_increments_and_log(
    server: Server, environment: dict[str, str], tmp_path: Path
) -> None:
    root = Path(environment["GRIDTOKENX_BACKUP_DIR"])
    server.sql("CREATE TABLE audit_logs_of_the_drill (epoch bigint)")
    settle(server, range(10))
    assert run_job(environment, "back_up_everything").success
    settle(server, range(20))
    assert run_job(environment, "back_up_what_is_new").success
    settle(server, range(30))
    time.sleep(1.1)  # a backup is named by its second, and one on a fast machine is done within it
    done = call(environment, "backup", "run", "--kind", "increment", "--part", "postgres", "--json")
    assert done.exit_code == 0, done.output
    (taken,) = json.loads(done.stdout)["taken"]
    assert taken["kind"] == "increment"
    held = datetime.now(UTC)
    settle(server, range(40))
    base, *increments = catalogue.records(root, "postgres")
    assert [each.kind for each in (base, *increments)] == ["base", "increment", "increment"]
    assert [each.parent for each in increments] == [base.name, increments[0].name]
    # an increment holds what changed and no more
    assert increments[1].bytes < base.bytes / 3
    listed = call(environment, "backup", "list")
    parts = [line.split()[0] for line in listed.output.splitlines()]
    assert sorted(parts) == ["files", "files", "keys", "postgres", "postgres", "postgres"]
    assert PASSWORD not in listed.output

    with tempfile.TemporaryDirectory(prefix="restored-") as name:
        os.chmod(name, 0o755)  # noqa: S103 - see above
        # the newest backup: base and both increments together
        folder = Path(name) / "newest"
        put_back = call(environment, "restore", "postgres", "--to", str(folder))
        assert put_back.exit_code == 0, put_back.output
        assert list(folder.glob(".s.PGSQL.*")) == [], "the lost server's lock would keep the restored one from starting"
        (folder / "pg_hba.conf").write_text("local all all trust\n")
        with rehearsal.started(folder) as url:
            assert count(url) == str(10 + 20 + 30)
        # and a point in time between two backups: an earlier one by its name, and the archived log
        server.sql("SELECT pg_switch_wal()")
        segment = server.sql("SELECT pg_walfile_name(pg_current_wal_lsn())")
        wal = server.folder.parent / "wal"
        server.sql("CREATE TABLE after_the_target ()")
        server.sql("SELECT pg_switch_wal()")
        while not (wal / segment).exists():
            server.sql("SELECT pg_sleep(0.05)")
        point = Path(name) / "point"
        words = ("restore", "postgres", "--name", base.name, "--to", str(point), "--wal", str(wal))
        assert call(environment, *words, "--until", held.isoformat()).exit_code == 0
        (point / "pg_hba.conf").write_text("local all all trust\n")
        with rehearsal.started(point) as url:
            assert count(url) == str(10 + 20 + 30)
        again = call(environment, "restore", "postgres", "--to", str(point))
        assert (again.exit_code, again.stderr.strip()) == (
            1, f"backup: {point} is not empty; give an empty folder, or move what is there away",
        )  # fmt: skip

    # the weekly rehearsal says what the restored database says
    rehearsed = run_job(environment, "rehearse_a_restore")
    assert rehearsed.success
    (facts,) = [event.step_output_data.metadata for event in rehearsed.all_events if event.is_successful_output]
    assert facts["backups"].value == ", ".join(each.name for each in (base, *increments))
    assert facts["settled_epochs"].value == "0"
    assert facts["schema"].value == server.sql("SELECT version_num FROM alembic_version")

    # a file that rotted is found by name, and nothing is restored from it
    rotten = root / "postgres" / increments[0].name / "base.tar.gz"
    rotten.write_bytes(rotten.read_bytes()[:-1])
    verified = call(environment, "backup", "verify")
    assert verified.exit_code == 1
    assert f"postgres/{increments[0].name}: base.tar.gz was changed since it was backed up" in verified.output
    with pytest.raises(BackupError, match="restore another one"):
        postgres.restore(root, None, tmp_path / "never")


def test_an_increment_without_a_base_is_a_base_and_without_summaries_it_is_refused_with_the_remedy(
    server: Server, environment: dict[str, str]
) -> None:
    first = call(environment, "backup", "run", "--kind", "increment", "--part", "postgres", "--json")
    assert json.loads(first.stdout)["taken"][0]["kind"] == "base"
    server.sql("ALTER SYSTEM SET summarize_wal = off")
    server.sql("SELECT pg_reload_conf()")
    try:
        refused = call(environment, "backup", "run", "--kind", "increment", "--part", "postgres")
        assert refused.exit_code == 1
        assert "summarize_wal was off, must be on for increments; ALTER SYSTEM SET summarize_wal = on" in refused.stderr
    finally:
        server.sql("ALTER SYSTEM SET summarize_wal = on")
        server.sql("SELECT pg_reload_conf()")


def test_a_part_that_fails_is_named_stops_no_other_and_fails_the_run(environment: dict[str, str]) -> None:
    environment["GRIDTOKENX_BACKUP_DATABASE_URL"] = "postgresql://nobody:secret-of-nobody@127.0.0.1:1/none"
    done = call(environment, "backup", "run")
    assert done.exit_code == 1
    assert "postgres: psql ended with 2: psql: error: connection to server" in done.stderr
    assert "secret-of-nobody" not in done.output
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["files", "keys"]
    job = run_job(environment, "back_up_everything")
    assert not job.success
    (failure,) = [event.step_failure_data for event in job.all_events if event.is_step_failure]
    assert failure.user_failure_data.description.startswith("postgres: psql ended with 2")


def test_without_a_folder_schedules_skip_commands_refuse_and_half_a_configuration_is_none(
    environment: dict[str, str],
) -> None:
    lacking = {**environment, "GRIDTOKENX_BACKUP_DIR": ""}
    refused = call(lacking, "backup", "run")
    assert (refused.exit_code, refused.stderr.strip()) == (
        1, "backup: GRIDTOKENX_BACKUP_DIR was empty, must be an absolute folder on another disk; set it",
    )  # fmt: skip
    for schedule, hour, key in (
        (backup_operations.daily_backup_schedule, 2, "2026-11-22"),
        (backup_operations.hourly_backup_schedule, 5, "2026-11-22T05"),
    ):
        for settings, wanted in ((lacking, None), (environment, key)):
            with (
                dg.DagsterInstance.ephemeral() as instance,
                dg.build_schedule_context(
                    instance=instance,
                    scheduled_execution_time=datetime(2026, 11, 22, hour, tzinfo=UTC),
                    resources={"settlement": Settlement(environment=settings)},
                ) as context,
            ):
                tick = schedule.evaluate_tick(context)
            assert [each.run_key for each in tick.run_requests or ()] == ([wanted] if wanted else [])
            assert (tick.skip_message or "").startswith("" if wanted else "GRIDTOKENX_BACKUP_DIR is not set")
    nobody = call({**environment, "GRIDTOKENX_BACKUP_RECIPIENT": ""}, "backup", "run")
    assert "GRIDTOKENX_BACKUP_RECIPIENT was ''" in str(nobody.exception)
