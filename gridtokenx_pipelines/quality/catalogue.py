"""Every asset check: what it says, who owns it, which runbook helps.

Belongs here: words for people, one entry a check. Does not belong here: what a check looks at. The UI and the docs read
this; a test sees to it that no check is left out and each runbook has its section.
"""

from __future__ import annotations

from typing import Final

import msgspec

CONTRACT: Final = "contract"
# checks that warn: nothing is blocked, somebody should look
SILENT, FROZEN, VOLTAGE = "meters_silent", "meters_frozen", "voltage_outliers"
JUMP = "sudden_rate_changes"
NETWORK_BALANCE = "register_against_network_balance"
ESTIMATED, REJECTED = "share_of_estimated_rows", "rejection_rates_by_reason"
PRICE_HISTORY, VOLUME_HISTORY = "price_against_its_history", "volume_against_its_history"
ABOVE_TARIFF = "bought_above_the_tariff"
METERING_WARNINGS: Final = (SILENT, FROZEN, NETWORK_BALANCE, VOLTAGE, JUMP, ESTIMATED, REJECTED)
MARKET_WARNINGS: Final = (PRICE_HISTORY, VOLUME_HISTORY, ABOVE_TARIFF)


class Note(msgspec.Struct, frozen=True):
    """What a check says, the team that looks at it, and its page under docs/."""

    says: str
    owner: str
    runbook: str


def _notes(asset: str, owner: str, page: str, says: dict[str, str]) -> dict[tuple[str, str], Note]:
    return {(asset, check): Note(words, owner, f"how-to/checks/{page}.md#{check}") for check, words in says.items()}


NOTES: Final[dict[tuple[str, str], Note]] = {
    **_notes(
        "net_energy",
        "team:metering",
        "net_energy",
        {
            "every_active_meter_present_or_missing": "Each active meter has one on-time row: measured, or missing.",
            "registers_continue_the_epoch_before": "Registers start where the epoch before ended and never run back.",
            "zone_balance_plausible": "A zone's meters together stay within what their ratings allow.",
            "nothing_above_rating": "No meter moved more than 110 % of its rating.",
            CONTRACT: "Columns, types, ranges and key are as the table's contract says.",
        },
    ),
    **_notes(
        "net_energy",
        "team:metering",
        "warnings",
        {
            SILENT: "No meter has been missing for four epochs or more.",
            FROZEN: "No meter that sends readings shows the same registers for a whole day.",
            NETWORK_BALANCE: "What the transformers counted, less what the meters did, is a plausible loss.",
            VOLTAGE: "Each meter's last voltage lies within ±10 % of 230 V (EN 50160).",
            JUMP: "No meter's net energy lies far from its usual at that time of day.",
            ESTIMATED: "At most 2 % of the rows are estimated.",
            REJECTED: "For no reason are more than 1 % of the readings rejected.",
        },
    ),
    **_notes(
        "order_book",
        "team:market",
        "order_book",
        {
            "limits_of_the_domain": "Each order lies within the market's limits.",
            "covered_by_balance": "No order exceeds what its owner's balance covers.",
            "no_double_order_id": "No order id occurs twice.",
            "book_root_recomputed": "The book's Merkle root follows from its rows.",
            CONTRACT: "Columns, types, ranges and key are as the table's contract says.",
        },
    ),
    **_notes(
        "clearing_results",
        "team:market",
        "clearing_results",
        {
            "energy_balances_to_the_wh": "Bought, sold, sent and lost energy balance to the Wh.",
            "money_balances_to_the_uthb": "Costs, proceeds, fees, wheeling and rent balance to the µTHB.",
            "nobody_worse_than_the_limit": "After charges nobody paid more, or received less, than the limit.",
            "price_in_band_or_halted": "Prices lie in the band, or the epoch is halted.",
            "feasible_in_ac_power_flow": "The network carries what was cleared: voltages ±10 %, loadings to 100 %.",
            "equals_independent_recomputation": "Charges of a sample equal an independent recomputation.",
            CONTRACT: "Columns, types, ranges and key are as the tables' contracts say.",
        },
    ),
    **_notes(
        "clearing_results",
        "team:market",
        "warnings",
        {
            PRICE_HISTORY: "Each zone's price lies near its usual at that time of day.",
            VOLUME_HISTORY: "The volume lies near its usual at that time of day.",
            ABOVE_TARIFF: "Nobody bought dearer than the supplier sells in that epoch.",
        },
    ),
    **_notes(
        "grid_limits",
        "team:network",
        "grid_limits",
        {
            "power_flow_converged": "The state of the epoch before has an AC power flow.",
            "capacities_not_negative": "Every link has a capacity of 0 or more both ways, and a loss below 100 %.",
        },
    ),
    **_notes(
        "mint_instructions",
        "team:settlement",
        "mint_instructions",
        {
            "minted_minus_deficit_equals_net": "Σ minted − Σ deficit equals Σ net.",
            "every_fill_in_exactly_one_batch": "Every fill is in exactly one batch.",
            "batches_fit_a_transaction": "Every batch fits a transaction.",
            "every_leaf_is_under_its_root": "Every batch's leaf is under the attested root.",
        },
    ),
    **_notes(
        "settlement_receipts",
        "team:settlement",
        "settlement_receipts",
        {
            "every_batch_confirmed": "Every batch of the epoch's runs is confirmed on the chain.",
            "chain_balances_equal_the_ledger": "Balances on the chain equal the ledger's.",
            "sums_are_zero": "The conservation laws close to 0.",
        },
    ),
    **_notes(
        "epoch_statement",
        "team:settlement",
        "epoch_statement",
        {CONTRACT: "Columns, types, ranges and key are as the table's contract says."},
    ),
    **_notes(
        "audit_report",
        "team:settlement",
        "audit_report",
        {"equals_its_recomputation": "Files, tables and chain equal what follows from the signed archive."},
    ),
}


def note(asset: str, check: str) -> Note | None:
    """The note of a check; None for a check that the catalogue doesn't know (the daily tables' suites)."""
    return NOTES.get((asset, check))
