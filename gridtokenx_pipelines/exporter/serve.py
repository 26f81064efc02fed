"""`gridtokenx exporter`: serves the settlement side's numbers until it is stopped.

Belongs here: connections, the endpoint, the end. Does not belong here: the numbers.
"""

from __future__ import annotations

import signal
import threading

import click
from prometheus_client import CollectorRegistry

from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.config import Settings
from gridtokenx_pipelines.exporter.gather import (
    Gathered,
    Part,
    backup_numbers,
    chain_numbers,
    database_numbers,
    law_numbers,
)
from gridtokenx_pipelines.observability.server import Endpoint
from gridtokenx_pipelines.store.postgres import engine as make_engine

CHAIN_TIMEOUT_SECONDS = 5.0


def serve(settings: Settings, *, host: str, port: int, seconds: float) -> None:
    """Serve `/metrics` and `/health` until SIGTERM or Ctrl-C. Raises PortInUse for a taken port."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    engine = make_engine(settings.database_url, pool_size=1)
    client = ChainClient(settings.solana_rpc_url, timeout_seconds=CHAIN_TIMEOUT_SECONDS)
    parts: dict[str, Part] = {
        "database": lambda: database_numbers(engine),
        "laws": lambda: law_numbers(engine),
        "chain": lambda: chain_numbers(client),
    }
    if settings.backup_dir is not None:
        root = settings.backup_dir
        parts["backups"] = lambda: backup_numbers(root)
    gathered = Gathered(parts, seconds)
    registry = CollectorRegistry()
    registry.register(gathered)
    checks = {name: lambda name=name: gathered.problems.get(name) for name in parts}
    try:
        endpoint = Endpoint(registry, checks, port, host)
        try:
            click.echo(f"metrics on http://{endpoint.host}:{endpoint.port}/metrics, health on /health")
            ended.wait()
        finally:
            endpoint.close()
    finally:
        client.close()
        engine.dispose()
