"""The nine laws of conservation (domain §6): two sides each, to be equal to the Wh and the µTHB.

Belongs here: the laws, and their sums from ledger frames and from decoded chain accounts, each on its own. Does not
belong here: reading either (store/, chain/). The sides of a law come from different places wherever there are two:
balances on one, flows on the other.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import polars as pl

from gridtokenx_pipelines.settlement.frames import Booking, Header, MarketAccounts

# what a match on chain adds to the sums of runs
MATCHED = ("cost_uthb", "proceeds_uthb", "fee_uthb", "zone_wheeling_uthb")


class Law(msgspec.Struct, frozen=True):
    """One conservation law; `difference` must be 0."""

    law: str
    left: int
    right: int

    @property
    def difference(self) -> int:
        """left − right."""
        return self.left - self.right


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """Every term of the laws over some runs, in Wh and µTHB; changes where the runs are not all from the beginning."""

    minted_wh: int
    burned_wh: int
    grid_held_wh: int
    grid_outside_wh: int = 0  # withdrawn from the vault, less what was deposited again
    net_wh: int
    deficit_wh: int
    traded_wh: int
    lost_wh: int
    residual_wh: int
    cost_uthb: int
    proceeds_uthb: int
    fee_uthb: int
    zone_wheeling_uthb: int
    link_wheeling_uthb: int
    rent_uthb: int
    billed_uthb: int
    returned_uthb: int
    refund_uthb: int
    receipts_uthb: int  # paid at once and repaid, by runs and deposits
    debt_uthb: int
    buy_back_uthb: int
    market_funded_uthb: int
    market_held_uthb: int  # supplier, platform and grid operator
    grid_vault_wh: int
    thbc_vault_uthb: int
    thbc_held_uthb: int  # households and market accounts
    meters_minted_less_deficit_wh: int
    meters_net_wh: int
    meters_not_closing: int
    # in the vault but in nobody's balance: what a stranger transferred there directly, counted apart
    grid_excess_wh: int = 0
    thbc_excess_uthb: int = 0


def laws_from_sums(sums: Sums) -> tuple[Law, ...]:
    """The laws in the order of the domain; refunds count negative on both sides of (6)."""
    spent = sums.market_funded_uthb + sums.receipts_uthb - sums.refund_uthb - sums.market_held_uthb
    earned = sums.fee_uthb + sums.zone_wheeling_uthb + sums.link_wheeling_uthb + sums.rent_uthb
    charges = sums.proceeds_uthb + earned
    bills = sums.billed_uthb + sums.returned_uthb - sums.refund_uthb
    return (
        Law("1 minted − burned = GRID held", sums.minted_wh - sums.burned_wh, sums.grid_held_wh + sums.grid_outside_wh),
        Law("2 Σ net = minted − deficit", sums.net_wh, sums.minted_wh - sums.deficit_wh),
        Law("3 Σ traded = −lost", sums.traded_wh, -sums.lost_wh),
        Law("4 burned = deficit − residual + lost", sums.burned_wh, sums.deficit_wh - sums.residual_wh + sums.lost_wh),
        Law("5 costs = proceeds + fees + wheeling + rent", sums.cost_uthb, charges),
        Law("6 billed = receipts + change of debt", bills, sums.receipts_uthb - sums.refund_uthb + sums.debt_uthb),
        Law("7 buy-back paid = received", spent + earned, sums.buy_back_uthb),
        Law("8 GRID vault = Σ balances", sums.grid_vault_wh - sums.grid_excess_wh, sums.grid_held_wh),
        Law("8 THBC vault = Σ balances", sums.thbc_vault_uthb - sums.thbc_excess_uthb, sums.thbc_held_uthb),
        Law("9 meters' minted − deficit = net", sums.meters_minted_less_deficit_wh, sums.meters_net_wh),
        Law("9 meters that don't close", sums.meters_not_closing, 0),
    )


def _totals(frame: pl.DataFrame, *columns: str) -> dict[str, int]:
    return {name: int(frame[name].sum()) for name in columns}


def meters_not_closing(meter_entries: pl.DataFrame) -> int:
    """Meters whose minted − deficit over these entries is not production − consumption."""
    wrong = pl.col("surplus_wh") - pl.col("deficit_wh") - pl.col("production_delta_wh") + pl.col("consumption_delta_wh")
    return meter_entries.group_by("meter_id").agg(wrong.sum().alias("wrong")).filter(pl.col("wrong") != 0).height


def sums_from_rows(
    *,
    wallet_entries: pl.DataFrame,
    meter_entries: pl.DataFrame,
    balances: pl.DataFrame,
    accounts: MarketAccounts,
    headers: list[Header],
    deposits: pl.DataFrame,
    ledger: Mapping[tuple[str, str], int],
    movements: pl.DataFrame | None = None,
) -> Sums:
    """Sums from the database, all runs since the beginning.

    Args: the entries of all runs, the present balances and accounts, the headers' lost Wh, link wheeling and rent per
    run 0, `deposits` (owner, amount_uthb, debt_repaid_uthb; owner `supplier`, `platform`, `grid_operator` is a
    funding), `ledger` the double-entry balances, whose external accounts stand for the vaults, `movements` what moved
    besides runs and deposits (grid_wh, debt_delta_uthb, cost, proceeds, fee, zone wheeling; kind).
    """
    flows = _totals(
        wallet_entries,
        *("net_wh", "burned_wh", "traded_wh", "residual_wh", "cost_uthb", "proceeds_uthb", "fee_uthb"),
        *("zone_wheeling_uthb", "billed_uthb", "returned_uthb", "refund_uthb", "buy_back_uthb"),
        *("paid_to_supplier_uthb", "debt_repaid_uthb"),
    )
    meters = _totals(meter_entries, "surplus_wh", "deficit_wh", "production_delta_wh", "consumption_delta_wh")
    held = _totals(balances, "grid_wh", "thbc_uthb", "debt_uthb")
    market_held = accounts.supplier_thbc_uthb + accounts.platform_thbc_uthb + accounts.grid_operator_thbc_uthb
    funding = deposits.filter(pl.col("owner").is_in(["supplier", "platform", "grid_operator"]))
    lost = sum(header.lost_wh for header in headers)
    repaid = int(deposits["debt_repaid_uthb"].sum())
    bridged = dict.fromkeys(("grid_wh", "debt_delta_uthb", *MATCHED), 0)
    if movements is not None:
        bridged = _totals(movements, *bridged)
        repaid -= bridged["debt_delta_uthb"]
        for name in MATCHED:
            flows[name] += bridged[name]
    return Sums(
        minted_wh=meters["surplus_wh"],
        burned_wh=flows["burned_wh"] + lost,
        grid_held_wh=held["grid_wh"] + accounts.supplier_grid_wh,
        # matches move GRID between two households, so that what is left of the sum went out or came back
        grid_outside_wh=-bridged["grid_wh"],
        net_wh=flows["net_wh"],
        deficit_wh=meters["deficit_wh"],
        traded_wh=flows["traded_wh"],
        lost_wh=lost,
        residual_wh=flows["residual_wh"],
        cost_uthb=flows["cost_uthb"],
        proceeds_uthb=flows["proceeds_uthb"],
        fee_uthb=flows["fee_uthb"],
        zone_wheeling_uthb=flows["zone_wheeling_uthb"],
        link_wheeling_uthb=sum(header.link_wheeling_uthb for header in headers),
        rent_uthb=sum(header.rent_uthb for header in headers),
        billed_uthb=flows["billed_uthb"],
        returned_uthb=flows["returned_uthb"],
        refund_uthb=flows["refund_uthb"],
        receipts_uthb=flows["paid_to_supplier_uthb"] + flows["debt_repaid_uthb"] + repaid,
        debt_uthb=held["debt_uthb"],
        buy_back_uthb=flows["buy_back_uthb"],
        market_funded_uthb=int(funding["amount_uthb"].sum()),
        market_held_uthb=market_held,
        grid_vault_wh=-ledger.get(("external:production", "GRID"), 0)
        - ledger.get(("external:burned", "GRID"), 0)
        - ledger.get(("external:bridge", "GRID"), 0),
        thbc_vault_uthb=-ledger.get(("external:bridge", "THBC"), 0),
        thbc_held_uthb=held["thbc_uthb"] + market_held,
        meters_minted_less_deficit_wh=meters["surplus_wh"] - meters["deficit_wh"],
        meters_net_wh=meters["production_delta_wh"] - meters["consumption_delta_wh"],
        meters_not_closing=meters_not_closing(meter_entries),
    )


def sums_from_chain(
    *, market: Mapping[str, int], traders: Mapping[str, int], meters: Mapping[str, int], vaults: Mapping[str, int]
) -> Sums:
    """Sums from chain state alone.

    Args: `market` the Market account's integer fields; `traders` grid_wh, thbc_uthb, debt_uthb summed over all Trader
    accounts; `meters` minted_wh, deficit_wh, production_wh, consumption_wh summed over all Meter accounts and
    `not_closing`, how many break the invariant; `vaults` grid_wh and thbc_uthb, the token accounts' amounts.
    """
    market_held = sum(market[f"{name}_thbc_uthb"] for name in ("supplier", "platform", "grid_operator"))
    outside = market["withdrawn_grid_wh"] - market["deposited_grid_wh"]
    came_in = market["deposited_uthb"] + market["funded_uthb"] - market["withdrawn_uthb"]
    return Sums(
        minted_wh=meters["minted_wh"],
        burned_wh=market["burned_wh"],
        grid_held_wh=traders["grid_wh"] + market["supplier_grid_wh"],
        grid_outside_wh=outside,
        net_wh=market["net_wh"],
        deficit_wh=meters["deficit_wh"],
        traded_wh=market["traded_wh"],
        lost_wh=market["lost_wh"],
        residual_wh=market["residual_wh"],
        cost_uthb=market["cost_uthb"],
        proceeds_uthb=market["proceeds_uthb"],
        fee_uthb=market["fee_uthb"],
        zone_wheeling_uthb=market["zone_wheeling_uthb"],
        link_wheeling_uthb=market["link_wheeling_uthb"],
        rent_uthb=market["rent_uthb"],
        billed_uthb=market["billed_uthb"],
        returned_uthb=market["returned_uthb"],
        refund_uthb=market["refund_uthb"],
        receipts_uthb=market["paid_uthb"] + market["debt_repaid_uthb"],
        debt_uthb=traders["debt_uthb"],
        buy_back_uthb=market["buy_back_uthb"],
        market_funded_uthb=market["funded_uthb"],
        market_held_uthb=market_held,
        grid_vault_wh=vaults["grid_wh"],
        thbc_vault_uthb=vaults["thbc_uthb"],
        thbc_held_uthb=traders["thbc_uthb"] + market_held,
        grid_excess_wh=max(vaults["grid_wh"] - (meters["minted_wh"] - market["burned_wh"] - outside), 0),
        thbc_excess_uthb=max(vaults["thbc_uthb"] - came_in, 0),
        meters_minted_less_deficit_wh=meters["minted_wh"] - meters["deficit_wh"],
        meters_net_wh=meters["production_wh"] - meters["consumption_wh"],
        meters_not_closing=meters["not_closing"],
    )


def laws_of_booking(balances: pl.DataFrame, accounts: MarketAccounts, booking: Booking) -> tuple[Law, ...]:
    """The laws of one run, from the balances before it and the booking; money and GRID come in by the run alone."""
    after, entered = booking.accounts, _totals(balances, "grid_wh", "thbc_uthb", "debt_uthb")

    def cash(each: MarketAccounts) -> int:
        return each.supplier_thbc_uthb + each.platform_thbc_uthb + each.grid_operator_thbc_uthb

    whole = sums_from_rows(
        wallet_entries=booking.wallet_entries,
        meter_entries=booking.meter_entries,
        balances=booking.balances,
        accounts=after,
        headers=[booking.header],
        deposits=pl.DataFrame(
            {"owner": ["supplier"], "amount_uthb": [cash(accounts)], "debt_repaid_uthb": [0]},
        ),
        ledger={},
    )
    held_before = entered["grid_wh"] + accounts.supplier_grid_wh
    return laws_from_sums(
        msgspec.structs.replace(
            whole,
            grid_held_wh=whole.grid_held_wh - held_before,
            debt_uthb=whole.debt_uthb - entered["debt_uthb"],
            grid_vault_wh=whole.minted_wh - whole.burned_wh,
            thbc_vault_uthb=entered["thbc_uthb"] + cash(accounts),
        )
    )
