"""Silence at the source: what libraries write past Python, and kept for an error's message."""

from __future__ import annotations

import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import BinaryIO


@contextmanager
def captured_stderr() -> Iterator[BinaryIO]:
    """Send what is written to file descriptor 2 to a temporary file, which is yielded.

    C++ libraries write there directly, past `sys.stderr`. The descriptor is restored on every way
    out. It belongs to the whole process: what other threads write meanwhile is caught as well.
    """
    sys.stderr.flush()
    original = os.dup(2)
    try:
        with tempfile.TemporaryFile() as log:
            os.dup2(log.fileno(), 2)
            try:
                yield log
            finally:
                sys.stderr.flush()
                os.dup2(original, 2)
    finally:
        os.close(original)


@contextmanager
def quiet_converter(mode: str) -> Iterator[None]:
    """No warnings and log lines; if the conversion fails, the error holds what C++ wrote."""
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), captured_stderr() as log:
            warnings.simplefilter("ignore")
            try:
                yield
            except Exception as error:
                log.seek(0)
                words = log.read().decode(errors="replace").strip()
                raise RuntimeError(f"the conversion to {mode} failed: {error}\n{words}") from error
    finally:
        absl.setLevel(level)


@contextmanager
def quiet_quantizer() -> Iterator[None]:
    """No progress bar of ai-edge-quantizer, no warning that calibration keeps every tensor."""
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()), captured_stderr():
        warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors")
        yield
