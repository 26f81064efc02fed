"""The rules of a market as data: fees, tariffs, bounds, and the network of zones.

Belongs here: frozen values that clearing and settlement read. Does not belong here: the computing itself.
Defaults are those of domain §4–§6.
"""

from __future__ import annotations

import msgspec

from gridtokenx_pipelines.epochs import is_on_peak


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Rates in force for an epoch (prices µTHB/kWh, rates in basis points)."""

    network_id: int = 3
    fee_bp: int = 100
    vat_bp: int = 700
    tariff_on_peak_uthb_per_kwh: int = 4_100_000
    tariff_off_peak_uthb_per_kwh: int = 2_580_000
    feed_in_uthb_per_kwh: int = 2_200_000
    wheeling_cap_uthb_per_kwh: int = 1_000_000
    price_min_uthb_per_kwh: int = 2_000_000
    price_max_uthb_per_kwh: int = 8_000_000
    halt_bound_bp: int = 5_000
    schedule_version: int = 1
    max_order_wh: int = 1_000_000
    max_orders_per_wallet_epoch: int = 50
    order_clock_tolerance_us: int = 10_000_000

    def at(self, epoch: int) -> Rules:
        """The rules in force in an epoch: these; a rule book (rule_book.py) has several versions."""
        return self

    def network_at(self, epoch: int, network: Network) -> Network:
        """The network with the wheeling in force in an epoch: its own."""
        return network

    def starts(self) -> tuple[int, ...]:
        """An epoch of every version."""
        return (0,)

    def tariff_uthb_per_kwh(self, epoch: int) -> int:
        """Retail tariff of an epoch, VAT included (domain §6)."""
        return self.tariff_on_peak_uthb_per_kwh if is_on_peak(epoch) else self.tariff_off_peak_uthb_per_kwh


class Zone(msgspec.Struct, frozen=True, kw_only=True):
    """A market zone; wheeling is paid by its buyers on top of the price."""

    zone_id: int
    name: str = ""
    zone_wheeling_uthb_per_kwh: int = 0


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A link between two zones; capacities are Wh sent per epoch in each direction."""

    link_id: int
    from_zone: int
    to_zone: int
    capacity_forward_wh: int
    capacity_backward_wh: int
    link_wheeling_uthb_per_kwh: int = 0
    loss_ppm: int = 0


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """The zones of a market and the links between them, ascending by id."""

    zones: tuple[Zone, ...]
    links: tuple[Link, ...] = ()
