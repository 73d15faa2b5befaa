"""Curves are what the metrics say, of one run and of several."""

import numpy as np
import pytest

from mmvae_jax.evaluation import METRICS, Metric
from mmvae_jax.plotting.curves import metrics_figure


def test_curves_are_the_mean_and_deviation_over_runs():
    def run(shift):
        return {f"probe/by_size/{n}": 0.5 + 0.1 * n + shift for n in (1, 2, 3)} | {"probe/m0": 0.1}

    figure = metrics_figure({"a": [run(-0.1), run(0.1)], "b": [run(0.0)]})
    (axes,) = figure.axes
    first, second = axes.lines
    for line in (first, second):
        np.testing.assert_allclose(np.asarray(line.get_xydata()), [[1, 0.6], [2, 0.7], [3, 0.8]])
    (band,) = axes.collections
    low = np.min(np.asarray(band.get_paths()[0].vertices)[:, 1])
    assert low == pytest.approx(0.6 - np.std([-0.1, 0.1], ddof=1))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_a_lone_run_shows_its_subsets_too():
    metrics = {"coherence/conditional/by_size/1": 0.5, "coherence/conditional/m0->m1": 0.4}
    metrics |= {"coherence/conditional/m0+m2->m1": 0.6}
    (axes,) = metrics_figure({"": [metrics]}).axes
    np.testing.assert_allclose(np.asarray(axes.collections[0].get_offsets()), [[1, 0.4], [2, 0.6]])


def test_every_metric_by_size_is_a_panel_a_users_own_among_them(monkeypatch):
    monkeypatch.setitem(METRICS, "mine", Metric(lambda context: {}, "My metric", "parsecs", by_size=True))
    shown = {prefix: row for prefix, row in METRICS.items() if row.by_size}
    figure = metrics_figure({"": [{f"{prefix}/by_size/{n}": float(n) for prefix in shown for n in (1, 2)}]})
    assert [axes.get_title(loc="left") for axes in figure.axes] == [row.title for row in shown.values()]
    assert figure.axes[-1].get_ylabel() == "parsecs"


def test_a_model_without_a_metric_is_left_out_of_its_panel_only():
    runs = {"a": [{"probe/by_size/1": 0.5}], "b": [{"log_likelihood/joint/by_size/1": -3.0}]}
    figure = metrics_figure(runs)
    assert [[line.get_label() for line in axes.lines] for axes in figure.axes] == [["a"], ["b"]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
