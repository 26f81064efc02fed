"""What the trading program refuses, each by its name: tampered batches, runs out of order, open sums, broken limits."""

from __future__ import annotations

from struct import pack
from typing import Any

import pytest
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from tests.chain.svm import CLEARING, EPOCH, GUARDIAN, LATE, RESETTLEMENT, Chain, ProgramFailedError, key
from tests.chain.trading_world import BUY_BACK, HALTED, SELL, THB, Household, Run, World, Zone, order

STRANGER = key("stranger")


def refused(name: str, call, *args, **kwargs) -> None:
    with pytest.raises(ProgramFailedError) as failure:
        call(*args, **kwargs)
    assert failure.value.name == name


class Street:
    """Two households in an open epoch: `sun` has 1 000 Wh, `flat` lacks 1 000 and buys 600 of them at 3.00 + 0.10."""

    def __init__(self, **mandates: int) -> None:
        self.world = World()
        self.sun = self.world.household("sun", 1, 0, EPOCH, sell_min=mandates.get("sell_min", 2_970_000), max_wh=600)
        self.flat = self.world.household(
            "flat", 1, mandates.get("thbc", 10 * THB), EPOCH, buy_max=mandates.get("buy_max", 3_100_000), max_wh=600
        )
        self.world.open(EPOCH)

    def run(self, sold: int = 600, bought: int = 600, **changed: Any) -> Run:
        terms: dict[str, Any] = {
            "meters": [(self.sun, pack("<II", 1_000, 0)), (self.flat, pack("<II", 0, 1_000))],
            "traders": [(self.sun, pack("<ii", 1_000, -sold)), (self.flat, pack("<ii", -1_000, bought))],
            "zones": [Zone(1, 3_000_000, 100_000)],
        }
        return Run(CLEARING, changed.pop("epoch", EPOCH), 0, changed.pop("seq", 1), **terms | changed)

    def prepared(self, **changed: Any) -> Run:
        run = self.run(**changed)
        self.world.prepare(run)
        return run


def test_the_street_s_own_run_is_accepted():
    street = Street()
    run = street.prepared()
    street.world.settle(run)
    street.world.finalize(run)
    street.world.assert_laws([street.sun, street.flat])


def test_a_batch_with_any_byte_or_account_changed_does_not_lead_to_the_root():
    street = Street()
    world, run = street.world, street.prepared(traders_per_batch=1)
    data = bytes(world.settle_instruction(run).data)
    untouched = world.balances(street.sun)
    for at in range(12, len(data)):
        bad = bytearray(data)
        bad[at] ^= 1
        refused("WrongRoot", world.settle, run, rest=bytes(bad[12:]))
    refused("WrongRoot", world.settle, run, accounts=[street.flat.trader])
    refused("WrongRoot", world.settle, run, index=run.first_trading + 1)
    refused("WrongAccountCount", world.settle, run, accounts=[street.sun.trader, street.flat.trader])
    refused("InvalidData", world.settle, run, n=2)
    refused("InvalidData", world.settle, run, n=0)
    refused("BatchIndexOutOfRange", world.settle, run, index=0)
    refused("BatchIndexOutOfRange", world.settle, run, index=3)
    assert world.balances(street.sun) == untouched


def test_a_batch_settles_once_and_its_bit_says_so_first():
    street = Street()
    run = street.prepared()
    street.world.settle(run)
    once = street.world.balances(street.flat)
    refused("AlreadySettled", street.world.settle, run)
    assert street.world.balances(street.flat) == once
    street.world.finalize(run)
    refused("WrongStatus", street.world.settle, run)
    refused("WrongStatus", street.world.finalize, run)
    refused("WrongStatus", street.world.commit, run)


def test_a_trader_has_one_entry_a_run_in_one_batch_or_two():
    street = Street()
    once, again = (street.sun, pack("<ii", 1_000, 0)), (street.sun, pack("<ii", 0, 0))
    run = street.prepared(traders=[once, again], zones=[])
    refused("DuplicateEntry", street.world.settle, run)
    street = Street()
    run = street.prepared(traders=[once, again], zones=[], traders_per_batch=1)
    street.world.settle(run, 0)
    refused("DuplicateEntry", street.world.settle, run, 1)


@pytest.mark.parametrize(
    ("mandates", "changed", "error"),
    [
        ({}, {"bought": 601}, "OutsideLimits"),
        ({}, {"sold": 601}, "OutsideLimits"),
        ({"buy_max": 3_090_000}, {}, "OutsideLimits"),
        ({"sell_min": 2_980_000}, {}, "OutsideLimits"),
        ({"buy_max": 0}, {}, "OutsideLimits"),
        ({"sell_min": 0}, {}, "OutsideLimits"),
        ({"thbc": 1_859_999}, {}, "InsufficientThbc"),
        ({}, {"zones": []}, "NoPrice"),
        ({}, {"zones": [Zone(2, 3_000_000)]}, "NoPrice"),
        ({}, {"zones": [Zone(1, 0)], "flags": HALTED}, "NoPrice"),
    ],
)
def test_nobody_trades_beyond_mandate_balance_or_price(mandates: dict, changed: dict, error: str):
    street = Street(**mandates)
    run = street.prepared(**changed)
    refused(error, street.world.settle, run)


def test_a_sale_of_more_than_is_held_is_refused():
    street = Street()
    signed = order(EPOCH, SELL, 600, 2_970_000)
    run = street.prepared(
        meters=[(street.sun, pack("<II", 599, 0)), (street.flat, pack("<II", 0, 1_000))],
        traders=[(street.sun, pack("<ii", 599, -600)), (street.flat, pack("<ii", -1_000, 600))],
        orders=[(street.sun, signed)],
    )
    refused("InsufficientGrid", street.world.settle, run)


@pytest.mark.parametrize("household", ["sun", "flat"])
def test_attack_oracles_trade_a_mandate_beyond_the_net_energy_it_is_for(household: str):
    """A mandate becomes an order for what the wallet's net energy is; k oracles may not make it a licence to trade."""
    street = Street(thbc=100 * THB)
    net = {"sun": (1_000, 0), "flat": (0, 1_000)} | {household: (400, 0) if household == "sun" else (0, 400)}
    entries = {"sun": pack("<ii", net["sun"][0], -600), "flat": pack("<ii", -net["flat"][1], 600)}
    homes = {"sun": street.sun, "flat": street.flat}
    for home in homes.values():
        street.world.change("trading", "Trader", home.trader, grid_wh=5_000)
    run = street.prepared(
        meters=[(homes[name], pack("<II", *net[name])) for name in homes],
        traders=[(homes[name], entries[name]) for name in homes],
    )
    refused("OutsideLimits", street.world.settle, run)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"traders": "net of sun 999"}, "NetNotClosed"),
        ({"sold": 599}, "TradesNotClosed"),
        ({"lost": 1}, "TradesNotClosed"),
        ({"rent": 1}, "ChargesNotClosed"),
        ({"link_wheeling": 1}, "ChargesNotClosed"),
        ({"link_wheeling": 1_000_000, "rent": -1_000_000}, None),
        ({"link_wheeling": 0, "rent": 0}, None),
    ],
)
def test_sums_that_do_not_close_are_refused_at_the_end(changed: dict, error: str | None):
    street = Street()
    if isinstance(changed.get("traders"), str):
        changed = {"traders": [(street.sun, pack("<ii", 999, -600)), (street.flat, pack("<ii", -1_000, 600))]}
    run = street.prepared(**changed)
    street.world.settle(run)
    if error is None:
        street.world.finalize(run)
    else:
        refused(error, street.world.finalize, run)


def test_a_negative_rent_needs_the_grid_operator_s_funds():
    world = World()
    near = world.household("near", 1, 0, EPOCH, sell_min=2_500_000)
    far = world.household("far", 2, 10 * THB, EPOCH, buy_max=3_000_000)
    world.open(EPOCH)
    run = Run(
        CLEARING,
        EPOCH,
        0,
        1,
        meters=[(near, pack("<II", 1_000, 0)), (far, pack("<II", 0, 1_000))],
        traders=[(near, pack("<ii", 1_000, -600)), (far, pack("<ii", -1_000, 600))],
        zones=[Zone(1, 3_000_000), Zone(2, 2_950_000)],
        rent=-30_000,
    )
    world.prepare(run)
    world.settle(run)
    refused("GridOperatorNotCovered", world.finalize, run)
    world.fund(far, 2, 30_000)
    world.finalize(run)
    assert world.market()["grid_operator_thbc_uthb"] == 0
    world.assert_laws([near, far])


def test_every_batch_of_both_programs_must_be_applied():
    street = Street()
    world, run = street.world, street.run(traders_per_batch=1, meters_per_batch=1)
    world.attest_run(run)
    refused("MeteringIncomplete", world.commit, run)
    world.meter(run)
    world.commit(run)
    world.settle(run, 1)
    refused("RunIncomplete", world.finalize, run)
    world.settle(run, 0)
    world.finalize(run)
    short = Street()
    run = short.run(registry_batches=2)
    short.world.attest_run(run)
    short.world.meter(run)
    refused("MeteringIncomplete", short.world.commit, run)


def test_runs_go_in_the_order_of_their_seq_and_epochs():
    street = Street()
    world, first = street.world, street.prepared()
    world.open(EPOCH + 1)
    world.open(EPOCH + 2)
    meters = [(street.sun, pack("<II", 1, 0)), (street.flat, pack("<II", 0, 1))]
    quiet = {"meters": meters, "traders": [(street.sun, pack("<ii", 1, 0)), (street.flat, pack("<ii", -1, 0))]}
    second = street.prepared(seq=2, epoch=EPOCH + 1, **quiet)
    refused("SeqOutOfOrder", world.settle, second)
    refused("SeqOutOfOrder", world.finalize, second)
    world.settle(first)
    world.finalize(first)
    refused("SeqOutOfOrder", street.prepared, seq=1, epoch=EPOCH + 2, **quiet)
    jumped = Street()
    jumped.world.open(EPOCH + 1)
    run = Run(CLEARING, EPOCH + 1, 0, 1)
    jumped.world.prepare(run)
    refused("EpochOutOfOrder", jumped.world.finalize, run)


def test_late_and_resettlement_runs_follow_the_finalised_one():
    street = Street()
    world, run = street.world, street.prepared()
    late = Run(LATE, EPOCH, 1, 2)
    world.attest_run(late)
    refused("RunOutOfOrder", world.begin, late)
    refused("WrongStatus", world.commit, late)
    world.settle(run)
    world.finalize(run)
    refused("MeteringIncomplete", world.commit, late)
    world.begin(late)
    other = Run(RESETTLEMENT, EPOCH, 1, 2)
    world.attest_run(other)
    # there is no epoch before the first: nothing of it can be corrected
    refused("EpochClosed", world.commit, other)
    third = Run(LATE, EPOCH, 2, 3)
    world.attest_run(third)
    refused("RunOutOfOrder", world.commit, third)
    world.commit(late)
    world.finalize(late)
    world.begin(third)
    world.commit(third)
    world.finalize(third)
    assert world.market()["finalized_seq"] == 3


def test_a_batch_of_another_kind_is_refused():
    street = Street()
    run = street.prepared()
    entries = pack("<III", 0, 0, 0) * 2
    named = street.world.batch_accounts(run)
    args = {"index": 1, "n": 2, "depth": 0, "rest": entries}
    refused("WrongKind", street.world.call, "trading", "settle_late_batch", named, **args)


def test_an_attestation_of_another_run_or_not_final_is_refused():
    street = Street()
    world, run = street.world, street.prepared()
    foreign = Run(LATE, EPOCH, 1, 2)
    world.attest_run(foreign)
    named = world.batch_accounts(run)
    named["attestation"] = addresses.attestation(LATE, EPOCH, 1)
    built = world.settle_instruction(run)
    args = {"index": 1, "n": 2, "depth": 1, "rest": bytes(built.data[12:])}
    remaining = list(built.accounts[4:])
    refused("WrongAttestation", world.call, "trading", "settle_batch", named, remaining, **args)
    lone = Street()
    run = lone.run()
    lone.world.attest(CLEARING, EPOCH, 0, run.tree.root, oracles=[key("oracle 0")])
    lone.world.attest(0, EPOCH, 0, run.metering_tree.root)
    lone.world.meter(run)
    refused("NotFinal", lone.world.commit, run)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"zones": [Zone(0, 3_000_000)]}, "InvalidHeader"),
        ({"zones": [Zone(64, 3_000_000)]}, "InvalidHeader"),
        ({"zones": [Zone(2, 3_000_000), Zone(1, 3_000_000)]}, "InvalidHeader"),
        ({"zones": [Zone(1, 1 << 23)]}, "InvalidHeader"),
        ({"zones": [Zone(1, 3_000_000, 1_000_001)]}, "WheelingAboveCap"),
        ({"flags": 4}, "InvalidHeader"),
        ({"flags": HALTED}, "InvalidHeader"),
        ({"flags": HALTED | BUY_BACK, "zones": []}, "InvalidHeader"),
        ({"lost": 1 << 62}, "InvalidHeader"),
        ({"rent": -(1 << 62)}, "InvalidHeader"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(changed: dict, error: str):
    street = Street()
    run = street.run(**changed)
    street.world.attest_run(run)
    street.world.meter(run)
    refused(error, street.world.commit, run)


def test_a_late_header_has_nothing_to_do_with_trades_and_no_byte_too_many():
    street = Street()
    run = street.prepared()
    street.world.settle(run)
    street.world.finalize(run)
    late = Run(LATE, EPOCH, 1, 2, flags=BUY_BACK)
    street.world.attest_run(late)
    street.world.begin(late)
    refused("InvalidHeader", street.world.commit, late)


def test_a_forged_trader_market_or_epoch_account_is_refused():
    street = Street()
    world = street.world
    forged = Pubkey.new_unique()
    mine = world.svm.get_account(street.sun.trader)
    world.put(forged, STRANGER.pubkey(), bytes(mine.data))
    twin = Household(street.sun.wallet, street.sun.meter_id)
    run = street.prepared()
    refused("WrongRoot", world.settle, run, accounts=[forged, street.flat.trader])
    args = {"index": 1, "n": 2, "depth": 1, "rest": bytes(world.settle_instruction(run).data[12:])}
    remaining = list(world.settle_instruction(run).accounts[4:])
    named = world.batch_accounts(run)
    call = lambda **other: world.call("trading", "settle_batch", {**named, **other}, remaining, **args)  # noqa: E731
    refused("WrongAddress", call, market=forged)
    refused("WrongAddress", call, governance=forged)
    refused("WrongOwner", call, epoch=forged)
    refused("WrongLength", call, epoch=twin.trader)
    refused("WrongOwner", call, attestation=forged)


def test_a_paused_program_does_nothing_for_anybody():
    street = Street()
    world, run = street.world, street.prepared()
    named = {"guardian_or_authority": GUARDIAN.pubkey()}
    world.call("governance", "pause", named, signers=[GUARDIAN], program=3)
    for call in (
        lambda: world.settle(run),
        lambda: world.finalize(run),
        lambda: world.deposit(street.flat, 1),
        lambda: world.fund(street.flat, 0, 1),
        lambda: world.mandate(street.flat),
        lambda: world.open(EPOCH + 1),
        lambda: world.call("trading", "revoke_mandate", wallet_of(street.flat), signers=[street.flat.wallet]),
    ):
        refused("Paused", call)


def wallet_of(home: Household) -> dict[str, Pubkey]:
    return {"wallet": home.wallet.pubkey(), "trader": home.trader}


def test_an_unknown_instruction_is_named_as_such():
    world = World()
    unknown = Instruction(addresses.program_id("trading"), b"\xff" * 8, [])
    with pytest.raises(ProgramFailedError) as failure:
        world.send(unknown)
    assert "InvalidInstructionData" in failure.value.name
    refused("InvalidData", world.send, Instruction(addresses.program_id("trading"), b"\xff" * 7, []))


def test_only_the_deployer_initialises_and_only_once():
    world = World()
    refused("AlreadyExists", world.initialize_market, 1)
    refused("Unauthorised", world.initialize_market, 1, STRANGER)
    market = world.market()
    assert (market["network"], market["time_mode"], market["bump"]) == (3, 1, 255)
    assert (market["grid_mint"], market["thbc_mint"]) == (addresses.grid_mint(), addresses.thbc_mint())
    assert (market["grid_vault"], market["thbc_vault"]) == (addresses.grid_vault(), addresses.thbc_vault())


def test_lamports_sent_to_its_addresses_before_do_not_block_the_market_or_a_trader():
    chain = World.__new__(World)
    Chain.__init__(chain)
    chain.initialize_governance()
    chain.initialize_tokens()
    for address in (addresses.market(), addresses.grid_vault(), addresses.thbc_vault()):
        chain.svm.airdrop(address, 1_000_000)
    refused("InvalidData", chain.initialize_market, 2)
    chain.initialize_market(1)
    assert chain.market()["time_mode"] == 1
