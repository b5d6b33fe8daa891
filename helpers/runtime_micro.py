"""A .tflite model in TensorFlow Lite Micro, the interpreter of microcontrollers, run here."""

from __future__ import annotations

import re

import numpy as np

from helpers.deployed import DeployedModel
from helpers.quiet import captured_stderr
from helpers.runtime_litert import LiteRTModel


class MicroModel(DeployedModel):
    """A .tflite model in the interpreter that runs on microcontrollers, one input at a time.

    It computes with the reference kernels of its own library. arena_bytes: the working memory that
    it plans for activations and its own records, tensor_bytes the part for activations; weights
    stay in the file.
    """

    def __init__(self, content: bytes):
        like = LiteRTModel(content, "litert-reference", 1)  # checks the file, and knows its ends
        try:
            from tflite_micro.python.tflite_micro import runtime
        except ImportError as error:
            raise RuntimeError(
                "tflite-micro is not installed: it exists for Linux on x86-64 only; choose another "
                "runtime"
            ) from error
        with captured_stderr() as log:
            try:
                self._interpreter = runtime.Interpreter.from_bytes(content)
                self._interpreter.print_allocations()
            except RuntimeError as error:
                log.seek(0)
                words = log.read().decode(errors="replace").strip()
                raise ValueError(
                    "TensorFlow Lite Micro cannot open the model: it has fewer operations than "
                    f"LiteRT; convert it in another mode, or use another runtime ({words or error})"
                ) from error
            log.seek(0)
            told = log.read()
        found = {part: re.search(rb"%s (\d+) bytes" % part, told) for part in (b"total", b"head")}
        self.arena_bytes, self.tensor_bytes = (f and int(f[1]) for f in found.values())
        super().__init__(len(content), like._given, like._result)

    def run(self, row: np.ndarray) -> np.ndarray:
        self._interpreter.set_input(row[None], 0)
        self._interpreter.invoke()
        return self._interpreter.get_output(0)[0]
