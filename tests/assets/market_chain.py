"""The small market of market_day.py on a local chain: programs, households, funds, mandates, settings, key files.

Belongs here: bringing chain, database and files to the same start. Does not belong here: assertions.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import msgspec
from solders.keypair import Keypair

from gridtokenx_pipelines.chain.addresses import deployer_seed
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
)
from gridtokenx_pipelines.chain.setup import Setup
from gridtokenx_pipelines.chain.signer import KeypairSigner, write_keypair_file
from gridtokenx_pipelines.config import Settings
from gridtokenx_pipelines.market.rules import Rules
from tests.assets.market_day import FIRST, HOUSEHOLDS, NETWORK, key_of_household, meter_id, meters

RULES = Rules()
DEPOSIT_UTHB, FUNDING_UTHB = 40_000_000, 500_000_000


def seed_of(name: str) -> bytes:
    return sha256(f"test key {name}".encode()).digest()


def signer(name: str) -> KeypairSigner:
    return KeypairSigner.from_seed(seed_of(name))


def chain_keys() -> ChainKeys:
    """The keys of everyone who sets the market up."""
    oracles = tuple(signer(f"oracle-{index}") for index in range(3))
    return ChainKeys(
        payer=signer("relayer"),
        authority=KeypairSigner.from_seed(deployer_seed()),
        guardian=signer("guardian").pubkey,
        oracles=oracles,
        oracle_threshold=2,
        bridge=(signer("bridge"),),
        bridge_threshold=1,
    )


def bring_up(client: ChainClient) -> None:
    """Chain state that matches `market_day.seed`: same deposits, fundings, mandates, meters and baselines."""
    keys = chain_keys()
    owners = [KeypairSigner(Keypair.from_seed(bytes(key_of_household(i)))) for i in range(len(HOUSEHOLDS))]
    users = [
        ChainUser(
            wallet=owners[index],
            zone_id=zone,
            user_type=PROSUMER if produced else CONSUMER,
            deposit_uthb=DEPOSIT_UTHB,
            deposit_reference=f"deposit {index}",
            mandate=ChainMandate(
                sell_min_uthb_per_kwh=sell_min, buy_max_uthb_per_kwh=buy_max, max_wh=100_000, buy_back=buy_back
            ),
        )
        for index, (zone, produced, _, sell_min, buy_max, buy_back) in enumerate(HOUSEHOLDS)
    ]
    rows = meters().iter_rows(named=True)
    known = [
        ChainMeter(
            meter_id=meter_id(index),
            owner=owners[index],
            meter_type=METER_TYPES[row["meter_type"]],
            zone_id=row["zone_id"],
            rating_w=row["rating_w"],
            device_key=row["device_key"],
            first_epoch=FIRST,
            baseline_production_wh=row["baseline_production_wh"],
            baseline_consumption_wh=row["baseline_consumption_wh"],
        )
        for index, row in enumerate(rows)
    ]
    funding = MarketFunding(funder=signer("funder"), supplier_uthb=FUNDING_UTHB, grid_operator_uthb=FUNDING_UTHB)
    Setup(client, keys).bring_up(Rules(), users, known, funding)


def settings(data_dir: Path, database_url: str, rpc_url: str, rules: Rules = RULES) -> Settings:
    """Settings of a process on this market, with its rules, network and key files written."""
    keys = data_dir / "keys"
    keys.mkdir(parents=True)
    write_keypair_file(keys / "authority.json", deployer_seed())
    for name in ("relayer", "oracle-0", "oracle-1", "oracle-2"):
        write_keypair_file(keys / f"{name}.json", seed_of(name))
    (data_dir / "rules.json").write_bytes(msgspec.json.encode(rules))
    (data_dir / "zones.json").write_bytes(msgspec.json.encode(NETWORK))
    return Settings.from_env(
        {
            "DATABASE_URL": database_url,
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
            "SOLANA_RPC_URL": rpc_url,
            "GRIDTOKENX_DATA_DIR": str(data_dir),
        }
    )
