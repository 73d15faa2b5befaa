"""Pictures show what they say: the right examples in the right cells, for every kind of modality."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mmvae_jax import plotting
from mmvae_jax.data.batching import Dataset, fixed_split
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.mlp import MLPEncoder

pytestmark = pytest.mark.usefixtures("quick_compile")


class Constant(nn.Module):
    """A decoder that always puts out its one parameter."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, z):
        value = self.param("value", nn.initializers.zeros, self.shape)
        return jnp.broadcast_to(value, (len(z), *self.shape))


SHAPES = {"colour": (6, 8, 3), "grey": (6, 6, 1), "word": (4,), "vector": (5,), "label": ()}
CATEGORIES = {"word": 27, "label": 3}


def modality(name):
    discrete = name in CATEGORIES
    output = (*SHAPES[name], CATEGORIES[name]) if discrete else SHAPES[name]
    likelihood = "categorical" if discrete else "normal"
    return Modality(name, SHAPES[name], MLPEncoder((4,)), Constant(output), likelihood)


MODEL = Model(tuple(modality(name) for name in SHAPES), latent_dim=2)


def split(n, presence=None):
    rng = np.random.default_rng(0)
    label = np.arange(n) % 3
    x = {
        "colour": rng.integers(0, 256, (n, 6, 8, 3)).astype(np.uint8),
        "grey": rng.uniform(size=(n, 6, 6, 1)).astype(np.float32),
        "word": rng.integers(0, 26, (n, 4)).astype(np.int32),
        "vector": rng.normal(size=(n, 5)).astype(np.float32),
        "label": label.astype(np.int32),
    }
    return fixed_split(x, jnp.asarray(label), presence)


@pytest.fixture(scope="module")
def dataset():
    presence = jnp.ones((40, 5), bool).at[:6, 2].set(False)
    return Dataset("toy", tuple(SHAPES), split(40), split(40, presence), 3)


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts] + [t.get_text() for t in figure.texts]


def images(figure):
    return [[np.asarray(image.get_array()) for image in axes.images] for axes in figure.axes]


def test_examples_are_complete_and_of_all_classes_in_order(dataset):
    batch = plotting.examples(dataset, jax.random.key(0), count=6)
    np.testing.assert_array_equal(batch.label, [0, 0, 1, 1, 2, 2])
    assert bool(batch.present.all())


def test_every_kind_of_modality_is_drawn_from_its_own_values(dataset):
    batch = plotting.examples(dataset, jax.random.key(0), count=3)
    figure = plotting.data_figure(MODEL, batch)
    colour, grey, word, vector, label = figure.axes
    np.testing.assert_allclose(images(figure)[0], np.asarray(batch.x["colour"]) / 255, atol=1e-6)
    np.testing.assert_allclose([i[..., 1:2] for i in images(figure)[1]], batch.x["grey"], atol=1e-6)
    words = ["".join(chr(97 + letter) for letter in row) for row in np.asarray(batch.x["word"])]
    assert [t.get_text() for t in word.texts] == ["word", *words]
    assert [t.get_text() for t in label.texts] == ["label", "0", "1", "2"]
    for line, values in zip(vector.lines, np.asarray(batch.x["vector"]), strict=True):
        assert np.corrcoef(np.asarray(line.get_ydata(), float), values)[0, 1] == pytest.approx(1)
    assert not any(axes.axison for axes in (colour, grey, word, vector, label))


def test_pixels_beyond_the_range_are_clipped():
    strip = plotting.Strip(modality("grey"), np.full((2, 6, 6, 1), 3.0), "x")
    assert np.max(images(plotting.strips_figure([strip], "title"))) == 1


def test_symbols_outside_the_alphabet_are_written_as_numbers():
    assert plotting.symbols_to_text([7, 8, -1]) == "hi"
    assert plotting.symbols_to_text([7, 99]) == "7 99"


def test_reconstructions_pair_each_input_with_the_decoders_output(dataset):
    params = MODEL.init(jax.random.key(0))
    params["decoders"]["grey"]["value"] = jnp.full((6, 6, 1), 0.25)
    params["decoders"]["label"]["value"] = jnp.array([0.0, 5.0, 0.0])
    batch = plotting.examples(dataset, jax.random.key(0), count=3)
    figure = plotting.reconstructions_figure(MODEL, params, jax.random.key(1), batch)
    np.testing.assert_allclose([i[..., :1] for i in images(figure)[2]], batch.x["grey"], atol=1e-6)
    np.testing.assert_allclose(images(figure)[3], 0.25)
    assert [t.get_text() for t in figure.axes[-1].texts] == ["reconstructed", "1", "1", "1"]


def test_conditional_samples_show_the_inputs_and_draws_of_the_target(dataset):
    params = MODEL.init(jax.random.key(0))
    batch = plotting.examples(dataset, jax.random.key(0), count=3)
    subset = ["colour", "label"]
    figure = plotting.conditional_figure(MODEL, params, jax.random.key(1), batch, subset, "grey", draws=4)
    assert len(figure.axes) == 2 + 4
    assert "grey generated from colour + label" in texts(figure)
    np.testing.assert_allclose(images(figure)[0], np.asarray(batch.x["colour"]) / 255, atol=1e-6)


def test_curves_are_the_mean_and_deviation_over_runs():
    def run(shift):
        return {f"probe/by_size/{n}": 0.5 + 0.1 * n + shift for n in (1, 2, 3)} | {"probe/m0": 0.1}

    figure = plotting.metrics_figure({"a": [run(-0.1), run(0.1)], "b": [run(0.0)]})
    (axes,) = figure.axes
    first, second = axes.lines
    for line in (first, second):
        np.testing.assert_allclose(np.asarray(line.get_xydata()), [[1, 0.6], [2, 0.7], [3, 0.8]])
    (band,) = axes.collections
    low = np.min(np.asarray(band.get_paths()[0].vertices)[:, 1])
    assert low == pytest.approx(0.6 - np.std([-0.1, 0.1], ddof=1))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_a_lone_run_shows_its_subsets_too():
    metrics = {"coherence/conditional/by_size/1": 0.5, "coherence/conditional/m0->m1": 0.4}
    metrics |= {"coherence/conditional/m0+m2->m1": 0.6}
    (axes,) = plotting.metrics_figure({"": [metrics]}).axes
    np.testing.assert_allclose(np.asarray(axes.collections[0].get_offsets()), [[1, 0.4], [2, 0.6]])


def test_draw_all_writes_readable_pictures_of_the_documented_names(dataset, tmp_path):
    metrics = {"probe/by_size/1": 0.5, "probe/by_size/2": 0.6}
    paths = plotting.draw_all(
        MODEL, MODEL.init(jax.random.key(0)), dataset, metrics, jax.random.key(1), tmp_path / "figures"
    )
    names = ["data", "reconstructions", "unconditional", "conditional_1", "conditional_4", "metrics"]
    assert [path.name for path in paths] == [f"{name}.png" for name in names]
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("L"))
        assert pixels.std() > 5
