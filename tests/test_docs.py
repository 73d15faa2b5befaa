"""The documentation is true: its Python runs as it stands, every model has its page, and every page is in the site."""

import doctest
import importlib
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from mmvae_jax import load
from mmvae_jax.listing import handles_missing
from mmvae_jax.zoo import MODELS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if not path.is_symlink()]


def programs(path: Path) -> str:
    """The Python of a page, its blocks one after another."""
    return "\n".join(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL))


@pytest.mark.slow
def test_the_readmes_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """On data as it describes them."""
    readme = ROOT / "README.md"
    rng = np.random.default_rng(0)
    common = rng.normal(size=(200, 1))
    names = {"blood": common + rng.normal(size=(200, 6)), "gait": common + rng.normal(size=(200, 3))}
    presence = rng.random((200, 2)) < 0.8
    presence[~presence.any(1)] = True
    monkeypatch.chdir(tmp_path)
    found = {**names, "presence": presence}
    exec(compile(programs(readme), str(readme), "exec"), found)
    assert found["gait_from_blood"].shape == (20, 200, 3) and found["nats"].shape == (200,)
    for i, (name, values) in enumerate(names.items()):
        (complete,) = found["complete"][name]
        np.testing.assert_allclose(complete[presence[:, i]], values[presence[:, i]], rtol=1e-6)
    model, params = load("trained")
    assert model == found["model"]
    jax.tree.map(np.testing.assert_array_equal, params, found["state"].params)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [path for path in PAGES if programs(path)], ids=lambda path: str(path.relative_to(DOCS))
)
@pytest.mark.usefixtures("registries")
def test_a_pages_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(programs(page), str(page), "exec"), {})


EXAMPLES = [path for path in sorted((ROOT / "mmvae_jax").rglob("*.py")) if ">>> " in path.read_text()]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_in_docstrings_print_what_they_say(path: Path):
    found = doctest.testmod(importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts)))
    assert found.attempted and not found.failed


def test_every_model_has_a_page_that_names_what_it_is_made_of():
    written = {path.stem: path.read_text() for path in (DOCS / "models").glob("*.md") if path.stem != "index"}
    assert written.keys() == MODELS.keys()
    table = (DOCS / "models" / "index.md").read_text()
    for name, row in MODELS.items():
        assert f"({row.paper}): fusion `{row.fusion}`, objective `{row.objective}`." in written[name]
        missing = "yes" if handles_missing(row) else "no"
        assert (
            f"| [{name}]({name}.md) | `{row.fusion}` | `{row.objective}` | {missing} | {row.network_count(5)} |"
            in table
        )


def test_every_page_is_in_the_site():
    listed = re.findall(r"- (?:\w+: )?(\S+\.(?:md|ipynb))$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    notebooks = {f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert sorted(listed) == sorted(pages | notebooks)
