"""The linear probe on posteriors that are known exactly."""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.linear_model import LogisticRegression

from mmvae_jax import subsets
from mmvae_jax.evaluation.probe import posterior_means, probe_matches, probe_scores, told
from tests.oracle import LinearGaussian

NAMES = ("m0", "m1", "m2")
MASKS = subsets.powerset(3)
KEY = jax.random.key(0)


def labelled(oracle, seed, n):
    """Tuples whose class is the sign of the first latent's posterior mean, given everything."""
    batch = oracle.sample(jax.random.key(seed), n)
    positive = oracle.exact_posterior(batch.x, NAMES).mean[:, 0] > 0
    return batch._replace(label=jnp.asarray(positive, jnp.int32))


def test_means_are_the_exact_posterior_means_of_every_subset():
    oracle = LinearGaussian((4, 5, 6), latent_dim=3)
    model = oracle.model()
    batch = oracle.sample(jax.random.key(1), 11)
    means = posterior_means(model, oracle.params(model), KEY, batch, MASKS)
    for mask, mean in zip(MASKS, means, strict=True):
        members = [name for name, chosen in zip(NAMES, mask, strict=True) if chosen]
        np.testing.assert_allclose(mean, oracle.exact_posterior(batch.x, members).mean, atol=1e-5)


def test_means_do_not_depend_on_the_chunks(monkeypatch):
    oracle = LinearGaussian((4, 5, 6), latent_dim=3)
    model = oracle.model()
    params, batch = oracle.params(model), oracle.sample(jax.random.key(1), 11)
    whole = posterior_means(model, params, KEY, batch, MASKS)
    monkeypatch.setattr("mmvae_jax.evaluation.probe.MAX_ENCODED", 4)
    np.testing.assert_allclose(posterior_means(model, params, KEY, batch, MASKS), whole, atol=1e-6)


def test_a_mixture_gives_the_mean_of_one_component_each_in_its_turn():
    oracle = LinearGaussian((4, 5, 6), latent_dim=3)
    model = oracle.model("moe")
    params, batch = oracle.params(model), oracle.sample(jax.random.key(1), 12)
    experts = np.asarray(model.encode(params, batch).shared.mean)
    found = posterior_means(model, params, KEY, batch, MASKS[-1:])[0]
    distances = np.abs(experts - found).max(-1)
    np.testing.assert_allclose(distances.min(0), 0, atol=1e-6)
    assert np.bincount(distances.argmin(0)).tolist() == [4, 4, 4]


def test_a_linear_class_is_read_off_the_full_posterior_and_less_well_off_one_modality():
    oracle = LinearGaussian((4, 5, 6), latent_dim=3)
    model = oracle.model()
    train, test = labelled(oracle, 1, 500), labelled(oracle, 2, 600)
    accuracy = probe_matches(model, oracle.params(model), KEY, train, test, MASKS).mean(1)
    assert accuracy[-1] > 0.97
    for mask, found in zip(MASKS[:3], accuracy[:3], strict=True):
        name = NAMES[int(np.argmax(mask))]
        # With one modality the best possible answer is the sign of its own posterior mean.
        best = oracle.exact_posterior(test.x, [name]).mean[:, 0] > 0
        assert abs(found - np.mean(best == np.asarray(test.label, bool))) < 0.03
        assert found < accuracy[-1]


def test_rounding_of_hardly_trained_means_changes_no_answer():
    # One latent dimension far larger than the others, as after a few hundred steps.
    rng = np.random.default_rng(2)
    rotation = np.linalg.qr(rng.normal(size=(32, 32)))[0]
    latents = rng.normal(size=(2500, 32))
    scaled = latents * [6, *np.logspace(-1, -2.5, 31)]
    means = (scaled @ rotation + 0.6 * rng.normal(size=32)).astype(np.float32)
    logits = latents @ rng.normal(0, 0.3, (32, 10)) - (latents[:, :1] - np.linspace(-2, 2, 10)) ** 2
    labels = np.argmax(logits + rng.gumbel(size=logits.shape), 1)
    rounded = means + rng.normal(0, 3e-6, means.shape).astype(np.float32)
    answers, others = (told(each[:500], labels[:500], each[500:]) for each in (means, rounded))
    assert (answers == labels[500:]).mean() > 0.25
    assert (answers != others).sum() <= 1


def test_scores_are_those_of_one_regression_for_each_attribute():
    oracle = LinearGaussian((4, 5, 6), latent_dim=3)
    model = oracle.model()
    params = oracle.params(model)
    train, test = (oracle.sample(jax.random.key(seed), n) for seed, n in ((1, 60), (2, 40)))
    means = [np.asarray(oracle.exact_posterior(batch.x, NAMES).mean, np.float64) for batch in (train, test)]
    # The last one is had by all: there is nothing to fit.
    has = np.stack([means[0][:, 0] > 0, means[0][:, 1] > 0.3, np.ones(60, bool)], 1)
    found = probe_scores(model, params, KEY, train, test, subsets.full(3), has)
    assert found.shape == (1, 40, 3) and not found[0, :, 2].any()
    for a in range(2):
        fitted = LogisticRegression(tol=1e-8, max_iter=10_000).fit(means[0], has[:, a])
        np.testing.assert_allclose(found[0, :, a], fitted.decision_function(means[1]), rtol=2e-3, atol=2e-3)
