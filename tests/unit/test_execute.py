"""`execute` as a person uses it: nothing is said to run before all was tried, and stopping it is no error."""

import os
import signal
import subprocess
import sys

import pytest

from latentbook import __main__ as cli

NOTEBOOK = """---
jupytext: {formats: 'ipynb,md:myst'}
kernelspec: {name: python3, display_name: Python 3}
---
# Title

```{code-cell} ipython3
open("told", "w").close()
open("gate").read()
```
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's folder with a chapter that tells when it runs and then waits."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01-wait.md").write_text(NOTEBOOK, encoding="utf-8")
    return tmp_path


def test_nothing_runs_before_the_digits_are_found(project, capsys):
    assert cli.main(["execute", "01", "--data", "nowhere"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "MNIST is not in nowhere, named by --data" in err and err.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="signals and pipes")
def test_a_command_that_is_stopped_ends_its_kernel_and_says_so_in_one_line(project):
    for name in ("told", "gate"):
        os.mkfifo(project / "notebooks" / name)
    command = [sys.executable, "-u", "-m", "latentbook", "execute", "01", "--profile", "smoke"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("COV_", "LATENTBOOK"))}
    process = subprocess.Popen(command, cwd=project, env=environment, text=True, stdout=-1, stderr=-1)
    assert process.stdout.readline() == "01-wait: running, profile smoke\n", process.stderr.read()
    (project / "notebooks" / "told").read_text()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and err.strip() == "interrupted; what was finished is kept"
    assert not list(project.rglob("*.ipynb"))
