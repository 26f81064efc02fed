"""What settling costs: bytes on the wire and compute units per trader (chain.md §6)."""

from __future__ import annotations

from struct import pack

import pytest
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from gridtokenx_pipelines.chain import addresses
from tests.chain.svm import CLEARING, EPOCH
from tests.chain.trading_world import BUY, BUY_BACK, THB, Run, World, Zone, order

TRADERS = 50
PACKET_BYTES = 1_232
CU_PER_TRADER = 250
CU_FINALIZE = 25_000
CU_DEPOSIT = 15_000
CU_ORDER = 3_000


def plant_lookup_table(world: World, accounts: list[Pubkey]) -> AddressLookupTableAccount:
    """A lookup table as its program stores it: 56 bytes of header, then the addresses."""
    table = Pubkey.new_unique()
    header = pack("<IQQBB32sH", 1, 2**64 - 1, 0, 0, 0, bytes(32), 0)
    world.put(table, addresses.LOOKUP_TABLE_PROGRAM, header + b"".join(map(bytes, accounts)))
    return AddressLookupTableAccount(table, accounts)


def crowd(world: World) -> list:
    homes = [
        world.household(f"home {i}", 1, 50 * THB, EPOCH, sell_min=2_500_000, buy_max=4_000_000, buy_back=1)
        for i in range(TRADERS)
    ]
    world.fund(homes[0], 0, 1_000 * THB)
    return homes


@pytest.mark.parametrize("trading", [True, False], ids=["everybody trades", "nobody trades"])
def test_fifty_traders_fit_one_transaction_at_250_compute_units_each(trading: bool, capsys: pytest.CaptureFixture[str]):
    world = World()
    homes = crowd(world)
    world.open(EPOCH)
    # half sell 2 500 of some 4 000 Wh, the rest is bought back; half buy 2 500 of 3 000 and are billed for the rest
    sellers, buyers = homes[::2], homes[1::2]
    meters = [(home, pack("<II", 5_000 + i, 1_000)) for i, home in enumerate(sellers)]
    meters += [(home, pack("<II", 0, 3_000 + i)) for i, home in enumerate(buyers)]
    wh = 2_500 * trading
    traders = [(home, pack("<ii", 4_000 + i, -wh)) for i, home in enumerate(sellers)]
    traders += [(home, pack("<ii", -3_000 - i, wh)) for i, home in enumerate(buyers)]
    # unused order leaves make the tree as deep as that of 10 000 traders: a proof of 8 levels
    padding = [(homes[0], bytes(169))] * 200
    zones, flags = [Zone(1, 3_000_000, 200_000)] * trading, BUY_BACK * trading
    run = Run(CLEARING, EPOCH, 0, 1, meters, traders, padding, zones, flags)
    world.attest_run(run)
    world.meter(run)
    world.commit(run)
    instruction = world.settle_instruction(run)
    table = plant_lookup_table(world, [meta.pubkey for meta in instruction.accounts])
    world.svm.warp_to_slot(10)
    world.svm.expire_blockhash()
    message = MessageV0.try_compile(world.payer.pubkey(), [instruction], [table], world.svm.latest_blockhash())
    transaction = VersionedTransaction(message, [world.payer])
    result = world.svm.send_transaction(transaction)
    units, size = result.compute_units_consumed(), len(bytes(transaction))
    finalizing = world.finalize(run).compute_units
    world.assert_laws(homes)
    with capsys.disabled():
        proof = len(run.tree.proof(1))
        print(
            f"\nsettle_batch, {TRADERS} traders, {proof} levels of proof: {units} CU = {units / TRADERS:.0f} a trader "
            f"(limit {CU_PER_TRADER}), {size} bytes (limit {PACKET_BYTES}); finalize_epoch {finalizing} CU"
        )
    assert proof == 8
    assert size <= PACKET_BYTES
    assert units <= CU_PER_TRADER * TRADERS
    assert finalizing <= CU_FINALIZE


def test_what_a_household_does_stays_within_its_limits(capsys: pytest.CaptureFixture[str]):
    world = World()
    home = world.household("home", 1, 1 * THB, EPOCH)
    deposit = world.deposit(home, 1 * THB).compute_units
    mandate = world.mandate(home, buy_max=3_000_000).compute_units
    world.open(EPOCH)
    orders = [(home, order(EPOCH, BUY, 10, 3_000_000 + 10_000 * i, nonce=i)) for i in range(50)]
    run = Run(CLEARING, EPOCH, 0, 1, orders=orders)
    world.attest_run(run)
    world.commit(run)
    recorded = max(world.send(*world.record_instructions(run, i)).compute_units for i in range(50))
    with capsys.disabled():
        print(
            f"\ndeposit {deposit} CU (limit {CU_DEPOSIT}), set_mandate {mandate}, record_order with its signature and "
            f"{len(run.tree.proof(1))} levels of proof {recorded} CU (limit {CU_ORDER})"
        )
    assert deposit <= CU_DEPOSIT
    assert mandate <= CU_ORDER
    assert recorded <= CU_ORDER
