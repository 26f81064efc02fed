"""Inputs of a range, gathered: archive replayed, orders verified, rules in force then, balances before.

Belongs here: reading, and the findings of reading. Does not belong here: recomputing (audit/recompute.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec
import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.audit import readings
from gridtokenx_pipelines.audit.entries import RunOf, Start, stretches
from gridtokenx_pipelines.audit.findings import EpochState, Finding
from gridtokenx_pipelines.audit.orders import verified_orders
from gridtokenx_pipelines.audit.recompute import COVER, Given
from gridtokenx_pipelines.audit.shifts import Concluded, shifts_of
from gridtokenx_pipelines.market.prices import PRICED_EPOCHS
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.metering.state import HORIZON_EPOCHS
from gridtokenx_pipelines.settlement.frames import RESETTLEMENT
from gridtokenx_pipelines.settlement.planned import planned_shifts
from gridtokenx_pipelines.settlement_service import frozen
from gridtokenx_pipelines.settlement_service.audits import archive as archives
from gridtokenx_pipelines.settlement_service.audits import islands_then, rules_then
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import audited, energy, movements, participants
from gridtokenx_pipelines.store.clearing import priced_history, resumptions
from gridtokenx_pipelines.store.epochs import first_epoch


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What the database says of a range, a frame a table."""

    states: dict[int, EpochState]
    epochs: pl.DataFrame
    runs: pl.DataFrame
    net_energy: pl.DataFrame
    orders: pl.DataFrame
    corrections: pl.DataFrame
    cleared: dict[str, pl.DataFrame]
    wallet_entries: pl.DataFrame
    meter_entries: pl.DataFrame
    posted: pl.DataFrame
    deposits: pl.DataFrame
    moved: pl.DataFrame
    meters: pl.DataFrame
    users: pl.DataFrame


class Gathered(msgspec.Struct, frozen=True, kw_only=True):
    """A range as an audit takes it up: what is stored, the replayed archive, and the inputs made of both."""

    first: int
    last: int
    stored: Stored
    replay: readings.Replay
    archived: archives.Archive
    replayed: frozenset[int]  # epochs that the archive gives whole
    given: Given
    declared: pl.DataFrame  # loss and return of the upstream grid, all that was ever declared
    findings: tuple[Finding, ...]

    @property
    def ran(self) -> list[int]:
        """Epochs of the range that were cleared, or have runs."""
        return [epoch for epoch in range(self.first, self.last + 1) if epoch in self.stored.states]


def stored_of(connection: Connection, first: int, last: int) -> Stored:
    """Every table's rows of the range."""
    runs = audited.runs(connection, first, last)
    wallets, meters = audited.entries(connection, first, last)
    void = energy.voided_between(connection, first, last)
    return Stored(
        states={
            epoch: EpochState(status=status, runs=count, finalised=final, void=epoch in void)
            for epoch, (status, count, final) in audited.states(connection, first, last).items()
        },
        epochs=audited.epochs(connection, first, last),
        runs=runs,
        net_energy=audited.net_energy(connection, first, last),
        orders=audited.between(connection, "orders", audited.SIGNED, first, last),
        corrections=audited.corrections(connection, first, last),
        cleared={
            table: audited.between(connection, table, {"epoch": pl.Int64, **schema}, first, last)
            for table, schema in audited.CLEARED.items()
        },
        wallet_entries=wallets,
        meter_entries=meters,
        posted=audited.posted(connection, runs["seq"].to_list()),
        deposits=audited.deposits(connection),
        moved=audited.posted_by_movements(connection),
        meters=participants.meters(connection),
        users=participants.users(connection),
    )


def gather(services: Services, connection: Connection, first: int, last: int) -> Gathered:
    """All that an audit of first…last needs. Raises ConfigError for settings that can't be used."""
    stored = stored_of(connection, first, last)
    findings: list[Finding] = []
    ran = [epoch for epoch in range(first, last + 1) if epoch in stored.states]
    begun = first_epoch(connection)
    archived = archives.read(services, (first if begun is None else min(begun, first)) - 1, last + HORIZON_EPOCHS)
    partitions = audited.partitions(connection) or max(archived.records["partition"].max() or 0, 0) + 1  # type: ignore[operator, type-var]
    registry = archived.registry or readings.registry_of(stored.meters, readings.tick_keys(archived.records))
    replay = readings.replay(archived.records, registry, services.rules.network_id, partitions)
    findings += [*archived.findings, *replay.findings]
    findings += readings.compare_refused(
        audited.dead_letters(connection), replay.refused, archived.records.select("epoch", "partition", "offset")
    )
    findings = [each for each in findings if first <= each.epoch <= last]
    held = {epoch for epoch, _ in archived.files}
    findings += _missing_files(ran, archived, partitions)
    whole = frozenset(
        epoch
        for epoch in ran
        if epoch in held and all(replay.closed.get(number, -1) >= epoch for number in range(partitions))
    )
    findings += [
        Finding(epoch=epoch, stage="archive", what="archive", detail="its files don't give the whole epoch again")
        for epoch in ran
        if epoch in held and epoch not in whole
    ]
    voided = energy.voided_between(connection, first, last)
    net_energy = _net_energy(stored.net_energy, replay.net_energy, whole, voided, (first, last))
    orders, refused = verified_orders(stored.orders, services.rules.network_id)
    markets, halted, unknown = rules_then.markets(services, connection, stored.epochs)
    runs = tuple(
        RunOf(seq=seq, epoch=epoch, run=run, kind=kind)
        for seq, epoch, run, kind, status in stored.runs.select("seq", "epoch", "run", "kind", "status").iter_rows()
        if status != "voided"
    )
    concluded = Concluded(
        net_energy=net_energy,
        corrections=stored.corrections,
        entries=_before(connection, stored, first),
        planned=_planned(stored),
    )
    shifts, wrong = shifts_of(runs, concluded)
    declared, islands, doubted = islands_then.islands(connection, ran)
    moved = movements.movements(connection)
    given = Given(
        epochs=tuple(ran),
        net_energy=net_energy,
        orders=orders,
        mandates=audited.mandates(connection),
        deposits=stored.deposits,
        movements=moved,
        asked_back=frozenset(moved.filter(pl.col("kind") == "withdrawal")["owner"])
        | frozenset(movements.requests(connection)["wallet"]),
        continuous=frozenset(epoch for epoch in ran if movements.is_continuous(connection, epoch)),
        covers=_covers(services, ran),
        history={
            zone.zone_id: priced_history(connection, zone.zone_id, first, PRICED_EPOCHS)[::-1]
            for zone in services.network.zones
        },
        market=markets,
        rules_before=_rules_before(services, connection, first),
        halted=halted,
        resumed=resumptions(connection),
        islands=islands,
        runs=runs,
        shifts=shifts,
        voided=frozenset(voided),
        starts={
            seq: Start(
                balances=audited.balances_before(connection, seq), accounts=audited.accounts_before(connection, seq)
            )
            for seq in stretches(runs)
        },
    )
    return Gathered(
        first=first,
        last=last,
        stored=stored,
        replay=replay,
        archived=archived,
        replayed=whole,
        given=given,
        declared=declared,
        findings=(*findings, *refused, *unknown, *wrong, *doubted),
    )


def _missing_files(ran: Sequence[int], archived: archives.Archive, partitions: int) -> list[Finding]:
    lacking = [
        (epoch, f"partition-{number}")
        for epoch in ran
        for number in range(partitions)
        if (epoch, number) not in archived.files
    ]
    return [
        Finding(
            epoch=epoch, stage="archive", what=f"archive {name}", detail="file is not there; restore it from the backup"
        )
        for epoch, name in lacking
    ]


def _net_energy(
    stored: pl.DataFrame,
    replayed: pl.DataFrame,
    whole: frozenset[int],
    voided: Mapping[int, int],
    between: tuple[int, int],
) -> pl.DataFrame:
    """Rows recomputed from the archive; where it doesn't give an epoch whole, the stored ones, so that the rest of the
    audit goes on from what was settled. Rows of voided epochs come with the epoch that books them."""
    first, last = between
    late = (pl.col("revision") > 0) | pl.col("epoch").is_in(list(voided))
    within = pl.col("epoch").is_between(first, last) | (late & pl.col("booked_epoch").is_between(first, last))
    from_archive = pl.col("booked_epoch").is_in(list(whole))
    replayed, stored = (
        rows.with_columns(pl.col("booked_epoch").replace(dict(voided)))
        for rows in (replayed, stored.select(replayed.columns).cast(dict(replayed.schema)))
    )
    return pl.concat([replayed.filter(within & from_archive), stored.filter(within & ~from_archive)])


def _rules_before(services: Services, connection: Connection, first: int) -> dict[int, Rules]:
    """Those of the epoch before the range: a resettlement at the first boundary refunds at its tariff."""
    markets, _, _ = rules_then.markets(services, connection, audited.epochs(connection, first - 1, first - 1))
    return {epoch: market.rules for epoch, market in markets.items()}


def _covers(services: Services, epochs: Sequence[int]) -> pl.DataFrame:
    """A first guess at the balances each book counted with, from its frozen frame where that can be read."""
    parts = [pl.DataFrame(schema=COVER)]
    for epoch in epochs:
        try:
            held = services.parquet.read(frozen.BOOK, epoch, "balances")
            part = held.select(
                pl.lit(epoch, pl.Int64).alias("epoch"), pl.col("owner").alias("wallet"), "grid_wh", "thbc_uthb"
            ).cast(COVER)
        except archives.UNREADABLE:
            continue
        parts.append(part)
    return pl.concat(parts)


def _planned(stored: Stored) -> dict[tuple[int, str], dict[str, int]]:
    """What the chain was told to move by each resettlement; a plan that can't be read says nothing here."""
    found: dict[tuple[int, str], dict[str, int]] = {}
    runs = stored.runs.filter(pl.col("kind") == RESETTLEMENT)
    for seq, raw in runs.select("seq", "plan").iter_rows():
        try:
            found |= {(seq, wallet): amounts for wallet, amounts in planned_shifts(raw).items()}
        except (msgspec.DecodeError, ValueError, TypeError):
            continue
    return found


def _before(connection: Connection, stored: Stored, first: int) -> pl.DataFrame:
    """Wallet entries of the range and, where a resettlement looks back, of the epoch before it."""
    if stored.runs.filter(pl.col("kind") == RESETTLEMENT).is_empty():
        return stored.wallet_entries
    return pl.concat([audited.entries(connection, first - 1, first - 1)[0], stored.wallet_entries])


def input_hashes(gathered: Gathered) -> dict[str, str]:
    """sha256 of every input by name: archive files of the range, and each input table's rows in a fixed order."""
    hashes = {
        f"archive/{epoch}/partition-{number}": archives.digest_of(path).hex()
        for (epoch, number), path in gathered.archived.files.items()
        if gathered.first <= epoch <= gathered.last
    }
    given = gathered.given
    tables: Mapping[str, tuple[pl.DataFrame, list[str]]] = {
        "orders": (gathered.stored.orders, ["wallet", "epoch", "nonce"]),
        "mandates": (given.mandates, ["wallet", "effective_epoch"]),
        "deposits": (given.deposits, ["reference"]),
        "meters": (gathered.stored.meters, ["meter_id"]),
        "island_events": (gathered.declared, ["epoch"]),
    }
    return hashes | {f"table/{name}": digest_of_rows(frame, key) for name, (frame, key) in tables.items()}


def digest_of_rows(frame: pl.DataFrame, key: Sequence[str]) -> str:
    """sha256 over the rows as canonical JSON lines, sorted by their key."""
    hashed = sha256()
    for row in frame.sort(key, nulls_last=True).iter_rows():
        hashed.update(msgspec.json.encode([_plain(value) for value in row]) + b"\n")
    return hashed.hexdigest()


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value
