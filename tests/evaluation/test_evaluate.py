"""`evaluate`: the names of its metrics, how they are averaged, and that equal keys give equal numbers."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.data.batching import Dataset, fixed_split
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation import (
    METRICS,
    SAMPLERS,
    ClassifierSettings,
    Context,
    EvaluationSettings,
    Metric,
    Sampler,
    chosen_metrics,
    evaluate,
    evaluated_subsets,
    measure,
)
from mmvae_jax.evaluation.annealing import Annealing
from mmvae_jax.evaluation.context import MAX_SUBSETS
from mmvae_jax.evaluation.measuring import by_size, labelled, metric_of, standard_error, without_errors
from mmvae_jax.gaussian import Gaussian
from mmvae_jax.priors import GaussianMixture
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


def test_every_metric_that_applies_is_there_with_all_its_labels(metrics):
    names = ["m0", "m1", "m2"]
    subsets = [*names, "m0+m1", "m0+m2", "m1+m2", "m0+m1+m2"]
    pairs = [(given, target) for given in subsets for target in names]
    labels = {
        "probe": subsets,
        "log_likelihood/joint": subsets,
        "log_likelihood/conditional": [f"{a}->{t}" for a, t in pairs if t not in a.split("+")],
        "log_likelihood/cross": [f"{a}->{t}" for a, t in pairs if t not in a.split("+")],
        "log_likelihood/self": [f"{a}->{t}" for a, t in pairs if t in a.split("+")],
        "log_likelihood/ess": subsets,
        "log_likelihood/variance": subsets,
        "coherence/conditional": [f"{a}->{t}" for a, t in pairs if t not in a.split("+")],
        "coherence/self": [f"{a}->{t}" for a, t in pairs if t in a.split("+")],
        "log_likelihood/marginal": names,
        "log_likelihood/marginal_ess": names,
        "log_likelihood/marginal_variance": names,
        "log_likelihood/marginal_by_all": names,
        "log_likelihood/marginal_by_all_variance": names,
        "classifier": names,
        # Of class indices, which these modalities have none of.
        "accuracy": [],
        "coherence/joint": [""],
        "coherence/joint_entropy": [""],
    }
    # Of vectors there are no pictures.
    of_pictures = ("FD", "FID", "precision", "recall")
    labels |= {f"{name}/{kind}": [] for name in of_pictures for kind in ("conditional", "unconditional")}
    dataset = toy_dataset()
    on_demand = {"log_likelihood/annealed", "log_likelihood/looseness"}
    assert {prefix for prefix, row in METRICS.items() if row.applies(dataset)} == labels.keys() | on_demand
    assert not any(labelled(metrics, prefix) for prefix in on_demand)
    for prefix, expected in labels.items():
        assert set(labelled(metrics, prefix)) == set(expected)
        assert set(by_size(metrics, prefix)) == (
            {label.split("->")[0].count("+") + 1 for label in expected} if METRICS[prefix].by_size else set()
        )
    assert all(metric_of(name) for name in without_errors(metrics))
    assert all(isinstance(value, float) and np.isfinite(value) for value in metrics.values())
    assert all(standard_error(metrics, name) is not None for name in without_errors(metrics))


def test_standard_errors_are_those_of_means_over_examples(metrics):
    for name in ("probe/m0", "coherence/self/m0+m1->m0", "coherence/joint", "classifier/m1"):
        size = {"coherence/joint": SETTINGS.joint_samples}.get(name, 80)
        rate = metrics[name]
        assert standard_error(metrics, name) == pytest.approx(np.sqrt(rate * (1 - rate) / (size - 1)))


def test_the_error_of_a_mean_over_subsets_is_that_of_each_examples_mean(monkeypatch):
    """Subsets are measured on the same examples: their errors do not cancel as those of independent ones would."""
    rng = np.random.default_rng(0)
    values = {"m0": rng.normal(size=50), "m1": rng.normal(size=50), "m0+m1": rng.normal(size=50)}
    values["m2"] = values["m0"] + 1
    only(monkeypatch, mine=Metric(lambda context: values, "Mine", "units", by_size=True))
    found = measure(context())
    mean = (values["m0"] + values["m1"] + values["m2"]) / 3
    assert found["mine/by_size/1"] == pytest.approx(mean.mean())
    assert standard_error(found, "mine/by_size/1") == pytest.approx(mean.std(ddof=1) / np.sqrt(50))
    assert found["mine/by_size/2"] == found["mine/m0+m1"]


def test_a_resampled_metric_is_its_first_value_and_its_error_the_deviation_of_the_others(monkeypatch):
    """Replicates are of the same examples: the error of an average is the deviation of the replicates' averages."""
    values = {"m0->m1": np.array([3.0, 1, 5, 6]), "m1->m0": np.array([4.0, 9, 1, 2])}
    only(monkeypatch, mine=Metric(lambda context: values, "Mine", "units", by_size=True, resampled=True))
    found = measure(context())
    assert found["mine/m0->m1"] == 3 and found["mine/by_size/1"] == 3.5
    assert standard_error(found, "mine/m0->m1") == pytest.approx(np.std([1, 5, 6], ddof=1))
    assert standard_error(found, "mine/by_size/1") == pytest.approx(np.std([5, 3, 4], ddof=1))


def test_only_the_metrics_that_are_asked_for_are_measured(monkeypatch):
    def never(context):
        raise AssertionError

    def ones(context):
        return {"": np.ones(2)}

    only(
        monkeypatch,
        **{name: Metric(ones, name, "units") for name in ("a/first", "a/second")},
        ab=Metric(never, "ab", "units"),
        c=Metric(never, "c", "units", applies=lambda dataset: False),
    )
    found = {
        f"{start}a/{kind}": value for kind in ("first", "second") for start, value in (("", 1), ("standard_error/", 0))
    }
    assert measure(context(), ["a"]) == measure(context(dataclasses.replace(SETTINGS, metrics=("a",)))) == found
    assert without_errors(measure(context(), ["a/second"])) == {"a/second": 1}
    assert chosen_metrics(()) == ("a/first", "a/second", "ab", "c")
    for name, said in (
        ("b", "unknown metric 'b': choose one of a, a/first, a/second, ab, c"),
        ("c", "metrics c: toy has"),
    ):
        with pytest.raises(UserError, match=said):
            measure(context(), ["a", name])


def test_a_context_of_other_parameters_shares_what_the_data_say():
    """And nothing that the parameters have a part in."""
    before = context()
    test, fitted, masks = before.test, before.fitted, before.masks
    assert before.estimates[0].log_prob.shape == (7, 20)
    after = before.of(jax.tree.map(jnp.zeros_like, before.params))
    assert after.test is test and after.fitted is fitted and after.masks is masks
    assert not np.array_equal(after.estimates[0].log_prob, before.estimates[0].log_prob)


def test_targets_of_a_subset_count_as_one(monkeypatch):
    values = {"m0->m1": np.zeros(4), "m0->m2": np.zeros(4), "m1->m0": np.ones(4)}
    only(monkeypatch, mine=Metric(lambda context: values, "Mine", "units", by_size=True))
    assert measure(context())["mine/by_size/1"] == 0.5


def test_numbers_of_inputs_are_told_where_some_are_left_out(monkeypatch):
    row = partial(Metric, title="Mine", unit="units", by_size=True)
    every, some = ({each: np.ones(4) for each in labels} for labels in (("m0", "m0+m1"), ("m0", "m0+m1+m2")))
    only(monkeypatch, every=row(lambda context: every), some=row(lambda context: some))
    lines = []
    measure(context(report=lines.append))
    assert [line.rpartition(" (")[0] for line in lines] == [
        "Mine, by number of inputs: 1 1",
        "Mine, by number of inputs (1, 3): 1 1",
    ]


def test_one_example_has_no_standard_error_and_a_metric_that_does_not_apply_is_left_out(monkeypatch):
    def never(context):
        raise AssertionError

    alone = Metric(lambda context: {"": np.array([3.0])}, "Alone", "units")
    only(monkeypatch, alone=alone, never=Metric(never, "Never", "units", applies=lambda dataset: False))
    assert measure(context()) == {"alone": 3.0}


def only(monkeypatch, **rows):
    for name in reversed(list(METRICS)):  # what is deleted last comes back first: the order is that of the columns
        monkeypatch.delitem(METRICS, name)
    for name, row in rows.items():
        monkeypatch.setitem(METRICS, name, row)


def context(settings=SETTINGS, cache="cache", report=lambda line: None):
    model = ORACLE.model()
    return Context(model, ORACLE.params(model), toy_dataset(), jax.random.key(3), settings, cache, report)


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


def test_annealing_says_how_loose_importance_sampling_is(monkeypatch):
    only(monkeypatch, **{name: METRICS[name] for name in ("log_likelihood/annealed", "log_likelihood/looseness")})
    ais = Annealing(temperatures=400, chains=8, leapfrog_steps=10, examples=15)
    settings = dataclasses.replace(SETTINGS, log_likelihood_samples=2, estimator="ais", ais=ais)
    model = ORACLE.model()
    params = ORACLE.params(model, log_scale=-1.0)
    exact = ORACLE.params(model)
    found, tight = (
        measure(Context(model, each, toy_dataset(), jax.random.key(3), settings, "cache", lambda line: None))
        for each in (params, exact)
    )
    for label in (*ORACLE.names, "m0+m1+m2"):
        assert found[f"log_likelihood/annealed/{label}"] == tight[f"log_likelihood/annealed/{label}"]
        assert found[f"log_likelihood/looseness/{label}"] > 0.5
        error = standard_error(tight, f"log_likelihood/looseness/{label}")
        assert error is not None and abs(tight[f"log_likelihood/looseness/{label}"]) < 3 * error + 0.05


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
    assert {name.split("/")[0] for name in without_errors(found)} == {"log_likelihood"}
    batch = ORACLE.sample(jax.random.key(1), 80)
    complete = ORACLE.exact_log_prob(batch.x, ORACLE.names)[-1]
    assert found["log_likelihood/joint/m0+m1+m2"] == pytest.approx(complete, abs=1e-3)


def test_refusals_name_the_value(cache, unchecked):
    model = ORACLE.model()
    arguments = model, ORACLE.params(model), toy_dataset(absent=80), jax.random.key(3)
    with pytest.raises(UserError, match="joint-samples=0: give at least 1"):
        EvaluationSettings(joint_samples=0)
    with pytest.raises(UserError, match="unknown sampler 'gnm': choose one of prior, gmm"):
        EvaluationSettings(sampler="gnm")
    with pytest.raises(UserError, match="unknown estimator 'nuts': choose one of importance, ais"):
        EvaluationSettings(estimator="nuts")
    with pytest.raises(UserError, match=r"ais\.leapfrog-steps=0"):
        Annealing(leapfrog_steps=0)
    with pytest.raises(UserError, match=r"classifier\.dropout=1\.5"):
        ClassifierSettings(dropout=1.5)
    with pytest.raises(UserError, match="no test tuple with every modality"):
        evaluate(*arguments, SETTINGS, cache)


def test_the_powerset_of_few_modalities_and_a_spread_sample_of_many():
    assert len(evaluated_subsets(5)) == MAX_SUBSETS
    many = evaluated_subsets(9)
    assert len(many) <= MAX_SUBSETS
    assert np.array_equal(many[:9], np.eye(9, dtype=bool)) and many[-1].all()
    assert set(many.sum(1)) == set(range(1, 10)) and [False] + 8 * [True] in many.tolist()
    assert len({tuple(row) for row in many.tolist()}) == len(many)
    assert np.array_equal(many, evaluated_subsets(9))


def test_unconditional_metrics_draw_from_the_sampler_that_is_chosen(monkeypatch, cache):
    """One that draws a single point: every sample shows one class."""

    def a_point(model, params, dataset, key, components):
        return GaussianMixture(jnp.zeros(1), Gaussian(jnp.full((1, 3), 3.0), jnp.full((1, 3), -20.0)))

    monkeypatch.setitem(SAMPLERS, "point", Sampler(a_point, "a point"))
    chosen = {name: METRICS[name] for name in ("coherence/joint", "coherence/joint_entropy")}
    only(monkeypatch, **chosen)
    found = measure(context(dataclasses.replace(SETTINGS, sampler="point"), cache))
    assert found["coherence/joint_entropy"] == 0
    assert METRICS["coherence/joint_entropy"].remark(found["coherence/joint_entropy"]).startswith("collapsed")
    spread = measure(context(SETTINGS, cache))
    assert spread["coherence/joint_entropy"] > 0.6
    assert METRICS["coherence/joint_entropy"].remark(spread["coherence/joint_entropy"]) == ""
