"""The Makefile in a copy of its own, in a folder with a space and an umlaut, with Pythons that only pretend to install."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from test_project import ROOT

PRETENDED = """#!/bin/sh
# A Python that writes down what it is told, answers questions truly, and installs nothing.
echo "$0 $*" >> {log}
case "$1 $2" in
  "-m venv") {venv} ;;
  "-m ensurepip") {ensurepip} ;;
  "-m pip") {pip} ;;
  "-m "*) ;;
  *ensurepip*) {can_make} ;;
  *find_spec*) {has_torch} ;;
  *jupyter_book*) mkdir -p _build/html && touch _build/html/index.html ;;
  *) exec {real} "$@" ;;
esac
"""


class Copy:
    """The Makefile in a folder of its own, and what was told to the pretended Pythons."""

    def __init__(self, folder: Path):
        self.folder, self.log = folder / "Das Büch 2", folder / "log"
        self.venv, self.named = self.folder / ".venv", folder / "a python"
        self.folder.mkdir()
        named = re.search(r"^INPUTS +:= (.*?) \$\(shell", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        for name in ("Makefile", "requirements.txt", *named[1].split()):
            shutil.copy(ROOT / name, self.folder)
        self.pretend(folder / "made")
        self.pretend(self.named, venv=f"mkdir -p .venv/bin && cp {shlex.quote(str(folder / 'made'))} .venv/bin/python")

    def pretend(self, path: Path, **answers: str) -> Path:
        """Write a Python that answers as told, by default well."""
        path.parent.mkdir(parents=True, exist_ok=True)
        usual = {"venv": "true", "ensurepip": "false", "pip": "true", "can_make": "true", "has_torch": "true"}
        told = {"log": shlex.quote(str(self.log)), "real": shlex.quote(sys.executable)}
        path.write_text(PRETENDED.format(**{**usual, **answers, **told}), encoding="utf-8")
        path.chmod(0o755)
        return path

    def make(self, *arguments: str, python: Path | None = None, **environment: str) -> tuple[int, str]:
        """Run make; returns its exit status and all that it said."""
        outside = {
            name: value for name, value in os.environ.items() if name not in ("PYTHON", "MAKEFLAGS", "MAKELEVEL")
        }
        command = ["make", "--no-print-directory", f"PYTHON={python or self.named}", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=outside | environment, encoding="utf-8", capture_output=True
        )
        return done.returncode, done.stdout + done.stderr

    def told(self) -> str:
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    def stamps(self) -> list[Path]:
        return sorted(self.venv.glob("installed-*"))


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path)


def test_the_first_command_makes_the_environment_and_the_next_has_nothing_to_do(copy):
    status, said = copy.make("install")
    assert status == 0, said
    assert "Making .venv" in said and len(copy.stamps()) == 1
    assert "-m pip --disable-pip-version-check install --quiet -r requirements.txt -c .venv/keep.txt" in copy.told()
    copy.log.unlink()
    assert copy.make("install")[0] == 0
    assert "install" not in copy.told()


def test_a_half_made_environment_is_made_again(copy):
    broken = copy.pretend(copy.venv / "bin" / "python", pip="exit 1")
    packages = copy.venv / "lib" / "python3.11" / "site-packages"
    (packages / "pip" / "_internal").mkdir(parents=True)  # stopped while pip was unpacked
    (packages / "pip-24.0.dist-info").mkdir()
    for name in ("pip/_internal/build_env.py", "pip-24.0.dist-info/METADATA", "distutils-precedence.pth"):
        (packages / name).touch()
    (copy.venv / "pyvenv.cfg").touch()
    status, said = copy.make("install")
    assert status == 0, said
    assert "Removing .venv, which was left half made" in said and "Making .venv" in said
    assert not packages.exists() and "exit 1" not in broken.read_text() and len(copy.stamps()) == 1


def test_an_environment_without_any_python_is_made_again(copy):
    (copy.venv / "bin").mkdir(parents=True)
    status, said = copy.make("install")
    assert status == 0 and "half made" in said and "is not used" not in said, said


def test_an_environment_whose_python_has_gone_is_said_stamp_or_not(copy):
    copy.make("install")
    (copy.venv / "notes.txt").touch()
    (copy.venv / "bin" / "python").unlink()
    (copy.venv / "bin" / "python").symlink_to(copy.folder / "gone")
    status, said = copy.make("lint")
    assert status != 0 and "does not run" in said and "rm -r .venv" in said


@pytest.mark.parametrize(
    "name", ["lib/python3.11/site-packages/numpy/__init__.py", "lib/python3.11/site-packages/pipx.py", "notes.txt"]
)
def test_an_environment_that_holds_something_is_never_removed(copy, name):
    copy.pretend(copy.venv / "bin" / "python", pip="exit 1")
    kept = copy.venv / name
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.touch()
    status, said = copy.make("install")
    assert status != 0 and kept.exists() and copy.stamps() == []
    assert "rm -r .venv" in said and "half made" not in said


def test_an_environment_without_pip_gets_it(copy):
    copy.pretend(copy.venv / "bin" / "python", pip="test -e .venv/pip", ensurepip="touch .venv/pip")
    (kept := copy.venv / "notes.txt").touch()
    assert copy.make("install")[0] == 0
    assert kept.exists() and len(copy.stamps()) == 1


def test_a_file_of_that_name_is_left_alone(copy):
    copy.venv.write_text("elsewhere")
    status, said = copy.make("install")
    assert status != 0 and "rm -r .venv" in said and copy.venv.read_text() == "elsewhere"


def test_a_good_environment_without_a_stamp_is_used(copy):
    copy.pretend(copy.venv / "bin" / "python")
    status, said = copy.make("install")
    assert status == 0 and "Making" not in said and "Removing" not in said
    assert len(copy.stamps()) == 1


def test_a_failing_venv_leaves_nothing_behind(copy):
    copy.pretend(copy.named, venv="mkdir -p .venv/bin; exit 1")
    assert copy.make("install")[0] != 0
    assert not copy.venv.exists()


def test_a_failing_installation_leaves_no_stamp_and_says_what_to_do(copy):
    copy.pretend(copy.venv / "bin" / "python", pip='case "$*" in *requirements*) exit 1 ;; esac')
    status, said = copy.make("install")
    assert status != 0 and "rm -r .venv" in said
    assert copy.stamps() == []


def test_a_missing_debian_package_is_named(copy):
    copy.pretend(copy.named, can_make="exit 1")
    status, said = copy.make("install")
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    assert status != 0 and "apt install python3-venv" in said and version in said
    assert not copy.venv.exists()


def test_a_python_that_is_not_there_is_said(copy, tmp_path):
    status, said = copy.make("install", python=tmp_path / "none")
    assert status != 0 and "Python 3.10 or newer is needed" in said


def test_a_named_python_that_is_not_used_is_said(copy):
    copy.make("install")
    assert "is not used" not in copy.make("install")[1]  # the same Python
    other = copy.pretend(copy.folder / "other")
    other.write_text("#!/bin/sh\necho Python 3.99.0 in /else/where\n")
    status, said = copy.make("install", python=other)
    assert status == 0 and f"PYTHON={other} is not used: .venv has Python {sys.version.split()[0]} in " in said
    assert "rm -r .venv" in said


def test_sizes_are_said_before_the_download_and_only_then(copy):
    copy.pretend(copy.venv / "bin" / "python", has_torch="exit 1")
    said = copy.make("install")[1]
    assert "6 GB" in said and said.index("6 GB") < said.index("Installing")
    assert "README.md" in said
    copy.stamps()[0].unlink()
    copy.pretend(copy.venv / "bin" / "python")
    assert "GB" not in copy.make("install")[1]


@pytest.mark.parametrize(("wanted", "kept"), [(">=2.6", True), ("", True), (">=99", False)])
def test_a_torch_that_is_there_already_is_kept(copy, wanted, kept):
    copy.pretend(copy.venv / "bin" / "python")
    project = copy.folder / "pyproject.toml"
    project.write_text(
        project.read_text(encoding="utf-8").replace('"torch>=2.6"', f'"torch{wanted}"'), encoding="utf-8"
    )
    assert copy.make("install")[0] == 0
    assert (copy.venv / "keep.txt").read_text() == (f"torch=={version('torch')}\n" if kept else "")
    assert ("-r requirements.txt -c .venv/keep.txt\n" in copy.told()) is kept


def test_a_moved_folder_is_installed_again(copy):
    copy.make("install")
    copy.folder = copy.folder.rename(copy.folder.with_name("Das Büch 3"))
    copy.venv = copy.folder / ".venv"
    copy.log.unlink()
    assert copy.make("install")[0] == 0
    assert "-r requirements.txt" in copy.told() and len(copy.stamps()) == 1


def test_a_busy_port_is_said_before_anything_is_built(copy):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        status, said = copy.make("serve", f"PORT={port}")
    assert status != 0 and f"Port {port} cannot be used" in said
    assert f"make serve PORT={port + 1}" in said and "Traceback" not in said
    assert not copy.venv.exists()


def test_a_port_that_is_none_is_said(copy):
    for wrong in ("http", "99999", "0"):
        status, said = copy.make("serve", f"PORT={wrong}")
        assert status != 0 and f"PORT must be a number from 1 to 65535, got {wrong}" in said


def test_the_book_is_built_once_and_served(copy):
    notes = copy.folder / "book" / "my notes.md"
    notes.parent.mkdir()
    notes.touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # free again below
    status, said = copy.make("serve", f"PORT={port}")
    assert status == 0, said
    assert f"-m http.server --directory _build/html --bind 127.0.0.1 {port}" in copy.told()
    copy.log.unlink()
    assert copy.make("book")[0] == 0 and "jupyter_book" not in copy.told()
    os.utime(notes, (2e9, 2e9))
    assert copy.make("book")[0] == 0 and "jupyter_book" in copy.told()


def test_chapter_profile_and_data_reach_the_command_line(copy):
    data = copy.folder / "Meine Ziffern"
    assert copy.make("execute", "CHAPTER=4", "PROFILE=smoke", f"DATA={data}")[0] == 0
    assert f"-m latentbook execute 4 --profile smoke --data {data}\n" in copy.told()
    assert copy.make("sync", "CHAPTER=4")[0] == 0
    assert "-m latentbook sync 4\n" in copy.told()
    assert copy.make("colab", "CHAPTER=4")[0] != 0  # no such file in the copy
    assert f"{copy.named} tests/colab/run.py 4\n" in copy.told()
