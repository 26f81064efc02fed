"""Kill -9 at random moments what settles: the relayer, two of them at once, the chain, the database; compare the end.

Belongs here: the victims, the moments, the table. Does not belong here: killing the demo with its flows (kill_demo.py),
a misbehaving RPC (settlement_faults.py). `--seed` draws days, victims and moments; what a moment meets is up to the
machine, which is why the table says what was hit.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import psycopg2

sys.path.insert(0, str(Path(__file__).parents[2]))

from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.localnet_process import LocalnetProcess
from gridtokenx_pipelines.config import Settings
from gridtokenx_pipelines.embedded_postgres import start_postgres
from gridtokenx_pipelines.settlement_service.services import open_services
from tests.assets.market_chain import bring_up, settings
from tests.assets.market_day import FIRST, HOUSEHOLDS, close_flows, frame, meter_id, net_rows, seed, wallet
from tests.chaos.settlement_faults import databases, differences, end_of, settle

EPOCHS_A_ROUND, EPOCHS_AT_ONCE = 16, 4
VICTIMS = {"relayer": 55, "two relayers": 15, "chain": 15, "database": 15}
# after its start a relayer reads, clears and sends for about this long: moments fall into all of it
LATEST_SECONDS = 2.5
ENDED, FAILED = 0, 17


def rows_of(seed_number: int, epochs: int) -> list[dict[str, Any]]:
    """Random energy of six households, the same for the same seed."""
    draw = random.Random(f"rows {seed_number}")  # noqa: S311 - not secret
    rows = net_rows(epochs)
    for row in rows:
        produced = draw.randint(0, 1_500) if row["production_wh"] else 0
        consumed = draw.randint(0, 900)
        row |= {"production_wh": produced, "consumption_wh": consumed, "net_wh": produced - consumed}
    return rows


def corrections_of(seed_number: int, boundary: int) -> list[dict[str, Any]]:
    """Two corrections at a boundary."""
    draw = random.Random(f"corrections {seed_number}/{boundary}")  # noqa: S311 - not secret
    return [
        {
            "meter_id": meter_id(index),
            "wallet": wallet(index),
            "boundary_epoch": boundary,
            "revision": 1,
            "production_delta_wh": 0,
            "consumption_delta_wh": draw.choice((-1, 1)) * draw.randint(1, 600),
            "seq": 14,
            "timestamp_us": 1,
        }
        for index in draw.sample(range(len(HOUSEHOLDS)), 2)
    ]


class Stack:
    """Chain, database and forked relayers of one market."""

    def __init__(self, folder: Path, seed_number: int, new_database: Any) -> None:
        self.folder, self.seed = folder, seed_number
        self.localnet = LocalnetProcess(folder / "localnet", slot_ms=20).start()
        with ChainClient(self.localnet.url) as client:
            bring_up(client)
        self.configured: Settings = settings(folder / "data", new_database(), self.localnet.url)
        self.round = 0

    def next_round(self) -> None:
        """More epochs are complete, and corrections of earlier ones have come."""
        self.round += 1
        self.wait(self.fork(self._more))

    def _more(self) -> None:
        import polars as pl  # noqa: PLC0415 - its threads must not be there when this process forks

        from gridtokenx_pipelines.store import energy  # noqa: PLC0415 - see above

        epochs = self.round * EPOCHS_A_ROUND
        with open_services(self.configured) as services:
            rows = rows_of(self.seed, epochs)
            if self.round == 1:
                seed(services.engine, epochs, rows)
                return
            with services.engine.begin() as connection:
                energy.save_net_energy(connection, frame(rows[:]))
                late = corrections_of(self.seed, FIRST + epochs - EPOCHS_A_ROUND - 3)
                energy.save_corrections(connection, pl.DataFrame(late, schema=energy.CORRECTIONS, orient="row"))
            close_flows(services.engine, FIRST + epochs - 1)

    def work(self) -> None:
        """What a relayer does: settle what is complete, in parts, then resettle."""
        from gridtokenx_pipelines.settlement_service import progress, resettlement  # noqa: PLC0415 - see `_more`

        with open_services(self.configured) as services:
            while epochs := progress.complete_unsettled_epochs(services, limit=EPOCHS_AT_ONCE):
                settle(services, epochs)
            for boundary in progress.epochs_with_corrections(services):
                resettlement.resettle_epochs(services, [boundary])

    def fork(self, work: Any) -> int:
        """A process that does `work`; 0 if it came to its end."""
        pid = os.fork()
        if pid:
            return pid
        status = FAILED
        try:
            sys.stderr = (self.folder / "relayer.log").open("a")
            work()
            status = ENDED
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {str(error)[:300]}\n")
            sys.stderr.flush()
        finally:
            os._exit(status)

    @staticmethod
    def wait(pid: int) -> int:
        """Its exit code; negative if it was killed."""
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def settled(self) -> tuple[int, int]:
        """Settled epochs and open runs, as the database has them."""
        with psycopg2.connect(self.configured.database_url) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT (SELECT count(*) FROM market_epochs WHERE status = 'settled'), "
                "(SELECT count(*) FROM runs WHERE status IN ('booked', 'attested'))"
            )
            found = cursor.fetchone()
        connection.close()
        return found  # type: ignore[return-value]

    def finish(self) -> None:
        """Undisturbed to the end."""
        for _ in range(5):
            if self.wait(self.fork(self.work)) == ENDED:
                return
        raise RuntimeError(f"did not come to its end; see {self.folder}/relayer.log")

    def end(self) -> dict[str, Any]:
        """What the market came to, read by a process of its own."""
        target = self.folder / "end.json"

        def write() -> None:
            with open_services(self.configured) as services:
                epochs = list(range(FIRST, FIRST + self.round * EPOCHS_A_ROUND))
                target.write_bytes(msgspec.json.encode(end_of(services, epochs), enc_hook=str))

        if self.wait(self.fork(write)) != ENDED:
            raise RuntimeError(f"the end could not be read; see {self.folder}/relayer.log")
        return dict(msgspec.json.decode(target.read_bytes()))


def strike(stack: Stack, victim: str, moment: float, postgres: Path) -> str:
    """Start relayers, kill the victim after `moment` seconds; what it met."""
    pids = [stack.fork(stack.work) for _ in range(2 if victim == "two relayers" else 1)]
    time.sleep(moment)
    if victim == "chain":
        stack.localnet.kill()
    elif victim == "database":
        # immediate: its processes end where they are, as in a power cut, and the next start recovers from the log
        os.kill(int((postgres / "pg" / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    codes = [stack.wait(pid) for pid in pids]
    if victim == "chain":
        stack.localnet.start()
    elif victim == "database":
        time.sleep(0.2)
        start_postgres(postgres)
    return "at work" if any(code < 0 for code in codes) else "had ended"


def main() -> int:
    """Kill, go on, compare; 0 if nothing differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw = random.Random(options.seed)  # noqa: S311 - moments and victims, nothing secret
    started, hits = time.monotonic(), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="kills-") as name, databases(Path(name)) as new_database:
        stack = Stack(Path(name) / "killed", options.seed, new_database)
        stack.next_round()
        print(f"{'kill':>5} {'second':>7} {'victim':<13} {'after':>6} {'it was':<10} {'settled':>8} {'open':>5}")
        kills = 0
        while kills < options.kills:
            victim = draw.choices(list(VICTIMS), list(VICTIMS.values()))[0]
            moment = draw.uniform(0.05, LATEST_SECONDS)
            met = strike(stack, victim, moment, Path(name))
            settled, open_runs = stack.settled()
            if met == "at work":
                kills += 1
                hits[victim] += 1
                second = time.monotonic() - started
                print(
                    f"{kills:>5} {second:>7.1f} {victim:<13} {moment:>5.2f}s {met:<10} {settled:>8} {open_runs:>5}",
                    flush=True,
                )
            if settled == stack.round * EPOCHS_A_ROUND and not open_runs:
                stack.finish()
                stack.next_round()
        stack.finish()
        found = stack.end()
        stack.localnet.kill()
        calm = Stack(Path(name) / "calm", options.seed, new_database)
        while calm.round < stack.round:
            calm.next_round()
            calm.finish()
        wrong = differences(calm.end(), found)
        calm.localnet.kill()
    for each in wrong:
        print(f"DIFFERS {each[:2000]}")
    by_victim = ", ".join(f"{count} × {victim}" for victim, count in hits.most_common())
    print(f"{kills} kills ({by_victim}) over {stack.round * EPOCHS_A_ROUND} epochs: {len(wrong)} differences")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
