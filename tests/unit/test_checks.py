"""The border: what is converted, what is refused, and in which words."""

import math

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
