"""Whole runs that are killed, stopped, short of disk, damaged or of another time: the same command ends them all the same."""

import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from mmvae_jax.data.batching import Dataset, fixed_split
from mmvae_jax.errors import UserError
from mmvae_jax.runs import Config, load_run, main, runner
from mmvae_jax.runs.checkpoints import Checkpoints
from mmvae_jax.runs.log import RunLog, read_log
from tests.faults import stages
from tests.runs.own_experiment import EXPERIMENT

STEPS = 8
FLAGS = (f"--steps={STEPS}", "--every-steps=1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with one cache."""
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def uninterrupted(place: Path) -> Path:
    code, said = stages.run([*FLAGS, f"--cache={place / 'cache'}"], place / "uninterrupted")
    assert code == 0, said
    return place / "uninterrupted"


def newest(folder: Path) -> int:
    return max(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdecimal())


def values(folder: Path) -> list[np.ndarray]:
    """All arrays of the newest checkpoint."""
    state = load_run(EXPERIMENT, folder)[1]
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state._replace(key=jax.random.key_data(state.key)))]


def metrics(folder: Path) -> dict[str, float]:
    """All but those of time."""
    found = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in found.items() if "seconds" not in name and "per_second" not in name}


def pictures(folder: Path) -> dict[str, bytes]:
    """All but that of the log, of which damaged rows are lost."""
    return {path.name: path.read_bytes() for path in (folder / "figures").iterdir() if path.name != "loss.png"}


def same(folder: Path, other: Path) -> None:
    """Whether two finished runs hold the same."""
    assert newest(folder) == newest(other) == STEPS
    for ours, theirs in zip(values(folder), values(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert metrics(folder) == metrics(other)
    assert pictures(folder) == pictures(other)
    assert (folder / "powerset.json").read_bytes() == (other / "powerset.json").read_bytes()
    assert [row["step"] for row in read_log(folder)] == [row["step"] for row in read_log(other)]
    assert (folder / "report.html").read_text().endswith("</html>\n")


@pytest.fixture(scope="module")
def killed(place: Path, uninterrupted: Path) -> Path:
    """A run that was killed in every stage and ended by the same command."""
    folder, command = place / "killed", [*FLAGS, f"--cache={place / 'cache'}"]
    cached = sorted((place / "cache" / EXPERIMENT.name).iterdir())
    left = {
        "training": lambda: newest(folder) in (1, 2, 3) and (folder / "log.jsonl").read_text().endswith('"sec'),
        "saving": lambda: newest(folder) in (5, 6) and [row["step"] for row in read_log(folder)] == [*range(1, 7)],
        "evaluating": lambda: newest(folder) == STEPS and not (folder / "metrics.json").exists(),
        "drawing": lambda: metrics(folder) == metrics(uninterrupted) and len(pictures(folder)) == 3,
        "reporting": lambda: pictures(folder) == pictures(uninterrupted) and not (folder / "report.html").exists(),
    }
    assert left.keys() == stages.STAGES.keys()
    for stage, kept in left.items():
        if stage == "evaluating":
            for path in cached:
                path.unlink()
        code, said = stages.run(command, folder, stage)
        assert code == -signal.SIGKILL, (stage, said)
        assert kept(), stage
        assert "Traceback" not in said and "cannot be read" not in said
    assert sorted((place / "cache" / EXPERIMENT.name).iterdir()) == cached
    code, said = stages.run(command, folder)
    assert code == 0 and said == ""
    return folder


def test_killed_in_every_stage_a_run_ends_as_if_it_never_had_been(killed: Path, uninterrupted: Path):
    same(killed, uninterrupted)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.fixture
def compiled(place: Path) -> Iterator[list[Path]]:
    """Some compiled programs, put back in the end: JAX never writes one again."""
    paths = sorted((place / "cache" / "compiled").iterdir(), key=lambda path: path.stat().st_size)[-2:]
    before = [path.read_bytes() for path in paths]
    yield paths
    for path, content in zip(paths, before, strict=True):
        path.write_bytes(content)


@pytest.mark.parametrize("damage", [flip, cut])
def test_with_all_its_files_damaged_a_run_mends_itself(
    damage: Callable[[Path], None], killed: Path, uninterrupted: Path, place: Path, compiled: list[Path]
):
    """All but config.json: what that says is what the user is asked about."""
    files = [path for path in killed.rglob("*") if path.is_file() and "checkpoints" not in path.parts]
    files += [path for path in (killed / "checkpoints" / str(STEPS)).rglob("*") if path.is_file()]
    files += [*(place / "cache" / EXPERIMENT.name).iterdir(), *compiled]
    for path in files:
        if path.name != "config.json":
            damage(path)
    code, said = stages.run([*FLAGS, f"--cache={place / 'cache'}"], killed)
    assert code == 0, said
    assert f"going back to step {STEPS - 1}" in said and f"resuming at step {STEPS - 1}" in said
    assert newest(killed) == STEPS
    assert metrics(killed) == metrics(uninterrupted)
    assert pictures(killed) == pictures(uninterrupted)
    for ours, theirs in zip(values(killed), values(uninterrupted), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is its training: nothing is measured and drawn."""
    monkeypatch.setattr(runner, "measure", lambda context: {})
    monkeypatch.setattr(runner, "draw_all", lambda *_: [])
    monkeypatch.setattr(runner, "powerset_shown", lambda context: {})


def train(place: Path, folder: Path, *flags: str) -> int:
    return main(EXPERIMENT, [f"--cache={place / 'cache'}", f"--out={folder}", *(flags or FLAGS)])


def errors(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return capfd.readouterr().err.splitlines()


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("step", [3, STEPS])
def test_sigterm_saves_the_step_it_comes_in(
    step: int,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    sent: list[int] = []

    def send(log: RunLog, at: int, terms: object) -> None:
        if at == step:
            sent.append(at)
            os.kill(os.getpid(), signal.SIGTERM)

    def send_another(checkpoints: Checkpoints) -> None:
        if sent:  # while the checkpoint is written
            os.kill(os.getpid(), signal.SIGTERM)

    folder = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "report", stages.then(RunLog.report, send))
        patch.setattr(Checkpoints, "wait", stages.then(Checkpoints.wait, send_another))
        assert train(place, folder) == 0
    assert errors(capfd)[-1] == f"SIGTERM: saved step {step}; the same command resumes there"
    assert newest(folder) == step and not (folder / "metrics.json").exists()
    assert train(place, folder) == 0
    assert newest(folder) == STEPS and (folder / "report.html").exists()


@pytest.mark.parametrize("split", ["train", "test"])
def test_data_that_are_not_finite_are_refused_before_training(
    split: str, place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    def load(config: Config) -> Dataset:
        dataset = EXPERIMENT.load(config)
        x, label = getattr(dataset, split).arrays
        bad = fixed_split({**x, "b": x["b"].at[7, 1].set(np.nan)}, label)
        return replace(dataset, train=bad) if split == "train" else replace(dataset, test=bad)

    flags = [*FLAGS, f"--cache={place / 'cache'}", f"--out={tmp_path / 'run'}"]
    assert main(replace(EXPERIMENT, load=load), flags) == 2
    (line,) = errors(capfd)
    assert line.startswith("error: ") and "b: value nan in observed sample 7" in line
    assert not (tmp_path / "run" / "checkpoints" / "1").exists()


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file can be longer: every write past that fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


SHORT = {"config.json": 1000, "log.jsonl": 2300, "checkpoint": 10_000}


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("what", SHORT)
def test_a_full_disk_in_training_is_one_line_and_the_same_command_goes_on(
    what: str, uninterrupted: Path, place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    folder, flags = tmp_path / "short", ("--steps=60", "--every-steps=0", "--every-minutes=0")
    shutil.copytree(uninterrupted, folder)
    with full_disk(SHORT[what]):
        assert train(place, folder, *flags) == 2
    said = errors(capfd)
    (line,) = [line for line in said if line.startswith("error: ")]
    assert line == said[-1] and "cannot write" in line and what in line and "the same command goes on" in line
    assert "Traceback" not in "".join(said)
    assert train(place, folder, *flags) == 0
    assert f"resuming at step {STEPS} of 60" in errors(capfd)
    assert newest(folder) == 60
    assert [row["step"] for row in read_log(folder)] == [*range(1, STEPS + 1), *range(10, 65, 5)]


def test_a_full_disk_under_tensorboards_events_is_one_line(tmp_path: Path):
    terms = {f"term {i}": float(i) for i in range(30)}
    with (
        full_disk(7000),
        pytest.raises(UserError, match=r"cannot write .*tensorboard"),
        RunLog(tmp_path, 1000, 0, batch_size=8, show_progress=False) as log,
    ):
        for step in range(1, 1000):
            log.report(step, terms)


@pytest.mark.parametrize(("size", "what"), [(20_000, "figures"), (150_000, "report.html")])
def test_a_full_disk_in_the_report_is_one_line_and_the_same_command_goes_on(
    size: int,
    what: str,
    uninterrupted: Path,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(runner, "measure", lambda context: metrics(uninterrupted))
    folder = tmp_path / "short"
    shutil.copytree(uninterrupted, folder)
    before = (folder / "report.html").read_text()
    with full_disk(size):
        assert train(place, folder) == 2
    (line,) = [line for line in errors(capfd) if line.startswith("error: ")]
    assert "cannot write" in line and what in line
    assert (folder / "report.html").read_text() == before
    assert train(place, folder) == 0
    assert pictures(folder) == pictures(uninterrupted)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("year", [1971, 2100])
def test_files_of_another_time_are_gone_on_with(
    year: int, uninterrupted: Path, place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    """The later a step, the earlier its files: nothing is told by dates."""
    folder = tmp_path / "dated"
    shutil.copytree(uninterrupted, folder)
    paths = sorted(folder.rglob("*"), reverse=True)
    for age, path in enumerate(paths):
        seconds = (year - 1970) * 365 * 86400 + 3600 * age
        os.utime(path, (seconds, seconds))
    assert train(place, folder, f"--steps={STEPS + 2}") == 0
    assert f"resuming at step {STEPS} of {STEPS + 2}" in errors(capfd)
    assert newest(folder) == STEPS + 2
    assert [row["step"] for row in read_log(folder)][-1] == STEPS + 2
