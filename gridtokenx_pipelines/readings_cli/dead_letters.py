"""`gridtokenx dead-letters`: browsing refused records, giving the registry what they lacked, sending them again.

Belongs here: from a command's words to what is printed and sent. Does not belong here: SQL (store/dead_letters.py), or
any verdict: a record that is sent again is judged by the flow like a new one.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec
import polars as pl

from gridtokenx_pipelines.config import ConfigError, kafka_from_env
from gridtokenx_pipelines.messaging.connection import Cluster
from gridtokenx_pipelines.messaging.kafka import Sender, partitions_of
from gridtokenx_pipelines.messaging.topics import METER_READINGS, METER_REGISTRY, partition_for_zone
from gridtokenx_pipelines.metering.readings import Block, Reading, decode
from gridtokenx_pipelines.metering.registry import MeterRecord, RegistryError, decode_record, encode_record
from gridtokenx_pipelines.readings_cli.database import database_of
from gridtokenx_pipelines.store.dead_letters import DeadLetterRow, Filter, count_letters, letters, mark_replayed
from gridtokenx_pipelines.store.participants import meters

SIGNED = ("sig", "pub", "kind")  # what came with the record; the rest was added to say why it was refused
SHOWN_DETAIL = 100
REMEDY = {
    "unknown_meter": "register the meter; `gridtokenx dead-letters fix --meter ID` publishes what the database knows",
    "wrong_key": "if the device was replaced under its id, publish its record with the new key (`fix --record`)",
    "wrong_zone": "the gateway's zone or partition was wrong: `replay` sends it to the partition of its own zone",
    "mis_keyed": "the gateway's Kafka key was not the zone: `replay` sends it with the key of its own zone",
    "over_rating": "if the rating was wrong, publish the record with the right one (`fix --record`), then replay",
    "ahead_of_arrival": "once ticks have come that far, `replay` it",
    "too_old": "its epoch is closed for good; the meter's next reading carries its energy",
}

WRONG_ITSELF = "the record itself is wrong: correct its sender; the meter's next reading carries the energy"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The options of all commands."""

    data_dir: Path
    database_url: str | None = None
    topic: str | None = None
    reason: str | None = None
    meter_id: str | None = None
    place: tuple[str, int, int] | None = None
    waiting: bool = False
    count: bool = False
    limit: int = 0
    as_json: bool = False
    record: Path | None = None
    brokers: str = ""
    all_of_them: bool = False
    again: bool = False
    dry_run: bool = False

    def filter(self, **changes: Any) -> Filter:
        """What the database is asked for."""
        given = {name: getattr(self, name) for name in ("topic", "reason", "meter_id", "place", "waiting", "limit")}
        return Filter(**{**given, **changes})


def run_list(asked: Asked) -> int:
    """Print counts or letters; 0 also if there are none."""
    with database_of(asked.data_dir, asked.database_url) as database, database.connect() as connection:
        counts = count_letters(connection, asked.filter(limit=0))
        found = [] if asked.count else letters(connection, asked.filter())
    total = int(counts["letters"].sum())
    if asked.as_json:
        document = {"total": total, "counts": counts.to_dicts(), "letters": [_document(each) for each in found]}
        click.echo(msgspec.json.encode(document).decode())
    elif asked.count:
        _echo_counts(counts)
    else:
        for each in found:
            click.echo(f"{each.place}  {each.reason}  {each.meter_id or '-'}  {_shortened(each.detail)}{_sent(each)}")
        click.echo(f"{len(found)} of {total} dead letters")
    return 0


def _echo_counts(counts: pl.DataFrame) -> None:
    for row in counts.iter_rows(named=True):
        replayed = f", {row['replayed']} sent again" if row["replayed"] else ""
        click.echo(f"{row['topic']}  {row['reason_code']:>2} {row['reason']:<20} {row['letters']:>8}{replayed}")
    click.echo(f"{int(counts['letters'].sum())} dead letters")


def _shortened(detail: str) -> str:
    return detail if len(detail) <= SHOWN_DETAIL else detail[: SHOWN_DETAIL - 1] + "…"


def _sent(letter: DeadLetterRow) -> str:
    return f"  (sent again {letter.replays} times)" if letter.replays else ""


def _document(letter: DeadLetterRow) -> dict[str, Any]:
    return {
        "place": letter.place,
        "reason_code": letter.reason_code,
        "reason": letter.reason,
        "detail": letter.detail,
        "meter_id": letter.meter_id,
        "broker_time": datetime.fromtimestamp(letter.raw.broker_us / 1_000_000, UTC).isoformat(),
        "key": _text(letter.raw.key or b""),
        "value": _text(letter.raw.value),
        "headers": {name: value.hex() for name, value in letter.raw.headers},
        "replays": letter.replays,
    }


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "0x" + value.hex()


def run_show(asked: Asked) -> int:
    """Print one letter; 1 if there is none at that place."""
    with database_of(asked.data_dir, asked.database_url) as database, database.connect() as connection:
        found = letters(connection, asked.filter(limit=1))
    if not found:
        topic, partition, offset = asked.place or ("", 0, 0)
        place = f"{topic}/{partition}/{offset}"
        click.echo(f"no dead letter at {place}; `dead-letters list` shows those there are", err=True)
        return 1
    document = _document(found[0])
    remedy = REMEDY.get(found[0].reason, WRONG_ITSELF)
    if asked.as_json:
        click.echo(msgspec.json.encode(document | {"remedy": remedy}).decode())
        return 0
    for name, value in document.items():
        click.echo(f"{name:<12} {value}")
    click.echo(f"{'remedy':<12} {remedy}")
    return 0


def run_fix(asked: Asked) -> int:
    """Publish a meter's record; 1 if nobody knows one, 2 for a file that is none."""
    with database_of(asked.data_dir, asked.database_url) as database, database.connect() as connection:
        waiting = count_letters(connection, Filter(meter_id=asked.meter_id, waiting=True))
        known = meters(connection).filter(pl.col("meter_id") == asked.meter_id).to_dicts()
    try:
        record = _record(asked, known)
    except RegistryError as error:
        click.echo(f"dead-letters fix: {error}", err=True)
        return 2
    if record is None:
        click.echo(
            f"dead-letters fix: no meter {asked.meter_id!r} in the database; admit it on the chain, or give --record",
            err=True,
        )
        return 1
    sender = Sender(_cluster(asked.brokers))
    sender.send(METER_REGISTRY.name, encode_record(record), key=record.meter_id.encode(), partition=0)
    sender.flush()
    left = int(waiting["letters"].sum())
    click.echo(
        f"published {record.meter_id}: {record.status}, zone {record.zone_id}, rating {record.rating_w} W, from epoch "
        f"{record.effective_epoch}; {left} dead letters of it wait for `dead-letters replay --meter {record.meter_id}`"
    )
    return 0


def _record(asked: Asked, known: list[dict[str, Any]]) -> MeterRecord | None:
    if asked.record is not None:
        record = decode_record(asked.record.read_bytes())
        if not isinstance(record, MeterRecord) or record.meter_id != asked.meter_id:
            raise RegistryError(f"{asked.record} was of {record!r:.80}, must be the record of meter {asked.meter_id}")
        return record
    if not known:
        return None
    row = known[0]
    names = set(MeterRecord.__struct_fields__) & set(row)
    return MeterRecord(**{name: row[name] for name in names}, effective_epoch=row["first_epoch"])


def run_replay(asked: Asked) -> int:
    """Send letters again; 1 if none matches, 2 if everything would be sent without --all."""
    if not (asked.all_of_them or asked.reason or asked.meter_id or asked.place):
        click.echo("dead-letters replay: name a --reason, a --meter or a --place, or say --all", err=True)
        return 2
    with database_of(asked.data_dir, asked.database_url) as database:
        with database.connect() as connection:
            found = letters(connection, asked.filter(waiting=not asked.again))
        if not found:
            click.echo("no dead letters match; see `dead-letters list`, and --again for those sent before", err=True)
            return 1
        if asked.dry_run:
            click.echo(f"would send {len(found)} dead letters again: {', '.join(each.place for each in found[:10])}")
            return 0
        _send(_cluster(asked.brokers), found)
        with database.begin() as connection:
            mark_replayed(connection, found, time.time_ns() // 1_000)
    click.echo(f"sent {len(found)} dead letters again")
    return 0


def _cluster(brokers: str) -> Cluster:
    try:
        return Cluster(brokers, kafka_from_env()[1])
    except ConfigError as error:
        if error.name != "KAFKA_BOOTSTRAP_SERVERS":
            raise
        return Cluster(brokers)  # named by --brokers alone


def _send(brokers: Cluster, found: list[DeadLetterRow]) -> None:
    """Value, key and signed headers byte for byte; readings to the partition of the zone they name."""
    sender = Sender(brokers)
    partitions = {topic: partitions_of(brokers, topic) for topic in sorted({each.topic for each in found})}
    for each in found:
        body = decode(each.raw) if each.topic == METER_READINGS.name else None
        partition, key = each.partition, each.raw.key
        if isinstance(body, Reading | Block):
            partition, key = partition_for_zone(body.zone_id, partitions[each.topic]), str(body.zone_id).encode()
        headers = [(name, value) for name, value in each.raw.headers if name in SIGNED]
        headers.append(("replay-of", each.place.encode()))
        sender.send(each.topic, each.raw.value, key=key, headers=headers, partition=partition)
    sender.flush()
