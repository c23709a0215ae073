"""The border: what is converted, what is refused, and in which words."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from latentbook import checks


@pytest.mark.parametrize(
    ("given", "as_floats"),
    [
        ([[0, 1]], [[0.0, 1.0]]),
        ([[0.25, 1.0]], [[0.25, 1.0]]),
        (((0.5, 0.5),), [[0.5, 0.5]]),
        (np.array([[True, False]]), [[1.0, 0.0]]),
        (np.array([[0, 1]], np.uint8), [[0.0, 1.0]]),
        (np.array([[0.5, 1]], np.float32), [[0.5, 1.0]]),
        (torch.tensor([[0.5, 1]], dtype=torch.float16), [[0.5, 1.0]]),
        ([torch.tensor([0.5, 1.0])], [[0.5, 1.0]]),
    ],
)
def test_grey_values_are_converted_where_nothing_is_lost(given, as_floats):
    found = checks.grey("images", given, ("n", 2))
    assert found.dtype == torch.float32 and found.tolist() == as_floats


def test_the_tensor_that_fits_is_handed_on_itself():
    images, labels = torch.rand(2, 3), torch.tensor([1, 2])
    assert checks.grey("images", images, ("n", 3)) is images
    assert checks.class_numbers("labels", labels, 2, 3) is labels


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "got None"),
        ("abc", "got a str"),
        (iter([]), "got a list_iterator"),
        ([[1.0], [1.0, 0.5]], "rows of one length"),
        (np.array([["a", "b"]]), "they are <U1"),
        (torch.zeros(0, 2), r"nothing empty, got \[0, 2\]"),
        (torch.zeros(2, 2, 1), r"shape \[n, 2\].*got \[2, 2, 1\]"),
        (torch.tensor([[0, 255]], dtype=torch.uint8), "got 0 to 255: divide bytes by 255"),
        (torch.tensor([[math.nan, 1]]), "without NaN, got nan"),
        (torch.tensor([[-0.1, 1]]), "got -0.1 to 1"),
        (torch.rand(1, 2, dtype=torch.float64), r"float64, which float32 would round.*images\.to\(torch\.float32\)"),
        (torch.zeros(1, 2, dtype=torch.complex64), "got torch.complex64"),
    ],
)
def test_other_grey_values_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        checks.grey("images", given, ("n", 2))


def test_a_lists_numbers_are_not_rounded_on_the_way_to_a_wider_type():
    assert checks.finite("where", [0.1, 0.7], [2], torch.float64).tolist() == [0.1, 0.7]


def test_arrays_that_are_read_only_or_flipped_are_taken():
    array = np.array([0.25, 0.5])
    array.flags.writeable = False
    assert checks.as_tensor("images", array[::-1]).tolist() == [0.5, 0.25]


def test_the_precision_that_is_asked_for_counts():
    assert checks.grey("images", torch.rand(1, 2), ("n", 2), torch.float64).dtype == torch.float64
    with pytest.raises(ValueError, match="float16 would round"):
        checks.grey("images", torch.rand(1, 2), ("n", 2), torch.float16)


@pytest.mark.parametrize(
    "given", [[3, 0], (3, 0), np.array([3, 0]), np.array([3, 0], np.uint8), torch.tensor([3, 0]).int()]
)
def test_class_numbers_become_int64(given):
    found = checks.class_numbers("labels", given, 2, 10)
    assert found.dtype == torch.int64 and found.tolist() == [3, 0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([0.0, 1.0], "whole numbers such as int64, got torch.float32"),
        (torch.tensor([True, False]), "got torch.bool"),
        ([1, 2, 3], r"must be \[2\], one for each example, got \[3\]"),
        ([[1], [2]], r"got \[2, 1\]: flatten it"),
        ([1, 10], r"0\.\.9, or -1 for an example without one, got 1\.\.10"),
        ([1, -2], r"got -2\.\.1"),
        (None, "got None"),
    ],
)
def test_other_class_numbers_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        checks.class_numbers("labels", given, 2, 10, missing=-1)


def test_minus_one_is_a_class_number_only_where_it_stands_for_none():
    assert checks.class_numbers("labels", [-1, 3], classes=10, missing=-1).tolist() == [-1, 3]
    with pytest.raises(ValueError, match=r"class numbers 0\.\.9, got -1\.\.3"):
        checks.class_numbers("labels", [-1, 3], classes=10)


@pytest.mark.parametrize("given", [3, np.int64(3), np.uint8(3), torch.tensor(3)])
def test_counts_are_plain_ints(given):
    assert type(checks.count("epochs", given)) is int and checks.count("epochs", given) == 3


@pytest.mark.parametrize("given", [0, -1, 1.0, 1.5, "3", None, True, np.bool_(True), math.nan, np.float64(2)])
def test_other_counts_are_refused(given):
    with pytest.raises(ValueError, match="epochs must be a whole number at least 1, got"):
        checks.count("epochs", given)


def test_a_count_may_have_limits():
    assert checks.count("alpha", 0, 0, 128) == 0
    with pytest.raises(ValueError, match="alpha must be a whole number between 0 and 128, got 129"):
        checks.count("alpha", 129, 0, 128)


@pytest.mark.parametrize("given", [0.5, np.float32(0.5), torch.tensor(0.5)])
def test_numbers_are_plain_floats(given):
    assert type(checks.number("rate", given, 0, 1)) is float and checks.number("rate", given) == 0.5


@pytest.mark.parametrize("given", [math.nan, math.inf, "0.5", None, True, [1, 2], 1.5, -0.5, 0])
def test_other_numbers_are_refused(given):
    with pytest.raises(ValueError, match="rate must be a finite number above 0 and at most 1, got"):
        checks.number("rate", given, 0, 1, open_low=True)


def test_lengths_choices_and_names():
    assert checks.same_length(images=[1, 2], labels=[3, 4]) == 2
    with pytest.raises(ValueError, match="as many images as labels, got 2 images, 1 labels"):
        checks.same_length(images=[1, 2], labels=[3])
    assert checks.choice("per", "batch", ("batch", "example")) == "batch"
    with pytest.raises(ValueError, match="per must be one of batch, example, got 'day'"):
        checks.choice("per", "day", ("batch", "example"))
    checks.known_names("weights", {"kl": 1.0}, ["bce", "kl"])
    with pytest.raises(ValueError, match="weights names kld, which does not exist; there are: bce, kl"):
        checks.known_names("weights", {"kld": 1.0, "kl": 1.0}, ["bce", "kl"])


def test_devices_are_tried():
    assert checks.device("device", "cpu") == checks.device("device", torch.device("cpu")) == torch.device("cpu")
    for wrong in ("tpu9", "meta", "cpu:x", "", None, 1.5):
        with pytest.raises(ValueError, match=f"device must be one that torch can use here, such as cpu, got {wrong!r}"):
            checks.device("device", wrong)


def test_pictures_may_lie_a_little_outside_where_interpolation_went_before():
    images = torch.tensor([[-0.005, 1.005]])
    assert checks.grey("canvas", images, ("n", 2), slack=0.01) is images
    with pytest.raises(ValueError, match="canvas must hold grey values"):
        checks.grey("canvas", images * 3, ("n", 2), slack=0.01)


def test_whole_numbers_of_a_shape():
    found = checks.whole_numbers("boxes", np.array([[1, 2]], np.uint8), ("n", 2))
    assert found.dtype == torch.int64 and found.tolist() == [[1, 2]]
    with pytest.raises(ValueError, match=r"boxes must be whole numbers such as int64, got torch.float32"):
        checks.whole_numbers("boxes", torch.ones(1, 2), ("n", 2))
    with pytest.raises(ValueError, match=r"boxes must have shape \[n, 2\]"):
        checks.whole_numbers("boxes", [1, 2], ("n", 2))


def test_a_side_is_one_number():
    assert type(checks.side("canvas", np.int32(50))) is int
    for given in ((50, 40), [50, 50], np.array([50, 40]), torch.Size([50, 40])):
        with pytest.raises(ValueError, match=r"canvas must be a whole number.*one number stands for height and width"):
            checks.side("canvas", given)
    with pytest.raises(ValueError, match=r"canvas must be a whole number at least 6, got 5$"):
        checks.side("canvas", 5, 6)


def test_what_a_value_is_and_has():
    generator = torch.Generator()
    assert checks.kind("n", 3, int) == 3 and checks.has("part", 3j, "real", "imag", hint="") == 3j
    assert checks.generator("generator", generator) is generator and checks.generator("generator", None) is None
    with pytest.raises(ValueError, match=r"^config must be an int, got a dict: give one$"):
        checks.kind("config", {}, int, "give one")
    with pytest.raises(ValueError, match=r"^batch must have images and labels, got a list: give a Batch$"):
        checks.has("batch", [1, 2], "images", "labels", hint="give a Batch")
    with pytest.raises(ValueError, match=r"generator must be a torch.Generator or None, got an int"):
        checks.generator("generator", 3)
    with pytest.raises(ValueError, match=r"generator must be a torch.Generator, got None"):
        checks.generator("generator", None, needed=True)
    with pytest.raises(ValueError, match="labels must hold one value for each example, got 3"):
        checks.same_length(images=[1], labels=3)


@dataclass(frozen=True)
class Inner:
    size: int = 3

    def __post_init__(self) -> None:
        checks.fields_fit(self, at_least={"size": 1})


@dataclass(frozen=True)
class Outer:
    model: Inner = field(default_factory=Inner)
    epochs: int = 5
    rate: float = 0.1
    share: float | None = None
    exact: bool = False
    name: str = "a"
    where: tuple[float, float] = (1.0, 2.0)
    counts: tuple[int, ...] = (0, 1)
    limits: tuple[float, float] | None = None
    fixed: ClassVar[str] = "no field"

    def __post_init__(self) -> None:
        checks.fields_fit(
            self,
            at_least={"epochs": 0, "counts": 0},
            above={"rate": 0, "share": 0},
            below={"share": 1},
            at_most={"epochs": 9},
            choices={"name": ("a", "b")},
        )


def test_fields_become_what_their_annotations_say():
    given = Outer(
        epochs=np.int64(7),
        rate=np.float32(0.5),
        share=torch.tensor(0.25),
        exact=np.bool_(True),
        name=np.str_("b"),
        where=[1, np.float64(2.5)],
        counts=np.array([2, 3]),
        limits=torch.tensor([0.5, 1.0]),
    )
    plain = {"epochs": 7, "rate": 0.5, "share": 0.25, "exact": True, "name": "b"}
    assert asdict(given) == {"model": {"size": 3}, **plain, "where": (1, 2.5), "counts": (2, 3), "limits": (0.5, 1.0)}
    assert [type(getattr(given, name)) for name in plain] == [int, float, float, bool, str]
    as_json = json.loads(json.dumps(asdict(given)))
    assert Outer(**{**as_json, "model": Inner(**as_json["model"])}) == given  # lists are tuples again
    assert replace(given, epochs=3).epochs == 3 and Outer().where == (1.0, 2.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": -1}, "epochs must be a whole number between 0 and 9, got -1"),
        ({"epochs": 1.5}, "epochs must be a whole number between 0 and 9, got 1.5"),
        ({"epochs": "abc"}, "epochs must be a whole number between 0 and 9, got 'abc'"),
        ({"epochs": True}, "got True"),
        ({"epochs": None}, "got None"),
        ({"rate": 0}, "rate must be a finite number above 0, got 0"),
        ({"rate": "0.1"}, "rate must be a finite number above 0, got '0.1'"),
        ({"rate": math.nan}, "got nan"),
        ({"rate": True}, "got True"),
        ({"share": 1.0}, "share must be a finite number above 0 and below 1, got 1.0"),
        ({"exact": 1}, "exact must be True or False, got 1"),
        ({"exact": "yes"}, "exact must be True or False, got 'yes'"),
        ({"name": 3}, "name must be a text, got 3"),
        ({"name": "c"}, "name must be one of a, b, got 'c'"),
        ({"where": (1.0,)}, r"where must be a tuple of 2 values, got \(1.0,\)"),
        ({"where": 4}, "where must be a tuple of 2 values, got 4"),
        ({"where": "ab"}, "where must be a tuple of 2 values, got 'ab'"),
        ({"where": (1.0, math.inf)}, "each of where must be a finite number, got inf"),
        ({"counts": 4}, "counts must be a tuple of any number of values, got 4"),
        ({"counts": (0, -1)}, "each of counts must be a whole number at least 0, got -1"),
        ({"counts": ((1,), (2,))}, r"each of counts must be a whole number at least 0, got \(1,\)"),
        ({"model": 3}, "model must be an Inner, got an int: change single fields of it instead, as in model.size"),
        ({"model": {"size": 3}}, "model must be an Inner, got a dict"),
    ],
)
def test_a_field_that_does_not_fit_is_named(changes, words):
    with pytest.raises(ValueError, match=words):
        replace(Outer(), **changes)


def test_limits_are_of_fields_that_exist():
    @dataclass
    class Mistyped:
        size: int = 3

    with pytest.raises(ValueError, match="the limits names sise, which does not exist; there are: size"):
        checks.fields_fit(Mistyped(), at_least={"sise": 1})


def test_arrays_that_torch_does_not_take_are_copied(recwarn):
    read_only = np.frombuffer(b"\x01\x00", np.uint8)
    assert checks.as_tensor("labels", read_only).tolist() == [1, 0]
    assert checks.as_tensor("labels", np.arange(3)[::-1]).tolist() == [2, 1, 0] and not recwarn.list


def test_lists_of_floats_have_the_precision_that_is_asked_for():
    like = torch.zeros(1, dtype=torch.float64)
    for found in (
        checks.grey("images", [[0.1]], ("n", 1), torch.float64),
        checks.finite("z", [[0.1]], ("n", 1), like=like),
        checks.vectors("z", [0.1], 1, like),
    ):
        assert found.dtype == torch.float64 and found.flatten().tolist() == [0.1]
    with pytest.raises(ValueError, match=r"z must have shape \[\.\.\., 2\], got \[1\]"):
        checks.vectors("z", [0.1], 2, like)


def test_an_open_end_a_switch_and_a_square():
    assert checks.number("rate", 0.999, 0, 1, open_high=True) == 0.999
    with pytest.raises(ValueError, match="rate must be a finite number at least 0 and below 1, got 1"):
        checks.number("rate", 1, 0, 1, open_high=True)
    assert checks.flag("exact", np.True_) is True
    for given in (1, "yes", None):
        with pytest.raises(ValueError, match="exact must be True or False, got"):
            checks.flag("exact", given)
    assert type(checks.square("pixels", np.int64(784))) is int
    for given, words in ((785, "the nearest are 784 and 841"), (0, "at least 1"), (3.0, "whole number")):
        with pytest.raises(ValueError, match=f"pixels must .*{words}"):
            checks.square("pixels", given)


@pytest.mark.parametrize(("given", "kept"), [([1.0000001, 0.5], [1.0, 0.5]), ([-1e-8, 0.5], [0.0, 0.5])])
def test_what_rounding_left_outside_is_put_back(given, kept):
    assert checks.grey("images", [given], ("n", 2)).tolist() == [kept]


def test_grey_values_that_are_refused_are_told_apart_from_those_allowed():
    with pytest.raises(ValueError, match=r"got 0 to 1\.0001: .*clamp what an interpolation overshot"):
        checks.grey("images", [[0.0, 1.0001]], ("n", 2))


def test_a_range_holds_numbers():
    assert checks.as_tensor("index", range(3)).tolist() == [0, 1, 2]


def test_a_mapping_is_one():
    assert checks.mapping("rows", {"a": 1}) == {"a": 1}
    with pytest.raises(ValueError, match=r"rows must be a dict of names, got a list"):
        checks.mapping("rows", [1])
