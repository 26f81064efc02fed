"""What is stuck is voided, what is over is closed: empty, in order, for good, and nothing half done is ever cut off."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack
from typing import Any

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from tests.chain.svm import (
    CLEARING,
    DEPLOYER,
    EPOCH,
    LATE,
    METERING,
    RESETTLEMENT,
    START,
    ProgramFailedError,
    Receipt,
    key,
)
from tests.chain.trading_world import THB, Household, Run, World

DAY = 96
VOID_FLAG, VOID_KIND = 1 << 15, 4


@pytest.fixture
def world() -> World:
    return World()


def refused(name: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    with pytest.raises(ProgramFailedError) as failure:
        call(*args, **kwargs)
    assert failure.value.name == name


def header_of(run: Run | None) -> dict[str, Any]:
    if run is None:
        return {"depth": 0, "rest": b""}
    proof = run.tree.proof(0)
    return {"depth": len(proof), "rest": b"".join(proof) + run.header}


def void_epoch(world: World, epoch: int, run: Run | None = None, authority: Keypair = DEPLOYER) -> Receipt:
    named = {
        "authority": authority.pubkey(),
        "epoch": addresses.epoch(epoch),
        "metered": addresses.metered(epoch),
        "attestation": addresses.attestation(CLEARING, epoch, 0),
    }
    return world.call("trading", "void_epoch", named, signers=[authority], **header_of(run))


def void_run(world: World, run: Run, header: bool = True, authority: Keypair = DEPLOYER) -> Receipt:
    named = {"authority": authority.pubkey(), **world.run_accounts(run)}
    arguments = header_of(run if header else None)
    return world.call("trading", "void_run", named, signers=[authority], kind=run.kind, run=run.run, **arguments)


def metered(production: int, consumption: int) -> bytes:
    return pack("<II", production, consumption)


def single(epoch: int, seq: int, home: Household, wh: int) -> Run:
    meters = [(home, metered(max(wh, 0), max(-wh, 0)))]
    return Run(CLEARING, epoch, 0, seq, meters, [(home, pack("<ii", wh, 0))])


def late_run(epoch: int, run: int, seq: int, home: Household, wh: int) -> Run:
    meters = [(home, pack("<IIII", epoch, wh, 0, wh))]
    return Run(LATE, epoch, run, seq, meters, [(home, pack("<III", wh, 0, 0))])


def opened(world: World, last: int) -> None:
    for epoch in range(EPOCH, last + 1):
        world.open(epoch)


def test_a_stuck_epoch_and_those_over_by_then_are_void_and_late_entries_settle_their_energy(world: World):
    home = world.household("home", 1, 10 * THB, EPOCH)
    opened(world, EPOCH + DAY)
    refused("NotVoidable", void_epoch, world, EPOCH)
    world.open(EPOCH + DAY + 1)
    refused("Unauthorised", void_epoch, world, EPOCH, None, key("stranger"))
    refused("EpochOutOfOrder", void_epoch, world, EPOCH + 1)
    world.request(home, 1 * THB)
    for epoch in range(EPOCH, EPOCH + DAY + 1):
        void_epoch(world, epoch)
    refused("NotVoidable", void_epoch, world, EPOCH + DAY + 1)
    market = world.market()
    assert (market["settled_through"], market["finalized_seq"]) == (EPOCH + DAY, 0)
    found = world.read("trading", "Epoch", addresses.epoch(EPOCH))
    assert (found["status"], found["flags"], found["seq"]) == (2, VOID_FLAG, 0)
    assert world.read("registry", "Metered", addresses.metered(EPOCH))["kind"] == VOID_KIND
    world.play(late_run(EPOCH + DAY, 1, 1, home, 5_000))
    world.play(single(EPOCH + DAY + 1, 2, home, -1_000))
    assert world.balances(home) == (4_000, 10 * THB, 0)
    world.withdraw(home)
    world.assert_laws([home])


def test_by_the_chain_s_clock_an_epoch_is_stuck_a_day_after_its_gate():
    world = World(time_mode=0)
    world.open(EPOCH)
    world.at(START + 900 + 86_399)
    refused("NotVoidable", void_epoch, world, EPOCH)
    world.at(START + 900 + 86_400)
    void_epoch(world, EPOCH)
    assert world.market()["settled_through"] == EPOCH


def test_a_booked_epoch_uses_its_seq_and_can_never_be_settled_after(world: World):
    home = world.household("home", 1, 10 * THB, EPOCH)
    opened(world, EPOCH + DAY + 1)
    run = single(EPOCH, 1, home, 1_000)
    world.attest_run(run)
    forged = Run(CLEARING, EPOCH, 0, 1, flags=1)
    refused("WrongRoot", void_epoch, world, EPOCH, forged)
    void_epoch(world, EPOCH, run)
    assert world.market()["finalized_seq"] == 1
    refused("WrongKind", world.meter, run)
    refused("WrongStatus", world.commit, run)
    refused("WrongStatus", void_epoch, world, EPOCH, run)
    refused("WrongStatus", world.settle, run)
    # the epoch after it was booked too: seq 2
    after = single(EPOCH + 1, 2, home, 1_000)
    world.attest_run(after)
    refused("MeterOutOfOrder", world.meter, after)
    void_epoch(world, EPOCH + 1, after)
    assert world.market()["finalized_seq"] == 2
    world.play(late_run(EPOCH + 1, 1, 3, home, 2_000))
    assert world.balances(home)[0] == 2_000
    world.assert_laws([home])


def test_attack_an_epoch_with_a_batch_of_metering_or_clearing_applied_is_voided(world: World):
    home = world.household("home", 1, 10 * THB, EPOCH)
    opened(world, EPOCH + DAY + 1)
    run = single(EPOCH, 1, home, 1_000)
    world.attest_run(run)
    world.meter(run)
    refused("NotVoidable", void_epoch, world, EPOCH)
    refused("NotVoidable", void_epoch, world, EPOCH, run)
    world.commit(run)
    refused("NotVoidable", void_epoch, world, EPOCH)
    world.settle(run)
    refused("NotVoidable", void_epoch, world, EPOCH)
    world.finalize(run)
    refused("WrongStatus", void_epoch, world, EPOCH)
    world.assert_laws([home])


def test_attack_voiding_an_epoch_takes_the_turn_of_a_half_applied_run(world: World):
    """A run that lost its seq could never be finished: its tokens are minted and in nobody's balance."""
    homes = [world.household(f"home {i}", 1, 0, EPOCH) for i in range(2)]
    other = world.household("other", 1, 0, EPOCH)
    opened(world, EPOCH + DAY + 2)
    world.play(single(EPOCH, 1, other, 0))
    meters = [(home, pack("<IIII", EPOCH, 100, 0, 100)) for home in homes]
    traders = [(home, pack("<III", 100, 0, 0)) for home in homes]
    late = Run(LATE, EPOCH, 1, 2, meters, traders, traders_per_batch=1)
    world.prepare(late)
    world.settle(late, 0)
    after = single(EPOCH + 1, 3, other, 0)
    world.attest_run(after)
    refused("SeqOutOfOrder", void_epoch, world, EPOCH + 1, after)
    refused("NotVoidable", void_run, world, late)
    void_epoch(world, EPOCH + 1)  # without its header it takes no turn
    world.settle(late, 1)
    world.finalize(late)
    assert world.market()["finalized_seq"] == 2
    world.assert_laws([*homes, other])


def test_a_late_run_is_voided_with_its_seq_and_the_next_goes_on(world: World):
    home = world.household("home", 1, 0, EPOCH)
    opened(world, EPOCH + DAY + 1)
    world.play(Run(CLEARING, EPOCH, 0, 1))
    late = late_run(EPOCH, 1, 2, home, 500)
    refused("WrongOwner", void_run, world, late)
    world.attest(LATE, EPOCH, 1, late.tree.root, [])
    world.attest_run(late)
    refused("Unauthorised", void_run, world, late, True, key("stranger"))
    void_run(world, late)
    assert world.market()["finalized_seq"] == 2
    refused("RunOutOfOrder", world.begin, late)
    refused("WrongKind", world.meter, late)
    refused("WrongStatus", world.settle, late)
    # begun, committed, nothing applied
    second = Run(LATE, EPOCH, 2, 3, traders=[(home, pack("<III", 0, 0, 0))])
    world.attest_run(second)
    world.begin(second)
    world.commit(second)
    void_run(world, second)
    refused("WrongStatus", world.settle, second)
    assert world.market()["finalized_seq"] == 3
    # begun and a batch of metering applied: never
    third = late_run(EPOCH, 3, 4, home, 500)
    world.attest_run(third)
    world.begin(third)
    world.meter(third)
    refused("NotVoidable", void_run, world, third)
    world.commit(third)
    refused("NotVoidable", void_run, world, third)
    world.settle(third)
    world.finalize(third)
    assert world.balances(home)[0] == 500
    world.assert_laws([home])


def test_attack_a_stranger_voids_an_epoch_s_metering_in_the_registry(world: World):
    world.open(EPOCH)
    stranger = key("stranger")
    named = {"market": stranger.pubkey(), "metered": addresses.metered(EPOCH)}
    refused("Unauthorised", world.call, "registry", "void_metered", named, signers=[stranger], run=0)


def close_epoch(world: World, epoch: int, payer: Pubkey | None = None, **changed: Pubkey) -> Receipt:
    named = {"epoch": addresses.epoch(epoch), "metered": addresses.metered(epoch)}
    named |= {"next_epoch": addresses.epoch(epoch + 1), **changed}
    named["payer"] = payer or world.payer.pubkey()
    return world.call("trading", "close_epoch", named)


def settled_through(world: World, epoch: int) -> None:
    """As if every epoch up to it were settled: 15 days of them would take a test too long."""
    world.change("trading", "Market", addresses.market(), settled_through=epoch)


def close(world: World, program: str, instruction: str, payer: Pubkey | None = None, **named: Pubkey) -> Receipt:
    return world.call(program, instruction, {**named, "payer": payer or world.payer.pubkey()})


def test_after_the_horizon_all_rent_of_an_epoch_goes_back_to_who_paid_it():
    world = World(time_mode=0)
    for seq, epoch in enumerate((EPOCH, EPOCH + 1), start=1):
        world.at(epoch * 900)
        world.open(epoch)
        run = Run(CLEARING, epoch, 0, seq)
        world.attest_run(run)
        world.commit(run)
        world.finalize(run)
    metering, clearing = (addresses.attestation(kind, EPOCH, 0) for kind in (METERING, CLEARING))
    thief = key("thief").pubkey()
    settled_through(world, EPOCH + 15 * 96 - 1)
    refused("HorizonNotOver", close_epoch, world, EPOCH)
    refused("HorizonNotOver", close, world, "registry", "close_metered", metered=addresses.metered(EPOCH))
    refused("HorizonNotOver", close, world, "oracle", "close_attestation", attestation=metering)
    settled_through(world, EPOCH + 15 * 96)
    refused("WrongAddress", close_epoch, world, EPOCH, thief)
    refused("EpochOutOfOrder", close_epoch, world, EPOCH + 1, next_epoch=addresses.epoch(EPOCH + 1))
    refused("WrongEpoch", close_epoch, world, EPOCH, next_epoch=addresses.epoch(EPOCH))
    refused("WrongStatus", close_epoch, world, EPOCH, metered=addresses.metered(EPOCH + 1))
    accounts = [addresses.epoch(EPOCH), addresses.metered(EPOCH), metering, clearing]
    locked = sum(world.svm.get_account(address).lamports for address in accounts)
    before = world.svm.get_balance(world.payer.pubkey())
    close_epoch(world, EPOCH)
    refused("WrongAddress", close, world, "registry", "close_metered", thief, metered=addresses.metered(EPOCH))
    refused("WrongAddress", close, world, "oracle", "close_attestation", thief, attestation=clearing)
    close(world, "registry", "close_metered", metered=addresses.metered(EPOCH))
    close(world, "oracle", "close_attestation", attestation=metering)
    close(world, "oracle", "close_attestation", attestation=clearing)
    assert all(world.svm.get_account(address) is None for address in accounts)
    gained = world.svm.get_balance(world.payer.pubkey()) - before
    assert gained == locked - 6 * 5_000  # the two refused transactions cost their fees too
    assert world.market()["closed_through"] == EPOCH
    refused("HorizonNotOver", close_epoch, world, EPOCH + 1, next_epoch=addresses.epoch(EPOCH + 1))


def test_attack_the_same_batch_after_close_epoch():
    """Everything at or below `closed_through` is refused for ever, and no account of it comes back."""
    world = World(time_mode=0)
    home = world.household("home", 1, 0, EPOCH + 1)
    world.open(EPOCH)
    world.play(Run(CLEARING, EPOCH, 0, 1))
    world.at((EPOCH + 1) * 900)
    world.open(EPOCH + 1)
    run = single(EPOCH + 1, 2, home, 1_000)
    world.play(run)
    world.at((EPOCH + 2) * 900)
    world.open(EPOCH + 2)
    settled_through(world, EPOCH + 1 + 15 * 96)
    for epoch in (EPOCH, EPOCH + 1):
        close_epoch(world, epoch)
    refused("WrongOwner", world.settle, run)
    refused("AlreadySettled", world.meter, run)
    close(world, "registry", "close_metered", metered=addresses.metered(EPOCH + 1))
    refused("WrongOwner", world.meter, run)
    again = {"metered": addresses.metered(EPOCH + 1)}
    refused("EpochClosed", world.call, "registry", "open_metered", again, epoch=EPOCH + 1)
    refused("WrongOwner", close_epoch, world, EPOCH + 1)
    refused("EpochOutOfOrder", world.open, EPOCH + 1)
    world.assert_laws([home])


def test_attack_an_epoch_closed_while_what_was_booked_before_its_horizon_waits_in_a_pause():
    """By the clock alone anyone could close it: the run's turn would be lost, and with it every run booked after."""
    world = World(time_mode=0)
    home = world.household("home", 1, 0, EPOCH + 1)
    world.open(EPOCH)
    world.play(Run(CLEARING, EPOCH, 0, 1))
    world.at((EPOCH + 1) * 900)
    world.open(EPOCH + 1)
    world.play(single(EPOCH + 1, 2, home, 0))
    booked = late_run(EPOCH, 1, 3, home, 0)
    world.attest_run(booked)
    world.at((EPOCH + 1 + 30 * 96) * 900)
    refused("HorizonNotOver", close_epoch, world, EPOCH)
    assert world.market()["closed_through"] == EPOCH - 1


def test_attack_the_epoch_closed_that_a_resettlement_under_way_reads_its_rates_from():
    """Half applied without them, it could be neither finished nor voided, and no later run could have its turn."""
    world = World()
    homes = [world.household(f"home {i}", 1, 0, EPOCH) for i in range(2)]
    opened(world, EPOCH + 2)
    for seq, epoch in enumerate((EPOCH, EPOCH + 1), start=1):
        meters, traders = [(home, metered(0, 0)) for home in homes], [(home, pack("<ii", 0, 0)) for home in homes]
        world.play(Run(CLEARING, epoch, 0, seq, meters, traders))
    entries = [(home, pack("<IIIII", 0, 0, 0, 0, 0)) for home in homes]
    run = Run(RESETTLEMENT, EPOCH + 1, 1, 3, [(home, pack("<i", 0)) for home in homes], entries, traders_per_batch=1)
    world.prepare(run)
    world.settle(run, 0)
    settled_through(world, EPOCH + 15 * 96)
    refused("WrongStatus", close_epoch, world, EPOCH)
    world.settle(run, 1)
    world.finalize(run)
    close_epoch(world, EPOCH)
    # nor does one begin whose rates are gone; the authority may void it
    after = Run(RESETTLEMENT, EPOCH + 1, 2, 4)
    world.attest_run(after)
    world.begin(after)
    refused("EpochClosed", world.commit, after)
    world.change("trading", "Market", addresses.market(), last_opened=EPOCH + DAY + 2)
    void_run(world, after)
    assert world.market()["finalized_seq"] == 4


def test_a_run_whose_seq_another_one_used_is_voided_without_it(world: World):
    """After a void the ledger may book another run with the seq of an attested one: it must not stay for ever."""
    home = world.household("home", 1, 0, EPOCH)
    opened(world, EPOCH + DAY + 2)
    world.play(single(EPOCH, 1, home, 0))
    late = late_run(EPOCH, 1, 2, home, 500)
    world.attest_run(late)
    world.begin(late)
    world.play(Run(CLEARING, EPOCH + 1, 0, 2))
    refused("SeqOutOfOrder", world.commit, late)
    void_run(world, late, False)
    assert world.market()["finalized_seq"] == 2
    world.play(Run(LATE, EPOCH, 2, 3))
    assert world.market()["finalized_seq"] == 3


def test_the_energy_of_meters_that_were_new_in_a_voided_epoch_is_settled_late(world: World):
    new = [world.household(f"new {i}", 1, 10 * THB, EPOCH + i) for i in range(2)]
    opened(world, EPOCH + DAY + 2)
    for epoch in range(EPOCH, EPOCH + DAY + 1):
        void_epoch(world, epoch)
    last = EPOCH + DAY
    meters = [(new[0], pack("<IIII", last, 900, 100, 850)), (new[1], pack("<IIII", last, 100, 700, 50))]
    traders = [(new[0], pack("<III", 850, 50, 0)), (new[1], pack("<III", 50, 0, 650))]
    world.play(Run(LATE, last, 1, 1, meters, traders))
    for home, first in zip(new, (EPOCH, EPOCH + 1), strict=True):
        meter = world.read("registry", "Meter", home.meter)
        assert (meter["first_epoch"], meter["last_epoch"]) == (first, last)
    world.play(
        Run(CLEARING, last + 1, 0, 2, [(h, metered(10, 0)) for h in new], [(h, pack("<ii", 10, 0)) for h in new])
    )
    assert world.balances(new[0]) == (810, 10 * THB, 0)
    assert world.balances(new[1])[0] == 10
    world.assert_laws(new)


def test_attack_an_epoch_is_closed_over_a_run_that_has_begun():
    world = World(time_mode=0)
    home = world.household("home", 1, 0, EPOCH + 1)
    world.open(EPOCH)
    world.play(Run(CLEARING, EPOCH, 0, 1))
    world.at((EPOCH + 1) * 900)
    world.open(EPOCH + 1)
    world.play(Run(CLEARING, EPOCH + 1, 0, 2))
    late = late_run(EPOCH + 1, 1, 3, home, 500)
    world.attest_run(late)
    world.begin(late)
    world.meter(late)
    world.at((EPOCH + 2) * 900)
    world.open(EPOCH + 2)
    settled_through(world, EPOCH + 1 + 15 * 96)
    close_epoch(world, EPOCH)
    refused("WrongStatus", close_epoch, world, EPOCH + 1)
    world.commit(late)
    refused("WrongStatus", close_epoch, world, EPOCH + 1)
    world.settle(late)
    world.finalize(late)
    close_epoch(world, EPOCH + 1)
    world.assert_laws([home])
