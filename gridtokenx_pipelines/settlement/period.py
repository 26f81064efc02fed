"""A participant's statement of a period, and the operator's: sums, a line a day, and a running balance that must close.

Belongs here: adding up wallet entries, deposits and movements on the chain. Does not belong here: reading them, files,
pages (settlement_service/periods.py, statement_page.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.settlement.frames import LATE, RESETTLEMENT
from gridtokenx_pipelines.settlement.statement import CHARGES, rates_of, vat_expr

KINDS: Final = {1: "clearing", LATE: "late", RESETTLEMENT: "resettlement"}
MOVED: Final = {
    "owner": pl.String,
    "what": pl.String,
    "reference": pl.String,
    **dict.fromkeys(("after_seq", "epoch", "grid_wh", "cash_uthb"), pl.Int64),
}
LINE: Final = (
    "epoch", "run", "kind", "seq", "net_wh", "bought_wh", "sold_wh", "minted_wh", "burned_wh", "residual_wh",
    "energy_cost_uthb", "zone_wheeling_uthb", "proceeds_uthb", "fee_uthb", "billed_uthb", "buy_back_uthb",
    "refund_uthb", "returned_uthb", "vat_fee_uthb", "vat_wheeling_uthb", "vat_bill_uthb", "grid_after_wh",
    "thbc_after_uthb", "debt_after_uthb",
)  # fmt: skip
OPERATOR: Final = ("fee_uthb", "zone_wheeling_uthb", "billed_uthb", "buy_back_uthb", "refund_uthb", "returned_uthb")


def lines(entries: pl.DataFrame, rules: Mapping[int, Rules]) -> pl.DataFrame:
    """A wallet's entries as statement lines, LINE, in the order they were booked; VAT of each charge by itself."""
    traded = pl.col("traded_wh")
    return (
        entries.join(rates_of(rules), on="epoch", how="left")
        .sort("seq")
        .with_columns(
            pl.col("kind").replace_strict(KINDS, return_dtype=pl.String),
            bought_wh=traded.clip(lower_bound=0),
            sold_wh=(-traded).clip(lower_bound=0),
            vat_fee_uthb=vat_expr("fee_uthb"),
            vat_wheeling_uthb=vat_expr("zone_wheeling_uthb"),
            vat_bill_uthb=vat_expr("billed_uthb") - vat_expr("refund_uthb"),
        )
        .select(LINE)
    )


def running(opening: Mapping[str, int], entries: pl.DataFrame, moved: pl.DataFrame) -> list[dict[str, Any]]:
    """The running balance: every entry and movement with GRID and cash − debt after it, added up from `opening`.

    `opening` has grid_wh and net_uthb (cash − debt); `moved` is MOVED. Raises ValueError where the sum of what moved is
    not what the ledger says is held: then the ledger is wrong, and `gridtokenx audit run` says where.
    """
    grid, net = opening["grid_wh"], opening["net_uthb"]
    steps: list[tuple[int, int, dict[str, Any]]] = [
        (row["after_seq"], 1, {"what": row["what"], "reference": row["reference"], **row})
        for row in moved.iter_rows(named=True)
    ]
    steps += [(row["seq"], 0, row) for row in entries.iter_rows(named=True)]
    found = []
    for at, kind, row in sorted(steps, key=lambda each: each[:2]):
        if kind:
            grid, net = grid + row["grid_wh"], net + row["cash_uthb"]
            what, place = row["what"], row["reference"]
        else:
            grid += row["minted_wh"] + row["traded_wh"] - row["burned_wh"] - row["bought_back_wh"] + row["returned_wh"]
            net += row["proceeds_uthb"] + row["buy_back_uthb"] + row["refund_uthb"]
            net -= row["cost_uthb"] + row["billed_uthb"] + row["returned_uthb"]
            what, place = KINDS[row["kind"]], f"run {row['run']}"
            held = row["grid_after_wh"], row["thbc_after_uthb"] - row["debt_after_uthb"]
            if held != (grid, net):
                raise ValueError(
                    f"after run {row['run']} of epoch {row['epoch']} the ledger says {held[0]} Wh and {held[1]} µTHB, "
                    f"what moved adds up to {grid} Wh and {net} µTHB; run `gridtokenx audit run` on that epoch"
                )
        # what moved after a run belongs to whatever the next run belongs to
        found.append(
            {"at": at + kind, "epoch": row["epoch"], "what": what, "of": place, "grid_wh": grid, "net_uthb": net}
        )
    return found


def totals(rows: pl.DataFrame) -> dict[str, int]:
    """Sums over statement lines; the balances after are the last line's."""
    summed = [name for name in LINE if name not in ("epoch", "run", "kind", "seq") and not name.endswith("after_wh")]
    summed = [name for name in summed if "_after_" not in name]
    return {name: int(rows[name].sum()) for name in summed}


def operator(entries: pl.DataFrame, epochs: pl.DataFrame, rules: Mapping[int, Rules]) -> dict[str, int]:
    """The operator's side: fees, wheeling, rent, losses, imbalance, and the VAT inside its charges.

    `epochs`: lost_wh, link_wheeling_uthb, rent_uthb of the cleared epochs. The imbalance is what trading left to the
    supplier: residual Wh delivered less surplus bought back.
    """
    rated = entries.join(rates_of(rules), on="epoch", how="left")
    sums = {name: int(entries[name].sum()) for name in (*OPERATOR, "residual_wh", "bought_back_wh")}
    vat = {f"vat_{name}": int(rated.select(vat_expr(name).sum()).item()) for name in CHARGES}
    return {
        **sums,
        **{name: int(epochs[name].fill_null(0).sum()) for name in ("link_wheeling_uthb", "rent_uthb", "lost_wh")},
        "traded_wh": int(entries["traded_wh"].clip(lower_bound=0).sum()),
        "imbalance_wh": sums["residual_wh"] - sums["bought_back_wh"],
        **vat,
    }
