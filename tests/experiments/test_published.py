"""Published numbers belong to models and metrics that there are, and to runs with the settings that they were made with."""

import importlib
from pathlib import Path

import pytest

import experiments
from mmvae_jax.baselines import BASELINES
from mmvae_jax.evaluation.measuring import by_size, metric_of
from mmvae_jax.evaluation.metrics import METRICS
from mmvae_jax.evaluation.published import by_inputs, by_supervision, comparable
from mmvae_jax.runs.config import parse, to_record
from mmvae_jax.runs.folder import flat_settings
from mmvae_jax.zoo import MODELS

MODULES = [
    importlib.import_module(f"experiments.{path.stem}") for path in Path(experiments.__path__[0]).glob("[!_]*.py")
]
EXPERIMENTS = [module.EXPERIMENT for module in MODULES if hasattr(module, "EXPERIMENT")]
# Drawn here: no paper has numbers on these data; and what papers show in curves alone.
WITHOUT_NUMBERS = {"shape_captions", "cub_captions", "translation", "celeba_vision"}


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_every_published_number_has_a_model_and_a_metric_and_one_place(experiment):
    published, config = experiment.published, experiment.presets["paper"]
    assert bool(published) == (experiment.name not in WITHOUT_NUMBERS)
    assert {each.model for each in published} <= MODELS.keys() | BASELINES.keys()
    for each in published:
        assert each.metrics and each.settings
        assert each.given.keys() <= flat_settings(to_record(config)).keys()
        for name, value in each.metrics.items():
            row = METRICS[metric_of(name)]
            assert 0 < value <= 1 if row.fraction else abs(value) > 1
    assert len({(each.model, each.source, *each.metrics) for each in published}) == len(published)


@pytest.mark.parametrize(
    ("name", "model", "needed", "otherwise"),
    [
        ("mnist_svhn_text", "mopoe", [], ["--supervision=0.1"]),
        ("mnist_svhn_text", "mopoe_powerset", ["--beta=2.5"], []),
        ("mnist_svhn", "mmvae", ["--preset=paper_mmvae"], ["--preset=paper"]),
        ("fashion_label", "jmvae", ["--alpha=0.01"], []),
        ("celeba_attributes", "jmvae", ["--alpha=0.01"], []),
        ("celeba_attributes", "mvae", ["--preset=paper_19"], ["--preset=paper_19", "--random-subsets=2"]),
    ],
)
def test_numbers_are_held_against_runs_of_the_papers_settings(name, model, needed, otherwise):
    (experiment,) = [each for each in EXPERIMENTS if each.name == name]

    def found(flags):
        settings = flat_settings(to_record(parse(experiment.presets, "test", [f"--model={model}", *flags])))
        return comparable(experiment.published, model, settings)

    assert found(needed) and not found(otherwise)


def test_numbers_are_found_by_their_inputs():
    (polymnist,) = [each for each in EXPERIMENTS if each.name == "polymnist"]
    (paper,) = [each for each in polymnist.published if (each.model, each.source) == ("mopoe", "MVTCAE paper")]
    assert by_size(paper.metrics, "probe") == {1: 0.82, 2: 0.905, 3: 0.93, 4: 0.94, 5: 0.95}
    assert by_size(by_inputs("coherence/conditional", 0.5, 0.75), "coherence/conditional") == {1: 0.5, 2: 0.75}


def test_numbers_are_held_against_runs_of_the_same_supervision():
    published = by_supervision("mvae", "Somebody", "synergy/top", {0.05: 0.4, 1.0: 0.5})
    (found,) = comparable(published, "mvae", {"own.supervision": 0.05, "seed": 3})
    assert (found.source, found.metrics) == ("Somebody, 5 % pairs", {"synergy/top": 0.4})
    assert comparable(published, "mvae", {"own.supervision": 0.1}) == comparable(published, "poe", {}) == []
