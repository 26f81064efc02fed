"""The same contract as a Great Expectations suite: validated with failing rows, and built as data docs pages.

Belongs here: contract → suite, frame → results, results → pages. Does not belong here: the per-epoch path: importing
Great Expectations takes seconds, so nothing may import this module before it needs it (checks import it inside).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from gridtokenx_pipelines.quality.contract import Contract

MAX_ROWS = 20
SITE = "quality"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One expectation on a table: `observed` in words, the failing rows' key and value, severity as GE knows it."""

    check: str
    passed: bool
    severity: str
    observed: str
    failing: list[dict[str, Any]]


def validate(contract: Contract, frame: pl.DataFrame, *, run_name: str, pages: Path | None = None) -> list[Outcome]:
    """Validate a frame of the contract; with `pages`, data docs are written there (index.html).

    An expectation that couldn't be evaluated, a missing column for instance, is a failure with its exception as words.
    """
    import great_expectations as gx  # noqa: PLC0415 - seconds, see the module's docstring

    context = gx.get_context(mode="ephemeral")
    # otherwise a monitor thread of the progress bars outlives the run
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    suite = context.suites.add(gx.ExpectationSuite(name=contract.name))
    for expectation in _expectations(contract):
        suite.add_expectation(expectation)
    asset = context.data_sources.add_pandas("frames").add_dataframe_asset(contract.name)
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(
            name=contract.name, data=asset.add_batch_definition_whole_dataframe(run_name), suite=suite
        )
    )
    keys = [name for name in contract.key if name in frame.columns]
    result = definition.run(
        batch_parameters={"dataframe": _pandas(frame)},
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": keys},
        run_id=gx.RunIdentifier(run_name=run_name),
    )
    if pages is not None:
        _build_pages(context, pages)
    return [_outcome(each) for each in result.results]


def check_names(contract: Contract) -> list[str]:
    """The names of all expectations of a contract, in their order; needs no Great Expectations."""
    names = ["columns", "row_count", "key_unique"]
    for column in contract.columns:
        names += [] if column.nullable else [f"{column.name}_not_null"]
        if column.choices:
            names.append(f"{column.name}_choices")
        elif column.minimum is not None or column.maximum is not None:
            names.append(f"{column.name}_range")
    return names


def _expectations(contract: Contract) -> Iterator[Any]:
    from great_expectations import expectations as gxe  # noqa: PLC0415 - see validate

    yield gxe.ExpectTableColumnsToMatchSet(
        column_set=list(contract.schema), exact_match=False, meta={"check": "columns"}, severity="critical"
    )
    yield gxe.ExpectTableRowCountToBeBetween(
        # every value rule passes on an empty table: only this one notices
        min_value=0 if contract.may_be_empty else 1,
        meta={"check": "row_count"},
        severity="critical",
    )
    yield (
        gxe.ExpectCompoundColumnsToBeUnique(
            column_list=list(contract.key), meta={"check": "key_unique"}, severity="critical"
        )
        if len(contract.key) > 1
        else gxe.ExpectColumnValuesToBeUnique(column=contract.key[0], meta={"check": "key_unique"}, severity="critical")
    )
    for column in contract.columns:
        if not column.nullable:
            yield gxe.ExpectColumnValuesToNotBeNull(
                column=column.name, meta={"check": f"{column.name}_not_null"}, severity="critical"
            )
        if column.choices:
            yield gxe.ExpectColumnValuesToBeInSet(
                column=column.name,
                value_set=list(column.choices),
                meta={"check": f"{column.name}_choices"},
                severity="critical",
            )
        elif column.minimum is not None or column.maximum is not None:
            yield gxe.ExpectColumnValuesToBeBetween(
                column=column.name,
                min_value=column.minimum,
                max_value=column.maximum,
                meta={"check": f"{column.name}_range"},
                severity="critical",
            )


def _pandas(frame: pl.DataFrame) -> Any:
    """The frame for GE, which takes no polars; nullable integers stay integers (a float would round large ones)."""
    import pandas as pd  # noqa: PLC0415 - comes with GE

    columns: dict[str, Any] = {}
    for series in frame:
        if series.dtype.is_integer():
            columns[series.name] = pd.array(series.to_list(), dtype="Int64")
        elif series.dtype == pl.Binary:
            columns[series.name] = [None if value is None else value.hex() for value in series]
        else:
            columns[series.name] = series.to_list()
    return pd.DataFrame(columns)


def _outcome(result: Any) -> Outcome:
    config, found = result.expectation_config, result.result
    severity = getattr(config.severity, "value", config.severity) or "critical"
    raised = [str(each.get("exception_message")) for each in _exceptions(result.exception_info)]
    if raised:
        words = "; ".join(raised)
    elif "observed_value" in found:
        words = f"observed {found['observed_value']}"
    else:
        words = f"{found.get('unexpected_count', 0)} of {found.get('element_count', 0)} rows unexpected"
    failing = [
        {name: _plain(value) for name, value in row.items()}
        for row in (found.get("unexpected_index_list") or [])[:MAX_ROWS]
    ]
    return Outcome(
        check=str(config.meta["check"]),
        passed=bool(result.success),
        severity=str(severity),
        observed=words,
        failing=failing,
    )


def _exceptions(info: Any) -> list[dict[str, Any]]:
    """GE gives one exception, or one per metric; only those that were raised."""
    if not isinstance(info, dict):
        return []
    each = [info] if "raised_exception" in info else [one for one in info.values() if isinstance(one, dict)]
    return [one for one in each if one.get("raised_exception")]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _build_pages(context: Any, pages: Path) -> None:
    # built anew whole: pages of an earlier validation of the same table and day would stay beside the new ones
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir(parents=True)
    for name in list(context.get_site_names()):
        context.delete_data_docs_site(name)
    context.add_data_docs_site(
        site_name=SITE,
        site_config={
            "class_name": "SiteBuilder",
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(pages)},
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        },
    )
    context.build_data_docs(site_names=[SITE])
