"""The registry program: how users and meters change status, who counts, and how a device key is rotated."""

from __future__ import annotations

import pytest
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from tests.chain.svm import DEPLOYER, EPOCH, START, Chain, Receipt, key
from tests.chain.test_programs_registry import (
    ACTIVE,
    AUTHORITY,
    DEVICE,
    OWNER,
    PENDING,
    RETIRED,
    STRANGER,
    SUSPENDED,
    admit,
    approve_meter,
    metering,
    open_metered,
    refused,
    register_meter,
    register_user,
    settle,
)

STATUSES = (PENDING, ACTIVE, SUSPENDED, RETIRED)
LEGAL = {(PENDING, ACTIVE), (SUSPENDED, ACTIVE), (ACTIVE, SUSPENDED)} | {(s, RETIRED) for s in STATUSES[:3]}
NEW_DEVICE, THIRD_DEVICE = key("new device").pubkey(), key("third device").pubkey()
U32_MAX = 2**32 - 1


@pytest.fixture
def chain() -> Chain:
    fresh = Chain()
    fresh.initialize_governance()
    fresh.initialize_tokens()
    fresh.call("registry", "initialize", signers=[DEPLOYER])
    fresh.plant_token_account(addresses.grid_vault(), addresses.grid_mint(), addresses.market())
    fresh.plant("trading", "Market", addresses.market(), last_opened=EPOCH - 1, time_mode=1)
    return fresh


def set_user(chain: Chain, status: int, user: Pubkey, authority=DEPLOYER) -> None:
    named = {"authority": authority.pubkey(), "user": user}
    if status == ACTIVE:
        chain.call("registry", "approve_user", named, signers=[authority])
    else:
        chain.call("registry", "set_user_status", named, signers=[authority], status=status)


def set_meter(chain: Chain, status: int, meter: Pubkey, from_epoch: int = EPOCH, authority=DEPLOYER) -> None:
    named = {"authority": authority.pubkey(), "meter": meter}
    if status == ACTIVE:
        approve_meter(chain, meter, from_epoch, authority)
    else:
        values = {"status": status, "from_epoch": from_epoch}
        chain.call("registry", "set_meter_status", named, signers=[authority], **values)


def rotate(
    chain: Chain, meter: Pubkey, device=NEW_DEVICE, from_epoch: int = EPOCH, *, owner=OWNER, authority=DEPLOYER
) -> Receipt:
    named = {"owner": owner.pubkey(), "authority": authority.pubkey(), "meter": meter}
    values = {"device_key": device, "from_epoch": from_epoch}
    return chain.call("registry", "rotate_device_key", named, signers=[owner, authority], **values)


def keys(chain: Chain, meter: Pubkey) -> tuple[Pubkey, Pubkey, int]:
    found = chain.read("registry", "Meter", meter)
    return found["device_key"], found["next_device_key"], found["key_from_epoch"]


@pytest.mark.parametrize("present", STATUSES)
@pytest.mark.parametrize("wanted", STATUSES)
def test_a_users_status_changes_only_along_its_life(chain: Chain, present: int, wanted: int):
    user = register_user(chain)
    chain.plant("registry", "User", user, wallet=bytes(OWNER.pubkey()), zone=1, user_type=1, status=present)
    if (present, wanted) in LEGAL:
        set_user(chain, wanted, user)
        assert chain.read("registry", "User", user)["status"] == wanted
    else:
        refused("InvalidTransition", set_user, chain, wanted, user)


@pytest.mark.parametrize("present", STATUSES)
@pytest.mark.parametrize("wanted", STATUSES)
def test_a_meters_status_changes_only_along_its_life(chain: Chain, present: int, wanted: int):
    (meter,) = admit(chain, 1)
    inactive = {PENDING: 0, ACTIVE: U32_MAX, SUSPENDED: EPOCH, RETIRED: EPOCH}[present]
    planted = {"status": present, "owner": bytes(OWNER.pubkey()), "zone": 1, "inactive_from": inactive}
    first = 0 if present == PENDING else EPOCH
    chain.plant("registry", "Meter", meter, first_epoch=first, **planted)
    if (present, wanted) in LEGAL:
        set_meter(chain, wanted, meter)
        assert chain.read("registry", "Meter", meter)["status"] == wanted
    else:
        refused("InvalidTransition", set_meter, chain, wanted, meter)


def test_no_status_above_3_and_no_one_but_the_authority(chain: Chain):
    (meter,) = admit(chain, 1)
    user = addresses.address_of_user(OWNER.pubkey())
    refused("InvalidData", set_user, chain, 4, user)
    refused("InvalidData", set_meter, chain, 255, meter)
    refused("Unauthorised", set_user, chain, SUSPENDED, user, STRANGER)
    refused("Unauthorised", set_meter, chain, SUSPENDED, meter, EPOCH, STRANGER)
    refused("EffectiveEpochTooEarly", set_meter, chain, SUSPENDED, meter, EPOCH - 1)


def test_the_registry_counts_each_user_once(chain: Chain):
    def users() -> int:
        return chain.read("registry", "Registry", addresses.registry())["users"]

    first, second = register_user(chain), register_user(chain, STRANGER)
    assert users() == 0
    set_user(chain, ACTIVE, first)
    set_user(chain, ACTIVE, second)
    assert users() == 2
    set_user(chain, SUSPENDED, first)
    set_user(chain, ACTIVE, first)
    set_user(chain, RETIRED, second)
    assert users() == 2


def test_a_suspended_user_registers_no_meter_until_approved_again(chain: Chain):
    user = register_user(chain)
    set_user(chain, ACTIVE, user)
    set_user(chain, SUSPENDED, user)
    refused("UserNotActive", register_meter, chain, "MEA-001")
    set_user(chain, ACTIVE, user)
    register_meter(chain, "MEA-001")


def test_a_suspended_meters_owner_mints_nothing_by_being_admitted_again(chain: Chain):
    (meter,) = admit(chain, 1)
    open_metered(chain)
    settle(chain, [meter], metering((900, 100)))
    set_meter(chain, SUSPENDED, meter, EPOCH + 1)
    set_meter(chain, ACTIVE, meter, EPOCH + 3)
    open_metered(chain, EPOCH + 2)
    refused("MeterOutOfOrder", settle, chain, [meter], metering((900, 100)), epoch=EPOCH + 2)
    open_metered(chain, EPOCH + 3)
    settle(chain, [meter], metering((10, 0)), epoch=EPOCH + 3)
    found = chain.read("registry", "Meter", meter)
    assert (found["minted_wh"], found["production_wh"], found["last_epoch"]) == (810, 910, EPOCH + 3)


# ---- device keys


def test_a_device_key_is_rotated_by_owner_and_authority_from_an_epoch_on(chain: Chain):
    (meter,) = admit(chain, 1)
    (event,) = rotate(chain, meter).events
    assert event[48:] == bytes(meter) + bytes(NEW_DEVICE) + EPOCH.to_bytes(4, "little")
    assert keys(chain, meter) == (DEVICE, NEW_DEVICE, EPOCH)
    refused("ChangePending", rotate, chain, meter, THIRD_DEVICE, EPOCH + 1)
    chain.plant("trading", "Market", addresses.market(), last_opened=EPOCH, time_mode=1)
    rotate(chain, meter, THIRD_DEVICE, EPOCH + 4)
    assert keys(chain, meter) == (NEW_DEVICE, THIRD_DEVICE, EPOCH + 4)


def test_neither_owner_nor_authority_rotates_a_key_alone(chain: Chain):
    (meter,) = admit(chain, 1)
    refused("Unauthorised", rotate, chain, meter, owner=STRANGER)
    refused("Unauthorised", rotate, chain, meter, authority=STRANGER)
    refused("Unauthorised", rotate, chain, meter, authority=OWNER)
    refused("Unauthorised", rotate, chain, meter, owner=DEPLOYER)


def test_a_key_acts_from_no_epoch_that_has_begun_and_is_another_one(chain: Chain):
    (meter,) = admit(chain, 1)
    refused("EffectiveEpochTooEarly", rotate, chain, meter, from_epoch=EPOCH - 1)
    refused("InvalidDeviceKey", rotate, chain, meter, DEVICE)
    refused("InvalidDeviceKey", rotate, chain, meter, Pubkey.default())
    chain.plant("trading", "Market", addresses.market(), last_opened=EPOCH - 1, time_mode=0)
    chain.at(START + 900)  # the clock, too, says what has begun
    refused("EffectiveEpochTooEarly", rotate, chain, meter, from_epoch=EPOCH + 1)
    rotate(chain, meter, from_epoch=EPOCH + 2)


@pytest.mark.parametrize(("status", "allowed"), [(PENDING, False), (SUSPENDED, True), (RETIRED, False)])
def test_the_key_of_a_pending_or_retired_meter_stays(chain: Chain, status: int, allowed: bool):
    register_user(chain)
    meter = register_meter(chain, "MEA-001")
    if status != PENDING:
        approve_meter(chain, meter)
        set_meter(chain, status, meter)
    if allowed:
        rotate(chain, meter)
    else:
        refused("MeterNotActive", rotate, chain, meter)


def test_an_instruction_to_a_paused_registry_is_refused(chain: Chain):
    (meter,) = admit(chain, 1)
    pause = {"guardian_or_authority": DEPLOYER.pubkey()}
    chain.call("governance", "pause", pause, signers=[DEPLOYER], program=1)
    refused("Paused", rotate, chain, meter)
    refused("Paused", chain.call, "registry", "approve_user", _user(), signers=[DEPLOYER])


def _user() -> dict[str, Pubkey]:
    return {**AUTHORITY, "user": addresses.address_of_user(OWNER.pubkey())}
