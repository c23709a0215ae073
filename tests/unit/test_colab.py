"""In Colab the library adds what is missing and changes nothing that is there: pip's choices, made again without a network."""

import importlib.metadata
import importlib.util
import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as canonical
from packaging.version import Version
from test_project import ROOT, read

spec = importlib.util.spec_from_file_location("colab_run", ROOT / "tests" / "colab" / "run.py")
colab = importlib.util.module_from_spec(spec)
spec.loader.exec_module(colab)

LISTED = colab.versions(read("tests/colab-2026-08-19.txt"))
COLAB = {"python_version": "3.13", "python_full_version": "3.13.0", "sys_platform": "linux", "platform_system": "Linux"}
OFFERED = {  # releases on the index that decide something, and what they ask for; those installed here count too
    "livelossplot": {
        "0.6.0": ["bokeh", "matplotlib"],
        "0.6.1": ["bokeh>=3.0", "ipython>=8.0", "matplotlib>=3.6"],
    },
}


def required() -> list[str]:
    """What the library itself asks for, as pyproject.toml has it."""
    block = re.search(r"^dependencies = \[\n(.*?)^\]", read("pyproject.toml"), re.MULTILINE | re.DOTALL)[1]
    return re.findall(r'^\s*"([^"]+)"', block, re.MULTILINE)


def offered(name: str) -> dict[str, list[str]]:
    """The known releases of a package that Colab lacks: {version: what it asks for}."""
    try:
        here = {importlib.metadata.version(name): importlib.metadata.requires(name) or []}
    except importlib.metadata.PackageNotFoundError:
        here = {}
    return {**OFFERED.get(name, {}), **here}


def installed(requirements: list[str]) -> tuple[set[str], list[str]]:
    """What `pip install` does in Colab for some requirements: (packages it adds, one line for each listed one it changes).

    pip keeps a version that satisfies, replaces one that does not, and takes the newest that satisfies of what is missing.
    """
    added, changes = set(), []
    todo = [("latentbook", Requirement(text)) for text in requirements]
    while todo:
        asker, asked = todo.pop()
        name = canonical(asked.name)
        if asked.marker and not asked.marker.evaluate({**COLAB, "extra": ""}):
            continue
        if name in LISTED:
            if not asked.specifier.contains(LISTED[name], prereleases=True):
                changes.append(f"{asker} asks for {asked}, Colab has {LISTED[name]}")
        elif name not in added:
            fitting = [Version(version) for version in offered(name) if asked.specifier.contains(version)]
            assert fitting, f"{asker} asks for {asked}, of which no such release is known here: {list(offered(name))}"
            added.add(name)
            newest = max(fitting)
            todo += [(f"{name} {newest}", Requirement(text)) for text in offered(name)[str(newest)]]
    return added, changes


def test_installing_the_library_in_colab_changes_nothing_that_colab_has():
    assert len(required()) > 10
    added, changes = installed(required())
    assert changes == []
    assert added == {"jaxtyping", "livelossplot", "wadler-lindig"}


def test_a_requirement_that_colab_does_not_satisfy_would_be_seen():
    lifted = [text.split("<")[0] if text.startswith("livelossplot") else text for text in required()]
    assert lifted != required()
    assert installed(lifted)[1] == ["livelossplot 0.6.1 asks for ipython>=8.0, Colab has 7.34.0"]
    assert installed(["torch>=2.12"])[1] == ["latentbook asks for torch>=2.12, Colab has 2.11.0"]
    assert installed(["ipywidgets>=8; python_version < '3.13'"]) == (set(), [])


def test_the_list_is_the_one_of_the_runtime():
    assert len(LISTED) > 600
    facts = ("torch", "2.11.0"), ("ipython", "7.34.0"), ("ipykernel", "6.17.1"), ("traitlets", "5.7.1")
    for name, version in (*facts, ("ipywidgets", "7.7.1"), ("anywidget", "0.9.21"), ("jupyter-client", "7.4.9")):
        assert LISTED[name] == version


def test_a_changed_removed_or_differing_package_ends_the_run_in_colabs_environment():
    listed = {"ipython": "7.34.0", "psutil": "5.9.5", "jedi": "0.20.1"}
    before = {"ipython": "7.34.0", "psutil": "5.9.5"}
    assert colab.changed(before, {**before, "livelossplot": "0.6.0", "jedi": "0.20.1"}, listed) == []
    after = {"ipython": "9.18.1", "jedi": "0.21.0"}
    assert colab.changed(before, after, listed) == [
        "ipython 7.34.0 -> 9.18.1",
        "psutil 5.9.5 -> removed",
        "jedi 0.20.1 -> 0.21.0",
    ]
    frozen = "Wadler_Lindig==0.1.8\nlatentbook @ file:///some/where\n# no line of the list\n"
    assert colab.versions(frozen) == {"wadler-lindig": "0.1.8", "latentbook": "file:///some/where"}


def cell(source="1", count=1, outputs=(), tags=()):
    return {
        "cell_type": "code",
        "source": [source],
        "execution_count": count,
        "outputs": list(outputs),
        "metadata": {"tags": list(tags)},
    }


def test_a_cell_that_failed_or_never_ran_is_seen():
    error = {"output_type": "error", "ename": "ValueError"}
    cells = [{"cell_type": "markdown"}, cell(), cell("", None), cell(outputs=[error], tags=["raises-exception"])]
    assert colab.failures({"cells": cells, "metadata": {}}) == []
    assert colab.failures({"metadata": {}, "cells": [*cells, cell(outputs=[error]), cell(count=None)]}) == [
        "code cell 4 ended in ValueError",
        "code cell 5 did not run",
    ]
    assert [c["outputs"] for c in colab.code_cells(colab.unrun({"cells": cells}))] == [[], [], []]


def test_a_figure_that_leaves_no_picture_is_seen():
    def shows(model, **picture):
        return cell(outputs=[{"output_type": "display_data", "data": {colab.VIEW: {"model_id": model}, **picture}}])

    state = {"a": {"model_module": "anywidget"}, "bar": {"model_module": "@jupyter-widgets/controls"}}
    notebook = {"metadata": {"widgets": {colab.STATE: {"state": state}}}}
    good = [shows("bar"), shows("a", **{"image/png": "..."}), shows("a", **{"text/html": "..."})]
    assert colab.failures({**notebook, "cells": good}) == []
    (line,) = colab.failures({**notebook, "cells": [*good, shows("a", **{"text/plain": "..."})]})
    assert line == "code cell 4 shows a figure that leaves no picture in a saved copy"


@pytest.mark.parametrize("name", colab.KERNEL)
def test_what_runs_a_notebook_is_colabs_own(name):
    assert name in LISTED


def test_the_workflow_runs_the_notebooks_in_colabs_versions_and_make_test_does_not():
    assert re.search(r"run: .*make .*colab$", read(".github/workflows/book.yml"), re.MULTILINE)
    assert "colab" not in re.search(r"^test:.*\n(?:\t.*\n)+", read("Makefile"), re.MULTILINE)[0]


def test_a_number_stands_for_a_chapter_and_its_companion(tmp_path):
    for name in ("01-try", "01-try-experiments", "02-more"):
        (tmp_path / f"{name}.ipynb").touch()

    def names(*asked: str) -> list[str]:
        return [path.stem for path in colab.chosen(tmp_path, asked)]

    assert names() == ["01-try", "01-try-experiments", "02-more"]
    assert names("1") == names("01") == ["01-try", "01-try-experiments"]
    assert names("01-try") == ["01-try"] and names("notebooks/01-try-experiments.ipynb") == ["01-try-experiments"]
    with pytest.raises(ValueError, match="no chapter 4; there are: 01-try, 01-try-experiments, 02-more"):
        colab.chosen(tmp_path, ["4"])
