"""What `settlement.resettlement.judge` has to know: nets, residuals and buy-backs as booked so far.

Belongs here: reading them, and booking what was judged, in one transaction a run. Does not belong here: the judging.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import polars as pl
from sqlalchemy import Connection, text

from gridtokenx_pipelines.epochs import is_on_peak
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.settlement.frames import LATE
from gridtokenx_pipelines.settlement.ledger import book_resettlement
from gridtokenx_pipelines.settlement.resettlement import Judgement, judge
from gridtokenx_pipelines.store import disputes, energy, ledger, participants
from gridtokenx_pipelines.store.epochs import CLOSED_AFTER_EPOCHS, HORIZON_EPOCHS, horizon_begins
from gridtokenx_pipelines.store.postgres import read_frame


def book_next(connection: Connection, *, through_epoch: int, rules: Mapping[int, Rules] | Rules) -> ledger.Run | None:
    """Judge the waiting corrections up to a boundary epoch, and book the next run, if there is one to book.

    Call it, each time in its own transaction, until it returns None. Corrections that are only recorded or rejected
    are concluded in the same transaction.
    """
    state = ledger.state_before(connection)
    _refuse_closed(connection)
    corrections = energy.corrections_waiting(connection, through_epoch)
    if corrections.is_empty():
        return None
    judgement = judge_waiting(connection, corrections, state, rules)
    if judgement.epoch is None:
        energy.conclude_corrections(connection, judgement.outcomes, None, None)
        return None
    booking = book_resettlement(
        seq=state.seq,
        epoch=judgement.epoch,
        run=ledger.next_run(connection, judgement.epoch),
        shifts=judgement.shifts,
        balances=state.balances,
        accounts=state.accounts,
        rules=rules,
    )
    cause = disputes.cause_of(connection, judgement.outcomes)
    return ledger.book(connection, msgspec.structs.replace(booking, corrections=judgement.outcomes), cause)


def _refuse_closed(connection: Connection) -> None:
    """Answer what came so late that its epochs are closed for good on the chain: rejected by name."""
    closed = horizon_begins(connection) - (CLOSED_AFTER_EPOCHS - HORIZON_EPOCHS)
    connection.execute(
        text(
            "UPDATE corrections SET status = 'rejected', booked_seq = 0, reason = :reason "
            "WHERE booked_seq IS NULL AND boundary_epoch - 1 < :closed"
        ),
        {"closed": closed, "reason": "beyond_horizon: its epochs are closed for good; settle the claim outside"},
    )


def judge_waiting(
    connection: Connection, corrections: pl.DataFrame, state: ledger.State, rules: Mapping[int, Rules] | Rules
) -> Judgement:
    """Judge these corrections against what is booked."""
    epochs = sorted({each for boundary in corrections["boundary_epoch"] for each in (boundary - 1, boundary)})
    meters = corrections["meter_id"].unique().sort().to_list()
    wallets = corrections["wallet"].unique().sort().to_list()
    return judge(
        corrections=corrections,
        nets=booked_nets(connection, meters, epochs),
        residuals=residuals_left(connection, wallets, epochs),
        bought_back=bought_back_left(connection, wallets, epochs),
        ratings=dict(participants.meters(connection).select("meter_id", "rating_w").iter_rows()),
        balances=state.balances,
        accounts=state.accounts,
        rules=rules,
    )


def booked_nets(connection: Connection, meters: list[str], epochs: list[int]) -> pl.DataFrame:
    """Net energy per (meter, epoch) as booked: run 0's or the late run's row, plus corrections concluded since."""
    return read_frame(
        connection,
        """
        WITH booked AS (
            SELECT n.meter_id, n.zone_id, n.epoch, n.net_wh FROM net_energy n
            JOIN runs r ON r.epoch = n.epoch AND r.run = 0
            WHERE n.revision = 0 AND NOT n.missing
            UNION ALL
            SELECT n.meter_id, n.zone_id, n.epoch, n.net_wh FROM net_energy n
            LEFT JOIN voided_epochs v ON v.epoch = n.booked_epoch
            JOIN runs r ON r.epoch = coalesce(v.booked_epoch, n.booked_epoch) AND r.kind = :late
            WHERE NOT n.missing AND (n.revision > 0 OR v.epoch IS NOT NULL)
        ), shifts AS (
            SELECT meter_id, boundary_epoch - 1 AS epoch, production_delta_wh - consumption_delta_wh AS wh
            FROM corrections WHERE status IN ('booked', 'recorded')
            UNION ALL
            SELECT meter_id, boundary_epoch, consumption_delta_wh - production_delta_wh
            FROM corrections WHERE status IN ('booked', 'recorded')
        )
        SELECT b.meter_id, b.zone_id, b.epoch, (b.net_wh + coalesce(sum(s.wh), 0))::bigint AS net_wh
        FROM booked b LEFT JOIN shifts s USING (meter_id, epoch)
        WHERE b.meter_id = ANY(:meters) AND b.epoch = ANY(:epochs)
        GROUP BY b.meter_id, b.zone_id, b.epoch, b.net_wh ORDER BY b.meter_id, b.epoch
        """,
        {"meters": meters, "epochs": epochs, "late": LATE},
        {"meter_id": pl.String, "zone_id": pl.Int64, "epoch": pl.Int64, "net_wh": pl.Int64},
    )


def bought_back_left(connection: Connection, wallets: list[str], epochs: list[int]) -> pl.DataFrame:
    """Bought-back Wh per (wallet, epoch) not returned yet."""
    return read_frame(
        connection,
        """
        SELECT wallet, epoch, sum(wh)::bigint AS bought_back_wh FROM (
            SELECT wallet, epoch, bought_back_wh AS wh FROM settlements
            UNION ALL
            SELECT wallet, surplus_epoch, -returned_wh FROM settlements WHERE surplus_epoch IS NOT NULL
        ) moved
        WHERE wallet = ANY(:wallets) AND epoch = ANY(:epochs) GROUP BY wallet, epoch ORDER BY wallet, epoch
        """,
        {"wallets": wallets, "epochs": epochs},
        {"wallet": pl.String, "epoch": pl.Int64, "bought_back_wh": pl.Int64},
    )


def residuals_left(connection: Connection, wallets: list[str], epochs: list[int]) -> pl.DataFrame:
    """Residual Wh per (wallet, epoch) billed and not refunded yet, late runs' residuals spread over their epochs."""
    schema = {"wallet": pl.String, "epoch": pl.Int64, "residual_wh": pl.Int64}
    direct = read_frame(
        connection,
        """
        SELECT wallet, epoch, sum(wh)::bigint AS residual_wh FROM (
            SELECT wallet, epoch, residual_wh AS wh FROM settlements WHERE run = 0
            UNION ALL
            SELECT wallet, refund_epoch, -refund_wh FROM settlements WHERE refund_epoch IS NOT NULL
            UNION ALL
            SELECT wallet, surplus_epoch, rebilled_wh FROM settlements WHERE surplus_epoch IS NOT NULL
        ) moved
        WHERE wallet = ANY(:wallets) AND epoch = ANY(:epochs) GROUP BY wallet, epoch
        """,
        {"wallets": wallets, "epochs": epochs},
        schema,
    )
    late = late_residuals(connection, wallets).filter(pl.col("epoch").is_in(epochs))
    return (
        pl.concat([direct, late.select(*schema)])
        .group_by("wallet", "epoch")
        .agg(pl.col("residual_wh").sum())
        .sort("wallet", "epoch")
    )


def late_residuals(connection: Connection, wallets: list[str]) -> pl.DataFrame:
    """Residuals of late runs by epoch (wallet, epoch, residual_wh).

    A late run bills a wallet's residual per tariff class, not per epoch; within a class what was held is taken to have
    burned the latest deficits, so that the earliest epochs, then the lowest meter ids, carry the residual.
    """
    rows = read_frame(
        connection,
        """
        SELECT n.wallet, n.epoch, r.seq, -n.net_wh AS deficit_wh, s.residual_on_peak_wh, s.residual_off_peak_wh
        FROM net_energy n LEFT JOIN voided_epochs v ON v.epoch = n.booked_epoch
        JOIN runs r ON r.epoch = coalesce(v.booked_epoch, n.booked_epoch) AND r.kind = :late
        JOIN settlements s ON s.seq = r.seq AND s.wallet = n.wallet
        WHERE NOT n.missing AND (n.revision > 0 OR v.epoch IS NOT NULL) AND n.net_wh < 0
            AND n.wallet = ANY(:wallets) ORDER BY n.epoch, n.meter_id
        """,
        {"wallets": wallets, "late": LATE},
        {
            "wallet": pl.String,
            "epoch": pl.Int64,
            "seq": pl.Int64,
            "deficit_wh": pl.Int64,
            "residual_on_peak_wh": pl.Int64,
            "residual_off_peak_wh": pl.Int64,
        },
    )
    peaks = [each for each in rows["epoch"].unique().to_list() if is_on_peak(each)]
    rows = rows.with_columns(pl.col("epoch").is_in(peaks).alias("on_peak"))
    billed = pl.when("on_peak").then("residual_on_peak_wh").otherwise("residual_off_peak_wh")
    before = pl.col("deficit_wh").cum_sum().over("wallet", "seq", "on_peak") - pl.col("deficit_wh")
    carried = pl.min_horizontal("deficit_wh", (billed - before).clip(lower_bound=0))
    return rows.select("wallet", "epoch", carried.alias("residual_wh"))
