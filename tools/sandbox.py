"""Somebody else's function in a child process: its time, memory, files and network are limited.

`call` forks, so the function and its arguments need not be packed. What comes back is plain data
(numbers, text, lists, arrays), never a pickle; anything else arrives as its repr.
"""

from __future__ import annotations

import base64
import ctypes
import io
import json
import math
import os
import resource
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import numpy as np

NOBODY = 65534
MOST = 64 * 2**20  # bytes of an answer
PRINTED = 10_000  # characters of what it prints
NEWNET = 0x40000000  # CLONE_NEWNET: a network without any interface


class Ended(Exception):
    """The function did not come back: the message says why, in words for its author."""


class Opaque:
    """Something that is no plain data, known by its repr."""

    def __init__(self, words: str):
        self.words = words

    def __repr__(self) -> str:
        return self.words


class Called(NamedTuple):
    """What a function returned or raised, its arguments afterwards, and what it printed."""

    value: object
    error: tuple[str, str] | None
    arguments: list
    printed: str


def leave_network() -> bool:
    """Take this process, and the children that it makes from now on, off every network.

    False where that is not possible: it takes Linux, and root.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    return ctypes.CDLL(None).unshare(NEWNET) == 0


def unlimited(offline: bool) -> list[str]:
    """What cannot be limited on this machine, in words. offline: what leave_network returned."""
    missing = [] if offline else ["the network"]
    if os.geteuid() != 0:
        missing.append("files that the grader itself may read or write")
    return missing


def call(
    function: Callable, arguments: Sequence, seconds: float = 20, memory: int = 2 * 2**30
) -> Called:
    """function(*arguments) in a forked child that may take `seconds` and `memory` more bytes.

    Raises Ended if the child is stopped, dies, or answers what is no plain data of ours.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _limit(writing, seconds, memory)
            _send(writing, _called(function, list(arguments)))
        finally:
            os._exit(0)
    os.close(writing)
    try:
        content = _receive(reading, time.monotonic() + seconds)
    finally:
        os.close(reading)
        for stop in (os.killpg, os.kill):  # its own children, and itself if it made no group
            try:
                stop(child, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        _, status = os.waitpid(child, 0)
    if content is None:
        raise Ended(f"stopped after {seconds:.0f} s: does a loop never end?")
    if not content:
        raise Ended("ended its process" if not os.WIFSIGNALED(status) else _killed(status))
    try:
        value, error, after, printed = unpack(json.loads(content))
        error = None if error is None else (str(error[0])[:100], str(error[1])[:1000])
        return Called(value, error, list(after), str(printed)[:PRINTED])
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as failure:
        raise Ended("answered what cannot be read") from failure


def _killed(status: int) -> str:
    name = signal.Signals(os.WTERMSIG(status)).name
    return f"was ended by the system ({name}): too much memory or time?"


def _limit(keep: int, seconds: float, memory: int) -> None:
    """In the child: a session of its own, no files, no network, little memory, nobody's rights."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    for handle in os.listdir("/dev/fd"):
        if int(handle) > 2 and int(handle) != keep:
            try:
                os.close(int(handle))
            except OSError:
                pass
    os.chdir(tempfile.gettempdir())
    used = _address_space()
    limits = {"CORE": 0, "FSIZE": 0, "CPU": math.ceil(seconds) + 1, "NOFILE": 64}
    if used:
        limits["AS"] = used + memory
    root = os.geteuid() == 0
    if root:
        limits["NPROC"] = 0
    for name, most in limits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
    if root:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def _address_space() -> int:
    """Bytes that this process has mapped; 0 where that is not told."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


class _Paper(io.StringIO):
    """Takes any amount of text and keeps its beginning."""

    def write(self, text: str) -> int:
        if self.tell() < PRINTED:
            super().write(text[:PRINTED])
        return len(text)


def _called(function: Callable, arguments: list) -> tuple:
    paper = _Paper()
    value = error = None
    with redirect_stdout(paper), redirect_stderr(_Paper()):
        try:
            value = function(*arguments)
        except BaseException as failure:
            error = type(failure).__name__, str(failure)
    after = [a if hasattr(a, "shape") or type(a) is dict else None for a in arguments]
    return value, error, after, paper.getvalue()


def _send(handle: int, answer: tuple) -> None:
    with os.fdopen(handle, "wb") as pipe:
        pipe.write(json.dumps(pack(answer)).encode())


def _receive(handle: int, end: float) -> bytes | None:
    """All that the child writes; None if it takes too long or writes too much."""
    parts, size = [], 0
    while True:
        left = end - time.monotonic()
        if left <= 0 or not select.select([handle], [], [], left)[0]:
            return None
        part = os.read(handle, 2**20)
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        if size > 2 * MOST:
            return b"too long"


def pack(value: object, depth: int = 20) -> object:
    """Plain data as what JSON can hold; arrays and tensors with their dtypes, the rest as a repr.

    >>> pack((1, 2.5, "a"))
    {'tuple': [1, 2.5, 'a']}
    """
    torch = sys.modules.get("torch")
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int:
        return value if abs(value) < 2**53 else {"int": str(value)}
    if type(value) is float:
        return {"float": repr(value)} if not math.isfinite(value) else value
    if depth and type(value) in (tuple, list, set):
        return {type(value).__name__: [pack(v, depth - 1) for v in value]}
    if depth and type(value) is dict:
        return {"dict": [[pack(k, depth - 1), pack(v, depth - 1)] for k, v in value.items()]}
    if torch and type(value) in (torch.Tensor, torch.nn.Parameter):
        value = value.detach().cpu()
        half = value.dtype == torch.bfloat16
        return {"tensor": pack((value.float() if half else value).contiguous().numpy())}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufcU":
        array = np.asarray(value)
        array = np.ascontiguousarray(array).reshape(array.shape)
        data = base64.b64encode(array.tobytes()).decode()
        kind = "number" if isinstance(value, np.generic) else "array"
        return {kind: [array.dtype.str, list(array.shape), data]}
    try:
        words = repr(value)[:200]
    except BaseException:
        words = f"something of type {type(value).__name__}"
    return {"other": words}


def unpack(value: object) -> object:
    """The reverse of pack; ValueError, TypeError or KeyError for anything else.

    >>> unpack(pack([np.float32(0.5), {"a": None}]))
    [np.float32(0.5), {'a': None}]
    """
    if not isinstance(value, dict):
        if isinstance(value, list):
            raise TypeError("a bare list")
        return value
    ((kind, held),) = value.items()
    if kind in ("tuple", "list", "set"):
        return {"tuple": tuple, "list": list, "set": set}[kind](unpack(v) for v in held)
    if kind == "dict":
        return {unpack(k): unpack(v) for k, v in held}
    if kind in ("int", "float"):
        return {"int": int, "float": float}[kind](held)
    if kind == "tensor":
        import torch

        return torch.from_numpy(unpack(held))
    if kind in ("array", "number"):
        name, shape, data = held
        dtype = np.dtype(str(name))
        if dtype.kind not in "biufcU":
            raise ValueError(f"an array of {dtype}")
        array = np.frombuffer(base64.b64decode(data, validate=True), dtype).reshape(shape).copy()
        return array if kind == "array" else array[()]
    return Opaque({"other": str}[kind](held))
