"""Recurrent networks and their likelihood: every string's probability, forced, greedy and drawn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.baselines import CVAE
from mmvae_jax.likelihoods import log_prob, point_estimate
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.mlp import MLPDecoder, MLPEncoder
from mmvae_jax.networks.recurrent import RecurrentDecoder, RecurrentEncoder

LENGTH, SYMBOLS, END = 3, 3, 2
K, B, D = 2, 4, 2


@pytest.fixture(scope="module")
def model():
    networks = RecurrentEncoder(SYMBOLS, 4), RecurrentDecoder(LENGTH, SYMBOLS, 8)
    return Model((Modality("string", (LENGTH,), *networks, "autoregressive"),), D, "poe")


@pytest.fixture(scope="module")
def params(model):
    """Made far from uniform, so that symbols depend on z and on those before."""
    return jax.tree.map(lambda leaf: 3 * leaf, model.init(jax.random.key(0)))


@pytest.fixture(scope="module")
def p(model, params):
    return model.decode(params, jax.random.normal(jax.random.key(1), (K, B, D)))["string"]


def all_strings():
    """Every string that ends, and every one that does not within the length."""
    ended = [(*s, END) for n in range(LENGTH) for s in itertools.product(range(END), repeat=n)]
    strings = ended + list(itertools.product(range(END), repeat=LENGTH))
    return np.array([s + (-1,) * (LENGTH - len(s)) for s in strings], np.int32)


@pytest.fixture(scope="module")
def log_probs(p):
    """Of every string, [strings, K, B]."""
    return np.stack([log_prob(p, jnp.tile(jnp.asarray(s), (B, 1)), 1) for s in all_strings()])


def test_probabilities_of_all_strings_sum_to_one_and_depend_on_z(log_probs):
    np.testing.assert_allclose(np.exp(log_probs).sum(0), np.ones((K, B)), rtol=1e-5)
    assert log_probs.std(axis=(1, 2)).min() > 0.01


def test_a_symbol_is_told_from_those_before_it_only(p):
    one, other = (p.log_prob(jnp.tile(jnp.array(s), (B, 1))) for s in ([0, 1, 0], [0, 1, 1]))
    np.testing.assert_allclose(one[..., :2], other[..., :2], rtol=1e-6)
    changed = p.log_prob(jnp.tile(jnp.array([1, 1, 0]), (B, 1)))
    assert np.abs(changed[..., 1:] - one[..., 1:]).min() > 1e-4


def test_the_mode_is_the_greedy_string(p):
    """Told from the probabilities alone: the most likely symbol, given those chosen before."""
    mode = np.asarray(point_estimate(p))
    assert mode.shape == (K, B, LENGTH)
    prefix = np.full((K, B, LENGTH), -1)
    for t in range(LENGTH):
        for k, b in np.ndindex(K, B):
            if END in prefix[k, b]:
                continue
            options = [np.where(np.arange(LENGTH) == t, c, np.maximum(prefix[k, b], 0)) for c in range(SYMBOLS)]
            scores = [p.log_prob(jnp.tile(jnp.asarray(o), (B, 1)))[k, b, t] for o in options]
            prefix[k, b, t] = int(np.argmax(scores))
    np.testing.assert_array_equal(mode, prefix)


def test_draws_have_the_strings_probabilities(p, log_probs):
    n = 4000
    draws = np.asarray(p.sample(seed=jax.random.key(2), sample_shape=(n,)))
    assert draws.shape == (n, K, B, LENGTH)
    counts = np.stack([(draws == s).all(-1).sum(0) for s in all_strings()])
    assert (counts.sum(0) == n).all()
    expected = n * np.exp(log_probs)
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected) + 3).all()


def test_the_model_sums_the_places_and_learns_by_teacher_forcing(model, params, log_probs):
    z = jax.random.normal(jax.random.key(1), (K, B, D))
    strings = all_strings()[[0, 3, 7, 9]]
    batch = model.batch({"string": strings})
    found = model.log_likelihoods(params, z, batch)[..., 0]
    expected = np.stack([log_probs[s, :, b] for b, s in enumerate([0, 3, 7, 9])], 1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    gradient = jax.grad(lambda params: model.log_likelihoods(params, z, batch).sum())(params)["decoders"]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert np.mean([bool(np.any(leaf)) for leaf in jax.tree.leaves(gradient)]) == 1


def test_a_conditional_vae_tells_strings_as_exactly(model):
    label = Modality("label", (), MLPEncoder((), 2), MLPDecoder((2,), ()), "categorical")
    cvae = CVAE(model.modalities[0], label, D, 4)
    params = cvae.init(jax.random.key(0))
    y = jnp.array([0, 1, 1, 0])
    p = cvae.decode(params, jax.random.normal(jax.random.key(1), (K, B, D)), y)
    log_probs = np.stack([log_prob(p, jnp.tile(jnp.asarray(s), (B, 1)), 1) for s in all_strings()])
    np.testing.assert_allclose(np.exp(log_probs).sum(0), np.ones((K, B)), rtol=1e-5)
    assert np.abs(log_probs[:, 0] - log_probs[:, 1]).max() > 1e-3


def test_generated_strings_end_in_padding(model, params):
    drawn = np.asarray(model.generate(params, jax.random.key(3), samples=50, draws=True)["string"])
    after = np.cumsum(drawn == END, -1) - (drawn == END) > 0
    assert ((drawn == -1) == after).all() and after.any() and not after.all()


def test_padding_tells_the_encoder_nothing_and_every_symbol_does():
    encoder = RecurrentEncoder(SYMBOLS, 4)
    x = jnp.array([[0, 1, END], [0, END, -1], [1, 1, END]])
    variables = encoder.init(jax.random.key(0), x)
    longer = jnp.pad(x, ((0, 0), (0, 3)), constant_values=-1)
    features = encoder.apply(variables, x)
    np.testing.assert_allclose(encoder.apply(variables, longer), features, rtol=1e-6)
    np.testing.assert_allclose(encoder.apply(variables, x[1:2, :2]), features[1:2], rtol=1e-6)
    assert features.shape == (3, 8)
    # The last state of either direction has seen the first symbol.
    assert (np.abs(features[0] - features[2]) > 1e-4).all()


def test_embedded_symbols_are_rows_of_a_table_in_place_of_one_hot_vectors():
    """One-hot vectors are embedded by the identity: the same networks otherwise."""
    x = jnp.array([[0, 1, END], [1, END, -1]])
    plain, embedded = RecurrentEncoder(SYMBOLS, 4), RecurrentEncoder(SYMBOLS, 4, embedding=SYMBOLS)
    params = plain.init(jax.random.key(0), x)["params"]
    table = {"Embed_0": {"embedding": jnp.eye(SYMBOLS)}}
    expected = plain.apply({"params": params}, x)
    np.testing.assert_allclose(embedded.apply({"params": {**params, **table}}, x), expected, rtol=1e-6)

    z = jax.random.normal(jax.random.key(1), (4, D))
    told, read = RecurrentDecoder(LENGTH, SYMBOLS, 8), RecurrentDecoder(LENGTH, SYMBOLS, 8, embedding=SYMBOLS + 1)
    params = told.init(jax.random.key(2), z)["params"]
    (step,) = (name for name in params if "Dense" not in name)
    table = {"Embed_0": {"embedding": jnp.eye(SYMBOLS + 1)}}
    expected = told.apply({"params": params}, z)
    np.testing.assert_allclose(
        read.apply({"params": {**params, step: {**params[step], **table}}}, z), expected, rtol=1e-5
    )
    assert read.init(jax.random.key(0), z)["params"][step]["Embed_0"]["embedding"].shape == (SYMBOLS + 1, SYMBOLS + 1)
