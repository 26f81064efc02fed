"""Account fields as people read them: kWh and THB from Wh and µTHB, epochs by their key, ids as text, numbers by name.

Belongs here: units by field name, and the table. Does not belong here: finding accounts (places.py).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain.layout import is_padding
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.units import kwh, thb

NEVER = 2**32 - 1
YEAR_2001 = 10**9  # Unix seconds from then on are a time, below they are none
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
# fields that hold text padded with zeros, where they do
TEXTS = {"meter_id", "certificate_id"}
TIMES = ("_at", "_until", "_from")
NO_KEY = "1" * 32
# numbers that have names, by account type and field
LIFE = ("pending", "active", "suspended", "retired")
NAMES: dict[tuple[str, str], tuple[str, ...]] = {
    ("Meter", "status"): LIFE,
    ("User", "status"): LIFE,
    ("Meter", "meter_type"): ("Solar", "Grid", "Hybrid"),
    ("Certificate", "meter_type"): ("Solar", "Grid", "Hybrid"),
    ("User", "user_type"): ("consumer", "prosumer"),
    ("Certificate", "status"): ("issued", "validated", "retired", "revoked"),
    ("Epoch", "status"): ("open", "committed", "finalised"),
    ("Epoch", "kind"): ("metering", "clearing", "late", "resettlement"),
    ("Metered", "kind"): ("metering", "clearing", "late", "resettlement", "void"),
    ("Attestation", "kind"): ("metering", "clearing", "late", "resettlement"),
    ("Trader", "side"): ("buy", "sell"),
    ("Trader", "used"): ("free", "recorded", "placed"),
    ("Redemption", "status"): ("requested", "confirmed", "reclaimed"),
    ("Market", "time_mode"): ("the chain's clock", "simulated"),
    ("Vote", "approve"): ("no", "yes"),
    ("Proposal", "parameter"): (
        "fee_bp", "vat_bp", "wheeling_cap", "tariff_on_peak", "tariff_off_peak", "feed_in", "price_min", "price_max",
        "halt_bound_bp",
    ),
}  # fmt: skip
PAUSED = ("governance", "registry", "energy-token", "trading", "oracle")


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


def text_of(raw: bytes) -> str:
    """Text padded with zeros; hex for other bytes."""
    cut = raw.rstrip(b"\0")
    return cut.decode() if cut.isascii() and cut.decode().isprintable() and cut else raw.hex()


def words(name: str, value: Any, type_name: str = "") -> str:  # noqa: PLR0911 - one return a kind of field
    """One value with its unit or name, chosen by the field's name and the account's type."""
    if isinstance(value, str) and value == NO_KEY:
        return "none"
    if isinstance(value, bool) or not isinstance(value, int):
        return str(value)
    names = NAMES.get((type_name, name), ())
    if 0 <= value < len(names):
        return f"{names[value]} ({value})"
    if name.endswith(TIMES) and value > YEAR_2001:
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
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
    _rows(shown, plain(fields), "", title.rpartition(" ")[2])
    return shown


def _rows(shown: Table, fields: dict[str, Any], indent: str, type_name: str) -> None:
    for name, value in fields.items():
        if isinstance(value, dict):
            shown.add_row(f"{indent}{name}", "")
            _rows(shown, value, indent + "  ", type_name)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for index, each in enumerate(value):
                if any(part and part != NO_KEY for part in each.values()):
                    shown.add_row(f"{indent}{name}[{index}]", "")
                    _rows(shown, each, indent + "  ", type_name)
        elif name == "paused_until":
            pauses = [f"{program} until {words(name, at)}" for program, at in zip(PAUSED, value, strict=True) if at]
            shown.add_row(f"{indent}{name}", ", ".join(pauses) or "none")
        elif isinstance(value, list):
            told = [words(name, each, type_name) for each in value if each and each != NO_KEY]
            shown.add_row(f"{indent}{name}", ", ".join(told))
        elif name in TEXTS:
            shown.add_row(f"{indent}{name}", text_of(bytes.fromhex(value)))
        else:
            shown.add_row(f"{indent}{name}", words(name, value, type_name))
