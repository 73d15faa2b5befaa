"""Runs are grouped by what makes a model, averaged over seeds, and mistakes are told in one line."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from mmvae_jax.evaluation import METRICS, Metric
from mmvae_jax.runs import compare

PAPER = {
    "model": "mopoe",
    "source": "A paper",
    "metrics": {"probe/by_size/1": 0.75, "coherence/joint": 0.125},
    "settings": "300 epochs",
}


def write_run(folder, fusion="mopoe", seed=0, shift=0.0, **settings):
    folder.mkdir(parents=True)
    config = {
        "model_name": "",
        "seed": seed,
        "out": str(folder),
        "fresh": bool(seed),
        "architecture": {"fusion": fusion, "latent_dim": settings.get("latent_dim", 32)},
        "training": {"steps": 10},
    }
    metrics = {f"probe/by_size/{n}": 0.5 + 0.1 * n + shift for n in (1, 2)}
    metrics |= {"log_likelihood/joint/by_size/2": -1000.0 + 100 * shift, "coherence/joint": 0.25 + shift}
    metrics |= {"standard_error/coherence/joint": 0.004, "standard_error/probe/by_size/1": 0.03, "loss/mine": shift}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return str(folder)


def cells(output):
    rows = [line for line in output.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_table_and_figure_of_seeds_and_models(tmp_path, capsys):
    runs = [
        write_run(tmp_path / "a0", seed=0, shift=-0.01),
        write_run(tmp_path / "b0", fusion="poe", shift=-0.3),
        write_run(tmp_path / "a1", seed=1, shift=0.01),
    ]
    out = tmp_path / "figure.png"
    assert compare.main([*runs, "--out", str(out)]) == 0
    output = capsys.readouterr().out
    assert compare.SPREAD in output.splitlines()
    assert cells(output) == [
        ["", "mopoe", "poe"],
        ["runs", "2", "1"],
        ["Linear probe, 1 input", "0.600 ± 0.014", "0.300 ± 0.030"],
        ["Linear probe, 2 inputs", "0.700 ± 0.014", "0.400"],
        ["Joint log-likelihood, 2 inputs", "-1000.0 ± 1.4", "-1030.0"],
        ["Joint coherence", "0.250 ± 0.014", "-0.050 ± 0.004"],
    ]
    assert min(Image.open(out).size) > 300


def test_the_figure_names_the_experiments(tmp_path):
    runs = [write_run(tmp_path / name, fusion) for name, fusion in (("a", "poe"), ("b", "moe"), ("c", "mopoe"))]
    for run, experiment in zip(runs, ("polymnist", "mnist_svhn", "polymnist"), strict=True):
        Path(run, "run.json").write_text(json.dumps({"experiment": experiment}))
    assert compare.main([*runs, "--out", str(tmp_path / "figure.svg")]) == 0
    assert "<!-- polymnist, mnist_svhn -->" in (tmp_path / "figure.svg").read_text()


def test_the_table_says_what_data_it_is_of(tmp_path, capsys):
    runs = [write_run(tmp_path / name, fusion) for name, fusion in (("a", "poe"), ("b", "moe"), ("c", "mopoe"))]
    for run, source in zip(runs, ("stand-in for SVHN", "stand-in for SVHN", "SVHN files"), strict=True):
        config = json.loads(Path(run, "config.json").read_text())
        Path(run, "config.json").write_text(json.dumps({**config, "dataset": {"svhn": source, "fingerprint": "1"}}))
        Path(run, "run.json").write_text(json.dumps({"experiment": "mnist_svhn"}))
    assert compare.main([*runs, "--out", str(tmp_path / "f.png")]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("data of")]
    assert lines == ["data of mnist_svhn: svhn: stand-in for SVHN", "data of mnist_svhn: svhn: SVHN files"]


def test_namesakes_are_told_apart_by_what_differs(tmp_path, capsys):
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", latent_dim=64), write_run(tmp_path / "c", "poe")]
    assert compare.main([*runs, "--out", str(tmp_path / "f.png")]) == 0
    head = cells(capsys.readouterr().out)[0]
    assert head == ["", "mopoe (latent_dim 32)", "mopoe (latent_dim 64)", "poe"]
    for run, print_of in zip(runs, "abc", strict=True):  # of the data, which follow from settings where those differ
        config = json.loads(Path(run, "config.json").read_text())
        Path(run, "config.json").write_text(json.dumps({**config, "dataset": {"fingerprint": print_of}}))
    assert compare.main([*runs, "--out", str(tmp_path / "f.png")]) == 0
    assert cells(capsys.readouterr().out)[0] == head


def test_what_changes_nothing_of_a_run_makes_no_other_model_of_it(tmp_path, capsys):
    runs = [write_run(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    config = json.loads(Path(runs[1], "config.json").read_text())
    aside = {"figure_format": "pdf", "distributed": "10.0.0.1:8476,0,4", "saving": {"keep_last": 3}}
    config |= {**aside, "training": {**config["training"], "model_parallel": 2}}
    Path(runs[1], "config.json").write_text(json.dumps(config))
    assert compare.main([*runs, "--out", str(tmp_path / "f.png")]) == 0
    assert cells(capsys.readouterr().out)[:2] == [["", "mopoe"], ["runs", "2"]]


def test_runs_without_a_metric_by_number_of_inputs_have_a_table_and_no_figure(tmp_path, capsys):
    runs = [write_run(tmp_path / name, fusion) for name, fusion in (("a", "poe"), ("b", "moe"))]
    for run in runs:
        Path(run, "metrics.json").write_text('{"coherence/joint": 0.25}')
    out = tmp_path / "f.png"
    assert compare.main([*runs, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert ["Joint coherence", "0.250", "0.250"] in cells(said) and "no figure" in said and not out.exists()
    page = tmp_path / "page.md"
    assert compare.main([*runs, "--markdown", str(page)]) == 0
    assert "metrics against" not in page.read_text()


def test_chosen_metrics_rank_the_models(tmp_path, capsys):
    runs = [
        write_run(tmp_path / "b0", fusion="poe", shift=-0.3),
        write_run(tmp_path / "a0", seed=0, shift=-0.01),
        write_run(tmp_path / "a1", seed=1, shift=0.01),
    ]
    names = ["coherence/joint", "log_likelihood/joint/by_size/2"]
    assert compare.main([*runs, "--out", str(tmp_path / "f.png"), "--metrics", *names]) == 0
    assert cells(capsys.readouterr().out) == [
        ["", *names],
        ["mopoe", "0.250 ± 0.014", "-1000.0 ± 1.4"],
        ["poe", "-0.050 ± 0.004", "-1030.0"],
    ]


def test_the_table_of_metrics_says_which_way_is_better(tmp_path, capsys, monkeypatch):
    runs = [write_run(tmp_path / "b", fusion="poe", shift=-0.3), write_run(tmp_path / "a", shift=0.1)]

    def ranked():
        assert compare.main([*runs, "--out", str(tmp_path / "f.png"), "--metrics", "loss/mine"]) == 0
        return [row[0] for row in cells(capsys.readouterr().out)[1:]]

    assert ranked() == ["mopoe", "poe"]
    monkeypatch.setitem(METRICS, "loss", Metric(lambda context: {}, "Loss", "nats", higher_is_better=False))
    assert ranked() == ["poe", "mopoe"]


def test_a_users_own_metric_is_a_row(tmp_path, capsys, monkeypatch):
    run = write_run(tmp_path / "a", shift=0.25)
    monkeypatch.setitem(METRICS, "loss/mine", Metric(lambda context: {}, "My loss", "nats"))
    assert compare.main([run, "--out", str(tmp_path / "f.png")]) == 0
    assert ["My loss", "0.250"] in cells(capsys.readouterr().out)


def test_the_same_folder_twice_counts_once(tmp_path, capsys):
    run = write_run(tmp_path / "a")
    assert compare.main([run, run, "--out", str(tmp_path / "f.png")]) == 0
    assert cells(capsys.readouterr().out)[1] == ["runs", "1"]


def write_origin(folder):
    (folder / "run.json").write_text(
        json.dumps({"trained": {"command": "train me", "versions": {"jax": "9.9"}}, "published": [PAPER]})
    )


def test_results_are_a_page_with_figures_and_a_file_a_run(tmp_path, capsys):
    runs = [write_run(tmp_path / "a0", shift=-0.01), write_run(tmp_path / "a1", seed=1, shift=0.01)]
    runs.append(write_run(tmp_path / "b", fusion="poe", shift=-0.3))
    write_origin(tmp_path / "a1")
    points = [{"train/epochs": n, "train/steps": 5 * n, "probe/by_size/1": 0.1 * n} for n in (1, 2)]
    (tmp_path / "a0" / "curve.json").write_text(json.dumps(points))
    (tmp_path / "b" / "figures").mkdir()
    for name in ("conditional_1", "conditional_4", "unconditional"):
        Image.new("RGB", (2, 2)).save(tmp_path / "b" / "figures" / f"{name}.png")
    page = tmp_path / "out" / "mine.md"
    assert compare.main([*runs, "--markdown", str(page)]) == 0
    assert "| Joint coherence " in capsys.readouterr().out
    text = page.read_text()
    assert cells(text.split("Linear probe:")[1].split("Joint coherence:")[0]) == [
        ["model", "source", "1 input", "2 inputs"],
        ["mopoe", "here, 2 seeds, epochs: not recorded", "0.600 ± 0.014", "0.700 ± 0.014"],
        ["mopoe", "A paper", "0.75", "-"],
        ["poe", "here, 1 seed, epochs: not recorded", "0.300 ± 0.030", "0.400"],
    ]
    assert ["mopoe", "A paper", "0.125"] in cells(text)
    assert ["mopoe", "0, 1"] in [row[:2] for row in cells(text)]
    assert "    train me  # trained" in text and "jax 9.9." in text and "mopoe of A paper: 300 epochs." in text
    assert f"--markdown {page}" in text
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    names = ["metrics", "joint_coherence", "a0-learning_curve", "b-unconditional", "b-conditional"]
    assert pictures == [f"mine/{name}.png" for name in names]
    assert all((page.parent / name).is_file() for name in pictures)
    found = json.loads((page.parent / "mine" / "a1.json").read_text())
    assert found["trained"] == {"command": "train me", "versions": {"jax": "9.9"}}
    assert found["metrics"]["probe/by_size/1"] == pytest.approx(0.61) and found["config"]["seed"] == 1
    assert json.loads((page.parent / "mine" / "a0.json").read_text())["learning_curve"] == points
    before = {path: path.read_bytes() for path in page.parent.rglob("*") if path.suffix in (".md", ".json")}
    assert compare.main([*runs, "--markdown", str(page)]) == 0
    assert {path: path.read_bytes() for path in before} == before


def test_results_are_refused_where_they_cannot_be_told(tmp_path, capsys):
    run = write_run(tmp_path / "a")
    assert_refused(capsys, [run, "--markdown", str(tmp_path / "results")], "name a .md file")
    namesakes = [run, write_run(tmp_path / "other" / "a", fusion="poe")]
    page = str(tmp_path / "page.md")
    assert_refused(capsys, [*namesakes, "--markdown", page], "two runs are called a")
    (tmp_path / "file").write_text("")
    assert_refused(capsys, [run, "--markdown", str(tmp_path / "file" / "page.md")], "cannot be written")
    for name, content in (("run.json", "[]"), ("run.json", '{"published": [{"x": 1}]}'), ("curve.json", "[1]")):
        (tmp_path / "a" / name).write_text(content)
        assert_refused(capsys, [run, "--markdown", page], name)
        (tmp_path / "a" / name).unlink()


def spoil(folder, name, content):
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", None, "no metrics.json in"),
        ("config.json", None, "no config.json in"),
        ("metrics.json", '{"probe/m0": ', "cannot read"),
        ("metrics.json", "[]", "it holds a list in place of an object"),
        ("metrics.json", '{"probe/m0": "high"}', "probe/m0 is no number"),
    ],
)
def test_a_damaged_run_is_told_in_one_line(tmp_path, capsys, name, content, message):
    run = write_run(tmp_path / "a")
    spoil(tmp_path / "a", name, content)
    assert_refused(capsys, [run], message)


def test_mistakes_on_the_command_line(tmp_path, capsys):
    run = write_run(tmp_path / "a")
    assert_refused(capsys, [str(tmp_path / "missing")], "no folder")
    assert_refused(capsys, [], "required: DIR")
    assert_refused(capsys, [run, "--out", str(tmp_path / "figure.xyz")], "name a .png, .pdf or .svg file")
    assert_refused(capsys, [run, "--metrics", "synergy/top"], "no run has the metric 'synergy/top'")
    assert_refused(capsys, [run, "--out", str(tmp_path / "no" / "f.png")], "cannot be written")


def assert_refused(capsys, arguments, message):
    assert compare.main(arguments) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and errors.startswith("error: ") and message in errors, errors
