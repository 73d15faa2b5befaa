"""A command's name as it was typed, and its exit code."""

import sys

import pytest

from mmvae_jax.errors import UserError
from mmvae_jax.runs.command import exit_code, program

PYTHON = "/home/me/.venv/bin/python3"


@pytest.mark.parametrize(
    ("typed", "arguments", "name"),
    [
        (["-m", "experiments.polymnist", "--seed", "1"], ["--seed", "1"], "python3 -m experiments.polymnist"),
        (["-W", "error", "-m", "experiments.compare", "a"], ["a"], "python3 -W error -m experiments.compare"),
        (["here/my_experiment.py"], [], "python3 here/my_experiment.py"),
        (["/home/me/.venv/bin/mmvae", "--help"], ["--help"], "mmvae"),
        (["/home/me/.venv/bin/mmvae", "polymnist", "--seed=1"], ["--seed=1"], "mmvae polymnist"),
        (["-i"], [], "python3 -i"),
        ([], [], "python3"),
    ],
)
def test_a_command_is_called_what_was_typed(typed, arguments, name, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "orig_argv", [PYTHON, *typed])
    monkeypatch.setattr(sys, "argv", ["anything", *arguments])
    assert program() == name


def test_a_mistake_is_one_line_and_other_errors_are_not_hidden(capsys: pytest.CaptureFixture[str]):
    def mistake() -> None:
        raise UserError("beta=-1: give a number of at least 0")

    assert exit_code(mistake) == 2
    assert capsys.readouterr().err == "error: beta=-1: give a number of at least 0\n"
    assert exit_code(lambda: None) == 0
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 / 0)
