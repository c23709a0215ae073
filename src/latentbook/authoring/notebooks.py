"""The book's notebooks: the MyST text is the source, the .ipynb beside it holds the outputs of one whole execution.

Each executed notebook says in its metadata under "latentbook" where its outputs come from: data, versions, device,
seconds, profile, the hash of its code and of the library's that it uses, and the hash of every results file it reads.
`check` finds what has parted from that since; `sync` copies edits of the text alone, which need no new execution.

A chapter NN-name may have a companion, NN-name-experiments, a notebook like every other. The chapter's number stands for
both, a file's name for that file alone.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from latentbook import themes
from latentbook.authoring.profiles import Profile
from latentbook.experiments import results
from latentbook.files import check_writable

PACKAGE = Path(__file__).resolve().parents[1]
LARGEST = 2_000_000  # bytes of an executed notebook
ROOM = 0.99  # of that may be filled by the drawings for phones
NO_CODE = {
    "ctx",
    "kind",
    "type_comment",
    "type_params",
    "type_ignores",
}  # differ between Python versions, or are comments
MACHINE_PATH = re.compile(
    r"(?<![\w.:/])/(?:home|Users|root|tmp|var|usr|opt|mnt|srv|private|content|work)/[\w.+-]+|\b[A-Z]:\\\w"
)
PROGRESS = re.compile(r"\r|\d(?:it|s)/(?:s|it)\b|\d%\|")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
WIDGET = "application/vnd.jupyter.widget-view+json"


CODE_CELL = re.compile(
    r"(?P<head>^```\{code-cell\}[^\n]*\n(?:---\n.*?\n---\n|(?::[^\n]*\n)+\n?)?)(?P<code>.*?)(?P<tail>^```$)",
    re.MULTILINE | re.DOTALL,
)
CELL_WIDTH = 76  # characters of code that the page shows without scrolling
COMPANION = "-experiments"  # how the name of a chapter's companion ends
RECORDS = ("choices", "listening")  # beside the results, with modules that read them
FOLDED = {"hide-input", "hide-cell"}  # tags of cells whose code the site folds
AUTHORED = {
    "objectives"
}  # what a source's front matter says of its chapter, kept in no .ipynb that the source does not say


class NotebookError(RuntimeError):
    """A notebook that cannot be executed or kept; the message says which, why and what to do."""


def sources(root: str | Path = ".", chapters: Sequence[str] = ()) -> list[Path]:
    """The notebooks' sources, each chapter before its companion: all, or those that are asked for.

    chapters: numbers (`01`, `1`), which stand for a chapter and its companion, or files' names, which stand for one each.
    Raises ValueError for one that does not exist, or where there are none at all.
    """
    folder = Path(root, "notebooks")
    found = sorted(folder.glob("[0-9][0-9]-*.md"), key=lambda path: path.stem)
    names = {path: (path.stem[:2], path.stem, path.name, f"{path.stem}.ipynb") for path in found}
    asked = {chapter: Path(chapter).name.zfill(2) for chapter in chapters}  # also 4, or a file with its folder
    unknown = [chapter or "''" for chapter, name in asked.items() if not any(name in known for known in names.values())]
    if not found:
        raise ValueError(f"no chapters in {folder}; run this in the project's folder")
    if unknown:
        have = ", ".join(path.stem for path in found)
        raise ValueError(f"no chapter {', '.join(unknown)}; there are: {have}")
    return [path for path in found if not asked or set(asked.values()) & set(names[path])]


def is_companion(path: str | Path) -> bool:
    """Whether a notebook's file is the companion of a chapter."""
    return Path(path).stem.endswith(COMPANION)


def execute(
    source: Path,
    profile: str = "full",
    data: str | Path | None = None,
    allow_offline: bool = False,
    report: Callable[[str], None] = print,
    download: bool = False,
) -> Path:
    """Run one notebook from its source and write the .ipynb whole, with its provenance; returns where it stands.

    Only a `full` run on MNIST is written beside the source, every other one under _build/executed/ in the same project.
    A run that fails writes nothing. Raises NotebookError for a failing cell, or a full run without MNIST unless
    `allow_offline`; FileNotFoundError where MNIST is needed and cannot be had. data, download: as load_digits' root and
    download.
    """
    facts = _digits(profile, data, allow_offline, download)
    in_place = profile == "full" and facts["source"] == "mnist"
    target = (source.parent if in_place else source.parent.parent / "_build" / "executed") / f"{source.stem}.ipynb"
    check_writable(target, "the executed notebook")
    notebook, start = read(source), time.perf_counter()
    folder = data or os.environ.get("LATENTBOOK_DATA")
    variables = {"LATENTBOOK_PROFILE": profile}
    if folder:  # the kernel runs in another folder than this command, so a relative path would be another place there
        variables["LATENTBOOK_DATA"] = os.path.abspath(os.path.expanduser(folder))
    _run(notebook, source, variables, report)
    _clean(notebook, source.resolve().parent.parent)
    _slim(notebook)
    notebook.metadata["latentbook"] = {
        "data": facts,
        "versions": results.versions(),
        "device": results.describe(results.machine(_device())),
        "seconds": round(time.perf_counter() - start, 1),
        "profile": profile,
        "source_hash": source_hash(notebook),
        "results": results_read(notebook),
    }
    write(notebook, target)
    return target


def sync(root: str | Path = ".", chapters: Sequence[str] = ()) -> tuple[list[Path], list[str]]:
    """Copy edits of text and cell metadata into the executed notebooks, keeping the outputs.

    Returns the notebooks rewritten, and one problem for each that needs a new execution instead.
    """
    changed, problems = [], []
    for source in sources(root, chapters):
        target = source.with_suffix(".ipynb")
        if not target.exists():
            problems.append(f"{target.name}: not executed yet; {_again(source)}")
            continue
        new, old = read(source), read(target)
        if _code(new) != _code(old):
            problems.append(f"{target.name}: the code has changed; {_again(source)}")
            continue
        for cell, executed in zip(_code_cells(new), _code_cells(old), strict=True):
            cell.outputs, cell.execution_count = executed.outputs, executed.execution_count
        recorded = {key: value for key, value in old.metadata.items() if key not in AUTHORED}
        new.metadata = {**recorded, **new.metadata}
        before = target.read_text(encoding="utf-8")
        if _text(new) != before:
            write(new, target)
            changed.append(target)
    return changed, problems


def tidy(root: str | Path = ".", write: bool = True) -> list[str]:
    """Lay out the code cells of the sources with ruff, narrow enough for the page; returns the files that need it.

    Cells with a magic are left alone, as ruff reads Python only. Raises NotebookError for code that does not parse,
    ModuleNotFoundError without ruff.
    """
    if find_spec("ruff") is None:
        raise ModuleNotFoundError("No module named 'ruff'", name="ruff")
    untidy = []
    for source in sources(root):
        text = source.read_text(encoding="utf-8")
        new = CODE_CELL.sub(
            lambda found, name=source.name: found["head"] + _ruff(found["code"], name) + found["tail"], text
        )
        if new != text:
            untidy.append(source.name)
            if write:
                results.write_whole(source, new)
    return untidy


def _ruff(code: str, name: str) -> str:
    """One cell's code as ruff formats it."""
    if re.search(r"^\s*[%!]", code, re.MULTILINE):
        return code
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", str(CELL_WIDTH), "-"]
    done = subprocess.run(command, input=code, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise NotebookError(f"{name}: a code cell does not parse: {done.stderr.strip()}\n{code}")
    return done.stdout


def check(root: str | Path = ".") -> list[str]:
    """What is wrong with the notebooks as they stand, one line each; empty where every pair is in step and fresh."""
    problems = []
    folder = Path(root, "notebooks")
    for stray in sorted(folder.glob("*.ipynb")):
        if not stray.with_suffix(".md").exists():
            problems.append(f"{stray.name}: has no source; write {stray.stem}.md or remove it")
    for source in sources(root):
        chapter = source.with_name(source.name.replace(COMPANION, ""))
        if not chapter.exists():
            problems.append(f"{source.name}: is the companion of no chapter; write {chapter.name} or rename it")
        target = source.with_suffix(".ipynb")
        found = _problems(source, target) if target.exists() else [f"not executed; {_again(source)}"]
        try:
            problems += [f"{target.name}: {problem}" for problem in found]
        except ImportError:
            raise
        except Exception as error:  # whatever jupytext and nbformat raise for a file that is no notebook
            problems.append(f"{target.name}: cannot be read ({error}); {_again(source)}")
    return problems


def read(path: Path) -> Any:
    """A notebook from its source or its .ipynb, cells numbered so that a new reading gives the same file.

    Cells that the source's tags fold on the site carry what folds them in JupyterLab and Colab as well.
    """
    import jupytext

    from_source = path.suffix == ".md"
    notebook = jupytext.read(path, fmt="md:myst" if from_source else "ipynb")
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{i:03d}"
        if from_source and cell.cell_type == "code":
            _fold(cell)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def _fold(cell: Any) -> None:
    """Give a code cell the metadata by which JupyterLab and Colab fold what its tags fold on the site."""
    tags = set(cell.metadata.get("tags", []))
    if tags & FOLDED:
        hidden = {"source_hidden": True} | ({"outputs_hidden": True} if "hide-cell" in tags else {})
        cell.metadata["jupyter"] = {**hidden, **cell.metadata.get("jupyter", {})}
        cell.metadata.setdefault("cellView", "form")


def write(notebook: Any, path: Path) -> None:
    """Write an .ipynb whole or not at all."""
    results.write_whole(path, _text(notebook))


def source_hash(notebook: Any, package: Path = PACKAGE) -> str:
    """One hash over a notebook's code cells and the library's code that they use, directly or not.

    What counts of a module are the definitions that are reached by name and the statements that define nothing, so that a
    new function beside them leaves a notebook fresh. Docstrings, comments and layout do not count. The hash is the same
    under every version of Python.
    """
    digest = hashlib.sha256("\n\f\n".join(_code(notebook)).encode())
    for module, names in sorted(reached(notebook, package).items()):
        for name in sorted(names):
            shapes = [_shape(node) for node in _module(package, module).definitions.get(name, [])]
            digest.update(f"\f{module}\f{name}\f{shapes}".encode())
    return digest.hexdigest()


def reached(notebook: Any, package: Path = PACKAGE) -> dict[str, set[str]]:
    """What a notebook's code uses of the library: {module's dotted name: names defined there}; "" stands for the rest."""
    _module.cache_clear()
    trees = [ast.parse(_without_magics(code)) for code in _code(notebook)]
    waiting = list(_uses(ast.Module([node for tree in trees for node in tree.body], []), None, package))
    found: dict[str, set[str]] = {}
    while waiting:
        module, name = waiting.pop()
        names = found.setdefault(module, set())
        here = _module(package, module)
        if name in names:
            continue
        names.add(name)
        if name == "*":  # the module itself is handed on: all of it may be used
            waiting += [(module, each) for each in here.definitions]
        elif name in here.definitions:
            for node in here.definitions[name]:
                waiting += _uses(node, module, package)
        elif name in here.scope:  # defined elsewhere and imported here
            waiting.append(here.scope[name])
        elif name:  # made in a way that reading does not show
            waiting.append((module, "*"))
        waiting.append((module, ""))
    return found


def results_read(notebook: Any, directory: str | Path | None = None) -> dict[str, str]:
    """{name: sha256} of the results files named in the notebook's code: in quotes, alone or before a slash.

    Of the figures published by others, those of the experiments that are named in the same way; of a record beside the
    results, as `choices/primer`, where the code calls its module, those that it names, as `choices.PRIMER` or in quotes, or
    every file where it names none.
    """
    code = "\n".join(_code(notebook))

    def named(name: str) -> bool:
        return bool(re.search(rf"[\"'/]{re.escape(name)}[\"'/]", code))

    def content(path: Path) -> bytes:
        if path.stem != "published":
            return path.read_bytes()
        every = json.loads(path.read_text(encoding="utf-8"))
        return json.dumps({name: every[name] for name in sorted(every) if named(name)}, sort_keys=True).encode()

    folder = Path(directory or results.DIRECTORY)
    found = {p.stem: p for p in sorted(folder.glob("*.json")) if named(p.stem)}
    for record in RECORDS:
        if re.search(rf"(?<![\w.]){record}\.\w+\(", code):
            every = sorted((folder / record).glob("*.json"))
            own = [p for p in every if named(p.stem) or f"{record}.{p.stem.upper().replace('-', '_')}" in code]
            found |= {f"{record}/{p.stem}": p for p in own or every}
    return {name: hashlib.sha256(content(path)).hexdigest() for name, path in found.items()}


def _digits(profile: str, data: str | Path | None, allow_offline: bool, download: bool = False) -> dict[str, str]:
    """Source and hash of the digits that a notebook will find."""
    from latentbook.data.digits import COMMAND, load_digits

    wanted = Profile(profile).source if profile != "full" or allow_offline else "mnist"
    asked = {"root": data, "download": download, "wording": COMMAND._replace(offline=f"--profile {profile}")}
    return results.data_of(*(load_digits(split, source=wanted, **asked) for split in ("train", "test")))


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _run(notebook: Any, source: Path, variables: dict[str, str], report: Callable[[str], None]) -> None:
    """Execute the cells in place, in a fresh kernel in the source's folder."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    total = len(notebook.cells)

    def said(cell: Any, cell_index: int) -> None:
        if cell.cell_type == "code":
            report(f"  {source.stem}: cell {cell_index + 1} of {total}")

    quiet = {"TQDM_DISABLE": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    with tempfile.TemporaryDirectory(prefix="latentbook-") as folder:
        client = NotebookClient(
            notebook,
            timeout=None,
            kernel_name="python3",
            resources={"metadata": {"path": str(source.parent)}},
            record_timing=False,
            store_widget_state=False,
            on_cell_start=said,
            config=_transport(folder),
        )
        kernels = Path(folder, "errors.txt")  # what the kernel itself says; one that is stopped tells of its sockets
        try:
            with kernels.open("w", encoding="utf-8") as errors:
                client.execute(env={**os.environ, **quiet, **variables}, stderr=errors)
        except Exception as error:
            if hasattr(client, "_async_cleanup_kernel_future"):  # set where it was stopped: the kernel has been ended
                kernels.write_text("", encoding="utf-8")
                logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # of tasks that nbclient leaves behind
                raise KeyboardInterrupt from None
            if not isinstance(error, (CellExecutionError, CellTimeoutError, DeadKernelError)):
                raise
            text = COLOURS.sub("", str(error)).strip()
            raise NotebookError(f"{source.name} failed, nothing was written:\n{text}") from None
        finally:
            sys.stderr.write(kernels.read_text(encoding="utf-8", errors="replace"))


def _transport(folder: str) -> Any:
    """The kernel talks through files of this user alone: over TCP, others of the machine could listen, and it warns of that."""
    from traitlets.config import Config

    local = {"transport": "ipc", "ip": str(Path(folder, "kernel"))}
    return Config({"KernelManager": local if os.name == "posix" else {}})


def _clean(notebook: Any, root: Path) -> None:
    """Take out of the outputs what belongs to this machine: paths, progress bars, views of widgets that are gone."""
    places = {f"{root}/": "", str(root): ".", str(Path.home()): "~"}
    for cell in _code_cells(notebook):
        cell.outputs = [o for o in cell.outputs if not _is_progress(o)]
        for output in cell.outputs:
            data = output.get("data", {})
            if WIDGET in data and {"text/html", "image/png"} & data.keys():
                del data[WIDGET]  # the still picture stays
            for holder, key in [(output, "text")] * ("text" in output) + [
                (data, k) for k in data if k.startswith("text/")
            ]:
                for place, name in places.items():
                    holder[key] = holder[key].replace(place, name)


def _is_progress(output: Any) -> bool:
    """Whether an output is a progress bar: as text on stderr, or as a widget that saves no picture of itself."""
    data = output.get("data", {})
    return (output.get("name") == "stderr" and bool(PROGRESS.search(output.text))) or (
        WIDGET in data and not {"text/html", "image/png"} & data.keys()
    )


def _problems(source: Path, target: Path) -> Iterator[str]:
    """What is wrong with one pair."""
    wanted, notebook = read(source), read(target)
    facts, again = notebook.metadata.get("latentbook", {}), _again(source)
    if _cells(wanted) != _cells(notebook) or _authored(wanted) != _authored(notebook):
        advice = again if _code(wanted) != _code(notebook) else "run `make sync`"
        yield f"out of step with {source.name} {_first_difference(wanted, notebook)}; {advice}"
    if not facts:
        yield f"does not say where its outputs come from; {again}"
    else:
        if facts["source_hash"] != source_hash(wanted):
            yield f"stale: its code or the library's has changed since it was executed; {again}"
        if facts["results"] != (now := results_read(wanted)):
            names = sorted(n for n in facts["results"].keys() | now.keys() if facts["results"].get(n) != now.get(n))
            yield f"the results {', '.join(names)} have changed since it was executed; {again}"
        if facts["profile"] != "full" or facts["data"]["source"] != "mnist":
            yield f"holds a {facts['profile']} run on {facts['data']['source']}, not a full one on MNIST; {again}"
    for kind, state in notebook.metadata.get("widgets", {}).items():
        if "state" not in state:  # as Colab saves it; nbconvert and code hosts cannot read such a notebook
            yield f"cannot be shown: its metadata has widgets ({kind}) without their state, as Colab saves them; {again}"
    if (size := target.stat().st_size) > LARGEST:
        yield f"is {size / 1e6:.1f} MB, {LARGEST / 1e6:.0f} MB are allowed; save smaller figures"
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "code":
            yield from (f"cell {number} {problem}" for problem in _cell_problems(cell))


def _cell_problems(cell: Any) -> Iterator[str]:
    tags = cell.metadata.get("tags", [])
    if cell.source.strip() and cell.execution_count is None and "skip-execution" not in tags:
        yield "was not executed"
    shown = (output.get("data", {}) for output in cell.outputs)
    pictures = [data[kind] for data in shown for kind in ("image/svg+xml", "image/png") if kind in data]
    if _alt(cell) and not pictures and "figure-optional" not in tags:
        yield "has alt text, but draws no figure"
    if len(pictures) > len(set(pictures)):
        yield "shows one picture twice (a figure that ends a cell is shown again: give it a name)"
    for output in cell.outputs:
        data = output.get("data", {})
        text = "\n".join([output.get("text", ""), *(v for k, v in data.items() if k.startswith("text/"))])
        if output.output_type == "error" and "raises-exception" not in tags:
            yield f"ended in an error ({output.ename})"
        if found := MACHINE_PATH.search(text):
            yield f"shows a path of one machine ({found[0]})"
        if output.get("name") == "stderr" and PROGRESS.search(text):
            yield "shows a progress bar"
        pictures = any(kind.startswith("image/") for kind in data) and "text/html" not in data
        if pictures and not _alt(cell):
            yield "draws a figure without alt text (`mystnb: {image: {alt: ...}}` in the cell's metadata)"


def _alt(cell: Any) -> str:
    return str(cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")).strip()


def _again(source: Path) -> str:
    """What runs this notebook and no other: its number, or its name where a companion shares the number."""
    alone = len(list(source.parent.glob(f"{source.stem[:2]}-*.md"))) < 2
    return f"run `make execute CHAPTER={source.stem[:2] if alone else source.stem}`"


def _code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _code(notebook: Any) -> list[str]:
    return [cell.source.strip() for cell in _code_cells(notebook)]


def _cells(notebook: Any) -> list[tuple[str, str, dict]]:
    return [(cell.cell_type, cell.source.strip(), dict(cell.metadata)) for cell in notebook.cells]


def _authored(notebook: Any) -> dict[str, Any]:
    return {key: notebook.metadata[key] for key in sorted(AUTHORED & notebook.metadata.keys())}


def _first_difference(a: Any, b: Any) -> str:
    if _cells(a) == _cells(b):
        return "in its front matter"
    pairs = zip(_cells(a), _cells(b), strict=False)
    at = next((i for i, (x, y) in enumerate(pairs, 1) if x != y), min(len(a.cells), len(b.cells)) + 1)
    return f"from cell {at} on"


def _slim(notebook: Any) -> None:
    """Store each picture among the outputs in few bytes: PNGs with 256 colours, SVGs compact, those for phones deflated."""
    for cell in _code_cells(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            if png := data.get("image/png"):
                data["image/png"] = min(png, smaller(png), key=len)
            if svg := data.get("image/svg+xml"):
                data["image/svg+xml"] = themes.compact(svg)
            if (svg := data.get(themes.NARROW)) and (svg := themes.unpacked(svg)):
                data[themes.NARROW] = themes.packed(themes.compact(svg))
    phones = [
        output.data
        for cell in _code_cells(notebook)
        for output in cell.outputs
        if themes.NARROW in output.get("data", {})
    ]
    phones.sort(key=lambda data: len(data[themes.NARROW]))
    while phones and len(_text(notebook).encode()) > LARGEST * ROOM:  # a phone then scrolls the wide one
        del phones.pop()[themes.NARROW]


def smaller(png: str) -> str:
    """A PNG in base64, on opaque white, with at most 256 colours: enough for greys and the book's few colours."""
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA")
    opaque = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    out = io.BytesIO()
    opaque.quantize(256, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def _text(notebook: Any) -> str:
    import nbformat

    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def _without_magics(code: str) -> str:
    """Code without IPython's `%magic` and `!command` lines; a cell magic leaves nothing."""
    if code.lstrip().startswith("%%"):
        return ""
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", code, flags=re.MULTILINE)


def _file(package: Path, name: str) -> Path | None:
    """The file of a module by its dotted name, None where there is none."""
    path = package.parent.joinpath(*name.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


@dataclass(frozen=True)
class _Module:
    """A module as read: the statements that define each top-level name, and what each imported name stands for."""

    definitions: dict[str, list[ast.stmt]]
    scope: dict[str, tuple[str, str]]


@cache
def _module(package: Path, name: str) -> _Module:
    tree = ast.parse(_file(package, name).read_text(encoding="utf-8"))
    definitions: dict[str, list[ast.stmt]] = {"": []}
    for node in tree.body:
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            for defined in _defined(node) or [""]:
                definitions.setdefault(defined, []).append(node)
    return _Module(definitions, _scope(tree, package))


def _defined(node: ast.stmt) -> list[str]:
    """The names that a top-level statement defines."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [leaf.id for target in targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name)]
    return []


def _scope(tree: ast.AST, package: Path) -> dict[str, tuple[str, str]]:
    """The package's modules and names that some code imports: {name there: (module, name or "*" for the module itself)}."""
    scope = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == package.name and _file(package, alias.name):
                    scope[alias.asname or alias.name] = (alias.name, "*")
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if node.module.split(".")[0] != package.name:
                    continue
                if _file(package, full):
                    scope[alias.asname or alias.name] = (full, "*")
                elif _file(package, node.module):
                    scope[alias.asname or alias.name] = (node.module, alias.name)
    return scope


def _uses(tree: ast.AST, module: str | None, package: Path) -> Iterator[tuple[str, str]]:
    """What some code uses of the package: (module, name), as far as its names and attributes tell."""
    here = _module(package, module) if module else None
    scope = dict(here.scope) if here else _scope(tree, package)
    if here:
        scope |= {name: (module, name) for name in here.definitions if name}
    whole = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            dotted = _dotted(node.value)
            if dotted in scope:
                target, name = scope[dotted]
                yield (target, node.attr) if name == "*" else (target, name)
        elif isinstance(node, ast.Name) and node.id in scope:
            if scope[node.id][1] != "*" or id(node) not in whole:
                yield scope[node.id]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and here and node.value in here.definitions:
            yield (module, node.value)  # as in globals()["train"]
        elif isinstance(node, (ast.Import, ast.ImportFrom)):  # importing runs what a module does besides defining
            yield from ((target, "" if name == "*" else name) for target, name in _scope(node, package).values())


def _dotted(node: ast.AST) -> str | None:
    """`a.b.c` as written, None for any other expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return None


def _shape(node: Any) -> Any:
    """A syntax tree as nested lists, without docstrings and positions."""
    if isinstance(node, ast.AST):
        fields = [
            (name, value) for name, value in ast.iter_fields(node) if value not in (None, []) and name not in NO_CODE
        ]
        return [type(node).__name__, *([name, _shape(value)] for name, value in fields)]
    if isinstance(node, list):
        return [_shape(item) for item in node if not _is_docstring(item)]
    return repr(node)


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
