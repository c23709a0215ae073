"""`python -m latentbook reproduce`: which runs are missing, making them here or on a cluster, each recorded as it ends."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from latentbook import experiments
from latentbook.experiments import results, workers

SEEDS = range(5)  # of every variant that is asked for by name, unless told otherwise
MOST_A_CORE, MOST_THREADS = 16, 4096  # threads of a run: more only get in each other's way; of a cluster's machine


@dataclass(frozen=True)
class Planned:
    """One run that is to be made."""

    experiment: str
    variant: str
    seed: int
    config: Any


@dataclass(frozen=True)
class Share:
    """What is asked of one experiment: the configuration of each variant, and its seeds."""

    experiment: str
    configs: Mapping[str, Any]
    seeds: Mapping[str, Sequence[int]]


def reproduce(options: argparse.Namespace) -> int:
    """Make the runs that the command line asks for; returns its exit code. options: as `latentbook.__main__` reads them."""
    if options.experiment is None and not options.all:
        _check_nothing_else(options)
        for name, module in experiments.EXPERIMENTS.items():
            print(f"{name}: {', '.join(module.VARIANTS)}")
        return 0
    _check_options(options)
    shares = [share_of(options, name) for name in (experiments.EXPERIMENTS if options.all else [options.experiment])]
    places = [tried(results.check_place, s.experiment, options.results, option="--results DIR") for s in shares]
    for share in shares:
        results.load_whole(share.experiment, options.results, missing={})
    if options.fresh and is_own(shares[0].experiment, options.results):
        _ask_before_starting_over(options, shares[0].configs, places[0])
    if options.all and not _is_missing(options, shares):
        return 0
    source = "offline" if options.offline else "mnist"
    with ExitStack() as stack:
        cluster = stack.enter_context(_cluster(options, source)) if options.cluster else None
        if not cluster:
            check_device(options.device)
        found = cluster.data if cluster else results.data_of(*(digits(options, s, source) for s in ("train", "test")))
        planned = [run for share in shares for run in waiting(options, share, found)]
        clock = Clock(planned, options.results, like_the_book=not (options.set or options.offline))
        if options.all:  # the longest first, so that at the end no worker waits long for another
            planned = sorted(planned, key=lambda run: -clock.expected[run])
        clock.at_once = max(1, min(cluster.count if cluster else options.jobs or 1, len(planned)))
        threads = options.threads or max(1, workers.cores() // clock.at_once)
        name = f"{len(shares)} experiments" if options.all else options.experiment
        if cluster:
            where = ", ".join(f"{number} x {cpu}" for cpu, number in cluster.hardware.items())
            print(f"{name}: {len(planned)} run(s), {clock.at_once} at a time on {cluster.count} worker(s) ({where})")
        else:
            print(f"{name}: {len(planned)} run(s), {clock.at_once} at a time, {threads} thread(s) each")
        print(f"each is recorded in {places[0].parent if options.all else places[0]} as it ends")
        if not options.all:
            print(f"a run counts as failed for {experiment_named(options.experiment).THRESHOLD_TEXT}")
        if planned and clock.known:
            print(f"by the seconds recorded of such runs this takes about {in_words(clock.left())}")
        sys.stdout.flush()
        pool = cluster or stack.enter_context(workers.Workers(clock.at_once, threads))
        progress = not cluster and clock.at_once == 1
        rest = (options.data, source, options.device, progress)
        jobs = {pool.submit(workers.run_one, r.experiment, r.variant, r.seed, r.config, *rest): r for r in planned}
        lacking = Recorder(options, shares, found, clock).record_all(pool, jobs)
    if options.all:
        print(table(shares, options.results))
    else:
        _print_measures(options.experiment, list(shares[0].configs), options.results)
    return 1 if lacking else 0


class Recorder:
    """Records runs as they end, and says so."""

    def __init__(self, options: argparse.Namespace, shares: list[Share], found: dict[str, str], clock: Clock):
        self.options, self.found, self.clock = options, found, clock
        self.forget = shares[0] if options.fresh else None
        self.done = self.lacking = 0  # lacking: runs without values

    def record_all(self, pool: Any, jobs: dict[Future, Planned]) -> int:
        """Record every run in the order in which they end; returns how many have no values.

        Interrupted, or where one cannot be recorded, it records what else has ended by then.
        """
        left = set(jobs)
        try:
            for job in pool.completed(jobs):
                try:
                    self.record(pool, job, jobs[job])
                except Exception:
                    left.discard(job)  # it was shown; a second time it would fare no better
                    raise
                left.discard(job)
        except BaseException:
            for job in left:
                if job.done() and not job.cancelled() and not job.exception():
                    with suppress(Exception):  # what is told is the first
                        self.record(pool, job, jobs[job])
            raise
        return self.lacking

    def record(self, pool: Any, job: Future, planned: Planned) -> None:
        """Record one run. Raises ValueError where it was refused; where it cannot be recorded, it is shown first."""
        self.done += 1
        name = f"{planned.variant} seed {planned.seed}"
        name = f"{planned.experiment} {name}" if self.options.all else name
        try:
            run = dict(pool.outcome(job))
        except workers.LostRun as error:
            self.lacking += 1
            self.clock.waiting.discard(planned)
            print(f"{self._so_far()} {name}: not recorded: {error}", file=sys.stderr, flush=True)
            return
        if refused := run.pop("refused", None):
            name = name if self.options.all else planned.variant
            raise ValueError(f"{name} cannot be run like this, and nothing was recorded of it: {refused}")
        self.clock.ended(planned, run.pop("took"))
        try:
            if self.forget:  # not before there is something to put in their place
                if kept := results.start_over(planned.experiment, list(self.forget.configs), self.options.results):
                    print(f"what was recorded before is kept in {kept}", flush=True)
                self.forget = None
            key, about = (planned.experiment, planned.variant, planned.seed), (planned.config, self.found)
            results.record(*key, *about, directory=self.options.results, **run)
        except Exception:  # whatever it is: the training took long
            print(f"{name} was not recorded: {json.dumps(run, default=str)}", file=sys.stderr, flush=True)
            raise
        self.lacking += not run["metrics"]
        state = f"failed: {run['failed']}" if run["failed"] else "done"
        print(f"{self._so_far()} {name}: {state} ({run['seconds']:.0f} s)", flush=True)

    def _so_far(self) -> str:
        left = f", {in_words(self.clock.left())} left" if self.clock.waiting else ""
        return f"[{self.done}/{self.clock.total}, {self.clock.minutes():.1f} min{left}]"


class Clock:
    """How long is left, by the seconds recorded of the same variants and by how long the runs of this command take."""

    def __init__(self, planned: Sequence[Planned], directory: str | None, like_the_book: bool = True):
        folders = (directory, None) if like_the_book else (directory,)
        found = {run: _seconds(run, folders) for run in planned}
        known = [seconds for seconds in found.values() if seconds is not None]
        self.known = bool(known)
        usual = sum(known) / len(known) if known else 1.0
        self.expected = {run: usual if seconds is None else seconds for run, seconds in found.items()}
        self.waiting, self.total, self.at_once = set(planned), len(planned), 1
        self.start, self.took, self.awaited = time.perf_counter(), 0.0, 0.0

    def ended(self, run: Planned, took: float) -> None:
        """Note a run that has taken so many seconds."""
        self.waiting.discard(run)
        self.took, self.awaited = self.took + took, self.awaited + self.expected[run]

    def left(self) -> float:
        """Seconds until the last run will have ended: as many at once as there are places, no less than the longest takes."""
        each = [self.expected[run] for run in self.waiting]
        factor = self.took / self.awaited if self.awaited else 1.0
        return factor * max(sum(each) / self.at_once, max(each, default=0.0))

    def minutes(self) -> float:
        """Minutes since the start."""
        return (time.perf_counter() - self.start) / 60


def _seconds(run: Planned, folders: Sequence[str | None]) -> float | None:
    """How long such a run took on average, in the first of some folders of results that has it; None: in none."""
    for folder in folders:
        with suppress(results.ResultsError):  # the book's own, beside others: nothing is recorded there
            entry = results.load_whole(run.experiment, folder, missing={})["variants"].get(run.variant)
            if entry and entry["seconds"]:
                return results.summarise(entry["seconds"], "mean")
    return None


def in_words(seconds: float) -> str:
    """A duration to about one part in ten: `40 s`, `12 min`, `3.2 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


# What is asked, and what of it is there


def share_of(options: argparse.Namespace, name: str) -> Share:
    """What the options ask of one experiment. Raises ValueError for an unknown variant and settings that cannot be."""
    module = experiment_named(name)
    if unknown := [variant for variant in options.variants if variant not in module.VARIANTS]:
        raise ValueError(f"no variant {', '.join(unknown)}; {name} has: {', '.join(module.VARIANTS)}")
    if is_own(name, options.results) and (options.set or options.offline):
        needs = "--set and --offline need --results DIR, a folder other than the book's own"
        raise ValueError(f"{needs}: the book's results are the book's settings on MNIST")
    configs, asked = _configs(options, module), sorted(set(options.seeds or ()))
    seeds = {v: asked or (range(module.SEEDS[v]) if options.all else SEEDS) for v in configs}
    return Share(name, configs, seeds)


def waiting(options: argparse.Namespace, share: Share, found: dict[str, str]) -> list[Planned]:
    """The runs that are to be made, one seed of every variant before the next seed. Raises ResultsError for a clash."""
    every = sorted({seed for seeds in share.seeds.values() for seed in seeds})
    wanted = [Planned(share.experiment, v, seed, share.configs[v]) for seed in every for v in share.configs]
    wanted = [run for run in wanted if run.seed in share.seeds[run.variant]]
    if not results.path_of(share.experiment, options.results).exists():
        return wanted
    document = results.load_whole(share.experiment, options.results)
    if options.fresh:
        document = results.without(document, list(share.configs))
    _refuse_clashes(options, share, document, found)
    there = {v: _recorded(document, v, tried_again=not options.all) for v in share.configs}
    for variant, seeds in there.items():
        if not options.all and (left_out := [str(seed) for seed in share.seeds[variant] if seed in seeds]):
            print(f"{variant}: recorded already and left out: seed {', '.join(left_out)}")
    return [run for run in wanted if run.seed not in there[run.variant]]


def _recorded(document: Mapping[str, Any], variant: str, tried_again: bool) -> set[int]:
    """The seeds of a variant that need not be made; a run that ended in an exception may be tried again."""
    entry = document["variants"].get(variant) or {"seeds": [], "failed": []}
    return {*entry["seeds"], *(() if tried_again else entry["failed"])}


def table(shares: Sequence[Share], directory: str | None) -> str:
    """How many seeds of each variant are done, failed (for its experiment's reason, or by an exception) and missing."""
    widest = max(len(variant) for share in shares for variant in share.configs) + 2

    def line(name: str, numbers: Sequence[Any]) -> str:
        return f"{name:{widest}}" + "".join(f"{number or '-':>8}" for number in numbers)

    def sums(rows: Sequence[Sequence[int]]) -> list[int]:
        return [sum(column) for column in zip(*rows, strict=True)]

    lines, totals = [line("", ("done", "failed", "missing"))], []
    for share in shares:
        document = results.load_whole(share.experiment, directory, missing={})
        rows = {variant: _counts(document, variant, seeds) for variant, seeds in share.seeds.items()}
        totals.append(sums(list(rows.values())))
        lines += [line(share.experiment, totals[-1]), *(line(f"  {variant}", row) for variant, row in rows.items())]
    return "\n".join([*lines, line("all", sums(totals))])


def _counts(document: Mapping[str, Any], variant: str, seeds: Sequence[int]) -> tuple[int, int, int]:
    """How many seeds of a variant are recorded and well, recorded as failed, and of those planned not there."""
    there = _recorded(document, variant, tried_again=False)
    failed = len(document["variants"].get(variant, {"failed": ()})["failed"])
    return len(there) - failed, failed, len(set(seeds) - there)


def _is_missing(options: argparse.Namespace, shares: Sequence[Share]) -> bool:
    """Print the table; whether any run is missing. What stands there is checked first, as far as that needs no digits."""
    missing = 0
    for share in shares:
        data = results.load_whole(share.experiment, options.results, missing={})["data"]
        missing += len(waiting(options, share, data))
    print(table(shares, options.results))
    print(f"{missing} run(s) are missing" if missing else "nothing is missing", flush=True)
    return missing > 0


def _check_nothing_else(options: argparse.Namespace) -> None:
    """Raises ValueError for options beside which no experiment is named: they would do nothing."""
    odd = [word.partition("=")[0] for word in options.given if len(word) > 2 and word.startswith("--")]
    if odd := [word for word in odd if not "--debug".startswith(word)]:
        names = ", ".join(experiments.EXPERIMENTS)
        raise ValueError(f"{', '.join(odd)} of which experiment? name one of {names}, or add --all")


def _check_options(options: argparse.Namespace) -> None:
    """Raises ValueError for options that do not go together."""
    given = {
        "EXPERIMENT": options.experiment is not None,
        "--variants": options.variants,
        "--fresh": options.fresh,
    }
    if options.all and (odd := [name for name, there in given.items() if there]):
        raise ValueError(f"--all makes what is missing of every experiment: leave out {', '.join(odd)}")
    if options.cluster and options.jobs:
        raise ValueError("--jobs is for this machine; a --cluster makes as many runs at a time as it has workers")
    most = MOST_THREADS if options.cluster else workers.cores() * MOST_A_CORE
    if options.threads and options.threads > most:
        here = "" if options.cluster else f", {MOST_A_CORE} for each core of this machine"
        raise ValueError(f"--threads must be at most {most}{here}, got {options.threads}")


def _cluster(options: argparse.Namespace, source: str) -> Any:
    """The workers of the cluster that is asked for, not yet connected."""
    from latentbook.experiments.cluster import Cluster

    return Cluster(options.cluster, options.data, source, options.device, options.download, options.threads)


def _configs(options: argparse.Namespace, module: ModuleType) -> dict[str, Any]:
    """The configuration of each variant, with what --set asks for. Raises ValueError that names all that is wrong."""
    configs = {name: module.VARIANTS[name] for name in options.variants or module.VARIANTS}
    settings = dict(options.set)
    if len(settings) < len(options.set):
        names = [name for name, _ in options.set]
        twice = ", ".join(sorted({name for name in names if names.count(name) > 1}))
        raise ValueError(f"--set names {twice} more than once: give each setting one value")
    if not settings:
        return configs
    from latentbook.experiments.run import check_config
    from latentbook.experiments.settings import with_settings

    problems: dict[str, list[str]] = {}
    for variant in configs:
        try:
            configs[variant] = with_settings(configs[variant], settings)
            check_config(module, configs[variant])
        except ValueError as error:
            problems.setdefault(str(error), []).append(variant)
    if problems:
        told = (f"{text} (for {_list(variants, len(configs))})" for text, variants in problems.items())
        raise ValueError(f"--set: {'; '.join(told)}")
    return configs


def _refuse_clashes(options: argparse.Namespace, share: Share, document: dict[str, Any], found: dict[str, str]) -> None:
    """Raises ResultsError where runs may not stand beside those recorded, with the command that starts over no more than that."""
    clashes = {v: text for v, c in share.configs.items() if (text := results.conflict(document, v, c, found))}
    if not clashes:
        return
    elsewhere = "name another --results DIR" if options.results else "record elsewhere with --results DIR"
    told, over = dict.fromkeys(text for text in clashes.values()), list(clashes)
    if document["data"] != found:  # this concerns all that is recorded: other data never stand side by side
        there = {*document["variants"], *clashes}
        over = [name for name in experiment_named(share.experiment).VARIANTS if name in there]
    words = _without_option(options.given, "--variants")
    words = [share.experiment if options.all and word in ("--all", "--al") else word for word in words]
    command = [word for word in words if word != "--fresh"]
    command = shlex.join(["python", "-m", "latentbook", *command, "--fresh", "--variants", ",".join(over)])
    raise results.ResultsError(
        f"{'; '.join(told)}; {elsewhere}, or start over and keep what was there beside it: `{command}`"
    )


def _without_option(arguments: list[str], option: str) -> list[str]:
    """A command's words less an option and its value, in every way that argparse reads: --name V, --name=V, --na V."""
    kept, skip = [], False
    for word in arguments:
        name, equals, _ = word.partition("=")
        if skip:
            skip = False
        elif len(name) > 2 and option.startswith(name):
            skip = not equals
        else:
            kept.append(word)
    return kept


def _ask_before_starting_over(options: argparse.Namespace, configs: Mapping[str, Any], place: Path) -> None:
    """Have it confirmed that runs in the book's own results are forgotten. Raises ValueError where it is not."""
    if options.yes or not place.exists():
        return
    there = [name for name in results.load_whole(options.experiment, options.results)["variants"] if name in configs]
    if not there:
        return
    what = f"--fresh starts {_list(there, 0)} over in the book's own results, {place}"
    if sys.stdin is None or not sys.stdin.isatty():
        raise ValueError(f"{what}: add --yes if that is meant, or record elsewhere with --results DIR")
    try:
        answer = input(f"{what}; what was there is kept beside it. Go on? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise ValueError("nothing was changed; --results DIR records elsewhere")


def _print_measures(experiment: str, variants: list[str], directory: str | None) -> None:
    """Mean and standard deviation over the recorded seeds, one block a variant."""
    document = results.load_whole(experiment, directory)
    for variant in (v for v in variants if v in document["variants"]):
        entry = document["variants"][variant]
        print(f"\n{variant}: {len(entry['seeds'])} seed(s), {len(entry['failed'])} failed")
        for metric, values in {**entry["metrics"], "seconds": entry["seconds"]}.items():
            if values:
                spread = f" ± {results.summarise(values, 'std'):.3g}" if len(values) > 1 else ""
                print(f"  {metric:28} {results.summarise(values, 'mean'):.4g}{spread}")


def _list(variants: list[str], of: int) -> str:
    """The names of some variants in a message."""
    return "every variant" if len(variants) == of > 1 else ", ".join(variants)


# What the other commands ask as well


def experiment_named(name: str) -> ModuleType:
    """An experiment's module. Raises ValueError with those that there are."""
    if name not in experiments.EXPERIMENTS:
        raise ValueError(f"no experiment {name!r}; there are: {', '.join(experiments.EXPERIMENTS)}")
    return experiments.EXPERIMENTS[name]


def is_own(experiment: str, directory: str | None) -> bool:
    """Whether results would be recorded among the book's own, however that folder is written."""
    return same(results.path_of(experiment, directory), results.path_of(experiment))


def same(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same place, however they are written."""
    return one.resolve() == other.resolve()


def tried(try_place: Any, *arguments: Any, option: str) -> Any:
    """What `try_place` returns. Where writing will fail, raises its OSError with the option that names another place."""
    try:
        return try_place(*arguments)
    except OSError as error:
        raise type(error)(f"{error}; {option} names one") from error


def digits(options: argparse.Namespace, split: str, source: str = "auto") -> Any:
    """A split of the digits that the options ask for, with messages that name these options."""
    from latentbook.data import digits as data

    asked = {"root": options.data, "download": options.download, "wording": data.COMMAND}
    return data.load_digits(split, source=source, **asked)


def check_device(device: str) -> None:
    """Raises ValueError for a device that torch does not know or this machine has not."""
    from latentbook import checks

    checks.device("--device", device)
