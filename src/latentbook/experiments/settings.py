"""Settings given by name, as on the command line: their names, types and ranges are checked before anything runs."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from typing import Any

WORDS = {int: "a whole number", float: "a finite number", bool: "True or False", str: "text", type(None): "None"}


def with_settings(config: Any, settings: Mapping[str, Any]) -> Any:
    """A configuration with some fields replaced, nested ones by their path, as in {"model.alpha": 32, "epochs": 2}.

    A value must be of the type that its field is annotated with: a whole number may stand for a float, a list for a
    tuple, and nothing else is converted. Raises ValueError that names every setting that does not exist or does not fit.
    """
    problems: list[str] = []
    changed = _changed(config, {name: (name.split("."), value) for name, value in settings.items()}, "", problems)
    if problems:
        raise ValueError("; ".join(problems))
    return changed


def _changed(config: Any, settings: Mapping[str, tuple[Sequence[str], Any]], above: str, problems: list[str]) -> Any:
    """The configuration with settings by full name: (the path from here on, value). What is wrong is added to problems."""
    kinds, have = typing.get_type_hints(type(config)), [field.name for field in fields(config)]
    changes: dict[str, Any] = {}
    below: dict[str, dict[str, tuple[Sequence[str], Any]]] = {}
    for full, ((name, *rest), value) in settings.items():
        if name not in have:
            whose = f"{above.rstrip('.')} has" if above else "there are"
            problems.append(f"no setting {full!r}; {whose}: {', '.join(have)}")
        elif rest:
            below.setdefault(name, {})[full] = (rest, value)
        else:
            try:
                changes[name] = _fitting(full, kinds[name], value)
            except ValueError as error:
                problems.append(str(error))
    for name, inner in below.items():
        present = getattr(config, name)
        if is_dataclass(present) and name not in changes:
            changes[name] = _changed(present, inner, f"{above}{name}.", problems)
        else:
            problems.append(f"{', '.join(inner)}: {above}{name} is {present!r} and has nothing below it")
    if problems:
        return config
    try:
        return replace(config, **changes)
    except (ValueError, TypeError) as error:  # from the configuration's own checks
        problems.append(f"{above.rstrip('.')}: {error}" if above else str(error))
        return config


def _fitting(name: str, kind: Any, value: Any) -> Any:
    """The value as its field has it. Raises ValueError for another type."""
    if is_dataclass(kind):
        inner = ", ".join(f"{name}.{field.name}" for field in fields(kind))
        raise ValueError(f"{name} cannot be replaced as a whole, got {value!r}; set one of: {inner}")
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        for each in arguments:
            if is_dataclass(each) and value is not None:
                return _fitting(name, each, value)  # says why not
            with suppress(ValueError):
                return _fitting(name, each, value)
    elif kind is tuple or typing.get_origin(kind) is tuple:
        if isinstance(value, tuple | list) and (inner := _each(arguments, len(value))) is not None:
            return tuple(_fitting(f"{name}[{i}]", *pair) for i, pair in enumerate(zip(inner, value, strict=True)))
    elif kind is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf:
            return float(value)
    elif kind not in WORDS or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool))):
        return value
    raise ValueError(f"{name} must be {_in_words(kind)}, got {value!r}")


def _each(arguments: Sequence[Any], length: int) -> Sequence[Any] | None:
    """The types of a tuple's so many entries; None for another number than there must be."""
    if arguments[-1:] == (Ellipsis,):
        return arguments[:1] * length
    return arguments if len(arguments) == length else None


def _in_words(kind: Any) -> str:
    """What values a field takes, in a message."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(_in_words(each) for each in typing.get_args(kind))
    if arguments := typing.get_args(kind):
        each = _in_words(arguments[0])
        many = "any number of entries" if arguments[-1] is Ellipsis else f"{len(arguments)} entries"
        return f"a tuple of {many}, each {each}"
    return WORDS.get(kind, str(kind))
