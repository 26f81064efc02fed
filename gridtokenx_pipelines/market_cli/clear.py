"""`gridtokenx market clear`: the books of a file, one after another, to results.

Belongs here: the order of the steps, what is printed where, exit codes. Does not belong here: any of the steps.
Results go to standard output, refused rows and errors to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Literal

import msgspec
import polars as pl
from rich.console import Console

from gridtokenx_pipelines.config import ConfigError
from gridtokenx_pipelines.market.clearing import ClearingResult, clear
from gridtokenx_pipelines.market.mechanisms.outcome import ClearingError
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.market.schedule import Rates
from gridtokenx_pipelines.market_cli import documents
from gridtokenx_pipelines.market_cli.book import CheckedBook, Limits, check
from gridtokenx_pipelines.market_cli.book_files import RawBook, read_books
from gridtokenx_pipelines.market_cli.certificate_files import certificates_of, read_certificates
from gridtokenx_pipelines.market_cli.numbers import ISO_BOUND, instants
from gridtokenx_pipelines.market_cli.refusals import BookError
from gridtokenx_pipelines.market_cli.summary import print_clearing, refusal_lines
from gridtokenx_pipelines.market_cli.surroundings import epoch_of_book, in_force, read_charges, read_network

CLEARED, NOT_CLEARED = 0, 1
LINES = (".jsonl", ".ndjson")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command was asked; `mechanism` None: zonal over a network, else uniform.

    `resumed_us`: when an operator resumed a continuous market; None: without its breaker.
    """

    book: Path
    mechanism: str | None
    network: Path | None
    charges: Path | None
    limits: str
    as_json: bool
    epoch: int | None = None
    certificates: Path | None = None
    resumed_us: tuple[int, ...] | None = None


def options_of(given: Mapping[str, Any]) -> Options:
    """Options from the command's words. Raises ConfigError for those that click can't judge."""
    try:
        epoch = epoch_of_book(given["epoch"], None)
    except BookError as error:
        bound = "a key such as 2026-01-27T12:00Z, or a number"
        raise ConfigError("--epoch", given["epoch"], bound, "correct it") from error
    words = dict(given)
    is_on, times = words.pop("breaker"), words.pop("resumed_at")
    if (is_on or times) and given["mechanism"] != "continuous":
        name = "--mechanism with --breaker or --resumed-at"
        raise ConfigError(name, given["mechanism"], "continuous", "name it, or leave them out")
    resumed_us = tuple(sorted(_instant(time) for time in times)) if is_on or times else None
    return Options(**{**words, "epoch": epoch, "resumed_us": resumed_us})


def _instant(words: str) -> int:
    found = instants(pl.Series([words]), "--resumed-at").values[0]
    if found is None:
        raise ConfigError("--resumed-at", words, ISO_BOUND, "correct it")
    return int(found)


class _Clearing:
    def __init__(self, options: Options) -> None:
        self.network = None if options.network is None else read_network(options.network)
        self.charges = read_charges(options.charges, self.network)
        self.certificates = None if options.certificates is None else read_certificates(options.certificates)
        self.epoch = options.epoch
        self.resumed_us = options.resumed_us
        self.limits = None if options.limits == "none" else Limits.of_rules(Rules())
        self.held: Literal["rules"] | None = None if self.limits is None else "rules"
        self.mechanism = options.mechanism or ("uniform" if self.network is None else "zonal")

    def one(self, raw: RawBook) -> tuple[CheckedBook, ClearingResult, Rates]:
        """Check and clear under the rates in force; raises BookError."""
        if raw.problem is not None:
            raise BookError(raw.problem)
        epoch = epoch_of_book(raw.epoch, self.epoch)
        rates = in_force(self.charges, epoch)
        network = None if self.network is None else rates.on(self.network)
        book = check(raw, rates, network, self.limits, self.mechanism)
        if self.mechanism == "continuous" and raw.height and "placed_at" not in raw.columns:
            raise BookError("book had no placed_at, must have it for continuous: orders trade as they arrive; add it")
        try:
            result = clear(
                book.frame,
                book.network,
                rates.rules(),
                self.mechanism,
                history=None if self.resumed_us is None else {},  # its own last minute is all it looks at
                resumed_us=self.resumed_us or (),
                limits=self.held,
            )
        except ClearingError as error:
            raise BookError(str(error)) from error
        return book, result, rates

    def asked(self, raw: RawBook, book: CheckedBook, result: ClearingResult) -> dict[str, Any]:
        """Keys of the document that only some commands ask for."""
        found: dict[str, Any] = {}
        if self.resumed_us is not None:
            found |= {"halted": result.halted, "halt_reasons": result.halt_reasons}
        if self.certificates is not None:
            epoch = epoch_of_book(raw.epoch, self.epoch)
            found["certificates"] = certificates_of(self.certificates, book.frame, book.ids, result, epoch)
        return found


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
                book, result, rates = clearing.one(raw)
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
                    vat_bp=rates.vat_bp if options.charges else None,
                    refusals=book.refused,
                    extra=clearing.asked(raw, book, result),
                )
                _write(out, document)
            else:
                if lines:
                    console.rule(f"book {name}")
                print_clearing(console, result, book.frame, book.ids)
                for reason in result.halt_reasons:
                    console.print(f"halted: {reason}", markup=False)
    except BookError as error:
        errors.print(str(error), markup=False)
        return NOT_CLEARED
    return code


def _write(out: IO[bytes], pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        out.write(piece)
    out.flush()
