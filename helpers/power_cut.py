"""A power cut on a real file system: an ext4 image, copied after each step of an update.

The image lies in a file and is mounted through a loop device. What the file system has handed to
the disk at a moment is in that file, what it still keeps in memory is not; so a copy of the file is
the disk as a cut at that moment leaves it, if the disk itself keeps what it is given. Mounting the
copy replays its journal, as the next start would. It takes Linux, root, and mke2fs; the mounts are
in a namespace of their own and end with it. As a script this file is the child that does it.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SECONDS = 120
FORMAT = ("-q", "-t", "ext4", "-b", "1024", "-E", "lazy_itable_init=0,lazy_journal_init=0")
ROOT = Path(__file__).resolve().parent.parent


def missing() -> str:
    """Why it cannot be done here; "" if it can."""
    if not sys.platform.startswith("linux"):
        return "not tried: an ext4 image is mounted on Linux only"
    if os.geteuid():
        return "not tried: mounting an image takes root"
    lacking = [tool for tool in ("unshare", "mount", "umount", "mke2fs") if not find(tool)]
    if lacking:
        return f"not tried: not installed: {', '.join(lacking)}"
    with tempfile.TemporaryDirectory() as work:
        tried = _in_namespace(work, "defaults", {}, [])
    return "" if tried.returncode == 0 else "not tried: this system mounts no image"


def find(tool: str) -> str | None:
    """The path of a system tool, also where only root looks for it; None if it is not there."""
    return shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def after_each_step(files: dict[str, bytes], steps: list, options: str) -> list[dict[str, bytes]]:
    """The folder that is found after a cut before the first step, and after each one.

    files: what it holds, synced, before. options: of the mount, such as "defaults". RuntimeError
    with the tools' words if an image cannot be made or mounted.
    """
    with tempfile.TemporaryDirectory() as work:
        done = _in_namespace(work, options, files, steps)
    if done.returncode:
        raise RuntimeError(f"no image was mounted: {done.stderr.decode(errors='replace')[-300:]}")
    return ast.literal_eval(done.stdout.decode())


def _in_namespace(work: str, options: str, files: dict, steps: list) -> subprocess.CompletedProcess:
    command = [find("unshare"), "--mount", sys.executable, "-S", __file__, work, options]
    given = repr((files, [tuple(step) for step in steps])).encode()
    return subprocess.run(command, input=given, capture_output=True, timeout=SECONDS)


def _run(*command: object) -> None:
    tool, *rest = map(str, command)
    done = subprocess.run([find(tool), *rest], stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace"))


def _child(work: Path, options: str) -> None:
    sys.path.insert(0, str(ROOT))
    from helpers.slots import Step, perform

    files, steps = ast.literal_eval(sys.stdin.read())
    disk, mounted = work / "disk", work / "mounted"
    mounted.mkdir()
    with open(disk, "wb") as image:
        image.truncate(8 << 20)
    _run("mke2fs", *FORMAT, disk)
    _run("mount", "-o", f"loop,{options}", disk, mounted)
    for name, content in files.items():
        (mounted / name).write_bytes(content)
    _run("sync", "-f", mounted)
    cuts = [work / f"cut{k}" for k in range(len(steps) + 1)]
    for step, cut in zip([None, *steps], cuts, strict=True):
        if step:
            perform([Step(*step)], mounted)
        shutil.copyfile(disk, cut)
    _run("umount", mounted)
    found = []
    for cut in cuts:
        _run("mount", "-o", "loop", cut, mounted)
        found.append({p.name: p.read_bytes() for p in mounted.iterdir() if p.is_file()})
        _run("umount", mounted)
        cut.unlink()
    print(repr(found))


if __name__ == "__main__":
    _child(Path(sys.argv[1]), sys.argv[2])
