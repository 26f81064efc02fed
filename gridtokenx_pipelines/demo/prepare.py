"""Before the first reading: keys and market files on disk, participants on the chain and in the database.

Belongs here: handing the simulated neighbourhood to the real doors of chain and store. Does not belong here: how it was
made up (simulation/). Every step may be done again: it finds what is there.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import polars as pl
from nacl.signing import SigningKey
from sqlalchemy import Engine

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.participants import (
    CONSUMER,
    METER_TYPES,
    PROSUMER,
    ChainKeys,
    ChainMandate,
    ChainMeter,
    ChainUser,
    MarketFunding,
    SetupReport,
)
from gridtokenx_pipelines.chain.setup import Setup
from gridtokenx_pipelines.chain.signer import KeypairSigner, write_keypair_file
from gridtokenx_pipelines.chain.state import read_mandates
from gridtokenx_pipelines.config import Settings
from gridtokenx_pipelines.epochs import start_us
from gridtokenx_pipelines.grid.case import load as load_case
from gridtokenx_pipelines.grid.case import save as save_case
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.simulation import neighbourhood as homes
from gridtokenx_pipelines.simulation.keys import BRIDGE_THRESHOLD, ORACLE_THRESHOLD
from gridtokenx_pipelines.simulation.neighbourhood import (
    GRID_OPERATOR_FUNDS_UTHB,
    SUPPLIER_FUNDS_UTHB,
    Household,
    Neighbourhood,
)
from gridtokenx_pipelines.simulation.network_case import case_of_neighbourhood
from gridtokenx_pipelines.simulation.transformer import TRANSFORMER_ID, transformer_documents, transformer_key
from gridtokenx_pipelines.store import deposits, participants, transformer

FUNDING_REFERENCE = "demo/market-funding"


def write_files(settings: Settings, neighbourhood: Neighbourhood) -> None:
    """Key files of the services, the market's rules and zones, and the grid case, where the settings say."""
    keys = neighbourhood.keys
    settings.keys_dir.mkdir(parents=True, exist_ok=True)
    settings.keys_dir.chmod(0o700)
    write_keypair_file(settings.authority_wallet_path, addresses.deployer_seed())
    write_keypair_file(settings.keys_dir / "relayer.json", keys.payer().encode())
    for number, oracle in enumerate(keys.oracles(), start=1):
        write_keypair_file(settings.keys_dir / f"oracle-{number}.json", oracle.encode())
    if not settings.rules_path.is_file():  # an operator's own rules, with their changes, are kept
        _write(settings.rules_path, msgspec.json.format(msgspec.json.encode(Rules(network_id=settings.network_id))))
    _write(settings.network_path, msgspec.json.format(msgspec.json.encode(neighbourhood.network)))
    save_case(case_of_neighbourhood(neighbourhood, settings.data_dir / "cache"), settings.grid_path)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def chain_keys(neighbourhood: Neighbourhood) -> ChainKeys:
    """The signers that bring the network up; the authority is localnet's published deployer."""
    keys = neighbourhood.keys
    return ChainKeys(
        payer=_signer(keys.payer()),
        authority=KeypairSigner.from_seed(addresses.deployer_seed()),
        guardian=_signer(keys.guardian()).pubkey,
        oracles=tuple(map(_signer, keys.oracles())),
        oracle_threshold=ORACLE_THRESHOLD,
        bridge=tuple(map(_signer, keys.bridge())),
        bridge_threshold=BRIDGE_THRESHOLD,
    )


def _signer(key: SigningKey) -> KeypairSigner:
    return KeypairSigner.from_seed(key.encode())


def register_on_chain(client: ChainClient, neighbourhood: Neighbourhood, rules: Rules, start_epoch: int) -> SetupReport:
    """Programs initialised, households, meters, deposits, mandates and market accounts on the chain."""
    wallets = {home.wallet: _signer(neighbourhood.keys.wallet(home.name)) for home in neighbourhood.households}
    users = [
        ChainUser(
            wallet=wallets[home.wallet],
            zone_id=home.zone_id,
            user_type=PROSUMER if home.user_type == homes.PROSUMER else CONSUMER,
            deposit_uthb=home.deposit_uthb,
            deposit_reference=_reference(home),
            mandate=None
            if home.mandate is None
            else ChainMandate(
                sell_min_uthb_per_kwh=home.mandate.sell_min_uthb_per_kwh,
                buy_max_uthb_per_kwh=home.mandate.buy_max_uthb_per_kwh,
                max_wh=home.mandate.max_wh,
                buy_back=home.mandate.buy_back,
            ),
        )
        for home in neighbourhood.households
    ]
    meters = [
        ChainMeter(
            meter_id=meter.meter_id,
            owner=wallets[meter.wallet],
            meter_type=METER_TYPES[meter.meter_type],
            zone_id=meter.zone_id,
            rating_w=meter.rating_w,
            device_key=meter.device_key,
            first_epoch=start_epoch,
            baseline_production_wh=meter.baseline_production_wh,
            baseline_consumption_wh=meter.baseline_consumption_wh,
        )
        for meter in neighbourhood.meters
    ]
    funding = MarketFunding(
        funder=KeypairSigner.from_seed(addresses.deployer_seed()),
        supplier_uthb=SUPPLIER_FUNDS_UTHB,
        grid_operator_uthb=GRID_OPERATOR_FUNDS_UTHB,
        reference=FUNDING_REFERENCE,
    )
    return Setup(client, chain_keys(neighbourhood)).bring_up(rules, users, meters, funding)


def _reference(home: Household) -> str:
    return f"demo/deposit/{home.name}"


def save_participants(engine: Engine, client: ChainClient, neighbourhood: Neighbourhood, start_epoch: int) -> None:
    """The same participants in the database; mandates are read back from the chain, which is their authority."""
    mandates = read_mandates(client)
    with engine.begin() as connection:
        participants.save_users(connection, _users(neighbourhood))
        participants.save_meters(connection, _meters(neighbourhood, start_epoch))
        participants.save_mandates(connection, mandates)
        for home in neighbourhood.households:
            deposits.deposit(
                connection,
                reference=_reference(home),
                wallet=home.wallet,
                amount_uthb=home.deposit_uthb,
                epoch=start_epoch,
            )
        for account, amount_uthb in (
            ("supplier", SUPPLIER_FUNDS_UTHB),
            ("grid_operator", GRID_OPERATOR_FUNDS_UTHB),
        ):
            deposits.fund(
                connection,
                reference=f"{FUNDING_REFERENCE}/{account}",
                account=account,
                amount_uthb=amount_uthb,
                epoch=start_epoch,
            )


def save_transformer(engine: Engine, neighbourhood: Neighbourhood) -> None:
    """The transformer's own meter, admitted with its key."""
    with engine.begin() as connection:
        transformer.register(connection, TRANSFORMER_ID, bytes(transformer_key(neighbourhood).verify_key))


def transformer_readings(
    settings: Settings, neighbourhood: Neighbourhood, start_epoch: int, epochs: int
) -> tuple[transformer.Document, ...]:
    """Its signed registers at the start of each epoch of the run and at its end."""
    documents = transformer_documents(neighbourhood, load_case(settings.grid_path), start_epoch, epochs)
    return tuple(transformer.Document(value=value, signature=signature) for value, signature in documents)


def _users(neighbourhood: Neighbourhood) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "wallet": home.wallet,
                "zone_id": home.zone_id,
                "user_type": home.user_type,
                "status": "active",
                "trader_address": bytes(addresses.address_of_trader(home.wallet)),
            }
            for home in neighbourhood.households
        ]
    )


def _meters(neighbourhood: Neighbourhood, start_epoch: int) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "meter_id": meter.meter_id,
                "wallet": meter.wallet,
                "zone_id": meter.zone_id,
                "meter_type": meter.meter_type,
                "rating_w": meter.rating_w,
                "device_key": meter.device_key,
                "status": "active",
                "first_epoch": start_epoch,
                "baseline_production_wh": meter.baseline_production_wh,
                "baseline_consumption_wh": meter.baseline_consumption_wh,
                "baseline_seq": 0,
                "baseline_timestamp_us": start_us(start_epoch),
                "address": bytes(addresses.address_of_meter(meter.meter_id)),
            }
            for meter in neighbourhood.meters
        ]
    )
