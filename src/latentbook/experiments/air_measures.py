"""What chapter 05 measures of a model that counts: how well, since when, where it looks, how likely it finds a scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from latentbook import checks, evaluation
from latentbook.data.scenes import Scenes, ink_boxes
from latentbook.models.air import AIR, add_up, draw_counts
from latentbook.training.loop import History, check_device

REACHED, KEPT = 0.98, 0.97  # count accuracy: of the first evaluation at which a run has crossed, of all that follow
PART = 500  # scenes that are looked at together


@torch.no_grad()
def count_log_probs(model: AIR, images: Tensor) -> Float[Tensor, "n counts"]:
    """log q(n) of every scene, from posterior means. Raises ValueError for images that the model does not take."""
    noise = model.prior_mean.new_zeros(PART, model.config.steps, model.z_dim)
    parts = checks.as_tensor("images", images).split(PART)
    return torch.cat([model.count_log_probs(model.attend(part, noise[: len(part)]).logits) for part in parts])


class Counting:
    """A hook that counts the objects of held-out scenes after every epoch, with the steps and seconds of training so far."""

    def __init__(self, scenes: Scenes):
        self.scenes = checks.kind("scenes", scenes, Scenes, "draw_scenes makes them")
        self.accuracy: list[float] = []
        self.steps: list[int] = []
        self.seconds: list[float] = []

    def prepare(self, model: AIR, history: History) -> None:
        """Before training: raises ValueError where the scenes are on another device than the model."""
        check_device("scenes that are counted", self.scenes.images, model)

    def __call__(self, model: AIR, history: History) -> None:
        seen = count_log_probs(model.eval(), self.scenes.images).argmax(1)
        self.accuracy.append(accuracy(seen, self.scenes.labels))
        self.steps.append(history.steps)
        self.seconds.append(history.seconds)

    def metrics(self) -> dict[str, float]:
        """crossed_98: 1 for a run that reached 98 % and stayed; steps_to_98, seconds_to_98: till then, else all there were."""
        index = crossing(self.accuracy)
        last = -1 if index is None else index
        return {
            "crossed_98": float(index is not None),
            "steps_to_98": self.steps[last],
            "seconds_to_98": self.seconds[last],
        }


def crossing(accuracies: Sequence[float], reached: float = REACHED, kept: float = KEPT) -> int | None:
    """The first evaluation at or above `reached` after which none falls below `kept`; None where there is none.

    Raises ValueError for accuracies outside [0, 1].
    """
    accuracies = [checks.number("each accuracy", value, 0, 1) for value in accuracies]
    low = [i for i, value in enumerate(accuracies) if value < kept]
    start = low[-1] + 1 if low else 0
    return next((i for i in range(start, len(accuracies)) if accuracies[i] >= reached), None)


def accuracy(seen: Int[Tensor, " n"], true: Int[Tensor, " n"]) -> float:
    """The share of scenes whose objects are counted right. Raises ValueError unless both are counts [n]."""
    seen, true = counted(seen, true)
    return float((seen == true).float().mean())


def counted(seen: Tensor, true: Tensor) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Two counts of the same scenes, as int64. Raises ValueError unless both are whole numbers [n] of at least 0."""
    seen = checks.class_numbers("seen", seen)
    true = checks.class_numbers("true", true, len(seen))
    for name, counts in (("seen", seen), ("true", true)):
        if counts.amin() < 0:
            raise ValueError(f"{name} must be counts of at least 0, got {int(counts.amin())}")
    return seen, true


def confusion(seen: Int[Tensor, " n"], true: Int[Tensor, " n"], most: int) -> dict[str, float]:
    """Of the scenes with so many objects, the share that is seen as 0 to `most`; and of all, that seen as too few, too many.

    Raises ValueError unless both are counts [n], those seen of at most `most`.
    """
    most = checks.count("most", most, 0)
    seen, true = counted(checks.class_numbers("seen", seen, classes=most + 1), true)
    shares = {
        f"count_{n}_seen_as_{m}": float((seen[true == n] == m).float().mean())
        for n in true.unique().tolist()
        for m in range(most + 1)
    }
    too_few, too_many = (float(wrong.float().mean()) for wrong in (seen < true, seen > true))
    return shares | {"undercounts": too_few, "overcounts": too_many}


def boxes_and_counts(
    found: Tensor, counts: Tensor, boxes: Tensor, true: Tensor
) -> tuple[Float[Tensor, "n steps 4"], Int[Tensor, " n"], Float[Tensor, "n slots 4"], Int[Tensor, " n"]]:
    """Found boxes and true ones, in one precision, with how many of each count.

    Raises ValueError unless there are as many of each as scenes, none of the boxes is NaN, and none of the counts too large.
    """
    found, boxes = checks.as_tensor("found", found), checks.as_tensor("boxes", boxes)
    n = checks.same_length(found=found, counts=counts, boxes=boxes, true=true)
    found = checks.finite("found", found, (n, "steps", 4), checks.float_type(found))
    boxes = checks.finite("boxes", boxes.to(found), (n, "slots", 4), found.dtype)
    counts = checks.class_numbers("counts", counts, n, found.shape[1] + 1).to(found.device)
    return found, counts, boxes, checks.class_numbers("true", true, n, boxes.shape[1] + 1).to(found.device)


class Pairs(NamedTuple):
    """Found objects and true ones, paired scene by scene so that the sum of their boxes' overlaps is the largest."""

    scene: Int[Tensor, " pairs"]
    found: Int[Tensor, " pairs"]  # which step
    true: Int[Tensor, " pairs"]  # which slot
    iou: Float[Tensor, " pairs"]


def matched(
    found: Float[Tensor, "n steps 4"],
    counts: Int[Tensor, " n"],
    boxes: Int[Tensor, "n slots 4"],
    true: Int[Tensor, " n"],
) -> Pairs:
    """The pairs of found boxes and true ones, intersection over union; what has no partner is in none.

    Of found boxes the first `counts` count, of true ones the first `true`. Raises as `boxes_and_counts`.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, as is torchvision, and only measuring needs them
    from torchvision.ops import box_iou

    found, counts, boxes, true = boxes_and_counts(found, counts, boxes, true)
    pairs = []
    for i in ((counts > 0) & (true > 0)).nonzero().flatten().tolist():
        iou = box_iou(found[i, : counts[i]], boxes[i, : true[i]]).nan_to_num(0).cpu().numpy()
        rows, columns = linear_sum_assignment(iou, maximize=True)
        pairs += [(i, *pair) for pair in zip(rows, columns, iou[rows, columns], strict=True)]
    scene, step, slot, iou = zip(*pairs, strict=True) if pairs else ((), (), (), ())
    index = (torch.tensor(part, dtype=torch.int64, device=found.device) for part in (scene, step, slot))
    return Pairs(*index, torch.tensor(iou, device=found.device))


def matched_iou(
    found: Float[Tensor, "n steps 4"],
    counts: Int[Tensor, " n"],
    boxes: Int[Tensor, "n slots 4"],
    true: Int[Tensor, " n"],
) -> float:
    """The mean intersection over union of the pairs of `matched`; what has no partner is not in the mean (but in under- and
    overcounts). 0 where there are no pairs at all. Raises as `boxes_and_counts`."""
    iou = matched(found, counts, boxes, true).iou
    return float(iou.mean()) if len(iou) else 0.0


def as_digits(canvases: Float[Tensor, "m canvas canvas"], size: int) -> Float[Tensor, "m 1 28 28"]:
    """Single objects on canvases as pictures of MNIST's: `size` pixels around the centre of the ink's mass, made 28.

    An empty canvas gives an empty picture.
    """
    side = canvases.shape[-1]
    places = (torch.arange(side, device=canvases.device).to(canvases) + 0.5) * 2 / side - 1  # affine_grid's coordinates
    mass = canvases.sum((1, 2)).clamp_min(1e-6)
    x, y = ((canvases.sum(axis) * places).sum(1) / mass for axis in (1, 2))
    affine = canvases.new_zeros(len(canvases), 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = size / side
    affine[:, 0, 2], affine[:, 1, 2] = x, y
    grid = F.affine_grid(affine, [len(canvases), 1, 28, 28], align_corners=False)
    return F.grid_sample(canvases.unsqueeze(1), grid, align_corners=False).clamp(0, 1)


@torch.no_grad()
def read_objects(model: AIR, scenes: Scenes) -> dict[str, float]:
    """Whether the judge sees in each object that is painted the digit that stands there, over pairs of painted and true boxes.

    what_accuracy: of what the model paints; what_accuracy_of_scene: its control, the scene itself within the true boxes.
    0 where there are no pairs.
    """
    checks.kind("scenes", scenes, Scenes, "draw_scenes makes them")
    at = torch.arange(scenes.images.shape[-1], device=scenes.images.device)
    parts = (part.split(PART) for part in (scenes.images, scenes.objects, scenes.boxes, scenes.labels))
    right: list[Tensor] = []
    for images, objects, boxes, true in zip(*parts, strict=True):
        seen = model.infer(images)
        painted = ink_boxes(seen.canvases.flatten(0, 1)).view_as(seen.boxes).to(seen.boxes)
        pairs = matched(painted, seen.counts, boxes, true)
        if len(pairs.scene):
            box = boxes[pairs.scene, pairs.true]
            x, y = ((at >= box[:, k, None]) & (at < box[:, k + 2, None]) for k in (0, 1))
            alone = images[pairs.scene, 0] * (y.unsqueeze(2) & x.unsqueeze(1))
            shown = (as_digits(part, scenes.layout.size) for part in (seen.canvases[pairs.scene, pairs.found], alone))
            right.append(torch.stack([evaluation.judged(part) == objects[pairs.scene, pairs.true] for part in shown]))
    painted_right, scene_right = torch.cat(right, 1).float().mean(1).tolist() if right else (0.0, 0.0)
    return {"what_accuracy": painted_right, "what_accuracy_of_scene": scene_right}


def first_seen(
    windows: Float[Tensor, "n steps 4"],
    counts: Int[Tensor, " n"],
    boxes: Int[Tensor, "n slots 4"],
    true: Int[Tensor, " n"],
) -> tuple[Float[Tensor, "pairs 2"], Float[Tensor, "pairs 2"]]:
    """Of scenes with two objects, both counted: the middles (x, y) in pixels of the object nearest to the first window, and of
    the other. Raises as `boxes_and_counts`."""
    windows, counts, boxes, true = boxes_and_counts(windows, counts, boxes, true)
    pairs = (counts == 2) & (true == 2)
    look, middles = ((part[..., :2] + part[..., 2:]) / 2 for part in (windows[pairs, 0], boxes[pairs, :2]))
    first = (middles - look.unsqueeze(1)).norm(dim=2).argmin(1)
    row = torch.arange(len(first), device=first.device)
    return middles[row, first], middles[row, 1 - first]


@torch.no_grad()
def looks(model: AIR, scenes: Scenes) -> dict[str, float]:
    """Where the model looks and what it pastes there, against the boxes around each object's ink.

    window_iou of the attention windows, box_iou of the boxes around what is pasted (by the same threshold of ink), both of
    matched pairs; policy_x, policy_y: how far right and down of the other the first object seen stands on average, in pixels
    (0 where no two objects are seen); squared_error: of a scene painted again, summed over its pixels.
    """
    checks.kind("scenes", scenes, Scenes, "draw_scenes makes them")
    windows, pasted, counts, errors = [], [], [], []
    for part in scenes.images.split(PART):
        seen = model.infer(part)
        windows.append(seen.boxes)
        pasted.append(ink_boxes(seen.canvases.flatten(0, 1)).view_as(seen.boxes).to(seen.boxes))
        counts.append(seen.counts)
        errors.append((add_up(seen.canvases, seen.counts) - part).square().flatten(1).sum(1))
    rest = (torch.cat(counts), scenes.boxes, scenes.labels)
    first, second = first_seen(torch.cat(windows), *rest)
    x, y = (first - second).sum(0).tolist()
    return {
        "window_iou": matched_iou(torch.cat(windows), *rest),
        "box_iou": matched_iou(torch.cat(pasted), *rest),
        "policy_x": x / max(len(first), 1),
        "policy_y": y / max(len(first), 1),
        "squared_error": float(torch.cat(errors).mean()),
    }


def bounds(model: AIR, images: Tensor, generator: torch.Generator, samples: int = 100) -> dict[str, float]:
    """Bounds on log p(x) in nats a scene, under the model's own count prior: the ELBO, the bound of so many weighed samples."""
    return {
        "elbo": float(model.elbo(images, generator).mean()),
        "iwae_100": float(model.importance_bound(images, samples, generator=generator).mean()),
    }


@torch.no_grad()
def measure(model: AIR, scenes: Scenes, bounded: int, generator: torch.Generator) -> dict[str, float]:
    """All figures of one model on held-out scenes; the bounds on the first `bounded` of them."""
    bounded = checks.count("bounded", bounded)
    checks.kind("scenes", scenes, Scenes, "draw_scenes makes them")
    log_q = count_log_probs(model.eval(), scenes.images)
    seen, drawn = log_q.argmax(1), draw_counts(log_q.exp(), generator)
    return {
        "count_accuracy": accuracy(seen, scenes.labels),
        "count_accuracy_sampled": accuracy(drawn, scenes.labels),
        **confusion(seen, scenes.labels, model.config.steps),
        **looks(model, scenes),
        **(read_objects(model, scenes) if scenes.source != "sprites" else {}),  # the judge reads digits
        **bounds(model, scenes.images[:bounded], generator),
    }


def ink_control(train: Scenes, test: Scenes) -> float:
    """The accuracy of a count that a logistic regression with true counts reads off nothing but the sum of all pixels."""
    for name, scenes in (("train", train), ("test", test)):
        checks.kind(name, scenes, Scenes, "draw_scenes makes them")
    ink, held_out = (scenes.images.flatten(1).sum(1, keepdim=True) for scenes in (train, test))
    return evaluation.probe(ink, train.labels, held_out, test.labels)
