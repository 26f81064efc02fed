"""Structured logs: one JSON object a line on stderr, with what the process is and what a line is about.

Belongs here: the form. Does not belong here: what is worth a line. `LOG.info("epoch_closed", epoch=…, partition=…)`
by `structlog.get_logger()`; lines of the standard library's loggers come out in the same form. Secrets never go in.
"""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.contextvars import bind_contextvars, merge_contextvars
from structlog.typing import Processor

_SHARED: list[Processor] = [
    merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]

# of a logger that must stay silent where nobody configured logs: structlog's own default prints
STAGES: list[Processor] = [
    structlog.stdlib.filter_by_level,
    *_SHARED,
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
]


def configure(*, level: str = "INFO", as_json: bool = True, **about: object) -> None:
    """Set the process's logs up; `about` (flow, process, run …) stands on every line of every thread.

    A library's own loggers say WARNING and worse only.
    """
    render: list[Processor]
    if as_json:
        render = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(sort_keys=True)]
    else:
        render = [structlog.dev.ConsoleRenderer(colors=False)]

    def with_about(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        # context variables are of one thread; what the process is holds for all
        for name, value in about.items():
            event.setdefault(name, value)
        return event

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, with_about, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for ours in ("gridtokenx_pipelines", "streaming"):
        logging.getLogger(ours).setLevel(level)
    structlog.configure(
        processors=STAGES,
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def bind(**about: object) -> None:
    """Put names on every later line of this thread (run id, epoch, batch)."""
    bind_contextvars(**about)
