"""Pictures show what they say: the right examples in the right cells, for every kind of modality."""

import string
from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from mmvae_jax.data.batching import Batch, Dataset, fixed_split
from mmvae_jax.data.tasks import Task
from mmvae_jax.evaluation import SAMPLERS, Context, EvaluationSettings
from mmvae_jax.gaussian import Gaussian
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.mlp import MLPEncoder
from mmvae_jax.plotting import figures
from mmvae_jax.plotting.sentences import sentences_figure
from mmvae_jax.plotting.strips import Strip, strips_figure
from mmvae_jax.priors import GaussianMixture


class Constant(nn.Module):
    """A decoder that always puts out its one parameter."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, z):
        value = self.param("value", nn.initializers.zeros, self.shape)
        return jnp.broadcast_to(value, (len(z), *self.shape))


def test_signs_in_sentences_are_no_mathematics(tmp_path):
    dear = "$1 % $2"
    texts = Modality("said", (1,), MLPEncoder((2,)), MLPEncoder((2,)), "categorical", symbols=(dear,))
    for figure in (
        sentences_figure([[("given", dear)]], "Said"),
        strips_figure([Strip(texts, np.zeros((2, 1), int), "said")], "Said"),
    ):
        figure.savefig(tmp_path / "figure.png")
        assert dear in [text.get_text() for text in figure.findobj(Text)]


SHAPES = {"colour": (6, 8, 3), "grey": (6, 6, 1), "word": (4,), "vector": (5,), "label": ()}
CATEGORIES = {"word": 27, "label": 3}
SYMBOLS = {"word": tuple(string.ascii_lowercase), "label": ("cat", "dog")}


def modality(name):
    discrete = name in CATEGORIES
    output = (*SHAPES[name], CATEGORIES[name]) if discrete else SHAPES[name]
    likelihood = "categorical" if discrete else "normal"
    return Modality(
        name,
        SHAPES[name],
        MLPEncoder((4,), CATEGORIES.get(name, 0)),
        Constant(output),
        likelihood,
        pixels=name in ("colour", "grey"),
        symbols=SYMBOLS.get(name, ()),
    )


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
    return fixed_split(jax.tree.map(jnp.asarray, x), jnp.asarray(label), presence)


@pytest.fixture(scope="module")
def dataset():
    presence = jnp.ones((40, 5), bool).at[:6, 2].set(False)
    return Dataset("toy", tuple(SHAPES), split(40), split(40, presence), 3)


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts] + [t.get_text() for t in figure.texts]


def images(figure):
    return [[np.asarray(image.get_array()) for image in axes.images] for axes in figure.axes]


def test_examples_are_complete_and_of_all_classes_in_order(dataset):
    batch = figures.examples(dataset, jax.random.key(0), count=6)
    np.testing.assert_array_equal(batch.label, [0, 0, 1, 1, 2, 2])
    assert bool(batch.present.all())


def test_every_kind_of_modality_is_drawn_from_its_own_values(dataset):
    batch = figures.examples(dataset, jax.random.key(0), count=3)
    figure = figures.data_figure(MODEL, batch)
    colour, grey, word, vector, label = figure.axes
    np.testing.assert_allclose(images(figure)[0], np.asarray(batch.x["colour"]) / 255, atol=1e-6)
    np.testing.assert_allclose([i[..., 1:2] for i in images(figure)[1]], batch.x["grey"], atol=1e-6)
    words = ["".join(chr(97 + letter) for letter in row) for row in np.asarray(batch.x["word"])]
    assert [t.get_text() for t in word.texts] == ["word", *words]
    assert [t.get_text() for t in label.texts] == ["label", "cat", "dog", "2"]
    for line, values in zip(vector.lines, np.asarray(batch.x["vector"]), strict=True):
        assert np.corrcoef(np.asarray(line.get_ydata(), float), values)[0, 1] == pytest.approx(1)
    assert not any(axes.axison for axes in (colour, grey, word, vector, label))


def test_reconstructions_pair_each_input_with_the_decoders_output(dataset):
    params = MODEL.init(jax.random.key(0))
    params["decoders"]["grey"]["value"] = jnp.full((6, 6, 1), 0.25)
    params["decoders"]["label"]["value"] = jnp.array([0.0, 5.0, 0.0])
    batch = figures.examples(dataset, jax.random.key(0), count=3)
    figure = figures.reconstructions_figure(MODEL, params, jax.random.key(1), batch)
    np.testing.assert_allclose([i[..., :1] for i in images(figure)[2]], batch.x["grey"], atol=1e-6)
    np.testing.assert_allclose(images(figure)[3], 0.25)
    assert [t.get_text() for t in figure.axes[-1].texts] == ["reconstructed", "dog", "dog", "dog"]


def test_conditional_samples_show_the_inputs_and_draws_of_the_target(dataset):
    params = MODEL.init(jax.random.key(0))
    batch = figures.examples(dataset, jax.random.key(0), count=3)
    subset = ["colour", "label"]
    figure = figures.conditional_figure(MODEL, params, jax.random.key(1), batch, subset, "grey", draws=4)
    assert len(figure.axes) == 2 + 4
    assert "grey generated from colour + label" in texts(figure)
    np.testing.assert_allclose(images(figure)[0], np.asarray(batch.x["colour"]) / 255, atol=1e-6)


def test_pixels_beyond_the_range_are_clipped():
    strip = Strip(modality("grey"), np.full((2, 6, 6, 1), 3.0), "x")
    assert np.max(images(strips_figure([strip], "title"))) == 1


@pytest.mark.parametrize("label", ["", "x", "given svhn_stand_in", "z1\na modality of a long name"])
def test_labels_are_not_cut_off(label):
    strip = Strip(modality("grey"), np.zeros((2, 6, 6, 1)), label)
    figure = strips_figure([strip, strip], "title")
    assert all(axes.texts[0].get_window_extent().x0 >= 0 for axes in figure.axes)


def test_long_captions_are_wrapped_between_words_and_of_one_size_within_their_cells():
    words = ("", "large", "small", "yellow", "ellipse", "at", "bottom", "right", "on", "dark")
    caption = Modality("caption", (8,), MLPEncoder((4,)), Constant((8, 10)), "categorical", symbols=words)
    values = np.array([[1, 3, 4, 5, 6, 7, 8, 9], [2, 0, 0, 0, 0, 0, 0, 0], [0] * 8])
    (axes,) = strips_figure([Strip(caption, values, "caption")], "title").axes
    _, long, *short = axes.texts
    assert long.get_text() == "large yellow\nellipse at\nbottom right\non dark"
    assert [each.get_text() for each in short] == ["small", ""]
    assert len({each.get_fontsize() for each in (long, *short)}) == 1
    extent, cell = long.get_window_extent(), axes.get_window_extent()
    assert extent.width < cell.width / 3 and extent.height < cell.height


def test_sentences_too_long_for_their_cells_end_in_dots():
    words = ("", *(f"▁word{i}" for i in range(90)))
    text = Modality("text", (80,), MLPEncoder((4,)), Constant((80, 91)), "categorical", symbols=words)
    (axes,) = strips_figure([Strip(text, np.arange(1, 81)[None], "text")], "title").axes
    _, shown = axes.texts
    assert shown.get_text().startswith("word0 word1\nword2 word3\n") and shown.get_text().endswith(" …")
    extent, cell = shown.get_window_extent(), axes.get_window_extent()
    assert extent.width < cell.width and extent.height < cell.height


def test_translations_show_what_is_given_told_and_true_in_every_language():
    pieces = ("", "▁one", "▁t", "wo", "▁three")
    x = {"a": np.array([[1, 2, 3], [2, 3, 0]], np.int32), "b": np.array([[4, 0], [1, 0]], np.int32)}
    languages = {name: values.shape[1:] for name, values in x.items()}
    model = Model(
        tuple(
            Modality(name, shape, MLPEncoder((), 5), Constant((*shape, 5)), "categorical", symbols=pieces)
            for name, shape in languages.items()
        ),
        latent_dim=2,
    )
    params = model.init(jax.random.key(0))
    params["decoders"]["a"]["value"] = jax.nn.one_hot(jnp.array([4, 4, 1]), 5)
    params["decoders"]["b"]["value"] = jax.nn.one_hot(jnp.array([2, 3]), 5)
    batch = Batch(jax.tree.map(jnp.asarray, x), jnp.ones((2, 2), bool), jnp.zeros(2, jnp.int32))
    figure = figures.translations_figure(model, params, jax.random.key(1), batch, dict.fromkeys(x, pieces))
    shown = [text.get_text() for text in figure.texts[2:]]
    assert list(zip(shown[::2], shown[1::2], strict=True)) == [
        ("given b", "three"),
        ("told a", "three three one"),
        ("true a", "one two"),
        ("given b", "one"),
        ("told a", "three three one"),
        ("true a", "two"),
        ("given a", "one two"),
        ("told b", "two"),
        ("true b", "three"),
        ("given a", "two"),
        ("told b", "two"),
        ("true b", "one"),
    ]
    places = [text.get_position()[1] for text in figure.texts[2::2]]
    assert places == sorted(places, reverse=True) and min(places) > 0


def test_texts_of_many_letters_and_names_of_entries_fit_into_their_cells():
    alphabet = tuple(" ,abcdefghijklmnopqrstuvwxyz")
    text = "bangs, blond hair, heavy makeup, mouth slightly open, smiling, wavy hair, wearing hat, young".ljust(128)
    letters = Modality("text", (128,), MLPEncoder((4,)), Constant((128, 28)), "categorical", symbols=alphabet)
    codes = np.array([[alphabet.index(letter) for letter in text], [0] * 128])
    names = ("Bald", "Smiling", "Wearing_Hat")
    vector = Modality("attributes", (3,), MLPEncoder((4,)), Constant((3,)), "bernoulli", symbols=names)
    strips = [Strip(letters, codes, "text"), Strip(vector, np.array([[0.2, 0.9, 1], [0, 0.5, 0]]), "attributes")]
    text_axes, vector_axes = strips_figure(strips, "title").axes
    _, long, empty = text_axes.texts
    assert long.get_text().replace("\n", " ") == text.strip() and empty.get_text() == ""
    extent, cell = long.get_window_extent(), text_axes.get_window_extent()
    assert extent.width < cell.width / 2 and extent.height < cell.height
    assert [each.get_text().split() for each in vector_axes.texts[1:]] == [["Smiling", "Wearing_Hat"], []]


def test_unconditional_samples_come_from_the_sampler_and_the_note_says_so():
    model = Model((Modality("vector", (2,), MLPEncoder((4,)), nn.Dense(2)),), latent_dim=2)
    params = model.init(jax.random.key(0))
    params["decoders"]["vector"]["kernel"] = jnp.eye(2)
    point = GaussianMixture(jnp.zeros(1), Gaussian(jnp.array([[3.0, -5.0]]), jnp.full((1, 2), -30.0)))
    figure = figures.unconditional_figure(model, params, jax.random.key(1), point, "a point")
    assert "each column decodes one sample of a point" in texts(figure)
    (axes,) = figure.axes
    heights = np.array([line.get_ydata() for line in axes.lines])
    np.testing.assert_allclose(heights - heights[0], 0, atol=1e-3)
    assert heights[0][0] > heights[0][1]
    spread = figures.unconditional_figure(model, params, jax.random.key(1))
    assert "each column decodes one sample of the prior" in texts(spread)
    assert np.std([line.get_ydata() for line in spread.axes[0].lines], axis=0).min() > 0.01


def test_traversals_take_the_most_active_dimension_from_end_to_end():
    """Three latent dimensions, of which the last is the most active; the vector that is decoded is z itself."""
    model = Model(
        (Modality("vector", (3,), MLPEncoder(()), nn.Dense(3)),), latent_dim=3, fusion="poe", prior_expert="none"
    )
    params = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0)))
    params["decoders"]["vector"]["kernel"] = jnp.eye(3)
    head = params["inference"]["vector"]["head"]["kernel"]
    params["inference"]["vector"]["head"]["kernel"] = head.at[:, :3].set(jnp.diag(jnp.array([1.0, 0.5, 2.0])))
    x = {"vector": np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)}
    figure = figures.traversals_figure(model, params, jax.random.key(0), model.batch(x), columns=7)
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["z2\nvector", "z0\nvector", "z1\nvector"]
    lines = np.array([line.get_ydata() for line in figure.axes[0].lines])
    assert np.ptp(lines[:, :2], axis=0).max() < 1e-6
    np.testing.assert_allclose(np.diff(lines[:, 2]), np.diff(lines[:, 2])[0], rtol=1e-4)
    assert np.diff(lines[:, 2]).min() > 0


def test_draw_all_writes_readable_pictures_of_the_documented_names(dataset, tmp_path):
    metrics = {"probe/by_size/1": 0.5, "probe/by_size/2": 0.6}
    task = Task("colour", "grey", lambda pictures: pictures[:, :, :6].mean(-1, keepdims=True))
    dataset = replace(dataset, tasks={"without colour": task})
    for sampler in SAMPLERS:
        settings = EvaluationSettings(sampler=sampler, sampler_components=2)
        context = Context(MODEL, MODEL.init(jax.random.key(0)), dataset, jax.random.key(1), settings)
        form = "svg" if sampler == "prior" else "pdf"
        paths = figures.draw_all(context, metrics, tmp_path / sampler, (), [{"step": 1, "loss": 2.0}], "of us", form)
        names = [
            "data",
            "reconstructions",
            "unconditional",
            "conditional_1",
            "conditional_4",
            "task_without_colour",
            "traversals",
            "metrics",
            "loss",
        ]
        assert [path.name for path in paths] == [f"{name}.png" for name in names]
        for path in paths:
            pixels = np.asarray(Image.open(path).convert("L"))
            assert pixels.std() > 5
            content = path.with_suffix(f".{form}").read_bytes()
            start = content[:200]
            assert start.startswith(b"%PDF") if form == "pdf" else b"<svg" in start or b"DOCTYPE svg" in start
            assert form == "pdf" or b"<!-- of us -->" in content


def test_what_is_looked_up_is_drawn_in_the_place_of_vectors(tmp_path):
    """Vector i is shown as a square of grey i / 4."""

    def look_up(x):
        return np.repeat((255 * x[:, :1] / 4).astype(np.uint8), 27, 1).reshape(-1, 3, 3, 3)

    shown = replace(modality("vector"), look_up=look_up)
    assert shown == modality("vector")
    vectors = np.tile(np.arange(5.0)[:, None], (1, 5))
    figure = strips_figure([Strip(shown, vectors, "features")], "Data")
    figure.savefig(tmp_path / "strip.png")
    (axes,) = figure.axes
    greys = [image.get_array()[1, 1, 0] for image in axes.images]
    np.testing.assert_allclose(greys, np.floor(255 * np.arange(5) / 4) / 255, atol=1e-6)
