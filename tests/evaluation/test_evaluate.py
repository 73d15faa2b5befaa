"""`evaluate`: the names of its metrics, how they are averaged, and that equal keys give equal numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.data.batching import Dataset, fixed_split
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation import (
    MAX_SUBSETS,
    ClassifierSettings,
    EvaluationSettings,
    evaluate,
    evaluated_subsets,
)
from tests.oracle import LinearGaussian

ORACLE = LinearGaussian((4, 5, 6), latent_dim=3)
SETTINGS = EvaluationSettings(
    log_likelihood_samples=5,
    log_likelihood_examples=20,
    probe_train_examples=60,
    joint_samples=50,
    classifier=ClassifierSettings(steps=60, batch_size=32),
)


def toy_dataset(num_classes=2, absent=0):
    def split(seed, n, presence=None):
        batch = ORACLE.sample(jax.random.key(seed), n)
        positive = ORACLE.exact_posterior(batch.x, ORACLE.names).mean[:, 0] > 0
        return fixed_split(batch.x, jnp.asarray(positive, jnp.int32), presence)

    presence = jnp.ones((80, 3), bool).at[:absent, 1].set(False)
    return Dataset("toy", ORACLE.names, split(0, 200), split(1, 80, presence), num_classes)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def metrics(cache):
    model = ORACLE.model()
    return evaluate(model, ORACLE.params(model), toy_dataset(), jax.random.key(3), SETTINGS, cache, lambda line: None)


def test_exactly_the_documented_metrics(metrics):
    names = ["m0", "m1", "m2"]
    labels = [*names, "m0+m1", "m0+m2", "m1+m2", "m0+m1+m2"]
    pairs = [(label, target) for label in labels for target in names]
    expected = {
        *(f"{kind}/by_size/{n}" for kind in ("probe", "log_likelihood/joint") for n in (1, 2, 3)),
        *(f"coherence/conditional/by_size/{n}" for n in (1, 2)),
        *(f"{kind}/{a}" for kind in ("probe", "log_likelihood/joint", "log_likelihood/ess") for a in labels),
        *(f"coherence/conditional/{a}->{t}" for a, t in pairs if t not in a.split("+")),
        *(f"coherence/self/{a}->{t}" for a, t in pairs if t in a.split("+")),
        *(f"{kind}/{name}" for kind in ("log_likelihood/marginal", "classifier") for name in names),
        "coherence/joint",
    }
    assert set(metrics) == expected
    assert all(isinstance(value, float) and np.isfinite(value) for value in metrics.values())


def test_by_size_is_the_mean_over_subsets_and_targets(metrics):
    for prefix in ("probe", "log_likelihood/joint"):
        pairs = [metrics[f"{prefix}/{a}"] for a in ("m0+m1", "m0+m2", "m1+m2")]
        assert metrics[f"{prefix}/by_size/2"] == pytest.approx(np.mean(pairs))
    one = [metrics[f"coherence/conditional/{a}->{t}"] for a in ORACLE.names for t in ORACLE.names if a != t]
    assert metrics["coherence/conditional/by_size/1"] == pytest.approx(np.mean(one))


def test_exact_posteriors_give_the_exact_log_likelihood(metrics):
    """Every example that may be drawn has the same exact proposal: full effective sample size."""
    assert metrics["log_likelihood/ess/m0+m1+m2"] == pytest.approx(5, rel=1e-4)
    assert metrics["log_likelihood/ess/m0"] < 4


def test_a_better_informed_subset_is_more_coherent(metrics):
    assert metrics["coherence/conditional/by_size/2"] > metrics["coherence/conditional/by_size/1"]
    assert min(metrics[f"classifier/{name}"] for name in ORACLE.names) > 0.7


def test_the_same_key_gives_the_same_numbers(metrics, cache):
    model = ORACLE.model()
    again = evaluate(model, ORACLE.params(model), toy_dataset(), jax.random.key(3), SETTINGS, cache, lambda line: None)
    assert again == metrics


def test_without_classes_only_likelihoods_and_only_complete_tuples(cache):
    model = ORACLE.model()
    dataset = toy_dataset(num_classes=0, absent=79)
    found = evaluate(model, ORACLE.params(model), dataset, jax.random.key(3), SETTINGS, cache, lambda line: None)
    assert {name.split("/")[0] for name in found} == {"log_likelihood"}
    batch = ORACLE.sample(jax.random.key(1), 80)
    complete = ORACLE.exact_log_prob(batch.x, ORACLE.names)[-1]
    assert found["log_likelihood/joint/m0+m1+m2"] == pytest.approx(complete, abs=1e-3)


def test_refusals_name_the_value(cache):
    model = ORACLE.model()
    arguments = model, ORACLE.params(model), toy_dataset(absent=80), jax.random.key(3)
    with pytest.raises(UserError, match="joint-samples=0"):
        EvaluationSettings(joint_samples=0)
    with pytest.raises(UserError, match="no test tuple with every modality"):
        evaluate(*arguments, SETTINGS, cache)


def test_the_powerset_of_few_modalities_and_a_spread_sample_of_many():
    assert len(evaluated_subsets(5)) == MAX_SUBSETS
    many = evaluated_subsets(9)
    assert len(many) <= MAX_SUBSETS
    assert np.array_equal(many[:9], np.eye(9, dtype=bool)) and many[-1].all()
    assert set(many.sum(1)) == set(range(1, 10))
    assert len({tuple(row) for row in many.tolist()}) == len(many)
    assert np.array_equal(many, evaluated_subsets(9))
