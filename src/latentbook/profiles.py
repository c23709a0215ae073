"""The three speeds of the book, one flag: LATENTBOOK_PROFILE is smoke, read or full."""

from __future__ import annotations

import os
from dataclasses import dataclass

NAMES = ("smoke", "read", "full")


@dataclass(frozen=True)
class Profile:
    """How a notebook runs: "smoke" tests it in seconds, "read" loads the shipped weights, "full" trains on MNIST."""

    name: str = "full"

    @property
    def source(self) -> str:
        """The `source` argument of `load_digits`: the smoke profile keeps to the embedded digits."""
        return "offline" if self.name == "smoke" else "auto"

    @property
    def trains(self) -> bool:
        """Whether the chapter's models are trained here (else the shipped weights are loaded)."""
        return self.name != "read"

    def pick(self, full, smoke):
        """One of two values: the first for a reader, the second for a test."""
        return smoke if self.name == "smoke" else full


def profile() -> Profile:
    """The profile that the environment asks for, "full" if it asks for none. Raises ValueError for an unknown one."""
    name = os.environ.get("LATENTBOOK_PROFILE", "full")
    if name not in NAMES:
        raise ValueError(f"LATENTBOOK_PROFILE must be one of {', '.join(NAMES)}, got {name!r}")
    return Profile(name)
