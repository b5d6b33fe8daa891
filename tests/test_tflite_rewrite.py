"""An old file, rewritten, is the same network, and the tools of today find its operators."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from ai_edge_quantizer import recipe
from test_twins import randomized

from helpers import data
from helpers.convert import graph_of, to_tflite
from helpers.models import build
from helpers.runtime_litert import open_interpreter
from helpers.tflite_file import operators, signature
from helpers.tflite_rewrite import in_float32, with_fused_relu
from helpers.toolkits import by_recipe

OLD = data.face_detector()


def answers(content: bytes, x: np.ndarray, kernels: str = "BUILTIN") -> list[np.ndarray]:
    interpreter = open_interpreter(content, kernels, threads=1)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return [interpreter.get_tensor(end["index"]).copy() for end in interpreter.get_output_details()]


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (4, 1, 128, 128, 3)).astype(np.float32)


@pytest.mark.parametrize("kernels", ["BUILTIN", "BUILTIN_REF"])
def test_the_bits_stay(pictures, kernels):
    modern = in_float32(OLD)
    for x in pictures:
        for content in (modern, with_fused_relu(modern), with_fused_relu(OLD)):
            for ours, theirs in zip(
                answers(content, x, kernels), answers(OLD, x, kernels), strict=True
            ):
                np.testing.assert_array_equal(ours, theirs)


def test_what_was_rewritten():
    modern = in_float32(OLD)
    model, _ = graph_of(modern)
    assert all(code.builtinCode >= code.deprecatedBuiltinCode for code in model.operatorCodes)
    kinds = [operator.name for operator in operators(modern)]
    assert "DEQUANTIZE" not in kinds and kinds.count("RELU") == 17
    weights = [t for o in operators(modern) for t in o.inputs if t.values is not None]
    assert {t.kind for t in weights} <= {"FLOAT32", "INT32"}
    assert set(signature(modern)[0]) == {"input"}
    assert set(signature(modern)[1]) == {"regressors", "classificators"}
    fused = [operator.name for operator in operators(with_fused_relu(modern))]
    assert fused == [kind for kind in kinds if kind != "RELU"]


def test_the_quantizer_finds_weights_only_after_the_rewriting():
    dynamic = recipe.dynamic_wi8_afp32()
    assert len(by_recipe(OLD, dynamic)) == len(OLD)
    assert len(by_recipe(in_float32(OLD), dynamic)) < 0.7 * len(OLD)


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
def test_files_of_today_stay_the_same_network(kind):
    images = data.fashion_mnist("train").images[:8]
    content = to_tflite(randomized(build("TinyCNN")), kind, images)
    x = (images[:1, ..., None] / 255).astype(np.float32)
    if kind == "int8":
        x = (images[:1, ..., None].astype(int) - 128).astype(np.int8)
    (expected,) = answers(content, x)
    for changed in (in_float32(content), with_fused_relu(in_float32(content))):
        (found,) = answers(changed, x)
        np.testing.assert_array_equal(found, expected)


def test_a_relu_stays_where_its_input_is_read_by_others(pictures):
    model, graph = graph_of(in_float32(OLD))
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    relus = [
        o
        for o in graph.operators
        if names[model.operatorCodes[o.opcodeIndex].builtinCode] == "RELU"
    ]
    inside = int(relus[0].inputs[0])
    graph.outputs = np.array([*graph.outputs, inside], np.int32)
    content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    fused = with_fused_relu(content)
    assert [operator.name for operator in operators(fused)].count("RELU") == 1
    for ours, theirs in zip(
        answers(fused, pictures[0]), answers(content, pictures[0]), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("damaged", [b"", OLD[:1000], b"TFL3" * 300])
def test_bytes_that_are_no_model_are_refused(damaged):
    for rewrite in (in_float32, with_fused_relu):
        with pytest.raises(ValueError):
            rewrite(damaged)
