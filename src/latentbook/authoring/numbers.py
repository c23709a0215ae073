"""Measured numbers in prose: plain text for the reader, tied to the results by a marker that no reader sees.

    agreement rises to <!-- =mix-and-match/best/agreement .1% -->66.2 %<!-- / -->

Of a record beside the results its name stands first, as in `scored/mix-and-match/mix-and-match/agreement`.
A marker holds the key, a statistic (mean where none is given; std, min, max, count, failed) and a format: `.1%` is
written "66.2 %", the others as in Python (`.1f`, `.2f`, `.3g`, `,d`). Emphasis may stand outside the markers or inside.
`refresh` writes the current numbers, `drift` and `typed_by_hand` find what has parted from the results. A number that
only looks like a measured one is told apart by `<!-- hyper-parameter -->500<!-- / -->`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from latentbook.experiments import results

MARKER = re.compile(r"<!--\s*=(?P<what>[^>]*?)\s*-->(?P<open>[*_]*)(?P<text>[^<]*?)(?P<close>[*_]*)<!--\s*/\s*-->")
EXEMPT = re.compile(r"<!--\s*hyper-parameter\s*-->.*?<!--\s*/\s*-->", re.DOTALL)
OPENING = re.compile(r"<!--\s*=[^>]*?-->")
AT_LINE_START = re.compile(r"^(?:[ \t>]|[-*+][ \t]|\d+[.)][ \t])*<!--\s*=", re.MULTILINE)
SPEC = re.compile(r"[+]?,?(?:\.\d+)?[%fgd]")
NUMBER = re.compile(r"(?<![\w.,/^])[-−+]?\d+(?:,\d{3})*(?:\.\d+)?(?![\w/]|\.\d)")
RECORDS = ("scored", "listening")  # folders of the results, with files of the same shape
SPREAD = ("min", "max", "std")
LOOK_FOR = (".1%", ".1f", ".2f", ".3f", ".0f")  # how a measured number would be typed by hand
CODE_DIRECTIVES = {
    "code-cell",
    "code",
    "code-block",
    "sourcecode",
    "literalinclude",
    "math",
    "raw",
    "ledger",
    "mermaid",
}
HIDDEN = (  # what is not prose, less code
    EXEMPT,
    MARKER,
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r"\A---\n.*?\n---\n", re.DOTALL),  # front matter
    re.compile(r"^\+\+\+.*$", re.MULTILINE),  # cell metadata
    re.compile(r"^\[[^\]]+\]:.*$", re.MULTILINE),  # link targets
    re.compile(r"\]\([^)]*\)"),
    re.compile(r"https?://\S+"),
    re.compile(r"\barXiv:? ?\d{4}\.\d+", re.IGNORECASE),
    re.compile(r"<[A-Za-z/][^>]*>"),
    re.compile(r"\$\$.*?\$\$", re.DOTALL),
    re.compile(r"(?<!\\)\$(?!\s)(?:[^$\n]|\n(?!\s*\n))+?(?<!\s)\$"),
    re.compile(r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}", re.DOTALL),
)


def sources(root: str | Path = ".") -> list[Path]:
    """The texts whose numbers are kept: notebooks/*.md, book/*.md, README.md."""
    root = Path(root)
    return [p for pattern in ("notebooks/*.md", "book/*.md", "README.md") for p in sorted(root.glob(pattern))]


def write(number: float, spec: str) -> str:
    """A number as the prose shows it: 0.662 at `.1%` is "66.2 %"; a true minus sign, and none before zero."""
    if not SPEC.fullmatch(spec):
        raise results.ResultsError(f"a format is like .1% .1f .2f .3g d or ,d, got {spec!r}")
    if spec.endswith("%"):
        text = format(100 * number, spec[:-1] + "f") + " %"
    else:
        text = format(round(number) if spec.endswith("d") else number, spec)
    if text.startswith("-"):
        text = ("−" if re.search("[1-9]", text) else "") + text[1:]
    return text


def refresh(text: str, directory: str | Path | None = None) -> str:
    """The text with every marked number as the results have it now; one whose marker cannot be followed stays."""
    parts, end = [], 0
    for found in MARKER.finditer(_without_code(text)):
        with suppress(results.ResultsError):
            parts += [text[end : found.start("text")], _current(found["what"], directory)]
            end = found.end("text")
    return "".join(parts) + text[end:]


def drift(text: str, directory: str | Path | None = None) -> list[str]:
    """Where the marked numbers and the results have parted, one line each; empty where they agree."""
    shown, problems = _without_code(text), []
    closed = set()
    for found in MARKER.finditer(shown):
        closed.add(found.start())
        try:
            current = _current(found["what"], directory)
        except results.ResultsError as error:
            problems.append((found.start(), str(error)))
            continue
        if found["text"] != current:
            problems.append((found.start(), f"says {found['text']!r}, the results say {current!r} ({found['what']})"))
    for found in OPENING.finditer(shown):
        if found.start() not in closed:
            problems.append((found.start(), f"{found[0]} is not closed by <!-- / -->"))
    for found in AT_LINE_START.finditer(shown):
        why = "a marker that starts a line makes the whole line raw HTML; put a word before it"
        problems.append((found.end(), why))
    return [f"line {_line(text, at)}: {problem}" for at, problem in sorted(problems)]


def typed_by_hand(text: str, directory: str | Path | None = None) -> list[str]:
    """Numbers of three digits or more in prose that the results also hold but no marker ties to them, one line each.

    Code, mathematics, links, HTML tags and what the configurations hold (hyper-parameters) are left out.
    """
    known, allowed = _known(directory), _hyper_parameters(directory)
    problems = []
    for found in NUMBER.finditer(_prose(text)):
        digits = found[0].replace(",", "").replace("−", "-").lstrip("+")
        if digits in known and abs(float(digits)) not in allowed:
            key, statistic, spec = known[digits]
            marker = " ".join([f"<!-- ={key}", *[statistic] * (statistic != "mean"), f"{spec} -->"])
            advice = f"it is one seed's {key}; give the mean" if statistic == "seed" else f"write {marker}…<!-- / -->"
            problems.append(f"line {_line(text, found.start())}: {found[0]} is typed by hand; {advice}")
    return problems


def _current(what: str, directory: str | Path | None) -> str:
    """The number that a marker's inside stands for, as text."""
    parts = what.split()
    if len(parts) not in (2, 3):
        raise results.ResultsError(f"a marker is <!-- =KEY [STATISTIC] FORMAT -->, got <!-- ={what} -->")
    key, folder = parts[0], directory
    if (record := key.split("/")[0]) in RECORDS:
        key, folder = key.removeprefix(f"{record}/"), Path(directory or results.DIRECTORY) / record
    return write(results.value(key, *parts[1:-1], directory=folder), parts[-1])


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _blank(found: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", found[0])


def _without_code(text: str) -> str:
    """The text with code blanked out, every character that is left in its place."""
    lines, fences = [], []  # open fences, outermost first: (fence, is it code)
    for line in text.splitlines(keepends=True):
        in_code = bool(fences) and fences[-1][1]
        found = re.match(r"[\s>]*(`{3,}|~{3,}|:{3,})[ \t]*(.*)$", line)
        if found and fences and not found[2] and found[1].startswith(fences[-1][0]):
            fences.pop()
            in_code = True
        elif found and not in_code:
            directive = re.match(r"\{([\w-]+)\}", found[2])
            is_code = directive[1] in CODE_DIRECTIVES if directive else not found[1].startswith(":")
            fences.append((found[1], is_code))
            in_code = True
        lines.append(re.sub(r"[^\n]", " ", line) if in_code else line)
    return re.sub(r"(?<!`)(`+)(?!`)(?:[^\n]|\n(?!\s*\n))+?(?<!`)\1(?!`)", _blank, "".join(lines))


def _prose(text: str) -> str:
    """What a reader reads as text, everything else blanked out."""
    text = _without_code(text)
    for pattern in HIDDEN:
        text = pattern.sub(_blank, text)
    return text


def _significant(text: str) -> int:
    return len(re.sub(r"[^\d]", "", text).lstrip("0"))


def _known(directory: str | Path | None) -> dict[str, tuple[str, str, str]]:
    """Every measured or published number as it may be typed: {digits: (key, statistic, format)}; means come first."""
    known: dict[str, tuple[str, str, str]] = {}
    for key, statistic, number in sorted(_measured(directory), key=lambda row: ("mean", *SPREAD, "seed").index(row[1])):
        for spec in LOOK_FOR:
            digits = write(number, spec).removesuffix(" %").replace("−", "-")
            if _significant(digits) >= 3 and not (spec.endswith("%") and abs(number) > 1):
                known.setdefault(digits, (key, statistic, spec))
    return known


def _measured(directory: str | Path | None) -> Iterator[tuple[str, str, float]]:
    for experiment in results.names(directory):
        for variant, entry in results.load_whole(experiment, directory)["variants"].items():
            for metric, numbers in entry["metrics"].items():
                key = f"{experiment}/{variant}/{metric}"
                for statistic in ("mean", *SPREAD) if len(numbers) > 1 else ("mean",):
                    yield key, statistic, results.summarise(numbers, statistic)
                for number in numbers:
                    yield key, "seed", number
    for experiment, systems in results.published(directory).items():
        for system, metrics in systems.items():
            for metric, number in metrics.items():
                if not metric.startswith("_") and isinstance(number, int | float):
                    yield f"published/{experiment}/{system}/{metric}", "mean", number


def _hyper_parameters(directory: str | Path | None) -> set[float]:
    def walk(tree: Any) -> Iterator[float]:
        if isinstance(tree, dict | list):
            for branch in tree.values() if isinstance(tree, dict) else tree:
                yield from walk(branch)
        elif isinstance(tree, int | float):
            yield abs(float(tree))

    return {
        number for name in results.names(directory) for number in walk(results.load_whole(name, directory)["config"])
    }
