"""A child process that raises, dies or hangs says how it ended, and ends nothing else."""

import os

import pytest

from helpers.isolated import attempt, how


def returns():
    return 6 * 7


def says_nothing():
    print("what it prints is dropped")


def raises():
    raise KeyError("a name\nof two lines")


def dies():
    import os
    import signal

    os.write(2, b"its last words\n\n")
    os.kill(os.getpid(), signal.SIGKILL)


def leaves():
    import os

    os._exit(3)


def hangs():
    import time

    time.sleep(60)


def uses_the_project():
    from helpers.qparams import QParams

    return QParams.__name__


def test_each_function_is_told_in_order():
    found = attempt(returns, says_nothing, raises, uses_the_project)
    assert found[:2] == [("returned", "42"), ("returned", "")]
    assert found[2] == ("KeyError", repr("a name\nof two lines"))
    assert found[3:] == [("returned", "QParams")]


def test_a_child_that_dies_keeps_what_came_before_it():
    found = attempt(returns, dies, returns)
    assert found == [("returned", "42"), ("SIGKILL", "its last words"), ("not run", "")]


def test_an_exit_and_a_time_out_have_names():
    assert attempt(leaves) == [("exit 3", "")]
    assert attempt(returns, hangs, timeout=5) == [("returned", "42"), ("time-out", "")]
    assert (how(-6), how(-11), how(3), how(None)) == ("SIGABRT", "SIGSEGV", "exit 3", "time-out")


def test_functions_inside_a_function_are_run():
    def inner():
        return "inner"

    assert attempt(inner) == [("returned", "inner")]


def twice(x):
    return 2 * x


def prepares():
    global seven
    seven = 7


def uses_both():
    return twice(seven)


def test_tools_and_what_earlier_functions_made_are_there():
    assert attempt(prepares, uses_both, tools=(twice,)) == [("returned", ""), ("returned", "14")]
    assert attempt(uses_both)[0].ended == "NameError"


def test_nothing_of_the_caller_reaches_the_child():
    def reads_a_global():
        return os.sep

    assert attempt(reads_a_global)[0].ended == "NameError"


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match="functions is 'text': pass a function"):
        attempt("text")
    with pytest.raises((OSError, TypeError)):
        attempt(len)
    assert attempt() == []
