"""Sphinx extension: the `api` directive documents every public name of the library, from its own docstrings.

    .. api::

What is public is what the packages' `__init__` name in `__all__`, and the public functions and classes of a few modules
that stand alone (`ALONE`). No name is listed by hand. The names are read from the source (`public_names`), so that asking
for them imports nothing; autodoc then imports the library, and with it torch, when the page is read, and only then.

Docstrings are plain text: words in back-ticks are code, an indented block or a list stands as it is. They are escaped
before they are read as reStructuredText, so no docstring can break the build.
"""

import ast
import inspect
import re
import sys
import textwrap
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.ext import viewcode
from sphinx.util.inspect import stringify_signature
from sphinx.util.nodes import make_refnode, nested_parse_with_titles

SOURCE = Path("src/latentbook")
PAGE = "book/api"
ROOMS = (  # in reading order: packages with an __all__, and modules that stand alone
    ("Data", "data"),
    ("Layers", "layers"),
    ("Schedules", "schedules"),
    ("Models", "models"),
    ("Training", "training"),
    ("Evaluation", "evaluation"),
    ("Experiments: the store of results", "experiments.results"),
    ("Experiments: one run", "experiments.run"),
    ("Figures", "figures"),
    ("Interactive figures", "widgets"),
    ("Authoring", "authoring"),
)
SHORT = 60  # characters of a constant's value that are shown


def tree_of(root: Path, module: str) -> tuple[Path, ast.Module]:
    """The file and syntax tree of a module of the library, given by its name below `latentbook`."""
    path = root / SOURCE / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return path, ast.parse(path.read_text(encoding="utf-8"))


def public_names(root: Path, module: str) -> list[str]:
    """`__all__` of a package; else the functions, classes and aliases of the module whose names have no underscore."""
    names: list[str] = []
    for node in tree_of(root, module)[1].body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return list(ast.literal_eval(node.value))
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            names.append(node.name)
    return names


def rooms(root: Path) -> dict[str, list[str]]:
    """Every documented module with its public names; packages first met in the order of ROOMS."""
    return {module: public_names(root, module) for _, module in ROOMS}


def origin(root: Path, module: str, name: str) -> tuple[str, ast.stmt, list[str]]:
    """Where a name of a package is defined: the module, the statement, the source's lines."""
    path, tree = tree_of(root, module)
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and name in {alias.asname or alias.name for alias in node.names}:
            return origin(root, node.module.removeprefix("latentbook."), name)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        named = [
            leaf for target in targets if target is not None for leaf in ast.walk(target)
        ]  # a, b = 1, 2 names both
        if getattr(node, "name", None) == name or any(getattr(leaf, "id", "") == name for leaf in named):
            return module, node, path.read_text(encoding="utf-8").splitlines()
    raise LookupError(f"latentbook.{module} names {name} as public, and no statement of it defines that")


def remark(node: ast.stmt, lines: list[str]) -> str:
    """The comment behind a constant's first line, else the comment lines above it."""
    if found := re.search(r"\s#\s*(.+)$", lines[node.lineno - 1]):
        return found[1]
    above = []
    for line in reversed(lines[: node.lineno - 1]):
        if not line.startswith("#"):
            break
        above.insert(0, line.lstrip("# "))
    return " ".join(above)


def constant(root: Path, module: str, name: str) -> list[str]:
    """A constant or an alias: its value as written, and its comment."""
    _, node, lines = origin(root, module, name)
    value = ast.unparse(node.value)
    value = value if len(value) <= SHORT else f"{value[: SHORT - 1]}…"
    text = plain_text(remark(node, lines)) if remark(node, lines) else []
    return [f".. py:data:: latentbook.{module}.{name}", f"   :value: {value}", "", *indented(text), ""]


def indented(lines: list[str]) -> list[str]:
    return [f"   {line}" if line else "" for line in lines]


def entry(root: Path, module: str, name: str) -> list[str]:
    """The directive that documents one name."""
    node = origin(root, module, name)[1]
    if isinstance(node, ast.FunctionDef):
        return [f".. autofunction:: latentbook.{module}.{name}", ""]
    if isinstance(node, ast.ClassDef):
        return [f".. autoclass:: latentbook.{module}.{name}", "   :members:", ""]
    return constant(root, module, name)


def page(root: Path) -> list[str]:
    """The page's body as reStructuredText: a section a room."""
    lines = []
    for title, module in ROOMS:
        names = public_names(root, module)
        opening = ast.get_docstring(tree_of(root, module)[1]) or ""
        lines += [f".. _api-{module.replace('.', '-')}:", "", title, "-" * len(title), ""]
        lines += [f"``latentbook.{module}``. {' '.join(plain_text(opening.split(chr(10) * 2)[0]))}", ""]
        lines += [line for name in names for line in entry(root, module, name)]
    return lines


def plain_text(text: str) -> list[str]:
    """A docstring as reStructuredText that shows it as written: back-ticks are code, indented blocks stay."""
    result = []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        lines = block.splitlines()
        if lines and all(line.startswith(("    ", "\t")) for line in lines):
            result += ["::", "", *lines, ""]
        elif lines and lines[0].startswith("- ") and all(re.match(r"- |  ", line) for line in lines):
            result += [*(marked(line) for line in lines), ""]
        else:
            result += [*(marked(line.strip()) for line in lines), ""]
    return result[:-1] if result and not result[-1] else result


def marked(line: str) -> str:
    """One line of prose with its code as literals and nothing else read as markup."""
    parts = re.split(r"`([^`]+)`", line)  # prose and code in turn
    text = r"\ ".join(
        f"``{part}``" if odd % 2 else re.sub(r"([\\*|`_])", r"\\\1", part) for odd, part in enumerate(parts)
    )
    return text if re.match("- ", line) or not re.match("[-+:.>]", line) else "\\" + text


class Api(Directive):
    """All public names, a section a room."""

    def run(self) -> list[nodes.Node]:
        env = self.state.document.settings.env
        root = Path(env.app.srcdir)
        for path in (Path(__file__), *(root / SOURCE).rglob("*.py")):
            env.note_dependency(str(path))
        here = str((root / SOURCE).parent)
        if here not in sys.path:
            sys.path.insert(0, here)
        body = nodes.section(document=self.state.document)
        nested_parse_with_titles(self.state, StringList(page(root), source="api"), body)
        return body.children


def docstring(app, what, name, thing, options, lines: list[str]) -> None:
    """Docstrings are plain text, not reStructuredText; a class of fields lists them with their comments."""
    lines[:] = [*plain_text("\n".join(lines)), ""]
    if what == "class" and (hasattr(thing, "__dataclass_fields__") or hasattr(thing, "_fields")):
        lines += [*fields(inspect.getsource(thing)), ""]


def fields(source: str) -> list[str]:
    """The fields of a class as a list: name, type and default as written, and the comment that explains it."""
    source = textwrap.dedent(source)
    rows, found = source.splitlines(), []
    for node in ast.parse(source).body[0].body:
        if isinstance(node, ast.AnnAssign) and not node.target.id.startswith("_"):
            words = re.search(r"\s#\s*(.+)$", rows[node.end_lineno - 1])
            said = f": {marked(words[1])}" if words else ""
            found.append(f"- ``{' '.join(ast.unparse(node).split())}``{said}")
    return found


def signature(app, what, name, thing, options, text, returns):
    """The signature with its annotations as the source writes them: shapes in words, no addresses of modules."""
    if what not in ("function", "method", "class"):
        return None
    if what == "class" and (hasattr(thing, "__dataclass_fields__") or hasattr(thing, "_fields")):
        return "", ""  # its fields are listed
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return None
    found = found.replace(parameters=[p for p in found.parameters.values() if p.name != "self"])
    if what == "class":
        found = found.replace(return_annotation=inspect.Signature.empty)
    shown = re.sub(r"\blatentbook(?:\.\w+)*\.(?=\w)", "", stringify_signature(found))
    arguments, _, result = shown.partition(") -> ")
    return (f"{arguments})", result) if result else (arguments, "")


def in_its_own_words(app, env, node, content):
    """A type in a signature on the page links to its entry where it has one; else it is text and no broken link."""
    if node.get("refdomain") != "py" or node.get("refdoc") != PAGE:
        return None
    name = node["reftarget"].rpartition(".")[2]
    found = {key: entry for key, entry in env.get_domain("py").objects.items() if key.rpartition(".")[2] == name}
    if len(found) != 1:
        return content
    entry = next(iter(found.values()))
    return make_refnode(app.builder, PAGE, entry.docname, entry.node_id, content, name)


def straight_quotes(app, doctree) -> None:
    """Strings in docstrings keep the quotes of Python, which typography has turned into curly ones."""
    if app.env.docname == PAGE:
        for text in list(doctree.findall(nodes.Text)):
            if plain := re.sub("[“”]", '"', text):
                text.parent.replace(text, nodes.Text(plain))


def module_file(app, module: str) -> str | None:
    """Where a module of the library stands, found without importing it, as viewcode would at the end of every build."""
    path = (Path(app.srcdir) / SOURCE).parent.joinpath(*module.split("."))
    return next((str(file) for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def leave_out(app, what, name, thing, skip, options):
    """Of a class, what it says itself: nothing that a tuple or a dataclass brings along."""
    return True if skip or (thing.__doc__ or "").startswith("Alias for field") else None


def setup(app):
    app.setup_extension("sphinx.ext.autodoc")
    app.setup_extension("sphinx.ext.viewcode")
    app.config.autodoc_preserve_defaults = True  # as written: a default that is a whole configuration is long
    app.config.autodoc_inherit_docstrings = False  # what torch says of its own methods stands in its own pages
    app.config.python_maximum_signature_line_length = 80
    app.config.toc_object_entries_show_parents = "hide"
    viewcode.get_module_filename = module_file
    app.add_directive("api", Api)
    app.connect("autodoc-process-docstring", docstring)
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-skip-member", leave_out)
    app.connect("doctree-read", straight_quotes)
    app.connect("missing-reference", in_its_own_words)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
