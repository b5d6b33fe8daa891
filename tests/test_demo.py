"""The page of lesson 48: its server, its folder, and in a real browser what it answers.

The tests in a browser need what `make test-browser` installs, and the system's Chromium.
"""

import http.client
import io
import json

import numpy as np
import pytest
from PIL import Image

import demo
from helpers import convert, picture, wasm, web_page
from helpers.data import fashion_mnist
from helpers.kernel_answers import answers
from helpers.models import load
from helpers.runtime import open_model
from helpers.tflite_file import operators
from helpers.tflite_rewrite import with_float_ends

compiled = pytest.mark.skipif(bool(wasm.missing()), reason=wasm.missing() or "there")
extra = pytest.mark.extra
LACKING = [name for name in web_page.VERSIONS if name not in web_page.libraries()]
libraries = pytest.mark.skipif(
    bool(LACKING), reason=f"not installed: {', '.join(LACKING)}: make test-browser installs them"
)


@pytest.fixture(scope="module")
def int8() -> bytes:
    return convert.to_tflite(load("ResNet8"), "int8", fashion_mnist("fit").images[:100])


@pytest.fixture(scope="module")
def onnx() -> bytes:
    return convert.to_onnx_int8(load("ResNet8"), fashion_mnist("fit").images[:100])


def ask(server, path: str, **headers) -> tuple[http.client.HTTPResponse, bytes]:
    host = server.address.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


# --- files and server --------------------------------------------------------------------------


def test_float_ends_change_no_logit(int8):
    content = with_float_ends(int8)
    names = [step.name for step in operators(content)]
    assert (names[0], names[-1]) == ("QUANTIZE", "DEQUANTIZE")
    assert names[1:-1] == [step.name for step in operators(int8)]
    images = fashion_mnist("test").images[:50]
    found, expected = (open_model(c).predict(images) for c in (content, int8))
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="an input of the file is no int8 tensor"):
        with_float_ends(content)


def test_the_server_sends_its_headers_and_nothing_from_outside_of_its_folder(tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text("<p>here")
    (folder / "a.wasm").write_bytes(b"plain")
    (folder / "a.wasm.gz").write_bytes(b"packed")
    (tmp_path / "secret").write_text("no")
    with web_page.Server(folder) as server:
        answer, content = ask(server, "/")
        assert (answer.status, content) == (200, b"<p>here")
        for name, value in (web_page.HEADERS | web_page.ISOLATION).items():
            assert answer.headers[name] == value
        assert ask(server, "/a.wasm")[1] == b"plain"
        answer, content = ask(server, "/a.wasm", **{"Accept-Encoding": "gzip"})
        assert content == b"packed" and answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Content-Type"] == "application/wasm"
        same = {"Accept-Encoding": "gzip", "If-None-Match": answer.headers["ETag"]}
        assert ask(server, "/a.wasm", **same)[0].status == 304
        for path in ("/../secret", "/%2e%2e/secret", "/none", "//etc/passwd"):
            assert ask(server, path)[0].status == 404
        assert ask(server, "/", Host="elsewhere.example")[0].status == 403
        assert server.address.startswith("http://127.0.0.1:")
        port = int(server.address.rsplit(":", 1)[1].strip("/"))
        with pytest.raises(OSError):
            web_page.Server(folder, port)
    with web_page.Server(folder, isolated=False) as server:
        assert not set(web_page.ISOLATION) & set(dict(ask(server, "/")[0].getheaders()))


@compiled
def test_a_page_without_libraries_says_so(tmp_path, monkeypatch, int8):
    monkeypatch.setattr(web_page, "node_modules", lambda: tmp_path / "nothing")
    about = web_page.build(tmp_path / "page", "ResNet8", int8)
    assert not about["litert"]["there"] and not about["ort"]["there"]
    assert json.loads((tmp_path / "page" / "demo.json").read_text()) == about
    assert not (tmp_path / "page" / "vendor").exists()
    worker = (tmp_path / "page" / "sw.js").read_text()
    assert "{core}" not in worker and '"network.wasm"' in worker
    module = wasm.Module((tmp_path / "page" / "network.wasm").read_bytes())
    assert set(wasm.EXPORTS) < set(module.names)
    assert web_page.build(tmp_path / "page", "ResNet8", int8) == about  # over an older page


def test_a_folder_of_other_things_is_left_alone(tmp_path, capsys, int8):
    (tmp_path / "thesis.txt").write_text("the only copy")
    with pytest.raises(FileExistsError, match="holds other things"):
        web_page.build(tmp_path, "ResNet8", int8)
    assert (tmp_path / "thesis.txt").read_text() == "the only copy"


def test_without_a_compiler_the_command_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(wasm, "missing", lambda: "skipped: not installed: ziglang")
    assert demo.main(["--build-only"]) == 1
    assert "not installed: ziglang; make demo installs it" in capsys.readouterr().err


# --- the page ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory, int8, onnx):
    if wasm.missing():
        pytest.skip(wasm.missing())
    folder = tmp_path_factory.mktemp("demo") / "page"
    web_page.build(folder, "ResNet8", int8, onnx)
    with web_page.Server(folder) as served:
        yield served


class Visit:
    """The page, opened; `said` holds its errors and requests to other machines.

    LiteRT.js writes its log as errors of the console: lines of INFO and WARNING are left out.
    """

    def __init__(self, browser, server, **options):
        self.context = browser.new_context(**options)
        self.page, self.said = self.context.new_page(), []
        local = (server.address, "data:", "blob:")
        self.page.on("request", lambda r: r.url.startswith(local) or self.said.append(r.url))
        self.page.on("console", lambda m: self.note(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(server.address)
        self.ready()

    def note(self, text: str) -> None:
        if not text.startswith(("INFO:", "WARNING:")):
            self.said.append(text)

    def ready(self) -> None:
        self.page.wait_for_selector("html[data-ready=yes]", timeout=30_000)

    def wait(self, text: str) -> None:
        """Until the answer has a text; the page's policy lets no script of a test wait inside."""
        self.page.locator("#answer", has_text=text).wait_for(timeout=20_000)

    @property
    def answer(self) -> str:
        return self.page.inner_text("#answer")


@pytest.fixture
def visit(browser, server):
    opened = []

    def visit(**options) -> Visit:
        opened.append(Visit(browser, server, **options))
        return opened[-1]

    yield visit
    for found in opened:
        found.context.close()
        assert not found.said, found.said[:5]


LOGITS = """async ([key, rows]) => {
    const engine = edge.loaded[key] ?? await edge.load(key), found = [];
    for (const row of rows) found.push([...await engine.run(Uint8Array.from(row))]);
    return found;
}"""


def rows(count: int = 100) -> list:
    return fashion_mnist("test").images[:count].reshape(count, -1).tolist()


@extra
@pytest.mark.parametrize("key", ["own", pytest.param("litert", marks=libraries)])
def test_each_engine_has_its_own_kernels_logits(visit, int8, key):
    images = fashion_mnist("test").images[:100]
    pixels = (images.astype(np.int16) - 128).astype(np.int8)[..., None]
    expected = answers(int8, pixels, {"own": "reference", "litert": "XNNPACK"}[key])
    found = visit().page.evaluate(LOGITS, [key, rows()])
    np.testing.assert_array_equal(found, expected)


@extra
@libraries
def test_onnxruntime_in_the_page_has_pythons_logits(visit, onnx):
    ends = web_page.onnx_ends(onnx)
    logits = open_model(onnx).predict(fashion_mnist("test").images[:100])
    expected = np.rint(logits / ends["scale"]) + ends["zero"]
    np.testing.assert_array_equal(visit().page.evaluate(LOGITS, ["ort", rows()]), expected)


@extra
def test_a_drawing_by_mouse_is_answered_and_cleared(visit):
    shown = visit()
    box = shown.page.locator("#draw").bounding_box()
    move = shown.page.mouse.move
    move(box["x"] + 100, box["y"] + 40)
    shown.page.mouse.down()
    for x, y in ((100, 240), (180, 240), (180, 40), (100, 40)):
        move(box["x"] + x, box["y"] + y, steps=5)
    shown.page.mouse.up()
    shown.wait("Your drawing:")
    assert shown.page.locator("#logits tbody tr").count() == 10
    shown.page.click("#clear")
    assert shown.answer.startswith("Cleared")


@extra
def test_the_keyboard_alone_draws_and_chooses(visit):
    shown = visit()
    press = shown.page.keyboard.press
    press("Tab")
    assert shown.page.evaluate("document.activeElement.id") == "draw"
    press("Space")
    for key in 8 * ["ArrowDown"] + 4 * ["ArrowRight"] + 8 * ["ArrowUp"]:
        press(key)
    press("Space")
    shown.wait("Your drawing:")
    press("Delete")
    assert shown.answer.startswith("Cleared")
    for _ in range(3):  # past "Clear" and the file to the samples
        press("Tab")
    press("Enter")
    shown.wait("Sample (")
    assert shown.answer == "Sample (T-shirt/top): T-shirt/top"


@extra
def test_touch_on_a_narrow_screen(visit):
    shown = visit(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    wide = "document.documentElement.scrollWidth - window.innerWidth"
    assert shown.page.evaluate(wide) <= 0
    shown.page.tap("#draw", position={"x": 100, "y": 100})
    shown.wait("Your drawing:")
    shown.page.tap("#samples button:nth-child(8)")
    shown.wait("Sample (Sneaker): Sneaker")
    shown.page.tap("#measure")
    shown.page.wait_for_selector("#times tbody tr", timeout=30_000)
    assert shown.page.evaluate(wide) <= 0
    assert "median" in shown.page.inner_text("#measured")


@extra
@libraries
def test_three_engines_side_by_side_fit_on_a_narrow_screen(visit):
    shown = visit(viewport={"width": 390, "height": 800})
    for name in ("LiteRT.js", "onnxruntime-web"):
        shown.page.click(f"#engines button:has-text('Load {name}')")
        shown.page.locator("#engines button", has_text=f"{name} is loaded").wait_for()
    shown.page.click("#samples button:nth-child(10)")
    shown.wait("Sample (Ankle boot): Ankle boot")
    shown.page.click("#measure")
    shown.page.wait_for_selector("#times tbody tr:nth-child(3)", timeout=60_000)
    assert shown.page.locator("#logits thead th").all_inner_texts()[1:] == [
        "Our C",
        "LiteRT.js",
        "onnxruntime-web",
    ]
    assert shown.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert "of 10 differ from our C's" in shown.page.inner_text("#differ")


def test_make_installs_the_versions_that_the_page_names():
    makefile = (web_page.WEB.parent / "Makefile").read_text("utf-8")
    assert all(f"{name}@{version}" in makefile for name, version in web_page.VERSIONS.items())


def as_file(image: Image.Image, name: str, **options) -> dict:
    buffer = io.BytesIO()
    image.save(buffer, **({"format": name.rsplit(".", 1)[1].upper()} | options))
    return {"name": name, "mimeType": "image/png", "buffer": buffer.getvalue()}


def thing(mode: str = "L", size=(90, 120)) -> Image.Image:
    return Image.fromarray(255 - fashion_mnist("test").images[9]).resize(size).convert(mode)


def turned() -> dict:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    image = thing("RGB", (120, 120)).rotate(90, expand=True)
    return as_file(image, "turned.jpeg", exif=exif, quality=95)


@extra
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA", "I;16"])
def test_pictures_of_each_mode_are_answered(visit, mode):
    image = thing()
    image = (
        image.convert(mode)
        if mode != "I;16"
        else Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    )
    shown = visit()
    shown.page.set_input_files("#file", as_file(image, "shoe.png"))
    shown.wait("shoe")
    assert shown.answer == "shoe.png: Sneaker"


@extra
def test_a_turned_photograph_is_set_upright(visit):
    shown = visit()
    shown.page.set_input_files("#file", turned())
    shown.wait("turned")
    assert shown.answer == "turned.jpeg: Sneaker"


@extra
@pytest.mark.parametrize(
    ("file", "words"),
    [
        (as_file(Image.new("RGB", (1, 1)), "dot.png"), "nothing in it but background"),
        (as_file(Image.new("L", (900, 2), 255), "white.png"), "nothing in it but background"),
        ({"name": "a.txt", "mimeType": "text/plain", "buffer": b"words"}, "cannot read it"),
        ({"name": "no.png", "mimeType": "image/png", "buffer": b""}, "cannot read it"),
        (as_file(Image.new("1", (8000, 5001)), "huge.png"), "more than 40 million"),
    ],
    ids=lambda v: v["name"] if isinstance(v, dict) else "",
)
def test_bad_pictures_are_refused_by_name(visit, file, words):
    shown = visit()
    shown.page.set_input_files("#file", file)
    shown.wait(file["name"])
    assert "not answered" in shown.answer and words in shown.answer


@extra
def test_the_page_has_the_pixels_of_the_helper(visit):
    rng, shown = np.random.default_rng(0), visit()
    for height, width in ((7, 5), (28, 28), (61, 100), (200, 33)):
        rgba = rng.integers(0, 256, (height, width, 4), np.uint8)
        script = "([rgba, w, h]) => [...edge.toPixels(Uint8ClampedArray.from(rgba), w, h)]"
        found = shown.page.evaluate(script, [rgba.ravel().tolist(), width, height])
        np.testing.assert_array_equal(found, picture.to_pixels(rgba).ravel())


@extra
def test_the_second_visit_needs_no_network(visit, server):
    shown = visit()
    before = len(server.requests)
    shown.page.reload()
    shown.ready()
    again = [path for path, _, sent in server.requests[before:] if sent]
    assert again == []
    shown.context.set_offline(True)
    shown.page.reload()
    shown.ready()
    shown.page.click("#samples button:nth-child(9)")
    shown.wait("Sample (Bag): Bag")
    assert shown.page.inner_text("#offline") == "Ready to work offline."


@extra
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_barrier(visit, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    shown = visit(color_scheme=scheme, bypass_csp=True)
    shown.page.click("#samples button:nth-child(1)")
    shown.page.click("#measure")
    shown.page.wait_for_selector("#times tbody tr", timeout=30_000)
    found = axe.Axe().run(shown.page).response["violations"]
    serious = [v["id"] for v in found if v["impact"] in ("serious", "critical")]
    assert not serious
