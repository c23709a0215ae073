"""Train the grid on one seed and measure it; prints one line of JSON.

python run.py SEED [name=value ...]: names of GridConfig, of Run below.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from latentbook.data import Layout, load_digits, train_validation_split
from latentbook.data.scenes import choose, compose, fresh_scenes, make_stamps
from latentbook.schedules import one_cycle
from latentbook.training.loop import fit, initialise
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score

from grid import Grid, GridConfig, count_probs

INK = 0.1  # as scenes.INK
PART = 100


@dataclass(frozen=True)
class Run:
    """How it is trained and measured."""

    canvas: int = 84
    size: int = 18
    overlap: float = 0.2
    low: int = 2
    high: int = 9
    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 2e-3
    warmup: float = 0.05
    held_out: int = 1000
    watched: int = 300
    an_epoch: int = 200  # steps after which counts are looked at
    final: int = 1  # 0: the short measurement only
    save: str = ""


class Truth:
    """Scenes with the true object of every pixel; what draw_scenes draws, and whose ink
    each pixel is besides.

    images: [n, 1, canvas, canvas]; counts: [n]; boxes: [n, slots, 4]; ink: bool [n,
    canvas, canvas]. Of the same shape, for pixels with ink: owner, the brightest of the
    objects there; box_owner, the first object whose box holds the pixel; held_by, how
    many boxes do.
    """

    def __init__(self, digits, n: int, layout: Layout, seed: int):
        generator = torch.Generator().manual_seed(seed)
        which, counts = choose(len(digits), n, layout, generator)
        stamps = make_stamps(digits, layout.size)
        self.images, self.counts, _, self.boxes = compose(
            stamps, which, counts, layout, generator
        )
        corner = self.boxes[..., :2] - stamps.boxes[which][..., :2]
        own = torch.zeros(*which.shape, layout.canvas, layout.canvas)
        for i, k in (self.boxes[..., 2] > 0).nonzero().tolist():
            x, y = corner[i, k].tolist()
            own[i, k, y : y + layout.size, x : x + layout.size] = stamps.images[
                which[i, k]
            ]
        at = torch.arange(layout.canvas)
        x, y = (
            (at >= self.boxes[..., k, None]) & (at < self.boxes[..., k + 2, None])
            for k in (0, 1)
        )
        inside = y.unsqueeze(3) & x.unsqueeze(2)  # [n, slots, canvas, canvas]
        assert torch.equal(own.sum(1).clamp(max=1), self.images[:, 0])
        self.held_by = inside.sum(1)
        self.box_owner = inside.long().argmax(1)
        self.owner = own.argmax(1)
        self.ink = self.images[:, 0] > INK


@torch.no_grad()
def look(model: Grid, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """p [n, cells], and for each pixel the present cell that contributes most, with
    none at -1 [n, canvas, canvas].
    """
    c, side = model.config, images.shape[-1]
    row, padded = side // c.cell, side + 2 * c.margin
    ps, owners = [], []
    for part in images.split(PART):
        found = model.infer(part)
        p = found.logits.sigmoid()
        best = torch.zeros(len(part), padded, padded)
        owner = torch.full_like(best, -1, dtype=torch.int64)
        for i in range(row**2):
            y, x = i // row * c.cell, i % row * c.cell
            at = (slice(None), slice(y, y + c.patch), slice(x, x + c.patch))
            ink = found.patches[:, i] * (p[:, i] > 0.5)[:, None, None]
            owner[at] = torch.where(ink > best[at], i, owner[at])
            best[at] = torch.maximum(best[at], ink)
        ps.append(p)
        owners.append(owner[:, c.margin : -c.margin, c.margin : -c.margin])
    return torch.cat(ps), torch.cat(owners)


def ari(true: torch.Tensor, seen: torch.Tensor, ink: torch.Tensor) -> float:
    """The mean adjusted Rand index over the ink pixels of every scene."""
    each = [
        adjusted_rand_score(a[m].numpy(), b[m].numpy())
        for a, b, m in zip(true, seen, ink, strict=True)
    ]
    return float(np.mean(each))


def scores(seen: torch.Tensor, truth: Truth) -> dict[str, float]:
    """How well objects are counted."""
    right = (seen == truth.counts).float()
    return {
        "count_accuracy": float(right.mean()),
        "count_error": float((seen - truth.counts).abs().float().mean()),
        "too_few": float((seen < truth.counts).float().mean()),
        "too_many": float((seen > truth.counts).float().mean()),
    }


def aris(owner: torch.Tensor, truth: Truth) -> dict[str, float]:
    """ARI on all ink pixels, by whose ink it is, and on those that one box holds."""
    return {
        "ari": ari(truth.owner, owner, truth.ink),
        "ari_boxes": ari(truth.box_owner, owner, truth.ink & (truth.held_by == 1)),
    }


def measure(model: Grid, truth: Truth) -> dict:
    """All figures of a model on held-out scenes."""
    p, owner = look(model.eval(), truth.images)
    seen, mode = (p > 0.5).sum(1), count_probs(p).argmax(1)
    by_count = {
        int(n): round(float((mode[truth.counts == n] == n).float().mean()), 4)
        for n in truth.counts.unique()
    }
    return {
        **scores(mode, truth),
        "count_accuracy_threshold": scores(seen, truth)["count_accuracy"],
        **aris(owner, truth),
        "unsure": float(((p > 0.1) & (p < 0.9)).float().sum(1).mean()),
        "by_count": by_count,
    }


def components(truth: Truth, threshold: float) -> dict[str, float]:
    """The plain baseline: connected components (8 neighbours) of the thresholded scene;
    every pixel belongs to the nearest.
    """
    owner, seen = [], []
    for image in truth.images[:, 0].numpy():
        part, n = ndimage.label(image > threshold, np.ones((3, 3)))
        row, column = ndimage.distance_transform_edt(
            part == 0, return_distances=False, return_indices=True
        )
        owner.append(torch.tensor(part[row, column]).long())
        seen.append(n)
    return {**scores(torch.tensor(seen), truth), **aris(torch.stack(owner), truth)}


def ink_control(train: Truth, truth: Truth) -> dict[str, float]:
    """A count that a logistic regression reads off the sum of all pixels."""
    ink, held = (
        t.images.flatten(1).sum(1, keepdim=True).numpy() for t in (train, truth)
    )
    centre, spread = ink.mean(), ink.std()
    probe = LogisticRegression(C=1e4, max_iter=2000)
    probe.fit((ink - centre) / spread, train.counts.numpy())
    return scores(torch.tensor(probe.predict((held - centre) / spread)), truth)


def main() -> None:
    torch.set_num_threads(1)
    seed, given = int(sys.argv[1]), dict(a.split("=", 1) for a in sys.argv[2:])
    config, run = GridConfig(), Run()
    for name, value in given.items():
        for i, target in enumerate((config, run)):
            if name in {f.name for f in fields(target)}:
                kind = type(getattr(target, name))
                new = replace(target, **{name: kind(value)})
                config, run = (new, run) if i == 0 else (config, new)
                break
        else:
            raise SystemExit(f"no such name: {name}")
    counts = tuple(range(run.low, run.high + 1))
    layout = Layout(run.canvas, run.size, counts, overlap=run.overlap)
    digits, kept = train_validation_split(load_digits("train"))
    model = initialise(lambda: Grid(config), seed)
    watched = Truth(kept, run.watched, layout, 2)
    start, cpu, log = time.time(), time.process_time(), []

    def hook(model: Grid, history) -> None:
        found = measure(model, watched)
        log.append([history.steps, round(found["count_accuracy"], 4)])
        terms = {k: round(v, 1) for k, v in history.epochs[-1].items()}
        found = {k: round(v, 3) for k, v in found.items() if k != "by_count"}
        print(
            history.steps,
            round(history.seconds),
            terms,
            found,
            file=sys.stderr,
            flush=True,
        )

    arguments = {"floor": model.exploration, "variance": model.pixel_variance}
    an_epoch = min(run.an_epoch, max(run.steps, 1))
    history = fit(
        model,
        fresh_scenes(digits, an_epoch * run.batch_size, layout, seed),
        epochs=run.steps // an_epoch,
        batch_size=run.batch_size,
        learning_rate=one_cycle(max(1, run.steps), run.warmup, peak=run.learning_rate),
        arguments=arguments,
        seed=seed,
        on_epoch_end=hook,
        progress=False,
    )
    cpu = time.process_time() - cpu
    truth = Truth(kept, run.held_out, layout, 1)
    found = {"seed": seed, "given": given, **measure(model, truth)}
    if run.final:
        more = Layout(96, run.size, (10, 11, 12), overlap=run.overlap)
        large = Layout(120, run.size, tuple(range(2, 19)), overlap=run.overlap)
        found["more"] = measure(model, Truth(kept, 500, more, 3))
        found["large"] = measure(model, Truth(kept, 500, large, 4))
    found |= {
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_seconds": history.seconds,
        "cpu_seconds": cpu,  # of training and its watching
        "ms_per_step": 1e3 * history.seconds / max(1, history.steps),
        "total_seconds": time.time() - start,
        "log": log,
    }
    if run.save:
        torch.save(model.state_dict(), run.save)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
