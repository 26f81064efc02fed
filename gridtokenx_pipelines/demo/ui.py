"""`gridtokenx ui`: Dagster's web server and daemon on the data of a demo.

Belongs here: starting them beside the database and the chain of a data folder. Does not belong here: definitions.
"""

from __future__ import annotations

import json
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import msgspec

from gridtokenx_pipelines.config import ConfigError
from gridtokenx_pipelines.demo.surroundings import STATE_FILE, settings_for
from gridtokenx_pipelines.instance import dagster_env, fail_abandoned_runs, open_instance
from gridtokenx_pipelines.stack import Stack, StackError, listens, require_free_port, wait_for

NO_BROKER = "127.0.0.1:9092"


class _Pages(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Requests are not worth a line each."""


def serve_pages(folder: Path) -> ThreadingHTTPServer:
    """Serve the folder's files on a free port of the loopback address, on a thread that ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Pages, directory=str(folder)))
    threading.Thread(target=server.serve_forever, name="pages", daemon=True).start()
    return server


def serve_ui(data_dir: Path, port: int) -> int:
    """Serve until interrupted. Raises StackError for a port in use, ConfigError for a folder without a demo."""
    if not (data_dir / STATE_FILE).is_file():
        raise ConfigError("--data-dir", str(data_dir), "the folder of a demo", "run `make demo` first")
    state = json.loads((data_dir / STATE_FILE).read_text())
    require_free_port(port, "Dagster's web server")
    with Stack(data_dir) as stack:
        database_url = stack.postgres()
        rpc_url = stack.localnet() if state["chain"] == "localnet" else "http://127.0.0.1:8899"
        settings = settings_for(
            data_dir,
            database_url=database_url,
            brokers=NO_BROKER,
            rpc_url=rpc_url,
            mechanism=state.get("mechanism", "zonal"),
        )
        pages = serve_pages(data_dir / "pages")
        settings = msgspec.structs.replace(settings, pages_url=f"http://127.0.0.1:{pages.server_port}")
        workspace = data_dir / "workspace.yaml"
        workspace.write_text("load_from:\n  - python_module: gridtokenx_pipelines.definitions\n")
        env = dagster_env(settings)
        with open_instance(settings) as instance:
            fail_abandoned_runs(instance)  # the folder's lock makes this process the instance's only owner
        server = stack.start(
            "webserver",
            ["dagster_webserver", "-h", "127.0.0.1", "-p", str(port), "-w", str(workspace)],
            env,
        )
        stack.start("daemon", ["dagster._daemon", "run", "-w", str(workspace)], env)
        wait_for(lambda: listens(port), server, f"port {port}", timeout_seconds=120)
        click.echo(f"Dagster UI on http://127.0.0.1:{port} (Ctrl-C ends it)")
        click.echo(f"the chain's RPC on {rpc_url}, for `gridtokenx chain show --rpc-url {rpc_url} …`")
        click.echo(f"pages (data docs) on {settings.pages_url}")
        try:
            while True:
                stack.check()
                time.sleep(1)
        except KeyboardInterrupt:
            return 0
        except StackError as error:
            click.echo(str(error), err=True)
            return 1
