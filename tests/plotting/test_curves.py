"""Curves are what the metrics say, of one run and of several."""

import numpy as np
import pytest

from mmvae_jax.evaluation import METRICS, Metric
from mmvae_jax.evaluation.published import Published, by_inputs
from mmvae_jax.plotting.curves import (
    learning_curve_figure,
    levels_figure,
    loss_figure,
    metrics_figure,
    setting_figure,
    single_figure,
)
from mmvae_jax.plotting.style import save


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
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "standard deviation over runs"]


@pytest.mark.parametrize("label", ["poe", "mopoe (" + ", ".join(f"a_setting {n}" for n in range(20)) + ")"])
def test_the_legend_stays_within_the_figure(label):
    run = {f"probe/by_size/{n}": 0.1 * n for n in (1, 2)}
    figure = metrics_figure({f"{label} {i}": [run, run] for i in range(6)})
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert figure.bbox.containsx(legend.get_window_extent().x0) and figure.bbox.containsx(legend.get_window_extent().x1)


def test_what_a_picture_is_of_stands_above_the_titles_of_its_panels(tmp_path):
    figure = metrics_figure({"": [{f"{prefix}/by_size/1": 0.5 for prefix in METRICS}]})
    save(figure, tmp_path / "metrics.png", "polymnist, mopoe, seed 0")
    titles = [axes.title.get_window_extent().y1 for axes in figure.axes]
    (corner,) = figure.texts
    assert corner.get_text() == "polymnist, mopoe, seed 0" and corner.get_window_extent().y0 > max(titles)


def test_a_lone_run_shows_its_subsets_too():
    metrics = {"coherence/conditional/by_size/1": 0.5, "coherence/conditional/m0->m1": 0.4}
    metrics |= {"coherence/conditional/m0+m2->m1": 0.6}
    (axes,) = metrics_figure({"": [metrics]}).axes
    np.testing.assert_allclose(np.asarray(axes.collections[0].get_offsets()), [[1, 0.4], [2, 0.6]])


@pytest.mark.parametrize("most", [1, 2, 4])
def test_numbers_of_inputs_are_whole(most):
    (axes,) = metrics_figure({"": [{f"probe/by_size/{n}": 0.5 for n in range(1, most + 1)}]}).axes
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == list(range(1, most + 1))


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


PUBLISHED = {
    "b": [Published("b", "a paper", by_inputs("probe", 0.2, 0.3) | {"coherence/joint": 0.25})],
    "c": [Published("c", "another", {"coherence/joint": 0.75})],
}


def points(axes):
    return [np.asarray(line.get_xydata()).tolist() for line in axes.lines if line.get_fillstyle() == "none"]


def test_published_numbers_are_hollow_points_in_their_models_colour():
    runs = {label: [{f"probe/by_size/{n}": 0.5 for n in (1, 2, 3)}] for label in "ab"}
    figure = metrics_figure(runs, PUBLISHED)
    (axes,) = figure.axes
    assert points(axes) == [[[1, 0.2], [2, 0.3]]]
    assert axes.lines[-1].get_color() == axes.lines[1].get_color() != axes.lines[0].get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "a paper"]


def test_a_single_number_has_the_spread_of_its_runs_or_its_own_error():
    runs = {"b": [{"coherence/joint": 0.1}, {"coherence/joint": 0.3}]}
    runs |= {"c": [{"coherence/joint": 0.5, "standard_error/coherence/joint": 0.05}], "d": [{}]}
    figure = single_figure(runs, "coherence/joint", PUBLISHED)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a paper", "another"]
    (axes,) = figure.axes
    (low, high), (low_c, high_c) = (np.asarray(bar.get_segments()[0])[:, 0] for bar in axes.collections)
    deviation = np.std([0.1, 0.3], ddof=1)
    np.testing.assert_allclose([low, high, low_c, high_c], [0.2 - deviation, 0.2 + deviation, 0.45, 0.55])
    assert points(axes) == [[[0.25, 0]], [[0.75, 1]]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "c", "d"]


def test_a_learning_curve_has_a_line_for_every_number_of_inputs_or_label():
    def at(epochs, value):
        values = {"train/epochs": epochs, "probe/by_size/1": value, "probe/by_size/2": 2 * value, "probe/m0": 9.0}
        return values | {"coherence/joint": 3 * value, "standard_error/probe/by_size/1": 0.01}

    probe, joint = learning_curve_figure([at(1, 0.1), at(2.5, 0.2)]).axes
    drawn = [np.asarray(line.get_xydata()).tolist() for line in probe.lines]
    assert drawn == [[[1, 0.1], [2.5, 0.2]], [[1, 0.2], [2.5, 0.4]]]
    np.testing.assert_allclose(np.asarray(joint.lines[0].get_xydata()), [[1, 0.3], [2.5, 0.6]])
    assert [text.get_text() for text in probe.get_legend().get_texts()] == ["1 input", "2 inputs"]
    assert [axes.get_title(loc="left") for axes in (probe, joint)] == [
        METRICS[p].title for p in ("probe", "coherence/joint")
    ]


def test_fractions_of_the_right_class_go_from_0_to_1_with_a_line_at_chance():
    metrics = {"probe/by_size/1": 0.5, "recall/conditional/by_size/1": 0.5, "data/classes": 4}
    for axes in (
        metrics_figure({"": [metrics]}).axes[0],
        learning_curve_figure([{**metrics, "train/epochs": 1}], metrics).axes[0],
    ):
        low, high = axes.get_ylim()
        assert -0.05 < low < 0 and 1 < high < 1.05  # markers at 0 and at 1 are whole
        assert list(axes.lines[-1].get_ydata()) == [0.25, 0.25] and [text.get_text() for text in axes.texts] == [
            "chance"
        ]
    assert metrics_figure({"": [metrics]}).axes[1].get_ylim()[1] < 1
    del metrics["data/classes"]
    (line,) = metrics_figure({"": [metrics]}).axes[0].lines
    assert list(line.get_ydata()) == [0.5]


def test_bands_and_dots_say_what_they_are():
    runs = {
        "a": [{"probe/by_size/1": 0.5, "probe/m0": 0.25}, {"probe/by_size/1": 0.25}],
        "b": [{"probe/by_size/1": 0.5}],
    }
    told = lambda figure: [text.get_text() for text in figure.legends[0].get_texts()]  # noqa: E731
    assert told(metrics_figure(runs)) == ["a", "b", "standard deviation over runs"]
    assert told(metrics_figure({"": [runs["a"][0]]})) == ["one subset"]
    figure = levels_figure({"a": {0.1: [1.0, 2.0]}, "b": {0.1: [1.0]}}, "title", "unit", {("b", 0.1): 0.25})
    assert (
        told(figure) == ["a", "b"] and "bars: standard deviation over runs" in figure.legends[0].get_title().get_text()
    )
    lengths = [np.ptp(bars.get_segments()[0][:, 1]) / 2 for bars in figure.axes[0].collections]
    np.testing.assert_allclose(lengths, [np.std([1.0, 2.0], ddof=1), 0.25])
    (axes,) = single_figure(runs | {"c": [{"coherence/joint": 0.5}]}, "coherence/joint").axes
    assert "bars: standard deviation over runs" in axes.get_xlabel()


def test_metrics_against_a_setting_have_a_panel_for_the_fewest_and_the_most_inputs():
    def run(value, **others):
        return {f"synergy/by_size/{n}": n * value for n in (1, 2, 3)} | {"classifier/m0": 1.0} | others

    curves = {
        "a": {0.1: [run(0.1), run(0.3)], 1.0: [run(0.2, **{"standard_error/synergy/by_size/1": 0.5})]},
        "b": {0.1: [{"coherence/joint": 0.5}]},
    }
    figure = setting_figure(curves, "supervision")
    titles = ["Synergy\n1 input", "Synergy\n3 inputs", "Joint coherence"]
    assert [axes.get_title(loc="left") for axes in figure.axes] == titles
    fewest, most, joint = figure.axes
    for axes, n in ((fewest, 1), (most, 3)):
        np.testing.assert_allclose(axes.lines[0].get_xydata(), [[0.1, 0.2 * n], [1, 0.2 * n]])
        assert axes.get_xscale() == "log" and axes.get_xlabel() == "supervision"
    (bars,) = fewest.collections[:1]
    spread = [np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments()]
    np.testing.assert_allclose(spread, [np.std([0.1, 0.3], ddof=1), 0.5])
    assert [len(line.get_xydata()) for line in joint.lines] == [0, 1]
    assert setting_figure({"a": {0.0: [run(0.1)], 2.0: [run(0.1)]}}, "drop").axes[0].get_xscale() == "linear"
    assert setting_figure({"a": {0.1: [{"classifier/m0": 1.0}]}}, "supervision") is None


def test_metrics_against_a_setting_have_a_panel_for_each_of_a_few_values():
    synergy = {f"synergy/{label}": 0.5 for label in ("top", "bottom", "top+bottom")}
    accuracy = {f"accuracy/image->string{place}": 0.5 for place in ("", *(f"/{i}" for i in range(1, 5)))}
    metrics = {**synergy, "synergy/by_size/1": 0.5, "synergy/by_size/2": 0.5, **accuracy, "classifier/top": 0.5}
    figure = setting_figure({"a": {0.1: [metrics], 0.2: [metrics]}}, "supervision")
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "Accuracy\nimage → string",
        "Synergy\ntop",
        "Synergy\nbottom",
        "Synergy\ntop+bottom",
    ]


def test_the_loss_and_its_parts_are_panels_whose_axes_leave_out_the_start():
    start = {"step": 1, "loss": 1e6, "kl": 0.0, "kl_private": 0.0, "log_likelihood/a": -1.0, "log_likelihood/b": -2.0}
    log = [start | {"beta": 1.0}] + [{**start, "step": 2 + n, "loss": 5.0 + n % 2, "kl": None} for n in range(20)]
    loss, likelihood = loss_figure(log).axes
    assert [axes.get_title(loc="left") for axes in (loss, likelihood)] == ["loss", "log likelihood"]
    assert loss.lines[0].get_xydata()[:2].tolist() == [[1, 1e6], [2, 5]]
    np.testing.assert_allclose(loss.get_ylim(), [4.95, 6.05])
    assert [text.get_text() for text in likelihood.get_legend().get_texts()] == ["a", "b"]
