"""How the suite runs notebooks: what nbval 0.11 leaves open is closed here.

After a cell's time-out nbval marks the later cells as expected failures, and a cell that swallows
the interrupt even passes. A kernel that dies is noticed only when the cell's time is up. Here each
of them is a failure that says what happened, and a dead kernel says so within seconds.
"""

import os
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
os.environ.setdefault("TQDM_DISABLE", "1")  # text bars; a notebook's own bars are widgets

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


def pytest_runtest_setup(item):
    """A cell after a time-out was not tested, so it fails; nbval would expect it to."""
    if isinstance(item, IPyNbCell) and item.parent.timed_out:
        pytest.fail("not run: an earlier cell of this notebook timed out", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A cell that timed out fails, also when it swallowed the interrupt and went on."""
    result = yield
    if isinstance(item, IPyNbCell) and item.parent.timed_out:
        limit = item.config.option.nbval_cell_timeout
        pytest.fail(f"{item.name} ran longer than {limit:g} seconds", pytrace=False)
    return result
