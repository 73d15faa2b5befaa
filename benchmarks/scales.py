"""The sizes at which the benchmarks run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Sizes.

    Attributes:
      batch: of the training step.
      latent: dimension of PolyMNIST's latent space, and width of the encoders' dense layer.
      steps: training steps in one measurement; in full as many as `fit` takes in one dispatch.
      samples: K, importance samples.
      images: tuples whose likelihood one measurement estimates.
      tuples: how many are encoded and decoded under every subset.
      fusion_batch, fusion_latent: of the fusion and modality-scaling benchmarks.
      cap: largest number of modalities, batch size, latent dimension and K actually used by the scaling benchmarks.
      quick: evaluate with a few tuples and barely trained classifiers.
    """

    name: str
    batch: int
    latent: int
    steps: int
    samples: int
    images: int
    tuples: int
    fusion_batch: int
    fusion_latent: int
    cap: int = 10**9
    quick: bool = False

    def capped(self, size: int) -> int:
        """A size of a scaling benchmark, made small where only the code is to be proven."""
        return min(size, self.cap)


SCALES = {
    "full": Scale("full", 256, 512, 25, 1000, 8, 256, 256, 64),
    "tiny": Scale("tiny", 8, 16, 2, 10, 2, 8, 4, 3, cap=4, quick=True),
}
