"""IWAE, DReG and MMVAE+: exact log p, the formulas written out, and gradients that agree in the mean."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import special, stats

from mmvae_jax.data.batching import Batch
from mmvae_jax.errors import UserError
from mmvae_jax.model import Model, Params
from mmvae_jax.objectives import OBJECTIVES, Options
from tests.by_hand import estimates, noise, subset_names, z_score
from tests.oracle import LinearGaussian

ORACLE = LinearGaussian((3, 2, 4), latent_dim=2)
PRESENT = np.array(list(np.ndindex(2, 2, 2)), bool)
BOUNDS = ["iwae", "iwae_loose", "dreg", "dreg_loose"]


def masked(oracle: LinearGaussian) -> Batch:
    return oracle.sample(jax.random.key(0), 8)._replace(present=jnp.asarray(PRESENT))


def exact_log_p(oracle: LinearGaussian, batch: Batch) -> float:
    values = [
        oracle.exact_log_prob(batch.x, subset_names(oracle.names, mask))[b]
        for b, mask in enumerate(np.asarray(batch.present))
    ]
    return float(np.mean(values))


@pytest.mark.parametrize("objective", BOUNDS)
def test_exact_posterior_attains_log_p_in_every_draw(objective):
    model = ORACLE.model("poe")
    params = ORACLE.params(model, "likelihood")
    bounds = estimates(objective, model, params, masked(ORACLE), 3, Options(importance_samples=4))
    np.testing.assert_allclose(bounds, exact_log_p(ORACLE, masked(ORACLE)), rtol=1e-5)


@pytest.mark.parametrize("objective", ["iwae", "iwae_loose"])
@pytest.mark.parametrize(
    "options", [{}, {"posterior": "laplace"}, {"fusion": "mopoe"}], ids=["moe", "laplace", "mopoe"]
)
def test_bounds_rise_with_k_towards_log_p(objective, options):
    """With the model's prior the exact log p is the oracle's; a Laplace model's is not, so its own K=4096 stands in."""
    batch = ORACLE.sample(jax.random.key(1), 4)
    model = ORACLE.model(**{"fusion": "moe", **options})
    params = ORACLE.params(model, "posterior", shift=0.3, log_scale=0.2)
    counts = (1, 5, 25)
    bounds = [estimates(objective, model, params, batch, 1_500, Options(importance_samples=k)) for k in counts]
    for few, many in zip(bounds, bounds[1:], strict=False):
        assert (many.mean() - few.mean()) > 4 * np.hypot(few.std(), many.std()) / np.sqrt(1_500)
    if "posterior" in options:
        # The estimator of the likelihood itself is unbiased, so its log at large K is the target.
        reference = estimates(
            "iwae", model, params, batch, 4, Options(importance_samples=20_000, samples_at_once=5_000)
        )
        exact = reference.mean()
    else:
        exact = exact_log_p(ORACLE, batch)
    gaps = [exact - values.mean() for values in bounds]
    assert all(z_score(values, exact) < 4 for values in bounds)
    assert gaps[2] < 0.15 * gaps[0]


def test_tight_bound_is_above_the_loose_one():
    batch = masked(ORACLE)
    model = ORACLE.model("moe")
    params = ORACLE.params(model, shift=0.3)
    tight, loose = (
        estimates(o, model, params, batch, 1_000, Options(importance_samples=3)) for o in ("iwae", "iwae_loose")
    )
    assert np.all(tight >= loose - 1e-4)
    assert z_score(tight - loose) > 10
    assert z_score(tight, exact_log_p(ORACLE, batch)) < -4


def laplace_logpdf(z: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return stats.laplace.logpdf(z, mean, scale).sum(-1)


def normal_logpdf(z: np.ndarray, mean: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
    return stats.norm.logpdf(z, mean, scale).sum(-1)


@pytest.mark.usefixtures("fixed_noise")
@pytest.mark.parametrize("objective", BOUNDS)
@pytest.mark.parametrize("posterior", ["gaussian", "laplace"])
def test_importance_weights_written_out(objective, posterior):
    """`log p(z) + sum_m w_m log p(x_m|z, s_m) - log q_mix(z)`, private latents, beta and a learned prior included."""
    oracle = LinearGaussian((4, 3, 5), latent_dim=2, private_dim=1)
    weights, beta = (1.0, 2.5, 0.5), 1.3
    model = oracle.model("moe", posterior=posterior, prior="learned_scale")
    model = replace(
        model, modalities=tuple(replace(m, weight=w) for m, w in zip(model.modalities, weights, strict=True))
    )
    params = {**oracle.params(model, shift=0.2), "prior": jnp.array([0.4, -0.3])}
    batch = masked(oracle)
    codes: Any = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), jax.jit(model.encode)(params, batch))
    log_density = laplace_logpdf if posterior == "laplace" else normal_logpdf
    half = 1.0 if posterior == "laplace" else 0.5
    prior_scale = 2 * special.softmax([0.4, -0.3])
    bound = np.zeros(8)
    for b, present in enumerate(PRESENT):
        live = np.flatnonzero(present)
        means = [codes.shared[0][m, b] for m in live] or [np.zeros(2)]
        scales = [np.exp(half * codes.shared[1][m, b]) for m in live] or [prior_scale]
        log_w = []
        for mean, scale in zip(means, scales, strict=True):
            z = mean + scale * noise(2)
            log_q = special.logsumexp([log_density(z, m, s) for m, s in zip(means, scales, strict=True)]) - np.log(
                len(means)
            )
            value = beta * (log_density(z, np.zeros(2), prior_scale) - log_q)
            for m in live:
                style_mean, style_scale = codes.private[f"m{m}"][0][b], np.exp(half * codes.private[f"m{m}"][1][b])
                s = style_mean + style_scale * noise(1)
                ratio = log_density(s, np.zeros(1), np.ones(1)) - log_density(s, style_mean, style_scale)
                x_mean = oracle.loadings[m] @ np.concatenate([z, s]) + oracle.biases[m]
                value += (
                    weights[m] * normal_logpdf(np.asarray(batch.x[f"m{m}"][b]), x_mean, oracle.noise) + beta * ratio
                )
            log_w.append(value)
        bound[b] = np.mean(log_w) if objective.endswith("loose") else special.logsumexp(log_w) - np.log(len(log_w))
    loss, _ = jax.jit(
        lambda p: OBJECTIVES[objective].loss(model, p, jax.random.key(0), batch, beta, Options(importance_samples=3))
    )(params)
    np.testing.assert_allclose(loss, -bound.mean(), rtol=1e-5)


def gradient_of(objective: str, model: Model, batch: Batch, options: Options, beta: float = 1.0) -> Callable[..., Any]:
    def loss(params: Params, key: jax.Array) -> jax.Array:
        return OBJECTIVES[objective].loss(model, params, key, batch, beta, options)[0]

    return jax.value_and_grad(loss)


@pytest.mark.parametrize("objective", ["iwae", "dreg_loose"])
def test_chunks_of_samples_change_neither_value_nor_gradient(objective):
    model = ORACLE.model("moe")
    params, key = ORACLE.params(model, shift=0.2), jax.random.key(2)
    whole, chunked = (
        jax.jit(gradient_of(objective, model, masked(ORACLE), Options(importance_samples=6, samples_at_once=n)))(
            params, key
        )
        for n in (6, 4)
    )
    for expected, actual in zip(jax.tree.leaves(whole), jax.tree.leaves(chunked), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@dataclass(frozen=True)
class Overlap:
    """A model whose experts overlap, so that estimators that ignore it are visibly biased."""

    oracle: LinearGaussian
    fusion: str = "moe"
    loose: bool = False
    posterior: str = "gaussian"
    beta: float = 1.0

    def gradients(self, n: int, k: int) -> tuple[np.ndarray, np.ndarray, Params]:
        """Of plain IWAE and DReG under the same n keys, one flat vector each; and the parameters."""
        model = self.oracle.model(
            self.fusion, posterior=self.posterior, prior="learned_scale" if self.fusion == "moe" else "standard"
        )
        params = self.oracle.params(model, shift=0.3, log_scale=0.3)
        batch = self.oracle.sample(jax.random.key(3), 2)
        options = Options(importance_samples=k)
        names = ("iwae_loose", "dreg_loose") if self.loose else ("iwae", "dreg")
        plain, dreg = (gradient_of(name, model, batch, options, self.beta) for name in names)

        def both(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
            (value, gradient), (dreg_value, dreg_gradient) = plain(params, key), dreg(params, key)
            return value, ravel_pytree(gradient)[0], dreg_value, ravel_pytree(dreg_gradient)[0]

        run = jax.jit(lambda keys: jax.lax.map(both, keys, batch_size=500))
        values = run(jax.random.split(jax.random.key(4), n))
        value, gradient, dreg_value, dreg_gradient = (np.asarray(v, np.float64) for v in values)
        np.testing.assert_allclose(dreg_value, value, rtol=1e-5)
        return gradient, dreg_gradient, params


OVERLAPS = {
    "one expert": Overlap(LinearGaussian((3,), 2)),
    "one expert, beta 2": Overlap(LinearGaussian((3,), 2), beta=2.0),
    "two experts, tight, private": Overlap(LinearGaussian((3, 3), 2, private_dim=1)),
    "two experts, loose": Overlap(LinearGaussian((3, 2), 2), loose=True),
    "three experts, tight, beta 0.5": Overlap(LinearGaussian((2, 3, 2), 1), beta=0.5),
    "three Laplace experts, tight": Overlap(LinearGaussian((2, 3, 2), 1), posterior="laplace"),
    "two Laplace experts, loose, private": Overlap(
        LinearGaussian((3, 3), 2, private_dim=1), loose=True, posterior="laplace"
    ),
    "mopoe, tight": Overlap(LinearGaussian((3, 2), 1), "mopoe"),
}


@pytest.mark.parametrize("case", OVERLAPS.values(), ids=OVERLAPS.keys())
def test_dreg_has_the_mean_gradient_of_iwae(case: Overlap):
    """Parameter by parameter, over 20,000 keys; decoders and prior have the very same gradient draw by draw."""
    n = 20_000
    plain, dreg, params = case.gradients(n, k=2)
    difference = dreg - plain
    _, unravel = ravel_pytree(params)
    decoding = ravel_pytree(
        {k: jax.tree.map(lambda v, k=k: jnp.full(v.shape, k != "inference"), v) for k, v in params.items()}
    )[0]
    np.testing.assert_allclose(difference[:, decoding], 0, atol=2e-3 * np.abs(plain).mean())
    encoding = ~np.asarray(decoding) & (np.abs(plain).max(0) > 0)
    scores = z_score(difference[:, encoding])
    assert np.abs(scores).max() < 4.5, unravel(jnp.asarray(np.where(encoding, difference.mean(0), 0)))
    assert np.sqrt(np.mean(scores**2)) < 1.8
    assert np.abs(z_score(plain[:, encoding])).max() > 8


def test_dreg_has_less_variance_near_the_optimum_and_none_at_it():
    """For one component: at the exact posterior every path derivative vanishes (Roeder et al. 2017; Tucker et al. 2019)."""
    model, batch = ORACLE.model("poe"), ORACLE.sample(jax.random.key(5), 4)
    options = Options(importance_samples=4)
    for shift, ratio in ((0.0, 1e-6), (0.05, 0.2)):
        params = ORACLE.params(model, "likelihood", shift=shift)
        variance = []
        for objective in ("iwae", "dreg"):
            gradient = gradient_of(objective, model, batch, options)
            run = jax.jit(jax.vmap(lambda key, g=gradient, p=params: ravel_pytree(g(p, key)[1]["inference"])[0]))
            variance.append(np.asarray(run(jax.random.split(jax.random.key(6), 500))).var(0).sum())
        assert variance[1] < ratio * variance[0]


def mmvae_plus_by_definition(model: Model, params: Params, key: jax.Array, batch: Batch, k: int) -> jax.Array:
    """Palumbo et al. 2023, component by component and sample by sample; the bound, with its plain gradient."""
    codes = model.encode(params, batch)
    prior, m = model.generative_prior(params), len(model.modalities)
    experts = [jax.tree.map(lambda leaf, i=i: leaf[i], codes.shared) for i in range(m)]
    total = 0.0
    for i, own in enumerate(model.modalities):
        keys = jax.random.split(jax.random.fold_in(key, i), k)

        def log_weight(key: jax.Array, i: int = i, own: Any = own) -> jax.Array:
            u = experts[i].sample(jax.random.fold_in(key, 0))
            w = codes.private[own.name].sample(jax.random.fold_in(key, 1))
            log_q = jax.nn.logsumexp(jnp.stack([e.log_prob(u) for e in experts]), 0) - jnp.log(m)
            value = (
                prior.log_prob(u) - log_q + model.private_prior(own).log_prob(w) - codes.private[own.name].log_prob(w)
            )
            for j, other in enumerate(model.modalities):
                auxiliary = model.auxiliary(params, other.name).sample(jax.random.fold_in(key, 2 + j), w.shape[:1])
                decoded = model.decode(params, u, {other.name: w if i == j else auxiliary}, [other.name])[other.name]
                value += decoded.log_prob(batch.x[other.name]).sum(-1)
            return value

        log_w = jax.vmap(log_weight)(keys)
        total += jnp.mean(jax.nn.logsumexp(log_w, 0) - jnp.log(k)) / m
    return jnp.asarray(total)


@pytest.mark.parametrize("posterior", ["gaussian", "laplace"])
def test_mmvae_plus_has_the_value_and_the_gradient_of_its_definition(posterior):
    oracle, k, n = LinearGaussian((4, 4), 2, private_dim=2), 2, 20_000
    model = oracle.model("moe", posterior=posterior, prior="learned_scale", auxiliary_prior=True)
    # With one private dimension the softmax would leave the auxiliary prior's scale nothing to learn.
    params = oracle.params(model, shift=0.3, log_scale=0.3)
    params["auxiliary_prior"] = {"m0": jnp.array([0.4, -0.4]), "m1": jnp.array([-0.2, 0.2])}
    batch = oracle.sample(jax.random.key(7), 2)
    library = gradient_of("mmvae_plus", model, batch, Options(importance_samples=k))
    definition = jax.value_and_grad(lambda p, key: -mmvae_plus_by_definition(model, p, key, batch, k))

    def flat(gradient: Callable[..., Any]) -> np.ndarray:
        def one(key: jax.Array) -> jax.Array:
            value, tree = gradient(params, key)
            return jnp.concatenate([value[None], ravel_pytree(tree)[0]])

        run = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=500))
        return np.asarray(run(jax.random.split(jax.random.key(8), n)), np.float64)

    ours, theirs = flat(library), flat(definition)
    error = np.sqrt((ours.var(0) + theirs.var(0)) / n)
    moving = error > 1e-7
    scores = (ours.mean(0) - theirs.mean(0))[moving] / error[moving]
    assert np.abs(scores).max() < 4.5
    assert np.sqrt(np.mean(scores**2)) < 1.8
    np.testing.assert_allclose(ours[:, ~moving], theirs[:, ~moving], atol=1e-5)


def test_no_importance_samples_are_refused():
    with pytest.raises(UserError, match="importance-samples=0: give a number of at least 1"):
        Options(importance_samples=0)
    with pytest.raises(UserError, match="samples-at-once=0: give a number of at least 1"):
        Options(samples_at_once=0)
