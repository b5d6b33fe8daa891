"""Every notebook keeps the form that docs/writing_lessons.md describes, and every rule here bites.

A rule is a function `(notebook, path) -> list of findings`. The second half of this file builds a
notebook that breaks none and breaks it once for each rule.
"""

import ast
import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
START = "00_start_here"  # an overview: its own headings, one exercise
SIZE_LIMIT = 1024 * 1024
LONGEST_LESSON = 90  # minutes
COMPARED_CELLS = 5
CHECK_TAG = "nbval-check-output"
FOLDED = "hide-input"
WIDGET = "application/vnd.jupyter.widget-view+json"
CARD = ("You will", "You need", "Time", "Data and models")
CLOSING = ("What we measured", "Exercises", "Recap", "References")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:root|home|tmp|work|mnt|var|Users)/[\w./-]+")
FILLER = re.compile(
    r"\b(simply|just|obviously|powerful|seamless(?:ly)?|leverag\w+|delve|crucial|robust|"
    r"in today's|cutting-edge)\b",
    re.IGNORECASE,
)
EMOJI = re.compile("[\U0001f300-\U0001faff\u2728\u2705\u274c\u26a0]")

Notebook = nbformat.NotebookNode
Rule = Callable[[Notebook, Path], list[str]]


def load(path: Path) -> Notebook:
    """The notebook as it is stored: `nbformat.read` would repair missing and double ids."""
    return nbformat.v4.reads(path.read_text(encoding="utf-8"))


def code_cells(notebook: Notebook) -> list[Notebook]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook: Notebook) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def outputs(notebook: Notebook) -> Iterator[tuple[str, Notebook]]:
    for number, cell in enumerate(code_cells(notebook), 1):
        for output in cell.outputs:
            yield f"code cell {number}", output


def shown(output: Notebook) -> str:
    """What a reader sees of an output as text."""
    parts = [output.get("text", ""), *output.get("traceback", [])]
    parts += [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join("".join(part) for part in parts)


def tagged(cell: Notebook, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def exercises(notebook: Notebook, path: Path) -> list[str]:
    """The numbers NN.k that the prose gives as a heading or in bold."""
    heading = re.compile(rf"^(?:#{{2,5}} .*?|\*\*[^*\n]*?)\b({path.stem[:2]}\.\d+)\b", re.MULTILINE)
    return list(dict.fromkeys(heading.findall(prose(notebook))))


def checked(notebook: Notebook) -> set[str]:
    """The numbers NN.k for which a code cell calls `check`."""
    source = "\n".join(cell.source for cell in code_cells(notebook))
    return set(re.findall(r"^\s*check\(\s*[\"']([\w.]+)[\"']", source, re.MULTILINE))


# --- rules for lessons and solutions ---------------------------------------------------------


def ran_from_top_to_bottom(notebook, path):
    counts = [cell.execution_count for cell in code_cells(notebook) if cell.source.strip()]
    if counts != list(range(1, len(counts) + 1)):
        return [f"execution counts are not 1..{len(counts)}: make notebooks NB={path.stem[:2]}"]
    return []


def has_cell_ids(notebook, path):
    ids = {cell.get("id") for cell in notebook.cells}
    if None in ids or len(ids) < len(notebook.cells):
        return ["cells without an id of their own (nbformat 4.5)"]
    return []


def names_the_kernel(notebook, path):
    kernel = notebook.metadata.get("kernelspec", {}).get("name")
    return [] if kernel == "python3" else [f"kernelspec is {kernel!r}, not 'python3'"]


def stores_no_error_and_no_log(notebook, path):
    found = [
        f"{where} stored an error" for where, o in outputs(notebook) if o.output_type == "error"
    ]
    for where, output in outputs(notebook):
        if output.get("name") == "stderr":
            found.append(f"{where} stored stderr: {shown(output).strip()[:80]!r}")
    return found


def shows_no_machine_path(notebook, path):
    texts = [(where, shown(output)) for where, output in outputs(notebook)]
    texts += [(f"{cell.cell_type} cell {cell.get('id')}", cell.source) for cell in notebook.cells]
    hits = [(where, MACHINE_PATH.search(text)) for where, text in texts]
    return [f"{where} holds a machine path: {hit.group()}" for where, hit in hits if hit]


def stores_nothing_volatile(notebook, path):
    advice = f"make notebooks NB={path.stem[:2]} leaves it out"
    found = [
        f"{w} stored a widget: {advice}"
        for w, o in outputs(notebook)
        if WIDGET in o.get("data", {})
    ]
    if "widgets" in notebook.metadata:
        found.append(f"the metadata holds the state of widgets: {advice}")
    if any("execution" in cell.metadata for cell in notebook.cells):
        found.append(f"the metadata holds times of execution: {advice}")
    return found


def is_small(notebook, path):
    size = len(json.dumps(notebook, ensure_ascii=False, indent=1).encode())
    return [f"{size // 1024} KiB, more than {SIZE_LIMIT // 1024}"] if size > SIZE_LIMIT else []


def folds_consistently(notebook, path):
    """JupyterLab reads source_hidden, the page the tag; a folded cell says what is in it."""
    found = []
    for number, cell in enumerate(code_cells(notebook), 1):
        folded = tagged(cell, FOLDED)
        if folded != bool(cell.metadata.get("jupyter", {}).get("source_hidden")):
            found.append(f"code cell {number}: {FOLDED} and jupyter.source_hidden go together")
        if folded and not re.match(r"# [a-z]+", cell.source):
            found.append(f"code cell {number} is folded: begin with '# draws: …' or the like")
    return found


def runs_no_shell(notebook, path):
    shell = re.compile(r"^\s*(?:!|%%(?:bash|sh|script)|%\s*(?:pip|conda|sx|system))", re.MULTILINE)
    return [
        f"code cell {number} runs a shell command"
        for number, cell in enumerate(code_cells(notebook), 1)
        if shell.search(cell.source)
    ]


def lets_every_cell_be_tested(notebook, path):
    found = []
    for number, cell in enumerate(code_cells(notebook), 1):
        for tag in ("nbval-skip", "nbval-raises-exception", "raises-exception"):
            comment = f"# {tag.upper().replace('-', '_')}" in cell.source
            if tagged(cell, tag) or comment:
                found.append(
                    f"code cell {number} has the tag {tag}: the suite would not see it fail"
                )
    return found


def has_no_emoji(notebook, path):
    return ["emoji in the prose"] if EMOJI.search(prose(notebook)) else []


def captions_its_figures(notebook, path):
    found = []
    for number, cell in enumerate(code_cells(notebook), 1):
        if any("image/png" in o.get("data", {}) for o in cell.outputs):
            after = notebook.cells[notebook.cells.index(cell) + 1 :]
            text = next((c.source for c in after if c.source.strip()), "")
            if not re.match(r"\s*[*_]\w", text):
                found.append(f"code cell {number} draws a figure with no italic caption under it")
    return found


# --- rules for lessons -----------------------------------------------------------------------


def opens_with_its_title(notebook, path):
    first = notebook.cells[0].source if notebook.cells else ""
    title = f"# {path.stem[:2]} · "
    return [] if first.startswith(title) else [f"the first cell does not begin with '{title}Title'"]


def has_a_card(notebook, path):
    rows = [line for line in prose(notebook).splitlines() if line.lstrip().startswith("|")]
    missing = [name for name in CARD if not any(name in row for row in rows)]
    return [f"the card has no row '{name}'" for name in missing]


def has_the_closing_sections(notebook, path):
    if path.stem == START:
        return []
    places = [re.search(rf"^##+ .*{h}", prose(notebook), re.MULTILINE) for h in CLOSING]
    found = [f"no heading '{h}'" for h, place in zip(CLOSING, places, strict=True) if not place]
    starts = [place.start() for place in places if place]
    if starts != sorted(starts):
        found.append("the closing sections are not in the order " + ", ".join(CLOSING))
    return found


def numbers_its_sections(notebook, path):
    if path.stem == START:
        return []
    numbers = [int(n) for n in re.findall(r"^## (\d+) ", prose(notebook), re.MULTILINE)]
    if numbers != list(range(1, len(numbers) + 1)) or len(numbers) < 3:
        return [f"sections '## N Title' are numbered {numbers}, not 1, 2, 3 and on"]
    return []


def compares_outputs(notebook, path):
    compared = [c for c in code_cells(notebook) if tagged(c, CHECK_TAG) and c.outputs]
    if len(compared) < COMPARED_CELLS:
        return [
            f"{len(compared)} compared cells (tag {CHECK_TAG}, with output), not {COMPARED_CELLS}"
        ]
    return []


def asserts_its_claims(notebook, path):
    claims = any(re.search(r"^\s*assert ", c.source, re.MULTILINE) for c in code_cells(notebook))
    return [] if claims else ["asserts nothing"]


def has_an_interactive_cell(notebook, path):
    calls = any(
        re.search(r"\binteract\w*\(|^@interact", c.source, re.M) for c in code_cells(notebook)
    )
    return [] if calls else ["no interactive cell"]


def interact_arguments(source: str) -> list[ast.expr]:
    """What the calls of interact in a cell are given by name."""
    if "interact(" not in source:
        return []
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    calls = [call for call in calls if ast.unparse(call.func).endswith("interact")]
    return [keyword.value for call in calls for keyword in call.keywords]


def is_a_list(value: ast.expr) -> bool:
    made = isinstance(value, ast.Call) and ast.unparse(value.func) in ("list", "sorted", "tuple")
    return made or isinstance(value, ast.List | ast.Dict)


def is_moved_by_arrows(notebook, path):
    """An arrow key leaves a dropdown for the next cell, and its value stays: sliders take arrows.

    A picture is drawn when a slider is let go, or a slow one lags behind the hand.
    """
    found = []
    for number, cell in enumerate(code_cells(notebook), 1):
        if any(map(is_a_list, interact_arguments(cell.source))):
            found.append(f"code cell {number}: a list in interact is a dropdown, take a slider")
        if re.search(r"\b(Dropdown|Select|RadioButtons|ToggleButtons)\(", cell.source):
            found.append(f"code cell {number}: take a SelectionSlider for a choice")
        sliders = len(re.findall(r"\b\w*Slider\b", cell.source))
        if cell.source.count("continuous_update=False") < min(sliders, 1):
            found.append(f"code cell {number}: a slider without continuous_update=False")
    return found


def writes_in_dark_colors(notebook, path):
    """Gray text on white is hard to read: a contrast of 4.5 is asked for (WCAG 2.2)."""
    found = []
    for number, cell in enumerate(code_cells(notebook), 1):
        for color in re.findall(
            r"[\"'](#[0-9A-Fa-f]{6})[\"']", " ".join(texts_colors(cell.source))
        ):
            if contrast(color) < 4.5:
                found.append(f"code cell {number}: text in {color}, contrast {contrast(color):.1f}")
    return found


def texts_colors(source: str) -> list[str]:
    """The expressions that calls of `text`, `annotate`, `set_title` and the like get as color."""
    names = {"text", "annotate", "figtext", "set_title", "suptitle", "set_xlabel", "set_ylabel"}
    found = []
    if not any(f"{name}(" in source for name in names):
        return []
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") in names:
            found += [ast.unparse(k.value) for k in call.keywords if k.arg in ("color", "c")]
    return found


def contrast(color: str) -> float:
    """WCAG 2.2's ratio of a color like "#767676" on white, 1 to 21."""
    parts = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    light = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 1.05 / (0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2] + 0.05)


def stores_a_figure(notebook, path):
    figure = any("image/png" in o.get("data", {}) for _, o in outputs(notebook))
    return [] if figure else ["no stored figure: the page must teach without a kernel"]


def asks_to_predict(notebook, path):
    asks = re.search(r"\bpredict", prose(notebook), re.IGNORECASE)
    return [] if asks else ["the reader is never asked to predict"]


def has_no_filler(notebook, path):
    words = sorted({m.group().lower() for m in FILLER.finditer(prose(notebook))})
    return ["filler words: " + ", ".join(words)] if words else []


def minutes_to_read(notebook) -> float:
    """Words at 150 a minute and visible lines of code at five."""
    words = len(prose(notebook).split())
    visible = [cell.source for cell in code_cells(notebook) if not tagged(cell, FOLDED)]
    lines = sum(bool(line.strip()) for source in visible for line in source.splitlines())
    return words / 150 + lines / 5


def states_its_minutes(notebook, path):
    minutes = minutes_to_read(notebook)
    stated = re.search(r"\*\*Time\*\* *\| *(\d+) minutes? to read", prose(notebook))
    if not stated:
        return ["the card's row '**Time**' does not begin with 'N minutes to read'"]
    found = []
    if not 0.75 * minutes - 1 <= int(stated[1]) <= 1.4 * minutes + 1:
        found.append(f"the card says {stated[1]} minutes, and reading takes about {minutes:.0f}")
    if minutes > LONGEST_LESSON:
        found.append(f"about {minutes:.0f} minutes to read: is this two lessons?")
    return found


def lets_the_reader_write(notebook, path):
    """A try-it cell, NN.0, before the exercises, and the finished version in the cell after it."""
    number = f"{path.stem[:2]}.0"
    cells = notebook.cells
    for place, cell in enumerate(cells):
        if re.match(r"##+ .*Exercise", cell.source):
            break
        if cell.cell_type != "code" or f'check("{number}"' not in cell.source:
            continue
        name = re.search(r'check\("[\d.]+", (\w+)\)', cell.source)
        ours = next((c.source for c in cells[place + 1 :] if c.cell_type == "code"), "")
        if name and re.search(rf"^(def {name[1]}\(|{name[1]}\b.* = )", ours, re.MULTILINE):
            return []
        return [f"the code cell after {number} does not define {name and name[1]}"]
    return [f'no try-it cell: a stub with check("{number}", …) before the exercises']


def has_checked_exercises(notebook, path):
    numbers = [n for n in exercises(notebook, path) if not n.endswith(".0")]
    fewest, most = (1, 4) if path.stem == START else (2, 4)
    wanted = [f"{path.stem[:2]}.{k}" for k in range(1, len(numbers) + 1)]
    found = []
    if numbers != wanted or not fewest <= len(numbers) <= most:
        found.append(f"exercises {numbers}: {fewest} to {most} of them, from {path.stem[:2]}.1")
    for number in sorted(set(numbers) - checked(notebook)):
        found.append(f'exercise {number} has no check("{number}", …)')
    for number in sorted(checked(notebook) - {*numbers, f"{path.stem[:2]}.0"}):
        found.append(f'check("{number}", …) belongs to no exercise')
    for where, output in outputs(notebook):
        if re.search(r"\bnot yet\b", output.get("text", "")):
            found.append(f"{where} stored 'not yet': ship the stub unsolved")
    return found


def has_its_solutions(notebook, path):
    beside = path.parent / "solutions" / path.name
    if not beside.is_file():
        return [f"no solutions/{path.name}"]
    solved = checked(load(beside))
    asked = [n for n in exercises(notebook, path) if not n.endswith(".0")]
    return [f"exercise {n} has no solution" for n in asked if n not in solved]


# --- rules for solutions ---------------------------------------------------------------------


def belongs_to_a_lesson(notebook, path):
    lesson = path.parent.parent / path.name
    if not lesson.is_file():
        return [f"no lesson {path.name}"]
    asked = exercises(load(lesson), lesson)
    return [
        f"solves {n}, which the lesson does not ask" for n in sorted(checked(notebook) - set(asked))
    ]


def opens_with_its_lessons_title(notebook, path):
    lesson = path.parent.parent / path.name
    if not lesson.is_file():
        return []  # belongs_to_a_lesson says so
    lesson = load(lesson).cells[0].source.splitlines()[0]
    title, first = lesson.replace("#", "# Solutions to", 1), notebook.cells[0].source
    return [] if first.split("\n")[0] == title else [f"the first line is not {title!r}"]


def is_accepted(notebook, path):
    found = []
    for number, cell in enumerate(code_cells(notebook), 1):
        text = "\n".join(shown(output) for output in cell.outputs)
        calls = len(re.findall(r"^\s*check\(", cell.source, re.MULTILINE))
        if text.lower().count("correct") < calls or re.search("not yet|not attempted", text):
            found.append(f"code cell {number}: a check did not answer 'correct'")
    return found


BOTH: list[Rule] = [
    ran_from_top_to_bottom,
    has_cell_ids,
    names_the_kernel,
    stores_no_error_and_no_log,
    shows_no_machine_path,
    stores_nothing_volatile,
    is_small,
    folds_consistently,
    runs_no_shell,
    lets_every_cell_be_tested,
    has_no_emoji,
    captions_its_figures,
]
LESSON: list[Rule] = [
    opens_with_its_title,
    has_a_card,
    has_the_closing_sections,
    numbers_its_sections,
    compares_outputs,
    asserts_its_claims,
    has_an_interactive_cell,
    is_moved_by_arrows,
    writes_in_dark_colors,
    stores_a_figure,
    asks_to_predict,
    has_no_filler,
    states_its_minutes,
    lets_the_reader_write,
    has_checked_exercises,
    has_its_solutions,
]
SOLUTION: list[Rule] = [belongs_to_a_lesson, opens_with_its_lessons_title, is_accepted]


def findings(notebook: Notebook, path: Path) -> list[str]:
    rules = BOTH + (SOLUTION if path.parent.name == "solutions" else LESSON)
    return [finding for rule in rules for finding in rule(notebook, path)]


FILES = sorted(NOTEBOOKS.glob("*.ipynb")) + sorted(NOTEBOOKS.glob("solutions/*.ipynb"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(NOTEBOOKS).as_posix())
def test_form(path):
    assert re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem), "a notebook's name is NN_snake_case"
    notebook = load(path)
    nbformat.validate(copy.deepcopy(notebook))
    found = findings(notebook, path)
    assert not found, "\n".join([f"{path.name} departs from the form:", *found])


# --- each rule bites -------------------------------------------------------------------------

PNG = new_output("display_data", data={"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})


def save(notebook: Notebook, path: Path) -> None:
    path.write_text(json.dumps(notebook), encoding="utf-8")


def printed(text: str, name: str = "stdout") -> Notebook:
    return new_output("stream", name=name, text=text)


def numbered(cells: list[Notebook]) -> Notebook:
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    for count, cell in enumerate(code_cells(notebook), 1):
        cell.execution_count = count
    return notebook


@pytest.fixture
def lesson(tmp_path):
    """A lesson that breaks no rule, its solutions, and the path that it would have."""
    card = "| | |\n|---|---|\n" + "\n".join(f"| **{name}** | x |" for name in CARD)
    card = card.replace("| **Time** | x |", "| **Time** | 4 minutes to read |")
    cells = [new_markdown_cell("# 21 · Steps\n\nWhy a step."), new_markdown_cell(card)]
    cells.append(new_code_cell("from ipywidgets import interact"))
    for number in range(1, 4):
        cells.append(new_markdown_cell(f"## {number} Part\n\n**Predict.** Which is larger?"))
    for number in range(COMPARED_CELLS):
        cell = new_code_cell(f"assert {number} < 9\nprint({number})", outputs=[printed("1\n")])
        cell.metadata.tags = [CHECK_TAG]
        cells.append(cell)
    cells.append(new_markdown_cell("**Try it 21.0.** Double a number."))
    stub = 'def double(x):\n    ...\n\n\ncheck("21.0", double)'
    cells.append(new_code_cell(stub, outputs=[printed("21.0 not attempted\n")]))
    cells.append(new_code_cell("def double(x):\n    return 2 * x"))
    folded = {"tags": [FOLDED], "jupyter": {"source_hidden": True}}
    source = "# draws: the steps\ninteract(draw, bits=(2, 8));"
    cells.append(new_code_cell(source, outputs=[PNG], metadata=folded))
    cells.append(new_markdown_cell("*Each bit halves the step.*"))
    cells.append(new_markdown_cell("## What we measured\n\n## Exercises"))
    for number in ("21.1", "21.2"):
        cells.append(new_markdown_cell(f"### Exercise {number} · Halve"))
        stub = f'answer = ...\ncheck("{number}", answer)'
        cells.append(new_code_cell(stub, outputs=[printed("not attempted\n")]))
    cells.append(new_markdown_cell("## Recap\n\nDone.\n\n## References\n\nA paper, 2018."))
    notebook, path = numbered(cells), tmp_path / "21_steps.ipynb"
    save(notebook, path)
    solved = [new_markdown_cell("# Solutions to 21 · Steps")]
    for number in ("21.1", "21.2"):
        solved.append(new_code_cell(f'check("{number}", 1)', outputs=[printed("correct\n")]))
    (tmp_path / "solutions").mkdir()
    save(numbered(solved), tmp_path / "solutions" / path.name)
    return notebook, path


def code(notebook: Notebook, number: int = 2) -> Notebook:
    return code_cells(notebook)[number - 1]


def replace(old: str, new: str) -> Callable[[Notebook], None]:
    """Replace a text in every cell; a text that is not there is a mistake in the test."""

    def change(notebook: Notebook) -> None:
        assert any(old in cell.source for cell in notebook.cells), old
        for cell in notebook.cells:
            cell.source = cell.source.replace(old, new)

    return change


def add_prose(text: str) -> Callable[[Notebook], None]:
    return lambda notebook: notebook.cells.insert(3, new_markdown_cell(text))


def add_output(output: Notebook) -> Callable[[Notebook], None]:
    return lambda notebook: code(notebook).outputs.append(output)


def swap_closing(notebook: Notebook) -> None:
    replace("## Recap", "## Later")(notebook)
    replace("## What we measured", "## Recap\n\n## What we measured")(notebook)


def tag(name: str) -> Callable[[Notebook], None]:
    return lambda notebook: code(notebook).metadata.tags.append(name)


ERROR = new_output("error", ename="ValueError", evalue="x", traceback=[])
VIEW = new_output("display_data", data={WIDGET: {"model_id": "1"}, "text/plain": "interactive()"})
HERE = "/" + "home/me/file"
LESSON_MUTATIONS = [
    ("count", lambda n: code(n).update(execution_count=None), "execution counts"),
    ("order", lambda n: code(n).update(execution_count=9), "execution counts"),
    ("id", lambda n: n.cells[0].pop("id"), "without an id"),
    ("double id", lambda n: n.cells[0].update(id=n.cells[1].id), "without an id"),
    ("kernel", lambda n: n.metadata.kernelspec.update(name="conda-env"), "kernelspec is"),
    ("error", add_output(ERROR), "stored an error"),
    ("stderr", add_output(printed("WARNING: x", "stderr")), "stored stderr: 'WARNING: x'"),
    ("path shown", add_output(printed(f"at {HERE}")), "holds a machine path"),
    ("path written", lambda n: code(n).update(source=f"open('{HERE}')"), "holds a machine path"),
    ("widget", add_output(VIEW), "stored a widget"),
    ("state", lambda n: n.metadata.update(widgets={}), "state of widgets"),
    ("times", lambda n: code(n).metadata.update(execution={}), "times of execution"),
    ("size", add_output(printed("x" * SIZE_LIMIT)), "KiB, more than 1024"),
    ("fold", lambda n: code(n, 9).metadata.update(jupyter={}), "go together"),
    ("fold tag", lambda n: code(n, 9).metadata.update(tags=[]), "go together"),
    ("fold text", replace("# draws: the steps\n", ""), "is folded: begin with"),
    ("shell", lambda n: code(n).update(source="!ls"), "shell command"),
    ("pip", lambda n: code(n).update(source="%pip install x"), "shell command"),
    ("skip", tag("nbval-skip"), "has the tag nbval-skip"),
    ("raises", tag("raises-exception"), "has the tag raises-exception"),
    ("comment", lambda n: code(n).update(source="# NBVAL_SKIP\n1"), "has the tag nbval-skip"),
    ("emoji", add_prose("\U0001f680"), "emoji"),
    ("caption", replace("*Each bit halves", "Each bit halves"), "no italic caption"),
    ("title", replace("# 21 ·", "# 22 ·"), "does not begin with '# 21 · "),
    *[(f"card {n}", replace(f"| **{n}** |", "| x |"), f"no row '{n}'") for n in CARD],
    ("minutes", replace("4 minutes to read", "40 minutes to read"), "reading takes about"),
    ("few minutes", add_prose("word " * 1500), "reading takes about"),
    ("no minutes", replace("4 minutes to read", "long"), "does not begin with"),
    ("long lesson", add_prose("word " * 15000), "is this two lessons"),
    ("try it", replace('check("21.0"', 'print("21.0"'), "no try-it cell"),
    (
        "ours",
        replace("def double(x):\n    return", "def other(x):\n    return"),
        "does not define double",
    ),
    *[(f"heading {h}", replace(f"## {h}", "## x"), f"no heading '{h}'") for h in CLOSING],
    ("closing order", swap_closing, "not in the order"),
    ("sections", replace("## 2 Part", "## 4 Part"), "numbered [1, 4, 3]"),
    ("few sections", replace("## 3 Part", "## Part"), "numbered [1, 2]"),
    ("compared", lambda n: code(n).metadata.update(tags=[]), "4 compared cells"),
    ("compared empty", lambda n: code(n).update(outputs=[]), "4 compared cells"),
    ("assert", replace("assert ", "print() or "), "asserts nothing"),
    ("interactive", replace("interact(draw", "draw(draw"), "no interactive cell"),
    ("dropdown", replace("bits=(2, 8)", "bits=Dropdown(options=bits)"), "SelectionSlider"),
    ("list", replace("bits=(2, 8)", "bits=[2, 8]"), "a list in interact is a dropdown"),
    ("lag", replace("bits=(2, 8)", "bits=IntSlider(2)"), "a slider without"),
    (
        "pale",
        replace("interact(draw", "a.text(0, 0, 'x', color='#888888')\ninteract(draw"),
        "contrast 3.5",
    ),
    ("figure", lambda n: code(n, 9).update(outputs=[]), "no stored figure"),
    ("predict", replace("Predict", "Guess"), "never asked to predict"),
    ("filler", add_prose("It is Simply a robust step."), "filler words: robust, simply"),
    ("exercise number", replace("Exercise 21.2", "Exercise 21.3"), "exercises ['21.1', '21.3']"),
    ("one exercise", replace("Exercise 21.2", "Exercise"), "2 to 4 of them"),
    ("no check", replace('check("21.2"', 'print("21.2"'), "exercise 21.2 has no check"),
    ("other check", replace('check("21.2"', 'check("22.2"'), "belongs to no exercise"),
    ("solved badly", add_output(printed("not yet: off by one")), "ship the stub unsolved"),
]


def test_a_good_lesson_has_no_findings(lesson):
    notebook, path = lesson
    nbformat.validate(notebook)
    assert findings(notebook, path) == []
    solutions = path.parent / "solutions" / path.name
    assert findings(load(solutions), solutions) == []


@pytest.mark.parametrize(
    ("mutate", "finding"),
    [m[1:] for m in LESSON_MUTATIONS],
    ids=[m[0].replace(" ", "-") for m in LESSON_MUTATIONS],
)
def test_each_lesson_rule_bites(lesson, mutate, finding):
    notebook, path = copy.deepcopy(lesson)
    mutate(notebook)
    found = findings(notebook, path)
    assert any(finding in text for text in found), found


def test_every_rule_has_a_mutation(lesson):
    notebook, path = lesson
    bites = set()
    for _, mutate, _ in LESSON_MUTATIONS:
        broken = copy.deepcopy(notebook)
        mutate(broken)
        bites |= {rule.__name__ for rule in BOTH + LESSON if rule(broken, path)}
    assert {rule.__name__ for rule in BOTH + LESSON} - bites == set()


def test_missing_solutions_are_found(lesson):
    notebook, path = lesson
    solutions = path.parent / "solutions" / path.name
    solved = load(solutions)
    replace('check("21.2"', 'print("21.2"')(solved)
    save(solved, solutions)
    assert findings(notebook, path) == ["exercise 21.2 has no solution"]
    solutions.unlink()
    assert findings(notebook, path) == ["no solutions/21_steps.ipynb"]


@pytest.mark.parametrize(
    ("mutate", "finding"),
    [
        (replace('check("21.2"', 'check("21.3"'), "solves 21.3, which the lesson does not ask"),
        (lambda n: code(n).outputs[0].update(text="not yet: x"), "did not answer 'correct'"),
        (lambda n: code(n).update(outputs=[]), "did not answer 'correct'"),
        (lambda n: code(n).update(execution_count=None), "execution counts"),
        (replace("# Solutions to", "# Answers to"), "the first line is not '# Solutions to 21 ·"),
    ],
)
def test_each_solution_rule_bites(lesson, mutate, finding):
    path = lesson[1].parent / "solutions" / lesson[1].name
    notebook = load(path)
    mutate(notebook)
    found = findings(notebook, path)
    assert any(finding in text for text in found), found


def test_solutions_without_a_lesson_are_found(lesson):
    path = lesson[1].parent / "solutions" / lesson[1].name
    lesson[1].unlink()
    assert findings(load(path), path) == ["no lesson 21_steps.ipynb"]


def test_the_start_page_is_held_to_less(lesson):
    notebook, path = lesson
    for text in ("## What we measured", "## Recap", "## 2 Part"):
        replace(text, "## x")(notebook)
    replace("# 21 ·", "# 00 ·")(notebook)
    replace("21.", "00.")(notebook)
    start = path.with_name(f"{START}.ipynb")
    assert findings(notebook, start) == [f"no solutions/{START}.ipynb"]
