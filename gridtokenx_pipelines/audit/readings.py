"""From the archive to net energy again: signatures verified, records replayed through the flow's own window.

Belongs here: archive columns → records → the rows, corrections and refusals that follow. Does not belong here: the
rules (metering/), reading files (settlement_service/audit_inputs.py). Records go partition by partition in offset
order, so the replay gives what the flow gave, at any speed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec
import polars as pl

from gridtokenx_pipelines.audit.findings import Finding
from gridtokenx_pipelines.metering.outputs import CORRECTION_SCHEMA, NET_ENERGY_SCHEMA, Outputs
from gridtokenx_pipelines.metering.readings import Raw, RejectReason, Tick
from gridtokenx_pipelines.metering.registry import GatewayRecord, MeterRecord, RegistryView
from gridtokenx_pipelines.metering.verify import Verifier
from gridtokenx_pipelines.metering.window import ShardState, step

REFUSED = {"partition": pl.Int64, "offset": pl.Int64, "reason_code": pl.Int64, "reason": pl.String, "value": pl.Binary}
ARCHIVED = ("epoch", "partition", "offset", "broker_us", "key", "value", "sig", "pub", "kind")
RECORDS_AT_ONCE = 20_000
HEADERS = ("sig", "pub", "kind")


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What the archived records give: frames as the flow writes them, and how many signatures were verified."""

    net_energy: pl.DataFrame
    corrections: pl.DataFrame
    refused: pl.DataFrame
    closed: dict[int, int]  # partition → last epoch that it closed
    signatures: int
    accepted: int
    findings: tuple[Finding, ...]


def registry_of(meters: pl.DataFrame, ticks_signed_by: Iterable[bytes]) -> RegistryView:
    """Who may send, where no registry is archived: the admitted meters (table `meters`), and the keys that ticked.

    A tick's own key is then all there is to check it by.
    """
    view = RegistryView(GatewayRecord(gateway_id=key.hex()[:16], key=key) for key in sorted(set(ticks_signed_by)))
    for row in meters.filter(pl.col("status") != "pending").iter_rows(named=True):
        view.add(
            MeterRecord(
                meter_id=row["meter_id"],
                wallet=row["wallet"],
                zone_id=row["zone_id"],
                meter_type=row["meter_type"],
                rating_w=row["rating_w"],
                device_key=row["device_key"],
                status="active",
                effective_epoch=row["first_epoch"],
                first_epoch=row["first_epoch"],
                baseline_production_wh=row["baseline_production_wh"],
                baseline_consumption_wh=row["baseline_consumption_wh"],
                baseline_seq=row["baseline_seq"],
                baseline_timestamp_us=row["baseline_timestamp_us"],
            )
        )
    return view


def tick_keys(archive: pl.DataFrame) -> set[bytes]:
    """Keys under which archived ticks came."""
    return set(archive.filter(pl.col("kind") == b"tick")["pub"].drop_nulls().unique().to_list())


def replay(archive: pl.DataFrame, registry: RegistryView, network_id: int, partitions: int) -> Replay:
    """Replay archived records (ARCHIVED, any order) of all partitions; gaps in the offsets are findings."""
    verifier = Verifier(network_id)
    try:
        found: list[Finding] = []
        outputs: list[Outputs] = []
        closed: dict[int, int] = {}
        signatures = 0
        for (partition,), records in sorted(archive.partition_by("partition", as_dict=True).items()):
            ordered = records.sort("offset")
            found += _gaps(int(partition), ordered)
            state = ShardState(int(partition), partitions)
            for batch in _batches(ordered):
                messages = verifier.messages(batch)
                signatures += sum(1 for message in messages if message.pub)
                found += _unsigned(int(partition), ordered, messages)
                state, given = step(state, messages, registry)
                outputs.append(given)
            if state.closed_epoch is not None:
                closed[int(partition)] = state.closed_epoch
    finally:
        verifier.close()
    return Replay(
        net_energy=pl.DataFrame(
            [row for each in outputs for row in each.net_energy_rows], NET_ENERGY_SCHEMA, orient="row"
        ),
        corrections=pl.DataFrame(
            [row for each in outputs for row in each.correction_rows], CORRECTION_SCHEMA, orient="row"
        ),
        refused=_refused(outputs),
        closed=closed,
        signatures=signatures,
        accepted=sum(count for each in outputs for (status, _), count in each.counts.items() if status == "accepted"),
        findings=tuple(found),
    )


def _batches(records: pl.DataFrame) -> Iterator[Sequence[Raw]]:
    columns = records.select("offset", "broker_us", "key", "value", *HEADERS)
    for part in columns.iter_slices(RECORDS_AT_ONCE):
        yield [
            Raw(
                offset,
                broker_us,
                value or b"",
                tuple((name, held) for name, held in zip(HEADERS, headers, strict=True) if held is not None),
                key,
            )
            for offset, broker_us, key, value, *headers in part.iter_rows()
        ]


def _gaps(partition: int, ordered: pl.DataFrame) -> list[Finding]:
    """Offsets of a partition run without gaps and without doubles through the archive's files."""
    step_of = pl.col("offset").diff()
    broken = ordered.select("epoch", "offset", step_of.alias("step")).filter(pl.col("step") != 1)
    return [
        Finding(
            epoch=epoch,
            stage="archive",
            what=f"archive partition-{partition}",
            detail=f"offset {offset} follows {offset - moved}: "
            + ("a record is there twice" if moved <= 0 else f"{moved - 1} records are gone"),
            by=1 - moved,
        )
        for epoch, offset, moved in broken.iter_rows()
    ]


def _unsigned(partition: int, ordered: pl.DataFrame, messages: Sequence[object]) -> list[Finding]:
    """Ticks whose signature fails: readings are judged by the window, and named where they change a result."""
    bad = [m for m in messages if isinstance(m.body, Tick) and not m.authentic]  # type: ignore[attr-defined]
    if not bad:
        return []
    epochs = dict(ordered.select("offset", "epoch").iter_rows())
    return [
        Finding(
            epoch=epochs[m.raw.offset],  # type: ignore[attr-defined]
            stage="archive",
            what=f"archive partition-{partition} offset={m.raw.offset}",  # type: ignore[attr-defined]
            detail="a tick's signature fails: its bytes are not those that the gateway signed",
        )
        for m in bad
    ]


def _refused(outputs: Iterable[Outputs]) -> pl.DataFrame:
    rows = [
        (each.partition, each.raw.offset, int(each.reason), each.reason.word, each.raw.value)
        for output in outputs
        for each in output.dead_letters
    ]
    return pl.DataFrame(rows, schema=REFUSED, orient="row")


def compare_refused(stored: pl.DataFrame, replayed: pl.DataFrame, epoch_of: pl.DataFrame) -> list[Finding]:
    """Dead letters against the replay: what is refused now must have been refused then, for the same reason.

    `stored`: partition, offset, reason_code; `epoch_of`: epoch, partition, offset of the archived records. A record
    that was accepted and is refused now was changed after it was accepted.
    """
    key = ["partition", "offset"]
    both = (
        epoch_of.select("epoch", *key)
        .join(replayed.select(*key, now="reason_code"), on=key, how="left")
        .join(stored.select(*key, then="reason_code"), on=key, how="left")
        .filter(pl.col("now").ne_missing(pl.col("then")))
        .sort(key)
    )
    return [
        Finding(
            epoch=epoch,
            stage="archive",
            what=f"archive partition-{partition} offset={offset}",
            detail=f"record was {_reason(then)}, is {_reason(now)} now: its bytes are not those that came",
            stored=_reason(then),
            recomputed=_reason(now),
        )
        for epoch, partition, offset, now, then in both.iter_rows()
    ]


def _reason(code: int | None) -> str:
    return "accepted" if code is None else f"refused ({RejectReason(code).word})"
