"""Checkpoints that others published, scored by the book's own judge and measures: read by name from files that a user has.

Nothing of them is part of this package. A file is the original's state dict as safetensors, under its own names; each
tensor has one place in the library's model, and all that is learnt must be there, in its shape. So one judge reads every
completion and every swap that the book compares: `python -m latentbook score SYSTEM FILE...`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from latentbook import checks
from latentbook.data.digits import Digits
from latentbook.experiments import mix_and_match, multi_level_vae, results
from latentbook.experiments.listening import listening_metrics
from latentbook.experiments.multi_level_swaps import specimens, swap_grid
from latentbook.experiments.run import but
from latentbook.models.multi_level_vae import MultiLevelVAE

DIRECTORY = results.DIRECTORY / "scored"
SEEDS = (0, 1, 2)  # of the noise of scoring: there is one trained model
TO_SAFETENSORS = "safetensors.torch.save_file(state, FILE), its tensors read with weights_only=True"


@dataclass(frozen=True)
class Published:
    """A published model: whose it is, of which files it is made, and where each of their tensors stands in the library's.

    sources: {the SHA-256 of the published file: what it is}, as the files' metadata may tell ("sha256_of_source"); names: for
    each file, {pattern of a tensor's name: its name in the library's model}, by re.sub.
    """

    experiment: str
    source: str
    sources: Mapping[str, str]
    config: Any
    names: Sequence[Mapping[str, str]]


MIX_AND_MATCH = Published(
    experiment="mix-and-match",
    source=(
        "The checkpoint published with the original tutorial (mix-and-match/mix-and-match-tutorial, "
        "checkpoint/mix_match_48.pth), loaded into this book's model and scored by its judge: 10,000 MNIST test images, "
        "18 prior samples each."
    ),
    sources={"c078555d326de22e77dd63d5051cef1b85a46a0877a618b64e13ed5f9a26dce1": "checkpoint/mix_match_48.pth"},
    config=mix_and_match.BATCH_MASK,
    names=[
        {
            r"(data_encoder|condition_encoder)\.(.+)": r"\1.\2",
            r"decode_latent\.0\.(.+)": r"latent_projection.0.\1",
            r"data_decoder\.([01])\.(.+)": r"decoder.0.\1.\2",
            r"data_decoder\.3\.(.+)": r"decoder.1.\1",
            r"mean\.(.+)": r"mean.\1",
            r"std\.(.+)": r"log_var.\1",  # so it is called there
        }
    ],
)


def multi_level(std: float, encoder: str, decoder: str) -> Published:
    """The reproduction's model at one standard deviation of the class code's noise: encoder file, decoder file."""
    names = f"checkpoints/{{}}_{std:g}_var_reparam"
    return Published(
        experiment="multi-level-vae",
        source=(
            f"The checkpoint published with the reproduction by ananyahjha93 (github.com/ananyahjha93/multi-level-vae, "
            f"{names.format('{encoder,decoder}')}; noise on the class code of standard deviation {std:g}), loaded into this "
            "book's model and scored by its judge on MNIST's test digits."
        ),
        sources={encoder: names.format("encoder"), decoder: names.format("decoder")},
        config=but(multi_level_vae.ORIGINAL, noise_std=std),
        names=[
            {
                r"linear_model\.linear_1\.(.+)": r"encoder.0.\1",
                r"(style|class)_mu\.(.+)": r"\1_mean.\2",
                r"(style|class)_logvar\.(.+)": r"\1_log_var.\2",
            },
            {
                r"linear_model\.linear_1\.(.+)": r"decoder.0.\1",
                r"linear_model\.linear_2\.(.+)": r"decoder.2.\1",
            },
        ],
    )


SYSTEMS: dict[str, Published] = {
    "mix-and-match": MIX_AND_MATCH,
    "multi-level-vae-std-1": multi_level(
        1.0,
        "dfb641f387375e8047509c5dcfea1a4ef61a80eaa9e93620554fbe1d6966884e",
        "e811d2960e1f4b7d4def4e7b1530bdb738c5e7a1309596293675c211abc6babe",
    ),
    "multi-level-vae-std-0.1": multi_level(
        0.1,
        "ddda300d4d768ce692b2e57e547c58c96235919f825a21485574bd2e47c440ea",
        "b7e39ec7dc9159f6c89e1c05e7b7eae5deee1676a6c58eb47b2c56b85abd54c9",
    ),
}


@dataclass(frozen=True)
class Checkpoint:
    """One file as read: its tensors by their names, the SHA-256 of the file, and that of the one it was made from, if told."""

    path: Path
    tensors: dict[str, Tensor]
    sha256: str
    made_from: str


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Another's weights, from a safetensors file: never from a pickle, which may run code.

    Raises FileNotFoundError where there is none, ValueError for a file of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path} is no safetensors file ({error}). A state dict that torch saved becomes one by {TO_SAFETENSORS}"
        ) from error
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Checkpoint(path, tensors, sha256, told.get("sha256_of_source", ""))


def load_published(system: str, files: Sequence[str | Path]) -> tuple[nn.Module, list[Checkpoint]]:
    """The library's model with a published system's weights, in evaluation mode, and the files as they were read.

    files: of a Mix-and-Match model one, of a Multi-Level VAE its encoder and its decoder, in this order.
    Raises ValueError for an unknown system, another number of files, and files that hold other tensors: which are missing,
    not known, or of another shape; FileNotFoundError as `read_checkpoint`.
    """
    published = SYSTEMS[checks.choice("system", system, SYSTEMS)]
    if len(files) != len(published.names):
        raise ValueError(f"{system} is made of {len(published.names)} file(s), got {len(files)}: {_told(published)}")
    read = [read_checkpoint(path) for path in files]
    module = {"mix-and-match": mix_and_match, "multi-level-vae": multi_level_vae}[published.experiment]
    model = module.build(published.config)
    wanted, found = model.state_dict(), {}
    for checkpoint, names in zip(read, published.names, strict=True):
        for name, tensor in checkpoint.tensors.items():
            place = renamed(name, names)
            if place not in wanted:
                raise ValueError(f"{checkpoint.path} holds {name}, which has no place in {system}: {_told(published)}")
            if tensor.shape != wanted[place].shape:
                shapes = f"{list(tensor.shape)}, {system} has {list(wanted[place].shape)} there"
                raise ValueError(f"{checkpoint.path}: {name} is {shapes}: {_told(published)}")
            found[place] = tensor
    if missing := sorted(wanted.keys() - found.keys()):
        paths = ", ".join(str(checkpoint.path) for checkpoint in read)
        raise ValueError(f"{paths} lack {', '.join(missing)} of {system}: {_told(published)}")
    model.load_state_dict(found)
    return model.eval(), read


def renamed(name: str, names: Mapping[str, str]) -> str | None:
    """A tensor's name in the library's model, None where it has none."""
    for pattern, place in names.items():
        if found := re.fullmatch(pattern, name):
            return found.expand(place)
    return None


def _told(published: Published) -> str:
    """Which files are asked for."""
    return f"give {' and '.join(published.sources.values())} as safetensors, in this order"


def score(system: str, model: nn.Module, train: Digits, test: Digits, seed: int = 0) -> dict[str, float]:
    """The chapter's own `evaluate` of a published model, and listening in nats; seed: of all that is drawn in scoring."""
    published = SYSTEMS[checks.choice("system", system, SYSTEMS)]
    if published.experiment == "mix-and-match":
        found = mix_and_match.evaluate(model, published.config, test, seed)
    else:
        found = multi_level_vae.evaluate(model, published.config, train, test, seed)
    return found | listening_metrics(model, test, seed)


def record(
    system: str,
    metrics: Mapping[str, float],
    read: Sequence[Checkpoint],
    data: Mapping[str, str],
    seed: int,
    seconds: float,
    directory: str | Path | None = None,
) -> Path:
    """Keep one seed of a score with its source, the SHA-256 of its files and the command; returns the file.

    It has the shape of all results, one file an experiment; directory: None is the book's own, DIRECTORY.
    """
    published, folder = SYSTEMS[system], DIRECTORY if directory is None else directory
    config = {
        "source": published.source,
        "files": {checkpoint.path.name: checkpoint.sha256 for checkpoint in read},
        "made_from": {checkpoint.made_from: published.sources.get(checkpoint.made_from, "") for checkpoint in read},
        "command": f"python -m latentbook score {system} {' '.join(checkpoint.path.name for checkpoint in read)}",
    }
    results.record(published.experiment, system, seed, config, data, metrics, seconds, directory=folder)
    return results.path_of(published.experiment, folder)


SHOWN = 400  # test digits whose codes are kept for a map of them


@torch.no_grad()
def keep_pictures(system: str, model: MultiLevelVAE, test: Digits, directory: str | Path | None = None) -> Path:
    """What a published Multi-Level VAE draws and how it places digits, beside its score; returns the file.

    "grid_1" and "grid_10" [styles, classes, 28, 28]: `swap_grid` of `specimens` in grey bytes, by the images of evidence;
    "style", "alone", "together" [SHOWN, 10]: codes (means) of the first test digits, the class code of the image alone and
    of all of these images of its class, as the reproduction's plots have it; "labels" [SHOWN].
    """
    found: dict[str, Any] = {}
    for k in (1, 10):
        drawn = swap_grid(model, *specimens(test, k))
        found[f"grid_{k}"] = (255 * drawn).round().to(torch.uint8).numpy()
    some = test.take(slice(0, SHOWN))
    style, single = model.encode(some.images)
    _, which = torch.unique(some.labels, return_inverse=True)
    together = model.accumulate(single, which).mean[which]
    for name, codes in (("style", style.mean), ("alone", single.mean), ("together", together)):
        found[name] = codes.numpy().astype(np.float16)
    found["labels"] = some.labels.numpy().astype(np.uint8)
    path = pictures_of(system, directory)
    save_file(found, path)
    return path


def pictures_of(system: str, directory: str | Path | None = None) -> Path:
    """The file of `keep_pictures`."""
    return Path(DIRECTORY if directory is None else directory) / f"{system}.safetensors"


def load_pictures(system: str, directory: str | Path | None = None) -> dict[str, np.ndarray]:
    """What `keep_pictures` kept of a published Multi-Level VAE. Raises ValueError for a system without pictures."""
    kept = [name for name, published in SYSTEMS.items() if published.experiment == "multi-level-vae"]
    return load_file(pictures_of(checks.choice("system", system, kept), directory))


def unknown_sources(system: str, read: Sequence[Checkpoint]) -> list[Path]:
    """The files that do not say that they were made from the published ones."""
    return [checkpoint.path for checkpoint in read if checkpoint.made_from not in SYSTEMS[system].sources]


def in_words(found: Mapping[int, Mapping[str, float]]) -> str:
    """Metrics of some seeds of scoring, a line a metric: mean and standard deviation."""
    lines = []
    for metric in next(iter(found.values())):
        numbers = [metrics[metric] for metrics in found.values()]
        spread = f" ± {results.summarise(numbers, 'std'):.2g}" if len(numbers) > 1 else ""
        lines.append(f"  {metric:32} {results.summarise(numbers, 'mean'):.4g}{spread}")
    return "\n".join(lines)
