"""The topics' settings on a real broker that the domain depends on."""

from __future__ import annotations

from gridtokenx_pipelines.messaging.topics import DAY_MS, TOPICS


def test_orders_carry_the_broker_s_time_and_everything_else_its_sender_s() -> None:
    kinds = {topic.name: topic.config(2)["message.timestamp.type"] for topic in TOPICS}
    assert {name for name, kind in kinds.items() if kind == "LogAppendTime"} == {"orders"}
    assert set(kinds.values()) == {"LogAppendTime", "CreateTime"}


def test_refused_readings_are_kept_as_long_as_readings_and_the_registry_for_good() -> None:
    kept = {topic.name: topic.config(2)["retention.ms"] for topic in TOPICS}
    assert kept["meter-readings"] == kept["meter-readings.rejected"] == str(15 * DAY_MS)
    assert kept["meter-registry"] == "-1"
