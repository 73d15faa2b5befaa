"""Linear probe: how linearly the class can be read off the posterior mean of every subset."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from mmvae_jax.data.batching import Batch
from mmvae_jax.evaluation.chunks import MAX_ENCODED, chunks
from mmvae_jax.mixture import stratified_components
from mmvae_jax.model import Codes, Model, Params
from mmvae_jax.sharding import on_all_devices


def posterior_means(
    model: Model, params: Params, key: Key[Array, ""], batch: Batch, subset_masks: Bool[np.ndarray, "S M"]
) -> Float[np.ndarray, "S B D"]:
    """The mean of q(z|X_A) of every subset; of a mixture, that of one component for each tuple.

    A component is what a draw from a mixture comes from, and what the MoPoE paper probes. Averaging the means of
    MMVAE's experts would be an ensemble of all modalities that no draw from the model ever sees.
    """
    masks = jnp.asarray(subset_masks)
    pieces = [
        np.asarray(_means(model, params, jax.random.fold_in(key, chunk.index), chunk.batch, masks))[:, : chunk.size]
        for chunk in chunks(batch, MAX_ENCODED)
    ]
    return np.concatenate(pieces, 1)


def probe_matches(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    train: Batch,
    test: Batch,
    subset_masks: Bool[np.ndarray, "S M"],
) -> Bool[np.ndarray, "S B"]:
    """Whether each test tuple's class is told by one logistic regression a subset, fitted on posterior means.

    The means are not standardised: a latent dimension that the posterior left at the prior has a mean near zero, and
    scaling it up would only add noise.
    """
    train_key, test_key = jax.random.split(key)
    features = posterior_means(model, params, train_key, train, subset_masks)
    held_out = posterior_means(model, params, test_key, test, subset_masks)
    labels, truth = np.asarray(train.label), np.asarray(test.label)
    return np.stack([told(a, labels, b) == truth for a, b in zip(features, held_out, strict=True)])


def told(
    features: Float[np.ndarray, "B D"], labels: Int[np.ndarray, "B"], held_out: Float[np.ndarray, "T D"]
) -> Int[np.ndarray, "T"]:
    """The classes that a logistic regression on some examples gives to others.

    It is solved to its optimum, in float64: in float32 scikit-learn's default stops where rounding takes it, and
    features that differ by 1e-6 had accuracies that differ by 0.01.
    """
    if (labels == labels[0]).all():  # scikit-learn refuses a single class
        return np.full(len(held_out), labels[0])
    return np.asarray(_fitted(features, labels).predict(held_out.astype(np.float64)))


def probe_scores(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    train: Batch,
    test: Batch,
    subset_masks: Bool[np.ndarray, "S M"],
    attributes: Bool[np.ndarray, "B A"],
) -> Float[np.ndarray, "S T A"]:
    """How far each test tuple is on the side of each attribute, by one logistic regression a subset and attribute.

    They are fitted, as in `probe_matches`, on the posterior means of training tuples.

    Args:
      model: any model.
      params: its parameters.
      key: PRNG key.
      train: training tuples.
      test: test tuples.
      subset_masks: the subsets.
      attributes: which of them the training tuples have.
    """
    train_key, test_key = jax.random.split(key)
    features = posterior_means(model, params, train_key, train, subset_masks)
    held_out = posterior_means(model, params, test_key, test, subset_masks)
    return np.stack(
        [np.stack([_sides(a, has, b) for has in attributes.T], 1) for a, b in zip(features, held_out, strict=True)]
    )


def _sides(
    features: Float[np.ndarray, "B D"], has: Bool[np.ndarray, "B"], held_out: Float[np.ndarray, "T D"]
) -> Float[np.ndarray, "T"]:
    if (has == has[0]).all():
        return np.zeros(len(held_out))
    return _fitted(features, has).decision_function(held_out.astype(np.float64))


def _fitted(features: Float[np.ndarray, "B D"], labels: Shaped[np.ndarray, "B"]) -> Any:
    from sklearn.linear_model import LogisticRegression  # takes long: whoever asks for --help need not wait for it

    return LogisticRegression(solver="newton-cg", tol=1e-6, max_iter=1000).fit(features.astype(np.float64), labels)


@on_all_devices(static=(0,))
def _means(
    model: Model, params: Params, key: Key[Array, ""], batch: Batch, masks: Bool[Array, "S M"]
) -> Float[Array, "S B D"]:
    codes = model.encode(params, batch)
    return jax.vmap(partial(component_mean, model, params, codes, batch.present, key))(masks)


def component_mean(
    model: Model,
    params: Params,
    codes: Codes,
    present: Bool[Array, "B M"],
    key: Key[Array, ""],
    subset: Bool[Array, "M"],
) -> Float[Array, "B D"]:
    """The mean of q(z|X_A); of a mixture, that of one component for each tuple."""
    mixture = model.given(params, codes, present, subset)
    return mixture.select(stratified_components(key, mixture.log_weights)).mean
