"""Whatever is handed in as an answer, check prints one line, and nothing odd is called correct."""

import asyncio
import functools
import importlib
import itertools
import re
import unittest.mock
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from helpers import checks
from helpers.exercises import EXERCISES

for part in sorted(Path(checks.__file__).parent.glob("checks_*.py")):
    importlib.import_module(f"helpers.{part.stem}")

pytestmark = pytest.mark.filterwarnings("error")


class Odd(BaseException):
    """What `except Exception` does not catch."""


class Stubborn:
    """An object that answers every question about itself with an error."""

    def fail(self, *_):
        raise Odd("no")

    __array__ = __len__ = __iter__ = __float__ = __eq__ = __bool__ = __getitem__ = fail
    __hash__ = None

    def __repr__(self):
        raise ValueError("no repr")


class Method:
    def answer(self, *_):
        return self


def raising(error):
    def answer(*_):
        raise error

    return answer


def endless(*arguments):
    return endless(*arguments)


def yielding(*arguments):
    yield from arguments


async def waiting(*arguments):
    return arguments


def printing(*arguments):
    print("one line\nand another", arguments)


def without(*arguments):
    if arguments is None:
        return 1


def of_itself():
    inner = []
    inner.append(inner)
    return inner


def first_of(*arguments):
    return arguments[0]


# Things that are no functions, and functions of any arguments that give the same thing each time.
THINGS = {
    "a number": 0.75,
    "text": "0.75",
    "bytes": b"\x00\xff",
    "a list": [1, 2, 3],
    "an array": np.zeros((2, 3)),
    "a class": Method,
    "a type": int,
    "an exception class": ValueError,
    "a module": np,
    "a dict": {"answer": 1},
    "an object": Stubborn(),
    "nothing implemented": NotImplemented,
}
VALUES = {
    "a tuple": (1, 2),
    "an empty tuple": (),
    "three": (1, 2, 3),
    "nested tuples": ((1, 2), (3,)),
    "text": "abc",
    "number in text": "128",
    "two texts": ("656", "128576"),
    "bytes": b"abc",
    "a dict": {"w": 1, "b": 2},
    "a set": {1, 2},
    "ragged": [[1, 2], [3]],
    "ragged arrays": (np.zeros(2), np.zeros((3, 1)), [[1], 2]),
    "objects": np.array([None, "a", {}], object),
    "a record": np.zeros(3, [("a", int), ("b", float)]),
    "dates": np.array(["2026-01-01"], "datetime64[D]"),
    "a date": date(2026, 1, 1),
    "gradient": torch.ones(2, 3, requires_grad=True),
    "gradients": (torch.ones(2, requires_grad=True) * 2, torch.ones((), requires_grad=True)),
    "sparse": torch.eye(3).to_sparse(),
    "meta": torch.ones(2, device="meta"),
    "bfloat16": torch.ones(3, dtype=torch.bfloat16),
    "NaN": float("nan"),
    "NaNs": np.full((2, 3), np.nan),
    "minus infinity": -np.inf,
    "complex": 1 + 2j,
    "complex array": np.ones((2, 3), complex),
    "a huge int": 10**400,
    "a gigantic int": 10**5000,
    "huge ints": [10**400, -(10**400)],
    "64 bits": 2**64,
    "true": True,
    "masks": (np.array([True, False]), np.array([False, True])),
    "a decimal": Decimal("NaN"),
    "empty": np.array([]),
    "empty lists": ([], []),
    "no axis": np.array(3),
    "many axes": np.zeros((1,) * 20),
    "a wrong length": np.zeros(1000),
    "a list in itself": of_itself(),
    "an iterator": itertools.count(),
    "a range": range(3),
    "a function": first_of,
    "a class": Method,
    "an object": Stubborn(),
    "an exception": ValueError("returned, not raised"),
    "a mock": unittest.mock.MagicMock(),
    "dots": (..., ...),
    "nothing twice": (None, None),
    "not implemented": NotImplemented,
    "two lines": "one\ntwo\u2028three",
    "not text": "\ud800",
    "a view": memoryview(b"abc"),
}
FUNCTIONS = {
    "its first argument": first_of,
    "its last argument": lambda *a: a[-1],
    "its arguments": lambda *a: a,
    "locals": lambda *a: locals(),
    "a generator": yielding,
    "a coroutine": waiting,
    "prints": printing,
    "forgets to return": without,
    "for ever deeper": endless,
    "exits": raising(SystemExit(3)),
    "quits": lambda *_: exit(),
    "assertion": raising(AssertionError()),
    "stops": raising(StopIteration("stop")),
    "generator exit": raising(GeneratorExit()),
    "cancelled": raising(asyncio.CancelledError()),
    "memory": raising(MemoryError()),
    "an odd error": raising(Odd("odd")),
    "a group": raising(BaseExceptionGroup("several", [Odd("a"), ValueError("b")])),
    "an error with lines": raising(RuntimeError("one\n\ntwo")),
    "an error without text": raising(KeyError(Stubborn())),
    "no parameters": lambda: 1,
    "one parameter": lambda a: 1,
    "nine parameters": lambda a, b, c, d, e, f, g, h, i: 1,
    "keywords only": lambda *, x: 1,
    "a partial": functools.partial(first_of, 7),
    "a method": Method().answer,
    "an object to call": unittest.mock.Mock(return_value=None),
    "a ufunc": np.isnan,
    "a builtin": print,
    "length": len,
    "a module of torch": torch.nn.Linear(2, 2),
    "zeros in place": lambda *a: [v.fill(0) for v in a if isinstance(v, np.ndarray)],
    "deletes itself": lambda *a: a[0].clear(),
    "half a stub": lambda x, *_: None if x is None else ...,
}
ODD = {f"thing: {name}": thing for name, thing in THINGS.items()}
ODD |= {f"returns {name}": lambda *_, value=value: value for name, value in VALUES.items()}
ODD |= FUNCTIONS

# What a right result becomes in careless hands.
SPOILED = {
    "in a tuple": lambda r: (r,),
    "in a list": lambda r: [r],
    "as text": str,
    "twice": lambda r: (r, r),
    "with a name": lambda r: {"result": r},
    "complex": lambda r: tuple(v + 0j for v in r) if isinstance(r, tuple) else r + 0j,
    "as objects": lambda r: np.array([r, None], object),
    "one axis more": lambda r: tuple(np.array([v]) for v in r) if isinstance(r, tuple) else [[r]],
    "not a number": lambda r: tuple(v * np.nan for v in r) if isinstance(r, tuple) else r * np.nan,
    "with one more": lambda r: (*r, 0) if isinstance(r, tuple) else np.append(r, 0),
    "without the last": lambda r: r[:-1] if np.ndim(r) or isinstance(r, tuple) else (),
    "negative": lambda r: tuple(-1 - v for v in r) if isinstance(r, tuple) else -1 - r,
    "as a function": lambda r: lambda: r,
}


def line(number, answer, capsys):
    checks.check(number, answer)
    out, err = capsys.readouterr()
    pattern = rf"{re.escape(number)} (correct|not yet: .+|not attempted: .+)\n"
    assert re.fullmatch(pattern, out), out
    assert err == ""
    return out


@pytest.mark.parametrize("number", EXERCISES)
def test_an_odd_answer_gets_one_line_and_is_not_correct(number, capsys):
    called_correct = [kind for kind in ODD if "correct\n" in line(number, ODD[kind], capsys)]
    assert called_correct == []


@pytest.mark.parametrize("kind", SPOILED)
@pytest.mark.parametrize("number", EXERCISES)
def test_a_right_result_in_a_wrong_form_is_not_correct(number, kind, capsys):
    def answer(*arguments):
        return SPOILED[kind](EXERCISES[number].solution(*arguments))

    assert line(number, answer, capsys).startswith(f"{number} not yet: ")


def test_the_odd_answers_are_many():
    assert len(ODD) >= 40 and len(EXERCISES) >= 25


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.fractions()
    | st.decimals()
    | st.just(...)
)
DTYPES = hnp.scalar_dtypes() | hnp.unicode_string_dtypes(max_len=3)
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
RESULTS = st.recursive(
    SCALARS | ARRAYS | ARRAYS.filter(lambda a: a.dtype == np.float32).map(torch.tensor),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.tuples(inner, inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


FUZZ = settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(value=RESULTS)
def test_any_returned_value_gets_one_line(value, capsys):
    for number in EXERCISES:
        assert not line(number, lambda *_: value, capsys).endswith(" correct\n")


@FUZZ
@given(value=RESULTS)
def test_anything_handed_in_gets_one_line(value, capsys):
    for number in EXERCISES:
        assert not line(number, value, capsys).endswith(" correct\n")
