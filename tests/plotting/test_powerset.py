"""What a page shows of the powerset is what the model makes of every subset, each in its place."""

import base64
import io
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from PIL import Image

from mmvae_jax import subsets
from mmvae_jax.data.batching import Dataset, fixed_split
from mmvae_jax.evaluation import Context
from mmvae_jax.evaluation.context import evaluated_subsets
from mmvae_jax.model import Latents
from mmvae_jax.plotting import powerset
from mmvae_jax.plotting.figures import shown_tuples
from tests import toy

KINDS = ("bernoulli", "normal", "label")


def pixels(sprite: str) -> np.ndarray:
    kind, _, data = sprite.partition(",")
    assert kind == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


@pytest.fixture(scope="module")
def context() -> Context:
    model, x = toy.model("poe", KINDS), toy.data(KINDS, 20)
    split = fixed_split(x, x["label"])
    return Context(model, model.init(jax.random.key(0)), Dataset("toy", KINDS, split, split, 4), jax.random.key(1))


def test_every_subset_has_what_the_model_makes_of_it_in_its_row(context: Context):
    shown, model, batch = powerset.powerset_shown(context), context.model, shown_tuples(context)
    picture, curve, label = shown["modalities"]
    powers = [subset for n in (1, 2, 3) for subset in itertools.combinations(KINDS, n)]
    assert shown["names"] == list(KINDS) and shown["tuples"] == 10
    assert shown["subsets"] == ["+".join(subset) for subset in powers]
    assert (picture["width"], picture["height"]) == (3, 2)
    rows = pixels(picture["sprite"]).reshape(8, 2, 10, 3, 3).swapaxes(1, 2)
    np.testing.assert_array_equal(rows[0, ..., 0], batch.x["bernoulli"])
    assert label["texts"][0] == [str(each) for each in np.asarray(batch.x["label"])]

    @jax.jit
    def decoded(mask: Array) -> dict[str, Array]:
        codes = model.encode(context.params, batch)
        z = model.given(context.params, codes, batch.present, mask).components.mean[0]
        return model.point_estimates(context.params, Latents(z, {}))

    for row, subset in enumerate(powers, 1):
        made = decoded(jnp.asarray(subsets.select(subset, KINDS)))
        grey = np.rint(255 * np.asarray(made["bernoulli"]))
        np.testing.assert_allclose(rows[row], np.repeat(grey[..., None], 3, -1), atol=1)
        assert label["texts"][row] == [str(each) for each in np.asarray(made["label"])]
    assert pixels(curve["sprite"]).shape == (8 * curve["height"], 10 * curve["width"], 3)


def test_a_curve_goes_through_its_values_and_leaves_out_what_is_missing():
    tile, gap = powerset._curves(np.array([[0.0, 2.0], [np.nan, 1.0]]))
    dark = lambda tile: [np.flatnonzero(column < 200) for column in tile[..., 0].T]  # noqa: E731
    columns = dark(tile)
    left, right = 64 * (0.06 + 0.88 * 0.25), 64 * (0.06 + 0.88 * 0.75)
    assert columns[round(left)].mean() == pytest.approx(44 * 0.92, abs=1.5)
    assert columns[round(right)].mean() == pytest.approx(44 * 0.08, abs=1.5)
    (drawn,) = np.nonzero([len(rows) for rows in dark(gap)])
    assert drawn.mean() == pytest.approx(right, abs=1) and len(drawn) <= 5


def test_large_pictures_are_made_smaller_and_what_takes_much_space_is_encoded_with_loss():
    assert powerset._small(np.zeros((30, 64, 3), np.uint8)).shape == (30, 64, 3)
    assert powerset._small(np.zeros((100, 200, 3), np.uint8)).shape == (32, 64, 3)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    exact, lossy = powerset._encoded(noise, 20_000), powerset._encoded(noise, 8_000)
    assert len(exact) > 12_000 > 8_000 >= len(lossy)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(exact))), noise)
    assert len(powerset._encoded(noise, 10)) < len(lossy)


def test_of_few_modalities_all_subsets_are_shown_and_of_many_a_few_dozen():
    for m in (1, 2, 5):
        np.testing.assert_array_equal(powerset.shown_subsets(subsets.powerset(m)), subsets.powerset(m))
    measured = evaluated_subsets(19)
    shown = {tuple(mask) for mask in powerset.shown_subsets(measured)}
    everything = [*measured, *subsets.singletons(19), *~subsets.singletons(19), *subsets.full(19)]
    assert shown == {tuple(mask) for mask in everything} and len(shown) <= 31 + 19
