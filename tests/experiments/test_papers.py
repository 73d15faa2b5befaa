"""Every command of docs/papers.md is one that its experiment takes."""

import importlib
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from mmvae_jax.objectives import check
from mmvae_jax.runs.config import parse
from mmvae_jax.runs.sweep import planned
from mmvae_jax.zoo import MODELS
from tests import toy

TWO = toy.model("poe", ("normal", "label")).modalities
ROOT = Path(__file__).parents[2]
CELLS = [line.split("|")[2] for line in (ROOT / "docs" / "papers.md").read_text().splitlines() if line.startswith("| ")]
COMMANDS = [text for cell in CELLS for text in cell.split("`")[1::2] if " --" in text and not text.startswith("--")]


def test_there_are_commands_of_all_experiments_of_the_papers():
    experiments = {"polymnist", "mnist_split", "mnist_svhn", "mnist_svhn_text", "multimnist"}
    experiments |= {"mnist_label", "binary_mnist_label", "fashion_label", "cub_captions", "translation"}
    experiments |= {"celeba_vision", "celeba_text", "celeba_attributes"}
    assert {text.removeprefix("sweep ").split()[0] for text in COMMANDS} - {"baselines"} == experiments


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_taken_as_it_stands(command):
    program, *words = shlex.split(command)
    if program == "baselines":
        assert hasattr(importlib.import_module(f"experiments.{words[0]}"), "EXPERIMENT")
        return
    swept = {}
    if program == "sweep":
        program, cut = words.pop(0), words.index("--") if "--" in words else len(words)
        lists = [word.removeprefix("--").split("=") for word in words[:cut] if not word.startswith("--seeds=")]
        swept, words = {flag: values.split(",") for flag, values in lists}, words[cut + 1 :]
    experiment = importlib.import_module(f"experiments.{program}").EXPERIMENT
    common = [word for word in words if word != "--model=MODEL"]
    runs = [common]
    if swept:
        plan = planned({"seed": ["0"], **swept}, common, ["python"], experiment, Path("unused"))
        assert len(plan) >= 2 and set(swept.get("model", ["mvae"])) <= MODELS.keys()
        runs = [[*common, *(f"--{flag}={value}" for flag, value in values.items())] for _, values in plan]
    for flags in runs:
        config = parse(experiment.presets, program, flags)
        assert config.preset in experiment.presets
        check(replace(config.architecture, modalities=TWO), config.training.objective, config.training.options)
