"""One training loop for every chapter, which goes on exactly where it was cut off, on one process or several."""

from __future__ import annotations

import inspect
import json
import math
import time
from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm.auto import tqdm

from latentbook import checks, files, words
from latentbook.data.digits import Batch, Digits
from latentbook.progress import bar_options
from latentbook.schedules import Schedule, constant
from latentbook.style import book_style, curve
from latentbook.training import identity
from latentbook.training.tensor_files import (  # noqa: F401 (weights are saved and loaded under this module's name)
    config_of,
    load_tensors,
    load_weights,
    plain_name,
    put_weights,
    rounded,
    save_tensors,
    save_weights,
    unrounded,
    unwrapped,
    weights_of,
)

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass
class History:
    """What happened: `epochs` holds one dict an epoch, the mean of each term over ALL its examples (not its last batch).

    seconds: of training alone; what hooks do after an epoch does not count.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    def curve(self, term: str) -> list[float]:
        """One term over the epochs."""
        return [epoch[term] for epoch in self.epochs]


Hook = Callable[[nn.Module, History], None]


def fit(
    model: nn.Module,
    digits: Digits,
    *,
    epochs: int,
    batch_size: int = 128,
    learning_rate: float | Schedule = 1e-3,
    weights: Mapping[str, float | Schedule] | None = None,
    arguments: Mapping[str, Callable[[int], Any]] | None = None,
    rate_factors: Mapping[str, float] | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    precision: str = "float32",
    checkpoint: str | Path | None = None,
    on_epoch_end: Hook | Sequence[Hook] = (),
    progress: bool = True,
) -> History:
    """Train any model whose `loss(batch, generator=...)` returns named terms, one
    value per example, by Adam on their weighted mean.

    weights: term -> number or schedule (1 if not named).
    arguments: extra keyword arguments of `loss`, each a function of the step alone.
    rate_factors: start of a parameter's name -> factor of its learning rate.
    precision: "float32", or "bfloat16" by autocast.
    checkpoint: a file written whole after every epoch. Where it exists, training goes
    on from it to the same result as an uninterrupted run; a run that would give
    another result (see `TrainingRun.identity`) is refused. It may ask for more epochs.
    on_epoch_end: called in turn with the model and the history (see `hooks_in_order`).
    Ctrl-C returns the history so far, marked `interrupted`.

    Under torch.distributed every process is given all examples and takes its share of
    each batch: see `TrainingRun`. Of a model wrapped by torch.compile or
    DistributedDataParallel, the model inside is trained (its `loss`, not its `forward`;
    for a compiled loss, set `model.loss = torch.compile(model.loss)`).
    All noise must come from the generator given to `loss` (see nets.dropout).
    What can be tried is tried before the first step. Raises ValueError for bad
    arguments, OSError for a checkpoint that cannot be written, FloatingPointError
    naming the step and the term when a loss is no longer finite.
    """
    epochs = checks.count("epochs", epochs)
    run = TrainingRun(
        *placed(model, digits, device),
        learning_rate=learning_rate,
        weights=weights,
        arguments=arguments,
        rate_factors=rate_factors,
        seed=seed,
        precision=precision,
        batch_size=batch_size,
    )
    hooks = hooks_in_order(on_epoch_end)
    history = run.begin(epochs, checkpoint)
    try_hooks(hooks, run.model, history)
    with run.progress(epochs, progress) as bar:
        try:
            while len(history.epochs) < epochs:
                start, totals, examples = time.perf_counter(), {}, 0
                for batch in run.batches():
                    for name, total in run.step(batch).items():
                        totals[name] = totals.get(name, 0) + total
                    examples += len(batch.labels)
                    bar.update()
                run.add_up(totals)
                means = {name: float(x) / examples for name, x in totals.items()}
                history.epochs.append(means)
                history.seconds += time.perf_counter() - start
                bar.set_postfix({name: f"{mean:.4g}" for name, mean in means.items()})
                for hook in hooks:
                    hook(run.model, history)
                    run.model.train()
                if checkpoint is not None:
                    run.save(checkpoint)
        except KeyboardInterrupt:
            history.interrupted = True
    model.eval()
    return history


def placed(model: nn.Module, digits: Digits, device: Any) -> tuple[nn.Module, Digits]:
    """Model (in training mode) and digits on a device. Raises ValueError for anything else and a device that is not here."""
    device = checks.device("device", device)
    check_model(model)
    if not isinstance(digits, Digits):
        raise ValueError(
            "digits must be Digits, whole tensors on one device, got "
            f"{'None' if digits is None else f'a {type(digits).__name__}'}: use load_digits, "
            "or Digits(images, labels, source, sha256, split), of latentbook.data.digits"
        )
    return model.to(device).train(), digits.to(device)


def check_model(model: Any) -> None:
    """Raises ValueError for anything but a module with a `loss`."""
    if not isinstance(model, nn.Module) or not callable(getattr(unwrapped(model), "loss", None)):
        raise ValueError(
            "model must be a torch.nn.Module with a method loss(batch, *, generator=None) that returns "
            f"{{term: [batch]}}, got {type(model).__name__ if isinstance(model, nn.Module) else repr(model)}"
        )


class TrainingRun:
    """The moving parts of one training run: the model, its optimizer, its two random streams and its history.

    Where torch.distributed is initialised, all processes start from the first one's parameters and buffers. Each takes
    every n-th example of a batch, and the gradients are those of one process on the whole batch, but for two things:
    each process has a noise of its own, and BatchNorm sees the share of its process. BatchNorm's running statistics are
    averaged over the processes at the end of every epoch, and other buffers are those of the first process, so that
    all have the same model before hooks run and the first process writes the checkpoint. Hooks run in every process.
    Raises ValueError for bad arguments.
    """

    def __init__(
        self,
        model: nn.Module,
        digits: Digits,
        *,
        learning_rate: float | Schedule,
        weights: Mapping[str, float | Schedule] | None = None,
        arguments: Mapping[str, Callable[[int], Any]] | None = None,
        rate_factors: Mapping[str, float] | None = None,
        seed: int = 0,
        precision: str = "float32",
        batch_size: int = 128,
    ):
        check_model(model)
        self.model, self.digits = unwrapped(model), digits
        self.batch_size = checks.count("batch_size", batch_size)
        self.seed = checks.count("seed", seed, least=0, most=2**62)
        self.precision = checks.choice("precision", precision, PRECISIONS)
        self.rate = schedule("learning_rate", learning_rate, low=0)
        self.weights = {name: schedule(f"weights[{name!r}]", value) for name, value in named("weights", weights)}
        self.arguments = dict(named("arguments", arguments))
        check_arguments(self.arguments, self.model)
        self.factors = dict(named("rate_factors", rate_factors))
        self.device, self.dtype = digits.images.device, PRECISIONS[precision]
        together = dist.is_available() and dist.is_initialized()
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)
        fused = self.device.type in ("cpu", "cuda")  # one kernel for all parameters instead of several for each
        self.optimizer = torch.optim.Adam(parameter_groups(self.model, self.factors), lr=self.rate(0), fused=fused)
        self.order = torch.Generator().manual_seed(self.seed)
        self.noise = torch.Generator(self.device).manual_seed(self.seed + 1_000_003 * (self.rank + 1))
        self.history = History()
        self.terms_are_known = False

    def batches(self) -> Iterator[Batch]:
        """One epoch of mini-batches in a new order."""
        return self.digits.batches(self.batch_size, self.order)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step; returns each term summed over those of this process's examples that count."""
        step = self.history.steps
        mine, counted = self.share(batch)
        with self.autocast():
            terms = self.terms(mine, step)
            objective = sum(self.weights.get(name, _ONE)(step) * term.mean() for name, term in terms.items())
        if not self.finite_everywhere(objective):
            bad = [name for name, term in terms.items() if not torch.isfinite(term).all()]
            where = ", ".join(bad) or ("weights" if not torch.isfinite(objective) else "that another process names")
            raise FloatingPointError(f"the loss is not finite at step {step}, in the term {where}")
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step) * group["factor"]
        self.optimizer.zero_grad()
        (objective * (counted / len(batch.labels))).backward()
        if self.world > 1:
            self.add_gradients()
        self.optimizer.step()
        self.history.steps += 1
        return {name: term.detach()[:counted].sum() for name, term in terms.items()}

    def terms(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The loss's terms; the first time, with a check of the names in `weights` that leaves a refused model as it was."""
        extra = {name: value(step) for name, value in self.arguments.items()}
        if self.terms_are_known:
            return self.model.loss(batch, generator=self.noise, **extra)
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]  # the first pass moves BatchNorm's
        terms = self.model.loss(batch, generator=self.noise, **extra)
        try:
            check_terms(terms, len(batch.labels), self.weights)
        except ValueError:
            for buffer, before in buffers:
                buffer.copy_(before)
            raise
        self.terms_are_known = True
        return terms

    def autocast(self) -> AbstractContextManager:
        """The precision of the forward pass; float32 needs no context, and entering one costs time at every step."""
        return nullcontext() if self.dtype == torch.float32 else torch.autocast(self.device.type, self.dtype)

    def progress(self, epochs: int, wanted: bool) -> tqdm:
        """A bar over all steps, in the first process alone."""
        total = epochs * self.steps_an_epoch
        options = bar_options(wanted and self.rank == 0)
        return tqdm(initial=self.history.steps, total=total, unit="step", leave=False, **options)

    @property
    def steps_an_epoch(self) -> int:
        return -(-len(self.digits) // self.batch_size)

    # Several processes

    def start_equal(self) -> None:
        """The first process's parameters and buffers in all."""
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            dist.broadcast(tensor.data, 0)

    def share(self, batch: Batch) -> tuple[Batch, int]:
        """This process's examples of a batch, and how many of them count.

        A batch with fewer examples than processes counts for the first alone; the others take the step with it, at weight 0.
        """
        if self.world == 1:
            return batch, len(batch.labels)
        if len(batch.labels) < self.world:
            return batch, 0 if self.rank else len(batch.labels)
        mine = Batch(*(tensor[self.rank :: self.world] for tensor in batch))
        return mine, len(mine.labels)

    def finite_everywhere(self, objective: Tensor) -> bool:
        """Whether the objective is finite in all processes, so that none waits for one that stops."""
        finite = torch.isfinite(objective)
        if self.world > 1:
            finite = finite.to(torch.uint8)
            dist.all_reduce(finite, dist.ReduceOp.MIN)
        return bool(finite)

    def add_gradients(self) -> None:
        """Sum the gradients of all processes; where only some have one (a term that only their examples need), 0 is added."""
        parameters = list(self.model.parameters())
        found = torch.tensor([p.grad is not None for p in parameters], dtype=torch.uint8, device=self.device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        for parameter, somewhere in zip(parameters, found.tolist(), strict=True):
            if somewhere:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                dist.all_reduce(parameter.grad)

    def add_up(self, totals: dict[str, Tensor]) -> None:
        """The end of an epoch: sum the totals of all processes, in place, and give all the same buffers (see the class)."""
        if self.world == 1:
            return
        for total in totals.values():
            dist.all_reduce(total)
        norms = [module for module in self.model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        averaged = {id(buffer) for norm in norms for buffer in (norm.running_mean, norm.running_var)}
        for buffer in self.model.buffers():
            if id(buffer) in averaged:
                dist.all_reduce(buffer)
                buffer /= self.world
            else:
                dist.broadcast(buffer, 0)

    def noises(self) -> list[Tensor]:
        """The states of the noise generators of all processes."""
        own = self.noise.get_state()
        if self.world == 1:
            return [own]
        states = torch.zeros(self.world, len(own), dtype=own.dtype, device=self.device)
        states[self.rank] = own
        dist.all_reduce(states)  # every row is 0 in all processes but one
        return list(states.cpu())

    def check_agreement(self, own: dict[str, Any]) -> None:
        """Raises ValueError in every process if one of them was given another run than the first."""
        text = torch.tensor(list(json.dumps(own).encode()), dtype=torch.uint8, device=self.device)
        length = torch.tensor(len(text), device=self.device)
        dist.broadcast(length, 0)
        first = text if self.rank == 0 else torch.empty(int(length), dtype=torch.uint8, device=self.device)
        dist.broadcast(first, 0)
        found = identity.differences(json.loads(bytes(first.tolist())), own)
        differ = torch.tensor(len(found), device=self.device)
        dist.all_reduce(differ)
        if differ:
            here = f"; from the first process to process {self.rank}: {'; '.join(found)}" if found else ""
            raise ValueError(
                f"the processes were given different runs, but each needs the same, all examples too{here}"
            )

    # Checkpoints

    def identity(self, steps: int) -> dict[str, Any]:
        """What decides the result of a run of so many steps; `fit` goes on from a checkpoint only if all of it is the same.

        "settings": the model's class, configuration, precision and frozen parameters; the examples, by their content;
        batch size, seed, precision, rate factors, kind of device, number of processes. "steps": learning rate, weights
        and arguments by their values at steps 0, 1, 3, 10, 30, ... of the run.
        """
        settings = identity.settings_of(self.model) | {
            "examples": len(self.digits),
            "content of the examples": identity.content_hash(self.digits),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "precision": self.precision,
            "device": self.device.type,
            "processes": self.world,
        }
        settings |= {f"rate_factors.{name}": float(factor) for name, factor in self.factors.items()}
        schedules = identity.schedules_at_probes(steps, self.rate, self.weights, self.arguments)
        return {"settings": settings, "steps": schedules}

    def begin(self, epochs: int, checkpoint: str | Path | None) -> History:
        """Go on from a checkpoint where there is one; returns the history so far. Raises as `fit` does."""
        check_batches_of_one(self.model, len(self.digits), self.batch_size, self.world)
        if checkpoint is None and self.world == 1:
            return self.history  # nothing to compare with
        if checkpoint is not None:
            files.check_writable(checkpoint, "the checkpoint")
        self.own = self.identity(epochs * self.steps_an_epoch)
        found = checkpoint is not None and Path(checkpoint).exists()
        if self.world > 1:
            here = self.own["settings"] | {"epochs": epochs, "a checkpoint was found": found}
            self.check_agreement(self.own | {"settings": here})
            self.start_equal()
        if found:
            self.load(checkpoint)
        if (done := len(self.history.epochs)) > epochs:
            raise ValueError(
                f"{checkpoint} already holds {done} epochs, got epochs={epochs}: ask for {done} to read it, for more to go "
                "on, or use another file for a shorter run"
            )
        self.history.interrupted = False
        return self.history

    def save(self, path: str | Path) -> None:
        """Write everything that the run needs to go on, in the first process; the others wait until it is there."""
        tensors = {f"model.{name}": tensor for name, tensor in weights_of(self.model).items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
        tensors |= {"order": self.order.get_state()}
        tensors |= {f"noise.{rank}": state for rank, state in enumerate(self.noises())}
        if self.rank == 0:
            save_tensors(path, tensors, {"history": asdict(self.history), "run": self.own})
        if self.world > 1:
            dist.barrier()

    def load(self, path: str | Path) -> None:
        """Go on from a file that `save` wrote. Raises ValueError for one of another run, saying what differs."""
        tensors, metadata = load_tensors(path)
        do = "delete the checkpoint to start over, or use another file"
        if not {"history", "run"} <= set(metadata):
            raise ValueError(
                f"{path} is no checkpoint that says all that decides its run (an older version wrote it, or it holds "
                f"something else): {do}"
            )
        if found := identity.differences(metadata["run"], self.own):
            raise ValueError(f"{path} is of another run: {'; '.join(found)}: go on as before, {do}")
        try:
            put_weights(self.model, {name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
        except RuntimeError as error:
            raise ValueError(f"the weights in {path} do not fit this model ({error}): {do}") from error
        state = self.optimizer.state_dict()
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state["state"].setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict(state)
        self.order.set_state(tensors["order"])
        self.noise.set_state(tensors[f"noise.{self.rank}"])
        self.history.__dict__.update(metadata["history"])


_ONE = constant(1.0)


def schedule(name: str, value: Any, low: float = -math.inf) -> Schedule:
    """A schedule itself, a number as a constant one. Raises ValueError for anything else, and where step 0 gets no number."""
    if not callable(value):
        return constant(checks.number(name, value, low))
    try:
        inspect.signature(value).bind(0)
    except TypeError as error:
        raise ValueError(f"{name} must be a function of the step alone, as lambda step: ... is, but {error}") from None
    except ValueError:  # built-in functions have no signature
        pass
    checks.number(f"{name} at step 0", value(0), low)
    return value


def named(name: str, given: Mapping[str, Any] | None) -> ItemsView[str, Any]:
    """The items of a mapping, none of None. Raises ValueError for anything else."""
    return checks.mapping(name, {} if given is None else given).items()


def check_arguments(arguments: Mapping[str, Any], model: nn.Module) -> None:
    """Raises ValueError for an argument that `model.loss` does not take, lacks, or that is no function of the step."""
    signature = inspect.signature(model.loss)
    taken = list(signature.parameters.values())[1:]  # the first is the batch
    if not any(each.kind is each.VAR_KEYWORD for each in taken):
        kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        allowed = [each.name for each in taken if each.kind in kinds and each.name != "generator"]
        checks.known_names(f"arguments (of {type(model).__name__}.loss)", arguments, allowed)
    for name, value in arguments.items():
        if not callable(value):
            raise ValueError(f"arguments[{name!r}] must be a function of the step, got {value!r}: use lambda step: ...")
    try:
        signature.bind(None, generator=None, **arguments)
    except TypeError as error:
        name = f"{type(model).__name__}.loss"
        raise ValueError(f"{name} is called as loss(batch, generator=..., **arguments), but {error}") from None


def check_terms(terms: Any, examples: int, weights: Mapping[str, Any]) -> None:
    """Raises ValueError unless a loss returned named terms of one value per example, among them all that have a weight."""
    if not isinstance(terms, Mapping) or not terms:
        raise ValueError(f"loss must return a dict of named terms, [batch] each, got a {type(terms).__name__}")
    for name, term in terms.items():
        if not isinstance(term, Tensor) or term.shape != (examples,):
            got = list(term.shape) if isinstance(term, Tensor) else f"a {type(term).__name__}"
            raise ValueError(
                f"loss must return one value per example, [{examples}] here, got {got} for {name}: "
                "sum or average over the other dimensions only"
            )
    checks.known_names("weights", weights, terms)


def check_batches_of_one(model: nn.Module, examples: int, batch_size: int, processes: int = 1) -> None:
    """Raises ValueError where BatchNorm would be trained on a single example, which has no variance."""
    examples = checks.count("the number of examples", examples)
    layers = [name for name, part in model.named_modules() if isinstance(part, nn.BatchNorm1d) and part.training]
    if not layers or smallest_share(examples, batch_size, processes) > 1:
        return
    sizes = [size for size in range(batch_size, 1, -1) if smallest_share(examples, size, processes) > 1]
    fewer = [n for n in range(examples, 1, -1) if smallest_share(n, batch_size, processes) > 1]
    ways = [f"batch_size={size}" for size in sizes[:1]] + [f"digits.take(slice(0, {n}))" for n in fewer[:1]]
    over = f" over {processes} processes" if processes > 1 else ""
    raise ValueError(
        f"{examples} examples in batches of {batch_size}{over} leave one alone, but BatchNorm ({plain_name(layers[0])}) needs "
        f"two to have a variance: use {' or '.join([*ways, 'a model without BatchNorm'])}"
    )


def smallest_share(examples: int, batch_size: int, processes: int) -> int:
    """The fewest examples that a process takes at a step: see TrainingRun.share."""
    sizes = {min(batch_size, examples), examples % batch_size or batch_size}
    return min(size if size < processes else size // processes for size in sizes)


def parameter_groups(model: nn.Module, factors: Mapping[str, float]) -> list[dict[str, Any]]:
    """A model's parameters by the factor of their learning rate: those that no prefix names first, at factor 1.

    Raises ValueError for a model in which nothing learns, a prefix that no parameter's name starts with, or a factor that
    is not positive.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("model must have a parameter that can learn, got none: see requires_grad_(True)")
    groups: dict[str, list[nn.Parameter]] = {"": [], **{prefix: [] for prefix in factors}}
    for name, parameter in model.named_parameters():
        name = plain_name(name)
        groups[max((prefix for prefix in groups if name.startswith(prefix)), key=len)].append(parameter)
    for prefix, factor in factors.items():
        if not groups[prefix] or not checks.number(f"rate_factors[{prefix!r}]", factor) > 0:
            names = ", ".join(sorted({name.split(".")[0] for name, _ in model.named_parameters()}))
            raise ValueError(
                f"rate_factors must give positive numbers to names that parameters start with ({names}), got {prefix!r}: {factor}"
            )
    return [{"params": found, "factor": float(factors.get(prefix, 1.0))} for prefix, found in groups.items() if found]


def initialise(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a model with its initial weights drawn under `seed`, leaving torch's own random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(checks.count("seed", seed, least=0, most=2**62))
        return build()


# Hooks


def hooks_in_order(hooks: Hook | Sequence[Hook]) -> list[Hook]:
    """The hooks as `fit` calls them after every epoch: in the given order, but those that draw after those that measure.

    A hook is any function of the model and the history. Two attributes are optional: `draws = True` marks one that shows
    what others measured; `prepare(model, history)` is called once before the first step, with the epochs of a checkpoint
    in the history, and raises whatever would make the hook fail after an epoch.
    Raises ValueError for anything that cannot be called in this way.
    """
    hooks = [hooks] if callable(hooks) else hooks
    if not isinstance(hooks, Sequence) or not all(callable(hook) for hook in hooks):
        raise ValueError(f"on_epoch_end must be a function of model and history, or a list of such, got {hooks!r}")
    for hook in hooks:
        check_takes_two(hook)
    return sorted(hooks, key=lambda hook: bool(getattr(hook, "draws", False)))


def check_takes_two(hook: Hook) -> None:
    """Raises ValueError for a hook that cannot be called with a model and a history, as far as its signature says."""
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):  # built-in functions have none
        return
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise ValueError(f"a hook is called with the model and the history, but {hook!r} is not ({error})") from None


def try_hooks(hooks: Sequence[Hook], model: nn.Module, history: History) -> None:
    """Call `prepare` of every hook that has one; the model is in training mode afterwards."""
    for hook in hooks:
        if hasattr(hook, "prepare"):
            hook.prepare(model, history)
            model.train()


def live_curves(cell_size: tuple[float, float] = (4.6, 2.9)) -> Hook:
    """A hook that redraws the loss curves in the notebook after every epoch, by livelossplot.

    One panel a term, with its held-out values (see `validation`) dashed in the same panel; cell_size: of a panel, in inches.
    Epochs that were trained before, up to a checkpoint, are drawn too, at once. In the book's look, as all figures.
    """
    from livelossplot import PlotLosses
    from livelossplot.outputs import MatplotlibPlot

    plot, shown, panels, drawn = None, None, {}, 0

    def panel(axes: Any, title: str, step: str) -> None:
        is_kl = "KL" in title.split()
        for line in axes.lines:
            held_out = line.get_label().startswith("test_")
            line.set(**curve(held_out, is_kl), label="held out" if held_out else "training")
            line.set_markevery(max(1, len(line.get_xdata()) // 8))
        axes.set(title=title, xlabel=step)
        if len(axes.lines) > 1:
            axes.legend(loc="upper left", bbox_to_anchor=(0, -0.3), ncols=2)  # below the curves, not over them

    @book_style()
    def draw(model: nn.Module, history: History) -> None:
        nonlocal plot, shown, panels, drawn
        names = list(dict.fromkeys(name for epoch in history.epochs for name in epoch))
        terms = [name for name in names if not name.startswith("test_")]
        groups = {words.term(name): [key for key in (name, f"test_{name}") if key in names] for name in terms}
        if shown is not history or panels != groups:
            rows = -(-len(groups) // 2)
            picture = MatplotlibPlot(figsize=(2 * cell_size[0], rows * cell_size[1]), after_subplot=panel)
            # names of its own, such as "Log Loss (cost function)", stay out
            plot = PlotLosses(outputs=[picture], groups=groups, metric_to_name={name: name for name in names})
            shown, panels, drawn = history, groups, 0
        for number, epoch in enumerate(history.epochs[drawn:], drawn + 1):
            plot.update(epoch, number)
        drawn = len(history.epochs)
        plot.send()

    def prepare(model: nn.Module, history: History) -> None:
        if history.epochs:
            draw(model, history)

    draw.draws, draw.prepare = True, prepare
    return draw


def validation(digits: Digits, seed: int = 0, batch_size: int = 1000) -> Hook:
    """A hook that adds the mean of each loss term on held-out digits to the history, named "test_<term>".

    Its first batch is tried before training. Raises ValueError for digits that are none, or that the model cannot take.
    """
    if not isinstance(digits, Digits) or len(digits) == 0:
        raise ValueError(
            f"validation needs Digits, at least one, got {'none' if digits == [] else type(digits).__name__}"
        )
    batch_size, seed = checks.count("batch_size", batch_size), checks.count("seed", seed, least=0)

    def measure(model: nn.Module, history: History) -> None:
        means = mean_terms(model, digits, seed, batch_size)
        history.epochs[-1].update({f"test_{name}": value for name, value in means.items()})

    def prepare(model: nn.Module, history: History) -> None:
        check_device("the digits of validation", digits.images, model)
        try:
            mean_terms(model, digits.take(slice(0, batch_size)), seed, batch_size)
        except RuntimeError as error:
            raise ValueError(f"the model's loss cannot be measured on the digits of validation: {error}") from error

    measure.prepare = prepare
    return measure


def check_device(what: str, tensor: Tensor, model: nn.Module) -> None:
    """Raises ValueError unless a tensor lies on the device of the model's parameters."""
    device = next((parameter.device for parameter in model.parameters()), tensor.device)
    if tensor.device != device:
        raise ValueError(f'{what} are on {tensor.device}, but the model is on {device}: move them by .to("{device}")')


@torch.no_grad()
def mean_terms(model: nn.Module, digits: Digits, seed: int = 0, batch_size: int = 1000) -> dict[str, float]:
    """The mean over all examples of each term of `model.loss`, in evaluation mode, noise under a fixed seed."""
    model = unwrapped(model).eval()
    generator = torch.Generator(digits.images.device).manual_seed(seed)
    totals: dict[str, float] = {}
    for batch in digits.batches(batch_size):
        for name, term in model.loss(batch, generator=generator).items():
            totals[name] = totals.get(name, 0.0) + float(term.sum())
    return {name: total / len(digits) for name, total in totals.items()}
