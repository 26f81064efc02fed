"""A small world for metering tests: keys, a registry, and records of one partition written as seconds and Wh.

Belongs here: building signed records and running them through the pure functions. Does not belong here: assertions.
"""

from __future__ import annotations

import json
from hashlib import sha256

from nacl.signing import SigningKey

from gridtokenx_pipelines.epochs import epoch_of_key, start_us
from gridtokenx_pipelines.metering.outputs import Outputs
from gridtokenx_pipelines.metering.readings import Raw, sign_reading, sign_tick
from gridtokenx_pipelines.metering.registry import GatewayRecord, MeterRecord, RegistryView
from gridtokenx_pipelines.metering.verify import Verifier
from gridtokenx_pipelines.metering.window import ShardState, step

NETWORK = 3
EPOCH = epoch_of_key("2026-01-27T12:00Z")
START_US = start_us(EPOCH)
PARTITIONS = 4
SECOND = 1_000_000
BASE_PRODUCTION, BASE_CONSUMPTION = 1_000, 2_000


def key_of(name: str) -> SigningKey:
    return SigningKey(sha256(name.encode()).digest())


GATEWAY = key_of("gateway")


def meter_record(meter_id: str = "MEA-001", **changes: object) -> MeterRecord:
    fields: dict[str, object] = {
        "meter_id": meter_id,
        "wallet": f"wallet of {meter_id}",
        "zone_id": 1,
        "meter_type": "Hybrid",
        "rating_w": 4_000,
        "device_key": bytes(key_of(meter_id).verify_key),
        "effective_epoch": EPOCH,
        "first_epoch": EPOCH,
        "baseline_production_wh": BASE_PRODUCTION,
        "baseline_consumption_wh": BASE_CONSUMPTION,
        "baseline_seq": 10,
        "baseline_timestamp_us": START_US - 5 * SECOND,
    }
    return MeterRecord(**{**fields, **changes})


def gateway_record() -> GatewayRecord:
    return GatewayRecord(gateway_id="gw-1", key=bytes(GATEWAY.verify_key))


def registry_of(*meters: MeterRecord) -> RegistryView:
    return RegistryView([gateway_record(), *(meters or (meter_record(),))])


def document(seq: int, seconds: float, production: int, consumption: int, **changes: object) -> dict:
    fields: dict[str, object] = {
        "meter_id": "MEA-001",
        "zone_id": 1,
        "seq": seq,
        "timestamp": START_US + round(seconds * SECOND),
        "production_wh": BASE_PRODUCTION + production,
        "consumption_wh": BASE_CONSUMPTION + consumption,
        "voltage_v": 230.1,
        "current_a": 4.5,
        "power_factor": 0.98,
        "frequency_hz": 50.0,
    }
    return {name: value for name, value in {**fields, **changes}.items() if value is not None}


class Stream:
    """Records of one partition in offset order; energies count from the baseline, seconds from the epoch's start."""

    def __init__(self) -> None:
        self.raws: list[Raw] = []

    def put(self, value: bytes, headers: list[tuple[str, bytes]], key: bytes | None = b"1") -> Raw:
        raw = Raw(len(self.raws), START_US + len(self.raws), value, tuple(headers), key)
        self.raws.append(raw)
        return raw

    def tick(self, seconds: float, key: SigningKey = GATEWAY, **changes: object) -> Raw:
        value = json.dumps({"gateway_id": "gw-1", "timestamp": START_US + round(seconds * SECOND), **changes}).encode()
        return self.put(value, sign_tick(value, NETWORK, key))

    def read(
        self,
        seq: int,
        seconds: float,
        production: int = 0,
        consumption: int = 0,
        *,
        signer: str = "MEA-001",
        network: int = NETWORK,
        **changes: object,
    ) -> Raw:
        value = json.dumps(document(seq, seconds, production, consumption, **changes)).encode()
        return self.put(value, sign_reading(value, network, key_of(signer)), str(changes.get("zone_id", 1)).encode())

    def block(self, *readings: dict, meter_id: str = "MEA-001", zone_id: int = 1) -> Raw:
        value = json.dumps({"meter_id": meter_id, "zone_id": zone_id, "readings": readings}).encode()
        return self.put(value, sign_reading(value, NETWORK, key_of(meter_id)), str(zone_id).encode())

    def signed(self, value: bytes, signer: str = "MEA-001") -> Raw:
        return self.put(value, sign_reading(value, NETWORK, key_of(signer)))

    def again(self, raw: Raw) -> Raw:
        return self.put(raw.value, list(raw.headers), raw.key)


def gather(outputs: list[Outputs]) -> Outputs:
    """Several batches' outputs as one."""
    whole = Outputs(outputs[0].partition)
    for each in outputs:
        whole.net_energy_rows += each.net_energy_rows
        whole.correction_rows += each.correction_rows
        whole.dead_letters += each.dead_letters
        for one in each.accepted:
            whole.accept(one)
        whole.closed += each.closed
        whole.counts += each.counts
        whole.progress = each.progress
    return whole


def run(
    raws: list[Raw], registry: RegistryView, partition: int = 0, batch: int = 1_000, through_bytes: bool = False
) -> tuple[ShardState, Outputs]:
    """Decode, verify and window the records in batches; `through_bytes` pickles the state between them."""
    verifier = Verifier(NETWORK)
    state, results = ShardState(partition, PARTITIONS), []
    for start in range(0, max(len(raws), 1), batch):
        state, outputs = step(state, verifier.messages(raws[start : start + batch]), registry)
        if through_bytes:
            state = ShardState.from_bytes(state.to_bytes())
        results.append(outputs)
    verifier.close()
    return state, gather(results)
