"""The border of the library: what comes in is checked here, once and in one way, before any work is done.

Every function takes the name by which the caller knows the value, returns the value as the library uses it (a tensor of
the right type, a plain Python number), and raises ValueError that says what was given, what is allowed and what to do.
Values are converted where nothing is lost (lists and arrays to tensors, bytes 0/1 and bool to grey values, int32 to
int64, a narrower float to a wider one) and refused where something would be (a wider float, 0..255 as grey values).
"""

from __future__ import annotations

import functools
import math
import operator
import types
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

ROUNDING = 1e-5  # of grey values, as of a picture that was read between pixels


def as_tensor(
    name: str,
    values: Any,
    hint: str = "give a tensor, an array or nested lists of numbers",
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """A tensor, an array or nested lists of numbers as a tensor; a tensor is returned as it is.

    dtype: of lists of floats (None: torch's default one); device: where lists and arrays are put (None: the CPU).
    """
    if isinstance(values, Tensor):
        return values
    values = list(values) if isinstance(values, range) else values
    if not isinstance(values, np.ndarray | np.generic | list | tuple) or isinstance(values, str):
        raise ValueError(f"{name} must hold numbers, got {_kind(values)}: {hint}")
    try:
        if isinstance(values, list | tuple) and any(isinstance(value, Tensor) for value in values):
            return torch.stack([as_tensor(name, value) for value in values])
        array = np.require(values, requirements=["C", "W"])  # torch takes no array that is flipped or read-only
        if array.dtype.kind not in "fiub":
            raise ValueError(f"they are {array.dtype}")
        if array.dtype.kind == "f" and isinstance(
            values, list | tuple
        ):  # a list's floats have no precision of their own
            return torch.as_tensor(array, dtype=torch.get_default_dtype() if dtype is None else dtype, device=device)
        return torch.as_tensor(array, device=device)
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
            f"convert it yourself, as in {name.split()[0]}.to(torch.{wanted}) "
            f"(an array: .astype({wanted!r})), or the model to {values.dtype}"
        )
    return values.to(dtype)


def grey(
    name: str,
    images: Any,
    shape: Sequence[int | str],
    dtype: torch.dtype | None = None,
    hint: str = "reshape it first",
    slack: float = 0.0,
) -> Tensor:
    """Grey values in [0, 1] without NaN, as floats (bool and whole numbers 0 and 1 are converted). shape: see `shaped`.

    What rounding left outside (up to 1e-5) is put back. slack: so far outside may they lie and stay, as in half precision.
    """
    images = in_float(name, shaped(name, as_tensor(name, images, dtype=dtype), shape, hint), dtype)
    low, high = torch.stack(images.aminmax()).tolist()  # together: on a GPU each look at a value is a wait
    if low >= -slack and high <= 1 + slack:  # also false for NaN
        return images
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return images.clamp(0, 1)
    raise ValueError(
        f"{name} must hold grey values in [0, 1] without NaN, got {low:.6g} to {high:.6g}: "
        "divide bytes by 255, undo a normalisation, clamp what an interpolation overshot"
    )


def vectors(name: str, values: Any, size: int, like: Tensor) -> Tensor:
    """Floats [..., size], in the precision of `like` (the weights that read them); lists and arrays also on its device."""
    values = in_float(name, as_tensor(name, values, dtype=like.dtype, device=like.device), like.dtype)
    if values.ndim == 0 or values.shape[-1] != size:
        raise ValueError(f"{name} must have shape [..., {size}], got {list(values.shape)}: reshape it first")
    return values


def finite(
    name: str,
    values: Any,
    shape: Sequence[int | str],
    dtype: torch.dtype | None = None,
    like: Tensor | None = None,
    hint: str = "reshape it first",
) -> Tensor:
    """Floats of a shape (see `shaped`), none of them NaN or infinite.

    like: a tensor whose precision they take, in place of `dtype`, and lists and arrays also its device.
    """
    dtype, device = (dtype, None) if like is None else (like.dtype, like.device)
    values = in_float(name, shaped(name, as_tensor(name, values, dtype=dtype, device=device), shape, hint), dtype)
    if not values.isfinite().all():
        bad = int((~values.isfinite()).sum())
        raise ValueError(
            f"{name} must be finite, got {bad} values that are NaN or infinite: look for a run that diverged"
        )
    return values


def class_numbers(
    name: str,
    labels: Any,
    n: int | None = None,
    classes: int | None = None,
    missing: int | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Whole numbers [n], one for each example, as int64.

    n: how many there must be (None: at least one); classes: they must lie in 0..classes-1 (None: any will do);
    missing: a number besides that stands where there is none; device: where lists and arrays are put.
    """
    labels = as_tensor(name, labels, device=device)
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
        low, high = torch.stack(labels.aminmax()).tolist()
        outside = low < 0 or high >= classes
        if outside and missing is not None:
            given = labels[labels != missing]
            outside = bool(((given < 0) | (given >= classes)).any())
        if outside:
            also = "" if missing is None else f", or {missing} for an example without one"
            raise ValueError(f"{name} must be class numbers 0..{classes - 1}{also}, got {low}..{high}")
    return labels


def same_length(**values: Sized) -> int:
    """The length that all have."""
    for name, value in values.items():
        if not hasattr(value, "__len__") or (isinstance(value, Tensor) and value.ndim == 0):
            raise ValueError(f"{name} must hold one value for each example, got {value!r}")
    lengths = {name: len(value) for name, value in values.items()}
    if len(set(lengths.values())) > 1:
        given = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(f"there must be as many {' as '.join(lengths)}, got {given}: give one for each example")
    return next(iter(lengths.values()))


def count(name: str, value: Any, least: int | None = 1, most: int | None = None) -> int:
    """A whole number (numpy's too, no bool) of at least `least` (None: any) and at most `most`, as a plain int."""
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None or (least is not None and number < least) or (most is not None and number > most):
        limits = "" if least is None else f" at least {least}" if most is None else f" between {least} and {most}"
        raise ValueError(f"{name} must be a whole number{limits}, got {value!r}")
    return number


def square(name: str, value: Any) -> int:
    """A number of pixels that fill a square image, as a plain int."""
    pixels = count(name, value)
    side = math.isqrt(pixels)
    if side * side != pixels:
        raise ValueError(
            f"{name} must fill a square image, as 784 = 28 x 28 do, got {pixels}: the nearest are {side**2} and {(side + 1) ** 2}"
        )
    return pixels


def number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """A finite number in [low, high] (open_low: above `low`, open_high: below `high`), as a plain float.

    numpy's numbers and one-element tensors are numbers too.
    """
    try:
        found = None if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError):
        found = None
    inside = found is not None and math.isfinite(found) and low <= found <= high
    if not inside or (open_low and found == low) or (open_high and found == high):
        rule = [f"above {low:g}" if open_low else f"at least {low:g}"] * (low > -math.inf)
        rule += [f"below {high:g}" if open_high else f"at most {high:g}"] * (high < math.inf)
        raise ValueError(f"{name} must be a finite number{' ' * bool(rule)}{' and '.join(rule)}, got {value!r}")
    return found


def flag(name: str, value: Any) -> bool:
    """True or False (numpy's too), as a plain bool."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def choice(name: str, given: Any, allowed: Iterable[Any]) -> Any:
    """The value itself if it is one of those allowed."""
    allowed = list(allowed)
    if given not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {given!r}")
    return given


def mapping(name: str, given: Any) -> Mapping[Any, Any]:
    """The mapping itself."""
    if not isinstance(given, Mapping):
        raise ValueError(f"{name} must be a dict of names, got {_kind(given)}")
    return given


def known_names(name: str, given: Mapping[str, Any] | Iterable[str], allowed: Iterable[str]) -> None:
    """Raises ValueError for names among those given that are not allowed, and lists those that are."""
    allowed = list(allowed)
    if unknown := [str(each) for each in given if each not in allowed]:
        raise ValueError(
            f"{name} names {', '.join(unknown)}, which does not exist; there are: {', '.join(allowed) or 'none'}"
        )


def float_type(values: Tensor) -> torch.dtype:
    """The floating-point type of the values themselves; torch's default one for all that is none."""
    return values.dtype if values.is_floating_point() else torch.get_default_dtype()


def whole_numbers(name: str, values: Any, shape: Sequence[int | str]) -> Tensor:
    """Whole numbers of a shape (see `shaped`), as int64."""
    values = shaped(name, as_tensor(name, values), shape)
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise ValueError(f"{name} must be whole numbers such as int64, got {values.dtype}: use .long() where they are")
    return values.to(torch.int64)


def side(name: str, value: Any, least: int = 1) -> int:
    """How many pixels a square picture has in height and in width: one whole number, as a plain int."""
    try:
        return count(name, value, least)
    except ValueError as error:
        if isinstance(value, list | tuple | np.ndarray | Tensor):
            error = ValueError(f"{error}: pictures are square here, so one number stands for height and width")
        raise error from None


def kind(name: str, value: Any, wanted: type, hint: str = "") -> Any:
    """The value itself if it is of the wanted class."""
    if not isinstance(value, wanted):
        raise ValueError(f"{name} must be {_a(wanted.__name__)}, got {_kind(value)}{hint and f': {hint}'}")
    return value


def has(name: str, value: Any, *attributes: str, hint: str) -> Any:
    """The value itself if it has the attributes that are read, as images and labels of a batch; no list or loader has."""
    if not all(hasattr(value, attribute) for attribute in attributes):
        raise ValueError(f"{name} must have {' and '.join(attributes)}, got {_kind(value)}: {hint}")
    return value


def generator(name: str, value: Any, needed: bool = False) -> torch.Generator | None:
    """torch's source of random numbers, or None (unless needed), which stands for torch's own."""
    if not isinstance(value, torch.Generator) and (needed or value is not None):
        also = "" if needed else " or None"
        raise ValueError(
            f"{name} must be a torch.Generator{also}, got {_kind(value)}: use torch.Generator().manual_seed(...)"
        )
    return value


_NO_LIMITS: Mapping[str, Any] = {}


def fields_fit(
    config: Any,
    *,
    at_least: Mapping[str, float] = _NO_LIMITS,
    above: Mapping[str, float] = _NO_LIMITS,
    at_most: Mapping[str, float] = _NO_LIMITS,
    below: Mapping[str, float] = _NO_LIMITS,
    choices: Mapping[str, Iterable[Any]] = _NO_LIMITS,
    squares: Sequence[str] = (),
) -> None:
    """Every field of a dataclass is what its annotation says, and within limits; for the start of its `__post_init__`.

    Annotations that are understood: int, float, bool, str, tuples of them, another dataclass, and each of these or None.
    Limits and choices are by a field's name, those of a tuple for each of its numbers; squares: counts of pixels that must
    fill a square (see `square`). What numpy or JSON gives is stored as
    plain Python, tuples for lists, so that a configuration can always be saved. Raises ValueError that names the field.
    """
    limited = [*at_least, *above, *at_most, *below, *choices, *squares]
    known_names("the limits", limited, [entry.name for entry in fields(config)])
    for name, hint in _hints(type(config)).items():
        limits = {
            "low": above.get(name, at_least.get(name)),
            "high": below.get(name, at_most.get(name)),
            "open_low": name in above,
            "open_high": name in below,
        }
        value = _fitted(name, getattr(config, name), hint, limits)
        if name in choices and value is not None:
            choice(name, value, choices[name])
        if name in squares:
            square(name, value)
        object.__setattr__(config, name, value)  # the dataclass may be frozen


@functools.cache
def _hints(config: type) -> dict[str, Any]:
    """The annotation of every field, resolved; class variables are none."""
    hints = get_type_hints(config)
    return {entry.name: hints[entry.name] for entry in fields(config)}


def _fitted(name: str, value: Any, hint: Any, limits: Mapping[str, Any]) -> Any:
    """A value as its annotation has it."""
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [each for each in get_args(hint) if each is not type(None)]
        if value is None and len(kinds) < len(get_args(hint)):
            return None
        return _fitted(name, value, kinds[0], limits) if len(kinds) == 1 else value
    if hint is int:
        return _limited_count(name, value, **limits)
    if hint is float:
        low, high = (
            end if limit is None else limit for limit, end in ((limits["low"], -math.inf), (limits["high"], math.inf))
        )
        found = number(name, value, low, high, limits["open_low"], limits["open_high"])
        return value if type(value) is int else found  # 1 stays 1, as it was written and recorded
    if hint is bool:
        return flag(name, value)
    if hint is str:
        if not isinstance(value, str):
            raise ValueError(f"{name} must be a text, got {value!r}")
        return str(value)
    if get_origin(hint) is tuple:
        return _fitted_tuple(name, value, get_args(hint), limits)
    if is_dataclass(hint):
        return kind(name, value, hint, f"change single fields of it instead, as in {name}.{fields(hint)[0].name}")
    return value


def _limited_count(name: str, value: Any, low: int | None, high: int | None, open_low: bool, open_high: bool) -> int:
    """A whole number within limits; an open one is the next whole number."""
    least = low + 1 if open_low and low is not None else low
    return count(name, value, least, high - 1 if open_high and high is not None else high)


def _fitted_tuple(name: str, value: Any, hints: tuple[Any, ...], limits: Mapping[str, Any]) -> tuple[Any, ...]:
    """A tuple, list or array as a tuple whose elements fit."""
    any_length = len(hints) == 2 and hints[1] is Ellipsis
    listed = isinstance(value, list | tuple) or (isinstance(value, np.ndarray | Tensor) and value.ndim == 1)
    parts = list(value) if listed else None
    if parts is None or not (any_length or len(parts) == len(hints)):
        many = "any number of values" if any_length else f"{len(hints)} values"
        raise ValueError(f"{name} must be a tuple of {many}, got {value!r}")
    kinds = [hints[0]] * len(parts) if any_length else hints
    return tuple(_fitted(f"each of {name}", part, hint, limits) for part, hint in zip(parts, kinds, strict=True))


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
    return "None" if value is None else _a(type(value).__name__)


def _a(name: str) -> str:
    """A class's name with its article."""
    return f"{'an' if name[0] in 'AEIOUaeio' else 'a'} {name}"
