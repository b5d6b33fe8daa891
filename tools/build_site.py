"""Build the course as a static site from what its notebooks store: nothing is executed.

Usage: python tools/build_site.py [FOLDER]   (else site/; it is emptied first)
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("docs/notation.md", "docs/glossary.md", "docs/teaching.md", "docs/writing_lessons.md")
PAGES += ("data/README.md",)
ROW = re.compile(r"^\| *(?P<part>[^|]*?) *\| \[[^]]*\]\(notebooks/(?P<name>[^)]*)\.ipynb\)")
LINK = re.compile(r"\[(?P<text>[^][]*)\]\((?P<target>[^)#:]+)(?P<anchor>#[^)]*)?\)")
CAPTION = re.compile(r"\*(?!\*)(?P<text>.+?)(?<!\*)\*(?!\*)", re.DOTALL)


def parts(readme: str) -> dict[str, list[str]]:
    """{part: names of its lessons}, from the README's table of lessons."""
    found: dict[str, list[str]] = {}
    for line in readme.splitlines():
        if row := ROW.match(line):
            part = row["part"].strip("* ") or list(found)[-1]
            found.setdefault(part, []).append(row["name"])
    return found


def shown(notebook: nbformat.NotebookNode, links: dict[str, str]) -> nbformat.NotebookNode:
    """The notebook as the site shows it: captions as alternative texts, and links.

    links: {beginning of a Markdown cell: Markdown to add after its first line}.
    """
    following = [*notebook.cells[1:], nbformat.v4.new_markdown_cell()]
    for cell, after in zip(notebook.cells, following, strict=True):
        if cell.cell_type == "code":
            caption = CAPTION.match(after.source) if after.cell_type == "markdown" else None
            alt = (
                plain(caption["text"]) if caption else "A figure; the text beside it says of what."
            )
            cell.metadata["mystnb"] = {"image": {"alt": alt}}
            continue
        for beginning, link in links.items():
            if cell.source.startswith(beginning):
                first, _, rest = cell.source.partition("\n")
                cell.source = f"{first}\n\n{link}\n{rest}"
    return notebook


def plain(caption: str) -> str:
    """A caption without Markdown and TeX marks, on one line.

    >>> plain("The *sums* of `conv`, in $s_x$\\nsteps.")
    'The sums of conv, in s_x steps.'
    """
    return " ".join(re.sub(r"[*`$\\{}]", "", caption).split())


def local_links(text: str, source: Path, page: Path) -> str:
    """Markdown whose links to files that are no pages of the site become plain text."""

    def kept(link: re.Match) -> str:
        target = (page.parent / link["target"]).resolve()
        shown = target.exists() and target.is_relative_to(source.resolve())
        return link[0] if shown else link["text"]

    return LINK.sub(kept, text)


def prepare(source: Path) -> None:
    """Fill an empty folder with the pages: the README as start, lessons, solutions, tables."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "notebooks").rglob("[0-9]*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        if path.parent.name == "solutions":
            notebook = shown(notebook, {"# ": f"[Back to the lesson](../{path.name})"})
            notebook.metadata["orphan"] = True  # in no list of pages: the lesson links to it
        else:
            link = f"[Solutions](solutions/{path.name}), for afterwards."
            notebook = shown(notebook, {"## Exercises": link})
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)
    for picture in (ROOT / "docs").glob("*.png"):
        (source / "docs").mkdir(exist_ok=True)
        shutil.copy(picture, source / "docs")
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in PAGES}
    texts["index.md"] = readme + "".join(
        tree(part, [f"notebooks/{name}" for name in names]) for part, names in parts(readme).items()
    )
    texts["index.md"] += tree("Tables", [name.removesuffix(".md") for name in PAGES])
    for name, text in texts.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text, encoding="utf-8")
    for name in texts:
        page = source / name
        page.write_text(local_links(texts[name], source, page), encoding="utf-8")


def tree(caption: str, pages: list[str]) -> str:
    """A part of the navigation."""
    lines = [":hidden:", f":caption: {caption}", "", *pages]
    return "\n".join(["\n```{toctree}", *lines, "```\n"])


def main(folder: str = "site") -> int:
    """Build the site; 0 if sphinx understands every page. Other folders are left alone."""
    out = ROOT / folder
    if out.exists() and any(out.iterdir()) and not (out / ".buildinfo").exists():
        print(f"{out} holds other things than a site: choose another folder", file=sys.stderr)
        return 1
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary)
        prepare(source)
        command = [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-W", "--keep-going"]
        command += ["-c", str(ROOT / "docs" / "site"), str(source), str(out)]
        done = subprocess.run(command).returncode
    for script in (out / "_static" / "mathjax").glob("*.js"):
        if script.name != "tex-chtml.js":  # the one that the pages load; the others take 20 MB
            script.unlink()
    if done == 0:
        print(f"open {out}/index.html")
    return done


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
