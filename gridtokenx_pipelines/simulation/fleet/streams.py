"""One random stream per meter, readable at any step: counter-based numbers instead of a generator's state.

Belongs here: keys by name and uniform numbers by (key, counter, channel). Does not belong here: what is drawn.
The mixing function is SplitMix64's finaliser (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014). As nothing is consumed, a meter's numbers are the same at any fleet order or size and any start.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Floats = NDArray[np.float64]

GOLDEN: Final = 0x9E3779B97F4A7C15
CHANNEL: Final = 0xD1342543DE82EF95
MASK: Final = (1 << 64) - 1


def key_of(seed: int, name: str) -> int:
    """The 64-bit key of a named stream."""
    return int.from_bytes(sha256(f"gridtokenx/stream/{seed}/{name}".encode()).digest()[:8], "little")


def keys_of(seed: int, names: Iterable[str]) -> Keys:
    """Keys of many streams, in the order of the names."""
    return np.array([key_of(seed, name) for name in names], np.uint64)


def uniform(keys: Keys, counter: int, channel: int = 0) -> Floats:
    """Numbers in [0, 1), one per key, for one counter (a step, a day: may be negative) and channel."""
    return (_mixed(keys, counter, channel) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def bits(keys: Keys, counter: int, channel: int = 0) -> Keys:
    """64 bits per key."""
    return _mixed(keys, counter, channel)


def uniform_at(keys: Keys, counters: range, channel: int = 0) -> Floats:
    """`uniform` for consecutive counters at once, shape (counters, keys)."""
    with np.errstate(over="ignore"):
        offsets = np.arange(counters.start, counters.stop).astype(np.uint64) * np.uint64(GOLDEN)
        offsets = offsets + np.uint64((channel + 1) * CHANNEL & MASK)
    mixed = _finished(keys[None, :] ^ _finished(offsets)[:, None])
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def smooth(keys: Keys, position: float, channel: int = 0) -> Floats:
    """Numbers in [0, 1) that move steadily: drawn at whole positions, interpolated between them."""
    knot = int(position // 1)
    share = position - knot
    return uniform(keys, knot, channel) * (1 - share) + uniform(keys, knot + 1, channel) * share


def _mixed(keys: Keys, counter: int, channel: int) -> Keys:
    offset = np.uint64((counter * GOLDEN + (channel + 1) * CHANNEL) & MASK)
    with np.errstate(over="ignore"):  # the arithmetic is modulo 2**64
        mixed = keys ^ _finished(offset)
        return _finished(mixed)


def _finished(value: Keys | np.uint64) -> Keys:
    with np.errstate(over="ignore"):
        value = value + np.uint64(GOLDEN)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return value ^ (value >> np.uint64(31))
