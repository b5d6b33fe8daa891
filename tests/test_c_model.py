"""A file's constants stand in the generated C, and what the kernels lack is refused by name."""

import re

import numpy as np
import pytest

from helpers import c_layers, c_model
from helpers.convert import to_streaming_tflite, to_tflite
from helpers.data import fashion_mnist, watch
from helpers.fixed_point import multiplier_and_shift
from helpers.models import build, load
from helpers.tflite_file import operators


@pytest.fixture(scope="module")
def content() -> bytes:
    return to_tflite(load("ResNet8"), "int8", fashion_mnist("fit").images[:100])


@pytest.fixture(scope="module")
def model(content) -> c_model.CModel:
    return c_model.generate(content)


def constant(text: str, name: str) -> np.ndarray:
    kind, size, values = re.search(
        rf"static const (\w+)_t {name}\[(\d+)\] = \{{(.*?)\}};", text, re.DOTALL
    ).groups()
    found = np.array([int(v) for v in values.replace("\n", " ").split(",") if v.strip()])
    assert len(found) == int(size)
    np.testing.assert_array_equal(found, found.astype(kind))  # nothing is lost in this type
    return found


def test_the_constants_are_those_of_the_file(content, model):
    text = model.sources["model.c"]
    for number, step in enumerate(operators(content)):
        if step.name in ("CONV_2D", "FULLY_CONNECTED"):
            x, w, b = step.inputs
            np.testing.assert_array_equal(constant(text, f"weights{number}"), w.values.ravel())
            np.testing.assert_array_equal(constant(text, f"bias{number}"), b.values)
            factors = x.scales.astype(float) * w.scales / step.outputs[0].scales
            m, shift = multiplier_and_shift(factors)
            np.testing.assert_array_equal(constant(text, f"m{number}"), m)
            np.testing.assert_array_equal(constant(text, f"n{number}"), -shift)


def test_the_header_says_what_the_model_is(model):
    told = dict(re.findall(r"#define (MODEL_\w+) (\d+)", model.sources["model.h"]))
    assert int(told["MODEL_ARENA"]) == model.arena_bytes == 37632
    assert int(told["MODEL_LAYERS"]) == len(model.layers) == 16
    assert int(told["MODEL_INPUT"]) == model.places[0].start
    assert int(told["MODEL_OUTPUT"]) == model.places[1].start
    assert int(told["MODEL_WINDOW"]) == 576
    assert all(len(line) <= 100 for line in model.sources["model.c"].splitlines()[:-8])


def test_the_planner_can_be_chosen(content):
    def apart(buffers):
        ends = np.cumsum([b.size for b in buffers])
        return {b.index: int(end - b.size) for b, end in zip(buffers, ends, strict=True)}

    assert c_model.generate(content, apart).arena_bytes == 111258


def test_reshapes_are_no_operators():
    content = to_tflite(load("LeNet300"), "int8", fashion_mnist("fit").images[:100])
    assert "RESHAPE" in {step.name for step in operators(content)}
    assert c_model.generate(content).layers == 3 * ["FULLY_CONNECTED"]


def test_an_operator_without_a_kernel_is_refused_by_name():
    cell = to_streaming_tflite(load("SensorGRU"), "int8", watch("fit").windows[::500])
    with pytest.raises(ValueError, match="operator 1, SPLIT, has no C kernel: there are CONV_2D,"):
        c_model.generate(cell)
    file = to_tflite(build("SearchedCNN"), "int8", fashion_mnist("fit").images[:10])
    with pytest.raises(ValueError, match="DEPTHWISE_CONV_2D, has no C kernel"):
        c_model.generate(file)


@pytest.mark.parametrize("mode", ["float32", "dynamic", "int16x8"])
def test_files_of_other_numbers_are_refused(mode):
    images = fashion_mnist("fit").images[:10]
    with pytest.raises(ValueError, match="FLOAT32|INT16|no C kernel"):
        c_model.generate(to_tflite(build("TinyCNN"), mode, images))


def first(content, name):
    return next(step for step in operators(content) if step.name == name)


def moved(step, tensor, **changes):
    """The operator with another input or output: inputs[0], outputs[0], …"""
    side, place = re.fullmatch(r"(\w+)\[(\d)\]", tensor).groups()
    tensors = list(getattr(step, side))
    tensors[int(place)] = tensors[int(place)]._replace(**changes)
    return step._replace(**{side: tensors})


def test_forms_that_the_kernels_lack_are_refused(content):
    conv, add = first(content, "CONV_2D"), first(content, "ADD")
    mean, pad = first(content, "MEAN"), first(content, "PAD")
    dense = first(content, "FULLY_CONNECTED")
    axes, widths = mean.inputs[1], pad.inputs[1]
    bias = np.array(conv.inputs[2].values)
    bias[3] = 2**30
    refused = [
        (conv._replace(options=conv.options | {"dilationHFactor": 2}), "is dilated"),
        (moved(conv, "inputs[0]", shape=(1, 28, 28, 4)), "has groups"),
        (moved(conv, "inputs[2]", values=bias), r"sums up to 10\d+"),
        (moved(conv, "outputs[0]", scales=np.array([1e-20], np.float32)), "multiplies by"),
        (moved(dense, "inputs[0]", shape=(2, 64)), "one row of 64"),
        (moved(add, "inputs[1]", shape=(1, 1, 1, 16)), "takes two computed, alike"),
        (moved(add, "inputs[1]", values=np.zeros(add.inputs[1].shape, np.int8)), "two computed"),
        (moved(mean, "inputs[1]", values=np.array([3])), "over the axes"),
        (moved(mean, "inputs[1]", values=np.array([1])), "over the axes"),
        (moved(pad, "inputs[1]", values=widths.values + 1), "pads batch or channels"),
    ]
    assert axes.values.size == 2
    for step, words in refused:
        with pytest.raises(ValueError, match=words):
            c_layers.LAYERS[step.name](step)


def test_images_of_another_kind_are_refused(model):
    with pytest.raises(TypeError, match="images of uint8: pass int8, pixel - 128"):
        model.rows(np.zeros((1, 28, 28), np.uint8))
    with pytest.raises(ValueError, match="images of 900 values: the model reads 784"):
        model.rows(np.zeros((1, 30, 30), np.int8))
