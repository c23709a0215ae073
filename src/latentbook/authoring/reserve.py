"""The room that figures and formulas of the built site take: the site keeps it until they are there, so that nothing moves.

Figures have a height for each width, by pointer; formulas, whose fonts the site brings along, one size in the text's em.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from latentbook.authoring.site import built_site, pages, served, started
from latentbook.files import check_writable, write_whole

FIGURES, FORMULAS = Path("book/_ext/figure-heights.json"), Path("book/_ext/formula-sizes.json")
FROM, STEP, TO = 240, 8, 1072  # pixels of width at which heights are measured
SCREENS = {  # by pointer: a screen, and up to which width figures are measured on it
    "fine": [({"width": 1400, "height": 900}, TO)],
    "coarse": [({"width": 390, "height": 844}, 480), ({"width": 820, "height": 1180}, TO)],
}
HEIGHTS = """async (widths) => {
  const found = {}, seen = {};
  await latentbook.ready;
  for (const div of document.querySelectorAll("div.lb-static")) {
    await latentbook.start(div);
    for (let n = 0, calm = 0, was = 0; n < 400 && calm < 12; n++) { // its pictures come later, and choices with them
      await new Promise((resolve) => setTimeout(resolve, 50));
      const wait = div.hasAttribute("aria-busy") || was !== (was = div.firstChild.offsetHeight);
      calm = wait ? 0 : calm + 1;
    }
    const number = (seen[div.dataset.name] = (seen[div.dataset.name] ?? -1) + 1);
    div.style.minHeight = "0";
    found[`${div.dataset.name}-${number}`] = widths.map((width) => {
      div.style.width = `${width}px`;
      return Math.ceil(div.getBoundingClientRect().height);
    });
    div.style.width = div.style.minHeight = "";
  }
  return found;
}"""
READ_TEX = """document.addEventListener("DOMContentLoaded", () => {
  window.written = [...document.querySelectorAll("span.math, div.math")].map((node) => [node, node.textContent]);
});"""
SIZES = """async () => {
  await latentbook.ready;
  await document.fonts.ready;
  return window.written.map(([node, text]) => {
    const em = parseFloat(getComputedStyle(node).fontSize), set = node.querySelector("mjx-container");
    const { width, height } = (node.tagName === "DIV" ? node : set ?? node).getBoundingClientRect();
    return [text, width / em, height / em];
  });
}"""
SAMPLE = """() => {  // the width of some words of the text: where it is another, other fonts are in use
  const words = document.createElement("span");
  words.textContent = "When does a decoder listen to a latent, and when does it ignore it?";
  words.style.cssText = "position: absolute; white-space: nowrap; font-size: 100px";
  document.querySelector("article").append(words);
  const { width } = words.getBoundingClientRect();
  words.remove();
  return Math.round(width);
}"""
TEX = re.compile(r"\\\(.*\\\)|\\\[.*\\\]", re.DOTALL)


def formula_key(text: str) -> str:
    """The name of a formula as the page writes it, its number left aside."""
    found = TEX.search(text)
    return hashlib.sha256((found[0] if found else text).encode()).hexdigest()[:12]


def figure_heights(browser: Any, address: str) -> dict[str, dict[str, list[int]]]:
    """Heights in pixels of a page's figures: {"repeat-0": {"fine": [240, 8, 900, 895, ...], "coarse": [...]}}.

    A row begins with its first width and the step to the next; `fine` is for a mouse, `coarse` for a finger.
    """
    rows: dict[str, dict[str, list[int]]] = {}
    for pointer, screens in SCREENS.items():
        least, touch = FROM, pointer == "coarse"
        for screen, most in screens:
            widths = list(range(least, most + 1, STEP))
            least = most + STEP
            context = browser.new_context(viewport=screen, has_touch=touch, is_mobile=touch, reduced_motion="reduce")
            page = context.new_page()
            page.goto(address, wait_until="load")
            for name, heights in page.evaluate(HEIGHTS, widths).items():
                rows.setdefault(name, {}).setdefault(pointer, [FROM, STEP]).extend(heights)
            context.close()
    return rows


def formula_sizes(browser: Any, address: str) -> dict[str, list[float]]:
    """Width and height of a page's formulas by `formula_key`, in em of the text; of those between lines the height alone."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.add_init_script(READ_TEX)
    page.goto(address, wait_until="load")
    found = page.evaluate(SIZES)
    context.close()
    return {
        formula_key(text): [round(width, 2), round(height, 2)] if "\\(" in text else [round(height, 2)]
        for text, width, height in found
    }


def sample(page: Any) -> int:
    """How wide some words are on an open page in the fonts of this machine, in hundredths of an em."""
    return page.evaluate(SAMPLE)


def reserve(folder: Path | None = None, figures: Path = FIGURES, formulas: Path = FORMULAS) -> tuple[Path, Path]:
    """Measure the built site and write what was found where its next build looks for it.

    Raises ValueError without a built site or a browser, OSError where one of the two files cannot be written.
    """
    site = built_site(folder)
    for path in (figures, formulas):
        check_writable(path, "the room for figures and formulas")
    heights: dict[str, Any] = {}
    sizes: dict[str, list[float]] = {}
    with started() as browser, served(site) as home:
        page = browser.new_page()
        page.goto(home + pages(site)[0], wait_until="load")
        fonts = sample(page)
        page.close()
        for page in pages(site):
            text = (site / page).read_text(encoding="utf-8")
            if 'class="lb-static"' in text:
                heights[page.removesuffix(".html")] = figure_heights(browser, home + page)
            if "data-formulas=" in text:
                sizes |= formula_sizes(browser, home + page)
    table = {"fonts": str(fonts)} | {page: in_lines(found, 2) for page, found in heights.items()}
    texts = {figures: in_lines(table, 1, raw=True), formulas: in_lines(dict(sorted(sizes.items())), 1)}
    for path, text in texts.items():
        write_whole(path, text)
    return figures, formulas


def in_lines(table: dict[str, Any], depth: int, raw: bool = False) -> str:
    """A JSON object with an entry a line; `raw` for values that are JSON already."""
    space = "\n" + " " * depth
    entries = (
        f"{json.dumps(key)}: {value if raw else json.dumps(value, separators=(',', ':'))}"
        for key, value in table.items()
    )
    return "{" + space + f",{space}".join(entries) + "\n" + " " * (depth - 1) + "}" + ("\n" if depth == 1 else "")
