"""What README shows is true: its code gives the output under it, and its links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "data" / "README.md"]


def test_the_code_gives_the_output_under_it():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code, output = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.DOTALL).groups()
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.returncode) == (output, 0), done.stderr


def test_links_lead_to_files():
    dead = []
    for path in TEXTS:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if "://" not in target and not (path.parent / target).exists():
                dead.append(f"{path.relative_to(ROOT)}: {target}")
    assert not dead, "\n".join(dead)


def test_every_lesson_stands_in_the_map():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lessons = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert lessons == set(re.findall(r"\(notebooks/(\w+\.ipynb)\)", text))
