"""An operator's decision about a meter's register: checked, kept with its reasons, settled as any correction is.

Belongs here: what may be decided, and the named answer where it may not. Does not belong here: what it moves
(settlement/resettlement.py), the command line.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import polars as pl

from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.settlement.resettlement import bound_wh
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import audit, participants
from gridtokenx_pipelines.store import disputes as store
from gridtokenx_pipelines.store.epochs import HORIZON_EPOCHS, horizon_begins, statuses


class DisputeRefused(ValueError):
    """A decision that can't be carried out; `name` is one of the answers documented in docs/how-to/disputes.md."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The register of `meter_id` at the start of `boundary_epoch` is to read this much more (Wh, may be negative)."""

    case_id: str
    meter_id: str
    boundary_epoch: int
    production_delta_wh: int
    consumption_delta_wh: int
    reason: str
    decided_by: str


def decide(services: Services, decision: Decision) -> bool:
    """Keep the decision; the next resettlement books it. False if this case was decided so before.

    Raises DisputeRefused by name: `unknown_meter`, `beyond_horizon`, `not_settled`, `nothing_moves`, `beyond_rating`,
    `decided_otherwise`.
    """
    with services.engine.begin() as connection:
        known = participants.meters(connection).filter(pl.col("meter_id") == decision.meter_id)
        if known.is_empty():
            raise DisputeRefused("unknown_meter", f"no meter is called {decision.meter_id!r}; look at its registration")
        meter = known.row(0, named=True)
        boundary = decision.boundary_epoch
        _check_epochs(statuses(connection, boundary - 1, boundary), boundary, horizon_begins(connection))
        _check_amounts(decision, meter["rating_w"])
        now = datetime.now(UTC)
        try:
            new = store.decide(connection, wallet=meter["wallet"], decided_at=now, **msgspec.structs.asdict(decision))
        except ValueError as error:
            raise DisputeRefused("decided_otherwise", str(error)) from error
        if new:
            audit.append(
                connection,
                at=now,
                who=decision.decided_by,
                what="dispute_decided",
                detail=msgspec.structs.asdict(decision),
            )
        return new


def _check_epochs(status: dict[int, str], boundary: int, horizon: int) -> None:
    if boundary - 1 < horizon:
        raise DisputeRefused(
            "beyond_horizon",
            f"boundary was {key_of(boundary)}, must be later than {key_of(horizon)}: {HORIZON_EPOCHS} epochs "
            "(14 days) after its end an epoch is final; settle the claim outside of the market",
        )
    for epoch in (boundary - 1, boundary):
        if status.get(epoch) != "settled":
            raise DisputeRefused(
                "not_settled", f"{key_of(epoch)} is {status.get(epoch, 'unknown')}, must be settled; settle it first"
            )


def _check_amounts(decision: Decision, rating_w: int) -> None:
    production, consumption = decision.production_delta_wh, decision.consumption_delta_wh
    if production == consumption == 0:
        raise DisputeRefused("nothing_moves", "both differences were 0 Wh; give what the register is to read more")
    most = bound_wh(rating_w)
    if max(abs(production), abs(consumption), abs(production - consumption)) > most:
        raise DisputeRefused(
            "beyond_rating",
            f"differences were {production} and {consumption} Wh, at most {most} Wh fit 1.1 × {rating_w} W × 15 min; "
            "check the meter",
        )
