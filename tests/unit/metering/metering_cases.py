"""The conformance table of domain §3: message cases and what must come of them.

Run against the pure functions, the flow in memory, and once on a broker with Postgres: the same rows everywhere.
Belongs here: cases and their whole expected results. Does not belong here: how they are run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from metering_world import EPOCH, NETWORK, SECOND, START_US, Stream, document, key_of, meter_record

from gridtokenx_pipelines.metering.outputs import Outputs
from gridtokenx_pipelines.metering.registry import MeterRecord

DAY = 86_400


@dataclass(frozen=True)
class Case:
    """`rejected`: (offset, reason); `rows`: (epoch after the first, revision, production, consumption, readings,
    flags); `corrections`: (boundary, revision, Δproduction, Δconsumption, seq); `accepted`, `duplicates`: how many."""

    name: str
    build: Callable[[Stream], None]
    rejected: tuple[tuple[int, str], ...] = ()
    rows: tuple[tuple[int, int, int, int, int, str], ...] = ()
    corrections: tuple[tuple[int, int, int, int, int | None], ...] = ()
    accepted: int = 0
    duplicates: int = 0
    meters: tuple[MeterRecord, ...] = field(default_factory=lambda: (meter_record(),))


CASES: list[Case] = []


def case(name: str, **expected: object) -> Callable[[Callable[[Stream], None]], Callable[[Stream], None]]:
    def add(build: Callable[[Stream], None]) -> Callable[[Stream], None]:
        CASES.append(Case(name, build, **expected))
        return build

    return add


def observed(outputs: Outputs) -> dict[str, object]:
    """What a run gave, in the table's form."""
    return {
        "rejected": tuple((letter.raw.offset, letter.reason.word) for letter in outputs.dead_letters),
        "rows": tuple(row_of(row) for row in outputs.net_energy_rows),
        "corrections": tuple((c[2] - EPOCH, c[3], c[4], c[5], c[6]) for c in outputs.correction_rows),
        "accepted": outputs.counts["accepted", ""] + outputs.counts["accepted", "late"],
        "duplicates": outputs.counts["duplicate", ""],
    }


def row_of(row: tuple) -> tuple[int, int, int, int, int, str]:
    """A net energy row of the contract in the table's form."""
    flags = ("estimated" * row[13], "missing" * row[14], "late" * row[17])
    booked = f"booked {row[18] - EPOCH}" if row[18] != row[3] else ""
    return row[3] - EPOCH, row[4], row[9], row[10], row[12], " ".join(filter(None, (*flags, booked)))


def expected(of: Case) -> dict[str, object]:
    return {name: getattr(of, name) for name in ("rejected", "rows", "corrections", "accepted", "duplicates")}


@case("readings on time give the epoch's net energy", accepted=2, rows=((0, 0, 300, 100, 2, ""),))
def _(s: Stream) -> None:
    s.tick(300)
    s.read(11, 300, 100, 50)
    s.tick(895)
    s.read(12, 895, 300, 100)
    s.tick(930)


@case("readings out of order fit in between their neighbours", accepted=3, rows=((0, 0, 300, 100, 3, ""),))
def _(s: Stream) -> None:
    s.tick(895)
    s.read(13, 899, 300, 100)
    s.read(11, 870, 280, 90)
    s.read(12, 880, 290, 95)
    s.tick(930)


@case("a reading exactly at the boundary ends the epoch", accepted=1, rows=((0, 0, 7, 8, 1, ""),))
def _(s: Stream) -> None:
    s.tick(895)
    s.read(11, 900, 7, 8)
    s.tick(930)


@case("a reading just inside 60 s before the boundary ends the epoch", accepted=1, rows=((0, 0, 7, 8, 1, ""),))
def _(s: Stream) -> None:
    s.tick(840)
    s.read(11, 840.000001, 7, 8)
    s.tick(930)


@case(
    "a reading 60 s before the boundary is not at it: the meter is missing",
    accepted=1,
    rows=((0, 0, 0, 0, 0, "missing"),),
)
def _(s: Stream) -> None:
    s.tick(840)
    s.read(11, 840, 7, 8)
    s.tick(930)


@case("a watermark one microsecond before the end closes nothing", accepted=1)
def _(s: Stream) -> None:
    s.tick(895)
    s.read(11, 895, 7, 8)
    s.tick(929.999999)


@case("a reading after the boundary belongs to the next epoch", accepted=2, rows=((0, 0, 7, 8, 1, ""),))
def _(s: Stream) -> None:
    s.tick(895)
    s.read(11, 895, 7, 8)
    s.read(12, 900.000001, 9, 9)
    s.tick(930)


@case("a tick in the past doesn't move time back", accepted=1, rows=((0, 0, 7, 8, 1, ""),))
def _(s: Stream) -> None:
    s.tick(895)
    s.tick(100)
    s.read(11, 895, 7, 8)
    s.tick(930)


@case(
    "one tick over a gap closes all epochs up to it, the meter missing in those without a register",
    accepted=1,
    rows=((0, 0, 7, 8, 1, ""), (1, 0, 0, 0, 0, "missing"), (2, 0, 0, 0, 0, "missing")),
)
def _(s: Stream) -> None:
    s.tick(895)
    s.read(11, 895, 7, 8)
    s.tick(2_730)


@case("the same bytes again are a duplicate, on time and late", accepted=1, duplicates=2, rows=((0, 0, 7, 8, 1, ""),))
def _(s: Stream) -> None:
    s.tick(895)
    raw = s.read(11, 895, 7, 8)
    s.again(raw)
    s.tick(930)
    s.again(raw)


@case("the seq of an accepted reading with other bytes is a replay", accepted=1, rejected=((2, "replay"),))
def _(s: Stream) -> None:
    s.tick(895)
    s.read(11, 895, 7, 8)
    s.read(11, 895, 7, 9)


@case("bytes that are no JSON are undecodable", rejected=((1, "undecodable"), (2, "undecodable"), (3, "undecodable")))
def _(s: Stream) -> None:
    s.tick(0)
    s.signed(b"\xff\x00garbage")
    s.signed(b"")
    s.signed(b'{"meter_id": "MEA-001"')


@case("a value over 1 MiB is undecodable", rejected=((1, "undecodable"),))
def _(s: Stream) -> None:
    s.tick(0)
    s.signed(b" " * (1 << 20) + b"{}")


@case(
    "a field missing, of another type, out of range or not finite is a bad field",
    rejected=tuple((offset, "bad_field") for offset in range(1, 10)),
)
def _(s: Stream) -> None:
    s.tick(0)
    s.read(11, 0, 0, 0, voltage_v=None)
    s.read(11, 0, 0, 0, production_wh="1000")
    s.read(11, 0, 0, 0, production_wh=1_000.5)
    s.read(11, 0, 0, 0, consumption_wh=-1)
    s.read(11, 0, 0, 0, meter_id="M" * 33)
    s.read(11, 0, 0, 0, meter_id="MEA-001\n")
    s.read(2**63, 0, 0, 0)
    s.signed(b'{"meter_id":"MEA-001","voltage_v":1e999}')
    s.signed(b"[1]")


@case("a meter nobody registered is unknown", rejected=((1, "unknown_meter"),))
def _(s: Stream) -> None:
    s.tick(0)
    s.read(11, 0, 0, 0, meter_id="MEA-404", signer="MEA-404")


@case("nothing before the baseline's seq counts", rejected=((1, "unknown_meter"),))
def _(s: Stream) -> None:
    s.tick(0)
    s.read(9, -10)


@case(
    "a retired meter is not active from its epoch on, and has no rows there",
    meters=(meter_record(), meter_record(status="retired", effective_epoch=EPOCH + 1)),
    accepted=1,
    rejected=((2, "unknown_meter"),),
    rows=((0, 0, 7, 8, 1, ""),),
)
def _(s: Stream) -> None:
    s.tick(900)
    s.read(11, 900, 7, 8)
    s.read(12, 900.000001, 7, 8)
    s.tick(1_830)


@case("another key than the registered one is refused", rejected=((1, "wrong_key"), (2, "wrong_key")))
def _(s: Stream) -> None:
    s.tick(0)
    s.read(11, 0, 0, 0, signer="a stranger")
    raw = s.read(11, 0)
    s.raws[-1] = type(raw)(raw.offset, raw.broker_us, raw.value, raw.headers[:1], raw.key)


@case(
    "a forged signature, another network and another tag are refused",
    rejected=((1, "bad_signature"), (2, "bad_signature"), (3, "bad_signature"), (4, "bad_signature")),
)
def _(s: Stream) -> None:
    s.tick(0)
    s.read(11, 0, network=NETWORK + 1)
    good = s.read(11, 0, 1)
    s.raws[-1] = type(good)(good.offset, good.broker_us, good.value.replace(b"230.1", b"230.2"), good.headers, b"1")
    s.raws.append(type(good)(3, 0, good.value, (("sig", b"short"), good.headers[1])))
    value = good.value
    s.put(
        value,
        [
            ("sig", key_of("MEA-001").sign(b"gridtokenx/tick/v1\0" + bytes([3, *[0] * 7]) + value).signature),
            good.headers[1],
        ],
    )


@case(
    "a zone that is not the meter's, and a partition that is not the zone's, are refused",
    meters=(meter_record(), meter_record("MEA-002", zone_id=2)),
    rejected=((1, "wrong_zone"), (2, "wrong_zone")),
)
def _(s: Stream) -> None:
    s.tick(0)
    s.read(11, 0, zone_id=5)
    s.read(11, 0, meter_id="MEA-002", signer="MEA-002", zone_id=2)


@case(
    "a Kafka key that is not the zone is refused, in the right partition too, and so is none",
    accepted=1,
    rejected=((1, "mis_keyed"), (2, "mis_keyed"), (3, "mis_keyed"), (4, "mis_keyed")),
)
def _(s: Stream) -> None:
    s.tick(0)
    good = s.read(11, 0)
    s.raws.pop()
    for key in (b"5", b"01", b"", None):
        s.put(good.value, list(good.headers), key)
    s.put(good.value, list(good.headers), b"1")


@case(
    "time must grow with seq, against both neighbours", accepted=2, rejected=((3, "out_of_order"), (4, "out_of_order"))
)
def _(s: Stream) -> None:
    s.tick(100)
    s.read(11, 90)
    s.read(13, 100)
    s.read(14, 100)
    s.read(12, 100)


@case("60 s ahead of arrival is allowed, a microsecond more is not", accepted=1, rejected=((1, "ahead_of_arrival"),))
def _(s: Stream) -> None:
    s.tick(100)
    s.read(11, 160.000001)
    s.read(11, 160)


@case("before the first tick nothing has arrived", rejected=((0, "ahead_of_arrival"),))
def _(s: Stream) -> None:
    s.read(11, 0)
    s.tick(0)


@case(
    "14 days old is allowed, a microsecond more is not",
    meters=(meter_record(baseline_timestamp_us=START_US - 20 * DAY * SECOND),),
    accepted=1,
    rejected=((1, "too_old"),),
)
def _(s: Stream) -> None:
    s.tick(0)
    s.read(11, -14 * DAY - 0.000001)
    s.read(11, -14 * DAY)


@case(
    "a register below its former neighbour's or above its next one's ran back",
    accepted=2,
    rejected=((2, "register_ran_back"), (4, "register_ran_back"), (5, "register_ran_back")),
)
def _(s: Stream) -> None:
    s.tick(100)
    s.read(11, 80, 10, 10)
    s.read(12, 85, 11, 9)
    s.read(14, 100, 20, 20)
    s.read(13, 90, 21, 15)
    s.read(13, 90, 9, 15)


@case(
    "implied power of 1.1 × rating is allowed, one Wh more is not",
    accepted=1,
    rejected=((1, "over_rating"), (3, "over_rating")),
)
def _(s: Stream) -> None:
    s.tick(895)
    s.read(11, 895, 1_101, 0)
    s.read(13, 895, 1_100, 0)
    s.read(12, 885, 1_000, 0)


@case(
    "a tick of an unregistered key or with a forged signature moves nothing",
    rejected=((1, "wrong_key"), (2, "bad_signature"), (3, "bad_field")),
)
def _(s: Stream) -> None:
    s.tick(0)
    s.tick(930, key=key_of("MEA-001"))
    raw = s.tick(930)
    s.raws[-1] = type(raw)(raw.offset, raw.broker_us, raw.value.replace(b"gw-1", b"gw-2"), raw.headers)
    s.tick(930, timestamp="soon")


@case(
    "a tick more than a year after the last is a broken clock and closes nothing",
    accepted=1,
    rejected=((1, "ahead_of_arrival"), (2, "ahead_of_arrival")),
    rows=((0, 0, 7, 8, 1, ""),),
)
def _(s: Stream) -> None:
    s.tick(895)
    s.tick(895 + 366 * DAY + 0.000001)
    s.tick(0, timestamp=2**62)
    s.read(11, 895, 7, 8)
    s.tick(930)


@case("a block counts as its readings", accepted=3, rows=((0, 0, 30, 3, 3, ""),))
def _(s: Stream) -> None:
    s.tick(890)
    s.block(document(11, 300, 10, 1), document(12, 600, 20, 2), document(13, 895, 30, 3))
    s.tick(930)


@case("a block's already accepted readings are skipped", accepted=2, duplicates=1, rows=((0, 0, 30, 3, 2, ""),))
def _(s: Stream) -> None:
    s.tick(890)
    s.read(11, 870, 10, 1)
    s.block(document(11, 870, 10, 1), document(12, 895, 30, 3))
    s.tick(930)


@case(
    "a bad reading refuses its whole block",
    rejected=((1, "register_ran_back"), (2, "out_of_order"), (3, "bad_field"), (4, "bad_field"), (5, "bad_field")),
    rows=((0, 0, 0, 0, 0, "missing"),),
)
def _(s: Stream) -> None:
    s.tick(890)
    s.block(document(11, 880, 10, 1), document(12, 895, 9, 3))
    s.block(document(12, 880, 10, 1), document(11, 895, 30, 3))
    s.block(*[document(11 + index, 800 + index, 0, 0) for index in range(97)])
    s.block()
    s.block(document(11, 895, 0, 0, meter_id="MEA-002"))
    s.tick(930)


@case(
    "a missing meter is interpolated, rounded down, and booked when it has a register again",
    accepted=2,
    rows=(
        (0, 0, 0, 0, 0, "missing"),
        (1, 0, 0, 0, 0, "missing"),
        # from 600 s at 100 and 10 Wh to 1 795 s at 200 and 21 Wh: at 900 s 125.1 and 12.8
        (0, 1, 125, 12, 1, "estimated late booked 1"),
        (1, 1, 75, 9, 1, "estimated late"),
    ),
)
def _(s: Stream) -> None:
    s.tick(600)
    s.read(11, 600, 100, 10)
    s.tick(930)
    s.tick(1_795)
    s.read(12, 1_795, 200, 21)
    s.tick(1_830)


@case(
    "readings that a missing meter sends later give its registers, which then are no estimates",
    accepted=2,
    rows=(
        (0, 0, 0, 0, 0, "missing"),
        (1, 0, 0, 0, 0, "missing"),
        (0, 1, 70, 8, 1, "late booked 1"),
        (1, 1, 30, 2, 1, "late"),
    ),
)
def _(s: Stream) -> None:
    s.tick(930)
    s.tick(1_795)
    s.block(document(11, 895, 70, 8), document(12, 1_795, 100, 10))
    s.tick(1_830)


@case(
    "a meter that never reported starts from its baseline",
    accepted=1,
    rows=(
        (0, 0, 0, 0, 0, "missing"),
        (1, 0, 0, 0, 0, "missing"),
        # the line from the baseline at −5 s: 905 of 1 805 s
        (0, 1, 90, 9, 0, "estimated late booked 1"),
        (1, 1, 90, 9, 1, "estimated late"),
    ),
)
def _(s: Stream) -> None:
    s.tick(930)
    s.tick(1_795)
    s.read(11, 1_800, 180, 18)
    s.tick(1_830)


@case(
    "a late reading that is the boundary's last one corrects it, once",
    accepted=3,
    duplicates=1,
    rows=((0, 0, 100, 10, 1, ""), (1, 0, 200, 20, 1, "")),
    corrections=((1, 1, 5, 1, 12),),
)
def _(s: Stream) -> None:
    s.tick(880)
    s.read(11, 880, 100, 10)
    s.tick(930)
    s.again(s.read(12, 899, 105, 11))
    s.tick(1_795)
    s.read(13, 1_795, 300, 30)
    s.tick(1_830)


@case(
    "two late readings correct a boundary twice, each by its difference to the one before",
    accepted=4,
    rows=((0, 0, 100, 10, 1, ""),),
    corrections=((1, 1, 3, 1, 12), (1, 2, 2, 0, 14)),
)
def _(s: Stream) -> None:
    s.tick(880)
    s.read(11, 870, 100, 10)
    s.tick(930)
    s.read(12, 880, 103, 11)
    s.read(14, 899, 105, 11)
    s.read(13, 890, 104, 11)


@case("a late reading away from the boundary changes nothing", accepted=2, rows=((0, 0, 100, 10, 1, ""),))
def _(s: Stream) -> None:
    s.tick(895)
    s.read(12, 895, 100, 10)
    s.tick(930)
    s.read(11, 450, 60, 5)


@case(
    "behind the watermark neighbours still count",
    accepted=1,
    rejected=((3, "register_ran_back"), (4, "out_of_order"), (5, "replay")),
    rows=((0, 0, 100, 10, 1, ""),),
)
def _(s: Stream) -> None:
    s.tick(895)
    s.read(12, 895, 100, 10)
    s.tick(930)
    s.read(11, 450, 101, 5)
    s.read(11, 896, 60, 5)
    s.read(12, 895, 100, 11)


@case(
    "a reading that came behind the watermark before its epoch closed is late, and corrects right at the close",
    accepted=2,
    rows=((0, 0, 100, 10, 2, ""),),
    corrections=((1, 1, 7, 0, 12),),
)
def _(s: Stream) -> None:
    s.tick(850)
    s.read(11, 850, 100, 10)
    s.tick(900)
    s.read(12, 870, 107, 10)
    s.tick(930)


@case(
    "a late reading alone leaves its meter missing, and gives the register when that is booked",
    accepted=2,
    rows=(
        (0, 0, 0, 0, 0, "missing"),
        (1, 0, 0, 0, 0, "missing"),
        (0, 1, 107, 10, 1, "late booked 1"),
        (1, 1, 93, 10, 1, "late"),
    ),
)
def _(s: Stream) -> None:
    s.tick(900)
    s.read(11, 870, 107, 10)
    s.tick(930)
    s.tick(1_795)
    s.read(12, 1_795, 200, 20)
    s.tick(1_830)


@case(
    "a late reading replaces an estimate, and the estimates beside it that contradict it give way",
    accepted=2 + 1,
    rows=(
        *((epoch, 0, 0, 0, 0, "missing") for epoch in range(4)),
        # from the baseline at −5 s to 3 600 s: 905, 1 805 and 2 705 of 3 605 s
        (0, 1, 90, 0, 0, "estimated late booked 3"),
        (1, 1, 90, 0, 0, "estimated late booked 3"),
        (2, 1, 90, 0, 0, "estimated late booked 3"),
        (3, 1, 90, 0, 1, "estimated late"),
        (4, 0, 90, 0, 1, ""),
    ),
    corrections=((2, 1, 130, 0, 11), (3, 1, 40, 0, None)),
)
def _(s: Stream) -> None:
    s.tick(3_595)
    s.read(20, 3_600, 360, 0)
    s.tick(3_630)
    s.read(11, 1_795, 310, 0)
    s.tick(4_495)
    s.read(21, 4_500, 450, 0)
    s.tick(4_530)


@case(
    "the baseline is never corrected",
    accepted=2,
    rows=((0, 0, 50, 0, 1, ""),),
)
def _(s: Stream) -> None:
    s.tick(0)
    s.tick(40)
    s.read(11, -1, 4, 0)
    s.tick(895)
    s.read(12, 895, 50, 0)
    s.tick(930)
