"""The Gaussian algebra against distrax, scipy, brute-force grids and its own inverses."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmvae_jax import gaussian, subsets
from mmvae_jax.gaussian import Gaussian, only_where, product, quotient, standard

GRID = np.linspace(-30, 30, 200_001)


def random_gaussian(seed: int, *shape: int, spread: float = 1.0) -> Gaussian:
    mean_key, var_key = jax.random.split(jax.random.key(seed))
    return Gaussian(jax.random.normal(mean_key, shape), spread * jax.random.normal(var_key, shape))


def close(actual: Gaussian, expected: Gaussian, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(actual.mean, expected.mean, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(actual.log_var, expected.log_var, rtol=tolerance, atol=tolerance)


def test_density_is_scipys():
    q, z = random_gaussian(0, 3, 1, 4), jax.random.normal(jax.random.key(1), (6, 4))
    expected = stats.norm.logpdf(z, q.mean, np.exp(0.5 * q.log_var)).sum(-1)
    np.testing.assert_allclose(q.log_prob(z), expected, rtol=1e-5)
    np.testing.assert_allclose(
        q.distribution.entropy(), stats.norm.entropy(scale=np.exp(0.5 * q.log_var)).sum(-1), 1e-5
    )


def test_kl_is_distrax_own_and_broadcasts():
    p, q = random_gaussian(2, 3, 1, 4), random_gaussian(3, 5, 4)
    reference = [distrax.MultivariateNormalDiag(g.mean, jnp.exp(0.5 * g.log_var)) for g in (p, q)]
    np.testing.assert_allclose(p.kl(q), reference[0].kl_divergence(reference[1]), rtol=1e-5)
    np.testing.assert_array_equal(p.kl(p), np.zeros((3, 1)))


def test_draws_have_the_moments_and_the_path_derivative():
    q = random_gaussian(4, 2, 3)
    draws = q.sample(jax.random.key(5), (40_000,))
    error = np.exp(0.5 * q.log_var) / np.sqrt(40_000)
    assert np.all(np.abs(draws.mean(0) - q.mean) < 4 * error)
    assert np.all(np.abs(draws.var(0) / np.exp(q.log_var) - 1) < 4 * np.sqrt(2 / 40_000))

    def total(q: Gaussian) -> jax.Array:
        return q.sample(jax.random.key(6)).sum()

    path = jax.jit(jax.grad(total))(q)
    np.testing.assert_array_equal(path.mean, np.ones((2, 3)))
    np.testing.assert_allclose(path.log_var, 0.5 * (q.sample(jax.random.key(6)) - q.mean), rtol=1e-5, atol=1e-6)


def test_scale_and_outputs_are_read_in_the_documented_order():
    outputs = jnp.arange(6.0).reshape(1, 6)
    assert Gaussian.from_outputs(outputs).mean.tolist() == [[0, 1, 2]]
    assert Gaussian.from_outputs(outputs).log_var.tolist() == [[3, 4, 5]]
    scales = jnp.array([0.5, 2.0])
    np.testing.assert_allclose(Gaussian.with_scale(scales).distribution.stddev(), scales, rtol=1e-6)


@pytest.mark.parametrize("log_var", [-20.0, -60.0])
def test_no_epsilon_hides_in_a_small_variance(log_var):
    """An epsilon of 1e-8 in the variance is wrong by 3 nats a dimension at log-variance -20."""
    q = Gaussian(jnp.full((1, 2), 0.5), jnp.full((1, 2), log_var))
    np.testing.assert_allclose(q.log_prob(q.mean), -log_var - np.log(2 * np.pi), rtol=1e-6)
    np.testing.assert_allclose(q.kl(standard(2)), np.expm1(log_var) - log_var + 0.25, rtol=1e-6)
    both = product(Gaussian(jnp.stack([q.mean, q.mean]), jnp.stack([q.log_var, q.log_var])))
    close(both, Gaussian(q.mean, q.log_var - np.log(2)), 1e-6)
    close(product(jax.tree.map(lambda leaf: leaf[None], q), prior_power=1.0), q, 1e-6)


@pytest.mark.parametrize("powers", [None, (True, False, True), (0.25, 0.5, 1.5)], ids=["all", "mask", "real"])
@pytest.mark.parametrize("prior_power", [0.0, 1.0, -0.5])
def test_product_is_the_normalised_product_of_densities(powers, prior_power):
    experts = Gaussian(jnp.array([[0.3], [-1.0], [2.0]]), jnp.array([[-0.5], [-1.0], [-0.7]]))
    prior = Gaussian(jnp.array([0.4]), jnp.array([0.6]))
    weights = np.ones(3) if powers is None else np.array(powers, float)
    log_density = prior_power * stats.norm.logpdf(GRID, 0.4, np.exp(0.3))
    for weight, mean, log_var in zip(weights, experts.mean[:, 0], experts.log_var[:, 0], strict=True):
        log_density += weight * stats.norm.logpdf(GRID, mean, np.exp(0.5 * log_var))
    density = np.exp(log_density - log_density.max())
    density /= density.sum()
    mean = density @ GRID
    variance = density @ np.square(GRID - mean)
    result = product(experts, None if powers is None else jnp.array(powers), prior, prior_power)
    close(result, Gaussian(jnp.array([mean]), jnp.array([np.log(variance)])), 1e-4)


def test_vmap_over_the_powerset_is_a_loop_over_it():
    experts, masks = random_gaussian(7, 4, 5, 3), subsets.powerset(4)
    together = jax.jit(jax.vmap(product, (None, 0)))(experts, jnp.asarray(masks))
    for row, mask in enumerate(masks):
        precisions = np.exp(-np.asarray(experts.log_var, np.float64))[mask]
        total = precisions.sum(0)
        mean = (precisions * np.asarray(experts.mean)[mask]).sum(0) / total
        close(
            Gaussian(together.mean[row], together.log_var[row]),
            Gaussian(jnp.asarray(mean), jnp.asarray(-np.log(total))),
        )


def test_prior_power_may_differ_between_batch_elements():
    experts = random_gaussian(8, 2, 3, 4)
    mixed = product(experts, prior_power=jnp.array([0.0, 1.0, 0.5]))
    for b, power in enumerate([0.0, 1.0, 0.5]):
        alone = product(experts, prior_power=power)
        close(jax.tree.map(lambda leaf, b=b: leaf[b], mixed), jax.tree.map(lambda leaf, b=b: leaf[b], alone), 1e-6)


def test_an_absent_expert_is_no_expert():
    """Equal to leaving it out, with gradients of exactly zero, even if the absent one is NaN."""
    experts = random_gaussian(9, 3, 4, 2)
    broken = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), experts)
    known = jnp.array([True, False, True])[:, None]
    without = jax.tree.map(lambda leaf: leaf[jnp.array([0, 2])], experts)

    def value(experts: Gaussian) -> jax.Array:
        return product(only_where(experts, known)).kl(standard(2)).sum()

    loss, gradient = jax.jit(jax.value_and_grad(value))(broken)
    expected_loss, expected = jax.jit(jax.value_and_grad(lambda q: product(q).kl(standard(2)).sum()))(without)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    for leaf, reference in zip(gradient, expected, strict=True):
        np.testing.assert_array_equal(leaf[1], np.zeros((4, 2)))
        np.testing.assert_allclose(leaf[jnp.array([0, 2])], reference, rtol=1e-5)


def test_no_expert_at_all_is_the_prior():
    experts, prior = random_gaussian(10, 3, 4, 2), random_gaussian(11, 2)
    nothing = product(only_where(experts, jnp.zeros((3, 4), bool)), None, prior)
    close(nothing, Gaussian(jnp.broadcast_to(prior.mean, (4, 2)), jnp.broadcast_to(prior.log_var, (4, 2))), 1e-6)
    close(product(experts, jnp.zeros(3), prior), nothing, 1e-6)


@pytest.mark.parametrize("prior_power", [0.0, 1.0])
def test_every_mask_has_finite_values_and_gradients(prior_power):
    """Of four experts from very sure to very vague, the empty mask included."""
    experts = Gaussian(
        random_gaussian(12, 4, 2, 3).mean, jnp.broadcast_to(jnp.array([-20.0, 20, 0, -3])[:, None, None], (4, 2, 3))
    )
    masks = jnp.concatenate([jnp.zeros((1, 4), bool), jnp.asarray(subsets.powerset(4))])

    def value(experts: Gaussian, mask: jax.Array) -> jax.Array:
        q = product(only_where(experts, mask[:, None]), prior_power=prior_power)
        return q.kl(standard(3)).sum() + q.log_prob(jnp.ones(3)).sum()

    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(value), (None, 0)))(experts, masks)
    assert np.all(np.isfinite(values))
    assert all(np.all(np.isfinite(leaf)) for leaf in gradients)
    for leaf in gradients:
        assert np.all(np.asarray(leaf)[~np.asarray(masks)] == 0)


def test_quotient_undoes_the_product():
    a, b = random_gaussian(13, 5, 3), random_gaussian(14, 5, 3)
    both = product(Gaussian(jnp.stack([a.mean, b.mean]), jnp.stack([a.log_var, b.log_var])))
    close(quotient(both, b), a, 1e-4)
    close(
        product(Gaussian(jnp.stack([both.mean, b.mean]), jnp.stack([both.log_var, b.log_var])), jnp.array([1.0, -1.0])),
        a,
        1e-4,
    )


def test_undefined_quotient_names_the_place():
    p = Gaussian(jnp.zeros((2, 3)), jnp.full((2, 3), -1.0).at[1, 2].set(0.5))
    with pytest.raises(ValueError, match=r"undefined at index \(1, 2\): precision -0\.393"):
        quotient(p, standard(3))
    with pytest.raises(ValueError, match=r"undefined at index \(0,\)"):
        quotient(standard(3), standard(3))
    traced = jax.jit(quotient)(p, standard(3))
    assert np.argwhere(np.isnan(traced.mean)).tolist() == [[1, 2]]
    assert np.argwhere(np.isnan(traced.log_var)).tolist() == [[1, 2]]


def test_negative_precision_of_a_product_is_nan_not_a_number_that_looks_right():
    experts = Gaussian(jnp.zeros((1, 2)), jnp.array([[0.5, -0.5]]))
    result = product(experts, prior_power=-1.0)
    assert np.isnan(result.log_var).tolist() == [True, False]
    np.testing.assert_allclose(result.log_var[1], -np.log(np.exp(0.5) - 1), rtol=1e-6)


def test_geometric_mean_is_its_own_fixed_point():
    """mmJSD's dynamic prior: the geometric mean of equal densities is that density."""
    prior = random_gaussian(15, 3)
    experts = Gaussian(jnp.stack([prior.mean] * 4)[:, None], jnp.stack([prior.log_var] * 4)[:, None])
    result = gaussian.product(experts, jnp.full(4, 0.2), prior, 0.2)
    close(result, Gaussian(prior.mean[None], prior.log_var[None]), 1e-6)


def exact_product(mean: np.ndarray, log_var: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, log-variance and every expert's share of the precision, T_n / T, in float64; experts on the first axis."""
    mean, log_var = np.asarray(mean, np.float64), np.asarray(log_var, np.float64)
    precision = np.exp(-log_var).sum(0)
    share = np.exp(-log_var) / precision
    return (share * mean).sum(0), -np.log(precision), share


@pytest.mark.parametrize("m", range(1, 13))
def test_products_and_their_gradients_are_exact_for_log_variances_up_to_80(m):
    """d mu/d mu_n = T_n/T, d mu/d log var_n = T_n/T (mu - mu_n), d log var/d log var_n = T_n/T, and nothing overflows."""
    rng = np.random.default_rng(m)
    ends = np.stack([np.full(m, -80.0), np.full(m, 80.0), np.resize([-80.0, 80.0], m), np.resize([80.0, -79.0], m)])
    near = rng.choice([-80.0, -44.0, 0.0, 44.0, 80.0], (4, 1)) + rng.uniform(-1, 1, (4, m))
    log_var = np.concatenate([ends, np.clip(near, -80, 80), rng.uniform(-80, 80, (40, m))]).T[:, :, None]
    experts = Gaussian(jnp.asarray(rng.normal(size=log_var.shape)), jnp.asarray(log_var))
    mean, whole, share = exact_product(experts.mean, experts.log_var)
    result, pullback = jax.jit(lambda experts: jax.vjp(product, experts))(experts)
    np.testing.assert_allclose(result.mean, mean, rtol=3e-5, atol=3e-5)
    np.testing.assert_allclose(result.log_var, whole, rtol=1e-6, atol=1e-5)
    ones, zeros = jnp.ones_like(result.mean), jnp.zeros_like(result.mean)
    (of_mean,), (of_log_var,) = pullback(Gaussian(ones, zeros)), pullback(Gaussian(zeros, ones))
    np.testing.assert_allclose(of_mean.mean, share, rtol=3e-5, atol=3e-5)
    np.testing.assert_allclose(of_mean.log_var, share * (mean - np.asarray(experts.mean)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(of_log_var.log_var, share, rtol=3e-5, atol=3e-5)
    np.testing.assert_array_equal(of_log_var.mean, np.zeros_like(share))


@pytest.mark.parametrize("level", [-80.0, -60.0, -44.0, 0.0, 44.0, 60.0, 80.0])
def test_densities_and_divergences_of_products_have_exact_gradients_up_to_log_variance_80(level):
    """For every mask of three equal experts; the divergence from N(0, I) is only e^80 nats at the worst."""
    masks = jnp.asarray(subsets.powerset(3))
    experts = Gaussian(jnp.array([[0.5], [-1.0], [2.0]]), jnp.full((3, 1), level))

    def value(experts: Gaussian, mask: jax.Array) -> jax.Array:
        q = product(experts, mask)
        return jnp.stack([q.kl(standard(1)), q.log_prob(jnp.ones(1))])

    values = jax.jit(jax.vmap(value, (None, 0)))(experts, masks)
    gradients = jax.jit(jax.vmap(jax.jacrev(value), (None, 0)))(experts, masks)
    for row, mask in enumerate(np.asarray(masks)):
        n, mean = mask.sum(), np.asarray(experts.mean, np.float64)[mask, 0].mean()
        log_var = level - np.log(n)
        variance, distance = np.exp(log_var), (1 - mean) ** 2 * np.exp(-log_var)
        divergence = 0.5 * (variance - 1 - log_var + mean**2)
        density = -0.5 * (distance + log_var + np.log(2 * np.pi))
        np.testing.assert_allclose(values[row], [divergence, density], rtol=2e-5, atol=2e-5)
        to_each = mask / n
        shift = to_each * (mean - np.asarray(experts.mean)[:, 0])
        by_log_var = [
            0.5 * (variance - 1) * to_each + mean * shift,
            0.5 * (distance - 1) * to_each + (1 - mean) * np.exp(-log_var) * shift,
        ]
        scale = np.maximum(1, np.abs(by_log_var).max(1, keepdims=True))
        np.testing.assert_allclose(gradients.log_var[row][..., 0] / scale, by_log_var / scale, rtol=2e-5, atol=2e-5)
        by_mean = np.stack([mean * to_each, (1 - mean) * np.exp(-log_var) * to_each])
        np.testing.assert_allclose(gradients.mean[row][..., 0], by_mean, rtol=2e-5, atol=1e-6)


def test_twelve_very_sure_experts_have_a_mean():
    experts = Gaussian(jnp.linspace(-1.0, 2.0, 12)[:, None], jnp.full((12, 1), -87.0))
    close(product(experts), Gaussian(jnp.array([0.5]), jnp.array([-87 - np.log(12)])))


@pytest.mark.parametrize("vague", [0.0, 25.0])
@pytest.mark.parametrize("log_var", [91.0, 200.0, 1e4])
def test_an_expert_that_knows_next_to_nothing_leaves_the_product_with_the_prior_to_the_others(log_var, vague):
    """Where no term asks an expert to know anything, as in MVAE without sub-bounds, training takes it there."""
    others = random_gaussian(15, 2, 4, 3)
    others = others._replace(log_var=others.log_var + vague)
    experts = Gaussian(
        jnp.concatenate([others.mean, jnp.full((1, 4, 3), 50.0)]),
        jnp.concatenate([others.log_var, jnp.full((1, 4, 3), log_var)]),
    )

    def value(experts: Gaussian) -> tuple[jax.Array, Gaussian]:
        q = product(experts, prior_power=1.0)
        return q.kl(standard(3)).sum() + q.log_prob(jnp.ones(3)).sum(), q

    (_, found), gradients = jax.value_and_grad(value, has_aux=True)(experts)
    (_, expected), of_others = jax.value_and_grad(value, has_aux=True)(others)
    close(found, expected)
    close(Gaussian(*(leaf[:2] for leaf in gradients)), of_others)
    assert all(np.abs(leaf[2]).max() < 1e-9 for leaf in gradients)
