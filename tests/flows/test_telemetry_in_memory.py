"""The telemetry flow over lists: the conformance table gives through Bytewax what it gives through the functions."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from bytewax.dataflow import Dataflow
from bytewax.errors import BytewaxRuntimeError
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSource, run_main
from metering_cases import CASES, Case, expected, observed
from metering_world import EPOCH, NETWORK, PARTITIONS, Stream, gather, registry_of

from gridtokenx_pipelines.metering.outputs import Outputs
from gridtokenx_pipelines.metering.readings import Raw
from gridtokenx_pipelines.metering.registry import MeterRecord
from gridtokenx_pipelines.metering.verify import Verifier
from gridtokenx_pipelines.store.parquet import ParquetStore
from streaming.archive import Archive
from streaming.telemetry import Registry, Shard, build_flow, write_archive


def flow_over(items: list, gathered: list[Outputs], meters: tuple[MeterRecord, ...], **more: object) -> Dataflow:
    def gather_outputs(shards: list[Shard]) -> None:
        gathered.extend(shard.outputs for shard in shards)

    registry = Registry(registry_of(*meters), lambda: None)
    source = TestingSource(items, batch_size=2)
    return build_flow(source, PARTITIONS, Verifier(NETWORK), registry, {"gather": gather_outputs, **more})


def items_of(raws: list[Raw], size: int) -> list[tuple[str, list[Raw]]]:
    return [("0000", raws[start : start + size]) for start in range(0, len(raws), size)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_message_case_gives_the_same_through_the_flow(case: Case) -> None:
    stream, gathered = Stream(), []
    case.build(stream)
    run_main(flow_over(items_of(stream.raws, 2), gathered, case.meters))
    assert observed(gather(gathered)) == expected(case)


def test_a_crash_between_batches_gives_the_same_rows_from_the_recovered_state(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name.startswith("a late reading replaces an estimate"))
    stream, gathered = Stream(), []
    case.build(stream)
    items = items_of(stream.raws, 1)
    items.insert(4, TestingSource.ABORT())
    init_db_dir(tmp_path, 1)
    recovery = RecoveryConfig(str(tmp_path))
    for _ in range(2):  # each item is its own snapshot, the abort fires once
        run_main(flow_over(items, gathered, case.meters), epoch_interval=timedelta(0), recovery_config=recovery)
    by_key = {(row[0], row[3], row[4]): row for each in gathered for row in each.net_energy_rows}
    whole = gather(gathered)
    whole.net_energy_rows = list(by_key.values())
    assert observed(whole)["rows"] == case.rows
    assert {row[:6] for row in whole.correction_rows} == {
        ("MEA-001", "wallet of MEA-001", EPOCH + boundary, revision, production, consumption)
        for boundary, revision, production, consumption, _ in case.corrections
    }


def test_state_of_another_number_of_partitions_is_refused(tmp_path: Path) -> None:
    stream = Stream()
    stream.tick(0)
    init_db_dir(tmp_path, 1)
    run_main(flow_over([("0001", stream.raws)], [], ()), recovery_config=RecoveryConfig(str(tmp_path)))
    registry = Registry(registry_of(), lambda: None)
    stream.tick(5)
    items = [("0001", stream.raws[:1]), ("0001", stream.raws[1:])]
    wider = build_flow(TestingSource(items), 8, Verifier(NETWORK), registry, {"gather": lambda _: None})
    with pytest.raises(BytewaxRuntimeError) as caught:
        run_main(wider, recovery_config=RecoveryConfig(str(tmp_path)))
    causes = [str(error) for error in _chain(caught.value)]
    assert any("was of partition 1 of 4, must be 1 of 8" in cause for cause in causes), causes


def _chain(error: BaseException | None) -> list[BaseException]:
    chain = []
    while error is not None:
        chain.append(error)
        error = error.__cause__
    return chain


def test_the_archive_holds_each_epochs_records_whole_and_again_the_same_after_a_restart(tmp_path: Path) -> None:
    stream = Stream()
    for at in (0, 600, 930, 1_000, 1_830, 1_900):
        stream.tick(at)
        stream.read(11 + at, at, 1)
    stream.put(b"\xff", [])
    fetched = []

    def fetch(partition: int, first: int, last: int) -> list[Raw]:
        fetched.append((partition, first, last))
        return stream.raws[first : last + 1]

    store = ParquetStore(tmp_path)
    write = {"archive": lambda shards: write_archive(archive, shards)}
    archive = Archive(store, fetch)
    run_main(flow_over(items_of(stream.raws, 3), [], (), **write))
    frames = [store.read("archive", EPOCH + at, "partition-0") for at in (-1, 0, 1)]
    assert [frame["offset"].to_list() for frame in frames] == [[0, 1, 2], [3, 4], [5, 6, 7, 8]]
    assert frames[0].row(1, named=True) == {
        "partition": 0,
        "offset": 1,
        "broker_us": stream.raws[1].broker_us,
        "key": b"1",
        "value": stream.raws[1].value,
        "sig": stream.raws[1].header("sig"),
        "pub": stream.raws[1].header("pub"),
        "kind": None,
        "reason_code": None,
    }
    assert frames[0]["kind"].to_list() == [b"tick", None, b"tick"]
    assert fetched == []

    # a process that starts anew in the middle has the window's state, but not the records before
    archive = Archive(ParquetStore(tmp_path / "again"), fetch)
    outputs: list[Outputs] = []
    run_main(flow_over(items_of(stream.raws, 1), outputs, ()))
    messages = Verifier(NETWORK).messages(stream.raws)
    for message, output in list(zip(messages, outputs, strict=True))[6:]:
        archive.add(0, [message], output.closed, output.dead_letters)
    assert fetched == [(0, 5, 5)]
    for at, frame in enumerate(frames[2:], 1):
        assert ParquetStore(tmp_path / "again").read("archive", EPOCH + at, "partition-0").equals(frame)
