"""What of the process two trainings share: its cores, its memory, its random generators."""

from __future__ import annotations

import ctypes
import functools
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

_generator = threading.RLock()  # whoever draws from torch's global generator holds it
_holder = threading.local()  # .depth: how many `seeded` this thread is inside of


@contextmanager
def seeded(seed: int) -> Iterator[Callable[[], None]]:
    """Torch's global generator starts from `seed`, and is given back as it was before.

    The process has one such generator, from which new layers and dropout draw. So only one thread
    at a time is inside; the others wait. In one thread these blocks may be nested.
    Yields a function that gives the generator back at once, if nothing was drawn so far and other
    threads may be waiting for it: the main thread keeps it, since a later step may draw.

    >>> with seeded(0):
    ...     torch.rand(2)
    tensor([0.4963, 0.7682])
    """
    with ExitStack() as held:
        held.enter_context(_generator)
        held.enter_context(torch.random.fork_rng(devices=[]))
        _holder.depth = getattr(_holder, "depth", 0) + 1
        held.callback(lambda: setattr(_holder, "depth", _holder.depth - 1))
        torch.manual_seed(seed)
        undrawn = torch.get_rng_state()

        def give_back_if_unused() -> None:
            beside = threading.current_thread() is not threading.main_thread()
            if beside and torch.equal(undrawn, torch.get_rng_state()):
                held.close()

        yield give_back_if_unused


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep freed blocks instead of returning them to the system after every batch.

    A large block that goes back is mapped and zeroed page by page when it is asked for again, which
    costs a training step up to a third of its time. Other C libraries are left as they are. The
    setting is made once and lasts as long as the process.
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
    other. Gradients are on or off as they are for the caller, whose number of threads stays.
    Inside `seeded` the jobs do run one after the other, since the generator is one thread's.

    If a job raises, that error comes back with the job's key in a note; jobs that run are waited
    for, and jobs that do not run yet never will. Raises RuntimeError if a job moved the global
    generator of torch or NumPy outside `seeded`: what it drew depends on what else was running.

    >>> side_by_side(lambda x: x**2, {"a": 3, "b": 4})
    {'a': 9, 'b': 16}
    """
    if not isinstance(jobs, Mapping) or not callable(function):
        raise TypeError(
            f"function is a {type(function).__name__}, jobs a {type(jobs).__name__}: "
            "pass a function of one job, and the jobs as {key: job}"
        )
    threads, gradients = torch.get_num_threads(), torch.is_grad_enabled()
    alone = getattr(_holder, "depth", 0) > 0
    before = None if alone else _states()

    def run(key: object) -> object:
        torch.set_num_threads(1)
        torch.set_grad_enabled(gradients)
        try:
            return function(jobs[key])
        except BaseException as error:
            error.add_note(f"side_by_side: in the job {key!r}")
            raise

    try:
        found = {key: run(key) for key in jobs} if alone else _two_at_a_time(run, jobs)
    finally:
        torch.set_num_threads(threads)  # new threads take over what was set last
    if not alone and _states() != before:
        raise RuntimeError(
            "a job drew from the global generator of torch or NumPy, which all threads share: draw "
            "from torch.Generator().manual_seed(seed) or np.random.default_rng(seed), or inside "
            "`with helpers.machine.seeded(seed):`"
        )
    return found


def _two_at_a_time(run: Callable, keys: Mapping) -> dict:
    """{key: run(key)} from a pool of two threads, or the error of the first key that has one."""
    with ThreadPoolExecutor(2) as pool:
        found = {key: pool.submit(run, key) for key in keys}
        try:
            wait(found.values(), return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(cancel_futures=True)
        return {key: future.result() for key, future in found.items()}


def _states() -> tuple:
    """The states of the two global generators, while nobody is inside `seeded`."""
    with _generator:
        _, keys, *rest = np.random.get_state()
        return torch.get_rng_state().numpy().tobytes(), keys.tobytes(), *rest
