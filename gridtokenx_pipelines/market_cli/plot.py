"""Supply and demand curves of an epoch as a picture, zone by zone, with the price and what was traded.

Belongs here: drawing with matplotlib, the same bytes for the same data. Does not belong here: the curves' numbers
(market/analytics.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.market.analytics import BUY, SELL, merit_order
from gridtokenx_pipelines.market_cli.folder import History
from gridtokenx_pipelines.units import UTHB_PER_THB, WH_PER_KWH, thb

mpl.use("agg")
SUFFIXES = (".svg", ".png")
COLOURS = {BUY: "#0b6e99", SELL: "#c2570c"}
LABELS = {BUY: "demand (bids less wheeling)", SELL: "supply (offers with the fee)"}
PRICE_COLOUR = "#333333"
MOST_COLUMNS = 3
PANEL_WIDTH, PANEL_HEIGHT = 5.2, 4.0
# without a salt and with a date every drawing would differ from the last
STYLE = {
    "svg.hashsalt": "gridtokenx",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def curve(orders: pl.DataFrame) -> tuple[list[float], list[float]]:
    """Corners of a step curve (kWh, THB/kWh) of one side of `merit_order`; empty without orders."""
    energy, price, reached = [], [], 0.0
    for level, cumulative in orders.select("price_uthb_per_kwh", "cumulative_wh").iter_rows():
        at, end = level / UTHB_PER_THB, cumulative / WH_PER_KWH
        energy += [reached, end]
        price += [at, at]
        reached = end
    return energy, price


def draw(history: History, epoch: int, mechanism: str, path: Path) -> Path:
    """Write the picture of one epoch's history; the suffix chooses SVG or PNG."""
    by_zone = [(f"zone {zone}", zone) for zone in history.zones["zone_id"]]
    panels: list[tuple[str, int | None]] = list(by_zone) if mechanism == "zonal" else [("all zones", None)]
    columns = min(MOST_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PANEL_WIDTH * columns, PANEL_HEIGHT * rows + 0.6), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
        for place, (name, zone) in enumerate(panels):
            _panel(axes[place], history, name, zone)
        for empty in axes[len(panels) :]:
            empty.set_axis_off()
        figure.suptitle(f"Supply and demand, {key_of(epoch)}, {mechanism}")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels) or 1, frameon=False)
        metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(path, metadata=metadata, dpi=150)
    return path


def _panel(axes: Axes, history: History, name: str, zone: int | None) -> None:
    orders = merit_order(history.book)
    zones = history.zones
    if zone is not None:
        orders, zones = orders.filter(pl.col("zone_id") == zone), zones.filter(pl.col("zone_id") == zone)
    else:
        orders = _one_area(history.book)
    for side in (BUY, SELL):
        energy, price = curve(orders.filter(pl.col("side") == side))
        axes.plot(energy, price, color=COLOURS[side], linewidth=1.8, label=LABELS[side])
        traded = int(zones["bought_wh" if side == BUY else "sold_wh"].sum()) / WH_PER_KWH
        if traded:
            axes.axvline(traded, color=COLOURS[side], linestyle=":", linewidth=1.2)
    priced = zones.filter(pl.col("price_uthb_per_kwh").is_not_null())["price_uthb_per_kwh"].unique()
    title = f"{name}: no price"
    if len(priced) == 1:
        at = priced[0] / UTHB_PER_THB
        axes.axhline(at, color=PRICE_COLOUR, linestyle="--", linewidth=1.2, label="price")
        title = f"{name}: {thb(priced[0])} THB/kWh"
    bought, sold = (int(zones[column].sum()) / WH_PER_KWH for column in ("bought_wh", "sold_wh"))
    axes.set_title(f"{title}\nbought {bought:,.3f} kWh, sold {sold:,.3f} kWh (dotted)", fontsize=10)
    axes.set_xlabel("kWh")
    axes.set_ylabel("THB/kWh")
    axes.set_xlim(left=0)
    axes.margins(y=0.08)
    axes.grid(alpha=0.25)


def _one_area(book: pl.DataFrame) -> pl.DataFrame:
    return merit_order(book.with_columns(zone_id=pl.lit(0, pl.Int64)))
