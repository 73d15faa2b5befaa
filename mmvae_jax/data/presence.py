"""Which modalities of which tuples are observed: weak supervision, and modalities dropped at random."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Key

from mmvae_jax.errors import UserError


def supervision_presence(key: Key[Array, ""], n: int, m: int, level: float) -> Bool[Array, "n m"]:
    """Presence under weak supervision: some tuples complete, every other one with one modality.

    SVAE paper (2021), section 5: at supervision level 10 %, 10 % of the training tuples are paired
    and the others unpaired. Each modality keeps an equal share (to within one) of the unpaired
    tuples.

    Args:
      key: draws which tuples are complete and which modality each other tuple keeps.
      n: number of tuples.
      m: number of modalities.
      level: fraction of complete tuples, 0 to 1; `round(level * n)` tuples are complete.

    Raises:
      UserError: level is outside 0..1.

    Examples:
      Of six tuples half are complete; three keep one modality each:

      >>> presence = supervision_presence(jax.random.key(0), 6, 3, level=0.5)
      >>> print(sorted(presence.sum(1).tolist()), presence.sum(0).tolist())
      [1, 1, 1, 3, 3, 3] [4, 4, 4]
    """
    if not 0.0 <= level <= 1.0:
        raise UserError(f"supervision level {level}: give a fraction from 0 to 1")
    rank = jax.random.permutation(key, n)
    complete = round(level * n)
    return (rank < complete)[:, None] | (rank[:, None] % m == jnp.arange(m))


def dropped_presence(key: Key[Array, ""], n: int, m: int, p: float) -> Bool[Array, "n m"]:
    """Presence where each modality is dropped with probability p, but never all of a tuple.

    Drops are independent. A tuple that would lose everything keeps one modality, drawn uniformly.

    Args:
      key: draws the drops.
      n: number of tuples.
      m: number of modalities.
      p: probability of a drop, 0 to 1.

    Raises:
      UserError: p is outside 0..1.
    """
    if not 0.0 <= p <= 1.0:
        raise UserError(f"drop probability {p}: give one from 0 to 1")
    drop_key, keep_key = jax.random.split(key)
    kept = jax.random.bernoulli(drop_key, 1.0 - p, (n, m))
    rescued = jax.nn.one_hot(jax.random.randint(keep_key, (n,), 0, m), m, dtype=bool)
    return jnp.where(kept.any(axis=1, keepdims=True), kept, rescued)
