"""The results store: nothing half written, nothing mixed, nothing lost."""

import codecs
import json
import multiprocessing
import os
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from latentbook.experiments import results

DATA = {"source": "mnist", "hash": "a" * 64}
HARDWARE = {"cpu": "Test CPU", "threads": 1, "device": "cpu"}


@dataclass(frozen=True)
class Config:
    alpha: int = 64
    sizes: tuple = (500, 250)


def put(directory, seed=0, variant="best", metrics=None, config=None, data=DATA, failed=None, seconds=1.04):
    metrics = {"agreement": 0.5 + seed / 100} if metrics is None else metrics
    config = config or Config()
    return results.record("mix-and-match", variant, seed, config, data, metrics, seconds, failed, directory, HARDWARE)


def test_the_file_has_the_shape_of_the_design(tmp_path):
    put(tmp_path)
    document = json.loads((tmp_path / "mix-and-match.json").read_text())
    assert list(document) == ["experiment", "config", "data", "versions", "hardware", "variants"]
    assert document["config"] == {"best": {"alpha": 64, "sizes": [500, 250]}}
    assert (document["data"], document["hardware"]) == (DATA, HARDWARE)
    assert set(document["versions"]) == {"python", "torch", "torchvision", "latentbook"}
    assert document["variants"]["best"] == {
        "seeds": [0],
        "metrics": {"agreement": [0.5]},
        "seconds": [1.0],
        "hardware": ["Test CPU, 1 thread"],
        "failed": [],
        "reasons": {},
    }


def test_seeds_stay_sorted_and_aligned_whatever_the_order_of_recording(tmp_path):
    for seed in (3, 0, 2):
        put(tmp_path, seed, seconds=seed)
    entry = results.load("mix-and-match", tmp_path)["variants"]["best"]
    assert entry["seeds"] == [0, 2, 3]
    assert entry["metrics"]["agreement"] == [0.5, 0.52, 0.53]
    assert entry["seconds"] == [0, 2, 3]


def test_the_same_seed_is_replaced_and_its_failure_forgotten(tmp_path):
    put(tmp_path, 1, failed="below the threshold")
    put(tmp_path, 1, metrics={"agreement": 0.9})
    entry = results.load("mix-and-match", tmp_path)["variants"]["best"]
    assert (entry["seeds"], entry["metrics"], entry["failed"], entry["reasons"]) == ([1], {"agreement": [0.9]}, [], {})


def test_a_replaced_lone_seed_may_bring_new_metrics(tmp_path):
    put(tmp_path, 1)
    put(tmp_path, 1, metrics={"kl": 3.0})
    assert results.load("mix-and-match", tmp_path)["variants"]["best"]["metrics"] == {"kl": [3.0]}


def test_a_failed_run_with_values_counts_in_the_mean_and_one_without_does_not(tmp_path):
    put(tmp_path, 0, metrics={"agreement": 0.4})
    put(tmp_path, 1, metrics={"agreement": 0.2}, failed="below the threshold")
    put(tmp_path, 2, metrics={}, failed="FloatingPointError: NaN in bce at step 7")
    entry = results.load("mix-and-match", tmp_path)["variants"]["best"]
    assert (entry["seeds"], entry["failed"]) == ([0, 1], [1, 2])
    assert entry["reasons"]["2"].startswith("FloatingPointError")
    assert results.value("mix-and-match/best/agreement", directory=tmp_path) == pytest.approx(0.3)
    assert results.value("mix-and-match/best/agreement", "failed", tmp_path) == 2
    put(tmp_path, 0, metrics={}, failed="RuntimeError: again")
    assert results.load("mix-and-match", tmp_path)["variants"]["best"]["seeds"] == [1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None, "0.5", True])
def test_a_metric_that_is_no_finite_number_is_refused_and_nothing_is_written(tmp_path, bad):
    with pytest.raises(results.ResultsError, match="agreement"):
        put(tmp_path, metrics={"agreement": bad})
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_neither_metrics_nor_a_reason_is_refused(tmp_path):
    with pytest.raises(results.ResultsError, match="why it failed"):
        put(tmp_path, metrics={})
    with pytest.raises(results.ResultsError, match="seconds"):
        put(tmp_path, metrics={"seconds": 1.0})


def test_metric_names_must_be_those_of_the_other_seeds(tmp_path):
    put(tmp_path, 0)
    with pytest.raises(results.ResultsError, match="kl"):
        put(tmp_path, 1, metrics={"agreement": 0.5, "kl": 1.0})
    put(tmp_path, 1, variant="other", metrics={"kl": 1.0})  # another variant has its own
    assert results.load("mix-and-match", tmp_path)["variants"]["best"]["seeds"] == [0]


def test_runs_of_another_configuration_are_not_mixed_in(tmp_path):
    put(tmp_path)
    before = (tmp_path / "mix-and-match.json").read_bytes()
    with pytest.raises(results.ResultsError, match=r"alpha: 64 recorded, 32 now.*another directory") as told:
        put(tmp_path, 1, config=Config(alpha=32))
    assert "--fresh" not in str(told.value)  # a command that drops the caller's options would destroy other results
    assert (tmp_path / "mix-and-match.json").read_bytes() == before
    put(tmp_path, 1, variant="alpha-32", config=Config(alpha=32))
    put(tmp_path, 1)  # the tuple in the dataclass compares equal to the list in the file


def test_runs_on_other_data_are_not_mixed_in(tmp_path):
    put(tmp_path)
    with pytest.raises(results.ResultsError, match=r"mnist \(aaaaaaaaaaaa\).*offline.*another directory") as told:
        put(tmp_path, 1, variant="other", data={"source": "offline", "hash": "b" * 64})
    assert "--fresh" not in str(told.value)


def test_starting_over_forgets_the_named_variants_alone(tmp_path):
    put(tmp_path)
    put(tmp_path, variant="other")
    results.start_over("mix-and-match", ["best"], tmp_path)
    document = results.load("mix-and-match", tmp_path)
    assert (list(document["variants"]), list(document["config"])) == (["other"], ["other"])
    put(tmp_path, config=Config(alpha=32))
    results.start_over("mix-and-match", ["best", "other"], tmp_path)
    assert not (tmp_path / "mix-and-match.json").exists()
    put(tmp_path, data={"source": "offline", "hash": "b" * 64})


def test_an_interrupted_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    put(tmp_path)
    before = (tmp_path / "mix-and-match.json").read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        put(tmp_path, 1)
    assert (tmp_path / "mix-and-match.json").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [".mix-and-match.json.lock", "mix-and-match.json"]


def test_starting_over_keeps_what_was_there_under_names_that_are_no_results(tmp_path):
    put(tmp_path)
    first = (tmp_path / "mix-and-match.json").read_bytes()
    assert results.start_over("mix-and-match", ["best"], tmp_path) == tmp_path / "mix-and-match.json.before-1"
    assert results.start_over("mix-and-match", ["best"], tmp_path) is None  # nothing is there
    put(tmp_path, 1)
    assert results.start_over("mix-and-match", ["other"], tmp_path) is None  # nothing of it is there
    assert results.start_over("mix-and-match", ["best"], tmp_path).name == "mix-and-match.json.before-2"
    assert (tmp_path / "mix-and-match.json.before-1").read_bytes() == first
    assert results.names(tmp_path) == [] and list(tmp_path.glob("*.json")) == []  # no results, no package data


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path):
    assert results.check_place("primer", tmp_path / "new" / "folder") == tmp_path / "new" / "folder" / "primer.json"
    assert os.listdir(tmp_path / "new" / "folder") == [".primer.json.lock"]
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(NotADirectoryError, match=r"'primer' cannot be written to .*file/primer.json .*is a file"):
        results.check_place("primer", tmp_path / "file")
    with pytest.raises(OSError, match="cannot be written"):
        put(tmp_path / "file")


def test_git_sees_neither_locks_nor_kept_results_in_the_books_own_folder():
    names = [".primer.json.lock", "primer.json.before-1"]
    command = ["git", "-c", "core.quotePath=false", "check-ignore", *(str(results.DIRECTORY / name) for name in names)]
    ignored = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True).stdout
    assert [Path(line).name for line in ignored.splitlines()] == names


def _as_another(work):
    """Whether some work succeeds in a process of another user; None, or its error in words."""

    def run(answer):
        os.setgroups([])
        os.setegid(12345)
        os.seteuid(12345)
        try:
            work()
            answer.put(None)
        except Exception as error:
            answer.put(f"{type(error).__name__}: {error}")

    codecs.lookup("ascii")  # loads what the other user may not be able to read
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    process = context.Process(target=run, args=(answer,))
    process.start()
    found = answer.get(timeout=60)
    process.join()
    return found


@pytest.fixture
def shared():
    """A folder that all users may write to, outside those of pytest, which are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


def test_the_lock_may_be_taken_by_all_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        put(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / ".mix-and-match.json.lock").stat().st_mode) == 0o666


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can be another user")
def test_a_second_user_of_the_same_folder_records_there_too(shared):
    put(shared, 0)
    assert _as_another(lambda: put(shared, 1)) is None
    put(shared, 2)
    assert results.load("mix-and-match", shared)["variants"]["best"]["seeds"] == [0, 1, 2]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can be another user")
def test_what_a_second_user_may_not_write_is_told_when_the_place_is_tried(shared):
    put(shared, 0)
    lock = shared / ".mix-and-match.json.lock"
    lock.chmod(0o600)
    told = _as_another(lambda: results.check_place("mix-and-match", shared))
    assert told.startswith("PermissionError") and "json.lock is not yours to write" in told and "chmod a+rw" in told
    lock.chmod(0o666)
    shared.chmod(0o1777)  # as /tmp: only a file's owner may replace it
    assert "only its owner may replace it" in _as_another(lambda: results.check_place("mix-and-match", shared))
    assert _as_another(lambda: results.check_place("primer", shared)) is None
    shared.chmod(0o755)
    assert "Permission denied" in _as_another(lambda: results.check_place("primer", shared))


def test_a_lock_that_is_held_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "PATIENCE", 0)
    with results._locked(tmp_path / "primer.json"), pytest.raises(TimeoutError, match="is in use: another process"):
        results.check_place("primer", tmp_path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"experiment": "primer", "config": [], "data": {}, "variants": {}}'])
def test_json_that_holds_no_results_is_named(text, tmp_path):
    (tmp_path / "primer.json").write_text(text, encoding="utf-8")
    for use in (results.load, lambda *place: results.start_over(place[0], ["untrained"], place[1])):
        with pytest.raises(results.ResultsError, match=r"primer.json .*put back a whole copy"):
            use("primer", tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "primer.json").write_text('{"experiment": ', encoding="utf-8")
    with pytest.raises(results.ResultsError, match=r"primer.json is damaged .*put back a whole copy"):
        results.load("primer", tmp_path)


def _entry(document):
    return document["variants"]["best"]


DAMAGES = {
    "another experiment's": (lambda d: d.update(experiment="air"), "it is of the experiment 'air'"),
    "no data": (lambda d: d.update(data={}), "data must have a source and a hash, both text"),
    "a hash of numbers": (lambda d: d["data"].update(hash=3), "data must have a source and a hash, both text"),
    "no configuration": (lambda d: d.update(config={}), "config must have the settings of 'best'"),
    "a variant in a list": (lambda d: d["variants"].update(best=[]), "'best' must be an object, it is an array"),
    **{
        f"no {name}": (lambda d, name=name: _entry(d).pop(name), f"'best': not in it, or of another type: {name}")
        for name in ("seeds", "metrics", "seconds", "hardware", "failed", "reasons")
    },
    "reasons by words": (lambda d: _entry(d).update(reasons={"x": "y"}), "reasons must have a text for each failed"),
    "no reason": (lambda d: _entry(d).update(failed=[1]), "reasons must have a text for each failed seed"),
    "a reason of numbers": (lambda d: _entry(d).update(failed=[1], reasons={"1": 2}), "reasons must have a text"),
    "seconds of text": (lambda d: _entry(d).update(seconds=["1.0"]), "seconds must be finite numbers"),
    "a huge metric": (lambda d: _entry(d)["metrics"].update(agreement=[10**400]), "agreement must be finite numbers"),
    "no number": (lambda d: _entry(d)["metrics"].update(agreement=[float("nan")]), "agreement must be finite numbers"),
    "a lone metric": (lambda d: _entry(d)["metrics"].update(agreement=0.5), "agreement must have one entry for each"),
    "hardware of numbers": (lambda d: _entry(d).update(hardware=[1]), "hardware must be text"),
    "more seeds than columns": (lambda d: _entry(d).update(seeds=[0, 1]), "agreement must have one entry for each of the 2"),
    "a seed twice": (lambda d: _entry(d).update(seeds=[0, 0]), "seeds must be whole numbers, each once"),
    "seeds of text": (lambda d: _entry(d).update(seeds=["0"]), "seeds must be whole numbers, each once"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_named_and_nothing_is_written(damage, tmp_path):
    put(tmp_path)
    path, (change, words) = tmp_path / "mix-and-match.json", DAMAGES[damage]
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")
    before = path.read_bytes()
    for use in (
        lambda: results.load_whole("mix-and-match", tmp_path),
        lambda: put(tmp_path, 1),
        lambda: results.start_over("mix-and-match", ["best"], tmp_path),
        lambda: results.value("mix-and-match/best/agreement", directory=tmp_path),
    ):
        with pytest.raises(results.ResultsError) as told:
            use()
        assert str(told.value).startswith(f"{path} is damaged (") and words in str(told.value)
    assert path.read_bytes() == before


def test_the_books_own_results_are_whole_to_the_last_entry():
    for name in results.names():
        assert results.load_whole(name) == results.load(name)


def test_a_file_that_cannot_be_read_is_named_with_what_to_do(tmp_path, monkeypatch):
    put(tmp_path)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(
        PermissionError, match=r"mix-and-match.json cannot be read \(Permission denied\): make it readable"
    ):
        results.load_whole("mix-and-match", tmp_path)


def test_a_lock_that_is_a_folder_is_told(tmp_path):
    (tmp_path / ".primer.json.lock").mkdir()
    with pytest.raises(
        IsADirectoryError, match=r"primer.json cannot be locked: .*\.primer\.json\.lock is a folder: remove it"
    ):
        results.check_place("primer", tmp_path)


def test_the_advice_of_a_missing_file_names_the_folder(tmp_path):
    with pytest.raises(results.ResultsError, match=r"reproduce air --results '\S+/my results'`$"):
        results.load("air", tmp_path / "my results")


def _record_three(directory, first):
    for seed in range(first, first + 3):
        put(directory, seed)


def test_processes_that_record_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_record_three, args=(tmp_path, 3 * i)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    entry = results.load("mix-and-match", tmp_path)["variants"]["best"]
    assert entry["seeds"] == list(range(12))
    assert entry["metrics"]["agreement"] == [0.5 + seed / 100 for seed in range(12)]


def test_statistics_over_the_seeds(tmp_path):
    for seed, agreement in enumerate((0.6, 0.7, 0.8)):
        put(tmp_path, seed, metrics={"agreement": agreement}, seconds=10 * seed)
    found = {s: results.value("mix-and-match/best/agreement", s, tmp_path) for s in results.STATISTICS}
    assert found == pytest.approx({"mean": 0.7, "std": 0.1, "min": 0.6, "max": 0.8, "count": 3, "failed": 0})
    assert results.value("mix-and-match/best/seconds", "max", tmp_path) == 20


def test_published_numbers_have_keys_of_their_own(tmp_path):
    published = {"mix-and-match": {"original": {"agreement": 0.474, "_source": "its checkpoint"}}}
    (tmp_path / "published.json").write_text(json.dumps(published))
    assert results.value("published/mix-and-match/original/agreement", directory=tmp_path) == 0.474
    assert results.names(tmp_path) == []
    with pytest.raises(results.ResultsError, match="no seeds"):
        results.value("published/mix-and-match/original/agreement", "std", tmp_path)
    with pytest.raises(results.ResultsError, match="there is: agreement"):
        results.value("published/mix-and-match/original/_source", directory=tmp_path)


@pytest.mark.parametrize(
    ("key", "statistic", "message"),
    [
        ("air/exact/elbo", "mean", "reproduce air"),
        ("mix-and-match/worst/agreement", "mean", "there is: best"),
        ("mix-and-match/best/agreed", "mean", "there is: agreement, seconds"),
        ("mix-and-match/best", "mean", "experiment/variant/metric"),
        ("mix-and-match/best/agreement", "median", "mean, std"),
        ("mix-and-match/best/agreement", "std", "record more seeds"),
        ("../etc/passwd", "mean", "lower-case"),
    ],
)
def test_a_wrong_key_says_what_there_is(tmp_path, key, statistic, message):
    put(tmp_path)
    with pytest.raises(results.ResultsError, match=message):
        results.value(key, statistic, tmp_path)


def test_data_and_hardware_in_words():
    class Split:
        def __init__(self, source, sha256):
            self.source, self.sha256 = source, sha256

    train, test = Split("mnist", "1"), Split("mnist", "2")
    assert results.data_of(train, test)["source"] == "mnist"
    assert results.data_of(train, test) != results.data_of(test, train)
    with pytest.raises(results.ResultsError, match="mnist, offline"):
        results.data_of(train, Split("offline", "2"))
    assert results.describe({"cpu": "Xeon", "threads": 2, "device": "cpu"}) == "Xeon, 2 threads"
    assert results.describe({"cpu": "H200", "threads": 2, "device": "cuda"}) == "H200 (cuda)"
    assert results.machine()["threads"] >= 1 and results.machine()["cpu"]


def test_the_results_in_the_package_are_whole():
    for name in results.names():
        document = results.load(name)
        assert document["experiment"] == name and document["data"]["source"] == "mnist"
        for variant, entry in document["variants"].items():
            assert set(document["config"]) >= {variant}
            assert entry["seeds"] == sorted(set(entry["seeds"])) and entry["failed"] == sorted(set(entry["failed"]))
            for column in (*entry["metrics"].values(), entry["seconds"], entry["hardware"]):
                assert len(column) == len(entry["seeds"])
        json.dumps(document, allow_nan=False)
