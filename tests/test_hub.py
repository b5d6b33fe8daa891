"""A class on the hub of `make hub`: nobody is refused, nobody waits too long, no work is lost.

Needs JupyterHub and its proxy, which `make test-hub` installs, the latter with npm.
"""

import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import nbformat
import pytest
import requests
import websocket

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "node" / "node_modules" / ".bin"
PATH = os.pathsep.join([str(Path(sys.executable).parent), str(BIN), os.environ["PATH"]])
WORKERS, IDLE = 15, 30  # students who run 00's first cells, and who have an empty kernel
WAIT = 300  # seconds until a student's server stands, and until their cells have run

MISSING = [name for name in ("jupyterhub", "nbgitpuller") if not importlib.util.find_spec(name)]
if not shutil.which("configurable-http-proxy", path=PATH):
    MISSING.append("configurable-http-proxy")
pytestmark = [
    pytest.mark.extra,
    pytest.mark.skipif(
        bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (make test-hub, and npm)"
    ),
]


def free_memory() -> float:
    """GB that this machine has left."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 1e6


def enough_memory(needed: float) -> None:
    if not Path("/proc/meminfo").exists() or free_memory() < needed:
        pytest.skip(f"needs {needed} GB of free memory, as Linux counts it")


class Hub:
    """A running hub, spoken to as its administrator."""

    def __init__(self, port: int, token: str):
        self.address, self.headers = f"127.0.0.1:{port}", {"Authorization": f"token {token}"}

    def ask(self, method: str, path: str, **options):
        url = f"http://{self.address}/{path}"
        return requests.request(method, url, headers=self.headers, timeout=60, **options)

    def start(self, name: str) -> float:
        """Start a student's server; the seconds until it stands."""
        began = time.monotonic()
        answer = self.ask("POST", f"hub/api/users/{name}")
        assert answer.status_code in (201, 409), f"{name} is not let in: {answer.text}"
        answer = self.ask("POST", f"hub/api/users/{name}/server")
        assert answer.status_code in (201, 202), f"{name} was refused: {answer.text}"
        while time.monotonic() - began < WAIT:
            if self.ask("GET", f"hub/api/users/{name}").json()["servers"].get("", {}).get("ready"):
                return time.monotonic() - began
            time.sleep(1)
        raise AssertionError(f"{name}'s server does not stand after {WAIT} s")

    def stop(self, name: str) -> None:
        self.ask("DELETE", f"hub/api/users/{name}/server")
        for _ in range(60):
            if not self.ask("GET", f"hub/api/users/{name}").json()["servers"]:
                return
            time.sleep(0.5)
        raise AssertionError(f"{name}'s server does not stop")

    def run(self, name: str, cells: list[str]) -> list[dict]:
        """The replies of a new kernel of a student to these cells."""
        answer = self.ask("POST", f"user/{name}/api/kernels")
        assert answer.status_code == 201, f"{name} got no kernel: {answer.text}"
        url = f"ws://{self.address}/user/{name}/api/kernels/{answer.json()['id']}/channels"
        header = [f"{key}: {value}" for key, value in self.headers.items()]
        channel = websocket.create_connection(url, header=header, timeout=WAIT)
        try:
            wait_for_kernel(channel)
            return [execute(channel, cell) for cell in cells]
        finally:
            channel.close()


def request(kind: str, **content) -> dict:
    """A message to a kernel."""
    header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "username": "", "version": "5.3"}
    header |= {"session": uuid.uuid4().hex, "date": "2020-01-01T00:00:00Z"}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
    return message | {"channel": "shell"}


def reply(channel, message: dict) -> dict:
    """The kernel's reply to a message, which is sent."""
    channel.send(json.dumps(message))
    while True:
        found = json.loads(channel.recv())
        if found["msg_type"] == message["header"]["msg_type"].replace("request", "reply"):
            if found["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                return found["content"]


def wait_for_kernel(channel) -> None:
    """As JupyterLab does: what is sent before a kernel listens may be lost, so ask again."""
    channel.settimeout(5)
    for _ in range(WAIT // 5):
        try:
            reply(channel, request("kernel_info_request"))
            break
        except websocket.WebSocketTimeoutException:
            continue
    channel.settimeout(WAIT)


def execute(channel, source: str) -> dict:
    """The reply to one cell."""
    return reply(channel, request("execute_request", code=source, stop_on_error=False))


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    token = secrets.token_hex(16)
    environment = {**os.environ, "PATH": PATH, "HUB_TOKEN": token, "HUB_PORT": str(port)}
    environment["HUB_STATE"] = str(folder / "state")
    command = [sys.executable, "-m", "jupyterhub", "-f", str(ROOT / "docs/jupyterhub_config.py")]
    with open(folder / "log.txt", "w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    found = Hub(port, token)
    try:
        for _ in range(120):
            try:
                found.ask("GET", "hub/api")
                break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail((folder / "log.txt").read_text()[-2000:])
        yield found
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def students(hub):
    """Starts so many students at once: {name: seconds until their server stood}."""
    started = []

    def start(count: int) -> dict[str, float]:
        names = [f"s{i}" for i in range(count)]
        started.extend(names)
        with ThreadPoolExecutor(count) as pool:
            return dict(zip(names, pool.map(hub.start, names), strict=True))

    yield start
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hub.stop, started))


def own_memory(name: str) -> list[float]:
    """MB that a student's processes have to themselves: server first, then kernels."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"JUPYTERHUB_USER={name}\0".encode() in (process / "environ").read_bytes():
                rows = (process / "smaps_rollup").read_text().splitlines()
                kb = sum(int(row.split()[1]) for row in rows if row.startswith("Private_"))
                found.append((int(process.name), kb / 1000))
        except OSError:
            continue
    return [mb for _, mb in sorted(found)]


def test_fifteen_run_the_first_cells_of_00(hub, students):
    enough_memory(WORKERS + 1)
    lesson = nbformat.read(ROOT / "notebooks" / "00_start_here.ipynb", as_version=4)
    cells = [cell.source for cell in lesson.cells if cell.cell_type == "code"][:6]
    assert any("models.load" in cell for cell in cells)
    before, waited, began = free_memory(), students(WORKERS), time.monotonic()
    with ThreadPoolExecutor(WORKERS) as pool:
        replies = dict(zip(waited, pool.map(lambda n: hub.run(n, cells), waited), strict=True))
    took = time.monotonic() - began
    wrong = {n: r for n, rs in replies.items() for r in rs if r["status"] != "ok"}
    assert not wrong
    own = sorted(sum(own_memory(name)) for name in waited)
    print(
        f"{WORKERS} students: servers after {min(waited.values()):.0f} to "
        f"{max(waited.values()):.0f} s, cells {took:.0f} s more, "
        f"{own[len(own) // 2]:.0f} MB each (median), {before - free_memory():.1f} GB together"
    )
    assert took < WAIT


def test_thirty_have_a_kernel(hub, students):
    enough_memory(8)
    before, waited, began = free_memory(), students(IDLE), time.monotonic()
    with ThreadPoolExecutor(IDLE) as pool:
        replies = list(pool.map(lambda name: hub.run(name, ["1 + 1"]), waited))
    took = time.monotonic() - began
    assert all(reply["status"] == "ok" for (reply,) in replies)
    print(
        f"{IDLE} students: servers after {min(waited.values()):.0f} to "
        f"{max(waited.values()):.0f} s, kernels {took:.0f} s more, "
        f"{before - free_memory():.1f} GB together"
    )
    assert took < WAIT


def test_a_kernel_that_wants_too_much_says_so_and_lives(hub, students):
    (name,) = students(1)
    cells = ["import numpy as np; x = np.ones(600_000_000)", "1 + 1"]
    wanted, after = hub.run(name, cells)
    assert wanted["status"] == "error" and "Unable to allocate" in wanted["evalue"]
    assert after["status"] == "ok"


def test_what_a_student_wrote_survives_their_server(hub, students):
    (name,) = students(1)
    path = f"user/{name}/api/contents/work/21_quantization_formulas.ipynb"
    model = hub.ask("GET", path).json()
    model["content"]["cells"][0]["source"] = "# mine"
    assert hub.ask("PUT", path, json=model).status_code == 200
    hub.stop(name)
    hub.start(name)
    assert hub.ask("GET", path).json()["content"]["cells"][0]["source"] == "# mine"


@pytest.mark.parametrize("name", ["..", "a/../b", "A b", "-x", "x" * 40, ".ssh"])
def test_a_name_that_is_no_folder_is_refused(hub, name):
    answer = hub.ask("POST", f"hub/api/users/{quote(name, safe='')}")
    assert answer.status_code >= 400
    assert name not in {user["name"] for user in hub.ask("GET", "hub/api/users").json()}


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_nbgitpuller_merges_a_corrected_lesson_into_a_students_copy(tmp_path):
    from nbgitpuller.pull import GitPuller

    course, copy = tmp_path / "course", tmp_path / "copy"
    course.mkdir()
    git(course, "init", "-q", "-b", "main")
    cells = [nbformat.v4.new_markdown_cell(f"text {i}", id=f"c{i}") for i in range(9)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    path = course / "21.ipynb"
    nbformat.write(notebook, path)
    git(course, "add", ".")
    git(course, "commit", "-qm", "first")

    def pull() -> None:
        list(GitPuller(str(course), str(copy), branch="main").pull())

    pull()
    theirs = nbformat.read(copy / "21.ipynb", as_version=4)
    theirs.cells[8].source = "the student's answer"
    nbformat.write(theirs, copy / "21.ipynb")
    notebook.cells[0].source = "the course's correction"
    nbformat.write(notebook, path)
    git(course, "commit", "-qam", "second")
    pull()
    found = [cell.source for cell in nbformat.read(copy / "21.ipynb", as_version=4).cells]
    assert (found[0], found[8]) == ("the course's correction", "the student's answer")
