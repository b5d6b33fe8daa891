"""What a power cut may leave of a list of steps: a model of a file system, not a test of one.

The model (Pillai et al., All file systems are not created equal, OSDI 2014, much reduced): what was
synced stays. Of a file that was written and not synced since, nothing, the first half or all may
be there. Renames and new names that no sync of the folder followed may be lost, the later ones
before the earlier ones; they do not wait for the bytes of their files.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from helpers.slots import Step


class Disk:
    """Names that lead to files, and what of both is durable."""

    def __init__(self, files: dict[str, bytes]):
        self.content = dict(enumerate(files.values()))  # number of a file: its bytes now
        self.durable = dict(self.content)  # ... and what certainly stays of it
        self.names = {name: number for number, name in enumerate(files)}  # as synced
        self.pending: list[tuple[str, str, int]] = []  # ("link" or "rename", name, number or to)

    def now(self, count: int | None = None) -> dict[str, int]:
        """The names if the first `count` pending changes arrive; all of them without count."""
        names = dict(self.names)
        for do, name, what in self.pending[:count]:
            names[what if do == "rename" else name] = names.pop(name) if do == "rename" else what
        return names

    def do(self, step: Step) -> None:
        names = self.now()
        if step.do == "write":
            if step.name not in names:
                names[step.name] = len(self.content)
                self.content[len(self.content)] = b""
                self.pending.append(("link", step.name, names[step.name]))
            number = names[step.name]
            self.content[number] = step.what if step.first else self.content[number] + step.what
        elif step.do == "sync":
            self.durable[names[step.name]] = self.content[names[step.name]]
        elif step.do == "rename":
            self.pending.append(("rename", step.name, step.to))
        elif step.do == "sync folder":
            self.names, self.pending = names, []
        else:
            raise ValueError(f"no step is called {step.do!r}")

    def possible(self) -> Iterator[dict[str, bytes]]:
        """Each folder that may be found after a cut now."""
        versions = {}
        for number, content in self.content.items():
            halves = {content, content[: len(content) // 2], b""}
            known = self.durable.get(number)
            versions[number] = {content} if known == content else halves | {known or b""}
        for count in range(len(self.pending) + 1):
            names = self.now(count)
            used = sorted(set(names.values()))
            for bytes_of in product(*(sorted(versions[number]) for number in used)):
                found = dict(zip(used, bytes_of, strict=True))
                yield {name: found[number] for name, number in names.items()}


def after_a_cut(files: dict[str, bytes], steps: list[Step]) -> list[dict[str, bytes]]:
    """All different folders that a cut before, between or after the steps may leave.

    files: what the folder holds, durably, before the first step. ValueError for an unknown step,
    KeyError for one that names no file.

    >>> after_a_cut({}, [Step("write", "m", b"ab", first=True), Step("sync", "m")])
    [{}, {'m': b''}, {'m': b'a'}, {'m': b'ab'}]
    """
    disk, found = Disk(files), []
    for step in [None, *steps]:
        if step:
            disk.do(step)
        found += [state for state in disk.possible() if state not in found]
    return found
