"""`gridtokenx kafka apply` and `user`: the cluster made what cluster.toml says, the difference shown first.

Belongs here: options, what is shown, exit codes (0 the cluster is as declared, 1 it is not, 2 wrong usage).
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from gridtokenx_pipelines.config import ConfigError, kafka_from_env
from gridtokenx_pipelines.messaging import apply as work
from gridtokenx_pipelines.messaging.cluster_state import Change, ClusterState, differences, read_state
from gridtokenx_pipelines.messaging.connection import Cluster
from gridtokenx_pipelines.messaging.kafka import BrokerError
from gridtokenx_pipelines.messaging.topics import CLUSTER_FILE, ClusterFileError, Declaration, read_declaration

SIGNS = {"create": "+", "grant": "+", "revoke": "-", "config": "~", "partitions": "!", "replication": "!"}


@click.group()
def kafka() -> None:
    """Topics, rights and users of the Kafka cluster (KAFKA_BOOTSTRAP_SERVERS)."""


@kafka.command()
@click.option("--file", "path", default=CLUSTER_FILE, type=click.Path(path_type=Path), help="Declaration; else ours.")
@click.option("--dry-run", is_flag=True, help="Show the difference, change nothing; code 1 if there is one.")
@click.option("--yes", is_flag=True, help="Don't ask before changing.")
@click.option("--replication", type=click.IntRange(1, 15), help="Other replication than declared: a small cluster.")
@click.option("--without-rights", is_flag=True, help="Leave access rules alone (a cluster without an authorizer).")
@click.option("--wait", default=30.0, show_default=True, type=click.FloatRange(0.1, 600), help="Seconds for a broker.")
def apply(*, path: Path, dry_run: bool, yes: bool, replication: int | None, without_rights: bool, wait: float) -> None:
    """Create and verify topics and access rules as declared; the difference is shown first."""
    try:
        declaration = _small(read_declaration(path), replication)
        brokers, security = kafka_from_env()
        admin = work.admin_client(Cluster(brokers, security), wait)
        state = read_state(admin, declaration)
        if without_rights:
            state = state._replace(rights=None)
        elif state.rights is None and security:
            raise work.CannotApply(
                "clients prove who they are but no authorizer guards the cluster: anyone may write anything; set "
                "authorizer.class.name on the brokers, or give --without-rights"
            )
        changes = differences(declaration, state)
        _show(declaration, state, changes)
        if not changes or dry_run:
            sys.exit(1 if changes else 0)
        stopped = work.obstacles(declaration, state, changes)
        if stopped:
            raise work.CannotApply("; ".join(stopped))
        if not yes and not _asked():
            click.echo("nothing changed; add --yes to change it without being asked", err=True)
            sys.exit(1)
        work.apply(admin, declaration, state, changes)
        click.echo(f"made and verified: {len(changes)} changes")
    except ClusterFileError as error:
        raise ConfigError("--file", str(path), "a declaration of topics", str(error)) from error
    except (BrokerError, work.CannotApply) as error:
        click.echo(f"kafka: {error}", err=True)
        sys.exit(1)


@kafka.command()
@click.argument("name")
@click.option("--password-file", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Holds it.")
@click.option("--wait", default=30.0, show_default=True, type=click.FloatRange(0.1, 600), help="Seconds for a broker.")
def user(name: str, password_file: Path, wait: float) -> None:
    """Give a declared principal its SCRAM-SHA-512 password, or another one."""
    declared = sorted(principal.name for principal in read_declaration().principal)
    if name not in declared:
        raise ConfigError("NAME", name, f"a declared principal ({', '.join(declared)})", "declare it in cluster.toml")
    try:
        password = password_file.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise ConfigError("--password-file", str(password_file), "a readable file", f"{error.strerror}") from error
    if len(password) < 12:
        raise ConfigError("--password-file", f"{len(password)} bytes", "at least 12 bytes", "choose a longer one")
    brokers, security = kafka_from_env()
    try:
        work.set_scram_user(work.admin_client(Cluster(brokers, security), wait), name, password)
    except BrokerError as error:
        click.echo(f"kafka: {error}", err=True)
        sys.exit(1)
    click.echo(f"{name}: SCRAM-SHA-512 password set")


def _small(declaration: Declaration, replication: int | None) -> Declaration:
    if replication is None:
        return declaration
    in_sync = min(declaration.min_insync_replicas, replication)
    return msgspec.structs.replace(declaration, replication=replication, min_insync_replicas=in_sync)


def _show(declaration: Declaration, state: ClusterState, changes: list[Change]) -> None:
    for change in changes:
        arrow = f"{change.was} -> {change.must}" if change.was and change.must else change.was or change.must
        click.echo(f"{SIGNS[change.kind]} {change.kind} {change.subject}: {arrow}")
    rights = "no authorizer, rights not compared" if state.rights is None else f"{len(state.rights)} access rules"
    words = f"{len(changes)} differences" if changes else "as declared"
    click.echo(f"{words}: {state.brokers} brokers, {len(state.topics)} of {len(declaration.topic)} topics, {rights}")


def _asked() -> bool:
    return sys.stdin.isatty() and click.confirm("make these changes?", default=False)
