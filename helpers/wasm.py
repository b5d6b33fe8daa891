"""WebAssembly outside of a browser: modules run by wasmtime, and a generated model as one.

`wasmtime` and the compiler `ziglang` are in the extra "micro"; `missing()` says what is not there.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Sequence

import numpy as np

from helpers.board import files
from helpers.c_model import CModel
from helpers.toolchain import FOLDER, webassembly

PAGE = 65536  # bytes: WebAssembly's unit of memory
EXPORTS = ("image", "logits", "model_run")  # helpers/c/web.c, and the generated model's
SECTIONS = (
    *("custom", "types", "imports", "functions", "tables", "memory", "globals", "exports"),
    *("start", "elements", "code", "data", "data count"),
)


def missing() -> str:
    """Why no module can be made and run here; "" where it can."""
    wanted = ("ziglang", "wasmtime")
    names = [name for name in wanted if importlib.util.find_spec(name) is None]
    return f'skipped: not installed: {", ".join(names)} (the extra "micro")' if names else ""


def model_module(
    model: CModel,
    kernels: str | Sequence[str] = "plain",
    *,
    optimize: str = "-O2",
    simd: bool = False,
) -> bytes:
    """A generated model as a module with the functions EXPORTS; errors as toolchain.compiled."""
    sources = {**model.sources, "web.c": (FOLDER / "web.c").read_text("utf-8")}
    return webassembly(sources, files(kernels), EXPORTS, optimize=optimize, simd=simd)


def unsigned(content: bytes, place: int) -> tuple[int, int]:
    """(an integer as WebAssembly writes it, the place after it): 7 bits a byte, the low ones first.

    The top bit of a byte says that another follows (LEB128). ValueError where the bytes end.

    >>> unsigned(bytes([0xE5, 0x8E, 0x26]), 0)
    (624485, 3)
    """
    value = shift = 0
    while place < len(content):
        byte = content[place]
        value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            return value, place
    raise ValueError(f"the module ends in the middle of a number, after {place} bytes")


def sections(content: bytes) -> dict[str, bytes]:
    """{name: bytes} of the parts of a module (WebAssembly specification, section 5.5).

    Custom sections, which may occur several times, follow one another in "custom".
    ValueError for bytes that are no module, or a part of one.

    >>> sections(bytes.fromhex("0061736d 01000000 05 03 010002"))
    {'memory': b'\\x01\\x00\\x02'}
    """
    if content[:8] != b"\0asm\1\0\0\0":
        raise ValueError(
            f"no WebAssembly module: it begins with {content[:8]!r}, not with b'\\0asm\\1\\0\\0\\0'"
        )
    found: dict[str, bytes] = {}
    place = 8
    while place < len(content):
        number, (size, start) = content[place], unsigned(content, place + 1)
        place = start + size
        if place > len(content) or number >= len(SECTIONS):
            raise ValueError(f"the module is cut off or damaged: section {number} of {size} bytes")
        name = SECTIONS[number]
        found[name] = found.get(name, b"") + content[start:place]
    return found


class Module:
    """A module that is loaded and can be called: `module.call("f", 1, 2)`.

    memory: uint8 [bytes], all that its code can read and write, seen from here. pages: its size.
    ValueError for bytes that are no module; a call that traps raises wasmtime.Trap.
    """

    def __init__(self, content: bytes):
        import wasmtime

        engine = wasmtime.Engine()
        self._store = wasmtime.Store(engine)
        try:
            made = wasmtime.Module(engine, content)
        except wasmtime.WasmtimeError as error:
            raise ValueError(f"no WebAssembly module: {error}") from error
        self._exports = wasmtime.Instance(self._store, made, []).exports(self._store)
        self.names = [export.name for export in made.exports]

    def call(self, name: str, *given: int):
        """What an exported function returns for integers."""
        return self._exports[name](self._store, *given)

    @property
    def pages(self) -> int:
        return self._exports["memory"].size(self._store)

    @property
    def memory(self) -> np.ndarray:
        memory = self._exports["memory"]
        size = memory.data_len(self._store)
        start = ctypes.addressof(memory.data_ptr(self._store).contents)
        held = (ctypes.c_uint8 * size).from_address(start)
        held.owner = self._store  # as long as the view lives
        return np.frombuffer(held, np.uint8)


class WasmModel:
    """A generated model as WebAssembly; arguments and errors as model_module.

    content: the module's bytes.
    """

    def __init__(self, model: CModel, kernels: str | Sequence[str] = "plain", **options):
        self.model, self.content = model, model_module(model, kernels, **options)
        self.module = Module(self.content)
        self._image, self._logits = self.module.call("image"), self.module.call("logits")
        self._memory = self.module.memory.view(np.int8)
        self._run = self.module._exports["model_run"]

    def run(self, images: np.ndarray) -> np.ndarray:
        """int8 [N, ...] -> int8 [N, outputs], one image after the other."""
        rows = self.model.rows(images)
        size = self.model.places[1].stop - self.model.places[1].start
        logits = np.empty((len(rows), size), np.int8)
        for row, found in zip(rows, logits, strict=True):
            self._memory[self._image : self._image + row.size] = row
            self._run(self.module._store)
            found[:] = self._memory[self._logits : self._logits + size]
        return logits
