"""The scikit-learn estimator: its protocol, its numbers against exact ones, and its place in pipelines and searches."""

import pickle
from collections import Counter

import jax
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, ShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from mmvae_jax import Modality, UserError
from mmvae_jax.estimator import MultimodalVAE
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
from mmvae_jax.rows import Rows

# Linear networks, so that all that the model says has a closed form.
LINEAR = MultimodalVAE("poe", 2, hidden=(), scale=0.3, steps=300, batch_size=50, learning_rate=0.02, random_state=0)
COLUMNS = {"a": 3, "b": 2}


def table(n: int = 200, seed: int = 0) -> np.ndarray:
    """Two factors behind five columns, a fifth of the samples without `a`, a fifth without `b`, a tenth without a value."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2)) @ np.random.default_rng(1).normal(size=(2, 5)) + 0.3 * rng.normal(size=(n, 5))
    which = rng.random(n)
    x[which < 0.2, :3], x[which > 0.8, 3:] = np.nan, np.nan
    x[(which > 0.4) & (which < 0.5), 1] = np.nan
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def fitted() -> MultimodalVAE:
    return clone(LINEAR).set_params(columns=COLUMNS).fit(table())


@pytest.mark.usefixtures("unchecked")
def test_it_keeps_scikit_learns_protocol():
    """All of `check_estimator`, untrained."""
    results = check_estimator(clone(LINEAR).set_params(steps=0, samples=2), on_skip=None)
    counts = Counter(each["status"] for each in results)
    assert counts["passed"] > 40 and counts["failed"] == counts["xfail"] == 0


@pytest.mark.slow
def test_score_is_the_log_likelihood_of_what_is_observed(fitted: MultimodalVAE):
    """p(x) of a linear decoder is N(b, W'W + scale^2 I)."""
    decoders = fitted.params_["decoders"]
    layers = [next(iter(decoders[name].values())) for name in COLUMNS]
    weight = np.concatenate([layer["kernel"] for layer in layers], 1).astype(np.float64)
    bias = np.concatenate([layer["bias"] for layer in layers]).astype(np.float64)
    covariance, x = weight.T @ weight + 0.3**2 * np.eye(5), table(100, 2)
    exact = []
    for row in x:
        seen = ~np.isnan(row)
        exact.append(multivariate_normal(bias[seen], covariance[np.ix_(seen, seen)]).logpdf(row[seen]))
    found = clone(fitted)
    found.__dict__.update(fitted.__dict__, samples=500)
    assert found.score(x) == pytest.approx(np.mean(exact), abs=0.02)
    assert fitted.score(x) == fitted.score(x)


@pytest.mark.slow
def test_what_is_missing_is_imputed_with_its_uncertainty(fitted: MultimodalVAE):
    x = table(60, 3)
    missing = np.isnan(x)
    mean, deviation = fitted.impute(x, return_std=True)
    np.testing.assert_array_equal(mean[~missing], x[~missing])
    assert (deviation[~missing] == 0).all()
    draws = fitted.impute(x, draws=400)
    assert draws.shape == (400, *x.shape)
    # Of 50 draws against 400: a deviation of a tenth, in units of themselves.
    np.testing.assert_allclose(deviation[missing] / draws.std(0)[missing], 1, atol=0.5)
    errors = (draws.mean(0) - mean)[missing] / draws.std(0)[missing]
    assert np.sqrt((errors**2).mean()) < 3 / np.sqrt(50)
    # Noise is part of it, and what one modality says of the other is not all that there is to know.
    assert (draws.std(0)[missing] > 0.27).all()
    with pytest.raises(UserError, match="return_std with draws=3: ask for one of them"):
        fitted.impute(x, return_std=True, draws=3)


@pytest.mark.slow
def test_embeddings_are_posterior_means_with_names(fitted: MultimodalVAE):
    x = table(30, 4)
    z = fitted.transform(x)
    data, present = {"a": x[:, :3], "b": x[:, 3:]}, ~np.isnan(x[:, [0, 3]])
    np.testing.assert_allclose(z, fitted.model_.infer(fitted.params_, fitted.model_.batch(data, present)).mean(), rtol=1e-4, atol=1e-5)  # fmt: skip
    np.testing.assert_allclose(fitted.transform(Rows(data)), z, rtol=1e-5)
    np.testing.assert_allclose(fitted.transform({"a": data["a"]})[present[:, 0] & ~present[:, 1]], z[present[:, 0] & ~present[:, 1]], rtol=1e-5)  # fmt: skip
    assert list(fitted.get_feature_names_out()) == ["multimodalvae0", "multimodalvae1"]
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(x), z)


@pytest.mark.slow
def test_a_search_in_a_pipeline_finds_the_number_of_factors():
    pipeline = make_pipeline(StandardScaler(), clone(LINEAR).set_params(columns=COLUMNS))
    half = ShuffleSplit(1, test_size=0.5, random_state=0)
    search = GridSearchCV(pipeline, {"multimodalvae__latent_dim": [1, 2]}, cv=half, refit=False).fit(table(400))
    assert search.best_params_ == {"multimodalvae__latent_dim": 2}
    one, two = search.cv_results_["mean_test_score"]
    assert two > one + 0.2
    assert cross_val_score(pipeline, table(400), cv=half).mean() == pytest.approx(two, rel=1e-6)


@pytest.mark.slow
def test_dicts_with_class_indices_are_split_by_rows():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 300)
    data = {"shown": np.eye(3)[label] + 0.1 * rng.normal(size=(300, 3)), "label": label}
    estimator = clone(LINEAR).set_params(steps=400)
    scores = cross_val_score(estimator, Rows(data), cv=2)
    data, label = {name: x[:150] for name, x in data.items()}, label[:150]
    # Knowing nothing costs 4.1 nats: log 3 of the label, and 1 of each value of variance 0.23 under scale 0.3.
    assert scores.shape == (2,) and (scores > -2.5).all()
    imputed, doubt = estimator.fit(data).impute({"shown": data["shown"]}, return_std=True)
    right = imputed["label"] == label
    assert right.mean() > 0.95 and imputed["label"].dtype.kind == "i"
    assert doubt["label"].shape == (150,) and 0 <= doubt["label"].min() <= doubt["label"].max() <= 1
    holes = np.where(rng.random(150) < 0.5, label, np.nan)
    np.testing.assert_array_equal(estimator.impute(data | {"label": holes})["label"][~np.isnan(holes)], label[~np.isnan(holes)])  # fmt: skip


def test_frames_come_and_go():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(table(20), columns=list("vwxyz"))
    estimator = clone(LINEAR).set_params(columns=COLUMNS, steps=0).set_output(transform="pandas")
    z = estimator.fit_transform(frame)
    assert list(z.columns) == ["multimodalvae0", "multimodalvae1"] and list(estimator.feature_names_in_) == list(
        "vwxyz"
    )
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.transform(frame[list("zyxwv")])


def test_modalities_of_ones_own_take_columns_and_mistakes_are_told():
    own = [Modality(n, (2, 1), MLPEncoder(()), MLPDecoder((2, 1), ()), private_dim=1) for n in "pq"]
    estimator = MultimodalVAE("mmvae_plus", 2, modalities=own, steps=0, samples=2, random_state=0)
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    assert estimator.fit(x).impute(x[:, :]).shape == (6, 4)
    assert estimator.impute(Rows({"p": x[:, :2, None]}))["q"].shape == (6, 2, 1)
    with pytest.raises(UserError, match=r"X has 3 columns, the modalities take 4, \{'p': 2, 'q': 2\}: give columns"):
        clone(estimator).fit(x[:, :3])
    with pytest.raises(UserError, match="unknown model 'gan'"):
        clone(estimator).set_params(model="gan").fit(x)
    with pytest.raises(UserError, match="needs a private latent of every modality"):
        clone(estimator).set_params(modalities=None).fit(x)
    jax.tree.map(np.testing.assert_array_equal, clone(estimator).fit(x).params_, estimator.params_)
