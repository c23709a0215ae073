"""Sphinx extension: the built site needs nothing from outside itself, whether served or opened from the folder.

It stages MathJax from the installed wheel, one style sheet of the site and its figures, and the script that starts figures;
light.py puts one beside it for each set of figures that a page has. The figures' sources are the very modules that a
notebook loads (latentbook/widgets/*.js).
"""

import hashlib
import importlib.util
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
WIDGETS = HERE.parents[1] / "src" / "latentbook" / "widgets"
WEIGHTS = WIDGETS.with_name("weights")
# In this order, in front of every figure.
SHARED = (
    "base.js",
    "sampling.js",
    "scene.js",
    "layers.js",
    "engine.js",
    "pad.js",
    "plane.js",
    "ellipses.js",
    "scene_pad.js",
)
FORMULAS = ("startup", "core", "input/tex", "output/chtml", "output/chtml/fonts/tex", "a11y/assistive-mml")  # no menu
COMMENT = re.compile(r"^[ \t]*//.*\n", re.MULTILINE)  # a whole line
EXPORT = re.compile(r"^export default (?=\{)", re.MULTILINE)
WIDGET_STATE = re.compile(r'<script type="application/vnd\.jupyter\.widget-[^>]*>.*?</script>', re.DOTALL)
FIRST = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<link rel="icon" href="_static/favicon.svg">
<meta http-equiv="refresh" content="0; url={root}.html">
<p><a href="{root}.html">{title}</a></p>
"""
MODULE_WORDS = re.compile(r"^\s*(import\b|export\b)", re.MULTILINE)


def bundle(widgets: Path, names: tuple[str, ...] | None = None) -> str:
    """One classic script from the ES modules in `widgets`, of all figures or those named, which boot.js starts.

    A page opened from the folder (file://) may not load ES modules. So each module is wrapped, unchanged but for its
    `export default {...}`, in a function that returns that object; what they share goes in front of them as in a notebook,
    without its comments, which every page would have to load. (So no line of a text there may begin with two slashes.)

    Raises ValueError for a module that imports something or exports anything but one default object.
    """
    names = (
        tuple(path.stem for path in sorted(widgets.glob("*.js")) if path.name not in SHARED) if names is None else names
    )
    asked = {f"{stem}.js" for name in names for stem in composed(widgets, name)}
    parts = []
    for name in (name for name in SHARED if name in asked):
        parts.append(COMMENT.sub("", (widgets / name).read_text(encoding="utf-8")))
        if MODULE_WORDS.search(parts[-1]):
            raise ValueError(f"{name} must neither import nor export: it is put in front of every widget module")
    for name in names:
        body, exports = EXPORT.subn("return ", (widgets / f"{name}.js").read_text(encoding="utf-8"))
        if exports != 1 or MODULE_WORDS.search(body):
            raise ValueError(f"{name}.js must have exactly one `export default {{...}}` and no other import or export")
        parts.append(f'widgets["{name}"] = (() => {{\n{body}\n}})();\n')
    return classic("\n".join(parts))


def composed(widgets: Path, name: str) -> tuple[str, ...]:
    """What stands in front of a figure's module: what its Python class composes; all that there is where it has none."""
    source = widgets / f"{name}.py"
    if not source.exists():
        return tuple(file.removesuffix(".js") for file in SHARED)
    found = re.search(rf'compose\("{name}", "\.js"((?:, "\w+")*)\)', source.read_text(encoding="utf-8"))
    return ("base", *re.findall(r'"(\w+)"', found[1]))


def classic(body: str) -> str:
    """A script that shares with others nothing but the figures' modules, by their names in `widgets`."""
    return f'(() => {{\n"use strict";\nconst widgets = (window.latentbookWidgets ??= {{}});\n{body}}})();\n'


def stage(app) -> None:
    """Put MathJax, the style sheets and the figures' script under _static."""
    if app.builder.format != "html":
        return
    static = Path(app.doctreedir).parent / ".site_static"
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    mathjax = Path(spec.submodule_search_locations[0]) / "static" / "mathjax"
    for path in (mathjax / "output/chtml/fonts/woff-v2").iterdir():
        put(static / "offline/mathjax" / path.relative_to(mathjax), path.read_bytes())
    put(static / "offline/mathjax/formulas.js", formulas(mathjax).encode())
    sheets = [*sorted(HERE.glob("*.css")), *sorted(WIDGETS.glob("*.css"))]
    put(static / "latentbook/book.css", one_sheet(sheets).encode())
    app.add_css_file("latentbook/book.css")
    put(static / "latentbook" / "boot.js", classic((HERE / "boot.js").read_text(encoding="utf-8")).encode())
    app.add_js_file("latentbook/boot.js", loading_method="defer", priority=150)  # before the theme's own
    app.config.html_static_path.append(str(static))


def one_sheet(sheets: list[Path]) -> str:
    """All style sheets in one, in their order, each under its name: on a slow line a request costs more than its bytes."""
    return "\n".join(f"/* {path.name} */\n{path.read_text(encoding='utf-8')}" for path in sheets)


def formulas(mathjax: Path) -> str:
    """What sets TeX, in one script: MathJax's components without its menu, which is two fifths of the usual bundle."""
    first, *parts = ((mathjax / f"{name}.js").read_text(encoding="utf-8") for name in FORMULAS)
    there = "MathJax.loader.preLoad(" + ", ".join(f'"{name}"' for name in FORMULAS[1:]) + ");"
    return ";\n".join((first, there, *parts))


def put(target: Path, content: bytes) -> None:
    """Write `content` unless it is there already, so that an unchanged file keeps its time."""
    if target.exists() and target.read_bytes() == content:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def drop_thebe(app, pagename, templatename, context, doctree) -> None:
    """Take sphinx-thebe out of the page: it is unused here, declares its constants twice and names a CDN."""
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if "thebe" not in str(getattr(script, "filename", script)).lower()
        and "THEBE_JS_URL" not in str(getattr(script, "attributes", {}).get("body", ""))
    ]


def drop_widget_state(app, pagename, templatename, context, doctree) -> None:
    """Take a saved notebook's widget states out of the page: figures start from their own div, nothing reads these."""
    if "body" in context:
        context["body"] = WIDGET_STATE.sub("", context["body"])


def link_citations(app, env) -> None:
    """Let Markdown link to an entry of the bibliography: [text](../book/bibliography.md#kingma2014)."""
    for citation in env.get_domain("cite").citations:
        page = env.metadata[citation.bibliography_key.docname]
        page.setdefault("myst_slugs", {})[citation.key] = (0, citation.citation_id, citation.key)


def lead_on(app, exception) -> None:
    """Write the first page, which leads on to the front page; it names an icon, or browsers ask for /favicon.ico."""
    if exception is None and app.builder.format == "html" and (root := app.config.root_doc) != "index":
        (Path(app.outdir) / "index.html").write_text(
            FIRST.format(root=root, title=app.config.html_title), encoding="utf-8"
        )


def forget_if_warned(app, exception) -> None:
    """After a build with warnings, make the next one start over.

    Sphinx warns of a page only when it reads it, so a second build would pass over the same fault in silence.
    """
    if exception is not None or getattr(app, "_warncount", 0):
        (Path(app.doctreedir) / "environment.pickle").unlink(missing_ok=True)
        (Path(app.outdir) / "objects.inv").unlink(missing_ok=True)  # the stamp by which tests see a finished build


def fingerprint(folders: tuple[Path, ...] = (HERE, WIDGETS, WEIGHTS)) -> str:
    """A hash of these helpers and of what pages link to: when it changes, Sphinx writes every page anew.

    Without it a new figure's style sheet would be missing from pages whose own text has not changed.
    """
    digest, read = hashlib.sha256(), (".py", ".js", ".css", ".json", ".safetensors")
    for path in sorted(path for folder in folders for path in folder.iterdir() if path.suffix in read):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def setup(app):
    app.add_config_value("site_helpers", fingerprint(), "html")
    app.connect("builder-inited", stage)
    app.connect("env-updated", link_citations, priority=900)  # after the bibliography has been collected
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("html-page-context", drop_widget_state)
    app.connect("build-finished", lead_on, priority=100)
    app.connect("build-finished", forget_if_warned, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
