"""Books as people keep them: JSON, JSON lines, CSV and Parquet, read into raw columns with their places in the file.

Belongs here: formats, missing fields, where a row stands in its file. Does not belong here: what the values must be
(numbers.py, book.py).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import polars as pl

from gridtokenx_pipelines.market_cli.refusals import BookError

REQUIRED = ("order_id", "side", "energy_wh", "limit_price")
OPTIONAL = ("placed_at", "zone_id", "wallet", "min_wh", "cancelled_at", "replaces", "certificate_id")
FIELDS = REQUIRED + OPTIONAL
SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".parquet")
I64 = 2**63


class RawBook(NamedTuple):
    """Columns as they came (those that the file has), whether ids are text, and lines of row numbers (from 0).

    `book_id`, `epoch`: as a JSON document states them.
    """

    columns: dict[str, pl.Series]
    typed_ids: bool
    lines_of: Callable[[Sequence[int]], dict[int, int]]
    book_id: Any = None
    problem: str | None = None
    epoch: Any = None

    @property
    def height(self) -> int:
        """Number of rows."""
        return len(self.columns["order_id"]) if self.columns else 0


def read_books(path: Path) -> Iterator[RawBook]:
    """The books of a file, one by one; only a `.jsonl` file has several. Raises BookError for what can't be read."""
    match path.suffix.lower():
        case ".json":
            yield _from_document(path.read_bytes(), 1)
        case ".jsonl" | ".ndjson":
            yield from _from_lines(path)
        case ".csv":
            yield _from_csv(path)
        case ".parquet":
            yield _from_parquet(path)
        case other:
            raise BookError(f"book was a {other or 'nameless'} file, must be one of {', '.join(SUFFIXES)}; convert it")


def _from_lines(path: Path) -> Iterator[RawBook]:
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                yield _from_document(line, number)
            except BookError as error:
                # one line that is no book must not keep the others from clearing
                yield RawBook({}, True, lambda rows: {}, _book_id(line), f"line {number}: {error}")


def _book_id(line: bytes) -> Any:
    try:
        document = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return None
    return document.get("book_id") if isinstance(document, dict) else None


def _from_document(text: bytes, first_line: int) -> RawBook:
    try:
        document = msgspec.json.decode(text.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BookError(f"book was not JSON ({error}); correct it") from error
    book_id = epoch = None
    if isinstance(document, dict):
        book_id, epoch, document = document.get("book_id"), document.get("epoch"), document.get("orders")
    if not isinstance(document, list) or not all(isinstance(order, dict) for order in document):
        raise BookError('book was without a list of orders, must be [{…}, …] or {"orders": [{…}, …]}; wrap them so')
    lacking = [field for field in REQUIRED if document and not any(field in order for order in document)]
    if lacking:
        raise BookError(_lacks(lacking, sorted({name for order in document for name in order})))
    columns = {
        field: _column([order.get(field) for order in document], text=field in ("wallet", "certificate_id"))
        for field in FIELDS
        if not document or any(field in order for order in document)
    }
    return RawBook(columns, True, lambda rows: _json_lines(text, rows, first_line), book_id, epoch=epoch)


def _lacks(lacking: Sequence[str], present: Sequence[str]) -> str:
    return f"book had fields {', '.join(present) or 'none'}, must have {', '.join(REQUIRED)}; add {', '.join(lacking)}"


def _column(values: list[Any], *, text: bool = False) -> pl.Series:
    kinds = {type(value) for value in values} - {type(None)}
    if not text and kinds <= {int} and all(-I64 <= value < I64 for value in values if value is not None):
        return pl.Series(values, dtype=pl.Int64)
    if not text and kinds == {float}:
        return pl.Series(values, dtype=pl.Float64)
    return pl.Series([None if value is None else _word(value) for value in values], dtype=pl.String)


def _word(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _json_lines(text: bytes, rows: Sequence[int], first_line: int) -> dict[int, int]:
    orders = _raw_orders(text)
    found, wanted, place, line = {}, set(rows), 0, first_line
    for row, order in enumerate(orders):
        piece = bytes(order)
        start = text.find(piece, place)
        line += text.count(b"\n", place, start)
        if row in wanted:
            found[row] = line
        line += piece.count(b"\n")
        place = start + len(piece)
    return found


def _raw_orders(text: bytes) -> list[msgspec.Raw]:
    clean = text.removeprefix(b"\xef\xbb\xbf")
    try:
        return msgspec.json.decode(clean, type=list[msgspec.Raw])
    except msgspec.ValidationError:
        orders = msgspec.json.decode(clean, type=dict[str, msgspec.Raw])["orders"]
        return msgspec.json.decode(orders, type=list[msgspec.Raw])


def _from_csv(path: Path) -> RawBook:
    try:
        frame = pl.read_csv(path, infer_schema=False, raise_if_empty=False, glob=False)
    except pl.exceptions.PolarsError as error:
        raise BookError(_csv_problem(path) or f"book was not CSV ({error}); correct it") from error
    frame = frame.rename({name: name.strip() for name in frame.columns})
    _require(frame)
    named = frame.select(field for field in FIELDS if field in frame.columns)
    named = named.with_columns(pl.all().str.strip_chars().replace("", None))
    blank = named.select(pl.all_horizontal(pl.all().is_null())).to_series()
    kept = (~blank).arg_true()  # an empty line is no order
    columns = {name: named[name].gather(kept) for name in named.columns}
    return RawBook(columns, False, lambda rows: _csv_lines(path, {int(kept[row]): row for row in rows}))


def _require(frame: pl.DataFrame) -> None:
    lacking = [field for field in REQUIRED if field not in frame.columns]
    if lacking:
        raise BookError(_lacks(lacking, frame.columns))


def _csv_problem(path: Path) -> str | None:
    """The first row that has another number of values than the header."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            reader = csv.reader(handle)
            width = len(next(reader, ()))
            for row in reader:
                if row and len(row) != width:
                    return f"line {reader.line_num} had {len(row)} values, must have {width}, as the header; correct it"
    except (UnicodeDecodeError, csv.Error) as error:
        return f"book was not CSV in UTF-8 ({error}); convert it"
    return None


def _csv_lines(path: Path, wanted: Mapping[int, int]) -> dict[int, int]:
    """Lines by row, given rows by their record in the file (empty ones counted)."""
    found = {}
    with open(path, newline="", encoding="utf-8-sig") as handle:
        reader = csv.reader(handle)
        next(reader, None)
        last = reader.line_num
        for record, _ in enumerate(reader):
            if record in wanted:
                found[wanted[record]] = last + 1
            last = reader.line_num
    return found


def _from_parquet(path: Path) -> RawBook:
    try:
        names = pl.read_parquet_schema(path)
        frame = pl.read_parquet(path, columns=[field for field in FIELDS if field in names], hive_partitioning=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BookError(f"book was not Parquet ({error}); correct it") from error
    if lacking := [field for field in REQUIRED if field not in names]:
        raise BookError(_lacks(lacking, list(names)))
    columns = {name: _hex(frame[name]) if frame[name].dtype == pl.Binary else frame[name] for name in frame.columns}
    return RawBook(columns, True, lambda rows: {})


def _hex(values: pl.Series) -> pl.Series:
    return values.bin.encode("hex")
