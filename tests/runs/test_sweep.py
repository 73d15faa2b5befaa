"""A sweep: which runs it plans, what it refuses, and that killed or failed runs cost nothing but themselves."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from mmvae_jax.errors import UserError
from mmvae_jax.evaluation.comparison import compare
from mmvae_jax.runs import main, runner, sweep
from mmvae_jax.runs.compare import grouped, read_run
from mmvae_jax.runs.config import parse, to_record
from mmvae_jax.runs.interrupts import Interrupted
from mmvae_jax.runs.jobs import Job, _locked, run_jobs
from mmvae_jax.runs.log import LOG_FILE, last_step
from mmvae_jax.runs.runner import finished
from tests.faults.sweeps import Swept, kill_tree, without_times
from tests.runs.own_experiment import EXPERIMENT

ROOT = Path(__file__).parents[2]
OWN = "tests/runs/own_experiment.py"


def planned(swept: Mapping[str, list[str]], *common: str) -> list[list[str]]:
    runs = sweep.planned({"seed": ["0"], **swept}, common, ["python", OWN], EXPERIMENT, Path("all"))
    return [list(job.command) for job, _ in runs]


def test_every_combination_is_a_run_whose_folder_tells_its_values():
    commands = planned({"model": ["poe", "moe"], "beta": ["1", "2.5"], "seed": ["0", "1"]}, "--steps=9")
    ways = [
        (seed, beta, model) for seed in ("0", "1") for beta in ("1", "2.5") for model in ("poe", "moe")
    ]  # everything of the first seed before anything of the next
    assert commands == [
        ["python", OWN, "--steps=9", f"--seed={seed}", f"--beta={beta}", f"--model={model}"]
        + [f"--out=all/beta={beta},model={model},seed={seed}"]
        for seed, beta, model in ways
    ]


def test_a_folder_with_a_run_of_other_settings_is_refused_before_any_is_started(tmp_path: Path):
    def plan(*common: str):
        return sweep.planned({"seed": ["0", "1"]}, common, ["python", OWN], EXPERIMENT, tmp_path)

    (tmp_path / "seed=1").mkdir()
    config = tmp_path / "seed=1" / "config.json"
    config.write_text(json.dumps(to_record(parse(EXPERIMENT.presets, "own", ["--seed=1", "--beta=2"]))))
    assert len(plan("--beta=2")) == len(plan("--beta=2", "--steps=9", "--curve", "probe")) == 2
    with pytest.raises(
        UserError, match=r"with training.beta=2.0, this run has .*=1.0: use another --out for this sweep"
    ):
        plan("--beta=1")
    config.write_text("{")  # its own run says so
    assert len(plan("--beta=1")) == 2


def test_a_run_whose_folder_cannot_be_made_does_not_stop_the_others(tmp_path: Path):
    (tmp_path / "file").write_text("")
    failed = run_jobs([job(tmp_path / "file" / "one", "0"), job(tmp_path / "two", "open('done', 'w')")], at_once=1)
    assert [*failed] == ["one"] and (tmp_path / "two" / "done").exists()


def test_switches_and_values_of_several_words():
    assert planned({"empty-subset": ["false", "true"]}) == [
        ["python", OWN, "--seed=0", "--out=all/empty-subset=false,seed=0"],
        ["python", OWN, "--seed=0", "--empty-subset", "--out=all/empty-subset=true,seed=0"],
    ]
    assert planned({"auxiliary-prior": ["true", "false"]}, "--model=mmvae_plus") == [
        ["python", OWN, "--model=mmvae_plus", "--seed=0", "--out=all/auxiliary-prior=true,seed=0"],
        [
            "python",
            OWN,
            "--model=mmvae_plus",
            "--seed=0",
            "--no-auxiliary-prior",
            "--out=all/auxiliary-prior=false,seed=0",
        ],
    ]
    assert sweep._words("widths", "16 32") == ["--widths", "16", "32"]
    (command,) = planned({"data": ["a/b"]})
    assert command[-2:] == ["--data=a/b", "--out=all/data=a%2Fb,seed=0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no experiment: choose one of binary_mnist_label, "),
        (["nope"], "unknown experiment 'nope': choose one of binary_mnist_label, "),
        (["compare"], "unknown experiment 'compare'"),
        (["nope.py"], "no file nope.py"),
        (["tests/toy.py"], "tests/toy.py has no EXPERIMENT"),
        ([OWN, "--nope=1,2"], "nope"),
        ([OWN, "--beta=1,x"], "x"),
        ([OWN, "--beta=1,,2"], "--beta=1,,2: a value is empty"),
        ([OWN, "--beta=1", "--beta=2"], "--beta is given twice"),
        ([OWN, "--beta=1,-1"], "beta=-1"),
        ([OWN, "--model=poe,nope"], "unknown model 'nope'"),
        ([OWN, "--beta=1,1.0"], "beta=1,seed=0 and beta=1.0,seed=0 are the same run"),
        ([OWN, "--beta=1", "--", "--beta=2"], "--beta after --"),
        ([OWN, "--", "--seed=2"], "--seed after --"),
        ([OWN, "--", "--fresh"], "--fresh: a sweep goes on"),
        ([OWN, "--eval-only"], "--eval-only: "),
        ([OWN, "--", "--out=here"], "--out: every run"),
        ([OWN, "--", "--nope"], "nope"),
        ([OWN, "--seeds=2", "--seed=1"], "seeds and seed"),
        ([OWN, "--jobs=0"], "jobs=0: give a whole number"),
        ([OWN, "--out=gs://bucket"], "out=gs://bucket"),
        ([OWN, "beta=1"], "'beta=1' is no flag"),
    ],
)
def test_mistakes_are_one_line_before_the_first_run(
    arguments: list[str], message: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sweep, "run_jobs", lambda *_: pytest.fail("a run was begun"))
    assert sweep.main("experiments", arguments) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def job(folder: Path, program: str) -> Job:
    """What Python does in its folder; done when there is a file `done`."""
    command = [sys.executable, "-c", f"import os, signal, time; os.chdir({str(folder)!r}); {program}"]
    return Job(folder.name, folder, command, lambda: (folder / "done").exists())


def test_what_is_done_is_left_and_what_fails_stops_nothing_else(tmp_path: Path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "done").touch()
    failed = run_jobs(
        [
            job(tmp_path / "refused", "print('error: what a pity'); print('more'); raise SystemExit(2)"),
            job(tmp_path / "old", "open('again', 'w')"),
            job(tmp_path / "killed", "os.kill(os.getpid(), signal.SIGKILL)"),
            job(tmp_path / "new", "open('done', 'w')"),
        ],
        at_once=2,
    )
    assert failed.keys() == {"refused", "killed"}
    assert failed["refused"].startswith("exit code 2: what a pity")
    assert failed["killed"].startswith("ended by SIGKILL: nothing said")
    assert (tmp_path / "new" / "done").exists() and not (tmp_path / "old" / "again").exists()


def test_no_more_at_once_than_allowed(tmp_path: Path):
    program = "open('../' + str(os.getpid()), 'w'); n = len(list(os.scandir('..'))); time.sleep(0.5); "
    program += "os.unlink('../' + str(os.getpid())); open('done', 'w').write(str(n))"
    assert run_jobs([job(tmp_path / name, program) for name in "abcd"], at_once=2) == {}
    counts = [int((tmp_path / name / "done").read_text()) for name in "abcd"]
    assert max(counts) <= 4 + 2  # the folders, and a file of each at work


@pytest.mark.parametrize("ends", ["done", "killed"])
def test_what_was_left_running_is_waited_for(ends: str, tmp_path: Path):
    """An earlier call was killed: its process lives on and holds the lock. Only where it does not finish it is begun."""
    one = job(tmp_path / "one", "open('begun', 'w'); open('done', 'w')")
    one.folder.mkdir()
    lock = _locked(one.folder)
    assert lock is not None
    program = "import time; time.sleep(0.7)" + ("; open('done', 'w')" if ends == "done" else "")
    with subprocess.Popen([sys.executable, "-c", program], cwd=one.folder, pass_fds=[lock.fileno()]) as left:
        lock.close()
        assert run_jobs([one], at_once=1) == {}
        assert left.poll() == 0
    assert (one.folder / "begun").exists() == (ends == "killed")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_and_what_it_saves_waited_for(number: signal.Signals, tmp_path: Path):
    program = "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), open('saved', 'w'), os._exit(0))); "
    program += f"os.kill(os.getppid(), {number}); time.sleep(60)"
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as stopped:
        run_jobs([job(tmp_path / "one", program), job(tmp_path / "two", "open('done', 'w')")], at_once=1)
    assert stopped.value.number == number and signal.getsignal(number) == before
    assert (tmp_path / "one" / "saved").exists() and not (tmp_path / "two").exists()


def test_the_last_step_of_a_log_is_that_of_its_last_whole_line(tmp_path: Path):
    assert last_step(tmp_path) == 0
    rows = "".join(f'{{"step": {step}, "seconds": 1.0, "loss": {"9" * 200}}}\n' for step in range(1, 200))
    (tmp_path / LOG_FILE).write_text(rows + '{"step": 200, "sec')
    assert last_step(tmp_path) == 199


def write_run(folder: Path, coherence: float, likelihood: float) -> Path:
    folder.mkdir(parents=True)
    metrics = {"coherence/conditional/by_size/1": coherence, "log_likelihood/joint/by_size/1": likelihood}
    (folder / "config.json").write_text(
        json.dumps({"architecture": {"fusion": "poe"}, "training": {"beta": likelihood}})
    )
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def test_what_is_shown_in_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    drawn: list[Mapping] = []
    against: list[tuple[Mapping, str]] = []
    monkeypatch.setattr(sweep, "tradeoff_figure", drawn.append)
    monkeypatch.setattr(sweep, "setting_figure", lambda *given: against.append(given))
    values = [{"model": "poe", "beta": beta, "seed": "0"} for beta in ("1", "2")]
    folders = [write_run(tmp_path / name, *pair) for name, pair in (("a", (0.5, -3.0)), ("b", (0.25, -2.0)))]
    sweep.conclude(list(zip(folders, values, strict=True)), tmp_path)
    (curves,) = drawn
    assert [*curves] == ["poe"] and [*curves["poe"]] == ["beta 1", "beta 2"]
    assert curves["poe"]["beta 2"][0]["coherence/conditional/by_size/1"] == 0.25
    assert (tmp_path / "comparison.md").read_text() in capsys.readouterr().out
    assert (tmp_path / "comparison.png").exists() and not (tmp_path / "tradeoff.png").exists()
    assert against == [({"poe": {float(beta): curves["poe"][f"beta {beta}"] for beta in ("1", "2")}}, "beta")]
    sweep.conclude([], tmp_path)
    assert capsys.readouterr().out == ""


def test_only_results_of_the_same_configuration_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Killed while it is measured anew with other settings, a run is as little done as before it was measured."""
    monkeypatch.setattr(runner, "measure", lambda context: {"probe/a": 0.5})
    monkeypatch.setattr(runner, "draw_all", lambda *_: [])
    monkeypatch.setattr(runner, "powerset_shown", lambda context: {})
    flags = [f"--cache={tmp_path / 'cache'}", f"--out={tmp_path / 'run'}", "--seed=1"]

    def done(*changed: str) -> bool:
        return finished(tmp_path / "run", parse(EXPERIMENT.presets, "own", [*flags, *changed]))

    assert not done()
    assert main(EXPERIMENT, flags) == 0
    assert done() and done("--keep-last=3") and not done("--log-likelihood-samples=3") and not done("--beta=2")
    assert not done("--steps=5") and not done("--anneal-steps=2")
    assert not done("--curve", "probe") and not done("--figure-format=pdf")
    for made in ("curve.json", "figures/data.pdf"):
        (tmp_path / "run" / made).parent.mkdir(exist_ok=True)
        (tmp_path / "run" / made).write_text("")
    assert done("--curve", "probe") and done("--figure-format=pdf")
    metrics = tmp_path / "run" / "metrics.json"
    whole = metrics.read_text()
    metrics.write_text(whole.replace('"train/steps": ', '"train/steps": "many", "steps": '))
    with pytest.raises(UserError, match="train/steps is no number"):
        done()
    metrics.write_text(whole)

    def killed(_: object) -> None:
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(runner, "measure", killed)
    assert main(EXPERIMENT, [*flags, "--log-likelihood-samples=3"]) == 128 + signal.SIGTERM
    assert not done() and not done("--log-likelihood-samples=3")


def test_a_run_counted_in_epochs_is_done_at_its_last_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its epochs are as many steps as the data decide; measured half-way it is not done, and too much is refused."""
    monkeypatch.setattr(runner, "measure", lambda context: {"probe/a": 0.5})
    monkeypatch.setattr(runner, "draw_all", lambda *_: [])
    monkeypatch.setattr(runner, "powerset_shown", lambda context: {})
    folder, common = tmp_path / "run", ["--steps=0", f"--cache={tmp_path / 'cache'}", f"--out={tmp_path / 'run'}"]

    def done(*flags: str) -> bool:
        return finished(folder, parse(EXPERIMENT.presets, "own", [*common, *flags]))

    assert main(EXPERIMENT, [*common, "--epochs=2", "--anneal-epochs=1"]) == 0
    assert (
        done("--epochs=2", "--anneal-epochs=1")
        and not done("--epochs=2")
        and not done("--epochs=4", "--anneal-epochs=1")
    )
    assert main(EXPERIMENT, [*common, "--epochs=1", "--anneal-epochs=1"]) == 2
    assert main(EXPERIMENT, [*common, "--eval-only", "--anneal-epochs=1"]) == 0
    assert done("--epochs=2", "--anneal-epochs=1")

    config = json.loads((folder / "config.json").read_text())
    longer = {**config, "epochs": 4, "training": {**config["training"], "steps": 20}}
    (folder / "config.json").write_text(
        json.dumps(longer)
    )  # as a run of four epochs leaves it that is stopped after two
    assert not done("--epochs=4", "--anneal-epochs=1")


@pytest.mark.slow
def test_killed_with_its_runs_a_sweep_goes_on_and_shows_what_one_left_alone_does(tmp_path: Path):
    one = Swept(tmp_path / "all", tmp_path / "cache", "--seeds=2", "--", "--steps=400", "--every-steps=20")
    first, second = (tmp_path / "all" / f"seed={seed}" for seed in (0, 1))
    with one.start() as process:
        while not (last_step(second) or process.poll() is not None):
            time.sleep(0.02)
        kill_tree(process.pid)
    assert process.returncode == -signal.SIGKILL
    before = (first / "report.html").stat().st_mtime_ns
    assert not (second / "report.html").exists()
    with one.start() as process:
        pass
    assert process.returncode == 0, one.said()
    assert (first / "report.html").stat().st_mtime_ns == before
    alone = tmp_path / "alone"
    for seed in (0, 1):
        flags = [f"--cache={tmp_path / 'cache'}", f"--seed={seed}", f"--out={alone / str(seed)}", "--steps=400"]
        assert main(EXPERIMENT, [*flags, "--every-steps=20"]) == 0
    expected = compare(grouped([read_run(alone / str(seed)) for seed in (0, 1)]))
    assert without_times((tmp_path / "all" / "comparison.md").read_text().split("\n\n")[0]) == without_times(expected)
