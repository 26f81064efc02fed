"""The chain's state as frames and structs: market, traders, meters, epochs, supplies.

Belongs here: reading program accounts back in the units and column names of the contract (Wh, µTHB, base58 wallets).
Does not belong here: judging them (settlement/laws.py, checks), writing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import AccountInfo, ChainClient
from gridtokenx_pipelines.chain.idl import AccountLayout, Program
from gridtokenx_pipelines.chain.layout import IdlError
from gridtokenx_pipelines.market.base58 import encode as b58

MARKET_FIELDS_LEFT_OUT = frozenset({"grid_mint", "thbc_mint", "grid_vault", "thbc_vault", "bump", "prices"})


class Supplies(msgspec.Struct, frozen=True):
    """Tokens in existence and in the vaults, base units (Wh, µTHB)."""

    grid_supply_wh: int
    thbc_supply_uthb: int
    grid_vault_wh: int
    thbc_vault_uthb: int


def read_market(client: ChainClient) -> dict[str, int]:
    """Every number of the market account: balances of the market accounts, Σ over traders, cumulative sums of the laws.

    Raises IdlError if the market is not initialised.
    """
    account = client.account(addresses.market())
    if account is None:
        raise IdlError("there is no market account; run set-up first")
    decoded = Program.load("trading").decode("Market", account.data)
    return {name: value for name, value in decoded.items() if name not in MARKET_FIELDS_LEFT_OUT}


def read_supplies(client: ChainClient) -> Supplies:
    """Supply of GRID and THBC and what the vaults hold."""
    return Supplies(
        grid_supply_wh=client.token_supply(addresses.grid_mint()),
        thbc_supply_uthb=client.token_supply(addresses.thbc_mint()),
        grid_vault_wh=client.token_balance(addresses.grid_vault()),
        thbc_vault_uthb=client.token_balance(addresses.thbc_vault()),
    )


def read_traders(client: ChainClient, wallets: Sequence[str] | None = None) -> pl.DataFrame:
    """Trading accounts by owner: owner, zone_id, grid_wh, thbc_uthb, debt_uthb, last_seq (all, or of these wallets).

    A wallet without an account gives no row.
    """
    program = Program.load("trading")
    accounts = _accounts(client, program, "Trader", wallets and [addresses.address_of_trader(w) for w in wallets])
    layout, rows = _rows(program, "Trader", accounts)
    return pl.DataFrame(
        {
            "owner": _base58(layout.column(rows, "owner")),
            "zone_id": _int64(layout.column(rows, "zone")),
            **{name: _int64(layout.column(rows, name)) for name in ("grid_wh", "thbc_uthb", "debt_uthb", "last_seq")},
        },
        schema={"owner": pl.String}
        | dict.fromkeys(("zone_id", "grid_wh", "thbc_uthb", "debt_uthb", "last_seq"), pl.Int64),
    ).sort("owner")


def read_mandates(client: ChainClient, wallets: Sequence[str] | None = None) -> pl.DataFrame:
    """Mandates, current and next, a row each, in the columns of table `mandates`."""
    program = Program.load("trading")
    accounts = _accounts(client, program, "Trader", wallets and [addresses.address_of_trader(w) for w in wallets])
    layout, rows = _rows(program, "Trader", accounts)
    found = []
    for slot in ("current", "next"):
        for owner, mandate in zip(layout.column(rows, "owner"), layout.column(rows, slot), strict=True):
            fields = {name.split(":", 1)[1]: mandate[name] for name in mandate.dtype.names or ()}
            if fields["is_set"]:
                found.append(
                    {
                        "wallet": b58(owner.tobytes()),
                        "effective_epoch": int(fields["effective_epoch"]),
                        "end_epoch": int(fields["end_epoch"]),
                        "sell_min_uthb_per_kwh": int(fields["sell_min"]),
                        "buy_max_uthb_per_kwh": int(fields["buy_max"]),
                        "max_wh": int(fields["max_wh"]),
                        "buy_back": bool(fields["buy_back"]),
                        "set_at_us": int(fields["set_at"]) * 1_000_000,
                    }
                )
    numbers = ("effective_epoch", "end_epoch", "sell_min_uthb_per_kwh", "buy_max_uthb_per_kwh", "max_wh")
    schema = {"wallet": pl.String, **dict.fromkeys(numbers, pl.Int64), "buy_back": pl.Boolean, "set_at_us": pl.Int64}
    return pl.DataFrame(found, schema=schema).sort("wallet", "effective_epoch")


def read_withdrawal_requests(client: ChainClient) -> pl.DataFrame:
    """Open requests: wallet, epoch (the last one that what is asked back still covers), amount_uthb, energy_wh."""
    program = Program.load("trading")
    layout = program.layout("Trader")
    offset = 8 + layout.dtype.fields[layout.key("pending")][1]  # type: ignore[index]
    filters: list[dict[str, Any]] = [
        {"dataSize": layout.size},
        {"memcmp": {"offset": 0, "bytes": b58(layout.prefix)}},
        {"memcmp": {"offset": offset, "bytes": b58(b"\x01")}},
    ]
    rows = layout.rows([account.data for account in client.program_accounts(program.program_id, filters)])
    return pl.DataFrame(
        {
            "wallet": _base58(layout.column(rows, "owner")),
            "epoch": _int64(layout.column(rows, "pending_epoch")),
            "amount_uthb": _int64(layout.column(rows, "pending_uthb")),
            "energy_wh": _int64(layout.column(rows, "pending_grid_wh")),
        },
        schema={"wallet": pl.String, **dict.fromkeys(("epoch", "amount_uthb", "energy_wh"), pl.Int64)},
    ).sort("wallet")


def read_meters(client: ChainClient, meter_ids: Sequence[str] | None = None) -> pl.DataFrame:
    """Meters by id: owner, keys, status, zone, first and last epoch, energies since the baseline, minted and deficit.

    `device_key` signs readings before the epoch `key_from_epoch`, `next_device_key` from it on; 0: no other was named.
    """
    program = Program.load("registry")
    wanted = meter_ids and [addresses.address_of_meter(meter_id) for meter_id in meter_ids]
    layout, rows = _rows(program, "Meter", _accounts(client, program, "Meter", wanted))
    lengths = layout.column(rows, "id_len")
    ids = [
        raw.tobytes()[:length].decode() for raw, length in zip(layout.column(rows, "meter_id"), lengths, strict=True)
    ]
    numbers = (
        "meter_type", "status", "rating_w", "first_epoch", "last_epoch", "baseline_production_wh",
        "baseline_consumption_wh", "production_wh", "consumption_wh", "minted_wh", "deficit_wh", "claimed_erc_wh",
        "key_from_epoch",
    )  # fmt: skip
    columns = {name: _int64(layout.column(rows, name)) for name in numbers}
    return pl.DataFrame(
        {
            "meter_id": ids,
            "owner": _base58(layout.column(rows, "owner")),
            "device_key": _base58(layout.column(rows, "device_key")),
            "next_device_key": _base58(layout.column(rows, "next_device_key")),
            "zone_id": _int64(layout.column(rows, "zone")),
        }
        | columns,
        schema=dict.fromkeys(("meter_id", "owner", "device_key", "next_device_key"), pl.String)
        | dict.fromkeys(("zone_id", *numbers), pl.Int64),
    ).sort("meter_id")


def read_epochs(client: ChainClient, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Trading's accounts of these epochs as decoded (run, status, seq, params, sums …); absent ones are left out."""
    program = Program.load("trading")
    found = client.accounts([addresses.epoch(number) for number in numbers])
    return {n: program.decode("Epoch", a.data) for n, a in zip(numbers, found, strict=True) if a is not None}


def read_roots(client: ChainClient, runs: Sequence[tuple[int, int, int]]) -> dict[tuple[int, int, int], bytes]:
    """Final roots by (epoch, kind, run); those not final are left out."""
    program = Program.load("oracle")
    found = client.accounts([addresses.attestation(kind, epoch, run) for epoch, kind, run in runs])
    decoded = {
        run: program.decode("Attestation", account.data)
        for run, account in zip(runs, found, strict=True)
        if account is not None
    }
    return {run: attestation["root"] for run, attestation in decoded.items() if attestation["is_final"]}


def _accounts(client: ChainClient, program: Program, name: str, wanted: Sequence[Pubkey] | None) -> list[AccountInfo]:
    if wanted is not None:
        return [account for account in client.accounts(wanted) if account is not None]
    layout = program.layout(name)
    filters = [{"dataSize": layout.size}, {"memcmp": {"offset": 0, "bytes": b58(layout.prefix)}}]
    return client.program_accounts(program.program_id, filters)


def _rows(program: Program, name: str, accounts: Sequence[AccountInfo]) -> tuple[AccountLayout, np.ndarray[Any, Any]]:
    layout = program.layout(name)
    return layout, layout.rows([account.data for account in accounts])


def _base58(column: np.ndarray[Any, Any]) -> list[str]:
    return [str(Pubkey.from_bytes(raw.tobytes())) for raw in column]


def _int64(column: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Unsigned chain numbers as Int64; OverflowError above 2⁶³ − 1, which no quantity of the domain reaches."""
    if column.dtype.kind == "u" and column.size and int(column.max()) > np.iinfo(np.int64).max:
        raise OverflowError(f"chain value was {column.max()}, must be below 2⁶³; the account is damaged")
    return column.astype(np.int64)
