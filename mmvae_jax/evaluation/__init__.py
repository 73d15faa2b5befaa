"""Everything that a trained model is measured by: `evaluate` computes the metrics of the table `METRICS`."""

from mmvae_jax.evaluation.classifiers import ClassifierSettings
from mmvae_jax.evaluation.comparison import SPREAD, compare
from mmvae_jax.evaluation.context import Context, evaluated_subsets
from mmvae_jax.evaluation.measuring import Metrics, evaluate, measure
from mmvae_jax.evaluation.metrics import METRICS, Metric, chosen_metrics
from mmvae_jax.evaluation.samplers import SAMPLERS, Sampler
from mmvae_jax.evaluation.settings import EvaluationSettings

__all__ = [
    "METRICS",
    "SAMPLERS",
    "SPREAD",
    "ClassifierSettings",
    "Context",
    "EvaluationSettings",
    "Metric",
    "Metrics",
    "Sampler",
    "chosen_metrics",
    "compare",
    "evaluate",
    "evaluated_subsets",
    "measure",
]
