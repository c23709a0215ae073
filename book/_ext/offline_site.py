"""Sphinx extension: the built site needs nothing from outside itself, whether served or opened from the folder.

It stages MathJax from the installed wheel, the site's own style sheet, and one classic script that holds every
interactive figure. The figures' sources are the very modules that a notebook loads (latentbook/widgets/*.js).
"""

import hashlib
import importlib.util
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
WIDGETS = HERE.parents[1] / "src" / "latentbook" / "widgets"
SHARED = ("base.js", "sampling.js", "scene.js", "layers.js")  # in this order, in front of every figure
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


def bundle(widgets: Path, boot: Path) -> str:
    """One classic script from the ES modules in `widgets`.

    A page opened from the folder (file://) may not load ES modules. So each module is wrapped, unchanged but for its
    `export default {...}`, in a function that returns that object; what they share goes in front of them as in a notebook.

    Raises ValueError for a module that imports something or exports anything but one default object.
    """
    parts = []
    for name in SHARED:
        parts.append((widgets / name).read_text(encoding="utf-8"))
        if MODULE_WORDS.search(parts[-1]):
            raise ValueError(f"{name} must neither import nor export: it is put in front of every widget module")
    for path in sorted(widgets.glob("*.js")):
        if path.name in SHARED:
            continue
        module = path.read_text(encoding="utf-8")
        body, exports = EXPORT.subn("return ", module)
        if exports != 1 or MODULE_WORDS.search(body):
            raise ValueError(
                f"{path.name} must have exactly one `export default {{...}}` and no other import or export"
            )
        parts.append(f'widgets["{path.stem}"] = (() => {{\n{body}\n}})();\n')
    return (
        '(() => {\n"use strict";\nconst widgets = {};\n(() => {\n'
        + "\n".join(parts)
        + "})();\n"
        + boot.read_text(encoding="utf-8")
        + "})();\n"
    )


def stage(app) -> None:
    """Put MathJax, the style sheets and the figures' script under _static."""
    if app.builder.format != "html":
        return
    static = Path(app.doctreedir).parent / ".site_static"
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    mathjax = Path(spec.submodule_search_locations[0]) / "static" / "mathjax"
    for path in (mathjax / "tex-chtml.js", *(mathjax / "output/chtml/fonts/woff-v2").iterdir()):
        put(static / "offline/mathjax" / path.relative_to(mathjax), path.read_bytes())
    sheets = [HERE / "site.css", *sorted(WIDGETS.glob("*.css"))]
    for path in sheets:
        put(static / "latentbook" / path.name, path.read_bytes())
        app.add_css_file(f"latentbook/{path.name}")
    put(static / "latentbook" / "figures.js", bundle(WIDGETS, HERE / "boot.js").encode())
    app.add_js_file("latentbook/figures.js", loading_method="defer")
    app.config.html_static_path.append(str(static))


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


def fingerprint(folders: tuple[Path, ...] = (HERE, WIDGETS)) -> str:
    """A hash of these helpers and of what every page links to: when it changes, Sphinx writes every page anew.

    Without it a new figure's style sheet would be missing from pages whose own text has not changed.
    """
    digest = hashlib.sha256()
    for path in sorted(
        path for folder in folders for path in folder.iterdir() if path.suffix in (".py", ".js", ".css")
    ):
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
