"""CUB captions: the paper's settings, networks of pictures and of features, and mistakes."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.cub_captions import EXPERIMENT
from mmvae_jax.data.batching import Dataset, fixed_split
from mmvae_jax.data.captions import Captioned
from mmvae_jax.runs.config import from_record, parse, to_record
from mmvae_jax.runs.runner import main


def config(*arguments: str):
    return parse(EXPERIMENT.presets, "cub_captions", arguments)


def test_the_paper_preset_is_the_papers():
    """Section F.3 and Tables F.5 and F.6."""
    paper = config("--preset=paper", "--model=svae", "--image-features=x.npy")
    assert (paper.epochs, paper.architecture.latent_dim, paper.training.learning_rate) == (200, 64, 1e-4)
    assert paper.own.word_widths == (32, 64, 128, 256, 512) and paper.own.feature_widths == (1024, 512, 256)
    assert (paper.own.reading.caption_length, paper.own.reading.image_features) == (32, "x.npy")
    assert from_record(EXPERIMENT.presets["quick"], to_record(paper)).own == paper.own


def model_of(chosen, pictures, look_up, length):
    """The model of a configuration over two tuples of nothing."""
    captioned = Captioned("seen", "said", ("", "<unknown>", "bird"), np.zeros((3, 2)), look_up)
    split = fixed_split({"seen": pictures, "said": np.zeros((2, length), np.int32)}, np.arange(2))
    dataset = Dataset("tiny", ("seen", "said"), split, split, 2, captioned=captioned)
    return replace(chosen.architecture, modalities=EXPERIMENT.modalities(chosen, dataset))


@pytest.mark.parametrize("length", [8, 32])
def test_pictures_have_convolutions_and_captions_the_networks_of_sentences(length):
    model = model_of(config("--private-dim=3", "--caption-weight=7"), np.zeros((2, 64, 64, 3), np.uint8), None, length)
    image, caption = model.modalities
    assert image.pixels and (image.shape, caption.shape) == ((64, 64, 3), (length,))
    assert (image.weight, caption.weight, image.private_dim, caption.private_dim) == (1, 7, 3, 3)
    assert model.classes == {"said": 3} and caption.symbols == ("", "<unknown>", "bird")
    jax.eval_shape(model.init, jax.random.key(0))


def test_features_have_the_layers_of_table_f6_and_their_photographs():
    def look_up(x):
        return np.zeros((len(x), 4, 4, 3), np.uint8)

    model = model_of(config("--preset=paper"), np.zeros((2, 2048), np.float32), look_up, 32)
    shapes = jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(model.init, jax.random.key(0)))
    trunk, decoder = shapes["inference"]["seen"]["trunks_0"], shapes["decoders"]["seen"]
    assert [layer["kernel"] for _, layer in sorted(trunk.items())] == [(2048, 1024), (1024, 512), (512, 256)]
    kernels = [(64, 256), (256, 512), (512, 1024), (1024, 2048)]
    assert [layer["kernel"] for _, layer in sorted(decoder.items())] == kernels
    features = model.modalities[0]
    assert features.look_up is look_up and not features.pixels and features.likelihood == "laplace"


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--min-count=0", "min-count=0: give at least 1"),
        ("--data=tfds", "data=tfds: it has no captions of CUB"),
        ("--data=nowhere", "--data=nowhere: no such folder"),
    ],
)
def test_mistakes_are_told_in_one_line(argument, said, tmp_path, capsys):
    assert main(EXPERIMENT, [argument, f"--out={tmp_path / 'run'}", f"--cache={tmp_path}"]) == 2
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1
