"""Functions run in a child process: one that ends its process leaves the caller's alive."""

import inspect
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from helpers.arguments import function

ROOT = str(Path(__file__).resolve().parent.parent)
CHILD = """
import json as _json, sys as _sys
def _run(function):
    try:
        value = function()
        ended = "returned", "" if value is None else str(value)
    except Exception as error:
        ended = type(error).__name__, str(error)
    print("\\x1e" + _json.dumps(ended), file=_sys.__stdout__, flush=True)
"""


class Attempt(NamedTuple):
    """How a function ended in the child, and its words."""

    ended: str
    words: str


def attempt(*functions: Callable, tools: tuple = (), timeout: float = 120) -> list[Attempt]:
    """Run functions without arguments, one after the other, in one fresh Python process.

    ended: "returned", the name of an exception or a signal ("SIGABRT"), "exit 3", "time-out", or
    "not run" after one that ended the child. words: of the result or the exception, or the child's
    last on standard error. The child has the source of the functions and of the tools that they
    call, nothing else: they import what they use. What they print is dropped; `timeout` is for all.
    """
    given = [function("functions", f) for f in (*tools, *functions)]
    program = [CHILD, *(textwrap.dedent(inspect.getsource(f)) for f in given)]
    program += [f"_run({run.__name__})" for run in functions]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, "PYTHONPATH": ROOT}
    command = [sys.executable, "-c", "\n".join(program)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=timeout)
        out, err, code = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired as late:
        out, err, code = late.stdout or b"", late.stderr or b"", None
    marked = [line for line in out.decode(errors="replace").split("\n") if line[:1] == "\x1e"]
    found = [Attempt(*json.loads(line[1:])) for line in marked]
    if len(found) < len(functions):
        words = err.decode(errors="replace").strip().splitlines()
        found.append(Attempt(how(code), words[-1] if words else ""))
    return found + [Attempt("not run", "")] * (len(functions) - len(found))


def how(code: int | None) -> str:
    """An exit code in words: how(-6) is "SIGABRT", how(3) "exit 3", how(None) "time-out"."""
    if code is None:
        return "time-out"
    return signal.Signals(-code).name if code < 0 else f"exit {code}"
