"""The archive as its readers see it: what a flow wrote is found by meter, replayed, compacted, verified, not forged."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from metering_world import EPOCH, START_US, Stream, document, meter_record, registry_of, run

from gridtokenx_pipelines.cli import cli
from gridtokenx_pipelines.metering.outputs import Outputs
from gridtokenx_pipelines.metering.readings import Raw
from gridtokenx_pipelines.metering.state import ShardState
from gridtokenx_pipelines.metering.verify import Verifier
from gridtokenx_pipelines.metering.window import step
from gridtokenx_pipelines.store.archive import SignedArchive, raws_of
from gridtokenx_pipelines.store.energy import save_corrections, save_net_energy
from gridtokenx_pipelines.store.parquet import ParquetStore
from gridtokenx_pipelines.store.postgres import engine
from streaming.archive import Archive

REGISTRY = registry_of(meter_record(), meter_record("MEA-005", zone_id=5))
SPAN = ["--from", "2026-01-27T11:00Z", "--to", "2026-01-27T14:00Z"]


def written(folder: Path) -> tuple[Stream, Outputs]:
    """Two meters' hour, archived batch by batch: a duplicate, a replay, garbage, a late reading that corrects."""
    stream, state, verifier = Stream(), ShardState(0, 4), Verifier(3)
    stream.tick(0)
    for quarter in range(4):
        end = quarter * 900 + 880
        stream.tick(end)
        raw = stream.read(11 + 2 * quarter, end, 100 * (quarter + 1), 10 * quarter)
        if quarter == 1:
            stream.again(raw)
            stream.read(13, end, 1, 1)
            stream.signed(b"\xff", "MEA-001")
        if quarter == 2:
            stream.read(14, end - 882, 205, 12)  # late: at the boundary before
        stream.block(
            document(20 + quarter * 2, end - 10, 7 * quarter, quarter, meter_id="MEA-005", zone_id=5),
            document(21 + quarter * 2, end, 7 * quarter, quarter + 1, meter_id="MEA-005", zone_id=5),
            meter_id="MEA-005",
            zone_id=5,
        )
        stream.tick(end + 50)
    archive = Archive(ParquetStore(folder), lambda *_: [], registered=REGISTRY.messages)
    for start in range(0, len(stream.raws), 3):
        batch = verifier.messages(stream.raws[start : start + 3])
        state, outputs = step(state, batch, REGISTRY)
        archive.add(0, batch, outputs.closed, outputs.dead_letters)
    verifier.close()
    return stream, run(stream.raws, REGISTRY)[1]


def verify(folder: Path, *more: str) -> tuple[int, dict]:
    command = ["readings", "verify", "--meter", "MEA-001", *SPAN, "--data-dir", str(folder), "--json", *more]
    done = CliRunner().invoke(cli, command, env={"DATABASE_URL": ""})
    return done.exit_code, json.loads(done.stdout)


def tampered(folder: Path, change) -> None:
    """Rewrite the file that holds the meter's second quarter."""
    path = next(folder.glob("archive/*/epoch=20260127T1215Z/partition-0.parquet"))
    change(pl.read_parquet(path, hive_partitioning=False)).write_parquet(path)


def test_the_archive_replays_in_offset_order_to_the_same_outputs(tmp_path: Path) -> None:
    stream, outputs = written(tmp_path)
    archive = SignedArchive(tmp_path)
    assert archive.partitions() == [0]
    assert archive.epochs(0) == [EPOCH - 1, EPOCH, EPOCH + 1, EPOCH + 2, EPOCH + 3]
    raws = [raw for frame in archive.replay(0, EPOCH - 1, EPOCH + 3) for raw in raws_of(frame)]
    assert raws == [Raw(r.offset, r.broker_us, r.value, r.headers, r.key) for r in stream.raws]
    _, again = run(raws, archive.registry())
    assert again.net_energy_rows == outputs.net_energy_rows and again.correction_rows == outputs.correction_rows
    refused = {letter.raw.offset: letter.reason.value for letter in outputs.dead_letters}
    codes = pl.concat(archive.replay(0, EPOCH - 1, EPOCH + 3)).drop_nulls("reason_code")
    assert dict(codes.select("offset", "reason_code").iter_rows()) == refused and len(refused) == 2


def test_a_meters_records_are_found_by_the_index_before_and_after_compaction(tmp_path: Path) -> None:
    stream, _ = written(tmp_path)
    mine = [raw.offset for raw in stream.raws if b'"MEA-001"' in raw.value]
    archive = SignedArchive(tmp_path)
    assert archive.of_meter("MEA-001", EPOCH - 1, EPOCH + 9)["offset"].to_list() == mine
    whole = pl.concat(archive.replay(0, EPOCH - 1, EPOCH + 3))
    assert archive.compact("2026-01-27") == 5
    assert len(list(tmp_path.glob("archive/*/*/*.parquet"))) == 2
    compacted = SignedArchive(tmp_path)
    assert compacted.of_meter("MEA-001", EPOCH - 1, EPOCH + 9)["offset"].to_list() == mine
    assert pl.concat(compacted.replay(0, EPOCH - 1, EPOCH + 3)).equals(whole)
    # written again by a flow that replays, then compacted again: the same
    written(tmp_path)
    assert pl.concat(compacted.replay(0, EPOCH - 1, EPOCH + 3)).equals(whole)
    compacted.compact("2026-01-27")
    assert pl.concat(compacted.replay(0, EPOCH - 1, EPOCH + 3)).equals(whole)
    assert compacted.of_meter("MEA-001", EPOCH - 1, EPOCH + 9)["offset"].to_list() == mine


def test_untouched_readings_are_verified_and_the_proof_says_what_was_measured(tmp_path: Path) -> None:
    written(tmp_path)
    code, found = verify(tmp_path)
    assert code == 0, found
    assert found["verified"] and found["findings"] == []
    assert (found["records"], found["readings"], found["duplicates"], found["refused"]) == (7, 5, 1, {"replay": 1})
    assert (found["first"]["seq"], found["last"]["seq"]) == (11, 17)
    assert (found["production_wh"], found["consumption_wh"]) == (300, 30)
    assert found["boundaries"] == 4


def test_the_settled_registers_are_compared_with_the_proven_ones(tmp_path: Path, new_database) -> None:
    _, outputs = written(tmp_path)
    url = new_database()
    database = engine(url)
    with database.begin() as connection:
        save_net_energy(connection, outputs.net_energy())
        save_corrections(connection, outputs.corrections())
    assert len(outputs.correction_rows) == 1
    code, found = verify(tmp_path, "--database-url", url)
    assert (code, found["boundaries_compared"], found["findings"]) == (0, 4, [])
    with database.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE net_energy SET production_end_wh = production_end_wh + 1 WHERE epoch = %s AND meter_id = 'MEA-001'",
            (EPOCH + 3,),
        )
    database.dispose()
    code, found = verify(tmp_path, "--database-url", url)
    assert (code, [each["kind"] for each in found["findings"]]) == (1, ["settled_otherwise"])


def test_changed_bytes_are_found(tmp_path: Path) -> None:
    written(tmp_path)

    def more_energy(frame: pl.DataFrame) -> pl.DataFrame:
        values = [value.replace(b'"production_wh": 1200', b'"production_wh": 1300') for value in frame["value"]]
        return frame.with_columns(pl.Series("value", values, pl.Binary))

    tampered(tmp_path, more_energy)
    code, found = verify(tmp_path)
    assert code == 1 and not found["verified"]
    assert {each["kind"] for each in found["findings"]} == {"bad_signature"}


@pytest.mark.parametrize("what", ["taken out", "called refused"])
def test_a_record_taken_out_or_called_refused_is_found(tmp_path: Path, what: str) -> None:
    written(tmp_path)
    genuine = pl.col("value").bin.contains(b'"seq": 13') & pl.col("reason_code").is_null()
    code_of_bad_signature = pl.when(genuine).then(5).otherwise(pl.col("reason_code")).alias("reason_code")
    tampered(
        tmp_path,
        lambda frame: frame.filter(~genuine) if what == "taken out" else frame.with_columns(code_of_bad_signature),
    )
    code, found = verify(tmp_path)
    kinds = {each["kind"] for each in found["findings"]}
    assert code == 1 and kinds == {"missing_offsets" if what == "taken out" else "refused_without_cause"}


def test_a_forged_chain_of_validly_signed_readings_is_found(tmp_path: Path) -> None:
    written(tmp_path)
    forged = Stream()
    forged.read(13, 1_780, 999_999, 10)  # the meter's key itself signs what its neighbours contradict

    def swap(frame: pl.DataFrame) -> pl.DataFrame:
        at = next(index for index, value in enumerate(frame["value"]) if b'"seq": 13' in value)
        rows = frame.to_dicts()
        rows[at] |= {"value": forged.raws[0].value, "sig": forged.raws[0].header("sig")}
        # its duplicate is now one of other bytes
        return pl.DataFrame(rows, schema=frame.schema)

    tampered(tmp_path, swap)
    code, found = verify(tmp_path)
    assert code == 1
    assert {each["kind"] for each in found["findings"]} == {"over_rating", "register_ran_back", "replay"}


def test_words_for_people_and_exit_code_2_for_what_cant_be_asked(tmp_path: Path) -> None:
    written(tmp_path)
    verify_command = ["readings", "verify", *SPAN]
    done = CliRunner().invoke(
        cli, [*verify_command, "--meter", "MEA-001", "--data-dir", str(tmp_path)], env={"DATABASE_URL": ""}
    )
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "verified")
    assert "production 1100 → 1400 Wh (+300)" in done.stdout
    for options, words in (
        (["--meter", "MEA-404", "--data-dir", str(tmp_path)], "'MEA-404' is not in the archive's registry"),
        (["--meter", "MEA-001", "--data-dir", str(tmp_path / "no")], "registry.jsonl is not there"),
    ):
        done = CliRunner().invoke(cli, [*verify_command, *options], env={"DATABASE_URL": ""})
        assert done.exit_code == 2 and words in done.output, done.output
    wrong = ["readings", "verify", "--meter", "MEA-001", "--from", "yesterday", "--to", "2026-01-28"]
    assert CliRunner().invoke(cli, wrong).exit_code == 2


def test_compacting_by_command_leaves_the_newest_day(tmp_path: Path) -> None:
    written(tmp_path)
    store = ParquetStore(tmp_path)
    last = store.read("archive", EPOCH + 3, "partition-0")
    store.write("archive", EPOCH + 96, "partition-0", last)
    store.write("archive", EPOCH + 96, "index-0", store.read("archive", EPOCH + 3, "index-0"))
    done = CliRunner().invoke(cli, ["readings", "compact", "--data-dir", str(tmp_path)])
    assert (done.exit_code, done.stdout) == (0, "2026-01-27: 5 files into 1\n")
    assert SignedArchive(tmp_path).epochs(0)[-1] == EPOCH + 96
    assert CliRunner().invoke(cli, ["readings", "compact", "2026-02-30", "--data-dir", str(tmp_path)]).exit_code == 2
    assert START_US // 900_000_000 == EPOCH
