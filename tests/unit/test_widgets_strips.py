"""StripsFigure: what it keeps of the frames it is given, its still picture and words, and what it refuses."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
import traitlets
from PIL import Image

from latentbook.widgets import StripsFigure
from latentbook.widgets.base import render_png
from latentbook.widgets.strips import spread


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


FRAMES, BESIDE = pictures(5, 2, 3, 28, 28), pictures(5, 1, 4, 28, 28, seed=1)


def build(**given) -> StripsFigure:
    choices = {
        "beside": BESIDE,
        "labels": "abc",
        "headings": ("asked", "again"),
        "notes": [f"note {i}." for i in range(5)],
    }
    return StripsFigure(FRAMES, **{**choices, **given})


LOSS, HELD = [None, 210.0, 130.25, 112, 108.2], [540.125, 190, 128.06, 112.5, 109.0]
SHARES = {"another label wins": [0.0314, 0.5, 0.66, 0.9, 1], "read off": [1, 0.8, 0.5, 0.2, 0]}


def curved(**given) -> StripsFigure:
    choices = {"curves": {"training": LOSS, "validation": HELD}, "curves_label": "BCE + KL (nats)", "index": 2}
    return build(**{"labels": list("abc"), **choices, **given})


def bytes_of(values: torch.Tensor) -> np.ndarray:
    return (values.double() * 255).round().to(torch.uint8).numpy()


def test_both_mosaics_are_kept_to_the_byte():
    first, second = build(labels=list("abc")).mosaics()
    assert np.array_equal(first, bytes_of(FRAMES)) and np.array_equal(second, bytes_of(BESIDE))
    (only,) = StripsFigure(FRAMES).mosaics()
    assert np.array_equal(only, bytes_of(FRAMES))


def test_pictures_of_any_size():
    scenes = pictures(2, 1, 3, 50, 40)
    assert np.array_equal(StripsFigure(scenes).mosaics()[0], bytes_of(scenes))


def test_the_state_is_small_and_plain():
    repeated = FRAMES[:, :, :1].expand(5, 2, 3, 28, 28)
    one, three = (len(json.dumps(StripsFigure(f).state())) for f in (FRAMES[:, :, :1], repeated))
    assert three < one + 500  # a picture that stands three times is kept once
    state = build(labels=list("abc")).state()
    assert set(state) == set(StripsFigure._saved) - {"words", "curves", "curves_label", "percent"}
    assert json.loads(json.dumps(state)) == state
    assert len(json.dumps(state)) < 1.5 * (
        FRAMES.numel() + BESIDE.numel()
    )  # noise does not compress; base64 adds a third


def test_everything_in_the_saved_state_reaches_the_notebook():
    figure = StripsFigure(FRAMES)
    assert all(figure.trait_metadata(name, "sync") for name in StripsFigure._saved)


def test_frames_are_counted_from_the_start_or_named():
    assert StripsFigure(FRAMES).ticks == [0, 1, 2, 3, 4]
    assert StripsFigure(FRAMES, start=1).ticks == [1, 2, 3, 4, 5]
    assert StripsFigure(FRAMES, ticks=(1, 2, 5, 10, 50)).ticks == [1, 2, 5, 10, 50]


@pytest.mark.parametrize(
    ("ticks", "kept", "said"),
    [
        ([0.1, 0.5, 1.0], [0.1, 0.5, 1], "epoch 0.1, 0.5, 1"),
        (np.array([0.1, 0.5, 1.0]), [0.1, 0.5, 1], "epoch 0.1, 0.5, 1"),
        (torch.tensor([0.1, 0.5, 1.0]), [0.1, 0.5, 1], "epoch 0.1, 0.5, 1"),
        (np.array([1, 20, 300], np.int32), [1, 20, 300], "epoch 1, 20, 300"),
        ((-1, 0.00001, 1e6), [-1, 1e-5, 1000000], "epoch -1, 0.00001, 1000000"),
    ],
)
def test_ticks_keep_their_values(ticks, kept, said):
    figure = StripsFigure(FRAMES[:3], ticks=ticks)
    assert figure.ticks == kept and json.loads(json.dumps(figure.state()))["ticks"] == kept
    assert [type(tick) for tick in figure.ticks] == [type(tick) for tick in kept]
    assert f"At {said}: " in StripsFigure(FRAMES[:3], ticks=ticks, index=1).describe()
    assert [axes.get_ylabel() for axes in figure.still().axes] == [f"epoch {tick}" for tick in said[6:].split(", ")]


def test_numpys_integers_are_kept_as_plain_ones():
    figure = StripsFigure(FRAMES, start=np.int64(3), index=np.uint8(2))
    assert figure.ticks == [3, 4, 5, 6, 7] and figure.index == 2
    figure.index = np.int64(1)
    assert type(figure.index) is int and json.dumps(figure.state())
    for wrong in (1.0, "1", True, np.bool_(True)):
        with pytest.raises(traitlets.TraitError):
            figure.index = wrong


def test_it_starts_at_the_last_frame_or_where_it_is_told():
    assert StripsFigure(FRAMES).index == 4
    figure = StripsFigure(FRAMES, index=0)
    assert figure.index == 0
    figure.index = 3
    with pytest.raises(traitlets.TraitError, match="index must be between 0 and 4, got 5"):
        figure.index = 5


def test_the_still_picture_shows_first_shown_and_last():
    assert StripsFigure(FRAMES).chosen() == [0, 2, 4]
    assert StripsFigure(FRAMES, index=1).chosen() == [0, 1, 4]
    assert StripsFigure(FRAMES[:2]).chosen() == [0, 1]
    assert StripsFigure(FRAMES[:1]).chosen() == [0]


def test_the_still_picture_holds_the_very_pictures_and_its_words():
    still = build(labels=list("abc"), start=1).still()
    shown = [np.asarray(axes.images[0].get_array()) for axes in still.axes]
    assert len(shown) == 6
    assert np.array_equal(shown[0][1:29, 1:29], bytes_of(FRAMES)[0, 0, 0])
    assert np.array_equal(shown[5][1:29, 31:59], bytes_of(BESIDE)[4, 0, 1])
    assert {axes.images[0].get_clim() for axes in still.axes} == {(0, 255)}  # not rescaled by their own maximum
    assert [axes.get_ylabel() for axes in still.axes[:3]] == ["epoch 1", "epoch 3", "epoch 5"]
    assert [axes.get_title(loc="left") for axes in still.axes][::3] == ["asked", "again"]
    assert [text.get_text() for text in still.axes[0].get_xticklabels()] == ["a", "b", "c"]


@pytest.mark.parametrize("given", [{}, {"beside": None, "headings": ("a heading " * 9,)}, {"labels": None}])
def test_nothing_in_the_still_picture_is_cut(given):
    still = build(**{"labels": list("abc"), **given}).still()
    png = np.asarray(Image.open(io.BytesIO(render_png(still))).convert("L"))
    assert min(png[0].min(), png[:, 0].min(), png[:, -1].min()) == 255


def test_it_says_what_its_picture_shows():
    said = build(labels=list("abc")).describe()
    assert said == (
        "At epoch 0, 2, 4: 2 rows of 3 pictures (asked) and 1 row of 4 pictures (again), columns a, b, c. note 4."
    )
    assert StripsFigure(FRAMES[:1], name="step").describe() == "At step 0: 2 rows of 3 pictures."


def test_the_saved_output_is_the_same_every_time():
    first, again = (build(labels=list("abc"))._repr_mimebundle_()[0] for _ in range(2))
    assert first["text/plain"] == "StripsFigure()"
    for kind in ("text/html", "text/plain", "image/png"):
        assert first[kind] == again[kind]
    assert base64.b64decode(first["image/png"]).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"frames": FRAMES[0]}, "frames must have shape [frames, rows, columns, height, width], nothing empty"),
        ({"frames": FRAMES * 2}, "frames must hold grey values in [0, 1] without NaN, got"),
        ({"frames": FRAMES / 0 * 0}, "frames must hold grey values in [0, 1] without NaN, got nan"),
        (
            {"beside": BESIDE[:4]},
            "beside must have shape [5, rows, columns, 28, 28], nothing empty, got [4, 1, 4, 28, 28]",
        ),
        ({"beside": BESIDE - 1}, "beside must hold grey values in [0, 1] without NaN, got"),
        ({"labels": ["a"]}, "labels must hold one text for each column of frames, 3 of them or none, got 1: ['a']"),
        ({"labels": "abc"}, "labels must hold one text for each column of frames, 3 of them or none, got 1: ['abc']"),
        (
            {"headings": ["a"], "beside": BESIDE},
            "headings must hold one text for each mosaic, 2 of them or none, got 1",
        ),
        ({"notes": ["a"] * 4}, "notes must hold one text for each frame, 5 of them or none, got 4"),
        ({"ticks": [1, 2]}, "ticks must hold one number for each of 5 frames, got 2: [1, 2]"),
        ({"ticks": [1, 2, 3, 4, float("nan")]}, "ticks must be finite"),
        ({"ticks": [True] * 5}, "ticks must hold one number for each of 5 frames, got 5: [True,"),
        ({"ticks": list("abcde")}, "ticks must hold numbers"),
        ({"ticks": 3}, "ticks must hold numbers"),
        ({"labels": 3}, "labels must hold texts, one for each column of frames, or none, got 3"),
        ({"start": 0.5}, "start must be a whole number"),
        ({"frames": None}, "frames must hold numbers, got None"),
        ({"frames": (255 * FRAMES).byte()}, "frames must hold grey values in [0, 1] without NaN, got 0 to 25"),
        ({"index": 5}, "index must be a whole number between 0 and 4, got 5"),
        ({"index": True}, "index must be a whole number between 0 and 4, got True"),
        ({"words": ["a"] * 4}, "words must hold one text for each frame, 5 of them or none, got 4"),
        ({"curves": [1, 2, 3, 4, 5]}, "curves must be a dict of names, got"),
        (
            {"curves": dict.fromkeys("abcd", LOSS)},
            "curves must be 3 at most, or they cannot be told apart, got ['a', 'b', 'c', 'd']",
        ),
        ({"curves": {" ": LOSS}}, "curves must have names to stand beside them, got ' '"),
        ({"curves": {1: LOSS}}, "curves must have names to stand beside them, got 1"),
        ({"curves": {"a": LOSS[:4]}}, "curves['a'] must hold one number for each of 5 frames, got 4: [nan, 210.0"),
        ({"curves": {"a": [HELD]}}, "curves['a'] must hold one number for each of 5 frames, got 5: [[540.125"),
        ({"curves": {"a": [LOSS]}}, "curves['a'] must hold numbers in rows of one length"),
        ({"curves": {"a": [True] * 5}}, "curves['a'] must hold one number for each of 5 frames, got 5: [True"),
        ({"curves": {"a": list("abcde")}}, "curves['a'] must hold numbers"),
        ({"curves": {"a": 3}}, "curves['a'] must hold numbers, got"),
        ({"curves": {"a": [None] * 5}}, "curves['a'] must hold at least one number, got none: leave the curve out"),
        ({"curves": {"a": [*LOSS[:4], float("inf")]}}, "curves['a'] must be finite"),
        (
            {"curves": {"a": [0.5, 66.2, 70, 80, 90]}, "percent": True},
            "curves['a'] must lie between 0 and 1 with percent=True, got 0.5 to 90: give shares",
        ),
        ({"curves": {"a": LOSS}, "percent": "yes"}, "percent must be True or False, got 'yes'"),
    ],
)
def test_values_that_do_not_fit_are_refused_with_what_would(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        StripsFigure(**{"frames": FRAMES, **given})


def test_a_mistyped_name_is_refused():
    with pytest.raises(
        ValueError, match=r"StripsFigure\(\.\.\.\) names captoin, which does not exist; there are: .*caption"
    ):
        StripsFigure(np.zeros((2, 1, 1, 4, 4)), captoin="mistyped")


def test_curves_and_words_are_saved_only_where_there_are_some():
    state = curved(words=list("vwxyz")).state()
    assert set(state) == set(StripsFigure._saved)
    assert json.loads(json.dumps(state, allow_nan=False)) == state
    assert state["curves"] == {"training": [None, 210, 130.25, 112, 108.2], "validation": HELD}
    assert (state["curves_label"], state["percent"]) == ("BCE + KL (nats)", False)
    assert set(state) - set(curved().state()) == {"words"}


def test_what_a_figure_without_curves_saves_is_what_it_always_saved():
    traits = ["sheet", "packing", "shapes", "ticks", "labels", "headings", "notes", "name", "index", "caption"]
    plain, with_none = build(labels=None), build(labels=None, curves={}, words=None, percent=True)
    assert list(plain.state()) == list(with_none.state()) == traits
    plain, with_curves = (len(figure.still().axes) for figure in (build(labels=None), curved(labels=None)))
    assert with_curves == plain + 1


@pytest.mark.parametrize(
    "values",
    [
        [None, 0.1, 1, 0.25, 3e-7],
        (float("nan"), 0.1, 1.0, 0.25, 3e-7),
        np.array([np.nan, 0.1, 1.0, 0.25, 3e-7]),
        torch.tensor([float("nan"), 0.1, 1.0, 0.25, 3e-7]),
        torch.tensor([float("nan"), 0.1, 1.0, 0.25, 3e-7], requires_grad=True),
    ],
)
def test_values_of_curves_are_kept_as_plain_numbers(values):
    kept = StripsFigure(FRAMES, curves={"a": values}).curves["a"]
    assert kept == [None, 0.1, 1, 0.25, 3e-7]
    assert [type(value) for value in kept] == [type(None), float, int, float, float]


def test_curves_are_read_off_at_a_frame():
    figure = curved()
    assert figure.values_at(4) == "epoch 4: training 108.2, validation 109.0"
    assert figure.values_at(0) == "epoch 0: validation 540.1"
    assert curved(curves={"a": LOSS}).values_at(0) == "epoch 0: no value"
    shares = curved(curves=SHARES, percent=True, words=["as it was", *"wxyz"])
    assert shares.values_at(0) == "as it was: another label wins 3.1\u00a0%, read off 100.0\u00a0%"
    assert shares.values_at(2) == "x: another label wins 66.0\u00a0%, read off 50.0\u00a0%"


@pytest.mark.parametrize(
    ("values", "percent", "said"),
    [
        ([1, 2, 3, 4, 5], False, "1 2 3 4 5"),
        ([0.29, 0.57, 0.5, 1, 0], True, "29\u00a0% 57\u00a0% 50\u00a0% 100\u00a0% 0\u00a0%"),
        ([12.345, 1, 2, 3, 4], False, "12.3 1.0 2.0 3.0 4.0"),
        ([0.125, 1.005, -0.001, 9, 3], False, "0.13 1.00 -0.00 9.00 3.00"),
        ([0.04, 0.0123456, 0, 0, 0], False, "0.0400 0.0123 0.0000 0.0000 0.0000"),
        ([0, 0, 0, 0, 0], False, "0 0 0 0 0"),
    ],
)
def test_values_have_as_few_decimals_as_tell_them(values, percent, said):
    figure = StripsFigure(FRAMES, curves={"a": values}, percent=percent)
    assert " ".join(figure.written(value) for value in figure.curves["a"]) == said


def test_it_says_where_its_curves_begin_and_end():
    said = curved(notes=None).describe()
    assert said.endswith(
        "columns a, b, c. Beneath, curves of BCE + KL (nats): training 210.0 at epoch 1 and 108.2 at epoch 4; "
        "validation 540.1 at epoch 0 and 109.0 at epoch 4."
    )
    said = curved(curves={"a": [None, 2, None, None, None]}, curves_label="", words=list("vwxyz")).describe()
    assert said.startswith("At v; x; z: 2 rows") and said.endswith("note 4. Beneath, curves: a 2 at w.")


def test_the_still_picture_draws_the_curves_and_a_line_at_the_frame_that_is_shown():
    still = curved(index=3).still()
    axes = still.axes[-1]
    cursor, training, validation = axes.lines
    assert list(cursor.get_xdata()) == [3, 3]
    np.testing.assert_array_equal(training.get_ydata(), [np.nan, *LOSS[1:]])
    np.testing.assert_array_equal(validation.get_ydata(), HELD)
    assert training.get_linestyle() != validation.get_linestyle()
    assert axes.get_title(loc="left") == "BCE + KL (nats)"
    assert {"training", "validation", "epoch"} == {text.get_text() for text in axes.texts}
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "3", "4"]


def test_the_still_picture_of_shares_is_in_per_cent_and_names_every_step():
    still = curved(curves=SHARES, percent=True, words=["as published", "a long name of it", *"xyz"]).still()
    axes = still.axes[-1]
    np.testing.assert_allclose(axes.lines[2].get_ydata(), [100, 80, 50, 20, 0])
    assert axes.get_ylim()[0] == 0
    assert [text.get_text() for text in axes.get_xticklabels()] == ["as published", "a long name of\nit", *"xyz"]
    assert [axes.get_ylabel() for axes in still.axes[:3]] == ["as published", "x", "z"]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"curves": SHARES, "percent": True, "words": ["as published", "a long name for a step", *"xyz"]},
        {"curves": {"the name of a curve that is long": LOSS, "another one": HELD, "a third of them": HELD}},
    ],
)
def test_nothing_is_cut_where_there_are_curves(given):
    png = np.asarray(Image.open(io.BytesIO(render_png(curved(beside=None, headings=(), **given).still()))).convert("L"))
    assert min(png[0].min(), png[-1].min(), png[:, 0].min(), png[:, -1].min()) == 255


def test_labels_of_curves_that_end_together_stand_apart():
    assert spread([0.5, 0.2], [0.1, 0.1]) == [0.5, 0.2]  # nothing moves without need
    low, high = spread([0.5, 0.51], [0.2, 0.2])
    assert high - low == pytest.approx(0.2)
    found = spread([1, 1, 1], [0.2, 0.3, 0.2])
    assert found == sorted(found) and found[-1] <= 1 and found[1] - found[0] == pytest.approx(0.25)


def test_traits_of_curves_that_are_set_later_are_checked_too():
    figure = curved()
    figure.curves = {"a": [np.nan, 1, 2, 3, 4.5]}
    assert figure.curves == {"a": [None, 1, 2, 3, 4.5]}
    with pytest.raises(traitlets.TraitError, match=r"curves\['a'\] must hold one number for each of 5 frames, got 2"):
        figure.curves = {"a": [1, 2]}
    with pytest.raises(traitlets.TraitError, match="curves must be 3 at most"):
        figure.curves = dict.fromkeys("abcd", LOSS)
    with pytest.raises(traitlets.TraitError, match="must lie between 0 and 1 with percent=True"):
        figure.percent = True
    with pytest.raises(traitlets.TraitError, match="words must hold one text for each frame"):
        figure.words = ["a"]
    assert figure.curves == {"a": [None, 1, 2, 3, 4.5]} and figure.percent is False and figure.words == []
    figure.curves, figure.words = {}, list("vwxyz")
    figure.percent = True
    assert figure.named(1) == "w" and "curves" not in figure.state()
