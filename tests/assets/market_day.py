"""A small market in the database: six households in two zones, some epochs of net energy, deposits, mandates.

Belongs here: seeding what flows and admission write, with real keys and addresses. Does not belong here: assertions.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import polars as pl
from nacl.signing import SigningKey
from solders.pubkey import Pubkey
from sqlalchemy import Engine

from gridtokenx_pipelines.chain.addresses import address_of_meter, address_of_trader
from gridtokenx_pipelines.epochs import epoch_of_key, start_us
from gridtokenx_pipelines.market.rules import Link, Network, Zone
from gridtokenx_pipelines.store import deposits, energy, participants
from gridtokenx_pipelines.store.progress import save_progress

FIRST = epoch_of_key("2026-03-02T05:00Z")  # a Monday noon in Bangkok: the sun is up and the tariff on-peak
NETWORK = Network(
    zones=(
        Zone(zone_id=1, name="north", zone_wheeling_uthb_per_kwh=100_000),
        Zone(zone_id=2, name="south", zone_wheeling_uthb_per_kwh=50_000),
    ),
    links=(
        Link(
            link_id=1,
            from_zone=1,
            to_zone=2,
            capacity_forward_wh=5_000,
            capacity_backward_wh=5_000,
            link_wheeling_uthb_per_kwh=20_000,
            loss_ppm=20_000,
        ),
    ),
)
# zone, Wh produced and consumed in a quarter of an hour, lowest sale, highest purchase (THB/kWh / 1e6), buy-back
HOUSEHOLDS = (
    (1, 900, 200, 2_600_000, 3_900_000, True),
    (1, 700, 150, 2_800_000, 3_800_000, False),
    (1, 0, 400, 0, 3_700_000, False),
    (2, 500, 450, 2_500_000, 4_000_000, True),
    (2, 0, 600, 0, 3_950_000, False),
    (2, 0, 350, 0, 3_600_000, False),
)


def key_of_household(index: int) -> SigningKey:
    return SigningKey(sha256(f"test household {index}".encode()).digest())


def device_key_of(index: int) -> SigningKey:
    return SigningKey(sha256(f"test device {index}".encode()).digest())


def wallet(index: int) -> str:
    return str(Pubkey(bytes(key_of_household(index).verify_key)))


def meter_id(index: int) -> str:
    return f"MEA-{index:03d}"


def net_rows(epochs: int, missing: tuple[tuple[int, int], ...] = ()) -> list[dict[str, Any]]:
    """Rows of all households over the epochs; (household, offset) in `missing` has no registers."""
    rows = []
    for index, (zone, produced, consumed, *_) in enumerate(HOUSEHOLDS):
        at = [1_000, 2_000]
        for offset in range(epochs):
            # a little variety, the same every time
            moved = (produced * (100 - 3 * offset) // 100, consumed * (100 + 2 * offset) // 100)
            end = [at[0] + moved[0], at[1] + moved[1]]
            gone = (index, offset) in missing
            rows.append(
                {
                    "meter_id": meter_id(index),
                    "wallet": wallet(index),
                    "zone_id": zone,
                    "epoch": FIRST + offset,
                    "revision": 0,
                    "production_start_wh": None if gone else at[0],
                    "consumption_start_wh": None if gone else at[1],
                    "production_end_wh": None if gone else end[0],
                    "consumption_end_wh": None if gone else end[1],
                    "production_wh": 0 if gone else moved[0],
                    "consumption_wh": 0 if gone else moved[1],
                    "net_wh": 0 if gone else moved[0] - moved[1],
                    "readings": 0 if gone else 15,
                    "estimated": False,
                    "missing": gone,
                    "first_seq": None if gone else offset * 15,
                    "last_seq": None if gone else offset * 15 + 14,
                    "late": False,
                    "booked_epoch": FIRST + offset,
                }
            )
            at = end
    return rows


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=energy.NET_ENERGY, orient="row")


def users() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "wallet": [wallet(index) for index in range(len(HOUSEHOLDS))],
            "zone_id": [zone for zone, *_ in HOUSEHOLDS],
            "user_type": ["prosumer" if produced else "consumer" for _, produced, *_ in HOUSEHOLDS],
            "status": ["active"] * len(HOUSEHOLDS),
            "trader_address": [bytes(address_of_trader(wallet(index))) for index in range(len(HOUSEHOLDS))],
        }
    )


def meters() -> pl.DataFrame:
    count = range(len(HOUSEHOLDS))
    return pl.DataFrame(
        {
            "meter_id": [meter_id(index) for index in count],
            "wallet": [wallet(index) for index in count],
            "zone_id": [zone for zone, *_ in HOUSEHOLDS],
            "meter_type": ["Solar" if produced else "Grid" for _, produced, *_ in HOUSEHOLDS],
            "rating_w": [10_000] * len(HOUSEHOLDS),
            "device_key": [bytes(device_key_of(index).verify_key) for index in count],
            "status": ["active"] * len(HOUSEHOLDS),
            "first_epoch": [FIRST] * len(HOUSEHOLDS),
            "baseline_production_wh": [1_000] * len(HOUSEHOLDS),
            "baseline_consumption_wh": [2_000] * len(HOUSEHOLDS),
            "baseline_seq": [0] * len(HOUSEHOLDS),
            "baseline_timestamp_us": [start_us(FIRST)] * len(HOUSEHOLDS),
            "address": [bytes(address_of_meter(meter_id(index))) for index in count],
        }
    )


def mandates() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "wallet": [wallet(index) for index in range(len(HOUSEHOLDS))],
            "effective_epoch": [FIRST] * len(HOUSEHOLDS),
            "sell_min_uthb_per_kwh": [row[3] for row in HOUSEHOLDS],
            "buy_max_uthb_per_kwh": [row[4] for row in HOUSEHOLDS],
            "max_wh": [100_000] * len(HOUSEHOLDS),
            "buy_back": [row[5] for row in HOUSEHOLDS],
            "set_at_us": [start_us(FIRST) - 1_000_000 * index for index in range(len(HOUSEHOLDS))],
        }
    )


def close_flows(engine: Engine, through: int) -> None:
    """What ticks do: both flows close every epoch through this one, in two partitions each."""
    with engine.begin() as connection:
        for flow in ("telemetry", "orders"):
            for partition in (0, 1):
                save_progress(connection, flow, partition, partitions=2, closed_epoch=through)


def seed(engine: Engine, epochs: int, rows: list[dict[str, Any]] | None = None) -> None:
    """Households, funds and the net energy of the first epochs, all complete."""
    with engine.begin() as connection:
        participants.save_users(connection, users())
        participants.save_meters(connection, meters())
        participants.save_mandates(connection, mandates())
        for index in range(len(HOUSEHOLDS)):
            deposits.deposit(
                connection, reference=f"deposit {index}", wallet=wallet(index), amount_uthb=40_000_000, epoch=FIRST
            )
        for account in ("supplier", "grid_operator"):
            deposits.fund(connection, reference=account, account=account, amount_uthb=500_000_000, epoch=FIRST)
        energy.save_net_energy(connection, frame(net_rows(epochs) if rows is None else rows))
    close_flows(engine, FIRST + epochs - 1)
