"""The pairs of notebooks: executed whole or not written, in step, fresh, and free of what belongs to one machine."""

import base64
import io
import json
import os
import subprocess
import sys
import textwrap

import nbformat
import numpy as np
import pytest
from PIL import Image
from unit_harness import MYST_HEAD

from latentbook.authoring import notebooks
from latentbook.experiments import results

PNG = base64.b64encode(b"\x89PNG no picture").decode()
ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "x", "traceback": []}
MNIST = {"source": "mnist", "hash": "a" * 64}


def cell(code, **options):
    head = "".join(f":{name}: {value}\n" for name, value in options.items())
    return f"```{{code-cell}} ipython3\n{head}\n{textwrap.dedent(code).strip()}\n```\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with one chapter; MNIST is said to be there."""
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(notebooks, "_digits", lambda *_: MNIST)

    def put(*parts, name="01-try"):
        source = tmp_path / "notebooks" / f"{name}.md"
        source.write_text("\n".join([MYST_HEAD, "# Title\n", *parts]), encoding="utf-8")
        return source

    put.root = tmp_path
    return put


def executed(source, outputs=(), **facts):
    """The .ipynb of a source as a full run would have left it, without the run."""
    notebook = notebooks.read(source)
    for i, code in enumerate(c for c in notebook.cells if c.cell_type == "code"):
        code.execution_count = i + 1
        code.outputs = [nbformat.from_dict(o) for o in (outputs[i : i + 1] or [[]])[0]]
    notebook.metadata["latentbook"] = {
        "data": MNIST,
        "profile": "full",
        "source_hash": notebooks.source_hash(notebook),
        "results": notebooks.results_read(notebook),
        **facts,
    }
    notebooks.write(notebook, source.with_suffix(".ipynb"))
    return source.with_suffix(".ipynb")


def stream(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def shown(**data):
    return {"output_type": "display_data", "data": data, "metadata": {}}


def test_a_full_run_is_written_beside_its_source_with_its_provenance(project, tmp_path):
    source = project(
        cell("""
            import os, sys
            print(os.environ["LATENTBOOK_PROFILE"], os.path.isdir(os.environ["LATENTBOOK_DATA"]))
            print(os.getcwd() + "/figure.png")
            print("10%|#  | 3it/s", file=sys.stderr)
        """),
        "Text.\n",
        cell("os.environ['TQDM_DISABLE']"),
    )
    said = []
    target = notebooks.execute(source, data=tmp_path, report=said.append)
    assert target == source.with_suffix(".ipynb")
    notebook = nbformat.read(target, as_version=4)
    nbformat.validate(notebook)
    first, second = (c for c in notebook.cells if c.cell_type == "code")
    assert [o.text for o in first.outputs] == ["full True\nnotebooks/figure.png\n"]
    assert second.outputs[0]["data"]["text/plain"] == "'1'" and second.execution_count == 2
    facts = notebook.metadata["latentbook"]
    assert set(facts) == {"data", "versions", "device", "seconds", "profile", "source_hash", "results"}
    assert (facts["data"], facts["profile"]) == (MNIST, "full") and facts["seconds"] > 0
    assert len(said) == 2 and "cell 2 of 4" in said[0]
    assert "widgets" not in notebook.metadata
    assert notebooks.check(project.root) == []
    assert notebooks.sync(project.root) == ([], [])


@pytest.mark.parametrize("by", ["data", "LATENTBOOK_DATA"])
def test_the_kernel_looks_in_the_folder_that_was_meant_here(by, project, monkeypatch, tmp_path):
    """It runs in the notebook's folder, where a relative path would be another."""
    source, asked = project(cell("print(1)")), []
    monkeypatch.setattr(notebooks, "_run", lambda notebook, source, variables, report: asked.append(variables))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("there", "~/there"):
        if by == "LATENTBOOK_DATA":
            monkeypatch.setenv(by, folder)
        notebooks.execute(source, data=folder if by == "data" else None, report=lambda _: None)
        assert asked.pop()["LATENTBOOK_DATA"] == str(tmp_path / "there")


def test_a_failing_cell_leaves_the_old_notebook_and_is_shown(project):
    source = project(cell("answer = 42"), cell("raise RuntimeError('the reason')"))
    source.with_suffix(".ipynb").write_text("the old one")
    with pytest.raises(notebooks.NotebookError, match=r"(?s)01-try.md failed.*the reason") as error:
        notebooks.execute(source, report=lambda _: None)
    assert "\x1b" not in str(error.value)
    assert source.with_suffix(".ipynb").read_text() == "the old one"
    assert sorted(p.name for p in source.parent.iterdir()) == ["01-try.ipynb", "01-try.md"]


def test_only_a_full_run_on_mnist_is_written_in_place(project, monkeypatch):
    source = project(cell("print(1)"))
    for profile, data in (("smoke", MNIST), ("full", {"source": "offline", "hash": "b"})):
        monkeypatch.setattr(notebooks, "_digits", lambda *_, data=data: data)
        target = notebooks.execute(source, profile, allow_offline=True, report=lambda _: None)
        assert target == project.root / "_build" / "executed" / "01-try.ipynb" and target.exists()
    assert not source.with_suffix(".ipynb").exists()


def test_a_full_run_asks_for_mnist_itself_and_a_smoke_run_never_does(monkeypatch):
    asked = []

    class Split:
        sha256 = "0"

        def __init__(self, source):
            self.source = source

    import latentbook.data.digits

    monkeypatch.setattr(
        latentbook.data.digits, "load_digits", lambda split, source, **_: asked.append(source) or Split(source)
    )
    for arguments in (("full", None, False), ("full", None, True), ("smoke", None, False)):
        notebooks._digits(*arguments)
    assert asked == ["mnist"] * 2 + ["auto"] * 2 + ["offline"] * 2


def test_chapters_are_chosen_by_number_or_name(project):
    one, two = project(name="01-try"), project(name="02-more")
    assert notebooks.sources(project.root) == [one, two]
    assert notebooks.sources(project.root, ["02"]) == notebooks.sources(project.root, ["02-more"]) == [two]
    with pytest.raises(ValueError, match="no chapter 07; there are: 01-try, 02-more"):
        notebooks.sources(project.root, ["07"])
    with pytest.raises(ValueError, match=r"no chapters in .*run this in the project's folder"):
        notebooks.sources(project.root / "notebooks")


def test_a_chapters_number_stands_for_its_companion_too_and_a_name_for_one_alone(project):
    companion, chapter, other = (project(name=name) for name in ("01-try-experiments", "01-try", "02-more"))
    assert notebooks.sources(project.root) == [chapter, companion, other]  # to be read in this order
    for number in ("1", "01"):
        assert notebooks.sources(project.root, [number]) == [chapter, companion]
    assert notebooks.sources(project.root, ["01-try"]) == [chapter]
    assert notebooks.sources(project.root, ["notebooks/01-try-experiments.ipynb"]) == [companion]
    assert [notebooks.is_companion(path) for path in (chapter, companion)] == [False, True]
    assert notebooks.check(project.root) == [
        f"{name}.ipynb: not executed; run `make execute CHAPTER={asked}`"  # none that runs another as well
        for name, asked in (("01-try", "01-try"), ("01-try-experiments",) * 2, ("02-more", "02"))
    ]
    chapter.unlink()
    assert notebooks.check(project.root)[0] == (
        "01-try-experiments.md: is the companion of no chapter; write 01-try.md or rename it"
    )


def test_edits_of_the_text_are_copied_and_the_outputs_kept(project):
    source = project(cell("x = 1"), "Old text.\n", cell("y = 2"))
    target = executed(source, ([stream("one\n")], [stream("two\n")]))
    assert notebooks.check(project.root) == []
    project("A new paragraph.\n", cell("x = 1", tags="[hide-input]"), "New text.\n", cell("y = 2"))
    assert [p for p in notebooks.check(project.root) if "run `make sync`" in p and "from cell 1 on" in p]
    assert notebooks.sync(project.root) == ([target], [])
    assert notebooks.check(project.root) == []
    kept = nbformat.read(target, as_version=4)
    assert [c.outputs[0].text for c in kept.cells if c.cell_type == "code"] == ["one\n", "two\n"]
    assert "New text." in target.read_text() and kept.metadata["latentbook"]["data"] == MNIST
    assert notebooks.sync(project.root) == ([], [])


def test_edits_of_the_code_need_an_execution(project):
    target = executed(project(cell("x = 1")))
    before = target.read_bytes()
    project(cell("x = 2"))
    changed, problems = notebooks.sync(project.root)
    assert changed == [] and "run `make execute CHAPTER=01`" in problems[0]
    assert target.read_bytes() == before
    found = notebooks.check(project.root)
    assert len(found) == 2 and "out of step" in found[0] and "stale" in found[1]
    assert "make execute" in found[0] and "make sync" not in found[0]


@pytest.mark.parametrize(
    ("output", "options", "problem"),
    [
        (stream("all well, 3 of 4 at /s and 50 % |"), {}, None),
        (stream("see /home/someone/file.py:3"), {}, "path of one machine"),
        (stream("see C:\\Users\\me"), {}, "path of one machine"),
        (stream("https://example.org/home/page"), {}, None),
        (stream(" 10%|#   | 3/30", "stderr"), {}, "progress bar"),
        (stream("Warning: something", "stderr"), {}, None),
        (ERROR, {}, "error (ValueError)"),
        (ERROR, {"tags": "[raises-exception]"}, None),
        (shown(**{"image/png": PNG}), {}, "without alt text"),
        (shown(**{"image/svg+xml": "<svg/>"}), {}, "without alt text"),
        (shown(**{"image/png": PNG, "text/html": "<div>a widget</div>"}), {}, None),
        (shown(**{"image/png": PNG}), {"mystnb": "{image: {alt: 'a curve'}}"}, None),
        (shown(**{"image/png": PNG}), {"mystnb": "{image: {alt: ' '}}"}, "without alt text"),
        (shown(**{"text/html": "<img src='/tmp/x.png'>"}), {}, "path of one machine"),
    ],
)
def test_what_may_not_stand_in_an_output(project, output, options, problem):
    executed(project(cell("show()", **options)), ([output],))
    found = notebooks.check(project.root)
    assert (found == []) if problem is None else (len(found) == 1 and problem in found[0] and "cell 2" in found[0])


def test_a_picture_shown_twice_is_told(project):
    picture = shown(**{"image/png": PNG})
    executed(project(cell("draw()", mystnb="{image: {alt: 'a curve'}}")), ([picture, picture],))
    (found,) = notebooks.check(project.root)
    assert "cell 2 shows one picture twice" in found


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"profile": "read"}, "read run on mnist"),
        ({"data": {"source": "offline", "hash": "b"}}, "full run on offline"),
        ({"source_hash": "0"}, "stale"),
        ({"results": {"mix-and-match": "0"}}, "results mix-and-match have changed"),
    ],
)
def test_what_the_provenance_may_not_say(project, facts, problem):
    executed(project(cell("x = 1")), **facts)
    found = notebooks.check(project.root)
    assert len(found) == 1 and problem in found[0]


def test_missing_stray_bare_and_large_notebooks_are_told(project):
    source = project(cell("x = 1"), cell("y = 1"))
    assert notebooks.check(project.root) == ["01-try.ipynb: not executed; run `make execute CHAPTER=01`"]
    notebook = notebooks.read(source)
    notebook.cells[1].execution_count = 1
    notebook.cells[1].outputs = [nbformat.from_dict(stream("x" * (notebooks.LARGEST + 1)))]
    notebooks.write(notebook, source.with_suffix(".ipynb"))
    (source.parent / "02-stray.ipynb").write_text("{}")
    found = "\n".join(notebooks.check(project.root))
    for problem in ("02-stray.ipynb: has no source", "does not say where", "is 2.0 MB", "cell 3 was not executed"):
        assert problem in found
    assert "cell 2 was" not in found


def test_a_notebook_that_colab_saved_without_its_widgets_state_is_told(project):
    source = project(cell("x = 1"))
    executed(source)
    assert notebooks.check(project.root) == []
    kind = "application/vnd.jupyter.widget-state+json"
    for saved, fine in (({"a": {"model_name": "FigureModel"}}, False), ({"state": {}, "version_major": 2}, True)):
        notebook = notebooks.read(source.with_suffix(".ipynb"))
        notebook.metadata["widgets"] = {kind: saved}
        notebooks.write(notebook, source.with_suffix(".ipynb"))
        found = notebooks.check(project.root)
        assert found == [] if fine else len(found) == 1 and f"has widgets ({kind}) without their state" in found[0]


def test_a_file_that_is_no_notebook_is_told(project):
    source = project(cell("x = 1"))
    source.with_suffix(".ipynb").write_text("<html>", encoding="utf-8")
    (found,) = notebooks.check(project.root)
    assert found.startswith("01-try.ipynb: cannot be read (") and found.endswith("run `make execute CHAPTER=01`")


def test_a_chapter_is_found_by_its_number_its_name_and_its_file(project):
    source = project(cell("x = 1"), name="04-try")
    project(cell("x = 1"), name="05-other")
    for name in ("4", "04", "04-try", "04-try.md", "notebooks/04-try.ipynb"):
        assert notebooks.sources(project.root, [name]) == [source]
    with pytest.raises(ValueError, match="no chapter 40; there are: 04-try, 05-other"):
        notebooks.sources(project.root, ["40"])


@pytest.mark.skipif(not sys.prefix.isascii(), reason="in that locale Python itself cannot start from such a folder")
def test_texts_are_utf8_whatever_the_locale_says(project):
    """Python warns where a file is opened in the locale's encoding; here that warning is an error."""
    project(cell('größe  =  "±"'), name="01-grüße")
    (project.root / "README.md").write_text("Grüße: 1 ± 2\n", encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))}
    environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    strict = [sys.executable, "-X", "warn_default_encoding", "-W", "error::EncodingWarning", "-m", "latentbook"]

    def run(*words):
        done = subprocess.run([*strict, *words], cwd=project.root, env=environment, capture_output=True)
        return done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8")

    assert run("tidy", "--check") == (1, "01-grüße.md: would be laid out anew\n", "")
    assert run("tidy")[:2] == (0, "01-grüße.md: was laid out anew\n")
    assert 'größe = "±"' in (project.root / "notebooks" / "01-grüße.md").read_text(encoding="utf-8")
    assert run("numbers", "--check")[0] == 0
    assert run("check")[:2] == (1, "01-grüße.ipynb: not executed; run `make execute CHAPTER=01`\n")


def test_a_dead_widget_view_makes_way_for_its_still_picture(project):
    source = project(cell("w"), cell("w"))
    notebook = notebooks.read(source)
    view = {notebooks.WIDGET: {"model_id": "x"}, "text/plain": "Figure()"}
    for code, data in zip(
        notebooks._code_cells(notebook), ({**view, "text/html": "<div>still</div>"}, view), strict=True
    ):
        code.outputs = [nbformat.from_dict(shown(**data))]
    notebooks._clean(notebook, project.root)
    kept = [[set(o["data"]) for o in c.outputs] for c in notebooks._code_cells(notebook)]
    assert kept == [[{"text/plain", "text/html"}], []]  # without a picture it is a progress bar


@pytest.fixture
def library(tmp_path):
    """A small package: one imports two, two imports the package sub, whose __init__ imports three."""
    package = tmp_path / "book"
    (package / "sub").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "one.py": 'from book.two import f\n\ndef g():\n    """Says."""\n    return f(0)\n',
        "two.py": "def f(x):\n    from book.sub import deep\n    return deep.x + x\n",
        "three.py": "x = 1\n",
        "alone.py": "x = 1\n",
        "sub/__init__.py": "from book.three import x\n",
        "sub/deep.py": "x = 1\n",
    }
    for name, text in files.items():
        (package / name).write_text(text)
    return package


def in_cells(*codes):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in codes])


def test_what_a_notebook_uses_is_followed_through_its_imports(library):
    def reached(*codes):
        return {module: names - {""} for module, names in notebooks.reached(in_cells(*codes), library).items()}

    assert reached("%pip install x\nfrom book.one import g\ng()", "!ls", "%%bash\nfoo") == {
        "book.one": {"g"},
        "book.two": {"f"},
        "book.sub.deep": {"x"},
    }
    assert reached("from book import three, alone\nprint(three.x)") == {"book.three": {"x"}, "book.alone": set()}
    assert reached("from book.sub import x") == {"book.sub": {"x"}, "book.three": {"x"}}
    assert reached("import book.three as t\nvars(t)") == {"book.three": {"*", "x"}}
    assert reached("import book.three\nbook.three.x") == {"book.three": {"x"}}
    assert reached("import numpy") == {}
    (library / "three.py").write_text("def f(): return globals()['g']()\ndef g(): pass\ndef h(): pass\nf()\n")
    assert reached("from book.three import f") == {"book.three": {"f", "g"}}


def test_the_source_hash_follows_code_and_nothing_else(library):
    notebook = in_cells("from book.one import g")
    before = notebooks.source_hash(notebook, library)

    def after(file, text):
        old = (library / file).read_text()
        (library / file).write_text(text)
        changed = notebooks.source_hash(notebook, library) != before
        (library / file).write_text(old)
        return changed

    assert after("two.py", "def f(x):\n    from book.sub import deep\n    return deep.x - x\n")
    assert after("sub/deep.py", "x = 2\n")
    assert after("sub/deep.py", "x = 1.0\n") and after("sub/deep.py", "x = None\n")
    assert not after(
        "one.py", "# why\nfrom book.two import (\n    f,\n)\ndef g():\n    'Other words.'\n    return f(0)  # so\n"
    )
    assert not after("alone.py", "x = 2\n") and not after("sub/__init__.py", "x = 3\n")
    assert not after("two.py", (library / "two.py").read_text() + "def new():\n    return 1\n")
    assert after("two.py", (library / "two.py").read_text() + "print(1)\n")  # runs when it is imported
    assert notebooks.source_hash(in_cells("from book.one import g\ng()"), library) != before
    assert notebooks.source_hash(notebook, library) == before


def test_the_source_hash_is_the_same_under_every_python(library):
    (library / "one.py").write_text(
        "def f(x: int = 1, *y, **z):\n    return f'{x!r:>{3}} {{}}', [i for i in y], b'a', ..., -1e-3\n"
    )
    expected = "39914b1469e75a28f36fb7ffe8131b0785220dee1265b2393221589f49939f67"
    assert notebooks.source_hash(in_cells("from book.one import f\nf()"), library) == expected


def test_the_results_a_notebook_reads_are_those_its_code_names(tmp_path):
    for name in ("primer", "mix-and-match", "published"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"x": name}))
    notebook = in_cells('load("primer")', "value('mix-and-match/best/kl')", "# published")
    assert set(notebooks.results_read(notebook, tmp_path)) == {"primer", "mix-and-match"}
    before = notebooks.results_read(notebook, tmp_path)
    (tmp_path / "primer.json").write_text("{}")
    assert [n for n, h in notebooks.results_read(notebook, tmp_path).items() if h != before[n]] == ["primer"]

    (tmp_path / "published.json").write_text(json.dumps({"primer": 1, "air": 1}))
    notebook = in_cells('published()["primer"]', 'load("published")')
    before = notebooks.results_read(notebook, tmp_path)["published"]
    (tmp_path / "published.json").write_text(json.dumps({"primer": 1, "air": 2}))
    assert notebooks.results_read(notebook, tmp_path)["published"] == before
    (tmp_path / "published.json").write_text(json.dumps({"primer": 2, "air": 2}))
    assert notebooks.results_read(notebook, tmp_path)["published"] != before


def test_a_record_beside_the_results_is_read_where_its_module_is_called(tmp_path):
    (tmp_path / "choices").mkdir()
    (tmp_path / "choices" / "primer.json").write_text("{}")
    assert notebooks.results_read(in_cells("random.choices.of(x)", "choices = 1"), tmp_path) == {}
    before = notebooks.results_read(in_cells("rows = choices.rows()"), tmp_path)
    assert set(before) == {"choices/primer"}
    (tmp_path / "choices" / "primer.json").write_text('{"x": 1}')
    assert notebooks.results_read(in_cells("rows = choices.rows()"), tmp_path) != before

    (tmp_path / "choices" / "mix-and-match.json").write_text("{}")
    for code, names in {
        "choices.rows()": {"primer", "mix-and-match"},
        "choices.rows_of(choices.MIX_AND_MATCH)": {"mix-and-match"},
        "choices.rows_of(choices.PRIMER + choices.MIX_AND_MATCH)": {"primer", "mix-and-match"},
        'choices.of("primer")': {"primer"},
    }.items():
        assert set(notebooks.results_read(in_cells(code), tmp_path)) == {f"choices/{name}" for name in names}, code


def test_the_notebooks_of_the_book_are_in_step_fresh_and_whole(pytestconfig):
    assert notebooks.check(pytestconfig.rootpath) == []


def test_a_place_that_cannot_be_written_is_told_before_a_notebook_runs(project, monkeypatch):
    source = project(cell("1"))
    monkeypatch.setattr(notebooks, "_run", None)
    (project.root / "_build").write_text("", encoding="utf-8")
    monkeypatch.setattr(notebooks, "_digits", lambda *_: MNIST | {"source": "offline"})
    with pytest.raises(NotADirectoryError, match=r"the executed notebook cannot be written to .*_build is a file"):
        notebooks.execute(source, "smoke")


def test_results_stand_where_the_notebooks_look():
    assert results.DIRECTORY == notebooks.PACKAGE / "results"


def test_tidy_lays_out_code_cells_and_leaves_magics_and_text_alone(tmp_path):
    (tmp_path / "notebooks").mkdir()
    source = tmp_path / "notebooks" / "01-x.md"
    magic = "```{code-cell} ipython3\nif True:\n    %pip install -q  x\n```\n"
    text = "Some  text: `a=1`.\n\n```python\nb=2\n```\n\n"
    tagged = "```{code-cell} ipython3\n:tags: [hide-cell]\n\nc=[1,2]\n```\n"
    source.write_text(text + magic + tagged)
    assert notebooks.tidy(tmp_path, write=False) == ["01-x.md"] and source.read_text() == text + magic + tagged
    assert notebooks.tidy(tmp_path) == ["01-x.md"]
    assert source.read_text() == text + magic + tagged.replace("c=[1,2]", "c = [1, 2]")
    assert notebooks.tidy(tmp_path) == []


def png_of(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def pixels_of(png):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")).astype(int)


def test_pictures_among_the_outputs_are_stored_smaller_and_look_the_same():
    grey = np.random.default_rng(0).integers(0, 256, (200, 120)).astype(np.uint8)
    colours = np.stack([grey, grey, grey, np.full_like(grey, 255)], -1)
    colours[50:90, 20:60] = (204, 121, 167, 255)
    colours[:20, :20] = (0, 0, 0, 0)  # transparent: white paper
    before, page = png_of(colours), f'<img src="data:image/png;base64,{png_of(colours)}">'
    notebook = in_cells("draw()")
    notebook.cells[0].outputs = [
        nbformat.v4.new_output("display_data", {"image/png": before, "text/html": page}),
        nbformat.v4.new_output("stream", text="no picture"),
    ]
    notebooks._slim(notebook)
    data = notebook.cells[0].outputs[0].data
    assert len(data["image/png"]) < len(before) and data["text/html"] == page
    wanted = colours[..., :3].astype(int)
    wanted[:20, :20] = 255
    assert np.abs(pixels_of(data["image/png"]) - wanted).max() <= 6
    tiny = png_of(np.zeros((1, 1), np.uint8))
    notebook.cells[0].outputs[0].data["image/png"] = tiny
    notebooks._slim(notebook)
    assert len(notebook.cells[0].outputs[0].data["image/png"]) <= len(tiny)  # never larger than it was


def test_a_cell_with_alt_text_that_shows_no_figure_is_told(project):
    source = project(cell("draw()", mystnb="{image: {alt: 'a curve'}}"))
    executed(source)
    (found,) = notebooks.check(project.root)
    assert found == "01-try.ipynb: cell 2 has alt text, but draws no figure"
    executed(project(cell("draw()", mystnb="{image: {alt: 'faults, if any'}}", tags="[figure-optional]")))
    assert notebooks.check(project.root) == []


def test_what_the_site_folds_is_folded_in_jupyterlab_and_colab(project):
    source = project(
        cell("plot()", tags="[hide-input]"),
        cell("solve()", tags="[hide-cell]"),
        cell("loss()"),
        cell("shown()", tags="[hide-input]", jupyter="{source_hidden: false}"),
    )
    found = [dict(c.metadata) for c in notebooks._code_cells(notebooks.read(source))]
    assert found[0] == {"tags": ["hide-input"], "jupyter": {"source_hidden": True}, "cellView": "form"}
    assert found[1]["jupyter"] == {"source_hidden": True, "outputs_hidden": True} and found[1]["cellView"] == "form"
    assert found[2] == {}
    assert found[3]["jupyter"] == {"source_hidden": False}


def test_sync_copies_a_new_fold_and_check_asks_for_it(project):
    source = project(cell("1"))
    target = executed(source, [[stream("kept")]])
    project(cell("1", tags="[hide-input]"))
    assert "run `make sync`" in notebooks.check(project.root)[0]
    notebooks.sync(project.root)
    (code,) = notebooks._code_cells(nbformat.read(target, as_version=4))
    assert code.metadata["jupyter"]["source_hidden"] and code.outputs[0].text == "kept"
    assert notebooks.check(project.root) == []


def test_objectives_come_from_the_source_and_go_with_it(project):
    source = project(cell("1"))
    target = executed(source)
    plain = source.read_text(encoding="utf-8")
    source.write_text(plain.replace("---\n", "---\nobjectives:\n- see it\n", 1), encoding="utf-8")
    assert "in its front matter; run `make sync`" in notebooks.check(project.root)[0]
    notebooks.sync(project.root)
    assert nbformat.read(target, as_version=4).metadata["objectives"] == ["see it"]
    assert notebooks.check(project.root) == []
    source.write_text(plain, encoding="utf-8")
    notebooks.sync(project.root)
    assert "objectives" not in nbformat.read(target, as_version=4).metadata
