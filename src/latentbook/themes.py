"""SVG pictures in the light and in the dark: one drawing on white paper, its colours told anew for dark paper."""

from __future__ import annotations

import base64
import io
import re
import zlib
from functools import cache
from itertools import groupby

LIGHT_PAPER, LIGHT_INK = "#ffffff", "#000000"
DARK_PAPER, DARK_INK = "#14181e", "#e6e9ec"
IN_THE_DARK = {  # colours that are no grey and too dark to be read on dark paper
    "#0072b2": "#2d8fd0",  # data
    "#8a2f00": "#e08a5f",  # gradients that flow back
}
NARROW = "application/vnd.latentbook.narrow+svg"  # beside "image/svg+xml" in a notebook: the same for a phone

COLOUR = re.compile(r"#[0-9a-f]{6}\b")
IMAGE = re.compile(r'(<image\b[^>]*?)xlink:href="data:image/png;base64,([^"]+)"([^>]*>)', re.DOTALL)
SHEET = re.compile(r"<style>/\* dark \*/.*?</style>", re.DOTALL)
ROOT = re.compile(r"<svg\b")
MARKS = re.compile(r'<use xlink:href="#[^"]+" x="[^"]+" y="[^"]+" style="([^"]*)"/>')
RUN = re.compile(rf"(?:{MARKS.pattern.replace('([^', '(?:[^')}){{3,}}")
SPOTTED = r'x="[^"]+" y="[^"]+"/>'
SAME = re.compile(
    rf'<g style="([^"]*)">(<use xlink:href="(#[^"]+)" {SPOTTED}(?:<use xlink:href="\3" {SPOTTED}){{9,}})</g>'
)
SPOT = re.compile(r'x="([^"]+)" y="([^"]+)"')
POINTING = re.compile(r'(\bid="|href="#|url\(#)([^")]+)')
PLACE = re.compile(r'(?<=[ "])([xy]=)"(-?[\d.]+)"')
OUTLINE = re.compile(r' d="([^"]*)"')
PART = re.compile(r"[A-Za-z]|-?\d*\.?\d+(?:e-?\d+)?")
NAMED = re.compile(r'\bid="([^"]+)"')
GREY = "lb-grey"  # the class of embedded pictures without colour: ink on paper, whichever those are


@cache
def in_the_dark(colour: str) -> str:
    """A colour `#rrggbb` as it is drawn on dark paper: greys between paper and ink, readable colours as they are.

    A grey that must not change with the paper is written one step off: `#fffffe`, `#010000`.
    """
    if colour in IN_THE_DARK:
        return IN_THE_DARK[colour]
    red, green, blue = channels(colour)
    if not red == green == blue:
        return colour
    ends = zip(channels(DARK_INK), channels(DARK_PAPER), strict=True)
    return "#" + "".join(f"{round(ink + (paper - ink) * red / 255):02x}" for ink, paper in ends)


def channels(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of `#rrggbb`, 0 to 255."""
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def contrast(one: str, other: str) -> float:
    """The contrast of two colours `#rrggbb`, 1 to 21, as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in channels(colour))
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def themed(svg: str) -> str:
    """A light drawing that turns dark by itself where whoever shows it prefers dark pages: a notebook's front end, a viewer."""
    rules = [".lb-svg{fill:" + DARK_INK + "}", f".lb-svg .{GREY}{{filter:invert(1);mix-blend-mode:screen}}"]
    for colour in sorted(set(COLOUR.findall(svg))):
        if (dark := in_the_dark(colour)) != colour:
            rules.append(f'.lb-svg [style*="fill:{colour}"],.lb-svg [fill="{colour}"]{{fill:{dark}!important}}')
            rules.append(f'.lb-svg [style*="stroke:{colour}"]{{stroke:{dark}!important}}')
    sheet = "<style>/* dark */@media (prefers-color-scheme:dark){" + "".join(rules) + "}</style>"
    head, tail = svg.split(">", 1)
    return ROOT.sub('<svg class="lb-svg"', head, count=1) + ">" + sheet + tail


def light(svg: str) -> str:
    """A themed drawing that stays light."""
    return SHEET.sub("", svg)


def dark(svg: str) -> str:
    """A themed drawing that stays dark."""

    def turned(found: re.Match) -> str:
        if GREY not in found[0]:
            return found[0]
        return f'{found[1]}xlink:href="data:image/png;base64,{inverted(found[2])}"{found[3]}'

    parts = re.split(r'("data:image/png;base64,[^"]*")', light(svg))  # the letters of pictures are no colours
    told = "".join(part if i % 2 else COLOUR.sub(lambda c: in_the_dark(c[0]), part) for i, part in enumerate(parts))
    return IMAGE.sub(turned, ROOT.sub(f'<svg fill="{DARK_INK}"', told, count=1))


def inverted(png: str) -> str:
    """A grey PNG in base64 for dark paper: black becomes its ink, white the paper itself."""
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("LA")
    grey, alpha = picture.split()
    ends = zip(channels(DARK_INK), channels(DARK_PAPER), strict=True)
    planes = [grey.point([round(ink + (paper - ink) * value / 255) for value in range(256)]) for ink, paper in ends]
    return encoded(Image.merge("RGBA", [*planes, alpha]))


def encoded(picture) -> str:
    """A PIL image as a PNG in base64, in as few bytes as its colours need."""
    if "A" in picture.mode and picture.getchannel("A").getextrema() == (255, 255):
        picture = picture.convert("RGB" if picture.mode == "RGBA" else "L")
    if picture.mode == "RGB" and (colours := picture.getcolors(256)):
        picture = picture.quantize(len(colours), dither=0)
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def compact(svg: str) -> str:
    """The same drawing in fewer letters: marks that follow one another share one style, and names are short."""

    def shared(found: re.Match) -> str:
        marks = [(mark[1], mark[0].replace(f' style="{mark[1]}"', "")) for mark in MARKS.finditer(found[0])]
        runs = ((style, "".join(mark for _, mark in run)) for style, run in groupby(marks, key=lambda mark: mark[0]))
        return "".join(f'<g style="{style}">{run}</g>' for style, run in runs)

    svg = PLACE.sub(lambda found: f'{found[1]}"{shortest(found[2], 1)}"', RUN.sub(shared, svg))
    svg = SAME.sub(marked, svg)
    svg = OUTLINE.sub(lambda found: f' d="{outline(found[1])}"', svg)
    short = {name: f"u{number}" for number, name in enumerate(dict.fromkeys(NAMED.findall(svg)))}
    svg = POINTING.sub(lambda found: found[1] + short.get(found[2], found[2]), svg)  # all at once: none meets another's
    return svg


def marked(run: re.Match) -> str:
    """Many marks of one kind as the markers of one path, which itself is not drawn."""
    style, uses, mark = run[1], run[2], run[3]
    spots = "L".join(f"{x} {y}" for x, y in SPOT.findall(uses))
    name = f"{mark[1:]}-{zlib.crc32(run[0].encode()):08x}"
    kind = 'overflow="visible" markerUnits="userSpaceOnUse"'
    at = " ".join(f'marker-{where}="url(#{name})"' for where in ("start", "mid", "end"))
    return (
        f'<marker id="{name}" {kind} style="{style}"><use xlink:href="{mark}"/></marker>'
        f'<path d="M{spots}" style="fill:none;stroke:none" {at}/>'
    )


def shortest(number: str, places: int) -> str:
    """A number in as few letters as so many decimal places need: -0.50 as -.5."""
    text = f"{float(number):.{places}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return re.sub(r"^(-?)0(?=\.)", r"\1", "0" if text == "-0" else text)


def outline(path: str) -> str:
    """The letters and numbers of a path, to a hundredth of a point, without needless blanks."""
    parts = [part if part.isalpha() else shortest(part, 2) for part in PART.findall(path)]
    pairs = zip(["M", *parts], parts, strict=False)
    return "".join(part if one.isalpha() or part.isalpha() or part[0] == "-" else f" {part}" for one, part in pairs)


def packed(svg: str) -> str:
    """A drawing for a notebook's private use, deflated, in base64; `unpacked` gives it back, and takes it plain too."""
    return base64.b64encode(zlib.compress(svg.encode(), 9)).decode()


def unpacked(text: str) -> str:
    """What `packed` was given."""
    return text if text.lstrip().startswith("<") or not text else zlib.decompress(base64.b64decode(text)).decode()
