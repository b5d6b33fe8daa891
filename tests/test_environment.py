"""The set-up: one list of packages, one lock, and one clear line when something is missing."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
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


LISTS = PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()


@pytest.mark.parametrize("wanted", [Requirement(text) for part in LISTS for text in part], ids=str)
def test_the_lock_satisfies_pyproject(wanted):
    pins = locked().get(name(wanted.name))
    assert pins, f"requirements.txt lacks {wanted.name}: make lock"
    for pin in pins:
        (exact,) = pin.specifier
        assert exact.operator == "==", f"{pin} is not pinned"
        assert wanted.specifier.contains(exact.version), f"{pin} is not in {wanted}: make lock"


def test_the_lock_holds_pins_only():
    assert "://" not in LOCK and "--" not in re.sub(r"^ *#.*$", "", LOCK, flags=re.MULTILINE)
    assert all(len(pin.specifier) == 1 for pins in locked().values() for pin in pins)


def test_conda_has_the_same_python_and_no_list_of_its_own():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert (conda["name"], conda["channels"]) == ("edge-workbook", ["conda-forge"])
    python, pip, packages = conda["dependencies"]
    version = re.fullmatch(r"python=(\d+\.\d+)", python)  # repo2docker reads nothing else
    assert SpecifierSet(PROJECT["requires-python"]).contains(version[1])
    assert pip == "pip"
    assert packages == {"pip": ["-c requirements.txt", "-e ."]}


def test_binder_has_the_same_python_and_the_locked_packages():
    binder, conda = (
        yaml.safe_load((ROOT / folder / "environment.yml").read_text(encoding="utf-8"))
        for folder in (".binder", ".")
    )
    assert binder["dependencies"] == [conda["dependencies"][0], "pip", "uv"]
    script = ROOT / ".binder" / "postBuild"
    assert os.access(script, os.X_OK), "repo2docker runs it as a program"
    assert "-e . -c requirements.txt" in script.read_text(encoding="utf-8")


def test_setup_allows_the_same_python():
    low, high = re.search(r"not \((.*?)\) <= .* < \((.*?)\)\)", script()).groups()
    same = SpecifierSet(f">={low.replace(', ', '.')},<{high.replace(', ', '.')}")
    assert same == SpecifierSet(PROJECT["requires-python"])


def script() -> str:
    return (ROOT / "setup.sh").read_text(encoding="utf-8")


OF_MAKE = {"MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS", "PYTHON", "NB"}
OF_MAKE |= {"LAB_FLAGS", "TEST_FLAGS", "ZOO_FLAGS", "LOCK_FLAGS", "MUTANTS"}

# --- make ------------------------------------------------------------------------------------


def run(
    folder: Path, *command: str, user: int | None = None, **environment: str
) -> subprocess.CompletedProcess:
    settings = {**os.environ, **environment}
    for unwanted in OF_MAKE - environment.keys():  # set where `make test` runs this very test
        settings.pop(unwanted, None)
    return subprocess.run(
        command, cwd=folder, env=settings, user=user, capture_output=True, text=True, timeout=120
    )


PREPARATIONS = {"environment", "everything", "pages", "proxy", "web"}


def test_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)) - PREPARATIONS
    assert {"lab", "test", "notebooks", "site", "mutants", "zoo", "lint", "lock"} <= targets
    for command in (["make"], ["make", "help"]):
        done = run(ROOT, *command)
        listed = [line.split()[1] for line in done.stdout.splitlines()]
        assert sorted(listed) == sorted(targets)
        assert all(len(line.split()) > 3 for line in done.stdout.splitlines())
    phony = re.search(r"^\.PHONY: (.*\\\n.*)$", makefile, re.MULTILINE).group(1)
    phony = phony.replace("\\", "").split()
    assert set(phony) == targets | PREPARATIONS


def test_lab_opens_the_start_page_with_the_flags_given():
    done = run(ROOT, "make", "-n", "lab", "LAB_FLAGS=--no-browser --port 8899")
    last = done.stdout.splitlines()[-1]
    assert last.startswith(".venv/bin/python tools/lab.py ")
    assert last.endswith("--no-browser --port 8899 work/00_start_here.ipynb")
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
    for tool in ("sh", "cat", "dirname", "cksum", "rm", "mv", "make", "id", "awk", "env"):
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
*) echo "$*" >> .venv/calls; env > .venv/environment ;;
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
INSTALL_ALL = INSTALL.replace("-e .", "-e .[litert-torch,micro,speech]")
INSTALL_PAGES = INSTALL.replace("-e .", "-e .[litert-torch,micro,speech,pages]")


def test_no_network_is_one_line_and_the_next_run_goes_on(made):
    folder, path = made
    line = one_line(run(folder, "make", "test", PATH=path, NO_NETWORK="2"))
    assert line.startswith("setup: could not install the packages: is there a network?")
    assert calls(folder) == [INSTALL_ALL], "pytest is not started"
    assert "noise" in (folder / ".venv" / "setup.log").read_text()
    line = one_line(run(folder, "make", "test", PATH=path, NO_NETWORK="2", NO_UV="1"))
    assert "is there a network? (uv did not arrive" in line
    calls(folder)
    assert run(folder, "make", "test", PATH=path).returncode == 0
    assert calls(folder) == [INSTALL_ALL, "-m pytest"]


def test_optional_packages_are_installed_for_what_uses_them(made):
    folder, path = made
    assert run(folder, "make", "lab", PATH=path).returncode == 0
    assert calls(folder)[0] == INSTALL
    for target, wanted in [("test", [INSTALL_ALL]), ("lab", []), ("notebooks", [])]:
        assert run(folder, "make", target, PATH=path).returncode == 0
        assert calls(folder)[:-1] == wanted
    for target, wanted in [("site", [INSTALL_PAGES]), ("test-browser", []), ("test", [])]:
        assert run(folder, "make", target, PATH=path).returncode == 0
        assert calls(folder)[:-1] == wanted
    run(folder, "make", "test", PATH=path)
    (folder / ".venv" / "complete").unlink()
    run(folder, "make", "lab", PATH=path)
    assert calls(folder)[:-1] == ["-m pytest", INSTALL]


def test_a_complete_environment_is_left_alone(made):
    folder, path = made
    environment = {"PATH": path, "NO_NETWORK": "0"}
    assert run(folder, "make", "test", **environment).returncode == 0
    assert calls(folder) == [INSTALL_ALL, "-m pytest"]
    done = run(folder, "make", "notebooks", "NB=21", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert calls(folder) == ["tools/execute_notebooks.py 21"]
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
        "-m uv pip compile --quiet --universal --all-extras pyproject.toml -o requirements.txt"
    ], "the lock needs uv, not an installation that the old lock may forbid"


INHERITED = {
    "JUPYTER_PREFER_ENV_PATH": "0",
    "JUPYTER_PATH": "/somewhere",
    "KERAS_BACKEND": "torch",
    "MPLBACKEND": "Agg",
    "PYTHONHOME": "/somewhere",
    "PYTHONOPTIMIZE": "1",
    "PYTHONPATH": "/somewhere",
    "PYTHONWARNINGS": "error",
}


@pytest.mark.parametrize("target", ["lab", "test", "notebooks", "zoo"])
def test_settings_made_for_other_work_do_not_reach_the_workbook(made, target):
    folder, path = made
    assert run(folder, "make", target, PATH=path, OMP_NUM_THREADS="1", **INHERITED).returncode == 0
    seen = dict(
        line.split("=", 1)
        for line in (folder / ".venv" / "environment").read_text().splitlines()
        if "=" in line
    )
    assert {key: seen[key] for key in INHERITED if key in seen} == {
        "JUPYTER_PREFER_ENV_PATH": "1",
        "KERAS_BACKEND": "tensorflow",
    }
    assert seen["OMP_NUM_THREADS"] == "1", "what the reader may choose is passed on"


@pytest.mark.parametrize(
    "name", ["it's $5 #1", 'a "quoted" $(id) `id`', "modèle 模型; x & y", "-n"]
)
def test_a_folder_may_have_any_name(made, name):
    folder, path = made
    folder = folder.rename(folder.with_name(name))
    done = run(folder, "make", "lab", PATH=path)
    assert (done.returncode, done.stderr) == (0, "")
    lab = calls(folder)[-1]
    assert lab.startswith("tools/lab.py ")
    assert lab.endswith("work/00_start_here.ipynb")


def test_a_python_whose_path_has_spaces_can_be_chosen(made, tmp_path):
    folder, path = made
    other = tmp_path / "my programs" / "python3"
    other.parent.mkdir()
    Path(path, "python3").rename(other)
    assert run(folder, "make", "test", PATH=path, PYTHON=str(other)).returncode == 0
    assert calls(folder) == [INSTALL_ALL, "-m pytest"]


def test_the_same_folder_by_a_symlink_is_the_same_environment(made):
    folder, path = made
    link = folder.with_name("link")
    link.symlink_to(folder)
    assert run(folder, "make", "test", PATH=path).returncode == 0
    assert calls(folder) == [INSTALL_ALL, "-m pytest"]
    for place in (link, folder):
        # PWD as a shell that went there by the link has it
        assert run(place, "make", "test", PATH=path, PWD=str(place)).returncode == 0
        assert calls(folder) == ["-m pytest"], place


@pytest.fixture
def owned(made):
    """A project of somebody else: (folder, path, the user that may read it but not write)."""
    folder, path = made
    root = folder.parent
    with tempfile.TemporaryDirectory() as shared:  # pytest's own folders are closed to others
        if os.getuid() == 0:
            root = Path(shared)
            root.chmod(0o755)
            shutil.copytree(Path(path), root / "bin", symlinks=True)
            folder, path = Path(shutil.move(folder, root / "a workbook")), str(root / "bin")

        def lock(writable: bool):
            for place in (folder, *folder.rglob("*")):
                if place.is_dir():
                    place.chmod(0o755 if writable else 0o555)

        yield folder, path, 65534 if os.getuid() == 0 else None, lock
        lock(writable=True)


def test_a_complete_environment_of_somebody_else_is_used(owned):
    folder, path, user, lock = owned
    assert run(folder, "make", "lab", PATH=path).returncode == 0
    for notes in ("calls", "environment"):  # what the fake Python writes, also for somebody else
        (folder / ".venv" / notes).chmod(0o666)
    lock(writable=False)
    link = folder.with_name("link")
    link.symlink_to(folder)
    for place in (folder, link):
        done = run(place, "make", "lab", user=user, PATH=path, PWD=str(place))
        assert (done.returncode, done.stderr) == (0, ""), place
    made, *used = (folder / ".venv" / "calls").read_text().splitlines()
    assert made == INSTALL
    assert len(used) == 3 and all(call.startswith("tools/lab.py ") for call in used)


@pytest.mark.parametrize("state", ["no environment", "half an environment", "only .venv is closed"])
def test_an_environment_that_cannot_be_written_is_one_line(owned, state):
    folder, path, user, lock = owned
    if state != "no environment":
        assert run(folder, "make", "lab", PATH=path).returncode == 0
        (folder / ".venv" / "complete").unlink()
    lock(writable=False)
    if state == "only .venv is closed":
        folder.chmod(0o777)
    for target in ("lab", "test", "lock"):
        line = one_line(run(folder, "make", target, user=user, PATH=path))
        assert line.startswith("setup: cannot complete .venv: ")
        assert f"{folder.resolve()} is not writable by you" in line
        assert "ask its owner to run make once, or work in a copy of your own" in line
        assert "network" not in line


def test_a_failed_lab_start_is_not_hidden():
    for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines():
        assert "|| true" not in line and not line.startswith("\t-")


def test_ci_runs_make_test():
    path = ROOT / ".ci" / "run"
    assert os.access(path, os.X_OK)
    text = path.read_text(encoding="utf-8")
    assert "set -euo pipefail" in text
    assert text.rstrip().endswith("make test")


def test_what_is_no_test_lies_in_tools():
    for path in (ROOT / "tests").rglob("*"):
        if "__pycache__" not in path.parts:
            assert path.is_file() and path.name.startswith("test_"), f"{path} belongs in tools/"
    for path in (ROOT / "tools").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^def test_", text, re.MULTILINE), f"{path} belongs in tests/"


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
            *(p for d in ("helpers", "notebooks", "tests", "tools") for p in (ROOT / d).rglob("*")),
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
