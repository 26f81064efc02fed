"""Resources: the one thing that assets, checks and sensors are handed, and how it is opened.

Belongs here: Dagster's configurable shell around the services. Does not belong here: reading the environment
(config.py) or what the services do. Nothing is read or connected before a step or sensor asks for `services`.
"""

# no `from __future__ import annotations` here: Dagster reads the annotations of context and resources at run time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Self

import dagster as dg
from pydantic import PrivateAttr

from gridtokenx_pipelines.config import Settings, logs_from_env, traces_from_env
from gridtokenx_pipelines.observability import logs, tracing
from gridtokenx_pipelines.settlement_service.services import Services, open_services


def watch(service: str, run_id: str) -> None:
    """Traces and logs of this process as the environment says, every line with the run's id; off: nothing happens."""
    target, per_million = traces_from_env()
    tracing.configure(target, service, per_million)
    form = logs_from_env()
    if form:
        logs.configure(as_json=form == "json", process=service)
        logs.bind(dagster_run=run_id)


class Settlement(dg.ConfigurableResource):
    """The settlement services. `environment` replaces the process's own; empty, the process's is read."""

    environment: dict[str, str] = {}  # noqa: RUF012 - a config field with its default, copied by Dagster

    _stack: ExitStack | None = PrivateAttr(default=None)
    _services: Services | None = PrivateAttr(default=None)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Self]:
        """Keep the connections for all steps of an in-process run, and close them at its end."""
        watch(f"dagster-{context.dagster_run.job_name}" if context.dagster_run else "dagster", context.run_id or "")
        with ExitStack() as stack:
            self._stack, self._services = stack, None
            yield self

    @property
    def settings(self) -> Settings:
        """The settings that the services are opened with. Raises ConfigError for one that can't be used."""
        return Settings.from_env(self.environment or None)

    @property
    def services(self) -> Services:
        """The services, opened at the first use. Raises ConfigError for a setting that can't be used."""
        if self._stack is None:
            raise RuntimeError("settlement services were asked for outside a run; use open_services(settings) there")
        if self._services is None:
            self._services = self._stack.enter_context(open_services(self.settings))
        return self._services
