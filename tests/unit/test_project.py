"""The project as a whole: one address, rooms on their floors, small and safe files, commands that exist."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import latentbook

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "latentbook"
FLOORS = (
    ("checks", "files", "progress", "style", "themes", "words"),
    ("data", "layers", "schedules"),
    ("models", "training"),
    ("evaluation",),
    ("experiments",),
    ("figures", "authoring"),
    ("widgets",),
    ("__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS, 1) for room in rooms}
MAY_READ_THE_ENVIRONMENT = {"profiles.py", "digits.py", "__main__.py", "notebooks.py", "workers.py"}
MODULES = sorted(PACKAGE.rglob("*.py"))
SHOWN_WIDTH = 88  # columns of code that a page shows without cutting them


def field(text, name):
    """One `name = "value"` of a TOML table or `name: value` of YAML; enough for ours, and needs no reader of either."""
    return re.search(rf"^\s*{name}\s*[:=]\s*\"?([^\"\n#]+?)\"?\s*(?:#.*)?$", text, re.MULTILINE)[1]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def tracked(*patterns):
    """Files of the project, as git sees them; all files outside build folders where there is no git."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *patterns], cwd=ROOT, capture_output=True, text=True
    )
    assert listed.returncode == 0, "these tests run in a checkout"
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


ADDRESS = field(read("pyproject.toml"), "Repository")
NAME = ADDRESS.removeprefix("https://github.com/")


def addresses(text):
    """Every repository of the usual code host that a text names under this project's name, as owner/name."""
    found = re.findall(r"(?:github\.com|colab\.research\.google\.com/github)[/:]([\w.-]+/latentbook)\b", text)
    return {name.removesuffix(".git") for name in found}


def test_the_address_is_read_right():
    colab = "https://colab.research.google.com/github/b/latentbook/blob/main/x.ipynb"
    text = f"git+https://github.com/a/latentbook.git {colab} github.com/c/air"
    assert addresses(text) == {"a/latentbook", "b/latentbook"}
    assert re.fullmatch(r"[\w.-]+/latentbook", NAME)


@pytest.mark.parametrize("name", ["_config.yml", "README.md", "CITATION.cff"])
def test_the_address_stands_in_one_place(name):
    assert addresses(read(name)) == {NAME}


def test_the_launch_buttons_lead_to_the_project():
    config = read("_config.yml")
    assert field(config, "url") == ADDRESS
    assert field(config, "colab_url") == "https://colab.research.google.com"


def test_no_file_names_another_address():
    for path in tracked("*.md", "*.ipynb", "*.yml", "*.py", "*.toml", "*.cff"):
        if path != Path(__file__).resolve():
            assert addresses(path.read_text(encoding="utf-8")) <= {NAME}, path


def first_cell(source):
    from latentbook.authoring import notebooks

    return next(cell.source for cell in notebooks.read(source).cells if cell.cell_type == "code")


def test_the_first_cell_of_every_notebook_installs_the_library_and_leaves_torch_alone():
    sources = sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.md"))
    assert sources
    for source in sources:
        cell = first_cell(source)
        assert f"git+{ADDRESS}" in cell, f"{source.name}: the first cell does not install from {ADDRESS}"
        assert not re.search(r"install[^\n]*\btorch\b|torch\s*[=<>]=", cell), f"{source.name}: pins torch"


def printed(source):
    """(its name, its code as printed) of everything that a chapter shows by `figures.Source(...)` and `figures.Excerpt(...)`."""
    from latentbook import figures
    from latentbook.authoring import notebooks

    names = {}
    for cell in notebooks.read(source).cells:
        if cell.cell_type != "code":
            continue
        for node in ast.walk(ast.parse(notebooks._without_magics(cell.source))):
            if isinstance(node, ast.Import | ast.ImportFrom) and "latentbook" in ast.unparse(node):
                exec(ast.unparse(node), names)  # the chapter's own import
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("figures.Source", "figures.Excerpt"):
                show = getattr(figures, ast.unparse(node.func).removeprefix("figures."))
                yield from ((ast.unparse(name), show(eval(ast.unparse(name), names)).code) for name in node.args)


def too_wide(code):
    return [line for line in code.splitlines() if len(line) > SHOWN_WIDTH]


@pytest.mark.parametrize("source", sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.md")), ids=lambda path: path.stem)
def test_what_a_chapter_shows_of_the_library_is_not_cut(source):
    from latentbook.authoring import notebooks

    shown = dict(printed(source))
    assert len(shown) > 1 or notebooks.is_companion(source), (
        f"{source.name} shows nothing: is `figures.Source` called otherwise now?"
    )
    wide = [f"{name}: {line}" for name, code in shown.items() for line in too_wide(code)]
    assert not wide, "\n".join(wide)


@pytest.mark.parametrize("room", ["models", "layers"])
def test_rooms_that_chapters_show_are_kept_narrow_by_ruff(room):
    """The formatter of the whole project would join lines again; these folders tell it their own width."""
    settings = (PACKAGE / room / "ruff.toml").read_text(encoding="utf-8")
    assert (PACKAGE / room / re.search('extend = "(.+)"', settings)[1]).resolve() == ROOT / "pyproject.toml"
    assert set(re.findall(r"line-length = (\d+)", settings)) == {str(SHOWN_WIDTH)}
    assert not [line for path in (PACKAGE / room).glob("*.py") for line in too_wide(path.read_text(encoding="utf-8"))]


def test_version_and_licence_agree():
    project = read("pyproject.toml")
    assert field(project, "version") == latentbook.__version__ == field(read("CITATION.cff"), "version")
    assert field(project, "license") == field(read("CITATION.cff"), "license") == "MIT"
    assert read("LICENSE").startswith("MIT License")


def imports(path):
    """(module, line) of every import of the library in a file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names if alias.name.startswith("latentbook"))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            if node.module == "latentbook":
                yield from ((f"latentbook.{alias.name}", node.lineno) for alias in node.names)
            elif node.module and node.module.startswith("latentbook."):
                yield node.module, node.lineno


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def misplaced(path):
    """The imports of a file that come neither from a floor below nor from its own room."""
    own = room(path)
    for module, line in imports(path):
        other = module.split(".")[1]
        if other not in ("__version__", own) and FLOOR[other] >= FLOOR[own]:
            yield f"{path.name}:{line}: {own} (floor {FLOOR[own]}) imports {other} (floor {FLOOR[other]})"


def modules_of(path):
    """The library's modules that a file imports, as dotted names; of a package's name, its __init__."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "latentbook":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if dotted_file(inner) else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("latentbook"))


def dotted_file(name):
    path = PACKAGE.parent.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def circles(modules):
    """Every module from which its own imports lead back to it."""
    to = {file: {dotted_file(name) for name in modules_of(file)} for file in modules}
    found = []
    for start in to:
        seen, waiting = set(), list(to[start])
        while waiting:
            if (file := waiting.pop()) not in seen and file in to:
                seen.add(file)
                waiting += to[file]
        if start in seen and start.name != "__main__.py":  # which imports itself by the name that a worker can find
            found.append(start)
    return found


def test_no_import_leads_in_a_circle():
    assert circles(MODULES) == []


FIGURES = [path for path in (PACKAGE / "widgets").glob("*.py") if path.with_suffix(".js").exists()]
SHARED = {"base", "scene", "pad", "plane", "ellipses"}  # have a script too, and are no figure of their own


def figures_borrowed(path, figures):
    """The figures' modules that a figure's module imports."""
    return sorted({name.split(".")[2] for name in modules_of(path) if name.count(".") > 1} & figures)


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.stem)
def test_no_figure_borrows_from_another(path):
    figures = {path.stem for path in FIGURES} - SHARED
    assert "relabel" in figures and figures_borrowed(path, figures - {path.stem}) == []


def test_a_borrowing_would_be_seen(tmp_path):
    (tmp_path / "strips.py").write_text(
        "from latentbook.widgets.relabel import x\nfrom latentbook.widgets import checks\n"
    )
    assert figures_borrowed(tmp_path / "strips.py", {"relabel"}) == ["relabel"]


def test_a_circle_would_be_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path / "latentbook")
    (tmp_path / "latentbook" / "data").mkdir(parents=True)
    a, b, c = (tmp_path / "latentbook" / "data" / name for name in ("a.py", "b.py", "c.py"))
    a.write_text("from latentbook.data.b import x\n")
    b.write_text("from latentbook.data import c\n")
    c.write_text("import latentbook.data.b\n")
    assert circles([a, b, c]) == [b, c]


@pytest.mark.parametrize("name", sorted({path.parent.name for path in PACKAGE.glob("*/__init__.py")} - {"experiments"}))
def test_a_package_names_what_is_public_and_nothing_else(name):
    tree = ast.parse((PACKAGE / name / "__init__.py").read_text(encoding="utf-8"))
    given = [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    listed = next(ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign))
    assert sorted(listed) == sorted(given)
    assert len(tree.body) == len([n for n in tree.body if isinstance(n, ast.ImportFrom)]) + 2  # and the docstring


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_the_floors_below(path):
    if path == PACKAGE / "__init__.py":
        assert list(imports(path)) == []
        return
    assert room(path) in FLOOR, f"{room(path)} stands on no floor yet: give it one here and in CONTRIBUTING.md"
    assert list(misplaced(path)) == []


def test_a_misplaced_import_would_be_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "models").mkdir()
    inside = "    from latentbook import training, data\n    from latentbook.evaluation import judge\n"
    (tmp_path / "models" / "vae.py").write_text(f"import latentbook.layers.nets\ndef f():\n{inside}")
    assert len(list(misplaced(tmp_path / "models" / "vae.py"))) == 2  # not the data, not the layers
    (tmp_path / "style.py").write_text(
        "from latentbook import files\nfrom latentbook.experiments.results import load\n"
    )
    assert len(list(misplaced(tmp_path / "style.py"))) == 2


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_environment_is_read_at_the_doors_only(path):
    found = re.search(r"os\.environ|os\.getenv|from os import", path.read_text(encoding="utf-8"))
    assert found is None or path.name in MAY_READ_THE_ENVIRONMENT


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_is_pickled(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\bimport (c?pickle|dill|joblib)\b|torch\.(save|load)\(|allow_pickle\s*=\s*True", text)


def test_no_pickled_file_is_shipped():
    for path in tracked():
        assert path.suffix not in {".pt", ".pth", ".pkl", ".pickle", ".npy", ".npz", ".joblib", ".ckpt"}, path
        with path.open("rb") as file:
            start = file.read(4)
        assert not (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"), f"{path} is a pickle"
        assert start != b"PK\x03\x04", f"{path} is an archive, as torch.save writes it"


def test_weights_and_notebooks_stay_small():
    weights = list((PACKAGE / "weights").glob("*"))
    assert sum(path.stat().st_size for path in weights) < 12.5e6
    assert {path.suffix for path in weights} <= {".safetensors"}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert path.stat().st_size < 2e6, path


def test_what_the_library_reads_is_shipped_with_it():
    patterns = re.search(r"^latentbook = \[(.+)\]$", read("pyproject.toml"), re.MULTILINE)[1]
    shipped = {path for pattern in re.findall(r'"([^"]+)"', patterns) for path in PACKAGE.glob(pattern)}
    data = {path for path in tracked("src/latentbook") if path.suffix != ".py" and path.name != "ruff.toml"}
    assert data <= shipped, f"not in package-data: {sorted(map(str, data - shipped))}"


def test_json_files_hold_no_nan():
    def refuse(constant):
        raise AssertionError(f"{constant} in a JSON file")

    for path in tracked("*.json", "*.ipynb"):
        json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_make_help_lists_every_target_and_the_pages_name_none_that_is_missing():
    makefile = read("Makefile")
    targets = set(re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[1].split())
    said = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True).stdout
    assert {line.split()[0] for line in said.splitlines() if line.startswith("  ")} == targets
    assert targets >= {"help", "book", "test", "execute", "serve", "format", "numbers", "sync", "lint", "clean"}
    for page in ("README.md", "CONTRIBUTING.md"):
        named = re.findall(r"(?:`|^)make(?: [A-Z]+=\S+)* ([a-z]+)\b", read(page), re.MULTILINE)
        assert named and set(named) <= targets, page


def test_git_ignores_the_folders_that_the_pages_name():
    named = set(re.findall(r"--(?:results|output) ([\w-]+)", read("README.md"))) | {"build", ".venv-colab", ".venv"}
    assert {"my-results", "my-weights"} < named
    for folder in named:
        assert subprocess.run(["git", "check-ignore", "-q", f"{folder}/a.json"], cwd=ROOT).returncode == 0, folder


def test_continuous_integration_runs_the_tests():
    assert re.search(r"^CI=true exec make test$", read(".ci/run"), re.MULTILINE)
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", ".ci/run"], cwd=ROOT).returncode == 0
    assert "bash .ci/run" in read(".github/workflows/book.yml")


def test_what_is_in_the_contributors_table_of_rooms_is_in_the_house():
    page = read("CONTRIBUTING.md")
    for path in MODULES:
        name = room(path)
        if FLOOR.get(name, 7) < 7:
            assert re.search(rf"`{name}[`/]", page), f"CONTRIBUTING.md does not name {name}"
