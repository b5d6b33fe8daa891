"""Two cores and their memory: what of the process a training run shares with others."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks instead of returning them to the system after every batch.

    A large block that goes back is mapped and zeroed page by page when it is asked for again, which
    costs a training step up to a third of its time. Other C libraries are left as they are.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD: blocks below 1 GiB come from the heap
        mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD: and the heap is not given back


def side_by_side(function: Callable, jobs: Mapping) -> dict:
    """{key: job} -> {key: function(job)}, two jobs at a time, each with one torch thread.

    On two cores this is faster than one job after the other with two threads each: the products of
    a small network leave the second thread little to do. The results are those of one job after the
    other, unless the jobs draw from the same random generator, as new layers and dropout do from
    torch's own.
    """
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return dict(zip(jobs, pool.map(function, jobs.values()), strict=True))
