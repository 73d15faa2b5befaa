"""The unimodal VAE's posterior, and the CVAE against an exact linear-Gaussian p(x|y)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from mmvae_jax.baselines import CVAE, unimodal_vae
from mmvae_jax.errors import UserError
from mmvae_jax.modality import Modality
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder

SCALE = 0.5


def test_unimodal_vae_infers_what_its_encoder_puts_out():
    modality = Modality("x", (3,), MLPEncoder((5,)), MLPDecoder((3,), (5,)))
    model = unimodal_vae(modality, 2)
    params = model.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (4, 3))
    features = modality.encoder.apply({"params": params["inference"]["x"]["trunks_0"]}, x)
    head = params["inference"]["x"]["head"]
    expected = features @ head["kernel"] + head["bias"]
    mixture = model.infer(params, {"x": x})
    assert mixture.log_weights.tolist() == [[0.0] * 4]
    np.testing.assert_allclose(jnp.concatenate(jax.tree.leaves(mixture.components), -1)[0], expected, rtol=1e-5)


@pytest.fixture(scope="module")
def linear():
    """A CVAE whose decoder is linear in z and in the one-hot label, with its parameters."""
    target = Modality("x", (4,), MLPEncoder((8,)), MLPDecoder((4,), ()), "normal", SCALE)
    label = Modality("y", (), MLPEncoder((), categories=3), MLPDecoder((3,)), "categorical")
    model = CVAE(target, label, latent_dim=2, joint_width=16)
    return model, model.init(jax.random.key(2))


def normal(mean: Any, covariance: Any) -> Any:
    return multivariate_normal(mean, covariance)


def exact_conditional(model, params, y):
    """p(x|y) with z integrated out: N(V one_hot(y) + b, W W^T + SCALE^2 I)."""
    dense = params["decoder"]["Dense_0"]
    by_z, by_label = np.split(np.asarray(dense["kernel"], float), [model.latent_dim])
    return by_label[y] + np.asarray(dense["bias"]), by_z.T @ by_z + SCALE**2 * np.eye(4)


def test_cvae_estimates_the_exact_conditional_likelihood(linear):
    model, params = linear
    x, y = 0.5 * jax.random.normal(jax.random.key(3), (6, 4)), jnp.arange(6) % 3
    moments = [exact_conditional(model, params, int(label)) for label in y]
    exact = [normal(*moment).logpdf(row) for moment, row in zip(moments, x, strict=True)]
    estimates = model.log_likelihood(params, jax.random.key(4), x, y, samples=50_000)
    np.testing.assert_allclose(estimates, exact, atol=0.03)
    losses = [float(model.loss(params, key, x, y)) for key in jax.random.split(jax.random.key(5), 200)]
    assert -np.mean(losses) < np.mean(exact)


def test_cvae_generates_from_the_prior_given_the_condition(linear):
    model, params = linear
    y = jnp.array([0, 2])
    drawn = np.asarray(model.generate(params, jax.random.key(6), y, samples=20_000))
    for i, label in enumerate(y.tolist()):
        mean, covariance = exact_conditional(model, params, label)
        error = np.sqrt(np.diag(covariance) / len(drawn))
        assert (np.abs(drawn[:, i].mean(0) - mean) < 4.5 * error).all()
        np.testing.assert_allclose(np.cov(drawn[:, i].T), covariance - SCALE**2 * np.eye(4), atol=0.05)


def test_cvae_learns_the_likelihood_of_its_data(linear):
    model, _ = linear
    rng = np.random.default_rng(7)
    y = rng.integers(0, 3, 2000)
    mixing, means = rng.normal(size=(2, 4)), 2 * rng.normal(size=(3, 4))
    x = means[y] + rng.normal(size=(2000, 2)) @ mixing + SCALE * rng.normal(size=(2000, 4))
    x = x.astype("f")
    params = model.fit(x, y, jax.random.key(8), steps=1000, learning_rate=1e-2)
    covariance = mixing.T @ mixing + SCALE**2 * np.eye(4)
    truth = normal(np.zeros(4), covariance).logpdf(x - means[y]).mean()
    estimate = model.log_likelihood(params, jax.random.key(9), x, jnp.asarray(y), samples=100).mean()
    assert truth - 0.1 < estimate < truth + 0.05


@pytest.mark.parametrize("pixels", [True, False])
def test_cvae_scales_bytes_that_are_pixels_and_no_others(pixels):
    """Pixels as the image that is made and as the one that it is made from."""
    image = Modality("x", (4,), MLPEncoder((8,)), MLPDecoder((4,), ()), "normal", SCALE, pixels=pixels)
    model = CVAE(image, Modality("y", (2,), MLPEncoder((3,)), MLPDecoder((2,)), pixels=pixels), 2, joint_width=8)
    rng = np.random.default_rng(10)
    raw = [rng.integers(0, 256, (6, size), dtype=np.uint8) for size in (4, 2)]
    scaled = [x.astype("f") / (255 if pixels else 1) for x in raw]
    key = jax.random.key(11)
    params = model.init(key)
    for f in (model.loss, lambda *arguments: model.log_likelihood(*arguments, samples=3)):
        np.testing.assert_allclose(f(params, key, *raw), f(params, key, *scaled), rtol=1e-5)
    generated = [model.generate(params, key, y) for y in (raw[1], scaled[1])]
    np.testing.assert_allclose(*generated, rtol=1e-5, atol=1e-6)
    fitted = [model.fit(*data, key, steps=3, batch_size=4) for data in (raw, scaled)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *fitted)


@pytest.mark.usefixtures("unchecked")
def test_cvae_refuses_what_is_no_pair(linear):
    model, params = linear
    x, y = np.zeros((3, 4), np.float32), np.zeros(3, int)
    for mistake, said in (((x[:2], y), "2 of x, 3 of y: give pairs"), ((x + np.nan, y), "observed sample 0")):
        with pytest.raises(UserError, match=said):
            model.fit(*mistake, jax.random.key(0), steps=1)
    with pytest.raises(UserError, match="observed sample 0"):
        model.log_likelihood(params, jax.random.key(0), x + np.inf, y, samples=1)
