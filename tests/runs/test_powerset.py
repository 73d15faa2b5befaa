"""The powerset in a report: what it shows, looked at and played with in Chromium."""

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmvae_jax.runs.powerset import SCRIPT, powerset_section
from mmvae_jax.runs.report import write_report
from tests.runs.browser import Browser

# A sprite of two tuples and, below their own, three subsets: WebP is not read before it is looked at.
SPRITE = "data:image/webp;base64,UklGRg=="
SHOWN = {
    "names": ["a", "long_name"],
    "subsets": ["a", "long_name", "a+long_name"],
    "tuples": 2,
    "modalities": [
        {"sprite": SPRITE, "width": 28, "height": 14},
        {"texts": [["one", "two"], ["a0", "a1"], ["l0", "<b>"], ["al0", "al1"]]},
    ],
}
METRICS = {
    "probe/a": 0.5,
    "standard_error/probe/a": 0.25,
    "coherence/self/a->a": 0.75,
    "coherence/conditional/a->long_name": 0.125,
    "standard_error/coherence/conditional/a->long_name": 0.0625,
    "log_likelihood/joint/a": -321.25,
    "log_likelihood/joint/a+long_name": -300.5,
}


def report(folder: Path, shown: dict[str, Any] | None = SHOWN, metrics: dict[str, float] = METRICS) -> Path:
    config = {"own": {"a_flag_of_a_long_name": "many words that need more than one line " * 3}}
    return Path(write_report(folder, config, metrics, [], {}, powerset=shown))


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="powerset-data">(.*?)</script>', page)
    assert found
    return json.loads(found[1])


def test_the_page_holds_what_is_shown_and_the_metrics_of_its_subsets(tmp_path: Path):
    page = report(tmp_path).read_text(encoding="utf-8")
    assert data_of(page) == SHOWN | {
        "numbers": {
            "a": {
                "": [["Linear probe", "0.500 ± 0.250"], ["Joint log-likelihood", "-321.2"]],
                "a": [["Coherence", "0.750"]],
                "long_name": [["Coherence", "0.125 ± 0.062"]],
            },
            "a+long_name": {"": [["Joint log-likelihood", "-300.5"]]},
        }
    }
    assert '<section id="powerset" hidden><h2>' in page


def test_only_the_pages_own_script_may_run(tmp_path: Path):
    page = report(tmp_path).read_text(encoding="utf-8")
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="(.*?)">', page)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert script == SCRIPT and f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy


@pytest.mark.parametrize("hostile", ["</script><script>alert(1)</script>", "<!--<script>", "&lt;'\"", "\u2028\udce9"])
def test_what_is_shown_cannot_end_the_data(hostile: str):
    shown = SHOWN | {"names": ["a", hostile], "modalities": [{"texts": [[hostile] * 2] * 4}] * 2}
    numbers = {"a": {hostile: [(hostile, hostile)]}}
    section = powerset_section(shown, numbers)
    assert data_of(section)["names"][1] == hostile and data_of(section)["numbers"] == json.loads(json.dumps(numbers))
    plain = powerset_section(SHOWN | {"modalities": [{"texts": [["x"] * 2] * 4}] * 2}, {"a": {"x": [("x", "x")]}})
    assert [section.count(mark) for mark in ("<", ">")] == [plain.count(mark) for mark in ("<", ">")]


def test_which_subsets_are_there_is_said_where_some_are_not():
    assert "of the 3 subsets" not in powerset_section(SHOWN, {})
    assert "2 of the 3 subsets of 2 modalities" in powerset_section(SHOWN | {"subsets": ["a", "a+long_name"]}, {})


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here to look at the page in")
    found = Browser(program, tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


STATE = """[document.getElementById("powerset-play").dataset.given,
  [...document.querySelectorAll("#powerset button")].map((each) => each.getAttribute("aria-pressed")).join(),
  [...document.querySelectorAll("#powerset .text .made")].map((each) => each.textContent).join(),
  document.querySelector("#powerset .made").style.backgroundPosition,
  document.activeElement.textContent.replaceAll("\\u200b", "")]"""


def test_modalities_are_given_and_taken_by_clicks_and_by_keys(browser: Browser, tmp_path: Path):
    browser.open(report(tmp_path))
    assert browser.value(STATE)[:4] == ["a", "true,false", "a0,a1", "0px -28px"]
    browser.click("#powerset .modality:nth-of-type(3) button")
    assert browser.value(STATE) == ["a+long_name", "true,true", "al0,al1", "0px -84px", "long_name"]
    assert browser.value("[location.hash, document.querySelector('select').value]") == [
        "#given=a+long_name",
        "a+long_name",
    ]
    browser.press("ArrowUp", " ")
    assert browser.value(STATE) == ["long_name", "false,true", "l0,<b>", "0px -56px", "a"]
    browser.press("Tab", " ")
    assert browser.value(STATE)[:2] == ["", "false,false"] and browser.value(STATE)[4] == "long_name"
    assert "Nothing is given." in browser.value("document.querySelector('#powerset .chosen').textContent")
    assert browser.value("getComputedStyle(document.querySelector('#powerset .made')).visibility") == "hidden"
    browser.press("ArrowDown", " ")
    assert browser.value(STATE)[:2] == ["a", "true,false"]
    assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert browser.complaints == []


def test_an_address_names_a_subset_whose_metrics_stand_beside_it(browser: Browser, tmp_path: Path):
    browser.open(report(tmp_path), "#given=a")
    lists = (
        "[...document.querySelectorAll('#powerset dl')].map((each) => each.innerText.split(/\\s*\\n\\s*/).join('|'))"
    )
    joint = "Linear probe|0.500 ± 0.250|Joint log-likelihood|-321.2"
    assert browser.value(lists) == [joint, "Coherence|0.750", "Coherence|0.125 ± 0.062"]
    browser.value("location.hash = '#given=a+long%5Fname'")
    assert browser.value(lists) == ["Joint log-likelihood|-300.5", "", ""]
    browser.open(report(tmp_path, SHOWN | {"subsets": ["a", "long_name"]}), "#given=a+long_name")
    assert browser.value(lists)[0] == "This subset is not here: choose another."
    assert browser.value("document.querySelector('select').selectedOptions[0].text") == "another subset"


@pytest.mark.parametrize("width", [400, 800, 1280])
def test_nothing_is_wider_than_the_page_or_wrapped_letter_by_letter(browser: Browser, tmp_path: Path, width: int):
    browser.open(report(tmp_path), width=width)
    assert browser.value("document.documentElement.scrollWidth") <= width
    narrow = """[...document.querySelectorAll("td, th, button, dd, dt, p, figcaption")].filter((each) =>
      each.textContent.length > 4 && each.clientHeight > 3 * each.clientWidth).map((each) => each.textContent)"""
    assert browser.value(narrow) == []
