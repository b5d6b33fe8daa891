"""lesson_code gives the tests a lesson's own functions without running the lesson."""

import nbformat
import pytest
from lesson_code import cells, definitions
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook


@pytest.fixture
def folder(tmp_path):
    def lesson(name, *sources):
        notebook = new_notebook(cells=[new_markdown_cell("# x"), *map(new_code_cell, sources)])
        path = tmp_path / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(notebook, path)

    lesson(
        "12_cnn_math",
        "import math\nfrom collections import Counter\n%matplotlib inline\nLEVELS = 2**3",
        "BITS = 8\nlow, high = -1.5, {'a': [1]}\nrate: float = 0.1\nbelow: int",
        "RUNS = []\nRUNS.append(1)\nraise SystemExit('the lesson was run')\nassert False",
        "def area(r):\n    return math.pi * r**2\n\nprint(area(2))\nbits = area(1)",
        "class Box:\n    side = BITS\n\n    def volume(self):\n        return self.side**3",
        "%%time\ndef magic():\n    pass",
        "def area(r):\n    return BITS * r",
        "!ls\nfiles = !ls\ntotal = area(3)",
        "def needs(x):\n    return x * total",
    )
    lesson("13_rnn_math", "step = compute()\n\ndef f(x, h=step):\n    return x")
    lesson("14_training", "def f(:\n    pass")
    lesson("solutions/12_cnn_math", "ANSWER = 42")
    return tmp_path


def test_imports_constants_functions_and_classes(folder):
    lesson = definitions("12_cnn_math", folder)
    assert lesson.math.pi > 3
    assert lesson.Counter("aab")["a"] == 2
    assert (lesson.BITS, lesson.low, lesson.high, lesson.rate) == (8, -1.5, {"a": [1]}, 0.1)
    assert lesson.Box().volume() == 512
    assert lesson.area(2) == 16, "a later definition replaces an earlier one"


def test_nothing_is_run(folder):
    lesson = definitions("12_cnn_math", folder)
    assert lesson.RUNS == []
    for computed in ("bits", "LEVELS", "files", "total", "below", "magic"):
        assert not hasattr(lesson, computed), computed


def test_a_computed_name_can_be_given(folder):
    lesson = definitions("12_cnn_math", folder)
    with pytest.raises(NameError, match="total"):
        lesson.needs(2)
    lesson.__globals__["total"] = 21
    assert lesson.needs(2) == 42


def test_solutions_and_cells(folder):
    assert definitions("solutions/12_cnn_math", folder).ANSWER == 42
    assert cells("solutions/12_cnn_math", folder) == ["ANSWER = 42"]
    assert len(cells("12_cnn_math", folder)) == 9


def test_unknown_lesson_lists_the_lessons(folder):
    with pytest.raises(ValueError, match="no lesson '99_nothing'.*12_cnn_math, 13_rnn_math"):
        definitions("99_nothing", folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("13_rnn_math", "13_rnn_math.ipynb, code cell 1 defines something that needs.*step"),
        ("14_training", "14_training.ipynb, code cell 1 is not Python"),
    ],
)
def test_an_error_names_the_cell(folder, name, message):
    with pytest.raises(ValueError, match=message):
        definitions(name, folder)
