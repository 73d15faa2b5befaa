"""What `pip install` brings: one package, the experiments in it, and `mmvae`, beside whatever the user has."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
COMMANDS = sorted(path.stem for path in (ROOT / "experiments").glob("[!_]*.py"))


def folder_of(package: str) -> Path:
    return ROOT / SETUPTOOLS["package-dir"].get(package, package.replace(".", "/"))


def test_every_package_folder_is_installed_and_all_below_one_name():
    packages = SETUPTOOLS["packages"]
    there = {path.parent for top in ("mmvae_jax", "experiments") for path in (ROOT / top).rglob("*.py")}
    assert {folder_of(package) for package in packages} == there
    assert all((folder_of(package) / "__init__.py").is_file() for package in packages)
    assert {package.partition(".")[0] for package in packages} == {"mmvae_jax"}
    data = {folder_of(package) / name for package, names in SETUPTOOLS["package-data"].items() for name in names}
    beside = {path for path in (ROOT / "mmvae_jax").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert data == beside


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder of the user's, with a broken package `experiments`; the environment of a process that has the wheel."""
    root = tmp_path_factory.mktemp("installed")
    for package in SETUPTOOLS["packages"]:
        shutil.copytree(folder_of(package), root / "site" / package.replace(".", "/"), dirs_exist_ok=True)
    module, _, function = PROJECT["project"]["scripts"]["mmvae"].partition(":")
    (root / "mmvae").write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    folder = root / "empty"
    (folder / "experiments").mkdir(parents=True)
    (folder / "experiments" / "__init__.py").write_text("")
    (folder / "experiments" / "polymnist.py").write_text("raise RuntimeError('the wrong experiments')")
    shutil.copy(ROOT / "tests" / "runs" / "own_experiment.py", folder / "my_experiment.py")
    # A repository of the user's around it all, whose commit is not this package's.
    git = ["git", "-C", str(root), "-c", "user.name=me", "-c", "user.email=me"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message=mine"], check=True)
    return folder, os.environ | {"PYTHONPATH": str(root / "site"), "JAX_PLATFORMS": "cpu"}


def call(installed: tuple[Path, dict[str, str]], *arguments: str) -> subprocess.CompletedProcess[str]:
    folder, environment = installed
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def test_help_lists_every_command(installed):
    process = call(installed, "../mmvae", "--help")
    assert process.returncode == 0
    assert process.stdout.startswith("usage: mmvae ")
    named = {line.split()[0]: line.split()[1:] for line in process.stdout.splitlines() if line.startswith("  ")}
    assert sorted(named) == COMMANDS and all(named.values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["../mmvae", "nope"], "unknown command 'nope': choose one of baselines, "),
        (["../mmvae"], "no command: choose one of baselines, "),
        (["../mmvae", "polymnist", "--nope"], "(see mmvae polymnist --help)"),
        (["../mmvae", "compare"], "(see mmvae compare --help)"),
        (["my_experiment.py", "--nope"], "my_experiment.py --help)"),
    ],
)
def test_mistakes_take_one_line_that_names_the_command(installed, arguments, said):
    process = call(installed, *arguments)
    assert process.returncode == 2 and process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert line.startswith("error: ") and said in line


def test_a_mistake_does_not_wait_for_what_only_evaluations_import(installed):
    imported = call(installed, "-X", "importtime", "../mmvae", "polymnist", "--nope").stderr
    assert " mmvae_jax.evaluation.probe\n" in imported and " sklearn\n" not in imported


@pytest.mark.slow
def test_an_experiment_of_ones_own_runs_and_reports_no_commit_of_another_repository(installed):
    process = call(installed, "my_experiment.py", "--cache=cache")
    assert process.returncode == 0, process.stderr
    page = (installed[0] / "runs" / "views" / "mopoe-seed0" / "report.html").read_text()
    assert "<td>jax</td>" in page and "<td>commit</td>" not in page
    compared = call(installed, "../mmvae", "compare", "runs/views/mopoe-seed0")
    assert compared.returncode == 0 and "mopoe" in compared.stdout
