"""What a pipeline must know of a fleet before its first reading: records for `meter-registry`.

Belongs here: gateway and meters as registry messages. Does not belong here: readings and ticks (output.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gridtokenx_pipelines.metering.registry import GatewayRecord, MeterRecord, encode_record
from gridtokenx_pipelines.simulation.fleet.fleet import Fleet
from gridtokenx_pipelines.simulation.fleet.output import GATEWAY_ID, MS
from gridtokenx_pipelines.simulation.keys import DemoKeys, address, public_bytes
from gridtokenx_pipelines.simulation.messages import REGISTRY_TOPIC, Event


def registry(
    fleet: Fleet, ratings_w: Iterable[int], first_epoch: int, start: int, baselines: Iterable[tuple[int, int]]
) -> Iterator[Event]:
    """Records for `meter-registry`: the simulator's gateway, then every meter with its registers at the start."""
    keys = DemoKeys(fleet.seed)
    gateway = GatewayRecord(
        gateway_id=GATEWAY_ID, key=public_bytes(keys.gateway()), effective_epoch=max(first_epoch - 1, 0)
    )
    yield Event(REGISTRY_TOPIC, 0, GATEWAY_ID.encode(), encode_record(gateway), (), start * MS)
    for member, rating, (production, consumption) in zip(fleet.members, ratings_w, baselines, strict=True):
        record = MeterRecord(
            meter_id=member.meter_id,
            wallet=address(keys.wallet(f"owner/{member.meter_id}")),
            zone_id=member.zone_id,
            meter_type=member.template.meter_type,
            rating_w=rating,
            device_key=public_bytes(keys.meter(member.meter_id)),
            effective_epoch=first_epoch,
            first_epoch=first_epoch,
            baseline_production_wh=production,
            baseline_consumption_wh=consumption,
            baseline_seq=0,
            baseline_timestamp_us=start * 1_000_000,
        )
        yield Event(REGISTRY_TOPIC, 0, member.meter_id.encode(), encode_record(record), (), start * MS)
