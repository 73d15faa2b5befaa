"""The families of single posteriors q(z|x): what mixtures, fusions and objectives need of them."""

from typing import Any, Protocol, Self, runtime_checkable

from jaxtyping import Array, Bool, Float, Key

from mmvae_jax.gaussian import Gaussian
from mmvae_jax.laplace import Laplace


@runtime_checkable
class Posterior(Protocol):
    """A batch of densities over the last axis, a pytree whose leaves are [*B, D]."""

    @staticmethod
    def multiplies() -> bool:
        """Whether a product of several has a closed form."""
        ...

    @property
    def mean(self) -> Float[Array, "*B D"]:
        """The mean."""
        ...

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "*B D"]:
        """Reparameterised draws; `shape` is the leading sample shape."""
        ...

    def log_prob(self, z: Float[Array, "*Z D"]) -> Float[Array, "*B"]:
        """Log-density in nats, summed over D."""
        ...

    def kl(self, other: Any) -> Float[Array, "*B"]:
        """KL(self || other) in nats, for another of the same family."""
        ...

    def tempered(self, power: Float[Array, "*B"]) -> Self:
        """The density of the family that is proportional to p^power."""
        ...

    def products(
        self,
        rows: Bool[Array, "S N"],
        available: Bool[Array, "B N"],
        prior: Any,
        prior_power: Float[Array, "S B"],
    ) -> Self:
        """Of N experts, leaves [N, B, D], `p(z)^a prod_{n in row} q_n` of every row; the prior where none is available.

        Args:
          rows: mask matrix; of one expert each in a family that does not multiply.
          available: experts that may be used; the others contribute nothing, neither to values nor to gradients.
          prior: p(z) of the same family, leaves [D].
          prior_power: a.
        """
        ...

    @classmethod
    def with_scale(cls, scale: Float[Array, "D"]) -> Self:
        """The zero-mean density with scales (standard deviations, of a Gaussian) `scale`."""
        ...

    @classmethod
    def from_outputs(cls, outputs: Float[Array, "*B outputs"]) -> Self:
        """The density that an encoder's output stands for."""
        ...


POSTERIORS: dict[str, type[Posterior]] = {"gaussian": Gaussian, "laplace": Laplace}
