"""What a network or a power flow can be refused for, one named error each.

Belongs here: the errors of the grid room. Does not belong here: deciding what happens then (the clearing service halts
an epoch, the simulator flags a reading).
"""

from __future__ import annotations


class NetworkError(ValueError):
    """A network that can't be computed; the text gives the element, its value, the bound and the remedy."""


class RatingError(NetworkError):
    """A rating of a line or transformer that is missing, zero or negative, or an impedance that makes no sense."""


class IslandWithoutSlackError(NetworkError):
    """Buses with loads or meters that no in-service external grid supplies."""


class UnsupportedNetworkError(NetworkError):
    """An element kind that the prepared power flow doesn't model."""


class UnknownBusError(NetworkError):
    """A meter on a bus that the network doesn't have, or that is out of service."""


class PowersError(ValueError):
    """Powers or taps of the wrong shape, or not finite."""


class NotConvergedError(RuntimeError):
    """Steps of a power flow that have no solution within the iteration limit; `steps` lists them."""

    def __init__(self, steps: list[int], total: int, iterations: int, backend: str) -> None:
        self.steps = steps
        shown = ", ".join(map(str, steps[:10])) + (" …" if len(steps) > 10 else "")
        super().__init__(
            f"power flow did not converge in {len(steps)} of {total} steps ({shown}) within {iterations} iterations "
            f"({backend}); lower the powers of these steps, or check impedances and taps of the network"
        )
