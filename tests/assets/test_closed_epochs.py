"""Epochs that the horizon has left behind: their rent goes back, and an audit still proves them, by transactions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from solders.compute_budget import set_compute_unit_limit
from solders.instruction import Instruction

from gridtokenx_pipelines.audit_cli.verify import verify_dossier
from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain.state import read_market, read_roots
from gridtokenx_pipelines.cli import cli
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.settlement_service import receipts
from gridtokenx_pipelines.settlement_service.services import Services
from tests.assets.audited_market import EPOCHS, FIRST, settled_market
from tests.assets.test_voids_on_chain import as_env

HORIZON, STUCK = 15 * 96, 98
LAST = FIRST + EPOCHS - 1
AT_ONCE = 6


@pytest.fixture
def market(new_database: Callable[[], str], tmp_path: Path) -> Iterator[Services]:
    with settled_market(new_database(), tmp_path) as services:
        yield services


def fifteen_days_pass(services: Services) -> None:
    """So many epochs are opened, and void once they are a day old, that those settled lie behind the horizon."""
    trading, registry, payer = Program.load("trading"), Program.load("registry"), services.relayer
    authority = services.authority.pubkey
    last = LAST + HORIZON

    def opened(epoch: int) -> list[Instruction]:
        named = {"payer": payer.pubkey, "authority": authority, "epoch": addresses.epoch(epoch)}
        steps = [trading.instruction("open_epoch", named, epoch=epoch)]
        if epoch <= last:
            metered = {"payer": payer.pubkey, "metered": addresses.metered(epoch)}
            steps.append(registry.instruction("open_metered", metered, epoch=epoch))
        return steps

    def void(epoch: int) -> list[Instruction]:
        named = {"authority": authority, "epoch": addresses.epoch(epoch), "metered": addresses.metered(epoch)}
        named["attestation"] = addresses.attestation(1, epoch, 0)
        return [trading.instruction("void_epoch", named, depth=0, rest=b"")]

    begun = read_market(services.client)["last_opened"] + 1
    for step, epochs in ((opened, range(begun, last + STUCK)), (void, range(LAST + 1, last + 1))):
        for start in range(0, len(epochs), AT_ONCE):
            some = epochs[start : start + AT_ONCE]
            together = [set_compute_unit_limit(1_000_000), *(each for epoch in some for each in step(epoch))]
            services.client.send_and_confirm(together, payer, [services.authority])


def test_rent_of_old_epochs_goes_back_and_their_audit_and_dossier_hold_by_transactions_alone(
    market: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in as_env(market).items():
        monkeypatch.setenv(name, value)
    fifteen_days_pass(market)
    before = market.client.balance(market.relayer.pubkey)
    kept = CliRunner().invoke(cli, ["settle", "keep-house"])
    assert kept.exit_code == 0, kept.output
    assert kept.output.startswith(f"{EPOCHS} epochs closed, ")
    assert market.client.balance(market.relayer.pubkey) > before
    assert read_market(market.client)["closed_through"] == LAST
    assert read_roots(market.client, [(epoch, 1, 0) for epoch in range(FIRST, LAST + 1)]) == {}

    ran = CliRunner().invoke(cli, ["audit", "run", "--from", key_of(FIRST), "--to", key_of(LAST)])
    assert ran.exit_code == 0, ran.output
    (path,) = (market.parquet.root.parent / "dossiers").glob("*.json")
    document = json.loads(path.read_bytes())
    assert {each["closed"] for each in document["epochs"]} == {True}
    said = CliRunner().invoke(cli, ["audit", "verify", str(path), "--rpc", market.client.rpc_url])
    assert said.exit_code == 0, said.output
    (roots,) = [check for check in verify_dossier(document, market.client) if check.what == "roots and headers"]
    assert roots.detail.endswith("shown by transactions")

    # a signature that leads elsewhere, or a root other than the one that was attested, is found out
    for wrong in ({"signatures": {}}, {"root": "00" * 32}):
        edited = msgspec.json.decode(path.read_bytes())
        edited["epochs"][0]["runs"][0] |= wrong
        checks = verify_dossier(edited, market.client)
        assert any(not check.holds and "kind 1 run 0" in check.what for check in checks), checks
    proof = receipts.proof_of(market)
    assert (proof.traders.rows(), [law.law for law in proof.laws if law.difference]) == ([], [])
