"""Bytes of batches, leaves and roots, put together by hand from docs/reference/abi.md."""

from __future__ import annotations

import hashlib
import struct

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx_pipelines.epochs import epoch_of_key
from gridtokenx_pipelines.settlement.batches import RunPlan, SignedOrder, batch_size, plan_run
from gridtokenx_pipelines.settlement.frames import (
    CLEARING,
    LATE,
    LEDGER_ROWS,
    METER_ENTRIES,
    RESETTLEMENT,
    WALLET_ENTRIES,
    Booking,
    Header,
    LedgerError,
    MarketAccounts,
)

E = epoch_of_key("2026-01-27T16:15Z")
PROGRAMS = {"registry": b"R" * 32, "trading": b"T" * 32}
PACKET_LIMIT = 1_232


def address(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def frame(schema: pl.Schema, rows: list[dict[str, object]]) -> pl.DataFrame:
    numbers = {name: 0 for name, kind in schema.items() if kind == pl.Int64}
    return pl.DataFrame([{**numbers, **row} for row in rows], schema=schema)


def booking(kind: int, wallets: list[dict[str, object]], meters: list[dict[str, object]], **header) -> Booking:
    return Booking(
        seq=7,
        epoch=E,
        run=0 if kind == CLEARING else 2,
        kind=kind,
        header=Header(**header),
        wallet_entries=frame(WALLET_ENTRIES, [{"epoch": E, **row} for row in wallets]),
        meter_entries=frame(METER_ENTRIES, [{"epoch": E, **row} for row in meters]),
        balances=pl.DataFrame(),
        accounts=MarketAccounts(),
        ledger_rows=pl.DataFrame(schema=LEDGER_ROWS),
    )


def plan(made: Booking, orders: tuple[SignedOrder, ...] = ()) -> RunPlan:
    return plan_run(
        made,
        network_id=3,
        meter_address={name: address(name) for name in made.meter_entries["meter_id"]},
        trader_address={name: address(name) for name in made.wallet_entries["wallet"]},
        program_ids=PROGRAMS,
        orders=orders,
    )


def leaf(program: str, kind: int, run: int, index: int, entries: bytes, *owners: str) -> bytes:
    place = struct.pack("<QBIHH", 3, kind, E, run, index)
    row = b"\0gridtokenx/leaf/v1" + PROGRAMS[program] + place + entries + b"".join(map(address, owners))
    return hashlib.sha256(row).digest()


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def test_an_initial_run_has_these_leaves_and_roots():
    made = booking(
        CLEARING,
        [{"wallet": "v", "net_wh": -5, "traded_wh": 3}, {"wallet": "w", "net_wh": 9, "traded_wh": -4}],
        [{"meter_id": "m", "production_delta_wh": 10, "consumption_delta_wh": 1}],
        buy_back=True,
        lost_wh=1,
        link_wheeling_uthb=2,
        rent_uthb=-3,
        zones=((1, 3_000_000, 100_000), (2, 0, 0)),
    )
    order = SignedOrder(wallet="w", message=b"o" * 169, signature=b"s" * 64)
    made_plan = plan(made, (order,))
    header = struct.pack("<QHHHHQQqH", 7, 1, 1, 1, 2, 1, 2, -3, 2) + struct.pack(
        "<HIIHII", 1, 3_000_000, 100_000, 2, 0, 0
    )
    leaves = [
        leaf("trading", CLEARING, 0, 0, header),
        leaf("trading", CLEARING, 0, 1, struct.pack("<iiii", -5, 3, 9, -4), "v", "w"),
        leaf("trading", CLEARING, 0, 2, hashlib.sha256(b"o" * 169).digest(), "w"),
    ]
    metering = leaf("registry", 0, 0, 0, struct.pack("<II", 10, 1), "m")
    left, right = node(leaves[0], leaves[1]), node(leaves[2], bytes(32))
    assert (made_plan.header, made_plan.root) == (header, node(left, right))
    assert made_plan.metering_root == metering
    assert made_plan.header_proof == (leaves[1], right)
    (meters,), (traders,), (recorded,) = made_plan.registry, made_plan.trading, made_plan.orders
    assert msgspec.to_builtins(meters) | {"entries": 0, "leaf": 0} == {
        "program": "registry",
        "instruction": "settle_meters",
        "index": 0,
        "n": 1,
        "entries": 0,
        "owners": ("m",),
        "leaf": 0,
        "proof": (),
    }
    assert (traders.instruction, traders.owners, traders.leaf) == ("settle_batch", ("v", "w"), leaves[1])
    assert traders.proof == (leaves[0], right)
    assert (recorded.index, recorded.leaf, recorded.proof) == (2, leaves[2], (bytes(32), left))


def test_a_late_run_has_registry_and_trading_under_one_root():
    made_plan = plan(
        booking(
            LATE,
            [{"wallet": "w", "minted_wh": 8, "deficit_on_peak_wh": 2, "deficit_off_peak_wh": 3}],
            [
                {
                    "meter_id": "m",
                    "last_epoch": E,
                    "production_delta_wh": 10,
                    "consumption_delta_wh": 7,
                    "surplus_wh": 8,
                }
            ],
        )
    )
    assert made_plan.header == struct.pack("<QHHHHQQqH", 7, 1, 1, 0, 0, 0, 0, 0, 0)
    leaves = [
        leaf("trading", LATE, 2, 0, made_plan.header),
        leaf("registry", LATE, 2, 1, struct.pack("<IIII", E, 10, 7, 8), "m"),
        leaf("trading", LATE, 2, 2, struct.pack("<III", 8, 2, 3), "w"),
    ]
    assert made_plan.root == node(node(leaves[0], leaves[1]), node(leaves[2], bytes(32)))
    assert made_plan.metering_root is None
    instructions = [batch.instruction for batch in (*made_plan.registry, *made_plan.trading)]
    assert instructions == ["settle_late_meters", "settle_late_batch"]


def test_a_resettlement_entry_says_which_epoch_was_in_deficit():
    refund = {"refund_wh": 50, "taken_back_wh": 20, "returned_wh": 15, "rebilled_wh": 15, "minted_wh": -45}
    made_plan = plan(
        booking(
            RESETTLEMENT,
            [
                {"wallet": "a", **refund, "refund_epoch": E - 1, "surplus_epoch": E},
                {"wallet": "b", **refund, "refund_epoch": E, "surplus_epoch": E - 1},
                {"wallet": "c", "minted_wh": 12, "refund_epoch": None},
                {"wallet": "d", "minted_wh": -12, "refund_epoch": None},
            ],
            [{"meter_id": "m", "x_wh": -45}, {"meter_id": "n", "x_wh": 12}],
        )
    )
    (registry,), (trading,) = made_plan.registry, made_plan.trading
    assert registry.entries == struct.pack("<ii", -45, 12)
    assert [struct.unpack_from("<IIIII", trading.entries, 20 * place) for place in range(4)] == [
        (0, 50 | 1 << 31, 20, 15, 15),
        (0, 50, 20, 15, 15),
        (12, 0, 0, 0, 0),
        (0, 0, 0, 0, 0),
    ]
    assert (registry.instruction, trading.instruction) == ("correct_meters", "resettle_batch")


def many(kind: int, wallets: int, meters: int) -> Booking:
    return booking(
        kind,
        [{"wallet": f"w{place:05d}", "net_wh": place} for place in range(wallets)],
        [{"meter_id": f"m{place:05d}", "production_delta_wh": place} for place in range(meters)],
    )


def holds(root: bytes, each, kind: int, run: int) -> bool:
    entries = each.entries if hasattr(each, "entries") else hashlib.sha256(each.message).digest()
    owners = each.owners if hasattr(each, "owners") else (each.wallet,)
    found = leaf(getattr(each, "program", "trading"), kind, run, each.index, entries, *owners)
    assert found == each.leaf
    for depth, sibling in enumerate(each.proof):
        found = node(sibling, found) if each.index >> depth & 1 else node(found, sibling)
    return found == root


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from([CLEARING, LATE, RESETTLEMENT]),
    wallets=st.integers(1, 160),
    meters=st.integers(1, 160),
    orders=st.integers(0, 5),
)
def test_every_owner_is_in_exactly_one_batch_and_every_proof_holds(kind, wallets, meters, orders):
    made = many(kind, wallets, meters)
    signed = tuple(
        SignedOrder(wallet="w00000", message=bytes([place]) * 169, signature=b"s") for place in range(orders)
    )
    made_plan = plan(made, signed if kind == CLEARING else ())
    run = made.run
    assert [name for batch in made_plan.registry for name in batch.owners] == made.meter_entries["meter_id"].to_list()
    assert [name for batch in made_plan.trading for name in batch.owners] == made.wallet_entries["wallet"].to_list()
    assert all(batch.n == len(batch.owners) <= 45 for batch in made_plan.registry)
    assert all(batch.n == len(batch.owners) <= 50 for batch in made_plan.trading)
    for batch in made_plan.registry:
        if kind == CLEARING:
            assert holds(made_plan.metering_root, batch, 0, 0)
        else:
            assert holds(made_plan.root, batch, kind, run)
    assert all(holds(made_plan.root, each, kind, run) for each in (*made_plan.trading, *made_plan.orders))
    assert RunPlan.decode(made_plan.encode()) == made_plan


@pytest.mark.parametrize("kind", [CLEARING, LATE, RESETTLEMENT])
@pytest.mark.parametrize("many_wallets", [30, 12_000])
def test_a_batch_leaves_room_for_its_proof_in_a_transaction(kind, many_wallets):
    made_plan = plan(many(kind, many_wallets, many_wallets if kind != LATE else 100))
    # a trader batch of 50 with an 8-level proof was measured as 1 108 bytes: 402 for what every transaction has, 256
    # for the proof, an entry and a look-up index for each of the 50; resettle_batch names one account more
    fixed = 402 + (32 if kind == RESETTLEMENT else 0)
    for batch in made_plan.trading:
        assert fixed + 32 * len(batch.proof) + len(batch.entries) + batch.n <= PACKET_LIMIT
    for batch in made_plan.registry:
        assert fixed + 32 * len(batch.proof) + len(batch.entries) + batch.n <= PACKET_LIMIT


def test_sizes_fall_where_entries_are_long_or_proofs_deep():
    assert [batch_size(8, 50, 450, depth) for depth in (0, 8, 9, 11)] == [50, 50, 46, 39]
    assert batch_size(12, 50, 450, 8) == 34
    with pytest.raises(LedgerError, match="settle fewer orders"):
        batch_size(20, 50, 450, 22)


def test_amounts_that_do_not_fit_and_owners_without_address_are_refused():
    too_much = booking(CLEARING, [{"wallet": "w", "net_wh": 2**31}], [{"meter_id": "m"}])
    with pytest.raises(LedgerError, match="must fit -2147483648…2147483647"):
        plan(too_much)
    with pytest.raises(LedgerError, match="'m'; register them"):
        plan_run(
            booking(CLEARING, [], [{"meter_id": "m"}]),
            network_id=3,
            meter_address={},
            trader_address={},
            program_ids=PROGRAMS,
        )
    stranger = SignedOrder(wallet="x", message=b"", signature=b"")
    with pytest.raises(LedgerError, match="'x' has no trader address"):
        plan(booking(CLEARING, [{"wallet": "w"}], [{"meter_id": "m"}]), (stranger,))
    with pytest.raises(LedgerError, match="at most 1023 is possible"):
        plan(many(CLEARING, 60_000, 1))


def test_an_epoch_without_entries_still_has_a_header():
    made_plan = plan(booking(CLEARING, [], []))
    assert (made_plan.registry, made_plan.trading, made_plan.header_proof) == ((), (), ())
    assert made_plan.root == leaf("trading", CLEARING, 0, 0, made_plan.header)
    assert made_plan.metering_root == bytes(32)
