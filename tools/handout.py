"""Lessons for a class: without outputs and solutions, with nbgrader's marks on each exercise.

Usage: python tools/handout.py 12 21 [--out class]   (one digit takes a whole part: 2)

Writes OUT/release/LESSON/LESSON.ipynb for the students, and OUT/source/LESSON/LESSON.ipynb, which
`nbgrader generate_assignment` turns into the same. Both are made from the lesson and its solutions;
nothing is copied by hand. An exercise is worth one point.
"""

from __future__ import annotations

import argparse
import copy
import sys
from pathlib import Path

import nbformat
from grade import Exercise, checked
from lesson_code import cells

ROOT = Path(__file__).resolve().parent.parent


def mark(cell: nbformat.NotebookNode, name: str, **kind: object) -> nbformat.NotebookNode:
    """The cell with nbgrader's metadata (schema 3)."""
    plain = dict(grade=False, locked=False, solution=False, task=False, schema_version=3)
    cell.metadata["nbgrader"] = {**plain, "grade_id": name, "cell_type": cell.cell_type, **kind}
    return cell


def without_check(source: str, exercise: Exercise) -> str:
    """A cell's source up to its call check("21.1", name): what follows shows the answer at work."""
    return source.partition(f'check("{exercise.number}", {exercise.name})')[0].rstrip()


def exercise_cells(
    stub: str, solution: str, exercise: Exercise, solved: bool
) -> list[nbformat.NotebookNode]:
    """The cell to fill in, and the one that is graded: it asserts the check's verdict."""
    number, name = exercise
    stub = without_check(stub, exercise)
    if solved:
        begin, end = "### BEGIN SOLUTION", "### END SOLUTION"
        stub = f"{begin}\n{without_check(solution, exercise)}\n{end}"
    test = f'check("{number}", {name})\n'
    test += "from helpers.checks import verdict\n\n"
    test += f'assert (words := verdict("{number}", {name})) == "correct", words'
    dashed = number.replace(".", "-")  # nbgrader takes no dots
    answer = mark(nbformat.v4.new_code_cell(stub), f"answer-{dashed}", solution=True)
    graded = nbformat.v4.new_code_cell(test)
    return [answer, mark(graded, f"test-{dashed}", grade=True, locked=True, points=1)]


def handout(name: str, solved: bool = False) -> nbformat.NotebookNode:
    """A lesson as it is handed out; solved: the teacher's version, with the solutions marked.

    name: the notebook's name without ending. Raises ValueError for an exercise without a solution.
    """
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    solutions = {e: s for s in cells(f"solutions/{name}") for e in checked(s)}
    given = []
    for cell in notebook.cells:
        cell = copy.deepcopy(cell)
        found = checked(cell.source) if cell.cell_type == "code" else []
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if not found:
            given.append(cell)
            continue
        (exercise,) = found
        if exercise not in solutions:
            raise ValueError(
                f"exercise {exercise.number} has no solution in solutions/{name}.ipynb"
            )
        given += exercise_cells(cell.source, solutions[exercise], exercise, solved)
    notebook.cells = given
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    return notebook


def main(arguments: list[str] | None = None) -> int:
    """0: written; 1: there is no such lesson, or it was handed out before."""
    parser = argparse.ArgumentParser(prog="handout", description=__doc__.split("\n")[0])
    parser.add_argument("lessons", nargs="+", help="21, or 2 for part 2")
    parser.add_argument("--out", type=Path, default=Path("class"))
    options = parser.parse_args(arguments)
    for number in options.lessons:
        paths = sorted((ROOT / "notebooks").glob(f"{number}*.ipynb")) if number.isdigit() else []
        if not paths:
            print(f"handout: there is no lesson {number!r}", file=sys.stderr)
            return 1
        for path in paths:
            for folder, solved in (("release", False), ("source", True)):
                target = options.out / folder / path.stem / path.name
                if target.exists():
                    print(f"handout: {target} is there already: move it away", file=sys.stderr)
                    return 1
                target.parent.mkdir(parents=True, exist_ok=True)
                nbformat.write(handout(path.stem, solved), target)
            print(f"{path.stem}: {options.out}/release, {options.out}/source")
    return 0


if __name__ == "__main__":
    sys.exit(main())
