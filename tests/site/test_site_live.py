"""Figures in a live notebook: JupyterLab with a kernel, where the hand moves Python and Python the figure."""

import importlib.util
import os
import re
import socket
import subprocess
import sys
import urllib.request

import pytest
import site_harness as harness

CELLS = (
    """import torch
from latentbook.widgets import AttentionWindow
figure = AttentionWindow(torch.eye(50)[None], where=(2, 0, 0))
heard = []
figure.observe(lambda change: heard.append(change["new"]), "where")
figure""",
    "print('where', *figure.where, 'heard', len(heard), heard[-1] == figure.where)",
    "figure.where = (4, 1, -2)",
    "from latentbook.widgets import ContradictFigure\nasking = ContradictFigure(digit=3, label=7)\nasking",
    "asking.label = 5\nprint('label', asking.label, 'points', sum(map(len, asking.strokes)))",
)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """The address of a notebook with these cells, open in a JupyterLab of its own."""
    if importlib.util.find_spec("jupyterlab") is None:
        say = pytest.fail if harness.must_have_browser() else pytest.skip
        say("no JupyterLab: pip install jupyterlab to test the figures with a kernel")
    import nbformat.v4 as nb  # needed here alone, and slow to import

    folder = tmp_path_factory.mktemp("lab")
    cells = [nb.new_code_cell(source) for source in CELLS]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (folder / "window.ipynb").write_text(nb.writes(nb.new_notebook(cells=cells, metadata={"kernelspec": kernel})))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = ("_CONFIG_DIR", "_DATA_DIR", "_RUNTIME_DIR", "LAB_SETTINGS_DIR", "LAB_WORKSPACES_DIR")
    settings = {f"JUPYTER{name}": str(folder / name.lower()) for name in places}  # not the reader's own
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": folder,
        "ServerApp.allow_root": True,
        "IdentityProvider.token": "",
        "LabApp.open_browser": False,
        "LabApp.news_url": None,
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    }
    command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env={**os.environ, **settings}, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        assert harness.becomes(lambda: answers(f"{address}/api/status"), True, 60), (folder / "log").read_text()
        yield f"{address}/lab/tree/window.ipynb"
    finally:
        server.terminate()
        server.wait(30)


def answers(address: str) -> bool:
    try:
        return urllib.request.urlopen(address, timeout=5).status == 200
    except OSError:
        return False


def run_cell(page, number: int) -> None:
    """Run one cell, once the kernel is there and waits, and wait until it has its number.

    A key pressed while the page still connects to its kernel is lost, so it is pressed again where nothing runs.
    """
    cell = page.locator(".jp-CodeCell").nth(number)
    prompt = cell.locator(".jp-InputPrompt")
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for(state="attached", timeout=90_000)
    for _ in range(3):
        cell.locator(".cm-content").click()
        page.keyboard.press("Shift+Enter")
        if harness.becomes(lambda: prompt.inner_text() != "[ ]:", True, 10):
            break
    assert harness.becomes(lambda: bool(re.fullmatch(r"\[\d+\]:", prompt.inner_text())), True, 90)


@pytest.mark.slow
def test_dragging_moves_where_in_python_and_python_moves_the_window(browser, notebook):
    context = browser.new_context(viewport={"width": 1280, "height": 1400})
    page = context.new_page()
    page.goto(notebook)
    page.locator(".jp-CodeCell").nth(2).wait_for(timeout=60_000)
    run_cell(page, 0)
    page.locator(".lb-window [data-shown], [data-shown] .lb-window").first.wait_for(timeout=60_000)
    scene = harness.settled(page.locator(".lb-scene svg"))
    middle = [scene["x"] + scene["width"] / 2, scene["y"] + scene["height"] / 2]
    unit = scene["width"] / 2.6  # of the screen, for one of the canvas: its margin is 0.3 on each side
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 0.4 * unit, middle[1] - 0.2 * unit, steps=6)
    page.mouse.up()
    run_cell(page, 1)
    said = page.locator(".jp-CodeCell").nth(1).locator(".jp-OutputArea-output").inner_text()
    _, scale, x, y, _, times, last = said.split()
    assert float(scale) == 2 and (float(x), float(y)) == pytest.approx((-0.8, 0.4), abs=0.03)
    assert int(times) >= 1 and last == "True"  # observe heard of it
    run_cell(page, 2)
    box = page.locator(".lb-scene svg > .lb-box")
    assert harness.becomes(
        lambda: [float(box.get_attribute(name)) for name in ("x", "y", "width")], [12.5, 31.25, 12.5]
    )
    run_cell(page, 3)  # whose models come through the kernel
    shown = page.locator(".lb-contradict").locator("xpath=..")
    assert harness.becomes(lambda: shown.get_attribute("data-live"), "worker", 60)
    page.locator(".lb-contradict").get_by_role("button", name="just show me").click()
    run_cell(page, 4)
    assert harness.becomes(lambda: shown.get_attribute("data-shown"), "3,5,3,5", 20)
    said = page.locator(".jp-CodeCell").nth(4).locator(".jp-OutputArea-output").inner_text().split()
    assert said[:2] == ["label", "5"] and int(said[3]) > 10
    context.close()
