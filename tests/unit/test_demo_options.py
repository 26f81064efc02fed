"""What the demo refuses before anything starts, and whose folder it will empty."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from gridtokenx_pipelines.config import ConfigError, Settings
from gridtokenx_pipelines.demo.options import DemoOptions
from gridtokenx_pipelines.demo.surroundings import EMPTYING, STATE_FILE, claim
from gridtokenx_pipelines.stack import StackError


def options(folder: Path, **changes) -> DemoOptions:
    given = {
        "seed": 1,
        "grid": "1-LV-urban6--2-sw",
        "zones": 2,
        "start": "2026-02-01T00:00Z",
        "epochs": 4,
        "speed": 0.0,
        "chain": "localnet",
        "data_dir": folder,
        "rpc_port": None,
        "fresh": False,
        "as_json": False,
        "output": folder.parent / "demo.json",
    }
    return DemoOptions.checked(**given | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"grid": "1-MV-urban"}, "--grid was '1-MV-urban', must be a SimBench low-voltage grid"),
        ({"start": "yesterday"}, "must look like 2026-01-27T12:00Z"),
        ({"start": "2026-02-01T00:07Z"}, "must lie on a quarter hour"),
        ({"start": "2025-12-31T23:45Z"}, "must lie between 2026-01-01T00:00Z and the last ended quarter hour"),
        ({"start": "2099-01-01T00:00Z"}, "must lie between 2026-01-01T00:00Z and the last ended quarter hour"),
        ({"output": Path("/proc/nowhere/demo.json")}, "--output was '/proc/nowhere'"),
        ({"data_dir": Path(__file__) / "demo"}, "must be in a folder that can be made and written"),
    ],
)
def test_options_that_can_not_be_used_are_named_with_bound_and_remedy(tmp_path, changes, words):
    with pytest.raises(ConfigError) as refused:
        options(tmp_path / "demo", **changes)
    assert words in str(refused.value)


def test_a_port_in_use_is_named_before_anything_is_removed(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=f"port {port} for the local chain"):
            options(tmp_path, rpc_port=port, fresh=True)


@pytest.mark.parametrize("mechanism", ["pay_as_bid", "continuous", "dutch"])
def test_a_mechanism_that_the_chain_does_not_settle_is_refused(tmp_path, monkeypatch, mechanism):
    monkeypatch.setenv("GRIDTOKENX_MECHANISM", mechanism)
    with pytest.raises(ConfigError, match=f"was '{mechanism}', must be one of zonal, uniform"):
        options(tmp_path)
    env = {"DATABASE_URL": "postgresql://x", "KAFKA_BOOTSTRAP_SERVERS": "x:9092", "SOLANA_RPC_URL": "http://x"}
    with pytest.raises(ConfigError, match=mechanism):
        Settings.from_env(env | {"GRIDTOKENX_MECHANISM": mechanism})


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_that_no_demo_made_is_left_alone(tmp_path, fresh):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match=r"it holds thesis.tex, and no demo-state.json"):
        claim(options(tmp_path, fresh=fresh))
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_folder_is_claimed_kept_refused_to_another_demo_and_emptied_on_demand(tmp_path):
    first = options(tmp_path)
    claim(first)
    assert json.loads((tmp_path / STATE_FILE).read_text()) == first.fingerprint()
    for name in ("frames", "cache"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    claim(first)
    assert (tmp_path / "frames" / "file").exists()
    with pytest.raises(ConfigError, match=r"its seed, epochs differs.*add --fresh"):
        claim(options(tmp_path, seed=2, epochs=5))
    claim(options(tmp_path, seed=2, fresh=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", STATE_FILE]


def test_a_folder_whose_emptying_was_killed_is_emptied_to_the_end(tmp_path):
    (tmp_path / EMPTYING).touch()
    (tmp_path / "frames").mkdir()
    claim(options(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


def test_a_folder_whose_chain_was_played_with_other_programs_is_refused_by_name(tmp_path: Path) -> None:
    first = options(tmp_path)
    claim(first)
    state = tmp_path / STATE_FILE
    state.write_text(json.dumps(first.fingerprint() | {"programs": "0" * 16}))
    with pytest.raises(ConfigError, match=r"its programs differs.*--fresh"):
        claim(first)
