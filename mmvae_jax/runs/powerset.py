"""A report's section to play with: what every subset's posterior generates, and its metrics."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

SCRIPT, STYLE = (
    files("mmvae_jax.runs").joinpath(f"powerset.{kind}").read_text(encoding="utf-8") for kind in ("js", "css")
)
# What a report's page may load and run: pictures within it, and this one script.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}'"
)
_HOW = (
    "Click modalities on and off, or choose with Tab, arrow keys and Space: what the posterior given them generates of "
    "{tuples} test tuples. Above, the tuples' own, faint where the posterior does not see them; below, what is decoded "
    "at its mean (of a mixture, at that of one component for each tuple). The numbers are over all test tuples that "
    "the metrics are of."
)
_SOME = (
    " Here are {here} of the {all} subsets of {count} modalities: single ones, all, all but one, and those that "
    "metrics are of."
)
# So that nothing within a script of data is taken for markup.
_ESCAPED = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&'"})

Numbers = Mapping[str, Mapping[str, Sequence[tuple[str, str]]]]


def powerset_section(shown: Mapping[str, Any], numbers: Numbers) -> str:
    """What is within the section; nothing of it is seen without JavaScript.

    Args:
      shown: of `plotting.powerset.powerset_shown`.
      numbers: subset -> modality that is generated, or "" for all of them -> titles of metrics and what they are.
    """
    count, here = len(shown["names"]), len(shown["subsets"])
    some = _SOME.format(here=here, all=f"{2**count - 1:,}", count=count) if here < 2**count - 1 else ""
    data = {**shown, "numbers": {subset: numbers[subset] for subset in shown["subsets"] if subset in numbers}}
    return (
        f'<p class="note">{_HOW.format(tuples=shown["tuples"])}{some}</p><div id="powerset-play"></div>'
        f'<script type="application/json" id="powerset-data">{json.dumps(data).translate(_ESCAPED)}</script>'
        f"<script>{SCRIPT}</script>"
    )
