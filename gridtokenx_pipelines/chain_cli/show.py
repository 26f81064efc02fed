"""Account fields as people read them: kWh and THB from Wh and µTHB, epochs by their key, bytes as hex or base58.

Belongs here: units by field name, and the table. Does not belong here: finding accounts (places.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain.layout import is_padding
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.units import kwh, thb

NEVER = 2**32 - 1
EPOCH_FIELDS = {"epoch", "last_opened", "closed_through", "settled_through", "nonce_epoch", "inactive_from"}
PRICE_FIELDS = {
    "price", "wheeling", "limit", "sell_min", "buy_max", "feed_in", "tariff", "tariff_on_peak", "tariff_off_peak",
    "price_min", "price_max", "wheeling_cap",
}  # fmt: skip
UNITS: dict[str, Callable[[int], str]] = {
    "wh": lambda value: f"{kwh(value)} kWh",
    "uthb": lambda value: f"{thb(value)} THB",
    "bp": lambda value: f"{value / 100:g} %",
}


def plain(value: Any) -> Any:
    """A decoded field as JSON takes it: public keys base58, bytes hex."""
    if isinstance(value, Pubkey):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items() if not is_padding(name)}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def words(name: str, value: Any) -> str:
    """One value with its unit, chosen by the field's name."""
    if isinstance(value, bool) or not isinstance(value, int):
        return str(value)
    if name in EPOCH_FIELDS or name.endswith("_epoch"):
        return "never" if value == NEVER else f"{key_of(value)} ({value})" if value else "none"
    if name in PRICE_FIELDS:
        return f"{thb(value)} THB/kWh"
    unit = name.rpartition("_")[2]
    return UNITS[unit](value) if unit in UNITS else f"{value:,}"


def table(title: str, fields: dict[str, Any]) -> Table:
    """A two-column table; nested structs are indented, empty list entries left out."""
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_header=False)
    shown.add_column("field")
    shown.add_column("value", overflow="fold")
    _rows(shown, plain(fields), "")
    return shown


def _rows(shown: Table, fields: dict[str, Any], indent: str) -> None:
    for name, value in fields.items():
        if isinstance(value, dict):
            shown.add_row(f"{indent}{name}", "")
            _rows(shown, value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for index, each in enumerate(value):
                if any(each.values()):
                    shown.add_row(f"{indent}{name}[{index}]", "")
                    _rows(shown, each, indent + "  ")
        elif isinstance(value, list):
            shown.add_row(f"{indent}{name}", ", ".join(words(name, each) for each in value if each))
        else:
            shown.add_row(f"{indent}{name}", words(name, value))
