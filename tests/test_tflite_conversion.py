"""What lesson 41 and its solutions write out, on other files than theirs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from test_twins import randomized

from helpers import data
from helpers.convert import to_tflite
from helpers.models import build
from helpers.tflite_file import operators, tensors

lesson = definitions("41_tflite_conversion")
solutions = definitions("solutions/41_tflite_conversion")
BYTES = {"FLOAT32": 4, "FLOAT16": 2, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    model, images = randomized(build("LeNet5")), data.fashion_mnist("train").images[:4]
    return {mode: to_tflite(model, mode, images) for mode in lesson.MODES}


@pytest.mark.parametrize("mode", lesson.MODES)
def test_the_rule_of_bytes_holds_for_another_network(files, mode):
    found = lesson.roles(files[mode])
    assert {role for role, _ in found} == {"input", "activation", "weight", "bias"}
    for role, tensor in found:
        assert lesson.bytes_each(mode, role, int(np.prod(tensor.shape))) == BYTES[tensor.kind]
        assert (tensor.values is not None) == (role in ("weight", "bias"))
    layers = sum(step.name in lesson.LAYERS for step in operators(files[mode]))
    assert sum(role == "weight" for role, _ in found) == layers == 4


def test_dynamic_bytes_are_those_of_a_file(files):
    layers = [
        m for m in build("LeNet5").modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)
    ]
    sizes = [np.array([getattr(m, kind).numel() for m in layers]) for kind in ("weight", "bias")]
    stored = sum(t.nbytes for t in tensors(files["dynamic"]))
    assert 0 <= stored - solutions.dynamic_bytes(*sizes) < 100


@settings(max_examples=100, deadline=None)
@given(st.floats(-20, 20), st.floats(0.01, 40))
def test_the_range_holds_zero_and_its_ends(low, width):
    scale, zero_point = solutions.activation_params(low, low + width)
    assert -128 <= zero_point <= 127 and isinstance(zero_point, int)
    ends = [scale * (q - zero_point) for q in (-128, 127)]
    assert (
        ends[0] <= min(low, 0) + scale / 2 + 1e-9
        and ends[1] >= max(low + width, 0) - scale / 2 - 1e-9
    )


@settings(max_examples=100, deadline=None)
@given(st.floats(0.9, 1.1), st.integers(-128, 127))
def test_pixels_fit_only_where_each_one_does(factor, zero_point):
    scale = factor / 255
    each = [round(p / 255 / scale) + zero_point == p - 128 for p in range(256)]
    assert solutions.takes_pixels(scale, zero_point) == all(each)
