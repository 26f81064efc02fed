"""Who is connected where: a fleet as columns, made of templates or of a fleet file.

Belongs here: ids, places, templates, ratings, checks of what a file says. Does not belong here: power (demand.py,
devices.py), SimBench's households (profiles.py). Rows ascend by meter id, whatever order they were given in, so that
sums of floats come out the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridtokenx_pipelines.metering.readings import MeterId
from gridtokenx_pipelines.metering.registry import MAX_ZONE
from gridtokenx_pipelines.simulation.fleet.errors import (
    DuplicateMeterError,
    FleetError,
    FleetTooLargeError,
    MeterRatingError,
)
from gridtokenx_pipelines.simulation.fleet.networks import ConnectedNetwork
from gridtokenx_pipelines.simulation.fleet.streams import Keys, key_of, keys_of, uniform
from gridtokenx_pipelines.simulation.fleet.templates import Template, checked, template_named

RATING_STEP_W = 100
CHOICE, ORIENTATION, SIZE = 900, 901, 902  # channels of a meter's stream at counter 0
AZIMUTHS, TILTS = (180.0, 135.0, 225.0, 90.0, 270.0), (10.0, 20.0)  # degrees; south twice as often as any other
ORIENTATIONS = tuple((tilt, azimuth) for azimuth in AZIMUTHS for tilt in TILTS)


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One meter: its template (any numbers overridden), bus, copy of the network, zone, panels' tilt and azimuth.

    `rating_w` 0: what the template can reach, by its own numbers.
    """

    meter_id: str
    template: Template
    bus: int
    copy: int = 0
    zone_id: int = 1
    tilt: float = 10.0
    azimuth: float = 180.0
    rating_w: int = 0
    profile: str = ""


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """Members ascending by id, and their streams. `copies`: equal networks side by side, each solved for itself."""

    members: tuple[Member, ...]
    copies: int
    seed: int
    keys: Keys

    def __len__(self) -> int:
        return len(self.members)

    def column(self, field: str) -> NDArray[np.float64]:
        """A number of the template, per member."""
        return np.array([getattr(member.template, field) for member in self.members], np.float64)

    def ratings_w(self, step_seconds: int) -> NDArray[np.int64]:
        """What is registered: a tenth less than this is never exceeded, whole Wh of a short step included."""
        margin = 3_600 / step_seconds  # one Wh of rounding in a step looks like so many W
        return np.array(
            [
                member.rating_w
                or math.ceil((member.template.highest_kw * 1_000 + margin) / RATING_STEP_W) * RATING_STEP_W
                for member in self.members
            ],
            np.int64,
        )


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    meter_id: MeterId
    template: str
    bus: int
    copy: int = 0
    zone_id: int = 0
    rating_w: float | None = None
    profile: str = ""
    tilt: float = TILTS[0]
    azimuth: float = AZIMUTHS[0]
    overrides: dict[str, float | str | tuple[float, ...]] = {}


class _FleetFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    meters: list[_Entry]


def assembled(members: Sequence[Member], copies: int, seed: int) -> Fleet:
    """A fleet of any order of members; raises DuplicateMeterError, MeterRatingError, FleetError."""
    if not members:
        raise FleetError("the fleet had no meter, must have at least one; raise the number or fill the file")
    seen: set[str] = set()
    for member in members:
        if member.meter_id in seen:
            raise DuplicateMeterError(f"meter {member.meter_id} came twice, every id must be unique; rename one")
        seen.add(member.meter_id)
        checked(member.template, f"meter {member.meter_id}")
        if not 0 <= member.copy < copies:
            raise FleetError(
                f"meter {member.meter_id}: copy was {member.copy}, must be 0 to {copies - 1}; raise --copies"
            )
    ordered = tuple(sorted(members, key=lambda member: member.meter_id))
    return Fleet(members=ordered, copies=copies, seed=seed, keys=keys_of(seed, (member.meter_id for member in ordered)))


def fleet_of_templates(
    network: ConnectedNetwork, meters: int, seed: int, mix: Mapping[str, int], *, copies: int = 0
) -> Fleet:
    """`meters` members by weights of a mix, at the network's points in an order drawn by the seed.

    `copies` 0: as many equal networks as the meters need. What a meter is and where it sits depends on its number and
    the seed alone. Raises FleetTooLargeError where the points don't suffice.
    """
    points = _shuffled(network.points, seed)
    if meters < 1:
        raise FleetError(f"meters was {meters}, must be at least 1; raise --meters")
    if not copies:
        copies = -(-meters // len(points))
    if meters > copies * len(points):
        raise FleetTooLargeError(
            f"the fleet had {meters} meters, {network.name} has {len(points)} connection points and {copies} copies of "
            f"it hold {copies * len(points)}; lower --meters or raise --copies to {-(-meters // len(points))}"
        )
    names = sorted(mix)
    bounds = np.cumsum([mix[name] for name in names]) / sum(mix.values())
    templates = [template_named(name) for name in names]
    ids = [f"SIM-{number:06d}" for number in range(1, meters + 1)]
    keys = keys_of(seed, ids)
    kinds = np.searchsorted(bounds, uniform(keys, 0, CHOICE), side="right").tolist()
    faces = (uniform(keys, 0, ORIENTATION) * (len(ORIENTATIONS) + len(TILTS))).astype(int) % len(ORIENTATIONS)
    return assembled(
        [
            Member(
                meter_id=meter_id,
                template=templates[kind],
                bus=points[place % len(points)],
                copy=place // len(points),
                zone_id=network.zone_of_bus[points[place % len(points)]],
                tilt=ORIENTATIONS[face][0],
                azimuth=ORIENTATIONS[face][1],
            )
            for place, (meter_id, kind, face) in enumerate(zip(ids, kinds, faces.tolist(), strict=True))
        ],
        copies,
        seed,
    )


def fleet_from_file(path: Path, network: ConnectedNetwork, seed: int, copies: int = 1) -> Fleet:
    """A fleet of `{"meters": [{"meter_id", "template", "bus", …}]}`, see docs/reference/simulation.md.

    Raises FleetError for what can't be read, DuplicateMeterError, MeterRatingError.
    """
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=_FleetFile).meters
    except OSError as error:
        raise FleetError(f"fleet file {path} could not be read ({error.strerror}); correct the path") from error
    except (msgspec.DecodeError, UnicodeError) as error:
        raise FleetError(f"fleet file {path}: {error}; correct the file") from error
    return assembled([_member(entry, network) for entry in entries], max(copies, 1), seed)


def _member(entry: _Entry, network: ConnectedNetwork) -> Member:
    who = f"meter {entry.meter_id}"
    try:
        template = msgspec.convert(
            msgspec.structs.asdict(template_named(entry.template)) | entry.overrides, Template, strict=True
        )
    except msgspec.ValidationError as error:
        raise FleetError(f"{who}: overrides: {error}; name numbers of the template") from error
    rating = entry.rating_w
    if rating is not None and (not math.isfinite(rating) or rating <= 0):
        raise MeterRatingError(f"{who}: rating_w was {rating}, must be above 0 and finite; correct or leave it out")
    if rating is not None and rating < template.highest_kw * 1_000:
        raise MeterRatingError(
            f"{who}: rating_w was {rating}, its template reaches {template.highest_kw * 1_000:.0f} W; raise the rating "
            "or lower the template's powers, else its honest readings would be refused"
        )
    if entry.bus not in network.zone_of_bus:
        raise FleetError(f"{who}: bus was {entry.bus}, must be a bus of {network.name}; correct it")
    zone = entry.zone_id or network.zone_of_bus[entry.bus]
    if not 1 <= zone <= MAX_ZONE:
        raise FleetError(f"{who}: zone_id was {zone}, must be 1 to {MAX_ZONE}; correct it")
    if not (0 <= entry.tilt <= 90 and 0 <= entry.azimuth <= 360):
        raise FleetError(f"{who}: tilt {entry.tilt} and azimuth {entry.azimuth}, must be 0–90 and 0–360°; correct them")
    return Member(
        meter_id=entry.meter_id,
        template=checked(template, who),
        bus=entry.bus,
        copy=entry.copy,
        zone_id=zone,
        tilt=entry.tilt,
        azimuth=entry.azimuth,
        rating_w=0 if rating is None else math.ceil(rating),
        profile=entry.profile,
    )


def _shuffled(points: tuple[int, ...], seed: int) -> list[int]:
    order = sorted(range(len(points)), key=lambda place: key_of(seed, f"point/{place}"))
    return [points[place] for place in order]
