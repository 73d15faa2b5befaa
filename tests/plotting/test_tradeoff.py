"""Points are means over seeds, with their deviations, joined model by model."""

import numpy as np

from mmvae_jax.plotting.tradeoff import tradeoff_figure


def run(likelihood: float, coherence: float, joint: float | None = None) -> dict[str, float]:
    metrics = {f"log_likelihood/joint/by_size/{n}": likelihood + n for n in (1, 2)}
    metrics |= {"coherence/conditional/by_size/1": coherence}
    return metrics if joint is None else metrics | {"coherence/joint": joint}


def test_one_point_a_beta_and_one_panel_a_number_of_inputs():
    curves = {
        "poe": {"beta 1": [run(-10.0, 0.25, 0.5), run(-12.0, 0.75, 0.5)], "beta 5": [run(-20.0, 0.875, 0.75)]},
        "moe": {"beta 1": [run(-30.0, 0.125)]},
    }
    figure = tradeoff_figure(curves)
    assert figure is not None
    conditional, joint = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Conditional coherence, 1 input", "Joint coherence"]
    first, second = [line for line in conditional.lines if line.get_label() in curves]
    np.testing.assert_allclose(np.asarray(first.get_xydata()), [[-10, 0.5], [-19, 0.875]])
    np.testing.assert_allclose(np.asarray(second.get_xydata()), [[-29, 0.125]])
    across, up = (np.asarray(bars.get_segments()[0]) for bars in conditional.collections[:2])
    np.testing.assert_allclose(across[:, 0], [-10 - np.sqrt(2), -10 + np.sqrt(2)])
    np.testing.assert_allclose(up[:, 1], [0.5 - np.sqrt(0.125), 0.5 + np.sqrt(0.125)])
    (only,) = [line for line in joint.lines if line.get_label() in curves]
    np.testing.assert_allclose(np.asarray(only.get_xydata()), [[-9, 0.5], [-18, 0.75]])
    assert [text.get_text() for text in conditional.texts] == ["beta 1", "beta 5", "beta 1"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["poe", "moe"]


def test_of_few_modalities_there_is_a_panel_for_what_is_given_and_what_is_generated():
    names = (
        "log_likelihood/joint/a",
        "log_likelihood/joint/b",
        "coherence/conditional/a->b",
        "coherence/conditional/b->a",
    )
    metrics = run(-10.0, 0.5, 0.75) | dict(zip(names, (-1.0, -2.0, 0.25, 0.125), strict=True))
    figure = tradeoff_figure({"poe": {"": [metrics]}})
    assert figure is not None
    shown = {axes.get_title(loc="left"): axes.lines[0].get_xydata().tolist() for axes in figure.axes}
    assert shown == {
        "Conditional coherence, a → b": [[-1.0, 0.25]],
        "Conditional coherence, b → a": [[-2.0, 0.125]],
        "Joint coherence": [[-8.0, 0.75]],
    }


def test_without_coherence_there_is_nothing_to_draw():
    assert tradeoff_figure({"poe": {"": [{"log_likelihood/joint/by_size/1": -3.0}]}}) is None
