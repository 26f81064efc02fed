"""Asks slow things (broker, database) beside the work, so that neither a scrape nor a batch waits for them.

Belongs here: the thread and what it says of failures. Does not belong here: what is asked.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

LOG = logging.getLogger(__name__)


class Sampler:
    """Calls a function every so many seconds on a thread of its own; its failures are a health problem, no more."""

    def __init__(self, name: str, sample: Callable[[], None], seconds: float, patience_seconds: float = 60) -> None:
        self.name, self._sample, self._seconds, self._patience = name, sample, seconds, patience_seconds
        self._ended = threading.Event()
        self._good_at, self._problem = time.monotonic(), ""
        self._thread = threading.Thread(target=self._run, name=f"sampler-{name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                self._sample()
                self._good_at, self._problem = time.monotonic(), ""
            except Exception as error:  # whatever the asked one raises: the work goes on without this number
                if not self._problem:
                    LOG.warning("%s can't be asked: %s", self.name, error)
                self._problem = str(error)
            if self._ended.wait(self._seconds):
                return

    def health(self) -> str | None:
        """The problem's words if there has been no answer for longer than the patience."""
        silent = time.monotonic() - self._good_at
        return f"no answer for {silent:.0f} s: {self._problem}" if silent > self._patience else None

    def close(self) -> None:
        """End the thread; a call under way is not waited for."""
        self._ended.set()
