"""A modality: one data type, its networks, its likelihood, its units and how it is shown."""

from dataclasses import dataclass, field
from typing import Any

import distrax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num

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
        with `init(key, x)` and `apply(parameters, x)`. It sees log(1 + x) of counts (Lopez et al. 2018).
      decoder: likewise, z [N, D] -> likelihood parameters [N, *shape], or [N, *shape, C] for class indices and for
        likelihoods of C `outputs` an element; for `autoregressive` see `networks.recurrent.RecurrentDecoder`.
      likelihood: a key of `LIKELIHOODS`, or a `Likelihood` of one's own.
      scale: of a normal or Laplace likelihood, or the unit of a learned one: a number, or one for every entry of the
        last axis of x.
      weight: w_m of log p(x_m|z) in the objectives (not in evaluations).
      private_dim: dimension of the modality's own latent s_m (Sutter et al. 2021, Eq. 34); 0 for none.
      pixels: x is pixels: uint8 in 0..255, which the model scales to 0..1, or floats in 0..1.
      symbols: what class indices are called, in their order: an alphabet, a vocabulary, names of classes.
      look_up: finds the pictures that figures show in the place of x [N, *shape]; None: x itself.
      nan_missing: elements of x that are NaN are missing: they have no log-likelihood, encoders see 0 in their place,
        `Model.impute` fills them in, and an x of nothing else is absent.
    """

    name: str
    shape: tuple[int, ...]
    encoder: Network
    decoder: Network
    likelihood: str | Likelihood = "normal"
    scale: float | tuple[float, ...] = 1.0
    weight: float = 1.0
    private_dim: int = 0
    pixels: bool = False
    symbols: tuple[str, ...] = field(default=(), repr=False)
    look_up: LookUp | None = field(default=None, repr=False, compare=False)
    nan_missing: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.shape, tuple):
            raise UserError(f"{self.name}: shape={self.shape!r}: give a tuple, such as (28, 28, 3), (64,) or ()")
        if isinstance(self.encoder, type) or isinstance(self.decoder, type):
            raise UserError(f"{self.name}: a network's class: give a network, such as MLPEncoder((64,))")
        for network in (self.encoder, self.decoder):
            if not _hashable(network):
                raise UserError(f"{self.name}: {type(network).__name__} holds a list or an array: give it tuples")
        if isinstance(self.likelihood, str):
            check_choice(self.likelihood, LIKELIHOODS, f"likelihood of {self.name}")
        self._check_scale()
        if self.private_dim < 0:
            raise UserError(f"{self.name}: private-dim={self.private_dim}: give 0 or a whole number above it")
        if self.nan_missing and self.discrete:
            raise UserError(f"{self.name}: nan-missing: class indices are never NaN: say by presence which are missing")
        if self.pixels and self.row.counts:
            raise UserError(f"{self.name}: pixels with {self.likelihood}: counts are not scaled to 0..1; leave it out")

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
        scale = np.asarray(self.scale, np.float32) if isinstance(self.scale, tuple) else self.scale
        return self.row.distribution(output, scale)

    def observed(self, x: Num[Array, "*B"]) -> Bool[Array, "*B"] | None:
        """Which elements of x are observed, where that can be told of single ones."""
        return ~jnp.isnan(x) if self.nan_missing else None

    def in_units(self, x: Num[Array, "*B"]) -> Num[Array, "*B"]:
        """Data in the model's units: class indices as they are, uint8 pixels in 0..1, all else as floats.

        Missing elements are 0.
        """
        x = in_units(x, self.pixels, self.discrete)
        return jnp.where(jnp.isnan(x), 0.0, x) if self.nan_missing else x

    def observed_where_present(self, x: Num[Array, "B ..."], present: Bool[Array, "B"]) -> Bool[Array, "B ..."]:
        """Which elements of x [B, *shape] are observed, of samples that are present; with as many axes as x."""
        present = present.reshape(-1, *[1] * len(self.shape))
        elements = self.observed(x)
        return present if elements is None else present & elements

    def blanked(self, x: Num[Array, "B ..."], present: Bool[Array, "B"]) -> Num[Array, "B ..."]:
        """Data [B, *shape] in the model's units, zero where absent, so that nothing can leak."""
        return jnp.where(self.observed_where_present(x, present), self.in_units(x), 0)

    def encoder_input(self, x: Num[Array, "*B"]) -> Num[Array, "*B"]:
        """What the encoder sees of x in the model's units."""
        return jnp.log1p(x) if self.row.counts else x

    def check_output(self, shape: tuple[int, ...]) -> None:
        """Whether a decoder's output of this shape, without its batch axis, is what the likelihood needs.

        Raises:
          UserError: it is not, or the encoder knows fewer classes than the decoder.
        """
        last = () if self.row.outputs == 1 else (self.row.outputs,)
        needed = (*self.shape, "categories") if self.discrete else (*self.shape, *last)
        fits = shape[:-1] == self.shape if self.discrete else shape == needed
        if not fits:
            raise UserError(f"{self.name}: decoder output shape {shape} does not fit {self.likelihood}: needs {needed}")
        if self.discrete and (known := getattr(self.encoder, "categories", shape[-1])) < shape[-1]:
            raise UserError(f"{self.name}: its encoder knows categories={known} classes, its decoder {shape[-1]}")

    def _check_scale(self) -> None:
        values = np.asarray(self.scale)
        if values.ndim and (values.shape != self.shape[-1:] or not isinstance(self.scale, tuple)):
            given = f"{type(self.scale).__name__} of shape {values.shape}"
            raise UserError(f"{self.name}: scale is a {given}: give a number, or a tuple of one a feature {self.shape}")
        if not np.all(values > 0):
            raise UserError(f"{self.name}: scale={self.scale}: give numbers above 0")


def in_units(x: Num[Array, "*B"], pixels: bool, discrete: bool) -> Num[Array, "*B"]:
    """Class indices as they are, uint8 that are pixels in 0..1, all else as floats; see `Modality.in_units`."""
    if discrete:
        return x
    return x.astype(jnp.float32) / 255 if pixels and x.dtype == jnp.uint8 else x.astype(jnp.float32)


def _hashable(value: Any) -> bool:
    """Whether it has a hash; a tuple with a list in it passes for hashable until it is asked."""
    try:
        hash(value)
    except TypeError:
        return False
    return True
