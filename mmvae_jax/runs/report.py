"""The report of a run: one HTML page that needs nothing beside itself, figures included."""

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from etils import epath

from mmvae_jax.evaluation.measuring import by_size, labelled, metric_of, standard_error, without_errors
from mmvae_jax.evaluation.metrics import METRICS
from mmvae_jax.evaluation.published import Published
from mmvae_jax.runs.folder import flat_settings, write_whole
from mmvae_jax.runs.powerset import POLICY, STYLE, powerset_section

_CAPTIONS = {
    "data": "Test tuples, one a column.",
    "reconstructions": "Test examples above their reconstructions from all modalities.",
    "unconditional": "Unconditional samples; a column shares one latent code.",
    "conditional_1": "Generated from one modality: inputs on top, samples of the posterior below.",
    "translations": "Sentences, what each is told as in the other language, and what it is there.",
    "traversals": "Latent traversals: single dimensions of one tuple's code from -3 to 3, all modalities decoded.",
    "metrics": "Metrics against the number of inputs.",
    "learning_curve": "Metrics after so many epochs.",
}
_STYLE = """
:root { color-scheme: light; --ink: #1f2933; --faint: #616e7c; --line: #e4e7eb; --accent: #2563a8; --warning: #b4361b; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 2.5rem 1.5rem 4rem; color: var(--ink); background: #fff;
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .8rem; padding-bottom: .35rem; border-bottom: 2px solid var(--line); }
p.lead { color: var(--faint); margin: .3rem 0 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .75rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
small { color: var(--faint); font-size: .78em; }
thead th { color: var(--faint); font-weight: 600; border-bottom: 2px solid var(--line); vertical-align: bottom; }
td.self { color: var(--faint); font-style: italic; }
td.text { text-align: left; white-space: normal; overflow-wrap: anywhere; }
figure { margin: 0 0 2rem; }
figure img { max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 6px; padding: .4rem; }
figcaption { color: var(--faint); font-size: .88rem; margin-top: .3rem; }
details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 600; }
.note { color: var(--faint); font-size: .88rem; }
.warning { color: var(--warning); font-weight: 600; }
"""


def write_report(
    folder: epath.PathLike,
    config: Mapping[str, Any],
    metrics: Mapping[str, float],
    figures: Sequence[epath.PathLike],
    versions: Mapping[str, str],
    published: Sequence[Published] = (),
    points: Sequence[Mapping[str, float]] = (),
    powerset: Mapping[str, Any] | None = None,
) -> epath.Path:
    """Write `report.html`: figures inlined, tables of metrics, configuration and versions.

    Args:
      folder: of the run.
      config: as in `config.json`.
      metrics: as in `metrics.json`.
      figures: PNG files, in the order in which they are shown.
      versions: of Python, the libraries and the commit.
      published: numbers of others for this model, which go into the same tables.
      points: of a learning curve, as in `curve.json`.
      powerset: what every subset's posterior generates, as in `powerset.json`.
    """
    folder = epath.Path(folder)
    title = folder.resolve().name
    sections = [
        ("Metrics by number of inputs", _sizes_table(metrics, published)),
        ("Beside published numbers", _published_table(metrics, published)),
        ("Powerset of posteriors", powerset_section(powerset, _by_given(metrics)) if powerset else ""),
        ("Figures", "".join(_figure(epath.Path(path)) for path in figures)),
        ("Learning curve", _curve_table(points)),
        ("Metrics by subset", _subsets_table(metrics)),
        ("Metrics by attribute", _attributes_table(metrics)),
        ("Other metrics", _pairs_table(_others(metrics))),
        ("Configuration", _pairs_table(flat_settings(config))),
        ("Versions", _pairs_table(versions)),
    ]
    # Without JavaScript the powerset stays hidden.
    marks = {"Powerset of posteriors": ' id="powerset" hidden'}
    body = "".join(
        f"<section{marks.get(name, '')}><h2>{name}</h2>{content}</section>" for name, content in sections if content
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<style>{_STYLE}{STYLE}</style></head><body><header><h1>{escape(title)}</h1><p class="lead">'
        f"{escape(_summary(config, metrics))}</p></header>{body}</body></html>\n"
    )
    path = folder / "report.html"
    write_whole(path, page)
    return path


def model_label(config: Mapping[str, Any]) -> str:
    """What a run's model is called: its name among the papers' models, else its fusion."""
    return str(config.get("model_name") or config.get("architecture", {}).get("fusion", "model"))


def _summary(config: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    parts = [f"model {model_label(config)}"]
    parts += [f"{name} {config[name]}" for name in ("preset", "data", "seed") if name in config]
    if "train/steps" in metrics:
        parts.append(f"{metrics['train/steps']:,.0f} steps")
    if "train/seconds" in metrics:
        parts.append(f"{metrics['train/seconds']:,.0f} s of training")
    return " · ".join(parts)


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


def _sizes_table(metrics: Mapping[str, float], published: Sequence[Published]) -> str:
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


def _published_table(metrics: Mapping[str, float], published: Sequence[Published]) -> str:
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


def _curve_table(points: Sequence[Mapping[str, float]]) -> str:
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


def _by_given(metrics: Mapping[str, float]) -> dict[str, dict[str, list[tuple[str, str]]]]:
    """Subset that is given -> target or "" -> titles of metrics and what they are, in words."""
    found: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for (title, target), column in _subset_columns(metrics).items():
        for given, name in column.items():
            value = f"{_number(metrics[name])} {_spread(metrics, name)}".strip()
            found.setdefault(given, {}).setdefault(target, []).append((title, value))
    return found


def _subsets_table(metrics: Mapping[str, float]) -> str:
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
    columns: dict[str, dict[str, str]] = {}
    for prefix, row in METRICS.items():
        for label in labelled(metrics, prefix) if row.by_attribute else ():
            where, _, attribute = label.rpartition("/")
            title = f"{row.title}, {where.replace('->', ' → ')}" if where else row.title
            columns.setdefault(title, {})[attribute] = f"{prefix}/{label}"
    return columns


def _attributes_table(metrics: Mapping[str, float]) -> str:
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


def _others(metrics: Mapping[str, float]) -> dict[str, str]:
    """What is in neither of the other tables."""
    columns = [*_subset_columns(metrics).values(), *_attribute_columns(metrics).values()]
    shown = {name for column in columns for name in column.values()}
    shown |= {f"{prefix}/by_size/{n}" for prefix in METRICS for n in by_size(metrics, prefix)} | METRICS.keys()
    rest = [name for name in without_errors(metrics) if name not in shown]
    return {_called(name): f"{_number(metrics[name])} {_spread(metrics, name)}".strip() for name in rest}


def _called(name: str) -> str:
    """By title and label what is a metric's, as it is what is none's."""
    prefix = metric_of(name)
    if prefix is None:
        return name
    label = name[len(prefix) + 1 :].replace("by_size/", "number of inputs ")
    return f"{METRICS[prefix].title}, {label}" if label else METRICS[prefix].title


def _pairs_table(values: Mapping[str, Any]) -> str:
    if not values:
        return ""
    lines = (
        f'<tr><td>{escape(str(name))}</td><td class="text">{escape(str(value))}</td></tr>'
        for name, value in values.items()
    )
    return f'<div class="scroll"><table><tbody>{"".join(lines)}</tbody></table></div>'


def _figure(path: epath.Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    caption = _CAPTIONS.get(path.stem, path.stem.replace("_", " "))
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
