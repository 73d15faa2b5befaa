"""What the objectives share: their options, the private latents' part, and the sum that ends every one of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key

from mmvae_jax.data.batching import Batch
from mmvae_jax.errors import UserError, check_choice
from mmvae_jax.mixture import Draws, Expectation, Mixture
from mmvae_jax.model import Codes, Model, Params
from mmvae_jax.priors import Prior

Terms = dict[str, Float[Array, ""]]
Loss = tuple[Float[Array, ""], Terms]
LossFn = Callable[[Model, Params, Key[Array, ""], Batch, ArrayLike, "Options"], Loss]
KL = Literal["bound", "sample"]


@dataclass(frozen=True)
class Options:
    """What an objective may be told besides beta; its row says which of them it reads.

    Attributes:
      kl: `bound`, the weighted sum of the components' KLs, an upper bound by convexity (the released MoPoE code); or
        `sample`, Monte Carlo of log q(z|X) - log p(z) with the full mixture (the paper's Eq. 6).
      expectation: over a mixture's components: `stratified`, `sample` or `all`, see `mixture.draw`.
      importance_samples: K of the IWAE and DReG bounds.
      samples_at_once: how many of the K are decoded together, the rest in turn and rematerialised; bounds memory.
      random_subsets: k of the MVAE objective: ELBOs of random subsets added in every step.
      alpha: JMVAE's weight of KL(q(z|X) || q(z|x_m)) (Suzuki et al. 2016: 0.1 among others).
      correlation: MVTCAE's weight between the two KL terms (Hwang et al. 2021: 5/6).
      beta_style: weight of the private latents' KLs, times beta (Sutter et al. 2021, Eq. 34 and released code).
    """

    kl: KL = "bound"
    expectation: Expectation = "stratified"
    importance_samples: int = 10
    samples_at_once: int = 10
    random_subsets: int = 0
    alpha: float = 0.1
    correlation: float = 5 / 6
    beta_style: float = 1.0

    def __post_init__(self) -> None:
        check_choice(self.kl, get_args(KL), "kl")
        check_choice(self.expectation, get_args(Expectation), "expectation")
        for name, low in (("importance_samples", 1), ("samples_at_once", 1), ("random_subsets", 0)):
            if getattr(self, name) < low:
                raise UserError(f"{name.replace('_', '-')}={getattr(self, name)}: give a number of at least {low}")
        for name in ("alpha", "beta_style"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name.replace('_', '-')}={getattr(self, name)}: give a weight of at least 0")
        if not 0 <= self.correlation <= 1:
            raise UserError(f"correlation={self.correlation}: give a weight between 0 and 1")


class PrivateDraws(NamedTuple):
    """Draws of the private latents from their posteriors, and their KLs to the prior (0 where there is none)."""

    z: Mapping[str, Float[Array, "*E B _"]]
    kl: Float[Array, "B M"]


def draw_private(model: Model, codes: Codes, key: Key[Array, ""], shape: tuple[int, ...]) -> PrivateDraws:
    """s_m ~ q(s_m|x_m) for every modality that has one; from the prior, at no cost, where x_m is absent (Eq. 34)."""
    z, kls = {}, []
    for i, m in enumerate(model.modalities):
        if m.private_dim:
            posterior = codes.private[m.name]
            z[m.name] = posterior.sample(jax.random.fold_in(key, i), shape)
            kls.append(posterior.kl(model.private_prior(m)))
        else:
            kls.append(jnp.zeros(codes.shared.mean.shape[1]))
    return PrivateDraws(z, jnp.stack(kls, -1))


def weights(model: Model) -> Float[Array, "M"]:
    """The modalities' likelihood weights w_m."""
    return jnp.array([m.weight for m in model.modalities])


def component_kls(mixture: Mixture, prior: Prior) -> Float[Array, "B"]:
    """`sum_s w_s KL(q_s || p)`: the convexity bound on the mixture's KL."""
    return weighted_sum(jnp.exp(mixture.log_weights), prior.kl_from(mixture.components))


def sampled_kl(mixture: Mixture, draws: Draws, prior: Prior) -> Float[Array, "B"]:
    """Monte Carlo of `KL(q || p)` at the draws, with the mixture's full density."""
    log_ratio = jax.lax.map(jax.checkpoint(lambda z: mixture.log_prob(z) - prior.log_prob(z)), draws.z)
    return weighted_sum(draws.weights, log_ratio)


def weighted_sum(weights: Float[Array, "E B"], values: Float[Array, "E B"]) -> Float[Array, "B"]:
    """Sum over E; a value of weight 0 contributes nothing, whatever it is."""
    return jnp.sum(weights * jnp.where(weights > 0, values, 0.0), axis=0)


def total(
    model: Model,
    log_likelihood: Float[Array, "B M"],
    penalties: Mapping[str, tuple[ArrayLike, Float[Array, "B"]]],
    likelihood_weight: Float[Array, "B"] | float = 1.0,
) -> Loss:
    """The loss `-mean_b (c sum_m w_m log p_m - sum_i weight_i penalty_i)` and its parts, in nats.

    Args:
      model: for the weights w_m.
      log_likelihood: expected log p(x_m|z), unweighted.
      penalties: name -> (weight, value).
      likelihood_weight: c.
    """
    bound = likelihood_weight * (log_likelihood @ weights(model))
    terms = {f"log_likelihood/{name}": jnp.mean(log_likelihood[:, i]) for i, name in enumerate(model.names)}
    for name, (weight, penalty) in penalties.items():
        bound -= weight * penalty
        terms[name] = jnp.mean(penalty)
    return -jnp.mean(bound), terms
