"""The few glyphs of the theme's buttons as inline SVG, in place of an icon font and its script."""

import re

DRAWN = {  # 16 by 16, drawn with a line of 1.5 in the colour of the text
    "angle-left": "M10 3 5 8l5 5",
    "angle-right": "m6 3 5 5-5 5",
    "arrow-up": "M8 14V2.5M3 7.5l5-5 5 5",
    "bars": "M2 3.5h12M2 8h12M2 12.5h12",
    "chevron-down": "m3 6 5 5 5-5",
    "circle-half-stroke": "M8 1.75a6.25 6.25 0 1 0 0 12.5a6.25 6.25 0 1 0 0-12.5M8 2v12M10 3v10M12 4.5v7",
    "download": "M8 1.75v8.5M4.5 7 8 10.5 11.5 7M2 11v3h12v-3",
    "expand": "M2 5.5V2h3.5M10.5 2H14v3.5M14 10.5V14h-3.5M5.5 14H2v-3.5",
    "file": "M3.5 1.75h6l3 3v9.5h-9zM9.5 1.75v3h3",
    "file-pdf": "M3.5 1.75h6l3 3v9.5h-9zM9.5 1.75v3h3M5.5 8h5M5.5 11h5",
    "github": "m5 4-4 4 4 4M11 4l4 4-4 4M9 2.5l-2 11",
    "lightbulb": "M5.5 10.5a4.5 4.5 0 1 1 5 0V12h-5zM6 14.25h4",
    "list": "M1.75 3.5h1M1.75 8h1M1.75 12.5h1M5.5 3.5h8.75M5.5 8h8.75M5.5 12.5h8.75",
    "magnifying-glass": "M6.75 1.75a5 5 0 1 0 0 10a5 5 0 1 0 0-10M10.5 10.5l4 4",
    "moon": "M13.5 9.5A6 6 0 0 1 6.5 2.5a6 6 0 1 0 7 7z",
    "rocket": "M5 11 3.5 9.5C4.5 5.5 8 2 14 2c0 6-3.5 9.5-7.5 10.5L5 11M3.5 9.5H1.75l2-3M6.5 12.5v1.75l3-2M9.5 6.5h.01",
    "sun": "M8 5a3 3 0 1 0 0 6a3 3 0 1 0 0-6M8 .75v1.5M8 13.75v1.5M.75 8h1.5M13.75 8h1.5"
    "M2.9 2.9 4 4M12 12l1.1 1.1M2.9 13.1 4 12M12 4l1.1-1.1",
}  # fmt: skip
GLYPH = re.compile(r'<(i|span)\s+class="([^"]*\bfa-[^"]*)"([^>]*)>\s*</\1>')
STYLES = re.compile(r"fa[srb]?|fa-(?:solid|regular|brands|lg|fw)")


def draw_icons(page: str) -> str:
    """The page's HTML with every glyph of the icon font as an SVG, its other classes and data attributes kept.

    The words stay with the button around it, so the drawing itself is hidden from those who listen. Raises ValueError
    for a glyph that is not drawn here.
    """
    return GLYPH.sub(_icon, page)


def _icon(found: re.Match) -> str:
    classes = [name for name in found[2].split() if not STYLES.fullmatch(name)]
    names = [name.removeprefix("fa-") for name in classes if name.startswith("fa-")]
    if len(names) != 1 or names[0] not in DRAWN:
        raise ValueError(f"no drawing for the icon {found[2]!r}: add it to book/_ext/light_icons.py")
    kept = " ".join(["lb-icon", *(name for name in classes if not name.startswith("fa-"))])
    data = "".join(re.findall(r'\s+data-[\w-]+="[^"]*"', found[3]))
    shape = f'<path d="{DRAWN[names[0]]}"/>'
    return f'<svg class="{kept}"{data} viewBox="0 0 16 16" aria-hidden="true" focusable="false">{shape}</svg>'
