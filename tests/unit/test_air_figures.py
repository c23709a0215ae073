"""The figures of Attend, Infer, Repeat: every window that counts is drawn, numbered, and where it is."""

import matplotlib.pyplot as plt
import pytest
import torch

from latentbook.figures.air import draw_policy, draw_unrolled, number_windows, show_rows, show_scenes
from latentbook.layers.spatial_transformer import box_corners


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


def test_scenes_show_as_many_numbered_windows_as_were_counted():
    where = torch.tensor([[3.0, 1.0, -0.5], [3.0, -1.0, 0.9], [2.0, 0.0, 0.0]]).expand(3, 3, 3)
    scenes = torch.rand(3, 1, 50, 50)
    figure = show_scenes(scenes, where, torch.tensor([0, 3, 1]), {"again": scenes}, title="three scenes")
    top, bottom = figure.axes[:3], figure.axes[3:]
    assert [len(panel.patches) for panel in top] == [0, 3, 1] and not any(panel.patches for panel in bottom)
    assert [[text.get_text() for text in panel.texts] for panel in top] == [[], ["1", "2", "3"], ["1"]]
    assert len({patch.get_linestyle() for patch in top[1].patches}) == 3  # told apart by dashes, not by colour
    for panel, image in zip(top, scenes, strict=True):
        torch.testing.assert_close(torch.tensor(panel.images[0].get_array()), image[0])
    assert bottom[0].get_ylabel() == "again"


def test_a_window_is_drawn_where_it_is_and_a_step_keeps_its_number():
    where, (_, panel) = torch.tensor([[2.5, 0.4, -0.3]]), plt.subplots()
    number_windows(panel, where, 50, first=3)
    (box,), (number,) = panel.patches, panel.texts
    left, top, right, bottom = box_corners(where[0], 50).tolist()
    assert (box.get_x(), box.get_y()) == pytest.approx((left - 0.5, top - 0.5), abs=1e-4)
    assert (box.get_width(), box.get_height()) == pytest.approx((right - left, bottom - top), abs=1e-4)
    assert number.get_text() == "3"


@pytest.mark.parametrize("steps", [1, 3])
def test_the_diagram_has_every_step(steps):
    words = [text.get_text() for text in draw_unrolled(steps).axes[0].texts]
    assert sum("recurrent" in text for text in words) == sum("encoder" in text for text in words) == steps
    for i in range(1, steps + 1):
        assert sum(f"_{i}$" in text and "pres" in text for text in words) == 1


def test_rows_stand_beside_their_names():
    rows = {"one": torch.rand(2, 1, 9, 9), "two": torch.rand(2, 1, 9, 9)}
    figure = show_rows(rows)
    assert [panel.get_ylabel() for panel in figure.axes] == ["one", "", "two", ""]
    for panel, image in zip(figure.axes, torch.cat(list(rows.values())), strict=True):
        torch.testing.assert_close(torch.tensor(panel.images[0].get_array()), image[0])


def test_the_policys_shares_are_those_of_its_places():
    first = torch.tensor([[45.0, 5.0], [45.0, 6.0], [44.0, 25.0]])  # upper right twice, right once
    second = torch.tensor([[5.0, 5.0], [5.0, 25.0], [45.0, 5.0]])
    share, difference, models = draw_policy(first, second, [(3.0, 1.0), (-2.0, 4.0)], 50).axes
    table = torch.tensor(share.images[0].get_array())
    assert table.shape == (5, 5) and table[0, 4] == pytest.approx(2 / 3) and table[2, 4] == 1
    assert table[0, 0] == table[2, 0] == 0
    assert sorted(text.get_text() for text in share.texts) == ["0%", "0%", "100%", "67%"]  # none where no object stood
    assert difference.lines[0].get_xydata().tolist() == (first - second).tolist()
    assert [arrow.xy for arrow in models.texts] == [(3.0, 1.0), (-2.0, 4.0)]
    assert difference.get_ylim()[0] > difference.get_ylim()[1]  # down is down, as in a picture


def test_scenes_that_are_no_square_have_their_windows_where_they_read():
    where = torch.tensor([[[2.0, 0.5, -1.0]]])
    for given in (where, where.tolist(), where.numpy()):
        figure = show_scenes(torch.rand(1, 1, 20, 40), given, [1])
        (box,) = figure.axes[0].patches  # half as large as the scene, its centre at (-0.25, 0.5)
        assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == pytest.approx((4.5, 9.5, 20, 10))
    share = draw_policy([[35.0, 5.0]], [[5.0, 15.0]], [], (20, 40)).axes[0]
    table = torch.tensor(share.images[0].get_array())
    assert table[1, 4] == 1 and table.sum() == 1 and share.images[0].get_extent() == [0, 40, 20, 0]


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_diagram_is_as_wide_as_its_steps(steps):
    figure = draw_unrolled(steps)
    figure.canvas.draw()
    for thing in [*figure.axes[0].texts, *figure.axes[0].patches]:
        assert thing.get_window_extent().x1 <= figure.bbox.x1, thing


SCENES, WHERE = torch.rand(2, 1, 9, 9), torch.ones(2, 3, 3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: show_rows({}), "rows must hold at least one row"),
        (lambda: show_rows({"a": SCENES, "b": SCENES[:1]}), "as many a as b, got 2 a, 1 b"),
        (lambda: show_rows({"a": 255 * SCENES}), "a must hold grey values"),
        (lambda: show_scenes(SCENES, WHERE[:1], [1, 1]), r"where must have shape \[2, steps, 3\]"),
        (lambda: show_scenes(SCENES, WHERE, [1, 4]), r"counts must be .*0\.\.3, got 1\.\.4"),
        (lambda: show_scenes(SCENES, WHERE, [1]), r"counts must be \[2\]"),
        (lambda: show_scenes(SCENES, WHERE * float("nan"), [1, 1]), "where must be finite"),
        (lambda: draw_policy(torch.ones(3, 2), torch.ones(2, 2), [], 9), r"second must have shape \[3, 2\]"),
        (lambda: draw_unrolled(0), "steps must be a whole number at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
