"""`gridtokenx portfolio`: a wallet's balances, open orders, production and history, from the tables as they are."""

from __future__ import annotations

import json

from click.testing import CliRunner, Result
from metering_world import EPOCH, START_US, Stream, key_of, meter_record, registry_of, run
from sqlalchemy import Connection, text

from gridtokenx_pipelines.cli import cli
from gridtokenx_pipelines.market.base58 import encode
from gridtokenx_pipelines.store.energy import save_net_energy
from gridtokenx_pipelines.store.postgres import engine
from streaming.sinks import save_latest

WALLET = encode(bytes(key_of("wallet").verify_key))
STRANGER = encode(bytes(key_of("stranger").verify_key))


def ask(url: str, wallet: str, *more: str) -> Result:
    return CliRunner().invoke(cli, ["portfolio", wallet, *more], env={"DATABASE_URL": url})


def insert(connection: Connection, table: str, **values: object) -> None:
    """A row; columns not named are 0 where they must have something."""
    needed = connection.execute(
        text(
            "SELECT column_name FROM information_schema.columns WHERE table_name = :table AND table_schema = 'public' "
            "AND is_nullable = 'NO' AND column_default IS NULL AND data_type = 'bigint'"
        ),
        {"table": table},
    ).scalars()
    row = {**dict.fromkeys(needed, 0), **values}
    names = ", ".join(f'"{name}"' for name in row)
    connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in row)})"), row)  # noqa: S608


def household(url: str) -> None:
    meter = meter_record(wallet=WALLET)
    stream = Stream()
    stream.tick(890)
    stream.read(11, 895, 500, 200)
    stream.tick(930)
    _, outputs = run(stream.raws, registry_of(meter))
    database = engine(url)
    with database.begin() as connection:
        insert(connection, "users", wallet=WALLET, zone_id=1, user_type="prosumer", status="active")
        names = ("meter_id", "wallet", "zone_id", "meter_type", "rating_w", "device_key", "status", "first_epoch")
        insert(connection, "meters", **{name: getattr(meter, name) for name in names})
        save_net_energy(connection, outputs.net_energy())
        save_latest(connection, outputs.accepted)
        insert(connection, "balances", owner=WALLET, grid_wh=1_250, thbc_uthb=100_500_000)
        order = {"order_id": bytes(16), "wallet": WALLET, "meter_id": "MEA-001", "energy_wh": 300, "zone_id": 1}
        insert(connection, "orders", **order, side=1, limit_uthb_per_kwh=3_000_000, epoch=EPOCH + 1, nonce=0)
        insert(connection, "orders", **order, side=1, limit_uthb_per_kwh=1, epoch=EPOCH, nonce=1, status="filled")
        for seq in (1, 2):
            insert(connection, "runs", seq=seq, epoch=EPOCH - 2 + seq, run=0, kind=1)
            booked = {"epoch": EPOCH - 2 + seq, "wallet": WALLET, "net_wh": 300 * seq, "traded_wh": -100}
            insert(connection, "settlements", seq=seq, kind=1, zone_id=1, proceeds_uthb=300_000, **booked)
    database.dispose()


def test_everything_of_a_wallet_as_json(postgres_url: str) -> None:
    household(postgres_url)
    done = ask(postgres_url, WALLET, "--json", "--history", "1")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["balances"] == {"grid_wh": 1_250, "thbc_uthb": 100_500_000, "debt_uthb": 0}
    assert [(order["epoch"], order["side"], order["energy_wh"]) for order in found["open_orders"]] == [
        ("2026-01-27T12:15Z", "sell", 300)
    ]
    assert found["production"] == {
        "epochs": 1,
        "production_wh": 500,
        "consumption_wh": 200,
        "net_wh": 300,
        "missing": 0,
    }
    assert [(row["epoch"], row["net_wh"], row["proceeds_uthb"]) for row in found["history"]] == [
        ("2026-01-27T12:00Z", 600, 300_000)
    ]
    (meter,) = found["meters"]
    assert (meter["meter_id"], meter["seq"], meter["production_wh"]) == ("MEA-001", 11, 1_500)
    assert meter["timestamp"] == "2026-01-27T12:14:55Z" and meter["timestamp_us"] == START_US + 895_000_000


def test_everything_of_a_wallet_in_words(postgres_url: str) -> None:
    household(postgres_url)
    lines = ask(postgres_url, WALLET).stdout.splitlines()
    assert lines[0] == f"{WALLET}  prosumer, zone 1, active"
    assert lines[1] == "balances    1.250 GRID (kWh), 100.500000 THBC, 0.000000 THB owed"
    assert lines[3] == "meter       MEA-001 Hybrid, 4000 W: 1.500 and 2.200 kWh at 2026-01-27T12:14:55Z"
    assert lines[4] == "open orders 1" and lines[6] == "history     the newest 2 bookings"


def test_an_unknown_wallet_is_1_and_a_word_that_is_none_is_2(postgres_url: str) -> None:
    assert (ask(postgres_url, STRANGER).exit_code, ask(postgres_url, "wallet0").exit_code) == (1, 2)
    assert "'l' is no base58 letter" in ask(postgres_url, "wallet0").output
