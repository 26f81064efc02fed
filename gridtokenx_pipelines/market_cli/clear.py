"""`gridtokenx market clear`: the books of a file, one after another, to results.

Belongs here: the order of the steps, what is printed where, exit codes. Does not belong here: any of the steps.
Results go to standard output, refused rows and errors to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Literal

import msgspec
from rich.console import Console

from gridtokenx_pipelines.market.clearing import ClearingResult, clear
from gridtokenx_pipelines.market.mechanisms.outcome import ClearingError
from gridtokenx_pipelines.market.rules import Network, Rules
from gridtokenx_pipelines.market_cli import documents
from gridtokenx_pipelines.market_cli.book import CheckedBook, Limits, check
from gridtokenx_pipelines.market_cli.book_files import RawBook, read_books
from gridtokenx_pipelines.market_cli.refusals import BookError
from gridtokenx_pipelines.market_cli.summary import print_clearing, refusal_lines
from gridtokenx_pipelines.market_cli.surroundings import read_charges, read_network

CLEARED, NOT_CLEARED = 0, 1
LINES = (".jsonl", ".ndjson")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command was asked; `mechanism` None: zonal over a network, else uniform."""

    book: Path
    mechanism: str | None
    network: Path | None
    charges: Path | None
    limits: str
    as_json: bool


class _Clearing:
    def __init__(self, options: Options) -> None:
        network = None if options.network is None else read_network(options.network)
        self.charges = read_charges(options.charges, network)
        self.network: Network | None = None if network is None else self.charges.on(network)
        self.rules: Rules = self.charges.rules()
        self.limits = None if options.limits == "none" else Limits.of_rules(self.rules)
        self.held: Literal["rules"] | None = None if self.limits is None else "rules"
        self.mechanism = options.mechanism or ("uniform" if network is None else "zonal")

    def one(self, raw: RawBook) -> tuple[CheckedBook, ClearingResult]:
        """Check and clear; raises BookError."""
        if raw.problem is not None:
            raise BookError(raw.problem)
        book = check(raw, self.charges, self.network, self.limits, self.mechanism)
        if self.mechanism == "continuous" and raw.height and "placed_at" not in raw.columns:
            raise BookError("book had no placed_at, must have it for continuous: orders trade as they arrive; add it")
        try:
            return book, clear(book.frame, book.network, self.rules, self.mechanism, limits=self.held)
        except ClearingError as error:
            raise BookError(str(error)) from error


def run_clear(options: Options, out: IO[bytes] | None = None) -> int:
    """Clear every book of the file. 0: all cleared whole; 1: a book or a row of one was refused."""
    out = out or sys.stdout.buffer
    clearing = _Clearing(options)
    lines = options.book.suffix.lower() in LINES
    console, errors = Console(), Console(stderr=True, soft_wrap=True, highlight=False)
    code = CLEARED
    try:
        for number, raw in enumerate(read_books(options.book), 1):
            name = raw.book_id if raw.book_id is not None else number
            words = f"book {name}: " if lines else ""
            try:
                book, result = clearing.one(raw)
            except BookError as error:
                code = NOT_CLEARED
                errors.print(f"{words}{error}", markup=False)
                if options.as_json and lines:
                    _write(out, [msgspec.json.encode({"book_id": name, "error": str(error)}) + b"\n"])
                continue
            for line in refusal_lines([each.reason for each in book.refused]):
                code = NOT_CLEARED
                errors.print(f"{words}refused: {line}", markup=False)
            if options.as_json:
                document = documents.document(
                    result,
                    book.ids,
                    book_id=name if lines else raw.book_id,
                    vat_bp=clearing.charges.vat_bp if options.charges else None,
                    refusals=book.refused,
                )
                _write(out, document)
            else:
                if lines:
                    console.rule(f"book {name}")
                print_clearing(console, result, book.frame, book.ids)
    except BookError as error:
        errors.print(str(error), markup=False)
        return NOT_CLEARED
    return code


def _write(out: IO[bytes], pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        out.write(piece)
    out.flush()
