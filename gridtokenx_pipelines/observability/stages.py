"""A stage of the settlement as it is seen from outside: a log line with epoch and run, a span in the epoch's trace.

Belongs here: the decorator around a stage, lines and spans of transactions. Does not belong here: the stages. A range
of epochs is done at once, so each epoch's span covers the whole of it and says of how many.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

import structlog

from gridtokenx_pipelines.epochs import key_of, start_us
from gridtokenx_pipelines.observability import tracing
from gridtokenx_pipelines.observability.logs import STAGES

Work = TypeVar("Work", bound=Callable[..., Any])
LOG: Any = structlog.wrap_logger(
    logging.getLogger("gridtokenx_pipelines.settlement_service"),
    processors=STAGES,
    wrapper_class=structlog.stdlib.BoundLogger,
)
# the spans of a catch-up over months would say nothing that its run does not
MOST_EPOCHS = 96
FIRST, LAST = "net_energy", "epoch_statement"
_began_ns: dict[int, int] = {}


def stage(name: str) -> Callable[[Work], Work]:
    """Around a function of (services, epochs): say when it began and ended, or why it failed."""

    def around(work: Work) -> Work:
        @wraps(work)
        def told(services: Any, epochs: Sequence[int], *rest: Any, **named: Any) -> Any:
            if not LOG.isEnabledFor(logging.INFO) and not tracing.is_on():
                return work(services, epochs, *rest, **named)
            started_ns, failed = time.time_ns(), ""
            try:
                return work(services, epochs, *rest, **named)
            except BaseException as error:
                failed = f"{type(error).__name__}: {error}".splitlines()[0]
                raise
            finally:
                _tell(name, list(epochs), started_ns, failed)

        return told  # type: ignore[return-value]

    return around


def _tell(name: str, epochs: list[int], started_ns: int, failed: str) -> None:
    ended_ns = time.time_ns()
    about = {
        "stage": name,
        "epoch": key_of(epochs[0]),
        "through_epoch": key_of(epochs[-1]),
        "epochs": len(epochs),
        "seconds": round((ended_ns - started_ns) / 1e9, 3),
    }
    if failed:
        LOG.error("stage_failed", error=failed, **about)
    else:
        LOG.info("stage_done", **about)
    if not tracing.is_on() or len(epochs) > MOST_EPOCHS:
        return
    for epoch in epochs:
        root = tracing.of_epoch(epoch)
        times = {"started_ns": started_ns, "ended_ns": ended_ns}
        tracing.span(name, parent=root, failed=failed, epoch=key_of(epoch), epochs=len(epochs), **times)
        if name == FIRST:
            _began_ns[epoch] = started_ns
        if name == LAST:
            # last of all, as a span is written when it ends; in simulated time an epoch may lie months away
            began = _began_ns.pop(epoch, started_ns)
            times = {"started_ns": began, "ended_ns": ended_ns}
            tracing.span("epoch", parent=None, place=root, epoch=key_of(epoch), start_us=start_us(epoch), **times)


def transaction(
    *, epoch: int, kind: int, run: int, step: str, idx: int, signature: str, started_ns: int, **found: str | int
) -> None:
    """A transaction of a run that came to its end."""
    about: dict[str, Any] = {"step": step, "batch": idx, "run": run, "kind": kind, "signature": signature, **found}
    failed = str(found.get("error", ""))
    (LOG.error if failed else LOG.info)("transaction_ended", epoch=key_of(epoch), **about)
    tracing.span(
        "transaction",
        parent=tracing.of_epoch(epoch),
        started_ns=started_ns,
        failed=failed,
        epoch=key_of(epoch),
        **about,
    )


def is_watched() -> bool:
    """Whether anybody would see a transaction's end."""
    return tracing.is_on() or bool(LOG.isEnabledFor(logging.INFO))
