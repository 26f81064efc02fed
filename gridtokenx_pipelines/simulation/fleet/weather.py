"""Sun, clouds and temperature over a site, and what a kW of panels gives for each orientation.

Belongs here: clear sky by pvlib, the cloud process, air temperature, a weather file instead. Does not belong here: how
many panels a meter has (devices.py).

Clear sky: Ineichen and Perez 2002, as in pvlib. Clouds: cover N by place and five minutes, the normal distribution of
an autoregressive process (45 min persistence) of which 70 % of the variance is the region's and 30 % the
neighbourhood's, around a cover of the day that carries over to the next; global irradiance falls to 1 − 0.75 N^3.4
(Kasten and Czeplak 1980) and is split by Erbs 1982. Panels: Hay and Davies 1980, Faiman 2008, PVWatts (Dobos 2014).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from gridtokenx_pipelines.simulation.fleet.errors import ProfileError
from gridtokenx_pipelines.simulation.fleet.streams import Keys, key_of, uniform_at
from gridtokenx_pipelines.simulation.fleet.tables import Table, read_table

Floats = NDArray[np.float64]

CELLS: Final = 32  # neighbourhoods with skies of their own; further ones share them
KNOT_SECONDS: Final = 300
PERSISTENCE_SECONDS: Final = 2_700.0
DAYS_REMEMBERED: Final = 8
MEMORY: Final = 36  # knots of the moving sum: what is older weighs under 2 %
REGIONAL: Final = 0.7
DAY: Final = 86_400
GAMMA_PDC: Final = -0.004  # per kelvin, crystalline silicon
EFFICIENCY: Final = 0.96


class Site(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the fleet is. `cloudiness` shifts the day's cover (0: half of all days above one half)."""

    latitude: float = 13.75
    longitude: float = 100.5
    altitude_m: float = 5.0
    utc_offset_hours: float = 7.0
    linke_turbidity: float = 4.0
    cloudiness: float = -0.3
    mean_celsius: float = 29.0
    daily_swing: float = 4.0
    yearly_swing: float = 2.5
    hottest_day: int = 110
    wind_m_s: float = 2.0


@dataclass(frozen=True)
class Sky:
    """One step: kW per kW of panels by (cell, orientation), and the air's temperature."""

    yield_kw: Floats
    celsius: float


class Weather:
    """Skies by step, made in chunks of absolute time, so that a run's start changes nothing."""

    def __init__(
        self,
        site: Site,
        seed: int,
        step_seconds: int,
        cells: int,
        *,
        faces: Sequence[tuple[float, float]],
        table: Table | None = None,
    ) -> None:
        """`faces`: (tilt, azimuth) in degrees of the panels there are, azimuth clockwise from north."""
        self._site, self._step, self._table, self._faces = site, step_seconds, table, tuple(faces)
        self._cells = 1 if table is not None else min(cells, CELLS)
        self._region = np.array([key_of(seed, "sky")], np.uint64)
        self._local = np.array([key_of(seed, f"sky/{cell}") for cell in range(self._cells)], np.uint64)
        self._chunk_seconds = DAY if step_seconds >= KNOT_SECONDS else 3_600
        self._chunk: tuple[int, Floats, Floats] | None = None

    def cell_of(self, copy: NDArray[np.int64]) -> NDArray[np.int64]:
        """Cell of the sky above a copy of the network."""
        cells: NDArray[np.int64] = copy % self._cells
        return cells

    def at(self, step_start: int) -> Sky:
        """The sky in the middle of the step that starts at a second since 1970, a multiple of the step's length."""
        number = step_start // self._chunk_seconds
        if self._chunk is None or self._chunk[0] != number:
            self._chunk = (number, *self._made(number * self._chunk_seconds))
        place = (step_start - number * self._chunk_seconds) // self._step
        return Sky(self._chunk[1][place], float(self._chunk[2][place]))

    def cover(self, seconds: Floats) -> Floats:
        """Cloud cover 0 … 1 at ascending instants, shape (instants, cells)."""
        knots = np.floor(seconds / KNOT_SECONDS).astype(np.int64)
        share = (seconds / KNOT_SECONDS % 1)[:, None]
        decay = math.exp(-KNOT_SECONDS / PERSISTENCE_SECONDS)
        span = range(int(knots[0]), int(knots[-1]) + 2)
        process = math.sqrt(REGIONAL) * _moving(self._region, span, decay, MEMORY, channel=5)
        process = process + math.sqrt(1 - REGIONAL) * _moving(self._local, span, decay, MEMORY, channel=6)
        now = process[knots - span[0]] * (1 - share) + process[knots - span[0] + 1] * share
        cover: Floats = ndtr(0.9 * now + 0.9 * self._daily(seconds, 0.5, channel=7)[:, None] + self._site.cloudiness)
        return cover

    def _daily(self, seconds: Floats, decay: float, channel: int) -> Floats:
        """A process that changes at local midnight, at ascending instants."""
        days = np.floor((seconds + self._site.utc_offset_hours * 3_600) / DAY).astype(np.int64)
        span = range(int(days[0]), int(days[-1]) + 1)
        return _moving(self._region, span, decay, DAYS_REMEMBERED, channel)[days - span[0], 0]

    def _made(self, start: int) -> tuple[Floats, Floats]:
        import pandas as pd  # noqa: PLC0415 - only pvlib's door wants it
        import pvlib  # noqa: PLC0415 - a second of import

        site = self._site
        seconds = start + self._step / 2 + self._step * np.arange(self._chunk_seconds // self._step, dtype=np.float64)
        times = pd.DatetimeIndex(pd.to_datetime((seconds * 1e9).astype(np.int64), utc=True))
        sun = pvlib.solarposition.get_solarposition(times, site.latitude, site.longitude, site.altitude_m)
        zenith, azimuth = (sun[name].to_numpy()[:, None] for name in ("apparent_zenith", "azimuth"))
        extra = np.asarray(pvlib.irradiance.get_extra_radiation(times))[:, None]
        direct = diffuse = None
        if self._table is None:
            celsius, wind = self._celsius(seconds), np.full(len(seconds), site.wind_m_s)
            pressure = pvlib.atmosphere.alt2pres(site.altitude_m)
            airmass = pvlib.atmosphere.get_absolute_airmass(
                pvlib.atmosphere.get_relative_airmass(np.minimum(zenith, 89.9)), pressure
            )
            with np.errstate(divide="ignore", invalid="ignore"):  # the sun below the horizon
                clear = pvlib.clearsky.ineichen(zenith, airmass, site.linke_turbidity, site.altitude_m, extra)
            total = np.nan_to_num(clear["ghi"]) * (1 - 0.75 * self.cover(seconds) ** 3.4)
        else:
            total = self._table.at("ghi", seconds)[:, None]
            celsius = self._table.at("temp_air", seconds)
            wind = self._table.at("wind_speed", seconds, site.wind_m_s)
            if self._table.has("dni") and self._table.has("dhi"):
                direct, diffuse = (self._table.at(name, seconds)[:, None] for name in ("dni", "dhi"))
        if direct is None or diffuse is None:
            parts = pvlib.irradiance.erbs(
                total, np.broadcast_to(zenith, total.shape), times.dayofyear.to_numpy()[:, None]
            )
            direct, diffuse = np.nan_to_num(parts["dni"]), np.nan_to_num(parts["dhi"])
        table = np.zeros((len(seconds), total.shape[1], len(self._faces)))
        for place, (tilt, face) in enumerate(self._faces):
            plane = pvlib.irradiance.get_total_irradiance(
                tilt, face, zenith, azimuth, direct, total, diffuse, dni_extra=extra, model="haydavies"
            )
            received = np.nan_to_num(np.asarray(plane["poa_global"]))
            cell_celsius = pvlib.temperature.faiman(received, celsius[:, None], wind[:, None])
            dc = pvlib.pvsystem.pvwatts_dc(received, cell_celsius, 1.0, GAMMA_PDC)
            table[:, :, place] = pvlib.inverter.pvwatts(np.maximum(dc, 1e-9), 1 / EFFICIENCY, EFFICIENCY)
        return np.where(table > 1e-6, table, 0.0), celsius

    def _celsius(self, seconds: Floats) -> Floats:
        site = self._site
        day = (seconds + site.utc_offset_hours * 3_600) / DAY
        noise = self._daily(seconds, 0.6, channel=8)
        yearly = site.yearly_swing * np.cos(2 * np.pi * (day % 365.2425 - site.hottest_day) / 365.2425)
        daily = site.daily_swing * np.cos(2 * np.pi * (day % 1 - 15 / 24))  # warmest at three in the afternoon
        celsius: Floats = site.mean_celsius + yearly + daily + 1.2 * noise
        return celsius


def weather_table(path: Path) -> Table:
    """A CSV with `time` (ISO 8601, UTC or with offset), `ghi` W/m², `temp_air` °C and maybe dni, dhi, wind_speed.

    Raises ProfileGapError for missing instants or values, ProfileError for anything else.
    """
    table = read_table(path, needed=("ghi", "temp_air"), known=("ghi", "temp_air", "dni", "dhi", "wind_speed"))
    for name in ("ghi", "dni", "dhi"):
        if table.has(name) and table.column(name).min() < 0:
            raise ProfileError(f"{path}: {name} was {table.column(name).min()}, must be 0 or more W/m²; correct it")
    return table


def _moving(keys: Keys, counters: range, decay: float, memory: int, channel: int) -> Floats:
    """A normal process with the autocorrelation decay^lag, as sums of past draws: readable anywhere, holds no state.

    Shape (counters, keys).
    """
    weights = decay ** np.arange(memory)[::-1]
    drawn = uniform_at(keys, range(counters.start - memory + 1, counters.stop), channel)
    windows = np.lib.stride_tricks.sliding_window_view(ndtri(drawn * (1 - 2e-9) + 1e-9), memory, axis=0)
    process: Floats = (windows * weights).sum(axis=-1) / math.sqrt(float(weights @ weights))
    return process
