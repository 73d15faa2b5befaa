"""The runner end to end on PolyMNIST, tiny: the output folder, resume after kill -9, and every user's mistake."""

import gzip
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from experiments.polymnist import EXPERIMENT
from mmvae_jax.runs.runner import load_run, main

ROOT = Path(__file__).parents[2]
TINY = [
    "--widths", "2", "4", "--hidden", "8", "--latent-dim", "4", "--batch-size", "16", "--steps", "12",
    "--log-likelihood-samples", "2", "--log-likelihood-examples", "8", "--test-examples", "40",
    "--probe-train-examples", "60", "--joint-samples", "20", "--classifier.steps", "4",
]  # fmt: skip
SIZES = range(1, 6)


def run(*arguments: str, out: Path, cache: Path) -> int:
    return main(EXPERIMENT, [*TINY, "--out", str(out), "--cache", str(cache), *arguments])


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache) -> Path:
    """An uninterrupted run, in a process of its own: here other tests' compiled programs could round differently."""
    out = tmp_path_factory.mktemp("run") / "mopoe"
    assert spawn(out, cache).wait() == 0
    return out


def test_output_folder_is_complete(finished, cache):
    metrics = json.loads((finished / "metrics.json").read_text())
    names = [f"m{i}" for i in range(5)]
    expected = {"coherence/joint", "train/steps", "train/seconds", "train/examples_per_second", "probe/m0+m3"}
    expected |= {f"probe/by_size/{n}" for n in SIZES} | {f"log_likelihood/joint/by_size/{n}" for n in SIZES}
    expected |= {f"coherence/conditional/by_size/{n}" for n in range(1, 5)}
    expected |= {f"log_likelihood/joint/{name}" for name in names} | {"coherence/conditional/m0+m3->m1"}
    expected |= {f"{name}/conditional/by_size/{n}" for name in ("FD", "precision", "recall") for n in range(1, 5)}
    expected |= {f"FD/unconditional/{name}" for name in names} | {"FD/conditional/m1+m2->m0", "train/epochs"}
    expected |= {"standard_error/FD/conditional/by_size/1", "standard_error/precision/conditional/by_size/4"}
    assert expected <= metrics.keys()
    assert metrics["train/epochs"] == 12 / (4000 // 16)
    assert all(np.isfinite(value) for value in metrics.values())
    assert all(0 <= metrics[f"probe/by_size/{n}"] <= 1 for n in SIZES)
    assert metrics["train/steps"] == 12
    steps = [json.loads(line)["step"] for line in (finished / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[-1] == 12
    assert json.loads((finished / "config.json").read_text())["architecture"]["fusion"] == "mopoe"
    words = [Path(sys.executable).name, "-m", "experiments.polymnist", *TINY]
    command = shlex.join([*words, "--out", str(finished), "--cache", str(cache), "--every-steps", "1"])
    origin = json.loads((finished / "run.json").read_text())
    assert origin["trained"]["command"] == origin["evaluated"]["command"] == command
    assert (
        origin["evaluated"]["versions"]["jax"] == jax.__version__ and "cpu" in origin["trained"]["versions"]["device"]
    )
    assert {each["source"] for each in origin["published"]} >= {"MoPoE paper", "MVTCAE paper"}
    assert {each["model"] for each in origin["published"]} == {"mopoe"}
    assert len(list((finished / "figures").glob("*.png"))) >= 6
    page = (finished / "report.html").read_text()
    assert "data:image/png;base64," in page and 'src="http' not in page and len(page) < 6_000_000
    assert metrics["data/classes"] == 10 and '<section id="powerset"' in page
    assert len(json.loads((finished / "powerset.json").read_text())["subsets"]) == 31


def test_eval_only_repeats_the_numbers_without_training(finished, cache):
    before = json.loads((finished / "metrics.json").read_text())
    (finished / "metrics.json").unlink()
    assert (
        run("--fusion=mopoe", "--eval-only", "--curve", "probe", "--figure-format=svg", out=finished, cache=cache) == 0
    )
    assert json.loads((finished / "metrics.json").read_text()) == before
    points = json.loads((finished / "curve.json").read_text())
    steps = sorted(int(path.name) for path in (finished / "checkpoints").iterdir() if path.name.isdecimal())
    assert [point["train/steps"] for point in points] == steps and len(steps) > 1 and steps[-1] == 12
    assert all(name.split("/")[-2] in ("train", "probe", "by_size") for point in points for name in point)
    assert {name: before[name] for name in points[-1]} == points[-1]
    assert (finished / "figures" / "learning_curve.png").stat().st_size > 10_000
    assert (finished / "figures" / "loss.svg").read_text().startswith("<?xml")
    assert "<h2>Learning curve</h2>" in (finished / "report.html").read_text()
    origin = json.loads((finished / "run.json").read_text())
    assert "--eval-only" in origin["evaluated"]["command"] and "--eval-only" not in origin["trained"]["command"]


def checkpoint_values(folder: Path) -> list[np.ndarray]:
    """All arrays of the newest checkpoint."""
    state = load_run(EXPERIMENT, folder)[1]
    plain = state._replace(key=jax.random.key_data(state.key))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(plain)]


def spawn(out: Path, cache: Path, *arguments: str, program: tuple[str, ...] = ("-m", "experiments.polymnist")):
    command = [sys.executable, *program, *TINY, "--out", str(out), "--cache", str(cache), "--every-steps", "1"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.Popen([*command, *arguments], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


DIES_WHILE_SAVING = """
import os, signal, sys
from experiments.polymnist import EXPERIMENT
from mmvae_jax.runs import main
from mmvae_jax.runs.checkpoints import Checkpoints

last, save = int(sys.argv.pop(1)), Checkpoints.save

def save_or_die(self, state, loss):
    saved = save(self, state, loss)
    if int(state.step) == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return saved

Checkpoints.save = save_or_die
main(EXPERIMENT)
"""


@pytest.mark.slow
def test_killed_and_resumed_run_is_bit_identical(finished, cache, tmp_path):
    out = tmp_path / "killed"
    for last in (3, 7):
        process = spawn(out, cache, program=("-c", DIES_WHILE_SAVING, str(last)))
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert newest(out) in (last - 1, last)
    process = spawn(out, cache)
    assert "resuming at step" in process.communicate()[1]
    assert process.returncode == 0
    for ours, theirs in zip(checkpoint_values(out), checkpoint_values(finished), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def newest(out: Path) -> int:
    names = [path.name for path in (out / "checkpoints").glob("*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def write_idx(folder: Path, count: int = 40) -> Path:
    """Official MNIST files of random pictures, every class present."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, size in (("train", count), ("t10k", 20)):
        images = rng.integers(0, 256, (size, 28, 28)).astype(np.uint8)
        labels = (np.arange(size) % 10).astype(np.uint8)
        header = lambda magic, *dims: b"".join(int(n).to_bytes(4, "big") for n in (magic, *dims))  # noqa: E731
        (folder / f"{split}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(header(2051, size, 28, 28) + images.tobytes())
        )
        (folder / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(header(2049, size) + labels.tobytes()))
    return folder


def truncated_idx(tmp_path: Path) -> list[str]:
    folder = write_idx(tmp_path / "mnist")
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-100]))
    return ["--data", str(folder)]


def wrong_magic(tmp_path: Path) -> list[str]:
    folder = write_idx(tmp_path / "mnist")
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x07" + gzip.decompress(path.read_bytes())[4:]))
    return ["--data", str(folder)]


def unpaired(tmp_path: Path) -> list[str]:
    for split in ("train", "test"):
        for m in range(5):
            folder = tmp_path / split / f"m{m}"
            folder.mkdir(parents=True)
            for index in range(3 if m < 4 else 2):
                Image.new("RGB", (28, 28)).save(folder / f"{index}.{index}.png")
    return ["--data", str(tmp_path)]


def empty_release(tmp_path: Path) -> list[str]:
    for split in ("train", "test"):
        for m in range(5):
            (tmp_path / split / f"m{m}").mkdir(parents=True)
    return ["--data", str(tmp_path)]


def a_file(tmp_path: Path) -> list[str]:
    (tmp_path / "file").write_text("")
    return ["--out", str(tmp_path / "file" / "run")]


MISTAKES = {
    "unknown fusion": (lambda _: ["--fusion=nope"], "nope"),
    "unknown model": (lambda _: ["--model=nope"], "nope"),
    "unknown objective": (lambda _: ["--objective=nope"], "nope"),
    "unknown preset": (lambda _: ["--preset=nope"], "nope"),
    "unknown flag": (lambda _: ["--nope=1"], "--nope"),
    "not a number": (lambda _: ["--latent-dim=x"], "x"),
    "negative beta": (lambda _: ["--beta=-1"], "error: beta=-1.0: give"),
    "no latent dimension": (lambda _: ["--latent-dim=0"], "error: latent-dim=0: give"),
    "negative private dimension": (lambda _: ["--private-dim=-1"], "m0: private-dim=-1: give"),
    "scale of zero": (lambda _: ["--scale=0"], "m0: scale=0.0: give"),
    "nan learning rate": (lambda _: ["--learning-rate=nan"], "nan"),
    "no steps": (lambda _: ["--steps=0", "--epochs=0"], "error: epochs=0 with steps=0: give"),
    "negative seed": (lambda _: ["--seed=-1"], "error: seed=-1: give"),
    "no test examples": (lambda _: ["--test-examples=0"], "error: test-examples=0: give"),
    "no importance samples": (lambda _: ["--log-likelihood-samples=0"], "log-likelihood-samples=0: give"),
    "no steps of a classifier": (lambda _: ["--classifier.steps=0"], "classifier.steps=0: give"),
    "dropout of everything": (lambda _: ["--classifier.dropout=1"], "classifier.dropout=1.0: give"),
    "unknown metric": (lambda _: ["--metrics", "probe", "coherences"], "unknown metric 'coherences'"),
    "unknown metric of a curve": (lambda _: ["--curve", "probes"], "unknown metric of curve 'probes'"),
    "unmeasured metric of a curve": (
        lambda _: ["--metrics", "coherence", "--curve", "coherence/joint", "probe"],
        "curve=probe: it is not among --metrics",
    ),
    "metric of other data": (lambda _: ["--metrics", "probe", "bleu"], "metrics bleu: polymnist has nothing to be"),
    "missing weights": (lambda _: ["--inception-weights=/does/not/exist.pth"], "no checkpoint /does/not/exist.pth"),
    "batch too large": (lambda _: ["--batch-size=5000"], "5000"),
    "missing folder": (lambda _: ["--data=/does/not/exist"], "/does/not/exist"),
    "truncated idx": (truncated_idx, "train-images-idx3-ubyte.gz"),
    "wrong magic": (wrong_magic, "2055"),
    "empty PolyMNIST folder": (empty_release, "m0"),
    "unpaired files": (unpaired, "m4"),
    "unwritable out": (a_file, "file"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_one_line_and_exit_code_2(mistake, tmp_path, cache, capfd):
    arguments, named = MISTAKES[mistake]
    assert run(*arguments(tmp_path), out=tmp_path / "out", cache=cache) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and named in lines[0], lines


def test_checkpoint_of_another_configuration_is_refused(finished, cache, capfd):
    before = (finished / "config.json").read_bytes()
    assert run("--fusion=poe", "--beta=2", out=finished, cache=cache) == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert "fusion=mopoe" in line and "fusion=poe" in line and "beta=2.0" in line
    assert (finished / "config.json").read_bytes() == before


def test_corrupt_newest_checkpoint_falls_back(finished, cache, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    newest_folder = out / "checkpoints" / str(newest(out))
    for path in newest_folder.rglob("*"):
        if path.is_file() and path.stat().st_size > 100:
            path.write_bytes(path.read_bytes()[:50])
    process = spawn(out, cache)
    assert "going back to step 11" in process.communicate()[1]
    assert process.returncode == 0
    for ours, theirs in zip(checkpoint_values(out), checkpoint_values(finished), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_signal_saves_and_the_same_command_resumes(cache, tmp_path):
    out = tmp_path / "stopped"
    process = spawn(out, cache, "--steps", "100000")
    while newest(out) == 0:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert "SIGTERM: saved step" in process.communicate()[1]
    assert process.returncode == 0
