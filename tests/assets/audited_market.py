"""The small market from signed readings to settled epochs: archive, ledger, chain, seals, as the product writes them.

Belongs here: playing the stream through the flow's own functions and settling it. Does not belong here: assertions.
Household 1 is missing in the second epoch and catches up in the third; household 3's reading at the second boundary
comes late, so that a resettlement follows; household 5 places an order by hand; one reading is forged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.localnet_process import LocalnetProcess
from gridtokenx_pipelines.config import Settings
from gridtokenx_pipelines.epochs import start_us
from gridtokenx_pipelines.market.orders import Order, encode_order, meter_hash, order_id_of, sign
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.metering.outputs import Outputs
from gridtokenx_pipelines.metering.readings import Raw, Reading, Tick, encode, sign_reading, sign_tick
from gridtokenx_pipelines.metering.registry import GatewayRecord, MeterRecord, RegistryView, encode_record
from gridtokenx_pipelines.metering.verify import Verifier
from gridtokenx_pipelines.metering.window import ShardState, step
from gridtokenx_pipelines.settlement_service import clearing, energy, instructions, receipts, resettlement, statements
from gridtokenx_pipelines.settlement_service.services import Services, open_services
from gridtokenx_pipelines.store import energy as energy_store
from gridtokenx_pipelines.store import orders
from gridtokenx_pipelines.store.parquet import ParquetStore
from streaming.archive import Archive
from streaming.sinks import Letter, save_letters
from tests.assets.market_chain import RULES, bring_up, settings
from tests.assets.market_day import (
    FIRST,
    HOUSEHOLDS,
    close_flows,
    device_key_of,
    key_of_household,
    meter_id,
    meters,
    seed,
    wallet,
)

EPOCHS = 4
NETWORK_ID, PARTITIONS = 3, 2
SECOND = 1_000_000
READINGS_A_QUARTER = 3
GATEWAY = key_of_household(99)
__all__ = ["EPOCHS", "FIRST", "settings_of", "settled_market"]


@contextmanager
def settled_market(
    database_url: str,
    folder: Path,
    rules: Rules = RULES,
    before: Callable[[Services], None] | None = None,
    more: int = 0,
) -> Iterator[Services]:
    """Services over EPOCHS settled epochs and one more that is only cleared; `before` acts ahead of all of them, `more`
    epochs after it were only played."""
    with LocalnetProcess(folder / "localnet", slot_ms=20) as localnet:
        with ChainClient(localnet.url) as client:
            bring_up(client)
        with open_services(settings(folder / "data", database_url, localnet.url, rules)) as services:
            play(services, EPOCHS + 1 + more)
            if before is not None:
                before(services)
            settle(services)
            yield services


def settings_of(services: Services, data_dir: Path) -> Settings:
    """The settings that these services were opened with, for Dagster's processes."""
    return Settings.from_env(
        {
            "DATABASE_URL": services.engine.url.render_as_string(hide_password=False),
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
            "SOLANA_RPC_URL": services.client.rpc_url,
            "GRIDTOKENX_DATA_DIR": str(data_dir),
        }
    )


def settle(services: Services) -> None:
    """The spine over the settled epochs, the resettlement, and the clearing alone of one epoch more."""
    epochs = list(range(FIRST, FIRST + EPOCHS))
    energy.collect(services, [*epochs, FIRST + EPOCHS])
    clearing.clear_epochs(services, epochs)
    instructions.plan_epochs(services, epochs)
    receipts.settle_epochs(services, epochs)
    statements.write(services, epochs)
    resettlement.resettle_epochs(services, epochs[:3])
    clearing.clear_epochs(services, [FIRST + EPOCHS])


def registers(index: int, time_us: int) -> tuple[int, int]:
    """Cumulative registers: the household's Wh a quarter of an hour, evenly through time, a little more each day."""
    _, produced, consumed, *_ = HOUSEHOLDS[index]
    elapsed = time_us - start_us(FIRST)
    return 1_000 + produced * elapsed // (900 * SECOND), 2_000 + consumed * elapsed // (900 * SECOND)


Registers = Callable[[int, int], tuple[int, int]]
Late = tuple[int, int]  # household, epoch since the first


def play(services: Services, epochs: int, metered: Registers = registers, late: Late | None = None) -> None:
    """Households, funds, an order; then the stream of readings and ticks through window, tables and archive.

    `metered`: registers by household and µs. `late`: the one oddity instead of the usual ones, a reading a second
    before the end of an epoch that comes an epoch late.
    """
    oddities = late is None
    seed(services.engine, epochs, [])
    if oddities:
        _place_order(services)
    records = _registry()
    view = RegistryView(records)
    archive = Archive(
        ParquetStore(services.parquet.root.parent),
        lambda *_: [],
        registered=lambda: [encode_record(record) for record in records],
    )
    verifier = Verifier(NETWORK_ID)
    for partition in range(PARTITIONS):
        messages = verifier.messages(_stream(partition, epochs, metered, late))
        _, outputs = step(ShardState(partition, PARTITIONS), messages, view)
        _write(services, outputs)
        archive.add(partition, messages, outputs.closed, outputs.dead_letters)
    verifier.close()
    close_flows(services.engine, FIRST + epochs - 1)


def _write(services: Services, outputs: Outputs) -> None:
    letters = [
        Letter("meter-readings", outputs.partition, each.raw, int(each.reason), each.reason.word, each.detail)
        for each in outputs.dead_letters
    ]
    with services.engine.begin() as connection:
        energy_store.save_net_energy(connection, outputs.net_energy())
        energy_store.save_corrections(connection, outputs.corrections())
        save_letters(connection, letters)


def _registry() -> list[GatewayRecord | MeterRecord]:
    gateway = GatewayRecord(gateway_id="gateway-1", key=bytes(GATEWAY.verify_key), effective_epoch=FIRST - 1)
    return [
        gateway,
        *(
            MeterRecord(
                meter_id=row["meter_id"],
                wallet=row["wallet"],
                zone_id=row["zone_id"],
                meter_type=row["meter_type"],
                rating_w=row["rating_w"],
                device_key=row["device_key"],
                effective_epoch=FIRST,
                first_epoch=FIRST,
                baseline_production_wh=row["baseline_production_wh"],
                baseline_consumption_wh=row["baseline_consumption_wh"],
                baseline_seq=row["baseline_seq"],
                baseline_timestamp_us=row["baseline_timestamp_us"],
            )
            for row in meters().iter_rows(named=True)
        ),
    ]


def _stream(partition: int, epochs: int, metered: Registers, late: Late | None) -> list[Raw]:
    """One partition's records in order of arrival: a tick a minute, each meter's readings, the odd ones out."""
    arrivals: list[tuple[int, bytes, list[tuple[str, bytes]]]] = []
    start = start_us(FIRST)
    for minute in range(-1, epochs * 15 + 2):
        at = start + minute * 60 * SECOND + SECOND
        value = encode(Tick(gateway_id="gateway-1", timestamp=at))
        arrivals.append((at, value, sign_tick(value, NETWORK_ID, GATEWAY)))
    for index, (zone, *_) in enumerate(HOUSEHOLDS):
        if (zone - 1) % PARTITIONS == partition:
            arrivals += [each for epoch in range(epochs) for each in _readings(index, zone, epoch, metered, late)]
    return [
        Raw(offset, at, value, tuple(headers), str(json.loads(value).get("zone_id", partition + 1)).encode())
        for offset, (at, value, headers) in enumerate(sorted(arrivals, key=lambda each: each[0]))
    ]


def _readings(
    index: int, zone: int, epoch: int, metered: Registers, late: Late | None
) -> Iterator[tuple[int, bytes, list[tuple[str, bytes]]]]:
    oddities = late is None
    begin = start_us(FIRST + epoch)
    for number in range(READINGS_A_QUARTER):
        at = begin + (number + 1) * 290 * SECOND
        if oddities and index == 1 and epoch == 1:
            continue  # missing: nothing comes
        yield _signed(index, zone, at, 2 * (epoch * READINGS_A_QUARTER + number) + 2, metered(index, at))
    if late is not None:
        if (index, epoch) == late:
            at = begin + 899 * SECOND
            yield begin + 1_900 * SECOND, *_signed(index, zone, at, 6 * epoch + 7, metered(index, at))[1:]
        return
    if index == 3 and epoch == 0:
        # after the boundary's reading on time, one closer to it, with 60 Wh more than the line: it comes an epoch late
        at = begin + 899 * SECOND
        yield (
            begin + 1_900 * SECOND,
            *_signed(index, zone, at, 7, (registers(index, at)[0] + 60, registers(index, at)[1]))[1:],
        )
    if index == 0 and epoch == 2:
        at, value, headers = _signed(index, zone, begin + 600 * SECOND, 1_000, registers(index, begin + 600 * SECOND))
        yield at, value, [("sig", bytes(64)), *headers[1:]]


def _signed(
    index: int, zone: int, at: int, seq: int, registers_wh: tuple[int, int]
) -> tuple[int, bytes, list[tuple[str, bytes]]]:
    produced, consumed = registers_wh
    reading = Reading(
        meter_id=meter_id(index),
        zone_id=zone,
        seq=seq,
        timestamp=at,
        production_wh=produced,
        consumption_wh=consumed,
        voltage_v=230.0,
        current_a=1.0,
        power_factor=0.99,
        frequency_hz=50.0,
    )
    value = encode(reading)
    return at, value, sign_reading(value, NETWORK_ID, device_key_of(index))


def _place_order(services: Services) -> None:
    order = Order(
        network_id=NETWORK_ID,
        market=bytes(addresses.market()),
        order_id=order_id_of(start_us(FIRST), b"0123456789"),
        meter_hash=meter_hash(meter_id(5)),
        side=0,
        energy_wh=200,
        limit_uthb_per_kwh=5_000_000,
        epoch=FIRST + 1,
        nonce=0,
        placed_at_us=start_us(FIRST),
    )
    message = encode_order(order)
    row = {
        "order_id": order.order_id,
        "wallet": wallet(5),
        "zone_id": 2,
        "meter_id": meter_id(5),
        "side": 0,
        "energy_wh": 200,
        "limit_uthb_per_kwh": 5_000_000,
        "epoch": FIRST + 1,
        "nonce": 0,
        "placed_at_us": order.placed_at_us,
        "is_mandate": False,
        "market": order.market,
        "message": message,
        "signature": sign(message, key_of_household(5)),
        "broker_us": order.placed_at_us,
        "status": "pending",
    }
    with services.engine.begin() as connection:
        orders.save_orders(connection, pl.DataFrame([row]))
