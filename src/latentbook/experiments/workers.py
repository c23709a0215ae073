"""Where runs are made: one run, what it stands on, and processes of this machine that make several at a time."""

from __future__ import annotations

import functools
import hashlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent.parent
DECISIVE = ("*.py", "*.safetensors")  # files of the package that decide a run: its code, and the weights of the judge


class LostRun(RuntimeError):
    """A run that ended with every worker that tried it; the others go on."""


class Workers(ProcessPoolExecutor):
    """Worker processes that end with this one, however it ends: at Ctrl-C, when told to stop, or killed."""

    def __init__(self, jobs: int, threads: int):
        super().__init__(jobs, multiprocessing.get_context("spawn"), _prepare, (threads, os.getpid()))

    def __enter__(self) -> Workers:
        self.before = heed_termination()
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        signal.signal(signal.SIGTERM, self.before)
        if kind:
            for process in multiprocessing.active_children():
                process.terminate()
        self.shutdown(cancel_futures=True)

    def completed(self, jobs: Iterable[Future]) -> Iterator[Future]:
        """The jobs in the order in which they end."""
        return as_completed(jobs)

    def outcome(self, job: Future) -> dict[str, Any]:
        """What a run has returned. Raises RuntimeError where a worker has died: the others are then gone as well."""
        try:
            return job.result()
        except BrokenProcessPool:
            message = "a worker process died (out of memory?); what was finished is kept, go on with fewer --jobs"
            raise RuntimeError(message) from None


def heed_termination() -> Any:
    """Let SIGTERM do as Ctrl-C does, raise KeyboardInterrupt; returns the handler before, None outside the main thread."""
    return signal.signal(signal.SIGTERM, signal.default_int_handler)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
def identity() -> dict[str, str]:
    """What two machines must have in common for their runs to stand side by side: versions, and a hash of this library."""
    from latentbook.experiments import results

    digest = hashlib.sha256()
    for path in sorted(path for pattern in DECISIVE for path in PACKAGE.rglob(pattern)):
        digest.update(f"\f{path.relative_to(PACKAGE).as_posix()}\f".encode() + path.read_bytes())
    return {**results.versions(), "source": digest.hexdigest()}


@functools.cache
def splits(root: str | None, source: str) -> tuple[Any, Any]:
    """The digits for training and for tests, loaded once a worker."""
    return load(root, source)


def load(root: str | None, source: str, download: bool = False) -> tuple[Any, Any]:
    """The digits for training and for tests; what is missing in the folder is fetched if `download`."""
    from latentbook.data.digits import COMMAND, load_digits

    asked = {"root": root, "source": source, "download": download, "wording": COMMAND}
    return tuple(load_digits(split, **asked) for split in ("train", "test"))


def run_one(
    experiment: str, variant: str, seed: int, config: Any, root: str | None, source: str, device: str, progress: bool
) -> dict[str, Any]:
    """One run in a worker: {"hardware", "metrics", "failed", "seconds" of the training, "took": s of all that it took}.

    The model stays there; an exception of the run, or a NaN, comes back as its reason. A mistake that shows before any
    optimiser has taken a step is none of the training: it comes back as "refused".
    """
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from latentbook.experiments import EXPERIMENTS, results

    start, about = time.perf_counter(), {"hardware": results.machine(device)}
    train, test = splits(root, source)
    begun = threading.Event()
    hook = register_optimizer_step_post_hook(lambda *_: begun.set())
    try:
        run = EXPERIMENTS[experiment].run(
            variant, seed, config=config, train=train, test=test, device=device, progress=progress
        )
        results.check_metrics(run.metrics, run.failed)
    except Exception as error:
        mistake = isinstance(error, ValueError | TypeError | ImportError | OSError)
        if mistake and not begun.is_set() and not isinstance(error, results.ResultsError):
            return {"refused": str(error)}
        traceback.print_exc()
        reason, took = f"{type(error).__name__}: {error}", time.perf_counter() - start
        return {**about, "metrics": {}, "failed": reason, "seconds": took, "took": took}
    finally:
        hook.remove()
    took = time.perf_counter() - start
    return {**about, "metrics": run.metrics, "failed": run.failed, "seconds": run.seconds, "took": took}
