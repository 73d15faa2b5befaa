"""Latents of a model given a subset: what coherence and pictures decode."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmvae_jax.model import Codes, Model, Params


def draw_latents(
    model: Model,
    params: Params,
    codes: Codes,
    present: Bool[Array, "B M"],
    subset: Bool[Array, "M"],
    key: Array,
) -> tuple[Float[Array, "B D"], dict[str, Float[Array, "B d"]]]:
    """One z ~ q(z|X_A) for every element of a batch, and private latents s_m.

    s_m comes from q(s_m|x_m) for m in A and from its prior otherwise, as cross-generation demands (Sutter et al. 2021,
    Eq. 34).
    """
    z_key, prior_key, posterior_key = jax.random.split(key, 3)
    z = model.given(params, codes, present, subset).sample(z_key)
    private = model.private_prior_draws(prior_key, z.shape[:1])
    for i, name in enumerate(model.names):
        if name in private:
            own = codes.private[name].sample(jax.random.fold_in(posterior_key, i))
            private[name] = jnp.where(subset[i], own, private[name])
    return z, private
