"""What the figures ask of what they are given: one place for what several of them refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import traitlets
from torch import Tensor

from latentbook import checks
from latentbook.figures import plots as figures


def grey(name: str, values: Any, axes: str) -> np.ndarray:
    """Grey values 0 to 1 (lists, an array or a tensor) as bytes 0 to 255, rounded, never rescaled by their own maximum.

    axes: as in `numbers`. Raises ValueError for another shape, an empty axis, and values that are no grey values.
    """
    return figures.grey(name, values, lengths(axes)).double().mul(255).round().to(torch.uint8).numpy()


def numbers(name: str, values: Any, axes: str) -> np.ndarray:
    """Finite numbers of one shape (lists, an array or a tensor) as float64.

    axes: what the dimensions are, as in "frames rows columns height width"; a number there is a length that must hold.
    Raises ValueError for another shape, an empty axis, and values that are not numbers or not finite.
    """
    return figures.numbers(name, values, lengths(axes)).numpy()


def probabilities(name: str, values: Any, axes: str, hint: str) -> np.ndarray:
    """Numbers (see `numbers`) between 0 and 1; raises ValueError for others. hint: what to give."""
    found = numbers(name, values, axes)
    if found.min() < 0 or found.max() > 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {found.min():g} to {found.max():g}: {hint}")
    return found


def whole(name: str, values: Any, axes: str, count: int) -> list:
    """Integers between 0 and count - 1 of one shape (see `numbers`) as nested lists; raises ValueError for anything else."""
    found = checks.shaped(name, checks.as_tensor(name, values), lengths(axes))
    plain = checks.class_numbers(name, found.detach().cpu().flatten()).view(found.shape)
    if plain.min() < 0 or plain.max() >= count:
        raise ValueError(f"{name} must lie between 0 and {count - 1}, got {plain.min()} to {plain.max()}")
    return plain.tolist()


def refused(check: Callable[[], Any]) -> Any:
    """What a check returns, its ValueError as traitlets has it: for a trait that is set later."""
    try:
        return check()
    except ValueError as error:
        raise traitlets.TraitError(str(error)) from error


def lengths(axes: str) -> list[int | str]:
    """The axes one by one, numbers as such."""
    return [int(axis) if axis.isdigit() else axis for axis in axes.split()]


def same_names(what: str, given: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raises ValueError unless `given` has just the models of the decodings."""
    if not isinstance(given, Mapping) or set(given) != set(names):
        found = list(given) if isinstance(given, Mapping) else f"a {type(given).__name__}"
        raise ValueError(f"{what} must be given for the models of decodings, {names}, got {found}")


def chosen(name: str, value: Any, count: int) -> int:
    """An integer between 0 and count - 1, numpy's too, as a plain one; raises ValueError for anything else."""
    return checks.count(name, value, 0, count - 1)


def percent(name: str, values: Any, n: int, count: int) -> list[list[int]]:
    """Probabilities [n, labels] in whole percent; raises ValueError for another shape or values outside 0 to 1."""
    hint = "give the softmax of the judge's logits at its verdict"
    return np.rint(probabilities(f"probabilities[{name!r}]", values, f"{n} {count}", hint) * 100).astype(int).tolist()


def plain_numbers(name: str, values: Any, count: int) -> list[int | float]:
    """A number for each of `count` frames, as plain ones: whole ones as int, others by the shortest decimals that tell them.

    Raises ValueError for another number of them, and for what is no finite number.
    """
    found = checks.as_tensor(name, values, dtype=torch.float64)
    if found.shape != (count,) or found.dtype == torch.bool:
        given = found.tolist()
        raise ValueError(f"{name} must hold one number for each of {count} frames, got {found.numel()}: {given}")
    exact = numbers(name, found, f"{count}")
    exact = found.detach().cpu().numpy() if found.dtype == torch.float32 else exact
    decimals = (float(str(value)) for value in exact)  # of 0.1 in float32: 0.1
    return [int(value) if value.is_integer() else value for value in decimals]


def words(name: str, given: Sequence[str] | None, count: int, each: str) -> list[str]:
    """None, or one text for each of `count` things. Raises ValueError for another number of them."""
    given = given.tolist() if hasattr(given, "tolist") else given  # of arrays and tensors
    if not isinstance(given, Iterable | None):
        raise ValueError(f"{name} must hold texts, one for each {each}, or none, got {given!r}")
    found = [] if given is None else [given] if isinstance(given, str) else [str(text) for text in given]
    if len(found) not in (0, count):
        raise ValueError(
            f"{name} must hold one text for each {each}, {count} of them or none, got {len(found)}: {found}"
        )
    return found


def in_single(where: Any) -> Tensor:
    """Windows in float32, as pictures are kept, whatever torch's default precision is."""
    return torch.tensor(where, dtype=torch.float32)


def checked_where(name: str, where: Any) -> tuple[float, float, float]:
    """(scale, shift_x, shift_y) as floats (a list, an array or a tensor); raises ValueError for anything else."""
    try:
        values = tuple(numbers(name, where, "3").tolist())
    except ValueError as error:
        raise ValueError(f"{name} must be three finite numbers (scale, shift_x, shift_y): {error}") from error
    if values[0] <= 0:
        raise ValueError(f"{name} must be (scale, shift_x, shift_y), the scale positive, got {list(values)}")
    return values
