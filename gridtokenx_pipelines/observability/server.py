"""One HTTP endpoint a process: `/metrics` for Prometheus and `/health` for whoever restarts it.

Belongs here: serving. Does not belong here: what is measured. Health is 200 with {"status": "ok"} or 503 with the
problems by name. The port is asked for or, where 0, any free one; where it went stands in the endpoint file.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

DEFAULT_PORT = 9464
Check = Callable[[], str | None]  # words of a problem, None while all is well


class PortInUse(RuntimeError):
    """The endpoint's port is taken: names it, and the remedy."""


class Endpoint:
    """A serving endpoint; ends with `close`."""

    def __init__(
        self, registry: CollectorRegistry, checks: Mapping[str, Check], port: int, host: str = "127.0.0.1"
    ) -> None:
        handler = type("Handler", (_Handler,), {"registry": registry, "checks": checks})
        try:
            self._server = ThreadingHTTPServer((host, port), handler)
        except OSError as error:
            raise PortInUse(
                f"metrics port was {port} on {host}, must be free ({error.strerror}); give another with "
                "--metrics-port, or 0 for any"
            ) from error
        self._server.daemon_threads = True
        self.host, self.port = host, int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def write_to(self, path: Path) -> None:
        """Leave the address in a file, whole at once."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps({"host": self.host, "port": self.port, "pid": os.getpid()}))
        os.replace(temporary, path)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    registry: CollectorRegistry
    checks: Mapping[str, Check]
    timeout = 10

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, CONTENT_TYPE_LATEST, generate_latest(self.registry))
        elif path == "/health":
            problems = {name: words for name, check in self.checks.items() if (words := check()) is not None}
            body = {"status": "problem", "problems": problems} if problems else {"status": "ok"}
            self._answer(503 if problems else 200, "application/json", json.dumps(body).encode() + b"\n")
        else:
            self._answer(404, "text/plain", b"/metrics or /health\n")

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not worth a line each."""
