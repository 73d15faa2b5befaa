"""What a model is measured on."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from mmvae_jax.errors import UserError, check_choice
from mmvae_jax.evaluation.annealing import Annealing
from mmvae_jax.evaluation.classifiers import ClassifierSettings
from mmvae_jax.evaluation.samplers import SAMPLERS

Estimator = Literal["importance", "ais"]


@dataclass(frozen=True)
class EvaluationSettings:
    """What a model is measured on.

    Attributes:
      log_likelihood_samples: K, importance samples (15 in the MoPoE paper, 1000 for real estimates).
      log_likelihood_examples: test tuples whose log-likelihood is estimated; None: all.
      test_examples: test tuples for the probe and for coherence; None: all.
      probe_train_examples: training tuples that the linear probe is fitted on.
      joint_samples: unconditional draws for joint coherence.
      classifier: how the classifiers that judge coherence are trained.
      sampler: where unconditional draws come from, a key of `SAMPLERS`: prior, or gmm (a mixture of Gaussians fitted
        to posterior draws of training tuples).
      sampler_components: diagonal Gaussians of `gmm`.
      pictures: test pictures of a modality, and as many generated ones, for their Fréchet distance, precision and
        recall, which depend on it: compare models by the same number only.
      inception_weights: file of pytorch-fid's weights of Inception-v3, for FID; without it there is none. Its pictures
        take a GPU: some 11 GFLOP each, 6 `pictures` of a modality for five modalities.
      estimator: of log p(x): importance (sampling, by the model's posteriors), or ais: annealed importance sampling
        from the prior beside it, which costs far more and says how loose the former is.
      ais: how much annealed importance sampling does.
      metrics: what to measure, such as `probe coherence` (all kinds of it) or `log_likelihood/joint`; default all that
        apply to the data set. What a run has measured before is replaced.
    """

    log_likelihood_samples: int = 15
    log_likelihood_examples: int | None = 256
    test_examples: int | None = None
    probe_train_examples: int = 500
    joint_samples: int = 10_000
    classifier: ClassifierSettings = field(default_factory=ClassifierSettings)
    sampler: str = "prior"
    sampler_components: int = 50
    pictures: int = 1000
    inception_weights: str = ""
    estimator: Estimator = "importance"
    ais: Annealing = field(default_factory=Annealing)
    metrics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int) and value < 1:
                raise UserError(f"{name.replace('_', '-')}={value}: give at least 1")
        check_choice(self.sampler, SAMPLERS, "sampler")
        check_choice(self.estimator, get_args(Estimator), "estimator")
