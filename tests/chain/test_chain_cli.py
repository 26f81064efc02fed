"""`gridtokenx chain show` and `chain admin` as an operator runs them, on a local chain."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.signer import KeypairSigner
from gridtokenx_pipelines.chain_cli.commands import chain
from gridtokenx_pipelines.epochs import key_of
from tests.chain.settled_world import AUTHORITY, FIRST_EPOCH, ORACLES, SmallMarket, key

LAMPORTS = 10**10


class Operator:
    """Runs commands against one chain, each with a key file of its own."""

    def __init__(self, client: ChainClient, folder: Path) -> None:
        self.client, self.folder = client, folder

    def file(self, signer: KeypairSigner) -> str:
        path = self.folder / f"{signer.pubkey}.json"
        path.write_text(json.dumps(list(bytes(signer._keypair))))
        path.chmod(0o600)
        if self.client.balance(signer.pubkey) == 0:
            self.client.airdrop(signer.pubkey, LAMPORTS)
        return str(path)

    def run(self, *words: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(chain, [*words, "--rpc-url", self.client.rpc_url], terminal_width=200)
        return result.exit_code, result.stdout, result.stderr

    def admin(self, signer: KeypairSigner, *words: str, send: bool = True) -> tuple[int, str, str]:
        return self.run("admin", *words, "--key", self.file(signer), *(["--send"] if send else []))

    def show(self, account: str) -> str:
        code, out, err = self.run("show", account)
        assert code == 0, err
        return out


@pytest.fixture(scope="module")
def operator(localnet_client: ChainClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    SmallMarket(localnet_client).bring_up()
    yield Operator(localnet_client, tmp_path_factory.mktemp("keys"))


def test_an_action_is_simulated_first_and_sent_only_when_asked(operator: Operator) -> None:
    code, out, _ = operator.admin(AUTHORITY, "pause", "oracle", send=False)
    assert code == 0
    assert "simulated: would succeed" in out
    assert "nothing was sent" in out
    assert "oracle until" not in operator.show("governance")
    code, out, _ = operator.admin(AUTHORITY, "pause", "oracle")
    assert code == 0
    assert "confirmed: " in out
    assert "oracle until" in operator.show("governance")
    assert operator.admin(AUTHORITY, "unpause", "oracle")[0] == 0


def test_who_lacks_the_right_learns_it_from_the_dry_run(operator: Operator) -> None:
    code, out, err = operator.admin(key("nobody"), "pause", "trading")
    assert (code, out) == (1, "")
    assert "Unauthorised" in err
    code, _, err = operator.run("admin", "pause", "trading", "--key", str(operator.folder / "absent.json"))
    assert code == 2
    assert "absent.json" in err


def test_validators_propose_and_vote_and_everything_is_shown_by_its_name(operator: Operator) -> None:
    first, second = key("validator 1"), key("validator 2")
    for validator in (first, second):
        assert operator.admin(AUTHORITY, "admit-validator", str(validator.pubkey))[0] == 0
    code, out, _ = operator.admin(first, "propose", "fee_bp", "150")
    assert code == 0
    assert "proposal:0" in out
    assert operator.admin(second, "vote", "0", "yes")[0] == 0
    assert operator.admin(second, "vote", "0", "no")[0] == 1
    assert str(second.pubkey) in operator.show("validators")
    shown = operator.show("proposal:0")
    assert "fee_bp (0)" in shown
    assert "T" in shown[shown.index("voting_ends_at") :]
    assert "yes (1)" in operator.show(f"vote:0/{second.pubkey}")
    code, _, err = operator.admin(first, "execute-proposal", "0")
    assert (code, "TimeLocked" in err) == (1, True)
    code, _, err = operator.admin(first, "close-proposal", "0", "--payer", str(first.pubkey))
    assert (code, "TimeLocked" in err) == (1, True)
    assert operator.admin(AUTHORITY, "remove-validator", str(second.pubkey))[0] == 0
    assert str(second.pubkey) not in operator.show("validators")


def test_meters_and_certificates_are_shown_with_their_ids_as_text(operator: Operator) -> None:
    shown = operator.show("meter:MEA-000")
    assert "MEA-000" in shown
    assert "Solar (0)" in shown
    assert "active (1)" in shown
    assert b"MEA-000".hex() not in shown
    owner = key("home-0")
    code, _, err = operator.admin(owner, "issue-certificate", "REC-1", "MEA-000", "1", send=False)
    assert (code, "ProductionClaimed" in err) == (1, True)  # nothing is produced yet
    code, _, err = operator.run("show", "certificate:REC-1")
    assert (code, "there is no account" in err) == (1, True)
    assert "consumer" in operator.show(f"user:{owner.pubkey}") or "prosumer" in operator.show(f"user:{owner.pubkey}")


def test_an_oracle_reports_a_price_and_the_feed_shows_it(operator: Operator) -> None:
    words = ("report-price", "1", key_of(FIRST_EPOCH), "--price", "3500000", "--demand-wh", "9", "--supply-wh", "7")
    code, _, err = operator.admin(ORACLES[0], *words)
    assert (code, "Paused" in err) == (1, True)  # the pause of the first test ends an hour after it was lifted
    assert operator.run("admin", *words[:1], "64", *words[2:], "--key", "x")[0] == 2


def test_a_new_authority_is_proposed_and_only_it_accepts(operator: Operator) -> None:
    heir = key("heir")
    assert operator.admin(AUTHORITY, "propose-authority", str(heir.pubkey))[0] == 0
    assert "NoPendingAuthority" in operator.admin(key("nobody"), "accept-authority")[2]
    code, out, _ = operator.admin(heir, "accept-authority", send=False)
    assert (code, "would succeed" in out) == (0, True)
    assert operator.admin(AUTHORITY, "propose-authority", str(Pubkey.default()))[0] == 0


def test_what_is_no_key_number_or_name_is_a_usage_error(operator: Operator) -> None:
    for words in (
        ("admit-validator", "x"),
        ("propose", "colour", "1"),
        ("vote", "0", "perhaps"),
        ("transfer-certificate", "x" * 33, str(addresses.market())),
        ("issue-certificate", "REC-1", "Zähler", "1"),
    ):
        assert operator.admin(AUTHORITY, *words)[0] == 2, words
