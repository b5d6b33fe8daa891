"""The page of lesson 48 in a real browser, without a window: what it answers, loads and takes.

usage: python -m helpers.in_browser      (records data/browser/record.json anew)

Playwright drives the system's Chromium. `missing()` says what is not there; `recorded()` is what
was found where the page was made.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from helpers import data, picture, wasm, web_page

RECORD = "browser/record.json"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
IMAGES = 100  # test images whose logits are compared
PHOTOGRAPHS = 200
LIMIT_SECONDS = 240
READY = "html[data-ready=yes]"
LOGITS = """async rows => {
    const found = {};
    for (const key in edge.loaded) {
        found[key] = [];
        const engine = edge.loaded[key];
        for (const row of rows) found[key].push([...await engine.run(Uint8Array.from(row))]);
    }
    return found;
}"""
CANVAS = """async ([count, width, height, boxes]) => {
    const gray = new Uint8Array(await (await fetch("pictures.bin")).arrayBuffer());
    const canvas = new OffscreenCanvas(width, height), small = new OffscreenCanvas(28, 28);
    const [from, to] = [canvas, small].map(c => c.getContext("2d", {willReadFrequently: true}));
    const own = edge.loaded.own;
    const best = async pixels => {
        const logits = [...await own.run(pixels)];
        return logits.indexOf(Math.max(...logits));
    };
    const found = {area: [], none: [], low: [], medium: [], high: []}, same = [];
    for (let n = 0; n < count; n++) {
        const image = new ImageData(width, height);
        for (let k = 0; k < width * height; k++) {
            const v = gray[n * width * height + k];
            image.data.set([v, v, v, 255], 4 * k);
        }
        const pixels = edge.toPixels(image.data, width, height);
        same.push([...pixels]);
        found.area.push(await best(pixels));
        const flat = edge.onBlack(edge.grayOf(image.data), width, height);
        for (let k = 0; k < width * height; k++) image.data.fill(flat[k], 4 * k, 4 * k + 3);
        from.putImageData(image, 0, 0);
        const [left, top, w, h] = boxes[n], longest = Math.max(w, h);
        const [outW, outH] = [w, h].map(s => Math.max(1, Math.round(28 * s / longest)));
        for (const quality of ["none", "low", "medium", "high"]) {
            to.imageSmoothingEnabled = quality !== "none";
            if (quality !== "none") to.imageSmoothingQuality = quality;
            to.fillStyle = "#000";
            to.fillRect(0, 0, 28, 28);
            const [x, y] = [outW, outH].map(s => Math.floor((28 - s) / 2));
            to.drawImage(canvas, left, top, w, h, x, y, outW, outH);
            const seen = to.getImageData(0, 0, 28, 28).data.filter((_, k) => k % 4 === 0);
            found[quality].push(await best(new Uint8Array(seen)));
        }
    }
    return [found, same];
}"""
TICK = """() => {
    const steps = [];
    for (let last = performance.now(); steps.length < 50;) {
        const now = performance.now();
        if (now > last) { steps.push(now - last); last = now; }
    }
    return Math.min(...steps);
}"""


def chromium() -> str | None:
    """The path of the system's Chromium."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


def missing() -> str:
    """Why the page cannot be tried here; "" where it can."""
    if wasm.missing():
        return wasm.missing()
    if importlib.util.find_spec("playwright") is None:
        return 'skipped: not installed: playwright (the extra "pages")'
    if chromium() is None:
        return "skipped: no Chromium on this machine"
    if _memory_is_limited():
        return "skipped: this process may have little memory, and a browser reserves much"
    lacking = [name for name in web_page.VERSIONS if name not in web_page.libraries()]
    return f"skipped: not installed: {', '.join(lacking)} (make demo)" if lacking else ""


def _memory_is_limited() -> bool:
    """Does this process have a limit on its data, as a class's server sets one?"""
    if sys.platform != "linux":
        return False
    import resource

    return resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY


def recorded() -> dict:
    """What `measured` returned where the page of the lesson was made; its "told" says which."""
    with data.shipped(RECORD) as content:
        return _unpacked(json.loads(content))


def photographs() -> tuple[np.ndarray, np.ndarray]:
    """Made-up photographs of the first test images, uint8 [200, 200, 240], and their labels."""
    test, rng = data.fashion_mnist("test"), np.random.default_rng(48)
    made = [picture.photograph(image, rng) for image in test.images[:PHOTOGRAPHS]]
    return np.stack(made), test.labels[:PHOTOGRAPHS]


def measured(int8: bytes, onnx: bytes) -> dict:
    """Build the page with ResNet8's files, open it, and try it.

    The result:
    told: versions of browser and libraries. first, second: bytes that the server sent for two
    visits. offline: True if the page gave the same logits with the network cut. outside: requests
    to other machines. start: ms of each engine until its first logits. loaded: bytes sent for each
    library. times: ms a picture, a list of blocks for each engine, taken in turn. logits: int8
    [100, 10] of each engine. canvas: classes [200] of photographs() after each way of resizing.
    pixels_differ: of the page's own way, against helpers.picture. tick: ms, the clock's steps with
    and without isolation. threads: ms a picture with two threads, or what the browser said.
    Raises RuntimeError where `missing()` says so, or with the browser's words.
    """
    if missing():
        raise RuntimeError(missing())
    pictures, _ = photographs()
    boxes = []
    for gray in pictures:
        rows, columns = picture.box_of(picture.on_black(gray))
        sides = (columns.start, rows.start, columns.stop, rows.stop)
        left, top, right, bottom = map(int, sides)
        boxes.append((left, top, right - left, bottom - top))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder, given, found = (Path(place) / name for name in ("page", "job.json", "found.json"))
        web_page.build(folder, "ResNet8", int8, onnx)
        (folder / "pictures.bin").write_bytes(pictures.tobytes())
        job = {"folder": str(folder), "shape": pictures.shape, "boxes": boxes}
        given.write_text(json.dumps(job), "utf-8")
        done = subprocess.run(  # Playwright wants a process without Jupyter's event loop
            [sys.executable, "-c", _RUN, str(given), str(found)],
            cwd=Path(__file__).resolve().parent.parent,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
        )
        if done.returncode:
            raise RuntimeError(f"the browser failed:\n{done.stderr.strip()[-1500:]}")
        result = _unpacked(json.loads(found.read_text("utf-8")))
    expected = np.stack([picture.fitted(picture.on_black(gray)) for gray in pictures])
    result["pixels_differ"] = int(
        (result.pop("pixels") != expected.reshape(len(expected), -1)).sum()
    )
    return result


_RUN = "import sys; from helpers.in_browser import run; run(*sys.argv[1:])"


def run(given: str, target: str) -> None:
    """Do a job of `measured` in this process."""
    from playwright.sync_api import sync_playwright

    job = json.loads(Path(given).read_text("utf-8"))
    rows = data.fashion_mnist("test").images[:IMAGES].reshape(IMAGES, -1).tolist()
    outside: list[str] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        with web_page.Server(Path(job["folder"])) as server:
            context = browser.new_context()
            page = context.new_page()
            page.on("request", lambda r: outside.append(r.url) if _elsewhere(r.url) else None)
            _visit(page, server.address)
            first = server.sent
            _visit(page, server.address)
            found = {"first": first, "second": server.sent - first, "start": {}, "loaded": {}}
            found["start"]["own"] = page.evaluate("edge.loaded.own.started")
            for key in ("litert", "ort"):
                before = server.sent
                load = "async key => (await edge.load(key)).started"
                found["start"][key] = page.evaluate(load, key)
                found["loaded"][key] = server.sent - before
            found["logits"] = {
                k: _packed(np.array(v, np.int8)) for k, v in page.evaluate(LOGITS, rows).items()
            }
            race = "async row => edge.race(edge.loaded, Uint8Array.from(row), 30)"
            times = page.evaluate(race, rows[0])
            found["times"] = {key: [round(t, 5) for t in v["all"]] for key, v in times.items()}
            number, height, width = job["shape"]
            classes, pixels = page.evaluate(CANVAS, [number, width, height, job["boxes"]])
            found["canvas"] = {k: _packed(np.array(v, np.int8)) for k, v in classes.items()}
            found["pixels"] = _packed(np.array(pixels, np.uint8))
            found["tick"] = {"isolated": page.evaluate(TICK)}
            context.set_offline(True)
            page.reload()
            page.wait_for_selector(READY)
            again = page.evaluate(LOGITS, rows[:10])["own"]
            kept = np.array(again, np.int8) == _unpacked(found)["logits"]["own"][:10]
            found["offline"] = bool(kept.all())
            context.close()
            found["threads"] = {"isolated": _threads(browser, server.address)}
        with web_page.Server(Path(job["folder"]), isolated=False) as server:
            page = browser.new_page()
            _visit(page, server.address)
            found["tick"]["not isolated"] = page.evaluate(TICK)
            page.close()
            found["threads"]["not isolated"] = _threads(browser, server.address)
        found["outside"] = outside
        found["told"] = {"browser": f"Chromium {browser.version}", **web_page.libraries()}
        browser.close()
    Path(target).write_text(json.dumps(found), "utf-8")


def _visit(page, address: str) -> None:
    page.goto(address)
    page.wait_for_selector(READY, timeout=30_000)


def _elsewhere(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def _threads(browser, address: str) -> dict[str, str | float]:
    """{engine: ms a picture with two threads, or "it did not start"}."""
    found: dict[str, str | float] = {}
    for key in ("litert", "ort"):
        page = browser.new_page()
        _visit(page, address)
        script = """async key => {
            const late = new Promise((_, no) => setTimeout(() => no(Error("late")), 15000));
            const engine = await Promise.race([edge.load(key, 2), late]);
            const times = await edge.race({[key]: engine}, new Uint8Array(784).fill(100), 11);
            return times[key].median;
        }"""
        try:
            found[key] = page.evaluate(script, key)
        except Exception as error:
            found[key] = f"failed: {str(error).splitlines()[0][:120]}"
        page.close()
    return found


def _packed(values: np.ndarray) -> dict:
    """An array as text."""
    content = base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
    return {"dtype": str(values.dtype), "shape": values.shape, "base64": content}


def _unpacked(found):
    """The same with arrays."""
    if isinstance(found, dict) and "base64" in found:
        values = np.frombuffer(base64.b64decode(found["base64"]), found["dtype"])
        return values.reshape(found["shape"])
    return {k: _unpacked(v) for k, v in found.items()} if isinstance(found, dict) else found


def record() -> None:
    """Try the page here, and store what was found for readers who have no browser at hand."""
    from helpers import convert, models

    network, images = models.load("ResNet8"), data.fashion_mnist("fit").images[:100]
    files = convert.to_tflite(network, "int8", images), convert.to_onnx_int8(network, images)
    found = measured(*files)
    found["told"]["processor"] = f"{platform.machine()}, {os.cpu_count()} cores"
    for key in ("logits", "canvas"):
        found[key] = {name: _packed(values) for name, values in found[key].items()}
    content = (json.dumps(found) + "\n").encode("ascii")
    sums = {**data.checksums(), RECORD: hashlib.sha256(content).hexdigest()}
    (data.DATA / RECORD).parent.mkdir(exist_ok=True)
    (data.DATA / RECORD).write_bytes(content)
    lines = "".join(f"{value}  {name}\n" for name, value in sums.items())
    (data.DATA / "SHA256SUMS").write_text(lines, "ascii")


if __name__ == "__main__":
    record()
