"""Runs lessons from top to bottom and stores their outputs: what `make notebooks` does.

usage: python tools/execute_notebooks.py [NN ...]     (default: every lesson and every solution)

A notebook is replaced only when all its cells ran. What changes from run to run without meaning
(times of execution, widget models) is left out, so that a diff shows what a lesson's numbers did.
"""

import base64
import io
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
CELL_TIMEOUT = 600
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_NOTE = "Interactive: run this cell in JupyterLab to get its controls."
HEADLINE = "<!-- headline: lesson 44 writes it -->", "<!-- end of the headline -->"
BAR = re.compile(r"\d+%\||\d+it \[|\dit/s\]|s/it\]")


def selected(numbers: list[str], folder: Path = NOTEBOOKS) -> list[Path]:
    """The lessons and solutions whose names begin with one of the numbers, or all of them."""
    paths = sorted(folder.glob("*.ipynb")) + sorted(folder.glob("solutions/*.ipynb"))
    if not numbers:
        return paths
    known = sorted({path.name[:2] for path in paths})
    for number in numbers:
        if number not in known:
            raise ValueError(f"no notebook {number}: there are {', '.join(known) or 'none'}")
    return [path for path in paths if path.name[:2] in numbers]


def clean(notebook: nbformat.NotebookNode) -> None:
    """Leave what a page without a kernel can show, and nothing that differs between equal runs.

    A stored widget is an error message in JupyterLab, a network request in an HTML page and
    `interactive(children=...` on GitHub. One sentence takes its place; progress bars go entirely.
    Pictures are stored in 256 colors.
    """
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {
                "display_name": "Python 3 (ipykernel)",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"file_extension": ".py", "name": "python"},
        }
    )
    for cell in notebook.cells:
        for key in ("execution", "ExecuteTime", "collapsed", "scrolled"):
            cell.metadata.pop(key, None)
        if cell.cell_type != "code":
            continue
        kept = []
        for output in cell.outputs:
            data = output.get("data", {})
            if WIDGET in data:
                if BAR.search(data.get("text/plain", "")):
                    continue
                output = nbformat.v4.new_output(
                    "display_data",
                    data={"text/markdown": f"*{WIDGET_NOTE}*", "text/plain": WIDGET_NOTE},
                )
            if "image/png" in data:
                data["image/png"] = few_colors(data["image/png"])
            kept.append(output)
        cell.outputs = kept


def few_colors(picture: str) -> str:
    """A PNG in base64, with a palette of 256 colors where that makes it smaller: figures are
    lines and flat areas, and take less than half of their bytes."""
    image = Image.open(io.BytesIO(base64.b64decode(picture)))
    if image.mode not in ("RGB", "RGBA") or image.convert("RGBA").getextrema()[3][0] < 255:
        return picture  # it has a palette already, or lets the page shine through
    stored = io.BytesIO()
    image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(stored, "PNG", optimize=True)
    return min(base64.b64encode(stored.getvalue()).decode(), picture, key=len)


def execute(path: Path, timeout: float = CELL_TIMEOUT) -> None:
    """Run one notebook in its own folder and store it, all or nothing.

    Raises RuntimeError, naming the cell, if a cell fails, runs too long or writes to stderr.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        allow_errors=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute()
    except CellTimeoutError as error:
        raise RuntimeError(f"a cell ran longer than {timeout:g} s") from error
    except (CellExecutionError, DeadKernelError) as error:
        raise RuntimeError(f"a cell failed\n{error}") from error
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise RuntimeError(
                    f"code cell {cell.execution_count} wrote to stderr: silence it at its source\n"
                    f"{output.text[:400]}"
                )
    clean(notebook)
    partial = path.with_name(path.name + ".partial")
    nbformat.write(notebook, partial)
    os.replace(partial, path)
    picture = readme_picture(notebook)
    if picture:
        target = path.parent.parent / "docs" / f"{path.stem}.png"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(picture)
    table, readme = readme_table(notebook), path.parent.parent / "README.md"
    if table:
        text = with_headline(readme.read_text(encoding="utf-8"), table)
        partial = readme.with_name(readme.name + ".partial")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, readme)


def readme_picture(notebook: nbformat.NotebookNode) -> bytes | None:
    """The PNG drawn by the cell with the tag "readme-picture": the README shows it."""
    for cell in notebook.cells:
        if "readme-picture" in cell.metadata.get("tags", []):
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    return base64.b64decode(output.data["image/png"])
    return None


def readme_table(notebook: nbformat.NotebookNode) -> str | None:
    """The Markdown that the cell with the tag "readme-table" shows: the README shows it, too."""
    for cell in notebook.cells:
        if "readme-table" in cell.metadata.get("tags", []):
            for output in cell.outputs:
                if "text/markdown" in output.get("data", {}):
                    return output["data"]["text/markdown"]
    return None


def with_headline(text: str, table: str) -> str:
    """The README's text with this table between its two marks; ValueError without marks."""
    begin, end = text.find(HEADLINE[0]), text.find(HEADLINE[1])
    if not 0 <= begin < end:
        raise ValueError(f"README.md lacks {HEADLINE[0]!r} before {HEADLINE[1]!r}: put them back")
    return f"{text[: begin + len(HEADLINE[0])]}\n\n{table.strip()}\n\n{text[end:]}"


def main(numbers: list[str]) -> int:
    """Run the chosen notebooks. 0: all are stored; 1: some are not; 2: there is no such number."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, not a user's own
    try:
        paths = selected(numbers)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    failed = 0
    for path in paths:
        name = path.relative_to(NOTEBOOKS.parent)
        start = time.perf_counter()
        try:
            execute(path)
        except RuntimeError as error:
            failed += 1
            print(f"{name}: not stored: {error}", file=sys.stderr, flush=True)
        else:
            size = path.stat().st_size / 1024
            print(f"{name}: {time.perf_counter() - start:.1f} s, {size:.0f} KiB", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
