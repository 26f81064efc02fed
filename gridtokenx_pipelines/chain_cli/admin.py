"""The actions of `gridtokenx chain admin`: pauses, parameters, oracles, validators, proposals, certificates, prices.

Belongs here: one command an instruction, its arguments checked. Does not belong here: simulating and sending
(actions.py). Whoever holds `--key` acts and pays; whether it has the right the program says, in the dry run already.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain.participants import params_of
from gridtokenx_pipelines.chain.signer import FileSigner, SignerError
from gridtokenx_pipelines.chain_cli.actions import PublicKey, act, action, ask
from gridtokenx_pipelines.chain_cli.places import UnknownPlace, certificate_id, epoch_number
from gridtokenx_pipelines.market.rule_book import RuleBook

# as the pause flags number them
PROGRAMS = {"governance": 0, "registry": 1, "energy-token": 2, "trading": 3, "oracle": 4}
# as proposals number them
PARAMETERS = {
    "fee_bp": 0,
    "vat_bp": 1,
    "wheeling_cap": 2,
    "tariff_on_peak": 3,
    "tariff_off_peak": 4,
    "feed_in": 5,
    "price_min": 6,
    "price_max": 7,
    "halt_bound_bp": 8,
}
PUBKEY = PublicKey()
U64 = click.IntRange(0, 2**64 - 1)
Options = Any


@click.group()
def admin() -> None:
    """Actions on the programs; simulated unless `--send` is given."""


def _run(instruction: str, role: str, options: Options, accounts: dict[str, Pubkey] | None = None, **args: Any) -> None:
    """One instruction of governance by the key's owner in this role, who also pays where something is created."""
    _act("governance", instruction, (role,), options, accounts, **args)


def _act(
    of: str,
    instruction: str,
    roles: tuple[str, ...],
    options: Options,
    accounts: dict[str, Pubkey] | None = None,
    **args: Any,
) -> None:
    own = Program.load(of)
    act(
        lambda key: own.instruction(instruction, dict.fromkeys(roles, key) | (accounts or {}), **args),
        options["key"],
        options["rpc_url"],
        options["send"],
    )


# --- pauses and parameters -------------------------------------------------------------------------------------


@admin.command()
@click.argument("program", type=click.Choice(list(PROGRAMS)))
@action
def pause(program: str, **options: Options) -> None:
    """Pause a program (guardian or authority); it ends by itself after seven days."""
    _run("pause", "guardian_or_authority", options, program=PROGRAMS[program])


@admin.command()
@click.argument("program", type=click.Choice(list(PROGRAMS)))
@action
def unpause(program: str, **options: Options) -> None:
    """Let a pause end in an hour (authority)."""
    _run("unpause", "authority", options, program=PROGRAMS[program])


@admin.command("set-params")
@click.argument("rules", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--from-epoch", required=True, help="First epoch they act in: a number or key.")
@action
def set_params(rules: Path, from_epoch: str, **options: Options) -> None:
    """Set the next parameters to what a rules file says of that epoch (authority)."""
    try:
        given, epoch = msgspec.json.decode(rules.read_bytes(), type=RuleBook), epoch_number(from_epoch)
    except (msgspec.DecodeError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    _run("set_params", "authority", options, params=params_of(given.at(epoch), epoch))


@admin.command("set-oracles")
@click.argument("oracles", nargs=-1, required=True, type=PUBKEY)
@click.option("--threshold", required=True, type=click.IntRange(1, 16))
@action
def set_oracles(oracles: tuple[Pubkey, ...], threshold: int, **options: Options) -> None:
    """Announce an oracle set that acts a day later (authority); 2 × threshold must exceed its size."""
    _run("set_oracles", "authority", options, threshold=threshold, oracles=list(oracles))


@admin.command("rotate-device-key")
@click.argument("meter_id")
@click.argument("device_key", type=PUBKEY)
@click.option("--from-epoch", required=True, help="First epoch it signs, not begun yet: a number or key.")
@click.option(
    "--owner-key",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Key file of the meter's owner, who asks; --key is the authority, which agrees.",
)
@action
def rotate_device_key(meter_id: str, device_key: Pubkey, from_epoch: str, owner_key: Path, **options: Options) -> None:
    """Name the key that signs a meter's readings from a coming epoch on (owner and authority)."""
    try:
        epoch, owner = epoch_number(from_epoch), FileSigner(owner_key).pubkey
    except (ValueError, SignerError) as error:
        raise click.UsageError(str(error)) from error
    accounts = {"meter": addresses.address_of_meter(meter_id), "owner": owner}
    own = Program.load("registry")
    act(
        lambda key: own.instruction(
            "rotate_device_key", {"authority": key, **accounts}, device_key=device_key, from_epoch=epoch
        ),
        options["key"],
        options["rpc_url"],
        options["send"],
        [owner_key],
    )


@admin.command("set-guardian")
@click.argument("new", type=PUBKEY)
@action
def set_guardian(new: Pubkey, **options: Options) -> None:
    """Announce another guardian, that acts a week later (authority)."""
    _run("set_guardian", "authority", options, new=new)


@admin.command("propose-authority")
@click.argument("new", type=PUBKEY)
@action
def propose_authority(new: Pubkey, **options: Options) -> None:
    """First step of handing the authority over (authority)."""
    _run("propose_authority", "authority", options, new=new)


@admin.command("accept-authority")
@action
def accept_authority(**options: Options) -> None:
    """Second step: the proposed key takes over."""
    _run("accept_authority", "new", options)


@admin.command("set-continuous")
@click.argument("mode", type=click.Choice(["on", "off"]))
@click.option("--wheeling", default=0, show_default=True, type=click.IntRange(0), help="µTHB per kWh.")
@action
def set_continuous(mode: str, wheeling: int, **options: Options) -> None:
    """Match orders on chain instead of auctions from the next epoch on, or back (authority)."""
    _act("trading", "set_continuous", ("authority",), options, on=int(mode == "on"), wheeling=wheeling)


@admin.command("resume-market")
@action
def resume_market(**options: Options) -> None:
    """End a halt of continuous trading (authority)."""
    _act("trading", "resume_market", ("authority",), options)


# --- validators and proposals ----------------------------------------------------------------------------------


@admin.command("admit-validator")
@click.argument("validator", type=PUBKEY)
@action
def admit_validator(validator: Pubkey, **options: Options) -> None:
    """Give a key a seat among the validators (authority)."""
    _act("governance", "admit_validator", ("authority", "payer"), options, validator=validator)


@admin.command("remove-validator")
@click.argument("validator", type=PUBKEY)
@action
def remove_validator(validator: Pubkey, **options: Options) -> None:
    """Take a validator's seat (authority)."""
    _run("remove_validator", "authority", options, validator=validator)


@admin.command()
@click.argument("parameter", type=click.Choice(list(PARAMETERS)))
@click.argument("value", type=U64)
@action
def propose(parameter: str, value: int, **options: Options) -> None:
    """Propose a value for one parameter, in its own unit (validator); votes are taken for three days."""
    with ChainClient(options["rpc_url"]) as client:
        seats = ask(lambda: client.account(addresses.validators()))
    if seats is None:
        raise click.ClickException("there are no validators yet; the authority admits them with admit-validator")
    number = Program.load("governance").decode("Validators", seats.data)["proposals"]
    click.echo(f"proposal:{number}")
    accounts = {"proposal": addresses.proposal(number)}
    arguments = {"id": number, "parameter": PARAMETERS[parameter], "value": value}
    _act("governance", "create_proposal", ("validator", "payer"), options, accounts, **arguments)


@admin.command()
@click.argument("number", type=U64)
@click.argument("approve", type=click.Choice(["yes", "no"]))
@action
def vote(number: int, approve: str, **options: Options) -> None:
    """Vote on a proposal (validator), once."""
    own = Program.load("governance")
    act(
        lambda key: own.instruction(
            "vote",
            {
                "validator": key,
                "payer": key,
                "proposal": addresses.proposal(number),
                "vote": addresses.vote(number, key),
            },
            approve=int(approve == "yes"),
        ),
        options["key"],
        options["rpc_url"],
        options["send"],
    )


@admin.command("execute-proposal")
@click.argument("number", type=U64)
@action
def execute_proposal(number: int, **options: Options) -> None:
    """Make an accepted proposal's value one of the next parameters (anyone)."""
    _act("governance", "execute_proposal", (), options, {"proposal": addresses.proposal(number)})


@admin.command("close-proposal")
@click.argument("number", type=U64)
@click.option("--payer", required=True, type=PUBKEY, help="Who paid its rent and gets it back.")
@action
def close_proposal(number: int, payer: Pubkey, **options: Options) -> None:
    """Give back the rent of a proposal that is executed or has lapsed (anyone)."""
    _act("governance", "close_proposal", (), options, {"payer": payer, "proposal": addresses.proposal(number)})


@admin.command("close-vote")
@click.argument("number", type=U64)
@click.argument("validator", type=PUBKEY)
@click.option("--payer", required=True, type=PUBKEY, help="Who paid its rent and gets it back.")
@action
def close_vote(number: int, validator: Pubkey, payer: Pubkey, **options: Options) -> None:
    """Give back the rent of a vote once voting is over (anyone)."""
    accounts = {
        "payer": payer,
        "vote": addresses.vote(number, validator),
        "proposal": addresses.proposal(number),
    }
    _act("governance", "close_vote", (), options, accounts)


# --- certificates ----------------------------------------------------------------------------------------------


@admin.command("issue-certificate")
@click.argument("certificate")
@click.argument("meter_id")
@click.argument("kwh", type=click.IntRange(1, 10**9))
@action
def issue_certificate(certificate: str, meter_id: str, kwh: int, **options: Options) -> None:
    """Certify whole kWh of a renewable meter's production (the meter's owner)."""
    own = _certificate(certificate) | {"meter": _meter(meter_id)}
    arguments = {"certificate_id": _id(certificate), "energy_wh": kwh * 1_000}
    _act("governance", "issue_erc", ("owner", "payer"), options, own, **arguments)


@admin.command("validate-certificate")
@click.argument("certificate")
@action
def validate_certificate(certificate: str, **options: Options) -> None:
    """Validate an issued certificate for trading (authority)."""
    _run("validate_erc", "authority", options, _certificate(certificate))


@admin.command("transfer-certificate")
@click.argument("certificate")
@click.argument("to", type=PUBKEY)
@action
def transfer_certificate(certificate: str, to: Pubkey, **options: Options) -> None:
    """Pass a certificate on (its holder)."""
    _run("transfer_erc", "holder", options, _certificate(certificate), to=to)


@admin.command("retire-certificate")
@click.argument("certificate")
@click.argument("beneficiary", type=PUBKEY)
@action
def retire_certificate(certificate: str, beneficiary: Pubkey, **options: Options) -> None:
    """Use a certificate up for a beneficiary (its holder)."""
    _run("retire_erc", "holder", options, _certificate(certificate), beneficiary=beneficiary)


@admin.command("revoke-certificate")
@click.argument("certificate")
@click.argument("meter_id")
@action
def revoke_certificate(certificate: str, meter_id: str, **options: Options) -> None:
    """Void a certificate of this meter and give its claim back (authority)."""
    _run("revoke_erc", "authority", options, _certificate(certificate) | {"meter": _meter(meter_id)})


def _certificate(text: str) -> dict[str, Pubkey]:
    return {"certificate": addresses.certificate(_id(text))}


def _id(text: str) -> bytes:
    try:
        return certificate_id(text)
    except UnknownPlace as error:
        raise click.UsageError(str(error)) from error


def _meter(meter_id: str) -> Pubkey:
    try:
        return addresses.address_of_meter(meter_id)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


# --- households' accounts ---------------------------------------------------------------------------------------


@admin.command("open-trader")
@click.argument("wallet", type=PUBKEY)
@action
def open_trader(wallet: Pubkey, **options: Options) -> None:
    """Open the trading account of an active user (anyone): without one, no epoch it is metered in can settle."""
    accounts = {"trader": addresses.address_of_trader(wallet), "user": addresses.address_of_user(wallet)}
    _act("trading", "open_trader", ("payer",), options, accounts)


# --- prices ----------------------------------------------------------------------------------------------------


@admin.command("report-price")
@click.argument("zone", type=click.IntRange(1, 63))
@click.argument("epoch")
@click.option("--price", required=True, type=click.IntRange(1), help="µTHB per kWh.")
@click.option("--demand-wh", required=True, type=U64)
@click.option("--supply-wh", required=True, type=U64)
@action
def report_price(zone: int, epoch: str, price: int, demand_wh: int, supply_wh: int, **options: Options) -> None:
    """Report a zone's price, demand and supply (oracle)."""
    try:
        number = epoch_number(epoch)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    arguments = {"epoch": number, "zone": zone, "price": price, "demand_wh": demand_wh, "supply_wh": supply_wh}
    _act("oracle", "update_price", ("oracle", "payer"), options, {"feed": addresses.price_feed(zone)}, **arguments)
