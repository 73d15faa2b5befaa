"""Programs compiled for pods as tables and a picture: how well they scale, by what the chips are said to do."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

Row = dict[str, Any]
# Tuples a chip in weak scaling; tuples of a step in strong scaling, by the size of the model.
WEAK = 16
STRONG = {"paper": 256, "large": 2048}
_SCALED = "v5e"
_STEPS = ("slice", "model", "tuples a chip", "split over", "GFLOP", "HBM GB", "memory GiB", "exchanged in a step")
_TIMES = ("on chip ms", "exchange ms", "step ms", "weak", "strong")
_EVALUATIONS = ("slice", "program", "GFLOP", "HBM GB", "memory GiB", "exchanged", "on chip ms", "exchange ms")


def tables(rows: Sequence[Row]) -> str:
    """All programs as Markdown: training steps, then evaluations."""
    steps = [row for row in rows if row["program"] == "training step"]
    rest = [row for row in rows if row["program"] != "training step"]
    found = [_table((*_STEPS, *_TIMES), [_step(row, steps) for row in steps])] if steps else []
    found += [_table(_EVALUATIONS, [_evaluation(row) for row in rest])] if rest else []
    return "\n\n".join(found)


def efficiency(row: Row, rows: Sequence[Row], kind: str) -> float | None:
    """Tuples a second and chip, relative to the smallest slice of the same scaling; None where the row is not of it."""
    members = [each for each in rows if "error" not in each and _scales(each, kind) and each["size"] == row["size"]]
    if row not in members:
        return None
    rates = {each["chips"]: each["per_chip"] / each["predicted"]["seconds"] for each in members}
    return rates[row["chips"]] / rates[min(rates)]


def _scales(row: Row, kind: str) -> bool:
    """Whether a row is part of weak or of strong scaling, which one kind of chip shows."""
    if not row["topology"].startswith(f"{_SCALED}:") or (row["size"] == "large" and row["model_parallel"] == 1):
        return False
    return row["per_chip"] == WEAK if kind == "weak" else row["per_chip"] * row["chips"] == STRONG[row["size"]]


def draw(rows: Sequence[Row], path: Path) -> None:
    """Weak and strong scaling, and what a step's seconds go to."""
    steps = [row for row in rows if row["program"] == "training step" and "error" not in row]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    styles = {"weak": "-", "strong": "--"}
    for color, size in zip(("C0", "C1"), STRONG, strict=True):
        for kind, style in styles.items():
            mine = sorted(
                (row for row in steps if row["size"] == size and _scales(row, kind)), key=lambda r: r["chips"]
            )
            if not mine:
                continue
            chips = [row["chips"] for row in mine]
            label = f"{size}, {kind}"
            left.plot(
                chips, [1e3 * row["predicted"]["seconds"] for row in mine], style, color=color, marker="o", label=label
            )
            values = [efficiency(row, steps, kind) for row in mine]
            right.plot(chips, values, style, color=color, marker="o", label=label)
    left.set(xscale="log", yscale="log", xlabel=f"{_SCALED} chips", ylabel="ms a step, predicted")
    right.set(xscale="log", xlabel=f"{_SCALED} chips", ylabel="efficiency, predicted", ylim=(0, 1.05))
    sizes = sorted({row["chips"] for row in steps if row["topology"].startswith(f"{_SCALED}:")})
    for axes in (left, right):
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle("Compiled and predicted, not run")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _step(row: Row, rows: Sequence[Row]) -> list[str]:
    about = [row["topology"], row["size"], str(row["per_chip"]), str(row["model_parallel"])]
    if "error" in row:
        return [*about, *[""] * 3, row["error"][:80], *[""] * len(_TIMES)]
    scaled = [efficiency(row, rows, kind) for kind in ("weak", "strong")]
    shares = ["" if value is None else f"{value:.0%}" for value in scaled]
    return [*about, *_amounts(row), *_milliseconds(row, "on_chip", "exchange", "seconds"), *shares]


def _evaluation(row: Row) -> list[str]:
    about = [row["topology"], row["program"]]
    if "error" in row:
        return [*about, *[""] * 3, row["error"][:80], "", ""]
    return [*about, *_amounts(row), *_milliseconds(row, "on_chip", "exchange")]


def _amounts(row: Row) -> list[str]:
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for each in row["collectives"]:
        counts[each["kind"]] += each["times"]
        sizes[each["kind"]] += each["times"] * each["size"]
    exchanged = ", ".join(f"{count} {kind} {_bytes(sizes[kind])}" for kind, count in counts.items())
    return [
        f"{row['flops'] / 1e9:.3g}",
        f"{row['hbm_bytes'] / 1e9:.3g}",
        f"{row['memory_bytes'] / 2**30:.3g}",
        exchanged or "nothing",
    ]


def _bytes(size: float) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"


def _milliseconds(row: Row, *names: str) -> list[str]:
    return [f"{1e3 * row['predicted'][name]:.3g}" for name in names]


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---" if name in ("slice", "model", "program") or "exchanged" in name else "---:" for name in header]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *lines))
