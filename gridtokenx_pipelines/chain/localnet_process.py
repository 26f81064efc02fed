"""The local chain as a child process: start, wait until it answers, stop or kill.

Belongs here: what the demo and tests need to have a chain beside them. Does not belong here: the server (`localnet`).
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from gridtokenx_pipelines.chain.ledger_file import LocalnetError

START_SECONDS = 60.0


def free_port_pair() -> int:
    """A port p that is free together with p + 1 (websockets)."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise LocalnetError(f"port {port} of 127.0.0.1 is in use; stop what uses it or choose another") from error


class LocalnetProcess:
    """A running local chain; a context manager that stops it at the end."""

    def __init__(
        self, data_dir: Path, port: int | None = None, slot_ms: int = 400, programs: Path | None = None
    ) -> None:
        self.data_dir = Path(data_dir)
        self.port = port or free_port_pair()
        self.slot_ms = slot_ms
        self.programs = programs
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """JSON-RPC address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start and wait until it answers; LocalnetError with its words if it ends instead."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        for port in (self.port, self.port + 1):
            # whoever listens there would answer the health question in the child's place
            _require_free(port)
        command = [sys.executable, "-m", "gridtokenx_pipelines.chain.localnet", "--port", str(self.port)]
        command += ["--data-dir", str(self.data_dir), "--slot-ms", str(self.slot_ms)]
        command += ["--programs", str(self.programs)] if self.programs else []
        log = self.data_dir / "localnet.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603 own module
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None:
                raise LocalnetError(f"local chain ended at start: {log.read_text(errors='replace').strip()[-2000:]}")
            if time.monotonic() > deadline:
                self.kill()
                raise LocalnetError(
                    f"local chain did not answer on port {self.port} in {START_SECONDS:.0f} s; see {log}"
                )
            time.sleep(0.05)
        return self

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1) as response:  # noqa: S310 http to this machine
                return response.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def stop(self) -> None:
        """End it cleanly (it writes a snapshot)."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=START_SECONDS)
            self._process = None

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
