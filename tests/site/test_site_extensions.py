"""The helpers that build the site: the figures' one script, the ledger's tables, the foot of a chapter."""

import importlib.util
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import site_harness as harness
from docutils import nodes


def extension(name: str):
    spec = importlib.util.spec_from_file_location(f"book_ext_{name}", harness.ROOT / "book" / "_ext" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


offline, ledger, provenance = (extension(name) for name in ("offline_site", "ledger", "provenance"))
WIDGETS = harness.ROOT / "src" / "latentbook" / "widgets"
RESULTS = {
    "experiment": "mix-and-match",
    "data": {"source": "mnist", "hash": "ab" * 32},
    "versions": {"torch": "2.6.0"},
    "hardware": {"cpu": "Xeon", "threads": 2},
    "variants": {
        "plain": {
            "seeds": [0, 1],
            "metrics": {"agreement": [0.5, 0.6], "kl": [10.0, 12.0]},
            "seconds": [60, 70],
            "failed": [2, 4],
            "reasons": {"2": "BCE 151.2", "4": "NaN"},
        },
        "new": {"seeds": [3], "metrics": {"agreement": [0.662], "own_metric": [-0.5]}, "seconds": [500], "failed": []},
    },
}


def test_the_bundle_holds_every_widget_word_for_word():
    script = offline.bundle(WIDGETS)
    for path in WIDGETS.glob("*.js"):
        lines = path.read_text(encoding="utf-8").replace("export default {", "return {").splitlines(keepends=True)
        shared = path.name in offline.SHARED
        module = "".join(line for line in lines if not (shared and line.lstrip().startswith("//")))
        assert (module in script) == (path.name != "scene_pad.js")  # which no figure asks for yet
    assert "export " not in script and "import " not in script


@pytest.mark.parametrize("name", offline.SHARED)
def test_what_the_bundle_leaves_out_is_a_comment_and_no_part_of_a_text(name):
    text = (WIDGETS / name).read_text(encoding="utf-8")
    assert offline.COMMENT.search(text)
    for comment in offline.COMMENT.finditer(text):
        assert text[: comment.start()].count("`") % 2 == 0, comment[0]


@pytest.mark.parametrize(
    "module",
    ["const a = 1;", "import x from 'y';\nexport default { a };", "export const b = 1;\nexport default { b };"],
)
def test_the_bundle_refuses_what_it_cannot_wrap(tmp_path, module):
    for name in offline.SHARED:
        (tmp_path / name).write_text("const shared = 1;")
    (tmp_path / "figure.js").write_text(module)
    with pytest.raises(ValueError, match=r"figure\.js must have exactly one"):
        offline.bundle(tmp_path)


def test_a_page_gets_the_scripts_of_its_figures_and_what_stands_in_front_of_them_alone(built):
    """In front of a figure stands in the page what its class composes for a notebook."""
    script = offline.bundle(WIDGETS, ("mixing", "attention"))
    assert script.index('widgets["mixing"] =') < script.index('widgets["attention"] =')
    assert "function axis" in script and "function makeEngine" not in script and 'widgets["relabel"]' not in script
    for path in harness.pages(built):
        page = harness.read_page(built / path)
        scripts = re.findall(
            r'src="[./]*(_static/latentbook/figures/\w+\.js)"', (built / path).read_text(encoding="utf-8")
        )
        assert len(scripts) == bool(page.states), path
        for place in scripts:
            held = re.findall(r'^widgets\["(\w+)"\] = ', (built / place).read_text(encoding="utf-8"), re.MULTILINE)
            shown = re.findall(r'data-name="(\w+)"', (built / path).read_text(encoding="utf-8"))
            assert held == sorted({*shown}), path


def test_a_new_or_changed_figure_writes_every_page_anew(tmp_path):
    (tmp_path / "one.css").write_text("a {}")
    (tmp_path / "notes.txt").write_text("nothing a page links to")
    seen = {offline.fingerprint((tmp_path,))}
    (tmp_path / "notes.txt").write_text("still nothing")
    assert seen == {offline.fingerprint((tmp_path,))}
    for name, text in (("two.css", "a {}"), ("two.css", "b {}"), ("two.js", "export default {};"), ("one.py", "")):
        (tmp_path / name).write_text(text)
        seen.add(offline.fingerprint((tmp_path,)))
    assert len(seen) == 5


@pytest.mark.parametrize("name", ["index", "notation"])
def test_every_page_links_to_every_figures_style(built, name):
    links = harness.read_page(built / "book" / f"{name}.html").links
    sheet = next(link for link in links if "_static/latentbook/book.css" in link)
    whole = (built / "book" / sheet.split("?")[0]).read_text(encoding="utf-8")
    for path in [*WIDGETS.glob("*.css"), *(harness.ROOT / "book" / "_ext").glob("*.css")]:
        assert path.read_text(encoding="utf-8") in whole, path.name


def cells(table: nodes.table) -> list[list[str]]:
    return [[entry.astext() for entry in row.findall(nodes.entry)] for row in table.findall(nodes.row)]


def test_the_ledger_shows_mean_spread_seeds_and_failures():
    published = {"checkpoint": {"agreement": 0.474, "_source": "the authors' checkpoint"}}
    section = ledger.section("mix-and-match", RESULTS, published, "BCE above 140")
    header, plain, new, system = cells(next(section.findall(nodes.table)))
    assert header == ["variant", "KL, nats", "judge agreement", "own metric", "seeds", "failed", "a run"]
    assert plain == ["plain", "11.0 ± 1.4", "55.0 ± 7.1 %", "–", "0-1", "2", "65 s"]
    assert new == ["new", "–", "66.2 %", "−0.500", "3", "0", "8.3 min"]
    assert system[:4] == ["checkpoint, published", "–", "47.4 %", "–"]
    text = section.astext()
    for command in ("--variants plain --seeds 0-2,4", "--variants new --seeds 3"):
        assert f"python -m latentbook reproduce mix-and-match {command}" in text.split("\n")
    assert "plain: seed 2, BCE 151.2; seed 4, NaN" in text
    assert "BCE above 140" in text and "the authors' checkpoint" in text and "threads 2" in text
    assert [row["ids"] for row in section.findall(nodes.row)][1:3] == [["mix-and-match-plain"], ["mix-and-match-new"]]


SCORED = {
    "config": {
        "sys-0.1": {
            "source": "their <b>",
            "files": {"a.safetensors": "ab" * 32},
            "command": "python -m latentbook score x",
        }
    },
    "variants": {"sys-0.1": {"seeds": [0, 1], "metrics": {"agreement": [0.46, 0.47]}, "hardware": ["CPU", "CPU"]}},
}


def test_a_published_checkpoint_that_the_books_judge_scored_has_a_row_with_its_source():
    section = ledger.section("mix-and-match", RESULTS, {}, "BCE above 140", SCORED)
    *_, system = cells(next(section.findall(nodes.table)))
    assert system[:4] == ["sys 0.1, published checkpoint, by the book's judge", "–", "46.5 ± 0.7 %", "–"]
    *_, row = section.findall(nodes.row)
    assert row["ids"] == ["mix-and-match-scored-sys-0-1"] and "lb-first-published" in row["classes"]
    behind = next(section.findall(nodes.raw)).astext()
    for text in ('data-row="mix-and-match-scored-sys-0-1"', "their &lt;b&gt;", "ab" * 32, "latentbook score x", "0-1"):
        assert text in behind


def test_a_record_is_shown_as_the_library_tells_it(tmp_path):
    from latentbook.experiments import choices, listening

    def shown(name, root):
        env = SimpleNamespace(app=SimpleNamespace(srcdir=root), note_dependency=noted.append)
        settings = SimpleNamespace(env=env)
        record = SimpleNamespace(arguments=[name], state=SimpleNamespace(document=SimpleNamespace(settings=settings)))
        return ledger.Record.run(record)

    noted = []
    for name, module in (("listening", listening), ("choices", choices)):
        (table,) = shown(name, harness.ROOT)
        assert cells(table) == [list(module.HEADER), *module.rows()] and len(cells(table)) > 5
    assert {Path(path).parent.name for path in noted} == {"listening", "choices"}
    assert shown("listening", tmp_path)[0].astext() == "No listening have been recorded yet."


def test_shares_that_are_nearly_1_have_two_places_and_a_confusion_stays_out():
    runs = {"count_accuracy": [0.9978, 0.9983], "count_1_seen_as_2": [0.5, 0.5], "box_iou": [0.889, 0.891]}
    shown = ledger.section("air", {"variants": {"exact": {"seeds": [0, 1], "metrics": runs}}}, {}, "").astext()
    assert "99.81 ± 0.04 %" in shown and "89.0 ± 0.1 %" in shown and "counted right" in shown
    assert "seen" not in shown and "50.0" not in shown


def test_the_ledger_names_variants_only_where_their_seeds_differ():
    assert ledger.commands("x", {"a": {"seeds": [0, 1]}, "b": {"seeds": [1], "failed": [0]}, "c": {}}) == [
        "python -m latentbook reproduce x --seeds 0-1"
    ]
    assert ledger.commands("x", {"a": {"seeds": [0]}, "b": {"seeds": [1]}, "c": {"seeds": [0]}}) == [
        "python -m latentbook reproduce x --variants a,c --seeds 0",
        "python -m latentbook reproduce x --variants b --seeds 1",
    ]


def test_the_ledger_copes_with_little():
    assert ledger.section("unheard-of", {}, {}, "").astext().startswith("Unheard of")
    assert ledger.threshold(harness.ROOT, "unheard-of") == ""
    assert ledger.seeds_as_text([4, 0, 1, 2, 7]) == "0-2,4,7"


def test_the_page_of_the_ledger_holds_every_recorded_variant(built):
    anchors = harness.read_page(built / "book" / "ledger.html").ids
    for path in (harness.ROOT / "src" / "latentbook" / "results").glob("*.json"):
        if path.stem != "published":
            recorded = json.loads(path.read_text(encoding="utf-8"))["variants"]
            assert {f"{path.stem}-{variant}" for variant in recorded} <= anchors


def test_the_foot_of_a_chapter():
    html = provenance.foot(
        {
            "data": {"source": "mnist", "hash": "ab" * 32},
            "seconds": 365,
            "profile": "full",
            "device": "cpu",
            "versions": {"torch": "2.6"},
        }
    )
    assert "MNIST" in html and "6 min 05 s" in html and "abababababab" in html and "torch 2.6" in html
    assert "lb-provenance-missing" in provenance.foot(None) and "make execute" in provenance.foot({})
    assert "<script>" not in provenance.foot({"device": "<script>"})
    assert "not MNIST" in provenance.foot({"data": {"source": "offline", "hash": "0"}})


def test_a_broken_link_would_be_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there">x</a><a href="b.html#gone">x</a><a href="c.html">x</a><a href="https://elsewhere/">x</a>'
    )
    (tmp_path / "b.html").write_text('<p id="there">x</p>')
    assert harness.broken_links(tmp_path, "a.html") == ["b.html#gone: no such anchor", "c.html: no such file"]


def test_a_change_makes_the_built_site_stale(tmp_path):
    import os

    site = tmp_path / "_build" / "html"
    site.mkdir(parents=True)
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "a.md").write_text("a")
    assert not harness.is_fresh(site, tmp_path)
    (site / "objects.inv").write_text("")
    assert harness.is_fresh(site, tmp_path)
    later = (site / "objects.inv").stat().st_mtime + 5
    os.utime(tmp_path / "book" / "a.md", (later, later))
    assert not harness.is_fresh(site, tmp_path)
