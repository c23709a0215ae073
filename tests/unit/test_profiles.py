"""The three speeds."""

from __future__ import annotations

import dataclasses

import pytest

from latentbook.authoring.profiles import NAMES, Profile, profile


@pytest.mark.parametrize(
    ("name", "source", "trains", "picked"),
    [("smoke", "offline", True, "small"), ("read", "auto", False, "big"), ("full", "auto", True, "big")],
)
def test_each_profile(monkeypatch, name, source, trains, picked):
    monkeypatch.setenv("LATENTBOOK_PROFILE", name)
    chosen = profile()
    assert (chosen.name, chosen.source, chosen.trains, chosen.pick("big", "small")) == (name, source, trains, picked)


@pytest.mark.parametrize(("name", "with_own"), [("smoke", 1), ("read", 0), ("full", 2)])
def test_read_may_have_a_value_of_its_own(name, with_own):
    assert Profile(name).pick(2, 1, read=0) == with_own


def test_what_read_leaves_out_it_names_and_where_models_are_trained_nothing_is_left_out(capsys):
    Profile("read").skip("two epochs")
    assert capsys.readouterr().out == "Left out in the profile read, which trains nothing: two epochs.\n"
    for name in ("smoke", "full"):
        with pytest.raises(
            RuntimeError, match=f"^the profile {name} trains, so nothing is to be left out: two epochs$"
        ):
            Profile(name).skip("two epochs")


def test_full_is_the_default(monkeypatch):
    monkeypatch.delenv("LATENTBOOK_PROFILE", raising=False)
    assert profile() == Profile("full") and NAMES == ("smoke", "read", "full")


def test_the_environment_is_read_at_the_call(monkeypatch):
    monkeypatch.setenv("LATENTBOOK_PROFILE", "smoke")
    before = profile()
    monkeypatch.setenv("LATENTBOOK_PROFILE", "read")
    assert (before.name, profile().name) == ("smoke", "read")


@pytest.mark.parametrize("name", ["fast", "", "Full"])
def test_unknown_profile(monkeypatch, name):
    monkeypatch.setenv("LATENTBOOK_PROFILE", name)
    with pytest.raises(ValueError, match=f"LATENTBOOK_PROFILE must be one of smoke, read, full, got '{name}'"):
        profile()


def test_a_profile_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Profile().name = "smoke"
