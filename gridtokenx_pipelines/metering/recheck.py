"""Verifying one meter's archived records again, years later: signatures, and the chain of its registers (domain §3).

Belongs here: what a record must prove of itself, whatever the flow made of it at the time. Does not belong here:
finding the records (store/archive.py), saying it to people. Nothing of the flow's state is needed: each accepted
reading must carry a signature of the key in force, and fit between its neighbours in seq.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from gridtokenx_pipelines.epochs import EPOCH_US, epoch_of_us, key_of
from gridtokenx_pipelines.metering.judgement import Registers, disorder_between
from gridtokenx_pipelines.metering.readings import (
    Block,
    Measured,
    Raw,
    Reading,
    Refusal,
    RejectReason,
    decode,
    reading_message,
)
from gridtokenx_pipelines.metering.registry import RegistryView, key_of_zone
from gridtokenx_pipelines.metering.state import BOUNDARY_WINDOW_US
from gridtokenx_pipelines.metering.verify import is_signed

# reasons that the record itself proves, without what came before it
PROVABLE = {
    RejectReason.UNDECODABLE,
    RejectReason.BAD_FIELD,
    RejectReason.WRONG_KEY,
    RejectReason.BAD_SIGNATURE,
    RejectReason.WRONG_ZONE,
    RejectReason.MIS_KEYED,
}


class Finding(msgspec.Struct, frozen=True):
    """Something that doesn't hold; `kind` is a reason's word, or what the archive contradicts."""

    kind: str
    offset: int | None
    seq: int | None
    detail: str


class Recheck(msgspec.Struct, frozen=True, kw_only=True):
    """What the records prove. Energies Wh over the range, times µs UTC; `refused` by reason as of the time."""

    meter_id: str
    records: int
    readings: int
    duplicates: int
    refused: dict[str, int]
    keys: tuple[str, ...]
    first: Registers | None
    last: Registers | None
    production_wh: int
    consumption_wh: int
    findings: tuple[Finding, ...]
    boundaries: dict[int, tuple[int, int]]  # epoch that starts there → registers of its last reading


class Archived(msgspec.Struct, frozen=True):
    """A record of the archive; `reason_code` as the flow refused it, None for one that it took."""

    raw: Raw
    reason_code: int | None


def recheck(
    meter_id: str, records: Iterable[Archived], registry: RegistryView, network_id: int, span_us: tuple[int, int]
) -> Recheck:
    """Verify a meter's records in offset order, of readings with times in span (first, last; both included)."""
    findings: list[Finding] = []
    refused: Counter[str] = Counter()
    keys: list[str] = []
    taken: dict[int, tuple[Registers, bytes]] = {}
    duplicates = seen = 0
    for archived in records:
        raw, code = archived.raw, archived.reason_code
        body = decode(raw)
        if not _touches(body, span_us):
            continue
        seen += 1
        against = _against(meter_id, raw, body, registry, network_id)
        if code is not None:
            refused[RejectReason(code).word] += 1
            if against is None and RejectReason(code) in PROVABLE:
                detail = f"refused as {RejectReason(code).word}, but it proves the contrary; the archive was changed"
                findings.append(Finding("refused_without_cause", raw.offset, None, detail))
            continue
        if against is not None:
            detail = f"taken at the time, but now {against.detail}; the archive or the registry was changed"
            findings.append(Finding(against.reason.word, raw.offset, None, detail))
            continue
        if (key := raw.header("pub").hex()) not in keys:
            keys.append(key)
        if isinstance(body, Reading | Block):
            for reading in body.readings if isinstance(body, Block) else (body,):
                duplicates += _take(taken, reading, raw, isinstance(body, Block), findings)
    chain = [taken[seq][0] for seq in sorted(taken)]
    _check_chain(chain, meter_id, registry, findings)
    within = [each for each in chain if span_us[0] <= each[1] <= span_us[1]]
    first, last = (within[0], within[-1]) if within else (None, None)
    return Recheck(
        meter_id=meter_id,
        records=seen,
        readings=len(within),
        duplicates=duplicates,
        refused=dict(sorted(refused.items())),
        keys=tuple(keys),
        first=first,
        last=last,
        production_wh=last[2] - first[2] if first and last else 0,
        consumption_wh=last[3] - first[3] if first and last else 0,
        findings=tuple(findings),
        boundaries=boundaries_of(within),
    )


def boundaries_of(readings: Sequence[Registers]) -> dict[int, tuple[int, int]]:
    """Registers at each epoch boundary: of the last reading in (boundary − 60 s, boundary]; readings ascending."""
    found = {}
    for _, time_us, production_wh, consumption_wh in readings:
        epoch = -(-time_us // EPOCH_US)
        if epoch * EPOCH_US - time_us < BOUNDARY_WINDOW_US:
            found[epoch] = production_wh, consumption_wh
    return found


def compare_settled(found: Recheck, settled: dict[int, tuple[int, int]]) -> list[Finding]:
    """Boundary registers that were settled (epoch that starts there → Wh, corrections included) and aren't proven."""
    findings = []
    for epoch, registers in sorted(settled.items()):
        proven = found.boundaries.get(epoch)
        if proven != registers:
            shown = "no reading" if proven is None else f"{proven[0]} and {proven[1]} Wh"
            detail = (
                f"at {key_of(epoch)} {registers[0]} and {registers[1]} Wh were settled, the archive proves {shown}; "
                "audit the epochs beside it"
            )
            findings.append(Finding("settled_otherwise", None, None, detail))
    return findings


def _touches(body: object, span_us: tuple[int, int]) -> bool:
    if isinstance(body, Block):
        return any(span_us[0] <= each.timestamp_us <= span_us[1] for each in body.readings)
    return not isinstance(body, Reading) or span_us[0] <= body.timestamp_us <= span_us[1]


def _against(meter_id: str, raw: Raw, body: object, registry: RegistryView, network_id: int) -> Refusal | None:
    if isinstance(body, Refusal):
        return body
    if not isinstance(body, Reading | Block) or body.meter_id != meter_id:
        return Refusal(RejectReason.BAD_FIELD, f"it is no reading of {meter_id}")
    time_us = (body.readings[0] if isinstance(body, Block) else body).timestamp_us
    record = registry.meter(meter_id, epoch_of_us(max(time_us - 1, 0)))
    pub = raw.header("pub")
    against: Refusal | None = None
    if record is None:
        against = Refusal(RejectReason.UNKNOWN_METER, f"{meter_id} is not in the archive's registry")
    elif pub != record.device_key:
        detail = f"its key {pub.hex() or 'none'} is not {record.device_key.hex()}"
        against = Refusal(RejectReason.WRONG_KEY, detail)
    elif not is_signed(raw.header("sig"), pub, reading_message(network_id, raw.value)):
        against = Refusal(RejectReason.BAD_SIGNATURE, "its signature is not that of these bytes")
    elif body.zone_id != record.zone_id:
        against = Refusal(RejectReason.WRONG_ZONE, f"its zone {body.zone_id} is not {record.zone_id}")
    elif raw.key != key_of_zone(record.zone_id):
        against = Refusal(RejectReason.MIS_KEYED, f"its Kafka key {raw.key!r:.80} is not its zone {record.zone_id}")
    return against


def _take(
    taken: dict[int, tuple[Registers, bytes]], reading: Measured, raw: Raw, in_block: bool, findings: list[Finding]
) -> int:
    new = reading.seq, reading.timestamp_us, reading.production_wh, reading.consumption_wh
    known = taken.get(reading.seq)
    if known is None:
        taken[reading.seq] = new, b"" if in_block else raw.value
        return 0
    if known[0] == new and (in_block or not known[1] or known[1] == raw.value):
        return 1
    detail = f"seq {reading.seq} was taken twice with different bytes; the meter used a seq again"
    findings.append(Finding(RejectReason.REPLAY.word, raw.offset, reading.seq, detail))
    return 0


def _check_chain(chain: list[Registers], meter_id: str, registry: RegistryView, findings: list[Finding]) -> None:
    for earlier, later in pairwise(chain):
        record = registry.meter(meter_id, epoch_of_us(max(later[1] - 1, 0)))
        if record is None:
            continue  # said already, record by record
        broken = disorder_between(earlier, later, record)
        if broken is not None:
            findings.append(Finding(broken.reason.word, None, later[0], broken.detail))
