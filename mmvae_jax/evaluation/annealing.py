r"""Log-likelihoods by annealed importance sampling (Neal 2001; of decoders, Wu et al. 2017), in nats.

Chains start at the prior and pass through `f_t(z) = p(z) p(x_T|z)^{b_t}` with `b_0 = 0 < ... < b_T = 1`. Each is
weighted by `w = prod_t p(x_T|z_{t-1})^{b_t - b_{t-1}}`, and `log 1/C sum_c w_c` is below log p(x_T) in expectation,
E[w] = p(x_T). No posterior plays a part: what it says does not depend on how good the inference networks are. Private
latents of the targets are annealed with z.

Transitions are Hamiltonian. Pilot chains of the same example adapt the step size to their acceptance on the way; the
chains that count take the sizes that these have found, so that every transition leaves its distribution invariant.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from mmvae_jax.data.batching import Batch
from mmvae_jax.errors import UserError
from mmvae_jax.evaluation.chunks import MAX_EXAMPLES, chunks, decoded_at_once
from mmvae_jax.evaluation.likelihood import Estimates, summary
from mmvae_jax.model import Latents, Model, Params
from mmvae_jax.sharding import on_all_devices, split_over_devices

_PILOTS = 4
_FIRST_STEP = 0.3
# Acceptance that is best for Hamiltonian transitions (Beskos et al. 2013), and how fast log step sizes follow.
_ACCEPTANCE, _RATE = 0.65, 0.3
# Of the sigmoid along which temperatures are spaced (Wu et al. 2017).
_STEEPNESS = 4.0

LogDensities = Callable[[Latents], tuple[Float[Array, "C B"], Float[Array, "C B"]]]


@dataclass(frozen=True)
class Annealing:
    """How much annealed importance sampling does.

    Attributes:
      temperatures: distributions between prior and posterior, the posterior among them.
      chains: for every example; their weights are averaged.
      leapfrog_steps: of a Hamiltonian transition, one at each temperature.
      examples: test tuples whose log-likelihood is estimated so; None: all that importance sampling estimates.
    """

    temperatures: int = 500
    chains: int = 8
    leapfrog_steps: int = 10
    examples: int | None = 32

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and value < 1:
                raise UserError(f"ais.{name.replace('_', '-')}={value}: give at least 1")


def annealed_estimates(
    model: Model,
    params: Params,
    key: Key[Array, ""],
    batch: Batch,
    target: Sequence[str],
    annealing: Annealing,
) -> Estimates:
    """Estimates of log p(x_T) of every example, leaves [B]; see the module.

    The effective sample size is of the chains.

    Args:
      model: any model.
      params: its parameters.
      key: PRNG key.
      batch: the examples; absent modalities do not count.
      target: names of the modalities T.
      annealing: how much of everything.
    """
    limit = max(1, min(MAX_EXAMPLES, decoded_at_once(model, params) // annealing.chains))
    pieces = []
    for chunk in chunks(batch, limit):
        chunk_key = jax.random.fold_in(key, chunk.index)
        found = _annealed(model, tuple(target), annealing, params, chunk_key, chunk.batch)
        pieces.append(jax.tree.map(lambda leaf, n=chunk.size: np.asarray(leaf)[:n], found))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces)


@on_all_devices(static=(0, 1, 2))
def _annealed(
    model: Model, target: tuple[str, ...], annealing: Annealing, params: Params, key: Key[Array, ""], batch: Batch
) -> Estimates:
    owners = [m for m in model.modalities if m.name in target and m.private_dim]
    prior = model.generative_prior(params)

    def draw(key: Key[Array, ""], chains: int) -> Latents:
        z_key, *keys = jax.random.split(key, 1 + len(owners))
        shape = chains, len(batch.label)
        private = {m.name: model.private_prior(m).sample(k, shape) for m, k in zip(owners, keys, strict=True)}
        return split_over_devices(Latents(prior.sample(z_key, shape), private), axis=1)

    def log_densities(latents: Latents) -> tuple[Float[Array, "C B"], Float[Array, "C B"]]:
        log_prior = prior.log_prob(latents.z)
        for m in owners:
            log_prior += model.private_prior(m).log_prob(latents.private[m.name])
        return log_prior, jnp.sum(model.log_likelihoods(params, latents.z, batch, latents.private, target), -1)

    temperatures = _temperatures(annealing.temperatures)
    pilot_key, pilot_noise, chain_key, chain_noise = jax.random.split(key, 4)
    first = jnp.full(len(batch.label), _FIRST_STEP)
    leapfrogs = annealing.leapfrog_steps

    def pilot(carry: tuple[Latents, Array], given: tuple[Array, Array]) -> tuple[tuple[Latents, Array], Array]:
        latents, size = carry
        latents, acceptance, _ = _transition(log_densities, latents, *given, size, leapfrogs)
        return (latents, size * jnp.exp(_RATE * (acceptance.mean(0) - _ACCEPTANCE))), size

    noise = jax.random.split(pilot_noise, annealing.temperatures)
    _, sizes = jax.lax.scan(pilot, (draw(pilot_key, _PILOTS), first), (noise, temperatures))

    def step(
        carry: tuple[Latents, Array], given: tuple[Array, Array, Array, Array]
    ) -> tuple[tuple[Latents, Array], None]:
        latents, log_weights = carry
        noise, temperature, rise, size = given
        latents, _, log_likelihood = _transition(log_densities, latents, noise, temperature, size, leapfrogs)
        return (latents, log_weights + rise * log_likelihood), None

    start = draw(chain_key, annealing.chains), jnp.zeros((annealing.chains, len(batch.label)))
    noise = jax.random.split(chain_noise, annealing.temperatures)
    rises = jnp.diff(temperatures, prepend=0.0)
    (_, log_weights), _ = jax.lax.scan(step, start, (noise, temperatures, rises, sizes))
    return summary(log_weights)


def _temperatures(count: int) -> Float[Array, "T"]:
    """b_1 ... b_T, close to each other near 0 and 1."""
    if count == 1:
        return jnp.ones(1)
    values = jax.nn.sigmoid(jnp.linspace(-_STEEPNESS, _STEEPNESS, count + 1))
    return (values[1:] - values[0]) / (values[-1] - values[0])


def _transition(
    log_densities: LogDensities,
    latents: Latents,
    key: Key[Array, ""],
    temperature: Float[Array, ""],
    size: Float[Array, "B"],
    leapfrogs: int,
) -> tuple[Latents, Float[Array, "C B"], Float[Array, "C B"]]:
    """One Hamiltonian transition of every chain.

    Returns:
      Where the chains are, the probability of acceptance, and log p(x_T|z) where they were.
    """

    def total(latents: Latents) -> tuple[Float[Array, ""], tuple[Array, Array]]:
        log_prior, log_likelihood = log_densities(latents)
        log_density = log_prior + temperature * log_likelihood
        return jnp.sum(log_density), (log_density, log_likelihood)

    # Of a sum over chains: each gradient is its own chain's.
    derivative = jax.value_and_grad(total, has_aux=True)
    noise_key, accept_key = jax.random.split(key)
    leaves, form = jax.tree.flatten(latents)
    keys = jax.random.split(noise_key, len(leaves))
    momenta = form.unflatten([jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)])
    (_, (before, log_likelihood)), gradient = derivative(latents)

    def move(tree: Latents, along: Latents, fraction: float = 1.0) -> Latents:
        return jax.tree.map(lambda leaf, slope: leaf + fraction * size[:, None] * slope, tree, along)

    def leapfrog(
        index: Array, state: tuple[Latents, Latents, Latents, Array]
    ) -> tuple[Latents, Latents, Latents, Array]:
        place, momenta, gradient = state[:3]
        momenta = move(momenta, gradient, 0.5)
        place = move(place, momenta)
        (_, (log_density, _)), gradient = derivative(place)
        return place, move(momenta, gradient, 0.5), gradient, log_density

    proposed, ends, _, after = jax.lax.fori_loop(0, leapfrogs, leapfrog, (latents, momenta, gradient, before))
    log_ratio = after - _kinetic(ends) - before + _kinetic(momenta)
    log_ratio = jnp.where(jnp.isfinite(log_ratio), log_ratio, -jnp.inf)
    accepted = jnp.log(jax.random.uniform(accept_key, log_ratio.shape)) < log_ratio
    moved = jax.tree.map(lambda new, old: jnp.where(accepted[..., None], new, old), proposed, latents)
    return moved, jnp.exp(jnp.minimum(log_ratio, 0.0)), log_likelihood


def _kinetic(momenta: Latents) -> Float[Array, "C B"]:
    energies = [jnp.sum(jnp.square(leaf), -1) for leaf in jax.tree.leaves(momenta)]
    return 0.5 * jnp.sum(jnp.stack(energies), 0)
