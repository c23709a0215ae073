"""The command line as a person uses it: separate processes, a made-up experiment, interruptions."""

import argparse
import dataclasses
import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import types
import warnings
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch

from latentbook import __main__ as cli
from latentbook import __version__, evaluation, experiments
from latentbook.authoring import notebooks
from latentbook.data.digits import load_digits
from latentbook.experiments import mix_and_match, primer, results, workers
from latentbook.experiments import reproduce as reproducing
from latentbook.experiments import run as running
from latentbook.models.mix_and_match import MixAndMatch
from latentbook.training.loop import fit, load_tensors
from latentbook.training.tensor_files import rounded, unrounded

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
    if config.mode == "refuse":
        raise ValueError("no such mode")
    if config.mode == "diverge":
        import torch
        torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1).step()
        raise ValueError("no such scale")
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


class Inline(workers.Workers):
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
    monkeypatch.setattr(workers, "Workers", Inline)
    monkeypatch.setattr(experiments, "EXPERIMENTS", dict(experiments.EXPERIMENTS))
    module = types.ModuleType("toy_experiment")
    monkeypatch.setitem(sys.modules, "toy_experiment", module)
    exec(TOY_MODULE, module.__dict__)

    def run(*arguments):
        code = cli.main(list(arguments))
        return code, *capsys.readouterr()

    run.results = tmp_path / "results"
    return run


@pytest.fixture
def working(tmp_path, monkeypatch, capsys):
    """The command line in this process with worker processes of its own; all of them know the toy experiment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy_experiment.py").write_text(TOY_MODULE)
    (tmp_path / "sitecustomize.py").write_text("import toy_experiment")  # in every worker
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH")))))
    monkeypatch.setattr(experiments, "EXPERIMENTS", dict(experiments.EXPERIMENTS))
    monkeypatch.delitem(sys.modules, "toy_experiment", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("toy_experiment")

    def run(*arguments):
        code = cli.main(list(arguments))
        return code, *capsys.readouterr()

    run.results = tmp_path / "results"
    yield run
    sys.modules.pop("toy_experiment", None)


COMMANDS = (
    "reproduce",
    "bench",
    "train-judge",
    "weights",
    "export",
    "choices",
    "listening",
    "score",
    "numbers",
    "execute",
    "pdf",
    "sync",
    "reserve",
    "check",
    "data",
)
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


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--seeds", "0-99999999999", "at most 1000 at a time"),
        ("--seeds", "0-999,1000-1999", "at most 1000 at a time"),
        ("--seeds", "2147483648", "none above 2147483647"),
        ("--variants", "", "at least one name"),
        ("--variants", ",", "at least one name"),
        (
            "--results",
            "",
            "a path is asked for",
        ),  # as an unset variable of the shell gives; it stood for the book's own
        ("--jobs", "0", "at least 1"),
        ("--jobs", "²", "must be a whole number of at least 1, got '²'"),
        ("--threads", "9" * 5000, "must be a whole number of at least 1, got '999"),
        ("--cluster", "tcp://host:99999", "ports from 1 to 65535"),
    ],
)
def test_what_no_option_means_is_refused_where_it_is_read(option, value, message, capsys):
    with pytest.raises(SystemExit):
        cli.main(["reproduce", "primer", option, value])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "a", "4-0", "0-", "-1", "1,,2", "0.5"])
def test_what_are_no_seeds(text):
    with pytest.raises(argparse.ArgumentTypeError, match="seeds are like 0-4"):
        cli.seeds(text)


@pytest.mark.parametrize("text", ["", "x", "0-1", "1,2", "-1", str(2**31)])
def test_one_seed(text):
    assert cli.seed("7") == 7
    with pytest.raises(argparse.ArgumentTypeError, match="a seed is a whole number from 0 to"):
        cli.seed(text)


def test_a_path_may_start_at_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    options = cli.parser().parse_args(["reproduce", "primer", "--results=~/try"])
    assert Path(options.results) == tmp_path / "try"


@pytest.mark.parametrize(
    ("text", "found"),
    [("a=1", ("a", 1)), ("m.a=0.5", ("m.a", 0.5)), ("a=word", ("a", "word")), ("a=None", ("a", None))],
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
        (
            ["reproduce", "primer", "--device", "tpu9"],
            "--device must be one that torch can use here, such as cpu, got 'tpu9'",
        ),
        (["reproduce", ""], "no experiment ''; there are: primer, mix-and-match"),
        (["reproduce", "", "--fresh", "--yes"], "no experiment ''; there are: primer, mix-and-match"),
        (["reproduce", "", "--all"], "--all makes what is missing of every experiment: leave out EXPERIMENT"),
        (["reproduce", "--seeds", "3"], "--seeds of which experiment? name one of primer, mix-and-match"),
        (["reproduce", "--offline", "--fresh"], "--offline, --fresh of which experiment?"),
        (["reproduce", "--cluster=tcp://host:8786"], "--cluster of which experiment?"),
        (["reproduce", "primer", "--threads", "100000000"], "16 for each core of this machine, got 100000000"),
        (["reproduce", "--all", "--threads", "100000000"], "--threads must be at most "),
        (
            ["reproduce", "primer", "--threads", "4097", "--cluster", "tcp://host:1"],
            "--threads must be at most 4096, got 4097",
        ),
        (["export", ""], "no shipped model is called ''; there are: air-exact"),
        (["export", "--data", "there"], "--data is for the digits of --measure: add that, or leave it out"),
        (["export", "--download", "judge"], "--download is for the digits of --measure"),
        (["bench", "nothing"], "no experiment 'nothing'"),
        (["weights", "nothing"], "no experiment 'nothing'"),
        (["weights", "mix-and-match", "--variants", "best,control"], "no state of control is shipped; mix-and-match"),
        (["weights", "mix-and-match", "--offline"], "--offline needs --output DIR"),
        (
            ["weights", "mix-and-match", "--device", "tpu9"],
            "--device must be one that torch can use here, such as cpu, got 'tpu9'",
        ),
        (
            ["choices", "spatial-transformer"],
            "no experiment spatial-transformer here; there are: primer, mix-and-match",
        ),
        (["choices", "--offline"], "--offline needs --results DIR, a folder other than the book's own"),
        (["choices", "--results", "file"], "file is a file): name another place, or make this one writable"),
        (["choices", "primer", "--results", "x", "--device", "tpu9"], "--device must be one that torch can use here"),
        (["listening", "air"], "no experiment air here; there are: primer, mix-and-match, conditional-vae, multi-"),
        (["listening", "--offline"], "--offline needs --results DIR, a folder other than the book's own"),
        (["listening", "--results", "file"], "file is a file): name another place, or make this one writable"),
        (["numbers"], "run this in the project's folder"),
        (["check"], "no chapters in notebooks; run this in the project's folder"),
        (
            ["reproduce", "primer", "--offline", "--results", str(results.DIRECTORY)],
            "a folder other than the book's own",
        ),
        (
            ["reproduce", "primer", "--set", "epochs=1", "--results", f"{results.DIRECTORY}/../results"],
            "a folder other than the book's own",
        ),
        (
            ["weights", "mix-and-match", "--offline", "--output", str(evaluation.WEIGHTS)],
            "a folder other than the book's own",
        ),
        (
            ["reproduce", "primer", "--results", "x", "--set", "epochs=1", "--set", "epochs=2"],
            "names epochs more than once",
        ),
        (
            ["reproduce", "primer", "--results", "x", "--set", "epochs=abc"],
            "--set: epochs must be a whole number, got 'abc'",
        ),
        (
            ["reproduce", "mix-and-match", "--results", "x", "--set", "model.alpha=9999"],
            "alpha (of hidden_dim=128) must be",
        ),
        (["reproduce", "mix-and-match", "--results", "x", "--set", "schedule=cosine"], "schedule must be one of"),
        (
            ["reproduce", "primer", "--results", "file/x"],
            "file is a file): name another place, or make this one writable",
        ),
        (
            ["reproduce", "primer", "--results", "file"],
            "file is a file): name another place, or make this one writable",
        ),
        (["weights", "mix-and-match", "--output", "file"], "file is a file): name another place"),
        (["train-judge", "--output", "folder"], "the judge's weights cannot be written to folder, which is a folder"),
        (
            ["reproduce", "primer", "--device", "meta"],
            "--device must be one that torch can use here, such as cpu, got 'meta'",
        ),
    ],
)
def test_a_mistake_gets_one_clear_line_and_exit_code_2(arguments, message, capsys, monkeypatch, tmp_path):
    import latentbook.data.digits

    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(latentbook.data.digits, "load_digits", None)  # nothing is loaded, let alone trained, before
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    with pytest.raises((ValueError, OSError), match=re.escape(message.split(";")[0])):
        cli.main(["--debug", *arguments])


def test_an_experiment_without_states_is_told_with_those_that_have_some(capsys, monkeypatch):
    monkeypatch.delattr(primer, "STATES")
    assert cli.main(["weights", "primer"]) == 2
    assert "primer ships no trained state; those that do: mix-and-match" in capsys.readouterr().err


def test_no_mnist_is_told_before_anything_is_trained(capsys, monkeypatch, tmp_path):
    import latentbook.data.digits

    def missing(split, root, source, **_):
        raise FileNotFoundError(f"MNIST is not in {root}, asked for {source}")

    monkeypatch.setattr(latentbook.data.digits, "load_digits", missing)
    for command in (["reproduce", "primer"], ["weights", "mix-and-match"], ["train-judge"]):
        assert cli.main([*command, "--data", str(tmp_path)]) == 2
        assert "asked for mnist" in capsys.readouterr().err


def test_reproduce_records_every_seed_and_leaves_out_what_is_there(working):
    code, out, err = working(*TOY, "--seeds", "0,3", "--jobs", "2")
    assert code == 0, err
    document = results.load("toy", working.results)
    assert document["data"]["source"] == "offline"
    assert document["variants"]["a"]["metrics"]["score"] == [0.064, 3.064]
    assert document["variants"]["b"]["seeds"] == [0, 3] and document["variants"]["b"]["failed"] == [3]
    assert document["config"]["b"]["model"] == {"alpha": 32}
    share = max(1, workers.cores() // 2)
    assert set(document["variants"]["a"]["metrics"]["threads"]) == {share} == {document["hardware"]["threads"]}
    assert "4 run(s), 2 at a time" in out and "a score of 3" in out
    assert "a: 2 seed(s), 1 failed" in out and "1.564 ± 2.12" in out and "failed: too low" in out
    before = (working.results / "toy.json").read_bytes()
    code, out, _ = working(*TOY, "--seeds", "0,3", "--jobs", "2")
    assert code == 0 and "0 run(s)" in out and "a: recorded already and left out: seed 0, 3" in out
    assert (working.results / "toy.json").read_bytes() == before


def test_another_setting_is_refused_until_started_over(here):
    assert here(*TOY, "--seeds", "0,1")[0] == 0
    code, _, err = here(*TOY, "--seeds", "2", "--variants", "a", "--set", "model.alpha=8")
    assert code == 2 and "model: {'alpha': 64} recorded, {'alpha': 8} now" in err
    advice = "reproduce toy --offline --results results --seeds 2 --set model.alpha=8 --fresh --variants a`"
    assert advice in err  # what was given, so that it starts over no more than was meant
    code, _, err = here(*TOY, "--seeds", "2", "--variants", "a", "--set", "model.alpha=8", "--fresh")
    assert code == 0, err
    variants = results.load("toy", here.results)["variants"]
    assert (variants["a"]["seeds"], variants["a"]["metrics"]["score"]) == ([2], [2.008])
    assert variants["b"]["seeds"] == [0, 1]
    kept = json.loads((here.results / "toy.json.before-1").read_text(encoding="utf-8"))
    assert kept["variants"]["a"]["seeds"] == [0, 1]


def test_advice_concerns_the_clashing_variants_alone_and_all_of_them(here):
    assert here(*TOY, "--seeds", "0")[0] == 0
    code, _, err = here(*TOY, "--var=a,b", "--seeds", "1", "--jobs", "2", "--set", "model.alpha=32")
    assert code == 2 and "--seeds 1 --jobs 2 --set model.alpha=32 --fresh --variants a`" in err and "'b'" not in err
    code, _, err = here(*TOY, "--variants", "a", "--variants", "b", "--set", "wait=0.5", "--seeds", "1")
    assert code == 2 and err.rstrip().endswith("--set wait=0.5 --seeds 1 --fresh --variants a,b`")


def test_other_data_beside_what_is_recorded_is_refused_with_all_that_would_be_started_over(here, monkeypatch):
    assert here(*TOY, "--seeds", "0")[0] == 0
    monkeypatch.setattr(results, "data_of", lambda *splits: {"source": "mnist", "hash": "a" * 64})
    code, _, err = here(*TOY, "--seeds", "0", "--variants", "b")
    assert code == 2 and err.count("are on offline") == 1 and "name another --results DIR" in err
    assert err.rstrip().endswith("--seeds 0 --fresh --variants a,b`")


class Keyboard(io.StringIO):
    """Somebody who types an answer at a terminal."""

    def isatty(self):
        return True


def test_the_books_own_results_are_started_over_when_that_was_confirmed_alone(here, monkeypatch):
    import latentbook.data.digits

    digits = {split: load_digits(split, source="offline") for split in ("train", "test")}
    monkeypatch.setattr(latentbook.data.digits, "load_digits", lambda split, **_: digits[split])
    monkeypatch.setattr(results, "DIRECTORY", here.results)
    own = ("reproduce", "toy", "--variants", "a", "--fresh", "--seeds")
    assert here(*own, "0")[0] == 0  # nothing was there to be forgotten
    before = (here.results / "toy.json").read_bytes()
    for keyboard in (io.StringIO("y\n"), Keyboard("n\n"), Keyboard("\n"), Keyboard("")):  # the first: no terminal
        monkeypatch.setattr(sys, "stdin", keyboard)
        code, out, err = here(*own, "1", "--results", "results/../results")  # another name of the same folder
        assert code == 2 and "in the book's own results" in out + err and "--results DIR" in err
        assert (here.results / "toy.json").read_bytes() == before
    monkeypatch.setattr(sys, "stdin", Keyboard("y\n"))
    code, out, _ = here(*own, "1")
    assert code == 0 and f"what was recorded before is kept in {here.results / 'toy.json.before-1'}" in out
    assert (here.results / "toy.json.before-1").read_bytes() == before
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert here(*own, "2", "--yes")[0] == 0
    assert results.load("toy")["variants"]["a"]["seeds"] == [2] and results.names() == ["toy"]


def test_it_says_at_the_start_where_results_are_recorded(here):
    out = here(*TOY, "--seeds", "0", "--variants", "a", "--jobs", "9")[1]
    assert "each is recorded in results/toy.json as it ends" in out and "1 run(s), 1 at a time" in out


def test_a_mistake_that_shows_before_the_first_step_is_no_failed_seed(here):
    code, _, err = here(*TOY, "--seeds", "0", "--variants", "a", "--set", "mode=refuse")
    assert code == 2 and "a cannot be run like this, and nothing was recorded of it: no such mode" in err
    assert not (here.results / "toy.json").exists()
    code, out, _ = here(*TOY, "--seeds", "0", "--variants", "a", "--set", "mode=diverge")  # one that shows after it
    assert code == 1 and "failed: ValueError: no such scale" in out
    assert results.load("toy", here.results)["variants"]["a"]["failed"] == [0]


def test_what_could_not_be_recorded_after_all_is_shown(here, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "results/toy.json")

    monkeypatch.setattr(results, "record", full)
    code, _, err = here(*TOY, "--seeds", "0", "--variants", "a")
    assert code == 2 and '"score": 0.064' in err and "No space left on device: 'results/toy.json'" in err


@pytest.mark.parametrize("error", [TypeError("no text"), KeyError("config")])
def test_whatever_keeps_a_run_from_being_recorded_it_is_shown_and_the_others_are_recorded(here, monkeypatch, error):
    record, calls = results.record, []

    def first_fails(*key, **rest):
        calls.append(key[2])
        if len(calls) == 1:
            raise error
        return record(*key, **rest)

    monkeypatch.setattr(results, "record", first_fails)
    with pytest.raises(type(error)):
        here(*TOY, "--seeds", "0,1", "--variants", "a")
    assert results.load("toy", here.results)["variants"]["a"]["seeds"] == calls[1:] and len(calls) == 2


def test_a_run_is_shown_where_what_was_there_cannot_be_kept(here, monkeypatch):
    here(*TOY, "--seeds", "0", "--variants", "a")
    monkeypatch.setattr(results, "start_over", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    code, _, err = here(*TOY, "--seeds", "0", "--variants", "a", "--fresh")
    assert code == 2 and "a seed 0 was not recorded" in err and '"score": 0.064' in err


def test_a_damaged_results_file_is_told_before_anything_is_trained(here, monkeypatch):
    here(*TOY, "--seeds", "0", "--variants", "a")
    path = here.results / "toy.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    del document["variants"]["a"]["hardware"]
    path.write_text(json.dumps(document), encoding="utf-8")
    monkeypatch.setattr(workers, "run_one", None)
    for more in ((), ("--fresh",)):
        code, _, err = here(*TOY, "--seeds", "1", "--variants", "a", *more)
        assert code == 2 and err.count("\n") == 1
        assert "toy.json is damaged ('a': not in it, or of another type: hardware): put back a whole copy" in err


def test_a_damaged_file_of_the_books_own_does_not_keep_runs_from_another_folder(here, monkeypatch, tmp_path):
    monkeypatch.setattr(results, "DIRECTORY", tmp_path / "own")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "toy.json").write_text("{}", encoding="utf-8")
    planned = reproducing.Planned("toy", "a", 0, None)
    assert reproducing.Clock([planned], str(here.results)).known is False


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


def test_a_worker_that_dies_is_told_and_records_nothing(working):
    code, _, err = working(*TOY, "--seeds", "0", "--variants", "a", "--set", "mode=die")
    assert code == 1 and "a worker process died" in err and not (working.results / "toy.json").exists()


def children_of(process):
    import psutil

    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 130), (signal.SIGKILL, -9)])
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


def test_ctrl_c_is_heeded_as_the_word_to_stop_is(here, monkeypatch):
    """What then becomes of the workers is the same, and tried with processes above."""
    record, recorded = results.record, []

    def interrupted(experiment, variant, seed, *rest, **options):
        record(experiment, variant, seed, *rest, **options)
        recorded.append(seed)
        if len(recorded) == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(results, "record", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # this process may have been told to ignore it
    try:
        code, _, err = here(*TOY, "--seeds", "0,1", "--variants", "a")
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130 and "what was finished is kept" in err
    assert results.load("toy", here.results)["variants"]["a"]["seeds"] == sorted({*recorded})


STATES = (*mix_and_match.STATES, *mix_and_match.FIGURE_STATES)


@pytest.fixture
def short(monkeypatch):
    """The states of mix-and-match by a training of one epoch."""
    for name in STATES:
        brief = dataclasses.replace(mix_and_match.VARIANTS[name], epochs=1)
        monkeypatch.setitem(mix_and_match.VARIANTS, name, brief)
    return ("weights", "mix-and-match", "--offline", "--output", "deep/states")


def test_weights_trains_seed_0_of_every_shipped_state_and_saves_it(here, short, tmp_path):
    shipped = {name: mix_and_match.state_path(name).read_bytes() for name in STATES}
    code, out, err = here(*short)
    assert code == 0, err
    folder, digits = tmp_path / "deep" / "states", load_digits("train", source="offline")
    paths = {name: mix_and_match.state_path(name, folder) for name in STATES}
    assert set(folder.iterdir()) == set(paths.values())  # nothing half-written beside them
    for name, path in paths.items():
        assert f"{name}: written to deep/states/{path.name}" in out
        tensors, notes = load_tensors(path)
        model, _ = mix_and_match.train(mix_and_match.VARIANTS[name], digits, 0, progress=False)
        stored, bits = unrounded(tensors), 8 if name in mix_and_match.FIGURE_STATES else 32
        for key, value in unrounded(rounded(model.state_dict(), bits)).items():
            assert torch.equal(stored[key], value)
        assert (notes["variant"], notes["seed"]) == (name, 0)
        assert notes["data"] == {"source": "offline", "hash": digits.sha256}
        assert mix_and_match.state_path(name).read_bytes() == shipped[name]


def test_weights_trains_the_named_states_alone_and_ships_them_by_default(here, short, tmp_path, monkeypatch):
    import latentbook.data.digits

    digits = load_digits("train", source="offline")
    monkeypatch.setattr(latentbook.data.digits, "load_digits", lambda split, source, **_: {"mnist": digits}[source])
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
    assert code == 2 and "deep is a file" in err and "--output DIR names one" in err


def test_bench_prints_one_json_object_and_says_elsewhere_what_it_does(here):
    code, out, err = here("bench", "toy", "--json")
    assert code == 0 and json.loads(out)["ratio"] == 4.0
    assert "our code and a plainly written one do the same work, in turns" in err and "1 thread(s)" in err


def test_bench_says_what_its_ratios_mean(here):
    found = {"experiment": "toy", "ours_ms": 2.0, "plain_ms": 1.0, "ratio": 0.5, "device": "cpu"}
    parts = {"scenes_ours_ms": 10.0, "scenes_plain_ms": 21.0, "scenes_ratio": 2.1, "matmul_share": 0.25}
    experiments.EXPERIMENTS["toy"].bench = lambda device: found | parts
    assert here("bench", "toy")[1].splitlines() == [
        "toy: medians of several rounds",
        "  a training step  ours 2 ms, plain 1 ms: ours is 0.5 times as fast (plain / ours)",
        "  scenes           ours 10 ms, plain 21 ms: ours is 2.1 times as fast (plain / ours)",
        "  device               cpu",
        "  matmul share         0.25 of this machine's matrix-product peak, over our whole step",
    ]


def test_choices_trains_what_is_missing_and_never_asks_for_test_digits(here, monkeypatch):
    from latentbook.experiments import choices

    first = choices.CHOICES[0]
    toy = dataclasses.replace(first, base=dataclasses.replace(first.base, epochs=1))
    monkeypatch.setattr(choices, "CHOICES", (toy,))
    asked, loads = [], load_digits
    monkeypatch.setattr(
        "latentbook.data.digits.load_digits",
        lambda split, **options: asked.append(split) or loads(split, source="offline"),
    )
    command = ("choices", "primer", "--offline", "--results", "results", "--seeds", "0-1")
    code, out, _ = here(*command)
    assert code == 0 and "[8/8] primer kl-weight-1" in out and "| primer | kl-weight-1 | learning rate |" in out
    assert asked == ["train"]
    code, out, _ = here(*command)
    assert code == 0 and "[" not in out.splitlines()[0]  # all is recorded
    code, table, _ = here("choices", "--table", "--results", "results")
    assert code == 0 and table == out and len(asked) == 2


def test_listening_measures_every_shipped_state_of_an_experiment(here):
    code, out, _ = here("listening", "primer", "--offline", "--results", "results")
    assert code == 0 and out.count(": measured\n") == out.count("  z  ") == len(primer.STATES) == 2
    assert set(results.load("primer", here.results)["variants"]) == set(primer.STATES)


def test_the_experiments_are_listed(here):
    assert "toy: a, b" in here("reproduce")[1]


def test_data_tells_the_source_and_how_to_get_mnist(capsys, monkeypatch):
    import latentbook.data.digits

    load = latentbook.data.digits.load_digits
    monkeypatch.setattr(latentbook.data.digits, "load_digits", lambda split, **_: load(split, source="offline"))
    assert cli.main(["data"]) == 0
    out = capsys.readouterr().out
    assert "train  offline" in out and "not MNIST" in out and "sha256" in out


@pytest.mark.parametrize(
    "command",
    [
        ["data"],
        ["reproduce", "primer", "--results", "results"],
        ["weights", "mix-and-match", "--output", "weights"],
        ["train-judge", "--output", "judge"],
        ["choices", "primer", "--results", "results"],
        ["listening", "primer", "--results", "results"],
    ],
    ids=lambda command: command[0],
)
def test_a_named_folder_without_mnist_is_told_by_the_commands_own_options(command, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*command, "--data", "mnits"]) == 2
    said = capsys.readouterr().err
    assert "MNIST is not in mnits, named by --data" in said and "--download" in said and said.count("\n") == 1
    assert "root=" not in said and "download=True" not in said
    monkeypatch.setenv("LATENTBOOK_DATA", "elsewhere")
    assert cli.main(command) == 2
    said = capsys.readouterr().err
    assert "MNIST is not in elsewhere, named by LATENTBOOK_DATA" in said and "--download" in said
    assert not (tmp_path / "mnits").exists() and not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("choice", ["--data", "--download"])
def test_offline_is_not_asked_for_together_with_mnist(choice, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = [choice, "there"] if choice == "--data" else [choice]
    assert cli.main(["reproduce", "primer", "--results", "results", "--offline", *given]) == 2
    assert f"{choice} is for MNIST, and --offline never uses it" in capsys.readouterr().err
    with pytest.raises(ValueError, match=f"{choice} is for MNIST, and --profile smoke never uses it"):
        notebooks._digits("smoke", "there" if choice == "--data" else None, False, choice == "--download")


def test_every_command_with_data_passes_download_on(monkeypatch, tmp_path):
    import latentbook.data.digits

    asked = []

    def refuse(split, **options):
        asked.append((options["root"], options["download"]))
        raise FileNotFoundError

    monkeypatch.setattr(latentbook.data.digits, "load_digits", refuse)
    monkeypatch.chdir(tmp_path)
    commands = (["data"], ["reproduce", "primer"], ["weights", "mix-and-match"], ["train-judge"])
    commands += (["choices", "primer", "--results", "x"], ["listening", "primer", "--results", "x"])
    for command in commands:
        assert cli.main([*command, "--data", "there", "--download"]) == 2
    assert asked == [("there", True)] * len(commands)


def test_data_tells_what_is_wrong_with_the_cache(capsys, monkeypatch):
    import latentbook.data.digits

    load = latentbook.data.digits.load_digits

    def warned(split, **_):
        warnings.warn("not kept: the cache", stacklevel=1)
        return load(split, source="offline")

    monkeypatch.setattr(latentbook.data.digits, "load_digits", warned)
    assert cli.main(["data"]) == 0
    assert capsys.readouterr().err == "not kept: the cache\n"


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
    assert cli.main(["check"]) == 2 and "run this in the project's folder" in capsys.readouterr().err
    (project / "notebooks").mkdir()
    (project / "notebooks" / "01-try.md").write_text("---\njupytext: {formats: 'ipynb,md:myst'}\n---\n# Title\n")
    asked = []

    def run(source, profile, *, report, **options):
        asked.append((source.name, profile, options))
        return source.with_suffix(".ipynb")

    monkeypatch.setattr(notebooks, "execute", run)
    assert cli.main(["execute", "01", "--profile", "read", "--data", "there", "--download"]) == 0
    assert asked == [("01-try.md", "read", {"data": "there", "allow_offline": False, "download": True})]
    assert cli.main(["check"]) == 1 and cli.main(["sync"]) == 1
    assert capsys.readouterr().out.count("run `make execute CHAPTER=01`") == 2
    assert cli.main(["execute", "02"]) == 2 and "no chapter 02; there are: 01-try" in capsys.readouterr().err
    assert cli.main(["execute", ""]) == 2 and "no chapter ''; there are: 01-try" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        (["check"], "jupytext", "book"),
        (["sync"], "jupytext", "book"),
        (["execute", "01"], "nbclient", "book"),
        (["execute", "01"], "ipykernel", "book"),
        (["tidy", "--check"], "ruff", "test"),
    ],
)
def test_a_command_names_the_extra_that_it_needs(project, capsys, monkeypatch, command, module, extra):
    (project / "notebooks").mkdir()
    (project / "notebooks" / "01-try.md").write_text("---\njupytext: {formats: 'ipynb,md:myst'}\n---\n# Title\n")
    (project / "notebooks" / "01-try.ipynb").write_text("{}")
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    assert cli.main(command) == 2
    said = capsys.readouterr().err
    assert f"`{command[0]}` needs {module}, which is not installed" in said and said.count("\n") == 1
    assert f'pip install "latentbook[{extra}]"' in said and f'pip install -e ".[{extra}]"' in said


def test_every_module_that_the_notebook_commands_import_belongs_to_an_extra_or_to_the_library():
    imported = {"jupytext", "nbclient", "nbformat", "ipykernel", "ruff"}
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert all(re.search(rf'^    "{name}"', project, re.MULTILINE) for name in imported)
    assert cli._extra_of("jupytext.cli") == "book" and cli._extra_of("ruff") == "test"
    assert cli._extra_of("torch") is None and cli._extra_of("nothing") is None


def test_a_module_that_no_extra_brings_is_no_advice(monkeypatch):
    monkeypatch.setattr(notebooks, "check", lambda: __import__("not_a_module"))
    with pytest.raises(ModuleNotFoundError, match="not_a_module"):
        cli.main(["check"])


@pytest.mark.skipif(os.name != "posix", reason="signals are another matter there")
def test_ctrl_c_while_the_library_is_imported_is_told_in_one_line(tmp_path):
    """As if it came while a module of ours is read: another finder raises what the signal's handler does."""
    code = """
import sys
class Finder:
    def find_spec(name, path=None, target=None):
        if name == "latentbook.experiments.results":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder)
"""
    (tmp_path / "sitecustomize.py").write_text(code, encoding="utf-8")
    folders = os.pathsep.join([str(tmp_path), str(Path(cli.__file__).parents[1])])
    command = [sys.executable, "-m", "latentbook", "reproduce"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": folders}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", cli.INTERRUPTED + "\n")


@pytest.mark.skipif(os.name != "posix", reason="signals are another matter there")
def test_ctrl_c_is_not_lost_while_torch_is_imported(tmp_path):
    code = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
    print("not yet")
except KeyboardInterrupt:  # as a module in C may do, whatever comes
    print("lost")
"""
    (tmp_path / "torch.py").write_text(code, encoding="utf-8")
    folders = os.pathsep.join([str(tmp_path), str(Path(cli.__file__).parents[1])])
    command = [sys.executable, "-m", "latentbook", "data"]
    heeds = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": folders}, capture_output=True, text=True, **heeds)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", cli.INTERRUPTED + "\n")


def test_what_ctrl_c_does_is_put_back(monkeypatch, capsys):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        cli.main(["reproduce"])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        monkeypatch.setattr(cli.runs, "reproduce", lambda _: signal.raise_signal(signal.SIGINT))
        assert cli.main(["reproduce"]) == 130 and capsys.readouterr().err == cli.INTERRUPTED + "\n"
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        monkeypatch.setattr(cli.runs, "reproduce", lambda _: signal.getsignal(signal.SIGINT) is signal.SIG_IGN)
        assert cli.main(["reproduce"]) is True
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_reader_that_goes_ends_the_output_in_silence():
    command = [sys.executable, "-m", "latentbook", "reproduce"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()  # as `head` does
    assert process.stderr.read() == b"" and process.wait() == 1
    process.stderr.close()
