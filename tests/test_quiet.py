"""Silence that several threads share leaves the process as it was, and loses no error."""

import io
import logging
import os
import random
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.quiet import Shared, captured_stderr, quiet_converter, quiet_quantizer

WAYS = {
    "captured_stderr": captured_stderr,
    "quiet_converter": lambda: quiet_converter("int8"),
    "quiet_quantizer": quiet_quantizer,
}


def process_state() -> tuple:
    """All that the contexts change: where descriptor 2 leads, filters, log level, sys.stderr."""
    where = os.fstat(2)
    return (
        (where.st_dev, where.st_ino),
        list(warnings.filters),
        warnings.showwarning,
        logging.getLogger("absl").level,
        sys.stderr,
    )


@contextmanager
def unchanged():
    before = process_state()
    yield
    assert process_state() == before


def test_what_is_written_is_in_the_log_and_nowhere_else(capfd):
    with captured_stderr() as log:
        os.write(2, b"C++ ")
        print("Python", file=sys.__stderr__, end="")
        sys.__stderr__.flush()
        log.seek(0)
        assert log.read() == b"C++ Python"
    os.write(2, b"free")
    assert capfd.readouterr() == ("", "free")


def test_what_was_written_before_is_not_caught(capfd):
    with open(2, "w", closefd=False) as buffered, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", buffered)
        buffered.write("before ")
        with captured_stderr() as log:
            buffered.write("inside")
            buffered.flush()
            log.seek(0)
            assert log.read() == b"inside"
            buffered.write(" the end of it")
        os.write(2, b"after")
    assert capfd.readouterr().err == "before after"


def test_it_is_restored_after_an_error(capfd):
    for way in WAYS.values():
        with unchanged(), pytest.raises((KeyError, RuntimeError), match="wrong"), way():
            os.write(2, b"caught")
            raise KeyError("wrong")
    os.write(2, b"free")
    assert capfd.readouterr().err == "free"


def test_nested_captures_each_get_their_own(capfd):
    with captured_stderr() as outer:
        os.write(2, b"1")
        with captured_stderr() as inner:
            os.write(2, b"2")
            inner.seek(0)
            assert inner.read() == b"2"
        os.write(2, b"3")
        outer.seek(0)
        assert outer.read() == b"13"
    assert capfd.readouterr().err == ""


@settings(max_examples=60, deadline=None, derandomize=True)
@given(ways=st.lists(st.sampled_from(sorted(WAYS)), min_size=2, max_size=6), data=st.data())
def test_contexts_may_be_left_in_any_order(ways, data):
    stacks = [ExitStack() for _ in ways]
    with unchanged():
        for stack, way in zip(stacks, ways, strict=True):
            stack.enter_context(WAYS[way]())
        for i in data.draw(st.permutations(range(len(ways)))):
            stacks[i].close()


def test_the_newest_open_capture_gets_the_text(capfd):
    stacks = [ExitStack() for _ in range(3)]
    logs = [stack.enter_context(captured_stderr()) for stack in stacks]
    os.write(2, b"a")
    stacks[0].close()  # an older one is left: nothing changes
    os.write(2, b"b")
    stacks[2].close()
    os.write(2, b"c")
    logs[1].seek(0)
    assert logs[1].read() == b"c"
    stacks[1].close()
    os.write(2, b"d")
    assert capfd.readouterr().err == "d"


def test_many_threads_leave_the_process_as_it_was():
    def work(seed: int) -> int:
        rng = random.Random(seed)
        for _ in range(30):
            with ExitStack() as stack:
                for _ in range(rng.randint(1, 3)):
                    stack.enter_context(WAYS[rng.choice(sorted(WAYS))]())
                    os.write(2, b"x")
        return seed

    open_files = len(os.listdir("/dev/fd"))
    with unchanged(), ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(16))) == list(range(16))
    assert len(os.listdir("/dev/fd")) == open_files


def test_no_lock_is_held_while_a_callers_code_runs():
    """One thread waits inside its context for another to go through one of each kind."""
    done = threading.Event()

    def other() -> None:
        for way in WAYS.values():
            with way():
                pass
        done.set()

    for way in WAYS.values():
        done.clear()
        with way():
            threading.Thread(target=other, daemon=True).start()
            assert done.wait(20), "deadlock"


def test_without_sys_stderr_it_still_catches_what_c_writes(monkeypatch):
    for stderr in (None, object(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stderr)
        if isinstance(stderr, io.StringIO):
            stderr.close()
        with captured_stderr() as log:
            os.write(2, b"caught")
            log.seek(0)
            assert log.read() == b"caught"
        assert sys.stderr is stderr


CLOSED = """
import os, sys
assert sys.stderr is None
from contextlib import ExitStack
from helpers.quiet import captured_stderr, quiet_converter, quiet_quantizer
first, second = ExitStack(), ExitStack()
a = first.enter_context(captured_stderr())
b = second.enter_context(captured_stderr())
os.write(2, b"to b")
first.close()
b.seek(0)
assert b.read() == b"to b"
second.close()
with quiet_quantizer(), quiet_converter("int8"):
    os.write(2, b"lost")
with open("a file", "w+") as file:  # it must not become the standard error of the process
    assert file.fileno() != 2
    os.write(2, b"lost")
    assert file.read() == ""
print("fine")
"""


@pytest.mark.parametrize("closed", ["2>&-", "2>&- <&-"])
def test_a_process_without_standard_error(closed, tmp_path):
    project = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, CLOSED],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": project},
    )
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr


def test_the_converter_is_quiet_and_its_error_holds_what_cpp_wrote(capfd):
    with quiet_converter("int8"):
        warnings.warn("not shown", stacklevel=1)
        logging.getLogger("absl").warning("not shown")
        os.write(2, b"not shown")
    assert capfd.readouterr() == ("", "")
    cause = ValueError("Erfinv")
    with pytest.raises(RuntimeError) as caught, quiet_converter("int16x8"):
        os.write(2, "line 3: größer\n".encode())
        raise cause
    assert str(caught.value) == "the conversion to int16x8 failed: Erfinv\nline 3: größer"
    assert caught.value.__cause__ is cause


def test_an_interrupt_is_no_failed_conversion():
    with unchanged(), pytest.raises(KeyboardInterrupt), quiet_converter("int8"):
        raise KeyboardInterrupt


def test_absl_keeps_its_errors_and_its_level():
    absl = logging.getLogger("absl")
    before = absl.level
    absl.setLevel(logging.INFO)
    try:
        with quiet_converter("int8"):
            assert not absl.isEnabledFor(logging.WARNING) and absl.isEnabledFor(logging.ERROR)
        assert absl.level == logging.INFO
    finally:
        absl.setLevel(before)


def test_the_quantizer_prints_nothing_and_lets_other_warnings_through(capfd):
    with warnings.catch_warnings(record=True) as seen, quiet_quantizer():
        warnings.simplefilter("always", DeprecationWarning)
        warnings.warn("set experimental_preserve_all_tensors", stacklevel=1)
        warnings.warn("something else", DeprecationWarning, stacklevel=1)
        print("50 %", file=sys.stderr)
        os.write(2, b"from C++")
    assert [str(w.message) for w in seen] == ["something else"]
    assert capfd.readouterr() == ("", "")


def test_a_shared_change_is_made_once_and_undone_by_the_last():
    events = []

    @contextmanager
    def change():
        events.append("made")
        yield
        events.append("undone")

    shared, stacks = Shared(change), [ExitStack() for _ in range(3)]
    for round_ in (1, 2):
        for stack in stacks:
            stack.enter_context(shared)
        assert events == ["made", "undone"] * (round_ - 1) + ["made"]
        for stack in stacks[1:]:
            stack.close()
            assert events[-1] == "made"
        stacks[0].close()
        assert events == ["made", "undone"] * round_


def test_a_change_that_fails_is_not_undone():
    fails, events = [True, False], []

    @contextmanager
    def change():
        if fails.pop(0):
            raise OSError("no")
        events.append("made")
        yield
        events.append("undone")

    shared = Shared(change)
    with pytest.raises(OSError), shared:
        pass
    with shared:
        assert events == ["made"]
    assert events == ["made", "undone"]
