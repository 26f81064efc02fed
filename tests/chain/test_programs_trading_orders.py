"""Households at the trading program: accounts, deposits, mandates over time, and signed orders recorded once."""

from __future__ import annotations

from struct import pack

import pytest
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from tests.chain.svm import CLEARING, DEPLOYER, EPOCH, START, ProgramFailedError, key
from tests.chain.trading_world import BUY, SELL, THB, Household, Run, World, Zone, ed25519, order

NEVER = 2**32 - 1


def refused(name: str, call, *args, **kwargs) -> None:
    with pytest.raises(ProgramFailedError) as failure:
        call(*args, **kwargs)
    assert failure.value.name == name


@pytest.fixture
def world() -> World:
    return World()


# ---- accounts and deposits


def test_anyone_opens_the_trader_of_an_active_user_and_only_at_its_own_address(world: World):
    home, other = world.register("home", 3, EPOCH), world.register("other", 1, EPOCH)
    user = addresses.address_of_user(home.wallet.pubkey())
    refused("WrongAddress", world.call, "trading", "open_trader", {"trader": other.trader, "user": user})
    own = addresses.address_of_user(other.wallet.pubkey())
    refused("WrongAddress", world.call, "trading", "open_trader", {"trader": home.trader, "user": own})
    suspended = {"authority": DEPLOYER.pubkey(), "user": own}
    world.call("registry", "set_user_status", suspended, signers=[DEPLOYER], status=2)
    refused("UserNotActive", world.open_trader, other)
    # lamports sent to the address before don't block it
    world.svm.airdrop(home.trader, 1_000)
    world.open_trader(home)
    found = world.read("trading", "Trader", home.trader)
    assert (found["owner"], found["zone"], found["grid_wh"], found["thbc_uthb"]) == (home.wallet.pubkey(), 3, 0, 0)
    refused("AlreadyExists", world.open_trader, home)
    assert world.market()["traders"] == 1


def test_a_deposit_is_paid_in_thbc_and_in_nothing_else(world: World):
    home = world.household("home", 1, 5 * THB)
    assert world.balances(home) == (0, 5 * THB, 0)
    assert world.token_amount(addresses.thbc_vault()) == 5 * THB
    worthless, fake = Pubkey.new_unique(), Pubkey.new_unique()
    world.put(worthless, addresses.TOKEN_2022, bytes(world.svm.get_account(addresses.thbc_mint()).data))
    world.plant_token_account(fake, worthless, home.wallet.pubkey(), 100 * THB)
    named = {"wallet": home.wallet.pubkey(), "trader": home.trader, "source": fake}
    call = lambda **more: world.call(  # noqa: E731
        "trading", "deposit", {**named, **more}, signers=[home.wallet], amount=1 * THB
    )
    with pytest.raises(ProgramFailedError):
        call()
    refused("WrongAddress", call, thbc_mint=worthless)
    refused("WrongAddress", call, thbc_vault=fake)
    with pytest.raises(ProgramFailedError):
        call(source=addresses.thbc_vault())
    refused("ZeroAmount", world.call, "trading", "deposit", named, signers=[home.wallet], amount=0)
    assert world.balances(home) == (0, 5 * THB, 0)


def test_nobody_deposits_revokes_or_sets_a_mandate_for_another(world: World):
    home, other = world.household("home", 1), world.household("other", 1)
    world.give(other, THB)
    named = {"wallet": other.wallet.pubkey(), "trader": home.trader}
    cash = {**named, "source": other.cash}
    refused("Unauthorised", world.call, "trading", "deposit", cash, signers=[other.wallet], amount=1)
    refused("Unauthorised", world.call, "trading", "revoke_mandate", named, signers=[other.wallet])
    terms = {"sell_min": 0, "buy_max": 0, "max_wh": 0, "expiry_epoch": NEVER, "buy_back": 0}
    refused("Unauthorised", world.call, "trading", "set_mandate", named, signers=[other.wallet], **terms)


def test_market_accounts_are_three(world: World):
    home = world.household("home", 1)
    for account, field in enumerate(("supplier", "platform", "grid_operator")):
        world.fund(home, account, 7)
        assert world.market()[f"{field}_thbc_uthb"] == 7
    refused("InvalidData", world.fund, home, 3, 7)
    world.assert_laws([home])


# ---- mandates


@pytest.mark.parametrize(
    "terms",
    [
        {"sell_min": 2_000_001},
        {"sell_min": 1_990_000},
        {"buy_max": 8_010_000},
        {"buy_back": 2},
        {"buy_max": 3_000_000, "expiry_epoch": EPOCH + 1},
    ],
)
def test_a_mandate_off_the_tick_out_of_the_band_or_already_over_is_refused(world: World, terms: dict):
    home = world.household("home", 1)
    world.open(EPOCH)
    refused("InvalidMandate", world.mandate, home, **terms)


def mandates(world: World, home: Household) -> list[tuple[int, int, int]]:
    found = world.read("trading", "Trader", home.trader)
    return [(each["effective_epoch"], each["end_epoch"], each["buy_max"]) for each in (found["current"], found["next"])]


def test_a_mandate_acts_from_the_next_epoch_and_waits_while_the_one_before_is_unsettled(world: World):
    home = world.household("home", 1)
    none = (NEVER, 0, 0)
    world.open(EPOCH)
    world.mandate(home, buy_max=3_000_000)
    assert mandates(world, home) == [none, (EPOCH + 1, NEVER, 3_000_000)]
    found = world.read("trading", "Trader", home.trader)["next"]
    assert (found["set_at"], found["max_wh"], found["is_set"]) == (START + 900, 10_000, 1)
    world.mandate(home, buy_max=3_100_000)
    assert mandates(world, home) == [none, (EPOCH + 1, NEVER, 3_100_000)]
    world.open(EPOCH + 1)
    refused("MandatePending", world.mandate, home, buy_max=3_200_000)
    world.play(Run(CLEARING, EPOCH, 0, 1))
    world.mandate(home, buy_max=3_200_000)
    assert mandates(world, home) == [(EPOCH + 1, NEVER, 3_100_000), (EPOCH + 2, NEVER, 3_200_000)]


def test_a_mandate_changed_after_the_gate_does_not_touch_the_epoch_behind_it(world: World):
    seller = world.household("seller", 1, 0, EPOCH, sell_min=2_000_000)
    buyer = world.household("buyer", 1, 10 * THB, EPOCH, buy_max=4_000_000)
    world.open(EPOCH)
    world.open(EPOCH + 1)
    revoke = {"wallet": buyer.wallet.pubkey(), "trader": buyer.trader}
    world.call("trading", "revoke_mandate", revoke, signers=[buyer.wallet])
    world.mandate(seller, sell_min=8_000_000)
    run = traded(EPOCH, 1, seller, buyer)
    world.play(run)
    world.prepare(behind := traded(EPOCH + 1, 2, seller, buyer))
    world.settle(behind)
    world.finalize(behind)
    world.open(EPOCH + 2)
    world.prepare(ahead := traded(EPOCH + 2, 3, seller, buyer))
    refused("OutsideLimits", world.settle, ahead)
    idle = world.household("idle", 1, first_epoch=EPOCH + 3)
    none = {"wallet": idle.wallet.pubkey(), "trader": idle.trader}
    refused("NoMandate", world.call, "trading", "revoke_mandate", none, signers=[idle.wallet])


def traded(epoch: int, seq: int, seller: Household, buyer: Household) -> Run:
    meters = [(seller, pack("<II", 100, 0)), (buyer, pack("<II", 0, 100))]
    traders = [(seller, pack("<ii", 100, -100)), (buyer, pack("<ii", -100, 100))]
    return Run(CLEARING, epoch, 0, seq, meters, traders, zones=[Zone(1, 3_000_000)])


# ---- orders


class Recording:
    """An epoch committed with these orders of one household, none recorded yet."""

    def __init__(self, world: World, *messages: bytes) -> None:
        self.world = world
        self.home = world.household("home", 1, 100 * THB, EPOCH)
        world.open(EPOCH)
        orders = [(self.home, message) for message in messages]
        self.run = Run(CLEARING, EPOCH, 0, 1, [(self.home, pack("<II", 0, 0))], orders=orders)
        world.attest_run(self.run)
        world.meter(self.run)
        world.commit(self.run)

    def record(self, i: int = 0) -> None:
        self.world.send(*self.world.record_instructions(self.run, i))

    def slots(self) -> list[tuple[int, int, int]]:
        found = self.world.read("trading", "Trader", self.home.trader)["slots"]
        return [(slot["side"], slot["limit"], slot["energy_wh"]) for slot in found if slot["used"]]


def test_an_order_is_recorded_once_and_equal_ones_add_up(world: World):
    it = Recording(
        world,
        order(EPOCH, BUY, 500, 3_000_000),
        order(EPOCH, BUY, 70, 3_000_000, nonce=49),
        order(EPOCH, SELL, 9, 3_000_000, nonce=2),
    )
    for i in (1, 0, 2):
        it.record(i)
        refused("OrderAlreadyRecorded", it.record, i)
    assert it.slots() == [(BUY, 3_000_000, 570), (SELL, 3_000_000, 9)]


def test_where_slots_run_out_two_of_one_side_merge_at_the_stricter_limit(world: World):
    limits = [3_000_000 + 100_000 * n for n in range(8)]
    messages = [order(EPOCH, BUY, 10, limit, nonce=n) for n, limit in enumerate(limits)]
    it = Recording(
        world, *messages, order(EPOCH, BUY, 5, 3_310_000, nonce=8), order(EPOCH, SELL, 5, 3_000_000, nonce=9)
    )
    for i in range(9):
        it.record(i)
    assert it.slots() == [(BUY, limit, 15 if limit == 3_300_000 else 10) for limit in limits]
    refused("NoSlot", it.record, 9)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (order(EPOCH, BUY, 10, 3_000_000, network=1), "InvalidOrder"),
        (order(EPOCH, BUY, 10, 3_000_000, market=Pubkey.default()), "InvalidOrder"),
        (order(EPOCH + 1, BUY, 10, 3_000_000), "InvalidOrder"),
        (order(EPOCH, 2, 10, 3_000_000), "InvalidOrder"),
        (order(EPOCH, BUY, 0, 3_000_000), "InvalidOrder"),
        (order(EPOCH, BUY, 1_000_001, 3_000_000), "InvalidOrder"),
        (order(EPOCH, BUY, 10, 3_000_001), "InvalidOrder"),
        (order(EPOCH, BUY, 10, 3_000_000, nonce=50), "InvalidOrder"),
        (order(EPOCH, BUY, 10, 8_390_000), "PriceOutOfBand"),
        (b"gridtokenx/cancel/v1\0" + order(EPOCH, BUY, 10, 3_000_000)[21:], "InvalidOrder"),
        (order(EPOCH, BUY, 10, 3_000_000) + b"\0", "InvalidOrderSignature"),
    ],
)
def test_an_order_of_another_network_market_or_epoch_or_out_of_its_bounds_is_refused(
    world: World, message: bytes, error: str
):
    it = Recording(world, message)
    refused(error, it.record)
    assert it.slots() == []


def test_an_order_needs_the_owner_s_signature_right_before_it_and_a_leaf_of_the_root(world: World):
    good = order(EPOCH, BUY, 10, 3_000_000)
    it = Recording(world, good)
    proof, recorded = world.record_instructions(it.run, 0)
    thief = key("thief")
    forged = ed25519(bytes(thief.pubkey()), bytes(thief.sign_message(good)), good)
    refused("InvalidOrderSignature", world.send, recorded)
    refused("InvalidOrderSignature", world.send, forged, recorded)
    refused("InvalidOrderSignature", world.send, proof, forged, recorded)
    # a signature over other bytes than those that the offsets name to the program
    elsewhere = bytearray(proof.data)
    elsewhere[14:16] = pack("<H", 0)
    refused("InvalidOrderSignature", world.send, proof, Instruction(proof.program_id, bytes(elsewhere), []), recorded)
    unfilled = order(EPOCH, BUY, 11, 3_000_000)
    signed = ed25519(bytes(it.home.wallet.pubkey()), bytes(it.home.wallet.sign_message(unfilled)), unfilled)
    refused("WrongRoot", world.send, signed, recorded)
    assert it.slots() == []
    world.send(proof, recorded)
    assert it.slots() == [(BUY, 3_000_000, 10)]


def test_orders_are_recorded_between_commitment_and_finalisation_only(world: World):
    it = Recording(world, order(EPOCH, BUY, 10, 3_000_000), order(EPOCH, BUY, 10, 3_000_000, nonce=1))
    it.record(0)
    world.finalize(it.run)
    refused("WrongStatus", it.record, 1)
    # the slot of a settled epoch is free again, and the nonces of the next start anew
    world.open(EPOCH + 1)
    again = Run(CLEARING, EPOCH + 1, 0, 2, orders=[(it.home, order(EPOCH + 1, SELL, 3, 2_000_000))])
    world.prepare(again)
    assert it.slots() == [(SELL, 2_000_000, 3)]
