"""Comparison of runs: grouping by seed, means and deviations, and mistakes."""

import json
from pathlib import Path

import pytest
from PIL import Image

from experiments.compare import main, read_runs, table


def write_run(folder: Path, fusion: str, seed: int, probe: float) -> str:
    folder.mkdir()
    metrics = {f"probe/by_size/{n}": probe + n / 100 for n in range(1, 4)} | {"coherence/joint": 0.25}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "config.json").write_text(json.dumps({"seed": seed, "architecture": {"fusion": fusion}}))
    return str(folder)


@pytest.fixture
def folders(tmp_path) -> list[str]:
    return [
        write_run(tmp_path / "a0", "mopoe", 0, 0.80),
        write_run(tmp_path / "a1", "mopoe", 1, 0.90),
        write_run(tmp_path / "b0", "moe", 0, 0.50),
    ]


def test_seeds_are_grouped_and_summarised(folders, tmp_path, capsys):
    picture = tmp_path / "figure.png"
    assert main([*folders, "--out", str(picture)]) == 0
    printed = capsys.readouterr().out
    mopoe = next(line for line in printed.splitlines() if line.split()[:2] == ["mopoe", "2"])
    assert "0.860 ± 0.071" in mopoe  # mean and sample deviation of 0.81 and 0.91 at one input
    moe = next(line for line in printed.splitlines() if line.split()[:2] == ["moe", "1"])
    assert "0.510" in moe and "±" not in moe
    assert Image.open(picture).width > 200


def test_other_configurations_of_one_model_stay_apart(folders, tmp_path):
    extra = Path(write_run(tmp_path / "c", "mopoe", 0, 0.1))
    (extra / "config.json").write_text(json.dumps({"seed": 0, "beta": 2, "architecture": {"fusion": "mopoe"}}))
    runs = read_runs([*map(Path, folders), extra])
    assert {label: len(metrics) for label, metrics in runs.items()} == {"mopoe": 2, "moe": 1, "mopoe (2)": 1}
    assert len(table(runs).splitlines()) == 4


def missing(tmp_path: Path) -> str:
    return str(tmp_path / "none")


def unfinished(tmp_path: Path) -> str:
    folder = tmp_path / "unfinished"
    folder.mkdir()
    return str(folder)


def corrupt(tmp_path: Path) -> str:
    folder = Path(write_run(tmp_path / "corrupt", "moe", 0, 0.5))
    (folder / "metrics.json").write_text("{")
    return str(folder)


@pytest.mark.parametrize("mistake", [missing, unfinished, corrupt])
def test_mistakes_are_one_line(mistake, tmp_path, capsys):
    folder = mistake(tmp_path)
    assert main([folder]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and folder in lines[0]
