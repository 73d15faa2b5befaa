"""Equations as MathML, which browsers draw by themselves: the site needs no script and no network for them."""

import re
from typing import Any

from latex2mathml.converter import convert

# What pymdownx.arithmatex makes of $...$ and $$...$$.
_EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}


def on_page_content(html: str, **_: Any) -> str:
    """A page's equations converted."""
    return _EQUATION.sub(_mathml, html)


def _mathml(found: re.Match[str]) -> str:
    latex = found[3]
    for entity, letter in _ENTITIES.items():
        latex = latex.replace(entity, letter)
    if found[2] == "(":
        return convert(latex.strip(), display="inline")
    return f'<div style="overflow-x: auto">{convert(latex.strip(), display="block")}</div>'
