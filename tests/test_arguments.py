"""Arguments: what passes, as what, and what an error says."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.arguments import function, is_bool, number, one_of, pixels, whole

KINDS = (int, np.int8, np.uint8, np.int64, np.uint64, np.array, torch.tensor)
NOT_WHOLE = (1.0, 1.5, "1", b"1", None, [1], True, np.True_, torch.tensor(True), np.float32(1), 1j)


@given(st.integers(0, 100), st.sampled_from(KINDS))
@settings(deadline=None)
def test_a_whole_number_of_any_type_comes_back_as_int(value, kind):
    found = whole("n", kind(value), 0, 100)
    assert found == value and type(found) is int


@given(st.integers(-50, 50), st.integers(-20, 0), st.integers(0, 20))
@settings(deadline=None)
def test_a_whole_number_is_between_its_limits(value, least, most):
    if least <= value <= most:
        assert whole("n", value, least, most) == value
    else:
        with pytest.raises(ValueError, match=f"n is {value}: choose .*, {least} to {most}$"):
            whole("n", value, least, most)


def test_a_whole_number_counts_from_one_without_end():
    assert whole("n", 1) == 1 and whole("n", 10**30) == 10**30
    with pytest.raises(ValueError, match="n is 0: choose a whole number, at least 1$"):
        whole("n", 0)


@pytest.mark.parametrize("given", NOT_WHOLE, ids=repr)
def test_what_is_not_whole_is_a_type_error(given):
    with pytest.raises(TypeError, match="n is .*: pass a whole number, 0 to 5$"):
        whole("n", given, 0, 5)


@given(st.floats(1e-30, 1e30), st.sampled_from((float, np.float64, np.array, torch.tensor)))
@settings(deadline=None)
def test_a_number_of_any_type_comes_back_as_float(value, kind):
    found = number("lr", kind(value))
    assert type(found) is float and found == pytest.approx(value, rel=1e-6)


def test_zero_is_a_number_where_it_may_be():
    assert number("decay", 0, zero=True) == 0.0 and number("lr", 1) == 1.0
    with pytest.raises(ValueError, match="lr is 0: choose a finite number above 0$"):
        number("lr", 0)


@pytest.mark.parametrize(
    "given", [-1, -1e-9, float("nan"), float("inf"), -np.inf, np.float32("nan")]
)
@pytest.mark.parametrize("zero", [True, False])
def test_negative_and_infinite_numbers_are_value_errors(given, zero):
    with pytest.raises(
        ValueError, match="decay is .*: choose a finite number (from 0 on|above 0)$"
    ):
        number("decay", given, zero=zero)


@pytest.mark.parametrize("given", ["0.1", b"1", None, [0.1, 0.2], True, np.False_, 1j, 10**400, {}])
def test_what_is_no_number_is_a_type_error(given):
    with pytest.raises(TypeError, match="lr is .*: pass a finite number above 0$"):
        number("lr", given)
    with pytest.raises(TypeError, match="from 0 on$"):
        number("lr", given, zero=True)


def test_booleans_are_known_in_every_library():
    assert all(map(is_bool, (True, False, np.True_, torch.tensor(False), np.array(True))))
    assert not any(map(is_bool, (1, 0, 1.0, np.int64(1), torch.tensor(1), None, "True")))


def test_one_of_takes_a_name_from_any_collection():
    for allowed in (("a", "b"), ["a", "b"], {"a": 1, "b": 2}, iter("ab")):
        assert one_of("kind", "b", allowed) is None


@pytest.mark.parametrize("given", ["c", "", "ab", "A", None, 1, ["a"], b"a", np.array(["a", "b"])])
def test_one_of_lists_the_names(given):
    with pytest.raises(ValueError, match=r"unknown kind .*: choose one of a, b$"):
        one_of("kind", given, iter(("a", "b")))


def test_a_function_is_what_can_be_called():
    assert function("f", len) is len
    for value in (None, "len", 3, [len]):
        with pytest.raises(TypeError, match="f is .*: pass a function"):
            function("f", value)


LAYOUTS = {
    "as it is": lambda x: x,
    "flipped": lambda x: x[:, :, ::-1],
    "every second": lambda x: x[::2],
    "transposed": lambda x: x.transpose(0, 2, 1),
    "Fortran": np.asfortranarray,
    "a list": list,
    "a tensor": lambda x: torch.from_numpy(x.copy()),
    "none": lambda x: x[:0],
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_pixels_of_any_layout(layout):
    images = layout(np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8))
    found = pixels(images)
    assert isinstance(found, np.ndarray) and found.dtype == np.uint8
    assert np.array_equal(found, np.asarray(images))


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 28, 28)),
        np.zeros((1, 28, 28), np.int8),
        np.zeros((1, 28, 28), bool),
        np.zeros((1, 28, 28), object),
        np.zeros((1, 28, 28), np.uint8).tolist(),
        torch.zeros(1, 28, 28),
        torch.zeros(1, 28, 28, requires_grad=True),
        torch.zeros(1, 28, 28, dtype=torch.bfloat16),
        torch.zeros(1, 28, 28, dtype=torch.uint16),
        "images",
        None,
    ],
    ids=lambda x: f"{type(x).__name__} {getattr(x, 'dtype', '')}",
)
def test_pixels_are_uint8(images):
    with pytest.raises(TypeError, match="images have dtype .*: pass the raw pixels as uint8"):
        pixels(images)


@pytest.mark.parametrize("shape", [(), (28, 28), (1, 28, 27), (1, 27, 28), (1, 28, 28, 1), (784,)])
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_pixels_have_the_shape_of_images(shape, kind):
    with pytest.raises(ValueError, match=r"images have shape .*: expected \[N, 28, 28\]; for one"):
        pixels(kind(np.zeros(shape, np.uint8)))


def test_a_picture_is_no_batch():
    with pytest.raises(ValueError, match=r"images have shape \(28, 28\)"):
        pixels(Image.fromarray(np.zeros((28, 28), np.uint8)))
