"""Every fusion against products and mixtures built by hand, the published code's numbers, and every presence mask."""

import itertools
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvae_jax import gaussian, subsets
from mmvae_jax.errors import UserError
from mmvae_jax.fusion import FUSIONS, Fusion, Network, PriorExpert, fuse, get_fusion
from mmvae_jax.gaussian import Gaussian
from mmvae_jax.laplace import Laplace
from mmvae_jax.mixture import Posterior
from mmvae_jax.objectives.terms import component_kls
from mmvae_jax.priors import OfFamily
from tests.released import golden

D = 3
# All presence masks of three modalities, the empty one included: one a batch element.
PRESENT = jnp.asarray(np.array(list(np.ndindex(2, 2, 2)), bool))
PRIOR = Gaussian(jnp.array([0.2, -0.1, 0.0]), jnp.array([0.3, 0.0, -0.2]))


def names_of(m: int) -> tuple[str, ...]:
    return tuple(f"m{i}" for i in range(m))


def experts_of(n: int, batch_size: int, log_var: float = 0.0, spread: float = 1.0) -> Gaussian:
    rng = np.random.default_rng(n)
    mean, noise = rng.normal(size=(2, n, batch_size, D))
    return Gaussian(jnp.asarray(mean, jnp.float32), jnp.asarray(log_var + spread * noise, jnp.float32))


def joint(fusion: Fusion, experts: Posterior, present: jax.Array, key: jax.Array | None = None) -> Any:
    """Compiled, and on the host, where the tests take it apart."""
    return jax.tree.map(np.asarray, jax.jit(fusion.joint)(experts, present, prior_like(experts), key))


def given(fusion: Fusion, experts: Posterior, present: jax.Array, mask: np.ndarray) -> Any:
    return jax.tree.map(np.asarray, jax.jit(fusion.given)(experts, present, jnp.asarray(mask), prior_like(experts)))


def prior_like(experts: Posterior) -> Posterior:
    return Laplace(*PRIOR) if isinstance(experts, Laplace) else PRIOR


def product_by_hand(members: list[Gaussian], prior_power: float, b: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and log-variance of one batch element's product, in float64."""
    prior_precision = prior_power * np.exp(-np.asarray(PRIOR.log_var, np.float64))
    precisions = [np.exp(-np.asarray(e.log_var, np.float64)[b]) for e in members]
    precision = prior_precision + sum(precisions)
    linear = prior_precision * np.asarray(PRIOR.mean) + sum(
        p * np.asarray(e.mean)[b] for p, e in zip(precisions, members, strict=True)
    )
    return linear / precision, -np.log(precision)


def network(experts: Gaussian, index: int | np.integer) -> Gaussian:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], experts)


def assert_component(q: Any, s: int | np.integer, b: int, members: list[Gaussian], prior_power: float) -> None:
    mean, log_var = product_by_hand(members, prior_power, b)
    np.testing.assert_allclose(q.components.mean[s, b], mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(q.components.log_var[s, b], log_var, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("empty_subset", [False, True])
@pytest.mark.parametrize(
    ("name", "prior_expert"),
    [("poe", None), ("poe", "none"), ("poe_quotient", None), ("moe", None), ("moe", "all"), ("mopoe", None)]
    + [("mopoe", "none"), ("mopoe", "all")],
)
def test_mask_fusions_are_uniform_mixtures_of_products(name, prior_expert, empty_subset):
    """Row by row and mask by mask; poe has one row, moe the singletons, mopoe the powerset."""
    fusion = get_fusion(name, names_of(3), prior_expert=prior_expert, empty_subset=empty_subset)
    rows = {"poe": [(0, 1, 2)], "poe_quotient": [(0, 1, 2)], "moe": [(0,), (1,), (2,)]}.get(
        name, [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    )
    rows = rows + [()] * empty_subset
    # Precisions above one, so that the quotient is defined.
    experts = experts_of(3, 8, log_var=-1, spread=0.1)
    q = joint(fusion, experts, PRESENT)
    assert q.log_weights.shape == (len(rows), 8)
    for b, present in enumerate(np.asarray(PRESENT)):
        used = [tuple(m for m in row if present[m]) for row in rows]
        # Of the powerset, rows emptied by what is missing are the empty set, where there is one.
        emptied = name == "mopoe" and empty_subset
        alive = [bool(u) or row == () or emptied for u, row in zip(used, rows, strict=True)]
        alive = alive if any(alive) else [True] * len(rows)
        np.testing.assert_allclose(np.exp(q.log_weights[:, b]), np.array(alive) / sum(alive), rtol=1e-6)
        for s, members in enumerate(used):
            full = float(len(members) == 3)
            power = {"none": 0.0, "all": 1.0, "full": full, "quotient": 1.0 - len(members)}[fusion.prior_expert]
            assert_component(q, s, b, [network(experts, m) for m in members], power if members else 1.0)


def test_defaults_are_the_published_ones():
    assert {name: FUSIONS[name].prior_expert for name in ("poe", "poe_quotient", "moe", "mopoe")} == {
        "poe": "all",
        "poe_quotient": "quotient",
        "moe": "none",
        "mopoe": "full",
    }


def test_mopoe_is_the_released_code():
    """All 31 subset posteriors and the KL bound of MultiVae's float64 computation."""
    numbers = golden()
    experts = Gaussian(jnp.asarray(numbers["experts_mean"]), jnp.asarray(numbers["experts_log_var"]))
    names = names_of(5)
    prior = gaussian.standard(8)
    q: Any = jax.jit(FUSIONS["mopoe"].joint)(experts, jnp.ones((6, 5), bool), prior)
    labels = [subsets.label(mask, names) for mask in subsets.powerset(5)]
    order = [labels.index(name.replace("_", "+")) for name in numbers["subset_names"]]
    assert sorted(order) == list(range(31))
    np.testing.assert_allclose(np.asarray(q.components.mean)[order], numbers["subset_mean"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.asarray(q.components.log_var)[order], numbers["subset_log_var"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(component_kls(q, OfFamily(prior)).mean(), numbers["mixture_kl_bound"], rtol=1e-5)


def test_quotient_is_the_product_with_the_prior_of_experts_over_the_prior():
    experts = experts_of(3, 8, log_var=-1, spread=0.3)
    q = joint(FUSIONS["poe_quotient"], experts, jnp.ones((8, 3), bool))
    divided = gaussian.quotient(experts, jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (3, 8, D)), PRIOR))
    expected = gaussian.product(divided, None, PRIOR, 1.0)
    np.testing.assert_allclose(q.components.mean[0], expected.mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(q.components.log_var[0], expected.log_var, rtol=1e-4, atol=1e-5)


def test_moe_of_laplace_experts_takes_them_as_they_are():
    experts = Laplace(*experts_of(3, 8))
    q = joint(FUSIONS["moe"], experts, PRESENT)
    for b, present in enumerate(np.asarray(PRESENT)):
        alive = present if present.any() else np.ones(3, bool)
        np.testing.assert_allclose(np.exp(q.log_weights[:, b]), alive / alive.sum(), rtol=1e-6)
        for m in range(3):
            expected = experts.mean[m, b] if present[m] else PRIOR.mean
            np.testing.assert_array_equal(q.components.mean[m, b], expected)


@pytest.mark.parametrize("name", ["poe", "poe_quotient", "moe", "mopoe"])
def test_given_a_subset(name):
    """PoE and MoPoE infer from one product over the subset, MoE from the mixture of its experts."""
    fusion = FUSIONS[name]
    experts = experts_of(3, 8, log_var=-1, spread=0.1)
    masks = jnp.asarray(subsets.powerset(3))
    together = jax.jit(jax.vmap(lambda mask: fusion.given(experts, PRESENT, mask, PRIOR)))(masks)
    together = jax.tree.map(np.asarray, together)
    for row, mask in enumerate(np.asarray(masks)):
        q = jax.tree.map(lambda leaf, row=row: leaf[row], together)
        for b, present in enumerate(np.asarray(PRESENT)):
            within = np.flatnonzero(present & mask)
            if name == "moe":
                alive = present & mask if len(within) else np.ones(3, bool)
                np.testing.assert_allclose(np.exp(q.log_weights[:, b]), alive / alive.sum(), rtol=1e-6)
                for m in within:
                    assert_component(q, m, b, [network(experts, m)], 0.0)
            else:
                power = {"poe": 1.0, "poe_quotient": 1.0 - len(within), "mopoe": float(len(within) == 3)}[name]
                np.testing.assert_array_equal(q.log_weights[:, b], [0.0])
                assert_component(q, 0, b, [network(experts, m) for m in within], power if len(within) else 1.0)


def test_user_lists_of_subsets():
    fusion = get_fusion("mopoe", names_of(3), "m0+m2,m1", prior_expert="none")
    experts = experts_of(3, 8)
    q = joint(fusion, experts, PRESENT)
    for b, present in enumerate(np.asarray(PRESENT)):
        used = [[m for m in row if present[m]] for row in ((0, 2), (1,))]
        for s, members in enumerate(used):
            assert_component(q, s, b, [network(experts, m) for m in members], 0.0 if members else 1.0)
        alive = np.array([bool(u) for u in used])
        alive = alive if alive.any() else ~alive
        np.testing.assert_allclose(np.exp(q.log_weights[:, b]), alive / alive.sum(), rtol=1e-6)
    both = given(fusion, experts, jnp.ones((8, 3), bool), np.array([True, True, False]))
    assert_component(both, 0, 5, [network(experts, 0), network(experts, 1)], 0.0)


def test_random_subsets_of_sixteen_modalities_need_no_powerset():
    fusion = get_fusion("mopoe", names_of(16), "random:5", prior_expert="none")
    experts, present = experts_of(16, 4), jnp.ones((4, 16), bool)
    key = jax.random.key(1)

    def largest(jaxpr: Any) -> int:
        sizes = [int(np.prod(v.aval.shape)) for e in jaxpr.eqns for v in e.outvars]
        inner = [largest(p.jaxpr) for e in jaxpr.eqns for p in e.params.values() if hasattr(p, "jaxpr")]
        return max([*sizes, *inner])

    closed = jax.make_jaxpr(fusion.joint)(experts, present, PRIOR, key)
    assert largest(closed.jaxpr) <= 5 * 16 * 4 * D
    q = joint(fusion, experts, present, key)
    rows = np.asarray(subsets.random(key, 16, 5))
    for s, row in enumerate(rows):
        assert_component(q, s, 2, [network(experts, m) for m in np.flatnonzero(row)], 0.0)
    np.testing.assert_allclose(np.exp(q.log_weights), np.full((5, 4), 0.2), rtol=1e-6)
    other = joint(fusion, experts, present, jax.random.key(2))
    assert np.abs(other.components.mean - q.components.mean).max() > 0.1


def test_subset_networks_choose_the_network_of_exactly_what_is_observed():
    fusion, names = FUSIONS["subset_networks"], names_of(3)
    networks = [n.name for n in fusion.networks(names)]
    assert networks == ["m0", "m1", "m2", "m0+m1", "m0+m2", "m1+m2", "m0+m1+m2"]
    experts = experts_of(7, 8)
    q = joint(fusion, experts, PRESENT)
    np.testing.assert_array_equal(q.log_weights, np.zeros((1, 8)))
    for b, present in enumerate(np.asarray(PRESENT)):
        members = [network(experts, networks.index(subsets.label(present, names)))] if present.any() else []
        assert_component(q, 0, b, members, 0.0 if members else 1.0)


@pytest.mark.parametrize("name", ["joint_network", "bridge"])
def test_joint_networks_serve_complete_tuples_and_products_the_others(name):
    fusion = FUSIONS[name]
    assert fusion.networks(names_of(3))[3] == Network("m0+m1+m2", (0, 1, 2), name == "bridge")
    experts = experts_of(4, 8)
    q = joint(fusion, experts, PRESENT)
    for b, present in enumerate(np.asarray(PRESENT)):
        members = [3] if present.all() else list(np.flatnonzero(present))
        assert_component(q, 0, b, [network(experts, m) for m in members], 0.0 if members else 1.0)


def by_name(fusion: Fusion, m: int, batch_size: int) -> tuple[Gaussian, dict[str, Gaussian]]:
    names = [n.name for n in fusion.networks(names_of(m))]
    experts = experts_of(len(names), batch_size)
    return experts, {name: network(experts, i) for i, name in enumerate(names)}


def live_components(q: Any, b: int) -> list[int]:
    weights = np.exp(q.log_weights[:, b])
    live = np.flatnonzero(weights)
    np.testing.assert_allclose(weights[live], 1 / len(live), rtol=1e-6)
    return live.tolist()


def test_svae_rules_for_two_modalities():
    """q(z|x0, x1) = q0 q1 (Eq. 3); q(z|x0) = q0(z|x0) q*1(z|x0) (Eq. 4), where `m0->m1` stands in for m1."""
    fusion = FUSIONS["replacement_experts"]
    experts, q_of = by_name(fusion, 2, 3)
    assert set(q_of) == {"m0", "m1", "m0->m1", "m1->m0"}
    q = joint(fusion, experts, jnp.array([[True, True], [True, False], [False, True]]))
    for b, members in enumerate([("m0", "m1"), ("m0", "m0->m1"), ("m1", "m1->m0")]):
        (s,) = live_components(q, b)
        assert_component(q, s, b, [q_of[name] for name in members], 0.0)


def test_svae_rules_for_three_modalities():
    """Eqs. D.32 to D.36: two rules for a pair, one each for a single modality and for all three."""
    fusion = FUSIONS["replacement_experts"]
    experts, q_of = by_name(fusion, 3, 8)
    assert len(q_of) == 9
    q = joint(fusion, experts, PRESENT)
    rules = {
        "m0": [("m0", "m0->m1", "m0->m2")],
        "m1": [("m1", "m1->m0", "m1->m2")],
        "m2": [("m2", "m2->m0", "m2->m1")],
        "m0+m1": [("m0", "m1", "m0->m2"), ("m0", "m1", "m1->m2")],
        "m0+m2": [("m0", "m2", "m0->m1"), ("m0", "m2", "m2->m1")],
        "m1+m2": [("m1", "m2", "m1->m0"), ("m1", "m2", "m2->m0")],
        "m0+m1+m2": [("m0", "m1", "m2")],
    }
    for b, present in enumerate(np.asarray(PRESENT)):
        if present.any():
            expected = rules[subsets.label(present, names_of(3))]
            for s, members in zip(live_components(q, b), expected, strict=True):
                assert_component(q, s, b, [q_of[name] for name in members], 0.0)
    pair = given(fusion, experts, jnp.ones((8, 3), bool), np.array([True, False, True]))
    for s, members in zip(live_components(pair, 4), rules["m0+m2"], strict=True):
        assert_component(pair, s, 4, [q_of[name] for name in members], 0.0)


@pytest.mark.parametrize("name", FUSIONS)
def test_every_mask_has_finite_gradients_and_none_for_the_absent(name):
    """Four modalities, experts from very sure to very vague; networks that may not be used get exactly zero."""
    fusion = FUSIONS[name]
    present = jnp.asarray(np.array(list(np.ndindex(2, 2, 2, 2)), bool))
    count = len(fusion.networks(names_of(4)))
    experts = experts_of(count, 16)
    sure = jnp.resize(jnp.array([-20.0, -2.0, 0.2, -8.0]), (count, 1, 1))
    if name != "poe_quotient":
        sure = sure.at[2::4].set(20.0)
    experts = experts._replace(log_var=jnp.broadcast_to(sure, experts.mean.shape))

    def value(experts: Gaussian) -> jax.Array:
        q = fusion.joint(experts, present, PRIOR)
        return jnp.sum(component_kls(q, OfFamily(PRIOR))) + jnp.sum(q.log_prob(jnp.full((16, D), 0.3)) / 1e6)

    loss, gradient = jax.jit(jax.value_and_grad(value))(experts)
    assert np.isfinite(loss)
    absent = ~np.asarray(fusion.available(present)).T
    for leaf in gradient:
        assert np.all(np.isfinite(leaf))
        assert np.all(np.asarray(leaf)[absent] == 0)
    moved = np.abs(gradient.mean).sum(-1)[~absent]
    assert np.mean(moved > 0) > 0.5


def test_absent_experts_may_be_anything():
    experts = experts_of(3, 8)
    broken = jax.tree.map(lambda leaf: jnp.where(PRESENT.T[..., None], leaf, jnp.nan), experts)
    for name in ("poe", "moe", "mopoe"):
        clean, dirty = (joint(FUSIONS[name], e, PRESENT) for e in (experts, broken))
        for expected, actual in zip(jax.tree.leaves(clean), jax.tree.leaves(dirty), strict=True):
            np.testing.assert_array_equal(actual, expected)


def test_network_counts():
    counts = {name: len(f.networks(names_of(4))) for name, f in FUSIONS.items()}
    expected = {"poe": 4, "poe_quotient": 4, "moe": 4, "mopoe": 4, "subset_networks": 15, "joint_network": 5}
    assert counts == {**expected, "bridge": 5, "replacement_experts": 16}


def test_fuse_uses_given_rows_that_are_live():
    rows = np.array([[True, False], [True, True]])
    live = jnp.array([[True, False], [True, True]])
    q = jax.jit(fuse)(experts_of(2, 2), rows, jnp.ones((2, 2), bool), PRIOR, live=live)
    np.testing.assert_allclose(np.exp(q.log_weights), [[0.5, 0.0], [0.5, 1.0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        ("product", "", "unknown fusion 'product': choose one of poe, poe_quotient, moe, mopoe"),
        ("mopoe", "m0+m7", r"unknown modality 'm7' in subset 'm0\+m7': choose among m0, m1, m2"),
        ("mopoe", "random:0", "subsets='random:0': write random:k with a whole number k >= 1"),
        ("mopoe", "random:many", "write random:k with a whole number"),
    ],
)
def test_wrong_names_are_refused(name, chosen, message):
    with pytest.raises(UserError, match=message):
        get_fusion(name, names_of(3), chosen)


def test_svae_needs_two_modalities():
    with pytest.raises(UserError, match="replacement_experts with 1 modality: it needs at least 2; use poe"):
        get_fusion("replacement_experts", ("m0",))


@pytest.mark.parametrize("chosen", ["", "m0,m0+m1+m2,m1+m2", "m0+m1,m2"], ids=["powerset", "with all", "without all"])
def test_the_full_prior_expert_joins_the_product_of_all_experts_and_no_other(chosen):
    """Whatever is observed: a product that covers what happens to be there is not the product of all M."""
    fusion, experts = get_fusion("mopoe", names_of(3), chosen, prior_expert="full"), experts_of(3, 8)
    rows = np.asarray(fusion.rows(3, None))
    q = joint(fusion, experts, PRESENT)
    for b, present in enumerate(np.asarray(PRESENT)):
        for s, row in enumerate(rows):
            members = np.flatnonzero(row & present)
            power = float(len(members) in (0, 3))
            assert_component(q, s, b, [network(experts, m) for m in members], power)


def test_with_the_empty_subset_n_observed_modalities_give_the_prior_one_in_2_to_the_n():
    """Rows emptied by what is missing are the empty set."""
    fusion, experts = get_fusion("mopoe", names_of(3), empty_subset=True), experts_of(3, 8)
    q = joint(fusion, experts, PRESENT)
    is_prior = np.all(np.isclose(q.components.log_var, PRIOR.log_var, atol=1e-6), -1)
    share = np.sum(np.exp(q.log_weights) * is_prior, axis=0)
    np.testing.assert_allclose(share, 0.5 ** np.asarray(PRESENT).sum(1), rtol=1e-5)
    np.testing.assert_allclose(np.exp(q.log_weights).sum(0), np.ones(8), rtol=1e-5)


@pytest.mark.parametrize("prior_expert", get_args(PriorExpert))
def test_every_mask_of_three_is_exact_and_has_finite_gradients_up_to_log_variance_80(prior_expert):
    """All products of the powerset in float64, and the gradients of their density and parameters."""
    # A quotient exists only of experts that know more than the prior.
    levels = [-80.0, -44.0, -1.0] if prior_expert == "quotient" else [-80.0, -44.0, 0.0, 44.0, 80.0]
    log_vars = np.array(list(itertools.product(levels, repeat=3)))
    present = np.repeat(np.asarray(PRESENT), len(log_vars), axis=0)
    log_var = np.tile(log_vars, (8, 1)).T[:, :, None] * np.ones(D)
    mean = np.random.default_rng(0).normal(size=log_var.shape)
    experts = Gaussian(jnp.asarray(mean), jnp.asarray(log_var))
    rows = subsets.powerset(3)

    def value(experts: Gaussian) -> Any:
        q: Any = fuse(experts, rows, jnp.asarray(present), PRIOR, prior_expert)
        density = jnp.mean(q.log_prob(jnp.full((len(present), D), 0.3)))
        return density + jnp.mean(q.components.mean) + jnp.mean(q.components.log_var), q

    (loss, q), gradient = jax.jit(jax.value_and_grad(value, has_aux=True))(experts)
    assert np.isfinite(loss)
    for leaf in gradient:
        assert np.all(np.isfinite(leaf))
        assert np.all(np.asarray(leaf)[~present.T] == 0)

    used = rows[:, None, :] & present
    count = used.sum(-1)
    power = {"none": 0.0 * count, "all": 1.0 + 0 * count, "full": 1.0 * (count == 3), "quotient": 1.0 - count}
    power = np.where(count == 0, 1.0, power[prior_expert])[..., None]
    prior_precision = power * np.exp(-np.asarray(PRIOR.log_var, np.float64))
    precisions = np.exp(-np.asarray(experts.log_var, np.float64))
    precision = prior_precision + np.einsum("sbm,mbd->sbd", used, precisions)
    linear = prior_precision * np.asarray(PRIOR.mean) + np.einsum(
        "sbm,mbd->sbd", used, precisions * np.asarray(experts.mean)
    )
    # Of precisions e^160 apart, float32 has room for both, but for no mean below 0.005 of the smaller.
    np.testing.assert_allclose(q.components.mean, linear / precision, rtol=1e-4, atol=5e-3)
    np.testing.assert_allclose(q.components.log_var, -np.log(precision), rtol=1e-5, atol=1e-5)
