"""Pictures on the built site: each theme shows its own, ink on paper, and a phone shows a drawing that can be read there."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import site_harness as harness
from PIL import Image

from latentbook import themes
from latentbook.figures.svg import as_svg

EXTENSION = harness.ROOT / "book" / "_ext" / "pictures.py"
WIDE = (
    '<svg class="lb-svg" width="540pt" height="180pt" viewBox="0 0 540 180"><style>/* dark */@media x{.a{fill:#e6e9ec}}</style>'
    '<path style="fill:#ffffff"/><path style="stroke:#009e73"/></svg>'
)
NARROW = WIDE.replace("540", "252").replace("180", "360")


@pytest.fixture(scope="module")
def helper():
    spec = importlib.util.spec_from_file_location("pictures_helper", EXTENSION)
    module = importlib.util.module_from_spec(spec)
    sys.modules["pictures_helper"] = module
    spec.loader.exec_module(module)
    return module


def notebook(folder: Path, **narrow: str) -> Path:
    path = folder / "some.ipynb"
    output = {"data": {"image/svg+xml": WIDE, **narrow}}
    cells = [{"cell_type": "code", "outputs": [output, {"text": "some"}]}, {"cell_type": "markdown"}]
    path.write_text(json.dumps({"cells": cells}))
    return path


def test_the_helper_finds_both_drawings_by_the_name_of_their_file(helper, tmp_path):
    found = helper.drawings(notebook(tmp_path, **{themes.NARROW: NARROW}))
    ((name, both),) = found.items()
    assert both == (WIDE, NARROW) and re.fullmatch("[0-9a-f]{64}", name)
    alone = helper.drawings(notebook(tmp_path))
    assert alone == {name: (WIDE, "")}


def test_the_helper_writes_a_file_for_each_theme_and_width(helper, tmp_path):
    helper.put(tmp_path, "abc", WIDE, NARROW)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["abc-dark.svg", "abc-light.svg", "abc-narrow-dark.svg", "abc-narrow-light.svg"]
    light, dark = ((tmp_path / f"abc-{theme}.svg").read_text() for theme in ("light", "dark"))
    assert "#ffffff" in light and "@media" not in light + dark
    assert "#ffffff" not in dark and themes.DARK_PAPER in dark and "#009e73" in dark


def test_a_picture_has_its_size_its_words_and_a_source_for_phones(helper):
    html = helper.picture("abc", WIDE, NARROW, "../_images/", "a &quot;plot&quot;")
    assert html.count('width="720" height="240"') == 2 and html.count('width="336" height="480"') == 2
    assert html.count('alt="a &quot;plot&quot;"') == html.count('loading="lazy"') == 2
    assert re.findall(r'<picture class="([^"]+)">', html) == ["only-light", "only-dark"]
    scrolled = helper.picture("abc", WIDE, "", "../_images/", "a diagram")
    assert "<source" not in scrolled and 'tabindex="0"' in scrolled and "--lb-least: " in scrolled


@pytest.fixture(scope="module")
def page_of_pictures(helper, built):
    """A plot, digits and a diagram as a chapter's page holds them, in HTML, and their files among the site's images."""
    import matplotlib.pyplot as plt
    import torch

    from latentbook import figures

    plt.switch_backend("Agg")
    with plt.rc_context():
        figures.use_style()
        figure, panels = plt.subplots(1, 2, figsize=(9, 3))
        for axes in panels:
            axes.plot([1, 2, 3], label="a line")
            axes.set(xlabel="epoch", ylabel="nats")
        panels[0].legend()
        ink = torch.rand(10, 28, 28, generator=torch.Generator().manual_seed(0))
        drawn = {
            "plot": figure,
            "digits": figures.show_digits(ink, 10, row_labels=["some"]),
            "diagram": figures.draw_vae(),
        }
        html, narrow = "", {}
        for name, each in drawn.items():
            wide, narrow[name] = figures.as_svg(each), figures.as_svg(each, narrow=True)
            helper.put(built / "_images", f"test-{name}", wide, narrow[name])
            picture = helper.picture(f"test-{name}", wide, narrow[name], "../_images/", "a picture for tests")
            html += f'<div class="cell docutils container"><div class="cell_output docutils container">{picture}</div></div>'
        plt.close("all")
    yield html, narrow, wide
    for path in (built / "_images").glob("test-*.svg"):
        path.unlink()


def show(page, html: str) -> list[dict]:
    """Put the pictures in the page; what is seen of them: address and box."""
    return page.evaluate(
        """async html => {
            document.querySelector("article section").insertAdjacentHTML("afterbegin", html);
            const seen = [...document.querySelectorAll("article .cell_output img[src*=test-]")]
                .filter(image => image.offsetParent);
            for (const image of seen) image.loading = "eager";
            await Promise.all(seen.map(image => image.decode()));
            return seen.map(image => ({
                address: image.currentSrc.split("/").pop(), width: image.getBoundingClientRect().width,
                height: image.getBoundingClientRect().height, room: image.closest(".cell_output").clientWidth }));
        }""",
        html,
    )


def corner(page) -> list[int]:
    """The colour of the first visible picture's paper, as the browser draws it."""
    return page.evaluate(
        """() => {
            const image = [...document.querySelectorAll("article .cell_output img[src*=test-]")]
                .find(image => image.offsetParent);
            const canvas = document.createElement("canvas"), paper = canvas.getContext("2d");
            canvas.width = canvas.height = 4;
            paper.drawImage(image, 0, 0);
            return [...paper.getImageData(1, 1, 1, 1).data];
        }"""
    )


@pytest.mark.parametrize(("dark", "paper"), [(False, themes.LIGHT_PAPER), (True, themes.DARK_PAPER)])
def test_each_theme_shows_its_own_pictures_on_its_own_paper(visit, page_of_pictures, dark, paper):
    page = visit(harness.PAGE, dark=dark)
    theme = "dark" if dark else "light"
    seen = show(page, page_of_pictures[0])
    assert [each["address"] for each in seen] == [f"test-{name}-{theme}.svg" for name in ("plot", "digits", "diagram")]
    assert corner(page) == [*themes.channels(paper), 255]


def test_the_switch_of_the_page_changes_the_pictures(visit, page_of_pictures):
    page = visit(harness.PAGE)
    show(page, page_of_pictures[0])
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    seen = page.locator("article .cell_output img:visible")
    assert all(seen.nth(i).get_attribute("src").endswith("-dark.svg") for i in range(3)) and seen.count() == 3


@pytest.mark.parametrize("dark", [False, True])
def test_letters_are_eleven_pixels_high_on_a_phone(visit, page_of_pictures, dark):
    page = visit("notebooks/00-variational-autoencoders.html", phone=True, dark=dark)  # with the room of a chapter
    plot, digits, diagram = show(page, page_of_pictures[0])
    for name, seen in (("plot", plot), ("digits", digits)):
        assert seen["address"] == f"test-{name}-narrow-{'dark' if dark else 'light'}.svg"
        drawing = page_of_pictures[1][name]
        width = float(re.search(r'viewBox="0 0 ([\d.]+)', drawing)[1])
        least = min(100 * float(scale) for scale in re.findall(r"scale\(([\d.]+) -", drawing))
        assert least * seen["width"] / width >= 11 and seen["width"] <= seen["room"] + 1
    assert diagram["width"] > diagram["room"]  # it scrolls in its own box, and the page does not
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    least = min(100 * float(scale) for scale in re.findall(r"scale\(([\d.]+) -", page_of_pictures[2]))
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', page_of_pictures[2])[1])
    assert least * diagram["width"] / width >= 10.99


def test_headings_weigh_less_as_their_level_falls(visit):
    page = visit("notebooks/05-attend-infer-repeat.html")
    weight = "name => Number(getComputedStyle(document.querySelector(`article ${name}`)).fontWeight)"
    weights = [page.evaluate(weight, name) for name in ("h1", "h2", "h3")]
    sizes = [page.evaluate(weight.replace("fontWeight", "fontSize.slice(0, -2)"), name) for name in ("h1", "h2", "h3")]
    assert weights == sorted(weights, reverse=True) and sizes == sorted(sizes, reverse=True) and sizes[1] > sizes[2]


def test_a_compact_drawing_looks_the_same(browser):
    """Marks in one style each and in one style all, lines, letters, a picture: the same pixels but for the edges."""
    figure, (one, other) = plt.subplots(1, 2, figsize=(7, 3))
    spots = np.random.default_rng(0).random((2, 200))
    one.scatter(*spots, s=16, c=spots[0])
    other.scatter(*spots, s=16, marker="$8$", color="#009e73")
    other.plot(*np.sort(spots), label="a line")
    other.imshow(spots[:, :2], extent=(0.4, 0.6, 0.4, 0.6))
    other.set(xlim=(0, 1), ylim=(0, 1), aspect="auto")  # all of it, not the picture alone
    svg = as_svg(figure)
    plt.close(figure)
    page, seen = browser.new_page(viewport={"width": 700, "height": 320}), []
    for drawing in (svg, themes.compact(svg)):
        page.set_content(f'<body style="margin:0">{drawing}')
        seen.append(np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"), float))
    page.close()
    assert seen[0].std() > 20  # something was drawn
    assert np.abs(seen[0] - seen[1]).mean() < 0.5 and (np.abs(seen[0] - seen[1]) > 64).mean() < 0.002
