"""One interface over deployed model files. It imports NumPy and a runtime, no training library.

ExecuTorch is the exception: its runtime hands tensors of PyTorch in and out.
"""

from __future__ import annotations

import os
from pathlib import Path

from helpers.arguments import one_of, whole
from helpers.deployed import DeployedModel

# What a file is, by its ending and by the bytes it begins with; the first runtime is the default.
RUNTIMES = {
    "litert": ".tflite",
    "litert-builtin": ".tflite",
    "litert-reference": ".tflite",
    "tflite-micro": ".tflite",
    "onnxruntime": ".onnx",
    "executorch": ".pte",
}


def open_model(
    path_or_bytes: str | os.PathLike | bytes, runtime: str | None = None, threads: int = 1
) -> DeployedModel:
    """A deployed model, ready to run: the path of a .tflite, .onnx or .pte file, or its bytes.

    runtime: None takes the first of those that read this kind of file.
    For .tflite: "litert" hands what it can to XNNPACK's kernels, as phones do by default;
    "litert-builtin" runs LiteRT's own optimized kernels; "litert-reference" its plain C++ loops,
    which are slow and define what the integer operations mean; "tflite-micro" is the interpreter of
    microcontrollers. For .onnx: "onnxruntime", on the processor. For .pte: "executorch".
    threads: TFLite Micro has one, and ExecuTorch takes as many as it likes.

    Raises ValueError for an unknown runtime, or one that does not read such a file, a thread count
    below 1, and bytes that are not a whole model with one input and one output [1, C];
    FileNotFoundError; TypeError; RuntimeError if the runtime is not installed.

    >>> open_model(b"not a model")
    Traceback (most recent call last):
    ValueError: the model (11 bytes) is no .tflite, .onnx or .pte file: it begins with \
b'not a model'; convert the model again
    """
    if runtime is not None:
        one_of("runtime", runtime, RUNTIMES)
    threads = whole("threads", threads)
    content, shown = read_model(path_or_bytes)
    found = kind_of(content)
    if found is None:
        raise ValueError(
            f"{shown} ({len(content)} bytes) is no .tflite, .onnx or .pte file: it begins with "
            f"{content[:12]!r}; convert the model again"
        )
    fitting = [name for name, kind in RUNTIMES.items() if kind == found]
    if runtime not in (None, *fitting):
        raise ValueError(
            f"{runtime} does not read {found} files, and {shown} is one: use {', '.join(fitting)}"
        )
    return _opened(content, runtime or fitting[0], threads)


def _opened(content: bytes, runtime: str, threads: int) -> DeployedModel:
    if runtime == "tflite-micro":
        from helpers.runtime_micro import MicroModel

        return MicroModel(content)
    if runtime == "onnxruntime":
        from helpers.runtime_onnx import OnnxModel

        return OnnxModel(content, threads)
    if runtime == "executorch":
        from helpers.runtime_executorch import ExecuTorchModel

        return ExecuTorchModel(content)
    from helpers.runtime_litert import LiteRTModel

    return LiteRTModel(content, runtime, threads)


def kind_of(content: bytes) -> str | None:
    """The ending of files that begin like this, or None.

    A FlatBuffer carries its kind at bytes 4 to 8. An .onnx file is a protocol buffer without a
    mark of its own: its first field is the version of the format.

    >>> kind_of(bytes(4) + b"TFL3"), kind_of(bytes([8, 10, 18, 7]) + b"pytorch"), kind_of(b"PK")
    ('.tflite', '.onnx', None)
    """
    marks = {b"TFL3": ".tflite", b"ET12": ".pte"}
    if content[4:8] in marks:
        return marks[content[4:8]]
    return ".onnx" if content[:1] == b"\x08" else None


def read_model(path_or_bytes: str | os.PathLike | bytes) -> tuple[bytes, object]:
    """The bytes of a model file, and what to call it in a message."""
    if isinstance(path_or_bytes, bytes):
        return path_or_bytes, "the model"
    if not isinstance(path_or_bytes, (str, os.PathLike)):
        raise TypeError(
            f"path_or_bytes is a {type(path_or_bytes).__name__}: pass the path of a model file, "
            "or its bytes as helpers.convert.to_tflite returns them"
        )
    path = Path(path_or_bytes)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no model file {path}: write one first, "
            "with path.write_bytes(helpers.convert.to_tflite(model, mode))"
        )
    return path.read_bytes(), path


def read_tflite(path_or_bytes: str | os.PathLike | bytes) -> bytes:
    """The bytes of a .tflite file, which carry the identifier TFL3 at offset 4."""
    content, shown = read_model(path_or_bytes)
    if kind_of(content) != ".tflite":
        raise ValueError(
            f"{shown} ({len(content)} bytes) is not a .tflite file: bytes 4 to 8 are "
            f"{content[4:8]!r} instead of b'TFL3'; convert the model again"
        )
    return content
