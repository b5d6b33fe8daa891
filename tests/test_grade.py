"""Grading a class: submissions of every kind get their marks, and none of them harms the grader."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
import sandbox
from grade import checked, exercises, submissions
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from lesson_code import cells

ROOT = Path(__file__).resolve().parent.parent
NAME = "21_quantization_formulas"
FIRST, SECOND, THIRD = exercises(NAME)
SOLVED = {e: s for s in cells(f"solutions/{NAME}") for e in checked(s)}
ROOTED = os.geteuid() == 0 and sys.platform == "linux"


def handed_in(**changes: str) -> nbformat.NotebookNode:
    """The lesson, solved but for what is changed: the source of the first exercise, or "before"."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{NAME}.ipynb", as_version=4)
    for cell in notebook.cells:
        for exercise in checked(cell.source) if cell.cell_type == "code" else ():
            cell.source = SOLVED[exercise]
            if exercise == FIRST and "first" in changes:
                cell.source = f'{changes["first"]}\n\n\ncheck("21.1", {FIRST.name})'
            if exercise == SECOND and "second" in changes:
                cell.source = changes["second"]
    notebook.cells.insert(1, nbformat.v4.new_code_cell("import math"))  # a solution needs it
    if "before" in changes:
        notebook.cells.insert(1, nbformat.v4.new_code_cell(changes["before"]))
    return notebook


def answering(body: str) -> str:
    """A first exercise that does this."""
    lines = "\n".join("    " + line for line in body.splitlines())
    return f"def {FIRST.name}(*given):\n{lines}"


FLOOD = SOLVED[FIRST].replace("    return", "    print('correct' * 10**7)\n    return", 1)
FORGED = (
    "import os\nfor handle in range(3, 256):\n    try:\n        os.write(handle, b'"
    + json.dumps({"tuple": [1, None, {"list": []}, ""]})
    + "')\n    except OSError:\n        pass\nos._exit(0)"
)
ATTACKS = {  # (what the first exercise does, or the cell before all; points; a part of the words)
    "right": ({}, 3, "correct"),
    "stub": ({"first": f"def {FIRST.name}(low, high, bits):\n    ..."}, 2, "not attempted"),
    "no-function": ({"first": f"{FIRST.name} = 3"}, 2, "not attempted"),
    "partly": ({"first": answering("return 1.0, 0")}, 2, "not yet"),
    "raises": ({"first": answering("raise KeyError('x')")}, 2, "raised KeyError"),
    "prints": ({"first": answering("print('21.1 correct')\nreturn 0, 0")}, 2, "it printed"),
    "patched-check": (
        {
            "before": "import helpers.checks as c, helpers.exercises as e\n"
            "def check(*_):\n    print('correct')\n"
            "class Patched:\n    c.verdict = lambda *_: 'correct'\n"
            "    e.EXERCISES.clear()\n    c.is_stub = lambda _: False",
            "first": answering("return 0, 0"),
        },
        2,
        "not yet",
    ),
    "patched-numpy": (
        {
            "before": "import numpy as np\nclass Patched:\n"
            "    np.isclose = np.allclose = np.array_equal = lambda *a, **k: np.True_",
            "first": answering("return 0, 0"),
        },
        2,
        "not yet",
    ),
    "equals-all": (
        {
            "before": "class All(float):\n    __eq__ = __le__ = __ge__ = lambda *_: True",
            "first": answering("return All(0), All(0)"),
        },
        2,
        "not yet",
    ),
    "exits": ({"first": answering("import os\nos._exit(0)")}, 2, "ended its process"),
    "sys-exit": ({"first": answering("raise SystemExit(0)")}, 2, "raised SystemExit"),
    "forged": ({"first": answering(FORGED)}, 2, "not yet"),
    "endless": ({"first": answering("while True:\n    pass")}, 2, "does a loop never end"),
    "swallows": (
        {"first": answering("while True:\n    try:\n        while True: pass\n    except: pass")},
        2,
        "does a loop never end",
    ),
    "sleeps": ({"first": answering("import time\ntime.sleep(1000)")}, 2, "does a loop never end"),
    "memory": ({"first": answering("import numpy as np\nnp.ones(10 * 2**27)\nreturn 1, 0")}, 2, ""),
    "recursion": ({"first": f"def {FIRST.name}(*given):\n    return {FIRST.name}(*given)"}, 2, ""),
    "deep": ({"first": answering("x = []\nfor _ in range(10**5): x = [x]\nreturn x, 0")}, 2, ""),
    "huge": ({"first": answering("return 'x' * 2**28, 0")}, 2, ""),
    "flood": ({"first": FLOOD}, 3, "correct"),
    "broken-cell": ({"before": "def broken(:\n"}, 3, "correct"),
    "raising-cell": ({"before": "class Bad:\n    1 / 0"}, 3, "correct"),
    "duplicate": ({"before": answering("return 0, 0")}, 3, "correct"),
}
if ROOTED:
    KILL = "import os\nos.kill(os.getppid(), 9)\nreturn 1, 0"
    WRITE = f"open({str(ROOT / 'README.md')!r}, 'a').write('x')"
    FORKS = "import os\nwhile True:\n    os.fork()"
    CONNECT = "import socket\nsocket.socket().connect(('127.0.0.1', PORT))\nreturn 1, 0"
    ATTACKS |= {
        "kills": ({"first": answering(KILL)}, 2, "raised PermissionError"),
        "writes": ({"first": answering(WRITE)}, 2, "raised PermissionError"),
        "forks": ({"first": answering(FORKS)}, 2, "raised BlockingIOError"),
        "connects": ({"first": answering(CONNECT)}, 2, "raised OSError"),
    }


def grade(folder: Path, out: Path) -> dict[str, dict]:
    """The rows of grades.csv, by student, after a run of the grader in its own process."""
    command = [sys.executable, ROOT / "tools" / "grade.py", "21", folder, "--out", out]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [*map(str, command), "--seconds", "3"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with open(out / "grades.csv", encoding="utf-8") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """(submissions, results, the rows of a first run)."""
    import socket

    folder, out = tmp_path_factory.mktemp("submitted"), tmp_path_factory.mktemp("graded")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        for student, (changes, *_) in ATTACKS.items():
            changes = {key: text.replace("PORT", port) for key, text in changes.items()}
            nbformat.write(handed_in(**changes), folder / f"{student}.ipynb")
        deleted = handed_in()
        deleted.cells = [c for c in deleted.cells if '"21.2"' not in c.source]
        (folder / "deleted").mkdir()
        nbformat.write(deleted, folder / "deleted" / f"{NAME}.ipynb")
        (folder / "no notebook.ipynb").write_text("{")
        other = ROOT / "notebooks" / "12_cnn_math.ipynb"
        (folder / "other.ipynb").write_bytes(other.read_bytes())
        yield folder, out, grade(folder, out)


@pytest.mark.extra
@pytest.mark.parametrize("student", ATTACKS)
def test_each_submission_gets_its_marks_and_a_sentence(graded, student):
    _, out, rows = graded
    _, points, words = ATTACKS[student]
    page = (out / f"{student}.html").read_text(encoding="utf-8")
    assert int(rows[student]["points"]) == points, page
    assert words in page and "<script" not in page


@pytest.mark.extra
def test_what_is_missing_or_no_notebook_gets_a_sentence(graded):
    _, out, rows = graded
    pages = {p.stem: p.read_text(encoding="utf-8") for p in out.glob("*.html")}
    assert [rows["deleted"][n] for n in ("21.1", "21.2", "21.3")] == ["1", "0", "1"]
    assert rows["other"]["points"] == rows["no notebook"]["points"] == "0"
    assert "of lesson 12, not 21" in pages["other"] and "is no notebook" in pages["no notebook"]


@pytest.mark.extra
def test_a_second_run_gives_the_same(graded, tmp_path):
    folder, out, rows = graded
    few = tmp_path / "few"
    few.mkdir()
    for student in ("right", "partly", "stub"):
        (few / f"{student}.ipynb").write_bytes((folder / f"{student}.ipynb").read_bytes())
    again = tmp_path / "again"
    again.mkdir()
    (again / "secret_seed.txt").write_text((out / "secret_seed.txt").read_text())
    found = grade(few, again)
    assert all(found[student] == rows[student] for student in found)
    for path in again.glob("*.html"):
        assert path.read_text(encoding="utf-8") == (out / path.name).read_text(encoding="utf-8")


def test_submissions_are_found_at_any_depth(tmp_path):
    for name in ("ann.ipynb", "bob/hw/x.ipynb", "bob/.ipynb_checkpoints/x.ipynb", ".git/y.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    found = {k: [p.name for p in paths] for k, paths in submissions(tmp_path).items()}
    assert found == {"ann": ["ann.ipynb"], "bob": ["x.ipynb"]}


# --- the child process -------------------------------------------------------------------------

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=8,
) | arrays.arrays(
    st.sampled_from(["f4", "f8", "i1", "i8", "u1", "?", ">i4"]), arrays.array_shapes(min_dims=0)
)


@settings(max_examples=60, deadline=None)
@given(plain)
def test_plain_data_comes_back_as_it_was(value):
    there = sandbox.unpack(json.loads(json.dumps(sandbox.pack(value))))
    np.testing.assert_equal(there, value)
    assert type(there) is type(value)


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["tuple", "array", "int", "other", "x"]), inner)
        ),
    )
)
def test_anything_else_that_arrives_is_refused_or_plain(value):
    try:
        sandbox.unpack(value)
    except (ValueError, TypeError, KeyError, OverflowError):
        pass


@pytest.mark.extra  # it forks, which a process that others have used should not
def test_a_call_returns_what_it_returns_and_what_it_did():
    import torch

    x = np.arange(3.0)

    def work(x, t):
        print("hello")
        x += 1
        return {"x": x, "t": t + 1}, (1, "a")

    called = sandbox.call(work, [x, torch.zeros(2)])
    assert called.printed == "hello\n" and called.error is None
    np.testing.assert_array_equal(called.arguments[0], [1, 2, 3])
    np.testing.assert_array_equal(x, [0, 1, 2])
    assert torch.equal(called.value[0]["t"], torch.ones(2)) and called.value[1] == (1, "a")


@pytest.mark.extra  # it forks, which a process that others have used should not
def test_a_call_ends_in_time():
    start = time.monotonic()
    with pytest.raises(sandbox.Ended, match="stopped after 1 s"):
        sandbox.call(lambda: time.sleep(60), [], seconds=1)
    assert time.monotonic() - start < 10
