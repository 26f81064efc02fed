"""A client of the control API, for the commands that steer a running simulator.

Belongs here: requests and their errors in one line. Does not belong here: what they mean (api.py).
"""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

TIMEOUT_SECONDS = 60


class ApiError(RuntimeError):
    """The simulator can't be reached or refused; the text says which and why."""


def call(url: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """GET, or POST where a body is given. Raises ApiError."""
    if not url.startswith(("http://", "https://")):
        raise ApiError(f"url was {url!r}, must begin with http:// or https://; correct it")
    data = None if body is None else json.dumps(body).encode()
    request = Request(url.rstrip("/") + path, data, {"Content-Type": "application/json"})  # noqa: S310 - checked above
    try:
        with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            return json.load(answer)
    except HTTPError as error:
        text = error.read().decode(errors="replace")
        try:
            document = json.loads(text)
        except ValueError:
            document = {"detail": text[:500]}
        if error.code == 503 and "state" in document:
            return document
        raise ApiError(f"{path}: {document.get('error', error.code)}: {document.get('detail')}") from error
    except (URLError, TimeoutError, ConnectionError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ApiError(
            f"no simulator answered at {url} ({reason}); start it with `gridtokenx simulate serve`"
        ) from error
