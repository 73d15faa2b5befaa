"""Arrays and models of the library are measured and compared without a run folder."""

import jax
import numpy as np
import pytest

from mmvae_jax import UserError
from mmvae_jax.data.batching import Dataset, fixed_split
from mmvae_jax.evaluation import Context, EvaluationSettings, compare, evaluate, measure
from mmvae_jax.evaluation.comparison import estimate
from tests import toy

KINDS = ("normal", "laplace")
MODEL = toy.model("poe", KINDS)
KEY = jax.random.key(0)
DATA = toy.data(KINDS, 40)
SETTINGS = EvaluationSettings(log_likelihood_samples=3)


@pytest.fixture(scope="module")
def metrics() -> dict[str, float]:
    return evaluate(MODEL, MODEL.init(KEY), DATA, KEY, SETTINGS, report=lambda line: None)


def test_arrays_are_measured_as_the_data_set_that_they_are(metrics: dict[str, float]):
    split = fixed_split(DATA, np.full(40, -1))
    same = Dataset("same", KINDS, split, split, 0)
    assert evaluate(MODEL, MODEL.init(KEY), same, KEY, SETTINGS, report=lambda line: None) == metrics
    assert metrics["standard_error/log_likelihood/joint/normal+laplace"] > 0
    assert not any(name.startswith("probe") for name in metrics)
    with pytest.raises(UserError, match="unknown modality 'sound'"):
        evaluate(MODEL, MODEL.init(KEY), {"sound": DATA["normal"]}, KEY)


def test_models_are_compared_by_what_was_measured(metrics: dict[str, float]):
    name = "log_likelihood/joint/normal+laplace"
    better = metrics | {name: metrics[name] + 1}
    everything = compare({"one": metrics, "two": [metrics, better]})
    assert everything.splitlines()[0].split() == ["|", "|", "one", "|", "two", "|"]
    assert "Joint log-likelihood, normal+laplace" in everything
    *_, first, second = compare({"one": metrics, "two": [metrics, better]}, [name]).splitlines()
    assert first.split("|")[1].strip() == "two" and second.split("|")[1].strip() == "one"
    assert second.split("|")[2].strip() == estimate([metrics], name)
    assert f"± {np.std([0, 1], ddof=1):.3f}" in first or f"± {np.std([0, 1], ddof=1):.1f}" in first


def test_arrays_with_labels_are_a_data_set(tmp_path):
    labels = np.arange(40) % 3
    dataset = Dataset.of(DATA, DATA, labels, labels)
    assert dataset.num_classes == 3 and dataset.modalities == KINDS
    context = Context(MODEL, MODEL.init(KEY), dataset, KEY, SETTINGS, tmp_path, lambda line: None)
    found = measure(context, ("probe",))
    assert 0 <= found["probe/normal"] <= 1 and "standard_error/probe/normal" in found


@pytest.mark.parametrize(
    ("test", "labels", "message"),
    [
        ({"normal": DATA["normal"]}, np.zeros(40, int), "training data of normal, laplace, test data of normal: give the"),
        (DATA, np.zeros(40), "labels of type float64"),
        (DATA, np.zeros((40, 1), int), r"labels of type int64 and shape \(40, 1\)"),
        (DATA, np.arange(40), "a test tuple of class 1 and no training tuple"),
        (DATA, np.full(40, -1), "give an integer from 0 on a tuple"),
        (DATA, np.zeros(39, int), "with 39 labels: give each as many rows as labels"),
    ],
)  # fmt: skip
def test_mistakes_are_told(test, labels, message):
    with pytest.raises(UserError, match=message):
        Dataset.of(DATA, test, np.zeros(40, int), labels)
