"""The tables of a report: metrics of a run, alone and beside published numbers, as HTML."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from mmvae_jax.evaluation.measuring import (
    arrows,
    by_attribute,
    by_size,
    labelled,
    metric_of,
    standard_error,
    without_errors,
)
from mmvae_jax.evaluation.metrics import METRICS
from mmvae_jax.evaluation.published import Published


def _number(value: float) -> str:
    """Four significant digits and no exponent: enough for fractions and for nats."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) >= 1 else f"{value:.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are HTML already."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    lines = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


def _spread(metrics: Mapping[str, float], name: str) -> str:
    """The standard error of a metric, where it is known."""
    error = standard_error(metrics, name)
    return "" if error is None else f"± {_number(error)}"


def _in_words(metrics: Mapping[str, float], name: str) -> str:
    """A metric with its standard error, without markup."""
    return f"{_number(metrics[name])} {_spread(metrics, name)}".strip()


def _estimate(metrics: Mapping[str, float], name: str | None) -> str:
    if name is None:
        return ""
    spread = _spread(metrics, name)
    return _number(metrics[name]) + (f" <small>{spread}</small>" if spread else "")


def _cell(metrics: Mapping[str, float], name: str | None, own: bool = False) -> str:
    """A metric; fractions are shaded by their size."""
    row, shade = METRICS.get(metric_of(name or "") or ""), ""
    if name is not None and row is not None and row.fraction and math.isfinite(metrics[name]):
        shade = f' style="background: rgba(37, 99, 168, {0.32 * min(max(metrics[name], 0), 1):.3f})"'
    kind = ' class="self"' if own else ""
    return f"<td{kind}{shade}>{_estimate(metrics, name)}</td>"


def sizes_table(metrics: Mapping[str, float], published: Sequence[Published]) -> str:
    """Means by number of inputs, then what is a single number; what there is to say of it, what others report."""
    curves = {prefix: sizes for prefix in METRICS if (sizes := by_size(metrics, prefix))}
    sizes = sorted(set().union(*curves.values()))
    rows = []
    for prefix, curve in curves.items():
        names = [f"{prefix}/by_size/{n}" if n in curve else None for n in sizes]
        rows.append([f"<td>{escape(METRICS[prefix].title)}</td>", *(_cell(metrics, name) for name in names)])
        rows += [_published_row(each, prefix, sizes) for each in published if _reported(each, prefix)]
    table = _table(["", *(f"{n} input{'s' * (n > 1)}" for n in sizes)], rows) if rows else ""
    numbers = "".join(_sentence(metrics, prefix, published) for prefix in METRICS if prefix in metrics)
    errors = any(standard_error(metrics, name) is not None for name in metrics)
    note = '<p class="note">±: standard error over the examples that this run was measured on.</p>' if errors else ""
    return table + numbers + note + "".join(map(_settings_note, published))


def _reported(published: Published, prefix: str) -> bool:
    return prefix in map(metric_of, published.metrics)


def _published_row(published: Published, prefix: str, sizes: Sequence[int]) -> list[str]:
    found, mean = by_size(published.metrics, prefix), published.metrics.get(prefix)
    source = published.source if mean is None else f"{published.source}: {_number(mean)} on average"
    cells = (f'<td class="self">{_number(found[n]) if n in found else ""}</td>' for n in sizes)
    return [f'<td class="self">{escape(source)}</td>', *cells]


def published_table(metrics: Mapping[str, float], published: Sequence[Published]) -> str:
    """What others report by subset or modality, one column a source; what is known by number stands elsewhere."""
    names = dict.fromkeys(name for each in published for name in each.metrics)
    shown = [name for name in names if name not in METRICS and "/by_size/" not in name]
    sources = [each for each in published if any(name in each.metrics for name in shown)]
    rows = []
    for name in shown:
        theirs = (_number(each.metrics[name]) if name in each.metrics else "" for each in sources)
        own = _cell(metrics, name if name in metrics else None)
        rows.append([f"<td>{escape(_called(name))}</td>", own, *(f'<td class="self">{each}</td>' for each in theirs)])
    return _table(["", "here", *(escape(each.source) for each in sources)], rows) if rows else ""


def _settings_note(published: Published) -> str:
    return f'<p class="note">{escape(published.source)}: {escape(published.settings or "settings not known")}.</p>'


def _sentence(metrics: Mapping[str, float], prefix: str, published: Sequence[Published]) -> str:
    row = METRICS[prefix]
    remark = row.remark(metrics[prefix])
    warning = f'; <span class="warning">{escape(remark)}</span>' if remark else ""
    others = "".join(
        f"; {escape(each.source)}: {_number(each.metrics[prefix])}" for each in published if prefix in each.metrics
    )
    return f"<p>{escape(row.title)}: <b>{_estimate(metrics, prefix)}</b> ({escape(row.unit)}){others}{warning}</p>"


def curve_table(points: Sequence[Mapping[str, float]]) -> str:
    """One column a checkpoint; by number of inputs what is known by it, else by label."""
    names = dict.fromkeys(name for point in points for name in without_errors(point) if metric_of(name))
    sized = {metric_of(name) for name in names if "/by_size/" in name}
    shown = [name for name in names if "/by_size/" in name or metric_of(name) not in sized]
    if not shown:
        return ""
    heads = [f"{_number(point['train/epochs'])} epochs" for point in points]
    rows = [
        [f"<td>{escape(_called(name))}</td>", *(_cell(point, name if name in point else None) for point in points)]
        for name in shown
    ]
    return _table(["", *heads], rows)


def _subset_columns(metrics: Mapping[str, float]) -> dict[tuple[str, str], dict[str, str]]:
    """(Title, target or "") -> subset that is given -> name of the metric; of metrics that are given by subset.

    Metrics of one family, such as both kinds of coherence, share the columns of their targets.
    """
    columns: dict[tuple[str, str], dict[str, str]] = {}
    for prefix, row in METRICS.items():
        for label in labelled(metrics, prefix) if row.by_subset or row.by_size else ():
            given, _, target = label.partition("->")
            family = row.family or prefix.partition("/")[0]
            title = family[:1].upper() + family[1:] if target else row.title
            columns.setdefault((title, target), {})[given] = f"{prefix}/{label}"
    return columns


def by_given(metrics: Mapping[str, float]) -> dict[str, dict[str, list[tuple[str, str]]]]:
    """Subset that is given -> target or "" -> titles of metrics and what they are, in words."""
    found: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for (title, target), column in _subset_columns(metrics).items():
        for given, name in column.items():
            found.setdefault(given, {}).setdefault(target, []).append((title, _in_words(metrics, name)))
    return found


def subsets_table(metrics: Mapping[str, float]) -> str:
    """One row a subset that is given."""
    columns = _subset_columns(metrics)
    subsets = list(dict.fromkeys(given for column in columns.values() for given in column))
    titles = list(dict.fromkeys(title for title, _ in columns))
    # Targets in the order of the modalities, which is that of the subsets of one.
    order = sorted(columns, key=lambda head: (titles.index(head[0]), [*subsets, *head].index(head[1])))
    if not subsets:
        return ""
    rows = [
        [
            f"<td>{escape(given)}</td>",
            *(_cell(metrics, columns[head].get(given), own=head[1] in given.split("+")) for head in order),
        ]
        for given in subsets
    ]
    heads = [escape(f"{title} → {target}" if target else title) for title, target in order]
    note = '<p class="note">→: what is generated; in italics where the target itself is given.</p>'
    return _table(["given", *heads], rows) + _remarks(metrics) + note


def _attribute_columns(metrics: Mapping[str, float]) -> dict[str, dict[str, str]]:
    """Title -> attribute -> name of the metric; of metrics of single attributes."""
    return {
        f"{row.title}, {arrows(given)}" if given else row.title: names
        for prefix, row in METRICS.items()
        for given, names in by_attribute(metrics, prefix).items()
    }


def attributes_table(metrics: Mapping[str, float]) -> str:
    """One row an attribute."""
    columns = _attribute_columns(metrics)
    attributes = list(dict.fromkeys(attribute for column in columns.values() for attribute in column))
    rows = [
        [f"<td>{escape(attribute)}</td>", *(_cell(metrics, column.get(attribute)) for column in columns.values())]
        for attribute in attributes
    ]
    return _table(["attribute", *map(escape, columns)], rows) if rows else ""


def _remarks(metrics: Mapping[str, float]) -> str:
    """What there is to say of metrics, each with the labels of which it is said."""
    lines = []
    for prefix, row in METRICS.items():
        means = {label: mean for label, mean in labelled(metrics, prefix).items() if label}
        said: dict[str, list[str]] = {}
        for label, mean in means.items():
            said.setdefault(row.remark(mean), []).append(label)
        for remark, labels in said.items():
            where = "whatever is given" if len(labels) == len(means) else f"given {', '.join(labels)}"
            lines += [f"{remark} ({where})"] if remark else []
    return "".join(f'<p class="warning">{escape(line)}</p>' for line in lines)


def other_metrics(metrics: Mapping[str, float]) -> dict[str, str]:
    """What is in neither of the other tables."""
    columns = [*_subset_columns(metrics).values(), *_attribute_columns(metrics).values()]
    shown = {name for column in columns for name in column.values()}
    shown |= {f"{prefix}/by_size/{n}" for prefix in METRICS for n in by_size(metrics, prefix)} | METRICS.keys()
    rest = [name for name in without_errors(metrics) if name not in shown]
    return {_called(name): _in_words(metrics, name) for name in rest}


def _called(name: str) -> str:
    """By title and label what is a metric's, as it is what is none's."""
    prefix = metric_of(name)
    if prefix is None:
        return name
    label = name[len(prefix) + 1 :].replace("by_size/", "number of inputs ")
    return f"{METRICS[prefix].title}, {label}" if label else METRICS[prefix].title


def pairs_table(values: Mapping[str, Any]) -> str:
    """One row a name and its value, such as a setting's."""
    if not values:
        return ""
    lines = (
        f'<tr><td>{escape(str(name))}</td><td class="text">{escape(str(value))}</td></tr>'
        for name, value in values.items()
    )
    return f'<div class="scroll"><table><tbody>{"".join(lines)}</tbody></table></div>'
