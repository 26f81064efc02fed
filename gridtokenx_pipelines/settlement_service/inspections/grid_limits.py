"""Checks on an epoch's grid limits before a book is cleared over them.

Belongs here: judgements on stored limits. Does not belong here: power flow. A state that violates bounds is no failure
of these: it is a fact about the network that the operator's report shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from gridtokenx_pipelines.settlement_service.inspections.verdict import Verdict, verdicts

CONVERGED = "power_flow_converged"
NOT_NEGATIVE = "capacities_not_negative"
CHECKS = (CONVERGED, NOT_NEGATIVE)


def inspect(states: pl.DataFrame, limits: pl.DataFrame, epochs: Sequence[int]) -> list[Verdict]:
    """Both checks on each epoch. `states`, `limits`: columns of store.grid.STATES and LIMITS."""
    return [*_converged(states, epochs), *_not_negative(limits, epochs)]


def _converged(states: pl.DataFrame, epochs: Sequence[int]) -> list[Verdict]:
    calendar = pl.DataFrame({"epoch": list(epochs)}, schema={"epoch": pl.Int64})
    found = calendar.join(states, on="epoch", how="left")
    failing = found.filter(~pl.col("converged").fill_null(False)).select(
        "epoch", "state_epoch", "source", "case_fingerprint", "violations"
    )
    shown = {row["epoch"]: row for row in states.iter_rows(named=True)}

    def held(epoch: int) -> str:
        row = shown.get(epoch, {})
        if row.get("lowest_pu") is None:
            return f"{row.get('source', '–')}: no power flow is needed"
        return (
            f"{row['lowest_pu']:.3f}…{row['highest_pu']:.3f} p.u., lines to {row['line_percent']:.0f} %, "
            f"transformers to {row['trafo_percent']:.0f} %"
        )

    return verdicts(
        CONVERGED,
        epochs,
        failing,
        held,
        "state of the epoch before without a power flow; look for a false reading or a wrong impedance, correct it, or "
        "clear with the network file's capacities: gridtokenx grid limits --given",
    )


def _not_negative(limits: pl.DataFrame, epochs: Sequence[int]) -> list[Verdict]:
    columns = [f"{kind}_{way}_wh" for kind in ("capacity", "cleared") for way in ("forward", "backward")]
    failing = limits.filter(
        pl.any_horizontal([pl.col(name) < 0 for name in columns]) | ~pl.col("loss_ppm").is_between(0, 999_999)
    ).select("epoch", "link_id", *columns, "loss_ppm")
    counts = dict(limits.group_by("epoch").len().iter_rows())
    return verdicts(
        NOT_NEGATIVE,
        epochs,
        failing,
        lambda epoch: f"{counts.get(epoch, 0)} links with capacities of 0 or more both ways",
        "link with a negative capacity or an impossible loss; materialise grid_limits again",
    )
