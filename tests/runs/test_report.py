"""The report holds everything, escapes everything and needs nothing beside itself."""

import base64
import re
from html.parser import HTMLParser

import pytest

from mmvae_jax.evaluation import METRICS as ROWS
from mmvae_jax.evaluation import Metric
from mmvae_jax.evaluation.published import Published, by_inputs
from mmvae_jax.runs.report import model_label, write_report

VOID = {"meta", "img", "br"}
METRICS = {
    "probe/by_size/1": 0.875,
    "probe/by_size/2": 0.9375,
    "probe/a": 0.811,
    "probe/b": 0.822,
    "probe/a+b": 0.833,
    "coherence/conditional/by_size/1": 0.444,
    "coherence/conditional/a->b": 0.455,
    "coherence/conditional/b->a": 0.466,
    "coherence/self/a->a": 0.577,
    "coherence/self/b->b": 0.588,
    "coherence/self/a+b->a": 0.599,
    "coherence/self/a+b->b": 0.511,
    "coherence/joint": 0.123,
    "coherence/joint_entropy": 2.25,
    "log_likelihood/joint/by_size/1": -12345.6,
    "log_likelihood/joint/a": -321.25,
    "log_likelihood/joint/b": float("nan"),
    "log_likelihood/joint/a+b": -323.5,
    "log_likelihood/ess/a": 7.125,
    "log_likelihood/ess/b": 1.25,
    "classifier/a": 0.987,
    "fid/of an older version": 31.5,
    "standard_error/probe/by_size/1": 0.0125,
    "standard_error/probe/b": 0.03,
    "standard_error/coherence/joint": 0.004,
    "standard_error/classifier/a": 0.002,
    "train/steps": 9920,
}
CONFIG = {"model_name": "", "seed": 3, "architecture": {"fusion": "mopoe"}, "own": {"text": "<b>&"}}


class Balanced(HTMLParser):
    """Fails on tags that are not closed in order; collects what refers to the outside."""

    def __init__(self):
        super().__init__()
        self.open, self.references, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.references += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def page(tmp_path):
    figure = tmp_path / "data.png"
    figure.write_bytes(b"\x89PNG not really <&>")
    folder = tmp_path / "mopoe-<seed>3"
    folder.mkdir()
    path = write_report(folder, CONFIG, METRICS, [figure], {"jax": "9.9.9"})
    assert path == folder / "report.html" and [p.name for p in folder.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def parsed(page):
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def test_figures_are_inside_and_nothing_is_outside(page):
    (reference,) = parsed(page).references
    kind, data = reference.split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == b"\x89PNG not really <&>"
    assert "://" not in page and "<script" not in page and "url(" not in page


def test_whatever_comes_from_outside_is_escaped(page):
    assert "<b>&" not in page and "&lt;b&gt;&amp;" in page
    assert "mopoe-&lt;seed&gt;3" in page


def rows_of(page, heading):
    section = next(part for part in page.split("<section>") if part.startswith(f"<h2>{heading}</h2>"))
    rows = re.findall(r"<tr>(.*?)</tr>", section)
    return [[re.sub("<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


def sentences(page):
    return [re.sub("<.*?>", "", text) for text in re.findall(r"<p.*?</p>", page)]


def titles(*prefixes):
    return [ROWS[prefix].title for prefix in prefixes]


def test_table_by_size_has_every_mean_in_its_column(page):
    probe, conditional, joint = titles("probe", "coherence/conditional", "log_likelihood/joint")
    assert rows_of(page, "Metrics by number of inputs") == [
        ["", "1 input", "2 inputs"],
        [probe, "0.875 ± 0.013", "0.938"],
        [conditional, "0.444", ""],
        [joint, "-12,346", ""],
    ]


def test_published_numbers_stand_below_the_runs_own(tmp_path):
    numbers = by_inputs("probe", 0.5, 0.25, 0.125) | {"coherence/joint": 0.0625, "coherence/conditional": 0.9}
    published = [Published("mopoe", "A <paper>", numbers, "3 <epochs>"), Published("mopoe", "Others", {})]
    page = write_report(tmp_path, CONFIG, METRICS, [], {}, published=published).read_text(encoding="utf-8")
    parsed(page)
    rows = rows_of(page, "Metrics by number of inputs")
    assert rows[2] == ["A &lt;paper&gt;", "0.500", "0.250"]
    assert rows[4] == ["A &lt;paper&gt;: 0.900 on average", "", ""] and len(rows) == 6
    assert any("0.123 ± 0.004" in text and text.endswith("; A &lt;paper&gt;: 0.062") for text in sentences(page))
    assert "A &lt;paper&gt;: 3 &lt;epochs&gt;." in sentences(page) and "Others: settings not known." in sentences(page)


def test_published_numbers_of_one_subset_stand_beside_the_runs_own(tmp_path):
    published = [
        Published("mopoe", "A <paper>", {"probe/b": 0.5, "probe/c": 0.25}),
        Published("mopoe", "Others", {"probe/b": 0.75} | by_inputs("probe", 0.125)),
        Published("mopoe", "Elsewhere", by_inputs("probe", 0.125)),
    ]
    page = write_report(tmp_path, CONFIG, METRICS, [], {}, published).read_text(encoding="utf-8")
    head, own, other = rows_of(page, "Beside published numbers")
    assert head == ["", "here", "A &lt;paper&gt;", "Others"]
    assert own[1:] == ["0.822 ± 0.030", "0.500", "0.750"] and other[1:] == ["", "0.250", ""]


def test_a_learning_curve_is_a_table_one_column_a_checkpoint(tmp_path):
    first = {"train/steps": 5, "train/epochs": 2.5, "probe/by_size/1": 0.5, "probe/a": 0.4, "coherence/joint": 0.125}
    second = {"train/steps": 9, "train/epochs": 4.5, "probe/by_size/1": 0.75, "standard_error/probe/by_size/1": 0.25}
    page = write_report(tmp_path, {}, {}, [], {}, points=[first, second]).read_text(encoding="utf-8")
    probe, joint = titles("probe", "coherence/joint")
    assert rows_of(page, "Learning curve") == [
        ["", "2.5 epochs", "4.5 epochs"],
        [f"{probe}, number of inputs 1", "0.500", "0.750 ± 0.250"],
        [joint, "0.125", ""],
    ]


def test_single_numbers_are_told_with_their_errors(page):
    joint, entropy = (ROWS[prefix] for prefix in ("coherence/joint", "coherence/joint_entropy"))
    assert f"{joint.title}: 0.123 ± 0.004 ({joint.unit})" in sentences(page)
    assert f"{entropy.title}: 2.25 ({entropy.unit})" in sentences(page)
    assert any("±: standard error" in text for text in sentences(page))
    assert "collapsed" not in page


def test_table_by_subset_has_every_value_under_its_target(page):
    head = ["given", *titles("probe"), "Coherence → a", "Coherence → b"]
    assert rows_of(page, "Metrics by subset") == [
        [*head, *titles("log_likelihood/joint", "log_likelihood/ess")],
        ["a", "0.811", "0.577", "0.455", "-321.2", "7.125"],
        ["b", "0.822 ± 0.030", "0.466", "0.588", "nan", "1.25"],
        ["a+b", "0.833", "0.599", "0.511", "-323.5", ""],
    ]


def test_table_by_attribute_has_every_value_in_its_row(tmp_path):
    latent, generated, often = titles(
        *(f"average_precision/{x}" for x in ("latent_each", "generated_each", "frequency"))
    )
    metrics = {
        "average_precision/frequency/Bald": 0.125,
        "average_precision/latent_each/image/Smiling": 0.75,
        "average_precision/latent_each/image/Bald": 0.25,
        "standard_error/average_precision/latent_each/image/Bald": 0.0625,
        "average_precision/generated_each/text->image/Smiling": 0.875,
        "average_precision/chance": 0.375,
    }
    page = write_report(tmp_path, CONFIG, metrics, [], {}).read_text(encoding="utf-8")
    assert rows_of(page, "Metrics by attribute") == [
        ["attribute", often, f"{latent}, image", f"{generated}, text → image"],
        ["Bald", "0.125", "0.250 ± 0.062", ""],
        ["Smiling", "", "0.750", "0.875"],
    ]
    assert "latent_each" not in page and "Metrics by subset" not in page
    assert any(text.startswith("Average precision by chance: 0.375") for text in sentences(page))


def test_a_collapsed_decoder_and_a_loose_bound_are_called_so(page, tmp_path):
    assert any("loose bound" in text and text.endswith("(given b)") for text in sentences(page))
    tight = METRICS | {"log_likelihood/ess/b": 9.0, "coherence/joint": 1.0, "coherence/joint_entropy": 0.01}
    page = write_report(tmp_path, CONFIG, tight, [], {}).read_text(encoding="utf-8")
    assert "loose bound" not in page
    loose = write_report(tmp_path, CONFIG, METRICS | {"log_likelihood/ess/a": 1.0}, [], {}).read_text(encoding="utf-8")
    assert any("loose bound" in text and text.endswith("(whatever is given)") for text in sentences(loose))
    assert any(
        text.startswith(ROWS["coherence/joint_entropy"].title) and "collapsed" in text for text in sentences(page)
    )


def test_a_users_own_metric_is_in_its_tables(tmp_path, monkeypatch):
    monkeypatch.setitem(ROWS, "mine", Metric(lambda context: {}, "My <metric>", "parsecs", by_size=True))
    monkeypatch.setitem(ROWS, "my/distance", Metric(lambda context: {}, "Distance", "metres", by_subset=True))
    metrics = {"mine/a": 1.5, "mine/a+b": 2.5, "mine/by_size/1": 1.5, "mine/by_size/2": 2.5}
    metrics |= {"my/distance/a->b": 3.5, "my/distance/b->a": 4.5}
    page = write_report(tmp_path, CONFIG, metrics, [], {}).read_text(encoding="utf-8")
    parsed(page)
    name = "My &lt;metric&gt;"
    assert rows_of(page, "Metrics by number of inputs")[1:] == [[name, "1.5", "2.5"]]
    assert rows_of(page, "Metrics by subset") == [
        ["given", name, "My → a", "My → b"],
        ["a", "1.5", "", "3.5"],
        ["a+b", "2.5", "", ""],
        ["b", "", "4.5", ""],
    ]
    assert "Other metrics" not in page


def test_the_rest_is_listed(page):
    assert rows_of(page, "Other metrics") == [
        ["Classifier, a", "0.987 ± 0.002"],
        ["fid/of an older version", "31.5"],
        ["train/steps", "9,920"],
    ]
    assert ["architecture.fusion", "mopoe"] in rows_of(page, "Configuration")
    assert rows_of(page, "Versions") == [["jax", "9.9.9"]]


def test_a_run_without_metrics_or_figures_still_has_a_report(tmp_path):
    page = write_report(tmp_path, {}, {}, [], {}).read_text(encoding="utf-8")
    parsed(page)
    assert "<section>" not in page


def test_model_label():
    assert model_label(CONFIG) == "mopoe"
    assert model_label({"model_name": "svae", "architecture": {"fusion": "x"}}) == "svae"
