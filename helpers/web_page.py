"""The page of lesson 48: its files in one folder, and a server on this machine's loopback.

The page's own text is in web/. A library from npm is part of it where `make demo` or
`make test-browser` installed it, and left out elsewhere, which the page says.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np

from helpers import c_model, data, wasm
from helpers.tflite_file import signature
from helpers.tflite_rewrite import with_float_ends

WEB = Path(__file__).resolve().parent.parent / "web"
LITERT, ORT = "@litertjs/core", "onnxruntime-web"
VERSIONS = {LITERT: "2.5.3", ORT: "1.30.0"}  # as in the Makefile
PARTS = {  # of node_modules -> of the page
    f"{LITERT}/dist/index.js": "vendor/litert/index.js",
    "@litertjs/wasm-utils/dist/index.js": "vendor/litert/wasm-utils.js",
    **{
        f"{LITERT}/wasm/litert_wasm_{kind}internal.{end}": (
            f"vendor/litert/wasm/litert_wasm_{kind}internal.{end}"
        )
        for kind in ("", "threaded_")
        for end in ("js", "wasm")
    },
    f"{ORT}/dist/ort.wasm.min.mjs": "vendor/ort/ort.wasm.min.mjs",
    f"{ORT}/dist/ort-wasm-simd-threaded.mjs": "vendor/ort/ort-wasm-simd-threaded.mjs",
    f"{ORT}/dist/ort-wasm-simd-threaded.wasm": "vendor/ort/ort-wasm-simd-threaded.wasm",
}
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
}
HEADERS = {
    "Cache-Control": "no-cache",  # kept, and asked about before it is used again
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' blob: 'wasm-unsafe-eval'; worker-src 'self' blob:; "
        "img-src 'self' data: blob:"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
ISOLATION = {  # without these two a page gets no memory that threads share
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}


def node_modules() -> Path:
    """Where npm's packages are: in this environment's folder."""
    return Path(sys.prefix) / "node" / "node_modules"


def libraries() -> dict[str, str]:
    """{package: version} of the page's libraries that are installed."""
    found = {}
    for name in VERSIONS:
        card = node_modules() / name / "package.json"
        if card.is_file():
            found[name] = json.loads(card.read_text("utf-8"))["version"]
    return found


def build(folder: Path, network: str, int8: bytes, onnx: bytes | None = None) -> dict:
    """Write the page into an empty or new folder; what it says about itself (demo.json).

    int8: the network's .tflite file; onnx: the same network for ONNX Runtime, or None.
    Raises FileExistsError for a folder that holds other things, RuntimeError where there is no
    compiler, and ValueError as c_model.generate.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / "demo.json").is_file():
        raise FileExistsError(f"{folder} holds other things: choose a new folder for the page")
    content = wasm.model_module(c_model.generate(int8), "simd128", simd=True)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(WEB, folder)
    (folder / "network.wasm").write_bytes(content)
    (folder / "network.tflite").write_bytes(with_float_ends(int8))
    test = data.fashion_mnist("test")
    firsts = [int(np.flatnonzero(test.labels == c)[0]) for c in range(len(test.names))]
    (folder / "samples.bin").write_bytes(test.images[firsts].tobytes())
    (result,) = signature(int8)[1].values()
    ends = {"scale": float(result.scales[0]), "zero": int(result.zero_points[0])}
    about = {
        "network": f"{network}, int8",
        "classes": list(test.names),
        "own": {"file": "network.wasm", "bytes": len(content), **ends},
        "litert": {"file": "network.tflite", "there": False, **ends},
        "ort": {"file": "network.onnx", "there": False},
    }
    if onnx is not None:
        (folder / "network.onnx").write_bytes(onnx)
        about["ort"] |= onnx_ends(onnx)
    _add_libraries(folder, about, onnx is not None)
    (folder / "demo.json").write_text(json.dumps(about), "utf-8")
    _complete_worker(folder)
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size > 1000):
        packed = gzip.compress(path.read_bytes(), 6, mtime=0)
        path.with_name(path.name + ".gz").write_bytes(packed)
    return about


def _add_libraries(folder: Path, about: dict, with_ort: bool) -> None:
    there = libraries()
    for key, name, wanted in (("litert", LITERT, True), ("ort", ORT, with_ort)):
        parts = {a: b for a, b in PARTS.items() if b.startswith(f"vendor/{key}/")}
        if not wanted or name not in there:
            continue
        if not all((node_modules() / part).is_file() for part in parts):
            continue
        for source, target in parts.items():
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(node_modules() / source, folder / target)
        loaded = [t for t in parts.values() if "threaded_" not in t]
        sizes = [(folder / target).stat().st_size for target in loaded]
        sizes.append((folder / about[key]["file"]).stat().st_size)
        about[key] |= {"there": True, "version": there[name], "bytes": sum(sizes)}
    start = folder / "vendor" / "litert" / "index.js"
    if start.is_file():  # a browser knows no packages: say which file is meant
        text = start.read_text("utf-8")
        start.write_text(text.replace('"@litertjs/wasm-utils"', '"./wasm-utils.js"'), "utf-8")


def _complete_worker(folder: Path) -> None:
    """sw.js knows which files the page needs at once, and a version that changes with them."""
    core = sorted(
        p.relative_to(folder).as_posix()
        for p in folder.iterdir()
        if p.is_file()
        and p.suffix not in (".tflite", ".onnx")
        and p.name not in ("sw.js", "index.html")
    )
    whole = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        whole.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    worker = folder / "sw.js"
    text = worker.read_text("utf-8").replace("{version}", whole.hexdigest()[:16])
    worker.write_text(text.replace("{core}", json.dumps(["./", *core])), "utf-8")


def onnx_ends(content: bytes) -> dict:
    """{"scale", "zero"} of the output of an int8 .onnx file, its integers moved down to int8."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(content).graph
    values = {v.name: numpy_helper.to_array(v) for v in graph.initializer}
    last = next(n for n in graph.node if graph.output[0].name in n.output)
    if last.op_type != "DequantizeLinear":
        raise ValueError(
            f"the file ends in {last.op_type}: expected DequantizeLinear, an int8 file"
        )
    zero = values[last.input[2]]
    return {
        "scale": float(values[last.input[1]]),
        "zero": int(zero) - (128 if zero.dtype == np.uint8 else 0),
    }


class Server:
    """Serves a folder on 127.0.0.1, in a thread: `with Server(folder) as server: server.address`.

    port: 0 takes a free one; OSError if it is taken. isolated: with the headers ISOLATION.
    requests: (path, status, bytes of the body that were sent), in order.
    """

    def __init__(self, folder: Path, port: int = 0, isolated: bool = True):
        self.requests: list[tuple[str, int, int]] = []
        headers = HEADERS | (ISOLATION if isolated else {})
        handler = functools.partial(_Handler, Path(folder).resolve(), headers, self.requests)
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def sent(self) -> int:
        """Bytes of all bodies so far."""
        return sum(size for _, _, size in self.requests)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def __init__(self, folder: Path, headers: dict, requests: list, *rest):
        self._folder, self._headers, self._requests = folder, headers, requests
        super().__init__(*rest)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        if self.headers.get("Host", "").split(":")[0] not in ("127.0.0.1", "localhost"):
            return self._send(403, b"this server answers on the loopback only", {}, body)
        name = unquote(urlsplit(self.path).path).lstrip("/") or "index.html"
        path = (self._folder / name).resolve()
        if not path.is_relative_to(self._folder) or not path.is_file():
            return self._send(404, b"not found", {}, body)
        packed = path.with_name(path.name + ".gz")
        takes = "gzip" in self.headers.get("Accept-Encoding", "")
        content = (packed if takes and packed.is_file() else path).read_bytes()
        tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
        told = {
            "Content-Type": KINDS.get(path.suffix, "application/octet-stream"),
            "ETag": tag,
            "Vary": "Accept-Encoding",
        }
        if self.headers.get("If-None-Match") == tag:
            return self._send(304, b"", told, body)
        if takes and packed.is_file():
            told["Content-Encoding"] = "gzip"
        return self._send(200, content, told, body)

    def _send(self, status: int, content: bytes, told: dict, body: bool) -> None:
        self._requests.append((self.path, status, len(content) if body else 0))
        self.send_response(status)
        for name, value in {**self._headers, **told}.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body and content:
            self.wfile.write(content)

    def log_message(self, *_) -> None:
        """Quiet: a lesson counts requests, and a reader's terminal shows the address."""
