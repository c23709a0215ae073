"""One training loop for every chapter, and files that a killed run cannot spoil."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from tqdm.auto import tqdm

from latentbook.data import Batch, Digits
from latentbook.progress import bar_options
from latentbook.schedules import Schedule, constant

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

STEP = "/step"  # ends the name of what 8-bit weights are counted in; no parameter has a slash in its name


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
    """Train any model whose `loss(batch, generator=...)` returns named per-example terms, by Adam on their weighted mean.

    weights: term -> number or schedule (1 if not named). arguments: extra keyword arguments of `loss`, each a function
    of the step. rate_factors: start of a parameter's name -> factor of its learning rate (1 if not named).
    precision: "float32", or "bfloat16" by autocast. checkpoint: a file written whole after every epoch; where it
    exists, training goes on from it to the same result as an uninterrupted run.
    on_epoch_end: called with the model and the history. Ctrl-C returns the history so far, marked `interrupted`.
    Where torch.distributed is initialised, each process takes its share of every batch and gradients are averaged.
    All noise must come from the generator given to `loss` (nn.Dropout would draw from torch's global one: see nets.dropout).
    Raises FloatingPointError naming the step and the term when a loss is no longer finite; ValueError for bad arguments.
    """
    check_positive(epochs=epochs, batch_size=batch_size, examples=len(digits))
    hooks = [on_epoch_end] if callable(on_epoch_end) else list(on_epoch_end)
    run = TrainingRun(
        model.to(device).train(),
        digits.to(device),
        learning_rate=learning_rate,
        weights=weights,
        arguments=arguments,
        rate_factors=rate_factors,
        seed=seed,
        precision=precision,
    )
    run.settings = {
        "batch_size": batch_size,
        "rate_factors": dict(rate_factors or {}),
        "seed": seed,
        "examples": len(digits),
        "data": digits.sha256,
        "precision": precision,
    }
    if checkpoint and Path(checkpoint).exists():
        run.load(Path(checkpoint))
    history, start = run.history, time.perf_counter() - run.history.seconds
    history.interrupted = False
    steps = -(-len(digits) // batch_size)
    bar = tqdm(initial=history.steps, total=epochs * steps, unit="step", leave=False, **bar_options(progress))
    try:
        while len(history.epochs) < epochs:
            totals, examples = {}, 0
            for batch in run.digits.batches(batch_size, run.order):
                for name, total in run.step(batch).items():
                    totals[name] = totals.get(name, 0) + total
                examples += len(batch.labels)
                bar.update()
            run.add_up(totals)
            history.epochs.append({name: float(total) / examples for name, total in totals.items()})
            history.seconds = time.perf_counter() - start
            bar.set_postfix({name: f"{value:.4g}" for name, value in history.epochs[-1].items()})
            pause = time.perf_counter()
            for hook in hooks:
                hook(model, history)
                model.train()
            start += time.perf_counter() - pause
            if checkpoint:
                run.save(Path(checkpoint))
    except KeyboardInterrupt:
        history.interrupted = True
    finally:
        bar.close()
    model.eval()
    return history


class TrainingRun:
    """The moving parts of one training run: the model, its optimizer, its two random streams and its history."""

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
    ):
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        self.model, self.digits, self.arguments = model, digits, arguments or {}
        self.rate = learning_rate if callable(learning_rate) else constant(learning_rate)
        self.weights = {name: value if callable(value) else constant(value) for name, value in (weights or {}).items()}
        self.device, self.dtype = digits.images.device, PRECISIONS[precision]
        fused = self.device.type in ("cpu", "cuda")  # one kernel for all parameters instead of several for each
        self.optimizer = torch.optim.Adam(parameter_groups(model, rate_factors or {}), lr=self.rate(0), fused=fused)
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self.order = torch.Generator().manual_seed(seed)
        self.noise = torch.Generator(self.device).manual_seed(seed + 1_000_003 * (self.rank + 1))
        self.history = History()
        self.settings: dict[str, Any] = {}

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step; returns each term summed over those of this process's examples that count."""
        step = self.history.steps
        mine, counted = self.share(batch)
        extra = {name: value(step) for name, value in self.arguments.items()}
        with self.autocast():
            terms = self.model.loss(mine, generator=self.noise, **extra)
            objective = sum(self.weights.get(name, _ONE)(step) * term.mean() for name, term in terms.items())
        if not torch.isfinite(objective):
            bad = [name for name, term in terms.items() if not torch.isfinite(term).all()]
            raise FloatingPointError(
                f"the loss is not finite at step {step}, in the term {', '.join(bad) or 'weights'}"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step) * group["factor"]
        self.optimizer.zero_grad()
        (objective * (counted / len(batch.labels))).backward()
        if self.world > 1:
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    dist.all_reduce(parameter.grad)
        self.optimizer.step()
        self.history.steps += 1
        return {name: term.detach()[:counted].sum() for name, term in terms.items()}

    def autocast(self) -> AbstractContextManager:
        """The precision of the forward pass; float32 needs no context, and entering one costs time at every step."""
        return nullcontext() if self.dtype == torch.float32 else torch.autocast(self.device.type, self.dtype)

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

    def add_up(self, totals: dict[str, Tensor]) -> None:
        """Sum the totals of all processes, in place."""
        if self.world > 1:
            for total in totals.values():
                dist.all_reduce(total)

    def save(self, path: Path) -> None:
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
        tensors |= {"order": self.order.get_state(), "noise": self.noise.get_state()}
        save_tensors(
            path, tensors, {"history": asdict(self.history), "settings": self.settings, "config": config_of(self.model)}
        )

    def load(self, path: Path) -> None:
        tensors, metadata = load_tensors(path)
        for name, now in (("config", config_of(self.model)), ("settings", self.settings)):
            if metadata.get(name) != json.loads(json.dumps(now)):  # as JSON has it: tuples are lists
                raise ValueError(
                    f"{path} was written with {name} {metadata.get(name)}, this run has {now}: "
                    "delete the checkpoint to start over, or use another file"
                )
        self.model.load_state_dict({name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")})
        state = self.optimizer.state_dict()
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state["state"].setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict(state)
        self.order.set_state(tensors["order"])
        self.noise.set_state(tensors["noise"])
        self.history.__dict__.update(metadata["history"])


_ONE = constant(1.0)


def parameter_groups(model: nn.Module, factors: Mapping[str, float]) -> list[dict[str, Any]]:
    """A model's parameters by the factor of their learning rate: those that no prefix names first, at factor 1.

    Raises ValueError for a prefix that no parameter's name starts with, or a factor that is not positive.
    """
    groups: dict[str, list[nn.Parameter]] = {"": [], **{prefix: [] for prefix in factors}}
    for name, parameter in model.named_parameters():
        groups[max((prefix for prefix in groups if name.startswith(prefix)), key=len)].append(parameter)
    for prefix, factor in factors.items():
        if not groups[prefix] or not factor > 0:
            names = ", ".join(sorted({name.split(".")[0] for name, _ in model.named_parameters()}))
            raise ValueError(
                f"rate_factors must give positive numbers to names that parameters start with ({names}), got {prefix!r}: {factor}"
            )
    return [{"params": found, "factor": factors.get(prefix, 1.0)} for prefix, found in groups.items() if found]


def initialise(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a model with its initial weights drawn under `seed`, leaving torch's own random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def live_curves(cell_size: tuple[float, float] = (4.6, 2.9)) -> Hook:
    """A hook that redraws the loss curves in the notebook after every epoch, by livelossplot.

    One panel a term, with its held-out values (see `validation`) in the same panel; cell_size: of a panel, in inches.
    """
    from livelossplot import PlotLosses
    from livelossplot.outputs import MatplotlibPlot

    plot = None

    def draw(model: nn.Module, history: History) -> None:
        nonlocal plot
        latest = history.epochs[-1]
        if plot is None:
            terms = [name for name in latest if not name.startswith("test_")]
            # the prefix keeps livelossplot from putting names of its own, such as "Log Loss (cost function)", in their place
            groups = {f"loss: {name}": [key for key in (name, f"test_{name}") if key in latest] for name in terms}
            plot = PlotLosses(outputs=[MatplotlibPlot(cell_size=cell_size)], groups=groups)
        plot.update(latest)
        plot.send()

    return draw


def validation(digits: Digits, seed: int = 0, batch_size: int = 1000) -> Hook:
    """A hook that adds the mean of each loss term on held-out digits to the history, named "test_<term>"."""

    def measure(model: nn.Module, history: History) -> None:
        means = mean_terms(model, digits, seed, batch_size)
        history.epochs[-1].update({f"test_{name}": value for name, value in means.items()})

    return measure


@torch.no_grad()
def mean_terms(model: nn.Module, digits: Digits, seed: int = 0, batch_size: int = 1000) -> dict[str, float]:
    """The mean over all examples of each term of `model.loss`, in evaluation mode, noise under a fixed seed."""
    model.eval()
    generator = torch.Generator(digits.images.device).manual_seed(seed)
    totals: dict[str, float] = {}
    for batch in digits.batches(batch_size):
        for name, term in model.loss(batch, generator=generator).items():
            totals[name] = totals.get(name, 0.0) + float(term.sum())
    return {name: total / len(digits) for name, total in totals.items()}


def config_of(model: nn.Module) -> dict[str, Any]:
    """A model's configuration as a plain dict (empty where it has none)."""
    config = getattr(model, "config", None)
    return asdict(config) if is_dataclass(config) else {}


def save_weights(path: str | Path, model: nn.Module, bits: int = 32, **notes: Any) -> None:
    """Write a model's weights with its configuration (and notes) in the metadata: safetensors, whole or not at all.

    bits: 32, as they are; 16, rounded to three decimal places of each weight's own size; 8, where matrices (and kernels)
    are rounded to 255 steps between the largest weights of a row, and vectors stay as they are. A model reads all alike.
    Raises ValueError for other bits.
    """
    metadata = {"model": type(model).__name__, "config": config_of(model), **notes}
    save_tensors(Path(path), rounded(model.state_dict(), bits), metadata)


def rounded(tensors: Mapping[str, Tensor], bits: int) -> dict[str, Tensor]:
    """Tensors as `save_weights` stores them: of 8 bits are the steps, with their size beside them, one a row."""
    if bits not in (32, 16, 8):
        raise ValueError(f"bits must be 32, 16 or 8, got {bits}")
    stored = {}
    for name, tensor in tensors.items():
        if bits == 32 or not tensor.is_floating_point() or (bits == 8 and tensor.ndim < 2):
            stored[name] = tensor
        elif bits == 16:
            stored[name] = tensor.half()
        else:
            step = tensor.abs().flatten(1).amax(1).clamp(min=1e-30) / 127
            step = step.view(-1, *[1] * (tensor.ndim - 1))
            stored |= {name: (tensor / step).round().to(torch.int8), name + STEP: step}
    return stored


def unrounded(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors again, of 8 bits as steps times their size."""
    return {
        name: tensor * stored[name + STEP] if name + STEP in stored else tensor
        for name, tensor in stored.items()
        if not name.endswith(STEP)
    }


def load_weights(path: str | Path, build: Callable[[dict[str, Any]], nn.Module]) -> nn.Module:
    """A model built from the configuration in a weights file, with the weights loaded, in evaluation mode.

    Raises FileNotFoundError or ValueError where the file is missing, damaged or of another model.
    """
    tensors, metadata = load_tensors(Path(path))
    if not {"model", "config"} <= set(metadata):
        raise ValueError(f"{path} holds no weights that save_weights wrote")
    model = build(metadata["config"])
    if metadata["model"] != type(model).__name__:
        raise ValueError(f"{path} holds weights of a {metadata['model']}, not of a {type(model).__name__}")
    try:
        model.load_state_dict(unrounded(tensors))
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} do not fit this {type(model).__name__} ({error})") from error
    return model.eval()


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON metadata as one safetensors file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(  # save_file makes a file that only its owner may read
            save(
                {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
                {name: json.dumps(value) for name, value in metadata.items()},
            )
        )
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file that `save_tensors` wrote. Raises FileNotFoundError, or ValueError for a damaged one."""
    if not path.exists():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 (not a dict)
    except Exception as error:
        raise ValueError(f"{path} is damaged or not one of this library's files ({error})") from error


def check_positive(**numbers: int) -> None:
    """Raises ValueError naming the first number that is not a positive int."""
    for name, number in numbers.items():
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be a positive int, got {number!r}")
