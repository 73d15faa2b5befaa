"""Networks that are no Linen modules: any object with `init` and `apply`."""

from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
from jaxtyping import Array, PyTree


@runtime_checkable
class Network(Protocol):
    """What encoders and decoders are used through; hashable, for it is part of a model's description."""

    def init(self, rngs: Any, *inputs: Any) -> PyTree:
        """Fresh parameters, from a PRNG key and blank inputs."""
        ...

    def apply(self, variables: PyTree, *inputs: Any) -> Any:
        """The output for these parameters."""
        ...


class Foreign(nn.Module):
    """A network of any make as a Linen module.

    Attributes:
      network: is initialised by `init(key, *inputs)` and called by `apply(parameters, *inputs)`.
    """

    network: Network

    @nn.compact
    def __call__(self, *inputs: Array) -> Array:
        """The network's output."""
        parameters = self.param("network", lambda key: self.network.init(key, *inputs))
        return self.network.apply(parameters, *inputs)


def as_linen(network: Network) -> nn.Module:
    """A Linen module as it is, any other network within one."""
    return network if isinstance(network, nn.Module) else Foreign(network)
