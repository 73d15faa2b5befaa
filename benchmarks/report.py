"""Rows of results as a table, each beside what it must reach. Imports no JAX."""

from typing import Any

from benchmarks.catalogue import Entry

Row = dict[str, Any]
_HEADER = ("benchmark", "median", "min", "max", "peak MiB", "against", "its median", "ratio", "x limit", "target")


def judged(row: Row, entry: Entry) -> Row:
    """The row with its targets: what they are and whether each is met.

    Left out are targets without a measurement, and all where the sizes are not those that the targets are for.
    """
    measured = {
        "ratio": row.get("ratio"),
        "times_limit": row.get("times_limit"),
        "seconds": row["median"],
        "memory_gib": row["peak_mib"] / 1024,
    }
    allowed = {
        "ratio": entry.ratio,
        "times_limit": entry.limit,
        "seconds": entry.seconds,
        "memory_gib": entry.memory_gib,
    }
    targets = {
        name: {"at_most": limit, "met": measured[name] <= limit}
        for name, limit in allowed.items()
        if limit is not None and measured[name] is not None and row["scale"] == "full"
    }
    return {**row, "targets": targets}


def table(rows: list[Row], markdown: bool = False) -> str:
    """Aligned text, or Markdown."""
    lines = [_HEADER, *[_cells(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADER))]
    left = {0, 5, 9}

    def padded(line: tuple[str, ...]) -> list[str]:
        return [
            cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]

    if not markdown:
        return "\n".join("  ".join(padded(line)).rstrip() for line in lines)
    rule = ["-" * w if i in left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [padded(lines[0]), rule, *map(padded, lines[1:])])


def _cells(row: Row) -> tuple[str, ...]:
    name = f"{row['name']}" + ("" if row.get("scale", "full") == "full" else f" ({row['scale']})")
    if "error" in row:
        return (name, "failed", *[""] * 7, row["error"][:60].replace("|", "/"))
    rival = row.get("rival")
    targets = [
        f"{_label(kind, target['at_most'])} {'met' if target['met'] else 'MISSED'}"
        for kind, target in row["targets"].items()
    ]
    return (
        name,
        *(seconds(row[kind]) for kind in ("median", "min", "max")),
        f"{row['peak_mib']:.0f}",
        row.get("against", ""),
        seconds(rival["median"]) if rival else "",
        f"{row['ratio']:.3g}" if rival else "",
        f"{row['times_limit']:.2f}" if "times_limit" in row else "",
        ", ".join(targets),
    )


def _label(kind: str, value: float) -> str:
    return {
        "ratio": f"ratio <= {value:g}",
        "times_limit": f"<= {value:g} x limit",
        "seconds": f"<= {value:g} s",
        "memory_gib": f"<= {value:g} GiB",
    }[kind]


def seconds(value: float) -> str:
    """Three digits and a unit."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e6:.2g} us"
