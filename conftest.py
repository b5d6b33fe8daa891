"""How the suite runs notebooks: what nbval 0.11 leaves open is closed here.

After a cell's time-out nbval marks the later cells as expected failures, and a cell that swallows
the interrupt even passes. A kernel that dies is noticed only when the cell's time is up. Pictures
are never compared, so a page without its pictures passes. Here each of them is a failure that says
what happened, and a dead kernel says so within seconds.
"""

import os
import shutil
import sys
import time
from queue import Empty

import pytest
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell

# Two notebooks run side by side, each with as many threads as there are cores. OpenMP threads that
# wait by spinning then take the cores from those that work: a training step measured five to ten
# times slower than with threads that sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's threads spin whatever one says
if "PYTEST_XDIST_WORKER" in os.environ:  # beside another worker, with a core for each
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")  # text bars; a notebook's own bars are widgets

# As in the Makefile, for whoever starts pytest by hand: kernels get this environment's Python, find
# no backend chosen for other work, and do not drop the assertions that hold a lesson's claims.
os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
os.environ["KERAS_BACKEND"] = "tensorflow"
for name in ("JUPYTER_PATH", "MPLBACKEND", "PYTHONOPTIMIZE", "PYTHONWARNINGS"):
    os.environ.pop(name, None)

POLL_SECONDS = 1.0
_await_reply = RunningKernel.await_reply


def await_reply(self, msg_id, timeout=None):
    """Wait for a cell's reply as nbval does, but look every second whether the kernel lives."""
    end = time.monotonic() + (timeout or float("inf"))
    while True:
        try:
            left = max(0.0, end - time.monotonic())  # a negative time would wait for ever
            return _await_reply(self, msg_id, timeout=min(POLL_SECONDS, left))
        except Empty:
            if not self.is_alive():
                raise RuntimeError("the kernel died while it ran this cell (memory?)") from None
            if time.monotonic() >= end:
                raise


RunningKernel.await_reply = await_reply


def pytest_collection_modifyitems(items):
    """Long pieces first, so that no worker waits long for the other's last one.

    A notebook takes up to two minutes and cannot be shared, a file of unit tests mostly less.
    """
    items.sort(key=lambda item: not isinstance(item, IPyNbCell))


def pytest_runtest_setup(item):
    """A cell after a time-out was not tested, so it fails; nbval would expect it to.

    A unit test that draws from torch's global generator draws the same in each run.
    """
    if not isinstance(item, IPyNbCell):
        if "torch" in sys.modules:  # a run of notebooks alone does without it
            sys.modules["torch"].manual_seed(0)
    elif item.parent.timed_out:
        pytest.fail("not run: an earlier cell of this notebook timed out", pytrace=False)


def pictures(outputs) -> int:
    """How many of a cell's outputs are pictures."""
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A cell fails that timed out, even if it went on, or that drew less than is stored."""
    result = yield
    if not isinstance(item, IPyNbCell):
        return result
    if item.parent.timed_out:
        limit = item.config.option.nbval_cell_timeout
        pytest.fail(f"{item.name} ran longer than {limit:g} seconds", pytrace=False)
    drawn, stored = pictures(item.test_outputs), pictures(item.cell.outputs)
    if drawn < stored:
        pytest.fail(
            f"{item.name} drew {drawn} pictures and its page stores {stored}: a lesson calls "
            "figures.use_style() before it draws, which makes pictures appear",
            pytrace=False,
        )
    return result


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium, driven by Playwright; a test is skipped where one is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="make test-browser installs it")
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))
    path = next(filter(None, found), None)
    if path is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()
