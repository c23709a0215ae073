"""A companion states a question, shows one table or figure, answers it in at most 80 words; then the next.

A figure may have a caption of its own, in italics, and a few lines of code that are the point may stand open."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit_harness import MYST_HEAD

from latentbook.authoring import notebooks

ROOT = Path(__file__).resolve().parents[2]
COMPANIONS = sorted((ROOT / "notebooks").glob(f"[0-9][0-9]-*{notebooks.COMPANION}.md"))
MOST_WORDS, MOST_OF_A_CAPTION = 80, 35
MOST_OPEN = 30  # lines of code that are not folded: a bug, say
UNSEEN = {"hide-cell", "hide-output", "remove-cell", "remove-output"}  # tags of cells whose output is not seen at first
FOLDED = {*UNSEEN, "hide-input", "remove-input"}
SHOWS_NOTHING = {"print", "skip"}  # calls at the end of a cell that leave text at most


@dataclass
class Section:
    """What stands under one heading, in order: "show" for each visible table or figure, else words."""

    heading: str
    parts: list[str | list[str]] = field(default_factory=list)
    unfolded: list[str] = field(default_factory=list)  # long cells that show something and whose code is not folded
    captions: list[list[str]] = field(default_factory=list)  # each right below what is shown

    @property
    def shown(self) -> int:
        return sum(part == "show" for part in self.parts)


def words(text: str) -> list[str]:
    """The words of an answer as a reader counts them: a formula is one, markers and comments are none."""
    text = re.sub(r"<!--.*?-->|<[^>]+>", "", text, flags=re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$", " formula ", text, flags=re.DOTALL)
    text = re.sub(r"\$[^$]+\$", "formula", text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return [word for word in text.split() if re.search(r"\w", word)]


def shows(cell: Any) -> bool:
    """Whether a table or a figure of a code cell is seen: it has alt text, or its last line is a value."""
    if UNSEEN & set(cell.metadata.get("tags", [])):
        return False
    if notebooks._alt(cell):
        return True
    last = next(iter(reversed(ast.parse(notebooks._without_magics(cell.source)).body)), None)
    call = getattr(last, "value", None)
    name = getattr(call, "func", None)
    silent = isinstance(call, ast.Call) and getattr(name, "attr", getattr(name, "id", "")) in SHOWS_NOTHING
    return isinstance(last, ast.Expr) and not silent


def read(path: Path) -> tuple[Section, list[Section]]:
    """The head of a companion, and its sections."""
    found = [Section("")]
    for cell in notebooks.read(path).cells:
        if cell.cell_type == "code":
            if shows(cell):
                found[-1].parts.append("show")
                lines = cell.source.splitlines()
                if not FOLDED & set(cell.metadata.get("tags", [])) and len(lines) > MOST_OPEN:
                    found[-1].unfolded.append(lines[0])
            continue
        for block in re.split(r"\n\s*\n", cell.source.strip()):
            if heading := re.fullmatch(r"##[ \t]+(.*)", block.strip()):
                found.append(Section(heading[1]))
            elif re.match(r"\s*\|.*\|", block):  # a table in the text
                found[-1].parts.append("show")
            elif found[-1].parts[-1:] == ["show"] and re.fullmatch(r"\*[^*].*[^*]\*", block.strip(), re.DOTALL):
                found[-1].captions.append(words(block))
            elif block.strip():
                found[-1].parts.append(words(block) if not block.startswith("#") else [block])
    return found[0], found[1:]


def faults(path: Path) -> list[str]:
    """What is wrong with the form of a companion, one line each."""
    head, sections = read(path)
    chapter = path.stem.replace(notebooks.COMPANION, "")
    source = path.read_text(encoding="utf-8")
    found = [] if sections else ["no section"]
    title, *introduction = [part for part in head.parts if part != "show"] or [[]]
    if not (title and title[0].startswith("# ")):
        found.append("no title")
    sentences = re.split(r"(?<=[.?!])\s+", " ".join(word for part in introduction for word in part))
    if len(sentences) != 2:
        found.append(f"two sentences introduce it, got {len(sentences)}")
    if f"]({chapter}.ipynb)" not in source.split("\n## ")[0]:
        found.append(f"its introduction has no link to {chapter}.ipynb")
    if head.shown:
        found.append("shows something before its first question")
    for section in sections:
        told, answer = f"{section.heading!r}: ", [word for part in section.parts if part != "show" for word in part]
        if not section.heading.endswith("?"):
            found.append(told + "is no question")
        if section.shown != 1:
            found.append(told + f"shows one table or figure, got {section.shown}")
        elif section.parts[0] != "show":
            found.append(told + "the table or figure stands first, its answer below")
        if not answer:
            found.append(told + "has no answer")
        if len(answer) > MOST_WORDS:
            found.append(told + f"answers in {len(answer)} words, at most {MOST_WORDS}")
        found += [
            told + f"has a caption of {len(caption)} words, at most {MOST_OF_A_CAPTION}"
            for caption in section.captions
            if len(caption) > MOST_OF_A_CAPTION
        ]
        found += [told + f"the code of its table or figure is not folded: {line}" for line in section.unfolded]
        found += [
            told + f"has a heading inside: {part[0]}" for part in section.parts if str(part[:1]).startswith("['#")
        ]
    return found


@pytest.mark.parametrize("source", COMPANIONS, ids=lambda path: path.stem)
def test_a_companion_asks_shows_and_answers(source):
    assert not (found := faults(source)), "\n".join(found)


@pytest.mark.parametrize("source", COMPANIONS, ids=lambda path: path.stem)
def test_a_companion_is_listed_under_its_chapter(source):
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    chapters = {page["file"]: page for part in toc["parts"] for page in part["chapters"]}
    chapter = f"notebooks/{source.stem.replace(notebooks.COMPANION, '')}.ipynb"
    assert chapters[chapter].get("sections") == [{"file": f"notebooks/{source.stem}.ipynb"}]


HEAD = (
    MYST_HEAD
    + """
# Experiments

These stand behind [chapter 01](01-try.ipynb). Each is short.

```{code-cell} ipython3
:tags: [hide-input]

import torch
```

"""
)
TABLE = "```{code-cell} ipython3\n:tags: [hide-input]\n\nfigures.Table(['a'], [])\n```\n\n"
FIGURE = "```{code-cell} ipython3\n---\nmystnb:\n  image:\n    alt: A line.\ntags: [hide-input]\n---\nfigure = draw()\n```\n\n"
QUESTION, ANSWER = "## Is it so?\n\n", "**Yes.** It is.\n\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "01-try-experiments.md"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        HEAD + QUESTION + TABLE + ANSWER,
        HEAD + QUESTION + FIGURE + ANSWER + QUESTION + "| a |\n|---|\n| 1 |\n\n" + ANSWER,
        HEAD + QUESTION + TABLE + "word " * 78 + "<!-- =primer/a/b .1f -->0.1<!-- / --> $a + b$ <!-- a comment -->\n",
        HEAD + QUESTION + FIGURE + ANSWER + "```{code-cell} ipython3\nx = 1\nprint(x)\n```\n",  # shows neither
        HEAD + QUESTION + TABLE + TABLE.replace("hide-input", "hide-cell") + ANSWER,  # the second is folded away
        HEAD + QUESTION + FIGURE + "*It falls. Look left.*\n\n" + "word " * 80 + "\n",
        HEAD + QUESTION + TABLE.replace(":tags: [hide-input]\n\n", "\n") + ANSWER,  # a line that may be the point
    ],
)
def test_the_form_of_a_companion(tmp_path, text):
    assert faults(written(tmp_path, text)) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (HEAD, "no section"),
        (HEAD + "## It is so\n\n" + TABLE + ANSWER, "is no question"),
        (HEAD + QUESTION + ANSWER, "shows one table or figure, got 0"),
        (HEAD + QUESTION + TABLE + FIGURE + ANSWER, "shows one table or figure, got 2"),
        (HEAD + QUESTION + FIGURE + "| a |\n|---|\n| 1 |\n\n" + ANSWER, "shows one table or figure, got 2"),
        (HEAD + QUESTION + ANSWER + TABLE, "the table or figure stands first"),
        (HEAD + QUESTION + TABLE, "has no answer"),
        (HEAD + QUESTION + TABLE + "word " * 81 + "\n", "answers in 81 words, at most 80"),
        (HEAD + QUESTION + TABLE + "word " * 50 + "\n\n" + "word " * 31 + "\n", "answers in 81 words"),
        (HEAD + QUESTION + TABLE.replace(":tags: [hide-input]\n\n", "\n" + "x = 1\n" * 30) + ANSWER, "is not folded"),
        (HEAD + QUESTION + FIGURE + "*" + "word " * 35 + "end.*\n\n" + ANSWER, "has a caption of 36 words"),
        (HEAD + QUESTION + FIGURE + ANSWER + "*Not a caption, as it stands below.*" + " word" * 80, "answers in"),
        (HEAD + QUESTION + TABLE + ANSWER + "### And so?\n\n" + ANSWER, "has a heading inside"),
        (HEAD + TABLE + QUESTION + TABLE + ANSWER, "before its first question"),
        (HEAD.replace(" Each is short.", "") + QUESTION + TABLE + ANSWER, "two sentences introduce it, got 1"),
        (HEAD.replace("01-try.ipynb", "02-other.ipynb") + QUESTION + TABLE + ANSWER, "no link to 01-try.ipynb"),
        (HEAD.replace("# Experiments", "Experiments") + QUESTION + TABLE + ANSWER, "no title"),
    ],
)
def test_another_form_is_seen(tmp_path, text, fault):
    assert any(fault in line for line in faults(written(tmp_path, text)))
