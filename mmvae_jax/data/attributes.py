"""Attributes of tuples, such as shape and colour: what there is to tell apart beyond one class."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Read = Callable[[Array], Int[Array, "B A"] | Float[Array, "B A"]]
# What the values of an attribute are called that is there or not.
PRESENCE = ("absent", "present")


@dataclass(frozen=True, eq=False)
class Attributes:
    """The attributes that all modalities of a data set show, and how they are read off what is generated.

    Attributes:
      values: attribute -> what its values are called, in the order of their class indices.
      read: modality -> function that reads all attributes off its x [B, *shape], exactly: class indices [B, A], -1
        where there is nothing to read, as in a sentence that says something else; or floats, the probability that each
        is present. At least one; of real tuples all say the same. The attributes of every other modality, such as
        pictures, are told by a classifier trained on it.
    """

    values: Mapping[str, tuple[str, ...]]
    read: Mapping[str, Read]

    def of(self, x: Mapping[str, Array]) -> Int[Array, "B A"]:
        """The attributes of real tuples."""
        name, read = next(iter(self.read.items()))
        return read(x[name]).astype(jnp.int32)

    @property
    def binary(self) -> bool:
        """Whether each of them is there or not."""
        return all(values == PRESENCE for values in self.values.values())
