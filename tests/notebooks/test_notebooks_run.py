"""Every notebook runs from its source, in the smoke profile, on the embedded digits, in a copy outside the project.

`nbval --nbval-lax` runs the cells and fails for an error; outputs are compared only in cells tagged nbval-check-output.
Meanwhile every signature of the library is checked by beartype, the shapes that jaxtyping writes in them too. The unit
tests go without: they give wrong shapes on purpose, to see what the library says.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from latentbook import notebooks

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.md"))

MISSHAPEN = "import torch, latentbook.evaluation as e; e.active_units(torch.zeros(2, 3, 4))"
CHECKED = """
import sys, types
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

checker = sys.modules["latentbook_checker"] = types.ModuleType("latentbook_checker")  # the hook imports it
checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # a whole number is a float as well
install_import_hook("latentbook", "latentbook_checker.check")
"""


def smoke(source: Path, folder: Path) -> subprocess.CompletedProcess:
    """Run one source under nbval in a folder of its own; two of them at once are one thread each."""
    notebooks.write(notebooks.read(source), folder / f"{source.stem}.ipynb")
    for extra in source.parent.iterdir():
        if extra.is_file() and extra.suffix not in (".md", ".ipynb"):
            shutil.copy(extra, folder)
    hook = folder / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(CHECKED)  # runs first in every Python started below, so in the kernel too
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | {
        "LATENTBOOK_PROFILE": "smoke",
        "TQDM_DISABLE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(hook),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--nbval-lax"]
    command += ["--nbval-cell-timeout=300", "--rootdir", str(folder), str(folder / f"{source.stem}.ipynb")]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)


def test_the_book_has_notebooks():
    assert SOURCES, "no notebooks/NN-name.md"


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_notebook_runs(source, tmp_path):
    done = smoke(source, tmp_path)
    assert done.returncode == 0, notebooks.COLOURS.sub("", done.stdout + done.stderr)[-6000:]
    assert " passed" in done.stdout and " failed" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "passes"),
    [
        ("from latentbook.profiles import profile\nassert profile().name == 'smoke'", True),
        ("raise RuntimeError", False),
        (MISSHAPEN, False),
        (f"import jaxtyping\ntry:\n    {MISSHAPEN}\nexcept jaxtyping.TypeCheckError:\n    pass", True),
    ],
)
def test_a_failing_cell_would_be_seen(tmp_path, code, passes):
    source = tmp_path / "source" / "01-try.md"
    source.parent.mkdir()
    head = "---\nkernelspec: {display_name: Python 3, language: python, name: python3}\n---\n\n"
    source.write_text(f"{head}```{{code-cell}} ipython3\n{code}\n```\n")
    done = smoke(source, tmp_path)
    assert (done.returncode == 0) is passes, done.stdout + done.stderr
