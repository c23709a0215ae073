"""The reference pages: API from the docstrings, errata, changelog; and the foot of every page."""

import importlib
import inspect
import re
from urllib.parse import quote, unquote

import pytest
import site_harness as harness
from test_site_extensions import extension

api = extension("api")
ROOMS = api.rooms(harness.ROOT)


def packages() -> dict[str, list[str]]:
    """`__all__` of every package of the library that has one, asked of the library itself."""
    names = [path.parent.name for path in (harness.ROOT / "src" / "latentbook").glob("*/__init__.py")]
    modules = {name: importlib.import_module(f"latentbook.{name}") for name in names}
    return {name: module.__all__ for name, module in modules.items() if hasattr(module, "__all__")}


def test_the_api_page_holds_every_public_name_and_its_source(built):
    page = harness.read_page(built / "book" / "api.html")
    for package, public in packages().items():
        missing = {f"latentbook.{package}.{name}" for name in public} - page.ids
        assert not missing, f"not on the API page: {sorted(missing)}"
    for module, names in ROOMS.items():
        assert {f"latentbook.{module}.{name}" for name in names} <= page.ids
    source = {link for link in page.links if link.startswith("../_modules/latentbook/")}
    assert any(link.endswith("models/air.html#AIR") for link in source)
    assert len(source) > 200  # functions and classes with their methods


def test_no_package_is_left_out_of_the_api_page():
    assert set(packages()) <= set(ROOMS)


@pytest.mark.parametrize("module", ["schedules", "evaluation", "experiments.results", "experiments.run"])
def test_the_public_names_of_a_module_without_a_list_are_its_own(module):
    """What the source says, by what the module holds once it is imported."""
    found = importlib.import_module(f"latentbook.{module}")
    own = {
        name
        for name, thing in vars(found).items()
        if not name.startswith("_")
        and (inspect.isfunction(thing) or inspect.isclass(thing))
        and thing.__module__ == found.__name__
    }
    assert set(ROOMS[module]) == own


def test_the_api_page_says_what_docstrings_say(built):
    html = (built / "book" / "api.html").read_text(encoding="utf-8")
    text = " ".join(re.sub(r"<[^>]+>", "", html).split())
    assert "Raises ValueError for an alpha outside 0..hidden_dim, an empty batch or an unknown per." in text
    assert 'per="batch" repeats one row' in text.replace("&quot;", '"')
    assert "how many of the hidden features are drawn: a count, not a rate" in text  # a field's comment
    assert "Bool[Tensor, 'batch hidden']" in text.replace("&#39;", "'")  # a shape
    assert "latentbook.layers.distributions.DiagonalGaussian" not in text  # types by their short names
    assert 'href="#latentbook.models.MixAndMatchConfig"' in html  # a type leads to its entry


def test_a_docstring_is_shown_as_it_is_written():
    shown = api.plain_text("""Of *x* and a_b_ |z|, see `fit`s.

    - one `a`
      goes on
    - two

        code(*args)
    """)
    assert shown == [
        *(r"Of \*x\* and a\_b\_ \|z\|, see \ ``fit``\ s.", ""),
        *(r"- one \ ``a``\ ", "  goes on", "- two", ""),
        *("::", "", "    code(*args)"),
    ]


def test_a_new_name_comes_to_the_page_by_itself(tmp_path):
    home = tmp_path / "src" / "latentbook" / "models"
    home.mkdir(parents=True)
    (home / "__init__.py").write_text('"""Models."""\nfrom latentbook.models.a import B, c\n__all__ = ["B", "c"]\n')
    (home / "a.py").write_text("class B:\n    pass\n\n\nc = 3  # of *them*\n")
    assert api.public_names(tmp_path, "models") == ["B", "c"]
    assert api.entry(tmp_path, "models", "B")[0] == ".. autoclass:: latentbook.models.B"
    assert api.entry(tmp_path, "models", "c")[:4] == [
        *(".. py:data:: latentbook.models.c", "   :value: 3", "", r"   of \*them\*")
    ]
    (home / "__init__.py").write_text('"""Models."""\nfrom latentbook.models.a import d\n__all__ = ["d"]\n')
    with pytest.raises(LookupError, match="names d as public"):
        api.entry(tmp_path, "models", "d")


foot = extension("foot")
BOOK = foot.facts(harness.ROOT)


def test_every_page_says_licence_version_citation_and_where_to_report(built):
    for name in harness.pages(built):
        if name in ("index.html", "genindex.html", "search.html", "py-modindex.html"):
            continue  # which hold no text
        html = (built / name).read_text(encoding="utf-8")
        assert html.count('class="lb-foot"') == 1, name
        assert f"version {BOOK['version']}" in html and f"{BOOK['licence']} licence" in html, name
        assert "@misc{latentbook" in html, name
        assert f"{BOOK['address']}/issues/new?title=Error%20in%20" in html, name


def test_a_report_names_the_page_and_the_section(built):
    links = harness.read_page(built / "notebooks" / "04-spatial-transformer.html").links
    reports = [link for link in links if "/issues/new?title=Error" in link]  # not the theme's button
    titles = [unquote(link.partition("title=")[2].partition("&")[0]) for link in reports]
    assert all(title.startswith("Error in 4. Spatial transformers") for title in titles)
    assert any(title.endswith(": Exercises") for title in titles)
    assert len(set(titles)) == len(titles) > 8


def test_the_foot_says_what_the_project_says():
    project = (harness.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'Repository = "{BOOK["address"]}"' in project and f'version = "{BOOK["version"]}"' in project
    entry = foot.bibtex(BOOK)
    assert "author = {{The latentbook authors}}" in entry and f"version = {{{BOOK['version']}}}" in entry
    assert entry.count("{") == entry.count("}")
    with pytest.raises(LookupError):
        foot.field("a: b", "c")


def test_a_title_with_signs_is_escaped():
    html = foot.foot(BOOK | {"title": "a < b"}, 'What & "why"?', [("x", 'What & "why"?'), ("y", "<i> & co")])
    assert "a &lt; b" in html and "<i>" not in html
    title = quote('Error in What & "why"?: <i> & co')
    assert f"title={title}&amp;body=" in html


@pytest.mark.parametrize("how", [{}, {"dark": True}, {"phone": True}], ids=["light", "dark", "phone"])
def test_the_citation_can_be_read_and_taken(visit, how):
    page = visit("book/notation.html", **how)
    fold = page.locator(".lb-foot details", has_text="How to cite")
    assert not fold.locator("pre").is_visible()
    fold.locator("summary").focus()
    page.keyboard.press("Enter")
    assert fold.locator("pre").inner_text().strip() == foot.bibtex(BOOK)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= page.viewport_size["width"]


def test_errata_and_changelog_are_pages(built):
    errata = (built / "book" / "errata.html").read_text(encoding="utf-8")
    assert errata.count("<strong>Right:</strong>") == errata.count("<strong>Since:</strong>") > 20
    changelog = harness.read_page(built / "book" / "changelog.html")
    assert "training" in changelog.ids
    links = harness.read_page(built / "book" / "index.html").links
    assert {"api.html", "errata.html", "changelog.html"} <= set(links)


def test_a_module_is_found_without_importing_it():
    """Else every build of the book would load torch, if only to see whether a source page is old."""
    from types import SimpleNamespace

    from sphinx.ext import viewcode

    assert hasattr(viewcode, "get_module_filename")  # what api.py puts its own in the place of
    app = SimpleNamespace(srcdir=harness.ROOT)
    assert api.module_file(app, "latentbook.models.air") == str(harness.ROOT / "src/latentbook/models/air.py")
    assert api.module_file(app, "latentbook.models").endswith("models/__init__.py")
    assert api.module_file(app, "latentbook.nothing") is None
