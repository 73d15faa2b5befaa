"""Translation: settings and networks, and a tiny run to its BLEU both ways and its figure of sentences."""

import json

import jax
import numpy as np
import pytest

from experiments.translation import EXPERIMENT
from mmvae_jax.evaluation.measuring import labelled
from mmvae_jax.model import Model
from mmvae_jax.runs.config import parse
from mmvae_jax.runs.runner import main

TINY = [
    "--highest", "99", "--train-tuples", "40", "--test-tuples", "10", "--pieces", "40", "--units", "4",
    "--embedding", "3", "--latent-dim", "2", "--batch-size", "16", "--steps", "3", "--log-likelihood-samples", "2",
    "--log-likelihood-examples", "4",
    "--metrics", "bleu", "accuracy", "log_likelihood",
]  # fmt: skip


def config(*arguments: str):
    return parse(EXPERIMENT.presets, "translation", arguments)


def test_paper_preset_and_networks_have_the_sizes_of_multimnists_strings():
    paper = config("--preset=paper")
    assert (paper.architecture.latent_dim, paper.own.units, paper.training.batch_size) == (100, 200, 100)
    own = config(*TINY, "--units=200", "--embedding=30", "--private-dim=3")
    dataset = EXPERIMENT.load(own)
    assert dataset.modalities == ("en_numbers", "vi_numbers") and dataset.num_classes < 2
    modalities = EXPERIMENT.modalities(own, dataset)
    assert [(m.name, m.private_dim, m.symbols) for m in modalities] == [
        (name, 3, symbols) for name, symbols in dataset.sentences.items()
    ]
    model = Model(modalities, latent_dim=100)
    shapes = jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(model.init, jax.random.key(0)))
    assert shapes["inference"]["en_numbers"]["head"]["kernel"][0] == 400
    (step,) = (layer for name, layer in shapes["decoders"]["en_numbers"].items() if "Dense" not in name)
    categories = len(dataset.sentences["en_numbers"])
    assert step["Dense_0"]["kernel"] == (200, categories)
    # The start is read as well; z comes with every symbol, that of English itself included.
    assert step["Embed_0"]["embedding"] == (categories + 1, 30)
    assert step["GRUCell_0"]["in"]["kernel"] == (100 + 3 + 30, 200)


@pytest.mark.slow
def test_a_run_reports_bleu_both_ways_of_what_it_is_called(tmp_path):
    out = tmp_path / "run"
    arguments = ["--fusion=poe", "--supervision=0.5", f"--out={out}", f"--cache={tmp_path / 'cache'}"]
    assert main(EXPERIMENT, [*TINY, *arguments]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    names = ("en_numbers", "vi_numbers")
    given = (*names, "+".join(names))
    assert set(labelled(metrics, "bleu")) == {f"{each}->{target}" for each in given for target in names}
    assert all(0 <= value <= 100 for value in labelled(metrics, "bleu").values())
    assert set(labelled(metrics, "accuracy")) == {"->".join(names), "->".join(reversed(names))}
    assert all(np.isfinite(value) for value in metrics.values())
    page = (out / "report.html").read_text()
    assert "a stand-in for IWSLT" in page and "BLEU → en_numbers" in page
    assert (out / "figures" / "translations.png").is_file()


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--highest=60", "highest=60: give at least 999"),
        ("--pieces=3", "pieces=3: the sentences have"),
        ("--data=tfds", "data=tfds: IWSLT'15 is not downloaded"),
        ("--data=nowhere", "--data=nowhere: no such folder"),
    ],
)
def test_mistakes_are_told_in_one_line(argument, said, tmp_path, capsys):
    assert main(EXPERIMENT, [argument, f"--out={tmp_path / 'run'}", f"--cache={tmp_path}"]) == 2
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1
