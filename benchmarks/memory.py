"""A process's peak memory from a moment on, by Linux's own account.

Belongs here: reading /proc. Does not belong here: what is measured.
"""

from __future__ import annotations

import ctypes
import gc
import re
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def restart_peak() -> float:
    """Give back what is free, forget the peak so far; the present use in MiB."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else what drawing the book left free would hide what the work takes
    CLEAR.write_text("5")
    return _mebibytes("VmRSS")


def peak_mebibytes() -> float:
    """The highest use since then."""
    return _mebibytes("VmHWM")


def _mebibytes(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    if found is None:
        raise OSError(f"/proc/self/status had no {field}, must have it; measure memory on Linux")
    return int(found[1]) / 1_024
