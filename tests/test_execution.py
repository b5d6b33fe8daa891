"""How notebooks are run: time-outs, dead kernels and lost pictures fail, stored pages are clean."""

import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import execute_notebooks
import jupyter_core.paths
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SWALLOW = """import time
try:
    time.sleep(30)
except KeyboardInterrupt:
    print("went on")"""


PICTURE = new_output("display_data", data={"image/png": "", "text/plain": "<Figure>"})


def run_suite(
    folder: Path, *cells: str | nbformat.NotebookNode, limit: int = 2, **environment: str
) -> str:
    """pytest's report on a notebook of these cells, with this project's configuration."""
    for name in ("conftest.py", "pyproject.toml"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    cells = [new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    for number, cell in enumerate(cells, 1):
        cell.execution_count = number
    (folder / "notebooks").mkdir()
    nbformat.write(new_notebook(cells=cells), folder / "notebooks" / "99_slow.ipynb")
    hidden = folder / "notebooks" / ".ipynb_checkpoints"
    hidden.mkdir()
    (hidden / "99_slow-checkpoint.ipynb").write_text("not a notebook")
    settings = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | environment
    settings["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # others take seconds to import
    command = [sys.executable, "-m", "pytest", "-n", "0", "-rA", "--color=no", "notebooks"]
    command += ["-p", "xdist", "-p", "nbval.plugin", "-p", "no:cacheprovider"]
    command += [f"--nbval-cell-timeout={limit}"]
    done = subprocess.run(
        command, cwd=folder, env=settings, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "slow", ["import time; time.sleep(30)", SWALLOW], ids=["hangs", "swallows"]
)
def test_a_timed_out_notebook_fails_from_there_on(tmp_path, slow):
    report = run_suite(tmp_path, "x = 1", slow, "x", "x + 1")
    assert "PASSED notebooks/99_slow.ipynb::Cell 0" in report
    assert "FAILED notebooks/99_slow.ipynb::Cell 1" in report
    for later in (2, 3):
        assert f"ERROR notebooks/99_slow.ipynb::Cell {later} - Failed: not run" in report
    assert "Timeout of 2 seconds" in report or "ran longer than 2 seconds" in report
    assert "xfailed" not in report


def test_a_dead_kernel_is_noticed_and_named(tmp_path):
    report = run_suite(tmp_path, "import os; os._exit(9)", "1")
    assert "the kernel died while it ran this cell" in report
    assert "FAILED notebooks/99_slow.ipynb::Cell 1" in report


def user_kernel(folder: Path) -> str:
    """A folder of Jupyter data whose kernel `python3` is not this environment's."""
    kernel = folder / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    spec = {"argv": ["false", "{connection_file}"], "display_name": "mine", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    return str(folder / "jupyter")


def test_a_page_without_its_pictures_fails(tmp_path):
    draw = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\n"
    report = run_suite(
        tmp_path,
        new_code_cell(draw, outputs=[PICTURE]),
        new_code_cell(draw + draw, outputs=[PICTURE]),
        new_code_cell("import matplotlib; matplotlib.use('agg')"),
        new_code_cell(draw, outputs=[PICTURE]),
        new_code_cell(draw, outputs=[new_output("stream", name="stdout", text="x")]),
        new_code_cell("%matplotlib inline"),
        new_code_cell(draw, outputs=[PICTURE, PICTURE]),
        limit=60,
    )
    for passed in (0, 1, 2, 4, 5):
        assert f"PASSED notebooks/99_slow.ipynb::Cell {passed}" in report
    for failed, drawn, stored in ((3, 0, 1), (6, 1, 2)):
        assert f"FAILED notebooks/99_slow.ipynb::Cell {failed}" in report
        assert f"Cell {failed} drew {drawn} pictures and its page stores {stored}" in report


def test_the_suite_does_not_take_settings_made_for_other_work(tmp_path):
    """Pictures, kernel and assertions are there, whatever the shell that starts pytest holds."""
    report = run_suite(
        tmp_path,
        new_code_cell("import matplotlib.pyplot as plt; plt.plot([1])", outputs=[PICTURE]),
        "import os; assert os.environ['KERAS_BACKEND'] == 'tensorflow'",
        "import warnings; warnings.warn('a warning')",
        "assert False, 'a claim'",
        limit=60,
        MPLBACKEND="nonsense",
        KERAS_BACKEND="torch",
        PYTHONWARNINGS="error",
        PYTHONOPTIMIZE="1",
        JUPYTER_PATH=user_kernel(tmp_path),
        JUPYTER_PREFER_ENV_PATH="0",
    )
    for passed in (0, 1, 2):
        assert f"PASSED notebooks/99_slow.ipynb::Cell {passed}" in report
    assert "FAILED notebooks/99_slow.ipynb::Cell 3" in report and "a claim" in report


def test_a_students_own_kernel_does_not_replace_the_teachers(tmp_path, monkeypatch):
    """In an environment that somebody else owns, Jupyter looks into the home folder first."""
    monkeypatch.setattr(jupyter_core.paths, "_do_i_own", lambda path: False)
    monkeypatch.setenv("JUPYTER_DATA_DIR", user_kernel(tmp_path))
    ours = KernelSpecManager().get_kernel_spec("python3")
    assert ours.resource_dir.startswith(sys.prefix), "as conftest.py and the Makefile want it"
    monkeypatch.delenv("JUPYTER_PREFER_ENV_PATH")
    assert KernelSpecManager().get_kernel_spec("python3").argv[0] == "false"


@pytest.fixture
def lesson(tmp_path):
    sources = [
        "from ipywidgets import interact\nfrom tqdm.auto import tqdm",
        "interact(lambda k: print(k), k=(1, 5));",
        "for step in tqdm(range(2)):\n    pass\nprint('trained')",
        "6 * 7",
    ]
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    notebook.metadata = {"kernelspec": {"name": "mine", "display_name": "x"}, "widgets": {}}
    path = tmp_path / "99_page.ipynb"
    nbformat.write(notebook, path)
    return path


def test_a_stored_page_is_clean_and_stable(lesson, tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    execute_notebooks.execute(lesson, timeout=60)
    first = lesson.read_bytes()
    notebook = nbformat.read(lesson, as_version=4)
    assert [cell.execution_count for cell in notebook.cells] == [1, 2, 3, 4]
    controls, trained, answer = (cell.outputs for cell in notebook.cells[1:])
    assert [o.data["text/plain"] for o in controls] == [execute_notebooks.WIDGET_NOTE]
    assert [o.text for o in trained] == ["trained\n"], "no bar"
    assert answer[0].data == {"text/plain": "42"}
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert b"widget-view" not in first and b"iopub" not in first
    execute_notebooks.execute(lesson, timeout=60)
    assert lesson.read_bytes() == first, "a second run changes nothing"
    assert [path.name for path in tmp_path.iterdir()] == [lesson.name]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "a cell failed(.|\n)*ZeroDivisionError"),
        ("import time; time.sleep(60)", "longer than 3 s"),
        ("import sys; print('noise', file=sys.stderr)", "code cell 5 wrote to stderr(.|\n)*noise"),
    ],
    ids=["fails", "hangs", "noise"],
)
def test_a_failing_notebook_is_left_as_it_was(lesson, tmp_path, source, message):
    notebook = nbformat.read(lesson, as_version=4)
    notebook.cells.append(new_code_cell(source))
    nbformat.write(notebook, lesson)
    before = lesson.read_bytes()
    with pytest.raises(RuntimeError, match=message):
        execute_notebooks.execute(lesson, timeout=3)
    assert lesson.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [lesson.name]


def png(image: Image.Image) -> str:
    stored = io.BytesIO()
    image.save(stored, "PNG")
    return base64.b64encode(stored.getvalue()).decode()


def test_pictures_are_stored_in_few_colors():
    figure, axis = plt.subplots()
    axis.plot([0, 1, 0], color="#C65000")
    drawn = io.BytesIO()
    figure.savefig(drawn)
    plt.close(figure)
    stored = execute_notebooks.few_colors(base64.b64encode(drawn.getvalue()).decode())
    assert len(base64.b64decode(stored)) < 0.5 * len(drawn.getvalue())
    assert execute_notebooks.few_colors(stored) == stored, "a second time changes nothing"
    before, after = (
        np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), int)
        for content in (drawn.getvalue(), base64.b64decode(stored))
    )
    assert np.abs(before - after).mean() < 0.1, "in 256 levels"
    clear = png(Image.new("RGBA", (90, 90), (9, 9, 9, 0)))
    assert execute_notebooks.few_colors(clear) == clear, "it is transparent"


def test_other_outputs_are_kept():
    kept = [
        new_output("display_data", data={"image/jpeg": "x", "text/plain": "<Figure>"}),
        new_output("stream", name="stdout", text="100%| not a widget"),
    ]
    notebook = new_notebook(
        cells=[new_code_cell("x", outputs=list(kept), metadata={"tags": ["a"]})]
    )
    execute_notebooks.clean(notebook)
    assert notebook.cells[0].outputs == kept
    assert notebook.cells[0].metadata == {"tags": ["a"]}


def test_selection(tmp_path):
    (tmp_path / "solutions").mkdir()
    names = ["11_a.ipynb", "21_b.ipynb", "solutions/21_b.ipynb"]
    for name in names:
        (tmp_path / name).touch()
    chosen = execute_notebooks.selected(["21"], tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in chosen] == names[1:]
    assert len(execute_notebooks.selected([], tmp_path)) == 3
    with pytest.raises(ValueError, match="no notebook 33: there are 11, 21"):
        execute_notebooks.selected(["33"], tmp_path)


def test_the_readme_shows_the_picture_that_the_first_lesson_stores():
    notebook = nbformat.read(ROOT / "notebooks" / "00_start_here.ipynb", as_version=4)
    picture = execute_notebooks.readme_picture(notebook)
    assert picture == (ROOT / "docs" / "00_start_here.png").read_bytes()
    assert "(docs/00_start_here.png)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_shows_the_table_that_lesson_44_stores():
    notebook = nbformat.read(ROOT / "notebooks" / "44_on_device_inference.ipynb", as_version=4)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = execute_notebooks.readme_table(notebook)
    assert table.count("|") > 40 and table in text
    assert execute_notebooks.with_headline(text, table) == text
    other = execute_notebooks.with_headline(text, "| another |")
    assert table not in other and "| another |" in other and len(other) < len(text)


def test_a_readme_without_marks_is_refused():
    with pytest.raises(ValueError, match="put them back"):
        execute_notebooks.with_headline("no marks", "| a |")
