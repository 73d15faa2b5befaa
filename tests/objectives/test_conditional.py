"""JMVAE, VAEVAE and SVAE against their equations written out for two and three modalities."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax.data.batching import Batch
from mmvae_jax.objectives import OBJECTIVES, Options
from tests.by_hand import ByHand, Normal, added, estimates, product, z_score
from tests.oracle import LinearGaussian

BETA, BETA_STYLE = 1.7, 0.6


class Case:
    """A model with private latents, unequal likelihood weights and every presence mask, and the terms of its losses."""

    def __init__(self, m: int, fusion: str, **options):
        self.oracle = LinearGaussian((4, 3, 5)[:m], latent_dim=2, private_dim=1)
        model = self.oracle.model(fusion, joint_width=4, **options)
        self.weights = (1.0, 2.5, 0.5)[:m]
        modalities = tuple(replace(x, weight=w) for x, w in zip(model.modalities, self.weights, strict=True))
        self.model = replace(model, modalities=modalities)
        self.params = self.oracle.params(self.model, shift=0.2)
        self.present = np.array(list(np.ndindex(*[2] * m)), bool)
        self.batch = self.oracle.sample(jax.random.key(0), 2**m)._replace(present=jnp.asarray(self.present))
        self.hand = ByHand(self.oracle, self.model, self.params, self.batch)
        self.q = self.hand.q

    def loss(self, objective: str, **options) -> tuple[float, dict[str, float]]:
        loss, terms = jax.jit(
            lambda p, b: OBJECTIVES[objective].loss(
                self.model, p, jax.random.key(0), b, BETA, Options(beta_style=BETA_STYLE, **options)
            )
        )(self.params, self.batch)
        return float(loss), {name: float(value) for name, value in terms.items()}

    def reconstruction(self, q: Normal, targets: tuple[int, ...]) -> np.ndarray:
        """`E_q[sum_m w_m log p(x_m|z, s_m)] - beta beta_style KL(q(s_m|x_m)||p(s_m))` over the targets."""
        z = q.draw()
        return added(
            self.weights[m] * self.hand.log_p(m, z) - BETA * BETA_STYLE * self.hand.style_kl(m) for m in targets
        )

    def unimodal_elbo(self, q: Normal, m: int) -> np.ndarray:
        return self.reconstruction(q, (m,)) - BETA * q.kl(self.hand.prior)


def tree_of_two(fusion: str, q: dict[str, Normal]) -> tuple[Normal, Normal, Normal]:
    """q(z|x0), q(z|x1) and q(z|x0, x1) of each family."""
    if fusion == "subset_networks":
        return q["m0"], q["m1"], q["m0+m1"]
    if fusion == "replacement_experts":
        return product(q["m0"], q["m0->m1"]), product(q["m1"], q["m1->m0"]), product(q["m0"], q["m1"])
    if fusion == "poe":
        return q["m0"], q["m1"], product(q["m0"], q["m1"])
    return q["m0"], q["m1"], q["m0+m1"]


@pytest.mark.usefixtures("fixed_noise")
@pytest.mark.parametrize("objective", ["vaevae", "svae"])
@pytest.mark.parametrize("fusion", ["subset_networks", "replacement_experts", "poe", "bridge", "joint_network"])
def test_two_modalities_are_equations_7_to_10(fusion, objective):
    """Paired rows: Eq. 7, for VAEVAE without its last two lines; unpaired rows: Eqs. 8 and 9."""
    case = Case(2, fusion, **({"prior_expert": "none"} if fusion == "poe" else {}))
    q0, q1, both = tree_of_two(fusion, case.q)
    paired = case.reconstruction(both, (0, 1)) - both.kl(q0) - both.kl(q1)
    if objective == "svae":
        paired += case.unimodal_elbo(q0, 0) + case.unimodal_elbo(q1, 1)
    rows = np.stack([np.zeros(4), case.unimodal_elbo(q1, 1), case.unimodal_elbo(q0, 0), paired])
    assert case.present.tolist() == [[False, False], [False, True], [True, False], [True, True]]
    loss, _ = case.loss(objective)
    np.testing.assert_allclose(loss, -np.diag(rows).mean(), rtol=1e-4)


@pytest.mark.usefixtures("fixed_noise")
@pytest.mark.parametrize("objective", ["vaevae", "svae"])
@pytest.mark.parametrize("fusion", ["subset_networks", "replacement_experts"])
def test_three_modalities_are_appendix_d(fusion, objective):
    """Eqs. D.28 to D.31 with each pair's KLs to its own members; SVAE sums every term over the rules of a pair."""
    case = Case(3, fusion)
    q = case.q
    pairs = ((0, 1), (0, 2), (1, 2))
    if fusion == "subset_networks":
        alone = [q[f"m{m}"] for m in range(3)]
        of_pair = {(i, j): [q[f"m{i}+m{j}"]] for i, j in pairs}
        everything = q["m0+m1+m2"]
    else:
        rest = {m: [k for k in range(3) if k != m] for m in range(3)}
        alone = [product(q[f"m{m}"], *[q[f"m{m}->m{k}"] for k in rest[m]]) for m in range(3)]
        of_pair = {}
        for i, j in pairs:
            k = 3 - i - j
            of_pair[i, j] = [product(q[f"m{i}"], q[f"m{j}"], q[f"m{source}->m{k}"]) for source in (i, j)]
        everything = product(q["m0"], q["m1"], q["m2"])
    single = [case.unimodal_elbo(alone[m], m) for m in range(3)]
    double = {
        (i, j): added(case.reconstruction(r, (i, j)) - r.kl(alone[i]) - r.kl(alone[j]) for r in of_pair[i, j])
        for i, j in pairs
    }
    triple = case.reconstruction(everything, (0, 1, 2)) - sum(everything.kl(r) for p in pairs for r in of_pair[p])
    expected = np.zeros(8)
    for b, present in enumerate(case.present):
        seen = tuple(np.flatnonzero(present))
        if len(seen) == 3:
            expected[b] = triple[b]
        expected[b] += sum(double[p][b] for p in pairs if set(p) <= set(seen))
        if objective == "svae" or len(seen) == 1:
            expected[b] += sum(single[m][b] for m in seen)
    loss, _ = case.loss(objective)
    np.testing.assert_allclose(loss, -expected.mean(), rtol=1e-4)


@pytest.mark.usefixtures("fixed_noise")
def test_jmvae_written_out():
    """Only the complete tuple counts, and the mean is over the whole batch."""
    case, alpha = Case(3, "joint_network"), 0.3
    joint = case.q["m0+m1+m2"]
    bound = case.reconstruction(joint, (0, 1, 2)) - BETA * joint.kl(case.hand.prior)
    bound -= alpha * added(joint.kl(case.q[f"m{m}"]) for m in range(3))
    loss, terms = case.loss("jmvae", alpha=alpha)
    np.testing.assert_allclose(loss, -bound[7] / 8, rtol=1e-5)
    single = added(joint.kl(case.q[f"m{m}"]) for m in range(3))
    np.testing.assert_allclose(terms["kl_single"], single[7] / 8, rtol=1e-5)


def test_jmvae_without_alpha_is_an_elbo():
    """Below log p(X), with the closed form of its joint network's Gaussian."""
    oracle = LinearGaussian((3, 2, 4), latent_dim=2)
    model = oracle.model("joint_network", joint_width=4)
    params, batch = oracle.params(model), oracle.sample(jax.random.key(1), 8)
    hand = ByHand(oracle, model, params, batch)
    joint = hand.q["m0+m1+m2"]
    exact = (sum(hand.expected_log_p(m, joint) for m in range(3)) - joint.kl(hand.prior)).mean()
    bounds = estimates("jmvae", model, params, batch, 4_000, Options(alpha=0.0))
    assert abs(z_score(bounds, exact)) < 4
    assert exact < oracle.exact_log_prob(batch.x, oracle.names).mean()


@pytest.mark.parametrize("objective", ["vaevae", "svae"])
def test_exact_posteriors_attain_the_conditional_log_p(objective):
    """For two modalities the paired bound is log p(x0|x1) + log p(x1|x0), SVAE's with log p(x0) + log p(x1) as well."""
    oracle = LinearGaussian((3, 2), latent_dim=2)
    model = oracle.model("poe_quotient")
    params, batch = oracle.params(model), oracle.sample(jax.random.key(2), 8)
    exact = oracle.exact_conditional(batch.x, ["m0"], ["m1"]) + oracle.exact_conditional(batch.x, ["m1"], ["m0"])
    if objective == "svae":
        exact = exact + oracle.exact_log_prob(batch.x, ["m0"]) + oracle.exact_log_prob(batch.x, ["m1"])
    bounds = estimates(objective, model, params, batch, 4_000)
    assert abs(z_score(bounds, exact.mean())) < 4
    unpaired = Batch(batch.x, jnp.tile(jnp.array([[True, False], [False, True]]), (4, 1)), batch.label)
    singles = [oracle.exact_log_prob(batch.x, [name]) for name in oracle.names]
    alone = np.where(np.asarray(unpaired.present[:, 0]), *singles)
    assert abs(z_score(estimates(objective, model, params, unpaired, 4_000), alone.mean())) < 4
