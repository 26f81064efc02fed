"""Whether a pandapower network can be computed and rated at all, before anything is solved.

Belongs here: ratings, impedances, element kinds, islands. Does not belong here: solving (power_flow.py), and whether
the results are acceptable (limits.py).
pandapower accepts a missing rating (loading NaN or infinite) and silently drops buses without slack; a market that
relies on ratings must not.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from gridtokenx_pipelines.grid.errors import IslandWithoutSlackError, RatingError, UnsupportedNetworkError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pandapower.auxiliary import pandapowerNet

POSITIVE: Final = {
    "line": {
        "max_i_ka": "the current rating in kA",
        "df": "the derating factor",
        "parallel": "the number of parallel systems",
        "length_km": "the length in km",
    },
    "trafo": {
        "sn_mva": "the rated power in MVA",
        "df": "the derating factor",
        "parallel": "the number of parallel units",
        "vn_hv_kv": "the rated high voltage in kV",
        "vn_lv_kv": "the rated low voltage in kV",
        "vk_percent": "the short-circuit voltage in %",
    },
    "trafo3w": {
        "sn_hv_mva": "the rated power in MVA",
        "sn_mv_mva": "the rated power in MVA",
        "sn_lv_mva": "the rated power in MVA",
    },
    "bus": {"vn_kv": "the nominal voltage in kV"},
}
NOT_MODELLED: Final = ("svc", "tcsc", "ssc", "vsc", "dcline", "line_dc", "bus_dc", "b2b_vsc")
VOLTAGE_SHARES: Final = ("const_z_percent", "const_i_percent")
VOLTAGE_SHARES_BY_POWER: Final = tuple(f"const_{kind}_{power}_percent" for kind in "zi" for power in "pq")


def validate(net: pandapowerNet, *, own_injections: bool) -> None:
    """Raise RatingError, UnsupportedNetworkError or IslandWithoutSlackError for what can't be computed, first found."""
    for table in NOT_MODELLED:
        if table in net and len(net[table]):
            raise UnsupportedNetworkError(
                f"network had {len(net[table])} {table}, must have none (not modelled); replace them by loads or lines"
            )
    for table, columns in POSITIVE.items():
        elements = net[table]
        active = elements[elements.in_service.astype(bool)]
        for column, meaning in columns.items():
            if column not in active.columns:
                if len(active):
                    raise RatingError(f"{table} had no {column}, must have one ({meaning}); add the column")
                continue
            for index, value in zip(active.index.tolist(), active[column].tolist(), strict=True):
                if value is None or not math.isfinite(value) or value <= 0:
                    raise RatingError(
                        f"{table} {index}{_name(elements, index)}: {column} was {value}, must be above 0 and finite; "
                        f"give {meaning}"
                    )
    for index, r, x in net.line.loc[net.line.in_service, ["r_ohm_per_km", "x_ohm_per_km"]].itertuples():
        if not (math.isfinite(r) and math.isfinite(x)) or r < 0 or (r == 0 and x == 0):
            raise RatingError(
                f"line {index}{_name(net.line, index)}: impedance was {r} + j{x} Ω/km, must be finite, not negative in "
                "resistance and not zero; give the cable's data, or close a bus-bus switch instead"
            )
    if not net.ext_grid.in_service.any() and not (net.gen.in_service & net.gen.slack.astype(bool)).any():
        raise IslandWithoutSlackError(
            f"the whole network ({len(net.bus)} buses) had no external grid in service, must have one or a generator "
            "with slack=True; connect it, or let a forming storage hold the voltage of the island"
        )
    if own_injections:
        _no_voltage_dependence(net)


def _no_voltage_dependence(net: pandapowerNet) -> None:
    for column in (*VOLTAGE_SHARES, *VOLTAGE_SHARES_BY_POWER):
        if column in net.load.columns and (net.load[column].fillna(0) != 0).any():
            index = int(net.load.index[net.load[column].fillna(0) != 0][0])
            raise UnsupportedNetworkError(
                f"load {index}: {column} was {net.load.loc[index, column]}, must be 0 for a network solved with its "
                "own loads; give voltage-dependent loads as meters, whose powers the caller moves with the voltage"
            )


def require_supplied(net: pandapowerNet, unsupplied: Iterable[int], *, meter_buses: Iterable[int]) -> None:
    """Raise IslandWithoutSlackError where a bus without supply holds a meter, load, generator or storage."""
    dead = set(unsupplied)
    used = {bus for bus in meter_buses if bus in dead}
    for table in ("load", "sgen", "storage", "gen"):
        elements = net[table]
        used |= {bus for bus in elements.bus[elements.in_service.astype(bool)].tolist() if bus in dead}
    if used:
        shown = ", ".join(map(str, sorted(used)[:10])) + (" …" if len(used) > 10 else "")
        raise IslandWithoutSlackError(
            f"{len(used)} buses with loads or meters ({shown}) were in an island without slack, must be connected to "
            "an in-service external grid; close a switch, or give the island an external grid or a forming storage"
        )


def _name(elements: object, index: int) -> str:
    name = elements.loc[index, "name"] if "name" in elements.columns else None  # type: ignore[attr-defined]
    return f" ({name})" if isinstance(name, str) and name else ""
