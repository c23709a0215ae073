"""The drawing pad in a real browser, on a page of its own: mouse, finger and keys, MNIST's pen and placing, scenes."""

import io
import json

import numpy as np
import pytest
import site_harness as harness
from PIL import Image
from test_site_accessible import violations

from latentbook.widgets import pad
from latentbook.widgets.base import compose

WIDGETS = harness.ROOT / "src" / "latentbook" / "widgets"
WAVE = [[[4, 5], [9, 22.5], [14, 6.25], [18, 21], [23, 5]], [[6, 25]]]  # the last a dot
PAGE = """<!doctype html><html lang="en" data-theme="{theme}"><title>Pad</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{css} body {{ margin: 16px; background: var(--paper); }}
html {{ --paper: #fff; --pst-color-background: var(--paper); }} html[data-theme="dark"] {{ --paper: #14181e; }}</style>
<main style="height: 3000px"><h1>Pad</h1><figure class="lb-widget"></figure></main><script>{script}</script></html>"""


@pytest.fixture(scope="module")
def pages(browser):
    """Pages by how they are looked at, where the script's functions are there by name, and what they complain of."""
    made, complaints = {}, []

    def page(dark=False, phone=False):
        if (dark, phone) not in made:
            css = "\n".join((WIDGETS / name).read_text(encoding="utf-8") for name in ("base.css", "pad.css"))
            script = compose("scene_pad", ".js", "pad")
            context = browser.new_context(viewport=harness.PHONE if phone else harness.WIDE, has_touch=phone)
            made[dark, phone] = context.new_page()
            made[dark, phone].set_content(PAGE.format(theme="dark" if dark else "light", css=css, script=script))
            made[dark, phone].on("pageerror", lambda error: complaints.append(str(error)))
            made[dark, phone].on("request", lambda request: complaints.append(request.url))
        return made[dark, phone]

    yield page, complaints
    for one in made.values():
        one.context.close()


@pytest.fixture
def put(pages):
    """put("pad", size=28, ...) makes a pad or a canvas, window.it, and gives its page; it may make no request or error."""
    open_page, complaints = pages

    def put(kind="pad", dark=False, phone=False, **options):
        page = open_page(dark, phone)
        page.evaluate(
            """([kind, options]) => {
                window.it?.stop();
                window.it = (kind === "pad" ? pad : scenePad)(options);
                window.heard = [];
                it.on((how) => heard.push(how.drawing));
                document.querySelector("figure").replaceChildren(it.element);
                scrollTo(0, 0);
            }""",
            [kind, {"label": "Draw here", "samples": pad.SAMPLES, **options}],
        )
        return page

    yield put
    found, complaints[:] = list(complaints), []
    assert found == []


def image(page) -> np.ndarray:
    values = np.array(json.loads(page.evaluate("JSON.stringify([...it.image()])")))
    return values.reshape(round(len(values) ** 0.5), -1)


def strokes(page) -> list:
    return page.evaluate("it.strokes")


def frame(page) -> None:
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def on_screen(page, x, y, size=28) -> tuple[float, float]:
    box = page.locator(".lb-pad-surface").bounding_box()
    return box["x"] + x / size * box["width"], box["y"] + y / size * box["height"]


def drag(page, *points, size=28) -> None:
    page.mouse.move(*on_screen(page, *points[0], size))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*on_screen(page, *point, size), steps=4)
    page.mouse.up()


def mass(values: np.ndarray) -> list[float]:
    middles = np.arange(len(values)) + 0.5
    return [float((values.sum(axis) * middles).sum() / values.sum()) for axis in (0, 1)]


def test_a_stroke_is_inked_as_far_as_the_pen_reaches(put):
    page = put()
    found = np.array(page.evaluate("[...rasterise([[[5.5, 4], [5.5, 9]]], { size: 12, width: 2.5 })]")).reshape(12, 12)
    assert found[6].tolist() == [0, 0, 0, 0, 0.75, 1, 0.75, 0, 0, 0, 0, 0]
    assert found[10, 5] == 0.25 and found[11].max() == 0  # a round end: 1.5 pixels past the last point


@pytest.mark.parametrize(("given", "size", "width"), [(WAVE, 28, pad.PEN), (WAVE, 24, pad.STAMP_PEN), ([], 28, 3.0)])
def test_the_page_draws_and_places_as_python_does(put, given, size, width):
    page = put()
    code = """([strokes, options]) => { const there = centred(strokes, options);
        return [[...rasterise(strokes, options)], there, [...rasterise(there, options)]]; }"""
    drawn, placed, again = page.evaluate(code, [given, {"size": size, "width": width}])
    assert np.allclose(np.reshape(drawn, (size, size)), pad.rasterise(given, size, width), atol=1e-5)
    wanted = pad.centred(given, size, width)
    assert all(np.allclose(one, other, atol=1e-6) for one, other in zip(placed, wanted, strict=True))
    assert np.allclose(np.reshape(again, (size, size)), pad.rasterise(wanted, size, width), atol=1e-5)


@pytest.mark.parametrize("scale", [0.2, 1, 3])
@pytest.mark.parametrize("name", ["1", "4", "7", "9"])
def test_what_is_drawn_lies_as_mnist_does_however_large_it_was_drawn(put, name, scale):
    page = put()
    given = [[[x * scale + 3, y * scale - 2] for x, y in stroke] for stroke in pad.SAMPLES[name]]
    found = np.array(page.evaluate("(strokes) => [...rasterise(centred(strokes))]", given)).reshape(28, 28)
    assert np.allclose(mass(found), 14.5, atol=0.5001)
    ink = np.argwhere(found > 0)
    assert (ink.max(0) - ink.min(0) + 1).max() == 20
    assert np.allclose(found, pad.rasterise(pad.centred(pad.SAMPLES[name])), atol=1e-4)


def test_a_tap_stays_a_dot_in_the_middle(put):
    page = put()
    page.mouse.click(*on_screen(page, 3, 4))
    assert len(strokes(page)) == 1 and image(page).sum() < 8 and np.allclose(mass(image(page)), 14.5, atol=0.5001)


def test_the_mouse_draws_and_every_step_is_undone(put):
    page = put()
    drag(page, (6, 6), (20, 8), (12, 22))
    drag(page, (2, 20), (8, 26))
    first, second = strokes(page)
    assert np.allclose([first[0], first[-1]], [[6, 6], [12, 22]], atol=0.1) and np.allclose(
        second[-1], [8, 26], atol=0.1
    )
    page.get_by_role("button", name="Clear").click()
    assert strokes(page) == [] and image(page).sum() == 0
    page.get_by_role("button", name="Undo").click()
    assert strokes(page) == [first, second]
    page.keyboard.press("Control+z")
    assert strokes(page) == [first]
    frame(page)
    box = page.locator(".lb-pad-surface").bounding_box()
    assert page.locator(".lb-pad-surface canvas").evaluate("(c) => c.width") == round(box["width"])
    grey = np.array(harness.grey_values(page.locator(".lb-pad-surface canvas")))
    side, there = len(grey) / 28, [int(at * len(grey) / 28) for at in (6, 20, 2)]
    assert (
        grey[there[0], there[0]] == 255 and grey[there[1], there[2]] == 0
    )  # drawn where the pointer was; undone there
    row = grey[:, int(13 * side)]
    assert row.max() == 255 and 0 < (row > 0).mean() < 0.5


def test_only_the_first_button_draws_and_a_stroke_ends_at_the_edge(put):
    page = put()
    page.mouse.click(*on_screen(page, 9, 9), button="right")
    assert strokes(page) == []
    drag(page, (20, 14), (60, 14))
    assert strokes(page)[0][-1] == pytest.approx([28, 14], abs=0.1)


def test_points_between_two_frames_are_kept(put):
    page = put()
    page.evaluate("""() => { const { left, top } = it.surface.getBoundingClientRect();
        const at = (type, x, more = []) => { const one = new PointerEvent(type, { pointerId: 1, button: 0, bubbles: true,
            clientX: left + x, clientY: top + 50 }); one.getCoalescedEvents = () => more; return one; };
        it.surface.setPointerCapture = () => {};
        it.surface.dispatchEvent(at("pointerdown", 20));
        it.surface.dispatchEvent(at("pointermove", 100, [at("pointermove", 60), at("pointermove", 100)]));
        it.surface.dispatchEvent(at("pointermove", 140));
        it.surface.dispatchEvent(at("pointerup", 140)); }""")
    assert [round(x) for x, _ in strokes(page)[0]] == [2, 6, 10, 14]


def test_a_finger_draws_on_the_pad_and_scrolls_the_page_beside_it(put):
    page = put(phone=True)
    box = page.locator(".lb-pad-surface").bounding_box()
    beside = box["x"] + box["width"] + 30
    assert beside < harness.PHONE["width"] - 10
    for x, moves in ((on_screen(page, 14, 14)[0], False), (beside, True)):
        with harness.fingers(page) as touch:
            touch("touchStart", {0: (x, 250)})
            for y in range(240, 90, -10):
                touch("touchMove", {0: (x, y)})
            touch("touchEnd")
        assert harness.becomes(lambda: page.evaluate("scrollY") > 20, moves, 3)
    assert len(strokes(page)) == 1 and len(strokes(page)[0]) > 5


def test_everything_to_tap_is_large_enough_for_a_finger(put):
    page = put("scene", phone=True)
    page.evaluate("it.drop(1)")
    for target in page.locator("button, .lb-pad-digit").all():
        box = target.bounding_box()
        assert min(box["width"], box["height"]) >= 44, target.evaluate("(e) => e.outerHTML")
    assert page.evaluate("document.documentElement.scrollWidth") <= harness.PHONE["width"]


def test_the_keyboard_draws(put):
    page = put()
    live = page.locator(".lb-pad-say")
    page.keyboard.press("Tab")
    helped = page.locator(".lb-pad-help")
    assert page.locator(".lb-pad-cursor").is_visible() and helped.is_visible() and "Space" in helped.text_content()
    for key in ("ArrowLeft", "Shift+ArrowUp"):
        page.keyboard.press(key)
    assert strokes(page) == [] and live.text_content() == "Row 9, column 13." and helped.is_hidden()
    page.keyboard.press("Space")
    assert live.text_content() == "Pen down."
    frame(page)
    assert page.locator(".lb-pad-down").count() == 1
    for key in ("Shift+ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    assert live.text_content() == "Pen up."
    page.keyboard.press("ArrowRight")
    assert strokes(page) == [[[13, 9], [13, 14], [14, 14]]]
    page.keyboard.press("Space")
    page.keyboard.press("Tab")  # leaving lifts the pen
    assert live.text_content() == "Pen up." and page.evaluate("heard.length") > 0
    page.keyboard.press("Shift+Tab")
    for _ in range(2):
        page.keyboard.press("Backspace")
    assert strokes(page) == [] and live.text_content() == "Undone."
    page.keyboard.press("Backspace")
    assert live.text_content() == "Nothing to undo."


def test_a_sample_digit_is_one_to_begin_with(put):
    page = put()
    page.get_by_role("button", name="Begin with a 4").click()
    assert np.allclose(image(page), pad.rasterise(pad.centred(pad.SAMPLES["4"])), atol=1e-5)
    page.keyboard.press("Control+z")
    assert image(page).sum() == 0


def test_a_sample_image_stays_as_it_is_and_can_be_drawn_on(put):
    given = np.zeros((28, 28))
    given[3:9, 2:6] = 0.6
    page = put(samples={"7": given.flatten().tolist()})
    page.evaluate("it.begin(7)")
    assert np.allclose(image(page), given, atol=1e-6)
    drag(page, (20, 20), (24, 20))
    assert np.allclose(image(page), np.maximum(given, pad.rasterise(strokes(page))), atol=1e-5)


@pytest.mark.parametrize("kind", ["pad", "scene"])
def test_a_figure_can_write_strokes_itself(put, kind):
    page = put(kind)
    page.evaluate("(strokes) => it.write(strokes)", WAVE)
    assert strokes(page) == WAVE and image(page).sum() > 50
    page.evaluate("it.undo()")
    assert strokes(page) == []


def test_a_pad_can_leave_strokes_where_they_are(put):
    page = put(centre=False)
    drag(page, (3, 20), (9, 24))
    assert np.allclose(image(page), pad.rasterise(strokes(page)), atol=1e-5) and mass(image(page))[0] < 8


def test_listeners_hear_once_a_frame_and_also_in_a_hidden_tab(put):
    page = put()
    heard = page.evaluate("""async () => {
        const wait = () => new Promise((done) => setTimeout(done, 400)), counts = [];
        heard.length = 0;
        for (let k = 0; k < 5; k++) it.begin(k);
        await wait();
        counts.push(heard.length);
        const asked = window.requestAnimationFrame;
        window.requestAnimationFrame = () => 0;
        it.begin(7);
        await wait();
        window.requestAnimationFrame = asked;
        counts.push(heard.length);
        it.begin(1);
        it.stop();
        await wait();
        return [...counts, heard.length];
    }""")
    assert heard == [1, 2, 2]


def test_listeners_know_while_a_stroke_is_drawn(put):
    page = put()
    page.mouse.move(*on_screen(page, 5, 5))
    page.mouse.down()
    frame(page)
    assert page.evaluate("heard.at(-1)") is True
    page.mouse.up()
    frame(page)
    assert page.evaluate("heard.at(-1)") is False


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("rasterise([], { size: 2.5 })", "size must be a whole number of pixels, got 2.5"),
        ("rasterise([], { width: 0 })", "width must be a positive number of pixels, got 0"),
        ("rasterise([[[1, NaN]]])", "a stroke must be points [x, y] of finite numbers"),
        ("it.write([[]])", "a stroke must be points [x, y] of finite numbers"),
        ("pad({})", "a pad needs a label"),
        ("it.begin(12)", 'no sample digit "12": there are 0, 1, 2'),
        ("pad({ label: 'x', samples: { 3: [1, 2] } })", 'the sample "3" must be strokes or 28 x 28 grey values'),
        ("scenePad({ label: 'x', size: 20 })", "a scene of 20 pixels cannot hold a digit of 24"),
        (
            "scenePad({ label: 'x', samples: { 3: [[[1, 2]]] } }).drop(3, { x: 4 })",
            "a digit's place must be two numbers",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_words(put, code, message):
    said = put().evaluate(f"() => {{ try {{ {code}; return 'nothing'; }} catch (error) {{ return error.message; }} }}")
    assert message in said


def scene_of(page) -> np.ndarray:
    """What image() should give: strokes and stamps added up, at most 1."""
    wanted = pad.rasterise(strokes(page), 50, pad.STAMP_PEN).copy()
    for one in page.evaluate("it.digits"):
        placed = pad.centred(pad.SAMPLES[one["name"]], 24, pad.STAMP_PEN)
        wanted[one["y"] : one["y"] + 24, one["x"] : one["x"] + 24] += pad.rasterise(placed, 24, pad.STAMP_PEN)
    return wanted.clip(max=1)


def corners(page) -> list:
    return [[one["name"], one["x"], one["y"]] for one in page.evaluate("it.digits")]


def test_digits_are_dropped_where_there_is_room(put):
    page = put("scene", most=2)
    for name in ("a 3", "an 8", "a 1"):
        page.get_by_role("button", name=f"Drop {name}").click()
    (first, second) = corners(page)
    assert [first[0], second[0]] == ["3", "8"] and page.locator(".lb-pad-say").text_content().startswith(
        "There is room for 2"
    )
    alone = [pad.rasterise(pad.centred(pad.SAMPLES[k], 24, 2.4), 24, 2.4).sum() for k in "38"]
    assert image(page).sum() == pytest.approx(sum(alone), rel=1e-4)  # nothing overlaps
    assert np.allclose(image(page), scene_of(page), atol=1e-4)


def test_a_digit_is_dragged_and_strokes_are_drawn_beside_it(put):
    page = put("scene")
    page.evaluate("it.drop(5, { x: 2, y: 3 })")
    drag(page, (14, 15), (30, 20), size=50)
    assert corners(page) == [["5", 18, 8]] and strokes(page) == []
    drag(page, (4, 30), (8, 45), size=50)
    assert len(strokes(page)) == 1 and np.allclose(image(page), scene_of(page), atol=1e-4)
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")  # the whole way back is one step
    assert corners(page) == [["5", 2, 3]] and strokes(page) == []
    drag(page, (14, 15), (49, 49), size=50)
    assert corners(page) == [["5", 26, 26]]  # inside the canvas, as in the data
    drag(page, (38, 38), (70, 38), size=50)
    assert corners(page) == [] and page.locator(".lb-pad-digit").count() == 0
    page.get_by_role("button", name="Undo").click()
    frame(page)
    assert len(corners(page)) == 1 and page.locator(".lb-pad-digit").count() == 1


def test_a_finger_drags_a_digit_without_scrolling(put):
    page = put("scene", phone=True)
    page.evaluate("it.drop(0, { x: 2, y: 24 })")
    start, end = on_screen(page, 14, 36, 50), on_screen(page, 34, 16, 50)
    with harness.fingers(page) as touch:
        touch("touchStart", {0: start})
        for k in range(1, 9):
            touch("touchMove", {0: tuple(a + (b - a) * k / 8 for a, b in zip(start, end, strict=True))})
        touch("touchEnd")
    assert corners(page) == [["0", 22, 4]] and page.evaluate("scrollY") == 0


def test_a_digit_is_dragged_from_its_button_by_mouse(put):
    page = put("scene")
    box = page.get_by_role("button", name="Drop a 6").bounding_box()
    for end, wanted in (((20, 30), [["6", 8, 18]]), ((90, 30), [["6", 8, 18]])):
        page.mouse.move(box["x"] + 20, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(*on_screen(page, 25, 40, 50), steps=5)
        page.mouse.move(*on_screen(page, *end, 50), steps=5)
        page.mouse.up()
        assert corners(page) == wanted  # the second is let go outside
    page.mouse.click(box["x"] + 20, box["y"] + 20)
    assert len(corners(page)) == 2  # and a click still drops one


def test_digits_are_moved_and_taken_away_by_key(put):
    page = put("scene")
    page.evaluate("it.drop(2, { x: 4, y: 4 }); it.drop(9, { x: 20, y: 20 })")
    page.locator(".lb-pad-surface").focus()
    page.keyboard.press("Tab")
    for key in ("ArrowRight", "Shift+ArrowDown", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    assert corners(page) == [["2", 3, 9], ["9", 20, 20]]
    assert page.locator(".lb-pad-say").text_content() == "row 21, column 15."
    assert page.evaluate("document.activeElement.ariaLabel") == "Digit 2, row 21, column 15"
    page.keyboard.press("Delete")
    assert corners(page) == [["9", 20, 20]] and page.evaluate("document.activeElement.ariaLabel").startswith("Digit 9")
    page.get_by_role("button", name="Take a digit away").click()
    assert corners(page) == []
    page.get_by_role("button", name="Take a digit away").click()
    assert page.locator(".lb-pad-say").text_content() == "There is no digit to take away."


@pytest.mark.parametrize(("dark", "phone"), [(False, False), (True, True)], ids=["light-wide", "dark-phone"])
@pytest.mark.parametrize("kind", ["pad", "scene"])
def test_axe_finds_no_violation(put, kind, dark, phone):
    page = put(kind, dark=dark, phone=phone)
    if kind == "scene":
        page.evaluate("it.drop(3)")
    page.locator(".lb-pad-surface").focus()
    assert violations(page, "figure") == []


@pytest.mark.parametrize("dark", [False, True])
def test_ink_is_dark_on_paper_and_light_in_the_dark(put, dark):
    page = put(dark=dark)
    drag(page, (5, 14), (23, 14))
    frame(page)
    png = page.locator(".lb-pad-surface").screenshot()
    grey = np.asarray(Image.open(io.BytesIO(png)).convert("L")).astype(int)
    side = len(grey)
    ink, paper = grey[side // 2, side // 2], grey[side // 8, side // 2]
    assert (ink > 240 and paper < 40) if dark else (ink < 15 and paper == 255)
