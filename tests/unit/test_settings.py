"""Settings by name: what fits is taken as its field has it, what does not is told before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest

from latentbook.experiments import air, conditional_vae, mix_and_match, multi_level_vae, primer, spatial_transformer
from latentbook.experiments.run import check_config
from latentbook.experiments.settings import with_settings


@dataclass(frozen=True)
class Inner:
    low: int = 1
    high: int = 2
    scale_range: tuple[float, float] | None = (1.0, 8.0)

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low must be at most high={self.high}, got {self.low}")


@dataclass(frozen=True)
class Config:
    model: Inner = field(default_factory=Inner)
    other: Inner | None = None
    epochs: int = 3
    rate: float = 0.5
    first: float | None = None
    fast: bool = False
    prior: str = "standard"
    counts: tuple[int, ...] = (0, 1)
    schedule: ClassVar[str] = "constant"


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("epochs", 7, 7),
        ("rate", 2, 2.0),
        ("rate", -0.25, -0.25),
        ("first", None, None),
        ("first", 1, 1.0),
        ("fast", True, True),
        ("prior", "conditional", "conditional"),
        ("counts", [2, 0, 1], (2, 0, 1)),
        ("counts", (), ()),
        ("other", None, None),
    ],
)
def test_what_fits_is_taken_as_its_field_has_it(name, value, found):
    changed = getattr(with_settings(Config(other=Inner()), {name: value}), name)
    assert changed == found and type(changed) is type(found)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", "abc", "epochs must be a whole number, got 'abc'"),
        ("epochs", 1.5, "epochs must be a whole number, got 1.5"),
        ("epochs", 2.0, "epochs must be a whole number, got 2.0"),
        ("epochs", True, "epochs must be a whole number, got True"),
        ("epochs", None, "epochs must be a whole number, got None"),
        ("rate", "x", "rate must be a finite number, got 'x'"),
        ("rate", False, "rate must be a finite number, got False"),
        ("rate", float("inf"), "rate must be a finite number, got inf"),
        ("rate", float("nan"), "rate must be a finite number, got nan"),
        ("first", "x", "first must be a finite number or None, got 'x'"),
        ("fast", 1, "fast must be True or False, got 1"),
        ("prior", 3, "prior must be text, got 3"),
        ("counts", 2, "counts must be a tuple of any number of entries, each a whole number, got 2"),
        ("counts", (1, 2.5), r"counts\[1\] must be a whole number, got 2.5"),
        (
            "model.scale_range",
            (1, 2, 3),
            r"model.scale_range must be a tuple of 2 entries, .* or None, got \(1, 2, 3\)",
        ),
        (
            "model",
            3,
            r"model cannot be replaced as a whole, got 3; set one of: model.low, model.high, model.scale_range",
        ),
        ("other", 3, "other cannot be replaced as a whole"),
        ("other.low", 3, "other.low: other is None and has nothing below it"),
        ("epochs.low", 3, "epochs.low: epochs is 3 and has nothing below it"),
        ("epoch", 3, "no setting 'epoch'; there are: model, other, epochs, rate, first, fast, prior, counts$"),
        ("model.lo", 3, "no setting 'model.lo'; model has: low, high, scale_range$"),
        ("schedule", "constant", "no setting 'schedule'"),
        ("model.low", 9, "model: low must be at most high=2, got 9"),
    ],
)
def test_what_does_not_fit_is_told(name, value, message):
    with pytest.raises(ValueError, match=message):
        with_settings(Config(), {name: value})


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(ValueError, match="epochs must be") as told:
        with_settings(Config(), {"epochs": "abc", "model.x": 1, "rate": "fast"})
    assert "no setting 'model.x'" in str(told.value) and "rate must be" in str(told.value)


def test_settings_that_only_fit_together_are_made_together():
    changed = with_settings(Config(), {"model.low": 9, "model.high": 9, "epochs": 1})
    assert changed == Config(Inner(9, 9), epochs=1)


@pytest.mark.parametrize(
    "module",
    [primer, mix_and_match, conditional_vae, multi_level_vae, spatial_transformer, air],
    ids=lambda m: m.__name__,
)
def test_every_field_of_every_experiment_takes_its_own_value(module):
    """The annotations say what the values are, so that no setting of an experiment is out of reach."""

    def each(config: Any, above: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in config.__dataclass_fields__:
            value = getattr(config, name, None)
            if hasattr(value, "__dataclass_fields__"):
                found |= each(value, f"{above}{name}.")
            elif config.__dataclass_fields__[name]._field_type.name == "_FIELD":
                found[above + name] = value
        return found

    for config in {type(config): config for config in module.VARIANTS.values()}.values():
        assert each(config) and with_settings(config, each(config)) == config


def test_a_model_that_cannot_be_built_is_told_without_training():
    best = mix_and_match.VARIANTS["best"]
    check_config(mix_and_match, best)
    check_config(spatial_transformer, spatial_transformer.VARIANTS["descent"])  # has no model
    for wrong in (
        lambda: replace(best, model=replace(best.model, alpha=9999)),
        lambda: replace(best, model=replace(best.model, hidden_dim=-5, alpha=-9)),
        lambda: replace(best, schedule="cosine"),
    ):
        with pytest.raises(ValueError, match=r"alpha|hidden_dim|negative|schedule"):
            check_config(mix_and_match, wrong())
