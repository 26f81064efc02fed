"""A real solana-test-validator: found, started with the five programs, stopped.

Belongs here: the process and where its binary may be. Does not belong here: what is done on it.
"""

from __future__ import annotations

import itertools
import lzma
import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.errors import ChainError
from gridtokenx_pipelines.chain.localnet import program_files

BINARY = "solana-test-validator"
PACKED_PATTERN = "solana-test-validator-*-linux-amd64.xz"
START_SECONDS = 90.0
DYNAMIC_PORTS = 64
LOWEST_PORT, HIGHEST_PORT = 10_000, 32_000


class ValidatorMissing(RuntimeError):
    """No solana-test-validator on this machine; the message says where it was looked for."""


class ValidatorFailed(RuntimeError):
    """The validator ended or did not answer; the message carries the end of its log."""


def find_validator(cache_dir: Path, shared_dir: Path | None = None, named: str | None = None) -> Path:
    """Path of the binary: `named` (SOLANA_TEST_VALIDATOR), PATH, or a packed one in `shared_dir`, unpacked once.

    Raises ValidatorMissing.
    """
    if named:
        if not os.access(named, os.X_OK):
            raise ValidatorMissing(f"SOLANA_TEST_VALIDATOR is {named}, which can't be run; name the binary")
        return Path(named)
    on_path = shutil.which(BINARY)
    if on_path:
        return Path(on_path)
    packed = sorted(shared_dir.glob(PACKED_PATTERN)) if shared_dir and shared_dir.is_dir() else []
    if not packed:
        raise ValidatorMissing(f"{BINARY} was not found by SOLANA_TEST_VALIDATOR, on PATH or in {shared_dir}")
    return _unpack(packed[-1], cache_dir)


def _unpack(packed: Path, cache_dir: Path) -> Path:
    target = cache_dir / packed.stem
    if not target.exists():
        cache_dir.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".{os.getpid()}")
        with lzma.open(packed) as source, temporary.open("wb") as unpacked:
            shutil.copyfileobj(source, unpacked, 1 << 20)
        temporary.chmod(temporary.stat().st_mode | stat.S_IXUSR)
        temporary.replace(target)
    return target


class Validator:
    """A running validator with a fresh ledger; a context manager that stops it at the end.

    Its RPC and faucet ports listen on all interfaces whatever is asked: not for a machine that strangers reach.
    """

    def __init__(self, binary: Path, ledger_dir: Path, programs: Mapping[Pubkey, Path] | None = None) -> None:
        self.binary = binary
        self.ledger_dir = Path(ledger_dir)
        self.programs = program_files() if programs is None else programs
        # RPC, websocket, faucet, gossip, then the validator's own
        self.port = _free_stretch(4 + DYNAMIC_PORTS)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """JSON-RPC address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start and wait (some 15 s) until it lands transactions; ValidatorFailed if it does not come up."""
        self.ledger_dir.parent.mkdir(parents=True, exist_ok=True)
        faucet, gossip, first = self.port + 2, self.port + 3, self.port + 4
        command = [str(self.binary), "--ledger", str(self.ledger_dir), "--rpc-port", str(self.port)]
        command += ["--faucet-port", str(faucet), "--gossip-port", str(gossip)]
        command += ["--bind-address", "127.0.0.1", "--reset", "--quiet"]
        command += ["--dynamic-port-range", f"{first}-{first + DYNAMIC_PORTS - 1}", "--limit-ledger-size", "10000"]
        for address, path in self.programs.items():
            command += ["--bpf-program", str(address), str(path)]
        log = self.ledger_dir.with_suffix(".log")
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603 found above
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                own = sorted(self.ledger_dir.glob("validator*.log"))
                words = "".join(path.read_text(errors="replace")[-2_000:] for path in [log, *own[-1:]])
                self.stop()
                raise ValidatorFailed(f"{self.binary} did not come up: {words}")
            time.sleep(0.2)
        return self

    def _ready(self) -> bool:
        client = ChainClient(self.url, timeout_seconds=2.0)
        try:
            # before the first finalised slot it accepts transactions and holds them back
            return client.call("getHealth") == "ok" and client.slot("finalized") > 0
        except ChainError:
            return False
        finally:
            client.close()

    def stop(self) -> None:
        """End it; its ledger stays."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _free_stretch(count: int) -> int:
    """First of `count` ports in a row that nothing is bound to, below those the system hands out by itself."""
    first = LOWEST_PORT + os.getpid() * count % (HIGHEST_PORT - LOWEST_PORT)
    for start in itertools.chain(range(first, HIGHEST_PORT, count), range(LOWEST_PORT, first, count)):
        if all(_is_free(port) for port in range(start, start + count)):
            return start
    raise ValidatorFailed(f"no {count} free ports in a row in {LOWEST_PORT}…{HIGHEST_PORT}; stop something")


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
