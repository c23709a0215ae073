"""Style sheets of figures that share a page: none reaches into another figure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import latentbook.widgets as widgets

HERE = Path(widgets.__file__).parent
FIGURES = [figure for name in widgets.__all__ if getattr(figure := getattr(widgets, name), "_name", None)]
UNDER_NOTHING = re.compile(r"^\.(lb-[\w-]+)(?:::?[\w-]+)*$")  # one class, with no figure before it


def reaching(sheet: str) -> set[str]:
    """The classes that a sheet's rules style wherever they stand."""
    rules = re.findall(r"([^{}]+)\{", re.sub(r"/\*.*?\*/", "", sheet, flags=re.DOTALL))
    selectors = (selector.strip() for rule in rules for selector in rule.split(","))
    return {found[1] for selector in selectors if (found := UNDER_NOTHING.match(selector))}


def test_a_rule_under_nothing_is_told_from_one_under_a_figure():
    sheet = "/* .lb-note { */ .lb-a { x: 1 } .lb-b:hover, .lb-c .lb-d { x: 1 }"
    sheet += "@media print { .lb-e::before { x: 1 } .lb-f.lb-g { x: 1 } }"
    assert reaching(sheet) == {"lb-a", "lb-b", "lb-e"}


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__)
def test_no_sheet_of_another_figure_styles_a_class_of_this_one(figure):
    used = set(re.findall(r"\blb-[\w-]+", figure._esm + figure._css))
    others = {path.name: reaching(path.read_text("utf-8")) for path in HERE.glob("*.css")}
    foreign = {
        name: found & used for name, found in others.items() if (HERE / name).read_text("utf-8") not in figure._css
    }
    assert {name: found for name, found in foreign.items() if found} == {}
