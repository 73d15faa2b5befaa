"""Scaling as pictures: times against the arithmetic limit, and the speed that is reached under the machine's roof."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

Row = dict[str, Any]
_ROOFLINES = {
    "batch": ("batch", "batch size", "training step"),
    "latent": ("latent", "latent dimension", "training step"),
    "samples": ("samples", "importance samples K", "joint log-likelihood of a tuple"),
}


def draw(rows: list[Row], folder: Path, stem: str) -> list[Path]:
    """The pictures for which there are at least two rows, beside the JSON."""
    figures = {group: _roofline(_group(rows, group), *labels) for group, labels in _ROOFLINES.items()}
    figures |= {"modalities": _modalities(rows), "fusion": _fusion(rows), "seeds": _seeds(rows)}
    paths = []
    for name, figure in figures.items():
        if figure is not None:
            paths.append(folder / f"{stem}-{name}.png")
            figure.savefig(paths[-1], dpi=120)
            plt.close(figure)
    return paths


def _group(rows: list[Row], prefix: str) -> list[Row]:
    return [row for row in rows if row["name"].startswith(f"{prefix}/") and "error" not in row]


def _line(axes: Axes, rows: list[Row], x: str, y: str, label: str, **style: Any) -> None:
    points = sorted((row["notes"][x], row[y]) for row in rows if y in row)
    if points:
        axes.plot(*zip(*points, strict=True), label=label, **style)


def _roofline(rows: list[Row], x: str, label: str, what: str) -> Figure | None:
    if len(rows) < 2:
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    _line(left, rows, x, "median", "measured", marker="o")
    _line(left, rows, x, "limit_seconds", "arithmetic limit", linestyle="--", color="black")
    left.set(xscale="log", yscale="log", xlabel=label, ylabel=f"seconds, {what}")
    speeds = [{**row, "speed": row["flops"] / row["median"] / 1e9} for row in rows]
    _line(right, speeds, x, "speed", "reached", marker="o")
    _line(right, rows, x, "matmul_gflops", "matrix product", linestyle="--", color="black")
    right.set(xscale="log", xlabel=label, ylabel="GFLOP/s", ylim=(0, None))
    sizes = sorted(row["notes"][x] for row in rows)
    for axes in (left, right):
        axes.set_xticks(sizes, [str(size) for size in sizes], minor=False)
        axes.minorticks_off()
        axes.legend()
    return figure


def _modalities(rows: list[Row]) -> Figure | None:
    found = _group(rows, "modalities")
    if len(found) < 2:
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    memory = [{**row, "gib": row["peak_mib"] / 1024} for row in found]
    for kind, label in (("powerset", "every subset"), ("random", "32 random subsets a step")):
        mine = [row for row in memory if f"/{kind}-" in row["name"]]
        _line(left, mine, "modalities", "median", label, marker="o")
        _line(right, mine, "modalities", "gib", label, marker="o")
    _line(left, found, "modalities", "limit_seconds", "arithmetic limit of the networks", linestyle="--", color="black")
    left.set(xlabel="modalities", ylabel="seconds, training step", ylim=(0, None))
    right.set(xlabel="modalities", ylabel="peak memory, GiB", ylim=(0, None))
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _fusion(rows: list[Row]) -> Figure | None:
    found = _group(rows, "fusion")
    if len(found) < 2:
        return None
    figure, axes = plt.subplots(figsize=(5, 3.6), layout="constrained")
    _line(axes, found, "modalities", "median", "mmvae_jax", marker="o")
    rivals = [{**row, "rival_median": row["rival"]["median"]} for row in found if "rival" in row]
    _line(axes, rivals, "modalities", "rival_median", "MultiVae", marker="o")
    axes.set(yscale="log", xlabel="modalities", ylabel="seconds, all posteriors and KLs")
    axes.legend()
    return figure


def _seeds(rows: list[Row]) -> Figure | None:
    found = [row for row in _group(rows, "seeds") if "rival" in row]
    if len(found) < 2:
        return None
    figure, axes = plt.subplots(figsize=(5, 3.6), layout="constrained")
    rates = [{**row, "ours": 1 / row["median"], "theirs": 1 / row["rival"]["median"]} for row in found]
    _line(axes, rates, "seeds", "ours", "one vmap", marker="o")
    _line(axes, rates, "seeds", "theirs", "separate runs", marker="o")
    axes.set(xlabel="seeds", ylabel="steps a second, all seeds together", ylim=(0, None))
    axes.legend()
    return figure
