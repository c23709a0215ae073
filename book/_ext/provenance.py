"""Sphinx extension: the foot of a notebook page says from which data, versions and machine its outputs come.

The facts are those in the notebook's metadata under "latentbook", written by `python -m latentbook execute`.
"""

import json
from html import escape
from pathlib import Path

SOURCES = {"mnist": "MNIST", "offline": "the embedded 8×8 digits (not MNIST)"}


def duration(seconds: float) -> str:
    """Seconds as a reader says them: `42 s`, `6 min 05 s`, `1 h 04 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def rows(facts: dict) -> list[tuple[str, str]]:
    """The facts as (label, HTML) pairs, those that are there, in reading order."""
    data, versions = facts.get("data", {}), facts.get("versions", {})
    source = data.get("source")
    found = [
        ("data", escape(SOURCES.get(source, str(source))) + digest(data.get("hash")) if source else ""),
        ("run", escape(", ".join(filter(None, [profile(facts.get("profile")), took(facts.get("seconds"))])))),
        ("device", escape(str(facts.get("device") or ""))),
        ("versions", escape(", ".join(f"{name} {number}" for name, number in versions.items()))),
        ("source", digest(facts.get("source_hash")).strip()),
        ("results", ", ".join(escape(name) + digest(sha) for name, sha in sorted(facts.get("results", {}).items()))),
    ]
    return [(label, text) for label, text in found if text]


def profile(name: str | None) -> str:
    return f"profile {name}" if name else ""


def took(seconds: float | None) -> str:
    return duration(seconds) if seconds is not None else ""


def digest(value: str | None) -> str:
    """The first 12 digits of a hash; the whole of it on hover."""
    return f' <code title="SHA-256 {escape(value)}">{escape(value[:12])}</code>' if value else ""


def foot(facts: dict | None) -> str:
    """The foot of one page as HTML."""
    if not facts:
        text = "The outputs on this page carry no record of their run. <code>make execute</code> makes one."
        return f'<aside class="lb-provenance lb-provenance-missing" aria-label="Provenance"><p>{text}</p></aside>'
    entries = "".join(f"<div><dt>{label}</dt><dd>{text}</dd></div>" for label, text in rows(facts))
    title = "<p>Where this page’s outputs come from</p>"
    return f'<aside class="lb-provenance" aria-label="Provenance">{title}<dl>{entries}</dl></aside>'


def add_foot(app, pagename, templatename, context, doctree) -> None:
    """Append the foot to the body of a notebook page."""
    if doctree is None or "body" not in context:
        return
    source = Path(app.env.doc2path(pagename))
    if source.suffix != ".ipynb":
        return
    metadata = json.loads(source.read_text(encoding="utf-8")).get("metadata", {})
    context["body"] += foot(metadata.get("latentbook"))


def setup(app):
    app.connect("html-page-context", add_foot)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
