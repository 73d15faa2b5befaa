"""Single attributes as pictures."""

import numpy as np

from mmvae_jax.plotting.attributes import attributes_figure


def test_every_metric_has_a_panel_and_every_attribute_a_row_by_its_frequency():
    latent = {f"average_precision/latent_each/{given}/{name}": value
              for given, pair in {"m0": (0.5, 0.7), "m0+m1": (0.6, 0.9)}.items()
              for name, value in zip(("Hat", "Smiling"), pair, strict=True)}  # fmt: skip
    metrics = {
        **latent,
        "standard_error/average_precision/latent_each/m0/Hat": 0.25,
        "average_precision/frequency/Smiling": 0.5,
        "average_precision/frequency/Hat": 0.1,
        "attributes/each/m0->m1/Smiling": 0.8,
        "attributes/reader/m1/Smiling": 1.0,
        "probe/m0": 0.3,
    }
    figure = attributes_figure(metrics)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "Attributes, one by one",
        "Average precision, latent",
    ]
    each, precision = figure.axes
    assert [text.get_text() for text in each.get_yticklabels()] == ["Hat", "Smiling"]
    points = [line.get_xydata().tolist() for line in precision.lines]
    assert points == [[[0.5, 0], [0.7, 1]], [[0.6, 0], [0.9, 1]], [[0.1, 0], [0.5, 1]]]
    assert [line.get_xydata().tolist() for line in each.lines] == [[[0.8, 1]]]
    (bars, _) = precision.collections
    np.testing.assert_allclose([np.ptp(segment[:, 0]) for segment in bars.get_segments()], [0.5, 0.0])
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["m0 → m1", "m0", "m0+m1", "frequency: chance"]


def test_a_run_without_attributes_has_no_such_picture():
    assert attributes_figure({"probe/m0": 0.3, "attributes/reader/m1/Smiling": 1.0}) is None
