"""The set-up: one list of packages, one lock, and one clear line when something is missing."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements.txt").read_text(encoding="utf-8")
INDEX = re.compile(r"pypi\.(?:org|python)|pythonhosted\.org|download\.pytorch\.org|index-url")
MACHINE_PATH = re.compile(r"(?<![\w.~$}])/(?:root|home|work|Users|mnt)/[\w.-]+")


def name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


def locked() -> dict[str, list[Requirement]]:
    """The lock's lines by package: a package may have one line for each system."""
    found: dict[str, list[Requirement]] = {}
    for line in LOCK.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            requirement = Requirement(line)
            found.setdefault(name(requirement.name), []).append(requirement)
    return found


@pytest.mark.parametrize("wanted", [Requirement(text) for text in PROJECT["dependencies"]], ids=str)
def test_the_lock_satisfies_pyproject(wanted):
    pins = locked().get(name(wanted.name))
    assert pins, f"requirements.txt lacks {wanted.name}: make lock"
    for pin in pins:
        (exact,) = pin.specifier
        assert exact.operator == "==", f"{pin} is not pinned"
        assert wanted.specifier.contains(exact.version), f"{pin} is not in {wanted}: make lock"


def test_the_lock_holds_pins_only():
    assert "://" not in LOCK and "--" not in re.sub(r"^#.*$", "", LOCK, flags=re.MULTILINE)
    assert all(len(pin.specifier) == 1 for pins in locked().values() for pin in pins)


def test_conda_has_the_same_python_and_no_list_of_its_own():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert (conda["name"], conda["channels"]) == ("edge-workbook", ["conda-forge"])
    python, pip, packages = conda["dependencies"]
    assert SpecifierSet(python.removeprefix("python")) == SpecifierSet(PROJECT["requires-python"])
    assert pip == "pip"
    assert packages == {"pip": ["-c requirements.txt", "-e ."]}


def test_setup_allows_the_same_python():
    low, high = re.search(r"not \((.*?)\) <= .* < \((.*?)\)\)", script()).groups()
    same = SpecifierSet(f">={low.replace(', ', '.')},<{high.replace(', ', '.')}")
    assert same == SpecifierSet(PROJECT["requires-python"])


def script() -> str:
    return (ROOT / "setup.sh").read_text(encoding="utf-8")


OF_MAKE = {"MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS", "PYTHON", "NB"}
OF_MAKE |= {"LAB_FLAGS", "TEST_FLAGS", "ZOO_FLAGS", "LOCK_FLAGS"}

# --- make ------------------------------------------------------------------------------------


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess:
    settings = {**os.environ, **environment}
    for unwanted in OF_MAKE - environment.keys():  # set where `make test` runs this very test
        settings.pop(unwanted, None)
    return subprocess.run(
        command, cwd=folder, env=settings, capture_output=True, text=True, timeout=120
    )


def test_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE)) - {"environment"}
    assert {"lab", "test", "notebooks", "zoo", "lint", "lock", "help"} <= targets
    for command in (["make"], ["make", "help"]):
        done = run(ROOT, *command)
        listed = [line.split()[1] for line in done.stdout.splitlines()]
        assert sorted(listed) == sorted(targets)
        assert all(len(line.split()) > 3 for line in done.stdout.splitlines())
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE).group(1).split()
    assert set(phony) == targets | {"environment"}


def test_lab_opens_the_start_page_with_the_flags_given():
    done = run(ROOT, "make", "-n", "lab", "LAB_FLAGS=--no-browser --port 8899")
    last = done.stdout.splitlines()[-1]
    assert last.startswith(".venv/bin/python -m jupyterlab ")
    assert last.endswith("--no-browser --port 8899 notebooks/00_start_here.ipynb")
    assert ("--allow-root" in last) == (os.getuid() == 0)


@pytest.fixture
def project(tmp_path):
    """The files that set-up reads, in a folder whose name has a space, without an environment."""
    folder = tmp_path / "a workbook"
    folder.mkdir()
    for file in ("Makefile", "setup.sh", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / file, folder)
    (folder / "helpers").mkdir()
    (folder / "helpers" / "__init__.py").touch()
    return folder


@pytest.fixture
def fake(tmp_path):
    """Make a command that is found before the real ones."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("sh", "cat", "dirname", "cksum", "rm", "mv", "make", "id", "awk"):
        (folder / tool).symlink_to(shutil.which(tool))

    def make(command: str, body: str) -> Path:
        path = folder / command
        path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        path.chmod(0o755)
        return folder

    make.folder = folder
    return make


def python_of(version: str, *, venv: bool = True) -> str:
    """A shell script that answers as this Python would: its version, and whether it has venv."""
    major, minor = version.split(".")
    return f"""case "$2" in
*print*) echo {version} ;;
*version_info*) [ {major} -eq 3 ] && [ {minor} -ge 11 ] && [ {minor} -lt 14 ] ;;
*ensurepip*) {"true" if venv else "false"} ;;
*) echo "fake python: $*" >&2; exit 7 ;;
esac"""


def one_line(done: subprocess.CompletedProcess) -> str:
    """The only line of complaint, apart from make's own."""
    assert done.returncode != 0, done.stdout
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize("version", ["3.10", "3.14"])
@pytest.mark.parametrize("target", ["lab", "test", "notebooks", "zoo", "lint", "lock"])
def test_a_python_that_does_not_fit(project, fake, target, version):
    path = str(fake("python3", python_of(version)))
    line = one_line(run(project, "make", target, PATH=path))
    assert line.startswith("setup: Python 3.11, 3.12 or 3.13 is needed, but python3 is " + version)
    assert "PYTHON=" in line
    assert not (project / ".venv").exists()


def test_no_python(project, fake):
    line = one_line(run(project, "make", "test", PATH=str(fake.folder)))
    assert line.startswith("setup: no Python found")


def test_no_venv_module(project, fake):
    path = str(fake("python3", python_of("3.12", venv=False)))
    line = one_line(run(project, "make", "test", PATH=path))
    assert "apt install python3.12-venv" in line


def test_the_first_python_that_fits_is_taken(project, fake):
    fake("python3", python_of("3.10"))
    fake("python3.13", python_of("3.13", venv=False))
    path = str(fake("python3.12", python_of("3.12")))
    done = run(project, "make", "test", PATH=path)
    assert "making .venv with python3.12" in done.stdout
    done = run(project, "make", "test", PATH=path, PYTHON="python3")
    assert "python3 is 3.10" in one_line(done), "PYTHON=... overrides the search"


FAKE_VENV = """mkdir -p .venv/bin
cat > .venv/bin/python <<'END'
#!/bin/sh
case "$*" in
-c*) exit 0 ;;
*pip\\ --version*|*uv\\ --version*) exit ${NO_UV:-0} ;;
*pip\\ install*) echo "$*" >> .venv/calls; echo noise; echo noise >&2; exit ${NO_NETWORK:-0} ;;
*) echo "$*" >> .venv/calls ;;
esac
END
chmod +x .venv/bin/python"""


@pytest.fixture
def made(project, fake):
    """A project whose Python makes an environment that only writes down what it is asked."""
    fake(
        "python3",
        python_of("3.12").replace('*) echo "fake', f'*venv*) {FAKE_VENV} ;;\n*) echo "fake'),
    )
    for tool in ("mkdir", "chmod"):
        (fake.folder / tool).symlink_to(shutil.which(tool))
    # `python3 -m venv --clear .venv`: the fake sees `venv` as its second word
    return project, str(fake.folder)


def calls(folder: Path) -> list[str]:
    path = folder / ".venv" / "calls"
    found = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


INSTALL = "-m uv pip install --compile-bytecode --python .venv/bin/python -e . -c requirements.txt"


def test_no_network_is_one_line_and_the_next_run_goes_on(made):
    folder, path = made
    line = one_line(run(folder, "make", "test", PATH=path, NO_NETWORK="2"))
    assert line.startswith("setup: could not install the packages: is there a network?")
    assert calls(folder) == [INSTALL], "pytest is not started"
    assert "noise" in (folder / ".venv" / "setup.log").read_text()
    line = one_line(run(folder, "make", "test", PATH=path, NO_NETWORK="2", NO_UV="1"))
    assert "is there a network? (uv did not arrive" in line
    calls(folder)
    assert run(folder, "make", "test", PATH=path).returncode == 0
    assert calls(folder) == [INSTALL, "-m pytest"]


def test_a_complete_environment_is_left_alone(made):
    folder, path = made
    environment = {"PATH": path, "NO_NETWORK": "0"}
    assert run(folder, "make", "test", **environment).returncode == 0
    assert calls(folder) == [INSTALL, "-m pytest"]
    done = run(folder, "make", "notebooks", "NB=21", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert calls(folder) == ["tests/execute_notebooks.py 21"]
    with (folder / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    run(folder, "make", "zoo", **environment)
    assert calls(folder) == [INSTALL, "-m helpers.zoo"], "a changed list is installed"
    moved = folder.rename(folder.with_name("moved"))
    run(moved, "make", "zoo", **environment)
    assert calls(moved) == [INSTALL, "-m helpers.zoo"], "a moved folder is installed again"
    (moved / ".venv" / "complete").unlink()
    run(moved, "make", "zoo", **environment)
    assert calls(moved) == [INSTALL, "-m helpers.zoo"], "half an environment is not complete"
    run(moved, "make", "lock", **environment)
    assert calls(moved) == [
        "-m uv pip compile --quiet --universal pyproject.toml -o requirements.txt"
    ], "the lock needs uv, not an installation that the old lock may forbid"


def test_a_failed_lab_start_is_not_hidden():
    for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines():
        assert "|| true" not in line and not line.startswith("\t-")


def test_ci_runs_make_test():
    path = ROOT / ".ci" / "run"
    assert os.access(path, os.X_OK)
    text = path.read_text(encoding="utf-8")
    assert "set -euo pipefail" in text
    assert text.rstrip().endswith("make test")


# --- nothing of one machine in the files -----------------------------------------------------


def own_files() -> list[Path]:
    """What git holds or would hold; without git, the folders that are the project."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60)
        names = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        names = [
            *ROOT.glob("*"),
            *(p for d in ("helpers", "notebooks", "tests") for p in (ROOT / d).rglob("*")),
        ]
    return [path for path in names if path.is_file()]


def test_no_machine_path_and_no_index_address():
    found = []
    for path in own_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if path == Path(__file__).resolve():
            continue
        found += [f"{path.relative_to(ROOT)}: {m.group()}" for m in MACHINE_PATH.finditer(text)]
        found += [f"{path.relative_to(ROOT)}: {m.group()}" for m in INDEX.finditer(text)]
    assert not found, "\n".join(found)


def test_the_running_environment_is_the_one_described():
    version = Version(".".join(map(str, sys.version_info[:3])))
    assert SpecifierSet(PROJECT["requires-python"]).contains(version)
