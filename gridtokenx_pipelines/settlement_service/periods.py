"""Statements of a period: one household's, or the operator's, from the ledger, with the transactions that settled them.

Belongs here: reading what a statement is made of, and checking it against balances. Does not belong here: adding up
(settlement/period.py), pages and files (statement_files.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
from sqlalchemy import Connection

from gridtokenx_pipelines.chain.addresses import program_id
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain.state import read_traders
from gridtokenx_pipelines.epochs import key_of
from gridtokenx_pipelines.market.base58 import encode as b58
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.settlement import period
from gridtokenx_pipelines.settlement.batches import RunPlan
from gridtokenx_pipelines.settlement.frames import WALLET_ENTRIES
from gridtokenx_pipelines.settlement_service.audits import rules_then
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store import audited, certificates, participants
from gridtokenx_pipelines.store import voids as void_store
from gridtokenx_pipelines.store.postgres import read_frame

TRADE = {
    "epoch": pl.Int64,
    "match_id": pl.Int64,
    "buyer": pl.String,
    "seller": pl.String,
    "energy_wh": pl.Int64,
    "price_uthb_per_kwh": pl.Int64,
}
NEVER = 1 << 62
CERTIFICATE_STATUS = ("issued", "validated", "retired", "revoked")


class UnknownParticipant(LookupError):
    """A wallet that is no participant of this market."""


def of_wallet(services: Services, wallet: str, first: int, last: int) -> dict[str, Any]:
    """A household's statement of the epochs first…last. Raises UnknownParticipant; ValueError if it doesn't add up."""
    with services.engine.connect() as connection:
        users = participants.users(connection).filter(pl.col("wallet") == wallet)
        if users.is_empty():
            raise UnknownParticipant(f"wallet {wallet} is no participant of this market; table users lists them")
        entries = _entries(connection, wallet)
        moved = _moved(connection, wallet)
        balance = period.running({"grid_wh": 0, "net_uthb": 0}, entries, moved)
        ends = _booked(connection, first, last)
        mine = entries.filter(pl.col("seq").is_between(*ends, closed="left"))
        rules = _rules(services, connection, mine)
        lines = period.lines(mine, rules)
        statement = {
            "statement": "participant",
            "wallet": wallet,
            "zone": users["zone_id"].item(),
            "type": users["user_type"].item(),
            "from": key_of(first),
            "to": key_of(last),
            "energy": _energy(connection, wallet, first, last),
            "totals": period.totals(lines),
            "opening": _standing(balance, ends[0]),
            "closing": _standing(balance, ends[1]),
            "balance": [each for each in balance if ends[0] <= each["at"] < ends[1]],
            "lines": _with_transactions(connection, wallet, lines),
            "trades": _trades(connection, wallet, first, last),
            "deposits": moved.filter((pl.col("after_seq") + 1).is_between(*ends, closed="left"))
            .drop("owner", "after_seq")
            .to_dicts(),
        }
        statement["proof"] = _proof(connection, services, wallet, balance)
        statement["voided"] = void_store.of_wallet(connection, wallet, first, last)
        passed = certificates.passed_between(connection, wallet, first, last)
        statement["certificates_passed"] = [
            row | {name: row[name].hex() for name in ("certificate_id", "sell_order_id", "buy_order_id")}
            for row in passed.to_dicts()
        ]
        statement["certificates"] = _certificates(services, connection, wallet)
    return statement


def of_operator(services: Services, first: int, last: int) -> dict[str, Any]:
    """The operator's statement of the epochs: fees, wheeling, rent, losses, imbalance."""
    with services.engine.connect() as connection:
        epochs = audited.epochs(connection, first, last)
        entries, _ = audited.entries(connection, first, last)
        rules, _, _ = rules_then.markets(services, connection, epochs)
        rated = {epoch: each.rules for epoch, each in rules.items()}
        days = []
        for (day,), part in sorted(_by_day(entries).items()):
            mine = epochs.filter(pl.col("epoch").is_between(int(day) * 96, int(day) * 96 + 95))
            days.append({"day": key_of(int(day) * 96)[:10], **period.operator(part, mine, rated)})
        accounts = audited.accounts_before(connection, 1 << 62)
    return {
        "statement": "operator",
        "from": key_of(first),
        "to": key_of(last),
        "epochs": epochs.height,
        "runs": int(entries["seq"].n_unique()),
        "totals": period.operator(entries, epochs, rated),
        "days": days,
        "accounts": {name: getattr(accounts, name) for name in accounts.__struct_fields__},
    }


def _by_day(entries: pl.DataFrame) -> dict[tuple[Any, ...], pl.DataFrame]:
    return {
        key: part.drop("day")
        for key, part in entries.with_columns(day=pl.col("epoch") // 96).partition_by("day", as_dict=True).items()
    }


def _entries(connection: Connection, wallet: str) -> pl.DataFrame:
    return read_frame(
        connection,
        f"SELECT {', '.join(WALLET_ENTRIES)} FROM settlements WHERE wallet = :wallet ORDER BY seq",  # noqa: S608
        {"wallet": wallet},
        dict(WALLET_ENTRIES),
    )


def _moved(connection: Connection, wallet: str) -> pl.DataFrame:
    """Deposits, and what else moved on the chain outside of runs."""
    return read_frame(
        connection,
        "SELECT owner, 'deposit' AS what, reference, after_seq, epoch, 0::bigint AS grid_wh, amount_uthb AS cash_uthb "
        "FROM deposits WHERE owner = :wallet UNION ALL "
        "SELECT owner, kind, reference, after_seq, epoch, grid_wh, cash_uthb FROM chain_movements "
        "WHERE owner = :wallet ORDER BY after_seq, reference",
        {"wallet": wallet},
        period.MOVED,
    )


def _energy(connection: Connection, wallet: str, first: int, last: int) -> list[dict[str, Any]]:
    """Registers of each meter over the period, latest revisions."""
    return read_frame(
        connection,
        "SELECT meter_id, sum(production_wh)::bigint AS production_wh, sum(consumption_wh)::bigint AS consumption_wh, "
        "sum(net_wh)::bigint AS net_wh, count(*) FILTER (WHERE missing) AS missing, "
        "count(*) FILTER (WHERE estimated) AS estimated FROM (SELECT DISTINCT ON (meter_id, epoch) * FROM net_energy "
        "WHERE wallet = :wallet AND epoch BETWEEN :first AND :last ORDER BY meter_id, epoch, revision DESC) newest "
        "GROUP BY meter_id ORDER BY meter_id",
        {"wallet": wallet, "first": first, "last": last},
        {"meter_id": pl.String}
        | dict.fromkeys(("production_wh", "consumption_wh", "net_wh", "missing", "estimated"), pl.Int64),
    ).to_dicts()


def _trades(connection: Connection, wallet: str, first: int, last: int) -> list[dict[str, Any]]:
    rows = read_frame(
        connection,
        f"SELECT {', '.join(TRADE)} FROM order_matches WHERE (buyer = :wallet OR seller = :wallet) "  # noqa: S608
        "AND epoch BETWEEN :first AND :last ORDER BY epoch, match_id",
        {"wallet": wallet, "first": first, "last": last},
        TRADE,
    )
    return [
        {
            "trade": f"{key_of(row['epoch'])}/{row['match_id']}",
            "side": "bought" if row["buyer"] == wallet else "sold",
            "with": row["seller"] if row["buyer"] == wallet else row["buyer"],
            "energy_wh": row["energy_wh"],
            "price_uthb_per_kwh": row["price_uthb_per_kwh"],
        }
        for row in rows.iter_rows(named=True)
    ]


def _with_transactions(connection: Connection, wallet: str, lines: pl.DataFrame) -> list[dict[str, Any]]:
    """Each line with its epoch's key and the signature of the transaction whose batch settled it."""
    if lines.is_empty():
        return []
    first, last = int(str(lines["epoch"].min())), int(str(lines["epoch"].max()))
    plans = {
        row["seq"]: row["plan"] for row in audited.runs(connection, first, last).iter_rows(named=True) if row["plan"]
    }
    receipts = read_frame(
        connection,
        "SELECT epoch, run, idx, signature FROM blockchain_transactions WHERE step = 'settle' "
        "AND epoch BETWEEN :first AND :last",
        {"first": first, "last": last},
        {**dict.fromkeys(("epoch", "run", "idx"), pl.Int64), "signature": pl.String},
    )
    signatures = {tuple(row[:3]): row[3] for row in receipts.iter_rows()}
    found = []
    for row in lines.iter_rows(named=True):
        index = _batch_of(plans.get(row["seq"]), wallet)
        signature = signatures.get((row["epoch"], row["run"], index))
        found.append({**row, "key": key_of(row["epoch"]), "transaction": signature})
    return found


def _batch_of(raw: bytes | None, wallet: str) -> int | None:
    plan = None if raw is None else RunPlan.decode(raw)
    return next((b.index for b in plan.trading if wallet in b.owners), None) if plan else None


def _booked(connection: Connection, first: int, last: int) -> tuple[int, int]:
    """The seqs of a period, first included, last not: it goes from its first epoch's run 0 to the next period's.

    So a resettlement is in the statement of the period in which it was booked, with the epoch that it is of.
    """
    ends = read_frame(
        connection,
        "SELECT coalesce(min(seq) FILTER (WHERE epoch >= :first), :never) AS first, "
        "coalesce(min(seq) FILTER (WHERE epoch > :last), :never) AS last FROM runs WHERE run = 0",
        {"first": first, "last": last, "never": NEVER},
        {"first": pl.Int64, "last": pl.Int64},
    )
    return ends.row(0)  # type: ignore[return-value]


def _rules(services: Services, connection: Connection, entries: pl.DataFrame) -> dict[int, Rules]:
    """The rules in force in each epoch of these entries."""
    if entries.is_empty():
        return {}
    ends = entries["epoch"].min(), entries["epoch"].max()
    markets, _, _ = rules_then.markets(services, connection, audited.epochs(connection, *ends))  # type: ignore[arg-type]
    return {epoch: each.rules for epoch, each in markets.items()}


def _standing(balance: Sequence[dict[str, Any]], seq: int) -> dict[str, int]:
    """Balances before anything of a seq."""
    before = [row for row in balance if row["at"] < seq]
    end = before[-1] if before else {"grid_wh": 0, "net_uthb": 0}
    return {"grid_wh": end["grid_wh"], "net_uthb": end["net_uthb"]}


def _proof(
    connection: Connection, services: Services, wallet: str, balance: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The running balance of today beside the ledger's and the chain's: the same three times, or it says so."""
    held = read_frame(
        connection,
        "SELECT grid_wh, thbc_uthb, debt_uthb FROM balances WHERE owner = :wallet",
        {"wallet": wallet},
        dict.fromkeys(("grid_wh", "thbc_uthb", "debt_uthb"), pl.Int64),
    )
    chain = read_traders(services.client, [wallet])
    shown = {
        "running": (balance[-1]["grid_wh"], balance[-1]["net_uthb"]) if balance else (0, 0),
        "ledger": _net(held),
        "chain": _net(chain),
    }
    words = {name: {"grid_wh": grid, "net_uthb": net} for name, (grid, net) in shown.items()}
    return {**words, "equal": len(set(shown.values())) == 1}


def _net(held: pl.DataFrame) -> tuple[int, int]:
    if held.is_empty():
        return 0, 0
    row = held.row(0, named=True)
    return row["grid_wh"], row["thbc_uthb"] - row["debt_uthb"]


def _certificates(services: Services, connection: Connection, wallet: str) -> list[dict[str, Any]]:
    """Renewable certificates that the wallet holds on the chain now, and what of each it sold on to buyers."""
    program = Program.load("governance")
    layout = program.layout("Certificate")
    filters = [{"dataSize": layout.size}, {"memcmp": {"offset": 0, "bytes": b58(layout.prefix)}}]
    found = []
    for account in services.client.program_accounts(program_id("governance"), filters):
        held = program.decode("Certificate", account.data)
        if str(held["holder"]) == wallet:
            found.append(
                {
                    "certificate": bytes(held["certificate_id"]).hex(),
                    "energy_wh": held["energy_wh"],
                    "status": CERTIFICATE_STATUS[held["status"]] if held["status"] < 4 else str(held["status"]),
                    "expires_at": held["expires_at"],
                }
            )
    gone = certificates.passed_wh(connection, [bytes.fromhex(each["certificate"]) for each in found])
    return [each | {"passed_on_wh": gone.get(bytes.fromhex(each["certificate"]), 0)} for each in found]
