"""AttentionWindow and GradientExplorer: what they keep, compute, draw and say, and what they refuse."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import traitlets
from PIL import Image

from latentbook.data.digits import load_digits
from latentbook.layers.spatial_transformer import affine_from_where, image_to_window, window_to_image
from latentbook.widgets import AttentionWindow, GradientExplorer, front
from latentbook.widgets.base import render_png
from latentbook.widgets.sprites import unpack

SCENES = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0))
KEPT = (SCENES.double() * 255).round() / 255
WHERE, TARGET = (2.5, 0.5, -1.25), (2.2, -0.5, -0.25)
SPOT = torch.zeros(50, 50)
SPOT[20:36, 24:33] = 1


def window(**given) -> AttentionWindow:
    return AttentionWindow(SCENES, **{"where": WHERE, "window": 20, **given})


def explorer(**given) -> GradientExplorer:
    return GradientExplorer(SPOT, TARGET, **{"where": WHERE, **given})


BOTH = pytest.mark.parametrize("build", [window, explorer])


def test_it_computes_what_it_shows():
    figure = window(scene=1)
    image, where = KEPT[1:2, None].float(), torch.tensor([WHERE])
    crop = image_to_window(image, where, 20)
    assert torch.equal(figure.picture(), image[0, 0])
    assert torch.equal(figure.crop(), crop[0, 0])
    assert torch.equal(figure.pasted(), window_to_image(crop, where, (40, 50))[0, 0])
    assert figure.corners() == pytest.approx([10, 22, 30, 38])  # 1 / 2.5 of 50 by 40 around (-0.2, 0.5)


@pytest.mark.parametrize("where", [(2, 0, 1), [2.0, 0.0, 1.0], torch.tensor([2.0, 0.0, 1.0]), np.array([2, 0, 1])])
@BOTH
def test_a_window_can_be_given_as_any_three_numbers(build, where):
    assert build(where=where).where == (2.0, 0.0, 1.0)
    figure = build()
    figure.where = where
    assert figure.where == (2.0, 0.0, 1.0)


@BOTH
def test_python_moves_the_window_and_hears_of_it(build):
    figure, heard = build(), []
    figure.observe(lambda change: heard.append(change["new"]), "where")
    figure.where = (4, 1, 1)
    figure.set_state({"where": [3.0, -0.5, 0.25]})  # as a front end sends it
    assert heard == [(4.0, 1.0, 1.0), (3.0, -0.5, 0.25)]
    for wrong in ((0, 0, 0), (-1, 0, 0), (float("nan"), 0, 0), (1, float("inf"), 0), (1, 2), 3):
        with pytest.raises(traitlets.TraitError, match=r"where must be .*\(scale, shift_x, shift_y\)"):
            figure.where = wrong
    assert figure.where == (3.0, -0.5, 0.25)


@BOTH
def test_everything_in_the_saved_state_reaches_the_notebook_and_is_plain(build):
    figure = build()
    state = figure.state()
    assert set(state) == set(figure._saved) and all(figure.trait_metadata(name, "sync") for name in figure._saved)
    assert json.loads(json.dumps(state))["where"] == list(WHERE)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
@BOTH
def test_torchs_default_precision_changes_nothing(build, dtype):
    expected, before = build().to_html(), torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        assert build().to_html() == expected
    finally:
        torch.set_default_dtype(before)


def test_numpys_numbers_are_kept_as_plain_ones():
    figure = window(scene=np.int64(1), window=np.int32(20), pixel=np.array([3, 4]), where=np.float32([2, 0.5, 1]))
    assert (figure.scene, figure.window, figure.pixel, figure.where) == (1, 20, (3, 4), (2.0, 0.5, 1.0))
    figure.scene, figure.pixel = np.uint8(2), np.array([5, 6])
    assert json.loads(json.dumps(figure.state()))["pixel"] == [5, 6]
    assert {type(figure.scene), type(figure.window), *map(type, figure.pixel)} == {int}
    descent = explorer(rate=np.float32(0.5), window=np.int64(20))
    descent.rate = np.float32(0.25)
    descent.target = np.array([2, 0, 0])
    assert json.loads(json.dumps(descent.state()))["rate"] == 0.25 and type(descent.rate) is float
    for wrong in ((20, 0), (1,), (0.5, 1)):
        with pytest.raises(traitlets.TraitError, match="pixel must"):
            figure.pixel = wrong
    with pytest.raises(traitlets.TraitError, match="target must be"):
        descent.target = (0, 0, 0)
    with pytest.raises(traitlets.TraitError):
        figure.scene = 0.5


def test_pictures_of_any_float_or_binary_are_taken():
    state = window().state()
    for given in (SCENES.double(), SCENES.numpy(), SCENES.tolist()):
        assert AttentionWindow(given, where=WHERE, window=20).state() == state
    binary = SCENES.round()
    assert AttentionWindow(binary.bool()).state() == AttentionWindow(binary.byte().numpy()).state()
    assert AttentionWindow(binary.half()).state() == AttentionWindow(binary).state()


def test_one_of_the_scenes_is_shown():
    figure = window()
    assert torch.equal(figure.picture(), KEPT[0].float())
    figure.scene = 2
    assert torch.equal(figure.picture(), KEPT[2].float())
    with pytest.raises(traitlets.TraitError, match="scene must be between 0 and 2, got 3"):
        figure.scene = 3


def test_the_still_picture_holds_scene_crop_and_paste():
    figure = window()
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.still().axes]
    for found, picture in zip(shown, (figure.picture(), figure.crop(), figure.pasted()), strict=True):
        assert np.array_equal(found, picture.numpy())
    texts = [text.get_text() for axes in figure.still().axes for text in axes.texts]
    assert texts[0] == "scene" and any("A⁻¹" in text and "0.400" in text and "−0.200" in text for text in texts)
    assert any(text.startswith("A = ") and "2.500" in text and "−1.250" in text for text in texts)


@pytest.mark.parametrize("where", [WHERE, (0.8, 0, 0), (3, -4.2, 0)])
@BOTH
def test_nothing_but_panels_touches_the_edge_of_the_still_picture(build, where):
    png = np.asarray(Image.open(io.BytesIO(render_png(build(where=where).still()))).convert("L"))
    assert min(png[0].min(), png[:, -1].min()) == 255


@BOTH
def test_the_saved_output_is_the_same_every_time(build):
    first, again = (build()._repr_mimebundle_()[0] for _ in range(2))
    for kind in ("text/html", "text/plain", "image/png"):
        assert first[kind] == again[kind]
    assert base64.b64decode(first["image/png"]).startswith(b"\x89PNG")
    assert first["text/plain"] == f"{type(build()).__name__}()"


def test_it_says_what_its_picture_shows():
    said = window().describe()
    assert "a scene of 50 by 40 pixels" in said and "scale 2.5 and shifts 0.5 and -1.25" in said
    assert "from 10.0 to 30.0 across and from 22.0 to 38.0 down" in said and "20 by 20 pixels" in said


def test_the_loss_is_the_mean_squared_error_and_vanishes_at_the_target():
    figure = explorer(where=TARGET)
    assert figure.loss().item() == 0 and figure.gradient() == (0, 0)
    figure = explorer()
    target = image_to_window(SPOT[None, None], torch.tensor([TARGET]), 28)
    crop = image_to_window(SPOT[None, None], torch.tensor([WHERE]), 28)
    assert figure.loss().item() == pytest.approx((crop - target).pow(2).mean().item(), rel=1e-6)


def test_the_gradient_by_finite_differences():
    figure = explorer(where=(2.2, -0.3, -0.1))
    where = torch.tensor(figure.where, dtype=torch.float64)
    for k, slope in zip((1, 2), figure.gradient(), strict=True):
        step = torch.zeros(3, dtype=torch.float64)
        step[k] = 1e-6
        difference = (figure.loss(where + step) - figure.loss(where - step)).item() / 2e-6
        assert slope == pytest.approx(difference, abs=1e-5) and abs(slope) > 1e-3


def test_the_landscape_is_the_loss_at_its_places():
    figure = explorer(where=(2.2, 0, 0))
    losses, level = figure.landscape(27)
    for row, column in ((0, 0), (13, 13), (15, 17)):
        x, y = (1.3 * (2 * k / 26 - 1) for k in (column, row))
        where = torch.tensor([2.2, -2.2 * x, -2.2 * y])
        assert losses[row, column].item() == pytest.approx(figure.loss(where).item(), abs=1e-6)
    assert level[0, 0] and not level[15, 17]  # nothing to read in the corner
    row, column = divmod(losses.argmin().item(), 27)
    assert (1.3 * (2 * column / 26 - 1), 1.3 * (2 * row / 26 - 1)) == pytest.approx((0.5 / 2.2, 0.25 / 2.2), abs=0.06)


def test_a_larger_window_sees_the_digit_from_farther_away():
    level = [explorer(where=(scale, 0, 0)).landscape(27)[1].float().mean() for scale in (1.2, 2.2, 4)]
    assert level[0] < level[1] < level[2]


def test_the_explorer_says_whether_there_is_a_pull():
    assert "its gradient exactly zero" in explorer(where=(2.2, 1.8, 1.8)).describe()
    assert "its gradient (" in explorer(where=(2.2, -0.3, -0.1)).describe()


@pytest.mark.parametrize(
    ("build", "given", "message"),
    [
        (AttentionWindow, {"scenes": SCENES[0]}, "scenes must have shape [n, height, width], nothing empty, got [40, 50]"),
        (AttentionWindow, {"scenes": SCENES * 2}, "scenes must hold grey values in [0, 1] without NaN"),
        (AttentionWindow, {"scenes": (SCENES * 255).byte()}, "got 0 to 25"),
        (AttentionWindow, {"scenes": SCENES * float("nan")}, "scenes must hold grey values in [0, 1] without NaN, got nan"),
        (AttentionWindow, {"scenes": []}, "scenes must have shape [n, height, width], nothing empty, got [0]"),
        (AttentionWindow, {"where": "345"}, "where must be three finite numbers (scale, shift_x, shift_y)"),
        (AttentionWindow, {"where": (0, 0, 0)}, "the scale positive, got [0.0, 0.0, 0.0]"),
        (AttentionWindow, {"where": 3}, "where must be three finite numbers (scale, shift_x, shift_y): where must"),
        (AttentionWindow, {"window": 0}, "window must be a whole number at least 1, got 0"),
        (AttentionWindow, {"scene": 3}, "scene must be a whole number between 0 and 2, got 3"),
        (AttentionWindow, {"names": ["a"]}, "names must hold one text for each scene, 3 of them or none, got 1"),
        (AttentionWindow, {"pixel": (28, 0)}, "pixel must lie between 0 and 27, got 0 to 28"),
        (GradientExplorer, {"picture": SCENES}, "picture must have shape [height, width], nothing empty"),
        (GradientExplorer, {"target": (-1, 0, 0)}, "target must be (scale, shift_x, shift_y), the scale positive"),
        (GradientExplorer, {"rate": 0}, "rate must be a finite number above 0, got 0"),
        (GradientExplorer, {"rate": float("inf")}, "rate must be a finite number above 0, got inf"),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_are_refused_with_what_would(build, given, message):
    usual = {"scenes": SCENES} if build is AttentionWindow else {"picture": SPOT, "target": TARGET}
    with pytest.raises(ValueError, match=re.escape(message)):
        build(**{**usual, **given})


def test_python_changes_the_step_size_within_reason():
    figure = explorer()
    figure.rate = 0.5
    with pytest.raises(traitlets.TraitError, match="rate must be a finite number above 0"):
        figure.rate = -1


def test_the_matrix_that_is_drawn_is_the_librarys():
    text = next(t.get_text() for axes in window().still().axes for t in axes.texts if t.get_text().startswith("A = "))
    numbers = [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", text.replace("−", "-"))]
    assert numbers == pytest.approx(affine_from_where(torch.tensor(WHERE)).flatten().tolist(), abs=1e-3)


FRONT = Path(__file__).parents[2] / "book" / "window.html"
CHAPTER = FRONT.parents[1] / "notebooks" / "04-spatial-transformer.ipynb"


class States(HTMLParser):
    """The states of the figures in a text, and what stands beside them."""

    def __init__(self, text: str, name: str = "attention") -> None:
        super().__init__()
        self.name = name
        self.found, self.alt, self.words = [], "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        values = dict(attributes)
        self.alt = values.get("alt", self.alt)
        if values.get("data-name") == self.name:
            self.found.append(json.loads(values["data-state"]))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_front_pages_figure_is_current():
    text = FRONT.read_text(encoding="utf-8")
    (state,) = States(text).found
    scenes = unpack(state["sheet"], state["packing"]) / 255
    figure = front.window_on(torch.from_numpy(scenes).float())
    assert json.loads(json.dumps(figure.state())) == state, "make it anew: CONTRIBUTING.md says how"
    assert States(text).alt == figure.describe() and figure.caption in States(text).words
    assert text.startswith('<div class="lb-static" data-name="attention"') and '<figure class="lb-still"' in text


def test_the_front_pages_digits_are_those_of_the_chapter():
    outputs = [
        out for cell in json.loads(CHAPTER.read_text(encoding="utf-8"))["cells"] for out in cell.get("outputs", [])
    ]
    (state,) = States("".join("".join(out.get("data", {}).get("text/html", "")) for out in outputs)).found
    example, *ten = unpack(state["sheet"], state["packing"])
    (own,) = States(FRONT.read_text(encoding="utf-8")).found
    assert np.array_equal(unpack(own["sheet"], own["packing"]), [*ten[:3], example, *ten[4:]])


def test_the_front_pages_figure_is_made_of_a_digit_of_each_kind(tmp_path):
    digits = load_digits("test", source="offline")
    figure = front.front_window(digits)
    three = digits.images[(digits.labels == 3).nonzero()[1, 0]][0]
    assert len(figure.packing["places"]) == 10 == len(figure.names) and figure.names[figure.scene] == "a 3"
    assert (figure.crop() - three).abs().mean() < 0.1  # its window stands where the digit does
    front.write_front_figures(tmp_path, digits)
    assert 'data-name="contradict"' in (tmp_path / "contradict.html").read_text(encoding="utf-8")
    assert (tmp_path / "window.html").read_text(encoding="utf-8") == figure.to_html() + "\n"


def test_the_front_pages_figure_needs_two_of_a_kind(tmp_path):
    digits = load_digits("test", source="offline")
    with pytest.raises(ValueError, match="at least 2 of each kind"):
        front.front_window(digits.take(slice(0, 5)))
    (tmp_path / "window.html").mkdir()
    with pytest.raises(IsADirectoryError, match="a figure of the front page cannot be written"):
        front.write_front_figures(tmp_path, load_digits("test", source="offline"))
    assert not (tmp_path / "contradict.html").exists()  # nothing by halves
