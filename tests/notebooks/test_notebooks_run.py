"""Every notebook runs from its source, in the profiles smoke and read, on the embedded digits, in a copy outside the project.

`nbval --nbval-lax` runs the cells and fails for an error; outputs are compared only in cells tagged nbval-check-output.
A cell that writes on stderr fails as well: a reader has no use for a warning. So does one with alt text that shows no
figure. In read a cell that trains fails.
In smoke every signature of the library is checked by beartype, the shapes that jaxtyping writes in them too. The unit
tests go without: they give wrong shapes on purpose, to see what the library says.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from latentbook.authoring import notebooks

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.md"))

QUICK = 'import sys; sys.modules["rfc3987_syntax"] = None\n'  # see conftest.py
MISSHAPEN = "import torch, latentbook.evaluation as e; e.active_units(torch.zeros(2, 3, 4))"
CHECKED = """
import sys, types
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

checker = sys.modules["latentbook_checker"] = types.ModuleType("latentbook_checker")  # the hook imports it
checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # a whole number is a float as well
install_import_hook("latentbook", "latentbook_checker.check")
"""
WATCHED = """
import os
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    result = yield
    alt = item.cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
    optional = "figure-optional" in item.cell.metadata.get("tags", [])
    drawn = any({"image/png", "image/svg+xml"} & {*output.get("data", {})} for output in item.test_outputs)
    if alt and not drawn and not optional and os.environ["LATENTBOOK_PROFILE"] == "smoke":  # read may leave it out
        pytest.fail(f"no figure is shown where there should be: {alt}", pytrace=False)
    said = "".join(output.text for output in item.test_outputs if output.get("name") == "stderr")
    if said:
        pytest.fail(f"written on stderr: {said}", pytrace=False)
    return result
"""
UNTRAINED = """
import torch
from latentbook.authoring import profiles
from latentbook.training import loop as training
from torch.optim.optimizer import register_optimizer_step_pre_hook

def refuse(*_, **__):
    raise AssertionError("the profile read trains nothing")

def refuse_weights(optimizer, *_):  # a window that is moved is no training
    if any(isinstance(moved, torch.nn.Parameter) for group in optimizer.param_groups for moved in group["params"]):
        refuse()

training.TrainingRun.step = refuse
register_optimizer_step_pre_hook(refuse_weights)
profiles.Profile.source = "offline"  # whatever this machine has: no test waits for a network
profiles.Profile.pick = lambda self, full, smoke, read=None: smoke  # its sizes will do: what counts is that nothing trains
"""


def run(source: Path, folder: Path, profile: str = "smoke") -> subprocess.CompletedProcess:
    """Run one source under nbval in a folder of its own; two of them at once are one thread each."""
    notebooks.write(notebooks.read(source), folder / f"{source.stem}.ipynb")
    for extra in source.parent.iterdir():
        if extra.is_file() and extra.suffix not in (".md", ".ipynb"):
            shutil.copy(extra, folder)
    hook, startup = folder / "hook", folder / "ipython" / "profile_default" / "startup"
    hook.mkdir()
    # runs first in every Python started below, so in the kernel too; the calls in read are made in smoke as well
    (hook / "sitecustomize.py").write_text(QUICK + (CHECKED if profile == "smoke" else ""))
    startup.mkdir(parents=True)
    (startup / "untrained.py").write_text(UNTRAINED if profile == "read" else "")  # runs in the kernel before the cells
    (folder / "conftest.py").write_text(WATCHED)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | {
        "LATENTBOOK_PROFILE": profile,
        "IPYTHONDIR": str(startup.parents[1]),
        "TQDM_DISABLE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(hook), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    command = [sys.executable, "-m", "pytest", "-q", "--nbval-lax"]
    command += [
        part
        for plugin in ("cacheprovider", "xdist", "hypothesispytest", "jaxtyping")
        for part in ("-p", f"no:{plugin}")
    ]
    command += ["--nbval-cell-timeout=300", "--rootdir", str(folder), str(folder / f"{source.stem}.ipynb")]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)


def test_the_book_has_notebooks():
    assert SOURCES, "no notebooks/NN-name.md"


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["smoke", "read"])
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_notebook_runs(source, profile, tmp_path):
    done = run(source, tmp_path, profile)
    assert done.returncode == 0, notebooks.COLOURS.sub("", done.stdout + done.stderr)[-6000:]
    assert " passed" in done.stdout and " failed" not in done.stdout


FIT = """
from latentbook.training import loop as training
from latentbook.models import vae
from latentbook.data import digits as data
model, digits = vae.VAE(), data.load_digits("train", source="offline")
training.fit(model, digits.take(slice(8)), epochs=1, progress=False)
"""
BY_HAND = (
    "import torch, latentbook.models.vae\ntorch.optim.SGD(latentbook.models.vae.VAE().parameters(), lr=0.1).step()"
)
WINDOW = "import torch\ntorch.optim.SGD([torch.zeros(3, requires_grad=True)], lr=0.1).step()"
CELLS = {
    "smoke": {
        "from latentbook.authoring.profiles import profile\nassert profile().name == 'smoke'": True,
        "raise RuntimeError": False,
        MISSHAPEN: False,
        f"import jaxtyping\ntry:\n    {MISSHAPEN}\nexcept jaxtyping.TypeCheckError:\n    pass": True,
        "import warnings\nwarnings.warn('what no reader should see')": False,
        FIT: True,
        BY_HAND: True,
    },
    "read": {
        "from latentbook.authoring.profiles import profile\nassert profile().source == 'offline'": True,
        "raise RuntimeError": False,
        FIT: False,
        BY_HAND: False,
        WINDOW: True,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("profile", CELLS)
def test_a_failing_cell_would_be_seen(tmp_path, profile):
    source = tmp_path / "source" / "01-try.md"
    source.parent.mkdir()
    cells = "\n".join(f"```{{code-cell}} ipython3\n{code}\n```\n" for code in CELLS[profile])
    source.write_text(f"---\nkernelspec: {{display_name: Python 3, language: python, name: python3}}\n---\n\n{cells}")
    done = run(source, tmp_path, profile)
    failed = {int(number) for number in re.findall(r"^FAILED 01-try.ipynb::Cell (\d+)", done.stdout, re.MULTILINE)}
    assert failed == {number for number, passes in enumerate(CELLS[profile].values()) if not passes}, done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_digits_are_on_the_accelerator_where_there_is_one(source):
    code = source.read_text(encoding="utf-8")
    assert 'DEVICE = "cuda" if torch.cuda.is_available() else "cpu"' in code
    loaded = re.findall(r"^.*load_digits\(.*", code, re.MULTILINE)
    assert len(loaded) >= 2 and [call for call in loaded if "device=DEVICE" not in call] == []
