"""Faces with text and with attributes: tiny runs on drawn ones to their scores, settings of the papers, mistakes."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments import celeba_attributes, celeba_text
from mmvae_jax.data.batching import take
from mmvae_jax.data.celeba import ATTRIBUTES as TABLE
from mmvae_jax.data.celeba import IMAGES, PARTITION
from mmvae_jax.data.drawn_faces import ATTRIBUTES
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation import chosen_metrics
from mmvae_jax.evaluation.context import evaluated_subsets
from mmvae_jax.evaluation.measuring import labelled
from mmvae_jax.objectives import OBJECTIVES
from mmvae_jax.runs.config import parse
from mmvae_jax.runs.runner import main

TEXT, VECTORS = celeba_text.EXPERIMENT, celeba_attributes.EXPERIMENT
TINY = [
    "--size", "16", "--train-faces", "60", "--test-faces", "40", "--widths", "4", "--latent-dim", "4", "--batch-size",
    "16", "--steps", "2", "--log-likelihood-samples", "2", "--log-likelihood-examples", "4", "--probe-train-examples",
    "50", "--joint-samples", "10", "--classifier.steps", "2", "--pictures", "8",
    "--metrics", "average_precision", "FD",
]  # fmt: skip
AVERAGES = (
    "latent/image_stand_in", "latent/text_stand_in", "latent/image_stand_in+text_stand_in",
    "generated/image_stand_in->text_stand_in", "generated/text_stand_in->image_stand_in",
)  # fmt: skip


def config(experiment, *arguments: str):
    return parse(experiment.presets, experiment.name, arguments)


def test_settings_of_the_papers():
    text = config(TEXT, "--preset=paper")
    assert (text.architecture.latent_dim, text.own.private_dim, text.epochs) == (32, 32, 200)
    assert (text.training.beta, text.training.learning_rate, text.own.size) == (2.5, 5e-4, 64)
    paper, nineteen = (config(VECTORS, f"--preset={name}") for name in ("paper", "paper_19"))
    for each in (paper, nineteen):
        assert (each.architecture.latent_dim, each.epochs, each.anneal_epochs, each.own.hidden) == (100, 100, 20, 512)
        assert (each.training.learning_rate, each.training.batch_size) == (1e-4, 100)
    assert (paper.own.split_attributes, nineteen.own.split_attributes) == (False, True)
    assert nineteen.training.options.random_subsets == 1


@pytest.mark.parametrize("split", [False, True])
def test_attributes_are_one_modality_or_eighteen_and_modalities_are_dropped(split):
    flags = ["--split-attributes", "--model=mvae"] if split else []
    own = config(VECTORS, "--train-faces=300", "--test-faces=5", "--size=16", "--drop=0.9", *flags)
    dataset = VECTORS.load(own)
    model = replace(own.architecture, modalities=VECTORS.modalities(own, dataset))
    assert (
        model.names
        == (("image_stand_in", *ATTRIBUTES) if split else ("image_stand_in", "attributes"))
        == dataset.modalities
    )
    assert {m.weight for m in model.modalities[1:]} == {10.0} and model.modalities[0].weight == 1
    assert dataset.provenance["attributes"] == "18" and "dropped with probability 0.9" in dataset.provenance["tuples"]
    present = np.asarray(dataset.train.presence)
    assert present.shape == (300, len(model.names)) and present.any(1).all() and dataset.test.presence is None
    assert present.mean() == pytest.approx(0.1 if split else 0.5, abs=0.1)
    x = dataset.train.arrays[0]
    faces = np.stack([x[name] for name in ATTRIBUTES], 1) if split else x["attributes"]
    assert set(np.unique(faces)) == {0, 1} and faces.shape == (300, 18)


@pytest.fixture(scope="module")
def of_text(tmp_path_factory):
    """The folder of a tiny run on faces and text."""
    out = tmp_path_factory.mktemp("text") / "run"
    flags = ["--text-widths", "4", "--private-dim=2", "--model=mopoe", f"--out={out}", f"--cache={out.parent}"]
    assert main(TEXT, [*TINY, *flags]) == 0
    return out


@pytest.mark.slow
def test_a_run_on_text_reports_average_precisions_beside_chance(of_text):
    metrics = json.loads((of_text / "metrics.json").read_text())
    frequency = labelled(metrics, "average_precision/frequency")
    assert len(frequency) >= 10 and frequency.keys() <= set(ATTRIBUTES)
    assert metrics["average_precision/chance"] == pytest.approx(np.mean(list(frequency.values())))
    for label in AVERAGES:
        kind, _, where = label.partition("/")
        each = labelled(metrics, f"average_precision/{kind}_each")
        single = [each[f"{where}/{name}"] for name in frequency]
        assert metrics[f"average_precision/{label}"] == pytest.approx(np.mean(single))
        assert metrics[f"standard_error/average_precision/{label}"] > 0
    assert {"FD/conditional/text_stand_in->image_stand_in", "FD/unconditional/image_stand_in"} <= metrics.keys()
    assert all(np.isfinite(value) for value in metrics.values())


def test_faces_have_no_classes_to_be_measured_by():
    dataset = TEXT.load(config(TEXT, "--train-faces=2", "--test-faces=2"))
    assert dataset.modalities == ("image_stand_in", "text_stand_in")
    applying = chosen_metrics((), dataset)
    assert "average_precision/latent" in applying
    assert not [name for name in applying if name.startswith(("probe", "coherence", "classifier"))]
    with pytest.raises(UserError, match="metrics probe: celeba_stand_in_text has nothing to be measured by it"):
        chosen_metrics(("FD", "probe"), dataset)


@pytest.mark.slow
def test_the_report_has_a_table_of_attributes(of_text):
    page = (of_text / "report.html").read_text()
    table = page.partition("Metrics by attribute")[2].partition("</section>")[0]
    assert (
        table.count("<tr>") == 1 + len(ATTRIBUTES)
        and "Average precision, generated, text_stand_in → image_stand_in" in table
    )
    assert "Average precision by chance" in page and "stand-in for CelebA" in page
    assert "latent_each" not in page


def test_nineteen_modalities_take_random_subsets_and_every_attribute_is_told_as_a_label():
    flags = ["--split-attributes", "--random-subsets=1", "--train-faces=20", "--test-faces=2", "--model=mvae"]
    own = config(VECTORS, *flags)
    dataset = VECTORS.load(own)
    model = replace(own.architecture, modalities=VECTORS.modalities(own, dataset))
    loss = OBJECTIVES[own.training.objective].loss
    params = jax.eval_shape(model.init, jax.random.key(0))
    batch = take(dataset.train, jax.random.key(1), 20)

    def terms(params):
        return loss(model, params, jax.random.key(2), batch, 1.0, own.training.options)[1]

    assert {f"log_likelihood/{name}" for name in model.names} <= jax.eval_shape(terms, params).keys()
    assert [m.name for m in model.modalities if m.discrete and m.shape == ()] == list(ATTRIBUTES)
    subsets = evaluated_subsets(19).tolist()
    assert len(subsets) == 31 and [False] + 18 * [True] in subsets  # of which the supplement has the image's likelihood


@pytest.fixture
def damaged(tmp_path):
    """Official files without a row for the only face; the photograph is not reached."""
    (tmp_path / IMAGES).mkdir()
    (tmp_path / PARTITION).write_text("000001.jpg 0\n000002.jpg 2\n")
    (tmp_path / TABLE).write_text(f"2\n{' '.join(ATTRIBUTES)}\n000001.jpg {' '.join(['1'] * 18)}\n")
    return tmp_path


@pytest.mark.parametrize("experiment", [TEXT, VECTORS], ids=lambda experiment: experiment.name)
def test_mistakes_are_told_in_one_line(experiment, damaged, capsys):
    folders = [f"--out={damaged / 'run'}", f"--cache={damaged}"]
    mistakes = {
        f"--data={damaged}": "has no row of 000002.jpg",
        "--size=4": "size=4: give at least 16",
        "--text-length=64" if experiment is TEXT else "--drop=2": "64" if experiment is TEXT else "drop probability 2",
    }
    for argument, said in mistakes.items():
        assert main(experiment, [argument, *folders, "--train-faces=50", "--test-faces=2"]) == 2
        message = capsys.readouterr().err
        assert said in message and message.count("\n") == 1


def test_real_faces_fit_both_experiments(real_data, tmp_path):
    """Official files become the data of both, and small networks take them."""
    for experiment in (TEXT, VECTORS):
        own = config(experiment, f"--data={real_data}", f"--cache={tmp_path}", "--size=16", "--widths", "4", "8")
        dataset = experiment.load(own)
        model = replace(own.architecture, modalities=experiment.modalities(own, dataset))
        assert len(dataset.attributes.values) == (40 if experiment is TEXT else 18)
        jax.eval_shape(model.init, jax.random.key(0))
