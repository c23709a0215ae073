"""Tables: whole from 1024 px on, scrolled with a visible edge below; the ledger's columns, order, filter and runs."""

import json

import pytest
import site_harness as harness
from test_site_extensions import extension

tables, ledger = extension("tables"), extension("ledger")
RESULTS = harness.ROOT / "src" / "latentbook" / "results"
EXPERIMENTS = sorted(path.stem for path in RESULTS.glob("*.json") if path.stem != "published")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_on_a_phone_a_wide_table_says_that_it_goes_on_and_is_reached_by_keyboard(visit, dark):
    page = visit("notebooks/01-mix-and-match.html", phone=True, dark=dark)
    box = page.locator("article .pst-scrollable-table-container.lb-more-right").first.element_handle()
    assert "linear-gradient" in box.evaluate("box => getComputedStyle(box).maskImage")
    assert box.get_attribute("role") == "region" and "scrolls sideways" in box.get_attribute("aria-label")
    box.focus()
    for _ in range(40):
        page.keyboard.press("ArrowRight")
    assert harness.becomes(lambda: box.evaluate("box => box.classList.contains('lb-more-left')"), True)
    box.evaluate("box => { box.scrollLeft = box.scrollWidth; }")
    assert harness.becomes(lambda: box.evaluate("box => box.classList.contains('lb-more-right')"), False)
    page.set_viewport_size(harness.WIDE)
    box = page.locator("article .pst-scrollable-table-container").first
    assert harness.becomes(lambda: box.get_attribute("tabindex") == "0", False)  # no stop where nothing scrolls


def test_columns_of_numbers_stand_flush_right_in_figures_of_one_width(visit):
    page = visit("notebooks/01-mix-and-match.html")
    table = page.locator("article .pst-scrollable-table-container table").first
    cells = table.locator("tbody tr").first.locator("td")
    look = cells.evaluate_all(
        "cells => cells.map((c) => [getComputedStyle(c).textAlign, getComputedStyle(c).fontVariantNumeric])"
    )
    assert {side for side, _ in look[1:]} <= {"end", "right"}
    assert all("tabular-nums" in figures for _, figures in look)


def test_what_counts_as_a_column_of_numbers():
    for text in ("3", "−0.5", "66.2 ± 0.8 %", "1,256", "0-19", "95 s", "12.5 nats", "**4.2**", "≥ 3", "10 to 20"):
        assert tables.is_number(text), text
    for text in ("", "–", "no 3", "v0.2", "3 windows"):
        assert not tables.is_number(text), text
    rows = [["a", "1", "x", "–"], ["b", "–", "2", "–"]]
    assert tables.numeric_columns(rows) == {1}


@pytest.fixture
def page(visit):
    return visit("book/ledger.html")


def heads(page, experiment, shown=True):
    found = page.locator(f"section#{experiment} thead th" + (":not([hidden])" if shown else ""))
    return [text.strip() for text in found.all_inner_texts()]


def test_the_ledger_shows_eight_columns_first_and_any_on_demand(page):
    for experiment in EXPERIMENTS:
        shown = heads(page, experiment)
        assert len(shown) == 8 and shown[0] == "variant" and shown[-2:] == ["seeds", "failed"], shown
    section = page.locator("section#air")
    section.locator(".lb-columns summary").click()
    box = section.get_by_label("a run", exact=True)
    box.focus()
    page.keyboard.press("Space")
    assert heads(page, "air")[-1] == "a run"
    assert section.locator(".lb-columns summary").inner_text() == f"Columns: 9 of {len(heads(page, 'air', False))}"
    section.get_by_role("button", name="all").click()
    assert heads(page, "air") == heads(page, "air", False)
    section.get_by_role("button", name="the first eight").click()
    assert len(heads(page, "air")) == 8


def test_the_columns_shown_first_exist():
    for experiment in EXPERIMENTS:
        variants = json.loads((RESULTS / f"{experiment}.json").read_text(encoding="utf-8"))["variants"].values()
        assert set(ledger.FIRST[experiment]) <= {metric for variant in variants for metric in variant["metrics"]}
        assert len(ledger.FIRST[experiment]) == 5


@pytest.mark.parametrize("experiment", ["mix-and-match", "air"])
def test_a_variant_with_its_seeds_and_command_is_two_clicks_away(page, experiment):
    """The first click goes into the filter, the second opens the row."""
    variant = {"mix-and-match": "concatenation-best", "air": "reinforce-corrected-unbounded"}[experiment]
    recorded = json.loads((RESULTS / f"{experiment}.json").read_text(encoding="utf-8"))["variants"][variant]
    section = page.locator(f"section#{experiment}")
    field = section.locator('input[type="search"]')
    field.click()
    page.keyboard.type(variant.replace("-", " "))
    assert section.locator("tbody tr:visible").count() == 1
    assert section.locator(".lb-count").inner_text().startswith("1 of ")
    button = section.locator(f"tr#{experiment}-{variant} button")
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    below = page.locator(f"#{button.get_attribute('aria-controls')}")
    seeds = ledger.seeds_as_text([*recorded["seeds"], *recorded["failed"]])
    command = f"python -m latentbook reproduce {experiment} --variants {variant} --seeds {seeds}"
    assert below.locator("pre").inner_text().strip() == command
    text = below.inner_text()
    for seed, reason in recorded["reasons"].items():
        assert f"seed {seed}: {reason}" in text
    for seconds, hardware in zip(recorded["seconds"], recorded["hardware"], strict=True):
        assert f"{seconds:g} s" in text and hardware in text
    field.fill("")
    assert section.locator("tbody tr:visible").count() > 10
    assert below.is_visible()  # what was opened stays open


def test_rows_are_sorted_by_what_they_measure(page):
    section = page.locator("section#spatial-transformer")
    head = section.locator("thead th", has_text="judge agreement")
    column = head.evaluate("head => head.cellIndex")

    def values():
        texts = section.locator("tbody tr:not(.lb-below)").evaluate_all(
            "(rows, column) => rows.map((row) => row.cells[column].textContent)", column
        )
        return [float(text.split()[0].replace("−", "-")) if text != "–" else None for text in texts]

    before = values()
    for order, reverse in (("descending", True), ("ascending", False)):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == order
        known = [value for value in values() if value is not None]
        assert known == sorted(known, reverse=reverse)
        assert values()[len(known) :] == [None] * (len(before) - len(known))  # those without a value stand last
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") is None and values() == before


def test_minutes_are_sorted_after_seconds_and_seeds_by_their_number(page):
    section = page.locator("section#air")
    section.locator(".lb-columns summary").click()
    section.get_by_role("button", name="all").click()
    for title, top in (("a run", "min"), ("seeds", "0-19")):
        section.get_by_role("button", name=title, exact=True).click()
        column = section.locator("th[aria-sort]").evaluate("head => head.cellIndex")
        assert top in section.locator("tbody tr:not(.lb-below)").first.locator("th, td").nth(column).inner_text()


def test_a_link_to_a_row_opens_it(visit):
    page = visit("book/ledger.html#mix-and-match-best")
    assert harness.becomes(lambda: page.locator("#mix-and-match-best-runs").is_visible(), True)
    assert page.locator("#mix-and-match-best").evaluate("row => row.getBoundingClientRect().top < innerHeight")


def test_without_scripts_the_ledger_has_every_column_and_every_command(visit):
    page = visit("book/ledger.html", scripts=False)
    assert len(heads(page, "air")) > 20
    fold = page.locator("section#air details.lb-runs")
    assert "reproduce air --variants exact --seeds 0-19" in fold.locator('[data-row="air-exact"]').text_content()
    box = page.locator("section#air .pst-scrollable-table-container")
    assert box.evaluate("box => getComputedStyle(box).overflowX") == "auto"


def test_the_ledger_works_from_the_folder(visit, built):
    page = visit("book/ledger.html", home=built.as_uri() + "/")
    assert len(heads(page, "primer")) == 8
    page.locator("#primer-kl-weight-1 button").click()
    assert page.locator("#primer-kl-weight-1-runs pre").is_visible()


def test_on_a_phone_the_first_column_stays_and_targets_are_large(visit):
    page = visit("book/ledger.html", phone=True, touch=True)
    box = page.locator("section#mix-and-match .pst-scrollable-table-container")
    box.scroll_into_view_if_needed()
    box.evaluate("box => { box.scrollLeft = 120; }")
    row = page.locator("#mix-and-match-best")
    name, edge = row.locator("th").bounding_box(), box.bounding_box()
    assert abs(name["x"] - edge["x"]) < 6
    for target in (row.locator("button"), page.locator("section#mix-and-match .lb-tools input[type=search]")):
        assert target.bounding_box()["height"] >= 44


def test_the_scripts_of_the_ledger_are_on_its_page_alone(built):
    for name in harness.pages(built):
        scripts = [link for link in harness.read_page(built / name).links if "ledger.js" in link]
        assert bool(scripts) == (name == "book/ledger.html"), name


def test_a_variants_command_names_it_even_when_it_is_the_only_one():
    facts = dict(
        ledger.behind("x", "a-b", {"seeds": [0, 1], "failed": [3], "reasons": {"3": "<NaN>"}, "seconds": [1.5, 2]})
    )
    assert "reproduce x --variants a-b --seeds 0-1,3<" in facts["command"]
    assert (
        facts["failed"] == "<div>seed 3: &lt;NaN&gt;</div>"
        and facts["a run"] == "1.5 s, 2 s, in the order of the seeds"
    )
    assert ledger.runs("x", {}, {}, {}) == ""
