"""A mutation run: small mistakes made in helpers, one at a time. Do the tests notice?

usage: python tools/mutants.py [helpers/NAME.py ...] [--sample N] [--seed S] [--stages 1|2|3]

A random sample of the mistakes that tools/mutations.py knows is made in a copy of the project. The
tests that reach the helper run there: first (stage 1) those that import it, then (2) those that do
so by way of another helper or of a lesson's code, at last (3) the notebooks. The first red ends it:
the mistake is caught. A survivor is printed with its line, before and after: a test is missing, or
the mistake changes nothing.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import cache
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager
from lesson_code import cells
from mutations import Mutation, mutations

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("tests that import it", "other tests", "notebooks")
NOT_COPIED = (".git", ".venv", ".*cache", ".hypothesis", "*.egg-info", "__pycache__", "data")


def changed_helpers(root: Path) -> list[str]:
    """The helpers that the last commit or the work since then changed; exercises' checks excepted.

    ValueError where git cannot tell.
    """
    listed = ""
    for command in ("diff --name-only --diff-filter=d HEAD~1", "ls-files --others"):
        git = ["git", *command.split(), "--", "helpers/*.py"]
        done = subprocess.run(git, cwd=root, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"git cannot tell what changed, so name files: {done.stderr.strip()}")
        listed += done.stdout
    return sorted(name for name in listed.split() if not name.startswith("helpers/checks"))


def copy_project(root: Path, target: Path) -> Path:
    """The project without its environment and history; the data is linked, not copied."""
    shutil.copytree(root, target, ignore=shutil.ignore_patterns(*NOT_COPIED))
    if (root / "data").exists():
        (target / "data").symlink_to((root / "data").resolve(), target_is_directory=True)
    return target


# --- which tests reach a helper --------------------------------------------------------------


def code(path: Path) -> str:
    """The Python of a file or of a notebook, with IPython's magics as the calls that they are."""
    if path.suffix == ".py":
        return path.read_text(encoding="utf-8")
    return "\n".join(map(TransformerManager().transform_cell, cells(path.stem, path.parent)))


def imported(source: str) -> set[str]:
    r"""The names of the helpers that a source imports.

    >>> sorted(imported("from helpers import data, models as m\nimport helpers.train, os"))
    ['data', 'models', 'train']
    """
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in modules if name.startswith("helpers.")}


@cache
def stages(project: Path, helper: str) -> list[list[str]]:
    """For each of STAGES the files that reach helpers/HELPER.py, the nearest ones first."""
    notebooks = project / "notebooks"
    lessons = {
        path.relative_to(notebooks).with_suffix("").as_posix(): path
        for path in [*notebooks.glob("*.ipynb"), *notebooks.glob("solutions/*.ipynb")]
    }
    tests = list((project / "tests").glob("test_*.py"))
    uses = {
        path: {project / "helpers" / f"{name}.py" for name in imported(code(path))}
        for path in [*(project / "helpers").glob("*.py"), *tests, *lessons.values()]
    }
    for test in tests:
        if "lesson_code" in code(test):  # it exercises what a lesson defines: definitions("12_…")
            strings = [n.value for n in ast.walk(ast.parse(code(test))) if type(n) is ast.Constant]
            uses[test] |= {lessons[name] for name in strings if name in lessons}

    distance = {project / "helpers" / f"{helper}.py": 0}
    for path in (queue := list(distance)):
        for user in uses.keys() - distance.keys():
            if path in uses[user]:
                distance[user] = distance[path] + 1
                queue.append(user)

    def nearest(paths: list[Path]) -> list[str]:
        order = sorted(paths, key=lambda p: (distance[p], p.stem != f"test_{helper}", p))
        return [path.relative_to(project).as_posix() for path in order]

    return [
        nearest([path for path in tests if distance.get(path) == 1]),
        nearest([path for path in tests if distance.get(path, 0) > 1]),
        nearest([path for path in lessons.values() if path in distance]),
    ]


# --- one mistake -----------------------------------------------------------------------------


def run(project: Path, files: list[str], limit: float | None = None) -> tuple[int | None, str]:
    """pytest on files of the project: its exit status (None past `limit` seconds), its report."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "--color=no"]
    command += ["-p", "no:cacheprovider", *files]
    with tempfile.TemporaryFile("w+") as report:
        process = subprocess.Popen(
            command,
            cwd=project,
            env=environment,
            stdout=report,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # with the processes that the tests started
                process.wait()
        report.seek(0)
        return status, report.read()


@cache
def seconds(project: Path, file: str) -> float:
    """How long a file's tests take without a mistake. RuntimeError if they are not green."""
    start = time.monotonic()
    status, report = run(project, [file])
    if status != 0:
        raise RuntimeError(f"{file} is not green before any mistake is made:\n{report[-2000:]}")
    return time.monotonic() - start


def caught_by(project: Path, file: str, mutation: Mutation, last: int = 2) -> str | None:
    """Which of the first `last` STAGES notices a mistake in a helper, or None if none does."""
    path = project / file
    source = path.read_bytes()
    for stage, files in list(zip(STAGES, stages(project, path.stem), strict=True))[:last]:
        if not files:
            continue
        limit = 60 + 5 * sum(seconds(project, file) for file in files)  # a mistake may never end
        try:
            path.write_bytes(mutation.apply(source))
            status, report = run(project, files, limit)
        finally:
            path.write_bytes(source)
        if status in (4, 5):
            raise RuntimeError(f"pytest ran nothing of {files}:\n{report}")
        if status != 0:
            return stage
    return None


def diff(source: bytes, mutation: Mutation) -> str:
    """The lines that a mistake changes, before and after."""
    before, after = source.decode().splitlines(), mutation.apply(source).decode().splitlines()
    _, _, _, *lines = difflib.unified_diff(before, after, n=0, lineterm="")
    return "\n".join(f"    {line}" for line in lines)


def mutants(root: Path, files: list[str], sample: int, seed: int, last: int) -> Counter:
    """Make the mistakes, tell of each of them, and count: stage, or None for survivors."""
    verdicts = Counter()
    with tempfile.TemporaryDirectory() as folder:
        project = copy_project(root, Path(folder).resolve() / "copy")
        sources = {file: (project / file).read_bytes() for file in files}
        every = [(file, m) for file in sorted(files) for m in mutations(sources[file])]
        drawn = sorted(random.Random(seed).sample(every, min(sample, len(every))))
        print(f"{len(drawn)} of {len(every)} mistakes, seed {seed}", flush=True)
        for file, mutation in drawn:
            start = time.monotonic()
            stage = caught_by(project, file, mutation, last)
            verdicts[stage] += 1
            verdict = f"caught by {stage}" if stage else "SURVIVED"
            took = time.monotonic() - start
            print(f"{file}:{mutation.line}: {mutation.kind}: {verdict} ({took:.0f} s)", flush=True)
            if not stage:
                print(diff(sources[file], mutation), flush=True)
    return verdicts


def main(arguments: list[str], root: Path = ROOT) -> int:
    """The command line. 0: the run is over, whatever it found; 2: it could not be done."""
    parser = argparse.ArgumentParser("make mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", help="helpers/NAME.py; default: those that changed")
    parser.add_argument("--sample", type=int, default=20, metavar="N", help="how many mistakes")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the random sample")
    parser.add_argument(
        "--stages", type=int, default=2, choices=(1, 2, 3),
        help="1: tests that import the helper; 2: all that reach it; 3: notebooks, too",
    )  # fmt: skip
    chosen = parser.parse_args(arguments)
    try:
        files = chosen.files or changed_helpers(root)
        known = {path.relative_to(root).as_posix() for path in root.glob("helpers/*.py")}
        if unknown := sorted(set(files) - known):
            raise ValueError(f"no helper {', '.join(unknown)}: name files such as helpers/data.py")
        verdicts = mutants(root, files, chosen.sample, chosen.seed, chosen.stages)
    except (RuntimeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    caught = verdicts.total() - verdicts[None]
    parts = ", ".join(f"{verdicts[stage]} by {stage}" for stage in STAGES[: chosen.stages])
    print(f"caught {caught} of {verdicts.total()}: {parts}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
