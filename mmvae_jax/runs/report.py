"""The report of a run: one HTML page that needs nothing beside itself, figures included."""

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from mmvae_jax.plotting import CURVES, by_size
from mmvae_jax.runs.folder import flat_settings, write_whole

_CAPTIONS = {
    "data": "Test tuples, one a column.",
    "reconstructions": "Test examples above their reconstructions from all modalities.",
    "unconditional": "Samples from the prior; a column shares one latent code.",
    "conditional_1": "Generated from one modality: inputs on top, samples of the posterior below.",
    "metrics": "Metrics against the number of inputs.",
}
_STYLE = """
:root { color-scheme: light; --ink: #1f2933; --faint: #616e7c; --line: #e4e7eb; --accent: #2563a8; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 2.5rem 1.5rem 4rem; color: var(--ink); background: #fff;
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .8rem; padding-bottom: .35rem; border-bottom: 2px solid var(--line); }
p.lead { color: var(--faint); margin: .3rem 0 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .75rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { color: var(--faint); font-weight: 600; border-bottom: 2px solid var(--line); vertical-align: bottom; }
td.self { color: var(--faint); font-style: italic; }
td.text { text-align: left; white-space: normal; overflow-wrap: anywhere; }
figure { margin: 0 0 2rem; }
figure img { max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 6px; padding: .4rem; }
figcaption { color: var(--faint); font-size: .88rem; margin-top: .3rem; }
details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 600; }
.note { color: var(--faint); font-size: .88rem; }
"""


def write_report(
    folder: Path | str,
    config: Mapping[str, Any],
    metrics: Mapping[str, float],
    figures: Sequence[Path],
    versions: Mapping[str, str],
    expected: Mapping[str, str] | None = None,
) -> Path:
    """Write `report.html`: figures inlined, tables of metrics, configuration and versions.

    Args:
      folder: of the run.
      config: as in `config.json`.
      metrics: as in `metrics.json`.
      figures: PNG files, in the order in which they are shown.
      versions: of Python, the libraries and the commit.
      expected: published or measured numbers to hold the run's own against, by what they are.
    """
    folder = Path(folder)
    title = folder.resolve().name
    sections = [
        ("Metrics by number of inputs", _sizes_table(metrics)),
        ("Expected", _pairs_table(expected or {})),
        ("Figures", "".join(_figure(Path(path)) for path in figures)),
        ("Metrics by subset", _subsets_table(metrics)),
        ("Other metrics", _pairs_table(_others(metrics))),
        ("Configuration", _pairs_table(flat_settings(config))),
        ("Versions", _pairs_table(versions)),
    ]
    body = "".join(f"<section><h2>{name}</h2>{content}</section>" for name, content in sections if content)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<style>{_STYLE}</style></head><body><header><h1>{escape(title)}</h1><p class="lead">'
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


def _number(value: float | None) -> str:
    """Four significant digits and no exponent: enough for fractions and for nats."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) >= 1 else f"{value:.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are HTML already."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    lines = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


def _cell(value: float | None, fraction: bool = False, own: bool = False) -> str:
    """A number; fractions are shaded by their size."""
    shade = ""
    if fraction and value is not None and math.isfinite(value):
        shade = f' style="background: rgba(37, 99, 168, {0.32 * min(max(value, 0), 1):.3f})"'
    kind = ' class="self"' if own else ""
    return f"<td{kind}{shade}>{_number(value)}</td>"


def _sizes_table(metrics: Mapping[str, float]) -> str:
    curves = {title: by_size(metrics, prefix) for prefix, title, _ in CURVES}
    sizes = sorted(set().union(*curves.values()))
    if not sizes:
        return ""
    rows = [
        [f"<td>{title}</td>", *(_cell(curve.get(n), not title.endswith("likelihood")) for n in sizes)]
        for title, curve in curves.items()
        if curve
    ]
    table = _table(["", *(f"{n} input{'s' * (n > 1)}" for n in sizes)], rows)
    joint = metrics.get("coherence/joint")
    note = "" if joint is None else f"<p>Joint coherence (prior samples): <b>{_number(joint)}</b></p>"
    return table + note


def _subsets_table(metrics: Mapping[str, float]) -> str:
    """One row a subset: probe, log-likelihood, effective sample size and the coherence of every target."""
    prefix = "log_likelihood/joint/"
    labels = [name[len(prefix) :] for name in metrics if name.startswith(prefix) and "by_size" not in name]
    targets = [label for label in labels if "+" not in label]
    if not labels:
        return ""
    rows = []
    for label in labels:
        row = [f"<td>{escape(label)}</td>", _cell(metrics.get(f"probe/{label}"), True)]
        row += [_cell(metrics.get(f"log_likelihood/{kind}/{label}")) for kind in ("joint", "ess")]
        for target in targets:
            own = target in label.split("+")
            value = metrics.get(f"coherence/{'self' if own else 'conditional'}/{label}->{target}")
            row.append(_cell(value, fraction=True, own=own))
        rows.append(row)
    head = ["given", "probe", "log p(X)", "eff. samples", *(f"→ {escape(target)}" for target in targets)]
    note = '<p class="note">→: coherence of what is generated; in italics where the target itself is given.</p>'
    return _table(head, rows) + note


def _others(metrics: Mapping[str, float]) -> dict[str, str]:
    """What is in neither of the other tables."""
    tabulated = ("probe/", "coherence/", "log_likelihood/joint/", "log_likelihood/ess/")
    return {name: _number(value) for name, value in metrics.items() if not name.startswith(tabulated)}


def _pairs_table(values: Mapping[str, Any]) -> str:
    if not values:
        return ""
    lines = (
        f'<tr><td>{escape(str(name))}</td><td class="text">{escape(str(value))}</td></tr>'
        for name, value in values.items()
    )
    return f'<div class="scroll"><table><tbody>{"".join(lines)}</tbody></table></div>'


def _figure(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    caption = _CAPTIONS.get(path.stem, path.stem.replace("_", " "))
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
