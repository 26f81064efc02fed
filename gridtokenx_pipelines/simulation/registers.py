"""What every meter's registers show at any instant of a run, in whole Wh that lose nothing.

Belongs here: profile power → cumulative energy → register. Does not belong here: which instants are reported (day.py).
Energy is summed in whole µWh from whole milliwatts and floored to Wh only when read, so differences telescope:
over any span the registers move by what was produced and consumed, to less than one Wh in total.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.epochs import EPOCH_US
from gridtokenx_pipelines.simulation.grids import UWH_PER_MILLIWATT_ROW, profile_row
from gridtokenx_pipelines.simulation.neighbourhood import Neighbourhood

UWH_PER_WH = 1_000_000


class Registers:
    """Registers of all meters (in order of `Neighbourhood.meters`) for the epochs of a run."""

    def __init__(self, neighbourhood: Neighbourhood, start_epoch: int, epochs: int) -> None:
        if epochs < 1:
            raise ValueError(f"epochs was {epochs}, must be at least 1")
        self.start_epoch, self.epochs = start_epoch, epochs
        grid, meters = neighbourhood.grid, neighbourhood.meters
        rows = [profile_row(start_epoch + index) for index in range(epochs)]
        load, pv, storage = grid.load_milliwatt[rows], grid.pv_milliwatt[rows], grid.storage_milliwatt[rows]
        # shape (epochs, meters), milliwatts
        self._consumed = np.stack([_summed(load, meter.load_columns) for meter in meters], axis=1)
        self._produced = np.stack(
            [_summed(pv, meter.pv_columns) + _summed(storage, meter.storage_columns) for meter in meters], axis=1
        )
        # shape (epochs + 1, meters), µWh at each boundary
        self._consumption = _cumulative(self._consumed, [meter.baseline_consumption_wh for meter in meters])
        self._production = _cumulative(self._produced, [meter.baseline_production_wh for meter in meters])

    def at(self, meter: int, time_us: int) -> tuple[int, int]:
        """(production_wh, consumption_wh) of the meter at a place, at any instant of the run, its end included."""
        index, offset_us = divmod(time_us - self.start_epoch * EPOCH_US, EPOCH_US)
        if index == self.epochs and not offset_us:
            index, offset_us = index - 1, EPOCH_US
        if not 0 <= index < self.epochs:
            raise ValueError(f"instant was {time_us} µs, must lie in the {self.epochs} epochs from {self.start_epoch}")
        return (
            _read(self._production, self._produced, index, meter, offset_us),
            _read(self._consumption, self._consumed, index, meter, offset_us),
        )

    def power_w(self, meter: int, epoch: int) -> tuple[float, float]:
        """(produced, consumed) power in W, constant over an epoch."""
        index = epoch - self.start_epoch
        return float(self._produced[index, meter]) / 1_000, float(self._consumed[index, meter]) / 1_000

    def net_wh(self, meter: int, epoch: int) -> int:
        """Produced minus consumed Wh of an epoch, from its registers at both boundaries."""
        start, end = (self.at(meter, boundary * EPOCH_US) for boundary in (epoch, epoch + 1))
        return (end[0] - start[0]) - (end[1] - start[1])


def _summed(power: NDArray[np.int32], columns: tuple[int, ...]) -> NDArray[np.int64]:
    return power[:, list(columns)].sum(axis=1, dtype=np.int64)


def _cumulative(power: NDArray[np.int64], baseline_wh: list[int]) -> NDArray[np.int64]:
    energy = np.vstack([np.array(baseline_wh, np.int64) * UWH_PER_WH, power * UWH_PER_MILLIWATT_ROW])
    return np.cumsum(energy, axis=0)


def _read(at_boundary: NDArray[np.int64], power: NDArray[np.int64], index: int, meter: int, offset_us: int) -> int:
    since = int(power[index, meter]) * UWH_PER_MILLIWATT_ROW * offset_us // EPOCH_US
    return (int(at_boundary[index, meter]) + since) // UWH_PER_WH
