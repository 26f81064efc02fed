"""What a run does to everybody's balances: the chain program's arithmetic on columns, to the Wh and the µTHB.

Belongs here: booking run 0, late entries and resettlements in the order of domain §6 (credit, trades, burn, bill,
buy-back) with the rounding of programs/trading/src/settlement. Does not belong here: clearing and charges (market/),
which corrections are booked (resettlement.py), writing anything (store/ledger.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import polars as pl

from gridtokenx_pipelines.epochs import is_on_peak
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.settlement.columns import BEFORE, booking, burn_and_bill, charge, credit, with_balances
from gridtokenx_pipelines.settlement.frames import (
    CLEARING,
    LATE,
    RESETTLEMENT,
    TRADED_AMOUNTS,
    Booking,
    Header,
    LedgerError,
    MarketAccounts,
)
from gridtokenx_pipelines.settlement.resettlement import Shift
from gridtokenx_pipelines.units import ceil_div_expr, floor_div_expr, value_floor_expr

NET: Final = pl.col("net_wh")


def _require_none(rows: pl.DataFrame, what: str, remedy: str) -> None:
    if rows.height:
        raise LedgerError(f"{what}: {rows.row(0, named=True)}" + f" and {rows.height - 1} more; {remedy}")


def book_initial(
    *,
    seq: int,
    epoch: int,
    net_energy: pl.DataFrame,
    traded: pl.DataFrame,
    buy_back: pl.DataFrame,
    balances: pl.DataFrame,
    accounts: MarketAccounts,
    rules: Rules,
    zones: pl.DataFrame,
    lost_wh: int = 0,
    link_wheeling_uthb: int = 0,
    rent_uthb: int = 0,
    halted: bool = False,
) -> Booking:
    """Run 0 of an epoch.

    Args: `net_energy` rows of the epoch (revision 0 and not missing are taken; catch-up rows belong to `book_late`),
    `traded` of the clearing (none if halted), `buy_back` (wallet, buy_back bool) of the mandates in force, `balances`
    and `accounts` after seq − 1, `zones` of the clearing. Raises LedgerError where the chain would refuse or the
    trades don't close.
    """
    if halted and traded.height:
        raise LedgerError(f"epoch {epoch} is halted but has {traded.height} trades; give the traded frame empty")
    rows = net_energy.filter((pl.col("epoch") == epoch) & (pl.col("revision") == 0) & ~pl.col("missing"))
    meters = rows.select(
        "meter_id",
        "wallet",
        "zone_id",
        pl.col("epoch").alias("last_epoch"),
        pl.col("production_wh").alias("production_delta_wh"),
        pl.col("consumption_wh").alias("consumption_delta_wh"),
        NET.clip(lower_bound=0).alias("surplus_wh"),
        (-NET).clip(lower_bound=0).alias("deficit_wh"),
        pl.lit(0, pl.Int64).alias("x_wh"),
    )
    _require_none(meters.filter(meters["meter_id"].is_duplicated()), "meter with two rows", "keep one row per meter")
    wallets = meters.group_by("wallet").agg(
        pl.col("zone_id").min(),
        pl.col("surplus_wh").sum().alias("minted_wh"),
        pl.col("deficit_wh").sum(),
    )
    _check_trades(traded, wallets, lost_wh, link_wheeling_uthb, rent_uthb)
    entries = (
        with_balances(wallets, balances)
        .join(traded.select("wallet", *TRADED_AMOUNTS), on="wallet", how="left")
        .join(buy_back.select("wallet", "buy_back"), on="wallet", how="left")
        .with_columns(pl.col(*TRADED_AMOUNTS).fill_null(0), pl.col("buy_back").fill_null(False))
        .with_columns((pl.col("minted_wh") - pl.col("deficit_wh")).alias("net_wh"))
    )
    sold = (-pl.col("traded_wh")).clip(lower_bound=0)
    entries = entries.with_columns(
        pl.when(pl.col("buy_back") & (not halted))
        .then((NET.clip(lower_bound=0) - sold).clip(lower_bound=0))
        .otherwise(0)
        .alias("bought_back_wh")
    ).with_columns(
        value_floor_expr(pl.col("bought_back_wh"), pl.lit(rules.feed_in_uthb_per_kwh)).alias("buy_back_uthb")
    )
    # on only if the supplier's balance before this run pays for all of it
    buys_back = not halted and int(entries["buy_back_uthb"].sum()) <= accounts.supplier_thbc_uthb
    if not buys_back:
        entries = entries.with_columns(
            pl.lit(0, pl.Int64).alias("bought_back_wh"), pl.lit(0, pl.Int64).alias("buy_back_uthb")
        )
    entries = _trade(entries)
    entries = burn_and_bill(entries, (-NET).clip(lower_bound=0), rules.tariff_uthb_per_kwh(epoch), "residual_wh")
    entries = credit(entries, pl.col("buy_back_uthb")).with_columns(pl.col("grid_wh") - pl.col("bought_back_wh"))
    peak, off = ("on_peak", "off_peak") if is_on_peak(epoch) else ("off_peak", "on_peak")
    entries = entries.with_columns(
        *(pl.col(f"{what}_wh").alias(f"{what}_{peak}_wh") for what in ("deficit", "residual")),
        *(pl.lit(0, pl.Int64).alias(f"{what}_{off}_wh") for what in ("deficit", "residual")),
    )
    prices = zones.sort("zone_id").select(
        "zone_id", pl.col("price_uthb_per_kwh").fill_null(0), "zone_wheeling_uthb_per_kwh"
    )
    header = Header(
        halted=halted,
        buy_back=buys_back,
        lost_wh=lost_wh,
        link_wheeling_uthb=link_wheeling_uthb,
        rent_uthb=rent_uthb,
        zones=tuple((zone, 0 if halted else price, wheeling) for zone, price, wheeling in prices.iter_rows()),
    )
    return booking(
        seq=seq,
        epoch=epoch,
        run=0,
        kind=CLEARING,
        header=header,
        entries=entries,
        meters=meters,
        balances=balances,
        accounts=accounts,
    )


def book_late(
    *,
    seq: int,
    epoch: int,
    run: int,
    net_energy: pl.DataFrame,
    balances: pl.DataFrame,
    accounts: MarketAccounts,
    rules: Rules,
    voided: Collection[int] = (),
) -> Booking:
    """The catch-up run after run 0 of `epoch`: rows with that `booked_epoch` and revision ≥ 1, of `voided` epochs all.

    Surplus is credited, then deficits burn what is held, the dearest tariff class first; the rest of each class is
    residual, billed per class. Raises LedgerError if there is no such row or one is missing.
    """
    late = (pl.col("revision") > 0) | (pl.col("epoch").is_in(list(voided)) & ~pl.col("missing"))
    rows = net_energy.filter((pl.col("booked_epoch") == epoch) & late)
    if rows.is_empty():
        raise LedgerError(f"no late rows are booked with epoch {epoch}; skip its late run")
    _require_none(rows.filter("missing"), "late row without registers", "interpolate it before it is booked")
    peak_epochs = [each for each in rows["epoch"].unique().to_list() if is_on_peak(each)]
    deficit, peak = (-NET).clip(lower_bound=0), pl.col("epoch").is_in(peak_epochs)
    rows = rows.with_columns(
        NET.clip(lower_bound=0).alias("surplus_wh"),
        deficit.alias("deficit_wh"),
        pl.when(peak).then(deficit).otherwise(0).alias("deficit_on_peak_wh"),
        pl.when(peak).then(0).otherwise(deficit).alias("deficit_off_peak_wh"),
    )
    meters = rows.group_by("meter_id", "wallet").agg(
        pl.col("zone_id").min(),
        pl.col("epoch").max().alias("last_epoch"),
        pl.col("production_wh").sum().alias("production_delta_wh"),
        pl.col("consumption_wh").sum().alias("consumption_delta_wh"),
        pl.col("surplus_wh", "deficit_wh").sum(),
        pl.lit(0, pl.Int64).alias("x_wh"),
    )
    entries = with_balances(
        rows.group_by("wallet").agg(
            pl.col("zone_id").min(),
            NET.sum(),
            pl.col("surplus_wh").sum().alias("minted_wh"),
            pl.col("deficit_wh", "deficit_on_peak_wh", "deficit_off_peak_wh").sum(),
        ),
        balances,
    ).with_columns(pl.col("grid_wh") + pl.col("minted_wh"))
    classes = [
        ("deficit_on_peak_wh", rules.tariff_on_peak_uthb_per_kwh, "residual_on_peak_wh"),
        ("deficit_off_peak_wh", rules.tariff_off_peak_uthb_per_kwh, "residual_off_peak_wh"),
    ]
    # stable: at equal tariffs on-peak goes first, as on chain
    for name, tariff, residual in sorted(classes, key=lambda each: -each[1]):
        entries = burn_and_bill(entries, pl.col(name), tariff, residual)
    entries = entries.with_columns(
        (pl.col("residual_on_peak_wh") + pl.col("residual_off_peak_wh")).alias("residual_wh")
    )
    return booking(
        seq=seq,
        epoch=epoch,
        run=run,
        kind=LATE,
        header=Header(),
        entries=entries,
        meters=meters,
        balances=balances,
        accounts=accounts,
    )


def book_resettlement(
    *,
    seq: int,
    epoch: int,
    run: int,
    shifts: tuple[Shift, ...],
    balances: pl.DataFrame,
    accounts: MarketAccounts,
    rules: Mapping[int, Rules] | Rules,
) -> Booking:
    """A resettlement run of boundary `epoch`: at most one shift a wallet and meter (resettlement.py made them).

    Per wallet: the refund (debt first), GRID taken back, then the returned buy-back and the re-billed residual are
    charged; what THBC lacks becomes debt. `rules` are those in force in `epoch` − 1 and `epoch`.
    """
    in_force = rules.at if isinstance(rules, Rules) else rules.__getitem__
    if not shifts:
        raise LedgerError(f"no correction of epoch {epoch} to book; skip its resettlement run")
    for names in ([shift.wallet for shift in shifts], [shift.meter_id for shift in shifts]):
        if len(set(names)) < len(names):
            raise LedgerError(f"a wallet or meter has two entries in run {run} of epoch {epoch}; split them into runs")
    inputs = pl.DataFrame(
        [
            {
                "meter_id": shift.meter_id,
                "wallet": shift.wallet,
                "zone_id": shift.zone_id,
                "x_wh": shift.booked_x_wh,
                "refund_wh": shift.refund_wh,
                "taken_back_wh": shift.taken_back_wh,
                "returned_wh": shift.returned_wh,
                "rebilled_wh": shift.rebilled_wh,
                "refund_epoch": shift.deficit_epoch if shift.refund_wh else None,
                "surplus_epoch": shift.surplus_epoch if shift.refund_wh else None,
                "refund_tariff": in_force(shift.deficit_epoch).tariff_uthb_per_kwh(shift.deficit_epoch),
                "rebill_tariff": in_force(shift.surplus_epoch).tariff_uthb_per_kwh(shift.surplus_epoch),
                "feed_in": in_force(shift.surplus_epoch).feed_in_uthb_per_kwh,
                "rebilled_on_peak": is_on_peak(shift.surplus_epoch),
                "refunded_on_peak": is_on_peak(shift.deficit_epoch),
            }
            for shift in shifts
        ],
        schema_overrides={"refund_epoch": pl.Int64, "surplus_epoch": pl.Int64},
    )
    # GRID that left since a correction was judged is billed instead, as on chain; what the meter books stays
    held = with_balances(inputs, balances)["wallet", "grid_wh"]
    inputs = (
        inputs.join(held, on="wallet", how="left")
        .with_columns(short=(pl.col("taken_back_wh") - pl.col("grid_wh")).clip(lower_bound=0))
        .with_columns(pl.col("taken_back_wh") - pl.col("short"), pl.col("rebilled_wh") + pl.col("short"))
        .drop("grid_wh", "short")
    )
    refund, rebilled = pl.col("refund_wh"), pl.col("rebilled_wh")
    on_peak = pl.when("rebilled_on_peak").then(rebilled).otherwise(0) - pl.when("refunded_on_peak").then(
        refund
    ).otherwise(0)
    entries = with_balances(inputs, balances).with_columns(
        pl.col("x_wh").alias("minted_wh"),
        pl.col("x_wh").alias("deficit_wh"),
        (rebilled - refund).alias("residual_wh"),
        on_peak.alias("residual_on_peak_wh"),
        (rebilled - refund - on_peak).alias("residual_off_peak_wh"),
        floor_div_expr(refund * pl.col("refund_tariff"), 1_000).alias("refund_uthb"),
        ceil_div_expr(pl.col("returned_wh") * pl.col("feed_in"), 1_000).alias("returned_uthb"),
        ceil_div_expr(rebilled * pl.col("rebill_tariff"), 1_000).alias("rebill_uthb"),
    )
    entries = credit(entries, pl.col("refund_uthb")).with_columns(pl.col("grid_wh") - pl.col("taken_back_wh"))
    entries = charge(charge(entries, pl.col("returned_uthb")), pl.col("rebill_uthb")).with_columns(
        pl.col("rebill_uthb").alias("billed_uthb")
    )
    meters = inputs.select(
        "meter_id",
        "wallet",
        pl.lit(epoch, pl.Int64).alias("last_epoch"),
        pl.lit(0, pl.Int64).alias("production_delta_wh"),
        pl.lit(0, pl.Int64).alias("consumption_delta_wh"),
        pl.col("x_wh").alias("surplus_wh"),
        pl.col("x_wh").alias("deficit_wh"),
        "x_wh",
    )
    return booking(
        seq=seq,
        epoch=epoch,
        run=run,
        kind=RESETTLEMENT,
        header=Header(),
        entries=entries,
        meters=meters,
        balances=balances,
        accounts=accounts,
    )


def _check_trades(
    traded: pl.DataFrame, wallets: pl.DataFrame, lost_wh: int, link_wheeling_uthb: int, rent_uthb: int
) -> None:
    _require_none(traded.filter(traded["wallet"].is_duplicated()), "wallet traded twice", "sum its trades per wallet")
    strangers = traded.join(wallets, on="wallet", how="anti")
    _require_none(strangers, "wallet traded without a present meter", "drop orders of missing meters from the book")
    balance = int(traded["traded_wh"].sum())
    if balance != -lost_wh:
        raise LedgerError(f"traded Wh sum to {balance}, must be −lost = {-lost_wh}; clear the epoch again")
    cost, proceeds, fee, wheeling = (
        int(traded[name].sum()) for name in ("cost_uthb", "proceeds_uthb", "fee_uthb", "zone_wheeling_uthb")
    )
    rent = cost - proceeds - fee - wheeling - link_wheeling_uthb
    if rent != rent_uthb:
        raise LedgerError(f"rent was {rent_uthb} µTHB, what buyers pay leaves {rent}; clear the epoch again")


def _trade(entries: pl.DataFrame) -> pl.DataFrame:
    sold = (-pl.col("traded_wh")).clip(lower_bound=0)
    entries = entries.with_columns(pl.col("grid_wh") + NET.clip(lower_bound=0))
    named = ("wallet", "traded_wh", "cost_uthb", *BEFORE)
    remedy = "cut the order to its cover before it is cleared"
    _require_none(
        entries.filter(pl.col("cost_uthb") > pl.col("thbc_uthb")).select(named), "purchase not covered", remedy
    )
    _require_none(entries.filter(sold > pl.col("grid_wh")).select(named), "sale not covered", remedy)
    entries = entries.with_columns(pl.col("grid_wh") + pl.col("traded_wh"), pl.col("thbc_uthb") - pl.col("cost_uthb"))
    return credit(entries, pl.col("proceeds_uthb"))
