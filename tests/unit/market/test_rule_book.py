"""Rules with their changes by epoch: which hold when, over which wheeling, and what is refused by name."""

from __future__ import annotations

import msgspec
import pytest

from gridtokenx_pipelines.market.rule_book import Change, RuleBook
from gridtokenx_pipelines.market.rules import Link, Network, Rules, Zone

NETWORK = Network(
    zones=(Zone(zone_id=1, zone_wheeling_uthb_per_kwh=10), Zone(zone_id=2, zone_wheeling_uthb_per_kwh=20)),
    links=(Link(link_id=5, from_zone=1, to_zone=2, capacity_forward_wh=1, capacity_backward_wh=1),),
)
BOOK = RuleBook(
    fee_bp=50,
    changes=(
        Change(effective_epoch=100, fee_bp=70, zone_wheeling_uthb_per_kwh={2: 25}),
        Change(effective_epoch=200, tariff_on_peak_uthb_per_kwh=4_200_000, zone_wheeling_uthb_per_kwh=0),
        Change(effective_epoch=300, link_wheeling_uthb_per_kwh={5: 9}),
    ),
)


def test_a_change_holds_from_its_epoch_on_and_leaves_what_it_does_not_state() -> None:
    assert [BOOK.at(epoch) for epoch in (0, 99, 100, 199, 200, 300)] == [
        Rules(fee_bp=50),
        Rules(fee_bp=50),
        Rules(fee_bp=70, schedule_version=2),
        Rules(fee_bp=70, schedule_version=2),
        Rules(fee_bp=70, tariff_on_peak_uthb_per_kwh=4_200_000, schedule_version=3),
        Rules(fee_bp=70, tariff_on_peak_uthb_per_kwh=4_200_000, schedule_version=4),
    ]


def test_wheeling_changes_by_zone_and_link_or_for_all_of_them() -> None:
    def wheeling(epoch: int) -> tuple[list[int], int]:
        found = BOOK.network_at(epoch, NETWORK)
        return [zone.zone_wheeling_uthb_per_kwh for zone in found.zones], found.links[0].link_wheeling_uthb_per_kwh

    assert [wheeling(epoch) for epoch in (99, 100, 200, 300)] == [
        ([10, 20], 0),
        ([10, 25], 0),
        ([0, 0], 0),
        ([0, 0], 9),
    ]


def test_plain_rules_hold_in_every_epoch() -> None:
    rules = Rules(fee_bp=3)
    assert (rules.at(7), rules.network_at(7, NETWORK), rules.starts()) == (rules, NETWORK, (0,))


def test_a_file_without_changes_reads_as_the_rules_it_states() -> None:
    book = msgspec.json.decode(msgspec.json.encode(Rules(fee_bp=3)), type=RuleBook)
    assert (book.at(5), book.starts()) == (Rules(fee_bp=3), (0,))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"changes": [{"effective_epoch": 5}, {"effective_epoch": 5}]}', "effective_epoch of version 2 was 5"),
        ('{"changes": [{"effective_epoch": 5}, {"effective_epoch": 4}]}', "must be after 5"),
        ('{"changes": [{"effective_epoch": -1}]}', "effective_epoch of version 1 was -1"),
        ('{"changes": [{"effective_epoch": 5, "fee_bp": 5001}]}', "fee_bp of change 1 was 5001"),
        ('{"changes": [{"effective_epoch": 5, "fee": 1}]}', "unknown field `fee`"),
        ('{"changes": [{"effective_epoch": 5, "fee_bp": 1.5}]}', "Expected `int | null`, got `float`"),
        (
            '{"changes": [{"effective_epoch": 5, "price_min_uthb_per_kwh": 9000000}]}',
            "price_min_.* of change 1",
        ),
        (
            '{"changes": [{"effective_epoch": 5, "zone_wheeling_uthb_per_kwh": {"1": 1000001}}]}',
            "was 1000001",
        ),
        ('{"fee_bp": -1}', "fee_bp of rules was -1"),
    ],
)
def test_what_makes_no_rules_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=words):
        msgspec.json.decode(text.encode(), type=RuleBook)
