"""The thin repositories on a real Postgres: what goes in comes out, and twice is once."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from sqlalchemy import text

from gridtokenx_pipelines.market.frames import BOOK_REJECTED, FILLS, FLOWS, MATCHES, ORDERS, ZONES
from gridtokenx_pipelines.settlement.batches import SignedOrder
from gridtokenx_pipelines.store import audit, clearing, energy, orders, participants, progress
from gridtokenx_pipelines.store.postgres import engine

EPOCH = 1_966_096
AT = dt.datetime(2026, 1, 27, 16, tzinfo=dt.UTC)


@pytest.fixture
def store(postgres_url):
    made = engine(postgres_url)
    yield made
    made.dispose()


def mandate(wallet: str, first: int, end: int = participants.NO_END, buy_back: bool = True) -> tuple[object, ...]:
    return (wallet, first, end, 2_000_000, 4_000_000, 500, buy_back, first)


def test_the_mandate_in_force_is_the_one_that_began_last_if_it_has_not_ended(store):
    rows = [mandate("a", 10), mandate("a", 20, 25, buy_back=False), mandate("b", 30), mandate("c", 5, 12)]
    with store.begin() as connection:
        participants.save_mandates(connection, pl.DataFrame(rows, schema=participants.MANDATES, orient="row"))
        in_force = {epoch: participants.buy_back_as_of(connection, epoch).rows() for epoch in (4, 10, 20, 25, 30)}
        assert participants.mandates_as_of(connection, 20).rows() == [mandate("a", 20, 25, buy_back=False)]
    assert in_force == {4: [], 10: [("a", True), ("c", True)], 20: [("a", False)], 25: [], 30: [("b", True)]}


def test_users_and_meters_are_replaced_by_key_and_give_their_addresses(store):
    users = pl.DataFrame(
        {
            "wallet": ["a", "b"],
            "zone_id": [1, 2],
            "user_type": ["prosumer", "consumer"],
            "status": ["active", "pending"],
            "trader_address": [b"A" * 32, None],
        }
    )
    meters = pl.DataFrame(
        [
            ("m1", "a", 1, "Hybrid", 5_000, b"k" * 32, "active", 7, 1, 2, 3, 4, b"M" * 32),
            ("m2", "b", 2, "Grid", 5_000, b"k" * 32, "pending", 7, 1, 2, 3, 4, None),
        ],
        schema=participants.METERS,
        orient="row",
    )
    with store.begin() as connection:
        for _ in range(2):
            participants.save_users(connection, users)
            participants.save_meters(connection, meters)
        assert participants.users(connection).equals(users)
        assert participants.meters(connection).equals(meters)
        assert participants.meters_as_of(connection, 7)["meter_id"].to_list() == ["m1"]
        assert participants.meters_as_of(connection, 6).is_empty()
        assert participants.trader_addresses(connection) == {"a": b"A" * 32}
        assert participants.meter_addresses(connection) == {"m1": b"M" * 32}


def net_row(meter: str, epoch: int, revision: int = 0, booked_epoch: int | None = None) -> dict[str, object]:
    return dict.fromkeys(energy.NET_ENERGY, 0) | {
        "meter_id": meter,
        "wallet": "w",
        "epoch": epoch,
        "revision": revision,
        "estimated": revision > 0,
        "missing": False,
        "late": False,
        "booked_epoch": epoch if booked_epoch is None else booked_epoch,
    }


def test_net_energy_is_kept_as_first_written_and_read_by_epoch_or_booking(store):
    rows = [net_row("a", 5), net_row("a", 5, 1, 7), net_row("b", 5), net_row("b", 7)]
    with store.begin() as connection:
        written = [energy.save_net_energy(connection, pl.DataFrame(rows, schema=energy.NET_ENERGY)) for _ in range(2)]
        assert written == [4, 0]
        key = ["meter_id", "epoch", "revision"]
        assert energy.on_time(connection, 5).select(key).rows() == [("a", 5, 0), ("b", 5, 0)]
        assert energy.latest(connection, 5).select(key).rows() == [("a", 5, 1), ("b", 5, 0)]
        assert energy.late_rows(connection, 7).select(key).rows() == [("a", 5, 1)]
        assert energy.late_rows(connection, 5).is_empty()


def test_corrections_can_not_be_marked_booked_without_a_run(store):
    outcome = pl.DataFrame({"meter_id": ["a"], "boundary_epoch": [5], "revision": [1], "status": ["booked"]})
    with store.begin() as connection, pytest.raises(ValueError, match="book them first"):
        energy.conclude_corrections(connection, outcome, None, None)


def order(number: int, **changes: object) -> dict[str, object]:
    base: dict[str, object] = {
        "order_id": bytes([number]) * 16,
        "wallet": "w",
        "zone_id": 1,
        "meter_id": "m",
        "side": 0,
        "energy_wh": 100,
        "limit_uthb_per_kwh": 3_000_000,
        "epoch": EPOCH,
        "nonce": number,
        "placed_at_us": 1,
        "certificate_id": None,
        "is_mandate": False,
        "broker_us": 2,
    }
    return base | changes


def fill(number: int, filled_wh: int) -> dict[str, object]:
    return {
        "order_id": bytes([number]) * 16,
        "wallet": "w",
        "zone_id": 1,
        "side": 0,
        "filled_wh": filled_wh,
        "price_uthb_per_kwh": 3_000_000,
        "is_mandate": False,
    }


def test_orders_are_kept_once_cancelled_in_time_and_concluded_by_their_fills(store):
    rows = pl.DataFrame([order(number) for number in range(1, 6)], schema=ORDERS).with_columns(
        pl.lit(b"message").alias("message"),
        pl.lit(b"signature").alias("signature"),
        pl.lit("pending").alias("status"),
    )
    refused = rows.select(*ORDERS).tail(1).with_columns(reason_code=pl.lit(40), reason=pl.lit("meter_missing"))
    fills = pl.DataFrame([fill(1, 100), fill(2, 40)], schema=FILLS)
    with store.begin() as connection:
        assert [orders.save_orders(connection, rows) for _ in range(2)] == [5, 0]
        assert [orders.cancel(connection, ("w", EPOCH, number), 3) for number in (4, 4, 9)] == [True, False, False]
        book = orders.orders_of(connection, EPOCH)
        assert book.equals(rows[[0, 1, 2, 4]].select(*ORDERS))
        clearing.write_clearing(
            connection,
            clearing.EpochRow(epoch=EPOCH, status="cleared"),
            clearing.ClearingFrames(
                fills=fills,
                order_matches=pl.DataFrame(schema=MATCHES),
                zone_results=pl.DataFrame(schema=ZONES),
                flows=pl.DataFrame(schema=FLOWS),
            ),
        )
        orders.conclude(connection, EPOCH, fills, refused)
        statuses = connection.execute(text("SELECT status, reason FROM orders ORDER BY order_id")).fetchall()
        assert [tuple(row) for row in statuses] == [
            *[(status, None) for status in ("filled", "partly_filled", "expired", "cancelled")],
            ("rejected", "meter_missing"),
        ]
        assert orders.orders_of(connection, EPOCH).equals(book.head(3))
        signed = SignedOrder(wallet="w", message=b"message", signature=b"signature")
        assert orders.signed_orders(connection, EPOCH) == (signed, signed)


def test_a_copied_order_id_and_one_used_again_shadow_nobody(store):
    """A stranger's copy in another partition; a wallet's own id again later, and after a cancel with a new nonce."""
    same = bytes([1]) * 16
    placed = [
        order(1, wallet="stranger", energy_wh=7),
        order(1),
        order(1, epoch=EPOCH + 1),
        order(2, order_id=same, broker_us=3),
    ]
    rows = pl.DataFrame(placed, schema=ORDERS).with_columns(
        pl.col("wallet").cast(pl.Binary).alias("message"), pl.lit(b"signature").alias("signature")
    )
    with store.begin() as connection:
        assert orders.save_orders(connection, rows) == 4
        # a replay of the cancel must not hit the order that took the cancelled one's id
        assert [orders.cancel(connection, ("w", EPOCH, 1), 3) for _ in range(2)] == [True, False]
        live = orders.orders_of(connection, EPOCH).select("wallet", "nonce", "energy_wh").rows()
        assert live == [("stranger", 1, 7), ("w", 2, 100)]
        fills = pl.DataFrame([fill(1, 60)], schema=FILLS)
        frames = {"order_matches": MATCHES, "zone_results": ZONES, "flows": FLOWS}
        clearing.write_clearing(
            connection,
            clearing.EpochRow(epoch=EPOCH, status="cleared"),
            clearing.ClearingFrames(
                fills=fills, **{name: pl.DataFrame(schema=schema) for name, schema in frames.items()}
            ),
        )
        orders.conclude(connection, EPOCH, fills, pl.DataFrame(schema=BOOK_REJECTED))
        found = connection.execute(text("SELECT wallet, epoch - :epoch, nonce, status FROM orders"), {"epoch": EPOCH})
        assert sorted(map(tuple, found)) == [
            ("stranger", 0, 1, "expired"),
            ("w", 0, 1, "cancelled"),
            ("w", 0, 2, "partly_filled"),
            ("w", 1, 1, "pending"),
        ]
        assert [each.wallet for each in orders.signed_orders(connection, EPOCH)] == ["w"]


def test_a_clearing_reads_back_whole_and_counts_as_price_history_unless_halted(store):
    zones = pl.DataFrame([(1, 3_000_000, 0, 10, 10), (2, None, 5, 0, 0)], schema=ZONES, orient="row")
    frames = clearing.ClearingFrames(
        fills=pl.DataFrame([fill(1, 10)], schema=FILLS),
        order_matches=pl.DataFrame([(1, b"b" * 16, b"s" * 16, "w", "v", 10, 3_000_000)], schema=MATCHES, orient="row"),
        zone_results=zones,
        flows=pl.DataFrame([(1, 1, 2, 10, 9, 1, 3)], schema=FLOWS, orient="row"),
    )
    with store.begin() as connection:
        for epoch, halted in ((EPOCH, False), (EPOCH + 1, True)):
            row = clearing.EpochRow(epoch=epoch, status="halted" if halted else "cleared", cleared_at=AT)
            clearing.write_clearing(connection, row, frames)
            found = clearing.read_clearing(connection, epoch)
            assert all(getattr(found, name).equals(getattr(frames, name)) for name in clearing.TABLES)
        assert clearing.priced_history(connection, 1, EPOCH + 2, 4) == [3_000_000]
        assert clearing.priced_history(connection, 2, EPOCH + 2, 4) == []
        for later in (AT, AT + dt.timedelta(hours=1)):
            clearing.settle_epoch(connection, EPOCH + 1, later)
        settled = clearing.read_epoch(connection, EPOCH + 1)
        assert (settled.status, settled.halted, settled.settled_at) == ("settled", True, AT)
        assert clearing.read_epoch(connection, EPOCH + 9) is None


def test_an_epoch_is_complete_when_all_partitions_of_both_flows_have_closed_it(store):
    def save(flow: str, partition: int, closed: int | None) -> None:
        with store.begin() as connection:
            progress.save_progress(connection, flow, partition, partitions=2, closed_epoch=closed)

    assert progress.complete_through(store) is None
    save("telemetry", 0, 7)
    save("telemetry", 1, 9)
    save("orders", 0, 8)
    assert progress.complete_through(store) is None
    save("orders", 1, None)
    assert progress.complete_through(store) is None
    save("orders", 1, 6)
    assert progress.complete_through(store) == 6
    save("orders", 1, 12)
    assert progress.complete_through(store) == 7
    save("telemetry", 0, 3)  # a replay after a crash
    assert progress.complete_through(store) == 7


def test_the_audit_log_is_a_chain_that_cannot_be_changed(store):
    with store.begin() as connection:
        ids = [
            audit.append(connection, at=AT, who="operator", what=what, detail={"epoch": EPOCH, "ΔWh": ["a", 1, None]})
            for what in ("halt", "resume", "pause")
        ]
        assert ids == [1, 2, 3]
        assert audit.first_broken(connection) is None
        with pytest.raises(ValueError, match="without zone; give UTC"):
            audit.append(connection, at=dt.datetime(2026, 1, 1), who="w", what="x", detail={})  # noqa: DTZ001
        with pytest.raises(ValueError, match="give strings and integers"):
            audit.append(connection, at=AT, who="w", what="x", detail={"bytes": b""})
    with pytest.raises(Exception, match="append-only"), store.begin() as connection:
        connection.execute(text("UPDATE audit_logs SET who = 'nobody'"))
    with store.begin() as connection:  # whoever owns the server can: the chain tells
        connection.execute(text("ALTER TABLE audit_logs DISABLE TRIGGER ALL"))
        connection.execute(text("UPDATE audit_logs SET who = 'nobody' WHERE id = 2"))
        assert audit.first_broken(connection) == 2
