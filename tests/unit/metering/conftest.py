"""This folder's helpers (metering_world.py, metering_cases.py) importable from its tests, run alone too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
