"""A market of 80 meters for the audit's benchmark: signed readings, archive, ledger and chain, by the product's doors.

Belongs here: making it. Does not belong here: measuring (audit.py). Everything follows from the seed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import msgspec
import polars as pl
from nacl.signing import SigningKey
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain.addresses import address_of_meter, address_of_trader, deployer_seed
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.localnet_process import LocalnetProcess
from gridtokenx_pipelines.chain.participants import (
    METER_TYPES,
    PROSUMER,
    ChainKeys,
    ChainMandate,
    ChainMeter,
    ChainUser,
    MarketFunding,
)
from gridtokenx_pipelines.chain.setup import Setup
from gridtokenx_pipelines.chain.signer import KeypairSigner, write_keypair_file
from gridtokenx_pipelines.chain.state import read_mandates
from gridtokenx_pipelines.config import Settings
from gridtokenx_pipelines.embedded_postgres import start_postgres
from gridtokenx_pipelines.epochs import epoch_of_key, start_us
from gridtokenx_pipelines.market.rules import Link, Network, Rules, Zone
from gridtokenx_pipelines.metering.readings import Raw, Reading, Tick, encode, sign_reading, sign_tick
from gridtokenx_pipelines.metering.registry import GatewayRecord, MeterRecord, RegistryView, encode_record
from gridtokenx_pipelines.metering.verify import Verifier
from gridtokenx_pipelines.metering.window import ShardState, step
from gridtokenx_pipelines.settlement_service import clearing, energy, instructions, receipts, statements
from gridtokenx_pipelines.settlement_service.services import Services, open_services
from gridtokenx_pipelines.store import deposits, participants
from gridtokenx_pipelines.store import energy as energy_store
from gridtokenx_pipelines.store.archive import frame_of, write_epoch, write_registry
from gridtokenx_pipelines.store.parquet import ParquetStore
from gridtokenx_pipelines.store.postgres import migrate
from gridtokenx_pipelines.store.progress import save_progress

FIRST = epoch_of_key("2026-03-02T05:00Z")
METERS, PARTITIONS, NETWORK_ID, SECOND = 80, 4, 3, 1_000_000
DEPOSIT, FUNDS = 20_000_000_000, 2_000_000_000_000
NETWORK = Network(
    zones=tuple(Zone(zone_id=zone, zone_wheeling_uthb_per_kwh=100_000) for zone in (1, 2)),
    links=(Link(link_id=1, from_zone=1, to_zone=2, capacity_forward_wh=4_000, capacity_backward_wh=4_000,
                link_wheeling_uthb_per_kwh=20_000, loss_ppm=20_000),),
)  # fmt: skip


def _key(name: str) -> SigningKey:
    return SigningKey(sha256(f"benchmark {name}".encode()).digest())


GATEWAY = _key("gateway")
DEVICES = [_key(f"device {index}") for index in range(METERS)]
WALLETS = [str(Pubkey(bytes(_key(f"wallet {index}").verify_key))) for index in range(METERS)]
IDS = [f"MEA-{index:04d}" for index in range(METERS)]


def _zone(index: int) -> int:
    return 1 + index % 2


def _mandate(index: int) -> ChainMandate:
    return ChainMandate(
        sell_min_uthb_per_kwh=2_200_000 + 10_000 * (index * 7 % 60),
        buy_max_uthb_per_kwh=3_000_000 + 10_000 * (index * 13 % 100),
        max_wh=100_000,
        buy_back=index % 3 == 0,
    )


def _wh(index: int, epoch: int) -> tuple[int, int]:
    """Wh produced and consumed in an epoch: half the homes have sun by day, all consume."""
    hour = (FIRST + epoch) % 96 / 4 + 7
    sun = max(0, 12 - abs(hour % 24 - 12) * 2) if index % 2 else 0
    return int(sun * (60 + index % 40)), 120 + (index * 37 + epoch * 11) % 180


@contextmanager
def market(folder: Path, epochs: int) -> Iterator[Services]:
    """Services over a market whose epochs are all settled on a local chain."""
    server = start_postgres(folder)
    url = str(server.get_uri()).replace("postgresql://", "postgresql+psycopg2://", 1)
    migrate(url)
    try:
        with LocalnetProcess(folder / "localnet", slot_ms=200) as localnet:
            with ChainClient(localnet.url) as client:
                _bring_up(client)
            with open_services(_settings(folder, url, localnet.url)) as services:
                _save(services)
                _play(services, epochs)
                _settle(services, epochs)
                yield services
    finally:
        server.stop()


def _signer(name: str) -> KeypairSigner:
    return KeypairSigner.from_seed(bytes(_key(name)))


def _bring_up(client: ChainClient) -> None:
    oracles = tuple(_signer(f"oracle-{index}") for index in range(3))
    keys = ChainKeys(
        payer=_signer("relayer"),
        authority=KeypairSigner.from_seed(deployer_seed()),
        guardian=_signer("guardian").pubkey,
        oracles=oracles,
        oracle_threshold=2,
        bridge=(_signer("bridge"),),
        bridge_threshold=1,
    )
    owners = [_signer(f"wallet {index}") for index in range(METERS)]
    users = [
        ChainUser(
            wallet=owners[index],
            zone_id=_zone(index),
            user_type=PROSUMER,
            deposit_uthb=DEPOSIT,
            deposit_reference=f"deposit {index}",
            mandate=_mandate(index),
        )
        for index in range(METERS)
    ]
    meters = [
        ChainMeter(
            meter_id=IDS[index],
            owner=owners[index],
            meter_type=METER_TYPES["Solar"],
            zone_id=_zone(index),
            rating_w=10_000,
            device_key=bytes(DEVICES[index].verify_key),
            first_epoch=FIRST,
            baseline_production_wh=0,
            baseline_consumption_wh=0,
        )
        for index in range(METERS)
    ]
    funding = MarketFunding(funder=_signer("funder"), supplier_uthb=FUNDS, grid_operator_uthb=FUNDS)
    Setup(client, keys).bring_up(Rules(), users, meters, funding)


def _settings(folder: Path, url: str, rpc_url: str) -> Settings:
    data = folder / "data"
    (data / "keys").mkdir(parents=True)
    write_keypair_file(data / "keys" / "authority.json", deployer_seed())
    for name in ("relayer", "oracle-0", "oracle-1", "oracle-2"):
        write_keypair_file(data / "keys" / f"{name}.json", bytes(_key(name)))
    (data / "rules.json").write_bytes(msgspec.json.encode(Rules()))
    (data / "zones.json").write_bytes(msgspec.json.encode(NETWORK))
    return Settings.from_env(
        {
            "DATABASE_URL": url,
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
            "SOLANA_RPC_URL": rpc_url,
            "GRIDTOKENX_DATA_DIR": str(data),
        }
    )


def _records() -> list[MeterRecord]:
    return [
        MeterRecord(
            meter_id=IDS[index],
            wallet=WALLETS[index],
            zone_id=_zone(index),
            meter_type="Solar",
            rating_w=10_000,
            device_key=bytes(DEVICES[index].verify_key),
            effective_epoch=FIRST,
            first_epoch=FIRST,
            baseline_timestamp_us=start_us(FIRST),
        )
        for index in range(METERS)
    ]


def _save(services: Services) -> None:
    """What admission writes to the database."""
    count = range(METERS)
    users = {
        "wallet": WALLETS,
        "zone_id": [_zone(index) for index in count],
        "user_type": ["prosumer"] * METERS,
        "status": ["active"] * METERS,
        "trader_address": [bytes(address_of_trader(each)) for each in WALLETS],
    }
    rows = [msgspec.structs.asdict(each) | {"address": bytes(address_of_meter(each.meter_id))} for each in _records()]
    with services.engine.begin() as connection:
        participants.save_users(connection, pl.DataFrame(users))
        participants.save_meters(connection, pl.DataFrame(rows).drop("effective_epoch"))
        participants.save_mandates(connection, read_mandates(services.client))
        for index in count:
            deposits.deposit(
                connection, reference=f"deposit {index}", wallet=WALLETS[index], amount_uthb=DEPOSIT, epoch=FIRST
            )
        for account in ("supplier", "grid_operator"):
            deposits.fund(connection, reference=account, account=account, amount_uthb=FUNDS, epoch=FIRST)


def _play(services: Services, epochs: int) -> None:
    """A signed reading a meter and epoch through the flow's own window, to tables and archive."""
    gateway = GatewayRecord(gateway_id="gateway-1", key=bytes(GATEWAY.verify_key), effective_epoch=FIRST - 1)
    records = [gateway, *_records()]
    view, store = RegistryView(records), ParquetStore(services.parquet.root.parent)
    write_registry(store.root, [encode_record(each) for each in records])
    verifier = Verifier(NETWORK_ID)
    for partition in range(PARTITIONS):
        raws = _stream(partition, epochs)
        _, outputs = step(ShardState(partition, PARTITIONS), verifier.messages(raws), view)
        with services.engine.begin() as connection:
            energy_store.save_net_energy(connection, outputs.net_energy())
        for closed in outputs.closed:
            part = raws[closed.first_offset : closed.last_offset + 1]
            write_epoch(store, closed.epoch, partition, frame_of(partition, part))
    verifier.close()
    with services.engine.begin() as connection:
        for flow in ("telemetry", "orders"):
            for partition in range(PARTITIONS):
                save_progress(connection, flow, partition, partitions=PARTITIONS, closed_epoch=FIRST + epochs - 1)


def _stream(partition: int, epochs: int) -> list[Raw]:
    mine = [index for index in range(METERS) if (_zone(index) - 1) % PARTITIONS == partition]
    totals = {index: [0, 0] for index in mine}
    raws: list[Raw] = []

    def add(at: int, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        zone_id = json.loads(value).get("zone_id", 1)
        raws.append(Raw(len(raws), at, value, tuple(headers), str(zone_id).encode()))

    for epoch in range(-1, epochs + 1):
        end = start_us(FIRST + epoch + 1)
        value = encode(Tick(gateway_id="gateway-1", timestamp=end))
        add(end, value, sign_tick(value, NETWORK_ID, GATEWAY))
        for index in mine if 0 <= epoch < epochs else ():
            produced, consumed = _wh(index, epoch)
            totals[index][0] += produced
            totals[index][1] += consumed
            reading = Reading(
                meter_id=IDS[index],
                zone_id=_zone(index),
                seq=epoch + 1,
                timestamp=end,
                production_wh=totals[index][0],
                consumption_wh=totals[index][1],
                voltage_v=230.0,
                current_a=1.0,
                power_factor=0.99,
                frequency_hz=50.0,
            )
            value = encode(reading)
            add(end, value, sign_reading(value, NETWORK_ID, DEVICES[index]))
        value = encode(Tick(gateway_id="gateway-1", timestamp=end + 31 * SECOND))
        add(end + 31 * SECOND, value, sign_tick(value, NETWORK_ID, GATEWAY))
    return raws


def _settle(services: Services, epochs: int) -> None:
    """The spine over the whole range."""
    every = list(range(FIRST, FIRST + epochs))
    energy.collect(services, every)
    outcome = clearing.clear_epochs(services, every)
    if len(outcome.results) != epochs:
        raise RuntimeError(outcome.stopped_words())
    instructions.plan_epochs(services, every)
    receipts.settle_epochs(services, every)
    statements.write(services, every)
