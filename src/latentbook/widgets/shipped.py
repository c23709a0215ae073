"""What the shipped models lose when they are exported for the page: each measured as it is, and as the page has it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from latentbook import checks, files
from latentbook.data.digits import Digits, square_images
from latentbook.data.scenes import draw_scenes
from latentbook.evaluation import Judge, agreement
from latentbook.models import AIR, VAE, ConditionalVAE, Localisation, MixAndMatch, MultiLevelVAE
from latentbook.training.tensor_files import load_weights
from latentbook.widgets.export import SHIPPED, WEIGHTS, built, export_file, read_model, read_weights, sent_bytes

RECORD = Path(__file__).parent / "shipped.json"
SCENES, SCENES_SEED = 2000, 1  # for AIR, of the test digits


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def nats(model: nn.Module, batch: Any, *terms: str) -> float:
    """The mean over a batch of the named terms of a model's loss, of all where none is named, with seeded noise."""
    found = model.loss(batch, generator=seeded())
    return float(sum(term.mean() for name, term in found.items() if not terms or name in terms))


def of_judge(model: Judge, test: Digits) -> dict[str, float]:
    """The judge: which digits it knows."""
    right = (model(test.images).argmax(1) == test.labels).float().mean()
    return {"nats": nats(model, test, "cross_entropy"), "accuracy": float(right)}


def of_vae(model: VAE, test: Digits) -> dict[str, float]:
    """The primer's: whether an image drawn from its code's mean is the same digit."""
    drawn = square_images(model.decode(model.encode(test.images).mean).sigmoid())
    return {"nats": nats(model, test, "bce", "kl"), "agreement": agreement(drawn, test.labels)}


def of_mix_and_match(model: MixAndMatch, test: Digits) -> dict[str, float]:
    """Whether the digits that it completes, with z and mask drawn, are those whose bottom was given."""
    condition = model.split(test.images)[1]
    drawn = square_images(torch.cat((model.sample(condition, generator=seeded()), condition), 1))
    return {"nats": nats(model, test, "bce", "kl"), "agreement": agreement(drawn, test.labels)}


def of_conditional_vae(model: ConditionalVAE, test: Digits) -> dict[str, float]:
    """Whether it draws the digit that is asked for, and knows digits."""
    drawn, right = model.sample(test.labels, generator=seeded()), model.predict(test.images) == test.labels
    found = {"nats": nats(model, test, "bce", "kl"), "asked_agreement": agreement(drawn, test.labels)}
    return found | {"accuracy": float(right.float().mean())}


def of_multi_level_vae(model: MultiLevelVAE, test: Digits) -> dict[str, float]:
    """Whether an image in the style of one and the class of another is of that class."""
    swapped = model.swap(test.images, test.images.roll(1, 0).unsqueeze(1))
    terms = ("mse", "bce", "style_kl", "class_kl")
    return {"nats": nats(model, test, *terms), "agreement": agreement(swapped, test.labels.roll(1))}


def of_localisation(model: Localisation, test: Digits) -> dict[str, float]:
    """Whether the reader knows the digits in the windows."""
    canvas, _ = model.scene(test.images, seeded())
    right = model.reader(model(canvas)).argmax(1) == test.labels
    return {"nats": nats(model, test, "cross_entropy"), "accuracy": float(right.float().mean())}


def of_air(model: AIR, test: Digits) -> dict[str, float]:
    """Whether it counts the objects of scenes."""
    scenes = draw_scenes(test, SCENES, seed=SCENES_SEED)
    right = model.infer(scenes.images).counts == scenes.labels
    return {"nats": nats(model, scenes), "count_accuracy": float(right.float().mean())}


MEASURES: dict[str, Callable[[Any, Digits], dict[str, float]]] = {
    "AIR": of_air,
    "ConditionalVAE": of_conditional_vae,
    "Judge": of_judge,
    "Localisation": of_localisation,
    "MixAndMatch": of_mix_and_match,
    "MultiLevelVAE": of_multi_level_vae,
    "VAE": of_vae,
}


@torch.no_grad()
def loss_of_accuracy(name: str, test: Digits, bits: int | str | None = None) -> dict[str, Any]:
    """{"bits", "bytes", "before": {measure: value}, "after": {...}} of a shipped model: as its weights file has it, and as the
    page has it. bits: other ones than those it is shipped with. Bytes are those that a host sends.

    "nats" are those of its loss, the other measures shares of 1.
    """
    checks.choice("name", name, SHIPPED)
    path, bits = WEIGHTS / f"{name}.safetensors", SHIPPED[name] if bits is None else bits
    kind = read_weights(path)[0]
    before, packed = load_weights(path, lambda config: built(kind, config)), export_file(path, bits)
    found = [MEASURES[kind](model, test) for model in (before, read_model(packed))]
    return {"bits": bits, "bytes": sent_bytes(packed), **dict(zip(("before", "after"), found, strict=True))}


def recorded() -> dict[str, Any]:
    """What `record` wrote: {"data": {"source", "hash"}, "models": {name: as loss_of_accuracy gives it}}.

    Raises OSError where it cannot be read, ValueError for a damaged one.
    """
    advice = "put back a whole copy, or make it anew: remove it and give `export --measure`"
    try:
        found = json.loads(RECORD.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not all(isinstance(found.get(part), dict) for part in ("data", "models")):
            raise ValueError("it must have data and models")
        if odd := [name for name, row in found["models"].items() if not _is_row(row)]:
            raise ValueError(f"not as it is recorded: {', '.join(odd)}")
        return found
    except OSError as error:
        raise type(error)(f"{RECORD} cannot be read ({error.strerror or error}): {advice}") from error
    except ValueError as error:
        raise ValueError(f"{RECORD} is damaged ({error}): {advice}") from None


def _is_row(row: Any) -> bool:
    """Whether a record has what `in_words` tells."""
    if not isinstance(row, dict) or not isinstance(row.get("bits"), int | str) or not isinstance(row.get("bytes"), int):
        return False
    before, after = row.get("before"), row.get("after")
    if not isinstance(before, dict) or not isinstance(after, dict) or before.keys() != after.keys():
        return False
    return all(isinstance(value, int | float) for value in (*before.values(), *after.values()))


def record_on(test: Digits) -> dict[str, Any]:
    """The record to which what is measured on these digits may be added, an empty one where there is none.

    Raises ValueError for other digits than those that the rest of it is on.
    """
    data = {"source": test.source, "hash": test.sha256}
    found = recorded() if RECORD.exists() else {"data": data, "models": {}}
    if found["data"] != data:
        raise ValueError(f"{RECORD} is on {found['data']}, these digits are {data}: remove it to start over")
    return found


def record(name: str, test: Digits) -> None:
    """Measure a shipped model and keep what was found in the package's shipped.json.

    Raises ValueError for other digits than those that the rest of the record is on.
    """
    found = record_on(test)
    found["models"] = dict(sorted({**found["models"], name: loss_of_accuracy(name, test)}.items()))
    files.write_whole(RECORD, json.dumps(found, indent=1) + "\n")


def in_words(found: dict[str, dict[str, Any]]) -> str:
    """What was measured, a line a measure."""
    line = "{:36}{:>6}{:>7}  {:16}{:>10}{:>10}{:>10}"
    rows = [line.format("", "bits", "kB", "", "weights", "page", "lost")]
    for name, row in found.items():
        for k, (measure, before) in enumerate(row["before"].items()):
            after = row["after"][measure]
            start = (name, row["bits"], f"{row['bytes'] / 1000:.0f}") if k == 0 else ("", "", "")
            lost = after - before if measure == "nats" else before - after
            rows.append(line.format(*start, measure, *(f"{value:.4f}" for value in (before, after)), f"{lost:+.4f}"))
    return "\n".join(rows)
