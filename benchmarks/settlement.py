"""Settlement: an epoch of many meters by stage, a range of days of 80 meters, Dagster's share, storage and cost.

    python benchmarks/settlement.py [--meters 10000] [--days 2] [--write]

The limit is that of 30 days, which `--days 30` runs in full; fewer days are held to their part of it.

Belongs here: what is measured against which limit of pipeline.md §5, and the report. Does not belong here: clearing
alone (clearing.py), the programs' compute units. Everything goes the real way: Postgres from the wheel, the local chain
behind JSON-RPC, the stages that `settle_epoch` runs. Setting up households on the chain is not part of any figure.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import msgspec  # noqa: E402 - after the path
import polars as pl  # noqa: E402
import settlement_parts as parts  # noqa: E402
from results import machine, write_section  # noqa: E402
from sqlalchemy import text  # noqa: E402

from gridtokenx_pipelines.chain.addresses import address_of_meter, address_of_trader, deployer_seed  # noqa: E402
from gridtokenx_pipelines.chain.client import ChainClient  # noqa: E402
from gridtokenx_pipelines.chain.localnet_process import LocalnetProcess  # noqa: E402
from gridtokenx_pipelines.chain.participants import (  # noqa: E402
    CONSUMER,
    METER_TYPES,
    PROSUMER,
    ChainKeys,
    ChainMandate,
    ChainMeter,
    ChainUser,
    MarketFunding,
)
from gridtokenx_pipelines.chain.setup import Setup  # noqa: E402
from gridtokenx_pipelines.chain.signer import KeypairSigner, write_keypair_file  # noqa: E402
from gridtokenx_pipelines.config import Settings  # noqa: E402
from gridtokenx_pipelines.embedded_postgres import start_postgres, stop_postgres  # noqa: E402
from gridtokenx_pipelines.epochs import epoch_of_key, start_us  # noqa: E402
from gridtokenx_pipelines.instance import open_instance, run_range  # noqa: E402
from gridtokenx_pipelines.market.rules import Link, Network, Rules, Zone  # noqa: E402
from gridtokenx_pipelines.messaging.mock_broker import MockBroker  # noqa: E402
from gridtokenx_pipelines.settlement_service import clearing, energy, instructions, receipts, statements  # noqa: E402
from gridtokenx_pipelines.settlement_service.inspections.verdict import failed  # noqa: E402
from gridtokenx_pipelines.settlement_service.services import Services, open_services  # noqa: E402
from gridtokenx_pipelines.store import deposits, participants  # noqa: E402
from gridtokenx_pipelines.store import energy as energy_store  # noqa: E402
from gridtokenx_pipelines.store.postgres import migrate  # noqa: E402
from gridtokenx_pipelines.store.progress import save_progress  # noqa: E402

FIRST = epoch_of_key("2026-03-02T05:00Z")
ZONES = (1, 2, 3, 4)
DEPOSIT_UTHB, FUNDING_UTHB = 10**9, 10**13
CLEARED_LIMIT, RECEIPTS_LIMIT, MONTH_LIMIT = 15.0, 45.0, 120.0
EPOCHS_A_YEAR, EPOCHS_A_MONTH = 35_040, 2_880
LAMPORTS_A_SOL, THB_A_SOL = 10**9, 5_000  # an assumption, stated with the figure


def signer(name: str) -> KeypairSigner:
    """A key of this name."""
    return KeypairSigner.from_seed(sha256(f"benchmark {name}".encode()).digest())


class Bench:
    """A market of so many meters, one a household, on its own chain and database."""

    def __init__(self, folder: Path, meters: int, epochs: int) -> None:
        self.folder, self.count, self.epochs = folder, meters, epochs
        self.owners = [signer(f"household {index}") for index in range(meters)]
        self.wallets = [str(owner.pubkey) for owner in self.owners]
        self.zones = [ZONES[index % len(ZONES)] for index in range(meters)]
        self.broker = MockBroker()

    def meter(self, index: int) -> str:
        """Its id."""
        return f"B-{index:06d}"

    def bring_up(self, client: ChainClient) -> None:
        """Households, meters, funds on the chain."""
        keys = ChainKeys(
            payer=signer("relayer"),
            authority=KeypairSigner.from_seed(deployer_seed()),
            guardian=signer("guardian").pubkey,
            oracles=tuple(signer(f"oracle-{index}") for index in range(3)),
            oracle_threshold=2,
            bridge=(signer("bridge"),),
            bridge_threshold=1,
        )
        mandate = ChainMandate(sell_min_uthb_per_kwh=2_500_000, buy_max_uthb_per_kwh=3_900_000, max_wh=100_000)
        users = [
            ChainUser(
                wallet=owner,
                zone_id=zone,
                user_type=PROSUMER if index % 2 == 0 else CONSUMER,
                deposit_uthb=DEPOSIT_UTHB,
                deposit_reference=f"deposit {index}",
                mandate=mandate,
            )
            for index, (owner, zone) in enumerate(zip(self.owners, self.zones, strict=True))
        ]
        known = [
            ChainMeter(
                meter_id=self.meter(index),
                owner=owner,
                meter_type=METER_TYPES["Solar" if index % 2 == 0 else "Grid"],
                zone_id=self.zones[index],
                rating_w=10_000,
                device_key=bytes([index % 256] * 32),
                first_epoch=FIRST,
                baseline_production_wh=0,
                baseline_consumption_wh=0,
            )
            for index, owner in enumerate(self.owners)
        ]
        funding = MarketFunding(funder=signer("funder"), supplier_uthb=FUNDING_UTHB, grid_operator_uthb=FUNDING_UTHB)
        Setup(client, keys).bring_up(Rules(), users, known, funding)

    def settings(self, database: str, rpc: str) -> Settings:
        """Files and settings of its processes."""
        data, keys = self.folder / "data", self.folder / "data" / "keys"
        keys.mkdir(parents=True)
        write_keypair_file(keys / "authority.json", deployer_seed())
        for name in ("relayer", "oracle-0", "oracle-1", "oracle-2"):
            write_keypair_file(keys / f"{name}.json", sha256(f"benchmark {name}".encode()).digest())
        zones = tuple(Zone(zone_id=zone, name=f"z{zone}", zone_wheeling_uthb_per_kwh=50_000) for zone in ZONES)
        links = tuple(
            Link(
                link_id=zone,
                from_zone=zone,
                to_zone=zone + 1,
                capacity_forward_wh=50_000,
                capacity_backward_wh=50_000,
                link_wheeling_uthb_per_kwh=20_000,
                loss_ppm=10_000,
            )
            for zone in ZONES[:-1]
        )
        (data / "rules.json").write_bytes(msgspec.json.encode(Rules()))
        (data / "zones.json").write_bytes(msgspec.json.encode(Network(zones=zones, links=links)))
        return Settings.from_env(
            {
                "DATABASE_URL": database,
                "KAFKA_BOOTSTRAP_SERVERS": self.broker.bootstrap_servers,
                "SOLANA_RPC_URL": rpc,
                "GRIDTOKENX_DATA_DIR": str(data),
            }
        )

    def seed(self, services: Services) -> None:
        """The same market in the database, and every epoch's energy."""
        count = range(self.count)
        users = pl.DataFrame(
            {
                "wallet": self.wallets,
                "zone_id": self.zones,
                "user_type": ["prosumer" if index % 2 == 0 else "consumer" for index in count],
                "status": ["active"] * self.count,
                "trader_address": [bytes(address_of_trader(wallet)) for wallet in self.wallets],
            }
        )
        meters = pl.DataFrame(
            {
                "meter_id": [self.meter(index) for index in count],
                "wallet": self.wallets,
                "zone_id": self.zones,
                "meter_type": ["Solar" if index % 2 == 0 else "Grid" for index in count],
                "rating_w": [10_000] * self.count,
                "device_key": [bytes([index % 256] * 32) for index in count],
                "status": ["active"] * self.count,
                "first_epoch": [FIRST] * self.count,
                "baseline_production_wh": [0] * self.count,
                "baseline_consumption_wh": [0] * self.count,
                "baseline_seq": [0] * self.count,
                "baseline_timestamp_us": [start_us(FIRST)] * self.count,
                "address": [bytes(address_of_meter(self.meter(index))) for index in count],
            }
        )
        mandates = pl.DataFrame(
            {
                "wallet": self.wallets,
                "effective_epoch": [FIRST] * self.count,
                "sell_min_uthb_per_kwh": [2_500_000] * self.count,
                "buy_max_uthb_per_kwh": [3_900_000] * self.count,
                "max_wh": [100_000] * self.count,
                "buy_back": [True] * self.count,
                "set_at_us": [start_us(FIRST) - index for index in count],
            }
        )
        with services.engine.begin() as connection:
            participants.save_users(connection, users)
            participants.save_meters(connection, meters)
            participants.save_mandates(connection, mandates)
            for index, wallet in enumerate(self.wallets):
                reference = f"deposit {index}"
                deposits.deposit(connection, reference=reference, wallet=wallet, amount_uthb=DEPOSIT_UTHB, epoch=FIRST)
            for account in ("supplier", "grid_operator"):
                deposits.fund(connection, reference=account, account=account, amount_uthb=FUNDING_UTHB, epoch=FIRST)
            energy_store.save_net_energy(connection, self._energy())
            for flow in ("telemetry", "orders"):
                save_progress(connection, flow, 0, partitions=1, closed_epoch=FIRST + self.epochs - 1)

    def _energy(self) -> pl.DataFrame:
        draw, rows = random.Random(1), []  # noqa: S311 - not secret
        for index in range(self.count):
            at = [0, 0]
            for epoch in range(FIRST, FIRST + self.epochs):
                produced = draw.randint(0, 1_200) if index % 2 == 0 else 0
                consumed = draw.randint(0, 700)
                end = [at[0] + produced, at[1] + consumed]
                rows.append(
                    (self.meter(index), self.wallets[index], self.zones[index], epoch, 0, *at, *end, produced, consumed,
                     produced - consumed, 15, False, False, 0, 14, False, epoch)
                )  # fmt: skip
                at = end
        return pl.DataFrame(rows, schema=energy_store.NET_ENERGY, orient="row")


def timed(times: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    """Run it, add its seconds."""
    started = time.perf_counter()
    result = work()
    times[name] = times.get(name, 0.0) + time.perf_counter() - started
    return result


def one_epoch(services: Services, epochs: list[int]) -> dict[str, float]:
    """The stages of these epochs with their seconds, checks included."""
    times: dict[str, float] = {}
    timed(times, "net energy", lambda: energy.collect(services, epochs))
    timed(times, "net energy, checks", lambda: energy.inspect_epochs(services, epochs))
    outcome = timed(times, "book and clearing, with checks", lambda: clearing.clear_epochs(services, epochs))
    bad = failed([*outcome.book_verdicts, *outcome.result_verdicts])
    if bad:
        raise RuntimeError(f"{bad[0].check}: {bad[0].detail}")
    timed(times, "entries and roots", lambda: instructions.plan_epochs(services, epochs))
    timed(times, "entries and roots, checks", lambda: instructions.inspect_epochs(services, epochs))
    timed(times, "chain, all receipts", lambda: receipts.settle_epochs(services, epochs))
    bad = failed(timed(times, "chain equals ledger", lambda: receipts.inspect_epochs(services, epochs)))
    if bad:
        raise RuntimeError(f"{bad[0].check}: {bad[0].detail}")
    timed(times, "statements", lambda: statements.write(services, epochs))
    return times


def scalar(services: Services, sql: str) -> int:
    """One number."""
    with services.engine.connect() as connection:
        return int(connection.execute(text(sql)).scalar_one())


def stored_bytes(services: Services, folder: Path) -> tuple[int, int]:
    """Bytes in Postgres and in Parquet."""
    frames = sum(path.stat().st_size for path in (folder / "data" / "frames").rglob("*.parquet"))
    return scalar(services, "SELECT pg_database_size(current_database())"), frames


def measure(folder: Path, server: str, meters: int, epochs: int, *, stages: bool) -> list[str]:
    """One market of these sizes, as lines of the report."""
    bench = Bench(folder, meters, epochs)
    with LocalnetProcess(folder / "localnet") as localnet:
        started = time.perf_counter()
        with ChainClient(localnet.url) as client:
            bench.bring_up(client)
        ready = time.perf_counter() - started
        configured = bench.settings(server, localnet.url)
        with open_services(configured) as services:
            bench.seed(services)
            before = stored_bytes(services, folder)
            print(f"{meters} meters are on the chain after {ready:.0f} s", flush=True)
            every = list(range(FIRST, FIRST + epochs))
            if stages:
                lines = _by_stage(services, meters, every)
            else:
                with open_instance(configured) as instance, parts.inner_checks() as inner:
                    runs, processors = [], parts.Processors(folder)
                    started = time.perf_counter()
                    for start in range(0, epochs, 96):
                        outcome = run_range(instance, every[start], every[min(start + 95, epochs - 1)])
                        if not outcome.success:
                            raise RuntimeError(str(outcome.error or outcome.failed_checks))
                        runs.append(outcome.run_id)
                    whole = time.perf_counter() - started
                    spent = parts.rows(parts.step_seconds(instance, runs), dict(inner), processors.since(), epochs)
                    started = time.perf_counter()
                    run_range(instance, every[0], every[min(95, epochs - 1)])
                    again = (time.perf_counter() - started) / min(96, epochs)
                lines = [
                    f"| {meters} meters × {epochs} epochs through `settle_epoch`, a day a run | {whole:.1f} s "
                    f"({whole / epochs * 1000:.0f} ms an epoch) | ≤ {MONTH_LIMIT * epochs / EPOCHS_A_MONTH:.0f} s |",
                    f"| of that Dagster and looking again: a settled epoch materialised once more | {again * 1000:.0f} "
                    "ms an epoch | |",
                    *spent,
                ]
            after = stored_bytes(services, folder)
            lines += _costs(services, meters, epochs, before, after)
    return lines


def _by_stage(services: Services, meters: int, every: list[int]) -> list[str]:
    times = one_epoch(services, every)
    to_cleared = sum(times[name] for name in list(times)[:3])
    to_receipts = sum(times[name] for name in list(times)[:6])
    rows = [f"| {meters} meters, one epoch: {name} | {seconds:.2f} s | |" for name, seconds in times.items()]
    rows.append(f"| **completion to cleared** | {to_cleared:.1f} s | < {CLEARED_LIMIT:.0f} s |")
    rows.append(f"| **completion to all receipts** | {to_receipts:.1f} s | < {RECEIPTS_LIMIT:.0f} s |")
    return rows


def _costs(services: Services, meters: int, epochs: int, before: tuple[int, int], after: tuple[int, int]) -> list[str]:
    sent = scalar(services, "SELECT count(*) FROM blockchain_transactions")
    fees = scalar(services, "SELECT sum(fee_lamports) FROM blockchain_transactions")
    month = fees / epochs * EPOCHS_A_MONTH / meters
    thb = month / LAMPORTS_A_SOL * THB_A_SOL
    rows, frames = ((after[i] - before[i]) / meters / epochs * EPOCHS_A_YEAR / 1e6 for i in (0, 1))
    return [
        f"| {meters} meters: transactions, base fees an epoch | {sent / epochs:.1f}, {fees / epochs:.0f} lamports | |",
        f"| {meters} meters: storage a meter and year, Postgres + Parquet | {rows:.1f} + {frames:.1f} MB | |",
        f"| {meters} meters: on chain a household and month, {THB_A_SOL} THB/SOL | {thb:.3f} THB | < 1 THB |",
    ]


def main() -> None:
    """Measure, print, and with --write put the section into RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meters", type=int, default=10_000, help="meters of the epoch by stage; 0: leave it out")
    parser.add_argument("--days", type=float, default=2, help="days of 80 meters, 30: all; 0: none")
    parser.add_argument("--write", action="store_true", help="write the section `settlement` of RESULTS.md")
    options = parser.parse_args()
    lines = ["| what | measured | limit |", "|---|---|---|"]
    with tempfile.TemporaryDirectory(prefix="settlement-") as name:
        folder = Path(name)
        server = start_postgres(folder)
        try:
            if options.meters:
                lines += _market(folder / "large", server.get_uri(), options.meters, 1, stages=True)
            if options.days:
                lines += _market(folder / "month", server.get_uri(), 80, int(options.days * 96), stages=False)
                lines += parts.import_rows()
        finally:
            stop_postgres(folder)
    told = "\n".join(lines)
    print(told)
    if options.write:
        remark = "The two cores were shared with other work throughout."
        command = f"python benchmarks/settlement.py --meters {options.meters} --days {options.days:g}"
        head = f"`{command}`, {machine('dagster', 'polars')} {remark}"
        write_section("settlement", f"{head}\n\n{told}")


def _market(folder: Path, server: str, meters: int, epochs: int, *, stages: bool) -> list[str]:
    from sqlalchemy import create_engine, make_url  # noqa: PLC0415 - only here

    url = make_url(server)
    engine = create_engine(url.set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{folder.name}"'))
    engine.dispose()
    database: str = url.set(database=folder.name).render_as_string(hide_password=False)
    migrate(database)
    folder.mkdir()
    return measure(folder, database, meters, epochs, stages=stages)


if __name__ == "__main__":
    main()
