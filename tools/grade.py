"""Grade a class: the checks of a lesson, run outside of the students' code.

Usage: python tools/grade.py 21 SUBMISSIONS [--out grades] [--seconds 20]

SUBMISSIONS holds one notebook a student: STUDENT.ipynb, or in a folder STUDENT/ at any depth. The
check runs here; a student's function runs in a child process (tools/sandbox.py). Random numbers of
the checks follow a secret seed, kept in the folder of the results, so that a second run gives the
same. Writes grades.csv and one page of feedback a student.
"""

from __future__ import annotations

import argparse
import ast
import csv
import html
import importlib
import secrets
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import nbformat
import numpy as np
import sandbox
from IPython.core.inputtransformer2 import TransformerManager
from lesson_code import DEFINING, cells, definitions, is_constant

ROOT = Path(__file__).resolve().parent.parent
STUB = "not attempted"


class Exercise(NamedTuple):
    """One exercise of a lesson: its number, and the name of the function that is asked for."""

    number: str
    name: str


class Mark(NamedTuple):
    """Points for one exercise, and a sentence."""

    exercise: Exercise
    points: int
    words: str


def checked(source: str) -> list[Exercise]:
    """The exercises that a cell checks: its calls check("21.1", name), but for the try-it, 21.0."""
    try:
        tree = ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError:
        return []
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Name("check"), [ast.Constant(str(number)), ast.Name(name)]):
                if not number.endswith(".0"):
                    found.append(Exercise(number, name))
    return found


def exercises(lesson: str) -> list[Exercise]:
    """The exercises of a lesson, in order; lesson: a notebook's name without ending."""
    return list(dict.fromkeys(e for source in cells(lesson) for e in checked(source)))


def student_code(notebook: nbformat.NotebookNode) -> list[object]:
    """The compiled cells of a submission: what they define, and assignments to what is asked for.

    A cell that is no Python is left out: what others define can still be right.
    """
    found = []
    for cell in notebook.cells:
        if cell.cell_type != "code" or cell.source.lstrip().startswith("%%"):
            continue
        try:
            tree = ast.parse(TransformerManager().transform_cell(cell.source))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        asked = {exercise.name for exercise in checked(cell.source)}
        kept = [
            s
            for s in tree.body
            if isinstance(s, DEFINING)
            or is_constant(s)
            or (isinstance(s, ast.Assign) and asked & set(map(ast.unparse, s.targets)))
        ]
        try:
            found.append(compile(ast.Module(kept, []), "the notebook", "exec", dont_inherit=True))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return found


def load(code: list[object], lesson: dict, name: str) -> object:
    """In the child: the student's object of that name, beside the lesson's own definitions."""
    names = dict(lesson)
    for cell in code:
        try:
            exec(cell, names)
        except Exception:
            continue
    return names.get(name)


class Proxy:
    """The student's function as a check sees it: each call runs in a child of its own."""

    def __init__(self, code: list[object], lesson: dict, name: str, seconds: float):
        self.code, self.lesson, self.name, self.seconds = code, lesson, name, seconds

    def ask(self, question: Callable, *arguments: object) -> sandbox.Called:
        """question(the student's object, *arguments), in the child."""

        def work(*given: object) -> object:
            return question(load(self.code, self.lesson, self.name), *given)

        return sandbox.call(work, arguments, self.seconds)

    def __call__(self, *arguments: object) -> object:
        called = self.ask(lambda function, *given: function(*given), *arguments)
        for before, after in zip(arguments, called.arguments, strict=False):
            copy_back(before, after)
        print(called.printed, end="")
        if called.error:
            kind, words = called.error
            raise type(kind, (Exception,), {})(words)
        return called.value


def copy_back(before: object, after: object) -> None:
    """Make an argument what the child made of it, so that a check sees the change."""
    if isinstance(before, np.ndarray) and isinstance(after, np.ndarray):
        if before.shape == after.shape and before.flags.writeable:
            before[...] = after
    elif isinstance(before, dict) and isinstance(after, dict):
        if not any(isinstance(value, sandbox.Opaque) for value in after.values()):
            before.clear()
            before.update(after)
    elif hasattr(before, "copy_") and getattr(after, "shape", None) == before.shape:
        before.detach().copy_(after)


def is_given(answer: object) -> bool:
    """In the child: is there an answer at all?"""
    from helpers.checks import is_stub

    return callable(answer) and not isinstance(answer, type) and not is_stub(answer)


@contextmanager
def seeded(seed: int):
    """Random generators of the checks depend on `seed`, too: what they ask is not in the source."""
    plain = np.random.default_rng
    np.random.default_rng = lambda own=None: plain([seed, own] if isinstance(own, int) else own)
    try:
        yield
    finally:
        np.random.default_rng = plain


def mark(exercise: Exercise, code: list[object], lesson: dict, seed: int, seconds: float) -> Mark:
    """Points and a sentence for one exercise."""
    from helpers.checks import verdict

    proxy = Proxy(code, lesson, exercise.name, seconds)
    try:
        given = proxy.ask(is_given)
        if given.value is not True:
            return Mark(exercise, 0, STUB)
        with seeded(seed):
            words = verdict(exercise.number, guarded(proxy))
    except sandbox.Ended as end:
        return Mark(exercise, 0, f"not yet: your function {end}")
    return Mark(exercise, int(words == "correct"), words)


def guarded(proxy: Proxy) -> Callable:
    """The proxy as a function that, once its child has not come back, is not called again."""
    ended: list[sandbox.Ended] = []

    def function(*arguments: object) -> object:
        if ended:
            raise ended[0]
        try:
            return proxy(*arguments)
        except sandbox.Ended as end:
            ended.append(end)
            raise

    return function


def submissions(folder: Path) -> dict[str, list[Path]]:
    """{student: notebooks}, sorted; hidden folders and checkpoints are left out."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.ipynb")):
        parts = path.relative_to(folder).with_suffix("").parts
        if not any(part.startswith(".") for part in parts):
            found.setdefault(parts[0], []).append(path)
    return found


def grade(paths: list[Path], name: str, lesson: dict, seed: int, seconds: float) -> list[Mark]:
    """The marks of one student. Every exercise of the lesson gets one, whatever was handed in."""
    wanted = exercises(name)

    def none(words: str) -> list[Mark]:
        return [Mark(exercise, 0, words) for exercise in wanted]

    if len(paths) > 1:
        chosen = [path for path in paths if path.stem == name]
        if len(chosen) != 1:
            return none(f"{len(paths)} notebooks were handed in: hand in one, {name}.ipynb")
        paths = chosen
    try:
        notebook = nbformat.read(paths[0], as_version=4)
        sources = [str(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    except Exception as error:  # nbformat has many for a file that is no notebook
        return none(f"{paths[0].name} is no notebook ({type(error).__name__}): save it again")
    theirs = {e.number[:2] for source in sources for e in checked(source)}
    if theirs and name[:2] not in theirs:
        return none(f"this is a notebook of lesson {', '.join(sorted(theirs))}, not {name[:2]}")
    code = student_code(notebook)
    return [mark(exercise, code, lesson, seed, seconds) for exercise in wanted]


def page(student: str, name: str, marks: list[Mark], limits: list[str]) -> str:
    """A page of feedback, in HTML without anything from elsewhere."""
    rows = "".join(
        f"<tr><td>{html.escape(m.exercise.number)}</td><td>{m.points} / 1</td>"
        f"<td>{html.escape(m.words)}</td></tr>"
        for m in marks
    )
    total = f"{sum(m.points for m in marks)} of {len(marks)} points"
    title = html.escape(f"{student}: {name}")
    note = f"<p>Not limited here: {html.escape('; '.join(limits))}.</p>" if limits else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        "<style>body{font-family:sans-serif;max-width:50rem;margin:2rem auto}"
        "td,th{padding:.3rem .8rem;text-align:left;vertical-align:top}</style>"
        f"<h1>{title}</h1><p>{total}</p><table><tr><th>exercise</th><th>points</th>"
        f"<th>feedback</th></tr>{rows}</table>{note}</html>\n"
    )


def secret(out: Path) -> int:
    """The seed of this class: made once, kept beside the grades."""
    path = out / "secret_seed.txt"
    if not path.exists():
        path.write_text(f"{secrets.randbits(32)}\n")
        path.chmod(0o600)
    return int(path.read_text())


def main(arguments: list[str] | None = None) -> int:
    """0: graded, 1: nothing to grade."""
    parser = argparse.ArgumentParser(prog="grade", description=__doc__.split("\n")[0])
    parser.add_argument("lesson", help="two digits, such as 21")
    parser.add_argument("submissions", type=Path)
    parser.add_argument("--out", type=Path, default=Path("grades"))
    parser.add_argument("--seconds", type=float, default=20, help="of a call, at most")
    options = parser.parse_args(arguments)
    names = [p.stem for p in sorted((ROOT / "notebooks").glob(f"{options.lesson}_*.ipynb"))]
    found = submissions(options.submissions) if options.submissions.is_dir() else {}
    if len(names) != 1 or not found:
        what = "submissions" if len(names) == 1 else f"lesson {options.lesson!r}"
        print(f"grade: there are no {what}", file=sys.stderr)
        return 1
    (name,) = names
    importlib.import_module(f"helpers.checks_{options.lesson}")
    lesson = vars(definitions(name))["__globals__"]
    options.out.mkdir(parents=True, exist_ok=True)
    seed, limits = secret(options.out), sandbox.unlimited(sandbox.leave_network())
    wanted = [e.number for e in exercises(name)]
    rows = []
    for student, paths in found.items():
        marks = grade(paths, name, lesson, seed, options.seconds)
        (options.out / f"{student}.html").write_text(
            page(student, name, marks, limits), encoding="utf-8"
        )
        rows.append([student, *(m.points for m in marks), sum(m.points for m in marks)])
        print(f"{student}: {rows[-1][-1]} of {len(wanted)}")
    with open(options.out / "grades.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["student", *wanted, "points"], *rows])
    if limits:
        print(f"not limited here: {'; '.join(limits)} (run it as root on Linux)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
