"""Fréchet distances against SciPy's matrix square root, closed forms and their bootstrap's own definition."""

import numpy as np
import pytest
from scipy import linalg

from mmvae_jax.evaluation.frechet import Moments, frechet_distance, frechet_replicates


def gaussian(seed, n, dims, scale=1.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, dims)) @ rng.normal(size=(dims, dims)) * scale + rng.normal(size=dims)


def by_scipy(a, b):
    """Heusel et al. 2017, Eq. 6, written out."""
    covariances = np.cov(a.T), np.cov(b.T)
    root = linalg.sqrtm(covariances[0] @ covariances[1])
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(covariances[0] + covariances[1] - 2 * root.real)


@pytest.mark.parametrize("dims", [1, 10, 128])
def test_it_agrees_with_scipys_matrix_square_root(dims):
    a, b = gaussian(0, 300, dims).reshape(300, dims), gaussian(1, 400, dims, 0.7).reshape(400, dims)
    expected = by_scipy(a, b) if dims > 1 else (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("count", [5, 500])
def test_equal_sets_have_distance_0_and_shifted_ones_the_squared_shift(count):
    """Of 5 examples, and with two features that never vary, the covariance is singular."""
    features = np.concatenate([gaussian(0, count, 20), np.zeros((count, 2))], 1)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(features, features[::-1] + 3) == pytest.approx(9 * 22, rel=1e-9)
    # Scaled about its mean by 2: C2 = 4 C1, so tr (C1 + 4 C1 - 4 C1) = tr C1.
    wide = 2 * (features - features.mean(0)) + features.mean(0)
    assert frechet_distance(features, wide) == pytest.approx(np.trace(np.cov(features.T)), rel=1e-9)


def test_moments_are_those_of_numpy():
    features = gaussian(2, 50, 6)
    found = Moments.of(features.astype(np.float32))
    np.testing.assert_allclose(found.root.T @ found.root, np.cov(features.T), rtol=1e-5, atol=1e-5)


def test_what_is_not_finite_has_no_distance():
    features = gaussian(0, 30, 4)
    assert np.isnan(frechet_distance(features, np.where(features > 2, np.nan, features)))


def test_replicates_draw_the_same_tuples_for_all_sets():
    real = {"a": gaussian(0, 80, 5), "b": gaussian(1, 80, 5)}
    generated = {"b->a": real["a"] + 1, "a->b": gaussian(3, 80, 5), "b": gaussian(4, 80, 5)}
    found = frechet_replicates(real, generated, seed=7, replicates=3)
    assert found.keys() == generated.keys()
    rows = np.random.default_rng(7).integers(80, size=(3, 80))
    for label, name in {"b->a": "a", "a->b": "b", "b": "b"}.items():
        expected = [frechet_distance(real[name], generated[label])]
        expected += [frechet_distance(real[name][chosen], generated[label][chosen]) for chosen in rows]
        np.testing.assert_allclose(found[label], expected, rtol=1e-9)
    np.testing.assert_allclose(found["b->a"], 5, rtol=1e-9)


def test_the_deviation_of_replicates_is_that_of_the_distance():
    """One feature of unit variance, far apart: the variance of (m1 - m2)^2 is (2 gap)^2 (1 + 1) / n."""
    rng = np.random.default_rng(0)
    real, generated = {"a": rng.normal(size=(2000, 1))}, {"a": rng.normal(size=(2000, 1)) + 5}
    deviation = np.std(frechet_replicates(real, generated, seed=1, replicates=200)["a"][1:], ddof=1)
    # 200 replicates tell a deviation to 5 %.
    assert deviation == pytest.approx(10 * np.sqrt(2 / 2000), rel=0.2)
