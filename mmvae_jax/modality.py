"""A modality: one data type, its networks, its likelihood, its units and how it is shown."""

from dataclasses import dataclass, field

import distrax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from mmvae_jax.data.captions import LookUp
from mmvae_jax.errors import UserError, check_choice
from mmvae_jax.likelihoods import LIKELIHOODS, Likelihood, LogitsFn
from mmvae_jax.networks.foreign import Network


@dataclass(frozen=True)
class Modality:
    """One data type: its networks and its likelihood.

    Attributes:
      name: as it appears in subsets like `m0+m3`.
      shape: of one x, for example (28, 28, 3); () for a label.
      encoder: x [B, *shape] -> features [B, F]; the library adds the heads. A Linen module, or any hashable object
        with `init(key, x)` and `apply(parameters, x)`.
      decoder: likewise, z [N, D] -> likelihood parameters [N, *shape], or [N, *shape, C] for class indices; for
        the likelihood `autoregressive` see `networks.recurrent.RecurrentDecoder`.
      likelihood: a key of `LIKELIHOODS`, or a `Likelihood` of one's own.
      scale: of a normal or Laplace likelihood.
      weight: w_m of log p(x_m|z) in the objectives (not in evaluations).
      private_dim: dimension of the modality's own latent s_m (Sutter et al. 2021, Eq. 34); 0 for none.
      pixels: x is pixels: uint8 in 0..255, which the model scales to 0..1, or floats in 0..1.
      symbols: what class indices are called, in their order: an alphabet, a vocabulary, names of classes.
      look_up: finds the pictures that figures show in the place of x [N, *shape]; None: x itself.
    """

    name: str
    shape: tuple[int, ...]
    encoder: Network
    decoder: Network
    likelihood: str | Likelihood = "normal"
    scale: float = 1.0
    weight: float = 1.0
    private_dim: int = 0
    pixels: bool = False
    symbols: tuple[str, ...] = field(default=(), repr=False)
    look_up: LookUp | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.likelihood, str):
            check_choice(self.likelihood, LIKELIHOODS, f"likelihood of {self.name}")
        if not self.scale > 0:
            raise UserError(f"{self.name}: scale={self.scale}: give a number above 0")
        if self.private_dim < 0:
            raise UserError(f"{self.name}: private-dim={self.private_dim}: give 0 or a whole number above it")

    @property
    def row(self) -> Likelihood:
        """The likelihood's row."""
        return LIKELIHOODS[self.likelihood] if isinstance(self.likelihood, str) else self.likelihood

    @property
    def discrete(self) -> bool:
        """Whether x holds class indices."""
        return self.row.classes

    @property
    def example(self) -> Array:
        """One blank x with a batch axis."""
        return jnp.zeros((1, *self.shape), jnp.int32 if self.discrete else jnp.float32)

    def distribution(self, output: Float[Array, "..."] | LogitsFn) -> distrax.Distribution:
        """p(x_m|z) of the decoder's output (autoregressive: of push -> output), one batch entry per element of x."""
        return self.row.distribution(output, self.scale)

    def in_units(self, x: Num[Array, "*B"]) -> Num[Array, "*B"]:
        """Data in the model's units: class indices as they are, uint8 pixels in 0..1, all else as floats."""
        if self.discrete:
            return x
        return x.astype(jnp.float32) / 255 if self.pixels and x.dtype == jnp.uint8 else x.astype(jnp.float32)
