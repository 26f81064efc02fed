"""What set-up registers, as data: keys, users, meters, mandates, deposits, parameters.

Belongs here: plain structs at the door of `setup`. Does not belong here: reading or writing the chain.
"""

from __future__ import annotations

import msgspec
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain.signer import Signer
from gridtokenx_pipelines.market.rules import Rules

CONSUMER, PROSUMER = 0, 1
SOLAR, GRID, HYBRID = 0, 1, 2
METER_TYPES = {"Solar": SOLAR, "Grid": GRID, "Hybrid": HYBRID}
SUPPLIER, PLATFORM, GRID_OPERATOR = 0, 1, 2
NO_EXPIRY = 2**32 - 1


class ChainKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Keys that bring a network up; on localnet the authority is the published deployer.

    `authority` must be the deployer compiled into the programs until it hands over.
    """

    payer: Signer
    authority: Signer
    guardian: Pubkey
    oracles: tuple[Signer, ...]
    oracle_threshold: int
    bridge: tuple[Signer, ...]
    bridge_threshold: int


class ChainMandate(msgspec.Struct, frozen=True, kw_only=True):
    """A standing instruction; price 0 means: does not sell (or buy) by mandate."""

    sell_min_uthb_per_kwh: int
    buy_max_uthb_per_kwh: int
    max_wh: int
    end_epoch: int = NO_EXPIRY
    buy_back: bool = True


class ChainUser(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet with its zone and type (0 consumer, 1 prosumer), deposit and mandate.

    The deposit is made once per `deposit_reference`, whatever happens; a second one needs another reference.
    """

    wallet: Signer
    zone_id: int
    user_type: int
    deposit_uthb: int = 0
    deposit_reference: str = ""
    mandate: ChainMandate | None = None


class ChainMeter(msgspec.Struct, frozen=True, kw_only=True):
    """A meter with its device key, first epoch and the registers (Wh) that its energy counts from."""

    meter_id: str
    owner: Signer
    meter_type: int
    zone_id: int
    rating_w: int
    device_key: bytes
    first_epoch: int
    baseline_production_wh: int
    baseline_consumption_wh: int


class MarketFunding(msgspec.Struct, frozen=True, kw_only=True):
    """THBC for the supplier and the grid operator, each made once per reference."""

    funder: Signer
    supplier_uthb: int
    grid_operator_uthb: int
    reference: str = "market-funding"


class SetupReport(msgspec.Struct, frozen=True):
    """What set-up had to do; all zeros when everything was there already."""

    transactions: int
    initialised: tuple[str, ...]
    users: int
    meters: int
    deposits: int
    mandates: int


def params_of(rules: Rules, effective_epoch: int = 0) -> dict[str, int]:
    """Governance parameters of market rules, by the IDL's names."""
    return {
        "effective_epoch": effective_epoch,
        "fee_bp": rules.fee_bp,
        "vat_bp": rules.vat_bp,
        "wheeling_cap": rules.wheeling_cap_uthb_per_kwh,
        "tariff_on_peak": rules.tariff_on_peak_uthb_per_kwh,
        "tariff_off_peak": rules.tariff_off_peak_uthb_per_kwh,
        "feed_in": rules.feed_in_uthb_per_kwh,
        "price_min": rules.price_min_uthb_per_kwh,
        "price_max": rules.price_max_uthb_per_kwh,
        "halt_bound_bp": rules.halt_bound_bp,
        "schedule_version": rules.schedule_version,
    }
