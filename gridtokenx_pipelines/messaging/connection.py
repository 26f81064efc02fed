"""Where the brokers are and how a client proves who it is: bootstrap servers with TLS and SCRAM settings.

Belongs here: the pair that all clients take. Does not belong here: reading the environment (config.py), clients.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Cluster(msgspec.Struct, frozen=True):
    """Bootstrap servers `host:port[,host:port …]`, and librdkafka's settings of security by name."""

    bootstrap_servers: str
    security: Mapping[str, str] = {}

    def __repr__(self) -> str:
        """Without passwords."""
        return f"Cluster({self.bootstrap_servers!r}, {self.security.get('security.protocol', 'PLAINTEXT')})"

    def __str__(self) -> str:
        """The servers, for messages."""
        return self.bootstrap_servers


# a plain string is a cluster without security: the embedded broker, tests, one machine
Brokers = str | Cluster


def connection_settings(brokers: Brokers) -> dict[str, object]:
    """Settings of any client of these brokers."""
    if isinstance(brokers, str):
        return {"bootstrap.servers": brokers}
    return {"bootstrap.servers": brokers.bootstrap_servers, **brokers.security}
