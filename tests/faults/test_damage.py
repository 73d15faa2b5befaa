"""Flipped bits and cut ends in what is read: the same is read, or less of it, or one line is told; data stay as they are."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mmvae_jax.data.mnist import official_digits
from mmvae_jax.data.polymnist_release import release
from mmvae_jax.data.svhn import official_svhn
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation.comparison import compare
from mmvae_jax.evaluation.parameter_cache import load_parameters, save_parameters
from mmvae_jax.runs.compare import grouped, read_run
from mmvae_jax.runs.folder import check_config, write_config
from mmvae_jax.runs.log import read_log

CONFIG = {
    "seed": 0,
    "model_name": "",
    "architecture": {"fusion": "mopoe", "widths": [2, 4]},
    "dataset": {"sha": "0f1e"},
}
ROWS = [{"step": step, "seconds": step / 4, "loss": 2.5 / step} for step in (5, 10, 115, 220, 1000)]
METRICS = {
    "probe/a": 0.875,
    "probe/by_size/1": 0.5,
    "standard_error/probe/a": 0.125,
    "train/steps": 12,
    "loss": -1.5e-05,
}
# The release's five modalities are read by one function.
MODALITIES = ("m0", "m1")


def damaged(content: bytes, every: int = 1) -> Iterator[bytes]:
    """Every content with one bit flipped, and every beginning of it; or fewer of both, evenly."""
    for place in range(0, 8 * len(content), every):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        yield bytes(flipped)
    for length in range(0, len(content), every):
        yield content[:length]


def each_damage(path: Path, every: int = 1) -> Iterator[None]:
    """The file with every damage in turn, then whole again."""
    content = path.read_bytes()
    for broken in damaged(content, every):
        path.write_bytes(broken)
        yield
    path.write_bytes(content)


@contextlib.contextmanager
def told_in_one_line(*named: str) -> Iterator[None]:
    """Whether what goes wrong is a user's error of one line that names these."""
    try:
        yield
    except UserError as error:
        assert "\n" not in str(error) and all(name in str(error) for name in named), error


def test_of_a_log_only_the_damaged_rows_are_lost(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for length in range(path.stat().st_size):
        whole = path.read_bytes()[:length].count(b"}")
        (tmp_path / "cut").mkdir(exist_ok=True)
        (tmp_path / "cut" / "log.jsonl").write_bytes(path.read_bytes()[:length])
        assert read_log(tmp_path / "cut") == ROWS[:whole]
    content = path.read_bytes()
    for place in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        found = read_log(tmp_path)
        # Two rows where the line's end between them is hit, or where it cannot be told which of two steps is wrong.
        assert sum(row in found for row in ROWS) >= len(ROWS) - 2
        steps = [row["step"] for row in found]
        assert steps == sorted(set(steps))


def test_a_damaged_configuration_is_told_and_never_gone_on_with(tmp_path: Path):
    write_config(tmp_path, CONFIG)
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    refused = 0
    for _ in each_damage(tmp_path / "config.json", every=2):
        broken = (tmp_path / "config.json").read_bytes()
        with told_in_one_line(str(tmp_path), "--fresh"):
            check_config(tmp_path, CONFIG)
            assert json.loads(broken) == CONFIG
            refused -= 1
        refused += 1
    assert refused > 500


def test_a_run_with_damaged_metrics_is_compared_or_told(tmp_path: Path):
    write_config(tmp_path, CONFIG)
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    for name in ("metrics.json", "config.json"):
        for _ in each_damage(tmp_path / name, every=3):
            with told_in_one_line(str(tmp_path)):
                assert compare(grouped([read_run(tmp_path)]))


def test_a_damaged_cached_classifier_is_trained_again(tmp_path: Path):
    params = {"Dense_0": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "bias": np.ones(2, np.float32)}
    path, told = tmp_path / "classifier.npz", []
    save_parameters(path, params, told.append)
    lost = 0
    for _ in each_damage(path, every=3):
        told.clear()
        found = load_parameters(path, params, told.append)
        assert (found is None) == (len(told) == 1) and "\n" not in "".join(told)
        if found is None:
            lost += 1
            continue
        np.testing.assert_array_equal(found["Dense_0"]["kernel"], params["Dense_0"]["kernel"])
        np.testing.assert_array_equal(found["bias"], params["bias"])
    assert lost > 300


DATA = {
    "idx_folder": (official_digits, "*"),
    "svhn_folder": (official_svhn, "*.mat"),
    "release_folder": (lambda folder: release(folder, MODALITIES), "train/m1/0.*.png"),
}


@pytest.fixture(params=DATA)
def data(request: pytest.FixtureRequest) -> tuple[Path, Callable[[Path], object], str]:
    return (request.getfixturevalue(request.param), *DATA[request.param])


def test_damaged_data_are_read_or_told(data: tuple[Path, Callable[[Path], object], str]):
    folder, read, pattern = data
    for path in sorted(folder.glob(pattern)):
        for _ in each_damage(path, every=path.stat().st_size // 4):
            with told_in_one_line(str(folder)):
                read(folder)


def test_data_that_can_only_be_read_are_read_and_left_as_they_are(data: tuple[Path, Callable[[Path], object], str]):
    folder, read, _ = data

    def everything() -> dict[Path, tuple[int, int, int]]:
        found = ((path, path.stat()) for path in [folder, *folder.rglob("*")])
        return {path: (stat.st_mtime_ns, stat.st_size, stat.st_mode) for path, stat in found}

    paths = sorted([folder, *folder.rglob("*")], reverse=True)
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = everything()
    try:
        read(folder)
        assert everything() == before
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_folder_in_place_of_a_file_is_told(tmp_path: Path):
    for name in ("config.json", "metrics.json"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="cannot read .*--fresh"):
        check_config(tmp_path, CONFIG)
    with pytest.raises(UserError, match="cannot read .*--eval-only"):
        read_run(tmp_path)
