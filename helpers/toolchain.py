"""C compiled for this machine, a microcontroller or a browser, by zig's clang from PyPI.

`ziglang`, the emulator `unicorn` and `pyelftools` are the extra "micro" of pyproject.toml:
`missing()` says what is not installed. The C itself is in helpers/c.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

FOLDER = Path(__file__).parent / "c"
KERNELS = {  # sets of files that compute the same
    "plain": ("rescale.c", "kernels.c", "conv_plain.c"),
    "window": ("rescale.c", "kernels.c", "conv_window.c", "dot_plain.c"),
    "smlad": ("rescale.c", "kernels.c", "conv_window.c", "dot_smlad.c"),
    "simd128": ("rescale.c", "kernels.c", "conv_window.c", "dot_simd128.c"),
}
LIMIT_SECONDS = 120
WEB_STACK = 8192  # bytes
SCALAR = ("-fno-vectorize", "-fno-slp-vectorize")  # one number at a time
CACHES = ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")


def missing() -> str:
    """Why nothing can be compiled and emulated here; "" where it can."""
    wanted = {"ziglang": "ziglang", "unicorn": "unicorn", "elftools": "pyelftools"}
    names = [name for module, name in wanted.items() if importlib.util.find_spec(module) is None]
    return f'skipped: not installed: {", ".join(names)} (the extra "micro")' if names else ""


def source_of(name: str, file: str = "*.c") -> str:
    """The C of one function in helpers/c, or in one file there, with the comment above it.

    >>> source_of("right_shift").splitlines()[1]
    'int32_t right_shift(int32_t a, int n)'
    """
    for path in sorted(FOLDER.glob(file)):
        found = re.search(
            rf"^(?:/\*[^*]*\*/\n)?[\w ]*[\w*] \**{name}\([^;]*?\)\n\{{\n.*?^\}}",
            path.read_text("utf-8"),
            re.MULTILINE | re.DOTALL,
        )
        if found:
            return found[0]
    raise ValueError(f"no function {name!r} in helpers/c/{file}")


def compiled(
    sources: Mapping[str, str],
    kernels: Sequence[str],
    flags: Sequence[str],
    use: Callable[[Path], object],
):
    """use(path) of what the compiler makes of C sources and of files of helpers/c.

    sources: {name: text}; where one has the name of a file of helpers/c, it takes its place.
    kernels: which of those files are compiled as well. The compiler's files, its cache too, are
    gone afterwards.
    Raises RuntimeError where `missing()` says so, ValueError with the compiler's message.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise RuntimeError(missing())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        texts = {path.name: path.read_text("utf-8") for path in FOLDER.iterdir()} | dict(sources)
        for name, text in texts.items():
            (place / name).write_text(text, "utf-8")
        files = list(dict.fromkeys([*(n for n in sources if n.endswith(".c")), *kernels]))
        command = [sys.executable, "-m", "ziglang", "cc", "-std=c11", "-Wall", "-Werror", *flags]
        cache = {name: str(place / "cache") for name in CACHES}
        done = subprocess.run(
            [*command, "-o", "made.bin", *files],
            cwd=folder,
            env={**os.environ, **cache},
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
        )
        if done.returncode:
            raise ValueError(f"the C compiler says:\n{done.stderr.strip()}")
        return use(place / "made.bin")


def host_library(
    sources: Mapping[str, str],
    kernels: Sequence[str] = KERNELS["plain"],
    flags: Sequence[str] = (),
) -> ctypes.CDLL:
    """C as a library for this machine, loaded. flags: more of them. Errors as compiled."""
    all_ = ["-shared", "-fPIC", "-O2", "-ffreestanding", "-nostdlib", "-fno-sanitize=all", *flags]
    return compiled(sources, [*kernels, "memory.c"], all_, lambda path: ctypes.CDLL(str(path)))


def webassembly(
    sources: Mapping[str, str],
    kernels: Sequence[str] = (),
    exports: Sequence[str] = (),
    *,
    optimize: str = "-O2",
    simd: bool = False,
) -> bytes:
    """C as a WebAssembly module, which offers the functions named in `exports` and its memory.

    It imports nothing: no function of the machine on which it runs. simd: with 128-bit registers,
    which a processor without them refuses. Other arguments and errors as compiled.
    """
    flags = ["-target", "wasm32-freestanding", optimize, "-ffreestanding", "-nostdlib"]
    flags += ["-fno-sanitize=all", "-Wl,--no-entry", f"-Wl,-z,stack-size={WEB_STACK}"]
    flags += ["-Wl,--strip-all", *(f"-Wl,--export={name}" for name in exports)]
    if simd:
        flags.append("-msimd128")
    return compiled(sources, [*kernels, "memory.c"], flags, Path.read_bytes)


def firmware(
    sources: Mapping[str, str],
    kernels: Sequence[str] = KERNELS["plain"],
    *,
    cpu: str = "cortex_m4",
    optimize: str = "-O2",
) -> bytes:
    """A whole program for a microcontroller as an ELF file: helpers/c/main.c runs the model."""
    flags = ["-target", "thumb-freestanding-eabi", f"-mcpu={cpu}", optimize, "-ffreestanding"]
    flags += ["-nostdlib", "-fno-sanitize=all", "-fno-unwind-tables", "-g", "-Wl,-T,board.ld"]
    return compiled(sources, [*kernels, "memory.c", "main.c"], flags, Path.read_bytes)
