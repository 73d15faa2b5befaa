"""Features of generated pictures, of a model whose generations have a distribution that is known exactly."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.evaluation.classifier_networks import ImageClassifier
from mmvae_jax.evaluation.frechet import Moments, frechet_distance
from mmvae_jax.evaluation.picture_features import Extractor, following_subsets, picture_features, pictured
from mmvae_jax.gaussian import Gaussian
from mmvae_jax.priors import GaussianMixture
from tests.oracle import LinearGaussian

COUNT = 4000
# In another order than the alphabet's.
ORACLE = LinearGaussian((4, 5, 6), latent_dim=3)
NAMES = ("m2", "m0", "m1")


class Flat(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x.reshape(len(x), -1)


class Picture(nn.Module):
    size: int

    @nn.compact
    def __call__(self, z):
        return nn.Dense(self.size)(z)[:, None, None]


class Pixels(nn.Module):
    """Sows the pixels, times its one parameter."""

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, ())
        self.sow("intermediates", "features", x.reshape(len(x), -1) * scale)
        return jnp.zeros((len(x), 2))


@pytest.fixture(scope="module")
def pictures():
    plain = ORACLE.model()
    params = ORACLE.params(plain)
    of = {
        m.name: dataclasses.replace(m, shape=(1, 1, *m.shape), encoder=Flat(), decoder=Picture(*m.shape))
        for m in plain.modalities
    }
    model = dataclasses.replace(plain, modalities=tuple(of[name] for name in NAMES))
    params["decoders"] = {name: {"Dense_0": each} for name, each in params["decoders"].items()}
    batch = ORACLE.sample(jax.random.key(1), COUNT)
    return model, params, batch._replace(x={name: x[:, None, None] for name, x in batch.x.items()})


EXTRACTORS = {name: Extractor(Pixels(), {"scale": jnp.float32(1 + i)}) for i, name in enumerate(ORACLE.names)}


def assert_moments(features, i, scale):
    """A mean of x_m given z ~ N(0, I) is Gaussian with mean b and covariance W W^T, all scaled."""
    loading, bias = ORACLE.loadings[i] * scale, ORACLE.biases[i] * scale
    covariance = loading @ loading.T
    deviation = np.sqrt(np.diag(covariance))
    found = Moments.of(features)
    error = (found.mean - bias) / deviation * np.sqrt(COUNT)
    spread = (found.root.T @ found.root - covariance) / np.outer(deviation, deviation) * np.sqrt(COUNT / 2)
    assert np.abs(error).max() < 4.5 and np.abs(spread).max() < 4.5


def test_exact_posteriors_generate_what_the_prior_does(pictures):
    """z ~ q(z|x_A) over all x_A is z ~ p(z): both kinds of pictures have the same exact moments."""
    model, params, batch = pictures
    found = picture_features(model, params, jax.random.key(2), batch, EXTRACTORS)
    assert list(found.conditional) == ["m0->m2", "m0+m1->m2", "m1->m0", "m2+m1->m0", "m2->m1", "m2+m0->m1"]
    for i, name in enumerate(ORACLE.names):
        np.testing.assert_allclose(found.real[name], (1 + i) * batch.x[name].reshape(COUNT, -1), rtol=1e-6)
        assert_moments(found.unconditional[name], i, 1 + i)
    for label, features in found.conditional.items():
        i = ORACLE.names.index(label.rpartition("->")[2])
        assert_moments(features, i, 1 + i)


def test_row_i_is_generated_from_tuple_i(pictures):
    model, params, batch = pictures
    found = picture_features(model, params, jax.random.key(2), batch, EXTRACTORS, limit=700)
    expected = ORACLE.exact_posterior({name: x.reshape(COUNT, -1) for name, x in batch.x.items()}, ["m0", "m2"])
    means = 2 * (expected.mean @ ORACLE.loadings[1].T + ORACLE.biases[1])
    away = (found.conditional["m2+m0->m1"] - means) @ np.linalg.pinv(2 * ORACLE.loadings[1]).T
    z = away / np.sqrt(np.diag(expected.covariance))
    assert abs(z.mean()) < 4.5 / np.sqrt(3 * COUNT) and abs(z.std() - 1) < 4.5 / np.sqrt(6 * COUNT)


def test_unconditional_pictures_come_from_the_sampler(pictures):
    model, params, batch = pictures
    point = GaussianMixture(jnp.zeros(1), Gaussian(jnp.full((1, 3), 2.0), jnp.full((1, 3), -60.0)))
    few = jax.tree.map(lambda values: values[:50], batch)
    found = picture_features(model, params, jax.random.key(2), few, EXTRACTORS, point)
    shown = ORACLE.loadings[0] @ np.full(3, 2.0) + ORACLE.biases[0]
    np.testing.assert_allclose(found.unconditional["m0"], np.tile(shown, (50, 1)), rtol=1e-5)


def test_every_modality_is_given_equally_often_and_never_the_target():
    masks = np.array([following_subsets(5, target) for target in range(5)])
    assert masks.shape == (5, 4, 5)
    assert (masks.sum(2) == np.arange(1, 5)).all()
    assert not masks[np.arange(5), :, np.arange(5)].any()
    assert (masks.sum(0) == np.arange(1, 5)[:, None]).all()
    assert following_subsets(1, 0).shape == (0, 1)


def test_only_pictures_are_compared():
    assert pictured(ORACLE.model()) == []


def test_a_classifiers_features_are_what_its_last_layer_reads():
    module, x = ImageClassifier(10, 0.3), jax.random.uniform(jax.random.key(0), (3, 12, 12, 1))
    params = module.init(jax.random.key(1), x)["params"]
    logits, sown = module.apply({"params": params}, x, mutable=("intermediates",))
    (features,) = sown["intermediates"]["features"]
    last = params["Dense_1"]
    assert features.shape == (3, 128)
    np.testing.assert_allclose(features @ last["kernel"] + last["bias"], logits, rtol=1e-5, atol=1e-6)
    assert frechet_distance(np.asarray(features), np.asarray(features)) == pytest.approx(0, abs=1e-9)
