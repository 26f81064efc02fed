"""docs/how-to/keys.md, followed: each rotation by its commands, on a local chain."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.epochs import EPOCH_SECONDS, key_of
from tests.chain.settled_world import AUTHORITY, ORACLES, SmallMarket, key
from tests.chain.test_chain_cli import Operator

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "keys.md"


@pytest.fixture(scope="module")
def operator(localnet_client: ChainClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    SmallMarket(localnet_client).bring_up()
    yield Operator(localnet_client, tmp_path_factory.mktemp("keys"))


def test_an_oracle_set_with_a_new_key_is_announced_and_acts_a_day_later(operator: Operator) -> None:
    kept, new = [str(oracle.pubkey) for oracle in ORACLES[1:]], str(key("oracle-new").pubkey)
    code, _, err = operator.admin(AUTHORITY, "set-oracles", *kept, new, "--threshold", "1")
    assert code == 1, "2 × threshold must exceed the size"
    code, out, err = operator.admin(AUTHORITY, "set-oracles", *kept, new, "--threshold", "2")
    assert (code, "confirmed: " in out) == (0, True), err
    shown = operator.show("governance")
    announced = shown[shown.index("next_oracles") :]
    assert new in announced
    assert str(ORACLES[0].pubkey) not in announced
    # the former set goes on until its day is over
    assert str(ORACLES[0].pubkey) in shown


def test_a_device_key_is_rotated_by_owner_and_authority_from_a_coming_epoch(operator: Operator) -> None:
    owner, device = key("home-0"), str(key("device-new").pubkey)
    coming = operator.client.chain_time() // EPOCH_SECONDS + 4
    words = ("rotate-device-key", "MEA-000", device, "--from-epoch", key_of(coming))
    # neither alone can do it
    code, _, err = operator.admin(AUTHORITY, *words, "--owner-key", operator.file(key("home-1")))
    assert code == 1, err
    assert "Unauthorised" in err
    assert operator.admin(owner, *words, "--owner-key", operator.file(owner))[0] == 1
    code, out, err = operator.admin(AUTHORITY, *words, "--owner-key", operator.file(owner))
    assert (code, "confirmed: " in out) == (0, True), err
    shown = operator.show("meter:MEA-000")
    assert device in shown
    absent = ("--owner-key", str(operator.folder / "absent.json"))
    code, _, err = operator.admin(AUTHORITY, *words, *absent)
    assert (code, "absent.json" in err) == (2, True)


def test_a_relayer_has_no_rights_so_a_new_one_only_needs_funds(operator: Operator) -> None:
    new = key("relayer-new")
    code, _, err = operator.admin(new, "pause", "oracle", send=False)
    assert (code, "Unauthorised" in err) == (1, True)
    assert operator.client.balance(Pubkey.from_string(str(new.pubkey))) > 0


def test_the_authority_is_handed_over_in_two_steps_and_back(operator: Operator) -> None:
    new = key("authority-new")
    assert operator.admin(AUTHORITY, "propose-authority", str(new.pubkey))[0] == 0
    assert operator.admin(key("nobody"), "accept-authority")[0] == 1
    assert operator.admin(new, "accept-authority")[0] == 0
    # the former one has no say any more
    assert operator.admin(AUTHORITY, "pause", "oracle", send=False)[0] == 1
    assert operator.admin(new, "propose-authority", str(AUTHORITY.pubkey))[0] == 0
    assert operator.admin(AUTHORITY, "accept-authority")[0] == 0
    assert operator.admin(AUTHORITY, "pause", "oracle", send=False)[0] == 0


def test_the_page_names_only_commands_that_are_tested_here() -> None:
    named = set(re.findall(r"gridtokenx chain admin ([a-z-]+)", PAGE.read_text()))
    assert named == {"set-oracles", "rotate-device-key", "propose-authority", "accept-authority"}
