"""Dossiers and trade proofs checked by a third party: the document and a chain node, nothing of ours.

Belongs here: what such a document claims, held against the chain. Does not belong here: the forms (audit/dossier.py,
audit/proofs.py), printing. Every check is named; what fails says what was claimed and what the chain says.
"""

from __future__ import annotations

import base64
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from solders.transaction import VersionedTransaction

from gridtokenx_pipelines.audit import dossier, proofs
from gridtokenx_pipelines.audit.findings import OK, VERDICTS
from gridtokenx_pipelines.audit.proofs import ProofError
from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain.state import read_roots
from gridtokenx_pipelines.market.base58 import decode_wallet
from gridtokenx_pipelines.market.roots import leaf_hash
from gridtokenx_pipelines.settlement.frames import CLEARING, METERING

ATTEST = struct.Struct("<BIH32s")
DISCRIMINATOR_BYTES = 8
HALTED_FLAG = 1
Root = tuple[int, int, int]


class Check(msgspec.Struct, frozen=True):
    """One thing that was checked; `detail` says what was found."""

    what: str
    holds: bool
    detail: str


def verify_dossier(document: Mapping[str, Any], client: ChainClient) -> list[Check]:
    """All checks of a dossier (dossier.read's). Raises ChainUnavailable if the node doesn't answer."""
    edits = dossier.edits(document)
    checks = [Check("signature and digests", not edits, "every part is what the operator signed")] if not edits else []
    checks += [Check("edited", False, each) for each in edits]
    try:
        checks += [*_network(document, client), *_operator(document["operator"], client), *_counts(document)]
        checks += _runs(document, client)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        checks.append(Check("form", False, f"a part can't be read ({type(error).__name__}: {error}); it was edited"))
    return checks


def _network(document: Mapping[str, Any], client: ChainClient) -> Iterator[Check]:
    claimed, there = document["network"]["genesis"], client.call("getGenesisHash")
    same = claimed == there
    words = f"genesis {there}" if same else f"the dossier is of the chain {claimed}, this node's is {there}"
    yield Check("chain", same, words)
    programs = {name: str(addresses.program_id(name, document["network"]["id"])) for name in addresses.PROGRAM_NAMES}
    other = [name for name, address in document["programs"].items() if programs.get(name) != address]
    yield Check("programs", not other, "ids are the published ones" if not other else f"{other[0]} has another id")


def _operator(operator: str, client: ChainClient) -> Iterator[Check]:
    account = client.account(addresses.governance())
    if account is None:
        yield Check("operator", False, "this chain has no governance account: it is not the dossier's network")
        return
    authority = str(Program.load("governance").decode("Governance", account.data)["authority"])
    same = authority == operator
    words = f"{operator} is the authority" if same else f"signed by {operator}, the chain's authority is {authority}"
    yield Check("operator", same, words)


def _counts(document: Mapping[str, Any]) -> Iterator[Check]:
    counted = dict.fromkeys(VERDICTS, 0) | Counter(each["verdict"] for each in document["epochs"])
    same = counted == document["counts"] and len(document["epochs"]) == document["range"]["epochs"]
    yield Check("counts", same, f"{len(document['epochs'])} epochs" if same else f"the epochs add up to {counted}")
    for each in document["epochs"]:
        if (each["verdict"] == OK) != (each["differences"] == 0 and each["verdict"] == OK):
            yield Check(f"epoch {each['key']}", False, f"verdict {OK} with {each['differences']} differences")


def _runs(document: Mapping[str, Any], client: ChainClient) -> Iterator[Check]:
    """Every run's roots against the chain's final ones, and its header under its root."""
    wanted: dict[Root, str] = {}
    settled = [each for each in document["epochs"] if each["verdict"] == OK]
    for epoch in settled:
        for run in epoch["runs"]:
            wanted[epoch["epoch"], run["kind"], run["run"]] = run["root"]
            if run["metering_root"]:
                wanted[epoch["epoch"], METERING, 0] = run["metering_root"]
    final = read_roots(client, list(wanted))
    shown = {each["epoch"]: each for each in settled}
    bad, closed = 0, 0
    for place, root in wanted.items():
        epoch, kind, run = place
        there = final.get(place)
        if there is None:
            there = _from_transactions(client, shown[epoch], place)
            closed += there is not None
        if there is None or there.hex() != root:
            bad += 1
            said = "has no final root and no transaction shows one" if there is None else f"has {there.hex()}"
            yield Check(f"epoch {shown[epoch]['key']} kind {kind} run {run}", False, f"root {root}: the chain {said}")
    network_id = document["network"]["id"]
    for epoch in settled:
        for run in epoch["runs"]:
            fault = _header_fault(epoch, run, network_id)
            if fault:
                bad += 1
                yield Check(f"epoch {epoch['key']} run {run['run']} header", False, fault)
    if not bad:
        words = f"{len(wanted)} roots are final on the chain" + (f", {closed} shown by transactions" if closed else "")
        yield Check("roots and headers", True, words)


def _header_fault(epoch: Mapping[str, Any], run: Mapping[str, Any], network_id: int) -> str:
    try:
        if proofs.root_of(run["header"]).hex() != run["root"]:
            return "header and siblings don't give the run's root"
        said = proofs.header_of(run["header"], network_id, epoch["epoch"], run["run"], run["kind"])
    except ProofError as error:
        return str(error)
    return "" if said["seq"] == run["seq"] else f"seq was {run['seq']}, the header says {said['seq']}"


def _from_transactions(client: ChainClient, epoch: Mapping[str, Any], place: Root) -> bytes | None:
    """The root that k oracles attested, read off the transactions the dossier names: accounts are closed by now."""
    number, kind, run = place
    named = [each for each in epoch["runs"] if each["run"] == run or (kind == METERING and each["run"] == 0)]
    # an oracle counts once, with the last root it attested
    said: dict[str, bytes] = {}
    for signature in named[0]["signatures"].get("prepare", []) if named else []:
        found = client.call("getTransaction", signature, {"encoding": "base64", "maxSupportedTransactionVersion": 0})
        if found is None or found["meta"]["err"] is not None:
            continue
        for oracle, root in _attested(found["transaction"][0], (kind, number, run)):
            said[oracle] = root
    account = client.account(addresses.governance())
    if account is None or not said:
        return None
    votes = Counter(said.values())
    threshold = Program.load("governance").decode("Governance", account.data)["oracle_threshold"]
    root, count = votes.most_common(1)[0]
    return root if count >= threshold else None


def _attested(raw: str, wanted: tuple[int, int, int]) -> Iterator[tuple[str, bytes]]:
    message = VersionedTransaction.from_bytes(base64.b64decode(raw)).message
    oracle_program = addresses.program_id("oracle")
    for compiled in message.instructions:
        data = bytes(compiled.data)
        if message.account_keys[compiled.program_id_index] != oracle_program:
            continue
        if len(data) == DISCRIMINATOR_BYTES + ATTEST.size:
            kind, epoch, run, root = ATTEST.unpack(data[DISCRIMINATOR_BYTES:])
            if (kind, epoch, run) == wanted:
                yield str(message.account_keys[compiled.accounts[0]]), root


def verify_trade(document: Mapping[str, Any], client: ChainClient) -> list[Check]:
    """All checks of a trade's proof."""
    checks = [_signed(document), *_operator(str(document.get("operator")), client)]
    for what, work in (("trade under the result's root", _result), ("parties under the chain's root", _settled)):
        try:
            checks.append(Check(what, True, work(document, client)))
        except ProofError as error:
            checks.append(Check(what, False, str(error)))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            checks.append(Check(what, False, f"can't be read ({type(error).__name__}: {error}); it was edited"))
    return checks


def _signed(document: Mapping[str, Any]) -> Check:
    try:
        key = decode_wallet(document["operator"])
        VerifyKey(key).verify(proofs.message_of(document), bytes.fromhex(document["signature"]))
    except (BadSignatureError, KeyError, TypeError, ValueError, AttributeError):
        return Check("signature", False, "the operator did not sign these bytes: the proof was edited")
    return Check("signature", True, "the operator signed it")


def _result(document: Mapping[str, Any], _client: ChainClient) -> str:
    part = document["result"]
    row = proofs.result_row_of(document)
    if row.hex() != part["leaf_bytes"]:
        raise ProofError("the leaf's bytes are not those of this trade: trade or leaf was edited")
    if leaf_hash(row).hex() != part["leaf"] or proofs.root_of(part).hex() != part["root"]:
        raise ProofError("leaf and siblings don't give the root: leaf, siblings or root was edited")
    return f"leaf {part['index']} of {part['root']}"


def _settled(document: Mapping[str, Any], client: ChainClient) -> str:
    epoch, network_id, trade, part = document["epoch"], document["network_id"], document["trade"], document["settled"]
    final = read_roots(client, [(epoch, CLEARING, 0)]).get((epoch, CLEARING, 0))
    if final is None:
        raise ProofError("the chain has no final root of the epoch; it is not settled, or its accounts are closed")
    if final.hex() != part["root"]:
        raise ProofError(f"root was {part['root']}, the chain has {final.hex()}")
    for name in ("header", "buyer", "seller"):
        if proofs.root_of(part[name]) != final:
            raise ProofError(f"{name}: leaf and siblings don't give the chain's root; it was edited")
    for name, sign in (("buyer", 1), ("seller", -1)):
        if part[name]["wallet"] != trade[name]:
            raise ProofError(f"{name} was {trade[name]}, the entry is of {part[name]['wallet']}")
        address = bytes(addresses.address_of_trader(trade[name]))
        _, traded = proofs.check_side(part[name], network_id, epoch, address)
        if traded * sign < trade["energy_wh"]:
            raise ProofError(f"{name} traded {traded} Wh in the epoch, less than this trade's {trade['energy_wh']} Wh")
    header = proofs.header_of(part["header"], network_id, epoch, 0, CLEARING)
    price = header["zones"].get(trade["buyer_zone"], (None,))[0]
    if header["flags"] & HALTED_FLAG or price != trade["price_uthb_per_kwh"]:
        raise ProofError(
            f"price was {trade['price_uthb_per_kwh']}, the chain's in zone {trade['buyer_zone']} is {price}"
        )
    return f"buyer's and seller's entries and the price are under {part['root']}"
