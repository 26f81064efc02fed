"""InfluxDB: each bucket's description and shards by the server's own backup interface (/api/v2/backup, /restore).

Belongs here: reading shards out and putting them back. Does not belong here: tasks and tokens, which `gridtokenx influx
apply` and the operator make anew: the server's own key-value copy would hold every token in the clear.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import datetime
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from typing import Any

from gridtokenx_pipelines.backups import catalogue
from gridtokenx_pipelines.backups.catalogue import BASE, BackupError, Record

PART, BUCKETS = "influxdb", "buckets.json"
ORGANISATION = "gridtokenx"
TIMEOUT_SECONDS = 600


class Server:
    """An InfluxDB 2 with a token that may read and write everything (an operator token)."""

    def __init__(self, url: str, token: str) -> None:
        if not url or not token:
            raise BackupError("INFLUXDB_URL and INFLUXDB_TOKEN were empty, must name a server and an operator token")
        self._url, self._token = url.rstrip("/"), token

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[bytes, dict[str, str]]:
        """Body and headers of an answer. Raises BackupError."""
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked in the configuration
            f"{self._url}{path}", data=body, method=method, headers={"Authorization": f"Token {self._token}"}
        )
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - see above
                return answer.read(), dict(answer.headers.items())
        except urllib.error.HTTPError as error:
            words = error.read()[:300].decode(errors="replace")
            raise BackupError(f"InfluxDB answered {error.code} to {method} {path}: {words}") from error
        except OSError as error:
            raise BackupError(f"InfluxDB at {self._url} did not answer: {error}") from error

    def organisation(self) -> str:
        """Its id. Raises BackupError where the server has none of ours."""
        body, _ = self.ask("GET", f"/api/v2/orgs?org={ORGANISATION}")
        found: list[dict[str, Any]] = json.loads(body)["orgs"]
        return str(found[0]["id"])

    def buckets(self) -> list[dict[str, Any]]:
        """Descriptions of our organisation's buckets, shards included."""
        body, headers = self.ask("GET", "/api/v2/backup/metadata", Accept="multipart/mixed", Accept_Encoding="identity")
        head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
        for part in BytesParser(policy=HTTP).parsebytes(head + body).walk():
            if "buckets" in str(part.get("Content-Disposition", "")):
                found: list[dict[str, Any]] = json.loads(part.get_payload(decode=True))  # type: ignore[arg-type]
                return [each for each in found if each["organizationName"] == ORGANISATION]
        raise BackupError("the server's answer names no buckets; is it InfluxDB 2.1 or newer?")


def shards_of(bucket: dict[str, Any]) -> list[int]:
    """Ids of all shards that still exist."""
    return [
        int(shard["id"])
        for policy in bucket["retentionPolicies"]
        for group in policy["shardGroups"]
        if not group.get("deletedAt")
        for shard in group["shards"]
    ]


def back_up(root: Path, server: Server, at: datetime) -> Record:
    """Every bucket but the server's own (`_monitoring`, `_tasks`). Raises BackupError."""
    buckets = [each for each in server.buckets() if not each["bucketName"].startswith("_")]
    name = catalogue.name_of(at, BASE)
    folder = catalogue.new_folder(root, PART, name)
    shards = [shard for bucket in buckets for shard in shards_of(bucket)]
    for shard in shards:
        body, headers = server.ask("GET", f"/api/v2/backup/shards/{shard}", Accept_Encoding="gzip")
        suffix = "tar.gz" if headers.get("Content-Encoding") == "gzip" else "tar"
        (folder / f"shard-{shard}.{suffix}").write_bytes(body)
    (folder / BUCKETS).write_text(json.dumps(buckets, indent=1))
    facts = {"buckets": ", ".join(each["bucketName"] for each in buckets), "shards": str(len(shards))}
    return catalogue.seal(folder, Record(part=PART, name=name, kind=BASE, at=at, bytes=0, files={}, facts=facts))


def restore(root: Path, name: str | None, server: Server, *, replace: bool = False) -> Record:
    """Make the buckets of a backup with all their points. A bucket that is there is refused, or replaced if so asked.

    Raises BackupError.
    """
    record = catalogue.newest(catalogue.records(root, PART), PART, name)
    wrong = catalogue.check(root, record)
    if wrong:
        raise BackupError(f"{wrong[0]}; restore another one")
    folder, organisation = root / PART / record.name, server.organisation()
    wanted: list[dict[str, Any]] = json.loads((folder / BUCKETS).read_text())
    body, _ = server.ask("GET", f"/api/v2/buckets?orgID={organisation}&limit=100")
    there = {each["name"]: each["id"] for each in json.loads(body)["buckets"]}
    for bucket in wanted:
        taken = there.get(bucket["bucketName"])
        if taken is not None and not replace:
            raise BackupError(f"bucket {bucket['bucketName']} is there already; --replace drops it and all its points")
        if taken is not None:
            server.ask("DELETE", f"/api/v2/buckets/{taken}")
        manifest = json.dumps({**bucket, "organizationID": organisation}).encode()
        made, _ = server.ask("POST", "/api/v2/restore/bucketMetadata", manifest, Content_Type="application/json")
        for mapping in json.loads(made)["shardMappings"]:
            _send_shard(server, folder, mapping["oldId"], mapping["newId"])
    return record


def _send_shard(server: Server, folder: Path, old: int, new: int) -> None:
    packed, plain = folder / f"shard-{old}.tar.gz", folder / f"shard-{old}.tar"
    headers = {"Content_Type": "application/octet-stream"}
    if packed.exists():
        headers["Content_Encoding"] = "gzip"
        server.ask("POST", f"/api/v2/restore/shards/{new}", packed.read_bytes(), **headers)
    elif plain.exists():
        server.ask("POST", f"/api/v2/restore/shards/{new}", plain.read_bytes(), **headers)
