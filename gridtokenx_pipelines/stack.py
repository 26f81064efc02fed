"""The embedded stack of one machine: Postgres from the wheel, a Kafka-protocol broker, the local chain, the flows.

Belongs here: starting, finding and ending those processes, the lock of a data folder, free ports. Does not belong
here: what runs on them. A real broker, database or chain is used by setting its URL instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from gridtokenx_pipelines.chain.localnet_process import free_port_pair
from gridtokenx_pipelines.embedded_postgres import PostgresNotStarted, start_postgres

PR_SET_PDEATHSIG = 1
START_TIMEOUT_SECONDS = 60


class StackError(RuntimeError):
    """A part of the embedded stack that did not start, with its log's last lines, or a folder or port in use."""


def _die_with_parent() -> None:
    # a demo ended by `kill -9` must not leave a flow behind that writes into the next one's tables
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def require_free_port(port: int, what: str) -> int:
    """The port itself if it is free on the loopback address, else StackError naming it and its use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StackError(f"port {port} for {what} is in use; stop its owner or choose another port") from error
    return port


@contextlib.contextmanager
def folder_lock(data_dir: Path) -> Iterator[None]:
    """Hold the data folder for this process: a second demo on it is refused, one on another folder is welcome."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with open(data_dir / "lock", "a+", encoding="ascii") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            owner = handle.read().strip() or "unknown"
            raise StackError(
                f"{data_dir} is in use by process {owner}; wait for it, or run beside it with --data-dir OTHER"
            ) from error
        handle.seek(0)
        handle.truncate()
        handle.write(str(os.getpid()))
        handle.flush()
        os.set_inheritable(handle.fileno(), False)
        yield


class Child:
    """A process of the stack: logs to a file, dies with its parent, ends on exit."""

    def __init__(self, name: str, command: list[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as out:
            self.process = subprocess.Popen(  # noqa: S603 - our own modules, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONWARNINGS": "ignore", **(env or {})},
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - prctl is async-signal-safe, and no thread holds its lock
            )

    def check(self) -> None:
        """Raise StackError with the log's tail if the process has ended."""
        code = self.process.poll()
        if code is not None:
            lines = self.log.read_text(errors="replace").splitlines()[-15:]
            raise StackError(f"{self.name} ended with code {code}; last lines of {self.log}:\n" + "\n".join(lines))

    def stop(self) -> None:
        """End it: politely, then by force."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Stack:
    """The running parts for one data folder; use as a context manager."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.children: dict[str, Child] = {}
        self._postgres: Any = None
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> Stack:
        self._resources.enter_context(folder_lock(self.data_dir))
        if threading.current_thread() is threading.main_thread():
            # a polite end must reach __exit__, or Postgres, which is nobody's child, would go on
            former = signal.signal(signal.SIGTERM, _end)
            self._resources.callback(signal.signal, signal.SIGTERM, former)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self.children.values()):
            child.stop()
        server = self._postgres
        if server is not None:
            server.stop()
        self._resources.close()

    def enter(self, part: AbstractContextManager[str]) -> str:
        """Enter a part that is a context manager of its own; it is left when the stack is."""
        return self._resources.enter_context(part)

    def postgres(self) -> str:
        """Start (or find) Postgres of this folder; the database URL with psycopg2 spelled out."""
        try:
            server = start_postgres(self.data_dir)
        except PostgresNotStarted as error:
            raise StackError(str(error)) from error
        self._postgres = server
        return str(server.get_uri()).replace("postgresql://", "postgresql+psycopg2://", 1)

    def start(self, name: str, command: list[str], env: dict[str, str] | None = None) -> Child:
        """Start a Python module of this project as a child: `command` is what follows `python -m`."""
        child = Child(name, [sys.executable, "-m", *command], self.data_dir / "logs" / f"{name}.log", env)
        self.children[name] = child
        return child

    def broker(self) -> str:
        """Start the Kafka-protocol broker; returns its bootstrap servers. Its log lives only as long as it does."""
        port_file = self.data_dir / "broker.json"
        port_file.unlink(missing_ok=True)
        child = self.start("broker", ["gridtokenx_pipelines.messaging.mock_broker", "--port-file", str(port_file)])
        wait_for(port_file.exists, child, "the broker's address")
        return str(json.loads(port_file.read_text())["bootstrap_servers"])

    def localnet(self, port: int | None = None) -> str:
        """Start the local chain on its kept state; returns the RPC URL."""
        if port:
            require_free_port(port, "the local chain")
            require_free_port(port + 1, "the local chain's websockets")
        port = port or free_port_pair()
        child = self.start(
            "localnet",
            ["gridtokenx_pipelines.chain.localnet", "--port", str(port), "--data-dir", str(self.data_dir / "localnet")],
        )
        wait_for(lambda: listens(port), child, f"port {port}")
        return f"http://127.0.0.1:{port}"

    def check(self) -> None:
        """Raise StackError if any part has ended."""
        for child in self.children.values():
            child.check()


def listens(port: int) -> bool:
    """Whether something answers on the loopback address."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition, child: Child, what: str, timeout_seconds: float = START_TIMEOUT_SECONDS) -> None:  # type: ignore[no-untyped-def] # any nullary predicate
    """Wait until the condition holds; StackError if the child ends first or the time is up."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        child.check()
        if time.monotonic() > deadline:
            raise StackError(f"{child.name} did not show {what} within {timeout_seconds:.0f} s; see {child.log}")
        time.sleep(0.02)
