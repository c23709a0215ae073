"""The command line as a person uses it: separate processes, a made-up experiment, interruptions."""

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import types
from concurrent.futures import Future

import pytest
import torch

from latentbook import __main__ as cli
from latentbook import __version__, experiments, notebooks
from latentbook.data import load_digits
from latentbook.experiments import mix_and_match, primer, results
from latentbook.experiments import run as running
from latentbook.mix_and_match import MixAndMatch
from latentbook.training import fit, load_tensors

TOY_MODULE = '''
"""One more experiment, `toy`, whose runs take no time unless asked to."""
import sys, time, types
from dataclasses import dataclass, field
from latentbook import experiments

@dataclass(frozen=True)
class Inner:
    alpha: int = 64

@dataclass(frozen=True)
class Config:
    model: Inner = field(default_factory=Inner)
    wait: float = 0.0
    mode: str = "well"

@dataclass
class Run:
    metrics: dict
    failed: str | None
    seconds: float
    model: object = None

def run(variant, seed, *, config, train, test, device, progress):
    time.sleep(config.wait * seed)
    if config.mode == "raise":
        raise ArithmeticError(f"no luck with seed {seed}")
    if config.mode == "die":
        import os
        os._exit(9)
    import torch
    score = float("nan") if config.mode == "nan" else seed + config.model.alpha / 1000
    metrics = {"score": score, "threads": torch.get_num_threads(), "digits": len(train.labels)}
    return Run(metrics, "too low" if seed == 3 else None, 1.5, model=lambda: "cannot be pickled")

toy = types.ModuleType("toy")
toy.VARIANTS, toy.THRESHOLD_TEXT, toy.run = {"a": Config(), "b": Config(Inner(32))}, "a score of 3", run
toy.bench = lambda device: {"experiment": "toy", "ours_ms": 1.0, "plain_ms": 4.0, "ratio": 4.0}
experiments.EXPERIMENTS["toy"] = toy
'''


@pytest.fixture
def driver(tmp_path):
    """Starts the command line, as readers do, where the toy experiment is known; results go to tmp_path/results."""
    (tmp_path / "toy_experiment.py").write_text(TOY_MODULE)
    (tmp_path / "sitecustomize.py").write_text("import toy_experiment")  # in every Python started below

    def start(*arguments):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("COV_", "LATENTBOOK"))}
        environment["PYTHONPATH"] = str(tmp_path)
        command = [sys.executable, "-u", "-m", "latentbook", *arguments]
        heed = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)} if os.name == "posix" else {}
        # a job started in the background inherits that Ctrl-C is ignored; a reader's terminal does not
        return subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, stdout=-1, stderr=-1, **heed)

    def run(*arguments):
        process = start(*arguments)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    run.start, run.results = start, tmp_path / "results"
    return run


class Inline:
    """Stands in for the worker processes: every run is made at once, in this process."""

    def __init__(self, jobs, threads):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, *arguments):
        job = Future()
        job.set_result(function(*arguments))
        return job


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """The command line with the toy experiment in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "_Workers", Inline)
    monkeypatch.setattr(experiments, "EXPERIMENTS", dict(experiments.EXPERIMENTS))
    module = types.ModuleType("toy_experiment")
    monkeypatch.setitem(sys.modules, "toy_experiment", module)
    exec(TOY_MODULE, module.__dict__)

    def run(*arguments):
        code = cli.main(list(arguments))
        return code, *capsys.readouterr()

    run.results = tmp_path / "results"
    return run


COMMANDS = ("reproduce", "bench", "train-judge", "weights", "numbers", "execute", "sync", "check", "data")
TOY = ("reproduce", "toy", "--offline", "--results", "results")


def test_help_is_instant_and_tells_examples_and_exit_codes():
    code = "import sys; from latentbook.__main__ import parser; parser().format_help(); print('torch' in sys.modules)"
    start = time.perf_counter()
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
    assert time.perf_counter() - start < 5
    text = cli.parser().format_help()
    for word in ("examples:", "exit codes:", *COMMANDS):
        assert word in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0 and len(capsys.readouterr().out.splitlines()) > 4


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"latentbook {__version__}\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [("0-4", [0, 1, 2, 3, 4]), ("7", [7]), ("3,0-1,1", [0, 1, 3]), ("2-2", [2]), ("10-12", [10, 11, 12])],
)
def test_seeds(text, found):
    assert cli.seeds(text) == found


@pytest.mark.parametrize("text", ["", "a", "4-0", "0-", "-1", "1,,2", "0.5"])
def test_what_are_no_seeds(text):
    with pytest.raises(argparse.ArgumentTypeError, match="seeds are like 0-4"):
        cli.seeds(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [("a=1", (["a"], 1)), ("m.a=0.5", (["m", "a"], 0.5)), ("a=word", (["a"], "word")), ("a=None", (["a"], None))],
)
def test_settings(text, found):
    assert cli.setting(text) == found
    with pytest.raises(argparse.ArgumentTypeError):
        cli.setting(text.split("=")[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reproduce", "nothing"], "no experiment 'nothing'; there are: primer, mix-and-match"),
        (["reproduce", "primer", "--variants", "x"], "no variant x; primer has: "),
        (["reproduce", "primer", "--set", "epochs=1"], "--set and --offline need --results"),
        (["reproduce", "primer", "--offline"], "--set and --offline need --results"),
        (["reproduce", "primer", "--offline", "--results", "x", "--set", "y=1"], "no setting 'y'; there are: "),
        (["reproduce", "primer", "--device", "tpu9"], "device 'tpu9' cannot be used here"),
        (["bench", "nothing"], "no experiment 'nothing'"),
        (["weights", "nothing"], "no experiment 'nothing'"),
        (["weights", "mix-and-match", "--variants", "best,control"], "no state of control is shipped; mix-and-match"),
        (["weights", "mix-and-match", "--offline"], "--offline needs --output DIR"),
        (["weights", "mix-and-match", "--device", "tpu9"], "device 'tpu9' cannot be used here"),
        (["numbers"], "run this in the project's folder"),
    ],
)
def test_a_mistake_gets_one_clear_line_and_exit_code_2(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    with pytest.raises(ValueError, match=message.split(";")[0].replace("--", "..")):
        cli.main(["--debug", *arguments])


def test_an_experiment_without_states_is_told_with_those_that_have_some(capsys, monkeypatch):
    monkeypatch.delattr(primer, "STATES")
    assert cli.main(["weights", "primer"]) == 2
    assert "primer ships no trained state; those that do: mix-and-match" in capsys.readouterr().err


def test_no_mnist_is_told_before_anything_is_trained(capsys, monkeypatch, tmp_path):
    import latentbook.data

    def missing(split, root, source):
        raise FileNotFoundError(f"MNIST is not in {root}, asked for {source}")

    monkeypatch.setattr(latentbook.data, "load_digits", missing)
    for command in (["reproduce", "primer"], ["weights", "mix-and-match"], ["train-judge"]):
        assert cli.main([*command, "--data", str(tmp_path)]) == 2
        assert "asked for mnist" in capsys.readouterr().err


def test_reproduce_records_every_seed_and_leaves_out_what_is_there(driver):
    code, out, err = driver(*TOY, "--seeds", "0,3", "--jobs", "2")
    assert code == 0, err
    document = results.load("toy", driver.results)
    assert document["data"]["source"] == "offline"
    assert document["variants"]["a"]["metrics"]["score"] == [0.064, 3.064]
    assert document["variants"]["b"]["seeds"] == [0, 3] and document["variants"]["b"]["failed"] == [3]
    assert document["config"]["b"]["model"] == {"alpha": 32}
    share = max(1, cli._cores() // 2)
    assert set(document["variants"]["a"]["metrics"]["threads"]) == {share} == {document["hardware"]["threads"]}
    assert "4 run(s), 2 at a time" in out and "a score of 3" in out
    assert "a: 2 seed(s), 1 failed" in out and "1.564 ± 2.12" in out and "failed: too low" in out
    before = (driver.results / "toy.json").read_bytes()
    code, out, _ = driver(*TOY, "--seeds", "0,3", "--jobs", "2")
    assert code == 0 and "0 run(s)" in out and "a: recorded already and left out: seed 0, 3" in out
    assert (driver.results / "toy.json").read_bytes() == before


def test_another_setting_is_refused_until_started_over(here):
    assert here(*TOY, "--seeds", "0,1")[0] == 0
    code, _, err = here(*TOY, "--seeds", "2", "--variants", "a", "--set", "model.alpha=8")
    assert (
        code == 2 and "'model': {'alpha': 64}" in err.replace("model: ", "'model': ") and "--fresh --variants a" in err
    )
    code, _, err = here(*TOY, "--seeds", "2", "--variants", "a", "--set", "model.alpha=8", "--fresh")
    assert code == 0, err
    variants = results.load("toy", here.results)["variants"]
    assert (variants["a"]["seeds"], variants["a"]["metrics"]["score"]) == ([2], [2.008])
    assert variants["b"]["seeds"] == [0, 1]


@pytest.mark.parametrize(
    ("mode", "reason"), [("raise", "ArithmeticError: no luck with seed 2"), ("nan", "metric 'score'")]
)
def test_a_run_that_raises_or_ends_in_nan_is_recorded_as_failed_and_tried_again(here, mode, reason):
    arguments = (*TOY, "--seeds", "2", "--variants", "a", "--set", f"mode={mode}")
    code, out, _ = here(*arguments)
    entry = results.load("toy", here.results)["variants"]["a"]
    assert code == 1 and reason in entry["reasons"]["2"] and reason in out
    assert (entry["seeds"], entry["failed"]) == ([], [2])
    assert "1 run(s)" in here(*arguments)[1]


def test_a_worker_that_dies_is_told_and_records_nothing(driver):
    code, _, err = driver(*TOY, "--seeds", "0", "--variants", "a", "--set", "mode=die")
    assert code == 1 and "a worker process died" in err and not (driver.results / "toy.json").exists()


def children_of(process):
    import psutil

    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_command_keeps_what_is_finished_and_leaves_no_process(driver, sent, code):
    psutil = pytest.importorskip("psutil")
    process = driver.start(*TOY, "--seeds", "0,100", "--variants", "a", "--set", "wait=1", "--fresh")
    assert any("seed 0: done" in line for line in process.stdout), process.stderr.read()
    workers = children_of(process)
    assert workers
    process.send_signal(sent)
    assert process.wait(timeout=90) == code
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    assert results.load("toy", driver.results)["variants"]["a"]["seeds"] == [0]
    if code == 130:
        assert "what was finished is kept" in process.stderr.read()


@pytest.fixture
def short(monkeypatch):
    """The states of mix-and-match by a training of one epoch."""
    for name in mix_and_match.STATES:
        brief = dataclasses.replace(mix_and_match.VARIANTS[name], epochs=1)
        monkeypatch.setitem(mix_and_match.VARIANTS, name, brief)
    return ("weights", "mix-and-match", "--offline", "--output", "deep/states")


def test_weights_trains_seed_0_of_every_shipped_state_and_saves_it(here, short, tmp_path):
    shipped = {name: mix_and_match.state_path(name).read_bytes() for name in mix_and_match.STATES}
    code, out, err = here(*short)
    assert code == 0, err
    folder, digits = tmp_path / "deep" / "states", load_digits("train", source="offline")
    paths = {name: mix_and_match.state_path(name, folder) for name in mix_and_match.STATES}
    assert set(folder.iterdir()) == set(paths.values())  # nothing half-written beside them
    for name, path in paths.items():
        assert f"{name}: written to deep/states/{path.name}" in out
        tensors, notes = load_tensors(path)
        model, _ = mix_and_match.train(mix_and_match.VARIANTS[name], digits, 0, progress=False)
        assert all(torch.equal(tensors[key], value) for key, value in model.state_dict().items())
        assert (notes["variant"], notes["seed"]) == (name, 0)
        assert notes["data"] == {"source": "offline", "hash": digits.sha256}
        assert mix_and_match.state_path(name).read_bytes() == shipped[name]


def test_weights_trains_the_named_states_alone_and_ships_them_by_default(here, short, tmp_path, monkeypatch):
    import latentbook.data

    digits = load_digits("train", source="offline")
    monkeypatch.setattr(latentbook.data, "load_digits", lambda split, root, source: {"mnist": digits}[source])
    monkeypatch.setattr(mix_and_match.evaluation, "WEIGHTS", tmp_path / "weights")
    assert here("weights", "mix-and-match", "--variants", "best,best")[:2] == (
        0,
        f"best: training seed 0\nbest: written to {tmp_path / 'weights' / 'mix-and-match-best.safetensors'}\n",
    )
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["mix-and-match-best.safetensors"]
    assert isinstance(mix_and_match.load_state("best"), MixAndMatch)


def test_weights_interrupted_keeps_the_finished_states_alone(here, short, tmp_path, monkeypatch):
    def interrupted(model, digits, **options):
        history = fit(model, digits, **options)
        history.interrupted = model.config == mix_and_match.VARIANTS["best"].model
        return history

    monkeypatch.setattr(running, "fit", interrupted)
    code, _, err = here(*short)
    assert code == 130 and "what was finished is kept" in err
    assert [path.name for path in (tmp_path / "deep/states").iterdir()] == ["mix-and-match-example-mask.safetensors"]


def test_weights_sees_an_output_that_cannot_be_before_it_trains(here, short, tmp_path, monkeypatch):
    (tmp_path / "deep").write_text("a file")
    monkeypatch.setattr(running, "fit", None)
    code, _, err = here(*short)
    assert code == 2 and "deep" in err


def test_bench_prints_one_json_object(here):
    code, out, _ = here("bench", "toy", "--json")
    assert code == 0 and json.loads(out)["ratio"] == 4.0
    assert "plain ms" in here("bench", "toy")[1]


def test_the_experiments_are_listed(here):
    assert "toy: a, b" in here("reproduce")[1]


def test_data_tells_the_source_and_how_to_get_mnist(capsys, monkeypatch):
    import latentbook.data

    load = latentbook.data.load_digits
    monkeypatch.setattr(latentbook.data, "load_digits", lambda split, root: load(split, source="offline"))
    assert cli.main(["data"]) == 0
    out = capsys.readouterr().out
    assert "train  offline" in out and "not MNIST" in out and "sha256" in out


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's folder with one measured number, which the README tells wrongly."""
    config, hardware = {"alpha": 64}, {"cpu": "Test CPU", "threads": 1, "device": "cpu"}
    monkeypatch.setattr(results, "DIRECTORY", tmp_path / "results")
    results.record("toy", "a", 0, config, {"source": "mnist", "hash": "a"}, {"share": 0.662}, 1.0, None, None, hardware)
    (tmp_path / "README.md").write_text("so <!-- =toy/a/share .1% -->12.3 %<!-- / -->\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_numbers_checks_and_then_writes(project, capsys):
    assert cli.main(["numbers", "--check"]) == 1
    assert "README.md, line 1: says '12.3 %', the results say '66.2 %'" in capsys.readouterr().out
    assert "12.3" in (project / "README.md").read_text()
    assert cli.main(["numbers"]) == 0
    assert (project / "README.md").read_text() == "so <!-- =toy/a/share .1% -->66.2 %<!-- / -->\n"
    assert cli.main(["numbers", "--check"]) == 0
    (project / "README.md").write_text("so 66.2 %\n")
    assert cli.main(["numbers"]) == 1


def test_the_notebook_commands_pass_on_what_they_find(project, capsys, monkeypatch):
    assert cli.main(["check"]) == 1 and "run this in the project's folder" in capsys.readouterr().err
    (project / "notebooks").mkdir()
    (project / "notebooks" / "01-try.md").write_text("---\njupytext: {formats: 'ipynb,md:myst'}\n---\n# Title\n")
    asked = []
    monkeypatch.setattr(notebooks, "execute", lambda *a, report: asked.append(a) or a[0].with_suffix(".ipynb"))
    assert cli.main(["execute", "01", "--profile", "smoke", "--data", "there"]) == 0
    assert [(a[0].name, *a[1:]) for a in asked] == [("01-try.md", "smoke", "there", False)]
    assert cli.main(["check"]) == 1 and cli.main(["sync"]) == 1
    assert capsys.readouterr().out.count("run `make execute CHAPTER=01`") == 2
    assert cli.main(["execute", "02"]) == 1 and "no chapter 02; there are: 01-try" in capsys.readouterr().err
