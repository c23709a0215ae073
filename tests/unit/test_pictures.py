"""Figures as SVG: the same text each time, light and dark from one drawing, and one for a phone whose labels can be read."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.testing.globalipapp import get_ipython as start_ipython
from matplotlib.text import Text
from PIL import Image

from latentbook import figures, style, themes, words
from latentbook.experiments import results
from latentbook.figures import svg as pictures_of
from latentbook.figures.svg import PHONE, as_svg, copied, lay_out, legend_outside

SCREEN = 329  # CSS pixels that a phone of 390 has for a figure
INK = torch.rand(12, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def look():
    with plt.rc_context():
        plt.switch_backend("Agg")
        figures.use_style()
        yield
        plt.close("all")


def lines(panels: int = 1):
    """Plots as a chapter makes them, with a legend that begins over a line."""
    figure, every = plt.subplots(1, panels, figsize=(4 * panels, 3), squeeze=False)
    for axes in every.flat:
        for k, name in enumerate(("the first of the lines", "the second one")):
            axes.plot(np.linspace(0, 1, 9), np.linspace(1, k, 9), label=name)
        axes.set(xlabel="training step", ylabel="KL (nats)", title="a panel")
        axes.legend(loc="upper right")
    return figure


MADE = {
    "a plot": lines,
    "three plots": lambda: lines(3),
    "curves": lambda: figures.curves({"one": [1, 2, 3.0], "two": [3, 2, 1.0]}, ylabel="nats").figure,
    "digits": lambda: figures.show_digits(INK, 12, row_labels=["a row"], column_labels=[str(i) for i in range(12)]),
    "windows": lambda: figures.show_windows(INK[:10, None], {"a": torch.ones(10, 3)}, {"a window": INK[:10, None]}),
    "scenes": lambda: figures.show_rows({"painted": INK[:10, None]}, title="scenes"),
    "completions": lambda: figures.completions_grid(INK[:3], INK[:3].flatten(1)[:, 500:], torch.zeros(3, 18, 500)),
}


def letters(svg: str) -> list[float]:
    """The size of each run of letters, in the drawing's own points."""
    return [100 * float(scale) for scale in re.findall(r"scale\(([\d.]+) -[\d.]+\)", svg)]


def width_of(svg: str) -> float:
    """The width of a drawing, in points."""
    return float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1])


@pytest.mark.parametrize("name", MADE)
def test_a_figure_is_the_same_text_each_time_and_its_letters_can_be_read_on_a_phone(name):
    figure = MADE[name]()
    size, legends = figure.get_size_inches().tolist(), [axes.get_legend() for axes in figure.axes]
    wide, narrow = (as_svg(figure, narrow) for narrow in (False, True))
    assert wide == as_svg(figure) and narrow == as_svg(MADE[name](), narrow=True)
    assert figure.get_size_inches().tolist() == size and [axes.get_legend() for axes in figure.axes] == legends
    for text in (wide, narrow):
        assert ET.fromstring(text).tag.endswith("svg") and len(text) < 200_000
        assert not any(idle in text for idle in ("\n", "<!--", "<metadata"))
    assert width_of(wide) <= 7.8 * 72
    assert letters(narrow) and min(letters(narrow)) * SCREEN / width_of(narrow) >= 11


def test_panels_stand_below_one_another_on_a_phone():
    figure = lay_out(copied(lines(3)))
    figure.draw_without_rendering()
    tops = [axes.get_position().y0 for axes in figure.axes]
    assert figure.get_size_inches()[0] == PHONE and tops == sorted(tops, reverse=True) and len(set(tops)) == 3
    assert {text.get_fontsize() >= 8.5 for text in figure.findobj(Text)} == {True}


def test_what_cannot_be_copied_is_shown_as_it_is():
    figure = lines()
    figure.canvas.own = figure.own = (part for part in ())  # a generator has no copy
    assert "<svg" in as_svg(figure) and as_svg(figure, narrow=True) == ""


def test_a_diagram_stays_whole():
    assert as_svg(figures.draw_vae(), narrow=True) == "" and "<svg" in as_svg(figures.draw_vae())


# Legends


def over_lines(figure) -> list[str]:
    """The legends that lie over a line or a mark of their own panel."""
    figure.draw_without_rendering()
    found = []
    for axes in figure.axes:
        legends = [legend for legend in (axes.get_legend(), *figure.legends) if legend is not None]
        for legend in legends:
            box = legend.get_window_extent()
            for line in axes.lines:
                points = axes.transData.transform(np.column_stack(line.get_data()))
                if any(box.contains(*point) for point in points):
                    found.append(line.get_label())
    return found


@pytest.mark.parametrize("panels", [1, 3])
@pytest.mark.parametrize("narrow", [False, True])
def test_no_legend_lies_over_a_line(panels, narrow):
    figure = lines(panels)
    assert over_lines(figure)  # as matplotlib places it
    own = copied(figure)
    if narrow:
        lay_out(own)
    else:
        pictures_of.arrange_legends(own)
    assert over_lines(own) == []
    shown = [legend for axes in own.axes if (legend := axes.get_legend())] + own.legends
    assert [text.get_text() for text in shown[0].get_texts()] == ["the first of the lines", "the second one"]
    assert len(shown) == 1  # the same words once


def test_the_librarys_plots_keep_their_legends_off_the_lines():
    axes = figures.curves({"up": [1, 2, 3.0], "down": [3, 2, 1.0]}, ylabel="nats")
    assert over_lines(axes.figure) == []
    bottom = axes.get_window_extent().y0
    assert axes.get_legend().get_window_extent().y1 < bottom


def test_curves_of_training_have_colours_of_their_own_and_a_kl_that_of_the_latent():
    ours = {figures.COLOURS["training"], figures.COLOURS["held out"]}
    concepts = set(figures.COLOURS.values()) - ours
    lines = figures.curves({"up": [1, 2], "down": [2, 1]}, ylabel="nats").lines
    assert {line.get_color() for line in lines} == ours and not ours & concepts
    latent = figures.COLOURS["latent"]
    lines = figures.curves({"up": [1, 2], "down": [2, 1]}, ylabel="KL (nats)", colour=latent).lines
    assert {line.get_color() for line in lines} == {latent}
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == 2  # never colour alone
    assert [style.curve(held_out, kl=True)["color"] for held_out in (False, True)] == [latent] * 2
    assert {style.curve(held_out)["color"] for held_out in (False, True)} == ours


def test_a_legend_below_stays_below_the_label():
    figure, axes = plt.subplots()
    axes.plot([1, 2], label="a")
    axes.set_xlabel("a label")
    legend_outside(axes)
    figure.draw_without_rendering()
    assert axes.get_legend().get_window_extent().y1 <= axes.xaxis.label.get_window_extent().y0


# Themes


def test_greys_turn_with_the_paper_and_concepts_keep_their_colour():
    assert themes.in_the_dark("#ffffff") == themes.DARK_PAPER and themes.in_the_dark("#000000") == themes.DARK_INK
    assert themes.in_the_dark(figures.ALWAYS_WHITE) == figures.ALWAYS_WHITE
    assert themes.in_the_dark(figures.ALWAYS_BLACK) == figures.ALWAYS_BLACK
    for name, colour in figures.COLOURS.items():
        found = themes.in_the_dark(colour.lower())
        assert themes.contrast(found, themes.DARK_PAPER) > (4.5 if name != "held out" else 4), name
        assert found == colour.lower() or name in ("data", "training", "held out")
    greys = [themes.in_the_dark(f"#{v:02x}{v:02x}{v:02x}") for v in range(0, 256, 15)]
    assert greys == sorted(greys, reverse=True) and len(set(greys)) == len(greys)


def test_one_drawing_gives_both_themes():
    figure, (plot, image) = plt.subplots(1, 2)
    plot.plot([1, 2], color=figures.COLOURS["latent"])
    image.imshow(INK[0].numpy(), vmin=0, vmax=1)
    svg = as_svg(figure)
    assert "prefers-color-scheme:dark" in svg and "prefers-color-scheme" not in themes.light(svg)
    dark = themes.dark(svg)
    assert "prefers-color-scheme" not in dark and "#ffffff" not in dark and themes.DARK_PAPER in dark
    assert figures.COLOURS["latent"].lower() in dark.lower()
    assert all(ET.fromstring(text).tag.endswith("svg") for text in (dark, themes.light(svg)))

    def pixels(text: str) -> np.ndarray:
        png = re.search(r'base64,([^"]+)"', text)[1]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("L")).astype(int)

    light = pixels(themes.light(svg))
    assert light.shape == (28, 28)  # pixel by pixel, sharp at any density
    assert np.abs(light - (255 - 255 * INK[0].numpy())).max() <= 2
    order = np.corrcoef(light.ravel(), pixels(dark).ravel())[0, 1]
    assert order < -0.999  # ink is light on dark paper


def test_pictures_in_colour_are_the_same_in_both_themes():
    figure, axes = plt.subplots()
    axes.imshow(INK[0].numpy(), cmap="viridis")
    svg = as_svg(figure)
    images = [re.findall(r'base64,[^"]+"', make(svg)) for make in (themes.light, themes.dark)]
    assert images[0] == images[1] != []


def test_a_hatching_of_dots_is_small_and_still_dotted():
    figure, axes = plt.subplots()
    axes.bar([1], [1], hatch="....", edgecolor="white")
    svg = as_svg(figure)
    assert re.search(r"<pattern.*?h 0.*?stroke-linecap:round", svg) and len(svg) < 25_000


# In a notebook


def test_a_notebook_keeps_svg_and_no_png():
    shell = start_ipython() or InteractiveShell.instance()
    figures.use_style()
    figure = lines()
    figure = lines()
    data, _ = shell.display_formatter.format(figure)
    assert set(data) == {"image/svg+xml", themes.NARROW, "text/plain"}
    assert [data[kind] for kind in ("image/svg+xml", themes.NARROW)] == [as_svg(figure), as_svg(figure, narrow=True)]
    assert themes.NARROW not in shell.display_formatter.format(figures.draw_vae())[0]


# Words


def test_every_recorded_variant_has_plain_words():
    assert words.variant(words.PRIMER, "kl-weight-3") == "KL weight 3"
    for name in words.VARIANTS:
        for variant in results.load(name)["variants"]:
            plain = words.variant(words.VARIANTS[name], variant)
            assert plain and "_" not in plain and not re.search(r"[a-z]-\d", plain), plain
        found = [words.variant(words.VARIANTS[name], variant) for variant in results.load(name)["variants"]]
        assert len(set(found)) == len(found), name
    assert words.term("kl_where") == "KL of where (nats)" and words.term("something_else") == "something else"


# What the text says

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*(ROOT / "notebooks").glob("*.md"), *(ROOT / "book").glob("*.md")])
OF_ONE_THEME = re.compile(r"\b(black|white|whitish|dark|darker|darkest|pale|paler|bright|brighter)\b", re.IGNORECASE)


def said(page: str) -> str:
    """What a page says: its text, the descriptions of its pictures and what its cells print, not their code."""

    def words_of(cell: re.Match) -> str:
        return "\n".join(line for line in cell[0].splitlines() if re.match(r"\s*(alt:|print\()", line))

    return re.sub(r"^```\{code-cell\}.*?^```$", words_of, page, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_no_page_says_a_colour_that_is_false_in_one_theme(page):
    text = said(page.read_text(encoding="utf-8"))
    assert [text[max(0, m.start() - 50) : m.end() + 30] for m in OF_ONE_THEME.finditer(text)] == []


def test_a_colour_of_one_theme_would_be_seen():
    code = 'plt.plot(color="white")\nprint("white is 0")'
    cell = f"```{{code-cell}} ipython3\n---\n    alt: A black cell.\n---\n{code}\n```\nBlack means 1.\n"
    assert [found[0].lower() for found in OF_ONE_THEME.finditer(said(cell))] == ["black", "white", "black"]


@pytest.mark.parametrize(
    "page", [path for path in PAGES if path.parent.name == "notebooks"], ids=lambda path: path.stem
)
def test_captions_begin_with_what_they_say(page):
    assert "*What to see" not in page.read_text(encoding="utf-8")


def test_a_compact_drawing_is_smaller_whole_and_the_same_when_it_is_made_again():
    figure, axes = plt.subplots()
    axes.scatter(*np.random.default_rng(0).random((2, 300)), s=9)
    svg = as_svg(figure)
    once = themes.compact(svg)
    assert len(once) < len(svg) / 2 and themes.compact(once) == once
    names = re.findall(r'\bid="([^"]+)"', once)
    assert len(set(names)) == len(names)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', once)) <= set(names)
    ET.fromstring(once)


def test_compact_numbers_and_outlines_lose_no_more_than_they_may():
    assert [themes.shortest(n, 2) for n in ("-0.50", "0.004", "-0.004", "12.345678", "100", "0")] == [
        *("-.5", "0", "0", "12.35", "100", "0")
    ]
    assert themes.outline("M 1.004 2 L -0.5 3.25 z") == "M1 2L-.5 3.25z"


def test_a_packed_drawing_is_given_back():
    svg = as_svg(lines())
    assert themes.unpacked(themes.packed(svg)) == svg == themes.unpacked(svg)
    assert len(themes.packed(svg)) < len(svg) / 2 and themes.unpacked("") == ""
