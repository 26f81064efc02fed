"""Why a simulation can't start, one named error each: the value, the bound, the remedy.

Belongs here: errors of fleets, profiles, weather, faults. Does not belong here: networks (grid/errors.py), what happens
in a run (a step without a solution is reported and flagged, it raises nothing).
"""

from __future__ import annotations


class SimulationError(ValueError):
    """A scenario that can't be simulated."""


class NetworkFileError(SimulationError):
    """A network file that is missing, no pandapower JSON, or holds no network."""


class NoSolutionError(SimulationError):
    """A network that has no power flow solution even with nothing connected."""


class FleetError(SimulationError):
    """A fleet file or mix that can't be read or names what doesn't exist."""


class DuplicateMeterError(FleetError):
    """Two meters with one id."""


class MeterRatingError(FleetError):
    """A meter whose rating, panel, battery or load is missing, negative or not finite."""


class FleetTooLargeError(FleetError):
    """More meters than the network has connection points."""


class ProfileError(SimulationError):
    """Profiles of load or weather that can't be read: a column, a value, an order."""


class ProfileGapError(ProfileError):
    """Profiles with missing instants or values, or that don't cover the run."""


class FaultError(SimulationError):
    """A fault that can't be injected: its kind, meters, time or size."""
