"""Partitions: one per epoch (settlement), on the UTC quarter hour; keys are `epochs.key_of`.

Belongs here: the partition definitions and epoch numbers ↔ Dagster's keys. Does not belong here: assets.
"""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg

from gridtokenx_pipelines.epochs import KEY_FORMAT, epoch_of_key, key_of

# the first epoch of the network; Dagster advises at most 100 000 partitions, 2.85 years of quarter hours, from here
FIRST_EPOCH_KEY = "2026-01-01T00:00Z"
EPOCHS = dg.TimeWindowPartitionsDefinition(
    cron_schedule="*/15 * * * *", start=FIRST_EPOCH_KEY, fmt=KEY_FORMAT, timezone="UTC"
)
DAYS = dg.DailyPartitionsDefinition(start_date=FIRST_EPOCH_KEY[:10], timezone="UTC")
EPOCHS_PER_DAY = 96
# metadata names by which a check of a range says what it found: lists of [first, last] keys, both ends included
PASSED, FAILED = "passed_partitions", "failed_partitions"


def epochs_of(keys: Iterable[str]) -> list[int]:
    """Epoch numbers of partition keys, ascending. Raises ValueError for a key off the quarter hour.

    Dagster itself silently takes `…T10:07Z` for the window after it.
    """
    return sorted(map(epoch_of_key, keys))


def epochs_of_day(day: str) -> range:
    """The 96 epochs of a UTC day, `YYYY-MM-DD`."""
    first = epoch_of_key(f"{day}T00:00Z")
    return range(first, first + EPOCHS_PER_DAY)


def range_tags(first_epoch: int, last_epoch: int) -> dict[str, str]:
    """Run tags that make one run of a range of epochs, both ends included."""
    if last_epoch < first_epoch:
        raise ValueError(f"last epoch was {key_of(last_epoch)}, must not lie before the first, {key_of(first_epoch)}")
    for epoch in (first_epoch, last_epoch):
        if not EPOCHS.has_partition_key(key_of(epoch)):
            raise ValueError(
                f"epoch was {key_of(epoch)}, must lie between {FIRST_EPOCH_KEY} and the last ended quarter hour; "
                "start the demo at an earlier --start, or wait until the epoch has ended"
            )
    return {
        "dagster/asset_partition_range_start": key_of(first_epoch),
        "dagster/asset_partition_range_end": key_of(last_epoch),
    }
