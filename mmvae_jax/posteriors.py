"""The families of single posteriors q(z|x): what mixtures, fusions and objectives need of them."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

from jaxtyping import Array, Bool, Float, Key

from mmvae_jax.gaussian import Gaussian
from mmvae_jax.laplace import Laplace


@runtime_checkable
class Posterior(Protocol):
    """A batch of densities over the last axis, a pytree whose leaves are [*B, D]."""

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


class Family(NamedTuple):
    """A row of `POSTERIORS`.

    Attributes:
      from_outputs: an encoder's output [*B, 2D] -> the posterior that it stands for.
      with_scale: scales [D] (standard deviations, of a Gaussian) -> the zero-mean density that has them.
      multiplies: whether a product of several has a closed form.
    """

    from_outputs: Callable[[Array], Posterior]
    with_scale: Callable[[Array], Posterior]
    multiplies: bool


POSTERIORS: dict[str, Family] = {
    "gaussian": Family(Gaussian.from_outputs, Gaussian.with_scale, multiplies=True),
    "laplace": Family(Laplace.from_outputs, Laplace.with_scale, multiplies=False),
}
