"""Precision and recall where they are known, and against their definition written out."""

import numpy as np
import pytest

from mmvae_jax.evaluation import overlap as module
from mmvae_jax.evaluation.overlap import Manifold, overlap


def written_out(real, generated, k=3):
    """Kynkäänniemi et al. 2019, Eqs. 1 and 2."""

    def among(points, others):
        radii = [np.sort(np.linalg.norm(others - other, axis=1))[k] for other in others]
        return np.array([any(np.linalg.norm(p - o) <= r for o, r in zip(others, radii, strict=True)) for p in points])

    return among(generated, real), among(real, generated)


def test_it_is_the_papers_definition(monkeypatch):
    monkeypatch.setattr(module, "_ROWS", 16)
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(60, 4)), rng.normal(size=(60, 4)) * [0.3, 1, 1, 2] + 0.5
    found = overlap(Manifold(real), Manifold(generated))
    for ours, expected in zip(found, written_out(real, generated), strict=True):
        np.testing.assert_array_equal(ours, expected)
        assert 0.1 < ours.mean() < 0.95


@pytest.mark.parametrize("count", [2, 3, 100])
def test_of_a_set_with_itself_both_are_1(count):
    features = np.random.default_rng(0).normal(size=(count, 128)).astype(np.float32) * 1e3
    features[: count // 2] = features[0]
    found = overlap(Manifold(features), Manifold(features))
    assert found.precise.all() and found.recalled.all()


def test_a_part_of_the_real_ones_is_precise_and_recalls_that_part():
    rng = np.random.default_rng(0)
    real = np.concatenate([rng.normal(size=(50, 3)), rng.normal(size=(50, 3)) + 100])
    found = overlap(Manifold(real), Manifold(np.concatenate([real[:50], real[:50]])))
    assert found.precise.mean() == 1 and found.recalled.mean() == 0.5


def test_far_apart_both_are_0():
    features = np.random.default_rng(0).normal(size=(50, 3))
    found = overlap(Manifold(features), Manifold(features + 1000))
    assert not found.precise.any() and not found.recalled.any()
