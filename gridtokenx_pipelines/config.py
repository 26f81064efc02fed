"""Settings of a process: the only reader of the environment.

Belongs here: every environment name, its default, its bound and its remedy. Does not belong here: connecting to
anything, or market rules (market/rules.py), which are data files that a settings value points to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

NETWORK_IDS = {"mainnet-beta": 1, "devnet": 2, "localnet": 3}
# those that the trading program settles: a clearing by another one would be final in the ledger and stuck on the chain
MECHANISMS = ("zonal", "uniform")

KAFKA_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
KAFKA_MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256")
# how a process is watched, read by the two functions below: no part of what it does
WATCHING = ("GRIDTOKENX_LOG", "GRIDTOKENX_TRACES", "GRIDTOKENX_TRACES_PER_MILLION")
# librdkafka's name of each setting of security
KAFKA_SECURITY = {
    "KAFKA_SECURITY_PROTOCOL": "security.protocol",
    "KAFKA_SASL_MECHANISM": "sasl.mechanisms",
    "KAFKA_SASL_USERNAME": "sasl.username",
    "KAFKA_SASL_PASSWORD": "sasl.password",
    "KAFKA_SSL_CA_LOCATION": "ssl.ca.location",
    "KAFKA_SSL_CERTIFICATE_LOCATION": "ssl.certificate.location",
    "KAFKA_SSL_KEY_LOCATION": "ssl.key.location",
    "KAFKA_SSL_KEY_PASSWORD": "ssl.key.password",
}


class ConfigError(ValueError):
    """A setting that can't be used: names the setting, its value, the bound and the remedy."""

    def __init__(self, name: str, value: object, bound: str, remedy: str) -> None:
        super().__init__(f"{name} was {value!r}, must be {bound}; {remedy}")
        self.name = name


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a process needs to know of its surroundings."""

    database_url: str
    kafka_bootstrap_servers: str
    kafka_security: Mapping[str, str] = {}
    solana_rpc_url: str
    data_dir: Path
    keys_dir: Path
    dagster_home: Path
    network: str
    network_id: int
    mechanism: str
    rules_path: Path
    network_path: Path
    grid_path: Path
    authority_wallet_path: Path
    influxdb_url: str
    influxdb_token: str
    pages_url: str = ""
    solana_rpc_fallback_urls: tuple[str, ...] = ()
    highest_bid: int = 1_000_000
    stuck_after_seconds: int = 900
    alert_webhook_url: str = ""
    alert_email_to: tuple[str, ...] = ()
    alert_email_from: str = ""
    smtp_url: str = ""
    backup_dir: Path | None = None
    backup_database_url: str = ""
    backup_recipient: str = ""
    backup_keep_days: int = 90

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read and check the environment; raises ConfigError at the first setting that can't be used."""
        env = os.environ if env is None else env
        network = _one_of(env, "GRIDTOKENX_NETWORK", "localnet", tuple(NETWORK_IDS))
        brokers, security = kafka_from_env(env)
        data_dir = _absolute(env, "GRIDTOKENX_DATA_DIR", Path.cwd() / ".gridtokenx" / "demo")
        keys_dir = _absolute(env, "GRIDTOKENX_KEYS_DIR", data_dir / "keys")
        return cls(
            database_url=_url(env, "DATABASE_URL", ("postgresql://", "postgresql+psycopg2://")),
            kafka_bootstrap_servers=brokers,
            kafka_security=security,
            solana_rpc_url=_url(env, "SOLANA_RPC_URL", ("http://", "https://")),
            data_dir=data_dir,
            keys_dir=keys_dir,
            dagster_home=_absolute(env, "DAGSTER_HOME", data_dir / "dagster"),
            network=network,
            network_id=NETWORK_IDS[network],
            mechanism=mechanism_from_env(env),
            rules_path=_absolute(env, "GRIDTOKENX_RULES_PATH", data_dir / "rules.json"),
            network_path=_absolute(env, "GRIDTOKENX_ZONES_PATH", data_dir / "zones.json"),
            grid_path=_grid_path(env, data_dir),
            authority_wallet_path=_absolute(env, "AUTHORITY_WALLET_PATH", keys_dir / "authority.json"),
            influxdb_url=env.get("INFLUXDB_URL", ""),
            influxdb_token=env.get("INFLUXDB_TOKEN", ""),
            pages_url=env.get("GRIDTOKENX_PAGES_URL", "").rstrip("/"),
            solana_rpc_fallback_urls=_urls(env, "SOLANA_RPC_FALLBACK_URLS", ("http://", "https://")),
            highest_bid=_number(env, "GRIDTOKENX_PRIORITY_FEE_MAX", 1_000_000, (0, 1_000_000_000)),
            stuck_after_seconds=_number(env, "GRIDTOKENX_STUCK_AFTER_SECONDS", 900, (10, 86_400)),
            **_alerts(env),
            **_backups(env),
        )

    def __repr__(self) -> str:
        """Without the token and the database's password, so that settings can be logged."""
        return f"Settings(network={self.network!r}, data_dir={str(self.data_dir)!r}, mechanism={self.mechanism!r})"

    def as_env(self) -> dict[str, str]:
        """The environment that makes a child process read these same settings."""
        return {
            "DATABASE_URL": self.database_url,
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka_bootstrap_servers,
            **{name: self.kafka_security[key] for name, key in KAFKA_SECURITY.items() if key in self.kafka_security},
            "SOLANA_RPC_URL": self.solana_rpc_url,
            "GRIDTOKENX_DATA_DIR": str(self.data_dir),
            "GRIDTOKENX_KEYS_DIR": str(self.keys_dir),
            "DAGSTER_HOME": str(self.dagster_home),
            "GRIDTOKENX_NETWORK": self.network,
            "GRIDTOKENX_MECHANISM": self.mechanism,
            "GRIDTOKENX_RULES_PATH": str(self.rules_path),
            "GRIDTOKENX_ZONES_PATH": str(self.network_path),
            "GRIDTOKENX_GRID_PATH": str(self.grid_path),
            "AUTHORITY_WALLET_PATH": str(self.authority_wallet_path),
            "INFLUXDB_URL": self.influxdb_url,
            "INFLUXDB_TOKEN": self.influxdb_token,
            "GRIDTOKENX_PAGES_URL": self.pages_url,
            "SOLANA_RPC_FALLBACK_URLS": ",".join(self.solana_rpc_fallback_urls),
            "GRIDTOKENX_PRIORITY_FEE_MAX": str(self.highest_bid),
            "GRIDTOKENX_STUCK_AFTER_SECONDS": str(self.stuck_after_seconds),
            "GRIDTOKENX_ALERT_WEBHOOK_URL": self.alert_webhook_url,
            "GRIDTOKENX_ALERT_EMAIL_TO": ",".join(self.alert_email_to),
            "GRIDTOKENX_ALERT_EMAIL_FROM": self.alert_email_from,
            "GRIDTOKENX_SMTP_URL": self.smtp_url,
            "GRIDTOKENX_BACKUP_DIR": str(self.backup_dir or ""),
            "GRIDTOKENX_BACKUP_DATABASE_URL": self.backup_database_url,
            "GRIDTOKENX_BACKUP_RECIPIENT": self.backup_recipient,
            "GRIDTOKENX_BACKUP_KEEP_DAYS": str(self.backup_keep_days),
        }


def kafka_from_env(env: Mapping[str, str] | None = None) -> tuple[str, dict[str, str]]:
    """Bootstrap servers, and librdkafka's security settings (empty: plain text). Raises ConfigError."""
    env = os.environ if env is None else env
    brokers = _required(env, "KAFKA_BOOTSTRAP_SERVERS", "host:port[,host:port …]")
    for broker in brokers.split(","):
        host, _, port = broker.strip().rpartition(":")
        # librdkafka takes any number's last 16 bits, and waits for a broker that nobody named
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
            bound = "host:port[,host:port …], ports from 1 to 65535"
            raise ConfigError("KAFKA_BOOTSTRAP_SERVERS", brokers, bound, f"correct {broker.strip()!r}")
    protocol = _one_of(env, "KAFKA_SECURITY_PROTOCOL", "PLAINTEXT", KAFKA_PROTOCOLS)
    given = {name: env[name] for name in KAFKA_SECURITY if env.get(name)}
    if protocol == "PLAINTEXT":
        stray = sorted(given.keys() - {"KAFKA_SECURITY_PROTOCOL"})
        if stray:
            # a password that is configured and never used is a cluster someone believes to be closed
            bound = f"SASL_SSL, SASL_PLAINTEXT or SSL where {stray[0]} is set"
            raise ConfigError("KAFKA_SECURITY_PROTOCOL", protocol, bound, f"set it, or unset {stray[0]}")
        return brokers, {}
    given["KAFKA_SECURITY_PROTOCOL"] = protocol
    if protocol.startswith("SASL_"):
        given["KAFKA_SASL_MECHANISM"] = _one_of(env, "KAFKA_SASL_MECHANISM", KAFKA_MECHANISMS[0], KAFKA_MECHANISMS)
        for name in ("KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"):
            if name not in given:
                raise ConfigError(name, "", f"set with KAFKA_SECURITY_PROTOCOL={protocol}", "set it")
    for name in ("KAFKA_SSL_CA_LOCATION", "KAFKA_SSL_CERTIFICATE_LOCATION", "KAFKA_SSL_KEY_LOCATION"):
        if name in given and not Path(given[name]).is_file():
            raise ConfigError(name, given[name], "a readable PEM file", "correct the path")
    return brokers, {KAFKA_SECURITY[name]: value for name, value in given.items()}


def traces_from_env(env: Mapping[str, str] | None = None) -> tuple[str, int]:
    """Where traces go (empty: nowhere) and of how many readings in a million. Raises ConfigError."""
    env = os.environ if env is None else env
    target = env.get("GRIDTOKENX_TRACES", "")
    if target and target != "console" and not target.startswith(("http://", "https://", "file:///")):
        bound = "http(s)://host:4318 (OTLP), file:///folder or console"
        raise ConfigError("GRIDTOKENX_TRACES", target, bound, "correct or unset it")
    return target, _number(env, "GRIDTOKENX_TRACES_PER_MILLION", 1_000, (0, 1_000_000))


def logs_from_env(env: Mapping[str, str] | None = None) -> str:
    """How settlement processes log their stages: `json`, `text`, or empty for not at all. Raises ConfigError."""
    return _one_of(os.environ if env is None else env, "GRIDTOKENX_LOG", "", ("", "json", "text"))


def mechanism_from_env(env: Mapping[str, str] | None = None) -> str:
    """The clearing mechanism that the environment names; raises ConfigError for one that can't be settled."""
    return _one_of(os.environ if env is None else env, "GRIDTOKENX_MECHANISM", "zonal", MECHANISMS)


def _grid_path(env: Mapping[str, str], data_dir: Path) -> Path:
    """The grid case: without one the network file's capacities hold, but one that is named must be there."""
    default = data_dir / "grid.npz"
    path = _absolute(env, "GRIDTOKENX_GRID_PATH", default)
    if path != default and not path.is_file():
        raise ConfigError(
            "GRIDTOKENX_GRID_PATH", str(path), "a grid case", "make one with gridtokenx grid prepare, or unset it"
        )
    return path


def _alerts(env: Mapping[str, str]) -> dict[str, Any]:
    """Where alerts go: nowhere by default; addresses without a server, or the other way round, are refused."""
    webhook = _urls(env, "GRIDTOKENX_ALERT_WEBHOOK_URL", ("http://", "https://"))
    receivers = tuple(part.strip() for part in env.get("GRIDTOKENX_ALERT_EMAIL_TO", "").split(",") if part.strip())
    server = _urls(env, "GRIDTOKENX_SMTP_URL", ("smtp://", "smtps://"))
    if receivers and not server:
        raise ConfigError("GRIDTOKENX_SMTP_URL", "", "smtp://host:port", "set it, or unset GRIDTOKENX_ALERT_EMAIL_TO")
    return {
        "alert_webhook_url": webhook[0] if webhook else "",
        "alert_email_to": receivers,
        "alert_email_from": env.get("GRIDTOKENX_ALERT_EMAIL_FROM") or "gridtokenx@localhost",
        "smtp_url": server[0] if server else "",
    }


def _backups(env: Mapping[str, str]) -> dict[str, Any]:
    """Where backups go: nowhere by default; keys without somebody to seal them to are refused."""
    if not env.get("GRIDTOKENX_BACKUP_DIR"):
        return {}
    if not env.get("GRIDTOKENX_BACKUP_RECIPIENT"):
        raise ConfigError(
            "GRIDTOKENX_BACKUP_RECIPIENT", "", "a public key where GRIDTOKENX_BACKUP_DIR is set",
            "make a pair with gridtokenx backup key",
        )  # fmt: skip
    name = "GRIDTOKENX_BACKUP_DATABASE_URL"
    return {
        "backup_dir": _absolute(env, "GRIDTOKENX_BACKUP_DIR", Path.cwd()),
        "backup_recipient": env["GRIDTOKENX_BACKUP_RECIPIENT"],
        "backup_database_url": _url(env, name, ("postgresql://", "postgresql+psycopg2://")) if env.get(name) else "",
        "backup_keep_days": _number(env, "GRIDTOKENX_BACKUP_KEEP_DAYS", 90, (1, 3650)),
    }


def _urls(env: Mapping[str, str], name: str, schemes: tuple[str, ...]) -> tuple[str, ...]:
    found = tuple(part.strip() for part in env.get(name, "").split(",") if part.strip())
    for url in found:
        if not url.startswith(schemes):
            raise ConfigError(
                name, url.split("://", maxsplit=1)[0] + "://…", " or ".join(schemes), "correct the scheme"
            )
    return found


def _number(env: Mapping[str, str], name: str, default: int, bounds: tuple[int, int]) -> int:
    value = env.get(name) or str(default)
    if not value.isdecimal() or not bounds[0] <= int(value) <= bounds[1]:
        raise ConfigError(name, value, f"a whole number in {bounds[0]}…{bounds[1]}", "correct or unset it")
    return int(value)


def _required(env: Mapping[str, str], name: str, bound: str) -> str:
    value = env.get(name, "")
    if not value:
        raise ConfigError(name, value, bound, "set it, or let `gridtokenx demo` start the embedded stack")
    return value


def _url(env: Mapping[str, str], name: str, schemes: tuple[str, ...]) -> str:
    value = _required(env, name, " or ".join(f"{scheme}…" for scheme in schemes))
    if not value.startswith(schemes):
        # the scheme alone is shown: the rest of a database URL holds a password
        raise ConfigError(name, value.split("://", maxsplit=1)[0] + "://…", " or ".join(schemes), "correct the scheme")
    return value


def _one_of(env: Mapping[str, str], name: str, default: str, choices: tuple[str, ...]) -> str:
    value = env.get(name, default)
    if value not in choices:
        raise ConfigError(name, value, f"one of {', '.join(choices)}", "correct or unset it")
    return value


def _absolute(env: Mapping[str, str], name: str, default: Path) -> Path:
    path = Path(env.get(name) or default)
    if not path.is_absolute():
        # Dagster refuses a relative home, and a child started elsewhere would read another folder
        raise ConfigError(name, str(path), "an absolute path", f"use {path.resolve()}")
    return path
