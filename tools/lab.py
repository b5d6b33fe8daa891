"""Open JupyterLab on the reader's own copy of the lessons.

Usage: python tools/lab.py [flags and notebooks for JupyterLab]

The lessons in notebooks/ belong to the course: JupyterLab writes into a notebook as soon as it is
open for two minutes, and then `git pull` refuses. So readers work in work/, which git does not see.
A lesson that the course changed replaces the copy, unless its reader has changed that, too: then
both stay, side by side.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORD = ".course.json"  # {notebook: fingerprint of the course's lesson that was copied}
NEWS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}


def fingerprint(path: Path) -> str:
    """The SHA-256 of a notebook's text and code, without outputs and metadata; "" if unreadable."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = [[cell["cell_type"], "".join(cell["source"])] for cell in cells]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return hashlib.sha256(json.dumps(text).encode()).hexdigest()


def write(path: Path, content: bytes) -> None:
    """Write beside and rename, so that nobody finds half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".partial")
    beside.write_bytes(content)
    beside.replace(path)


def update(course: Path, work: Path) -> list[str]:
    """Bring the copy up to date; what a reader should know, a sentence each."""
    record, said = work / RECORD, []
    try:
        known = dict(json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        known = {}
    before = dict(known)
    for path in sorted(course.rglob("[0-9]*.ipynb")):
        name, content = path.relative_to(course).as_posix(), path.read_bytes()
        if ".ipynb_checkpoints" in path.parts:
            continue
        target, theirs = work / name, fingerprint(path)
        mine = fingerprint(target) if target.exists() else known.get(name, "")
        if target.exists() and known.get(name) == theirs:
            continue  # the course has nothing new
        if not target.exists() or mine in (theirs, known.get(name, theirs)):
            write(target, content)
        else:
            beside, count = target.with_name(f"{target.stem}_new.ipynb"), 1
            while beside.exists() and fingerprint(beside) != known.get(name):  # changed as well
                count += 1
                beside = target.with_name(f"{target.stem}_new{count}.ipynb")
            write(beside, content)
            said.append(f"{target.name} is yours and stays; the course's new one is {beside.name}")
        known[name] = theirs
    if known != before:
        write(record, json.dumps(known, indent=0).encode())
    return said


def without_news(prefix: Path) -> None:
    """No question about news on the first page, where this environment may be written."""
    path = prefix / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    try:
        if not path.exists():
            write(path, json.dumps(NEWS).encode())
    except OSError:
        pass


def main(arguments: list[str]) -> None:
    """Does not return: this process becomes JupyterLab."""
    for sentence in update(ROOT / "notebooks", ROOT / "work"):
        print(f"lab: {sentence}")
    without_news(Path(sys.prefix))
    command = [sys.executable, "-m", "jupyterlab", "--ServerApp.root_dir=.", *arguments]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main(sys.argv[1:])
