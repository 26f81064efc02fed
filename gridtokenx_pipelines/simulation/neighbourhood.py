"""Who lives on a grid: households with wallets, meters, mandates and deposits, in zones.

Belongs here: turning a SimBench grid and a seed into people and devices. Does not belong here: what their registers
show over time (registers.py), what they send (day.py), how they are registered on chain.

- Every base load (profiles H0, G, L) is a household with one wallet and one main meter.
- Charging points and heat pumps are a `Grid` meter of their own, owned by the first household of their bus.
- A PV system joins the main meter of the first household of its bus, which makes it `Hybrid`: production and
  consumption are counted separately, before they net.
- A PV system with a battery has a `Solar` meter of its own, owned likewise.
- PV on a bus where nobody lives belongs to a prosumer of its own with a `Solar` meter.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from gridtokenx_pipelines.epochs import EPOCH_SECONDS
from gridtokenx_pipelines.market.rules import Network, Rules
from gridtokenx_pipelines.simulation.draws import Draws
from gridtokenx_pipelines.simulation.grids import DEFAULT_GRID, PROFILE_ROWS, UWH_PER_MILLIWATT_ROW, Grid, load_grid
from gridtokenx_pipelines.simulation.keys import DemoKeys, address, public_bytes
from gridtokenx_pipelines.simulation.zones import zones_of
from gridtokenx_pipelines.units import PRICE_TICK_UTHB_PER_KWH, UTHB_PER_THB, ceil_div

CONSUMER, PROSUMER = "consumer", "prosumer"
RATING_STEP_W = 100
RATING_MARGIN_W = 500  # one Wh of rounding between readings half a minute apart already looks like 120 W
BLOCK_METERS_IN_100 = 10
WITHOUT_MANDATE_IN_100 = 5
BUY_BACK_IN_100 = 60
DEPOSIT_DAYS = 5
POOR_DEPOSIT_UTHB = 5 * UTHB_PER_THB
SUPPLIER_FUNDS_UTHB = 100_000 * UTHB_PER_THB
GRID_OPERATOR_FUNDS_UTHB = 10_000 * UTHB_PER_THB


class HouseholdMandate(msgspec.Struct, frozen=True, kw_only=True):
    """What a household signs once, as `set_mandate` takes it (limits on the tick; 0: not by mandate; no expiry)."""

    sell_min_uthb_per_kwh: int
    buy_max_uthb_per_kwh: int
    max_wh: int
    buy_back: bool


class MeterUnit(msgspec.Struct, frozen=True, kw_only=True):
    """A meter and the columns of the grid's profiles behind its two registers."""

    meter_id: str
    wallet: str
    zone_id: int
    meter_type: str
    rating_w: int
    device_key: bytes
    load_columns: tuple[int, ...]
    pv_columns: tuple[int, ...]
    storage_columns: tuple[int, ...]
    profile: str
    sends_blocks: bool
    baseline_production_wh: int
    baseline_consumption_wh: int


class Household(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet with its meters. `deposit_uthb` is the THBC it starts with; `mandate` None: it only places orders."""

    name: str
    wallet: str
    zone_id: int
    bus: int
    user_type: str
    mandate: HouseholdMandate | None
    deposit_uthb: int
    meters: tuple[MeterUnit, ...]


class Neighbourhood(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is registered before the first reading."""

    grid_code: str
    seed: int
    network_id: int
    network: Network
    households: tuple[Household, ...]
    grid: Grid

    @property
    def meters(self) -> tuple[MeterUnit, ...]:
        """All meters, ascending by id."""
        return tuple(sorted((m for home in self.households for m in home.meters), key=lambda meter: meter.meter_id))

    @property
    def keys(self) -> DemoKeys:
        """Demo keys of every role."""
        return DemoKeys(self.seed)


class _Site(msgspec.Struct, kw_only=True):
    """A household while its meters are being found: the loads, PV and storages that hang on each meter."""

    bus: int
    mains: list[int]
    extra_loads: list[int] = []
    pv: list[int] = []
    storages: list[int] = []


def build_neighbourhood(
    grid_code: str = DEFAULT_GRID,
    seed: int = 1,
    zones: int = 2,
    *,
    cache_dir: Path | None = None,
    network_id: int = Rules().network_id,
) -> Neighbourhood:
    """The neighbourhood of a grid and a seed, the same on every machine.

    Raises UnknownGridError for a code that is no low-voltage grid, ValueError for a number of zones it can't have.
    """
    grid = load_grid(grid_code, cache_dir)
    zone_map = zones_of(grid, zones)
    draws, keys = Draws(seed), DemoKeys(seed)
    sites = _sites(grid)
    poor = draws.below(len(sites), "poor")
    households, next_meter = [], 1
    for number, site in enumerate(sites, start=1):
        name = f"H{number:03d}"
        wallet, zone_id = address(keys.wallet(name)), zone_map.zone_of_bus[site.bus]
        meters = _meters(grid, site, number=next_meter, wallet=wallet, zone_id=zone_id, draws=draws, keys=keys)
        next_meter += len(meters)
        produces = bool(site.pv or site.storages)
        households.append(
            Household(
                name=name,
                wallet=wallet,
                zone_id=zone_id,
                bus=site.bus,
                user_type=PROSUMER if produces else CONSUMER,
                mandate=_mandate(name, produces, meters, draws),
                deposit_uthb=POOR_DEPOSIT_UTHB if number - 1 == poor else _deposit_uthb(grid, meters),
                meters=meters,
            )
        )
    return Neighbourhood(
        grid_code=grid_code,
        seed=seed,
        network_id=network_id,
        network=zone_map.network,
        households=tuple(households),
        grid=grid,
    )


def _sites(grid: Grid) -> list[_Site]:
    sites: list[_Site] = []
    first_of_bus: dict[int, _Site] = {}

    def first(bus: int) -> _Site:
        if bus not in first_of_bus:  # PV, a charger or a heat pump where nobody lives: a household of its own
            first_of_bus[bus] = _Site(bus=bus, mains=[])
            sites.append(first_of_bus[bus])
        return first_of_bus[bus]

    extras = []
    for column, (bus, profile) in enumerate(zip(grid.load_bus, grid.load_profile, strict=True)):
        if is_base_load(profile):
            sites.append(_Site(bus=bus, mains=[column]))
            first_of_bus.setdefault(bus, sites[-1])
        else:
            extras.append((bus, column))
    for bus, column in extras:
        first(bus).extra_loads.append(column)
    for column, bus in enumerate(grid.pv_bus):
        first(bus).pv.append(column)
    for column, bus in enumerate(grid.storage_bus):
        first(bus).storages.append(column)
    return sites


def is_base_load(profile: str) -> bool:
    """Whether a load profile is a home, a business or a farm, not a charger or heat pump: H0-A, G4-B, L2-A …"""
    return profile[:1] in ("H", "G", "L") and profile[1:2].isdigit()


def _meters(
    grid: Grid, site: _Site, *, number: int, wallet: str, zone_id: int, draws: Draws, keys: DemoKeys
) -> tuple[MeterUnit, ...]:
    # (loads, pv, storages) of each meter, the main one first
    parts: list[tuple[list[int], list[int], list[int]]] = [(site.mains, site.pv, [])] if site.mains or site.pv else []
    parts += [([load], [], []) for load in site.extra_loads] + [([], [], [storage]) for storage in site.storages]
    meters = []
    for offset, (loads, pv, storages) in enumerate(parts):
        meter_id = f"MEA-{number + offset:03d}"
        kind = "Grid" if not pv and not storages else "Hybrid" if loads else "Solar"
        profiles = [grid.load_profile[i] for i in loads] + [grid.pv_profile[i] for i in pv]
        meters.append(
            MeterUnit(
                meter_id=meter_id,
                wallet=wallet,
                zone_id=zone_id,
                meter_type=kind,
                rating_w=_rating_w(grid, loads, pv, storages),
                device_key=public_bytes(keys.meter(meter_id)),
                load_columns=tuple(loads),
                pv_columns=tuple(pv),
                storage_columns=tuple(storages),
                profile="+".join(profiles + [grid.storage_profile[i] for i in storages]),
                sends_blocks=draws.below(100, "blocks", meter_id) < BLOCK_METERS_IN_100,
                # a meter that only consumes has never produced; registers of the others have a past that doesn't count
                baseline_production_wh=0 if kind == "Grid" else draws.between(10**6, 2 * 10**7, "produced", meter_id),
                baseline_consumption_wh=draws.between(10**5, 3 * 10**7, "consumed", meter_id),
            )
        )
    return tuple(meters)


def _rating_w(grid: Grid, loads: list[int], pv: list[int], storages: list[int]) -> int:
    """A tenth above the year's highest power either way, and a margin for whole Wh, in steps of 100 W."""
    consumed = grid.load_milliwatt[:, loads].sum(axis=1, dtype="int64")
    produced = grid.pv_milliwatt[:, pv].sum(axis=1, dtype="int64")
    produced = produced + grid.storage_milliwatt[:, storages].sum(axis=1, dtype="int64")
    highest_milliwatt = max(int(consumed.max()), int(produced.max()))
    return ceil_div(ceil_div(highest_milliwatt * 11, 10_000) + RATING_MARGIN_W, RATING_STEP_W) * RATING_STEP_W


def _mandate(name: str, produces: bool, meters: tuple[MeterUnit, ...], draws: Draws) -> HouseholdMandate | None:
    if draws.below(100, "mandate", name) < WITHOUT_MANDATE_IN_100:
        return None
    rated_wh = sum(meter.rating_w for meter in meters) * EPOCH_SECONDS // 3_600
    # between feed-in and on-peak tariff: nobody gains by selling below the one or buying above the other
    return HouseholdMandate(
        sell_min_uthb_per_kwh=draws.between(220, 340, "sell", name) * PRICE_TICK_UTHB_PER_KWH if produces else 0,
        buy_max_uthb_per_kwh=draws.between(260, 410, "buy", name) * PRICE_TICK_UTHB_PER_KWH,
        max_wh=max(500, ceil_div(rated_wh * draws.between(30, 100, "most", name), 10_000) * 100),
        buy_back=produces and draws.below(100, "buy-back", name) < BUY_BACK_IN_100,
    )


def _deposit_uthb(grid: Grid, meters: tuple[MeterUnit, ...]) -> int:
    """Some days of mean consumption at the dearest tariff, in whole hundreds of baht, at least 500."""
    columns = [column for meter in meters for column in meter.load_columns]
    year_uwh = int(grid.load_milliwatt[:, columns].sum(dtype="int64")) * UWH_PER_MILLIWATT_ROW
    days_wh = ceil_div(year_uwh * 96 * DEPOSIT_DAYS, PROFILE_ROWS * 10**6)
    hundreds = ceil_div(days_wh * Rules().tariff_on_peak_uthb_per_kwh, 1_000 * 100 * UTHB_PER_THB)
    return max(500, hundreds * 100) * UTHB_PER_THB
