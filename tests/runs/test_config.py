"""The command line: its help is written from the registries."""

from collections.abc import Mapping

import pytest

from mmvae_jax.fusion import FUSIONS
from mmvae_jax.objectives import OBJECTIVES
from mmvae_jax.runs.config import parse
from mmvae_jax.zoo import MODELS
from tests.runs.own_experiment import EXPERIMENT


def options(printed: str) -> dict[str, str]:
    """Flag -> all of its help, out of tyro's boxes."""
    boxed = "\n".join(line.strip("│ ") for line in printed.splitlines())
    each = (" ".join(option.split()).partition(" ") for option in boxed.split("\n--"))
    return {flag: about for flag, _, about in each}


@pytest.mark.parametrize(("flag", "registry"), [("model", MODELS), ("fusion", FUSIONS), ("objective", OBJECTIVES)])
def test_help_lists_the_rows_of_a_registry_and_the_users_own(
    flag: str, registry: Mapping, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for added in ("first_of_mine", "second_of_mine"):
        monkeypatch.setitem(registry, added, next(iter(registry.values())))
        with pytest.raises(SystemExit) as end:
            parse(EXPERIMENT.presets, "mine", ["--help"])
        assert not end.value.code
        listed = options(capsys.readouterr().out)[flag].partition("one of ")[2].partition(")")[0]
        assert listed.split(", ") == list(registry)
    assert "first_of_mine" in registry


def test_the_presets_are_the_defaults_and_flags_override_them():
    config = parse(EXPERIMENT.presets, "mine", ["--fusion=moe", "--noise=0.5"])
    assert (config.architecture.fusion, config.own.noise, config.label) == ("moe", 0.5, "moe")
    assert (config.architecture.latent_dim, config.training.steps) == (2, 4)


def test_of_a_flag_given_twice_the_last_counts_and_decides_the_defaults():
    config = parse(EXPERIMENT.presets, "mine", ["--model=poe", "--model", "moe"])
    assert (config.model_name, config.architecture.fusion) == ("moe", "moe")
