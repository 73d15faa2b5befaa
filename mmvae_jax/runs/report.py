"""The report of a run: one HTML page that needs nothing beside itself, figures included."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from etils import epath

from mmvae_jax.evaluation.published import Published
from mmvae_jax.runs.folder import flat_settings, write_whole
from mmvae_jax.runs.powerset import POLICY, STYLE, powerset_section
from mmvae_jax.runs.tables import (
    attributes_table,
    by_given,
    curve_table,
    other_metrics,
    pairs_table,
    published_table,
    sizes_table,
    subsets_table,
)

_CAPTIONS = {
    "data": "Test tuples, one a column.",
    "reconstructions": "Test examples above their reconstructions from all modalities.",
    "unconditional": "Unconditional samples; a column shares one latent code.",
    "conditional_1": "Generated from one modality: inputs on top, samples of the posterior below.",
    "translations": "Sentences, what each is told as in the other language, and what it is there.",
    "traversals": "Latent traversals: single dimensions of one tuple's code from -3 to 3, all modalities decoded.",
    "metrics": "Metrics against the number of inputs.",
    "learning_curve": "Metrics after so many epochs.",
    "loss": "The loss in training and its parts.",
}
_STYLE = files("mmvae_jax.runs").joinpath("report.css").read_text(encoding="utf-8")


def write_report(
    folder: epath.PathLike,
    config: Mapping[str, Any],
    metrics: Mapping[str, float],
    figures: Sequence[epath.PathLike],
    versions: Mapping[str, str],
    published: Sequence[Published] = (),
    points: Sequence[Mapping[str, float]] = (),
    powerset: Mapping[str, Any] | None = None,
    experiment: str = "",
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
      experiment: names the page, with the folder.
    """
    folder = epath.Path(folder)
    title = ": ".join(filter(None, (experiment, folder.resolve().name)))
    sections = [
        ("Metrics by number of inputs", sizes_table(metrics, published)),
        ("Beside published numbers", published_table(metrics, published)),
        ("Powerset of posteriors", powerset_section(powerset, by_given(metrics)) if powerset else ""),
        ("Figures", "".join(_figure(epath.Path(path)) for path in figures)),
        ("Learning curve", curve_table(points)),
        ("Metrics by subset", subsets_table(metrics)),
        ("Metrics by attribute", attributes_table(metrics)),
        ("Other metrics", pairs_table(other_metrics(metrics))),
        ("Configuration", pairs_table(flat_settings(config))),
        ("Versions", pairs_table(versions)),
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


def _figure(path: epath.Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    caption = _CAPTIONS.get(path.stem, path.stem.replace("_", " "))
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
