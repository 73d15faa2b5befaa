"""Images and labels: the paper's settings and networks, a tiny run to its accuracy, and the baselines beside it."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments import baselines, binary_mnist_label, fashion_label, mnist_label
from mmvae_jax.baselines import BASELINES
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation.measuring import labelled
from mmvae_jax.runs.baselines import main as compare_baselines
from mmvae_jax.runs.baselines import published_curves
from mmvae_jax.runs.config import parse
from mmvae_jax.runs.runner import main, prepare

TINY = [
    "--hidden", "8", "--latent-dim", "4", "--batch-size", "16", "--steps", "3", "--log-likelihood-samples", "2",
    "--log-likelihood-examples", "8", "--test-examples", "40", "--probe-train-examples", "60", "--joint-samples", "20",
    "--classifier.steps", "4",
    "--metrics", "accuracy", "log_likelihood",
]  # fmt: skip


def config(experiment, *arguments: str):
    return parse(experiment.presets, experiment.name, arguments)


def kernels(layers):
    return [layer["kernel"] for _, layer in sorted(layers.items())]


@pytest.mark.parametrize("experiment", baselines.EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_paper_presets_are_the_papers(experiment):
    paper = config(experiment, "--preset=paper", "--model=mvae")
    training = paper.training
    assert (paper.epochs, paper.anneal_epochs, paper.architecture.latent_dim) == (500, 200, 64)
    assert (training.batch_size, training.learning_rate, training.beta, training.schedule) == (
        100,
        1e-3,
        1.0,
        "constant",
    )
    assert paper.own.validation == 1 / 6 and paper.evaluation.log_likelihood_samples == 1000


def test_annealing_takes_a_share_of_the_epochs_unless_steps_are_given():
    """4,000 embedded training images, of which a sixth is set aside: 33 steps an epoch."""
    tiny = ("--preset=paper", "--hidden=8", "--latent-dim=4")
    training = prepare(mnist_label.EXPERIMENT, config(mnist_label.EXPERIMENT, *tiny)).training
    assert (training.steps, training.anneal_steps) == (500 * 33, 200 * 33)
    np.testing.assert_allclose(
        [float(training.beta_at(step)) for step in (0, 3300, 6600, 16_000)], [0, 0.5, 1, 1], atol=1e-6
    )
    given = prepare(
        mnist_label.EXPERIMENT, config(mnist_label.EXPERIMENT, *tiny, "--steps=7", "--anneal-steps=3")
    ).training
    assert (given.steps, given.anneal_steps) == (7, 3)


def test_a_negative_annealing_is_refused():
    with pytest.raises(UserError, match="anneal-epochs=-1: give 0"):
        config(mnist_label.EXPERIMENT, "--anneal-epochs=-1")


@pytest.mark.parametrize("experiment", baselines.EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_every_modality_may_have_a_latent_of_its_own(experiment):
    chosen = config(experiment, "--private-dim=3")
    assert [m.private_dim for m in experiment.modalities(chosen, experiment.load(chosen))] == [3, 3]


def test_binarisation_is_a_flag_and_the_modality_says_so():
    assert config(binary_mnist_label.EXPERIMENT).own.binarisation == "fixed"
    for experiment, arguments, name in (
        (mnist_label.EXPERIMENT, (), "mnist"),
        (binary_mnist_label.EXPERIMENT, ("--binarisation=stochastic",), "binary_mnist"),
    ):
        dataset = experiment.load(config(experiment, *arguments))
        assert dataset.modalities == (name, "label")
        assert dataset.provenance["binarisation"] == (arguments and "stochastic" or "none")
        names = {f"marginal_by_all/{name}", f"joint/{name}+label", f"conditional/label->{name}"}
        names |= {f"marginal_by_all_variance/{name}", f"variance/{name}+label"}
        assert {name for each in experiment.published for name in each.metrics} == {
            f"log_likelihood/{n}" for n in names
        }


def test_networks_are_the_papers():
    for experiment, image in ((mnist_label.EXPERIMENT, "mnist"), (fashion_label.EXPERIMENT, "fashion_stand_in")):
        chosen = config(experiment, "--preset=paper", "--label-weight=7")
        modalities = experiment.modalities(chosen, experiment.load(chosen))
        model = replace(chosen.architecture, modalities=modalities)
        assert [(m.name, m.likelihood, m.weight) for m in modalities] == [
            (image, "bernoulli", 1),
            ("label", "categorical", 7),
        ]
        shapes = jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(model.init, jax.random.key(0)))
        encoders = {name: kernels(network["trunks_0"]) for name, network in shapes["inference"].items()}
        decoders = {name: kernels(network) for name, network in shapes["decoders"].items()}
        assert encoders["label"] == [(10, 512), (512, 512)] and decoders["label"] == [(64, 512), (512, 512), (512, 10)]
        if image == "mnist":
            assert (encoders[image], decoders[image]) == ([(784, 512), (512, 512)], [(64, 512), (512, 512), (512, 784)])
        else:
            assert encoders[image] == [(4, 4, 1, 64), (4, 4, 64, 128), (7 * 7 * 128, 512)]
            assert decoders[image] == [(4, 4, 128, 64), (4, 4, 64, 1), (64, 512), (512, 7 * 7 * 128)]


def test_classes_are_called_what_they_are(real_data):
    for data, symbols in (("embedded", tuple("0123456789")), (real_data, fashion_label.CLOTHES)):
        chosen = config(fashion_label.EXPERIMENT, f"--data={data}")
        assert fashion_label.modalities(chosen, fashion_label.load(chosen))[1].symbols == symbols


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    arguments = ["--model=mvae", "--supervision=0.5", f"--out={folder / 'run'}", f"--cache={folder / 'cache'}"]
    assert main(mnist_label.EXPERIMENT, [*TINY, *arguments]) == 0
    return folder / "run"


@pytest.mark.slow
def test_a_run_reports_the_accuracy_of_labels_and_traversals(run):
    metrics = json.loads((run / "metrics.json").read_text())
    (accuracy,) = labelled(metrics, "accuracy").items()
    assert accuracy[0] == "mnist->label" and accuracy[1] * 40 == pytest.approx(round(accuracy[1] * 40))
    assert (run / "figures" / "traversals.png").is_file()
    # The paper's numbers are of all pairs.
    assert "-90.616" not in (run / "report.html").read_text()


@pytest.mark.slow
def test_baselines_stand_beside_the_runs_and_are_trained_once(run, tmp_path, capsys, monkeypatch):
    command = ["mnist_label", "--levels", "0.02", "1", "--baselines", "logistic", f"--out={tmp_path}"]
    assert compare_baselines(baselines.EXPERIMENTS, [*command, "--runs", str(run)]) == 0
    said = capsys.readouterr().out
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in said.splitlines()
        if line.startswith("| ")
    }
    assert rows["paired"] == ["2 %", "50 %", "100 %"] and rows.keys() == {"paired", "logistic", "mvae"}
    metrics = json.loads((run / "metrics.json").read_text())
    assert rows["mvae"] == [
        "-",
        f"{metrics['accuracy/mnist->label']:.3f} ± {metrics['standard_error/accuracy/mnist->label']:.3f}",
        "-",
    ]
    few, none, all_pairs = (cell.partition(" ")[0] for cell in rows["logistic"])
    # 80 labels and 4,000: the embedded digits' 0.89 of logistic regression.
    assert none == "-" and 0.5 < float(few) < 0.8 < 0.87 < float(all_pairs) < 0.92
    assert (tmp_path / "accuracy.png").is_file()
    monkeypatch.setattr("mmvae_jax.runs.baselines.accuracy", None)
    assert compare_baselines(baselines.EXPERIMENTS, command) == 0
    assert few in capsys.readouterr().out
    assert compare_baselines(baselines.EXPERIMENTS, ["fashion_label", *command[1:], "--runs", str(run)]) == 2
    assert "was trained on other data than fashion_stand_in_label" in capsys.readouterr().err


def test_published_baselines_are_those_of_the_same_data():
    stand_in = fashion_label.load(config(fashion_label.EXPERIMENT))
    assert published_curves(fashion_label.EXPERIMENT, stand_in, {0.05}) == {}
    fashion = replace(stand_in, modalities=("fashion", "label"))
    found = published_curves(fashion_label.EXPERIMENT, fashion, {0.05, 0.3})
    assert found["network, MVAE supplement"] == {0.05: [0.8439]}
    assert found["mvae, MVAE supplement"] == {0.05: [0.9243]}
    models = [name.partition(",")[0] for name in found]
    assert models == [*BASELINES, "jmvae", "mvae"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope"], "unknown experiment 'nope': choose one of mnist_label, binary_mnist_label, fashion_label"),
        (["mnist_label", "--baselines", "nope"], "unknown baseline 'nope'"),
        (["mnist_label", "--preset", "nope"], "unknown preset 'nope': choose one of quick, paper"),
        (["mnist_label", "--levels", "2"], "supervision level 2.0"),
        (["mnist_label", "--steps", "0"], "--steps=0: give at least 1"),
        (["mnist_label", "--levels", "1", "--runs", "nowhere"], "no folder nowhere"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, said, tmp_path, capsys):
    assert compare_baselines(baselines.EXPERIMENTS, [*arguments, f"--out={tmp_path}"]) == 2
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1
