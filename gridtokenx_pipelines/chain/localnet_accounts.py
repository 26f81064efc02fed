"""The local chain's JSON-RPC methods about accounts and tokens.

Belongs here: account encodings, filters, token amounts. Does not belong here: transactions (`localnet_rpc`).
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from solders.account import Account
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain.bank import FAUCET_LAMPORTS, Bank
from gridtokenx_pipelines.chain.localnet_params import address as _address_of
from gridtokenx_pipelines.chain.localnet_params import b58decode, b58encode, in_context, option, pubkey
from gridtokenx_pipelines.chain.rpc_errors import RpcError, invalid_params

MAX_ACCOUNTS = 100
MAX_BASE58_BYTES = 128
TOKEN_PROGRAMS = frozenset(
    {
        Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb"),
        Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"),
    }
)
# SPL token layouts: mint supply and decimals, account mint, owner and amount
_MINT_SUPPLY, _MINT_DECIMALS, _MINT_BYTES = slice(36, 44), 44, 82
_ACCOUNT_MINT, _ACCOUNT_OWNER, _ACCOUNT_AMOUNT, _ACCOUNT_BYTES = slice(0, 32), slice(32, 64), slice(64, 72), 165


class AccountMethods:
    """Methods that read accounts of one bank."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self.methods: dict[str, Callable[[list[Any]], Any]] = {
            "getAccountInfo": self.get_account_info,
            "getBalance": lambda params: self._context(bank.svm.get_balance(pubkey(params, 0)) or 0),
            "getMinimumBalanceForRentExemption": self.get_minimum_balance,
            "getMultipleAccounts": self.get_multiple_accounts,
            "getProgramAccounts": self.get_program_accounts,
            "getSupply": self.get_supply,
            "getTokenAccountBalance": self.get_token_account_balance,
            "getTokenAccountsByOwner": self.get_token_accounts_by_owner,
            "getTokenSupply": self.get_token_supply,
        }

    def _context(self, value: Any) -> dict[str, Any]:
        return in_context(self.bank.slot, value)

    def _account(self, address: Pubkey) -> Account | None:
        account = self.bank.svm.get_account(address)
        return account if account is not None and account.lamports else None

    def get_account_info(self, params: list[Any]) -> dict[str, Any]:
        """One account or null."""
        return self._context(_ui(self._account(pubkey(params, 0)), option(params, 1)))

    def get_multiple_accounts(self, params: list[Any]) -> dict[str, Any]:
        """Up to 100 accounts, null where there is none."""
        addresses = params[0] if params and isinstance(params[0], list) else []
        if len(addresses) > MAX_ACCOUNTS:
            raise RpcError(-32602, f"Too many inputs provided; max {MAX_ACCOUNTS}")
        config = option(params, 1)
        return self._context([_ui(self._account(_address_of(text)), config) for text in addresses])

    def get_program_accounts(self, params: list[Any]) -> Any:
        """Accounts of an owner through the filters, by the bank's index."""
        owner, config = pubkey(params, 0), option(params, 1)
        filters = [_filter(spec) for spec in config.get("filters") or ()]
        rows = []
        for address in sorted(self.bank.by_owner.get(bytes(owner), ())):
            account = self._account(Pubkey(address))
            if account is not None and all(matches(account.data) for matches in filters):
                rows.append({"pubkey": str(Pubkey(address)), "account": _ui(account, config)})
        return self._context(rows) if config.get("withContext") else rows

    def get_minimum_balance(self, params: list[Any]) -> int:
        """Lamports that keep an account of so many bytes."""
        if not params or type(params[0]) is not int or params[0] < 0:
            raise invalid_params("parameter 0 must be a number of bytes")
        return self.bank.svm.minimum_balance_for_rent_exemption(params[0])

    def get_supply(self, params: list[Any]) -> dict[str, Any]:
        """Lamports there are; what the faucet still holds counts as not circulating."""
        held = self.bank.svm.get_balance(self.bank.faucet.pubkey()) or 0
        value = {"total": FAUCET_LAMPORTS, "circulating": FAUCET_LAMPORTS - held, "nonCirculating": held}
        return self._context({**value, "nonCirculatingAccounts": [str(self.bank.faucet.pubkey())]})

    def _token_data(self, address: Pubkey, size: int, what: str) -> bytes:
        account = self._account(address)
        if account is None or account.owner not in TOKEN_PROGRAMS or len(account.data) < size:
            raise RpcError(
                -32602,
                f"Invalid param: could not find {what}" if account is None else f"Invalid param: not a Token {what}",
            )
        return account.data

    def get_token_supply(self, params: list[Any]) -> dict[str, Any]:
        """Supply of a mint."""
        mint = self._token_data(pubkey(params, 0), _MINT_BYTES, "mint")
        return self._context(_amount(int.from_bytes(mint[_MINT_SUPPLY], "little"), mint[_MINT_DECIMALS]))

    def get_token_account_balance(self, params: list[Any]) -> dict[str, Any]:
        """Amount in a token account."""
        data = self._token_data(pubkey(params, 0), _ACCOUNT_BYTES, "account")
        mint = self._token_data(Pubkey(data[_ACCOUNT_MINT]), _MINT_BYTES, "mint")
        return self._context(_amount(int.from_bytes(data[_ACCOUNT_AMOUNT], "little"), mint[_MINT_DECIMALS]))

    def get_token_accounts_by_owner(self, params: list[Any]) -> dict[str, Any]:
        """Token accounts of a wallet, of one mint or of one token program."""
        owner, which, config = bytes(pubkey(params, 0)), option(params, 1), option(params, 2)
        programs = [_address_of(which["programId"])] if "programId" in which else sorted(TOKEN_PROGRAMS, key=bytes)
        mint = bytes(_address_of(which["mint"])) if "mint" in which else None
        rows = []
        for program in programs:
            for address in sorted(self.bank.by_owner.get(bytes(program), ())):
                account = self._account(Pubkey(address))
                if account is None or len(account.data) < _ACCOUNT_BYTES or account.data[_ACCOUNT_OWNER] != owner:
                    continue
                if mint in (None, account.data[_ACCOUNT_MINT]):
                    rows.append({"pubkey": str(Pubkey(address)), "account": _ui(account, config)})
        return self._context(rows)


def _amount(amount: int, decimals: int) -> dict[str, Any]:
    whole, part = divmod(amount, 10**decimals)
    text = f"{whole}.{part:0{decimals}d}".rstrip("0").rstrip(".") if decimals else str(whole)
    return {"amount": str(amount), "decimals": decimals, "uiAmount": amount / 10**decimals, "uiAmountString": text}


def _ui(account: Account | None, config: dict[str, Any]) -> dict[str, Any] | None:
    if account is None:
        return None
    data, encoding = account.data, config.get("encoding")
    cut = config.get("dataSlice")
    sliced = data[cut["offset"] : cut["offset"] + cut["length"]] if cut else data
    return {
        "lamports": account.lamports,
        "owner": str(account.owner),
        "data": _encode(sliced, encoding),
        "executable": account.executable,
        "rentEpoch": account.rent_epoch,
        "space": len(data),
    }


def _encode(data: bytes, encoding: str | None) -> Any:
    # jsonParsed falls back to base64 where no parser is known, as agave's does
    if encoding in ("base64", "jsonParsed"):
        return [base64.b64encode(data).decode(), "base64"]
    if encoding in (None, "binary", "base58"):
        if len(data) > MAX_BASE58_BYTES:
            raise RpcError(
                -32600,
                "Encoded binary (base 58) data should be less than 128 bytes, please use Base64 encoding.",
            )
        text = b58encode(data)
        return [text, "base58"] if encoding == "base58" else text
    raise invalid_params(f"encoding was {encoding}, must be base58, base64 or jsonParsed")


def _filter(spec: Any) -> Callable[[bytes], bool]:
    if isinstance(spec, dict) and isinstance(spec.get("dataSize"), int):
        size = spec["dataSize"]
        return lambda data: len(data) == size
    if isinstance(spec, dict) and isinstance(spec.get("memcmp"), dict):
        compare = spec["memcmp"]
        encoded, encoding = compare.get("bytes", ""), compare.get("encoding", "base58")
        if isinstance(encoded, list):
            wanted = bytes(encoded)
        else:
            wanted = base64.b64decode(encoded) if encoding == "base64" else b58decode(encoded)
        offset = compare.get("offset", 0)
        return lambda data: data[offset : offset + len(wanted)] == wanted
    raise invalid_params(f"filter {spec} must be dataSize or memcmp")
