"""Lessons for a class: nothing is given away, and every exercise can be graded."""

import csv
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from grade import checked, exercises
from handout import handout, main, without_check
from lesson_code import NOTEBOOKS

LESSONS = sorted(path.stem for path in NOTEBOOKS.glob("[0-9]*.ipynb"))


@pytest.mark.parametrize("name", LESSONS)
def test_a_handout_gives_nothing_away_and_marks_every_exercise(name):
    released, source = handout(name), handout(name, solved=True)
    for notebook in (released, source):
        nbformat.validate(notebook)
        assert not any(cell.get("outputs") for cell in notebook.cells)
        marks = [c.metadata.nbgrader for c in notebook.cells if "nbgrader" in c.metadata]
        ids = [m["grade_id"] for m in marks if re.fullmatch(r"[\w-]+", m["grade_id"])]
        assert len(set(ids)) == len(ids) == 2 * len(exercises(name))
        assert [m["points"] for m in marks if m["grade"]] == [1] * len(exercises(name))
    text = {
        kind: "\n".join(c.source for c in n.cells) for kind, n in (("r", released), ("s", source))
    }
    assert text["s"].count("### BEGIN SOLUTION") == len(exercises(name))
    assert "BEGIN SOLUTION" not in text["r"]
    for cell in released.cells:  # a stub does nothing, whatever the solution does
        if cell.metadata.get("nbgrader", {}).get("solution"):
            assert cell.source.rstrip().endswith("...")


def test_the_call_of_check_is_taken_out_of_the_answer():
    (exercise,) = checked('def f(x):\n    ...\n\n\ncheck("21.1", f)')
    assert (
        without_check('def f(x):\n    ...\n\n\ncheck("21.1", f)\n', exercise)
        == "def f(x):\n    ..."
    )
    shown = 'def f(x):\n    return x\n\n\ncheck("21.1", f)\nprint(f(1))'
    assert without_check(shown, exercise) == "def f(x):\n    return x"


def test_lessons_and_parts_are_written_and_never_over_others(tmp_path, capsys):
    assert main(["12", "--out", str(tmp_path)]) == 0
    path = tmp_path / "release" / "12_cnn_math" / "12_cnn_math.ipynb"
    path.write_text("a student's work")
    assert main(["1", "--out", str(tmp_path)]) == 1
    assert path.read_text() == "a student's work"
    assert "is there already" in capsys.readouterr().err
    assert main(["77", "--out", str(tmp_path)]) == 1
    assert "there is no lesson '77'" in capsys.readouterr().err


@pytest.mark.extra
@pytest.mark.skipif(not find_spec("nbgrader"), reason="nbgrader: make test-browser installs it")
def test_nbgrader_releases_grades_and_answers(tmp_path):
    """From our source version through generate_assignment and autograde to feedback and export."""
    name = "21_quantization_formulas"
    assert main(["21", "--out", str(tmp_path)]) == 0
    (tmp_path / "release").rename(tmp_path / "ours")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def nbgrader(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "nbgrader", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-2000:]

    nbgrader("generate_assignment", name)
    released = nbformat.read(tmp_path / "release" / name / f"{name}.ipynb", as_version=4)
    ours = nbformat.read(tmp_path / "ours" / name / f"{name}.ipynb", as_version=4)
    assert len(released.cells) == len(ours.cells)
    solved = {
        c.metadata.nbgrader.grade_id: c.source for c in handout(name, True).cells if marked(c)
    }
    for student, answers in {"ann": solved, "bob": {}}.items():
        for cell in ours.cells:
            if marked(cell) and cell.metadata.nbgrader.solution:
                cell.source = answers.get(cell.metadata.nbgrader.grade_id, cell.source)
        ours.cells.insert(1, nbformat.v4.new_code_cell("import math"))  # a solution needs it
        target = tmp_path / "submitted" / student / name / f"{name}.ipynb"
        target.parent.mkdir(parents=True)
        nbformat.write(ours, target)
        ours = nbformat.read(tmp_path / "ours" / name / f"{name}.ipynb", as_version=4)
    nbgrader("autograde", name)
    nbgrader("generate_feedback", name)
    nbgrader("export")
    rows = list(csv.DictReader((tmp_path / "grades.csv").open(encoding="utf-8")))
    scores = {row["student_id"]: (float(row["score"]), float(row["max_score"])) for row in rows}
    assert scores == {"ann": (3, 3), "bob": (0, 3)}
    assert len(list((tmp_path / "feedback").rglob("*.html"))) == 2


def marked(cell: nbformat.NotebookNode) -> bool:
    return "nbgrader" in cell.metadata
