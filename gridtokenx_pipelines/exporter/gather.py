"""Gathers what Prometheus scrapes: the database's numbers, the ledger's laws, the chain's state.

Belongs here: turning answers into metric families. Does not belong here: asking on whose behalf or when (serve.py). A
part that can't be asked leaves its numbers out and sets `gridtokenx_up` of that part to 0: a stale number would lie.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine

from gridtokenx_pipelines.backups import catalogue
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.store.monitoring import read_numbers
from gridtokenx_pipelines.store.proof import ledger_laws

Part = Callable[[], Iterable[Metric]]


def database_numbers(engine: Engine) -> Iterable[Metric]:
    """Every number of store/monitoring.py."""
    with engine.connect() as connection:
        found = read_numbers(connection)
    for number, rows in found:
        kind = CounterMetricFamily if number.counter else GaugeMetricFamily
        family = kind(number.name, number.says, labels=list(number.labels))
        for labels, value in rows:
            family.add_metric(list(labels), value)
        yield family


def law_numbers(engine: Engine) -> Iterable[Metric]:
    """What each conservation law lacks to 0, from the database; anything but 0 is an alarm."""
    with engine.connect() as connection:
        laws = ledger_laws(connection)
    family = GaugeMetricFamily("gridtokenx_law_difference", "Left minus right side of each law.", labels=["law"])
    for law in laws:
        family.add_metric([law.law], float(law.left - law.right))
    yield family


def chain_numbers(client: ChainClient) -> Iterable[Metric]:
    """Slots by commitment, and how many the node lags behind its cluster."""
    slots = {commitment: client.slot(commitment) for commitment in ("processed", "confirmed", "finalized")}
    family = GaugeMetricFamily("gridtokenx_chain_slot", "Newest slot by commitment.", labels=["commitment"])
    for commitment, slot in slots.items():
        family.add_metric([commitment], slot)
    yield family
    yield GaugeMetricFamily(
        "gridtokenx_chain_slots_behind",
        "Slots that the node has not confirmed yet of those it processed.",
        value=max(0, slots["processed"] - slots["confirmed"]),
    )
    yield GaugeMetricFamily("gridtokenx_chain_block_height", "Block height.", value=client.block_height())


def backup_numbers(root: Path) -> Iterable[Metric]:
    """When the newest backup of each part was begun, and what all of them take."""
    found = catalogue.records(root)
    at = GaugeMetricFamily("gridtokenx_backup_timestamp_seconds", "Newest whole backup.", labels=["part"])
    size = GaugeMetricFamily("gridtokenx_backup_bytes", "Bytes of all backups.", labels=["part"])
    for part in sorted({record.part for record in found}):
        mine = [record for record in found if record.part == part]
        at.add_metric([part], mine[-1].at.timestamp())
        size.add_metric([part], sum(record.bytes for record in mine))
    yield at
    yield size


class Gathered(Collector):
    """Asks each part at every scrape, at most once a `seconds`; a part that fails says so and takes nobody along."""

    def __init__(self, parts: dict[str, Part], seconds: float) -> None:
        self._parts, self._seconds = parts, seconds
        self._asked_at = float("-inf")
        self._answers: dict[str, list[Metric] | None] = {}
        self.problems: dict[str, str] = {}

    def collect(self) -> Iterable[Metric]:
        """All families."""
        if time.monotonic() - self._asked_at >= self._seconds:
            self._answers = {name: self._ask(name, part) for name, part in self._parts.items()}
            self._asked_at = time.monotonic()
        up = GaugeMetricFamily("gridtokenx_up", "1 where the part could be asked.", labels=["part"])
        for name, answer in self._answers.items():
            up.add_metric([name], 0 if answer is None else 1)
            yield from answer or ()
        yield up

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not ask the database."""
        return ()

    def _ask(self, name: str, part: Part) -> list[Metric] | None:
        try:
            answer = list(part())
        except Exception as error:  # whatever the part raises: the others' numbers must still come out
            self.problems[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            return None
        self.problems.pop(name, None)
        return answer
