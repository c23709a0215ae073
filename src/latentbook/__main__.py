"""The command line: `python -m latentbook --help`. Heavy imports wait inside the commands, so that help is instant."""

from __future__ import annotations

import argparse
import ast
import codecs
import functools
import json
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from latentbook import __version__

INTERRUPTED = "\ninterrupted; what was finished is kept"
try:
    from latentbook.authoring.profiles import NAMES as PROFILES
    from latentbook.experiments import reproduce as runs
except KeyboardInterrupt:  # nobody else is there yet to say it in one line
    print(INTERRUPTED, file=sys.stderr)
    raise SystemExit(130) from None

DESCRIPTION = """\
Run and check what stands behind the book: train every seed of an experiment, execute the notebooks,
keep the numbers in the text equal to the measured ones."""

EXAMPLES = """\
examples:
  python -m latentbook data                                      which digits would be used, and how to get MNIST
  python -m latentbook reproduce                                 the experiments and their variants
  python -m latentbook reproduce mix-and-match --seeds 0-4       train and measure five seeds of every variant
  python -m latentbook reproduce --all --results again           all runs of the book, or what is missing of them there
  python -m latentbook reproduce primer --seeds 0 --set epochs=2 --results try
                                                                 try another setting, away from the book's results
  python -m latentbook weights mix-and-match                     train the states that the book ships (seed 0) again
  python -m latentbook bench mix-and-match --json                time a training step against a plainly written one
  python -m latentbook choices --table                           how hyper-parameters were chosen, on validation digits
  python -m latentbook listening primer                          what another image's code costs a shipped state
  python -m latentbook score mix-and-match FILE.safetensors      score a published checkpoint by the book's own judge
  python -m latentbook execute 01                                run a chapter and its companion, keep their outputs
  python -m latentbook export --output models                    the models as the page's engine reads them
  python -m latentbook numbers --check                           do the texts agree with the results?

exit codes:
  0  all went well        1  a run failed, or a check found something
  2  a mistake in what was asked, or data that cannot be found      130  interrupted; what was finished is kept"""


MEANINGS = {"matmul_share": " of this machine's matrix-product peak, over our whole step"}  # after a bench's number
SWALLOWING = ("numpy", "torch")  # modules in whose import Ctrl-C may be lost
CHAPTERS = "such as 01, a chapter and its companion, or one file's name (default: all)"
MOST_SEEDS = 1000  # of one command
LARGEST_SEED = 2**31 - 1


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    _print_any_sign()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = parser().parse_args(arguments)
    options.given = arguments
    try:
        with _heeding_ctrl_c():
            return options.command(options)
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to print goes nowhere
        return 1
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        extra = _extra_of(error.name or "")
        if options.debug or not extra:
            raise
        needs = f"`{options.name}` needs {error.name.split('.')[0]}, which is not installed"
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
    sub.add_argument("--all", action="store_true", help="of every experiment what is missing of the book's seeds")
    text = "which seeds (default: 0-4; with --all: of each variant those of the book)"
    sub.add_argument("--seeds", type=seeds, action="extend", metavar="0-4,7", help=text)
    text = "which variants (default: all)"
    sub.add_argument("--variants", type=words, action="extend", default=[], metavar="A,B", help=text)
    sub.add_argument("--jobs", type=positive, metavar="N", help="runs at the same time (default: 1)")
    sub.add_argument(
        "--threads", type=positive, metavar="N", help="threads of each run (default: its share of the cores)"
    )
    text = "make the runs on the workers of this Dask cluster; --data is then a folder of theirs"
    sub.add_argument("--cluster", type=scheduler, metavar="tcp://HOST:8786", help=text)
    text = "start these variants over; what was recorded of them is kept beside the results"
    sub.add_argument("--fresh", action="store_true", help=text)
    sub.add_argument("--yes", action="store_true", help="do not ask before the book's own results are started over")
    sub.add_argument("--results", type=named, metavar="DIR", help="record there instead of in the book's results")
    text = "another setting, as in model.alpha=32; needs --results"
    sub.add_argument("--set", type=setting, action="append", default=[], metavar="NAME=VALUE", help=text)
    sub.add_argument("--offline", action="store_true", help="scikit-learn's digits instead of MNIST; needs --results")
    on_data(sub)
    on_device(sub)

    text = "time a training step against a plainly written one, the site on a slow line, or the page's engine"
    sub = command(bench, "bench", text)
    sub.add_argument("experiment", help="its name, or: site, engine")
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

    sub = command(export, "export", "write the shipped models as the figures' engine reads them")
    sub.add_argument("models", nargs="*", metavar="MODEL", help="such as air-exact (default: all)")
    text = "save there (default: _build/models)"
    sub.add_argument("--output", type=named, default="_build/models", metavar="DIR", help=text)
    text = "measure on MNIST's test digits what the rounding costs, and record it"
    sub.add_argument("--measure", action="store_true", help=text)
    on_data(sub)

    sub = command(choices, "choices", "choose hyper-parameters again, on validation digits")
    sub.add_argument(
        "experiments", nargs="*", metavar="EXPERIMENT", help="primer, mix-and-match, conditional-vae (default: all)"
    )
    sub.add_argument("--seeds", type=seeds, metavar="0-2", help="of every point (default: 0-2)")
    sub.add_argument("--table", action="store_true", help="train nothing; print the table of what is recorded")
    sub.add_argument("--results", type=named, metavar="DIR", help="record there instead of in the book's record")
    sub.add_argument("--offline", action="store_true", help="scikit-learn's digits instead of MNIST; needs --results")
    on_data(sub)
    on_device(sub)

    sub = command(listening, "listening", "measure in nats whether the shipped states listen to their codes")
    sub.add_argument(
        "experiments", nargs="*", metavar="EXPERIMENT", help="such as primer (default: all that ship states)"
    )
    sub.add_argument("--results", type=named, metavar="DIR", help="record there instead of in the book's record")
    sub.add_argument("--offline", action="store_true", help="scikit-learn's digits instead of MNIST; needs --results")
    on_data(sub)

    sub = command(score, "score", "score a checkpoint that others published by the book's own judge")
    sub.add_argument("system", help="mix-and-match, multi-level-vae-std-1 or multi-level-vae-std-0.1")
    sub.add_argument("files", nargs="+", metavar="FILE", help="its safetensors: one, or an encoder and a decoder")
    sub.add_argument("--seeds", type=seeds, metavar="0-2", help="of what is drawn in scoring (default: 0-2)")
    sub.add_argument("--record", action="store_true", help="keep the score for the ledger")
    sub.add_argument("--results", type=named, metavar="DIR", help="with --record: there, not in the book's record")
    on_data(sub)

    sub = command(numbers, "numbers", "write the measured numbers into the texts")
    sub.add_argument("--check", action="store_true", help="change nothing; tell what does not agree")

    sub = command(execute, "execute", "run notebooks and keep their outputs")
    sub.add_argument("chapters", nargs="*", metavar="CHAPTER", help=CHAPTERS)
    sub.add_argument("--profile", choices=PROFILES, default="full", help="default: full")
    sub.add_argument("--allow-offline", action="store_true", help="try a full run without MNIST, kept elsewhere")
    on_data(sub)

    sub = command(pdf, "pdf", "print the built site as one PDF")
    sub.add_argument("--output", type=named, default="_build/book.pdf", metavar="FILE", help="default: _build/book.pdf")

    sub = command(sync, "sync", "copy edits of the text into the executed notebooks")
    sub.add_argument("chapters", nargs="*", metavar="CHAPTER", help=CHAPTERS)
    sub = command(tidy, "tidy", "lay out the code in the notebooks' sources")
    sub.add_argument("--check", action="store_true", help="change nothing; exit 1 where something would change")
    command(reserve, "reserve", "measure the room that the site keeps for figures and formulas")
    command(check, "check", "are the notebooks in step, fresh and whole?")
    on_data(command(data, "data", "which digits would be used, and how to get MNIST"))
    return whole


def reproduce(options: argparse.Namespace) -> int:
    """Train and measure the seeds of an experiment, or with --all of every one, each recorded as it ends. Seeds recorded
    already with the same configuration are left out; an interrupted command can simply be given again. A run that ended
    in an exception is tried again where its experiment is named; --all counts it as failed."""
    return runs.reproduce(options)


def bench(options: argparse.Namespace) -> int:
    """Time our whole training step, batch assembly included, against a plainly written one in the same process; for `site`,
    what the pages of the built site weigh and when they are there on a slow line; for `engine`, how fast the figures'
    engine trains and runs models in a browser."""
    if options.experiment in ("site", "engine"):
        return _bench_in_browser(options.experiment, options.json)
    module = runs.experiment_named(options.experiment)
    if not hasattr(module, "bench"):
        raise ValueError(f"{options.experiment} has nothing to time")
    runs.check_device(options.device)
    import torch

    say = functools.partial(print, file=sys.stderr, flush=True)
    say(f"{options.experiment}: our code and a plainly written one do the same work, in turns, in this process,")
    say(f"on {options.device} with {torch.get_num_threads()} thread(s); this takes seconds to minutes ...")
    start = time.perf_counter()
    found = module.bench(device=options.device)
    say(f"timed in {time.perf_counter() - start:.0f} s")
    print(json.dumps(found) if options.json else _bench_in_words(found))
    return 0


def _bench_in_browser(what: str, as_json: bool) -> int:
    if what == "site":
        from latentbook.authoring import site_bench as module
    else:
        from latentbook.widgets import engine_bench as module
    found = module.bench()
    print(json.dumps(found) if as_json else module.in_words(found))
    return 0


def reserve(options: argparse.Namespace) -> int:
    """Measure in a browser the room that figures and formulas of the built site take, so that the next build keeps it."""
    from latentbook.authoring.reserve import reserve as measure

    for path in measure():
        print(f"written: {path}")
    return 0


def train_judge(options: argparse.Namespace) -> int:
    """Train the independent judge, a small convnet unlike any chapter's model, and save its weights."""
    from latentbook.experiments import judge

    place = runs.tried(judge.check_place, options.output, option="--output FILE")
    runs.check_device(options.device)
    train, test = (runs.digits(options, split, "mnist") for split in ("train", "test"))
    _, accuracy = judge.train_judge(train, test, seed=options.seed, device=options.device, path=place)
    print(f"test accuracy {accuracy:.2%}; written to {place}")
    return 0


def weights(options: argparse.Namespace) -> int:
    """Train seed 0 of the variants whose trained state is shipped with the book, as their configuration says, and save
    each state as its training ends."""
    from latentbook.experiments import EXPERIMENTS
    from latentbook.files import check_writable

    module = runs.experiment_named(options.experiment)
    if not hasattr(module, "STATES"):
        having = ", ".join(name for name, other in EXPERIMENTS.items() if hasattr(other, "STATES"))
        raise ValueError(f"{options.experiment} ships no trained state; those that do: {having}")
    of_figures = getattr(module, "FIGURE_STATES", ())  # stored in fewer bits
    every = (*module.STATES, *of_figures)
    if unknown := [name for name in options.variants if name not in every]:
        shipped = ", ".join(every)
        raise ValueError(f"no state of {', '.join(unknown)} is shipped; {options.experiment} ships: {shipped}")
    wanted = list(dict.fromkeys(options.variants or every))
    if options.offline and runs.same(module.state_path(wanted[0], options.output), module.state_path(wanted[0])):
        needs = "--offline needs --output DIR, a folder other than the book's own"
        raise ValueError(f"{needs}: the book's states are trained on MNIST")
    for variant in wanted:
        place = module.state_path(variant, options.output)
        runs.tried(check_writable, place, f"the state of {variant!r}", option="--output DIR")
    runs.check_device(options.device)
    digits = runs.digits(options, "train", "offline" if options.offline else "mnist")
    for variant in wanted:
        print(f"{variant}: training seed 0", flush=True)
        save = module.save_figure_state if variant in of_figures else module.save_state
        path = save(variant, digits, device=options.device, directory=options.output)
        print(f"{variant}: written to {path}", flush=True)
    return 0


def export(options: argparse.Namespace) -> int:
    """Write the shipped models as the page's engine reads them, one file each, named by its content, and tell what they
    weigh and what the rounding of their weights costs: as it was recorded, or with --measure on MNIST's test digits."""
    from latentbook.files import check_writable, write_whole
    from latentbook.widgets import export as models
    from latentbook.widgets import shipped

    if unknown := [name or "''" for name in options.models if name not in models.SHIPPED]:
        raise ValueError(f"no shipped model is called {', '.join(unknown)}; there are: {', '.join(models.SHIPPED)}")
    if not options.measure and (odd := [f"--{name}" for name in ("data", "download") if getattr(options, name)]):
        raise ValueError(f"{', '.join(odd)} is for the digits of --measure: add that, or leave it out")
    names = list(dict.fromkeys(options.models or models.SHIPPED))
    places = {name: models.place(name, options.output) for name in names}
    for name, path in places.items():
        runs.tried(check_writable, path, f"the model {name!r}", option="--output DIR")
    if options.measure:
        check_writable(shipped.RECORD, "what the rounding costs")
    if not options.measure or shipped.RECORD.exists():
        shipped.recorded()
    test = runs.digits(options, "test", "mnist") if options.measure else None
    if test is not None:
        shipped.record_on(test)
    for name, path in places.items():
        write_whole(path, models.shipped_model(name))
        print(f"{name}: written to {path}", flush=True)
    if test is not None:
        for name in names:
            shipped.record(name, test)
    print(shipped.in_words({name: row for name, row in shipped.recorded()["models"].items() if name in names}))
    return 0


def choices(options: argparse.Namespace) -> int:
    """Train and measure every point of the choices of hyper-parameters that is not recorded yet: on the training digits
    less 5,000, judged on these, each run recorded as it ends. Test digits are never read. Then print the table."""
    from latentbook.experiments import choices as chosen

    options.experiments = _known("experiment", options.experiments, chosen.MEASURES)
    folder = _record(options, chosen.DIRECTORY, [] if options.table else options.experiments)
    if not options.table:
        runs.check_device(options.device)
        train, validation = chosen.parts(runs.digits(options, "train", "offline" if options.offline else "mnist"))
        todo = chosen.planned(options.experiments, options.seeds or chosen.SEEDS, folder)
        for number, planned in enumerate(todo, 1):
            told = chosen.record(planned, train, validation, folder, options.device)
            print(f"[{number}/{len(todo)}] {told}", flush=True)
    print(chosen.table(folder))
    return 0


def listening(options: argparse.Namespace) -> int:
    """Measure, on the test digits and without any training, what each shipped state pays in nats for decoding with another
    image's code, and record it beside BCE + KL."""
    from latentbook.experiments import EXPERIMENTS
    from latentbook.experiments import listening as heard

    options.experiments = _known("experiment", options.experiments, heard.SHIPPED)
    folder = _record(options, heard.DIRECTORY, options.experiments)
    test = runs.digits(options, "test", "offline" if options.offline else "mnist")
    for experiment in options.experiments:
        for variant in EXPERIMENTS[experiment].STATES:
            heard.measure_state(experiment, variant, test, folder)
            print(f"{experiment} {variant}: measured", flush=True)
    print(heard.in_words(folder))
    return 0


def score(options: argparse.Namespace) -> int:
    """Load a checkpoint that others published into this library's model, by the names of its tensors, and measure it on
    MNIST's test digits as the book measures its own: by the same code and the same judge. Nothing is trained."""
    from latentbook.experiments import results, scoring

    if options.results and not options.record:
        raise ValueError("--results DIR says where --record keeps the score: give both, or neither")
    model, read = scoring.load_published(options.system, options.files)
    for path in scoring.unknown_sources(options.system, read):
        print(f"{path} does not say that it was made from the published file: its SHA-256 is kept", file=sys.stderr)
    if options.record:
        _record(options, scoring.DIRECTORY, [scoring.SYSTEMS[options.system].experiment])
    train, test = (runs.digits(options, split, "mnist") for split in ("train", "test"))
    found = {}
    for number in options.seeds or scoring.SEEDS:
        start = time.perf_counter()
        found[number] = scoring.score(options.system, model, train, test, number)
        if options.record:
            about = (results.data_of(train, test), number, time.perf_counter() - start, options.results)
            place = scoring.record(options.system, found[number], read, *about)
            print(f"seed {number}: recorded in {place}", flush=True)
    if options.record and scoring.SYSTEMS[options.system].experiment == "multi-level-vae":
        print(f"pictures kept in {scoring.keep_pictures(options.system, model, test, options.results)}")
    print(f"{options.system}, {len(found)} seed(s) of what is drawn in scoring\n{scoring.in_words(found)}")
    return 0


def _known(what: str, given: list[str], known: Any) -> list[str]:
    """The names given, or all that are known. Raises ValueError for others."""
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"no {what} {', '.join(unknown)} here; there are: {', '.join(known)}")
    return list(dict.fromkeys(given or known))


def _record(options: argparse.Namespace, own: Any, experiments: list[str]) -> Any:
    """The folder of a record, tried. Raises ValueError for other digits than MNIST in the book's own, OSError as `tried`."""
    from pathlib import Path

    from latentbook.experiments import results

    folder = Path(options.results) if options.results else own
    if getattr(options, "offline", False) and runs.same(folder, own):
        raise ValueError("--offline needs --results DIR, a folder other than the book's own: its record is on MNIST")
    for experiment in experiments:
        runs.tried(results.check_place, experiment, folder, option="--results DIR")
    return folder


def numbers(options: argparse.Namespace) -> int:
    """Write the measured numbers into notebooks/*.md, book/*.md and README.md (run `sync` after it), and tell what no
    marker ties to the results."""
    from latentbook.authoring import numbers as prose
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
    from latentbook.authoring import notebooks

    _check_installed("jupytext", "nbclient", "nbformat", "ipykernel")  # not after MNIST was fetched
    for source in notebooks.sources(chapters=options.chapters):
        first = [
            f"{source.stem}: running, profile {options.profile}"
        ]  # said with the first cell: until then all is tried

        def say(text: str, first: list[str] = first) -> None:
            print(*first, text, sep="\n", flush=True)
            first.clear()

        data = {"data": options.data, "allow_offline": options.allow_offline, "download": options.download}
        target = notebooks.execute(source, options.profile, **data, report=say)
        print(f"{source.stem}: written to {target}")
    return 0


def pdf(options: argparse.Namespace) -> int:
    """Print the whole built site (`make book`) as one PDF: title page, contents with page numbers, links alive."""
    from latentbook.authoring import pdf as paper
    from latentbook.files import check_writable

    runs.tried(check_writable, options.output, "the PDF", option="--output FILE")
    paper.make(target=options.output)
    return 0


def sync(options: argparse.Namespace) -> int:
    """Copy edits of the text into the executed notebooks, keeping their outputs; code needs a new execution."""
    from latentbook.authoring import notebooks

    changed, problems = notebooks.sync(chapters=options.chapters)
    for line in [f"{path}: text copied" for path in changed] + problems:
        print(line)
    print(f"{len(changed)} notebook(s) changed, {len(problems)} to execute")
    return 1 if problems else 0


def tidy(options: argparse.Namespace) -> int:
    """Lay out the code cells of the notebooks' sources with ruff, narrow enough for the page."""
    from latentbook.authoring import notebooks

    untidy = notebooks.tidy(write=not options.check)
    for name in untidy:
        print(f"{name}: {'would be' if options.check else 'was'} laid out anew")
    return 1 if options.check and untidy else 0


def check(options: argparse.Namespace) -> int:
    """Tell what is wrong with the notebooks: out of step with their source, stale, not executed, failed, too large,
    without alt text, or not from a full run on MNIST."""
    from latentbook.authoring import notebooks

    problems = notebooks.check()
    print("\n".join(problems) or "the notebooks are in step, fresh and whole")
    return 1 if problems else 0


def data(options: argparse.Namespace) -> int:
    """Tell which digits would be used here, and how to get MNIST."""
    from latentbook.data.digits import COMMAND

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        splits = [runs.digits(options, split) for split in ("train", "test")]
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
    if not re.fullmatch(r"\d{1,18}", text) or int(text) < 1:  # no ², which is a digit of no number
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text[:40]!r}")
    return int(text)


def scheduler(text: str) -> str:
    """The address of a Dask scheduler."""
    try:
        address = urlsplit(text)
        there = address.hostname and (address.port or 0) > 0  # a port above 65535 is a ValueError
    except ValueError:
        there = False
    if not there or not re.fullmatch(r"(tcp|tls)://[^\s/@?#]+:\d+", text):
        raise argparse.ArgumentTypeError(
            f"a cluster is told by its scheduler, as in tcp://HOST:8786 (an IPv6 address as in tcp://[::1]:8786, "
            f"ports from 1 to 65535), got {text!r}"
        )
    return text


def setting(text: str) -> tuple[str, Any]:
    """`model.alpha=32` as ("model.alpha", 32); what is no Python literal stays text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"a setting is NAME=VALUE, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


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


def _print_any_sign() -> None:
    """Where the locale knows ASCII alone (LC_ALL=C), print UTF-8: the book's words and numbers have signs such as ±."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "encoding", None) and codecs.lookup(stream.encoding).name == "ascii":
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")  # names of files come back as they are


@contextmanager
def _heeding_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C end this process at once while torch or numpy is imported, where a KeyboardInterrupt may be lost in C.

    Nothing has begun then; at any other time it does what it always does.
    """

    def interrupted(number: int, frame: Any) -> None:
        specs = [getattr(sys.modules.get(name), "__spec__", None) for name in SWALLOWING]
        if any(getattr(spec, "_initializing", False) for spec in specs):
            os.write(2, f"{INTERRUPTED}\n".encode())
            os._exit(130)
        signal.default_int_handler(number, frame)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # nobody ignores it, or has other plans
        signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, before)


def _check_installed(*modules: str) -> None:
    """Raises ModuleNotFoundError for a module that is missing, without importing any."""
    for name in modules:
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _extra_of(module: str) -> str | None:
    """The extra that brings a module, as the package's metadata has it; None for a module that no extra names."""
    from importlib import metadata

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


if __name__ == "__main__":
    # A worker process finds a function by its module's name, and cannot import a package's "__main__" by that one.
    from latentbook.__main__ import main as importable_main

    sys.exit(importable_main())
