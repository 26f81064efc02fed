"""One byte changed in anything archived or stored, and the audit names it: generated over tables, columns and files."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from gridtokenx_pipelines.audit.findings import DIFFERS, OK, Finding
from gridtokenx_pipelines.settlement_service.audits import inputs, seals
from gridtokenx_pipelines.settlement_service.audits.service import audit_range
from gridtokenx_pipelines.settlement_service.services import Services
from gridtokenx_pipelines.store.seals import TABLES
from tests.assets.audited_market import EPOCHS, FIRST, settled_market

LAST = FIRST + EPOCHS - 1
# an epoch with everything: the late run, the order by hand, and the correction lie in these
RANGE = (FIRST, FIRST + 2)
# what changes a value of each type by the least: a bit, a character, one, the other truth
CHANGES = {
    "bigint": "{c} + 100000",  # by one it could be another row's key
    "text": "'x' || {c}",
    "boolean": "NOT {c}",
    "bytea": "set_byte({c}, 0, (get_byte({c}, 0) + 1) % 256)",
    "timestamp with time zone": "{c} + INTERVAL '1 microsecond'",
    "double precision": "{c} + 1",
    "jsonb": "{c} || '{{\"more\": 1}}'",
}


@pytest.fixture(scope="module")
def market(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with settled_market(new_database(), tmp_path_factory.mktemp("tampered")) as services:
        yield services


def types_of(connection: Connection, table: str) -> dict[str, str]:
    rows = connection.execute(
        text("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = :t"), {"t": table}
    )
    return dict(rows.tuples().all())


def sealed_row(connection: Connection, table: str, column: str) -> Any:
    """ctid of one row of the range that is sealed and has a value there, None if no row has."""
    # constraints are checked by Postgres itself; a thief with the database's files is not held by them
    connection.execute(text("SET LOCAL session_replication_role = replica"))
    joined = TABLES[table].joined
    return connection.execute(
        text(
            f'SELECT t.ctid FROM runs r JOIN "{table}" t ON {joined} WHERE r.epoch BETWEEN :a AND :b '  # noqa: S608
            f"AND r.status = 'finalised' AND t.\"{column}\" IS NOT NULL ORDER BY 1 LIMIT 1"
        ),
        {"a": RANGE[0], "b": RANGE[1]},
    ).scalar()


def test_a_changed_value_in_any_column_of_any_sealed_table_is_named(market: Services) -> None:
    with market.engine.connect() as connection:
        gathered = inputs.gather(market, connection, *RANGE)
        connection.rollback()
        changed, unseen = 0, []
        for table, sealed in TABLES.items():
            kinds = types_of(connection, table)
            for column in sealed.columns:
                connection.rollback()
                _without_checks(connection, table)
                row = sealed_row(connection, table, column)
                if row is None:
                    continue
                new = CHANGES[kinds[column]].format(c=f'"{column}"')
                connection.execute(
                    text(f'UPDATE "{table}" SET "{column}" = {new} WHERE ctid = CAST(:row AS tid)'),  # noqa: S608
                    {"row": row},
                )
                changed += 1
                if table not in {each.what for each in seals.compare(market, connection, gathered)}:
                    unseen.append(f"{table}.{column}")
        connection.rollback()
    assert unseen == []
    assert changed > 120


def _without_checks(connection: Connection, table: str) -> None:
    """Take the table's constraints off inside this transaction, which is rolled back."""
    names = connection.execute(
        text("SELECT conname FROM pg_constraint WHERE conrelid = CAST(:t AS regclass) AND contype = 'c'"), {"t": table}
    ).scalars()
    for name in names.all():
        connection.execute(text(f'ALTER TABLE "{table}" DROP CONSTRAINT "{name}"'))
    if table == "ledger_entries":
        connection.execute(text("ALTER TABLE ledger_entries ALTER COLUMN entry_id DROP IDENTITY"))


@contextmanager
def tampered(services: Services, change: str, back: str) -> Iterator[None]:
    """The statement, then its reverse, with triggers off as a thief would have them."""
    _as_a_thief(services, change)
    try:
        yield
    finally:
        _as_a_thief(services, back)


def _as_a_thief(services: Services, statement: str) -> None:
    with services.engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        assert connection.execute(text(statement)).rowcount == 1


def findings(services: Services) -> list[Finding]:
    verdicts = audit_range(services, *RANGE).verdicts
    return [each for verdict in verdicts for each in verdict.findings if verdict.verdict == DIFFERS]


# table, column, where; the stage that must say it besides the seal, and the column or root it names
MEANINGS = [
    ("net_energy", "readings", "epoch = {e} AND revision = 0", "net_energy", "readings"),
    ("settlements", "thbc_after_uthb", "epoch = {e} AND run = 0", "ledger", "thbc_after_uthb"),
    ("settlements", "residual_wh", "epoch = {e} AND run = 0", "ledger", "residual_wh"),
    ("meter_settlements", "surplus_wh", "epoch = {e} AND run = 0", "ledger", "surplus_wh"),
    ("ledger_entries", "amount", "epoch = {e}", "ledger", "ledger_entries"),
    ("fills", "filled_wh", "epoch = {e}", "clearing", "filled_wh"),
    ("order_matches", "energy_wh", "epoch = {e}", "clearing", "energy_wh"),
    ("zone_results", "bought_wh", "epoch = {e}", "clearing", "bought_wh"),
    ("market_epochs", "welfare_uthb", "epoch = {e}", "clearing", "welfare_uthb"),
    (
        "blockchain_transactions",
        "fee_lamports",
        "epoch = {e} AND run = 0 AND step = 'finalize'",
        "receipts",
        "fee_lamports",
    ),
    ("blockchain_transactions", "slot", "epoch = {e} AND run = 0 AND step = 'finalize'", "receipts", "slot"),
    ("orders", "energy_wh", "message IS NOT NULL", "orders", "energy_wh"),
    ("orders", "broker_us", "message IS NOT NULL", "order_book", "broker_us"),
    ("corrections", "production_delta_wh", "status = 'booked'", "net_energy", "production_delta_wh"),
    ("corrections", "x_wh", "status = 'booked'", "ledger", "x was"),
    ("meters", "baseline_production_wh", "meter_id = 'MEA-002'", "chain", "baseline_production_wh"),
]


@pytest.mark.parametrize(("table", "column", "where", "stage", "words"), MEANINGS)
def test_the_audit_says_what_a_changed_value_means_and_by_how_much(  # noqa: PLR0917 - a case's columns
    market: Services, table: str, column: str, where: str, stage: str, words: str
) -> None:
    where = where.format(e=FIRST + 1)
    one = f"(SELECT ctid FROM {table} WHERE {where} ORDER BY ctid LIMIT 1)"  # noqa: S608
    with market.engine.begin() as connection:
        key = connection.execute(text(f"SELECT {column} FROM {table} WHERE ctid = {one}")).scalar_one()  # noqa: S608
    change = f"UPDATE {table} SET {column} = {column} + 1 WHERE ctid = {one}"  # noqa: S608
    back = f"UPDATE {table} SET {column} = {column} - 1 WHERE {column} = {key + 1} AND {where}"  # noqa: S608
    with tampered(market, change, back):
        found = findings(market)
    said = [each for each in found if each.stage == stage and words in f"{each.what} {each.detail}"]
    assert said, [f"{each.stage}: {each.what}: {each.detail}" for each in found]


def test_a_changed_root_is_named_and_held_against_the_chain(market: Services) -> None:
    flip = "UPDATE runs SET root = set_byte(root, 3, get_byte(root, 3) # 1) WHERE epoch = {e} AND run = 0"
    with tampered(market, flip.format(e=FIRST), flip.format(e=FIRST)):
        found = findings(market)
    assert [(each.stage, each.what) for each in found if each.stage != "seal"] == [("instructions", "runs seq=1 run=0")]


def test_a_broken_audit_log_is_named_on_every_epoch(market: Services) -> None:
    flip = "UPDATE audit_logs SET who = {v} WHERE id = 2"
    with tampered(market, flip.format(v="'somebody'"), flip.format(v="'settlement'")):
        outcome = audit_range(market, *RANGE)
    assert outcome.present == ("audit_logs id=2: doesn't follow from the entry before it",)
    assert {each.since for each in outcome.verdicts} == {"log"}


def files_of(services: Services) -> list[Path]:
    data = services.parquet.root.parent
    mark = "epoch=20260302T0515Z"
    return sorted(path for path in data.rglob("*.parquet") if path.parent.name == mark)


def test_a_changed_byte_in_any_file_of_an_epoch_is_named(market: Services) -> None:
    draws = random.Random(7)  # noqa: S311 - which byte, not a secret
    paths = files_of(market)
    assert len(paths) >= 13
    unseen = []
    for path in paths:
        whole = path.read_bytes()
        place = draws.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << draws.randrange(8))]) + whole[place + 1 :])
        try:
            names = {each.what for each in findings(market)}
        finally:
            path.write_bytes(whole)
        asset = path.parents[2].name
        expected = f"archive {path.stem}" if asset == "archive" else f"frame {asset}/{path.stem}"
        if not any(name.startswith(expected) for name in names):
            unseen.append(f"{expected} at {place} of {len(whole)}: {sorted(names)}")
    assert unseen == []
    assert {each.verdict for each in audit_range(market, *RANGE).verdicts} == {OK}


def test_a_file_that_is_gone_or_cut_is_named(market: Services) -> None:
    for path in files_of(market):
        whole = path.read_bytes()
        for left in (None, whole[: len(whole) // 2]):
            path.unlink() if left is None else path.write_bytes(left)
            try:
                found = findings(market)
            finally:
                path.write_bytes(whole)
            assert found, path
