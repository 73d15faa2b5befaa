"""ELBO, powerset ELBO, MVAE, mmJSD and MVTCAE: closed forms, exact log p and the formulas written out."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax import subsets
from mmvae_jax.data.batching import Batch
from mmvae_jax.model import Model, Params
from mmvae_jax.objectives import OBJECTIVES, Options
from mmvae_jax.objectives.terms import weighted_sum
from tests.by_hand import ByHand, Normal, added, components, estimates, product, subset_names, z_score
from tests.oracle import LinearGaussian

ORACLE = LinearGaussian((3, 2, 4), latent_dim=2)
PRIVATE = LinearGaussian((4, 3, 5), latent_dim=2, private_dim=1)
PRESENT = np.array(list(np.ndindex(2, 2, 2)), bool)


def masked(oracle: LinearGaussian) -> Batch:
    """Eight tuples, one for every presence mask."""
    return oracle.sample(jax.random.key(0), 8)._replace(present=jnp.asarray(PRESENT))


def perturbed(oracle: LinearGaussian, fusion: str, **options) -> tuple[Model, Params]:
    """A model whose posteriors are near the exact ones, not at them."""
    model = oracle.model(fusion, **options)
    return model, oracle.params(model, "likelihood" if fusion == "poe" else "posterior", shift=0.2, log_scale=-0.15)


def exact_log_p(oracle: LinearGaussian, batch: Batch) -> float:
    """Mean over the batch of log p of what is observed."""
    values = [
        oracle.exact_log_prob(batch.x, subset_names(oracle.names, mask))[b]
        for b, mask in enumerate(np.asarray(batch.present))
    ]
    return float(np.mean(values))


def closed_form_elbo(
    hand: ByHand, weights: np.ndarray, qs: list[Normal], targets: np.ndarray | None = None
) -> np.ndarray:
    """`sum_s w_s (E_s[sum_m log p_m] - KL(q_s || p))` of every batch element, targets being the modalities m."""
    reconstructed = range(3) if targets is None else np.flatnonzero(targets)
    per_component = [sum(hand.expected_log_p(m, q) for m in reconstructed) - q.kl(hand.prior) for q in qs]
    return (weights * np.array(per_component)).sum(0)


def test_exact_posterior_attains_log_p_in_every_draw():
    """`log p(x|z) + log p(z) - log q(z|x)` is log p(x) whatever z, for every presence mask."""
    model = ORACLE.model("poe")
    params = ORACLE.params(model, "likelihood")
    bounds = estimates("elbo", model, params, masked(ORACLE), 5, Options(kl="sample"))
    np.testing.assert_allclose(bounds, exact_log_p(ORACLE, masked(ORACLE)), rtol=1e-5)


@pytest.mark.parametrize("expectation", ["stratified", "sample", "all"])
@pytest.mark.parametrize("fusion", ["poe", "poe_quotient", "moe", "mopoe"])
def test_elbo_has_the_mean_of_its_closed_form(fusion, expectation):
    batch = masked(ORACLE)
    model, params = perturbed(ORACLE, fusion)
    hand = ByHand(ORACLE, model, params, batch)
    weights, qs = components(jax.jit(model.joint)(params, jax.jit(model.encode)(params, batch), batch.present))
    exact = closed_form_elbo(hand, weights, qs).mean()
    bounds = estimates("elbo", model, params, batch, 4_000, Options(expectation=expectation))
    assert abs(z_score(bounds, exact)) < 4
    assert exact < exact_log_p(ORACLE, batch)


def test_all_components_have_less_variance_than_one():
    model, params = perturbed(ORACLE, "moe")
    spread = {
        expectation: estimates("elbo", model, params, masked(ORACLE), 2_000, Options(expectation=expectation)).std()
        for expectation in ("all", "stratified", "sample")
    }
    assert spread["all"] < 0.9 * spread["stratified"] < 0.95 * spread["sample"]


@pytest.mark.parametrize("fusion", ["poe", "moe", "mopoe"])
def test_sampled_kl_is_the_tighter_bound_on_log_p(fusion):
    """kl=bound <= kl=sample <= log p in expectation; equal in the mean where there is one component."""
    batch = masked(ORACLE)
    model, params = perturbed(ORACLE, fusion)
    sample, bound = (
        estimates("elbo", model, params, batch, 4_000, Options(kl=kl, expectation="all")) for kl in ("sample", "bound")
    )
    assert z_score(sample, exact_log_p(ORACLE, batch)) < -4
    if fusion == "poe":
        assert abs(z_score(sample - bound)) < 4
    else:
        assert z_score(sample - bound) > 10


def test_powerset_elbo_is_below_mopoes_elbo_below_log_p():
    """Sutter et al. 2021, Lemma 3; and the powerset ELBO is the mean of its subsets' closed forms."""
    batch = masked(ORACLE)
    model, params = perturbed(ORACLE, "mopoe")
    powerset = estimates("powerset_elbo", model, params, batch, 3_000)
    elbo = estimates("elbo", model, params, batch, 3_000, Options(kl="sample", expectation="all"))
    difference = elbo.mean() - powerset.mean()
    assert difference > 4 * np.hypot(elbo.std(), powerset.std()) / np.sqrt(3_000)
    assert z_score(elbo, exact_log_p(ORACLE, batch)) < -4

    hand = ByHand(ORACLE, model, params, batch)
    codes = jax.jit(model.encode)(params, batch)
    given = jax.jit(model.given)
    total, live = np.zeros(8), np.zeros(8)
    for mask in subsets.powerset(3):
        _, (q,) = components(given(params, codes, batch.present, jnp.asarray(mask)))
        usable = (PRESENT & mask).any(-1) | ~PRESENT.any(-1)
        total += np.where(usable, closed_form_elbo(hand, np.ones((1, 8)), [q]), 0)
        live += usable
    assert abs(z_score(powerset, (total / live).mean())) < 4


@pytest.mark.parametrize("random_subsets", [0, 3])
def test_mvae_is_the_sum_of_its_elbos(random_subsets):
    """Of everything, of each modality, and of random subsets; each reconstructs only what it infers from."""
    batch = masked(ORACLE)
    model, params = perturbed(ORACLE, "poe")
    hand = ByHand(ORACLE, model, params, batch)

    def elbo(mask: np.ndarray) -> np.ndarray:
        values = np.zeros(8)
        for b, within in enumerate(PRESENT & mask):
            q = product(*[hand.q[name] for name in subset_names(ORACLE.names, within)], hand.prior)
            values[b] = closed_form_elbo(hand, np.ones((1, 8)), [q], within)[b]
        return values

    every = [elbo(mask) for mask in subsets.powerset(3)]
    exact = every[-1] + sum(every[:3]) + random_subsets * np.mean(every, axis=0)
    bounds = estimates("mvae", model, params, batch, 4_000, Options(random_subsets=random_subsets))
    assert abs(z_score(bounds, exact.mean())) < 4


class Weighted:
    """A model with private latents, unequal likelihood weights and all presence masks, and the terms of its losses."""

    weights = (1.0, 2.5, 0.5)
    beta, beta_style = 1.7, 0.6

    def __init__(self, fusion: str, **options):
        model, params = perturbed(PRIVATE, fusion, **options)
        modalities = tuple(replace(m, weight=w) for m, w in zip(model.modalities, self.weights, strict=True))
        self.model, self.params, self.batch = replace(model, modalities=modalities), params, masked(PRIVATE)
        self.hand = ByHand(PRIVATE, self.model, params, self.batch)
        self.experts = [self.hand.q[name] for name in PRIVATE.names]

    def loss(self, objective: str, **options) -> tuple[float, dict[str, float]]:
        chosen = Options(beta_style=self.beta_style, expectation="all", **options)
        loss, terms = jax.jit(
            lambda p, b: OBJECTIVES[objective].loss(self.model, p, jax.random.key(0), b, self.beta, chosen)
        )(self.params, self.batch)
        return float(loss), {name: float(value) for name, value in terms.items()}

    def log_p(self, q: Normal, b: int) -> float:
        return sum(w * self.hand.log_p(m, q.draw())[b] for m, w in enumerate(self.weights))

    def style(self) -> np.ndarray:
        return self.beta * self.beta_style * added(self.hand.style_kl(m) for m in range(3))


@pytest.mark.usefixtures("fixed_noise")
@pytest.mark.parametrize("kl", ["bound", "sample"])
def test_weights_beta_and_beta_style_are_where_they_belong(kl):
    case = Weighted("mopoe")
    codes = jax.jit(case.model.encode)(case.params, case.batch)
    weights, qs = components(jax.jit(case.model.joint)(case.params, codes, case.batch.present))
    bound = np.zeros(8)
    kls = np.zeros(8)
    for b in range(8):
        for s, q in enumerate(qs):
            if weights[s, b] > 0:
                bound[b] += weights[s, b] * case.log_p(q, b)
                z = q.draw()
                mixture = np.log(sum(weights[r, b] * np.exp(qs[r].log_prob(z)[b]) for r in range(len(qs))))
                sampled = mixture - case.hand.prior.log_prob(z)[b]
                kls[b] += weights[s, b] * (q.kl(case.hand.prior)[b] if kl == "bound" else sampled)
    loss, terms = case.loss("elbo", kl=kl)
    np.testing.assert_allclose(loss, -(bound - case.beta * kls - case.style()).mean(), rtol=1e-5)
    np.testing.assert_allclose(terms["kl"], kls.mean(), rtol=1e-4)
    np.testing.assert_allclose(terms["kl_private"], case.style().mean() / case.beta / case.beta_style, rtol=1e-4)
    unweighted = added(weights[s] * case.hand.log_p(1, q.draw()) for s, q in enumerate(qs))
    np.testing.assert_allclose(terms["log_likelihood/m1"], unweighted.mean(), rtol=1e-4)


@pytest.mark.usefixtures("fixed_noise")
def test_mmjsd_written_out():
    """Sutter et al. 2020: KLs to the geometric mean of the experts and the prior, all weights 1/(n+1)."""
    case = Weighted("moe")
    bound, divergence = np.zeros(8), np.zeros(8)
    for b, present in enumerate(PRESENT):
        seen = [case.experts[m] for m in np.flatnonzero(present)]
        members = [Normal(q.mean[b], q.var[b]) for q in [*seen, case.hand.prior]]
        n = len(members)
        dynamic = product(*[Normal(q.mean, n * q.var) for q in members])
        divergence[b] = sum(q.kl(dynamic) for q in members) / n
        bound[b] = np.mean([case.log_p(q, b) for q in seen]) if seen else 0.0
    loss, terms = case.loss("mmjsd")
    np.testing.assert_allclose(terms["kl"], divergence.mean(), rtol=1e-4)
    np.testing.assert_allclose(loss, -(bound - case.beta * divergence - case.style()).mean(), rtol=1e-5)


@pytest.mark.usefixtures("fixed_noise")
def test_mvtcae_written_out():
    """Hwang et al. 2021: q is the product of the experts without the prior."""
    case, a = Weighted("poe", prior_expert="none"), 0.9
    bound = np.zeros(8)
    for b, present in enumerate(PRESENT):
        seen = [case.experts[m] for m in np.flatnonzero(present)]
        if seen:
            n, q = len(seen), product(*seen)
            to_experts = sum(q.kl(expert)[b] for expert in seen)
            bound[b] = (n - a) / n * case.log_p(q, b)
            bound[b] -= case.beta * ((1 - a) * q.kl(case.hand.prior)[b] + a / n * to_experts)
    loss, _ = case.loss("mvtcae", correlation=a)
    np.testing.assert_allclose(loss, -(bound - case.style()).mean(), rtol=1e-5)


@pytest.mark.usefixtures("fixed_noise")
def test_mvae_counts_private_latents_in_every_elbo_that_reads_them():
    case = Weighted("poe")
    bound = np.zeros(8)
    for b, present in enumerate(PRESENT):
        for mask in [*np.eye(3, dtype=bool), np.ones(3, bool)]:
            within = present & mask
            q = product(*[case.experts[m] for m in np.flatnonzero(within)], case.hand.prior)
            bound[b] -= case.beta * q.kl(case.hand.prior)[b]
            for m in np.flatnonzero(within):
                bound[b] += case.weights[m] * case.hand.log_p(m, q.draw())[b]
                bound[b] -= case.beta * case.beta_style * case.hand.style_kl(m)[b]
    loss, _ = case.loss("mvae")
    np.testing.assert_allclose(loss, -bound.mean(), rtol=1e-5)


def test_a_value_of_weight_zero_counts_for_nothing():
    """Whatever it is, in values and gradients."""
    weights = jnp.array([[0.0, 0.5], [1.0, 0.5]])
    values = jnp.array([[jnp.inf, 2.0], [3.0, 4.0]])
    total, gradient = jax.value_and_grad(lambda v: weighted_sum(weights, v).sum())(values)
    assert float(total) == 6.0
    np.testing.assert_array_equal(gradient, weights)


def test_private_latents_keep_the_elbo_a_bound_with_its_closed_form():
    batch = masked(PRIVATE)
    model, params = perturbed(PRIVATE, "mopoe")
    hand = ByHand(PRIVATE, model, params, batch)
    weights, qs = components(jax.jit(model.joint)(params, jax.jit(model.encode)(params, batch), batch.present))
    exact = closed_form_elbo(hand, weights, qs) - sum(hand.style_kl(m) for m in range(3))
    bounds = estimates("elbo", model, params, batch, 4_000)
    assert abs(z_score(bounds, exact.mean())) < 4
    assert exact.mean() < exact_log_p(PRIVATE, batch)


def test_random_subsets_vary_with_the_key_and_stay_a_bound():
    batch = masked(ORACLE)
    model, params = perturbed(ORACLE, "mopoe", subsets="random:2")
    bounds = estimates("elbo", model, params, batch, 2_000, Options(expectation="all", kl="sample"))
    assert z_score(bounds, exact_log_p(ORACLE, batch)) < -4
