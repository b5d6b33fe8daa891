"""What a reader of lesson 42 sees and writes, against ONNX, NumPy loops and ONNX Runtime."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import nn

from helpers import onnx_tools
from helpers.convert import to_onnx
from helpers.data import fashion_mnist
from helpers.machine import seeded
from helpers.models import as_input
from tools.lesson_code import definitions

LESSON = definitions("42_onnx_and_executorch")
SOLUTIONS = definitions("solutions/42_onnx_and_executorch")
IMAGES = fashion_mnist("validation").images[:8]
with seeded(0):  # or it depends on what was imported before
    DENSE = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.ReLU()).eval()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(-600, 600), min_size=1, max_size=20),
    st.sampled_from([0.5, 0.25, 1.0, 0.1, 1 / 255]),
    st.integers(0, 255),
)
def test_quantize_linear_is_onnx_runtimes_ties_included(halves, scale, zero_point):
    x = (np.array(halves) * scale / 2).astype(np.float32)
    expected = LESSON.their_quantize(x, scale, zero_point)
    np.testing.assert_array_equal(LESSON.quantize_linear(x, scale, zero_point), expected)


def test_two_nodes_by_hand():
    lesson = LESSON
    W, b = np.array([[1, 2, 0], [0, -1, 4]], np.float32), np.array([0.5, -1], np.float32)
    tensors = [onnx.numpy_helper.from_array(v, k) for k, v in {"W": W, "b": b}.items()]
    lesson.__globals__["weights"] = tensors
    nodes = [
        helper.make_node("Gemm", ["x", "W", "b"], ["a"], transB=1),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    model = lesson.two_nodes(nodes)
    onnx.checker.check_model(model, full_check=True)
    assert lesson.operators(model.graph) == {"Gemm": 1, "Relu": 1}
    x = np.array([[1, -2, 0.5], [0, 1, 1]], np.float32)
    found = onnx_tools.session(model.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_array_equal(found, np.maximum(x @ W.T + b, 0))
    assert lesson.fault(lambda: 1 / 0) == "ZeroDivisionError" and lesson.fault(int) == "nothing"


def test_export_names_the_batch_and_counts_weights():
    proto = LESSON.exported(DENSE, as_input(IMAGES[:2]))
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert LESSON.weight_bytes(proto) >= 4 * 7850
    session = onnx_tools.session(proto.SerializeToString())
    assert onnx_tools.run(session, IMAGES).shape == (8, 10)


@pytest.mark.parametrize("activations", ["QUInt8", "QInt8"])
def test_the_settings_are_in_the_file(activations):
    content = to_onnx(DENSE)
    for bits, most in ((8, 127), (7, 64)):
        graph = onnx.load_from_string(onnx_tools.static(content, IMAGES, activations, bits)).graph
        stored = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        (weight,) = (v for k, v in stored.items() if k.endswith("weight_quantized"))
        assert weight.dtype == np.int8 and np.abs(weight.astype(int)).max() == most
        (kind,) = {stored[n.input[2]].dtype for n in graph.node if n.op_type == "QuantizeLinear"}
        assert kind == (np.uint8 if activations == "QUInt8" else np.int8)


def test_levels_and_dynamic_files():
    content = to_onnx(DENSE)
    logits = [onnx_tools.run(onnx_tools.session(content, k), IMAGES) for k in onnx_tools.LEVELS]
    for found in logits[1:]:
        np.testing.assert_allclose(found, logits[0], atol=1e-5)
    dynamic = onnx_tools.dynamic(content)
    assert len(dynamic) < 0.4 * len(content)
    found = onnx_tools.run(onnx_tools.session(dynamic), IMAGES)
    assert 0 < np.abs(found - logits[0]).max() < 0.35 * np.ptp(logits[0])
    assert LESSON.integer_layers(content) == 0


def info(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def test_places_puts_a_node_after_all_that_it_reads():
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Abs", ["a"], ["c"]),
        helper.make_node("Add", ["b", "c"], ["d"]),
        helper.make_node("Add", ["d", "a"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [info("x", [1])], [info("y", [1])])
    at, edges = LESSON.places(graph)
    assert at == {"a": (0, 0), "b": (1, 0), "c": (1, 1), "d": (2, 0), "y": (3, 0)}
    assert ("a", "y") in edges and len(edges) == 6
    fused = helper.make_node("FusedConv", ["x", "w", "b", "s"], ["y"], activation="Relu")
    assert LESSON.label(fused) == "Conv+Add+Relu"


def test_pair_sums_saturate_as_int16():
    rng = np.random.default_rng(42)
    a, w = rng.integers(0, 256, (500, 2)), rng.integers(-128, 128, (500, 2))
    found = LESSON.pair_sum(a, w)
    exact = a[:, 0] * w[:, 0] + a[:, 1] * w[:, 1]
    limits = np.iinfo(np.int16)
    assert (found[exact > limits.max] == limits.max).all() and (exact > limits.max).any()
    inside = (exact >= limits.min) & (exact <= limits.max)
    np.testing.assert_array_equal(found[inside], exact[inside])
    top = rng.integers(-64, 65, (500, 2))
    np.testing.assert_array_equal(LESSON.pair_sum(a, top), (a * top).sum(1))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(1, 255))
def test_the_safe_weight_is_the_last_that_fits(top):
    w = SOLUTIONS.safe_weight(top)
    assert 1 <= w <= 127 and 2 * top * w <= 32_767
    assert w == 127 or 2 * top * (w + 1) > 32_767
    a, pair = np.full(2, top), np.full(2, w)
    assert SOLUTIONS.saturating_dot(a, pair) == 2 * top * w


def test_saturating_dot_adds_pairs_and_pieces_counts_runs():
    rng = np.random.default_rng(1)
    a, w = rng.integers(0, 256, 40), rng.integers(-128, 128, 40)
    expected = sum(
        max(-(2**15), min(2**15 - 1, int(a[i] * w[i] + a[i + 1] * w[i + 1])))
        for i in range(0, 40, 2)
    )
    assert SOLUTIONS.saturating_dot(a, w) == expected != int(a @ w)
    for bits in range(1, 128):
        chain = [c == "1" for c in f"{bits:b}"]
        calls, crossings = SOLUTIONS.pieces(chain)
        text = f"{bits:b}"
        assert calls == len([run for run in text.split("0") if run])
        assert crossings == text.count("01") + text.count("10")


def test_a_selu_network_is_a_copy():
    network = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU()))
    other = SOLUTIONS.with_selu(network)
    assert isinstance(other[1][0], nn.SELU) and isinstance(network[1][0], nn.ReLU)
