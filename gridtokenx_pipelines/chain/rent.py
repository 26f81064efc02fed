"""Rent of epochs beyond the horizon, given back to whoever paid it.

Belongs here: closing epoch, metered and attestation accounts in order. Does not belong here: when (retention).
"""

from __future__ import annotations

import msgspec
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.errors import ChainError
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain.signer import Signer
from gridtokenx_pipelines.chain.state import read_market

METERING, CLEARING = 0, 1
# as the program counts: 14 days of corrections and one in which the last of them settles
HORIZON_EPOCHS = 15 * 96
# nothing to close yet, or not any more: told by the program, which knows the horizon and what still waits
NOT_YET = frozenset({"HorizonNotOver", "WrongStatus", "EpochOutOfOrder"})


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """Epochs closed for good, and lamports that went back to their payers."""

    closed: int
    lamports: int


def give_back(client: ChainClient, payer: Signer, at_most: int) -> Returned:
    """Close up to `at_most` epochs, the oldest first, until the program says that the next is not due."""
    closed = lamports = 0
    while closed < at_most:
        market = read_market(client)
        number = market["closed_through"] + 1
        account = client.account(addresses.epoch(number))
        if account is None or market["settled_through"] - number < HORIZON_EPOCHS:
            break
        held = {"epoch": account.lamports}
        instructions = _closing(client, number, account.data, held)
        try:
            client.send_and_confirm(instructions, payer)
        except ChainError as error:
            if error.name in NOT_YET:
                break
            raise
        closed += 1
        lamports += sum(held.values())
    return Returned(closed=closed, lamports=lamports)


def _closing(client: ChainClient, number: int, data: bytes, held: dict[str, int]) -> list[Instruction]:
    trading, registry, oracle = (Program.load(name) for name in ("trading", "registry", "oracle"))
    epoch = trading.decode("Epoch", data)
    metered = addresses.metered(number)
    accounts = {
        "payer": Pubkey(bytes(epoch["payer"])),
        "epoch": addresses.epoch(number),
        "metered": metered,
        "next_epoch": addresses.epoch(number + 1),
    }
    found = [trading.instruction("close_epoch", accounts)]
    roots = [(METERING, 0), (CLEARING, 0), *((kind, run) for run in range(1, epoch["run"] + 1) for kind in (2, 3))]
    wanted = [metered, *(addresses.attestation(kind, number, run) for kind, run in roots)]
    for address, account in zip(wanted, client.accounts(wanted), strict=True):
        if account is None:
            continue
        held[str(address)] = account.lamports
        program, name = (registry, "Metered") if address == metered else (oracle, "Attestation")
        to = Pubkey(bytes(program.decode(name, account.data)["payer"]))
        if name == "Metered":
            found.append(registry.instruction("close_metered", {"payer": to, "metered": address}))
        else:
            found.append(oracle.instruction("close_attestation", {"payer": to, "attestation": address}))
    return found
