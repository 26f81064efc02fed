"""Which record is in force: by effective epoch, never by when the message came."""

from __future__ import annotations

import pytest
from metering_world import EPOCH, GATEWAY, gateway_record, key_of, meter_record

from gridtokenx_pipelines.metering.registry import (
    GatewayRecord,
    RegistryError,
    RegistryView,
    decode_record,
    encode_record,
    partition_of_zone,
)


def test_a_record_is_in_force_from_its_effective_epoch_on_whatever_the_order_of_messages() -> None:
    new_key = bytes(key_of("new").verify_key)
    first, later = meter_record(), meter_record(device_key=new_key, effective_epoch=EPOCH + 5)
    for records in ((first, later), (later, first)):
        view = RegistryView(records)
        found = [view.meter("MEA-001", EPOCH + at) for at in (-3, 0, 4, 5, 100)]
        assert found == [first, first, first, later, later]


def test_a_record_of_the_same_epoch_replaces_the_former() -> None:
    view = RegistryView([meter_record(), meter_record(rating_w=9_000)])
    assert [record.rating_w for record in view.records("MEA-001")] == [9_000]


@pytest.mark.parametrize("change", [{"zone_id": 2}, {"first_epoch": EPOCH + 1}, {"baseline_production_wh": 5}])
def test_zone_first_epoch_and_baseline_of_a_meter_never_change(change: dict) -> None:
    view = RegistryView([meter_record()])
    with pytest.raises(RegistryError, match="a moved or replaced device gets a new meter id"):
        view.add(meter_record(effective_epoch=EPOCH + 1, **change))
    assert len(view.records("MEA-001")) == 1


def test_a_gateway_ticks_from_its_effective_epoch_until_it_is_switched_off() -> None:
    key = bytes(GATEWAY.verify_key)
    view = RegistryView(
        [GatewayRecord(gateway_id="g", key=key, effective_epoch=at, active=on) for at, on in ((5, True), (8, False))]
    )
    assert [view.is_gateway(key, epoch) for epoch in (4, 5, 7, 8)] == [False, True, True, False]


def test_meters_lie_in_the_partition_of_their_zone() -> None:
    view = RegistryView([meter_record(f"M{zone}", zone_id=zone) for zone in (1, 2, 5, 8)])
    assert [view.meters_of(partition, 4) for partition in range(4)] == [["M1", "M5"], ["M2"], [], ["M8"]]
    assert [partition_of_zone(zone, 8) for zone in (1, 8, 9)] == [0, 7, 0]


def test_messages_come_back_as_they_were_and_bad_ones_are_named() -> None:
    for record in (meter_record(), gateway_record()):
        assert decode_record(encode_record(record)) == record
    for bad in (b"\xff", b"{}", encode_record(meter_record()).replace(b'"zone_id":1', b'"zone_id":64')):
        with pytest.raises(RegistryError, match="publish it corrected"):
            decode_record(bad)
