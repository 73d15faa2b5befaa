"""Average precision against scikit-learn's, and its bootstrap replicates."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mmvae_jax.evaluation.average_precision import average_precisions, bootstrap_weights, frequencies, precisions

RNG = np.random.default_rng(0)
TRUTH = RNG.random((200, 4)) < [0.1, 0.5, 0.9, 0.3]
# Continuous scores, coarse ones with ties, and scores that know nothing.
SCORES = TRUTH + RNG.normal(size=(200, 4))
SCORES[:, 1] = SCORES[:, 1].round()
SCORES[:, 3] = 0


def test_every_replicate_is_scikit_learns_average_precision_under_its_weights():
    weights = bootstrap_weights(200, seed=3, replicates=5)
    found = average_precisions(SCORES, TRUTH, weights)
    expected = [
        [average_precision_score(TRUTH[:, a], SCORES[:, a], sample_weight=each) for a in range(4)] for each in weights
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(found[:, 3], frequencies(TRUTH, weights)[:, 3], rtol=1e-12)


def test_replicates_draw_as_many_examples_as_there_are_and_the_first_is_all_of_them():
    weights = bootstrap_weights(50, seed=1, replicates=400)
    assert (weights[0] == 1).all() and (weights.sum(1) == 50).all()
    np.testing.assert_allclose(weights[1:].mean(0), 1, atol=0.25)
    np.testing.assert_array_equal(weights, bootstrap_weights(50, seed=1, replicates=400))
    spread = frequencies(TRUTH[:50], weights)[1:].std(0)
    share = TRUTH[:50].mean(0)
    np.testing.assert_allclose(spread, np.sqrt(share * (1 - share) / 50), rtol=0.15)


def test_without_anybody_who_has_it_there_is_no_precision():
    truth = np.array([[True], [False], [False]])
    weights = np.array([[1, 1, 1], [0, 2, 1]])
    np.testing.assert_array_equal(average_precisions(np.array([[2.0], [1], [0]]), truth, weights), [[1], [0]])


def test_attributes_that_all_or_none_have_are_left_out():
    truth = np.stack([TRUTH[:, 0], np.ones(200, bool), np.zeros(200, bool)], 1)
    found = precisions({"image": SCORES[:, :3], "text": -SCORES[:, :3]}, truth, ["a", "b", "c"], seed=2)
    assert found.names == ["a"] and found.found.keys() == {"image", "text"}
    assert found.chance[0] == pytest.approx([TRUTH[:, 0].mean()])
    assert found.found["image"][0] > found.chance[0] > found.found["text"][0]
    nobody = precisions({"image": SCORES[:, :1]}, np.zeros((200, 1), bool), ["a"], seed=2)
    assert (nobody.names, nobody.found) == ([], {})
