"""Which backups retention keeps, what a changed file is called, and what the sealing of keys gives away: nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtokenx_pipelines.backups import catalogue, files, keys
from gridtokenx_pipelines.backups.catalogue import BASE, INCREMENT, BackupError, Record

NOW = datetime(2026, 11, 22, 2, tzinfo=UTC)


def record(days: float, kind: str = BASE, parent: str = "", part: str = "postgres") -> Record:
    at = NOW - timedelta(days=days)
    return Record(part=part, name=catalogue.name_of(at, kind), kind=kind, at=at, bytes=1, files={}, parent=parent)


def test_a_base_stays_as_long_as_an_increment_builds_on_it_and_the_newest_of_a_part_for_ever() -> None:
    old, base = record(95), record(90.5)
    increment = record(89.9, INCREMENT, base.name)
    lonely = record(400, part="keys")
    found = [lonely, old, base, increment]
    assert catalogue.expired(found, NOW, 90) == [old]
    assert catalogue.expired(found, NOW, 365) == []
    assert catalogue.expired([lonely, record(2, part="keys")], NOW, 90) == [lonely]


@given(st.lists(st.tuples(st.floats(0, 200), st.booleans()), max_size=30), st.integers(1, 150))
def test_whatever_is_dropped_every_backup_that_stays_can_be_restored(ages: list[tuple[float, bool]], keep: int) -> None:
    found: list[Record] = []
    for age, whole in sorted(set(ages), reverse=True):
        kind = BASE if whole or not found else INCREMENT
        made = record(age, kind, "" if kind == BASE else found[-1].name)
        if made.name not in {each.name for each in found}:
            found.append(made)
    dropped = catalogue.expired(found, NOW, keep)
    stays = [each for each in found if each not in dropped]
    assert all(catalogue.chain_of(stays, each)[0].kind == BASE for each in stays)
    assert {each.name for each in found if each.at >= NOW - timedelta(days=keep)} <= {each.name for each in stays}


def test_a_half_made_backup_is_none_and_a_changed_one_is_named(tmp_path: Path) -> None:
    folder = catalogue.new_folder(tmp_path, "postgres", "20261122T020000Z-base")
    (folder / "base.tar.gz").write_bytes(b"half")
    assert catalogue.records(tmp_path) == []
    with pytest.raises(BackupError, match="there is no postgres backup; `gridtokenx backup list`"):
        catalogue.newest(catalogue.records(tmp_path), "postgres")
    made = catalogue.seal(folder, record(0))
    assert catalogue.records(tmp_path) == [made]
    assert catalogue.check(tmp_path, made) == []
    (folder / "base.tar.gz").write_bytes(b"other")
    assert catalogue.check(tmp_path, made) == [
        "postgres/20261122T020000Z-base: base.tar.gz was changed since it was backed up"
    ]
    with pytest.raises(BackupError, match="is there already; one a second"):
        catalogue.new_folder(tmp_path, "postgres", made.name)


def test_files_are_stored_once_come_back_as_they_were_and_are_dropped_with_the_last_list(tmp_path: Path) -> None:
    source, root, target = tmp_path / "data", tmp_path / "backups", tmp_path / "restored"
    (source / "frames" / "net").mkdir(parents=True)
    (source / "frames" / "net" / "a.parquet").write_bytes(b"one")
    (source / "frames" / "net" / "b.parquet").write_bytes(b"one")
    (source / "frames" / "net" / "c.parquet.1.tmp").write_bytes(b"being written")
    (source / "rules.json").write_bytes(b"{}")
    (source / "pg").mkdir()
    (source / "pg" / "not-asked-for").write_bytes(b"x")
    first = files.back_up(root, source, ("frames", "rules.json", "lacking"), NOW)
    assert (first.facts["files"], first.bytes) == (
        "3",
        5 + (root / "files" / first.name / "listing.json").stat().st_size,
    )
    (source / "frames" / "net" / "a.parquet").write_bytes(b"changed")
    second = files.back_up(root, source, ("frames", "rules.json"), NOW + timedelta(hours=1))
    assert second.facts["added"] == "7"
    assert files.restore(root, None, target) == (second, 3)
    restored = {path.name: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert restored == {"a.parquet": b"changed", "b.parquet": b"one", "rules.json": b"{}"}
    with pytest.raises(BackupError, match=r"a\.parquet is there with another content; restore into an empty folder"):
        files.restore(root, first.name, target)
    catalogue.drop(root, [second])
    assert files.sweep(root) == len(b"changed")
    (first_object,) = [path for path in (root / "files" / "objects").glob("*/*") if path.read_bytes() == b"one"]
    first_object.write_bytes(b"two")
    with pytest.raises(BackupError, match=r"the content of frames/net/a\.parquet is missing or changed"):
        files.restore(root, first.name, tmp_path / "again")


def test_sealed_keys_open_with_the_private_key_alone(tmp_path: Path) -> None:
    folder, root = tmp_path / "keys", tmp_path / "backups"
    folder.mkdir()
    (folder / "oracle-1.json").write_text("[1, 2, 3]")
    public = keys.new_pair(tmp_path / "private")
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600
    with pytest.raises(BackupError, match="is there already; a lost key loses every backup"):
        keys.new_pair(tmp_path / "private")
    made = keys.back_up(root, folder, keys.recipient_of(public), NOW)
    sealed = (root / "keys" / made.name / "keys.tar.sealed").read_bytes()
    assert b"[1, 2, 3]" not in sealed
    assert b"oracle-1.json" not in sealed
    record, count = keys.restore(root, None, tmp_path / "private", tmp_path / "opened")
    assert (record, count) == (made, 1)
    assert (tmp_path / "opened" / "oracle-1.json").read_text() == "[1, 2, 3]"
    assert (tmp_path / "opened" / "oracle-1.json").stat().st_mode & 0o777 == 0o600
    keys.new_pair(tmp_path / "stranger")
    with pytest.raises(BackupError, match=r"opens not .* which was sealed to"):
        keys.restore(root, None, tmp_path / "stranger", tmp_path / "stolen")
    with pytest.raises(BackupError, match="is not empty; give an empty folder: keys in use are never written over"):
        keys.restore(root, None, tmp_path / "private", tmp_path / "opened")
    with pytest.raises(BackupError, match="must be 32 bytes in base64"):
        keys.recipient_of("short")
