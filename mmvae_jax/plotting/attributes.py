"""What a model knows of single attributes."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from mmvae_jax.evaluation.measuring import arrows, by_attribute, standard_error
from mmvae_jax.evaluation.metrics import METRICS
from mmvae_jax.plotting.style import COLOURS, DPI, FAINT, RULE, label_axes, legend_below, marker

# Of the data, and of our classifiers: no model's.
_FREQUENCY, _READER = "average_precision/frequency", "attributes/reader"
_ROW = 0.2


def attributes_figure(metrics: Mapping[str, float]) -> Figure | None:
    """Metrics of single attributes, a row each, with their standard errors (Sutter et al. 2021, Figures 12 and 13).

    One panel a metric, one colour for what is given. Attributes are in the order of their frequency where it is known,
    which is what average precision is by chance.

    Args:
      metrics: of a run.

    Returns:
      None where no metric is of single attributes.
    """
    shown = [prefix for prefix in METRICS if prefix not in (_FREQUENCY, _READER) and by_attribute(metrics, prefix)]
    if not shown:
        return None
    panels = {prefix: by_attribute(metrics, prefix) for prefix in shown}
    attributes = list(dict.fromkeys(each for panel in panels.values() for names in panel.values() for each in names))
    frequency = {each: metrics[name] for each, name in by_attribute(metrics, _FREQUENCY).get("", {}).items()}
    attributes.sort(key=lambda attribute: frequency.get(attribute, 0.0))
    rows = range(len(attributes))
    size = (2 + 3.2 * len(shown), 1.2 + _ROW * len(attributes))
    figure = Figure(figsize=size, dpi=DPI, facecolor="white", layout="constrained")
    colours = {given: i for i, given in enumerate(dict.fromkeys(given for panel in panels.values() for given in panel))}
    handles = {}
    drawn = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
    for axes, (prefix, panel) in zip(drawn, panels.items(), strict=True):
        for given, names in panel.items():
            at = [i for i in rows if attributes[i] in names]
            values = [metrics[names[attributes[i]]] for i in at]
            errors = [standard_error(metrics, names[attributes[i]]) or 0.0 for i in at]
            colour, symbol = COLOURS[colours[given] % len(COLOURS)], marker(colours[given])[0]
            handles[arrows(given)] = axes.errorbar(
                values, at, xerr=errors, fmt=symbol, color=colour, markersize=4, elinewidth=0.8, alpha=0.85
            )
        if frequency and prefix.startswith("average_precision/"):
            known = [i for i in rows if attributes[i] in frequency]
            chance = [frequency[attributes[i]] for i in known]
            (handles["frequency: chance"],) = axes.plot(chance, known, "|", color=FAINT, markersize=8, zorder=1)
        axes.set_yticks(rows, [attribute.replace("_", " ") for attribute in attributes])
        label_axes(axes, METRICS[prefix].title, "", METRICS[prefix].unit)
        axes.grid(color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_ylim(-0.6, len(attributes) - 0.4)
    legend_below(figure, handles, title="bars: standard errors", title_fontsize=7.5)
    return figure
