"""The notebooks run from top to bottom, and are committed with their outputs."""

from pathlib import Path

import nbclient
import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def errors_and_outputs(notebook) -> tuple[list, int]:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output for output in outputs if output.output_type == "error"], len(outputs)


def test_every_tour_is_on_the_site_and_in_the_readme():
    assert len(NOTEBOOKS) == 5
    for page in ("mkdocs.yml", "README.md"):
        text = (FOLDER.parent / page).read_text()
        assert [path.stem for path in NOTEBOOKS if f"notebooks/{path.name}" not in text] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_kept_with_outputs(path):
    errors, count = errors_and_outputs(nbformat.read(path, as_version=4))
    assert not errors and count >= 3


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=None, kernel_name="python3", resources=resources).execute()
    errors, count = errors_and_outputs(notebook)
    assert not errors and count >= 3
