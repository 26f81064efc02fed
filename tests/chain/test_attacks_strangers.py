"""Attacks on the programs by strangers, relayers and households, each a test that fails to steal (chain.md §7).

Belongs here: forged accounts, addresses blocked, signatures pointing elsewhere, pauses, overflows. Does not belong
here: what the authority or the oracles could try (test_attacks.py, which also lists the attacks proven elsewhere).
"""

from __future__ import annotations

from struct import pack, unpack_from
from typing import Any

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from tests.chain.svm import CLEARING, DEPLOYER, EPOCH, LATE, METERING, ORACLES, RESETTLEMENT, ProgramFailedError, key
from tests.chain.test_attacks import approve, set_status
from tests.chain.test_programs_trading import OFF_PEAK, entry, metered, settled_pair
from tests.chain.test_programs_trading_refusals import Street, refused
from tests.chain.trading_world import BUY, THB, Household, Run, World, Zone, order

STRANGER = key("stranger")
RETIRED = 3
U32_MAX, I32_MAX, LIMIT = 2**32 - 1, 2**31 - 1, 2**63
# the payer's own money, an account that only Token-2022 looks into
FOREIGN_SOURCE = "InstructionErrorFieldless.IncorrectProgramId"


@pytest.fixture
def world() -> World:
    return World()


def test_an_id_squatted_before_its_owner_registers_it(world: World):
    thief, home = world.register("thief", 1, EPOCH), world.register("home", 1, EPOCH)

    def claim(owner: Household) -> None:
        wallet, rating = owner.wallet.pubkey(), {"meter_type": 0, "zone": 1, "rating_w": 5_000}
        named = {"owner": wallet, "user": addresses.address_of_user(wallet), "meter": address}
        values = {**rating, "device_key": wallet, "meter_id": "MEA-777"}
        world.call("registry", "register_meter", named, signers=[owner.wallet], **values)

    address = addresses.address_of_meter("MEA-777")
    claim(thief)
    refused("AlreadyExists", claim, home)
    meter = Household(home.wallet, "MEA-777")
    set_status(world, meter, RETIRED, EPOCH)
    claim(home)
    found = world.read("registry", "Meter", address)
    assert (found["owner"], found["registrations"], found["status"]) == (home.wallet.pubkey(), 1, 0)
    approve(world, meter, EPOCH)
    set_status(world, meter, RETIRED, EPOCH)
    refused("AlreadyExists", claim, thief)  # admitted once: its id is spent


def test_a_household_stopping_an_epoch_with_all_that_its_rating_allows(world: World):
    home = world.household("home")
    world.open(EPOCH)
    # 1.1 × 60 kW over the sixteen minutes between a reading 60 s before one boundary and one at the next
    world.play(Run(CLEARING, EPOCH, 0, 1, [(home, metered(17_600, 0))], [(home, entry(17_600))]))
    world.open(EPOCH + 1)
    refused("AboveRating", world.prepare, Run(CLEARING, EPOCH + 1, 0, 2, [(home, metered(17_601, 0))]))


@pytest.mark.parametrize("at", ["epoch", "metered", "deposit", "user"])
def test_lamports_sent_to_an_address_to_block_it(world: World, at: str):
    home = Household(key("blocked"), "MEA-1")
    name = {
        "epoch": addresses.epoch(EPOCH),
        "metered": addresses.metered(EPOCH),
        "deposit": addresses.deposit(b"deposit 1"),
        "user": addresses.address_of_user(home.wallet.pubkey()),
    }[at]
    world.svm.airdrop(name, 890_880)
    if at == "user":
        named = {"wallet": home.wallet.pubkey(), "user": name}
        world.call("registry", "register_user", named, signers=[home.wallet], user_type=0, zone=1)
    elif at == "deposit":
        world.give(home, 5)
    else:
        world.open(EPOCH)
    assert world.svm.get_account(name).owner != addresses.SYSTEM_PROGRAM


def test_the_registry_initialised_by_a_stranger_or_twice(world: World):
    named = {"deployer": STRANGER.pubkey()}
    refused("Unauthorised", world.call, "registry", "initialize", named, signers=[STRANGER])
    refused("AlreadyExists", world.call, "registry", "initialize", signers=[DEPLOYER])


def recording(world: World) -> tuple[Household, Run, list[Instruction]]:
    home = world.household("home", 1, 100 * THB)
    world.open(EPOCH)
    run = Run(CLEARING, EPOCH, 0, 1, orders=[(home, order(EPOCH, BUY, 10, 3_000_000))])
    world.attest_run(run)
    world.commit(run)
    return home, run, world.record_instructions(run, 0)


@pytest.mark.parametrize("field", [4, 8, 14], ids=["signature", "public key", "message"])
def test_an_ed25519_instruction_whose_offsets_point_into_another(world: World, field: int):
    home, _, (proof, recorded) = recording(world)
    # the first instruction is genuine, so the precompile is content with offsets into it
    elsewhere = bytearray(proof.data)
    elsewhere[field : field + 2] = pack("<H", 0)
    pointing = Instruction(proof.program_id, bytes(elsewhere), [])
    refused("InvalidOrderSignature", world.send, proof, pointing, recorded)
    assert not any(slot["used"] for slot in world.read("trading", "Trader", home.trader)["slots"])


def test_an_ed25519_instruction_with_no_signature_or_two(world: World):
    _, _, (proof, recorded) = recording(world)
    data = bytes(proof.data)
    none = Instruction(proof.program_id, b"\0\0", [])
    refused("InvalidOrderSignature", world.send, none, recorded)
    offsets = list(unpack_from("<7H", data, 2))
    for i in (0, 2, 4):  # a second set of offsets moves what they name by its 14 bytes
        offsets[i] += 14
    both = b"\2\0" + pack("<7H", *offsets) * 2 + data[16:]
    refused("InvalidOrderSignature", world.send, Instruction(proof.program_id, both, []), recorded)


def test_a_recorded_order_front_run_by_a_stranger(world: World):
    thief = world.household("thief", 1, 100 * THB)
    home, run, (proof, recorded) = recording(world)
    metas = [AccountMeta(thief.trader, False, True), *recorded.accounts[1:]]
    refused("InvalidOrderSignature", world.send, proof, Instruction(recorded.program_id, recorded.data, metas))
    world.send(proof, recorded)  # whoever sends it, it is the owner's allowance
    refused("OrderAlreadyRecorded", world.send, *world.record_instructions(run, 0))
    slots = lambda who: [s["energy_wh"] for s in world.read("trading", "Trader", who.trader)["slots"] if s["used"]]  # noqa: E731
    assert (slots(home), slots(thief)) == ([10], [])


def test_dust_trades_to_round_the_fee_to_zero():
    street = Street(sell_min=2_000_000, buy_max=8_000_000)
    run = street.prepared(sold=1, bought=1, zones=[Zone(1, 2_020_203)])
    street.world.settle(run)
    street.world.finalize(run)
    assert street.world.market()["platform_thbc_uthb"] == 20


def test_re_entrance_through_a_token_s_extensions(world: World):
    # nothing is called but Token-2022, and neither mint has an extension that calls on (18, 19: metadata)
    assert len(world.svm.get_account(addresses.thbc_mint()).data) == 82
    grid, at, found = bytes(world.svm.get_account(addresses.grid_mint()).data), 166, []
    while at < len(grid):
        kind, size = unpack_from("<HH", grid, at)
        found.append(kind)
        at += 4 + size
    assert found == [18, 19]


# ---- forged accounts


def forged_copies(world: World, genuine: list[Instruction], signers: list) -> list[str]:
    """Errors of the last instruction, each account in turn a stranger's copy of it; then the genuine one succeeds."""
    *before, last = genuine
    errors = []
    for i, meta in enumerate(last.accounts):
        # where the epoch before is settled, nobody looks at what was metered in it
        if meta.is_signer or meta.pubkey == addresses.metered(EPOCH - 1):
            continue
        copy, found = Pubkey.new_unique(), world.svm.get_account(meta.pubkey)
        if found is not None and found.owner != addresses.SYSTEM_PROGRAM:
            world.put(copy, STRANGER.pubkey(), bytes(found.data))
        metas = [*last.accounts[:i], AccountMeta(copy, False, meta.is_writable), *last.accounts[i + 1 :]]
        with pytest.raises(ProgramFailedError) as failure:
            world.send(*before, Instruction(last.program_id, last.data, metas), signers=signers)
        errors.append(failure.value.name)
    world.send(*genuine, signers=signers)
    return errors


def test_every_account_of_an_instruction_swapped_for_a_stranger_s_copy():
    street = Street()
    world, run = street.world, street.run()
    home, wallet = street.flat, street.flat.wallet
    mine = {"wallet": wallet.pubkey(), "trader": home.trader}
    world.give(home, THB)
    named = world.run_accounts(run)
    votes = {"oracle": ORACLES[0].pubkey(), "attestation": addresses.attestation(METERING, EPOCH + 9, 0)}
    values = {"kind": METERING, "epoch": EPOCH + 9, "run": 0, "root": bytes(32)}
    found = {}

    def attack(
        program_name: str, instruction: str, accounts: dict[str, Pubkey], signers: Any = (), **args: Any
    ) -> None:
        built = world.build(program_name, instruction, accounts, args.pop("remaining", ()), **args)
        found[instruction] = forged_copies(world, [built], list(signers))

    attack("oracle", "attest", votes, [ORACLES[0]], **values)
    attack("trading", "deposit", {**mine, "source": home.cash}, [wallet], amount=1)
    attack("trading", "fund_account", {"funder": wallet.pubkey(), "source": home.cash}, [wallet], account=0, amount=1)
    attack("trading", "revoke_mandate", mine, [wallet])
    terms = {"sell_min": 0, "buy_max": 3_100_000, "max_wh": 600, "expiry_epoch": U32_MAX, "buy_back": 0}
    world.open(EPOCH + 1)
    attack("trading", "set_mandate", mine, [wallet], **terms)
    metering = {**named, "attestation": addresses.attestation(METERING, EPOCH, 0)}
    metering["metered_before"] = addresses.metered(EPOCH - 1)
    world.attest_run(run)
    entries = b"".join(each for _, each in run.meters)
    meters = [AccountMeta(owner.meter, False, True) for owner, _ in run.meters]
    del metering["epoch"]
    batch = {"index": 0, "n": 2, "depth": 0, "rest": entries, "remaining": meters}
    attack("registry", "settle_meters", metering, **batch)
    proof = run.tree.proof(0)
    attack("trading", "commit_clearing", named, depth=len(proof), rest=b"".join(proof) + run.header)
    found["settle_batch"] = forged_copies(world, [world.settle_instruction(run)], [])
    attack("trading", "finalize_epoch", {name: at for name, at in named.items() if name != "attestation"})
    late = Run(LATE, EPOCH, 1, 2)
    world.attest_run(late)
    attack("registry", "begin_run", world.run_accounts(late), kind=LATE, run=1)
    swapped = {error for errors in found.values() for error in errors}
    assert {name: len(errors) for name, errors in found.items()} == {
        "attest": 4,
        "deposit": 7,
        "fund_account": 6,
        "revoke_mandate": 3,
        "set_mandate": 3,
        "settle_meters": 13,
        "commit_clearing": 5,
        "settle_batch": 6,
        "finalize_epoch": 9,
        "begin_run": 4,
    }
    assert swapped <= {"WrongAddress", "WrongOwner", "WrongRoot", FOREIGN_SOURCE}
    assert {name for name, errors in found.items() if FOREIGN_SOURCE in errors} == {"deposit", "fund_account"}


# ---- pauses


def test_an_instruction_to_a_paused_program(world: World):
    home = world.household("home", 1, THB)
    world.open(EPOCH)
    run = Run(CLEARING, EPOCH, 0, 1, [(home, metered(5, 0))], [(home, entry(5))])
    world.attest_run(run)
    world.meter(run)
    world.commit(run)
    world.settle(run)
    new = Household(key("new"), "MEA-new")
    wallet = new.wallet.pubkey()
    user = {"user": addresses.address_of_user(wallet)}
    world.call("registry", "register_user", {"wallet": wallet, **user}, signers=[new.wallet], user_type=1, zone=1)
    approval = {"authority": DEPLOYER.pubkey(), **user}
    owner = {"owner": wallet, **user, "meter": new.meter}
    meter = {"meter_type": 0, "zone": 1, "rating_w": 1, "device_key": wallet, "meter_id": new.meter_id}
    other = {"wallet": STRANGER.pubkey(), "user": addresses.address_of_user(STRANGER.pubkey())}
    authority = {"authority": DEPLOYER.pubkey()}
    oracles = {"threshold": 1, "oracles": [wallet]}

    def call(*args: Any, signer: Any = DEPLOYER, **values: Any) -> Any:
        return lambda: world.call(*args, signers=[signer], **values)

    refusing = {
        0: [
            call("governance", "set_oracles", authority, **oracles),
            call("governance", "propose_authority", authority, new=wallet),
        ],
        1: [
            call("registry", "register_user", other, signer=STRANGER, user_type=1, zone=1),
            call("registry", "approve_user", approval),
            call("registry", "register_meter", owner, signer=new.wallet, **meter),
            lambda: approve(world, new, EPOCH + 1),
            lambda: world.open(EPOCH + 1),
        ],
        2: [lambda: world.finalize(run), lambda: world.give(home, 1)],
        3: [lambda: world.finalize(run), lambda: world.open_trader(new)],
        4: [lambda: world.attest(METERING, EPOCH + 1, 0, bytes(32))],
    }
    guardian = {"guardian_or_authority": DEPLOYER.pubkey()}
    world.call("registry", "register_meter", owner, signers=[new.wallet], **meter)
    for number, calls in refusing.items():
        world.call("governance", "pause", guardian, signers=[DEPLOYER], program=number)
        for attempt in calls:
            refused("Paused", attempt)
        world.call("governance", "unpause", authority, signers=[DEPLOYER], program=number)
        world.at(world.svm.get_clock().unix_timestamp + 3_600)
    world.finalize(run)


# ---- overflows


def test_a_64_bit_overflow_at_each_multiplication_of_a_trade(world: World):
    price, wheeling = 7_000_000, 1_000_000
    sun = world.household("sun", sell_min=6_930_000, max_wh=U32_MAX)
    flat = world.household("flat", buy_max=8_000_000, max_wh=U32_MAX)
    for home in (sun, flat):
        world.change("trading", "Trader", home.trader, grid_wh=LIMIT - 1 - I32_MAX, thbc_uthb=2**60)
    world.open(EPOCH)
    traders = [(sun, entry(I32_MAX, -I32_MAX)), (flat, entry(-I32_MAX - 1, I32_MAX))]
    run = Run(CLEARING, EPOCH, 0, 1, traders=traders, zones=[Zone(1, price, wheeling)])
    world.prepare(run)
    world.settle(run)
    value = I32_MAX * price // 1_000
    cost = -(-I32_MAX * (price + wheeling) // 1_000)
    assert world.balances(sun) == (LIMIT - 1 - I32_MAX, 2**60 + value - value // 100, 0)
    assert world.balances(flat) == (LIMIT - 2 - I32_MAX, 2**60 - cost, 0)
    sums = world.read("trading", "Epoch", addresses.epoch(EPOCH))["sums"]
    assert (sums["sold_wh"], sums["bought_wh"], sums["cost_uthb"]) == (I32_MAX, I32_MAX, cost)
    assert sums["zone_wheeling_uthb"] == cost - I32_MAX * price // 1_000
    # nothing of it was metered
    refused("NetNotClosed", world.finalize, run)


@pytest.mark.parametrize("field", ["grid_wh", "thbc_uthb"])
def test_a_balance_driven_over_its_limit(field: str):
    street = Street()
    side = {"grid_wh": street.flat, "thbc_uthb": street.sun}[field]
    street.world.change("trading", "Trader", side.trader, **{"thbc_uthb": 2**60, field: LIMIT - 1})
    refused("BalanceOverflow", street.world.settle, street.prepared())


def test_a_64_bit_overflow_of_late_deficits_and_debts(world: World):
    home = world.household("home")
    world.open(EPOCH)
    world.play(Run(CLEARING, EPOCH, 0, 1))
    run = Run(LATE, EPOCH, 1, 2, traders=[(home, pack("<III", 7, U32_MAX, U32_MAX))])
    world.prepare(run)
    world.settle(run)
    billed = -(-(U32_MAX - 7) * 4_100_000 // 1_000) + -(-U32_MAX * 2_580_000 // 1_000)
    assert world.balances(home) == (0, 0, billed)
    refused("NetNotClosed", world.finalize, run)


def test_a_resettlement_entry_whose_sum_wraps_32_bits(world: World):
    a, _ = settled_pair(world)
    words = pack("<IIIII", 0, 5 | 1 << 31, 0, U32_MAX, 6)
    run = Run(RESETTLEMENT, OFF_PEAK, 1, 3, [(a, pack("<i", -5))], [(a, words)])
    world.prepare(run)
    refused("RefundNotClosed", world.settle, run)


def test_a_deposit_that_would_wrap_a_balance(world: World):
    home = world.household("home")
    world.change("trading", "Trader", home.trader, thbc_uthb=LIMIT - 1)
    refused("BalanceOverflow", world.deposit, home, 1)


# ---- limits and units


def test_attack_many_accounts_of_one_household_to_get_round_limits(world: World):
    """A wallet has one account, a meter one wallet; a second wallet makes no Wh more of one meter's."""
    home, second = world.household("home", 1, THB, EPOCH, sell_min=2_000_000), world.register("second", 1, EPOCH)
    refused("AlreadyExists", world.open_trader, home)
    world.open_trader(second)
    world.mandate(second, sell_min=2_000_000)
    buyer = world.household("buyer", 1, 40 * THB, EPOCH, buy_max=8_000_000)
    world.open(EPOCH)
    meters = [(home, metered(1_000, 0)), (second, metered(0, 0)), (buyer, metered(0, 2_000))]
    shared = [(home, entry(500, -500)), (second, entry(500, -500)), (buyer, entry(-2_000, 1_000))]
    run = Run(CLEARING, EPOCH, 0, 1, meters, shared, zones=[Zone(1, 3_000_000)])
    world.prepare(run)
    # oracles alone could split a surplus over two wallets, and it gives no Wh more; the second one alone sells nothing
    world.settle(run)
    world.finalize(run)
    assert [world.balances(each)[0] for each in (home, second, buyer)] == [0, 0, 0]
    world.open(EPOCH + 1)
    both = [(home, entry(1_000, -1_000)), (second, entry(1_000, -1_000)), (buyer, entry(-2_000, 2_000))]
    twice = Run(CLEARING, EPOCH + 1, 0, 2, meters, both, zones=[Zone(1, 3_000_000)])
    world.prepare(twice)
    world.settle(twice)
    refused("NetNotClosed", world.finalize, twice)


def test_attack_wh_read_as_kwh(world: World):
    """1 kWh is 1 000 units of GRID, a price is for a kWh, and a thousand times the energy is above any rating."""
    home = world.household("home", 1, 0, EPOCH, sell_min=2_000_000)
    buyer = world.household("buyer", 1, 10 * THB, EPOCH, buy_max=8_000_000)
    world.open(EPOCH)
    meters = [(home, metered(1_000, 0)), (buyer, metered(0, 1_000))]
    traders = [(home, entry(1_000, -1_000)), (buyer, entry(-1_000, 1_000))]
    world.play(Run(CLEARING, EPOCH, 0, 1, meters, traders, zones=[Zone(1, 3_000_000)]))
    assert world.balances(home)[1] == 3 * THB - 30_000
    assert world.balances(buyer)[1] == 7 * THB
    world.open(EPOCH + 1)
    # 60 kW × 15 min × 1.1 are 16 500 Wh: what is meant as 17 Wh and written as kWh is refused
    thousandfold = Run(CLEARING, EPOCH + 1, 0, 2, [(home, metered(17_000 * 1_000, 0))], [(home, entry(17_000_000))])
    world.attest_run(thousandfold)
    refused("AboveRating", world.meter, thousandfold)
