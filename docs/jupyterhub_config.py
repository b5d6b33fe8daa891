"""A JupyterHub for a class, to try on this machine: what `make hub` starts.

Each student has a folder of their own, with a copy of the lessons that `tools/lab.py` keeps up to
date at every start of their server; environment, helpers and data are the checkout's. Everything
listens on the loopback, all students are one user of the system, and whoever has the password is
let in: for trying. docs/teaching.md says what a class's own server does instead.
"""

import atexit
import os
import resource
import secrets
import shutil
import socket
import sys
import tempfile
from pathlib import Path

from jupyterhub.spawner import SimpleLocalProcessSpawner

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from lab import update, without_news  # noqa: E402

STATE = Path(os.environ.get("HUB_STATE", ROOT / "hub"))  # students' work, and the hub's own records
PORT = int(os.environ.get("HUB_PORT", 8000))
SOCKETS = tempfile.mkdtemp(prefix="hub")  # a socket's path has 107 characters at most
atexit.register(shutil.rmtree, SOCKETS, ignore_errors=True)
PASSWORD = os.environ.get("HUB_PASSWORD") or secrets.token_urlsafe(9)
MEMORY = 4_000_000_000  # bytes of data a process: 2.5 are too few for lesson 33


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class StudentServer(SimpleLocalProcessSpawner):
    """A student's JupyterLab, whose kernels get a MemoryError at the limit instead of being killed
    with the neighbors'."""

    home_dir_template = str(STATE / "homes" / "{username}")

    def make_preexec_fn(self, name):
        go_home = super().make_preexec_fn(name)

        def before_start():
            go_home()
            if sys.platform == "linux":
                resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))

        return before_start


def copy_of_the_lessons(spawner) -> None:
    """What the student has changed stays; the course's new lessons arrive."""
    home = Path(spawner.home_dir)
    for sentence in update(ROOT / "notebooks", home / "work"):
        spawner.log.info("%s: %s", spawner.user.name, sentence)
    spawner.notebook_dir = str(home)


STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
without_news(Path(sys.prefix))
c = get_config()  # noqa: F821

c.JupyterHub.bind_url = f"http://127.0.0.1:{PORT}"
c.JupyterHub.hub_port = free_port()
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{free_port()}"
c.JupyterHub.db_url = f"sqlite:///{STATE / 'hub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(STATE / "cookie_secret")
c.ConfigurableHTTPProxy.pid_file = str(STATE / "proxy.pid")
c.ConfigurableHTTPProxy.should_start = True
c.JupyterHub.cleanup_servers = True

c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = PASSWORD
c.Authenticator.allow_all = True
c.Authenticator.username_pattern = r"[a-z][a-z0-9_-]{0,30}\Z"  # it becomes a folder's name

c.JupyterHub.spawner_class = StudentServer
c.Spawner.pre_spawn_hook = copy_of_the_lessons
c.Spawner.cmd = [sys.executable, "-m", "jupyterhub.singleuser"]
c.Spawner.args = [
    "--MappingKernelManager.cull_idle_timeout=7200",  # after two hours of nothing
    "--MappingKernelManager.kernel_info_timeout=300",  # else a slow start is a lost connection
    "--KernelManager.transport=ipc",  # thirty kernels at once take each other's TCP ports
]
if os.geteuid() == 0:
    c.Spawner.args.append("--allow-root")
c.Spawner.default_url = "/lab/tree/work/00_start_here.ipynb"
c.Spawner.environment = {
    "JUPYTER_PREFER_ENV_PATH": "1",
    "OMP_NUM_THREADS": "1",
    "JUPYTER_RUNTIME_DIR": lambda spawner: f"{SOCKETS}/{spawner.user.name}",
}
c.Spawner.start_timeout = c.Spawner.http_timeout = 300  # thirty at once on two cores

if "HUB_TOKEN" in os.environ:  # for the load test
    c.JupyterHub.services = [{"name": "load-test", "api_token": os.environ["HUB_TOKEN"]}]
    c.JupyterHub.load_roles = [
        {
            "name": "load-test",
            "scopes": ["admin:users", "admin:servers", "access:servers"],
            "services": ["load-test"],
        }
    ]
print(f"hub: http://127.0.0.1:{PORT}  any name, password {PASSWORD}", flush=True)
