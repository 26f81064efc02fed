"""`gridtokenx grid` on people's files: a case from a pandapower network, and refusals that name what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gridtokenx_pipelines.cli import cli
from gridtokenx_pipelines.config import ConfigError
from gridtokenx_pipelines.grid.case import TAN_PHI, load
from tests.unit.grid.small import pandapower_net

pp = pytest.importorskip("pandapower")

METERS = """meter_id,bus,zone_id,rating_w,produces,storage_wh,storage_w,priority
MEA-001,2,1,5000,true,4000,2000,
MEA-002,3,1,5000,false,,,2
MEA-003,5,2,5000,no,,,
"""


def with_cos_phi(words: str) -> str:
    """The meters with a power factor of the second one."""
    head, *lines = METERS.splitlines()
    return "\n".join(
        [f"{head},cos_phi", *(f"{line},{words if number == 1 else ''}" for number, line in enumerate(lines))]
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pp.to_json(pandapower_net(), str(tmp_path / "network.json"))
    (tmp_path / "meters.csv").write_text(METERS)
    (tmp_path / "buses.csv").write_text("bus,zone_id\n4,2\n")
    return tmp_path


def prepare(folder: Path, *more: str) -> Result:
    arguments = ["grid", "prepare", str(folder / "network.json"), "--meters", str(folder / "meters.csv"), *more]
    return CliRunner().invoke(cli, [*arguments, "--output", str(folder / "grid.npz")])


def test_a_case_is_made_of_a_network_and_its_meters(folder: Path) -> None:
    done = prepare(folder, "--buses", str(folder / "buses.csv"))
    assert done.exit_code == 0, done.output
    case = load(folder / "grid.npz")
    assert "6 buses, 4 lines, 1 transformers, 3 meters in 2 zones" in done.output
    assert case.bus_zone.tolist() == [0, 0, 1, 1, 2, 2]
    assert case.meter_storage_wh.tolist() == [4_000, 0, 0]
    assert case.meter_priority.tolist() == [1, 2, 1]
    assert case.meter_produces.tolist() == [True, False, False]


def test_a_meter_draws_at_its_own_power_factor_and_at_the_default_where_none_is_given(folder: Path) -> None:
    (folder / "meters.csv").write_text(with_cos_phi("0.8"))
    assert prepare(folder).exit_code == 0
    assert load(folder / "grid.npz").meter_tan_phi.tolist() == pytest.approx([TAN_PHI, 0.75, TAN_PHI])


@pytest.mark.parametrize(
    ("meters", "words"),
    [
        (METERS.replace("MEA-001,2,", "MEA-001,77,"), "meter bus was 77, must be a bus of the network"),
        (METERS.replace("MEA-002", "MEA-001"), "meter MEA-001 was placed twice"),
    ],
)
def test_meters_that_cannot_be_placed_are_refused_by_name(folder: Path, meters: str, words: str) -> None:
    (folder / "meters.csv").write_text(meters)
    done = prepare(folder)
    assert done.exit_code == 1
    assert words in done.output
    assert not (folder / "grid.npz").exists()


@pytest.mark.parametrize(
    ("meters", "words"),
    [
        (METERS.replace("MEA-003,5,2,5000,no", "MEA-003,five,2,5000,no"), "bus in line 4 .* was 'five'"),
        (METERS.replace("MEA-003,5,2,5000,no", "MEA-003,5,2,-5,no"), "rating_w in line 4 .* was '-5'"),
        (METERS.replace("5000,true", "5000,perhaps"), "produces in line 2 .* was 'perhaps'"),
        (with_cos_phi("1.2"), "cos_phi in line 3 .* was '1.2', must be a power factor from 0.1 to 1"),
        (with_cos_phi("nan"), "cos_phi in line 3 .* was 'nan'"),
        (with_cos_phi("lag"), "cos_phi in line 3 .* was 'lag'"),
    ],
)
def test_a_line_that_says_no_number_is_refused_with_its_place(folder: Path, meters: str, words: str) -> None:
    (folder / "meters.csv").write_text(meters)
    done = prepare(folder)
    assert isinstance(done.exception, ConfigError)
    with pytest.raises(ConfigError, match=words):
        raise done.exception


def test_a_network_with_a_missing_rating_or_an_island_is_refused(folder: Path) -> None:
    net = pandapower_net()
    net.line.loc[1, "max_i_ka"] = float("nan")
    pp.to_json(net, str(folder / "network.json"))
    done = prepare(folder)
    assert done.exit_code == 1
    assert "line 1 (tail 1): max_i_ka was nan" in done.output
    net = pandapower_net()
    net.line.loc[2, "in_service"] = False
    pp.to_json(net, str(folder / "network.json"))
    done = prepare(folder)
    assert done.exit_code == 1
    assert "in an island without slack" in done.output


def test_a_file_that_is_no_network_is_refused(folder: Path) -> None:
    (folder / "network.json").write_text("{}")
    done = prepare(folder)
    assert isinstance(done.exception, ConfigError)
    assert "must be a pandapower network in JSON" in str(done.exception)


def test_an_override_is_for_one_epoch(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["grid", "limits", "--given", "--data-dir", str(tmp_path)])
    assert done.exit_code == 2
    assert "--given needs --epoch" in done.output


def test_a_folder_without_cleared_epochs_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["grid", "report", "--data-dir", str(tmp_path)])
    assert isinstance(done.exception, ConfigError)
    assert "a folder with cleared epochs" in str(done.exception)
