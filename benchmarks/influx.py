"""What a fleet's tags cost InfluxDB: series, memory, disk, writing and asking, up to 100 000 meters, on a real server.

    python benchmarks/influx.py [--meters 1000,10000,100000] [--rounds 3] [--write]

Belongs here: the product's own points written in the product's own batches, and what the server then says and holds.
Does not belong here: what a point says (messaging/influx_points.py), the flow's queue (messaging/influx.py).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "chaos"), str(HERE)]

import streaming_load as loads  # noqa: E402 - beside this file, whatever the working folder
from stream_servers import TOKEN, Influx  # noqa: E402 - the server as the chaos runs start it

from gridtokenx_pipelines.messaging.influx import LINES_PER_WRITE  # noqa: E402
from gridtokenx_pipelines.messaging.influx_points import line_of  # noqa: E402
from gridtokenx_pipelines.messaging.influx_schema import BUCKET, ORGANISATION  # noqa: E402
from gridtokenx_pipelines.metering.outputs import Accepted  # noqa: E402
from gridtokenx_pipelines.metering.readings import Measured  # noqa: E402

SPAN = "start: 2026-06-14T00:00:00Z, stop: 2026-06-15T00:00:00Z"
ONE_METER = (
    f'from(bucket: "{BUCKET}") |> range({SPAN}) |> filter(fn: (r) => r.meter_serial == "{{serial}}" and '
    'r._field == "generation") |> sum()'
)
ONE_ZONE = (
    f'from(bucket: "{BUCKET}") |> range({SPAN}) |> filter(fn: (r) => r.zone_id == "3" and '
    'r._field == "generation") |> group() |> sum()'
)
CARDINALITY = f'import "influxdata/influxdb" influxdb.cardinality(bucket: "{BUCKET}", {SPAN})'


def lines(meters: int, rounds: int) -> list[str]:
    """Each meter's point of each round, round by round, as the flow writes them."""
    found = []
    records = [record for record in loads.registry(meters, one_key=True) if not hasattr(record, "gateway_id")]
    for step in range(rounds):
        for number, record in enumerate(records):
            reading = Measured(**loads.measured(number % 1_000, step))  # type: ignore[arg-type]
            found.append(line_of(Accepted(record, reading.timestamp_us, reading, 20, 10)))  # type: ignore[arg-type]
    return found  # type: ignore[return-value] # each has something to write


def measure(folder: Path, meters: int, rounds: int) -> dict[str, Any] | None:
    """One fresh server and fleet; None where there is no influxd."""
    from influxdb_client import InfluxDBClient  # noqa: PLC0415 - half a second
    from influxdb_client.client.write_api import SYNCHRONOUS  # noqa: PLC0415

    server = Influx.find(folder)
    if server is None:
        return None
    try:
        points = lines(meters, rounds)
        with InfluxDBClient(url=server.url, token=TOKEN, org=ORGANISATION, timeout=120_000, enable_gzip=True) as client:
            write, query = client.write_api(write_options=SYNCHRONOUS), client.query_api()
            first = _written(write, points[:meters])
            rest = _written(write, points[meters:])
            series = sum(record.get_value() for table in query.query(CARDINALITY) for record in table.records)
            asked = [_asked(query, ONE_METER.format(serial=loads.meter_id(meters * at // 7))) for at in range(7)]
            zone, total = _asked(query, ONE_ZONE)
        return {
            "meters": meters,
            "series": series,
            "new_per_second": meters / first,
            "known_per_second": (len(points) - meters) / rest if rounds > 1 else 0.0,
            "mebibytes": _resident(server.pid()),
            "disk_mebibytes": sum(path.stat().st_size for path in (folder / "engine-path").rglob("*.*")) / 2**20,
            "one_meter_ms": 1_000 * sorted(each for each, _ in asked)[len(asked) // 2],
            "one_zone_ms": 1_000 * zone,
            "exact": [each for _, each in asked] == [20 * rounds] * 7
            and total == 20 * rounds * len(range(2, meters, loads.PARTITIONS)),
        }
    finally:
        server.kill()


def _written(write: Any, points: list[str]) -> float:
    started = time.perf_counter()
    for at in range(0, len(points), LINES_PER_WRITE):
        write.write(BUCKET, record="\n".join(points[at : at + LINES_PER_WRITE]).encode())
    return time.perf_counter() - started


def _asked(query: Any, flux: str) -> tuple[float, int]:
    started = time.perf_counter()
    found = sum(record.get_value() for table in query.query(flux) for record in table.records)
    return time.perf_counter() - started, found


def _resident(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * 4_096 / 2**20


def report(found: list[dict[str, Any]]) -> str:
    """The section of RESULTS.md."""
    from results import machine, table  # noqa: PLC0415 - beside this file

    rows = [
        [
            f"{each['meters']:,}".replace(",", " "),
            f"{each['series']:,}".replace(",", " "),
            f"{each['new_per_second']:,.0f}".replace(",", " "),
            f"{each['known_per_second']:,.0f}".replace(",", " "),
            f"{each['mebibytes']:.0f}",
            f"{each['disk_mebibytes']:.0f}",
            f"{each['one_meter_ms']:.0f}",
            f"{each['one_zone_ms']:.0f}",
            "yes" if each["exact"] else "NO",
        ]
        for each in found
    ]
    head = ["meters", "series", "points/s, new series", "points/s, known", "server MiB", "disk MiB"]
    return "\n\n".join(
        [
            f"`python benchmarks/influx.py --write`, {machine('influxdb-client')}",
            "A fresh InfluxDB 2.7 on the same cores, which other work shared; batches of 5 000 points. A meter is "
            "one series: zone and type follow from it, so cardinality grows with the number of meters alone.",
            table([*head, "one meter's day, ms", "one zone's day, ms", "sums exact"], rows),
        ]
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meters", default="1000,10000,100000", help="fleet sizes, separated by commas")
    parser.add_argument("--rounds", type=int, default=3, help="points of each meter")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    asked = parser.parse_args()
    found = []
    for meters in map(int, asked.meters.split(",")):
        with tempfile.TemporaryDirectory(prefix="influx") as folder:
            each = measure(Path(folder), meters, asked.rounds)
        if each is None:
            sys.exit("no influxd: set INFLUXD to its path")
        found.append(each)
        sys.stdout.write(f"{each}\n")
    if asked.write:
        from results import write_section  # noqa: PLC0415 - beside this file

        write_section("influxdb", report(found))


if __name__ == "__main__":
    main()
