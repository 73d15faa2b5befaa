"""Inference networks: features of one or several modalities and the head that puts out a posterior."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class InferenceNetwork(nn.Module):
    """Features of every input, joined where there are several, and one fused head for mean and scale.

    The joint form is the SVAE paper's (Appendix F): dense + ReLU on each input's features, then the head on all.

    Attributes:
      trunks: one feature network for each input.
      outputs: width of the head.
      width: hidden width of the joint form.
    """

    trunks: Sequence[nn.Module]
    outputs: int
    width: int

    @nn.compact
    def __call__(self, *inputs: Array) -> Float[Array, "B outputs"]:
        """Mean and scale, before `from_outputs`."""
        features = [trunk(x) for trunk, x in zip(self.trunks, inputs, strict=True)]
        if len(features) > 1:
            features = [nn.relu(nn.Dense(self.width)(feature)) for feature in features]
        return nn.Dense(self.outputs, name="head")(jnp.concatenate(features, -1).astype(jnp.float32))


class Bridge(nn.Module):
    """One dense layer on the codes of all modalities (Yadav et al. 2020): here on their posterior means."""

    outputs: int

    @nn.compact
    def __call__(self, *codes: Float[Array, "B D"]) -> Float[Array, "B outputs"]:
        """Mean and scale, before `from_outputs`."""
        return nn.Dense(self.outputs, name="head")(jnp.concatenate(codes, -1))
