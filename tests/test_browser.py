"""Every lesson in the real JupyterLab and a real browser: opened, run, moved, looked at.

00 and a third of the others, another third each day; LESSONS="21 22" chooses, LESSONS=all takes
all. Needs what `make test-browser` installs, and the system's Chromium.
"""

import datetime
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.extra
SHOTS = Path(os.environ.get("SHOTS", ROOT / "screenshots"))
PATIENCE = 300_000  # ms for a lesson
FAULTS = [
    "[data-mime-type='application/vnd.jupyter.stderr']",
    ".jp-RenderedText pre:has-text('Traceback')",
    "mjx-merror",
    ".jp-RenderedMarkdown .MathJax_Error",
    ".jp-OutputArea .jp-mod-error",
    ".jp-OutputArea .widget-hprogress",
]
FOLD = ".jp-InputCollapser.jp-mod-collapsed, .jp-InputPlaceholder"


def chosen() -> list[str]:
    """The lessons of today's run."""
    names = sorted(p.stem for p in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
    wanted = os.environ.get("LESSONS", "")
    if wanted == "all":
        return names
    if wanted:
        return [name for name in names if name[:2] in wanted.split()]
    today = datetime.date.today().toordinal()
    return [name for i, name in enumerate(names) if i == 0 or (i + today) % 3 == 0]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """(address, token) of a JupyterLab on a fresh copy of the lessons."""
    root = tmp_path_factory.mktemp("lab")
    (root / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "lab.py", root / "tools")  # its folder's neighbors are the course
    shutil.copytree(ROOT / "notebooks", root / "notebooks")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    token = secrets.token_hex(16)
    environment = {**os.environ, "JUPYTER_PREFER_ENV_PATH": "1", "JUPYTER_CONFIG_DIR": str(root)}
    command = [sys.executable, "tools/lab.py", "--no-browser", "--allow-root"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    command += [f"--IdentityProvider.token={token}"]
    with open(root / "log.txt", "w") as log:
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/api?token={token}", timeout=2)
                break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail((root / "log.txt").read_text()[-2000:])
        yield address, token
    finally:
        process.terminate()
        process.wait(30)


class Lesson:
    """A lesson that is open in JupyterLab, and what the page asked for and complained about."""

    def __init__(self, browser, lab, name: str):
        self.address, self.token = lab
        self.said: list[str] = []
        self.page = browser.new_page(viewport={"width": 1280, "height": 1000})
        self.page.on("request", lambda r: self.note(r.url))
        self.page.on("console", lambda m: self.said.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        workspace = f"t{secrets.token_hex(4)}"
        path = f"lab/workspaces/{workspace}/tree/work/{name}.ipynb?token={self.token}"
        self.page.goto(f"{self.address}/{path}")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        self.idle()

    def note(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:", self.address.replace("http", "ws"))):
            self.said.append(f"asked for {url}")

    def idle(self) -> None:
        self.page.wait_for_selector(
            ".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=PATIENCE
        )

    def run_all(self, cells: int) -> None:
        """Run All; without a word it is lost while the kernel does not listen yet: look, repeat."""
        for _ in range(5):
            self.page.click(".lm-MenuBar-item:has-text('Run')")
            self.page.click("li.lm-Menu-item[data-command='runmenu:run-all']")
            try:
                self.page.wait_for_selector(
                    ".jp-Notebook-ExecutionIndicator[data-status=busy]", timeout=8_000
                )
                break
            except Exception:
                continue
        end = time.monotonic() + PATIENCE / 1000
        while time.monotonic() < end:
            self.idle()
            done = self.page.locator(".jp-Notebook-ExecutionIndicator").first
            done.hover()
            text = " ".join(
                self.page.locator(".jp-Notebook-ExecutionIndicator-tooltip").all_inner_texts()
            )
            if re.search(rf"Executed {cells} cells?", text):
                return
            time.sleep(1)
        raise AssertionError(f"not all of {cells} cells were executed: {text}")

    def cell(self, index: int):
        """A cell, scrolled to: JupyterLab keeps only those near the window in the page."""
        script = """i => { const cells = document.querySelectorAll('.jp-Notebook .jp-Cell');
            return [...cells].map(c => +c.dataset.windowedListIndex).join(' ') }"""
        for _ in range(200):
            found = self.page.locator(f".jp-Cell[data-windowed-list-index='{index}']")
            if found.count():
                found.first.scroll_into_view_if_needed()
                return found.first
            shown = [int(i) for i in self.page.evaluate(script, index).split() if i.isdigit()]
            down = not shown or index > max(shown)
            self.page.mouse.move(640, 500)
            self.page.mouse.wheel(0, 700 if down else -700)
            time.sleep(0.05)
        raise AssertionError(f"cell {index} cannot be scrolled to")


@pytest.mark.parametrize("name", chosen())
def test_a_lesson_in_jupyterlab(browser, lab, name):
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    codes = [c for c in notebook.cells if c.cell_type == "code"]
    lesson = Lesson(browser, lab, name)
    try:
        lesson.run_all(len(codes))
        for index, cell in enumerate(notebook.cells):
            shown = lesson.cell(index)
            for fault in FAULTS:
                assert not shown.locator(fault).count(), f"cell {index} has {fault}"
            if cell.cell_type == "markdown":
                typeset = shown.locator(".jp-RenderedMarkdown mjx-container")
                wanted = formulas(cell.source)
                if wanted:
                    typeset.nth(wanted - 1).wait_for(state="attached", timeout=20_000)
                assert typeset.count() == wanted, f"cell {index}: formulas"
            stored = json.dumps(cell.get("outputs", ""))
            if '"image/png"' in stored and "interact" not in cell.source:
                shown.locator(".jp-OutputArea img").first.wait_for(timeout=20_000)
            folded = "hide-input" in cell.metadata.get("tags", [])
            assert bool(shown.locator(FOLD).count()) == folded, f"cell {index}"
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "code" and "widgets.interact" in cell.source:
                move_sliders(lesson, index)
        SHOTS.mkdir(parents=True, exist_ok=True)
        for width in (1280, 390):
            lesson.page.set_viewport_size({"width": width, "height": 1000})
            lesson.page.screenshot(path=SHOTS / f"{name[:2]}_{width}.png")
        assert not lesson.said, lesson.said[:5]
    finally:
        lesson.page.close()


def formulas(text: str) -> int:
    """How many formulas a Markdown cell has."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL).replace(r"\$", "")
    return len(re.findall(r"\$\$.+?\$\$|\$[^$]+\$", text, flags=re.DOTALL))


def move_sliders(lesson: Lesson, index: int) -> None:
    """Each slider of a cell changes its picture, by an arrow key and by the mouse."""
    picture = ".widget-interact .widget-output"
    shown = lesson.cell(index)
    handles = shown.locator(".noUi-handle")
    assert handles.count(), f"cell {index} has no slider"
    for k in range(handles.count()):
        for move in (by_key, by_mouse):
            before = shown.locator(picture).first.inner_html()
            move(lesson, handles.nth(k))
            for _ in range(100):
                if shown.locator(picture).first.inner_html() != before:
                    break
                time.sleep(0.2)
            else:
                raise AssertionError(f"slider {k} of cell {index} changes nothing {move.__name__}")


def by_key(lesson: Lesson, handle) -> None:
    handle.focus()
    at_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
    lesson.page.keyboard.press("ArrowLeft" if at_end else "ArrowRight")


def by_mouse(lesson: Lesson, handle) -> None:
    box = handle.bounding_box()
    track = handle.locator("xpath=ancestor::*[contains(@class, 'noUi-target')]").bounding_box()
    right = box["x"] + box["width"] / 2 < track["x"] + track["width"] / 2
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    lesson.page.mouse.move(x, y)
    lesson.page.mouse.down()
    lesson.page.mouse.move(track["x"] + track["width"] * (0.9 if right else 0.1), y, steps=5)
    lesson.page.mouse.up()
