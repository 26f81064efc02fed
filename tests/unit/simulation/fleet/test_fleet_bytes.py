"""Same seed, same bytes: at any order or size of the fleet, at any start, in any process."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from hashlib import sha256

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx_pipelines.simulation.fleet.fleet import Fleet, assembled, fleet_of_templates
from gridtokenx_pipelines.simulation.fleet.networks import load_network
from gridtokenx_pipelines.simulation.fleet.scenario import Scenario, Sources
from gridtokenx_pipelines.simulation.fleet.streams import key_of, keys_of, uniform, uniform_at
from gridtokenx_pipelines.simulation.fleet.templates import DEFAULT_MIX
from tests.unit.simulation.fleet.fleet_world import metered, played

STREET = load_network("street")


def values(events, meters: int) -> list[tuple[bytes, tuple[tuple[str, bytes], ...]]]:
    ids = {f'"SIM-{number:06d}"'.encode() for number in range(1, meters + 1)}
    return [(event.value, event.headers) for event in events if any(each in event.value for each in ids)]


def test_two_simulators_of_one_seed_send_the_same_bytes_and_another_seed_others(street):
    scenario = {"step_seconds": 300, "block": 3}
    first, again = (played(street(**scenario), 12)[1] for _ in range(2))
    assert first == again
    assert played(street(**scenario, seed=2), 12)[1] != first


def test_the_same_bytes_come_out_of_another_process(street):
    program = (
        "from hashlib import sha256\n"
        "from gridtokenx_pipelines.simulation.fleet.engine import Simulator\n"
        "from gridtokenx_pipelines.simulation.fleet.scenario import Scenario\n"
        "s = Simulator(Scenario(network='street', fleet='templates', start=1781470800, partitions=2))\n"
        "print(sha256(b''.join(e.value for _ in range(8) for e in s.advance()[1])).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    simulator = street()
    mine = sha256(b"".join(event.value for _ in range(8) for event in simulator.advance()[1])).hexdigest()
    assert other.stdout.strip() == mine


def test_a_larger_fleet_leaves_the_bytes_of_the_first_neighbourhood_as_they_were(street):
    small, large = street(meters=40), street(meters=120)
    assert (small.fleet.copies, large.fleet.copies) == (1, 3)
    assert values(played(large, 8)[1], 40) == values(played(small, 8)[1], 40)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(0, 2**31), st.integers(0, 200), st.randoms(use_true_random=False))
def test_what_a_meter_draws_depends_on_neither_order_nor_size_of_the_fleet(
    size: int, seed: int, quarter: int, shuffle: random.Random
):
    full = fleet_of_templates(STREET, 40, seed, DEFAULT_MIX)
    members = list(full.members[:size])
    shuffle.shuffle(members)
    part = assembled(members, 1, seed)
    assert fleet_of_templates(STREET, size, seed, DEFAULT_MIX).members == part.members
    at = Scenario().start + 900 * quarter

    def power(fleet: Fleet) -> np.ndarray:
        return np.stack(Sources(Scenario(network="street", fleet="templates"), fleet, None).at(at))

    np.testing.assert_array_equal(power(part), power(full)[:, :size])


def test_numbers_of_a_stream_are_uniform_independent_and_the_same_alone_or_together():
    keys = keys_of(7, (f"m{number}" for number in range(2_000)))
    now, next_step, other = uniform(keys, 5), uniform(keys, 6), uniform(keys, 5, 1)
    assert np.histogram(now, 10, (0, 1))[0].min() > 150
    assert max(abs(np.corrcoef(now, each)[0, 1]) for each in (next_step, other)) < 0.06
    assert uniform(np.array([key_of(7, "m3")], np.uint64), 5)[0] == now[3]
    np.testing.assert_array_equal(uniform_at(keys, range(-2, 8))[7], now)


def test_the_pipeline_accepts_every_reading_of_an_honest_fleet_and_its_epochs_hold_the_energy(street):
    for options in (
        {"step_seconds": 60},
        {"step_seconds": 60, "block": 15},
        {"step_seconds": 900},
        {"step_seconds": 5},
    ):
        simulator = street(zones=2, meters=24, **options)
        before = [register.sum() for register in simulator.accounts.registers_wh()]
        steps = 1_800 // options["step_seconds"]
        _, events = played(simulator, steps)
        outputs = metered(simulator, events)
        counts = sum((output.counts for output in outputs), Counter())
        refused = {key: count for key, count in counts.items() if key[0] not in ("accepted",)}
        assert (counts["accepted", ""], refused) == (24 * steps // options.get("block", 1), {}), options
        after = [register.sum() for register in simulator.accounts.registers_wh()]
        energy = [output.net_energy().select("production_wh", "consumption_wh").sum() for output in outputs]
        assert [sum(frame.item(0, column) for frame in energy) for column in (0, 1)] == [
            int(end - start) for start, end in zip(before, after, strict=True)
        ], options
