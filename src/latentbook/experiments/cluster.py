"""Runs on the workers of an existing Dask cluster: the same tasks as on this machine, once all workers were checked."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from typing import Any
from urllib.parse import urlsplit

from latentbook.experiments import results
from latentbook.experiments.workers import LostRun, heed_termination, identity, load, splits

PATIENCE = 10.0  # seconds until a scheduler must have answered, and a first worker must be there
PULSE = 10.0  # seconds without news after which it is looked whether any worker is left
ONE_AT_A_TIME = threading.Lock()  # a worker may be given several tasks; runs share torch's generator and threads


class Cluster:
    """The workers of a Dask cluster, used as `workers.Workers` are.

    address: tcp://HOST:PORT of the scheduler; root: the folder of the digits as the workers see it; threads: of each
    run, None for each worker's share of its machine. Entering it raises ConnectionError where no scheduler answers or
    no worker is there, and ValueError where a worker has other versions, another source or other data than the rest.
    """

    def __init__(
        self,
        address: str,
        root: str | None,
        source: str,
        device: str,
        download: bool = False,
        threads: int | None = None,
    ):
        self.address, self.device, self.threads = address, device, threads
        self.digits, self.download = (root, source), download
        self.client = self.executor = None

    def __enter__(self) -> Cluster:
        from distributed import Client

        self._check_address()
        self.before = heed_termination()
        try:
            self.client = Client(self.address, timeout=PATIENCE, set_as_default=False)
            self._check_workers()
        except BaseException as error:
            self.__exit__(type(error))
            raise
        self.executor = self.client.get_executor(pure=False)
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        signal.signal(signal.SIGTERM, self.before)
        if kind and self.executor and self.client.status == "running":
            self.executor.shutdown(wait=False)  # cancels what waits; what a worker is at ends there, unrecorded
        if self.client:
            self.client.close(timeout=PATIENCE)

    def submit(self, function: Any, *arguments: Any) -> Future:
        """Hand a run to whichever worker is free; one that dies of or during it is replaced by another."""
        rule = (self.threads, self.workers_of)
        return self.executor.submit(_checked, self.agreed, self.digits, rule, function, *arguments)

    def completed(self, jobs: Iterable[Future]) -> Iterator[Future]:
        """The jobs in the order in which they end; says so when no worker is left to make them."""
        waiting, told = set(jobs), False
        while waiting:
            done, waiting = wait(waiting, PULSE, FIRST_COMPLETED)
            yield from done
            if done or told or self.client.status != "running":
                continue
            if told := not self.client.nthreads():
                how = f"start one with `dask worker {self.address}`; Ctrl-C keeps what is finished"
                print(f"no worker is left in the cluster: waiting for another ({how})", file=sys.stderr, flush=True)

    def outcome(self, job: Future) -> dict[str, Any]:
        """What a run has returned. Raises LostRun for one that has cost several workers, RuntimeError without a scheduler."""
        from distributed import KilledWorker

        try:
            return job.result()
        except KilledWorker as error:
            raise LostRun(f"every worker that tried it has died, {error.last_worker.address} last") from None
        except CancelledError:
            what = f"the connection to the scheduler at {self.address} is lost; what was finished is kept"
            raise RuntimeError(f"{what}, give the command again to go on") from None

    def _check_address(self) -> None:
        """Raises ConnectionError unless a scheduler answers in time; a Client waits for ever for what another server says."""
        from distributed.core import rpc
        from distributed.security import Security

        async def ask() -> str:
            async with rpc(self.address, connection_args=Security().get_connection_args("client")) as answering:
                return (await answering.identity())["type"]

        hint = "its port is the one that `dask scheduler` prints, usually 8786 (8787 is its web page)"
        try:
            found = asyncio.run(asyncio.wait_for(ask(), PATIENCE))
        except Exception as error:  # whatever else listens there may answer anything
            raise ConnectionError(
                f"no Dask scheduler has answered at {self.address} in {PATIENCE:g} s: {hint}"
            ) from error
        if found != "Scheduler":
            raise ConnectionError(f"at {self.address} answers a {found.lower()} and no scheduler: {hint}")

    def _check_workers(self) -> None:
        """Have every worker tell what it is and which digits it finds; keeps what they agree on. Raises as the class says."""
        try:
            self.client.wait_for_workers(1, timeout=PATIENCE)
        except (TimeoutError, asyncio.TimeoutError):  # which are two before Python 3.11
            start = f"start one, on this machine or another: `dask worker {self.address} --nthreads 1`"
            raise ConnectionError(f"the cluster at {self.address} has no worker; {start}") from None
        replies = self.client.run(about, *self.digits, self.download, self.device, on_error="return")
        self._compare(replies)
        self.workers_of = dict(Counter(map(_host, replies)))
        self.hardware = dict(Counter(reply["cpu"] for reply in replies.values()))
        self.count = len(replies)

    def _compare(self, replies: Mapping[str, Any]) -> None:
        """Keep what all workers agree on. Raises ValueError with what is wrong, and with whom."""
        self.agreed = {"identity": identity(), "data": None}
        problems: dict[str, list[str]] = {}
        for address, reply in sorted(replies.items()):
            for problem in self._problems(reply):
                problems.setdefault(problem, []).append(address)
        if problems:
            told = (f"{_workers(addresses, len(replies))}: {problem}" for problem, addresses in problems.items())
            raise ValueError("\n".join(["nothing was run, as not every worker of the cluster can be used", *told]))
        self.data = self.agreed["data"]

    def _problems(self, reply: Any) -> Iterator[str]:
        """What is wrong with one worker; the first one with data decides which the others must have."""
        if isinstance(reply, Exception):
            need = 'it needs this latentbook, as in pip install "latentbook[cluster]" from the same commit'
            yield f"cannot be asked ({type(reply).__name__}: {_first_line(reply)}); {need}"
        elif differ := differences(reply["identity"], self.agreed["identity"]):
            yield differ
        elif reply["problem"]:
            yield reply["problem"]
        else:
            self.agreed["data"] = self.agreed["data"] or reply["data"]
            if reply["data"] != self.agreed["data"]:
                yield _other_data(reply["data"], self.agreed["data"])


async def about(root: str | None, source: str, download: bool, device: str) -> dict[str, Any]:
    """Called in a worker: its identity, which digits it finds or why none, its processor. Its other work goes on meanwhile."""
    return await asyncio.to_thread(_about, root, source, download, device)


def _about(root: str | None, source: str, download: bool, device: str) -> dict[str, Any]:
    from latentbook import checks

    told = {"identity": identity(), "problem": None}
    try:
        checks.device("--device", device)
        if download:
            load(root, source, download)
        return {**told, "data": results.data_of(*splits(root, source)), "cpu": results.machine(device)["cpu"]}
    except Exception as error:
        return {**told, "problem": str(error)}


def _checked(
    agreed: Mapping[str, Any], digits: tuple[Any, ...], rule: tuple[Any, ...], function: Any, *arguments: Any
) -> dict[str, Any]:
    """A run in a worker, with its share of the threads. Raises RuntimeError where the worker came later and is another one."""
    import torch
    from dask.system import CPU_COUNT
    from distributed import get_worker

    threads, workers_of = rule
    with ONE_AT_A_TIME:
        me = get_worker().address
        if problem := differences(identity(), agreed["identity"]) or _trouble(digits, agreed["data"]):
            raise RuntimeError(f"worker {me} has joined since the start, and cannot be used: {problem}")
        torch.set_num_threads(threads or max(1, CPU_COUNT // workers_of.get(_host(me), 1)))
        return function(*arguments)


def _trouble(digits: tuple[Any, ...], agreed: Mapping[str, str]) -> str:
    """What is wrong with the digits that this worker finds; empty where nothing is."""
    try:
        data = results.data_of(*splits(*digits))
    except (OSError, ValueError) as error:
        return str(error)
    return "" if data == agreed else _other_data(data, agreed)


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """What two machines have not in common, and what to do; empty where there is nothing."""
    differ = [name for name in here if there.get(name) != here[name]]
    versions = [f"{name} {there.get(name)} (here {here[name]})" for name in differ if name != "source"]
    if versions:
        return f"{', '.join(versions)}; install there what is here, and start the worker again"
    if differ:
        was, now = (each["source"][:12] for each in (there, here))
        return (
            f"latentbook from another source ({was}, here {now}); install the same commit, and start the worker again"
        )
    return ""


def _other_data(there: Mapping[str, str], agreed: Mapping[str, str]) -> str:
    was, now = (f"{data['source']} ({data['hash'][:12]})" for data in (there, agreed))
    return f"its digits are {was}, those of other workers {now}; give all of them the same files under --data"


def _workers(addresses: list[str], of: int) -> str:
    """Who is meant, in a message."""
    return (
        f"all {of} workers"
        if len(addresses) == of > 1
        else f"worker{'s' * (len(addresses) > 1)} {', '.join(addresses)}"
    )


def _host(address: str) -> str:
    return urlsplit(address).hostname or address


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
