"""What the tables know of one wallet: balances, meters with their latest reading, open orders, production, history.

Belongs here: SQL for one wallet at a time, energies Wh and money µTHB. Does not belong here: showing it, or computing
what the ledger has computed.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, text


class Portfolio(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of a wallet; rows as dictionaries with the units in their names."""

    wallet: str
    zone_id: int | None
    user_type: str | None
    status: str | None
    balances: dict[str, int]
    meters: list[dict[str, Any]]
    open_orders: list[dict[str, Any]]
    production: dict[str, int]
    history: list[dict[str, Any]]


def portfolio_of(connection: Connection, wallet: str, history: int) -> Portfolio | None:
    """The wallet's portfolio, its newest `history` settled epochs first; None for a wallet nobody knows."""

    def rows(sql: str, **more: object) -> list[dict[str, Any]]:
        return [dict(row) for row in connection.execute(text(sql), {"wallet": wallet, **more}).mappings()]

    users = rows("SELECT zone_id, user_type, status FROM users WHERE wallet = :wallet")
    balances = rows("SELECT grid_wh, thbc_uthb, debt_uthb FROM balances WHERE owner = :wallet")
    meters = rows(
        "SELECT m.meter_id, m.meter_type, m.zone_id, m.rating_w, m.status, r.seq, r.timestamp_us, r.production_wh, "
        "r.consumption_wh, r.battery_soc FROM meters m LEFT JOIN latest_readings r USING (meter_id) "
        "WHERE m.wallet = :wallet ORDER BY m.meter_id"
    )
    if not (users or balances or meters):
        return None
    user = users[0] if users else {"zone_id": None, "user_type": None, "status": None}
    produced = rows(
        "SELECT count(DISTINCT epoch) AS epochs, COALESCE(sum(production_wh), 0)::BIGINT AS production_wh, "
        "COALESCE(sum(consumption_wh), 0)::BIGINT AS consumption_wh, COALESCE(sum(net_wh), 0)::BIGINT AS net_wh, "
        "count(*) FILTER (WHERE missing) AS missing FROM (SELECT DISTINCT ON (meter_id, epoch) * FROM net_energy "
        "WHERE wallet = :wallet ORDER BY meter_id, epoch, revision DESC) newest"
    )
    return Portfolio(
        wallet=wallet,
        **user,
        balances=balances[0] if balances else {"grid_wh": 0, "thbc_uthb": 0, "debt_uthb": 0},
        meters=meters,
        open_orders=rows(
            "SELECT encode(order_id, 'hex') AS order_id, epoch, CASE side WHEN 0 THEN 'buy' ELSE 'sell' END AS side, "
            "energy_wh, limit_uthb_per_kwh, placed_at_us, meter_id FROM orders "
            "WHERE wallet = :wallet AND status = 'pending' ORDER BY epoch, nonce"
        ),
        production=produced[0],
        history=rows(
            "SELECT s.epoch, s.run, s.net_wh, s.traded_wh, s.minted_wh, s.burned_wh, s.residual_wh, s.cost_uthb, "
            "s.proceeds_uthb, s.billed_uthb, s.buy_back_uthb, r.status FROM settlements s JOIN runs r USING (seq) "
            "WHERE s.wallet = :wallet ORDER BY s.seq DESC LIMIT :history",
            history=history,
        ),
    )
