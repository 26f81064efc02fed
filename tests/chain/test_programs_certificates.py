"""Renewable certificates: one kWh of production backs at most one, ever."""

from __future__ import annotations

from hashlib import sha256

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from tests.chain.svm import DEPLOYER, RENT, START, Chain, ProgramFailedError, Receipt, key

OWNER, BUYER, STRANGER = key("owner"), key("buyer"), key("stranger")
METER = addresses.address_of_meter("MEA-001")
YEAR = 365 * 86_400
KWH = 1_000
SOLAR, GRID, HYBRID = range(3)
PENDING, ACTIVE, SUSPENDED, RETIRED_METER = range(4)
ISSUED, VALIDATED, RETIRED, REVOKED = range(4)
CU_LIMIT = 15_000  # chain.md §6


def identity(number: int = 0) -> bytes:
    return sha256(f"certificate {number}".encode()).digest()


@pytest.fixture
def chain() -> Chain:
    fresh = Chain()
    fresh.initialize_governance()
    plant_meter(fresh)
    return fresh


def plant_meter(chain: Chain, address: Pubkey = METER, **changes: int) -> None:
    """5 900 Wh produced, 5 000 consumed: certificates are for production, not net."""
    fields = {"status": ACTIVE, "meter_type": SOLAR, "zone": 1, "production_wh": 5_900, "consumption_wh": 5_000}
    owner = bytes(OWNER.pubkey())
    chain.plant("registry", "Meter", address, owner=owner, minted_wh=900, **fields | changes)


def issue(chain: Chain, number: int = 0, energy_wh: int = 2 * KWH, owner=OWNER, meter: Pubkey = METER) -> Receipt:
    accounts = {"owner": owner.pubkey(), "meter": meter, "certificate": addresses.certificate(identity(number))}
    arguments = {"certificate_id": identity(number), "energy_wh": energy_wh}
    return chain.call("governance", "issue_erc", accounts, signers=[owner], **arguments)


def validate(chain: Chain, number: int = 0, authority=DEPLOYER) -> Receipt:
    accounts = {"authority": authority.pubkey(), "certificate": addresses.certificate(identity(number))}
    return chain.call("governance", "validate_erc", accounts, signers=[authority])


def transfer(chain: Chain, holder=OWNER, to=BUYER, number: int = 0) -> Receipt:
    accounts = {"holder": holder.pubkey(), "certificate": addresses.certificate(identity(number))}
    return chain.call("governance", "transfer_erc", accounts, signers=[holder], to=to.pubkey())


def retire(chain: Chain, holder=BUYER, beneficiary=BUYER, number: int = 0) -> Receipt:
    accounts = {"holder": holder.pubkey(), "certificate": addresses.certificate(identity(number))}
    return chain.call("governance", "retire_erc", accounts, signers=[holder], beneficiary=beneficiary.pubkey())


def revoke(chain: Chain, number: int = 0, authority=DEPLOYER, meter: Pubkey = METER) -> Receipt:
    accounts = {"authority": authority.pubkey(), "certificate": addresses.certificate(identity(number))}
    return chain.call("governance", "revoke_erc", accounts | {"meter": meter}, signers=[authority])


def state(chain: Chain, number: int = 0) -> dict:
    found = chain.read("governance", "Certificate", addresses.certificate(identity(number)))
    return {name: value for name, value in found.items() if not name.startswith("_")}


def claimed(chain: Chain, meter: Pubkey = METER) -> int:
    return chain.read("registry", "Meter", meter)["claimed_erc_wh"]


def refused(name: str, call, *args, **kwargs) -> None:
    with pytest.raises(ProgramFailedError) as failure:
        call(*args, **kwargs)
    assert failure.value.name == name, failure.value


def test_a_certificate_lives_from_issue_to_retirement(chain: Chain):
    issue(chain)
    expected = {
        "certificate_id": identity(),
        "meter": METER,
        "producer": OWNER.pubkey(),
        "holder": OWNER.pubkey(),
        "beneficiary": Pubkey.default(),
        "energy_wh": 2 * KWH,
        "issued_at": START,
        "expires_at": START + YEAR,
        "retired_at": 0,
        "event_seq": 1,
        "zone": 1,
        "meter_type": SOLAR,
        "status": ISSUED,
    }
    found = state(chain)
    assert 0 < found.pop("bump") <= 255
    assert found == expected
    assert claimed(chain) == 2 * KWH
    validate(chain)
    transfer(chain)
    chain.at(START + 60)
    retire(chain, beneficiary=STRANGER)
    found = state(chain)
    del found["bump"]
    changed = {"holder": BUYER.pubkey(), "beneficiary": STRANGER.pubkey(), "retired_at": START + 60}
    assert found == expected | changed | {"status": RETIRED, "event_seq": 4}
    assert claimed(chain) == 2 * KWH


def test_issuing_costs_less_than_the_limit(chain: Chain):
    spent = max(issue(chain, number, KWH).compute_units for number in range(5))
    print(f"issue_erc: {spent} CU, limit {CU_LIMIT}")
    assert spent <= CU_LIMIT


def test_only_whole_kwh_of_unclaimed_production_are_certified(chain: Chain):
    for energy in (0, 999, 1_500):
        refused("NotWholeKwh", issue, chain, energy_wh=energy)
    refused("ProductionClaimed", issue, chain, energy_wh=6 * KWH)
    refused("ProductionClaimed", issue, chain, energy_wh=2**64 - 1_616)
    issue(chain, 0, 4 * KWH)
    refused("ProductionClaimed", issue, chain, 1, 2 * KWH)
    issue(chain, 1, KWH)
    assert claimed(chain) == 5 * KWH
    refused("ProductionClaimed", issue, chain, 2, KWH)


def test_a_hybrid_meter_is_renewable_and_a_grid_meter_is_not(chain: Chain):
    plant_meter(chain, meter_type=HYBRID)
    issue(chain)
    plant_meter(chain, meter_type=GRID)
    refused("NotRenewable", issue, chain, 1)


@pytest.mark.parametrize("status", [PENDING, SUSPENDED, RETIRED_METER])
def test_a_suspended_meters_owner_certifies_nothing(chain: Chain, status: int):
    plant_meter(chain, status=status)
    refused("MeterNotActive", issue, chain)


def test_only_the_meters_owner_issues_and_an_id_is_used_once(chain: Chain):
    refused("Unauthorised", issue, chain, owner=STRANGER)
    issue(chain)
    refused("AlreadyExists", issue, chain)
    accounts = {"owner": OWNER.pubkey(), "meter": METER, "certificate": addresses.certificate(identity(1))}
    arguments = {"certificate_id": identity(2), "energy_wh": KWH}
    refused("WrongAddress", chain.call, "governance", "issue_erc", accounts, signers=[OWNER], **arguments)


def test_nobody_claims_or_releases_production_without_a_certificate(chain: Chain):
    plant_meter(chain, claimed_erc_wh=KWH)
    for name in ("claim_erc", "release_erc"):
        accounts = {"governance": OWNER.pubkey(), "meter": METER}
        refused("Unauthorised", chain.call, "registry", name, accounts, signers=[OWNER], energy_wh=KWH)
    assert claimed(chain) == KWH


def test_a_certificate_is_not_claimed_again_after_transfer(chain: Chain):
    issue(chain, energy_wh=5 * KWH)
    validate(chain)
    transfer(chain)
    refused("ProductionClaimed", issue, chain, 1, KWH)
    refused("Unauthorised", transfer, chain, OWNER, STRANGER)
    refused("Unauthorised", retire, chain, OWNER)
    transfer(chain, BUYER, STRANGER)
    refused("Unauthorised", retire, chain, BUYER)
    retire(chain, STRANGER)
    refused("InvalidTransition", retire, chain, STRANGER)
    refused("InvalidTransition", transfer, chain, STRANGER, BUYER)


def test_only_a_validated_certificate_is_traded_or_retired(chain: Chain):
    issue(chain)
    refused("InvalidTransition", transfer, chain)
    refused("InvalidTransition", retire, chain, OWNER)
    refused("Unauthorised", validate, chain, 0, OWNER)
    validate(chain)
    refused("InvalidTransition", validate, chain)
    refused("Unauthorised", transfer, chain, STRANGER)
    accounts = {"holder": OWNER.pubkey(), "certificate": addresses.certificate(identity())}
    zero = Pubkey.default()
    refused("InvalidData", chain.call, "governance", "transfer_erc", accounts, signers=[OWNER], to=zero)
    refused("InvalidData", chain.call, "governance", "retire_erc", accounts, signers=[OWNER], beneficiary=zero)


@pytest.mark.parametrize("validated", [False, True])
def test_a_revoked_certificate_gives_its_claim_back_and_is_void(chain: Chain, validated: bool):
    issue(chain, energy_wh=5 * KWH)
    if validated:
        validate(chain)
        transfer(chain)
    refused("Unauthorised", revoke, chain, 0, OWNER)
    revoke(chain)
    assert (state(chain)["status"], claimed(chain)) == (REVOKED, 0)
    for call in (revoke, validate, transfer, retire):
        refused("Unauthorised" if call is transfer and validated else "InvalidTransition", *_as_holder(call, chain))
    refused("AlreadyExists", issue, chain)
    issue(chain, 1, 5 * KWH)
    assert claimed(chain) == 5 * KWH


def _as_holder(call, chain: Chain) -> tuple:
    holder = OWNER if state(chain)["holder"] == OWNER.pubkey() else BUYER
    return (call, chain, holder) if call is retire else (call, chain)


def test_a_claim_is_given_back_to_no_other_meter_and_by_no_retired_certificate(chain: Chain):
    other = addresses.address_of_meter("MEA-002")
    plant_meter(chain, other, claimed_erc_wh=5 * KWH)
    issue(chain)
    refused("WrongAddress", revoke, chain, meter=other)
    validate(chain)
    retire(chain, OWNER)
    refused("InvalidTransition", revoke, chain)
    assert (claimed(chain), claimed(chain, other)) == (2 * KWH, 5 * KWH)


def test_no_more_is_given_back_than_is_claimed(chain: Chain):
    issue(chain)
    plant_meter(chain, claimed_erc_wh=2 * KWH - 1)
    refused("ClaimBelowZero", revoke, chain)
    assert state(chain)["status"] == ISSUED


def test_a_certificate_that_is_only_read_cannot_be_changed(chain: Chain):
    issue(chain)
    built = chain.build(
        "governance",
        "validate_erc",
        {"authority": DEPLOYER.pubkey(), "certificate": addresses.certificate(identity())},
    )
    metas = [AccountMeta(meta.pubkey, meta.is_signer, False) for meta in built.accounts]
    refused("NotWritable", chain.send, Instruction(built.program_id, built.data, metas), signers=[DEPLOYER])


def test_after_a_year_a_certificate_is_neither_validated_traded_retired_nor_revoked(chain: Chain):
    issue(chain)
    issue(chain, 1)
    validate(chain, 1)
    chain.at(START + YEAR - 1)
    transfer(chain, number=1)
    chain.at(START + YEAR)
    refused("CertificateExpired", validate, chain)
    refused("CertificateExpired", transfer, chain, BUYER, OWNER, 1)
    refused("CertificateExpired", retire, chain, number=1)
    refused("CertificateExpired", revoke, chain)
    refused("CertificateExpired", revoke, chain, 1)
    assert claimed(chain) == 4 * KWH


def test_a_forged_certificate_or_meter_is_refused(chain: Chain):
    chain.svm.airdrop(STRANGER.pubkey(), RENT)
    forged = key("forged").pubkey()
    plant_meter(chain, forged)
    chain.put(forged, STRANGER.pubkey(), chain.svm.get_account(forged).data)
    refused("WrongOwner", issue, chain, meter=forged)
    issue(chain)
    certificate = addresses.certificate(identity())
    data = chain.svm.get_account(certificate).data
    chain.put(forged, STRANGER.pubkey(), data)
    accounts = {"holder": OWNER.pubkey(), "certificate": forged}
    refused("WrongOwner", chain.call, "governance", "transfer_erc", accounts, signers=[OWNER], to=BUYER.pubkey())


def test_an_instruction_to_paused_governance_is_refused(chain: Chain):
    issue(chain)
    pause = {"guardian_or_authority": DEPLOYER.pubkey()}
    chain.call("governance", "pause", pause, signers=[DEPLOYER], program=0)
    for call, args in ((issue, (1,)), (validate, ()), (transfer, ()), (retire, (OWNER,)), (revoke, ())):
        refused("Paused", call, chain, *args)


def test_lamports_sent_to_a_certificates_address_do_not_block_it(chain: Chain):
    chain.svm.airdrop(addresses.certificate(identity()), 890_880)
    issue(chain)
    assert state(chain)["energy_wh"] == 2 * KWH
