"""The settlement calendar: 15-minute epochs on the UTC quarter hour (domain §2).

Belongs here: epoch numbers, keys and bounds, and the tariff calendar of domain §6 (Bangkok time).
Does not belong here: the wall clock. No function here asks what time it is.
"""

from __future__ import annotations

from datetime import UTC, datetime

EPOCH_SECONDS = 900
EPOCH_US = EPOCH_SECONDS * 1_000_000
EPOCHS_PER_DAY = 96
KEY_FORMAT = "%Y-%m-%dT%H:%MZ"
BANGKOK_OFFSET_SECONDS = 7 * 3_600
ON_PEAK_FIRST_HOUR, ON_PEAK_END_HOUR = 9, 22


def epoch_of_us(time_us: int) -> int:
    """Number of the epoch that contains the instant (its start belongs to it, its end doesn't)."""
    return time_us // EPOCH_US


def start_us(epoch: int) -> int:
    """Start of the epoch in µs since 1970, UTC."""
    return epoch * EPOCH_US


def end_us(epoch: int) -> int:
    """End of the epoch, its gate, in µs since 1970, UTC."""
    return (epoch + 1) * EPOCH_US


def key_of(epoch: int) -> str:
    """Key of an epoch, which is also its Dagster partition key: '2026-01-27T12:00Z'."""
    return datetime.fromtimestamp(epoch * EPOCH_SECONDS, UTC).strftime(KEY_FORMAT)


def epoch_of_key(key: str) -> int:
    """Epoch of a key; raises ValueError with the remedy for anything not on the quarter hour."""
    try:
        seconds = int(datetime.strptime(key, KEY_FORMAT).replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise ValueError(f"epoch key was {key!r}, must look like 2026-01-27T12:00Z") from error
    if seconds % EPOCH_SECONDS:
        raise ValueError(f"epoch key was {key!r}, must lie on a quarter hour (minutes 00, 15, 30 or 45)")
    return seconds // EPOCH_SECONDS


def is_on_peak(epoch: int) -> bool:
    """Whether the on-peak retail tariff applies: weekdays 09:00–22:00 Bangkok time (domain §6)."""
    local_seconds = epoch * EPOCH_SECONDS + BANGKOK_OFFSET_SECONDS
    weekday = (local_seconds // 86_400 + 3) % 7  # 1970-01-01 was a Thursday; Monday is 0
    hour = local_seconds % 86_400 // 3_600
    return weekday < 5 and ON_PEAK_FIRST_HOUR <= hour < ON_PEAK_END_HOUR
