"""Silence at the source: what libraries write past Python, and kept for an error's message.

Standard error, warning filters and log levels belong to the whole process. Each change here may be
entered by several threads at once and left in any order: the last to leave restores what was there.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, suppress
from typing import BinaryIO

_lock = threading.Lock()  # held while descriptor 2 is moved, never while a caller's code runs
_logs: list[BinaryIO] = []  # of the captures that are open, in the order they were entered
_original = -1  # a copy of descriptor 2 as it was before the first of them


@contextmanager
def captured_stderr() -> Iterator[BinaryIO]:
    """Send what is written to file descriptor 2 to a temporary file, which is yielded.

    C++ libraries write there directly, past `sys.stderr`. The descriptor belongs to the whole
    process: what other threads write meanwhile is caught as well. Of several captures that are
    open, the one that was entered last gets it; when all are left, in any order, the descriptor
    leads where it led before. A process without standard error gets one that leads nowhere.

    >>> with captured_stderr() as log:
    ...     written = os.write(2, b"from C++")
    ...     log.seek(0), log.read()
    (0, b'from C++')
    """
    global _original
    _flush()
    with _lock:
        _claim_descriptor()
        log = tempfile.TemporaryFile()
        if not _logs:
            _original = os.dup(2)
        _logs.append(log)
        os.dup2(log.fileno(), 2)
    try:
        yield log
    finally:
        _flush()
        with _lock:
            _logs.remove(log)
            os.dup2(_logs[-1].fileno() if _logs else _original, 2)
            if not _logs:
                os.close(_original)
        log.close()


def _flush() -> None:
    """Write out what Python has kept back. Without a console, `sys.stderr` is None."""
    with suppress(AttributeError, ValueError, OSError):
        sys.stderr.flush()


def _claim_descriptor() -> None:
    """If descriptor 2 is closed, let it lead nowhere: the next file opened would become it."""
    try:
        os.fstat(2)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != 2:
            os.dup2(nowhere, 2)
            os.close(nowhere)


class Shared:
    """A change to the whole process: the first to enter makes it, the last to leave undoes it.

    change: makes the context manager that changes and restores.

    >>> quiet = Shared(lambda: redirect_stderr(None))
    >>> with quiet, quiet:
    ...     print(sys.stderr)
    None
    """

    def __init__(self, change: Callable[[], AbstractContextManager]):
        self._change, self._users, self._lock = change, 0, threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._made = self._change()
                self._made.__enter__()
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._made.__exit__(None, None, None)


@contextmanager
def _errors_only() -> Iterator[None]:
    """TensorFlow's Python side logs to "absl"."""
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)
    try:
        yield
    finally:
        absl.setLevel(level)


_own_filters = Shared(warnings.catch_warnings)
_own_log_level = Shared(_errors_only)
_no_progress_bar = Shared(lambda: redirect_stderr(io.StringIO()))


@contextmanager
def no_warnings() -> Iterator[None]:
    """No warning is shown, recorded, or raised as an error.

    >>> with no_warnings():
    ...     warnings.warn("This API is experimental")
    """
    with _own_filters:
        warnings.simplefilter("ignore")
        yield


class _Descriptor(io.TextIOBase):
    """A `sys.stderr` that writes to descriptor 2, wherever that leads, and not to a notebook."""

    def write(self, text: str) -> int:
        os.write(2, text.encode(errors="replace"))
        return len(text)


@contextmanager
def _muted() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stderr(_Descriptor()):
            yield
    finally:
        logging.disable(before)


_no_python_words = Shared(_muted)


@contextmanager
def silence() -> Iterator[BinaryIO]:
    """No warnings or log lines, and nothing on standard error; yields what was written there.

    pybind11 lets C++ write to `sys.stderr`, which in a notebook is not descriptor 2.

    >>> with silence() as log:
    ...     logging.getLogger("torch").critical("not shown")
    ...     written = print("from Python", file=sys.stderr)
    ...     log.seek(0), log.read()
    (0, b'from Python\\n')
    """
    with no_warnings(), captured_stderr() as log, _no_python_words:
        yield log


@contextmanager
def quiet_converter(mode: str) -> Iterator[None]:
    """No warnings and log lines; an error becomes a RuntimeError that holds what C++ wrote.

    >>> with quiet_converter("int8"):
    ...     raise ValueError("no integer version of Erfinv")
    Traceback (most recent call last):
    RuntimeError: the conversion to int8 failed: no integer version of Erfinv
    """
    with _own_filters, _own_log_level, captured_stderr() as log:
        warnings.simplefilter("ignore")
        try:
            yield
        except Exception as error:
            log.seek(0)
            words = log.read().decode(errors="replace")
            raise RuntimeError(
                f"the conversion to {mode} failed: {error}\n{words}".strip()
            ) from error


@contextmanager
def quiet_quantizer() -> Iterator[None]:
    """No progress bar of ai-edge-quantizer, no warning that calibration keeps every tensor.

    Other warnings still count where they are errors or recorded; none is printed.
    """
    with _own_filters, _no_progress_bar, captured_stderr():
        warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors")
        yield
