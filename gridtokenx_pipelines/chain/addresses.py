"""Where things live on the chain: program ids, program derived addresses, well-known programs and sysvars.

Belongs here: pure derivations from names (docs/reference/abi.md, PDAs), cached because one costs some 13 µs.
Does not belong here: reading accounts, keys, RPC.
"""

from __future__ import annotations

from functools import cache, lru_cache
from hashlib import sha256

from solders.pubkey import Pubkey

PROGRAM_NAMES = ("governance", "registry", "energy-token", "trading", "oracle")
LOCALNET = 3
MAX_METER_ID_BYTES = 32

SYSTEM_PROGRAM = Pubkey.from_string("11111111111111111111111111111111")
TOKEN_2022 = Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")
ASSOCIATED_TOKEN = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
LOOKUP_TABLE_PROGRAM = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
COMPUTE_BUDGET = Pubkey.from_string("ComputeBudget111111111111111111111111111111")
ED25519_PROGRAM = Pubkey.from_string("Ed25519SigVerify111111111111111111111111111")
INSTRUCTIONS_SYSVAR = Pubkey.from_string("Sysvar1nstructions1111111111111111111111111")


@cache
def program_id(name: str, network: int = LOCALNET) -> Pubkey:
    """Id of one of the five programs; ValueError for an unknown name or a network without published ids."""
    if name not in PROGRAM_NAMES:
        raise ValueError(f"program was {name!r}, must be one of {', '.join(PROGRAM_NAMES)}")
    if network != LOCALNET:
        raise ValueError(f"network was {network}, must be {LOCALNET}: a real network is built with its own ids file")
    return Pubkey(sha256(f"gridtokenx/localnet/program/{name}".encode()).digest())


def deployer_seed() -> bytes:
    """Seed of the localnet deployer, a published key of no value; only it may call an `initialize*` there."""
    return sha256(b"gridtokenx/localnet/deployer").digest()


@lru_cache(maxsize=1 << 18)
def pda(program: str, *seeds: bytes) -> Pubkey:
    """Program derived address of the seeds under a program."""
    return Pubkey.find_program_address(list(seeds), program_id(program))[0]


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def governance() -> Pubkey:
    """The governance singleton."""
    return pda("governance", b"governance")


def validators() -> Pubkey:
    """The validator set that governance admits."""
    return pda("governance", b"validators")


def proposal(number: int) -> Pubkey:
    """A proposal by its id."""
    return pda("governance", b"proposal", number.to_bytes(8, "little"))


def vote(number: int, validator: Pubkey) -> Pubkey:
    """Marker of a validator's one vote on a proposal."""
    return pda("governance", b"vote", bytes(proposal(number)), bytes(validator))


def certificate(certificate_id: bytes) -> Pubkey:
    """A renewable certificate by its 32-byte id."""
    return pda("governance", b"erc", certificate_id)


def price_feed(zone: int) -> Pubkey:
    """The oracles' reports on a zone."""
    return pda("oracle", b"price", zone.to_bytes(2, "little"))


def registry() -> Pubkey:
    """The registry singleton."""
    return pda("registry", b"registry")


def token_config() -> Pubkey:
    """Mints and bridge of the energy token."""
    return pda("energy-token", b"token_config")


def mint_authority() -> Pubkey:
    """Signer of every mint."""
    return pda("energy-token", b"mint_authority")


def grid_mint() -> Pubkey:
    """Mint of GRID (3 decimals, 1 base unit = 1 Wh)."""
    return pda("energy-token", b"grid_mint")


def thbc_mint() -> Pubkey:
    """Mint of THBC (6 decimals, 1 base unit = 1 µTHB)."""
    return pda("energy-token", b"thbc_mint")


def market() -> Pubkey:
    """The market singleton."""
    return pda("trading", b"market")


def grid_vault() -> Pubkey:
    """Vault that holds the GRID of all traders and the supplier."""
    return pda("trading", b"grid_vault")


def thbc_vault() -> Pubkey:
    """Vault that holds the THBC of all traders and market accounts."""
    return pda("trading", b"thbc_vault")


def epoch(number: int) -> Pubkey:
    """Trading's account of an epoch."""
    return pda("trading", b"epoch", _u32(number))


def metered(number: int) -> Pubkey:
    """Registry's account of an epoch's metering."""
    return pda("registry", b"metered", _u32(number))


def attestation(kind: int, number: int, run: int) -> Pubkey:
    """The oracles' attestation for a kind, epoch and run."""
    return pda("oracle", b"attestation", bytes([kind]), _u32(number), run.to_bytes(2, "little"))


def deposit(reference: bytes) -> Pubkey:
    """Marker that makes the THBC issue for a deposit reference once-only."""
    return pda("energy-token", b"deposit", sha256(reference).digest())


def address_of_user(wallet: str | Pubkey) -> Pubkey:
    """Registry account of a wallet."""
    return pda("registry", b"user", bytes(_pubkey(wallet)))


def address_of_trader(wallet: str | Pubkey) -> Pubkey:
    """Trading account of a wallet."""
    return pda("trading", b"trader", bytes(_pubkey(wallet)))


def address_of_meter(meter_id: str) -> Pubkey:
    """Registry account of a meter; ValueError for an id that is no 1–32 printable ASCII characters."""
    if not (0 < len(meter_id) <= MAX_METER_ID_BYTES and meter_id.isascii() and meter_id.isprintable()):
        raise ValueError(f"meter id was {meter_id!r}, must be 1–{MAX_METER_ID_BYTES} printable ASCII characters")
    return pda("registry", b"meter", meter_id.encode())


@lru_cache(maxsize=1 << 16)
def token_account(wallet: Pubkey, mint: Pubkey) -> Pubkey:
    """Associated Token-2022 account of a wallet for a mint."""
    return Pubkey.find_program_address([bytes(wallet), bytes(TOKEN_2022), bytes(mint)], ASSOCIATED_TOKEN)[0]


@lru_cache(maxsize=1 << 17)
def _parse(wallet: str) -> Pubkey:
    return Pubkey.from_string(wallet)


def _pubkey(wallet: str | Pubkey) -> Pubkey:
    return _parse(wallet) if isinstance(wallet, str) else wallet


@cache
def well_known() -> dict[str, Pubkey]:
    """Addresses that instruction builders fill in by the account's IDL name when the caller gives none."""
    return {
        "system_program": SYSTEM_PROGRAM,
        "token_program": TOKEN_2022,
        "associated_token_program": ASSOCIATED_TOKEN,
        "instructions_sysvar": INSTRUCTIONS_SYSVAR,
        "registry_program": program_id("registry"),
        "energy_token_program": program_id("energy-token"),
        "governance": governance(),
        "validators": validators(),
        "registry": registry(),
        "token_config": token_config(),
        "mint_authority": mint_authority(),
        "grid_mint": grid_mint(),
        "thbc_mint": thbc_mint(),
        "market": market(),
        "grid_vault": grid_vault(),
        "thbc_vault": thbc_vault(),
    }
