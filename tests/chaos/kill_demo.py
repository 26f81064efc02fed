"""The demo killed with `kill -9` at random moments and run again: the end must be that of an undisturbed run.

Belongs here: killing and comparing, as a command (`make chaos`) and as functions for tests/e2e. Does not belong here:
what the demo does. Every second kill takes the database server with it, as a power cut would. Exit code 1 on a
difference.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a file: the project may not be installed

from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.state import read_market, read_meters, read_supplies, read_traders
from gridtokenx_pipelines.stack import Stack

RUN_TIMEOUT_SECONDS = 1_200
# a rerun finds settled epochs and is quicker; a moment drawn from the whole time would often come after its end
EARLIEST_SECONDS, LATEST_SHARE = 0.3, 0.95


class DemoRuns:
    """One data folder and the demo runs on it; `output` is what the last one that ended wrote."""

    def __init__(self, data_dir: Path, *arguments: str, hash_seed: int | None = None) -> None:
        self.data_dir, self.output = data_dir, data_dir.with_suffix(".json")
        folder = ["--data-dir", str(data_dir), "--output", str(self.output)]
        self.command = [sys.executable, "-m", "gridtokenx_pipelines.cli", "demo", "--json", *folder, *arguments]
        self.fresh = False
        self._env = {**os.environ, **({} if hash_seed is None else {"PYTHONHASHSEED": str(hash_seed)})}

    def _start(self) -> subprocess.Popen[bytes]:
        command, self.fresh = [*self.command, *(["--fresh"] if self.fresh else [])], False
        # a session of its own, so that the whole group can be killed and nothing else
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=self._env,
            start_new_session=True,
        )

    def finish(self) -> tuple[dict[str, Any], float]:
        """Run to the end: the printed result and the seconds it took. Raises RuntimeError for any exit code but 0."""
        started = time.monotonic()
        process = self._start()
        try:
            out, err = process.communicate(timeout=RUN_TIMEOUT_SECONDS)
        except BaseException:
            _kill_group(process)
            raise
        if process.returncode != 0:
            raise RuntimeError(
                f"the demo ended with code {process.returncode}:\n{err.decode(errors='replace')[-4_000:]}"
            )
        return json.loads(out), time.monotonic() - started

    def kill_after(self, seconds: float, *, database: bool) -> bool:
        """Start the demo and kill its whole group; with `database`, its Postgres too. False if it had ended before."""
        process = self._start()
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            _kill_group(process)
            if database:
                self._kill_postgres()
            return True
        if process.returncode != 0:
            raise RuntimeError(
                f"the demo ended with code {process.returncode}:\n{err.decode(errors='replace')[-4_000:]}"
            )
        json.loads(out)
        return False

    def _kill_postgres(self) -> None:
        with contextlib.suppress(OSError, ValueError, IndexError):
            postmaster = int((self.data_dir / "pg" / "postmaster.pid").read_text().split()[0])
            if b"postgres" in Path(f"/proc/{postmaster}/cmdline").read_bytes():
                os.kill(postmaster, signal.SIGKILL)

    def chain_state(self) -> dict[str, Any]:
        """Every balance that the chain of this folder holds: traders, meters, the market and its sums, supplies."""
        with Stack(self.data_dir) as stack:
            client = ChainClient(stack.localnet())
            try:
                supplies = read_supplies(client)
                return {
                    "traders": read_traders(client).rows(),
                    "meters": read_meters(client).rows(),
                    "market": read_market(client),
                    "supplies": {name: getattr(supplies, name) for name in supplies.__struct_fields__},
                }
            finally:
                client.close()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def differences(expected: dict[str, Any], found: dict[str, Any], path: str = "") -> list[str]:
    """What differs between two documents, leaf by leaf; `seconds` may."""
    wrong = []
    for name in sorted(expected.keys() | found.keys()):
        if name == "seconds":
            continue
        here = f"{path}{name}"
        left, right = expected.get(name), found.get(name)
        if isinstance(left, dict) and isinstance(right, dict):
            wrong += differences(left, right, f"{here}.")
        elif left != right:
            if isinstance(left, list) and isinstance(right, list):
                left, right = [row for row in left if row not in right], [row for row in right if row not in left]
            wrong.append(f"{here}: undisturbed {str(left)[:300]}, killed {str(right)[:300]}")
    return wrong


def share_cache(source: Path, target: Path) -> None:
    """Give a new data folder the grid's profiles, which take seconds to extract and don't depend on the demo."""
    shutil.copytree(source / "cache", target / "cache", dirs_exist_ok=True)


def killed_run(runs: DemoRuns, moments: random.Random, *, kills: int, seconds: float) -> dict[str, Any]:
    """Kill `kills` runs at random moments of one that takes `seconds`, then run to the end; its result."""
    done = tries = 0
    while done < kills:
        tries += 1
        latest = max(LATEST_SHARE * seconds * 0.8 ** (tries - done - 1), EARLIEST_SECONDS)
        moment, database = moments.uniform(EARLIEST_SECONDS, latest), bool(done % 2)
        if runs.kill_after(moment, database=database):
            done += 1
            print(
                f"kill {done} of {kills} after {moment:.1f} s" + (", and the database" if database else ""), flush=True
            )
        else:
            print(f"ended before its kill after {moment:.1f} s; once more", flush=True)
            runs.fresh = not done  # nothing was tried yet on a folder that ended undisturbed
    result, took = runs.finish()
    print(f"run after the kills ended in {took:.1f} s", flush=True)
    return result


def main() -> int:
    """Undisturbed, then killed, then compared; 0 if both ended alike."""
    parser = argparse.ArgumentParser(description="Kill the demo at random moments, rerun it, compare the end state.")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1, help="seed of the demo and of the moments")
    parser.add_argument("--keep", type=Path, help="folder to work in and leave behind; else a temporary one")
    options = parser.parse_args()
    with contextlib.ExitStack() as left_behind:
        folder = options.keep or Path(left_behind.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        folder.mkdir(parents=True, exist_ok=True)
        arguments = ("--seed", str(options.seed), "--epochs", str(options.epochs))
        undisturbed, killed = (DemoRuns(folder.resolve() / name, *arguments) for name in ("undisturbed", "killed"))
        for runs in (undisturbed, killed):
            runs.fresh = runs.data_dir.exists()
        expected, seconds = undisturbed.finish()
        print(f"undisturbed: {expected['epochs_settled']} epochs in {seconds:.1f} s", flush=True)
        share_cache(undisturbed.data_dir, killed.data_dir)
        moments = random.Random(options.seed)  # noqa: S311 - moments to kill at, nothing secret
        found = killed_run(killed, moments, kills=options.kills, seconds=seconds)
        wrong = differences(
            expected | {"chain_state": undisturbed.chain_state()}, found | {"chain_state": killed.chain_state()}
        )
    for each in wrong:
        print(f"DIFFERS {each}")
    print(f"{len(wrong)} differences after {options.kills} kills")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
