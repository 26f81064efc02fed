"""Certificates of the chain that back sells of a running market: locked at the gate, passed on, never twice."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.signer import write_keypair_file
from gridtokenx_pipelines.cli import cli
from gridtokenx_pipelines.epochs import start_us
from gridtokenx_pipelines.market.certificates import Unbacked
from gridtokenx_pipelines.market.orders import Order, Side, encode_order, meter_hash, order_id_of, sign
from gridtokenx_pipelines.settlement_service import clearing, instructions, periods, receipts
from gridtokenx_pipelines.settlement_service.inspections.verdict import failed
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import certificates, orders
from tests.assets.market_day import FIRST, HOUSEHOLDS, key_of_household, meter_id, seed, wallet

KWH = 1_000
NAME = "a-first-kwh"
CERTIFICATE = NAME.encode().ljust(32, b"\0")


def act(services: Services, key: Path, *words: str) -> None:
    options = ["--key", str(key), "--rpc-url", services.client.rpc_url, "--send"]
    result = CliRunner().invoke(cli, ["chain", "admin", *words, *options])
    assert result.exit_code == 0, result.output


def certify(services: Services) -> None:
    """What household 0 and the authority do once it produced a kWh: issue and validate a certificate for it."""
    keys = services.parquet.root.parent / "keys"
    write_keypair_file(keys / "household-0.json", bytes(key_of_household(0)))
    for owner in (services.authority.pubkey, addresses.Pubkey.from_string(wallet(0))):
        services.client.airdrop(owner, 10**9)
    act(services, keys / "household-0.json", "issue-certificate", NAME, meter_id(0), "1")
    act(services, keys / "authority.json", "validate-certificate", NAME)


def place(services: Services, epoch: int, nonce: int, household: int, energy_wh: int) -> bytes:
    """A signed sell that names the certificate; its id."""
    placed = start_us(epoch) + nonce
    order = Order(
        network_id=3,
        market=bytes(addresses.market()),
        order_id=order_id_of(placed, bytes([household, nonce]) + b"12345678"),
        meter_hash=meter_hash(meter_id(household)),
        side=int(Side.SELL),
        energy_wh=energy_wh,
        limit_uthb_per_kwh=2_500_000,
        epoch=epoch,
        nonce=nonce,
        placed_at_us=placed,
        certificate_id=CERTIFICATE,
    )
    message = encode_order(order)
    row = {
        "order_id": order.order_id,
        "wallet": wallet(household),
        "zone_id": HOUSEHOLDS[household][0],
        "meter_id": meter_id(household),
        "side": order.side,
        "energy_wh": energy_wh,
        "limit_uthb_per_kwh": order.limit_uthb_per_kwh,
        "epoch": epoch,
        "nonce": nonce,
        "placed_at_us": placed,
        "certificate_id": CERTIFICATE,
        "is_mandate": False,
        "market": order.market,
        "message": message,
        "signature": sign(message, key_of_household(household)),
        "broker_us": placed,
        "status": "pending",
    }
    with services.engine.begin() as connection:
        orders.save_orders(connection, pl.DataFrame([row]))
    return order.order_id


def settle(services: Services, epochs: list[int]) -> None:
    outcome = clearing.clear_epochs(services, epochs)
    instructions.plan_epochs(services, epochs)
    receipts.settle_epochs(services, epochs)
    verdicts = [*outcome.book_verdicts, *outcome.result_verdicts, *receipts.inspect_epochs(services, epochs)]
    assert [f"{one.check}: {one.detail}" for one in failed(verdicts)] == []


def test_a_certificate_backs_no_kwh_twice_within_an_epoch_or_over_several(live: Services) -> None:
    seed(live.engine, 5)
    settle(live, [FIRST, FIRST + 1])
    certify(live)
    first = place(live, FIRST + 2, 0, 0, 400)
    foreign = place(live, FIRST + 2, 0, 1, 100)
    second = [place(live, FIRST + 3, nonce, 0, 300) for nonce in (0, 1)]
    third = place(live, FIRST + 4, 0, 0, 400)
    settle(live, [FIRST + 2, FIRST + 3, FIRST + 4])

    with live.engine.connect() as connection:
        locks = {epoch: certificates.locks_of(connection, epoch) for epoch in range(FIRST, FIRST + 5)}
        passed = certificates.passed_between(connection, wallet(0), FIRST, FIRST + 4)
        gone = certificates.passed_wh(connection, [CERTIFICATE])
        sold = dict(connection.execute(text("SELECT order_id, filled_wh FROM fills WHERE side = 1")).fetchall())  # type: ignore[arg-type]
    assert [locks[epoch].height for epoch in (FIRST, FIRST + 1)] == [0, 0]
    shown = {row["order_id"]: (row["locked_wh"], row["reason_code"]) for f in locks.values() for row in f.to_dicts()}
    assert shown[first] == (400, 0)
    assert shown[foreign] == (0, Unbacked.FOREIGN)
    by_order = dict(passed.group_by("sell_order_id").agg(pl.sum("energy_wh")).iter_rows())
    left = KWH
    for order in (first, *second, third):
        locked, reason = shown[order]
        before = left if order != second[1] else left + by_order.get(second[0], 0) - shown[second[0]][0]
        assert (locked, reason) == ((min(400 if order in (first, third) else 300, before), 0) if before else (0, 6))
        reached = passed.filter(pl.col("sell_order_id") == order)["energy_wh"].sum()
        assert reached <= min(locked, sold.get(bytes(order), 0))
        left -= reached
    assert gone == {CERTIFICATE: KWH - left}
    assert sum(by_order.values()) == KWH - left <= KWH
    assert len(by_order) >= 2
    assert left < 400  # the third sell found too little left, so the limit was really met


def test_a_revoked_or_unknown_certificate_backs_nothing_and_the_trade_stands(live: Services) -> None:
    seed(live.engine, 4)
    unknown = place(live, FIRST, 0, 0, 100)
    settle(live, [FIRST, FIRST + 1])
    certify(live)
    keys = live.parquet.root.parent / "keys"
    act(live, keys / "authority.json", "revoke-certificate", NAME, meter_id(0))
    revoked = place(live, FIRST + 2, 0, 0, 100)
    settle(live, [FIRST + 2, FIRST + 3])
    with live.engine.connect() as connection:
        shown = {
            row["order_id"]: row["reason"]
            for epoch in (FIRST, FIRST + 2)
            for row in certificates.locks_of(connection, epoch).to_dicts()
        }
        sold = connection.execute(text("SELECT count(*) FROM fills WHERE side = 1 AND filled_wh > 0")).scalar_one()
    assert shown == {unknown: "unknown", revoked: "not_valid"}
    assert sold > 0


def test_statements_show_what_passed_and_nobody_rewrites_it(live: Services) -> None:
    seed(live.engine, 3)
    settle(live, [FIRST, FIRST + 1])
    certify(live)
    place(live, FIRST + 2, 0, 0, 400)
    settle(live, [FIRST + 2])
    statement = periods.of_wallet(live, wallet(0), FIRST, FIRST + 2)
    went = sum(row["energy_wh"] for row in statement["certificates_passed"])
    assert 0 < went <= 400
    (held,) = statement["certificates"]
    assert (held["energy_wh"], held["passed_on_wh"], held["status"]) == (KWH, went, "validated")
    buyer = statement["certificates_passed"][0]["buyer"]
    bought = periods.of_wallet(live, buyer, FIRST, FIRST + 2)
    assert bought["certificates_passed"][0]["seller"] == wallet(0)
    assert bought["certificates"] == []
    for table in ("certificate_locks", "certificate_passes"):
        with pytest.raises(DBAPIError, match="append-only"), live.engine.begin() as connection:
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - our own names
