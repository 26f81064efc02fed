"""`gridtokenx readings verify` and `compact`: the archive asked, and the answer for people or as JSON.

Belongs here: gathering a meter's records and words. Does not belong here: what holds (metering/recheck.py), the
archive's layout (store/archive.py).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from gridtokenx_pipelines.config import NETWORK_IDS
from gridtokenx_pipelines.epochs import epoch_of_us
from gridtokenx_pipelines.metering.recheck import Archived, Finding, Recheck, compare_settled, recheck
from gridtokenx_pipelines.metering.state import HORIZON_EPOCHS
from gridtokenx_pipelines.store.archive import ArchiveError, SignedArchive, raws_of
from gridtokenx_pipelines.store.energy import settled_registers
from gridtokenx_pipelines.store.postgres import engine

MOST_SHOWN = 20


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `verify`."""

    meter_id: str
    first_us: int
    last_us: int
    data_dir: Path
    database_url: str | None
    network: str
    as_json: bool


def run_verify(asked: Asked) -> int:
    """Exit code: 0 all holds, 1 something doesn't, 2 nothing could be asked."""
    if asked.first_us > asked.last_us:
        click.echo(f"--from was {_time(asked.first_us)}, must not be after --to {_time(asked.last_us)}", err=True)
        return 2
    archive = SignedArchive(asked.data_dir)
    try:
        found, gaps = verified(archive, asked)
    except ArchiveError as error:
        click.echo(f"readings verify: {error.args[0]}", err=True)
        return 2
    compared = 0
    findings = [*found.findings, *gaps]
    if asked.database_url:
        settled = _settled(asked)
        compared = len(settled)
        findings += compare_settled(found, settled)
    click.echo(
        _document(asked, found, findings, compared) if asked.as_json else _words(asked, found, findings, compared)
    )
    return 1 if findings else 0


def verified(archive: SignedArchive, asked: Asked) -> tuple[Recheck, list[Finding]]:
    """The proof of a meter's records, and the offsets that are not there. Raises ArchiveError."""
    registry = archive.registry()
    if asked.meter_id not in registry:
        raise ArchiveError(f"meter {asked.meter_id!r} is not in the archive's registry; check its id")
    # a reading comes in its epoch or, late, within the horizon after it
    span = epoch_of_us(asked.first_us) - 1, epoch_of_us(asked.last_us) + HORIZON_EPOCHS + 1
    frame = archive.of_meter(asked.meter_id, *span)
    if frame.is_empty():
        there = archive.partitions()
        raise ArchiveError(
            f"no records of {asked.meter_id} there between --from and --to; partitions with any: {there}"
        )
    records = map(Archived, raws_of(frame), frame["reason_code"].to_list())
    found = recheck(asked.meter_id, records, registry, NETWORK_IDS[asked.network], (asked.first_us, asked.last_us))
    partition = frame["partition"][0]
    return found, missing_offsets(archive, partition, epoch_of_us(asked.first_us), span[1])


def missing_offsets(archive: SignedArchive, partition: int, first_epoch: int, last_epoch: int) -> list[Finding]:
    """Offsets that a partition's files skip: records that were taken out."""
    findings, expected = [], None
    for frame in archive.replay(partition, first_epoch, last_epoch):
        offsets = frame["offset"]
        if frame.is_empty():
            continue
        first, last = int(offsets[0]), int(offsets[-1])
        start = first if expected is None else expected
        lacking = (last - start + 1) - len(offsets)
        if lacking:
            detail = f"{lacking} of the offsets {start}…{last} of partition {partition} are not there; restore the file"
            findings.append(Finding("missing_offsets", start, None, detail))
        expected = last + 1
    return findings


def _settled(asked: Asked) -> dict[int, tuple[int, int]]:
    if not asked.database_url:
        raise AssertionError("asked only where there is a database")
    database = engine(asked.database_url, pool_size=1)
    try:
        with database.connect() as connection:
            settled = settled_registers(connection, asked.meter_id)
    finally:
        database.dispose()
    return {
        epoch: registers
        for epoch, registers in settled.items()
        if asked.first_us + 60_000_000 <= epoch * 900_000_000 <= asked.last_us
    }


def _document(asked: Asked, found: Recheck, findings: list[Finding], compared: int) -> str:
    plain = msgspec.to_builtins(found)
    del plain["boundaries"]
    plain |= {
        "from": _time(asked.first_us),
        "to": _time(asked.last_us),
        "first": _registers(found.first),
        "last": _registers(found.last),
        "boundaries": len(found.boundaries),
        "boundaries_compared": compared,
        "findings": msgspec.to_builtins(findings),
        "verified": not findings,
    }
    return msgspec.json.encode(plain).decode()


def _registers(found: tuple[int, int, int, int] | None) -> dict[str, object] | None:
    if found is None:
        return None
    seq, time_us, production_wh, consumption_wh = found
    return {
        "seq": seq,
        "timestamp": _time(time_us),
        "production_wh": production_wh,
        "consumption_wh": consumption_wh,
    }


def _words(asked: Asked, found: Recheck, findings: list[Finding], compared: int) -> str:
    refused = ", ".join(f"{word} {count}" for word, count in found.refused.items()) or "none"
    lines = [
        f"{asked.meter_id}  {_time(asked.first_us)} … {_time(asked.last_us)}",
        f"records     {found.records}: {found.readings} readings, {found.duplicates} duplicates, refused: {refused}",
        f"signatures  checked under {', '.join(found.keys) or 'no key'}",
    ]
    if found.first and found.last:
        lines.append(
            f"registers   seq {found.first[0]} … {found.last[0]}: production {found.first[2]} → {found.last[2]} Wh "
            f"(+{found.production_wh}), consumption {found.first[3]} → {found.last[3]} Wh (+{found.consumption_wh})"
        )
    settled = f"{compared} compared with the database" if asked.database_url else "not compared: no --database-url"
    lines.append(f"boundaries  {len(found.boundaries)} proven; {settled}")
    for each in findings[:MOST_SHOWN]:
        place = (
            f"offset {each.offset}" if each.offset is not None else f"seq {each.seq}" if each.seq is not None else ""
        )
        lines.append(f"  {each.kind}{f' at {place}' if place else ''}: {each.detail}")
    if len(findings) > MOST_SHOWN:
        lines.append(f"  … and {len(findings) - MOST_SHOWN} more; --json has all")
    lines.append(f"NOT VERIFIED: {len(findings)} findings" if findings else "verified")
    return "\n".join(lines)


def _time(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def run_compact(data_dir: Path, days: tuple[str, ...]) -> int:
    """Compact days, all but the newest if none is named. Exit code 0, or 2 for a day that isn't there."""
    archive = SignedArchive(data_dir)
    there = sorted(path.name.removeprefix("date=") for path in archive.root.glob("date=*"))
    for day in days:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", day) or day not in there:
            has = f"{there[0]} to {there[-1]}" if there else "no day at all"
            click.echo(f"readings compact: day was {day!r}, the archive has {has}", err=True)
            return 2
    for day in days or there[:-1]:
        click.echo(f"{day}: {archive.compact(day)} files into {len(list(archive.root.glob(f'date={day}/day/p*')))}")
    return 0
