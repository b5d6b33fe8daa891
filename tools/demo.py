"""The page of lesson 48, built and served on the loopback: draw, and a network answers.

usage: python tools/demo.py [--port 8048] [--out demo] [--build-only]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the course's helpers, wherever this is started
NETWORK = "ResNet8"


def build(out: Path) -> dict:
    """The page in a folder; what it says about itself."""
    from helpers import convert, data, models, web_page

    network, images = models.load(NETWORK), data.fashion_mnist("fit").images[:100]
    int8 = convert.to_tflite(network, "int8", images)
    return web_page.build(out, NETWORK, int8, convert.to_onnx_int8(network, images))


def main(arguments: list[str]) -> int:
    """The exit status: 0, or 1 where it cannot be built or served."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8048, help="0 takes a free one")
    parser.add_argument("--out", type=Path, default=ROOT / "demo")
    parser.add_argument("--build-only", action="store_true")
    options = parser.parse_args(arguments)
    from helpers import wasm, web_page

    if wasm.missing():
        print(f"demo: {wasm.missing()}; make demo installs it", file=sys.stderr)
        return 1
    try:
        about = build(options.out)
    except FileExistsError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    names = {"litert": "LiteRT.js", "ort": "onnxruntime-web"}
    absent = [name for key, name in names.items() if not about[key]["there"]]
    if absent:
        print(f"demo: not installed: {', '.join(absent)}; the page runs our own WebAssembly alone")
    if options.build_only:
        return 0
    try:
        server = web_page.Server(options.out, options.port)
    except (OSError, OverflowError) as error:
        print(f"demo: port {options.port}: {error}; choose one with PORT=", file=sys.stderr)
        return 1
    with server:
        print(f"demo: {server.address} (Ctrl-C ends it)", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
