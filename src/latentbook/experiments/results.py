"""The store of measured results: one JSON an experiment, written one finished seed at a time and never by halves.

    {"experiment", "config": {variant: {...}}, "data": {"source", "hash"}, "versions", "hardware",
     "variants": {variant: {"seeds": [...], "metrics": {name: [one value a seed]}, "seconds": [...], "hardware": [...],
                            "failed": [seeds], "reasons": {seed: text}}}}

Every list in "metrics", and "seconds" and "hardware", is aligned with "seeds". A failed run that has values stays in
"seeds" and in every mean; a run that ended in an exception has none, so its seed stands in "failed" alone.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import platform
import re
import shlex
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from latentbook.files import check_writable, write_whole

DIRECTORY = Path(__file__).resolve().parent.parent / "results"
STATISTICS = ("mean", "std", "min", "max", "count", "failed")
PARTS = {"experiment": str, "config": dict, "data": dict, "variants": dict}  # without which a file is none of ours
COLUMNS = ("seconds", "hardware")  # one entry a seed, beside the metrics
PATIENCE = 60  # seconds to wait for the lock: it is held for as long as a small file takes to write


class ResultsError(ValueError):
    """A result that cannot be stored or found; the message says why and what to do."""


def path_of(experiment: str, directory: str | Path | None = None) -> Path:
    """Where an experiment's results stand. Raises ResultsError for a name that is not lower-case words and hyphens."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", experiment):
        raise ResultsError(f"an experiment's name is lower-case words joined by hyphens, got {experiment!r}")
    return _folder(directory) / f"{experiment}.json"


def check_place(experiment: str, directory: str | Path | None = None) -> Path:
    """Try now whether an experiment's runs may be recorded later, lock included; returns the file they will stand in.

    Raises OSError that says what to do where they may not, so that no run is trained in vain.
    """
    path = path_of(experiment, directory)
    with _locked(path):
        return path


def names(directory: str | Path | None = None) -> list[str]:
    """The experiments that have results, in alphabetical order."""
    return sorted(path.stem for path in _folder(directory).glob("*.json") if path.stem != "published")


def load(experiment: str, directory: str | Path | None = None) -> dict[str, Any]:
    """One experiment's results as they stand in its file. Raises ResultsError where there are none, or damaged ones."""
    path = path_of(experiment, directory)
    if not path.exists():
        have = ", ".join(names(directory)) or "none"
        there = "" if directory is None else f" --results {shlex.quote(str(directory))}"
        raise ResultsError(
            f"no results of {experiment!r} in {path.parent} (there are: {have}); "
            f"run `python -m latentbook reproduce {experiment}{there}`"
        )
    document = _read(path)
    if missing := [part for part in PARTS if not isinstance(document.get(part), PARTS[part])]:
        what = f"{path} holds no results (not in it, or of another type: {', '.join(missing)})"
        raise ResultsError(f"{what}: put back a whole copy, or use another directory")
    return document


def load_whole(
    experiment: str, directory: str | Path | None = None, missing: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What `load` gives, every entry of it looked at: what reads or adds to it can rely on the shape that this module tells.

    missing: the data of an empty document that stands for a file that is not there (None: that raises as in `load`).
    Raises ResultsError that names the file and its first damaged entry, OSError where it cannot be read.
    """
    path = path_of(experiment, directory)
    if missing is not None and not path.exists():
        return _empty(experiment, missing)
    try:
        document = load(experiment, directory)
    except OSError as error:
        what = f"{path} cannot be read ({error.strerror or error})"
        raise type(error)(f"{what}: make it readable, or use another directory") from error
    if damage := next(_damages(document, experiment), None):
        raise ResultsError(f"{path} is damaged ({damage}): put back a whole copy, or use another directory")
    return document


def _damages(document: Mapping[str, Any], experiment: str) -> Iterator[str]:
    """What in a document is not as this module tells."""
    if document["experiment"] != experiment:
        yield f"it is of the experiment {document['experiment']!r}"
    if not all(isinstance(document["data"].get(part), str) for part in ("source", "hash")):
        yield "data must have a source and a hash, both text"
    for variant, entry in document["variants"].items():
        if not isinstance(document["config"].get(variant), dict):
            yield f"config must have the settings of {variant!r}"
        if not isinstance(entry, dict):
            yield f"{variant!r} must be an object, it is {_json_kind(entry)}"
            continue
        yield from (f"{variant!r}: {damage}" for damage in _damages_of_entry(entry))


def _damages_of_entry(entry: Mapping[str, Any]) -> Iterator[str]:
    """What in a variant's entry is not as this module tells."""
    kinds = {name: dict if name in ("metrics", "reasons") else list for name in _no_runs()}
    if wrong := [name for name, kind in kinds.items() if not isinstance(entry.get(name), kind)]:
        yield f"not in it, or of another type: {', '.join(wrong)}"
        return
    for name in ("seeds", "failed"):
        if not all(type(seed) is int and seed >= 0 for seed in entry[name]) or len({*entry[name]}) < len(entry[name]):
            yield f"{name} must be whole numbers, each once"
    columns = {**entry["metrics"], **{name: entry[name] for name in COLUMNS}}
    for name, column in columns.items():
        if not isinstance(column, list) or len(column) != len(entry["seeds"]):
            yield f"{name} must have one entry for each of the {len(entry['seeds'])} seeds"
        elif name == "hardware" and not all(isinstance(text, str) for text in column):
            yield "hardware must be text"
        elif name != "hardware" and not all(_is_number(number) for number in column):
            yield f"{name} must be finite numbers"
    texts = entry["reasons"].values()
    if {*entry["reasons"]} != {*map(str, entry["failed"])} or not all(isinstance(text, str) for text in texts):
        yield "reasons must have a text for each failed seed, and no other"


def _json_kind(value: Any) -> str:
    """What JSON calls a value, with its article."""
    names = {dict: "an object", list: "an array", str: "text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number; a whole one may be too large for a float, and is then none."""
    return not isinstance(value, bool) and isinstance(value, int | float) and abs(value) <= sys.float_info.max


def record(
    experiment: str,
    variant: str,
    seed: int,
    config: Any,
    data: Mapping[str, str],
    metrics: Mapping[str, float] | None,
    seconds: float,
    failed: str | None = None,
    directory: str | Path | None = None,
    hardware: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Merge one finished run into the experiment's file, in the place of an earlier run of that seed; returns it all.

    config: a dataclass or mapping; data: {"source", "hash"}, see `data_of`; metrics: finite numbers by name, empty or
    None for a run that ended in an exception, which then needs `failed`, the reason. The file is locked and read again
    first, so that several processes may record at the same time. `check_place` tries all this before a run is trained.
    Raises ResultsError for values that are not finite numbers, for metric names other than the variant's seeds have,
    and for a configuration or data other than those recorded; OSError where the file cannot be written.
    """
    metrics, config, hardware = dict(metrics or {}), plain(config), dict(hardware or machine())
    check_metrics(metrics, failed)
    path = path_of(experiment, directory)
    with _locked(path):
        document = load_whole(experiment, directory, missing=data)
        if problem := conflict(document, variant, config, data):
            raise ResultsError(f"{problem}; record it in another directory, or as another variant")
        entry = document["variants"].setdefault(variant, _no_runs())
        rest = set(entry["seeds"]) - {seed}
        if metrics and rest and set(metrics) != set(entry["metrics"]):
            odd = ", ".join(sorted(set(metrics) ^ set(entry["metrics"])))
            raise ResultsError(
                f"seed {seed} of {variant!r} must have the metrics of its other seeds, they differ in: {odd}"
            )
        rows = {s: row for s, row in _rows(entry).items() if s != seed}
        reasons = {int(s): text for s, text in entry["reasons"].items() if int(s) != seed}
        if metrics:
            rows[seed] = {"seconds": round(seconds, 1), "hardware": describe(hardware), "metrics": metrics}
        if failed:
            reasons[seed] = str(failed)
        document["variants"][variant] = _columns(rows, reasons)
        document["config"][variant] = config
        document |= {"data": dict(data), "versions": versions(), "hardware": hardware}
        write_whole(path, json.dumps(document, indent=1, allow_nan=False) + "\n")
    return document


def start_over(experiment: str, variants: Sequence[str], directory: str | Path | None = None) -> Path | None:
    """Forget the recorded runs of some variants; the file goes when none is left.

    What stood in it is kept beside it, under a name that counts as no results; returns that file, None if nothing changed.
    """
    path = path_of(experiment, directory)
    with _locked(path):
        if not path.exists():
            return None
        before = load_whole(experiment, directory)
        document = without(before, variants)
        if document == before:
            return None
        kept = next(p for n in itertools.count(1) if not (p := path.with_name(f"{path.name}.before-{n}")).exists())
        write_whole(kept, path.read_bytes())
        if document["variants"]:
            write_whole(path, json.dumps(document, indent=1, allow_nan=False) + "\n")
        else:
            path.unlink()
    return kept


def without(document: Mapping[str, Any], variants: Sequence[str]) -> dict[str, Any]:
    """The document less some variants."""
    kept = {part: {k: v for k, v in document[part].items() if k not in variants} for part in ("config", "variants")}
    return {**document, **kept}


def conflict(document: Mapping[str, Any], variant: str, config: Any, data: Mapping[str, str]) -> str | None:
    """Why a run with this configuration and data may not stand beside those recorded; None where it may."""
    experiment, recorded = document["experiment"], document["config"].get(variant)
    if document["variants"] and dict(document["data"]) != dict(data):
        was, now = (f"{d['source']} ({d['hash'][:12]})" for d in (document["data"], data))
        return f"the results of {experiment!r} are on {was}, this run is on {now}"
    if recorded is not None and recorded != (config := plain(config)):
        changed = sorted(k for k in recorded.keys() | config.keys() if recorded.get(k) != config.get(k))
        text = ", ".join(f"{k}: {recorded.get(k)!r} recorded, {config.get(k)!r} now" for k in changed)
        return f"{variant!r} was recorded with other settings ({text})"
    return None


def value(key: str, statistic: str = "mean", directory: str | Path | None = None) -> float:
    """One number by its key, `experiment/variant/metric` or `published/experiment/system/metric`.

    statistic over the seeds: mean, std (of a sample: divided by n - 1), min, max, count (of seeds), failed (of runs).
    A published number has no seeds: only "mean" is allowed, and gives the number. `seconds` counts as a metric.
    Raises ResultsError for an unknown part of the key or statistic; says what there is.
    """
    parts = key.split("/")
    if statistic not in STATISTICS:
        raise ResultsError(f"statistic must be one of {', '.join(STATISTICS)}, got {statistic!r} (in {key!r})")
    if parts[0] == "published":
        if statistic != "mean":
            raise ResultsError(f"a published number has no seeds, so no {statistic!r} (in {key!r})")
        return float(_descend(published(directory), key, parts[1:]))
    if len(parts) != 3:
        raise ResultsError(f"a key is experiment/variant/metric or published/experiment/system/metric, got {key!r}")
    entry = _descend(load_whole(parts[0], directory)["variants"], key, parts[1:2])
    if statistic == "failed":
        return len(entry["failed"])
    numbers = _descend({**entry["metrics"], "seconds": entry["seconds"]}, key, parts[2:])
    return summarise(numbers, statistic, key)


def summarise(numbers: Sequence[float], statistic: str, key: str = "the numbers") -> float:
    """mean, std, min, max or count of one value a seed; std needs two."""
    if len(numbers) < (2 if statistic == "std" else 1):
        raise ResultsError(f"{key}: {statistic} of {len(numbers)} seed(s) says nothing; record more seeds")
    functions = {"mean": statistics.fmean, "std": statistics.stdev, "min": min, "max": max, "count": len}
    return functions[statistic](numbers)


def published(directory: str | Path | None = None) -> dict[str, Any]:
    """Others' figures, printed or measured on their code: {experiment: {system: {metric: value, "_source": text}}}."""
    path = _folder(directory) / "published.json"
    return _read(path) if path.exists() else {}


def data_of(*splits: Any) -> dict[str, str]:
    """The source of some splits and one hash over theirs, as stored beside results; ResultsError for mixed sources."""
    sources = {split.source for split in splits}
    if len(sources) != 1:
        raise ResultsError(f"the splits must come from one source, got {', '.join(sorted(sources))}")
    joined = "\n".join(split.sha256 for split in splits)
    return {"source": sources.pop(), "hash": hashlib.sha256(joined.encode()).hexdigest()}


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "latentbook")},
    }


def machine(device: str = "cpu") -> dict[str, Any]:
    """The processor (or accelerator), the number of threads torch uses now, and the device."""
    import torch

    name = torch.cuda.get_device_name(device) if str(device).startswith("cuda") else _processor()
    return {"cpu": name, "threads": torch.get_num_threads(), "device": str(device)}


def describe(hardware: Mapping[str, Any]) -> str:
    """One line for a table: `Intel Xeon at 2.5 GHz, 2 threads`; an accelerator by its name alone."""
    if str(hardware["device"]) != "cpu":
        return f"{hardware['cpu']} ({hardware['device']})"
    return f"{hardware['cpu']}, {hardware['threads']} thread{'s' * (hardware['threads'] != 1)}"


def plain(config: Any) -> dict[str, Any]:
    """A configuration as it comes back from JSON (tuples are lists), so that two can be compared."""
    return json.loads(json.dumps(asdict(config) if is_dataclass(config) else dict(config), allow_nan=False))


def check_metrics(metrics: Mapping[str, Any], failed: str | None) -> None:
    """Raises ResultsError unless all metrics are finite numbers, or there are none and a reason why."""
    if not metrics and not failed:
        raise ResultsError("a run without metrics must say why it failed")
    if clash := sorted(set(metrics) & {"seconds", "hardware"}):
        raise ResultsError(f"{', '.join(clash)} is kept for every run already; give the metric another name")
    for name, number in metrics.items():
        if not _is_number(number):
            raise ResultsError(
                f"metric {name!r} must be a finite number, got {number!r}; record the run as failed, without metrics"
            )


def _folder(directory: str | Path | None) -> Path:
    return DIRECTORY if directory is None else Path(directory)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise ValueError(f"a JSON object is expected, got {type(document).__name__}")
        return document
    except ValueError as error:
        raise ResultsError(f"{path} is damaged ({error}): put back a whole copy, or use another directory") from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a results file. It stands beside it, hidden: whoever may write there may lock, whoever came first."""
    check_writable(path, f"the results of {path.stem!r}")
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=PATIENCE, mode=0o666)
    try:
        if Path(lock.lock_file).is_dir():
            raise IsADirectoryError(f"{path} cannot be locked: {lock.lock_file} is a folder: remove it")
        lock.acquire()
    except Timeout:
        raise TimeoutError(f"{path} is in use: another process has held {lock.lock_file} for {PATIENCE} s") from None
    except PermissionError as error:
        raise PermissionError(
            f"{path} cannot be locked: {lock.lock_file} is not yours to write ({error.strerror}); "
            "its owner can allow it (chmod a+rw)"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _empty(experiment: str, data: Mapping[str, str]) -> dict[str, Any]:
    return {"experiment": experiment, "config": {}, "data": dict(data), "versions": {}, "hardware": {}, "variants": {}}


def _no_runs() -> dict[str, Any]:
    return _columns({}, {})


def _rows(entry: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """{seed: its seconds, hardware and metrics}, from the columns of the file."""
    return {
        seed: {name: entry[name][i] for name in COLUMNS} | {"metrics": {m: v[i] for m, v in entry["metrics"].items()}}
        for i, seed in enumerate(entry["seeds"])
    }


def _columns(rows: Mapping[int, dict[str, Any]], reasons: Mapping[int, str]) -> dict[str, Any]:
    """The file's columns, seeds in order."""
    seeds = sorted(rows)
    metric_names = list(rows[seeds[0]]["metrics"]) if seeds else []
    return {
        "seeds": seeds,
        "metrics": {name: [rows[s]["metrics"][name] for s in seeds] for name in metric_names},
        **{name: [rows[s][name] for s in seeds] for name in COLUMNS},
        "failed": sorted(reasons),
        "reasons": {str(s): reasons[s] for s in sorted(reasons)},
    }


def _descend(tree: Any, key: str, parts: Sequence[str]) -> Any:
    for part in parts:
        if not isinstance(tree, Mapping) or part not in tree or part.startswith("_"):
            have = ", ".join(k for k in tree if not k.startswith("_")) if isinstance(tree, Mapping) else "nothing below"
            raise ResultsError(f"no {part!r} in {key!r}; there is: {have or 'nothing'}")
        tree = tree[part]
    if isinstance(tree, str):
        raise ResultsError(f"{key!r} is a text, not a number")
    return tree


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
