"""What the programs cost: compute units, bytes on the wire, rent, and a large epoch on the local chain by phase.

    python benchmarks/compute_units.py [--traders 10000]

Compute units are exact (LiteSVM runs the validator's own VM). Figures of others are those that the public
implementation of this platform publishes for itself; ours must stay within the limits in the third column.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from struct import pack

from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.results import machine, table, write_section
from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain.localnet_process import LocalnetProcess
from gridtokenx_pipelines.chain.outbox import OutboxItem
from gridtokenx_pipelines.chain.run_steps import Missing, RunSteps
from gridtokenx_pipelines.chain.transactions import sign
from gridtokenx_pipelines.market.roots import MerkleTree
from tests.chain.settled_world import FIRST_EPOCH, RUN_KEYS, SmallMarket
from tests.chain.svm import CLEARING, DEPLOY, DEPLOYER, EPOCH, METERING, ORACLES, leaf
from tests.chain.trading_world import BUY, BUY_BACK, PAY_AS_BID, SELL, THB, Household, Run, World, Zone, order

PACKET_BYTES = 1_232
LAMPORTS_PER_BYTE, ACCOUNT_OVERHEAD = 6_960, 128
TRADERS, METERS = 50, 45
PROOF_LEVELS = 8  # of a tree of 10 000 traders or meters
CREATION = "besides creating the account"


def rent(size: int) -> int:
    """Lamports that make an account of so many bytes rent-exempt."""
    return (size + ACCOUNT_OVERHEAD) * LAMPORTS_PER_BYTE


def measured() -> list[tuple[str, str, str, str]]:
    """(work, elsewhere, to reach, measured) of every line of §6."""
    world = World()
    homes = [
        world.household(f"home {i}", 1, 50 * THB, EPOCH, sell_min=2_500_000, buy_max=4_000_000, buy_back=1)
        for i in range(TRADERS)
    ]
    world.fund(homes[0], 0, 1_000 * THB)
    world.open(EPOCH)
    run = whole_run(homes, EPOCH, 1)
    votes = {}
    for kind, tree in ((METERING, run.metering_tree), (CLEARING, run.tree)):
        assert tree is not None
        for oracle in ORACLES[:2]:
            named = {"oracle": oracle.pubkey(), "attestation": addresses.attestation(kind, EPOCH, 0)}
            args = {"kind": kind, "epoch": EPOCH, "run": 0, "root": tree.root}
            votes[oracle] = world.call("oracle", "attest", named, signers=[oracle], **args).compute_units
    batch = registry_batch(world, run)
    metering, metering_bytes = sent(world, batch)
    besides = metering_without_mint()
    rest_of_metering(world, run)
    commit = world.commit(run).compute_units
    settle, settle_bytes = sent(world, world.settle_instruction(run))
    finalize = world.finalize(run).compute_units
    home = homes[0]
    deposit = world.deposit(home, THB).compute_units
    mandate = world.mandate(home, buy_max=3_000_000).compute_units
    wallet = home.wallet
    named = {"wallet": wallet.pubkey(), "trader": home.trader}
    terms = {"epoch": EPOCH + 1, "side": BUY, "limit": 3_000_000, "energy_wh": 10}
    placed = world.call("trading", "create_order", named, signers=[wallet], **terms).compute_units
    recorded = record_cost()
    matched = match_cost()
    issued, first = certificate_cost(world, home)
    withdrawn = withdraw_cost(world, home)
    priced = price_cost(world)
    by_order, order_bytes, pairs = pay_as_bid_cost()
    return [
        (
            "settle a trader's trade, bill and buy-back (`settle_batch`)",
            "97 500–122 000 a pair, one pair a transaction",
            "≤ 250 a trader, ≥ 50 a transaction",
            f"{settle / TRADERS:.0f} a trader, {TRADERS} in {settle_bytes} bytes",
        ),
        (
            "the same where each order has its own value (`settle_pay_as_bid_batch`)",
            "97 500–122 000 a pair, one pair a transaction",
            "–",
            f"{by_order / pairs:.0f} a trader with one order, {pairs} in {order_bytes} bytes",
        ),
        (
            "settle metered energy (`settle_meters`)",
            "29 400 a meter, one a transaction",
            "≤ 300 a meter besides the mint CPI, ≥ 45 a transaction",
            f"{besides / METERS:.0f} a meter, the mint {metering - besides:,}; {METERS} in {metering_bytes} bytes",
        ),
        (
            "oracle reading on chain",
            "13 400 a reading",
            "none; an attestation ≤ 1 500 a signer " + CREATION,
            f"{votes[ORACLES[1]]:,} a signer",
        ),
        ("place an order (`create_order`)", "10 500–11 500", "≤ 3 000", f"{placed:,}"),
        ("record a signed order, with its signature", "–", "≤ 3 000", f"{recorded:,}"),
        ("match two orders on chain (`match_order`)", "97 500–122 000", "–", f"{matched:,}"),
        ("deposit with the Token-2022 CPI", "27 700", "≤ 15 000", f"{deposit:,}"),
        (
            "certificate issue",
            "68 000–71 000",
            "≤ 15 000",
            f"{issued:,}, and {first:,} for each bump more",
        ),
        ("set a mandate", "–", "–", f"{mandate:,}"),
        ("withdraw THBC and GRID", "–", "–", f"{withdrawn:,}"),
        ("report a price (`update_price`)", "13 400", "–", f"{priced:,}"),
        ("commit a run's header", "–", "–", f"{commit:,}"),
        ("check the laws and burn (`finalize_epoch`)", "–", "–", f"{finalize:,}"),
    ]


def whole_run(homes: Sequence[Household], epoch: int, seq: int, surplus: bool = True) -> Run:
    """Half of the households sell, half buy and are billed for the rest; a tree as deep as that of 10 000 traders."""
    sellers, buyers = homes[::2], homes[1::2]
    meters = [(home, pack("<II", (5_000 + i) * surplus, 1_000)) for i, home in enumerate(sellers)]
    meters += [(home, pack("<II", 0, 3_000 + i)) for i, home in enumerate(buyers)]
    traders = [(home, pack("<ii", 4_000 + i, -2_500)) for i, home in enumerate(sellers)]
    traders += [(home, pack("<ii", -3_000 - i, 2_500)) for i, home in enumerate(buyers)]
    padding = [(homes[0], bytes(169))] * 200
    run = Run(CLEARING, epoch, 0, seq, meters, traders, padding, [Zone(1, 3_000_000, 200_000)], BUY_BACK)
    leaves = [
        leaf(
            "registry", METERING, epoch, 0, i, b"".join(entry for _, entry in batch), [home.meter for home, _ in batch]
        )
        for i, batch in enumerate(run.registry)
    ]
    run.metering_tree = MerkleTree([*leaves, *[bytes(32)] * 200])
    assert len(run.metering_tree.proof(0)) == len(run.tree.proof(1)) == PROOF_LEVELS
    return run


def registry_batch(world: World, run: Run):  # type: ignore[no-untyped-def]
    """The first batch of metering, with a proof as long as 10 000 meters need."""
    instructions = []
    kept, world.call = world.call, lambda *args, **kw: instructions.append(world.build(*args, **kw))  # type: ignore
    try:
        world.meter(run)
    finally:
        world.call = kept  # type: ignore[method-assign]
    world.rest_of_meters = instructions[1:]  # type: ignore[attr-defined]
    return instructions[0]


def rest_of_metering(world: World, run: Run) -> None:
    """The batches after the first."""
    for instruction in world.rest_of_meters:  # type: ignore[attr-defined]
        world.send(instruction)


def metering_without_mint() -> int:
    """The same batch of meters that all lack energy: what it costs besides the mint's CPI."""
    world = World()
    homes = [world.household(f"home {i}", 1, 0, EPOCH) for i in range(TRADERS)]
    world.open(EPOCH)
    run = whole_run(homes, EPOCH, 1, surplus=False)
    assert run.metering_tree is not None
    world.attest(METERING, EPOCH, 0, run.metering_tree.root)
    return sent(world, registry_batch(world, run))[0]


def sent(world: World, instruction) -> tuple[int, int]:  # type: ignore[no-untyped-def]
    """Compute units and bytes of a transaction with its accounts in a lookup table."""
    listed = [meta.pubkey for meta in instruction.accounts]
    at = Pubkey.new_unique()
    header = pack("<IQQBB32sH", 1, 2**64 - 1, 0, 0, 0, bytes(32), 0)
    world.put(at, addresses.LOOKUP_TABLE_PROGRAM, header + b"".join(map(bytes, listed)))
    world.svm.warp_to_slot(world.svm.get_clock().slot + 10)
    world.svm.expire_blockhash()
    found = [AddressLookupTableAccount(at, listed)]
    message = MessageV0.try_compile(world.payer.pubkey(), [instruction], found, world.svm.latest_blockhash())
    transaction = VersionedTransaction(message, [world.payer])
    result = world.svm.send_transaction(transaction)
    size = len(bytes(transaction))
    assert size <= PACKET_BYTES
    return result.compute_units_consumed(), size


def pay_as_bid_cost() -> tuple[int, int, int]:
    """Compute units, bytes and traders of a batch of mandates that each trade at a value of their own."""
    pairs = 20
    world = World()
    homes = [
        world.household(f"home {i}", 1, 100 * THB, EPOCH, sell_min=2_000_000, buy_max=8_000_000) for i in range(pairs)
    ]
    world.open(EPOCH)
    sells, by_mandate = 1 << 30, 1 << 31
    meters, traders = [], []
    for i, home in enumerate(homes):
        wh, value = 1_000, 3_000_000 + i // 2
        side, net = (sells, wh) if i % 2 else (0, -wh)
        meters.append((home, pack("<II", max(net, 0), max(-net, 0))))
        traders.append((home, pack("<iB", net, 1) + pack("<IIQ", by_mandate | side, wh, value)))
    padding = [(homes[0], bytes(169))] * 200
    run = Run(CLEARING, EPOCH, 0, 1, meters, traders, padding, [Zone(1, 0, 200_000)], PAY_AS_BID)
    world.attest_run(run)
    world.meter(run)
    world.commit(run)
    units, size = sent(world, world.settle_instruction(run))
    return units, size, pairs


def record_cost() -> int:
    """The dearest of fifty orders of one household."""
    world = World()
    home = world.household("home", 1, THB, EPOCH)
    world.open(EPOCH)
    orders = [(home, order(EPOCH, BUY, 10, 3_000_000 + 10_000 * i, nonce=i)) for i in range(50)]
    run = Run(CLEARING, EPOCH, 0, 1, orders=orders)
    world.attest_run(run)
    world.commit(run)
    return max(world.send(*world.record_instructions(run, i)).compute_units for i in range(50))


def match_cost() -> int:
    """Two orders on chain that cross."""
    world = World()
    world.open(EPOCH)
    world.call("trading", "set_continuous", {"authority": DEPLOYER.pubkey()}, signers=[DEPLOYER], on=1, wheeling=0)
    world.play(Run(CLEARING, EPOCH, 0, 1))
    seller, buyer = (world.household(name, 1, 10 * THB, EPOCH + 2) for name in ("seller", "buyer"))
    world.change("trading", "Trader", seller.trader, grid_wh=1_000)
    for home, side, limit in ((seller, SELL, 3_000_000), (buyer, BUY, 4_000_000)):
        named = {"wallet": home.wallet.pubkey(), "trader": home.trader}
        terms = {"epoch": EPOCH + 2, "side": side, "limit": limit, "energy_wh": 500}
        world.call("trading", "create_order", named, signers=[home.wallet], **terms)
    slots = {}
    for name, home in (("buy_slot", buyer), ("sell_slot", seller)):
        placed = world.read("trading", "Trader", home.trader)["placed"]
        slots[name] = next(i for i, number in enumerate(placed) if number)
    named = {"buyer": buyer.trader, "seller": seller.trader}
    return world.call("trading", "match_order", named, **slots).compute_units


def certificate_cost(world: World, home: Household) -> tuple[int, int]:
    """Compute units at the first bump, and what a bump more costs."""
    costs = {}
    for number in range(40):
        certificate = number.to_bytes(32, "little")
        world.change("registry", "Meter", home.meter, production_wh=10**6, claimed_erc_wh=0, minted_wh=10**6)
        named = {"owner": home.wallet.pubkey(), "meter": home.meter, "certificate": addresses.certificate(certificate)}
        args = {"certificate_id": certificate, "energy_wh": 1_000}
        cost = world.call("governance", "issue_erc", named, signers=[home.wallet], **args).compute_units
        bump = world.read("governance", "Certificate", addresses.certificate(certificate))["bump"]
        costs[bump] = cost
    best = max(costs)
    others = [(cost - costs[best]) // (best - bump) for bump, cost in costs.items() if bump < best]
    return costs[best], max(others, default=0)


def withdraw_cost(world: World, home: Household) -> int:
    """THBC and GRID at once."""
    world.request(home, THB, 0)
    return world.withdraw(home).compute_units


def price_cost(world: World) -> int:
    """An oracle's second report on a zone."""
    named = {"oracle": ORACLES[0].pubkey(), "feed": addresses.price_feed(1)}
    args = {"epoch": EPOCH, "zone": 1, "price": 3_000_000, "demand_wh": 1, "supply_wh": 1}
    costs = [world.call("oracle", "update_price", named, signers=[ORACLES[0]], **args) for _ in range(2)]
    return costs[1].compute_units


def rents() -> list[tuple[str, str, str]]:
    """(account, bytes, SOL) of what a household and an epoch lock."""
    rows = []
    kept = [("registry", "User"), ("registry", "Meter"), ("trading", "Trader")]
    returned = [("trading", "Epoch"), ("registry", "Metered"), ("oracle", "Attestation")]
    total = 0
    for program, name in kept:
        size = Program.load(program).layout(name).size
        total += rent(size)
        rows.append((f"{name}, once a household", f"{size:,}", f"{rent(size) / 1e9:.5f}"))
    rows.append(("a household with one meter, for ever", "", f"{total / 1e9:.5f}"))
    for program, name in returned:
        size = Program.load(program).layout(name).size
        rows.append((f"{name}, an epoch's, given back", f"{size:,}", f"{rent(size) / 1e9:.5f}"))
    return rows


def sizes() -> list[tuple[str, str]]:
    """(program, bytes) as deployed."""
    return [(path.stem, f"{path.stat().st_size:,}") for path in sorted(DEPLOY.glob("*.so"))]


def large_epoch(traders: int) -> list[tuple[str, str, str]]:
    """(phase, transactions, seconds) of one epoch of so many households on the local chain."""
    missing = Missing(epoch=True, metered=True, metering_root=True, root=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalnetProcess(Path(folder), slot_ms=400) as process,
        ChainClient(process.url) as client,
    ):
        market = SmallMarket(client, homes=traders)
        started = time.monotonic()
        market.bring_up()
        rows = [("set-up: users, meters, deposits, mandates, look-up tables", "", f"{time.monotonic() - started:.1f}")]
        energies = [(900, 100) if i % 2 else (0, 700) for i in range(traders)]
        plan = market.initial(FIRST_EPOCH, energies, trade=(1, 0, 500))
        assert market.lookup is not None
        steps = RunSteps(RUN_KEYS, market.lookup)
        phases: list[tuple[str, Callable[[], list[OutboxItem]]]] = [
            ("open and attest", lambda: steps.prepare(plan, missing)),
            ("meters and mint", lambda: steps.registry_batches(plan)),
            ("commit", lambda: [steps.commit(plan)]),
            ("settle", lambda: steps.trading_batches(plan)),
            ("laws and burn", lambda: [steps.finalize(plan)]),
        ]
        whole = time.monotonic()
        count = 0
        for name, build in phases:
            begun = time.monotonic()
            raws = [signed(client, item) for item in build()]
            client.deliver(raws)
            count += len(raws)
            rows.append((name, f"{len(raws):,}", f"{time.monotonic() - begun:.2f}"))
        rows.append(
            (f"the epoch of {traders:,} traders, all confirmed", f"{count:,}", f"{time.monotonic() - whole:.2f}")
        )
        return rows


def signed(client: ChainClient, item: OutboxItem) -> bytes:
    """The item's transaction."""
    return bytes(sign(item.instructions, item.payer, item.signers, client.blockhash().value, item.lookup_tables))


def main() -> None:
    """Prints the tables and writes them to RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traders", type=int, default=10_000)
    chosen = parser.parse_args()
    parts = [
        f"`python benchmarks/compute_units.py --traders {chosen.traders}`, {machine('solders')} Shared cores.",
        table(("compute units", "elsewhere", "to reach", "measured"), measured()),
        table(("rent", "bytes", "SOL"), rents()),
        "Elsewhere 0.114 SOL a meter and day are locked for ever; here an epoch's rent comes back after 15 days.",
        table(("program", "bytes"), sizes()),
    ]
    if chosen.traders:
        parts.append(table(("local chain", "transactions", "s"), large_epoch(chosen.traders)))
    text = "\n\n".join(parts)
    print(text)
    write_section("compute_units", text)


if __name__ == "__main__":
    main()
