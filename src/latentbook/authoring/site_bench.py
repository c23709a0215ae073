"""What a page of the site weighs, and when its text and its first figure are there on a slow line."""

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from latentbook.authoring.site import built_site, pages, served, started

WIDE, PHONE = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
SLOW = {
    "bits": 1.6e6,
    "milliseconds": 150,
    "cpu": 4,
}  # a line in bits a second, its delay, and how much slower the CPU is
# Runs before a page's own scripts: goes to the first figure as soon as it can be seen, and notes when it is live, when it
# has all of its model, and every layout shift that no hand has caused.
WATCH = """(() => {
  const noted = (window.noted = { live: null, whole: null, shifts: [] });
  const name = (node) => `${node?.nodeName}.${node?.className ?? ""}`.slice(0, 80);
  new PerformanceObserver((list) => { for (const entry of list.getEntries()) if (!entry.hadRecentInput)
    noted.shifts.push({ value: entry.value, start: entry.startTime, nodes: entry.sources.map(({ node }) => name(node)) });
  }).observe({ type: "layout-shift", buffered: true });
  let figure = null;
  const look = () => {
    if (figure.dataset.live) noted.live ??= performance.now();
    if (figure.dataset.live && !figure.hasAttribute("aria-busy")) noted.whole ??= performance.now();
  };
  const go = () => {
    const first = document.querySelector("div.lb-static");
    if (first && !figure) new MutationObserver(look).observe((figure = first), { attributes: true });
    if (figure) look();
    if (figure && window.goToFigure) figure.scrollIntoView({ block: "center", behavior: "instant" });
    if (document.readyState === "loading") requestAnimationFrame(go);
  };
  requestAnimationFrame(go);
  document.addEventListener("DOMContentLoaded", go);
})();"""
READ = """async () => {
  await window.latentbook.ready;
  await document.fonts.ready;
  await new Promise((resolve) => {
    const figure = window.goToFigure && document.querySelector("div.lb-static");
    const wait = () => (!figure || noted.whole ? resolve() : setTimeout(wait, 50));
    wait();
  });
  const [page] = performance.getEntriesByType("navigation"), paint = performance.getEntriesByName("first-contentful-paint")[0];
  const files = performance.getEntriesByType("resource").map(({ name, initiatorType, startTime, responseEnd, encodedBodySize }) =>
    ({ name, initiatorType, startTime, responseEnd, encodedBodySize }));
  return { own: page.encodedBodySize, read: page.domContentLoadedEventStart, paint: paint?.startTime ?? null,
    formulas: performance.now(), files, live: noted.live, whole: noted.whole };
}"""
DOWN = """async () => {
  const frame = () => new Promise((resolve) => { // a browser that is busy may draw none for long
    requestAnimationFrame(() => setTimeout(resolve));
    setTimeout(resolve, 250);
  });
  for (let y = 0; y < document.documentElement.scrollHeight; y += 0.8 * innerHeight) {
    scrollTo({ top: y, behavior: "instant" });
    await frame();
    for (let n = 0; n < 2 || (n < 600 && document.querySelector("[aria-busy]")); n++) await frame();
  }
  return { shifts: noted.shifts, heights: [...document.querySelectorAll("div.lb-static")].map((figure) => figure.offsetHeight) };
}"""


def weigh(found: dict[str, Any]) -> dict[str, Any]:
    """Gzipped bytes that a page, as READ tells of it, had fetched for its text and until its first figure was live.

    For the text counts all that was asked for before the page was parsed and its scripts had run, but for pictures and the
    states of figures.
    """

    def size(wanted: Iterable[dict[str, Any]]) -> int:
        return int(found["own"] + sum(file["encodedBodySize"] for file in wanted))

    text = (f for f in found["files"] if f["startTime"] <= found["read"] and not has_no_words(f["name"]))
    live = found["live"]
    figure = None if live is None else size(f for f in found["files"] if f["responseEnd"] <= live)
    return {"text_bytes": size(text), "figure_bytes": figure, "all_bytes": size(found["files"])}


def has_no_words(name: str) -> bool:
    """Whether a file is a picture or belongs to a figure alone."""
    return name.split("?")[0].endswith((".png", ".svg", ".jpg")) or "/states/" in name


def visit(
    browser: Any, address: str, slow: bool = False, phone: bool = False, to_figure: bool = True
) -> dict[str, Any]:
    """Open a page with an empty cache and go to its first figure; bytes, and milliseconds from the click.

    {"text_bytes", "figure_bytes", "all_bytes", "text_ms", "figure_ms", "whole_ms"}; None where a page has no figure.
    """
    context = browser.new_context(viewport=PHONE if phone else WIDE, has_touch=phone, reduced_motion="reduce")
    try:
        page = context.new_page()
        page.add_init_script(f"window.goToFigure = {str(to_figure).lower()};")
        page.add_init_script(WATCH)
        if slow:
            throttle(context.new_cdp_session(page))
        page.goto(address, wait_until="load", timeout=120_000)
        found = page.evaluate(READ)
        times = {"text_ms": found["paint"], "figure_ms": found["live"], "whole_ms": found["whole"]}
        return weigh(found) | times
    finally:
        context.close()


def read_through(page: Any, address: str) -> dict[str, Any]:
    """Open a page in a tab with an empty cache and read it from its head to its end.

    {"text_bytes", "shifts": [{"value", "start", "nodes"}, ...], "heights": [pixels, ...]}: bytes as `visit` counts them, and
    the height of every figure once it stands.
    """
    page.add_init_script(WATCH)
    page.goto(address, wait_until="load")
    weight = weigh(page.evaluate(READ))
    return {"text_bytes": weight["text_bytes"]} | page.evaluate(DOWN)


# Draws on a figure's pad, a stroke of many moves, and gives the milliseconds from each move until a new picture stands.
STROKES = """async (name) => {
  const div = document.querySelector(`div.lb-static[data-name="${name}"]`), pad = div.querySelector(".lb-pad-surface");
  div.querySelector(".lb-question .lb-button")?.click();
  const live = div.querySelector(".lb-live > div"), times = [];
  const box = pad.getBoundingClientRect();
  const send = (type, x, y) => pad.dispatchEvent(new PointerEvent(type, { pointerId: 1, isPrimary: true, pointerType: "mouse",
    button: 0, buttons: 1, bubbles: true, clientX: box.left + x * box.width, clientY: box.top + y * box.height }));
  pad.setPointerCapture = () => {};
  const changed = (turn) => new Promise((resolve) => {
    const look = () => (live.dataset.turn !== turn ? resolve(performance.now()) : setTimeout(look, 0));
    look();
  });
  send("pointerdown", 0.3, 0.2);
  for (let k = 1; k <= 40; k++) {
    await new Promise((resolve) => setTimeout(resolve, 30));
    const turn = live.dataset.turn, start = performance.now();
    send("pointermove", 0.3 + 0.4 * Math.sin(k / 8) ** 2, 0.2 + 0.015 * k);
    times.push((await changed(turn)) - start);
  }
  send("pointerup", 0.6, 0.8);
  return times;
}"""
PADS = {  # figures that answer strokes, and where they stand
    "contradict": "book/index.html",
    "complete": "notebooks/01-mix-and-match.html",
}


def strokes(browser: Any, address: str, name: str, slow: bool = False) -> float:
    """The median of milliseconds from a move on a figure's pad to its new picture.

    slow: with a CPU as in SLOW, and all of it in the page, for a browser's Workers cannot be slowed down.
    """
    context = browser.new_context(viewport=WIDE)
    try:
        page = context.new_page()
        page.add_init_script("delete window.Worker;" if slow else "")
        page.goto(address, wait_until="load")
        page.locator(f'div.lb-static[data-name="{name}"]').scroll_into_view_if_needed()
        page.wait_for_selector(f'div.lb-static[data-name="{name}"] .lb-live > div[data-live]')
        if slow:
            context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": SLOW["cpu"]})
        return statistics.median(page.evaluate(STROKES, name))
    finally:
        context.close()


def throttle(session: Any) -> None:
    """Make a page's line and CPU slow."""
    rate = SLOW["bits"] / 8
    line = {"offline": False, "latency": SLOW["milliseconds"], "downloadThroughput": rate, "uploadThroughput": rate}
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", line)
    session.send("Emulation.setCPUThrottlingRate", {"rate": SLOW["cpu"]})


def bench(folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """Every page of the built site on a slow line, by its path; where it has a pad, also its strokes: {"strokes": {figure:
    {"stroke_ms", "slow_stroke_ms"}}}. Raises ValueError without a built site or a browser.
    """
    site = built_site(folder)
    with started() as browser, served(site) as home:
        found = {page: visit(browser, home + page, slow=True) for page in pages(site)}
        for name, page in PADS.items():
            times = {f"{kind}stroke_ms": strokes(browser, home + page, name, bool(kind)) for kind in ("", "slow_")}
            found[page]["strokes"] = found[page].get("strokes", {}) | {name: times}
        return found


def in_words(found: dict[str, dict[str, Any]]) -> str:
    """The measurements as a table."""
    line = "{:44}{:>10}{:>12}{:>9}{:>11}{:>12}{:>12}"
    title = "{bits:.1f} Mbit/s, {milliseconds} ms, {cpu}x slower CPU; kB gzipped; the reader goes straight to the first figure"
    head = line.format("", "text, kB", "figure, kB", "all, kB", "text, s", "figure, s", "model, s")
    rows = [title.format(**SLOW | {"bits": SLOW["bits"] / 1e6}), head]
    for page, row in found.items():
        sizes = [_shown(row[f"{part}_bytes"], "{:.0f}") for part in ("text", "figure", "all")]
        times = [_shown(row[f"{part}_ms"], "{:.1f}") for part in ("text", "figure", "whole")]
        rows.append(line.format(page, *sizes, *times))
    said = "{}, {}: {stroke_ms:.0f} ms from a stroke to its picture, {slow_stroke_ms:.0f} ms with a CPU {}x slower (medians)"
    for page, row in found.items():
        rows += [said.format(page, name, SLOW["cpu"], **times) for name, times in row.get("strokes", {}).items()]
    return "\n".join(rows)


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value / 1000)
