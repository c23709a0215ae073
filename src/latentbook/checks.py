"""The border of the library: what comes in is checked here, once and in one way, before any work is done.

Every function takes the name by which the caller knows the value, returns the value as the library uses it (a tensor of
the right type, a plain Python number), and raises ValueError that says what was given, what is allowed and what to do.
Values are converted where nothing is lost (lists and arrays to tensors, bytes 0/1 and bool to grey values, int32 to
int64, a narrower float to a wider one) and refused where something would be (a wider float, 0..255 as grey values).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_tensor(name: str, values: Any, hint: str = "give a tensor, an array or nested lists of numbers") -> Tensor:
    """A tensor, an array or nested lists of numbers as a tensor; a tensor is returned as it is."""
    if isinstance(values, Tensor):
        return values
    if not isinstance(values, np.ndarray | np.generic | list | tuple) or isinstance(values, str):
        raise ValueError(f"{name} must hold numbers, got {_kind(values)}: {hint}")
    try:
        if isinstance(values, list | tuple) and any(isinstance(value, Tensor) for value in values):
            return torch.stack([as_tensor(name, value) for value in values])
        array = np.asarray(values)
        if array.dtype.kind not in "fiub":
            raise ValueError(f"they are {array.dtype}")
        return (
            torch.as_tensor(array)
            if array.dtype.kind != "f" or isinstance(values, np.ndarray)
            else torch.tensor(values)
        )
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{name} must hold numbers in rows of one length ({error}): {hint}") from None


def shaped(name: str, values: Tensor, shape: Sequence[int | str], hint: str = "reshape it first") -> Tensor:
    """The tensor itself if its shape fits. shape: a length for each dimension, or a word where any length >= 1 will do."""
    fits = values.ndim == len(shape) and all(
        n == length if isinstance(length, int) else n > 0 for n, length in zip(values.shape, shape, strict=False)
    )
    if not fits:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{name} must have shape [{wanted}], nothing empty, got {list(values.shape)}: {hint}")
    return values


def in_float(name: str, values: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The values in a floating-point type (None: torch's default one), where it holds them all exactly."""
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if values.dtype == dtype:
        return values
    if values.is_complex() or (values.is_floating_point() and torch.promote_types(values.dtype, dtype) != dtype):
        wanted = str(dtype).removeprefix("torch.")
        raise ValueError(
            f"{name} must be {wanted} here, got {values.dtype}, which {wanted} would round: "
            f"convert it yourself, as in {name.split()[0]}.to(torch.{wanted}), or the model to {values.dtype}"
        )
    return values.to(dtype)


def grey(
    name: str, images: Any, shape: Sequence[int | str], dtype: torch.dtype | None = None, hint: str = "reshape it first"
) -> Tensor:
    """Grey values in [0, 1] without NaN, as floats (bool and whole numbers 0 and 1 are converted). shape: see `shaped`."""
    images = in_float(name, shaped(name, as_tensor(name, images), shape, hint), dtype)
    low, high = images.aminmax()
    if not (low >= 0 and high <= 1):  # also false for NaN
        raise ValueError(
            f"{name} must hold grey values in [0, 1] without NaN, got {float(low):.3g} to {float(high):.3g}: "
            "divide bytes by 255, undo a normalisation"
        )
    return images


def finite(name: str, values: Any, shape: Sequence[int | str], dtype: torch.dtype | None = None) -> Tensor:
    """Floats of a shape (see `shaped`), none of them NaN or infinite."""
    values = in_float(name, shaped(name, as_tensor(name, values), shape), dtype)
    if not values.isfinite().all():
        bad = int((~values.isfinite()).sum())
        raise ValueError(
            f"{name} must be finite, got {bad} values that are NaN or infinite: look for a run that diverged"
        )
    return values


def class_numbers(
    name: str, labels: Any, n: int | None = None, classes: int | None = None, missing: int | None = None
) -> Tensor:
    """Whole numbers [n], one for each example, as int64.

    n: how many there must be (None: at least one); classes: they must lie in 0..classes-1 (None: any will do);
    missing: a number besides that stands where there is none.
    """
    labels = as_tensor(name, labels)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(
            f"{name} must be whole numbers such as int64, got {labels.dtype}: use labels.long(), or argmax of one-hot rows"
        )
    if labels.ndim != 1 or len(labels) == 0 or n not in (None, len(labels)):
        many = "n >= 1" if n is None else n
        raise ValueError(
            f"{name} must be [{many}], one for each example, got {list(labels.shape)}: flatten it, or use argmax of one-hot rows"
        )
    labels = labels.to(torch.int64)
    if classes is not None:
        fine = (labels >= 0) & (labels < classes) | (labels == (-1 if missing is None else missing)) & (
            missing is not None
        )
        if not fine.all():
            also = "" if missing is None else f", or {missing} for an example without one"
            low, high = (int(value) for value in labels.aminmax())
            raise ValueError(f"{name} must be class numbers 0..{classes - 1}{also}, got {low}..{high}")
    return labels


def same_length(**values: Tensor | Sequence[Any]) -> int:
    """The length that all have."""
    lengths = {name: len(value) for name, value in values.items()}
    if len(set(lengths.values())) > 1:
        given = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(f"there must be as many {' as '.join(lengths)}, got {given}: give one for each example")
    return next(iter(lengths.values()))


def count(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number (numpy's too, no bool) of at least `least` and at most `most`, as a plain int."""
    limits = f"at least {least}" if most is None else f"between {least} and {most}"
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        raise ValueError(f"{name} must be a whole number {limits}, got {value!r}")
    return number


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf, open_low: bool = False) -> float:
    """A finite number in [low, high] (open_low: above `low`), as a plain float; numpy's and one-element tensors too."""
    try:
        found = None if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError):
        found = None
    if found is None or not math.isfinite(found) or not low <= found <= high or (open_low and found == low):
        rule = [f"above {low:g}" if open_low else f"at least {low:g}"] * (low > -math.inf)
        rule += [f"at most {high:g}"] * (high < math.inf)
        raise ValueError(f"{name} must be a finite number{' ' * bool(rule)}{' and '.join(rule)}, got {value!r}")
    return found


def choice(name: str, given: Any, allowed: Iterable[Any]) -> Any:
    """The value itself if it is one of those allowed."""
    allowed = list(allowed)
    if given not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {given!r}")
    return given


def known_names(name: str, given: Mapping[str, Any] | Iterable[str], allowed: Iterable[str]) -> None:
    """Raises ValueError for names among those given that are not allowed, and lists those that are."""
    allowed = list(allowed)
    if unknown := [str(each) for each in given if each not in allowed]:
        raise ValueError(
            f"{name} names {', '.join(unknown)}, which does not exist; there are: {', '.join(allowed) or 'none'}"
        )


def device(name: str, given: Any) -> torch.device:
    """A device that torch can use here. Raises ValueError for one that does not exist or that this machine lacks."""
    try:
        torch.zeros(1, device=given).item()  # also fails on the device "meta", which holds no values
        return torch.device(given)
    except Exception as error:  # torch raises RuntimeError, AssertionError, NotImplementedError, ...
        why = str(error).partition("\n")[0]
        raise ValueError(f"{name} must be one that torch can use here, such as cpu, got {given!r} ({why})") from None


def _kind(value: Any) -> str:
    """What a value is, in a message."""
    return "None" if value is None else f"a {type(value).__name__}"
