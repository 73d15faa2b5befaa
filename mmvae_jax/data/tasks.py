"""Tasks: what one modality is to be made into, and the guess without learning that a model must beat."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Bool, Num


@dataclass(frozen=True, eq=False)
class Task:
    """A picture that is to be made of another one, pixel by pixel.

    Attributes:
      given: the modality to make it of.
      target: the modality to make.
      guess: given pictures in 0..1 -> what a model must be closer to the target than.
      counted: the pixels in which the two are compared; None: all.
    """

    given: str
    target: str
    guess: Callable[[Num[Array, "B H W C"]], Num[Array, "B h w c"]]
    counted: Bool[np.ndarray, "h w"] | None = None
