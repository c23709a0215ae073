"""All notebooks in Colab's versions: an environment with what Colab has, the library installed as the first cell does it.

    python tests/colab/run.py [01 ...]

Needs a Python with venv and a package index, nothing else; Colab's own Python is taken where it is found. The
environment, some 6 GB, stands in .venv-colab and is kept; the library is installed anew each time.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIST = ROOT / "tests" / "colab-2026-08-19.txt"
PYTHON = (3, 13)  # Colab's, see the head of the list
PLACE = ROOT / ".venv-colab"
KERNEL = ("ipykernel", "ipython", "nbclient")  # what runs a notebook; all in the list
# The index's PyTorch asks for CUDA libraries of other versions than Colab's own build, which is not on the index.
OTHERS = ("nvidia-",)
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, kernel_name="python3", timeout=None).execute()
nbformat.write(notebook, sys.argv[1])
"""
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
QUIET = ("--quiet", "--disable-pip-version-check")


def canonical(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def versions(text: str) -> dict[str, str]:
    """{package: version} of the lines `name==version`, as `pip freeze` writes them; other lines `name @ address` too."""
    pairs = re.findall(r"^([\w.-]+)(?:==| @ )(\S+)", text, re.MULTILINE)
    return {canonical(name): version for name, version in pairs}


def changed(before: dict[str, str], after: dict[str, str], listed: dict[str, str]) -> list[str]:
    """What an installation did to what Colab has, a line each: versions replaced, removed, or put beside the list's."""
    lines = [f"{name} {old} -> {after.get(name, 'removed')}" for name, old in before.items() if after.get(name) != old]
    new = sorted(after.keys() - before.keys())
    return lines + [
        f"{name} {listed[name]} -> {after[name]}" for name in new if after[name] != listed.get(name, after[name])
    ]


class Runtime:
    """The environment in a folder, by its Python."""

    def __init__(self, place: Path):
        self.place = place
        self.python = place / ("Scripts" if os.name == "nt" else "bin") / "python"

    def __call__(self, *arguments: object, **options: object) -> subprocess.CompletedProcess:
        return subprocess.run([str(self.python), *map(str, arguments)], check=True, text=True, **options)

    def pip(self, *arguments: object, **options: object) -> subprocess.CompletedProcess:
        return self("-m", "pip", *arguments, **options)

    def freeze(self) -> dict[str, str]:
        return versions(self.pip("freeze", "--all", stdout=subprocess.PIPE).stdout)


def copied(folder: Path) -> Path:
    """The library alone as a checkout has it, so that nothing built earlier gets into what is installed."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    return folder


def make(runtime: Runtime, library: Path, listed: dict[str, str]) -> dict[str, str]:
    """Make the environment with what of Colab's packages the library and a kernel need; returns what is in it.

    An environment that stands complete for the same list, requirements and Python is taken as it is.
    """
    stamp = runtime.place / "made.json"
    key = hashlib.sha256(LIST.read_bytes() + (ROOT / "pyproject.toml").read_bytes() + sys.version.encode()).hexdigest()
    if stamp.exists() and (made := json.loads(stamp.read_text(encoding="utf-8")))["key"] == key:
        if extra := sorted(runtime.freeze().keys() - made["versions"].keys()):
            runtime.pip("uninstall", *QUIET, "--yes", *extra)
        if runtime.freeze() == made["versions"]:
            return made["versions"]
    shutil.rmtree(runtime.place, ignore_errors=True)
    print(f"Making {runtime.place.name} (about 3 GB to download, 6 GB on disk) ...", flush=True)
    subprocess.run([sys.executable, "-m", "venv", runtime.place], check=True)
    runtime.pip("install", *QUIET, f"pip=={listed['pip']}")
    pins = runtime.place / "pins.txt"
    pins.write_text("".join(f"{n}=={v}\n" for n, v in listed.items() if not n.startswith(OTHERS)), encoding="utf-8")
    report = runtime.place / "report.json"
    runtime.pip("install", *QUIET, "--dry-run", "--report", report, "-c", pins, library, *KERNEL)
    wanted = [item["metadata"]["name"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
    runtime.pip("install", *QUIET, "-c", pins, *(name for name in wanted if canonical(name) in listed))
    before = runtime.freeze()
    stamp.write_text(json.dumps({"key": key, "versions": before}), encoding="utf-8")
    return before


def install(runtime: Runtime, library: Path, before: dict[str, str], listed: dict[str, str]) -> None:
    """Install the library as a notebook's first cell does. Ends the program if that changes what Colab has."""
    runtime.pip("install", *QUIET, f"latentbook @ {library.as_uri()}")
    after = runtime.freeze()
    if lines := changed(before, after, listed):
        sys.exit("Installing the library changes what Colab has:\n  " + "\n  ".join(lines))
    new = (
        f"{name} {'' if name == 'latentbook' else after[name]}".strip() for name in sorted(after.keys() - before.keys())
    )
    print(f"Colab's {len(before)} packages stay as they are; new: {', '.join(new)}.", flush=True)


def run(runtime: Runtime, notebook: Path) -> str:
    """Run one notebook from a folder that holds nothing else; returns what went wrong, or nothing."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("LATENTBOOK_", "PYTHON"))}
    environment = outside | {"LATENTBOOK_PROFILE": "smoke", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder, notebook.name)
        alone.write_text(json.dumps(unrun(json.loads(notebook.read_text(encoding="utf-8")))), encoding="utf-8")
        command = [str(runtime.python), "-c", EXECUTE, alone.name]
        done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True)
        if done.returncode:
            return done.stderr
        return "\n".join(failures(json.loads(alone.read_text(encoding="utf-8"))))


def unrun(notebook: dict) -> dict:
    """A notebook without what an earlier run left in it."""
    for cell in code_cells(notebook):
        cell |= {"outputs": [], "execution_count": None}
    return notebook


def failures(notebook: dict) -> list[str]:
    """What is wrong with an executed notebook, a line each: cells that did not run or ended in an error, and figures of
    the library that a reader without a kernel would not see."""
    lines, models = [], notebook["metadata"].get("widgets", {}).get(STATE, {}).get("state", {})
    for number, cell in enumerate(code_cells(notebook), 1):
        errors = [output["ename"] for output in cell["outputs"] if output["output_type"] == "error"]
        if errors and "raises-exception" not in cell["metadata"].get("tags", []):
            lines.append(f"code cell {number} ended in {errors[0]}")
        if cell["execution_count"] is None and "".join(cell["source"]).strip():
            lines.append(f"code cell {number} did not run")
        for shown in (output["data"] for output in cell["outputs"] if VIEW in output.get("data", {})):
            figure = models.get(shown[VIEW]["model_id"], {}).get("model_module") == "anywidget"  # not a progress bar
            if figure and not {"text/html", "image/png"} & shown.keys():
                lines.append(f"code cell {number} shows a figure that leaves no picture in a saved copy")
    return lines


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def colabs_python() -> None:
    """Go on with Colab's Python where there is one, else say which is taken."""
    name = f"python{PYTHON[0]}.{PYTHON[1]}"
    if sys.version_info[:2] == PYTHON:
        return
    found = shutil.which(name)
    if found and subprocess.run([found, "-c", "import ensurepip, venv"], capture_output=True).returncode == 0:
        os.execv(found, [found, *sys.argv])
    print(
        f"Colab has Python {name[6:]}, which is not found here as {name}: this is {sys.version.split()[0]}.", flush=True
    )


def chosen(folder: Path, chapters: Sequence[str]) -> list[Path]:
    """The executed notebooks of some chapters, each before its companion: by number those of both, by name one alone.

    None named: all. Raises ValueError for one that does not exist.
    """
    found = sorted(folder.glob("[0-9][0-9]-*.ipynb"), key=lambda path: path.stem)
    asked = {chapter: Path(chapter).name.split(".")[0].zfill(2) for chapter in chapters}
    known = {name for path in found for name in (path.stem[:2], path.stem)}
    if unknown := [chapter for chapter, name in asked.items() if name not in known]:
        there = ", ".join(path.stem for path in found) or "none"
        raise ValueError(f"no chapter {', '.join(unknown)}; there are: {there}")
    return [path for path in found if not asked or {path.stem[:2], path.stem} & set(asked.values())]


def main() -> None:
    """Make the environment, install, run; the exit status is 1 if a notebook fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", help="01 02 ..., or files' names; all if none is given")
    try:
        notebooks = chosen(ROOT / "notebooks", parser.parse_args().chapters)
    except ValueError as error:
        sys.exit(str(error))
    colabs_python()
    listed, runtime = versions(LIST.read_text(encoding="utf-8")), Runtime(PLACE)
    with tempfile.TemporaryDirectory() as folder:
        library = copied(Path(folder))
        install(runtime, library, make(runtime, library, listed), listed)
    failed = False
    for notebook in notebooks:
        start = time.perf_counter()
        wrong = run(runtime, notebook)
        print(f"{notebook.name}: {'FAILED' if wrong else 'runs'} ({time.perf_counter() - start:.0f} s)", flush=True)
        print(wrong, end="\n" if wrong else "", flush=True)
        failed |= bool(wrong)
    sys.exit(failed)


if __name__ == "__main__":
    main()
