"""Mixtures of posteriors: what every fusion returns and every objective integrates over."""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mmvae_jax.errors import check_choice
from mmvae_jax.posteriors import Posterior

Expectation = Literal["stratified", "sample", "all"]


class Mixture(NamedTuple):
    """A posterior `q(z|X) = sum_s w_s q_s(z|X)` for every element of a batch; a dead component has log-weight -inf."""

    log_weights: Float[Array, "S B"]
    components: Posterior

    def log_prob(self, z: Float[Array, "*K B D"]) -> Float[Array, "*K B"]:
        """Log-density in nats of the full mixture: `logsumexp_s log w_s + log q_s(z)`."""
        log_probs = self.components.log_prob(z[..., None, :, :])
        return jax.nn.logsumexp(self.log_weights + log_probs, axis=-2)

    def select(self, index: Int[Array, "B"]) -> Posterior:
        """The chosen component of every batch element, leaves [B, D]."""
        return jax.tree.map(lambda leaf: _chosen(leaf, index), self.components)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "*K B D"]:
        """Exact draws: a categorical component for every draw, then the component (not differentiable in w)."""
        pick_key, noise_key = jax.random.split(key)
        index = jax.random.categorical(pick_key, self.log_weights, axis=0, shape=(*shape, self.batch_size))
        draw = jax.vmap(lambda i, k: self.select(i).sample(k))
        flat = index.reshape(-1, self.batch_size)
        return draw(flat, jax.random.split(noise_key, len(flat))).reshape(*index.shape, -1)

    def mean(self) -> Float[Array, "B D"]:
        """The mixture's mean, `sum_s w_s mu_s`."""
        return jnp.sum(jnp.exp(self.log_weights)[..., None] * self.components.mean, axis=0)

    @property
    def batch_size(self) -> int:
        """B."""
        return self.log_weights.shape[1]


def _taken(leaf: Float[Array, "S B D"], index: Int[Array, "B"]) -> Float[Array, "B D"]:
    return jnp.take_along_axis(leaf, index[None, :, None], axis=0)[0]


def chosen_by_scatter(
    leaf: Float[Array, "S B D"], index: Int[Array, "B"], g: Float[Array, "B D"]
) -> Float[Array, "S B D"]:
    """Zeros but for `g` where the index points: the gradient of a choice."""
    return jax.linear_transpose(lambda leaf: _taken(leaf, index), leaf)(g)[0]


def chosen_by_comparison(
    leaf: Float[Array, "S B D"], index: Int[Array, "B"], g: Float[Array, "B D"]
) -> Float[Array, "S B D"]:
    """`chosen_by_scatter` for TPUs, which run a scatter element by element."""
    return jnp.where((jnp.arange(len(leaf))[:, None] == index)[..., None], g, 0)


def _chosen_gradient(saved: tuple[Array, Array], g: Array) -> tuple[Array, None]:
    return jax.lax.platform_dependent(*saved, g, tpu=chosen_by_comparison, default=chosen_by_scatter), None


_chosen = jax.custom_vjp(_taken)
_chosen.defvjp(lambda leaf, index: (_taken(leaf, index), (leaf, index)), _chosen_gradient)


class Draws(NamedTuple):
    """Points at which an expectation over a mixture is taken, with their weights (summing to one over E)."""

    z: Float[Array, "E B D"]
    weights: Float[Array, "E B"]


def stratified_components(key: Key[Array, ""], log_weights: Float[Array, "S B"]) -> Int[Array, "B"]:
    """One component for every batch element, the S components spread evenly over the batch.

    Element b gets the quantile `(permutation_b + u) / B` of its own weights: each element's component follows its
    weights exactly, and over the batch each component is taken B/S times, give or take one. A random permutation, never
    contiguous slices, so that nothing depends on the order of the batch or on its sharding.
    """
    batch_size = log_weights.shape[1]
    permutation_key, offset_key = jax.random.split(key)
    position = jax.random.permutation(permutation_key, batch_size)
    quantile = (position + jax.random.uniform(offset_key)) / batch_size
    weights = jnp.exp(log_weights)
    # A dead component has an empty interval; the last interval is closed by the last live component.
    index = jnp.sum(jnp.cumsum(weights, axis=0) <= quantile, axis=0)
    live = weights > 0
    last_live = live.shape[0] - 1 - jnp.argmax(live[::-1], axis=0)
    return jnp.minimum(index, last_live)


def draw(key: Key[Array, ""], mixture: Mixture, expectation: Expectation) -> Draws:
    """Reparameterised points for an expectation over a mixture.

    Args:
      key: PRNG key.
      mixture: q.
      expectation: `stratified` (one component per element, spread evenly over the batch), `sample` (one categorical
        component per element) or `all` (one draw from each component: exact over components, S times the decoding).
    """
    check_choice(expectation, get_args(Expectation), "expectation")
    pick_key, noise_key = jax.random.split(key)
    if expectation == "all":
        return Draws(mixture.components.sample(noise_key), jnp.exp(mixture.log_weights))
    if expectation == "stratified":
        index = stratified_components(pick_key, mixture.log_weights)
    else:
        index = jax.random.categorical(pick_key, mixture.log_weights, axis=0)
    return Draws(mixture.select(index).sample(noise_key)[None], jnp.ones((1, mixture.batch_size)))
