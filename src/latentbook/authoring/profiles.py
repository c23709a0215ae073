"""The three speeds of the book, one flag: LATENTBOOK_PROFILE is smoke, read or full."""

from __future__ import annotations

import os
from dataclasses import dataclass

NAMES = ("smoke", "read", "full")


@dataclass(frozen=True)
class Profile:
    """How a notebook runs: "smoke" tests it in seconds, "read" loads the shipped weights and trains nothing, "full" trains
    on MNIST. What "read" measures, it measures on fewer examples where that would take long."""

    name: str = "full"

    @property
    def source(self) -> str:
        """The `source` argument of `load_digits`: the smoke profile keeps to the embedded digits."""
        return "offline" if self.name == "smoke" else "auto"

    @property
    def trains(self) -> bool:
        """Whether models are trained here (else shipped weights are loaded, and what needs other models is left out)."""
        return self.name != "read"

    def pick(self, full, smoke, read=None):
        """One of the values: that of the profile, where "read" has that of "full" unless it is given its own."""
        return {"smoke": smoke, "read": full if read is None else read}.get(self.name, full)

    def skip(self, what: str) -> None:
        """Say in one line what a cell leaves out because this profile trains nothing. Raises RuntimeError where it trains."""
        if self.trains:
            raise RuntimeError(f"the profile {self.name} trains, so nothing is to be left out: {what}")
        print(f"Left out in the profile {self.name}, which trains nothing: {what}.")


def profile() -> Profile:
    """The profile that the environment asks for, "full" if it asks for none. Raises ValueError for an unknown one."""
    name = os.environ.get("LATENTBOOK_PROFILE", "full")
    if name not in NAMES:
        raise ValueError(f"LATENTBOOK_PROFILE must be one of {', '.join(NAMES)}, got {name!r}")
    return Profile(name)
