"""The registry program: participants, meters, and booking attested metering."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.market.roots import MerkleTree
from tests.chain.svm import (
    DEPLOYER,
    EPOCH,
    LATE,
    METERING,
    ORACLES,
    RESETTLEMENT,
    Chain,
    ProgramFailedError,
    Receipt,
    batch_args,
    key,
    leaf,
)

OWNER = key("owner")
STRANGER = key("stranger")
DEVICE = key("device").pubkey()
AUTHORITY = {"authority": DEPLOYER.pubkey()}
PENDING, ACTIVE, SUSPENDED, RETIRED = range(4)
U32_MAX = 2**32 - 1
FINALISED = 2
CU_PER_METER = 300  # chain.md §6, besides the one mint CPI
METERS_PER_BATCH = 45
WIRE_LIMIT = 1_232


@pytest.fixture
def chain() -> Chain:
    fresh = Chain()
    fresh.initialize_governance()
    fresh.initialize_tokens()
    fresh.call("registry", "initialize", signers=[DEPLOYER])
    fresh.plant_token_account(addresses.grid_vault(), addresses.grid_mint(), addresses.market())
    plant_market(fresh, EPOCH - 1)
    return fresh


def plant_market(chain: Chain, last_opened: int) -> None:
    """A market whose time is simulated: its epochs begin when they are opened."""
    chain.plant("trading", "Market", addresses.market(), last_opened=last_opened, time_mode=1)


def register_user(chain: Chain, wallet=OWNER, zone: int = 1) -> Pubkey:
    user = addresses.address_of_user(wallet.pubkey())
    accounts = {"wallet": wallet.pubkey(), "user": user}
    chain.call("registry", "register_user", accounts, signers=[wallet], user_type=1, zone=zone)
    return user


def register_meter(chain: Chain, meter_id: str, owner=OWNER, **changes) -> Pubkey:
    meter = addresses.address_of_meter(meter_id)
    accounts = {"owner": owner.pubkey(), "user": addresses.address_of_user(owner.pubkey()), "meter": meter}
    values = {"meter_type": 0, "zone": 1, "rating_w": 4_000, "device_key": DEVICE, "meter_id": meter_id, **changes}
    chain.call("registry", "register_meter", accounts, signers=[owner], **values)
    return meter


def approve_meter(chain: Chain, meter: Pubkey, first_epoch: int = EPOCH, authority=DEPLOYER) -> None:
    values = {"first_epoch": first_epoch, "baseline_production_wh": 50, "baseline_consumption_wh": 60}
    accounts = {"authority": authority.pubkey(), "meter": meter}
    chain.call("registry", "approve_meter", accounts, signers=[authority], **values)


def admit(chain: Chain, count: int) -> list[Pubkey]:
    """That many active meters, rated 4 kW: 1 174 Wh an epoch at most."""
    user = register_user(chain)
    chain.call("registry", "approve_user", {**AUTHORITY, "user": user}, signers=[DEPLOYER])
    meters = [register_meter(chain, f"MEA-{i:03}") for i in range(count)]
    for meter in meters:
        approve_meter(chain, meter)
    return meters


def open_metered(chain: Chain, epoch: int = EPOCH) -> None:
    chain.call("registry", "open_metered", {"metered": addresses.metered(epoch)}, epoch=epoch)


def settle_instruction(
    chain: Chain,
    meters: Sequence[Pubkey],
    entries: bytes,
    *,
    epoch: int = EPOCH,
    kind: int = METERING,
    run: int = 0,
    index: int = 0,
    tree: MerkleTree,
    **accounts: Pubkey,
) -> Instruction:
    name = {METERING: "settle_meters", LATE: "settle_late_meters", RESETTLEMENT: "correct_meters"}[kind]
    named = {"attestation": addresses.attestation(kind, epoch, run), "metered": addresses.metered(epoch), **accounts}
    if kind == METERING:
        # the epoch before is settled
        chain.change("trading", "Market", addresses.market(), settled_through=epoch - 1)
        named = {"metered_before": addresses.metered(epoch - 1), **named}
    remaining = [AccountMeta(meter, False, True) for meter in meters]
    return chain.build("registry", name, named, remaining, **batch_args(tree, index, len(meters), entries))


def settle(chain: Chain, meters: Sequence[Pubkey], entries: bytes, **options) -> Receipt:
    """Attests a root of one batch (METERING: leaf 0; else leaf 1 after a header) and books it."""
    kind, epoch, run = options.get("kind", METERING), options.get("epoch", EPOCH), options.get("run", 0)
    own = leaf("registry", kind, epoch, run, int(kind != METERING), entries, meters)
    tree = MerkleTree([own] if kind == METERING else [bytes(32), own])
    chain.attest(kind, epoch, run, tree.root)
    if kind != METERING:
        begin_run(chain, kind, run, epoch)
    return chain.send(settle_instruction(chain, meters, entries, tree=tree, index=int(kind != METERING), **options))


def begin_run(chain: Chain, kind: int, run: int, epoch: int = EPOCH) -> None:
    accounts = {"metered": addresses.metered(epoch), "epoch": addresses.epoch(epoch)}
    accounts["attestation"] = addresses.attestation(kind, epoch, run)
    chain.call("registry", "begin_run", accounts, kind=kind, run=run)


def finalise(chain: Chain, run: int = 0, epoch: int = EPOCH, status: int = FINALISED) -> None:
    """What the trading program leaves once it has finalised a run."""
    chain.plant("trading", "Epoch", addresses.epoch(epoch), epoch=epoch, run=run, status=status)


def metering(*pairs: tuple[int, int]) -> bytes:
    return b"".join(struct.pack("<II", *pair) for pair in pairs)


def energies(chain: Chain, meter: Pubkey) -> tuple[int, int, int, int, int]:
    found = chain.read("registry", "Meter", meter)
    names = ("last_epoch", "production_wh", "consumption_wh", "minted_wh", "deficit_wh")
    return tuple(found[name] for name in names)


def totals(chain: Chain) -> tuple[int, int, int, int]:
    found = chain.read("registry", "Registry", addresses.registry())
    names = ("production_wh", "consumption_wh", "minted_wh", "deficit_wh")
    return tuple(found[name] for name in names)


def booked(chain: Chain, epoch: int = EPOCH) -> dict:
    found = chain.read("registry", "Metered", addresses.metered(epoch))
    names = ("run", "kind", "applied", "minted_wh", "deficit_wh", "minted_tokens_wh", "x_negative_wh")
    return {name: found[name] for name in names}


def refused(name: str, call, *args, **kwargs) -> None:
    with pytest.raises(ProgramFailedError) as failure:
        call(*args, **kwargs)
    assert failure.value.name == name, failure.value


# ---- participants and meters


def test_a_user_is_pending_until_the_authority_approves(chain: Chain):
    user = register_user(chain)
    found = chain.read("registry", "User", user)
    assert (found["wallet"], found["zone"], found["user_type"], found["status"]) == (OWNER.pubkey(), 1, 1, PENDING)
    stranger = {"authority": STRANGER.pubkey(), "user": user}
    refused("Unauthorised", chain.call, "registry", "approve_user", stranger, signers=[STRANGER])
    chain.call("registry", "approve_user", {**AUTHORITY, "user": user}, signers=[DEPLOYER])
    assert chain.read("registry", "User", user)["status"] == ACTIVE
    refused(
        "InvalidTransition", chain.call, "registry", "approve_user", {**AUTHORITY, "user": user}, signers=[DEPLOYER]
    )
    refused("AlreadyExists", register_user, chain)


def test_zones_are_1_to_63(chain: Chain):
    refused("InvalidZone", register_user, chain, OWNER, 0)
    refused("InvalidZone", register_user, chain, OWNER, 64)


def test_a_meter_is_admitted_with_its_baseline(chain: Chain):
    (meter,) = admit(chain, 1)
    found = {name: value for name, value in chain.read("registry", "Meter", meter).items() if not name.startswith("_")}
    assert 0 < found.pop("bump") <= 255
    assert found == {
        "owner": OWNER.pubkey(),
        "device_key": DEVICE,
        "meter_id": b"MEA-000".ljust(32, b"\0"),
        "id_len": 7,
        "meter_type": 0,
        "status": ACTIVE,
        "zone": 1,
        "rating_w": 4_000,
        "first_epoch": EPOCH,
        "last_epoch": 0,
        "inactive_from": U32_MAX,
        "registrations": 0,
        "corrected_epoch": 0,
        "corrected_run": 0,
        "baseline_production_wh": 50,
        "baseline_consumption_wh": 60,
        "next_device_key": Pubkey.default(),
        "key_from_epoch": 0,
        "production_wh": 0,
        "consumption_wh": 0,
        "minted_wh": 0,
        "deficit_wh": 0,
        "claimed_erc_wh": 0,
    }
    assert chain.read("registry", "Registry", addresses.registry())["meters"] == 1


def test_one_meter_id_is_one_account_whoever_asks(chain: Chain):
    register_user(chain)
    register_user(chain, STRANGER)
    register_meter(chain, "MEA-001")
    refused("AlreadyExists", register_meter, chain, "MEA-001", STRANGER)


def test_a_meter_id_with_zero_bytes_is_refused(chain: Chain):
    register_user(chain)
    padded = Pubkey.find_program_address([b"meter", b"MEA-001\0"], addresses.program_id("registry"))[0]
    accounts = {"owner": OWNER.pubkey(), "user": addresses.address_of_user(OWNER.pubkey()), "meter": padded}
    values = {"meter_type": 0, "zone": 1, "rating_w": 1, "device_key": DEVICE, "meter_id": "MEA-001\0"}
    refused("InvalidMeterId", chain.call, "registry", "register_meter", accounts, signers=[OWNER], **values)


def test_a_meter_belongs_to_its_signing_owner_and_zone(chain: Chain):
    register_user(chain)
    register_user(chain, STRANGER)
    refused("ZoneMismatch", register_meter, chain, "MEA-001", zone=2)
    refused("InvalidMeter", register_meter, chain, "MEA-001", rating_w=0)
    refused("InvalidMeter", register_meter, chain, "MEA-001", meter_type=3)
    meter = addresses.address_of_meter("MEA-001")
    accounts = {"owner": OWNER.pubkey(), "user": addresses.address_of_user(STRANGER.pubkey()), "meter": meter}
    values = {"meter_type": 0, "zone": 1, "rating_w": 1, "device_key": DEVICE, "meter_id": "MEA-001"}
    refused("UserNotActive", chain.call, "registry", "register_meter", accounts, signers=[OWNER], **values)


def test_only_the_authority_admits_and_only_once(chain: Chain):
    register_user(chain)
    meter = register_meter(chain, "MEA-001")
    refused("Unauthorised", approve_meter, chain, meter, EPOCH, STRANGER)
    approve_meter(chain, meter)
    refused("InvalidTransition", approve_meter, chain, meter)


def test_lamports_sent_to_a_meters_address_do_not_block_it(chain: Chain):
    register_user(chain)
    chain.svm.airdrop(addresses.address_of_meter("MEA-001"), 890_880)
    register_meter(chain, "MEA-001")


# ---- metering


def test_a_batch_books_each_meter_and_mints_the_surplus_once(chain: Chain):
    meters = admit(chain, 3)
    open_metered(chain)
    receipt = settle(chain, meters, metering((700, 200), (0, 300), (10, 10)))
    assert [energies(chain, meter) for meter in meters] == [
        (EPOCH, 700, 200, 500, 0),
        (EPOCH, 0, 300, 0, 300),
        (EPOCH, 10, 10, 0, 0),
    ]
    assert totals(chain) == (710, 510, 500, 300)
    assert chain.token_amount(addresses.grid_vault()) == 500
    expected = {"run": 0, "kind": 0, "applied": 1, "minted_wh": 500, "deficit_wh": 300}
    assert booked(chain) == {**expected, "minted_tokens_wh": 500, "x_negative_wh": 0}
    (event,) = receipt.events
    assert event[8:40] == bytes(addresses.registry())
    assert struct.unpack("<QIHBHB5Q", event[40:]) == (4, EPOCH, 0, METERING, 0, 3, 710, 510, 500, 300, 0)


def test_the_same_batch_twice_is_already_settled(chain: Chain):
    meters = admit(chain, 1)
    open_metered(chain)
    entries = metering((700, 200))
    settle(chain, meters, entries)
    tree = MerkleTree([leaf("registry", METERING, EPOCH, 0, 0, entries, meters)])
    refused("AlreadySettled", chain.send, settle_instruction(chain, meters, entries, tree=tree))
    assert chain.token_amount(addresses.grid_vault()) == 500


def test_batches_of_one_root_apply_in_any_order_once_each(chain: Chain):
    meters = admit(chain, 3)
    open_metered(chain)
    entries = [metering((i, 0)) for i in (1, 2, 3)]
    leaves = [leaf("registry", METERING, EPOCH, 0, i, entries[i], [meters[i]]) for i in range(3)]
    tree = MerkleTree(leaves)
    chain.attest(METERING, EPOCH, 0, tree.root)
    for i in (2, 0, 1):
        chain.send(settle_instruction(chain, [meters[i]], entries[i], tree=tree, index=i))
    assert booked(chain)["applied"] == 3
    assert chain.token_amount(addresses.grid_vault()) == 6


def test_one_changed_byte_account_index_or_epoch_is_refused(chain: Chain):
    meters = admit(chain, 3)
    open_metered(chain)
    open_metered(chain, EPOCH + 1)
    entries = metering((700, 200), (5, 0))
    tree = MerkleTree([leaf("registry", METERING, EPOCH, 0, 0, entries, meters[:2]), bytes([1]) * 32])
    chain.attest(METERING, EPOCH, 0, tree.root)
    send = chain.send
    refused("WrongRoot", send, settle_instruction(chain, meters[:2], metering((700, 200), (6, 0)), tree=tree))
    refused("WrongRoot", send, settle_instruction(chain, meters[1::-1], entries, tree=tree))
    refused("WrongRoot", send, settle_instruction(chain, meters[1:], entries, tree=tree))
    refused("WrongRoot", send, settle_instruction(chain, meters[:2], entries, tree=tree, index=1))
    other = {"metered": addresses.metered(EPOCH + 1)}
    refused("WrongAttestation", send, settle_instruction(chain, meters[:2], entries, tree=tree, **other))
    send(settle_instruction(chain, meters[:2], entries, tree=tree))


def test_k_minus_one_oracles_mint_nothing(chain: Chain):
    meters = admit(chain, 1)
    open_metered(chain)
    entries = metering((700, 200))
    tree = MerkleTree([leaf("registry", METERING, EPOCH, 0, 0, entries, meters)])
    chain.attest(METERING, EPOCH, 0, tree.root, ORACLES[:1])
    refused("NotFinal", chain.send, settle_instruction(chain, meters, entries, tree=tree))


def test_a_forged_attestation_or_meter_is_refused(chain: Chain):
    meters = admit(chain, 1)
    open_metered(chain)
    entries = metering((700, 200))
    forged = key("forged").pubkey()
    tree = MerkleTree([leaf("registry", METERING, EPOCH, 0, 0, entries, [forged])])
    chain.attest(METERING, EPOCH, 0, tree.root)
    real = chain.svm.get_account(meters[0])
    chain.put(forged, STRANGER.pubkey(), real.data)
    refused("WrongOwner", chain.send, settle_instruction(chain, [forged], entries, tree=tree))
    copy = chain.svm.get_account(addresses.attestation(METERING, EPOCH, 0))
    chain.put(forged, STRANGER.pubkey(), copy.data)
    refused("WrongOwner", chain.send, settle_instruction(chain, meters, entries, tree=tree, attestation=forged))
    metered = addresses.metered(EPOCH)
    refused(
        "WrongLength", chain.send, settle_instruction(chain, meters, entries, tree=tree, attestation=other_type(chain))
    )
    refused("WrongAddress", chain.send, settle_instruction(chain, meters, entries, tree=tree, grid_vault=metered))


def other_type(chain: Chain) -> Pubkey:
    """An account of the right program but of another type."""
    address = key("other type").pubkey()
    chain.put(address, addresses.program_id("oracle"), bytes(64))
    return address


def test_pending_and_suspended_meters_do_not_mint_but_epochs_before_still_settle(chain: Chain):
    meters = admit(chain, 2)
    values = {"status": SUSPENDED, "from_epoch": EPOCH + 1}
    accounts = {**AUTHORITY, "meter": meters[0]}
    plant_market(chain, EPOCH + 1)
    refused(
        "EffectiveEpochTooEarly", chain.call, "registry", "set_meter_status", accounts, signers=[DEPLOYER], **values
    )
    plant_market(chain, EPOCH)
    chain.call("registry", "set_meter_status", accounts, signers=[DEPLOYER], **values)
    for epoch in (EPOCH, EPOCH + 1):
        open_metered(chain, epoch)
    settle(chain, [meters[0]], metering((700, 0)))
    refused("MeterNotActive", settle, chain, [meters[0]], metering((700, 0)), epoch=EPOCH + 1)
    refused("MeterOutOfOrder", approve_meter, chain, meters[0], EPOCH)
    approve_meter(chain, meters[0], EPOCH + 5)
    open_metered(chain, EPOCH + 5)
    settle(chain, [meters[0]], metering((1, 0)), epoch=EPOCH + 5)
    assert energies(chain, meters[0]) == (EPOCH + 5, 701, 0, 701, 0)
    chain.call("registry", "set_meter_status", accounts, signers=[DEPLOYER], status=RETIRED, from_epoch=EPOCH + 6)
    refused("InvalidTransition", approve_meter, chain, meters[0], EPOCH + 9)

    pending = register_meter(chain, "MEA-009")
    open_metered(chain, EPOCH + 7)
    refused("MeterNotActive", settle, chain, [pending], metering((1, 0)), epoch=EPOCH + 7)


def test_epochs_follow_one_another_and_energy_stays_within_the_rating(chain: Chain):
    meters = admit(chain, 1)
    for epoch in (EPOCH, EPOCH + 1, EPOCH + 2):
        open_metered(chain, epoch)
    refused("MeterOutOfOrder", settle, chain, meters, metering((1, 0)), epoch=EPOCH + 2)
    # 1.1 × 4 kW for the sixteen minutes that the readings of two boundaries span, rounded up
    settle(chain, meters, metering((1_174, 1_174)))
    refused("AboveRating", settle, chain, meters, metering((1_175, 0)), epoch=EPOCH + 1)


def test_a_meter_twice_in_a_batch_is_refused(chain: Chain):
    meters = admit(chain, 1)
    open_metered(chain)
    refused("MeterOutOfOrder", settle, chain, meters * 2, metering((700, 0), (700, 0)))


def test_a_paused_registry_or_token_program_settles_nothing(chain: Chain):
    meters = admit(chain, 1)
    open_metered(chain)
    accounts = {"guardian_or_authority": DEPLOYER.pubkey()}
    for program_number in (1, 2):
        chain.call("governance", "pause", accounts, signers=[DEPLOYER], program=program_number)
        entries = metering((1, 0))
        tree = MerkleTree([leaf("registry", METERING, EPOCH, 0, 0, entries, meters)])
        chain.plant(
            "oracle", "Attestation", addresses.attestation(METERING, EPOCH, 0), epoch=EPOCH, is_final=1, root=tree.root
        )
        refused("Paused", chain.send, settle_instruction(chain, meters, entries, tree=tree))
        chain.call("governance", "unpause", AUTHORITY, signers=[DEPLOYER], program=program_number)
        chain.at(chain.svm.get_clock().unix_timestamp + 3_600)
    chain.send(settle_instruction(chain, meters, entries, tree=tree))


# ---- later runs


def test_a_late_entry_catches_up_in_the_run_after(chain: Chain):
    meters = admit(chain, 2)
    for epoch in (EPOCH, EPOCH + 1):
        open_metered(chain, epoch)
    settle(chain, meters[:1], metering((700, 200)))
    settle(chain, meters[:1], metering((100, 200)), epoch=EPOCH + 1)
    finalise(chain, epoch=EPOCH + 1)
    entries = struct.pack("<IIII", EPOCH + 1, 900, 1_000, 400)
    settle(chain, meters[1:], entries, kind=LATE, run=1, epoch=EPOCH + 1)
    assert energies(chain, meters[1]) == (EPOCH + 1, 900, 1_000, 400, 500)
    expected = {"run": 1, "kind": LATE, "applied": 1, "minted_wh": 400, "deficit_wh": 500}
    assert booked(chain, EPOCH + 1) == {**expected, "minted_tokens_wh": 400, "x_negative_wh": 0}
    assert chain.token_amount(addresses.grid_vault()) == 900
    assert totals(chain) == (1_700, 1_400, 900, 600)


def test_a_correction_moves_only_the_difference(chain: Chain):
    meters = admit(chain, 2)
    for epoch in (EPOCH, EPOCH + 1):
        open_metered(chain, epoch)
    settle(chain, meters, metering((700, 0), (300, 0)))
    settle(chain, meters, metering((0, 300), (0, 200)), epoch=EPOCH + 1)
    finalise(chain, epoch=EPOCH + 1)
    settle(chain, meters, struct.pack("<ii", 50, -80), kind=RESETTLEMENT, run=1, epoch=EPOCH + 1)
    assert energies(chain, meters[0]) == (EPOCH + 1, 700, 300, 750, 350)
    assert energies(chain, meters[1]) == (EPOCH + 1, 300, 200, 220, 120)
    expected = {"run": 1, "kind": RESETTLEMENT, "applied": 1, "minted_wh": 50, "deficit_wh": 50}
    assert booked(chain, EPOCH + 1) == {**expected, "minted_tokens_wh": 50, "x_negative_wh": 80}
    assert totals(chain) == (1_000, 500, 970, 470)
    assert chain.token_amount(addresses.grid_vault()) == 1_050


def test_runs_go_in_order_after_the_former_is_finalised(chain: Chain):
    meters = admit(chain, 1)
    open_metered(chain)
    settle(chain, meters, metering((700, 0)))
    chain.attest(LATE, EPOCH, 1, bytes([1]) * 32)
    finalise(chain, status=1)
    refused("RunOutOfOrder", begin_run, chain, LATE, 1)
    finalise(chain)
    refused("WrongAttestation", chain.call, "registry", "begin_run", wrong_attestation(), kind=RESETTLEMENT, run=1)
    refused("InvalidRun", begin_run, chain, METERING, 0)
    chain.attest(LATE, EPOCH, 2, bytes([1]) * 32)
    refused("RunOutOfOrder", begin_run, chain, LATE, 2)
    begin_run(chain, LATE, 1)
    refused("RunOutOfOrder", begin_run, chain, LATE, 1)
    tree = MerkleTree([bytes(32)])
    refused("WrongKind", chain.send, settle_instruction(chain, meters, metering((1, 0)), tree=tree))


def wrong_attestation() -> dict[str, Pubkey]:
    attestation = addresses.attestation(LATE, EPOCH, 1)
    return {"metered": addresses.metered(EPOCH), "epoch": addresses.epoch(EPOCH), "attestation": attestation}


# ---- cost


def test_45_meters_fit_a_transaction_within_their_compute_limit(chain: Chain):
    meters = admit(chain, METERS_PER_BATCH)
    for epoch in (EPOCH, EPOCH + 1, EPOCH + 2):
        open_metered(chain, epoch)

    def batch(epoch: int, production: int, count: int) -> Instruction:
        entries = metering(*[(production, 200)] * count)
        own = leaf("registry", METERING, epoch, 0, 0, entries, meters[:count])
        tree = MerkleTree([own, *[bytes([7]) * 32] * 255])
        chain.attest(METERING, epoch, 0, tree.root)
        return settle_instruction(chain, meters[:count], entries, epoch=epoch, tree=tree)

    minting = batch(EPOCH, 700, METERS_PER_BATCH)
    table = AddressLookupTableAccount(key("table").pubkey(), [meta.pubkey for meta in minting.accounts])
    message = MessageV0.try_compile(chain.payer.pubkey(), [minting], [table], Hash.default())
    size = len(bytes(VersionedTransaction(message, [chain.payer])))
    with_mint = chain.send(minting).compute_units
    without = chain.send(batch(EPOCH + 1, 100, METERS_PER_BATCH)).compute_units
    per_meter = without / METERS_PER_BATCH
    print(f"settle_meters: {with_mint} CU with the mint, {without} without, {per_meter:.0f} a meter, {size} bytes")
    assert size <= WIRE_LIMIT
    assert per_meter <= CU_PER_METER
