"""The mutation run: which mistakes it knows, and that it tells caught from survived."""

import ast
import subprocess
from pathlib import Path

import mutants
import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutations
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).resolve().parent.parent


def made_from(source: str) -> set[str]:
    """What the mistakes turn a source into."""
    return {m.apply(source.encode()).decode() for m in mutations(source.encode())}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", {"(a <= b)"}),
        ("a <= b < c", {"(a < b < c)", "(a <= b <= c)"}),
        ("a == b", {"(a != b)"}),
        ("a is not b", {"(a is b)"}),
        ("a not in b", {"(a in b)"}),
        ("a and b", {"(a or b)"}),
        ("not a", {"(a)"}),
        ("-a", {"(a)"}),
        ("a + b", {"(a - b)"}),
        ("a * (b - c)", {"(a / (b - c))", "a * ((b + c))"}),
        ("a // b", {"(a / b)"}),
        ("a ** b", {"(a * b)"}),
        ("a & b", {"(a | b)"}),
        ("a @ b", set()),
        ("a += b", {"a -= b"}),
        ("7", {"8"}),
        ("True", {"False"}),
        ("0.0", {"1.0"}),
        ("1e30", {"2e+30"}),
        ("'7'", set()),
        ("None", set()),
        ("f(b, k=c, **d)", {"f(b, **d)"}),
        ("min(a)", {"max(a)"}),
        ("a.amax(b).any()", {"a.amin(b).any()", "a.amax(b).all()"}),
        ("torch.round(a)", {"torch.floor(a)"}),
        ("mean = a", set()),
        ("a if b else c", {"a if (not b) else c"}),
        ("a if f(b) else c", {"a if (not f(b)) else c"}),
        ("def f(a, k=3, *, b=False): pass", {"def f(a, k=4, *, b=False): pass"}
         | {"def f(a, k=3, *, b=True): pass"}),
        ("if a.b:\n    c\nelse:\n    d", {"if (not a.b):\n    c\nelse:\n    d"}),
        ("if a:\n    raise b", {"if False:\n    raise b"}),
        ("while a:\n    if b:\n        break", {"while a:\n    if False:\n        break"}),
        ("def f():\n    if a:\n        return b", {"def f():\n    if False:\n        return b"}),
        ("x = [\n    a,\n    b + c,\n]", {"x = [\n    a,\n    (b - c),\n]"}),
        ("'×', ü + 1", {"'×', (ü - 1)", "'×', ü + 2"}),
    ],
)  # fmt: skip
def test_the_mistakes(source, expected):
    assert made_from(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""Returns 1 + 1."""',
        "def f(a: int | 3, *b: 2) -> 1 + 1: pass",
        "a: float | 1",
        "raise ValueError(1 + 1, k=2)",
        "f'{1 + 1:.3f}'",
        "isinstance(a, int | float)",
        "if __name__ == '__main__':\n    f(1 + 1)",
        "import a.b as c",
    ],
)
def test_what_changes_no_result_stays(source):
    assert made_from(source) == set()


EXPRESSIONS = st.recursive(
    st.sampled_from(["x", "y.z", "0", "1", "2.5", "True", "'text ×'", "-x", "x[1:]"]),
    lambda part: st.one_of(
        st.builds("({} {} {})".format, part, st.sampled_from("+-*/%&|<>"), part),
        st.builds("({} {} {})".format, part, st.sampled_from(["and", "or", "is", "**"]), part),
        st.builds("min({}, key={})".format, part, part),
        st.builds("[{},\n {}]".format, part, part),
        st.builds("({} if {} else {})".format, part, part, part),
        st.builds("(not {})".format, part),
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(EXPRESSIONS)
def test_each_mistake_is_python_and_another_program(expression):
    source = f"def f(x, y):\n    return {expression}\n"
    before = ast.dump(ast.parse(source))
    after = [ast.dump(ast.parse(m.apply(source.encode()))) for m in mutations(source.encode())]
    assert before not in after
    assert after or not set("0123456789+-*/%&|<>") & set(expression.replace("[1:]", ""))


@pytest.mark.parametrize("file", ["helpers/quantize.py", "helpers/significance.py"])
def test_the_mistakes_of_a_real_file_are_python(file):
    source = (ROOT / file).read_bytes()
    found = mutations(source)
    assert len(found) > 50
    assert {"arithmetic", "comparison", "constant", "guard", "keyword"} <= {m.kind for m in found}
    for mutation in found:
        compile(mutation.apply(source), file, "exec")


def test_imports_of_helpers():
    source = """import os, helpers.data
from helpers import models as m, train
from helpers.runtime import open_model
from timing import latency

def f():
    from helpers.convert import to_tflite
"""
    assert mutants.imported(source) == {"data", "models", "train", "runtime", "convert"}


# --- a run, on a project made here -----------------------------------------------------------

MADE = """def clip(x, low=0, high=9):
    if low > high:
        raise ValueError("low is above high")
    return min(max(x, low), high)


def wrap(x):
    return x + 100


def half(x):
    return x / 2
"""
OTHER = "from helpers import made\n\n\ndef quarter(x):\n    return made.half(made.half(x))\n"
TESTS = {
    "test_made.py": "from helpers.made import clip\n\n"
    "def test_clip():\n    assert [clip(-1), clip(4), clip(11)] == [0, 4, 9]\n",
    "test_other.py": "from helpers.other import quarter\n\n"
    "def test_quarter():\n    assert quarter(4) == 1\n",
    "test_lesson.py": "import lesson_code\n\n"
    "def test_lesson():\n    assert '98_made' in lesson_code.LESSONS\n",
    "test_apart.py": "def test_apart():\n    assert False\n",
}
OTHERS = "-p no:hypothesispytest -p no:hydra_pytest -p no:jaxtyping"
WITHOUT_PLUGINS = f"-p no:nbval {OTHERS}"  # they take seconds to load
PYPROJECT = '[tool.pytest.ini_options]\naddopts = "{}"\npythonpath = ["tools"]\n'


def make_project(root: Path) -> Path:
    """A helper, one that uses it, their tests, and a lesson that notices a wrong `wrap`."""
    for folder in ("helpers", "tests", "notebooks", "tools", "data", ".venv"):
        (root / folder).mkdir(parents=True)
        (root / folder / "__init__.py").touch()
    (root / "pyproject.toml").write_text(PYPROJECT.format(WITHOUT_PLUGINS))
    (root / "tools" / "lesson_code.py").write_text("LESSONS = ['98_made']\n")
    (root / "helpers" / "made.py").write_text(MADE)
    (root / "helpers" / "other.py").write_text(OTHER)
    for name, text in TESTS.items():
        (root / "tests" / name).write_text(text)
    sources = ["%matplotlib inline\nfrom helpers.made import wrap", "assert wrap(3) == 103"]
    cells = [new_code_cell(source, execution_count=1) for source in sources]
    nbformat.write(new_notebook(cells=cells), root / "notebooks" / "98_made.ipynb")
    return root


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "project")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One project for several tests: it is measured once, and each mistake is taken back."""
    return make_project(tmp_path_factory.mktemp("shared") / "project")


def mistake(project: Path, line: int, text: str):
    """The one mistake of helpers/made.py that turns something in a line into a text."""
    source = (project / "helpers" / "made.py").read_bytes()
    (found,) = (m for m in mutations(source) if (m.line, m.text.decode()) == (line, text))
    return found


def test_the_copy_holds_what_tests_need(project, tmp_path):
    copied = mutants.copy_project(project, tmp_path / "copy")
    names = {path.name for path in copied.iterdir()}
    assert names == {"helpers", "tests", "notebooks", "tools", "data", "pyproject.toml"}
    assert (copied / "data").is_symlink() and (copied / "data" / "__init__.py").exists()


def test_the_files_that_reach_a_helper(shared):
    assert mutants.stages(shared, "made") == [
        ["tests/test_made.py"],
        ["tests/test_lesson.py", "tests/test_other.py"],
        ["notebooks/98_made.ipynb"],
    ]
    assert mutants.stages(shared, "other") == [["tests/test_other.py"], [], []]


@pytest.mark.parametrize(
    ("line", "text", "stage"),
    [
        (4, "min", "tests that import it"),  # for max
        (2, "(low >= high)", None),
        (12, "(x * 2)", "other tests"),
    ],
)
def test_the_first_stage_that_notices_is_told(shared, line, text, stage):
    before = {p: p.read_bytes() for p in shared.rglob("*") if p.is_file()}
    assert mutants.caught_by(shared, "helpers/made.py", mistake(shared, line, text)) == stage
    assert {p: p.read_bytes() for p in shared.rglob("*") if p.is_file()} == before


def test_only_the_stages_that_are_wanted_are_asked(shared):
    half = mistake(shared, 12, "(x * 2)")
    assert mutants.caught_by(shared, "helpers/made.py", half, last=1) is None


def test_notebooks_are_the_last_stage(project):
    (project / "pyproject.toml").write_text(
        PYPROJECT.format(f"--nbval-lax --nbval-current-env {OTHERS}")
    )
    for test in project.glob("tests/test_*.py"):
        test.unlink()
    wrap = mistake(project, 8, "(x - 100)")
    assert mutants.caught_by(project, "helpers/made.py", wrap, last=2) is None
    assert mutants.caught_by(project, "helpers/made.py", wrap, last=3) == "notebooks"


@pytest.mark.parametrize("status", [1, 2, 3, -11, None])
def test_any_way_not_to_be_green_is_caught(shared, monkeypatch, status):
    """A failed test, an import that fails, a crash of pytest or of its process, no end."""
    monkeypatch.setattr(mutants, "seconds", lambda project, file: 1.0)
    monkeypatch.setattr(mutants, "run", lambda project, files, limit: (status, "report"))
    change = mistake(shared, 4, "min")
    assert mutants.caught_by(shared, "helpers/made.py", change) == "tests that import it"


@pytest.mark.parametrize("status", [4, 5])
def test_a_run_of_nothing_is_an_error(shared, monkeypatch, status):
    monkeypatch.setattr(mutants, "seconds", lambda project, file: 1.0)
    monkeypatch.setattr(mutants, "run", lambda project, files, limit: (status, "report"))
    with pytest.raises(RuntimeError, match="pytest ran nothing of .*test_made.py"):
        mutants.caught_by(shared, "helpers/made.py", mistake(shared, 4, "min"))


def test_what_never_ends_is_ended(project):
    path = project / "tests" / "test_made.py"
    path.write_text("def test():\n    while True:\n        pass\n")
    status, _ = mutants.run(project, ["tests/test_made.py"], limit=2)
    assert status is None


def test_a_report_of_a_whole_run(project, capsys):
    before = (project / "helpers" / "made.py").read_bytes()
    command = ["helpers/made.py", "--sample", "3", "--seed", "4", "--stages", "1"]
    assert mutants.main(command, project) == 0
    report = capsys.readouterr().out
    assert report.startswith(f"3 of {len(mutations(before))} mistakes, seed 4\n")
    lines = [line for line in report.splitlines() if line.startswith("helpers/made.py:")]
    caught = sum("caught by tests that import it" in line for line in lines)
    assert len(lines) == 3 and 0 < caught < 3, "the seed draws both kinds"
    assert report.count("SURVIVED") == 3 - caught
    assert report.count("\n    -") == report.count("\n    +") == 3 - caught
    assert report.endswith(f"caught {caught} of 3: {caught} by tests that import it\n")
    assert (project / "helpers" / "made.py").read_bytes() == before


def test_a_sample_is_drawn_by_its_seed(project, monkeypatch, capsys):
    monkeypatch.setattr(mutants, "caught_by", lambda *arguments: "notebooks")

    def report(seed: int) -> list[str]:
        assert mutants.main(["helpers/made.py", f"--seed={seed}", "--sample=4"], project) == 0
        return capsys.readouterr().out.splitlines()[1:]

    assert report(1) == report(1) != report(2)


def test_a_red_project_is_not_measured(project, capsys):
    (project / "tests" / "test_made.py").write_text("import helpers.made\ndef test(): assert 0\n")
    assert mutants.main(["helpers/made.py", "--sample", "1"], project) == 2
    assert "tests/test_made.py is not green before any mistake" in capsys.readouterr().err


def test_an_unknown_helper_is_named(project, capsys):
    for name in ("helpers/gone.py", "tests/test_made.py", "made"):
        assert mutants.main(["helpers/made.py", name], project) == 2
        assert f"no helper {name}: name files such as" in capsys.readouterr().err


def test_without_names_the_changed_helpers_are_taken(project, capsys):
    assert mutants.main([], project) == 2
    assert "git cannot tell what changed" in capsys.readouterr().err

    def git(*command):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *command], cwd=project, check=True, capture_output=True)

    git("init")
    for message in ("first", "second"):
        git("add", "--all")
        git("commit", "--allow-empty", "-m", message)
    assert mutants.changed_helpers(project) == []
    (project / "helpers" / "other.py").write_text(OTHER + "\n")
    (project / "helpers" / "new.py").touch()
    (project / "helpers" / "checks_new.py").touch()
    (project / "tests" / "test_new.py").touch()
    (project / "helpers" / "made.py").unlink()
    assert mutants.changed_helpers(project) == ["helpers/new.py", "helpers/other.py"]
    git("add", "--all")
    git("commit", "-m", "third")
    assert mutants.changed_helpers(project) == ["helpers/new.py", "helpers/other.py"]
