"""A random market day settled twice, undisturbed and through crashes and a misbehaving RPC: the end must be the same.

Belongs here: the random day, the crashes, the comparison. Does not belong here: the faults (rpc_faults.py).
`python tests/chaos/settlement_faults.py --seed 7` replays seed 7; `--runs 50` goes on to seed 56.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
from sqlalchemy import NullPool, create_engine, event, make_url, text

sys.path.insert(0, str(Path(__file__).parents[2]))

from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.errors import ChainError
from gridtokenx_pipelines.chain.localnet_process import LocalnetProcess
from gridtokenx_pipelines.chain.state import read_market, read_meters, read_traders
from gridtokenx_pipelines.embedded_postgres import start_postgres, stop_postgres
from gridtokenx_pipelines.settlement_service import clearing, instructions, movements, receipts, resettlement
from gridtokenx_pipelines.settlement_service.disputes import Decision, decide
from gridtokenx_pipelines.settlement_service.inspections.verdict import failed
from gridtokenx_pipelines.settlement_service.services import Services, open_services
from gridtokenx_pipelines.store import energy, proof
from gridtokenx_pipelines.store.postgres import migrate
from tests.assets.households import Household
from tests.assets.market_chain import bring_up, settings
from tests.assets.market_day import FIRST, HOUSEHOLDS, meter_id, net_rows, seed, wallet
from tests.chaos.rpc_faults import FaultyRpc

EPOCHS = 4
MOST_TRIES = 400
# a crash falls within so many database statements and requests, or not at all in that try
CRASH_WITHIN = 350
CLIENT_PATIENCE_SECONDS = 0.4


class Crash(BaseException):
    """The process dies here: nothing between this and the next start runs, not even what catches errors."""


@dataclasses.dataclass
class Day:
    """What happens, drawn from the seed alone."""

    rows: list[dict[str, Any]]
    withdrawal: tuple[int, int]
    deposit: int
    corrections: list[tuple[int, int]]
    dispute: tuple[int, int]


def random_day(draw: random.Random) -> Day:
    """Six households' energy over four epochs, money in and out, two corrections, a dispute."""
    rows = net_rows(EPOCHS)
    for row in rows:
        produced = draw.randint(0, 1_500) if row["production_wh"] else 0
        consumed = draw.randint(0, 900)
        row |= {"production_wh": produced, "consumption_wh": consumed, "net_wh": produced - consumed}
    households = draw.sample(range(len(HOUSEHOLDS)), 3)
    return Day(
        rows=rows,
        withdrawal=(households[0], draw.randint(1, 50_000_000)),
        deposit=draw.randint(1, 9_000_000),
        corrections=[(each, draw.choice((-1, 1)) * draw.randint(1, 600)) for each in households[1:]],
        dispute=(households[1], draw.choice((-1, 1)) * draw.randint(1, 600)),
    )


class Market:
    """One market with its own chain and database."""

    def __init__(self, folder: Path, database: str, day: Day) -> None:
        self.folder, self.database, self.day = folder, database, day
        self.crashes: list[str] = []
        self.refusals = 0
        self.faults: dict[str, int] = {}
        self.laws_seen = 0

    def play(self, seed_of_faults: int | None) -> dict[str, Any]:
        """The whole day; with a seed, through crashes and faults. What the market came to."""
        with LocalnetProcess(self.folder / "localnet", slot_ms=20) as localnet:
            with ChainClient(localnet.url) as client:
                bring_up(client)
            self.configured = settings(self.folder / "data", self.database, localnet.url)
            with open_services(self.configured) as calm:
                seed(calm.engine, EPOCHS, self.day.rows)
                with contextlib.ExitStack() as stack:
                    urls = [localnet.url]
                    draw = None
                    if seed_of_faults is not None:
                        draw = random.Random(f"crashes {seed_of_faults}")  # noqa: S311 - not secret
                        proxies = [
                            stack.enter_context(FaultyRpc(localnet.url, seed_of_faults * 2 + index)) for index in (0, 1)
                        ]
                        urls = [proxy.url for proxy in proxies]
                    self._script(calm, urls, draw)
                    if seed_of_faults is not None:
                        for proxy in proxies:
                            for name, count in proxy.happened.items():
                                self.faults[name] = self.faults.get(name, 0) + count
                return end_of(calm, list(range(FIRST, FIRST + EPOCHS)))

    def _script(self, calm: Services, urls: list[str], draw: random.Random | None) -> None:
        def step(name: str, work: Callable[[Services], object]) -> None:
            self._survive(calm, urls, draw, name, work)

        first, second = [FIRST, FIRST + 1], [FIRST + 2, FIRST + 3]
        step("settle the first two epochs", lambda services: settle(services, first))
        index, amount = self.day.withdrawal
        household = Household(calm, index)
        household.act("request_withdrawal", thbc=amount, grid=50)
        self._corrections(calm)
        step("resettle", lambda services: resettlement.resettle_epochs(services, [FIRST + 1]))
        household.withdraw()
        paid = calm.client.token_balance(household.thbc)
        if paid:
            household.act("deposit", {"source": household.thbc}, amount=min(paid, self.day.deposit))
        step("settle the rest", lambda services: settle(services, second))
        disputed, moved = self.day.dispute
        decide(
            calm,
            Decision(
                case_id="C-1",
                meter_id=meter_id(disputed),
                boundary_epoch=FIRST + 2,
                production_delta_wh=0,
                consumption_delta_wh=moved,
                reason="a random day",
                decided_by="chaos",
            ),
        )
        step("settle the dispute", lambda services: resettlement.resettle_epochs(services, [FIRST + 2]))

    def _survive(
        self,
        calm: Services,
        urls: list[str],
        draw: random.Random | None,
        name: str,
        work: Callable[[Services], object],
    ) -> None:
        """Start the process again and again until it comes to the end of its work."""
        for _ in range(MOST_TRIES):
            crash_at = None if draw is None else draw.randint(1, CRASH_WITHIN)
            try:
                with self._process(urls, crash_at) as services:
                    work(services)
            except Crash as crash:
                self.crashes.append(f"{name}: {crash}")
            except (ChainError, ConnectionError) as error:
                self.refusals += 1
                if draw is None:
                    raise
                self.crashes.append(f"{name}: gave up: {error.name if isinstance(error, ChainError) else error}")
            else:
                return
            finally:
                self._require_laws(calm)
        raise AssertionError(f"{name} did not come to its end in {MOST_TRIES} starts")

    @contextlib.contextmanager
    def _process(self, urls: list[str], crash_at: int | None) -> Iterator[Services]:
        with open_services(self.configured) as plain:
            steps = 0

            def count(what: str) -> None:
                nonlocal steps
                steps += 1
                if steps == crash_at:
                    raise Crash(f"step {steps}, {what}")

            def statement(_c: Any, _cursor: Any, sql: str, *_: Any) -> None:
                count(f"before {' '.join(sql.split()[:3])}")

            class Mortal(ChainClient):
                async def _post(self, content: Any) -> Any:
                    answer = await super()._post(content)
                    count(f"after {(content[0] if isinstance(content, list) else content)['method']}")
                    return answer

            event.listen(plain.engine, "before_cursor_execute", statement)
            event.listen(plain.engine, "commit", lambda _c: count("before COMMIT"))
            kind = ChainClient if crash_at is None else Mortal
            with kind(
                urls[0], timeout_seconds=CLIENT_PATIENCE_SECONDS if crash_at else 30, fallback_urls=urls[1:]
            ) as client:
                yield dataclasses.replace(plain, client=client)

    def _corrections(self, services: Services) -> None:
        rows = [
            {
                "meter_id": meter_id(index),
                "wallet": wallet(index),
                "boundary_epoch": FIRST + 1,
                "revision": 1,
                "production_delta_wh": 0,
                "consumption_delta_wh": moved,
                "seq": 14,
                "timestamp_us": 1,
            }
            for index, moved in self.day.corrections
        ]
        with services.engine.begin() as connection:
            energy.save_corrections(connection, pl.DataFrame(rows, schema=energy.CORRECTIONS, orient="row"))

    def _require_laws(self, services: Services) -> None:
        """What a dead process left in the database obeys every law."""
        with services.engine.connect() as connection:
            wrong = [f"{law.law}: {law.difference}" for law in proof.ledger_laws(connection) if law.difference]
        assert not wrong, wrong
        self.laws_seen += 1


def end_of(services: Services, epochs: list[int]) -> dict[str, Any]:
    """Everything a market came to, on the chain and in the database, without times and signatures."""
    verdicts = failed(receipts.inspect_epochs(services, epochs))
    tables = {
        "balances": "SELECT owner, grid_wh, thbc_uthb, debt_uthb FROM balances ORDER BY 1",
        "accounts": "SELECT account, grid_wh, thbc_uthb FROM market_accounts ORDER BY 1",
        "runs": "SELECT seq, epoch, run, kind, status, encode(root, 'hex') FROM runs ORDER BY 1",
        "entries": "SELECT * FROM settlements ORDER BY seq, wallet",
        "corrections": "SELECT meter_id, boundary_epoch, revision, status, x_wh FROM corrections ORDER BY 1, 2, 3",
        "movements": "SELECT kind, owner, grid_wh, cash_uthb FROM chain_movements ORDER BY event_seq, leg",
    }
    with services.engine.connect() as connection:
        found: dict[str, Any] = {
            name: [list(row) for row in connection.execute(text(sql))] for name, sql in tables.items()
        }
    market = read_market(services.client)
    found["chain market"] = [[name, value] for name, value in sorted(market.items()) if name != "order_seq"]
    found["chain traders"] = [list(row) for row in read_traders(services.client).iter_rows()]
    found["chain meters"] = [list(row) for row in read_meters(services.client).iter_rows()]
    found["checks that fail"] = [[one.check, str(one.failing)] for one in verdicts]
    return found


def settle(services: Services, epochs: list[int]) -> None:
    """The stages of `settle_epoch`, without Dagster's own seconds."""
    movements.follow(services)
    outcome = clearing.clear_epochs(services, epochs)
    bad = failed([*outcome.book_verdicts, *outcome.result_verdicts])
    assert not bad, bad
    instructions.plan_epochs(services, epochs)
    receipts.settle_epochs(services, epochs)


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What differs between two ends, row by row."""
    wrong = []
    for name, rows in expected.items():
        left = [row for row in rows if row not in found[name]]
        right = [row for row in found[name] if row not in rows]
        if left or right:
            wrong.append(f"{name}: undisturbed {left}, disturbed {right}")
    return [*wrong, *(f"check fails: {row}" for row in found["checks that fail"])]


def run_seed(number: int, folder: Path, new_database: Callable[[], str]) -> tuple[list[str], Market]:
    """Play seed `number` both ways; what differs, and the disturbed market."""
    day = random_day(random.Random(f"day {number}"))  # noqa: S311 - not secret
    calm = Market(folder / "calm", new_database(), day)
    disturbed = Market(folder / "disturbed", new_database(), day)
    expected = calm.play(None)
    return differences(expected, disturbed.play(number)), disturbed


@contextlib.contextmanager
def databases(folder: Path) -> Iterator[Callable[[], str]]:
    """A function that makes fresh, migrated databases on a server of this folder, which ends at the end."""
    (folder / "pg").mkdir(parents=True)
    server = start_postgres(folder)
    url = make_url(server.get_uri())
    engine = create_engine(url.set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    numbers = itertools.count(1)

    def make() -> str:
        name = f"market_{next(numbers)}"
        with engine.connect() as connection:
            connection.execute(text(f'CREATE DATABASE "{name}"'))
        fresh: str = url.set(database=name).render_as_string(hide_password=False)
        migrate(fresh)
        return fresh

    try:
        yield make
    finally:
        engine.dispose()
        stop_postgres(folder)


def main() -> int:
    """Each seed both ways on an embedded database; 0 if every end is the same."""
    parser = argparse.ArgumentParser(description="Settle random days through crashes and RPC faults, compare the ends.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    bad = crashes = 0
    print(f"{'seed':>5} {'crashes':>8} {'faults':>7} {'laws seen':>10} {'seconds':>8}  difference")
    with tempfile.TemporaryDirectory(prefix="faults-") as name, databases(Path(name)) as new_database:
        for number in range(options.seed, options.seed + options.runs):
            started = time.monotonic()
            wrong, market = run_seed(number, Path(name) / str(number), new_database)
            crashes += len(market.crashes)
            print(
                f"{number:>5} {len(market.crashes):>8} {sum(market.faults.values()):>7} {market.laws_seen:>10} "
                f"{time.monotonic() - started:>8.1f}  {len(wrong)}",
                flush=True,
            )
            for each in (*market.crashes, *wrong) if wrong else ():
                print(f"      {each}", flush=True)
            bad += bool(wrong)
    print(f"{options.runs} days, {crashes} crashes, {bad} with another end" + (": replay with --seed" if bad else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
