"""Past one machine: what is missing of all experiments, and runs on a Dask cluster, whose processes are real ones here."""

import argparse
import importlib.metadata
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import types
from concurrent.futures import Future

import pytest
from test_cli import Inline
from test_project import read

from latentbook import __main__ as cli
from latentbook import experiments
from latentbook.experiments import cluster as clusters
from latentbook.experiments import reproduce, results, workers

TOY_MODULE = '''
"""An experiment, `toy`, whose runs take no time; where a test says so, one of them waits."""
import os, types
from dataclasses import dataclass
from pathlib import Path
from latentbook import experiments
from latentbook.experiments.run import Run

@dataclass(frozen=True)
class Config:
    epochs: int = 1
    stops: int = -1  # the seed of the run that waits
    folder: str = "."

def run(variant, seed, *, config, train, test, device, progress):
    folder = Path(config.folder)
    with open(folder / "begun.txt", "a") as file:
        file.write(f"{variant}{seed} ")
    if seed == config.stops and not (folder / "stopped").exists():
        (folder / "stopped").touch()
        with open(folder / "told", "w") as told:  # a pipe, as the gate is
            told.write(str(os.getpid()))
        (folder / "gate").read_text()
    if seed == 9:
        raise ArithmeticError("no luck with seed 9")
    return Run({"score": float(seed), "process": os.getpid(), "digits": len(train.labels)}, None, 2.0 + seed)

def pretend(torch):
    """Say from now on that this process has that version of torch; None: the truth."""
    from latentbook.experiments import cluster, workers
    cluster.identity = (lambda: {**workers.identity(), "torch": torch}) if torch else workers.identity

toy = types.ModuleType("toy")
toy.VARIANTS, toy.THRESHOLD_TEXT, toy.run = {"a": Config(), "b": Config(epochs=2)}, "an exception", run
toy.SEEDS = {"a": 3, "b": 1}
experiments.EXPERIMENTS["toy"] = toy
'''
TOY = ("reproduce", "toy", "--offline", "--results", "results")


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """The command line in this process, for which there is the toy experiment alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiments, "EXPERIMENTS", {})
    module = types.ModuleType("toy_experiment")
    monkeypatch.setitem(sys.modules, "toy_experiment", module)
    exec(TOY_MODULE, module.__dict__)

    def run(*arguments):
        watch = threading.Timer(180, os.kill, (os.getpid(), signal.SIGTERM))  # no test waits for ever
        watch.start()
        try:
            return cli.main(list(arguments)), *capsys.readouterr()
        finally:
            watch.cancel()

    return run


@pytest.fixture
def inline(here, monkeypatch):
    """The same, every run made at once."""
    monkeypatch.setattr(workers, "Workers", Inline)
    return here


# What is missing


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_the_book_has_the_seeds_that_it_plans(name):
    module, document = experiments.EXPERIMENTS[name], results.load(name)
    assert list(module.SEEDS) == list(module.VARIANTS)
    for variant, number in module.SEEDS.items():
        entry = document["variants"][variant]
        assert {*entry["seeds"], *entry["failed"]} == set(range(number)), variant


def test_all_is_complete_and_needs_no_digits_to_say_so(capsys, monkeypatch):
    import latentbook.data.digits

    monkeypatch.setattr(latentbook.data.digits, "load_digits", None)
    assert cli.main(["reproduce", "--all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "nothing is missing" and lines[-2].startswith("all ") and lines[-2].split()[-1] == "-"
    assert any(re.fullmatch(r"  exact-diagonal +19 +1 +-", line) for line in lines)
    assert any(re.fullmatch(r"  reinforce-corrected-unbounded +- +5 +-", line) for line in lines)


def rows(out):
    """{variant: the numbers of the last table}"""
    found = [line.split() for line in out.splitlines() if re.fullmatch(r"  \S+( +(\d+|-)){3}", line)]
    return {name: numbers for name, *numbers in found}


def test_all_makes_what_is_missing_of_every_experiment_and_no_more(inline, tmp_path):
    assert inline(*TOY, "--seeds", "1,9", "--variants", "a")[0] == 1  # seed 9 ends in an exception
    before = (tmp_path / "begun.txt").read_text()
    code, out, err = inline("reproduce", "--all", "--offline", "--results", "results")
    assert code == 0, err
    assert sorted(re.findall(r"toy (\w) seed (\d): done", out)) == [("a", "0"), ("a", "2"), ("b", "0")]
    assert (tmp_path / "begun.txt").read_text().removeprefix(before).split() == ["a0", "b0", "a2"]
    first, last = out.split("3 run(s) are missing")
    assert rows(first) == {"a": ["1", "1", "2"], "b": ["-", "-", "1"]}
    assert rows(last) == {"a": ["3", "1", "-"], "b": ["1", "-", "-"]}
    assert "nothing is missing" in inline("reproduce", "--all", "--offline", "--results", "results")[1]
    code, out, _ = inline("reproduce", "--all", "--offline", "--results", "results", "--seeds", "4")
    assert sorted(re.findall(r"toy (\w) seed (\d): done", out)) == [("a", "4"), ("b", "4")]


def test_all_begins_with_the_longest(inline, tmp_path):
    inline(*TOY, "--seeds", "7", "--variants", "b")  # a run of it takes 9 s
    inline(*TOY, "--seeds", "6", "--variants", "a")  # 8 s
    (tmp_path / "begun.txt").unlink()
    inline("reproduce", "--all", "--offline", "--results", "results", "--seeds", "3")
    assert (tmp_path / "begun.txt").read_text().split() == ["b3", "a3"]


def test_all_refuses_other_settings_before_the_first_run_with_the_command_for_that_experiment(inline):
    assert inline(*TOY, "--seeds", "0")[0] == 0
    code, out, err = inline("reproduce", "--all", "--offline", "--results", "results", "--set", "epochs=2")
    assert code == 2 and "'a' was recorded with other settings (epochs: 1 recorded, 2 now)" in err and "done" not in out
    assert "latentbook reproduce toy --offline --results results --set epochs=2 --fresh --variants a`" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toy", "--all"], "leave out EXPERIMENT"),
        (["--all", "--fresh", "--variants", "a"], "leave out --variants, --fresh"),
        (["--all", "--offline"], "--set and --offline need --results DIR"),
        (["toy", "--jobs", "2", "--cluster", "tcp://h:1"], "--jobs is for this machine"),
    ],
)
def test_what_does_not_go_together(inline, arguments, message):
    code, out, err = inline("reproduce", *arguments)
    assert code == 2 and message in err and out == ""


def test_the_time_left_comes_from_recorded_seconds_and_from_how_long_this_commands_runs_take(inline):
    inline(*TOY, "--seeds", "0,2", "--variants", "a")  # 2 and 4 s
    inline(*TOY, "--seeds", "8", "--variants", "b")  # 10 s
    runs = [reproduce.Planned("toy", variant, seed, None) for variant, seed in (("a", 1), ("a", 3), ("b", 0), ("c", 0))]
    clock = reproduce.Clock(runs, "results")
    assert list(clock.expected.values()) == [3, 3, 10, (3 + 3 + 10) / 3] and clock.known
    assert clock.left() == pytest.approx(16 + 16 / 3)
    clock.at_once = 2
    assert clock.left() == pytest.approx(8 + 8 / 3)
    clock.at_once = 4
    assert clock.left() == 10  # no sooner than the longest
    clock.ended(runs[0], took=6)  # twice as long as where they were recorded
    assert clock.left() == 20
    for run in runs[1:]:
        clock.ended(run, took=1)
    assert clock.left() == 0
    assert not reproduce.Clock([reproduce.Planned("toy", "c", 0, None)], "results").known


def test_the_time_left_is_said(inline):
    inline(*TOY, "--seeds", "0,2", "--variants", "a")
    out = inline(*TOY, "--seeds", "3,4,5", "--variants", "a")[1]
    assert "by the seconds recorded of such runs this takes about 9 s" in out
    assert re.search(r"^\[2/3, 0.0 min, 0 s left\] a seed \d: done", out, re.MULTILINE)
    assert re.search(r"^\[3/3, 0.0 min\] a seed \d: done", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89, "89 s"), (91, "2 min"), (3600, "60 min"), (52820, "14.7 h")]
)
def test_durations(seconds, text):
    assert reproduce.in_words(seconds) == text


# A cluster of processes on this machine


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A scheduler, and as many workers as a test needs: `need(2)` gives their processes by number."""
    distributed = pytest.importorskip("distributed")
    folder, processes = tmp_path_factory.mktemp("cluster"), []
    (folder / "toy_experiment.py").write_text(TOY_MODULE)
    (folder / "sitecustomize.py").write_text("import toy_experiment")  # in every Python started below
    note, known = folder / "scheduler.json", {}
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("COV_", "LATENTBOOK"))}
    environment |= {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}

    def start(program, *arguments):
        command = [sys.executable, "-m", f"distributed.cli.dask_{program}", "--scheduler-file", str(note), *arguments]
        with open(folder / f"{len(processes)}.log", "w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [*command, "--no-dashboard"], cwd=folder, env=environment, stdout=log, stderr=log
            )
        processes.append(process)
        return process

    start("scheduler", "--host", "127.0.0.1", "--port", "0")

    def call(function, *arguments):
        with distributed.Client(scheduler_file=str(note), set_as_default=False) as client:
            return function(client, *arguments)

    def need(number):
        alive = [pid for pid, process in known.items() if process.poll() is None]
        for pid in alive[number:]:
            known[pid].kill()
        for _ in range(number - len(alive)):
            process = start("worker", "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1")
            known[process.pid] = process
        call(settled, number)
        return known

    need(2)
    address = json.loads(note.read_text(encoding="utf-8"))["address"]
    yield types.SimpleNamespace(address=address, need=need, call=call)
    for process in processes:
        process.kill()
        process.wait()


def settled(client, number):
    """Wait until a cluster has so many workers."""
    client.wait_for_workers(number, timeout=120)
    while len(client.nthreads()) > number:  # until the scheduler has noticed those that are gone
        client.wait_for_workers(number)


def known_to_workers(client):
    """How many tasks the workers have before them or on them."""
    return sum(client.run(lambda dask_worker: len(dask_worker.state.tasks)).values())


def pipes(folder):
    """What a waiting run of the toy experiment tells by, and what it waits for."""
    for name in ("told", "gate"):
        os.mkfifo(folder / name)
    return ("--set", f"folder={str(folder)!r}")


def in_time(function):
    """Run something in a thread beside the test; returns a call that waits for it."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return lambda: thread.join(60)


posix = pytest.mark.skipif(os.name != "posix", reason="signals and pipes")


@posix
def test_a_killed_workers_run_is_taken_up_by_another_nothing_lost_nothing_twice(here, cluster, tmp_path):
    processes, killed = cluster.need(2), []

    def kill():
        killed.append(int((tmp_path / "told").read_text()))
        processes[killed[0]].send_signal(signal.SIGKILL)

    settings = (*pipes(tmp_path), "--set", "stops=2", "--threads", "3")
    end = in_time(kill)
    code, out, err = here(*TOY, "--variants", "a", "--seeds", "0-5", *settings, "--cluster", cluster.address)
    end()
    assert code == 0, err
    assert "6 run(s), 2 at a time on 2 worker(s) (2 x " in out
    assert sorted(re.findall(r"a seed (\d): done", out)) == list("012345")
    entry = results.load("toy", "results")["variants"]["a"]
    assert (entry["seeds"], entry["metrics"]["score"], entry["failed"]) == ([*range(6)], [0, 1, 2, 3, 4, 5], [])
    assert killed and processes[killed[0]].wait() == -signal.SIGKILL
    assert entry["metrics"]["process"][2] not in (*killed, os.getpid())  # made again, by the other worker
    assert (tmp_path / "begun.txt").read_text().split().count("a2") == 2
    assert all(text.endswith(", 3 threads") for text in entry["hardware"])  # as the worker had them; here it is one


@posix
def test_a_command_that_is_stopped_keeps_what_is_finished_and_cancels_what_waits(here, cluster, tmp_path, monkeypatch):
    cluster.need(1)
    record, recorded = results.record, threading.Event()

    def noted(*arguments, **options):
        record(*arguments, **options)
        recorded.set()

    def interrupt():
        (tmp_path / "told").read_text()  # the worker is at seed 1
        recorded.wait()
        os.kill(os.getpid(), signal.SIGTERM)  # as Ctrl-C, which what runs in the background ignores

    monkeypatch.setattr(results, "record", noted)
    toy = (*TOY, "--variants", "a", "--cluster", cluster.address, *pipes(tmp_path), "--set", "stops=1")
    end = in_time(interrupt)
    code, _, err = here(*toy, "--seeds", "0-9")
    end()
    forgotten = any(cluster.call(known_to_workers) <= 1 for _ in range(1000))  # in the worker: all but what it is at
    (tmp_path / "gate").write_text("")  # the worker is free again
    assert code == 130 and "what was finished is kept" in err and forgotten
    code, _, err = here(*toy, "--seeds", "0,10")
    assert code == 0, err
    assert results.load("toy", "results")["variants"]["a"]["seeds"] == [0, 10]
    assert (tmp_path / "begun.txt").read_text().split() == ["a0", "a1", "a10"]


def test_runs_on_a_cluster_are_those_of_this_machine(cluster, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workers, "Workers", Inline)
    cluster.need(1)
    asked = ["reproduce", "primer", "--variants", "kl-weight-1", "--seeds", "0", "--offline", "--set", "epochs=1"]
    assert cli.main([*asked, "--results", "here"]) == 0
    assert cli.main([*asked, "--results", "there", "--threads", "1", "--cluster", cluster.address]) == 0
    one, other = (results.load("primer", folder) for folder in ("here", "there"))
    assert one["variants"]["kl-weight-1"]["metrics"] == other["variants"]["kl-weight-1"]["metrics"]
    assert one["data"] == other["data"] and one["config"] == other["config"]


def test_a_worker_with_other_versions_is_refused_by_its_name(here, cluster):
    cluster.need(1)
    (name,) = cluster.call(lambda client: client.nthreads())

    def pretend(client, version):
        client.run(sys.modules["toy_experiment"].pretend, version, workers=[name])

    cluster.call(pretend, "1.0.0")
    code, out, err = here(*TOY, "--seeds", "0", "--cluster", cluster.address)
    cluster.call(pretend, None)
    assert code == 2 and out == "" and "nothing was run" in err
    assert f"worker {name}: torch 1.0.0 (here {results.versions()['torch']}); install there what is here" in err


def test_where_no_scheduler_answers_that_is_said_in_time(here, cluster, monkeypatch):
    worker = next(iter(cluster.call(lambda client: client.nthreads())))
    code, out, err = here(*TOY, "--seeds", "0", "--cluster", worker)
    assert code == 2 and out == "" and f"at {worker} answers a worker and no scheduler" in err
    monkeypatch.setattr(clusters, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (9, silent.getsockname()[1]):  # nobody there; somebody who does not answer
            code, out, err = here(*TOY, "--seeds", "0", "--cluster", f"tcp://127.0.0.1:{port}")
            assert code == 2 and out == "" and err.count("\n") == 1
            assert f"no Dask scheduler has answered at tcp://127.0.0.1:{port} in 0.5 s" in err and "8786" in err


def test_a_cluster_without_workers_is_told(monkeypatch, capsys):
    monkeypatch.setattr(clusters, "PULSE", 0.01)
    job, later = Future(), types.SimpleNamespace(status="running")
    later.nthreads = lambda: job.set_result({}) or {}  # the last one has gone; then another comes, and ends the run
    waits = clusters.Cluster("tcp://h:1", None, "mnist", "cpu")
    waits.client = later
    assert list(waits.completed([job])) == [job]
    assert "no worker is left in the cluster: waiting for another (start one with" in capsys.readouterr().err


@pytest.mark.parametrize("text", [
    "", "host", "host:8786", "http://host:8787", "tcp://host", "tcp://host:99999", "tcp://host:0", "tcp://[::1:8786",
    "tcp://::1:8786", "tcp://:8786", "tcp://a:b:8786", "tcp://user@host:8786", "tcp://host?x:8786", "tcp://host#x:8786",
])  # fmt: skip
def test_what_is_no_address_of_a_scheduler(text):
    for address in ("tcp://host:8786", "tls://10.0.0.1:1", "tcp://[::1]:65535"):
        assert cli.scheduler(address) == address
    with pytest.raises(argparse.ArgumentTypeError, match="as in tcp://HOST:8786"):
        cli.scheduler(text)


def test_the_extra_is_named_where_it_is_missing(here, monkeypatch):
    extra = re.search(r"^cluster = \[\n(.*?)^\]", read("pyproject.toml"), re.MULTILINE | re.DOTALL)[1]
    name = re.search(r'"(\w+)', extra)[1]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["torch>=2.6", f'{name}; extra == "cluster"'])
    for module in [module for module in sys.modules if module.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    code, _, err = here(*TOY, "--cluster", "tcp://127.0.0.1:9")
    assert code == 2 and err.count("\n") == 1
    assert f"`reproduce` needs {name}, which is not installed" in err and "latentbook[cluster]" in err


# What workers tell

ALIKE = {"identity": workers.identity(), "problem": None, "cpu": "A"}
ONE, OTHER = ({"source": "mnist", "hash": letter * 64} for letter in "ab")


def unlike(**changes):
    return {**ALIKE, "data": ONE, "identity": {**workers.identity(), **changes}}


@pytest.mark.parametrize(
    ("replies", "message"),
    [
        ({"w1": unlike(python="3.9.1")}, "worker w1: python 3.9.1 (here "),
        ({"w1": unlike(source="0" * 64)}, "worker w1: latentbook from another source (000000000000, here "),
        ({"w1": unlike(latentbook="0.0"), "w2": unlike(latentbook="0.0")}, "all 2 workers: latentbook 0.0 (here "),
        (
            {"w1": {**ALIKE, "data": ONE}, "w2": {**ALIKE, "data": OTHER}, "w3": {**ALIKE, "data": OTHER}},
            "workers w2, w3: its digits are mnist (bbbbbbbbbbbb), those of other workers mnist (aaaaaaaaaaaa); give all",
        ),
        ({"w1": {**ALIKE, "problem": "MNIST is not in x, named by --data"}}, "worker w1: MNIST is not in x"),
        ({"w1": ModuleNotFoundError("No module named 'latentbook'")}, "No module named 'latentbook'); it needs this"),
    ],
)
def test_workers_that_cannot_be_used_are_named_with_what_differs_and_what_to_do(replies, message):
    cluster = clusters.Cluster("tcp://h:1", None, "mnist", "cpu")
    with pytest.raises(ValueError, match=re.escape(message)):
        cluster._compare(replies)
    cluster._compare({"w1": {**ALIKE, "data": ONE}, "w2": {**ALIKE, "data": ONE}})
    assert cluster.data == ONE


def test_a_worker_tells_its_digits_and_what_it_lacks(tmp_path):
    told = clusters._about(None, "offline", False, "cpu")
    assert told["data"] == results.data_of(*workers.splits(None, "offline")) and told["problem"] is None
    assert "MNIST is not in" in clusters._about(str(tmp_path), "mnist", False, "cpu")["problem"]
    assert "--device must be" in clusters._about(None, "offline", False, "tpu9")["problem"]


@pytest.mark.parametrize("part", ["identity", "data"])
def test_a_worker_that_joins_later_and_is_another_makes_no_run(part, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(distributed, "get_worker", lambda: types.SimpleNamespace(address="tcp://late:1"))
    digits = (None, "offline")
    agreed = {"identity": workers.identity(), "data": results.data_of(*workers.splits(*digits))}
    assert clusters._checked(agreed, digits, (1, {}), lambda seed: seed + 1, 4) == 5
    changed = {"identity": {**workers.identity(), "torch": "1.0"}, "data": ONE}
    with pytest.raises(RuntimeError, match="worker tcp://late:1 has joined since the start, and cannot be used"):
        clusters._checked({**agreed, part: changed[part]}, digits, (1, {}), None)


def test_a_run_that_kills_every_worker_is_told_and_the_others_are_recorded(inline, monkeypatch):
    class Deadly(Inline):
        def outcome(self, job):
            if job.result()["metrics"]["score"] == 1:
                raise workers.LostRun("every worker that tried it has died")
            return job.result()

    monkeypatch.setattr(workers, "Workers", Deadly)
    code, _, err = inline(*TOY, "--variants", "a", "--seeds", "0-2")
    assert code == 1 and "a seed 1: not recorded: every worker that tried it has died" in err
    assert results.load("toy", "results")["variants"]["a"]["seeds"] == [0, 2]


def test_what_dask_says_of_a_run_in_words():
    distributed = pytest.importorskip("distributed")
    cluster, killed, cancelled = clusters.Cluster("tcp://h:1", None, "mnist", "cpu"), Future(), Future()
    killed.set_exception(distributed.KilledWorker("key", types.SimpleNamespace(address="tcp://w:1"), 3))
    cancelled.cancel()
    cancelled.set_running_or_notify_cancel()
    with pytest.raises(workers.LostRun, match="every worker that tried it has died, tcp://w:1 last"):
        cluster.outcome(killed)
    with pytest.raises(
        RuntimeError, match="the connection to the scheduler at tcp://h:1 is lost; what was finished is"
    ):
        cluster.outcome(cancelled)


def test_a_change_of_code_or_of_the_judge_is_another_source(tmp_path, monkeypatch):
    def source():
        workers.identity.cache_clear()
        return workers.identity()["source"]

    monkeypatch.setattr(workers, "PACKAGE", tmp_path)
    found = {source()}
    for name in ("a.py", "weights.safetensors"):
        (tmp_path / name).write_text("1")
        found.add(source())
    (tmp_path / "results.json").write_text("{}")  # what is recorded meanwhile is none of it
    assert source() in found and len(found) == 3
    monkeypatch.undo()
    workers.identity.cache_clear()
