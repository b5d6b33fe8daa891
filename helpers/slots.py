"""Two slots for a model, A and B, and updates as lists of steps that can be cut off after each.

An update is a list of `Step`s, so that the same list can be done, done in a child process that is
killed, or asked what a power cut may leave of it (`helpers.power_loss`). This file needs the
standard library alone; as a script it is that child.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

CHUNK = 4096
TRIES = 2
PAUSE = 0.0005  # seconds


class SlotError(Exception):
    """No slot holds a model that is whole."""


class Step(NamedTuple):
    """What the operating system is asked for.

    do: "write" (what: bytes, added at the end of the file `name`; the first write of an update
    makes it empty before), "sync" (fsync of a file), "rename" (to: the new name, replaced
    atomically), or "sync folder".
    """

    do: str
    name: str = ""
    what: bytes = b""
    to: str = ""
    first: bool = False


def writes(name: str, content: bytes) -> list[Step]:
    """The steps that write a file in chunks."""
    starts = range(0, max(len(content), 1), CHUNK)
    return [Step("write", name, content[i : i + CHUNK], first=i == 0) for i in starts]


def durably(name: str, content: bytes) -> list[Step]:
    """Write beside, sync, rename over, sync the folder: a file is the old one or the new one."""
    beside = f"{name}.new"
    rename = Step("rename", beside, to=name)
    return [*writes(beside, content), Step("sync", beside), rename, Step("sync folder")]


def state_of(running: str, **more: object) -> bytes:
    """The content of the state file: which slot runs, and what read_state says else."""
    return json.dumps({"running": running} | more).encode()


def digest(content: bytes) -> str:
    """The SHA-256 of a model, in 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def read_state(folder: Path) -> dict:
    """{"running": slot, "sha256": {slot: digest}} and, in an update, "trial": slot, "tries": int.

    SlotError for a state that is missing or damaged.
    """
    try:
        state = json.loads((folder / "state").read_bytes())
        if state["running"] not in ("a", "b") or not isinstance(state["sha256"], dict):
            raise ValueError("it names no slot")
        return state
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SlotError(f"the state of the slots cannot be read: {error}") from error


def install(folder: Path, content: bytes) -> None:
    """The factory's work: a model in slot A, which runs."""
    folder.mkdir(parents=True, exist_ok=True)
    state = state_of("a", sha256={"a": digest(content)})
    perform([*durably("a", content), *durably("state", state)], folder)


def update(folder: Path, content: bytes) -> list[Step]:
    """The steps of an update: the model into the slot that does not run, then the state.

    A trial of an earlier update that was not confirmed is dropped first: its slot is written over.
    """
    state = read_state(folder)
    running = state["running"]
    other = "b" if running == "a" else "a"
    kept = {running: state["sha256"][running]}
    steps = durably("state", state_of(running, sha256=kept)) if "trial" in state else []
    trial = state_of(running, sha256=kept | {other: digest(content)}, trial=other, tries=TRIES)
    model = [*writes(other, content), Step("sync", other), Step("sync folder")]
    return [*steps, *model, *durably("state", trial)]


def boot(folder: Path) -> tuple[str, bytes]:
    """The slot that is to run now, and its model, whose digest has been checked.

    A trial is given `TRIES` boots; each is written down before it begins, so that a model that
    ends its process has had its try. SlotError if the slot that ran before is not whole either.
    """
    state = read_state(folder)
    if state.get("tries", 0) > 0:
        trial = state["trial"]
        perform(
            durably("state", json.dumps(state | {"tries": state["tries"] - 1}).encode()), folder
        )
        content = whole(folder, trial, state)
        if content is not None:
            return trial, content
    running = state["running"]
    content = whole(folder, running, state)
    if content is None:
        raise SlotError(f"slot {running} is not what its digest says, and there is no other")
    return running, content


def confirm(folder: Path, slot: str) -> None:
    """The model in this slot has passed its health check: it runs from now on, no trial is left.

    SlotError for a slot that neither runs nor is on trial.
    """
    state = read_state(folder)
    if slot not in (state["running"], state.get("trial")):
        raise SlotError(f"slot {slot} neither runs nor is on trial")
    kept = {slot: state["sha256"].get(slot)}
    perform(durably("state", state_of(slot, sha256=kept)), folder)


def whole(folder: Path, slot: str, state: dict) -> bytes | None:
    """The slot's model, or None if it is missing or not what the state's digest says."""
    try:
        content = (folder / slot).read_bytes()
    except OSError:
        return None
    return content if digest(content) == state["sha256"].get(slot) else None


def perform(steps: list[Step], folder: Path, before: Callable[[int], None] | None = None) -> None:
    """Do the steps one after the other; before(k) is called ahead of step k.

    ValueError for a step that is none. A folder is synced where the system can (not on Windows).
    """
    for k, step in enumerate(steps):
        if before:
            before(k)
        path = folder / step.name
        if step.do == "write":
            with open(path, "wb" if step.first else "ab") as file:
                file.write(step.what)
        elif step.do == "sync":
            sync(path, os.O_RDWR)
        elif step.do == "rename":
            os.replace(path, folder / step.to)
        elif step.do != "sync folder":
            raise ValueError(f"no step is called {step.do!r}")
        elif os.name != "nt":
            sync(folder, os.O_RDONLY)


def sync(path: Path, flags: int) -> None:
    """Wait until a file's or folder's bytes are on the medium; flags as of os.open."""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Killed(NamedTuple):
    """How far a child came: steps begun, killed before it was done or not, seconds at the steps."""

    begun: int
    killed: bool
    seconds: float


def kill_during(
    steps: list[Step], folder: Path, after: float | None = None, at: int | None = None
) -> Killed:
    """Do the steps in a child that is killed after `after` seconds, or by itself before step `at`.

    Each step takes half a millisecond more than it has to, as on a slow memory. Without `after` and
    `at` nobody kills it. The child is gone when this returns, also if it is interrupted. ValueError
    for both at once.
    """
    if after is not None and at is not None:
        raise ValueError("a child is killed after a time or at a step: pass one of the two")
    command = [sys.executable, "-S", __file__, str(folder), str(-1 if at is None else at)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            child.stdin.write(repr([tuple(step) for step in steps]).encode())
            child.stdin.close()
            child.stdout.readline()  # it is ready
            start = time.perf_counter()
            if after is not None:
                time.sleep(after)
                child.kill()
            begun = child.stdout.read()
            seconds = time.perf_counter() - start
        finally:
            child.kill()
        child.wait()
    return Killed(begun.count(b"."), b"!" not in begun, seconds)


def _child(folder: str, at: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the owner's affair: it kills
    steps = [Step(*step) for step in ast.literal_eval(sys.stdin.read())]

    def before(k: int) -> None:
        if k == at:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        os.write(1, b".")
        time.sleep(PAUSE)

    os.write(1, b"ready\n")
    perform(steps, Path(folder), before)
    os.write(1, b"!")


if __name__ == "__main__":
    _child(sys.argv[1], int(sys.argv[2]))
