"""The command line: `python -m latentbook --help`. Heavy imports wait inside the commands, so that help is instant."""

from __future__ import annotations

import argparse
import ast
import codecs
import functools
import json
import multiprocessing
import os
import re
import shlex
import signal
import sys
import threading
import time
import traceback
import warnings
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from latentbook import __version__
from latentbook.profiles import NAMES as PROFILES

DESCRIPTION = """\
Run and check what stands behind the book: train every seed of an experiment, execute the notebooks,
keep the numbers in the text equal to the measured ones."""

EXAMPLES = """\
examples:
  python -m latentbook data                                      which digits would be used, and how to get MNIST
  python -m latentbook reproduce                                 the experiments and their variants
  python -m latentbook reproduce mix-and-match --seeds 0-4       train and measure five seeds of every variant
  python -m latentbook reproduce primer --seeds 0 --set epochs=2 --results try
                                                                 try another setting, away from the book's results
  python -m latentbook weights mix-and-match                     train the states that the book ships (seed 0) again
  python -m latentbook bench mix-and-match --json                time a training step against a plainly written one
  python -m latentbook execute 01                                run a chapter's notebook and keep its outputs
  python -m latentbook numbers --check                           do the texts agree with the results?

exit codes:
  0  all went well        1  a run failed, or a check found something
  2  a mistake in what was asked, or data that cannot be found      130  interrupted; what was finished is kept"""


MEANINGS = {"matmul_share": " of this machine's matrix-product peak, over our whole step"}  # after a bench's number
MOST_SEEDS = 1000  # of one command
LARGEST_SEED = 2**31 - 1


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    _print_any_sign()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = parser().parse_args(arguments)
    options.given = arguments
    try:
        return options.command(options)
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to print goes nowhere
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; what was finished is kept", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        extra = _extra_of(error.name or "")
        if options.debug or not extra:
            raise
        needs = f"`{options.name}` needs {error.name}, which is not installed"
        how = f'pip install "latentbook[{extra}]", or in a checkout: pip install -e ".[{extra}]"'
        print(f"latentbook: {needs}; {how}", file=sys.stderr)
        return 2
    except (ValueError, OSError, RuntimeError, ArithmeticError) as error:
        if options.debug:
            raise
        print(f"latentbook: {error}", file=sys.stderr)
        return 1 if isinstance(error, RuntimeError | ArithmeticError) else 2


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    whole = argparse.ArgumentParser(
        prog="python -m latentbook",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=28),
    )
    whole.add_argument("--version", action="version", version=f"latentbook {__version__}")
    whole.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(function: Any, name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=function.__doc__)
        sub.set_defaults(command=function, name=name)
        return sub

    def on_data(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--data", metavar="ROOT", help="folder of MNIST/raw (default: LATENTBOOK_DATA, the cache)")
        sub.add_argument("--download", action="store_true", help="fetch MNIST into that folder if it is not there")

    def on_device(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")

    sub = command(reproduce, "reproduce", "train and measure the seeds of an experiment")
    sub.add_argument("experiment", nargs="?", help="its name; without one, the experiments are listed")
    sub.add_argument("--seeds", type=seeds, action="extend", metavar="0-4,7", help="which seeds (default: 0-4)")
    text = "which variants (default: all)"
    sub.add_argument("--variants", type=words, action="extend", default=[], metavar="A,B", help=text)
    sub.add_argument("--jobs", type=positive, default=1, metavar="N", help="runs at the same time (default: 1)")
    text = "start these variants over; what was recorded of them is kept beside the results"
    sub.add_argument("--fresh", action="store_true", help=text)
    sub.add_argument("--yes", action="store_true", help="do not ask before the book's own results are started over")
    sub.add_argument("--results", type=named, metavar="DIR", help="record there instead of in the book's results")
    text = "another setting, as in model.alpha=32; needs --results"
    sub.add_argument("--set", type=setting, action="append", default=[], metavar="NAME=VALUE", help=text)
    sub.add_argument("--offline", action="store_true", help="scikit-learn's digits instead of MNIST; needs --results")
    on_data(sub)
    on_device(sub)

    sub = command(bench, "bench", "time a training step against a plainly written one")
    sub.add_argument("experiment", help="its name")
    sub.add_argument("--json", action="store_true", help="print one JSON object")
    on_device(sub)

    sub = command(train_judge, "train-judge", "train the independent judge again")
    sub.add_argument("--seed", type=seed, default=0)
    sub.add_argument(
        "--output", type=named, metavar="FILE", help="where to save the weights (default: where the book finds them)"
    )
    on_data(sub)
    on_device(sub)

    sub = command(weights, "weights", "train the shipped states of an experiment again")
    sub.add_argument("experiment", help="its name")
    text = "which of its states (default: all)"
    sub.add_argument("--variants", type=words, action="extend", default=[], metavar="A,B", help=text)
    sub.add_argument("--output", type=named, metavar="DIR", help="save there (default: where the book finds them)")
    sub.add_argument("--offline", action="store_true", help="scikit-learn's digits instead of MNIST; needs --output")
    on_data(sub)
    on_device(sub)

    sub = command(numbers, "numbers", "write the measured numbers into the texts")
    sub.add_argument("--check", action="store_true", help="change nothing; tell what does not agree")

    sub = command(execute, "execute", "run notebooks and keep their outputs")
    sub.add_argument("chapters", nargs="*", metavar="CHAPTER", help="such as 01 (default: all)")
    sub.add_argument("--profile", choices=PROFILES, default="full", help="default: full")
    sub.add_argument("--allow-offline", action="store_true", help="try a full run without MNIST, kept elsewhere")
    on_data(sub)

    sub = command(sync, "sync", "copy edits of the text into the executed notebooks")
    sub.add_argument("chapters", nargs="*", metavar="CHAPTER", help="such as 01 (default: all)")
    sub = command(tidy, "tidy", "lay out the code in the notebooks' sources")
    sub.add_argument("--check", action="store_true", help="change nothing; exit 1 where something would change")
    command(check, "check", "are the notebooks in step, fresh and whole?")
    on_data(command(data, "data", "which digits would be used, and how to get MNIST"))
    return whole


def reproduce(options: argparse.Namespace) -> int:
    """Train and measure the seeds of an experiment, each recorded as it ends. Seeds recorded already with the same
    configuration are left out; an interrupted command can simply be given again."""
    from latentbook.experiments import EXPERIMENTS, results

    if options.experiment is None:
        for name, module in EXPERIMENTS.items():
            print(f"{name}: {', '.join(module.VARIANTS)}")
        return 0
    module = _experiment(options.experiment)
    if unknown := [name for name in options.variants if name not in module.VARIANTS]:
        raise ValueError(f"no variant {', '.join(unknown)}; {options.experiment} has: {', '.join(module.VARIANTS)}")
    options.seeds = sorted(set(options.seeds or seeds("0-4")))
    own = _same(results.path_of(options.experiment, options.results), results.path_of(options.experiment))
    if own and (options.set or options.offline):
        needs = "--set and --offline need --results DIR, a folder other than the book's own"
        raise ValueError(f"{needs}: the book's results are the book's settings on MNIST")
    configs = _configs(options, module)
    place = _tried(results.check_place, options.experiment, options.results, option="--results DIR")
    if own and options.fresh:
        _ask_before_starting_over(options, configs, place)
    _check_device(options.device)
    source = "offline" if options.offline else "mnist"
    found = results.data_of(*(_digits(options, split, source) for split in ("train", "test")))
    waiting = _waiting(options, configs, found)
    at_once = max(1, min(options.jobs, len(waiting)))
    threads = max(1, _cores() // at_once)
    print(f"{options.experiment}: {len(waiting)} run(s), {at_once} at a time, {threads} thread(s) each")
    print(f"each is recorded in {place} as it ends")
    print(f"a run counts as failed for {module.THRESHOLD_TEXT}", flush=True)
    crashed, start, forget = 0, time.perf_counter(), options.fresh
    with _Workers(at_once, threads) as pool:
        rest = (options.data, source, options.device, at_once == 1)
        jobs = {pool.submit(_run_one, options.experiment, v, seed, configs[v], *rest): (v, seed) for v, seed in waiting}
        for done, job in enumerate(as_completed(jobs), 1):
            (variant, seed), run = jobs[job], _outcome(job)
            if refused := run.pop("refused", None):
                raise ValueError(f"{variant} cannot be run like this, and nothing was recorded of it: {refused}")
            if forget:  # not before there is something to put in their place
                if kept := results.start_over(options.experiment, list(configs), options.results):
                    print(f"what was recorded before is kept in {kept}", flush=True)
                forget = False
            try:
                results.record(
                    options.experiment, variant, seed, configs[variant], found, directory=options.results, **run
                )
            except (OSError, ValueError):
                print(f"{variant} seed {seed} was not recorded: {json.dumps(run)}", file=sys.stderr)
                raise
            crashed += not run["metrics"]
            state = f"failed: {run['failed']}" if run["failed"] else "done"
            so_far = f"[{done}/{len(waiting)}, {(time.perf_counter() - start) / 60:.1f} min]"
            print(f"{so_far} {variant} seed {seed}: {state} ({run['seconds']:.0f} s)", flush=True)
    _print_table(options.experiment, list(configs), options.results)
    return 1 if crashed else 0


def bench(options: argparse.Namespace) -> int:
    """Time our whole training step, batch assembly included, against a plainly written one in the same process."""
    module = _experiment(options.experiment)
    if not hasattr(module, "bench"):
        raise ValueError(f"{options.experiment} has nothing to time")
    _check_device(options.device)
    import torch

    say = functools.partial(print, file=sys.stderr, flush=True)
    say(f"{options.experiment}: our code and a plainly written one do the same work, in turns, in this process,")
    say(f"on {options.device} with {torch.get_num_threads()} thread(s); this takes seconds to minutes ...")
    start = time.perf_counter()
    found = module.bench(device=options.device)
    say(f"timed in {time.perf_counter() - start:.0f} s")
    print(json.dumps(found) if options.json else _bench_in_words(found))
    return 0


def train_judge(options: argparse.Namespace) -> int:
    """Train the independent judge, a small convnet unlike any chapter's model, and save its weights."""
    from latentbook.experiments import judge

    place = _tried(judge.check_place, options.output, option="--output FILE")
    _check_device(options.device)
    train, test = (_digits(options, split, "mnist") for split in ("train", "test"))
    _, accuracy = judge.train_judge(train, test, seed=options.seed, device=options.device, path=place)
    print(f"test accuracy {accuracy:.2%}; written to {place}")
    return 0


def weights(options: argparse.Namespace) -> int:
    """Train seed 0 of the variants whose trained state is shipped with the book, as their configuration says, and save
    each state as its training ends."""
    from latentbook.experiments import EXPERIMENTS
    from latentbook.files import check_writable

    module = _experiment(options.experiment)
    if not hasattr(module, "STATES"):
        having = ", ".join(name for name, other in EXPERIMENTS.items() if hasattr(other, "STATES"))
        raise ValueError(f"{options.experiment} ships no trained state; those that do: {having}")
    if unknown := [name for name in options.variants if name not in module.STATES]:
        shipped = ", ".join(module.STATES)
        raise ValueError(f"no state of {', '.join(unknown)} is shipped; {options.experiment} ships: {shipped}")
    wanted = list(dict.fromkeys(options.variants or module.STATES))
    if options.offline and _same(module.state_path(wanted[0], options.output), module.state_path(wanted[0])):
        needs = "--offline needs --output DIR, a folder other than the book's own"
        raise ValueError(f"{needs}: the book's states are trained on MNIST")
    for variant in wanted:
        place = module.state_path(variant, options.output)
        _tried(check_writable, place, f"the state of {variant!r}", option="--output DIR")
    _check_device(options.device)
    digits = _digits(options, "train", "offline" if options.offline else "mnist")
    for variant in wanted:
        print(f"{variant}: training seed 0", flush=True)
        path = module.save_state(variant, digits, device=options.device, directory=options.output)
        print(f"{variant}: written to {path}", flush=True)
    return 0


def numbers(options: argparse.Namespace) -> int:
    """Write the measured numbers into notebooks/*.md, book/*.md and README.md (run `sync` after it), and tell what no
    marker ties to the results."""
    from latentbook import numbers as prose
    from latentbook.files import write_whole

    texts, found = prose.sources(), 0
    if not texts:
        raise ValueError("no notebooks/*.md, book/*.md or README.md here; run this in the project's folder")
    for path in texts:
        text = path.read_text(encoding="utf-8")
        if not options.check and (fresh := prose.refresh(text)) != text:
            write_whole(path, fresh)
            print(f"{path}: refreshed")
            text = fresh
        problems = prose.drift(text) + prose.typed_by_hand(text)
        for problem in problems:
            print(f"{path}, {problem}")
        found += len(problems)
    print(f"{len(texts)} texts, {found} problem(s)")
    return 1 if found else 0


def execute(options: argparse.Namespace) -> int:
    """Run notebooks from their sources. A full run on MNIST is written beside the source with its provenance, any other
    under _build/executed/. A run that fails writes nothing."""
    from latentbook import notebooks

    _check_installed("jupytext", "nbclient", "nbformat", "ipykernel")  # not after MNIST was fetched
    for source in notebooks.sources(chapters=options.chapters):
        print(f"{source.stem}: running, profile {options.profile}", flush=True)
        say = functools.partial(print, flush=True)
        data = {"data": options.data, "allow_offline": options.allow_offline, "download": options.download}
        target = notebooks.execute(source, options.profile, **data, report=say)
        print(f"{source.stem}: written to {target}")
    return 0


def sync(options: argparse.Namespace) -> int:
    """Copy edits of the text into the executed notebooks, keeping their outputs; code needs a new execution."""
    from latentbook import notebooks

    changed, problems = notebooks.sync(chapters=options.chapters)
    for line in [f"{path}: text copied" for path in changed] + problems:
        print(line)
    print(f"{len(changed)} notebook(s) changed, {len(problems)} to execute")
    return 1 if problems else 0


def tidy(options: argparse.Namespace) -> int:
    """Lay out the code cells of the notebooks' sources with ruff, narrow enough for the page."""
    from latentbook import notebooks

    untidy = notebooks.tidy(write=not options.check)
    for name in untidy:
        print(f"{name}: {'would be' if options.check else 'was'} laid out anew")
    return 1 if options.check and untidy else 0


def check(options: argparse.Namespace) -> int:
    """Tell what is wrong with the notebooks: out of step with their source, stale, not executed, failed, too large,
    without alt text, or not from a full run on MNIST."""
    from latentbook import notebooks

    problems = notebooks.check()
    print("\n".join(problems) or "the notebooks are in step, fresh and whole")
    return 1 if problems else 0


def data(options: argparse.Namespace) -> int:
    """Tell which digits would be used here, and how to get MNIST."""
    from latentbook.data import COMMAND

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        splits = [_digits(options, split) for split in ("train", "test")]
    for split in splits:
        print(f"{split.split:5}  {split.source}  {len(split.labels):,} digits  sha256 {split.sha256}")
    if splits[0].source != "mnist":
        print(f"These are scikit-learn's digits, not MNIST. {COMMAND.how_to_get_mnist}")
    for warning in told[:1]:  # the other split has the same to tell
        print(f"{warning.message}", file=sys.stderr)
    return 0


def seeds(text: str) -> list[int]:
    """`0-4,7` as [0, 1, 2, 3, 4, 7]."""
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise argparse.ArgumentTypeError(f"seeds are like 0-4 or 0,3,7, got {text!r}")
        if last > LARGEST_SEED or last - first >= MOST_SEEDS or len(found) >= MOST_SEEDS:
            limits = f"at most {MOST_SEEDS} at a time, none above {LARGEST_SEED}"
            raise argparse.ArgumentTypeError(f"seeds are {limits}, got {text[:40]!r}")
        found |= set(range(first, last + 1))
    return sorted(found)


def seed(text: str) -> int:
    """`7` as 7."""
    if not re.fullmatch(r"\d+", text) or int(text) > LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"a seed is a whole number from 0 to {LARGEST_SEED}, got {text[:40]!r}")
    return int(text)


def words(text: str) -> list[str]:
    """`a,b` as ["a", "b"]."""
    if not (found := [word.strip() for word in text.split(",") if word.strip()]):
        raise argparse.ArgumentTypeError(f"at least one name is asked for, as in A,B, got {text!r}")
    return found


def named(text: str) -> str:
    """A path, with ~ for the home folder, which no shell expands in `--results=~/try`.

    An empty one, as an unset variable of the shell gives, would stand for the book's own.
    """
    if not text:
        raise argparse.ArgumentTypeError("a path is asked for, got none")
    return os.path.expanduser(text)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def setting(text: str) -> tuple[str, Any]:
    """`model.alpha=32` as ("model.alpha", 32); what is no Python literal stays text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"a setting is NAME=VALUE, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _experiment(name: str) -> ModuleType:
    from latentbook.experiments import EXPERIMENTS

    if name not in EXPERIMENTS:
        raise ValueError(f"no experiment {name!r}; there are: {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


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


def _same(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same place, however they are written."""
    return one.resolve() == other.resolve()


def _list(variants: list[str], of: int) -> str:
    """The names of some variants in a message."""
    return "every variant" if len(variants) == of > 1 else ", ".join(variants)


def _tried(try_place: Any, *arguments: Any, option: str) -> Any:
    """What `try_place` returns. Where writing will fail, raises its OSError with the option that names another place."""
    try:
        return try_place(*arguments)
    except OSError as error:
        raise type(error)(f"{error}; {option} names one") from error


def _digits(options: argparse.Namespace, split: str, source: str = "auto") -> Any:
    """A split of the digits that the options ask for, with messages that name these options."""
    from latentbook import data

    asked = {"root": options.data, "download": options.download, "wording": data.COMMAND}
    return data.load_digits(split, source=source, **asked)


def _waiting(options: argparse.Namespace, configs: dict[str, Any], found: dict[str, str]) -> list[tuple[str, int]]:
    """The runs that are to be made, one seed of every variant before the next seed. Raises ResultsError for a clash."""
    from latentbook.experiments import results

    wanted = [(variant, seed) for seed in options.seeds for variant in configs]
    if not results.path_of(options.experiment, options.results).exists():
        return wanted
    document = results.load(options.experiment, options.results)
    if options.fresh:
        document = results.without(document, list(configs))
    clashes = {v: text for v, config in configs.items() if (text := results.conflict(document, v, config, found))}
    if clashes:
        raise results.ResultsError(_advised(options, clashes, document, found))
    recorded = {variant: entry["seeds"] for variant, entry in document["variants"].items()}
    for variant in configs:
        if there := [str(seed) for seed in options.seeds if seed in recorded.get(variant, [])]:
            print(f"{variant}: recorded already and left out: seed {', '.join(there)}")
    return [(variant, seed) for variant, seed in wanted if seed not in recorded.get(variant, [])]


def _advised(
    options: argparse.Namespace, clashes: dict[str, str], document: dict[str, Any], found: dict[str, str]
) -> str:
    """What clashes, and the command as it was given with what starts over no more than that."""
    elsewhere = "name another --results DIR" if options.results else "record elsewhere with --results DIR"
    told, over = dict.fromkeys(text for text in clashes.values()), list(clashes)
    if document["data"] != found:  # this concerns all that is recorded: other data never stand side by side
        over = [name for name in _experiment(options.experiment).VARIANTS if name in {*document["variants"], *clashes}]
    command = [word for word in _without_option(options.given, "--variants") if word != "--fresh"]
    command = shlex.join(["python", "-m", "latentbook", *command, "--fresh", "--variants", ",".join(over)])
    return f"{'; '.join(told)}; {elsewhere}, or start over and keep what was there beside it: `{command}`"


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


def _ask_before_starting_over(options: argparse.Namespace, configs: dict[str, Any], place: Path) -> None:
    """Have it confirmed that runs in the book's own results are forgotten. Raises ValueError where it is not."""
    from latentbook.experiments import results

    if options.yes or not place.exists():
        return
    there = [name for name in results.load(options.experiment, options.results)["variants"] if name in configs]
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


class _Workers(ProcessPoolExecutor):
    """Worker processes that end with this one, however it ends: at Ctrl-C, when told to stop, or killed."""

    def __init__(self, jobs: int, threads: int):
        super().__init__(jobs, multiprocessing.get_context("spawn"), _prepare, (threads, os.getpid()))

    def __enter__(self) -> _Workers:
        self.before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        signal.signal(signal.SIGTERM, self.before)
        if kind:
            for process in multiprocessing.active_children():
                process.terminate()
        self.shutdown(cancel_futures=True)


def _prepare(threads: int, parent: int) -> None:
    """Make a worker ready: its share of the cores; deaf to Ctrl-C, as the parent stops it; gone when the parent is."""
    for library in ("OMP", "OPENBLAS", "MKL"):  # read when numpy and torch are first imported, here or for a probe
        os.environ[f"{library}_NUM_THREADS"] = str(threads)
    import torch

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(threads)
    threading.Thread(target=watch, daemon=True).start()


@functools.cache
def _splits(root: str | None, source: str) -> tuple[Any, Any]:
    """The digits, loaded once a worker."""
    from latentbook.data import COMMAND, load_digits

    return tuple(load_digits(split, root=root, source=source, wording=COMMAND) for split in ("train", "test"))


def _run_one(
    experiment: str, variant: str, seed: int, config: Any, root: str | None, source: str, device: str, progress: bool
) -> dict[str, Any]:
    """One run in a worker. The model stays there; an exception of the run, or a NaN, comes back as its reason.

    A mistake that shows before any optimiser has taken a step is none of the training: it comes back as "refused".
    """
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from latentbook.experiments import results

    start, about = time.perf_counter(), {"hardware": results.machine(device)}
    train, test = _splits(root, source)
    begun = threading.Event()
    hook = register_optimizer_step_post_hook(lambda *_: begun.set())
    try:
        run = _experiment(experiment).run(
            variant, seed, config=config, train=train, test=test, device=device, progress=progress
        )
        results.check_metrics(run.metrics, run.failed)
    except Exception as error:
        mistake = isinstance(error, ValueError | TypeError | ImportError | OSError)
        if mistake and not begun.is_set() and not isinstance(error, results.ResultsError):
            return {"refused": str(error)}
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
        return {**about, "metrics": {}, "failed": reason, "seconds": time.perf_counter() - start}
    finally:
        hook.remove()
    return {**about, "metrics": run.metrics, "failed": run.failed, "seconds": run.seconds}


def _outcome(job: Future) -> dict[str, Any]:
    try:
        return job.result()
    except BrokenProcessPool:
        message = "a worker process died (out of memory?); what was finished is kept, go on with fewer --jobs"
        raise RuntimeError(message) from None


def _bench_in_words(found: dict[str, Any]) -> str:
    """What was timed, one line a pair: `name_ours_ms`, `name_plain_ms` and `name_ratio`, without a name for a whole step."""
    rest, lines = dict(found), [f"{found['experiment']}: medians of several rounds"]
    for prefix in [name.removesuffix("ratio") for name in found if name.endswith("ratio")]:
        ours, plain, ratio = (rest.pop(prefix + name) for name in ("ours_ms", "plain_ms", "ratio"))
        name = prefix.replace("_", " ").strip() or "a training step"
        times = f"ours {ours:.3g} ms, plain {plain:.3g} ms"
        lines.append(f"  {name:16} {times}: ours is {ratio:.3g} times as fast (plain / ours)")
    for name, value in rest.items():
        if name != "experiment":
            text = f"{value:.3g}" if isinstance(value, float) else value
            lines.append(f"  {name.replace('_', ' '):20} {text}{MEANINGS.get(name, '')}")
    return "\n".join(lines)


def _print_table(experiment: str, variants: list[str], directory: str | None) -> None:
    """Mean and standard deviation over the recorded seeds, one block a variant."""
    from latentbook.experiments import results

    document = results.load(experiment, directory)
    for variant in (v for v in variants if v in document["variants"]):
        entry = document["variants"][variant]
        print(f"\n{variant}: {len(entry['seeds'])} seed(s), {len(entry['failed'])} failed")
        for metric, values in {**entry["metrics"], "seconds": entry["seconds"]}.items():
            if values:
                spread = f" ± {results.summarise(values, 'std'):.3g}" if len(values) > 1 else ""
                print(f"  {metric:28} {results.summarise(values, 'mean'):.4g}{spread}")


def _check_device(device: str) -> None:
    """Raises ValueError for a device that torch does not know or this machine has not."""
    from latentbook import checks  # imports torch

    checks.device("--device", device)


def _print_any_sign() -> None:
    """Where the locale knows ASCII alone (LC_ALL=C), print UTF-8: the book's words and numbers have signs such as ±."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "encoding", None) and codecs.lookup(stream.encoding).name == "ascii":
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")  # names of files come back as they are


def _check_installed(*modules: str) -> None:
    """Raises ModuleNotFoundError for a module that is missing, without importing any."""
    for name in modules:
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _extra_of(module: str) -> str | None:
    """The extra that brings a module, as the package's metadata has it; None for a module that no extra names."""
    try:
        requirements = metadata.requires("latentbook") or []
    except metadata.PackageNotFoundError:
        return None
    for requirement in requirements:
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra\s*==\s*[\"']([^\"']+)", requirement)
        if name and extra and re.sub(r"[-_.]+", "_", name[0]).lower() == module.split(".")[0].lower():
            return extra[1]
    return None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    # A worker process finds a function by its module's name, and cannot import a package's "__main__" by that one.
    from latentbook.__main__ import main as importable_main

    sys.exit(importable_main())
