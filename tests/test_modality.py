"""A modality's units: bytes are pixels only where it says so, whatever the likelihood."""

from dataclasses import replace

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax import Model, UserError
from mmvae_jax.likelihoods import LIKELIHOODS, Likelihood
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
from tests import toy

BYTES = np.random.default_rng(0).integers(0, 256, (4, 2, 3)).astype(np.uint8)


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("likelihood", [name for name, row in LIKELIHOODS.items() if not (row.classes or row.counts)])
def test_bytes_are_scaled_where_they_are_pixels(likelihood, pixels):
    modality = replace(toy.modality("bernoulli"), likelihood=likelihood, pixels=pixels)
    found = modality.in_units(jnp.asarray(BYTES))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, BYTES / 255 if pixels else BYTES, rtol=1e-6)


@pytest.mark.parametrize("pixels", [False, True])
def test_class_indices_and_floats_are_never_scaled(pixels):
    label = replace(toy.modality("label"), pixels=pixels)
    assert label.in_units(jnp.arange(4, dtype=jnp.uint8)).tolist() == [0, 1, 2, 3]
    grey = replace(toy.modality("bernoulli"), pixels=pixels)
    np.testing.assert_array_equal(grey.in_units(jnp.array([0.25, 1.0])), [0.25, 1.0])


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        ((1.0, 2.0), r"tuple of shape \(2,\): give a number, or a tuple of one a feature \(2, 3\)"),
        ([1.0, 2.0, 3.0], r"list of shape \(3,\): give a number, or a tuple"),
        ((1.0, 0.0, 3.0), "give numbers above 0"),
        (-1.0, "give numbers above 0"),
        (np.nan, "give numbers above 0"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_scales_are_a_number_or_one_a_feature(scale, words):
    with pytest.raises(UserError, match=words):
        replace(toy.modality("bernoulli"), likelihood="normal", pixels=False, scale=scale)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("shape", [64], r"shape=\[64\]: give a tuple, such as"),
        ("shape", 64, "shape=64: give a tuple, such as"),
        ("encoder", nn.Conv(4, kernel_size=[3]), "Conv holds a list or an array: give it tuples"),
        ("encoder", MLPEncoder, r"a network's class: give a network, such as MLPEncoder\(\(64,\)\)"),
    ],
)
def test_shape_and_networks_are_what_they_should_be(field, value, words):
    with pytest.raises(UserError, match=words):
        replace(toy.modality("bernoulli"), **{field: value})


def test_pixels_are_no_counts():
    with pytest.raises(UserError, match="pixels with poisson: counts are not scaled"):
        replace(toy.modality("poisson"), pixels=True)


def test_encoders_see_the_logarithm_of_counts():
    counts, real = toy.modality("poisson"), toy.modality("normal")
    np.testing.assert_allclose(counts.encoder_input(jnp.array([0.0, 1.0, 99.0])), np.log([1, 2, 100]), rtol=1e-6)
    np.testing.assert_array_equal(real.encoder_input(jnp.array([0.0, -1.0])), [0, -1])


@pytest.mark.parametrize("outputs", [(3,), (3, 1), (3, 3), (2, 3)])
def test_decoders_of_two_outputs_an_element_are_told_apart(outputs):
    wrong = replace(toy.modality("normal_learned_scale"), decoder=MLPDecoder(outputs, ()))
    words = r"decoder output shape .* does not fit normal_learned_scale: needs \(3, 2\)"
    with pytest.raises(UserError, match=words):
        Model((wrong,), 2, "poe").init(jax.random.key(0))


def test_counts_as_bytes_are_counts():
    """An own likelihood of counts, a geometric one: the same log p(x|z) and posterior of bytes as of floats."""

    class Geometric(distrax.Distribution):
        """Number of failures before a success with probability sigmoid(-logits)."""

        def __init__(self, logits):
            super().__init__()
            self._logits = logits

        def log_prob(self, value):
            return jax.nn.log_sigmoid(-self._logits) + value * jax.nn.log_sigmoid(self._logits)

        def _sample_n(self, key, n):
            raise NotImplementedError

        @property
        def event_shape(self):
            return ()

    counts = Likelihood(lambda logits, scale: Geometric(logits), low=0.0)
    model = Model((replace(toy.modality("bernoulli"), likelihood=counts, pixels=False),), 2, "poe")
    params = model.init(jax.random.key(0))
    few = BYTES // 32
    as_bytes, as_floats = ({"bernoulli": few.astype(dtype)} for dtype in (np.uint8, np.float32))
    z = jnp.ones((4, 2))
    expected = model.log_likelihoods(params, z, model.batch(as_floats))
    np.testing.assert_array_equal(model.log_likelihoods(params, z, model.batch(as_bytes)), expected)
    assert np.all(np.asarray(expected) < -0.5 * few.sum((1, 2))[:, None])
    np.testing.assert_array_equal(model.infer(params, as_bytes).mean(), model.infer(params, as_floats).mean())
