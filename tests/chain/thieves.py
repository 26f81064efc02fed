"""What thieves try in a market that is being played: every call here must be refused, whatever state the market is in.

Belongs here: transactions of strangers, relayers, one oracle, one attestor, and of households reaching for others'
accounts. Does not belong here: the market (play.py), in which order things happen (test_play.py). A theft returns the
transaction's instructions and signers, or None where there is nothing to try it on yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from random import Random
from struct import pack

from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from tests.chain.play import Home, Play
from tests.chain.svm import BRIDGE, CLEARING, GUARDIAN, LATE, ORACLES, PARAMS, key
from tests.chain.trading_world import Run, order

THIEF = key("thief")
Attempt = tuple[list[Instruction], Sequence[Keypair]]
FORGED = bytes([7]) * 32


def _as(role: str) -> dict[str, Pubkey]:
    return {role: THIEF.pubkey()}


def of_households(play: Play, victim: Home, other: Home, random: Random) -> dict[str, Attempt | None]:
    """The victim's instructions signed by somebody else, who has an account of its own."""
    by = other.household.wallet
    trader = {"wallet": by.pubkey(), "trader": victim.household.trader}
    build = play.world.build
    thbc = {"thbc_destination": other.household.cash, "grid_destination": other.household.energy}
    calls = {
        "withdraws another's request": build("trading", "withdraw", trader | thbc),
        "requests another's withdrawal": build("trading", "request_withdrawal", trader, thbc=1, grid=1),
        "sets another's mandate": build(
            "trading",
            "set_mandate",
            trader,
            sell_min=2_000_000,
            buy_max=0,
            max_wh=9,
            expiry_epoch=2**32 - 1,
            buy_back=0,
        ),
        "revokes another's mandate": build("trading", "revoke_mandate", trader),
        "places another's order": build(
            "trading", "create_order", trader, epoch=play.last_opened + 1, side=0, limit=8_000_000, energy_wh=9
        ),
        "cancels another's order": build("trading", "cancel_order", trader, slot=random.randrange(8)),
        "deposits another's money": build(
            "trading",
            "deposit",
            {"wallet": by.pubkey(), "trader": other.household.trader, "source": victim.household.cash},
            amount=1,
        ),
        "deposits the vault's own money": build(
            "trading",
            "deposit",
            {"wallet": by.pubkey(), "trader": other.household.trader, "source": addresses.thbc_vault()},
            amount=1,
        ),
        "burns another's THBC for itself": build(
            "energy-token",
            "request_redemption",
            {
                "owner": by.pubkey(),
                "source": victim.household.cash,
                "redemption": addresses.pda("energy-token", b"redemption", bytes(by.pubkey()), FORGED),
            },
            reference=FORGED,
            amount=1,
        ),
        "certifies another's production": build(
            "governance",
            "issue_erc",
            {"owner": by.pubkey(), "meter": victim.household.meter, "certificate": addresses.certificate(FORGED)},
            certificate_id=FORGED,
            energy_wh=1_000,
        ),
        "registers another's meter": build(
            "registry",
            "register_meter",
            {
                "owner": by.pubkey(),
                "user": addresses.address_of_user(by.pubkey()),
                "meter": victim.household.meter,
            },
            meter_type=0,
            zone=other.zone,
            rating_w=1,
            device_key=by.pubkey(),
            meter_id=victim.household.meter_id,
        ),
    }
    found: dict[str, Attempt | None] = {name: ([call], [by]) for name, call in calls.items()}
    found["withdraws to the vault itself"] = (
        [
            build(
                "trading",
                "withdraw",
                {"wallet": victim.household.wallet.pubkey(), "trader": victim.household.trader}
                | {"thbc_destination": addresses.thbc_vault(), "grid_destination": addresses.grid_vault()},
            )
        ],
        [victim.household.wallet],
    )
    return found


def of_strangers(play: Play, victim: Home, random: Random) -> dict[str, Attempt | None]:
    """Rights that nobody gave: the authority's, the programs' own, an oracle's, the bridge's."""
    build, epoch = play.world.build, play.last_opened
    mint = {"token_config": addresses.token_config()}
    meter = {"meter": victim.household.meter}
    governance = {"governance": addresses.governance()}
    calls = {
        "mints for production": build("energy-token", "mint_from_production", mint | _as("registry"), amount=1),
        "burns from the vault": build("energy-token", "burn", mint | _as("market"), amount=1),
        "claims production": build("registry", "claim_erc", _as("governance") | meter, energy_wh=1_000),
        "voids an epoch": build(
            "trading",
            "void_epoch",
            _as("authority")
            | {
                "epoch": addresses.epoch(epoch),
                "metered": addresses.metered(epoch),
                "attestation": addresses.attestation(CLEARING, epoch, 0),
            },
            depth=0,
            rest=b"",
        ),
        "sets parameters": build(
            "governance", "set_params", _as("authority") | governance, params=PARAMS | {"effective_epoch": epoch + 5}
        ),
        "names itself oracle": build(
            "governance", "set_oracles", _as("authority") | governance, threshold=1, oracles=[THIEF.pubkey()]
        ),
        "takes over": build("governance", "accept_authority", _as("new") | governance),
        "pauses trading": build("governance", "pause", _as("guardian_or_authority") | governance, program=3),
        "admits itself": build("governance", "admit_validator", _as("authority"), validator=THIEF.pubkey()),
        "opens an epoch": build(
            "trading", "open_epoch", _as("authority") | {"epoch": addresses.epoch(epoch + 1)}, epoch=epoch + 1
        ),
        "starts continuous trading": build("trading", "set_continuous", _as("authority"), on=1, wheeling=0),
        "suspends a meter": build(
            "registry", "set_meter_status", _as("authority") | meter, status=2, from_epoch=epoch + 9
        ),
        "attests a root": build(
            "oracle",
            "attest",
            {"oracle": THIEF.pubkey(), "attestation": addresses.attestation(CLEARING, epoch + 7, 0)},
            kind=CLEARING,
            epoch=epoch + 7,
            run=0,
            root=FORGED,
        ),
        "closes an epoch early": build(
            "trading",
            "close_epoch",
            {
                "payer": play.world.payer.pubkey(),
                "epoch": addresses.epoch(play.last_opened - 1),
                "metered": addresses.metered(play.last_opened - 1),
                "next_epoch": addresses.epoch(play.last_opened),
            },
        ),
    }  # fmt: skip
    found: dict[str, Attempt | None] = {name: ([call], [THIEF]) for name, call in calls.items()}
    found["closes an epoch early"] = ([calls["closes an epoch early"]], [])
    reference = f"forged {random.randrange(1 << 30)}".encode()
    issue = lambda ref, attestors: [  # noqa: E731
        build(
            "energy-token",
            "issue_thbc",
            {"destination": victim.household.cash, "deposit": addresses.deposit(ref)},
            [AccountMeta(attestor.pubkey(), True, False) for attestor in attestors],
            ref_hash=sha256(ref).digest(),
            amount=1_000_000,
        )
    ]
    found["issues THBC with one attestor"] = (issue(reference, BRIDGE[:1]), BRIDGE[:1])
    found["issues THBC for a deposit again"] = (issue(b"deposit 1", BRIDGE[:2]), BRIDGE[:2])
    found["lifts a pause as the guardian"] = (
        [build("governance", "unpause", {"authority": GUARDIAN.pubkey()} | governance, program=3)],
        [GUARDIAN],
    )
    return found


def of_relayers(play: Play, victim: Home, other: Home, random: Random) -> dict[str, Attempt | None]:
    """Batches changed, early, again; a root of one oracle; another's recorded order."""
    world, run = play.world, play.run
    lone = Run(CLEARING, play.settled + 1, 0, play.seq + 1, traders=[(other.household, pack("<ii", 10**6, 0))])
    after = Run(LATE, play.settled, play.last_run.get(play.settled, 0) + 1, play.seq + 1)
    found: dict[str, Attempt | None] = {}
    if run is None:
        named = world.run_accounts(lone)
        proof = lone.tree.proof(0)
        rest = {"depth": len(proof), "rest": b"".join(proof) + lone.header}
        found["commits without attestation"] = ([world.build("trading", "commit_clearing", named, **rest)], [])
        vote = world.build(
            "oracle",
            "attest",
            {"oracle": ORACLES[2].pubkey(), "attestation": named["attestation"]},
            kind=CLEARING,
            epoch=lone.epoch,
            run=0,
            root=lone.tree.root,
        )
        commit = world.build("trading", "commit_clearing", named, **rest)
        found["commits what one oracle attests"] = ([vote, commit], [ORACLES[2]])
        if play.settled in play.last_run:
            begin = world.build("registry", "begin_run", world.run_accounts(after), kind=LATE, run=after.run)
            found["begins a run that nobody attested"] = ([begin], [])
        return found
    if run.trading:
        batch = random.randrange(len(run.trading))
        genuine = world.settle_instruction(run, batch)
        data = bytearray(genuine.data)
        at = random.randrange(8, len(data))
        data[at] ^= 1 << random.randrange(8)
        found["changes a byte of a batch"] = (
            [Instruction(genuine.program_id, bytes(data), genuine.accounts)],
            [],
        )
        traders = [other.household.trader if victim is not other else THIEF.pubkey()] * len(run.trading[batch])
        bound = [home.trader for home, _ in run.trading[batch]]
        if traders != bound:
            found["swaps the accounts of a batch"] = ([world.settle_instruction(run, batch, traders)], [])
        if play.stage == "settle" and batch not in play.todo:
            found["settles a batch twice"] = ([genuine], [])
        if play.stage in ("attest", "meter", "commit"):
            found["settles before the header"] = ([genuine], [])
    if play.stage != "settle" or play.todo:
        named = {name: at for name, at in world.run_accounts(run).items() if name != "attestation"}
        found["finalises what is not applied"] = ([world.build("trading", "finalize_epoch", named)], [])
    if play.stage == "record":
        message = order(run.epoch, 1, 500, 2_000_000, nonce=49)
        forged = Run(CLEARING, run.epoch, 0, run.seq, run.meters, run.traders, [(other.household, message)], run.zones)
        found["records an order that is not in the root"] = (world.record_instructions(forged, 0), [])
        for i in range(len(run.orders)):
            if i not in play.todo:
                found["records an order twice"] = (world.record_instructions(run, i), [])
    return found


THEFTS: dict[str, Callable[[Play, Home, Home, Random], dict[str, Attempt | None]]] = {
    "households": of_households,
    "strangers": lambda play, victim, other, random: of_strangers(play, victim, random),
    "relayers": of_relayers,
}
