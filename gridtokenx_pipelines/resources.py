"""Resources: the one thing that assets, checks and sensors are handed, and how it is opened.

Belongs here: Dagster's configurable shell around the services. Does not belong here: reading the environment
(config.py) or what the services do. Nothing is connected before a step or sensor asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from gridtokenx_pipelines.config import Settings
from gridtokenx_pipelines.settlement_service.services import Services, open_services


class Settlement(dg.ConfigurableResource):
    """Opens the settlement services. `environment` replaces the process's own; empty, the process's is read."""

    environment: dict[str, str] = {}  # noqa: RUF012 - a config field with its default, copied by Dagster

    @contextmanager
    def open(self) -> Iterator[Services]:
        """Services for one step: connections are closed at its end. Raises ConfigError for a setting of no use."""
        with open_services(Settings.from_env(self.environment or None)) as services:
            yield services
