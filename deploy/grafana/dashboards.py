"""Grafana's dashboards as code: `python deploy/grafana/dashboards.py` writes deploy/grafana/dashboards/*.json.

Belongs here: which questions a page answers, and the queries. A test holds the written files against this one and every
metric against those that the processes really serve.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
WIDTH, HEIGHT, COLUMNS = 8, 7, 3
TIME, STAT, TABLE = "timeseries", "stat", "table"
# title, (query, legend) …, unit, kind of panel
Panel = tuple[str, list[tuple[str, str]], str, str]

DASHBOARDS: dict[str, tuple[str, list[Panel]]] = {
    "system-health": (
        "GridTokenX: system health",
        [
            ("Processes that answer", [("up", "{{job}} {{instance}}")], "short", STAT),
            ("Parts that the exporter can ask", [("gridtokenx_up", "{{part}}")], "short", STAT),
            (
                "Connections of the pool in use",
                [("sum(gridtokenx_database_connections) / max(gridtokenx_database_connections_max)", "share")],
                "percentunit",
                TIME,
            ),
            ("Connections by state", [("gridtokenx_database_connections", "{{state}}")], "short", TIME),
            ("Database", [("gridtokenx_database_bytes", "size")], "bytes", TIME),
            ("Age of the newest backup", [("time() - gridtokenx_backup_timestamp_seconds", "{{part}}")], "s", STAT),
            ("Slots behind", [("gridtokenx_chain_slots_behind", "slots")], "short", TIME),
            ("Dagster runs of the last day", [("gridtokenx_dagster_runs", "{{job}} {{status}}")], "short", TABLE),
            ("Since the last batch", [("stream_seconds_since_batch", "{{flow}} {{instance}}")], "s", TIME),
            ("Consumer lag", [("sum by (flow) (stream_consumer_lag_records)", "{{flow}}")], "short", TIME),
        ],
    ),
    "telemetry": (
        "GridTokenX: telemetry",
        [
            (
                "Readings per second by status",
                [("sum by (status) (rate(meter_readings_total[1m]))", "{{status}}")],
                "short",
                TIME,
            ),
            (
                "Rejected per second by reason",
                [('sum by (reason) (rate(meter_readings_total{status="rejected"}[5m]))', "{{reason}}")],
                "short",
                TIME,
            ),
            ("Queue", [("meter_processing_queue_depth", "{{flow}} {{instance}}")], "short", TIME),
            (
                "Processing time of a batch",
                [
                    (
                        f"histogram_quantile({share}, sum by (le) "
                        "(rate(meter_processing_duration_seconds_bucket[5m])))",
                        f"p{share * 100:.0f}",
                    )
                    for share in (0.5, 0.95, 0.99)
                ],
                "s",
                TIME,
            ),
            ("Watermark behind the clock", [("stream_watermark_delay_seconds", "{{flow}} {{partition}}")], "s", TIME),
            ("Lag by partition", [("stream_consumer_lag_records", "{{flow}} {{partition}}")], "short", TIME),
        ],
    ),
    "market": (
        "GridTokenX: energy market overview",
        [
            ("Price by zone", [("gridtokenx_zone_price_uthb_per_kwh / 1e6", "zone {{zone}} THB/kWh")], "short", TIME),
            ("Traded energy", [("increase(gridtokenx_traded_wh_total[1h]) / 1e3", "kWh an hour")], "short", TIME),
            ("Traded since the beginning", [("total_trading_volume_kwh", "kWh")], "short", STAT),
            ("Orders that wait", [("active_orders_total", "{{flow}}")], "short", TIME),
            ("Fills of the newest epoch", [("gridtokenx_fills", "fills")], "short", TIME),
            ("Epochs by status", [("gridtokenx_epochs", "{{status}}")], "short", STAT),
            ("Money, THB", [("gridtokenx_balance_thbc_uthb / 1e6", "{{account}}")], "short", TIME),
            ("Debt to the supplier, THB", [("gridtokenx_debt_uthb / 1e6", "debt")], "short", TIME),
            (
                "Orders refused by reason",
                [('gridtokenx_dead_letters_total{topic="orders"}', "{{reason}}")],
                "short",
                TABLE,
            ),
        ],
    ),
    "settlement": (
        "GridTokenX: settlement",
        [
            (
                "Newest settled epoch, age",
                [("time() - gridtokenx_last_settled_epoch_end_timestamp_seconds", "age")],
                "s",
                STAT,
            ),
            (
                "Complete and not settled",
                [
                    (
                        "(gridtokenx_last_complete_epoch_end_timestamp_seconds"
                        " - gridtokenx_last_settled_epoch_end_timestamp_seconds) / 900",
                        "epochs",
                    )
                ],
                "short",
                STAT,
            ),
            ("From clearing to the last receipt", [("gridtokenx_settlement_seconds", "seconds")], "s", TIME),
            ("Open runs", [("gridtokenx_open_runs", "runs")], "short", TIME),
            ("Corrections that wait", [("gridtokenx_corrections_waiting", "corrections")], "short", TIME),
            ("What the laws lack to 0", [("gridtokenx_law_difference", "{{law}}")], "short", TABLE),
        ],
    ),
    "blockchain": (
        "GridTokenX: blockchain transaction success rate",
        [
            (
                "Success rate",
                [
                    (
                        'sum(gridtokenx_transactions_total{status="ok"}) / (sum(gridtokenx_transactions_total)'
                        " + sum(gridtokenx_transaction_failures_total))",
                        "share",
                    )
                ],
                "percentunit",
                STAT,
            ),
            ("Transactions a minute", [("rate(gridtokenx_transactions_total[5m]) * 60", "{{status}}")], "short", TIME),
            ("Stored or sent, not confirmed", [("gridtokenx_outbox_open", "transactions")], "short", TIME),
            (
                "Compute units a transaction",
                [("gridtokenx_compute_units_total / ignoring(status) sum(gridtokenx_transactions_total)", "CU")],
                "short",
                TIME,
            ),
            ("Fees, SOL", [("gridtokenx_fees_lamports_total / 1e9", "SOL")], "short", STAT),
            ("Slots", [("gridtokenx_chain_slot", "{{commitment}}")], "short", TIME),
        ],
    ),
    "data-quality": (
        "GridTokenX: data quality",
        [
            (
                "Failed checks of the last day",
                [('gridtokenx_asset_checks{result="FAILED"}', "{{asset}} {{check}}")],
                "short",
                TABLE,
            ),
            (
                "Checks of the last day by result",
                [("sum by (result) (gridtokenx_asset_checks)", "{{result}}")],
                "short",
                STAT,
            ),
            ("Missing meters", [("gridtokenx_missing_meters", "meters")], "short", TIME),
            ("Estimated rows of a day", [("gridtokenx_estimated_rows", "rows")], "short", TIME),
            ("Dead letters by reason", [("gridtokenx_dead_letters_total", "{{topic}} {{reason}}")], "short", TABLE),
            (
                "Share of readings rejected",
                [
                    (
                        'sum(rate(meter_readings_total{status="rejected"}[15m]))'
                        " / sum(rate(meter_readings_total[15m]))",
                        "share",
                    )
                ],
                "percentunit",
                TIME,
            ),
        ],
    ),
}


def dashboard(uid: str, title: str, panels: list[Panel]) -> dict[str, Any]:
    """One dashboard, Grafana schema 39; panels in rows of three."""
    return {
        "uid": f"gridtokenx-{uid}",
        "title": title,
        "tags": ["gridtokenx"],
        "schemaVersion": 39,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "panels": [_panel(number, *panel) for number, panel in enumerate(panels)],
    }


def _panel(number: int, title: str, queries: list[tuple[str, str]], unit: str, kind: str) -> dict[str, Any]:
    return {
        "id": number + 1,
        "type": kind,
        "title": title,
        "gridPos": {"x": number % COLUMNS * WIDTH, "y": number // COLUMNS * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "targets": [
            {"refId": chr(65 + place), "expr": query, "legendFormat": legend, "instant": kind != TIME}
            for place, (query, legend) in enumerate(queries)
        ],
    }


def rendered() -> dict[str, str]:
    """File name → text of every dashboard."""
    return {
        f"{uid}.json": json.dumps(dashboard(uid, title, panels), indent=1, ensure_ascii=False) + "\n"
        for uid, (title, panels) in DASHBOARDS.items()
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in rendered().items():
        (FOLDER / name).write_text(text)
