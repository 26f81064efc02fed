"""Small book files for the command line's tests, and running the command in this process.

Belongs here: writing one book in every format. Does not belong here: expectations.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import polars as pl
from click.testing import CliRunner

from gridtokenx_pipelines.cli import cli

THB = 1_000_000


def order(ident: Any, side: Any, energy_wh: Any, limit_price: Any, **more: Any) -> dict[str, Any]:
    return {"order_id": ident, "side": side, "energy_wh": energy_wh, "limit_price": limit_price, "placed_at": 0} | more


def write_book(folder: Path, orders: list[dict[str, Any]], suffix: str = ".json") -> Path:
    path = folder / f"book{suffix}"
    match suffix:
        case ".json":
            path.write_text(json.dumps(orders))
        case ".jsonl":
            path.write_text(json.dumps({"book_id": "b", "orders": orders}) + "\n")
        case ".csv":
            with open(path, "w", newline="", encoding="utf-8") as handle:
                writer = csv.DictWriter(handle, list(orders[0]))
                writer.writeheader()
                writer.writerows(orders)
        case ".parquet":
            pl.DataFrame(orders).write_parquet(path)
    return path


class Run:
    """One run of `gridtokenx market …`: exit code, standard output, standard error."""

    def __init__(self, *arguments: Any) -> None:
        result = CliRunner().invoke(cli, ["market", *map(str, arguments)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        self.code, self.out, self.error = result.exit_code, result.stdout, result.stderr

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]
