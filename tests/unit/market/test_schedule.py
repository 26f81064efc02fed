"""Rates with effective epochs: the one in force, what makes no schedule, and that no begun epoch ever changes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.market.schedule import Schedule, ScheduleError, Version, schedule_of
from tests.unit.market.books import link, network


def version(epoch: int, fee_bp: int = 0, **more) -> Version:
    return Version(effective_epoch=epoch, fee_bp=fee_bp, **more)


versions = st.lists(st.integers(0, 300), min_size=1, max_size=8, unique=True).map(
    lambda starts: [version(start, fee_bp=number) for number, start in enumerate(sorted(starts), 1)]
)


def test_rules_in_force_are_those_of_the_version_with_its_number():
    schedule = schedule_of(
        [
            version(10, 100, end_epoch=20, vat_bp=700),
            version(20, 150, vat_bp=1_000, tariff_on_peak_uthb_per_kwh=5_000_000, halt_bound_bp=4_000),
        ]
    )
    assert schedule.rules_at(19) == Rules(fee_bp=100, vat_bp=700, schedule_version=1)
    assert schedule.rules_at(20) == Rules(
        fee_bp=150, vat_bp=1_000, tariff_on_peak_uthb_per_kwh=5_000_000, halt_bound_bp=4_000, schedule_version=2
    )


def test_wheeling_in_force_is_laid_over_the_network_by_zone_and_link():
    net = network(1, 2, links=(link(1, (1, 2), 10, wheeling=3), link(2, (1, 2), 10, wheeling=4)))
    schedule = schedule_of(
        [
            version(0),
            version(5, zone_wheeling_uthb_per_kwh={2: 0}, link_wheeling_uthb_per_kwh={1: 9}),
            version(6, zone_wheeling_uthb_per_kwh=7, link_wheeling_uthb_per_kwh=8),
        ]
    )
    seen = [
        (
            [zone.zone_wheeling_uthb_per_kwh for zone in found.zones],
            [each.link_wheeling_uthb_per_kwh for each in found.links],
        )
        for found in (schedule.network_at(epoch, net) for epoch in (4, 5, 6))
    ]
    assert seen == [([1, 2], [3, 4]), ([1, 0], [9, 4]), ([7, 7], [8, 8])]


@pytest.mark.parametrize(
    ("made", "problem", "words"),
    [
        ([], "empty", "at least one"),
        ([version(-1)], "negative", "effective_epoch of version 1 was -1, must be 0 or more"),
        ([version(5), version(5)], "duplicate", "effective_epoch of version 2 was 5, must be used once"),
        ([version(5), version(4)], "descending", "effective_epoch of version 2 was 4, must be after 5"),
        ([version(5, end_epoch=7), version(8)], "gap", "end_epoch of version 1 was 7, must be 8"),
        ([version(5, end_epoch=9), version(8)], "overlap", "end_epoch of version 1 was 9, must be 8"),
        ([version(5, end_epoch=9)], "ended", "must be missing"),
    ],
)
def test_versions_that_make_no_schedule_are_named(made, problem, words):
    with pytest.raises(ScheduleError) as error:
        schedule_of(made)
    assert error.value.problem == problem
    assert words in str(error.value)


def test_an_epoch_before_the_first_version_has_no_rates():
    with pytest.raises(ScheduleError, match="1970-01-01T00:45Z") as error:
        schedule_of([version(4)]).rules_at(3)
    assert error.value.problem == "before"


@given(versions, st.integers(0, 400))
@settings(max_examples=200, deadline=None)
def test_the_version_in_force_is_the_last_that_took_effect(made, epoch):
    begun = [each for each in made if each.effective_epoch <= epoch]
    if begun:
        assert schedule_of(made).version_at(epoch) == begun[-1]
    else:
        with pytest.raises(ScheduleError):
            schedule_of(made).version_at(epoch)


def rules_through(schedule: Schedule, epochs: range) -> list[Rules | None]:
    first = schedule.versions[0].effective_epoch
    return [schedule.rules_at(epoch) if epoch >= first else None for epoch in epochs]


@given(versions, st.integers(0, 300), st.integers(0, 300))
@settings(max_examples=200, deadline=None)
def test_a_new_version_never_changes_an_epoch_that_has_begun(made, running, start):
    schedule, new = schedule_of(made), version(start, fee_bp=99)
    taken = start in {each.effective_epoch for each in made}
    if start <= running or taken:
        with pytest.raises(ScheduleError) as error:
            schedule.with_version(new, running)
        assert error.value.problem == ("begun" if start <= running else "duplicate")
        return
    changed = schedule.with_version(new, running)
    # before the first version of all there were no rates; what had rates keeps them, their number included
    assert rules_through(changed, range(running + 1)) == rules_through(schedule, range(running + 1))
    assert changed.version_at(start) == new
    later = [each.effective_epoch for each in made if each.effective_epoch > start]
    for epoch in later:
        assert changed.version_at(epoch) == schedule.version_at(epoch)


@given(versions, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_versions_out_of_order_are_refused_not_sorted(made, random):
    shuffled = list(made)
    random.shuffle(shuffled)
    if shuffled == made:
        assert schedule_of(shuffled).versions == tuple(made)
    else:
        with pytest.raises(ScheduleError) as error:
            schedule_of(shuffled)
        assert error.value.problem == "descending"
