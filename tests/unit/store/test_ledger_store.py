"""Booking on a real Postgres: once each, without gaps, balances and double-entry rows telling the same."""

from __future__ import annotations

import datetime as dt

import msgspec
import polars as pl
import pytest
from sqlalchemy import text

from gridtokenx_pipelines.epochs import epoch_of_key
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.settlement.batches import plan_run
from gridtokenx_pipelines.settlement.frames import LATE, MarketAccounts, no_traded
from gridtokenx_pipelines.settlement.ledger import book_initial, book_late
from gridtokenx_pipelines.store import clearing, deposits, energy, ledger, participants, proof, resettlement
from gridtokenx_pipelines.store.postgres import copy_in, engine

EPOCH = epoch_of_key("2026-01-27T16:00Z")
RULES = Rules()
NO_ZONES = pl.DataFrame(
    schema={"zone_id": pl.Int64, "price_uthb_per_kwh": pl.Int64, "zone_wheeling_uthb_per_kwh": pl.Int64}
)


@pytest.fixture
def store(postgres_url):
    made = engine(postgres_url)
    yield made
    made.dispose()


def net_row(meter: str, epoch: int, production: int, consumption: int, **extra: object) -> dict[str, object]:
    row = dict.fromkeys(energy.NET_ENERGY, 0) | {
        "meter_id": meter,
        "wallet": f"wallet-{meter}",
        "zone_id": 1,
        "epoch": epoch,
        "production_wh": production,
        "consumption_wh": consumption,
        "net_wh": production - consumption,
        "estimated": False,
        "missing": False,
        "late": False,
        "booked_epoch": epoch,
    }
    return row | extra


def net_frame(*rows: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=energy.NET_ENERGY)


def book_epoch(connection, epoch: int):
    state = ledger.state_before(connection)
    booking = book_initial(
        seq=state.seq,
        epoch=epoch,
        net_energy=energy.on_time(connection, epoch),
        traded=no_traded(),
        buy_back=participants.buy_back_as_of(connection, epoch),
        balances=state.balances,
        accounts=state.accounts,
        rules=RULES,
        zones=NO_ZONES,
    )
    return booking, ledger.book(connection, booking, "test")


def require_books_agree(connection) -> None:
    found = ledger.ledger_balances(connection)
    accounts = ledger.market_accounts(connection)
    expected = {}
    for owner, grid, cash, debt in ledger.balances(connection).iter_rows():
        expected |= {(owner, "GRID"): grid, (owner, "THBC"): cash, (f"debt:{owner}", "THBC"): debt}
    expected |= {
        ("supplier", "GRID"): accounts.supplier_grid_wh,
        ("supplier", "THBC"): accounts.supplier_thbc_uthb,
        ("platform", "THBC"): accounts.platform_thbc_uthb,
        ("grid_operator", "THBC"): accounts.grid_operator_thbc_uthb,
    }
    inside = {key: value for key, value in found.items() if not key[0].startswith("external:")}
    assert inside == {key: value for key, value in expected.items() if value}
    assert {law.law: law.difference for law in proof.ledger_laws(connection) if law.difference} == {}
    for unit in ("GRID", "THBC"):
        assert sum(amount for (_, each), amount in found.items() if each == unit) == 0


def test_a_booking_is_written_once_and_found_again(store):
    with store.begin() as connection:
        energy.save_net_energy(connection, net_frame(net_row("a", EPOCH, 300, 0), net_row("b", EPOCH, 0, 100)))
        deposits.deposit(connection, reference="d1", wallet="wallet-b", amount_uthb=200_000, epoch=EPOCH)
        booking, run = book_epoch(connection, EPOCH)
        assert (run.seq, run.new, run.status) == (1, True, "booked")
        again = ledger.book(connection, msgspec.structs.replace(booking, seq=2))
        assert (again.seq, again.new) == (1, False)
        assert ledger.wallet_entries(connection, EPOCH, EPOCH).equals(booking.wallet_entries)
        assert ledger.meter_entries(connection, EPOCH, EPOCH).equals(booking.meter_entries)
        # 100 Wh × 2.58 = 258 000 µTHB, 200 000 of it paid
        assert ledger.balances(connection).rows() == [("wallet-a", 300, 0, 0), ("wallet-b", 0, 0, 58_000)]
        assert ledger.market_accounts(connection) == MarketAccounts(supplier_thbc_uthb=200_000)
        require_books_agree(connection)


def test_seqs_have_no_gaps_when_a_transaction_is_rolled_back(store):
    with store.begin() as connection:
        rows = [net_row("a", EPOCH + step, 0, 1) for step in range(3)]
        energy.save_net_energy(connection, net_frame(*rows))
    with store.begin() as connection:
        assert book_epoch(connection, EPOCH)[1].seq == 1
    with pytest.raises(RuntimeError, match="killed"), store.begin() as connection:
        assert book_epoch(connection, EPOCH + 1)[1].seq == 2
        raise RuntimeError("killed")
    with store.begin() as connection:
        assert book_epoch(connection, EPOCH + 1)[1].seq == 2
        assert [run.seq for run in ledger.open_runs(connection)] == [1, 2]


def test_a_booking_from_an_old_state_is_refused(store):
    with store.begin() as connection:
        energy.save_net_energy(connection, net_frame(net_row("a", EPOCH, 0, 1), net_row("a", EPOCH + 1, 0, 1)))
        state = ledger.state_before(connection)
        book_epoch(connection, EPOCH)
        arguments = {
            "net_energy": energy.on_time(connection, EPOCH + 1),
            "traded": no_traded(),
            "buy_back": participants.buy_back_as_of(connection, EPOCH + 1),
            "balances": state.balances,
            "accounts": state.accounts,
            "rules": RULES,
            "zones": NO_ZONES,
        }
        with pytest.raises(ledger.StaleBookingError, match="seq 1, next is 2"):
            ledger.book(connection, book_initial(seq=1, epoch=EPOCH + 1, **arguments))
        with pytest.raises(ledger.StaleBookingError, match="don't stand where the booking starts"):
            ledger.book(connection, book_initial(seq=2, epoch=EPOCH + 1, **arguments))


def test_a_deposit_is_booked_once_and_pays_debt_first(store):
    with store.begin() as connection:
        energy.save_net_energy(connection, net_frame(net_row("b", EPOCH, 0, 100)))
        book_epoch(connection, EPOCH)
        given = {"reference": "d1", "wallet": "wallet-b", "amount_uthb": 300_000, "epoch": EPOCH}
        assert deposits.deposit(connection, **given)
        assert not deposits.deposit(connection, **given)
        assert ledger.balances(connection).rows() == [("wallet-b", 0, 42_000, 0)]
        assert deposits.deposits(connection)["debt_repaid_uthb"].to_list() == [258_000]
        assert deposits.fund(connection, reference="f1", account="supplier", amount_uthb=5, epoch=EPOCH)
        assert not deposits.fund(connection, reference="f1", account="supplier", amount_uthb=5, epoch=EPOCH)
        assert ledger.market_accounts(connection).supplier_thbc_uthb == 258_005
        require_books_agree(connection)
        with pytest.raises(ValueError, match="must be above 0"):
            deposits.deposit(connection, reference="d2", wallet="w", amount_uthb=0, epoch=EPOCH)
        with pytest.raises(ValueError, match="must be one of supplier, platform, grid_operator"):
            deposits.fund(connection, reference="f2", account="bank", amount_uthb=1, epoch=EPOCH)


def test_a_plan_is_stored_once_and_reads_back_equal(store):
    with store.begin() as connection:
        energy.save_net_energy(connection, net_frame(net_row("a", EPOCH, 300, 0)))
        booking, run = book_epoch(connection, EPOCH)
        addresses = {"network_id": 3, "meter_address": {"a": b"m" * 32}, "trader_address": {"wallet-a": b"t" * 32}}
        plan = plan_run(booking, program_ids={"registry": b"r" * 32, "trading": b"p" * 32}, **addresses)
        assert ledger.plan_of(connection, EPOCH, 0) is None
        ledger.save_plan(connection, plan)
        ledger.save_plan(connection, plan)
        assert ledger.plan_of(connection, EPOCH, 0) == plan
        other = plan_run(booking, program_ids={"registry": b"x" * 32, "trading": b"p" * 32}, **addresses)
        with pytest.raises(ValueError, match="what was planned once is what settles"):
            ledger.save_plan(connection, other)
        for status in ("attested", "booked", "finalised", "attested"):
            ledger.set_status(connection, run.seq, status)
        assert [each.status for each in ledger.runs_of(connection, EPOCH)] == ["finalised"]
        assert ledger.open_runs(connection) == []


def test_a_late_run_is_booked_once_an_epoch(store):
    with store.begin() as connection:
        late = net_row("a", EPOCH, 0, 70, revision=1, booked_epoch=EPOCH + 1, estimated=True)
        on_time = [net_row("a", EPOCH, 0, 0, missing=True), net_row("a", EPOCH + 1, 0, 0, missing=True)]
        more = net_row("a", EPOCH + 1, 30, 0, revision=1, booked_epoch=EPOCH + 1)
        energy.save_net_energy(connection, net_frame(late, *on_time, more))
        book_epoch(connection, EPOCH)
        book_epoch(connection, EPOCH + 1)
        state = ledger.state_before(connection)
        booking = book_late(
            seq=state.seq,
            epoch=EPOCH + 1,
            run=ledger.next_run(connection, EPOCH + 1),
            net_energy=energy.late_rows(connection, EPOCH + 1),
            balances=state.balances,
            accounts=state.accounts,
            rules=RULES,
        )
        run = ledger.book(connection, booking)
        assert (run.seq, run.run, run.kind, run.new) == (3, 1, LATE, True)
        again = ledger.book(connection, msgspec.structs.replace(booking, seq=4, run=2))
        assert (again.seq, again.new) == (3, False)
        assert ledger.balances(connection).rows() == [("wallet-a", 0, 0, 103_200)]  # 40 Wh × 2.58
        assert resettlement.residuals_left(connection, ["wallet-a"], [EPOCH]).rows() == [("wallet-a", EPOCH, 40)]
        assert resettlement.booked_nets(connection, ["a"], [EPOCH, EPOCH + 1]).rows() == [
            ("a", 1, EPOCH, -70),
            ("a", 1, EPOCH + 1, 30),
        ]
        require_books_agree(connection)


def correction(meter: str, boundary: int, production: int, revision: int = 1) -> dict[str, object]:
    return dict.fromkeys(energy.CORRECTIONS, 0) | {
        "meter_id": meter,
        "wallet": f"wallet-{meter}",
        "boundary_epoch": boundary,
        "revision": revision,
        "production_delta_wh": production,
    }


def test_corrections_are_resettled_run_by_run_until_none_is_left(store):
    with store.begin() as connection:
        meter = {
            "meter_id": ["a", "b"],
            "wallet": ["wallet-a", "wallet-b"],
            "zone_id": [1, 1],
            "meter_type": ["Hybrid"] * 2,
            "rating_w": [4_000, 4_000],  # 1 100 Wh a boundary
            "device_key": [bytes(32)] * 2,
            "status": ["active"] * 2,
            "first_epoch": [EPOCH] * 2,
            **{f"baseline_{name}": [0, 0] for name in ("production_wh", "consumption_wh", "seq", "timestamp_us")},
        }
        participants.save_meters(connection, pl.DataFrame(meter))
        nets = [("a", -500), ("a", 400), ("a", 300), ("b", 10), ("b", 20), ("b", 30)]
        rows = [net_row(name, EPOCH + place % 3, max(net, 0), max(-net, 0)) for place, (name, net) in enumerate(nets)]
        energy.save_net_energy(connection, net_frame(*rows))
        for step in range(3):
            book_epoch(connection, EPOCH + step)
        energy.save_corrections(
            connection,
            pl.DataFrame(
                [
                    correction("a", EPOCH + 1, 100),
                    correction("a", EPOCH + 1, 50, revision=2),
                    correction("b", EPOCH + 1, 5),
                    correction("b", EPOCH + 2, 1_101),
                    correction("a", EPOCH + 2, -400),
                    correction("a", EPOCH + 3, 1),
                ],
                schema=energy.CORRECTIONS,
            ),
        )
    waiting = {"through_epoch": EPOCH + 2, "rules": RULES}
    with store.begin() as connection:
        # the supplier has nothing yet: the refunds wait; what needs no money is concluded
        assert resettlement.book_next(connection, **waiting) is None
    with store.begin() as connection:
        deposits.fund(connection, reference="f", account="supplier", amount_uthb=10**9, epoch=EPOCH)
        first = resettlement.book_next(connection, **waiting)
    with store.begin() as connection:
        second = resettlement.book_next(connection, **waiting)
    with store.begin() as connection:
        assert resettlement.book_next(connection, **waiting) is None
        assert [(run.epoch, run.run, run.seq) for run in (first, second)] == [(EPOCH + 1, 1, 4), (EPOCH + 2, 1, 5)]
        entries = ledger.wallet_entries(connection, EPOCH + 1, EPOCH + 2).filter(pl.col("kind") == 3)
        shown = entries.select("wallet", "minted_wh", "refund_wh", "refund_uthb", "taken_back_wh", "grid_after_wh")
        # first: 150 Wh move from the surplus of 400 into the deficit of 500, so Σ max(net, 0) falls by 150
        # second: 400 Wh move out of 250 into 300: −150 and 700, so Σ max(net, 0) rises from 550 to 700
        assert shown.rows() == [("wallet-a", -150, 150, 387_000, 150, 550), ("wallet-a", 150, 0, 0, 0, 550)]
        statuses = connection.execute(
            text(
                "SELECT meter_id, boundary_epoch, revision, status, booked_seq, x_wh FROM corrections ORDER BY 1, 2, 3"
            )
        ).fetchall()
        assert [tuple(row) for row in statuses] == [
            ("a", EPOCH + 1, 1, "booked", 4, -150),
            ("a", EPOCH + 1, 2, "booked", 4, -150),
            ("a", EPOCH + 2, 1, "booked", 5, 150),
            ("a", EPOCH + 3, 1, "waiting", None, None),
            ("b", EPOCH + 1, 1, "recorded", 0, 0),
            ("b", EPOCH + 2, 1, "rejected", 0, 0),
        ]
        assert resettlement.booked_nets(connection, ["a"], [EPOCH, EPOCH + 1, EPOCH + 2])["net_wh"].to_list() == [
            -350,
            -150,
            700,
        ]
        require_books_agree(connection)
    with store.begin() as connection:
        # the register that was out of bounds is corrected itself: judged from what was booked, 1 101 − 1 051 = 50
        energy.save_corrections(
            connection, pl.DataFrame([correction("b", EPOCH + 2, -1_051, revision=2)], schema=energy.CORRECTIONS)
        )
        assert resettlement.book_next(connection, **waiting).seq == 6
        outcome = connection.execute(
            text(
                "SELECT revision, status, booked_seq, x_wh, reason FROM corrections "
                "WHERE meter_id = 'b' AND boundary_epoch = :epoch ORDER BY revision"
            ),
            {"epoch": EPOCH + 2},
        )
        assert [tuple(row) for row in outcome] == [(1, "booked", 6, 20, None), (2, "booked", 6, 20, None)]
        nets = resettlement.booked_nets(connection, ["b"], [EPOCH, EPOCH + 1, EPOCH + 2])["net_wh"].to_list()
        assert nets == [15, 65, -20]
        require_books_agree(connection)


def test_ledger_rows_cannot_be_changed_or_removed(store):
    with store.begin() as connection:
        deposits.deposit(connection, reference="d", wallet="w", amount_uthb=1, epoch=EPOCH)
    for statement in ("UPDATE ledger_entries SET amount = 2", "DELETE FROM ledger_entries", "TRUNCATE ledger_entries"):
        with pytest.raises(Exception, match="append-only"), store.begin() as connection:
            connection.execute(text(statement))


def test_ten_thousand_wallets_are_booked_within_seconds(store):
    names = [f"{index:05d}" for index in range(10_000)]
    with store.begin() as connection:
        rows = [net_row(name, EPOCH, index % 700, index % 300) for index, name in enumerate(names)]
        energy.save_net_energy(connection, net_frame(*rows))
        copy_in(connection, "balances", pl.DataFrame({"owner": [f"wallet-{name}" for name in names]}))
        before = dt.datetime.now(dt.UTC)
        book_epoch(connection, EPOCH)
        seconds = (dt.datetime.now(dt.UTC) - before).total_seconds()
    assert seconds < 5, f"booking took {seconds:.1f} s"


def test_a_booked_epoch_can_not_clear_again(store):
    frames = clearing.ClearingFrames(
        **{table: pl.DataFrame(schema=schema) for table, (schema, _) in clearing.TABLES.items()}
    )
    row = clearing.EpochRow(epoch=EPOCH, status="cleared", rent_uthb=0)
    with store.begin() as connection:
        clearing.write_clearing(connection, row, frames)
        clearing.write_clearing(connection, msgspec.structs.replace(row, mechanism="zonal"), frames)
        book_epoch(connection, EPOCH)
        assert clearing.read_epoch(connection, EPOCH) == msgspec.structs.replace(row, mechanism="zonal", seq=1)
        with pytest.raises(clearing.ClearingIsFinal, match="booked as run 0 with seq 1"):
            clearing.write_clearing(connection, row, frames)


def test_a_balance_changed_behind_the_ledger_breaks_the_laws_that_speak_of_it(store):
    with store.begin() as connection:
        energy.save_net_energy(connection, net_frame(net_row("a", EPOCH, 300, 0), net_row("b", EPOCH, 0, 100)))
        book_epoch(connection, EPOCH)
        assert len(proof.ledger_laws(connection)) == 11
        connection.execute(text("UPDATE balances SET grid_wh = grid_wh + 1 WHERE owner = 'wallet-a'"))
        connection.execute(text("UPDATE balances SET debt_uthb = debt_uthb - 2 WHERE owner = 'wallet-b'"))
        broken = {law.law[0]: law.difference for law in proof.ledger_laws(connection) if law.difference}
        assert broken == {"1": -1, "6": 2, "8": -1}
