"""What is read from a file is what the interpreter sees in it."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from test_twins import randomized

from helpers.convert import to_tflite
from helpers.data import fashion_mnist
from helpers.models import build
from helpers.tflite_file import operators, tensors
from helpers.toolkits import by_recipe

MODES = ("float32", "float16", "dynamic", "int8", "int16x8")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    model, images = randomized(build("ResNet8")), fashion_mnist("train").images[:4]
    return {mode: to_tflite(model, mode, images) for mode in MODES}


def opened(content: bytes) -> Interpreter:
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    return interpreter


@pytest.mark.parametrize("mode", MODES)
def test_tensors_are_those_of_the_interpreter(files, mode):
    interpreter = opened(files[mode])
    theirs = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    stored = 0
    for ours in tensors(files[mode]):
        detail = theirs[ours.index]
        assert (ours.name, ours.shape) == (detail["name"], tuple(detail["shape"]))
        assert ours.kind.lower() == np.dtype(detail["dtype"]).name
        said = detail["quantization_parameters"]
        np.testing.assert_array_equal(ours.scales, said["scales"])
        np.testing.assert_array_equal(ours.zero_points, said["zero_points"])
        assert ours.axis == said["quantized_dimension"]
        if ours.values is not None:
            np.testing.assert_array_equal(ours.values, interpreter.get_tensor(ours.index))
            assert ours.nbytes == ours.values.nbytes
            stored += ours.nbytes
    assert 70_000 < stored < len(files[mode])


@pytest.mark.parametrize("mode", MODES)
def test_operators_are_those_of_the_interpreter(files, mode):
    theirs = opened(files[mode])._get_ops_details()
    for ours, detail in zip(operators(files[mode]), theirs, strict=True):
        assert ours.name == detail["op_name"]
        assert [t.index for t in ours.inputs] == [i for i in detail["inputs"] if i >= 0]
        assert [t.index for t in ours.outputs] == list(detail["outputs"])


def test_four_bits_are_unpacked(files):
    from ai_edge_quantizer import recipe

    content = by_recipe(files["float32"], recipe.dynamic_wi4_afp32())
    interpreter, found = opened(content), tensors(content)
    packed = [t for t in found if t.kind == "INT4"]
    assert len(packed) > 3
    for ours in packed:
        np.testing.assert_array_equal(ours.values, interpreter.get_tensor(ours.index))
        assert ours.values.min() >= -8 and ours.nbytes == (ours.values.size + 1) // 2


def test_other_bytes_are_refused(files):
    for wrong in (b"", b"TFL3", files["int8"][:300]):
        with pytest.raises(ValueError, match="convert the model again"):
            operators(wrong)
