"""A user's own experiment: what is left of a run when files are deleted, or when a signal comes outside training."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from mmvae_jax.runs import Experiment, main, runner
from tests.runs.own_experiment import EXPERIMENT


def run(out: Path, *arguments: str, experiment: Experiment = EXPERIMENT) -> int:
    return main(experiment, [f"--out={out}", f"--cache={out.parent / 'cache'}", *arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("own") / "run"
    assert run(out) == 0
    return out


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """The finished run, to be damaged; its classifiers are beside it."""
    shutil.copytree(finished.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"


def error_line(capfd: pytest.CaptureFixture[str]) -> str:
    (line,) = capfd.readouterr().err.splitlines()
    return line


def test_compiled_programs_are_kept_where_jax_s_variable_says(finished: Path):
    assert [path.name for path in (finished.parent / "cache").iterdir()] == [EXPERIMENT.name]
    assert any(Path(os.environ["JAX_COMPILATION_CACHE_DIR"]).iterdir())


def test_without_its_log_a_run_is_evaluated_and_its_time_unknown(copied: Path):
    before = json.loads((copied / "metrics.json").read_text())
    assert {"train/seconds", "train/examples_per_second"} <= before.keys()
    (copied / "log.jsonl").unlink()
    assert run(copied, "--eval-only") == 0
    after = json.loads((copied / "metrics.json").read_text())
    del before["train/seconds"], before["train/examples_per_second"]
    assert after == before


def test_checkpoints_without_a_configuration_are_not_gone_on_with(copied: Path, capfd: pytest.CaptureFixture[str]):
    (copied / "config.json").unlink()
    assert run(copied, "--latent-dim=3", "--steps=8") == 2
    line = error_line(capfd)
    assert str(copied) in line and "config.json" in line and "--fresh" in line and "--out" in line
    assert not (copied / "config.json").exists()
    assert run(copied, "--fresh") == 0


def test_evaluating_nothing_leaves_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert run(tmp_path / "run", "--eval-only") == 2
    assert "no checkpoint in" in error_line(capfd)
    assert list(tmp_path.iterdir()) == []


def test_evaluating_and_discarding_a_run_at_once_is_refused(copied: Path, capfd: pytest.CaptureFixture[str]):
    assert run(copied, "--eval-only", "--fresh") == 2
    assert "eval-only" in error_line(capfd)
    assert (copied / "checkpoints" / "4").is_dir()


def test_a_cache_that_cannot_be_written_is_told_before_training(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    (tmp_path / "file").touch()
    assert run(tmp_path / "run", f"--cache={tmp_path / 'file'}") == 2
    assert error_line(capfd).endswith("it is a file; choose another --cache")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", ["load", "measure", "draw_all"])
def test_a_signal_outside_training_ends_in_one_line(
    stage: str, number: signal.Signals, copied: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    def interrupted(*_: object) -> None:
        os.kill(os.getpid(), number)
        pytest.fail("the signal did not stop it")

    experiment = replace(EXPERIMENT, load=interrupted) if stage == "load" else EXPERIMENT
    if stage != "load":
        monkeypatch.setattr(runner, stage, interrupted)
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert run(copied, experiment=experiment) == 128 + number
    line = error_line(capfd)
    assert line.startswith(f"{number.name}: ") and "the same command goes on" in line
    assert handlers == [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.undo()
    assert run(copied) == 0
