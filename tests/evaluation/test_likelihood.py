"""Importance sampling against the linear-Gaussian model's exact log-likelihoods."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax import subsets
from mmvae_jax.data.batching import Batch
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation import chunks
from mmvae_jax.evaluation.likelihood import (
    _estimates,
    conditional_log_likelihood,
    cross_log_likelihood,
    importance_estimates,
    joint_log_likelihood,
    marginal_log_likelihood,
    subset_estimates,
)
from mmvae_jax.modality import Modality
from mmvae_jax.model import Model
from mmvae_jax.networks.conv import ConvDecoder, ConvEncoder
from tests.oracle import LinearGaussian

NAMES = ("m0", "m1", "m2")
MASKS = subsets.powerset(3)


@pytest.fixture(params=[0, 1], ids=["shared", "private"])
def oracle(request):
    return LinearGaussian((4, 5, 6), latent_dim=3, private_dim=request.param)


def members(mask):
    return [name for name, chosen in zip(NAMES, mask, strict=True) if chosen]


@pytest.mark.parametrize(("fusion", "experts"), [("poe_quotient", "posterior"), ("poe", "likelihood")])
def test_exact_proposal_gives_the_exact_answer_without_variance(oracle, fusion, experts):
    model = oracle.model(fusion)
    params, batch = oracle.params(model, experts), oracle.sample(jax.random.key(1), 9)
    found = importance_estimates(model, params, jax.random.key(2), batch, MASKS, MASKS, samples=6)
    exact = np.stack([oracle.exact_log_prob(batch.x, members(mask)) for mask in MASKS])
    np.testing.assert_allclose(found.log_prob, exact, atol=1e-4)
    np.testing.assert_allclose(found.variance, 0, atol=1e-6)
    np.testing.assert_allclose(found.ess, 6, rtol=1e-4)


@pytest.mark.parametrize("fusion", ["poe", "moe", "mopoe"])
def test_weights_are_unbiased_under_every_subset(oracle, fusion):
    model = oracle.model(fusion)
    params = oracle.params(model, shift=0.1, log_scale=0.3)
    batch = oracle.sample(jax.random.key(1), 150)
    found = joint_log_likelihood(model, params, jax.random.key(3), batch, MASKS, samples=2000)
    ratio = np.exp(found.log_prob - oracle.exact_log_prob(batch.x, NAMES))
    error = ratio.std(1, ddof=1) / np.sqrt(ratio.shape[1])
    assert np.all(np.abs(ratio.mean(1) - 1) < 4 * error), (ratio.mean(1), error)
    assert np.all(error < 0.1)


def test_a_marginal_may_be_proposed_by_more_than_its_own_modality(oracle):
    """log p(x_0) under q(z|x_0, x_1) (Wu & Goodman 2018, supplement, Table 1)."""
    model = oracle.model("moe")
    params, batch = oracle.params(model, log_scale=0.2), oracle.sample(jax.random.key(1), 100)
    proposal, target = subsets.select(["m0", "m1"], NAMES)[None], subsets.select(["m0"], NAMES)[None]
    found = importance_estimates(model, params, jax.random.key(2), batch, proposal, target, 2000)
    ratio = np.exp(found.log_prob[0] - oracle.exact_log_prob(batch.x, ["m0"]))
    assert abs(ratio.mean() - 1) < 4 * ratio.std(ddof=1) / 10
    assert ratio.std() < 0.2


def test_variance_and_effective_sample_size_of_a_known_proposal():
    """A proposal with the posterior's mean and c times its variance, in one dimension."""
    oracle = LinearGaussian((2,), latent_dim=1)
    model, batch = oracle.model("moe"), oracle.sample(jax.random.key(1), 4)
    widen = 0.4
    params = oracle.params(model, log_scale=widen)
    one = np.ones((1, 1), bool)
    found = joint_log_likelihood(model, params, jax.random.key(2), batch, one, samples=60_000)
    c = np.exp(2 * widen)
    # log w = const - (c - 1) e^2 / 2 with e standard normal: variance (c - 1)^2 / 2; and for Gaussians
    # (E w)^2 / E w^2 = sqrt(2 c - 1) / c.
    np.testing.assert_allclose(found.variance, (c - 1) ** 2 / 2, rtol=0.05)
    np.testing.assert_allclose(found.ess / 60_000, np.sqrt(2 * c - 1) / c, rtol=0.01)


def test_estimates_rise_towards_the_exact_value_with_samples(oracle):
    model = oracle.model("mopoe")
    params = oracle.params(model, log_scale=0.2)
    batch = oracle.sample(jax.random.key(1), 100)
    full = np.ones((1, 3), bool)
    values = [
        joint_log_likelihood(model, params, jax.random.key(2), batch, full, k).log_prob.mean()
        for k in (1, 10, 100, 1000)
    ]
    exact = oracle.exact_log_prob(batch.x, NAMES).mean()
    assert np.all(np.diff(values) > 0)
    assert abs(values[-1] - exact) < 0.1 * abs(values[0] - exact)


def test_marginals_conditionals_and_cross_likelihoods_match_the_oracle(oracle):
    model = oracle.model("poe_quotient")
    params, batch = oracle.params(model), oracle.sample(jax.random.key(1), 30)
    key = jax.random.key(4)
    marginal = marginal_log_likelihood(model, params, key, batch, samples=5).log_prob
    exact = np.stack([oracle.exact_log_prob(batch.x, [name]) for name in NAMES])
    np.testing.assert_allclose(marginal, exact, atol=1e-4)
    target, given = subsets.select(["m0"], NAMES), subsets.select(["m1", "m2"], NAMES)
    exact = oracle.exact_conditional(batch.x, ["m0"], ["m1", "m2"])
    conditional = conditional_log_likelihood(model, params, key, batch, target, given, samples=5)
    np.testing.assert_allclose(conditional, exact, atol=1e-4)
    cross = cross_log_likelihood(model, params, key, batch, target, given, samples=20_000)
    np.testing.assert_allclose(cross, exact, atol=0.15)
    assert abs(np.mean(cross - exact)) < 0.02


def outlying(oracle, copies):
    """Twelve tuples, the last of them ever farther out, each several times in a row."""
    batch = oracle.sample(jax.random.key(1), 12)
    scale = jnp.linspace(1.0, 5.0, 12)[:, None]
    x = {name: jnp.repeat(values * scale, copies, 0) for name, values in batch.x.items()}
    return Batch(x, jnp.ones((12 * copies, 3), bool), jnp.zeros(12 * copies, jnp.int32))


def assert_within_three_errors(found, exact, copies, spread=30):
    """Of every tuple, in the mean over its copies; the tuples' likelihoods lie far apart."""
    ratio = np.exp(found - exact).reshape(*found.shape[:-1], 12, copies)
    error = ratio.std(-1, ddof=1) / np.sqrt(copies)
    distance = np.abs(ratio.mean(-1) - 1)
    # Of some hundred comparisons one in 400 is farther than three errors by chance.
    assert np.mean(distance < 3 * error) > 0.97 and np.all(distance < 4.5 * error), distance / error
    assert np.all(error < 0.1)
    assert np.all(np.ptp(exact, axis=-1) > spread)


def test_a_thousand_samples_are_within_three_errors_of_the_oracle(oracle):
    """Joint, own and cross estimates, of tuples of very different likelihoods and under every subset."""
    copies = 100
    model, batch = oracle.model("poe_quotient"), outlying(oracle, copies)
    params = oracle.params(model, shift=0.05, log_scale=0.1)
    found = subset_estimates(model, params, jax.random.key(5), batch, MASKS, 1000)
    own = np.stack([oracle.exact_log_prob(batch.x, members(mask)) for mask in MASKS])
    assert_within_three_errors(found.own.log_prob, own, copies, spread=10)
    full = found.joint.log_prob[-1:]
    assert_within_three_errors(full, oracle.exact_log_prob(batch.x, NAMES)[None], copies)
    np.testing.assert_array_equal(found.own.log_prob[-1], full[0])


def test_one_modality_s_likelihood_by_the_posterior_of_all(oracle):
    """Within three errors where that posterior is wide enough; by its own posterior the same as `own`."""
    copies = 100
    model, batch = oracle.model("poe"), oracle.sample(jax.random.key(1), 12)
    batch = jax.tree.map(lambda leaf: jnp.repeat(leaf, copies, 0), batch)
    params = oracle.params(model, "likelihood", log_scale=0.9)
    found = subset_estimates(model, params, jax.random.key(5), batch, MASKS, 1000)
    exact = np.stack([oracle.exact_log_prob(batch.x, [name]) for name in NAMES])
    assert_within_three_errors(found.each.log_prob[-1], exact, copies, spread=1)
    alone = jax.tree.map(lambda leaf: leaf[[0, 1, 2], [0, 1, 2]], found.each)
    jax.tree.map(np.testing.assert_array_equal, alone, jax.tree.map(lambda leaf: leaf[:3], found.own))


def test_conditionals_and_cross_likelihoods_of_a_thousand_samples(oracle):
    copies = 100
    model, batch = oracle.model("poe_quotient"), outlying(oracle, copies)
    key = jax.random.key(6)
    pairs = [(["m0"], ["m1", "m2"]), (["m2"], ["m0"])]
    for target, given in pairs:
        masks = subsets.select(target, NAMES), subsets.select(given, NAMES)
        exact = oracle.exact_conditional(batch.x, target, given)
        params = oracle.params(model, shift=0.05, log_scale=0.1)
        found = conditional_log_likelihood(model, params, key, batch, *masks, 1000)
        assert_within_three_errors(found, exact, copies, spread=10)


def test_cross_likelihoods_share_the_samples_of_their_proposal(oracle):
    """Of exact posteriors they are the conditional likelihoods."""
    copies = 100
    model, batch = oracle.model("poe_quotient"), oracle.sample(jax.random.key(1), 12)
    batch = jax.tree.map(lambda leaf: jnp.repeat(leaf, copies, 0), batch)
    found = subset_estimates(model, oracle.params(model), jax.random.key(6), batch, MASKS, 1000).cross
    exact = np.stack([[oracle.exact_conditional(batch.x, [t], members(mask)) for t in NAMES] for mask in MASKS])
    others = ~MASKS
    assert_within_three_errors(found[others], exact[others], copies, spread=1)


def test_absent_modalities_are_left_out(oracle):
    model = oracle.model("poe_quotient")
    params, batch = oracle.params(model), oracle.sample(jax.random.key(1), 8)
    poisoned = dict(batch.x, m1=jnp.full_like(batch.x["m1"], jnp.nan))
    batch = batch._replace(x=poisoned, present=batch.present.at[:, 1].set(False))
    full = np.ones((1, 3), bool)
    found = joint_log_likelihood(model, params, jax.random.key(2), batch, full, samples=4)
    exact = oracle.exact_log_prob(batch.x, ["m0", "m2"])
    np.testing.assert_allclose(found.log_prob[0], exact, atol=1e-4)


def test_every_modality_counts_once_whatever_its_training_weight():
    oracle = LinearGaussian((4, 5), latent_dim=2)
    model = oracle.model("poe_quotient")
    params, batch = oracle.params(model), oracle.sample(jax.random.key(1), 5)
    weighted = dataclasses.replace(
        model, modalities=tuple(dataclasses.replace(m, weight=7.0) for m in model.modalities)
    )
    full = np.ones((1, 2), bool)
    found = joint_log_likelihood(weighted, params, jax.random.key(2), batch, full, samples=3)
    np.testing.assert_allclose(found.log_prob[0], oracle.exact_log_prob(batch.x, ("m0", "m1")), atol=1e-4)


def test_the_same_samples_whatever_the_chunk(monkeypatch):
    oracle = LinearGaussian((4, 5, 6), latent_dim=3, private_dim=1)
    model = oracle.model("moe")
    params, batch = oracle.params(model), oracle.sample(jax.random.key(1), 10)
    whole = joint_log_likelihood(model, params, jax.random.key(2), batch, MASKS, samples=23)
    monkeypatch.setattr(chunks, "MAX_DECODED_ELEMENTS", 15 * 2 * 10 * 4)
    pieces = joint_log_likelihood(model, params, jax.random.key(2), batch, MASKS, samples=23)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4), whole, pieces)


def test_no_samples_is_refused():
    oracle = LinearGaussian((4, 5), latent_dim=2)
    model = oracle.model()
    with pytest.raises(UserError, match="0 importance samples"):
        marginal_log_likelihood(model, oracle.params(model), jax.random.key(0), oracle.sample(jax.random.key(1), 2), 0)


def test_a_thousand_samples_of_all_subsets_of_the_papers_networks_fit_in_memory():
    shape = (28, 28, 3)
    encoder, decoder = ConvEncoder((32, 64, 128), hidden=512), ConvDecoder(shape, (128, 64, 32))
    modalities = tuple(Modality(f"m{i}", shape, encoder, decoder, "laplace", 0.75) for i in range(5))
    model = Model(modalities, latent_dim=512)
    params = jax.eval_shape(model.init, jax.random.key(0))
    size = chunks.MAX_EXAMPLES
    x = {m.name: jnp.zeros((size, *shape), jnp.uint8) for m in modalities}
    batch = Batch(x, jnp.ones((size, 5), bool), jnp.zeros(size, jnp.int32))
    masks = jnp.asarray(subsets.powerset(5))
    at_once = chunks.decoded_at_once(model, params)
    targets, kinds = jnp.stack([masks] * 7, 1), (True, True, *(False,) * 5)
    lowered = _estimates.__wrapped__.lower(
        model, 1000, at_once, kinds, params, jax.random.key(0), batch, masks, targets
    )
    memory = lowered.compile().memory_analysis()
    assert memory is not None and memory.temp_size_in_bytes + memory.argument_size_in_bytes < 2 * 2**30
