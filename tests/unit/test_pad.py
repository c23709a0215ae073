"""The drawing pad's Python side: MNIST's pen and placing, and sample digits that look like MNIST's to the judge."""

import numpy as np
import pytest
import torch

from latentbook.evaluation import load_judge
from latentbook.widgets import pad


def stroke_width(images: np.ndarray) -> np.ndarray:
    """Twice the ink over the length of the outline, which is the sum of the gradient's length; images [n, height, width]."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    across, down = np.diff(padded, axis=2)[:, :-1], np.diff(padded, axis=1)[:, :, :-1]
    return 2 * images.sum((1, 2)) / np.hypot(across, down).sum((1, 2))


def width_with(size: int, pen: float) -> float:
    """The median width that the sample digits' strokes have with a pen."""
    images = [pad.rasterise(pad.centred(sample, size, pen), size, pen) for sample in pad.SAMPLES.values()]
    return float(np.median(stroke_width(np.stack(images))))


def test_the_sample_digits_have_mnists_pen():
    assert 2.36 < width_with(28, pad.PEN) < 2.45  # MNIST's median and mean
    assert 2.25 < width_with(24, pad.STAMP_PEN) < 2.34  # and those of its digits resized
    assert width_with(28, 2.25) < 2.25 and width_with(28, 2.75) > 2.55  # another pen would be seen


def test_the_judge_reads_every_sample_digit():
    images = np.stack([pad.rasterise(pad.centred(sample)) for sample in pad.SAMPLES.values()])
    chances = load_judge()(torch.from_numpy(images)[:, None]).softmax(1)
    assert [*map(int, pad.SAMPLES)] == list(range(10)) == chances.argmax(1).tolist()
    assert chances.amax(1).min() > 0.99


def test_dots_and_nothing_are_drawn_too():
    assert pad.rasterise([]).max() == 0 and pad.centred([]) == []
    dot = pad.rasterise([[[5.5, 7.5]]], size=12, width=1)
    assert dot[7, 5] == 1 and dot.sum() == 1
    assert pad.centred([[[3, 900]]]) == [[[15.0, 15.0]]]


LINES = [[[4.0, 5.0], [20.0, 9.5], [7.0, 22.0]], [[9.0, 9.0], [11.0, 2.0], [3.0, 3.0]]]


@pytest.mark.parametrize(
    "convert",
    [
        np.array,
        torch.tensor,
        lambda lines: torch.tensor(lines, requires_grad=True),
        lambda lines: np.array(lines, np.float32),
        lambda lines: [np.array(line) for line in lines],
        lambda lines: tuple(torch.tensor(line) for line in lines),
        lambda lines: [[tuple(point) for point in line] for line in lines],
        lambda lines: [[np.array(point) for point in line] for line in lines],
    ],
)
def test_arrays_and_tensors_are_strokes_too(convert):
    assert pad.centred(convert(LINES)) == pad.centred(LINES)
    assert (pad.rasterise(convert(LINES)) == pad.rasterise(LINES)).all()
    assert pad.centred(np.zeros((0, 5, 2))) == [] and pad.rasterise(torch.zeros(0, 5, 2)).max() == 0


@pytest.mark.parametrize(
    "strokes",
    [
        [[[1, float("nan")], [2, 2]]],
        [[[1, float("inf")], [2, 2]]],
        [[[1, 1e38], [2, 2]]],
        [[[1, 1], [-1e38, 2]]],
        [[[1, 10**400], [2, 2]]],
        [[]],
        [LINES[0], []],
        [5],
        [None],
        [[None]],
        [[5]],
        [[[5]]],
        [[[1, 2, 3]]],
        [[[1, 2], [3]]],
        [[[1, 2j], [3, 4]]],
        torch.zeros(1, 2, 2, dtype=torch.complex64),
        ["line"],
        [[["1", "2"]]],
        [(point for point in LINES[0])],
        np.array(LINES[0]),
        np.array(5.0),
        torch.tensor(5.0),
        "line",
        "",
        None,
        5,
        {},
        (line for line in LINES),
    ],
    ids=lambda given: type(given).__name__,  # a generator's own words differ between processes
)
def test_what_is_no_stroke_is_refused(strokes):
    for use in (pad.rasterise, pad.centred):
        with pytest.raises(ValueError, match="stroke"):
            use(strokes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": "28"}, "size must be a whole number between 1 and 4096, got '28'"),
        ({"size": 0}, "size must be a whole number between 1 and 4096, got 0"),
        ({"size": 10**9}, "size must be a whole number between 1 and 4096, got 1000000000"),
        ({"size": 28.5}, "size must be a whole number"),
        ({"width": "a"}, "width must be a finite number above 0, got 'a'"),
        ({"width": 0}, "width must be a finite number above 0, got 0"),
        ({"width": 2j}, "width must be a finite number above 0"),
        ({"width": None}, "width must be a finite number above 0"),
    ],
)
def test_what_is_no_size_or_pen_is_refused(options, words):
    for use in (pad.rasterise, pad.centred):
        for strokes in (LINES, []):
            with pytest.raises(ValueError, match=words):
                use(strokes, **options)


def test_a_pen_that_does_not_fit_the_box_is_refused():
    with pytest.raises(ValueError, match=r"a pen of width 2\.5 is too wide for a size of 3: it must be below 2\.14"):
        pad.centred(LINES, size=3)
    with pytest.raises(ValueError, match=r"a pen of width 1e-09 leaves no ink here: give a wider one"):
        pad.centred([[[5, 5]]], width=1e-9)
    assert pad.rasterise(LINES, size=2).shape == (2, 2)  # a picture may be smaller than its pen
