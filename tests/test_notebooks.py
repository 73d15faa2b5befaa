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


def test_there_are_three_tours():
    assert [path.stem for path in NOTEBOOKS] == ["own_data", "own_fusion_and_objective", "powerset_of_posteriors"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_kept_with_outputs(path):
    errors, count = errors_and_outputs(nbformat.read(path, as_version=4))
    assert not errors and count >= 3


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(FOLDER)}}
    nbclient.NotebookClient(notebook, timeout=None, kernel_name="python3", resources=resources).execute()
    errors, count = errors_and_outputs(notebook)
    assert not errors and count >= 3
