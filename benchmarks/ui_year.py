"""The UI's queries with a year of quarter hours on every asset: what a page waits for, in the web server's own code.

Belongs here: filling Dagster's event log, asking what the pages ask, the figures. Does not belong here: a browser.
Each asset's first materialisation is recorded by Dagster itself, the other 35,039 are its row with another partition:
what a settled year leaves behind. `python benchmarks/ui_year.py` takes some two minutes, replaces its section of
RESULTS.md.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster._core.test_utils import freeze_time
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster_graphql.schema import create_schema

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.results import machine, table, write_section
from gridtokenx_pipelines.dagster_storage import storage_url
from gridtokenx_pipelines.definitions import build_definitions
from gridtokenx_pipelines.embedded_postgres import start_postgres, stop_postgres
from gridtokenx_pipelines.instance import SWITCHES, environment, prepare_home
from gridtokenx_pipelines.partitions import EPOCHS

YEAR, NOW = 35_040, datetime(2027, 1, 1, tzinfo=UTC)
LIMIT_SECONDS = 5.0
RUNS = 5
MORE = sa.text(
    "INSERT INTO event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition) "
    "SELECT run_id, replace(event, :first, key), dagster_event_type, timestamp, step_key, asset_key, key "
    "FROM event_logs, unnest(CAST(:keys AS text[])) AS key WHERE asset_key = :asset AND partition = :first"
)
KEY = '{path: ["clearing_results"]}'
PAGES = {
    "asset graph: all assets with counts of partitions": """{ assetNodes { assetKey { path } groupName kinds
        partitionStats { numMaterialized numPartitions numFailed numMaterializing } } }""",
    "asset: status bar of all partitions": f"""{{ assetNodeOrError(assetKey: {KEY}) {{ ... on AssetNode {{
        assetPartitionStatuses {{ ... on TimePartitionStatuses {{ ranges {{ status startKey endKey }} }} }} }} }} }}""",
    "asset: list of all partition keys": f"""{{ assetNodeOrError(assetKey: {KEY}) {{ ... on AssetNode {{
        partitionKeysByDimension {{ partitionKeys }} }} }} }}""",
    "asset: one partition": f"""{{ assetNodeOrError(assetKey: {KEY}) {{ ... on AssetNode {{
        latestMaterializationByPartition(partitions: ["2026-06-14T17:15Z"]) {{ timestamp runId }} }} }} }}""",
    "asset: newest events": f"""{{ assetOrError(assetKey: {KEY}) {{ ... on Asset {{
        assetMaterializations(limit: 50) {{ partition timestamp runId }} }} }} }}""",
    "job: launchpad's partitions": """{ partitionSetsOrError(pipelineName: "settle_epoch", repositorySelector: {
        repositoryName: "__repository__", repositoryLocationName: "gridtokenx_pipelines.definitions"}) {
        ... on PartitionSets { results { name partitionsOrError { ... on Partitions { results { name } } } } } } }""",
    "runs": "{ runsOrError(limit: 25) { ... on Runs { results { runId status jobName } } } }",
}


def fill(instance: dg.DagsterInstance, engine: sa.Engine) -> int:
    """Every asset with quarter-hour partitions, its whole year; how many events."""
    keys = EPOCHS.get_partition_keys(current_time=NOW)[:YEAR]
    assets = [
        key
        for each in build_definitions().resolve_asset_graph().asset_nodes
        if each.partitions_def == EPOCHS
        for key in [each.key]
    ]
    for asset in assets:
        instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=keys[0]))
        with engine.begin() as connection:
            connection.execute(MORE, {"first": keys[0], "keys": keys[1:], "asset": asset.to_string()})
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(sa.text("ANALYZE"))
    return len(assets) * len(keys)


def timed(ask: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the first time and the median of the others."""
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - started)
    return seconds[0], sorted(seconds[1:])[(RUNS - 1) // 2]


def main() -> int:
    """Fill, ask, write; 1 if a page takes longer than the limit."""
    with tempfile.TemporaryDirectory(prefix="ui-year-") as name:
        os.chmod(name, 0o755)  # noqa: S103 - Postgres' own user must get to its folder inside
        folder = Path(name)
        server = start_postgres(folder)
        try:
            return measure(folder, server.get_uri())
        finally:
            stop_postgres(folder)


def measure(folder: Path, url: str) -> int:
    """With the database at `url`."""
    prepare_home(folder / "dagster")
    home = str(folder / "dagster")
    # the instance reads the environment when it is made
    with environment({"DATABASE_URL": url, "DAGSTER_HOME": home, **SWITCHES}):  # noqa: SIM117
        with dg.DagsterInstance.from_config(home) as instance, freeze_time(NOW):
            engine = sa.create_engine(storage_url(url))
            started = time.perf_counter()
            events = fill(instance, engine)
            print(f"{events:,} events in {time.perf_counter() - started:.0f} s", flush=True)
            with engine.connect() as connection:
                size = int(connection.execute(sa.text("SELECT pg_total_relation_size('event_logs')")).scalar_one())
            engine.dispose()
            target = ModuleTarget("gridtokenx_pipelines.definitions", None, "/", None)
            with WorkspaceProcessContext(instance, target) as process:
                schema, rows, slow = create_schema(), [], []
                for page, query in PAGES.items():

                    def ask(query: str = query) -> None:
                        result = asyncio.run(
                            schema.execute_async(query, context_value=process.create_request_context())
                        )
                        if result.errors:
                            raise SystemExit(f"{page}: {result.errors[0]}")  # noqa: B023 - raised at once

                    first, usual = timed(ask)
                    rows.append((page, f"{first:.2f} s", f"{usual:.2f} s", f"{LIMIT_SECONDS:.0f} s"))
                    slow += [page] if usual > LIMIT_SECONDS else []
                    print(*rows[-1], sep=" | ", flush=True)
    words = (
        f"{events:,} materialisations (a year of quarter hours on every epoch asset, {size / 1e6:.0f} MB), Postgres on "
        "the same machine, GraphQL executed by the web server's own schema. The limit is this benchmark's own, for a "
        "page that a person waits for, and holds for the usual time: the first look at the graph builds Dagster's "
        "cache of partitions from nothing for all assets, with a year that came at once and a frozen clock, which "
        "slows every date. Rows of checks are not in it. The cores were shared with other work."
    )
    figures = table(("what a page asks", "first", "then (median of 4)", "limit"), rows)
    about = f"`python benchmarks/ui_year.py`. {machine('dagster')}"
    write_section("The UI with a year of partitions", f"{about}\n\n{figures}\n\n{words}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
