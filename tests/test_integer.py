"""IntegerModel gives the very integers of LiteRT: of its reference kernels, and of XNNPACK."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_litert.tools import flatbuffer_utils
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.convert import to_streaming_tflite, to_tflite
from helpers.data import fashion_mnist, watch
from helpers.integer import KERNELS, IntegerModel
from helpers.integer_layers import product_with
from helpers.models import build, load
from helpers.runtime import open_model
from helpers.runtime_streaming import requantize
from helpers.tflite_file import graph_of, operators
from helpers.twins import import_keras

LITERT = {"reference": OpResolverType.BUILTIN_REF, "xnnpack": OpResolverType.BUILTIN}
KEEPS_ITS_SCALE = ("MAX_POOL_2D", "AVERAGE_POOL_2D", "PAD", "RESHAPE", "SPLIT")
HAS_A_FIXED_SCALE = ("SOFTMAX", "LOGISTIC", "TANH")


def litert(content: bytes, x: np.ndarray, rounding: str) -> np.ndarray:
    """What LiteRT returns for each row of x int8 [N, ...]."""
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=LITERT[rounding], num_threads=1
    )
    interpreter.allocate_tensors()
    given, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    found = []
    for row in x:
        interpreter.set_tensor(given["index"], row.reshape(given["shape"]))
        interpreter.invoke()
        found.append(interpreter.get_tensor(result["index"])[0])
    return np.array(found)


def pixels(images: np.ndarray) -> np.ndarray:
    return (images.astype(np.int16) - 128).astype(np.int8)


def changed(content: bytes, change) -> bytes:
    """The file after change(model, graph) worked on it."""
    model, graph = graph_of(content)
    change(model, graph)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return fashion_mnist("test").images[:40]


@pytest.fixture(scope="module")
def tiny(images) -> bytes:
    return to_tflite(load("TinyCNN"), "int8", images)


@pytest.mark.parametrize("name", ["TinyCNN", "LeNet5", "ResNet8", "SearchedCNN"])
def test_networks_of_the_course(name, images):
    content = to_tflite(load(name), "int8", fashion_mnist("train").images[:100])
    for rounding in LITERT:
        ours = IntegerModel(content, rounding).run(pixels(images))
        np.testing.assert_array_equal(ours, litert(content, pixels(images), rounding))


@pytest.mark.parametrize("rounding", LITERT)
@pytest.mark.parametrize("name", ["SensorGRU", "SensorLSTM"])
def test_recurrent_cells(name, rounding):
    """Ten steps of forty windows; both sides get the same state, requantized."""
    windows = watch("validation").windows[::20][:40]
    content = to_streaming_tflite(load(name), "int8", windows)
    ours = IntegerModel(content, rounding)
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=LITERT[rounding])
    for key, tensor in ours.inputs.items():
        index = ours._given[key].index
        interpreter.resize_tensor_input(index, (len(windows), *tensor.shape))
    interpreter.allocate_tensors()
    zeros = np.zeros((len(windows), 32), np.float32)
    given = {key: tensor.quantize(zeros) for key, tensor in ours.inputs.items()}
    for t in range(10):
        given["x"] = ours.inputs["x"].quantize(windows[:, t])
        for key, values in given.items():
            interpreter.set_tensor(ours._given[key].index, values)
        interpreter.invoke()
        found = ours.run(given)
        for key, values in found.items():
            theirs = interpreter.get_tensor(ours._result[key].index)
            np.testing.assert_array_equal(values, theirs)
        for key in given.keys() - {"x"}:
            given[key] = requantize(found[key], ours.outputs[key], ours.inputs[key])


def network(draw):
    """A small Keras network of operators that IntegerModel knows; draw is Hypothesis's."""
    keras = import_keras()
    layers = keras.layers
    merges = {"add": layers.Add, "subtract": layers.Subtract, "multiply": layers.Multiply}
    curves = ("relu", "sigmoid", "tanh")
    kinds = ("convolution", "depthwise", "max", "average", "pad", *merges, *curves)

    def whole(least: int, most: int) -> int:
        return draw(st.integers(least, most))

    def one_of(*choices):
        return draw(st.sampled_from(choices))

    x = start = keras.Input((whole(4, 9), whole(4, 9), one_of(1, 3)))
    for _ in range(whole(1, 4)):
        _, height, width, channels = x.shape
        kernel = whole(1, min(4, height)), whole(1, min(4, width))
        activation = one_of("linear", "relu", "relu6")
        common = dict(strides=whole(1, 3), padding=one_of("same", "valid"))
        spread = common | dict(activation=activation)
        if 2 * max(kernel) <= min(height, width):  # Keras takes no stride beside a dilation
            spread |= one_of({}, dict(strides=1, dilation_rate=2))
        kind = one_of(*kinds)
        if kind == "convolution":
            x = layers.Conv2D(whole(1, 13), kernel, **spread)(x)
        elif kind == "depthwise":
            x = layers.DepthwiseConv2D(kernel, depth_multiplier=whole(1, 2), **spread)(x)
        elif kind == "max":
            x = layers.MaxPooling2D(kernel, **common)(x)
        elif kind == "average":
            x = layers.AveragePooling2D(kernel, **common)(x)
        elif kind == "pad":
            x = layers.ZeroPadding2D(((whole(0, 2), whole(0, 2)), (1, 0)))(x)
        elif kind in merges:
            x = merges[kind]()([x, layers.Conv2D(channels, 1, activation=activation)(x)])
        else:
            x = layers.Activation(kind)(x)
    x = one_of(layers.Flatten, layers.GlobalAveragePooling2D)()(x)
    x = layers.Dense(whole(2, 8))(x)
    x = one_of(layers.Softmax, layers.Identity)()(x)
    return keras.Model(start, x)


def stretched(content: bytes, rng: np.random.Generator) -> bytes:
    """The same file with other scales and zero points, up to 16 times as large or as small."""
    steps, same = operators(content), {}

    def first(index: int) -> int:
        return first(same[index]) if index in same else index

    for step in steps:
        read = next(t.index for t in step.inputs if t.kind == "INT8")
        if step.name in KEEPS_ITS_SCALE and first(read) != first(step.outputs[0].index):
            same[first(step.outputs[0].index)] = first(read)
    fixed = {first(s.outputs[0].index) for s in steps if s.name in HAS_A_FIXED_SCALE}
    computed = [t for s in steps for t in (*s.inputs, *s.outputs) if t.values is None]
    new = {
        first(t.index): (t.scales[0] * 2 ** rng.uniform(-4, 4), rng.integers(-128, 128))
        for t in computed
    }

    def change(model, graph) -> None:
        for index in {t.index for t in computed if first(t.index) not in fixed}:
            scale, zero_point = new[first(index)]
            graph.tensors[index].quantization.scale = np.array([scale], np.float32)
            graph.tensors[index].quantization.zeroPoint = np.array([zero_point])

    return changed(content, change)


def test_random_networks():
    """At least forty, and every operator among them but SPLIT, which is in the recurrent cells."""
    compared, kinds = set(), set()

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(st.data(), st.integers(0, 2**32 - 1))
    def compare(data, seed):
        content, images = converted(network(data.draw), np.random.default_rng(seed))
        for rounding in LITERT:
            for file in (content, stretched(content, np.random.default_rng(seed))):
                ops = equal(file, images, rounding)
                kinds.update(ops)
                compared.update({(content, rounding)} if ops else ())

    compare()
    assert kinds >= KERNELS.keys() - {"SPLIT"}
    assert len(compared) > 80


def converted(model, rng: np.random.Generator) -> tuple[bytes, np.ndarray]:
    """An int8 file with random weights, and five random images."""
    weights = [rng.normal(size=w.shape) * (3 * rng.random(w.shape[-1:])) for w in model.weights]
    model.set_weights(weights)
    shape = model.input_shape[1:]
    images = rng.integers(0, 256, (5, *shape), dtype=np.uint8)
    return to_tflite(model, "int8", images[..., 0] if shape[2] == 1 else images), images


def equal(file: bytes, images: np.ndarray, rounding: str) -> set[str]:
    """The operators of a file that gives LiteRT's integers; none if a side refuses its scales."""
    try:
        ours = IntegerModel(file, rounding)
        theirs = litert(file, pixels(images), rounding)
    except ValueError as error:  # a tensor that is always zero gets a scale near zero
        assert any(words in str(error) for words in ("XNNPACK", "LiteRT aborts", "batch of 1"))
        return set()
    except RuntimeError as error:
        assert "overflow_from_quantization" in str(error)
        return set()
    np.testing.assert_array_equal(ours.run(pixels(images)), theirs)
    return {op.name for op in ours.operators}


@pytest.mark.parametrize("rows", [60, 700])
def test_a_product_in_floats_is_the_product_in_integers(rows):
    rng = np.random.default_rng(0)
    q, w = (rng.choice(np.array([-128, 127], np.int8), shape) for shape in ((9, rows), (rows, 4)))
    w[:, 0] = 127
    q[0] = -128
    found = product_with(w)(np.tile(q, (1, 1)))
    np.testing.assert_array_equal(found, q.astype(np.int64) @ w.astype(np.int64))


def test_a_product_beyond_float32_is_still_exact():
    w = np.full((1100, 1), 127, np.int8)
    w[::2] = 126
    q = np.full((1, 1100), 127, np.int8)
    exact = q.astype(np.int64) @ w.astype(np.int64)
    assert exact % 2 == 0 and exact > 2**24
    np.testing.assert_array_equal(product_with(w)(q), exact)


def test_rows_do_not_meet(tiny, images):
    model = IntegerModel(tiny)
    whole = model.run(pixels(images))
    single = [model.run(pixels(images[i : i + 1]))[0] for i in range(len(images))]
    np.testing.assert_array_equal(whole, single)
    np.testing.assert_array_equal(model.run(pixels(images)[..., None]), whole)


def test_activations_are_what_stands_in_the_tensors(tiny, images):
    interpreter = Interpreter(
        model_content=tiny,
        experimental_op_resolver_type=LITERT["reference"],
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    model = IntegerModel(tiny)
    found = model.activations(pixels(images[:1]))
    interpreter.set_tensor(next(iter(found)), pixels(images[:1])[..., None])
    interpreter.invoke()
    assert len(found) == 1 + len(model.operators)
    for index, values in found.items():
        np.testing.assert_array_equal(values, interpreter.get_tensor(index))


def test_inputs_and_outputs_are_described(tiny):
    model, other = IntegerModel(tiny), open_model(tiny)
    (given,), (result,) = model.inputs.values(), model.outputs.values()
    assert (given.scale, given.zero_point) == other.input_quantization
    assert given.shape == (28, 28, 1) and result.shape == (10,)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((2, 28, 28), np.uint8), "dtype uint8: pass int8"),
        (np.zeros((2, 28, 28), np.float32), "dtype float32"),
        (np.zeros((2, 27, 28), np.int8), r"\(2, 27, 28, 1\): expected \[N, 28, 28, 1\]"),
        (np.zeros((0, 28, 28), np.int8), "expected"),
        (np.zeros((28, 28), np.int8), "expected"),
        ({"y": np.zeros((2, 28, 28), np.int8)}, "pass a dictionary"),
        ("image", "dtype"),
    ],
)
def test_other_inputs_are_refused(tiny, x, words):
    with pytest.raises((TypeError, ValueError), match=words):
        IntegerModel(tiny).run(x)


@pytest.mark.parametrize("mode", ["float32", "float16", "dynamic", "int16x8"])
def test_other_modes_are_refused_by_the_tensor(mode, images):
    with pytest.raises(ValueError, match="tensor '.*' is (FLOAT32|INT16): .*mode 'int8'"):
        IntegerModel(to_tflite(build("TinyCNN"), mode, images))


def test_an_unknown_operator_is_named(images):
    keras = import_keras()
    start = keras.Input((28, 28, 1))
    x = keras.layers.LeakyReLU()(keras.layers.Conv2D(2, 3)(start))
    model = keras.Model(start, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    with pytest.raises(ValueError, match="operator 1, LEAKY_RELU, is unknown"):
        IntegerModel(to_tflite(model, "int8", images))


def test_an_unknown_rounding_is_refused(tiny):
    with pytest.raises(ValueError, match="choose one of reference, xnnpack"):
        IntegerModel(tiny, "nearest")


def shorter_weights(model, graph):
    buffer = model.buffers[graph.tensors[graph.operators[0].inputs[1]].buffer]
    buffer.data = buffer.data[:-1]


def other_weights(model, graph):
    graph.tensors[graph.operators[2].inputs[1]].shape[3] += 1


def no_scale(model, graph):
    graph.tensors[graph.operators[0].outputs[0]].quantization.scale = None


def scale_of_zero(model, graph):
    graph.tensors[graph.operators[0].outputs[0]].quantization.scale[:] = 0


def far_zero_point(model, graph):
    graph.tensors[graph.operators[0].outputs[0]].quantization.zeroPoint[:] = 400


def no_such_tensor(model, graph):
    graph.operators[0].inputs[0] = 999


def wrong_order(model, graph):
    graph.operators = graph.operators[::-1]


def large_bias(model, graph):
    model.buffers[graph.tensors[graph.operators[0].inputs[2]].buffer].data[:4] = [
        255,
        255,
        255,
        127,
    ]


def step_of_zero(model, graph):
    graph.operators[0].builtinOptions.strideH = 0


def no_output(model, graph):
    graph.operators = graph.operators[:-1]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shorter_weights, "tensor '.*' has 143 bytes"),
        (other_weights, "tensor '.*' has"),
        (no_scale, "tensor '.*' has 0 scales"),
        (scale_of_zero, "tensor '.*' has a scale of 0"),
        (far_zero_point, "tensor '.*' has a zero point outside int8"),
        (no_such_tensor, "operator 0, CONV_2D, uses tensor 999"),
        (wrong_order, "operator 0, FULLY_CONNECTED, reads .* nothing computes"),
        (large_bias, "operator 0, CONV_2D, has weights '.*' whose sums may leave int32"),
        (step_of_zero, r"operator 0, CONV_2D, reaches over \[3, 3\] pixels in steps of \(0, 1\)"),
        (no_output, "no operator computes the output"),
    ],
)
def test_damage_is_named(tiny, damage, words):
    with pytest.raises(ValueError, match=words):
        IntegerModel(changed(tiny, damage))


def test_flipped_bytes_give_an_error_or_integers(tiny, images):
    """Nothing else: no other exception, no endless loop, no memory without end."""
    rng, refused = np.random.default_rng(0), 0
    graph = np.arange(len(tiny) - 6000, len(tiny))  # the weights stand before it
    for _ in range(150):
        content = bytearray(tiny)
        for place in rng.choice(graph, 3):
            content[place] = rng.integers(256)
        try:
            assert IntegerModel(bytes(content)).run(pixels(images[:1])).dtype == np.int8
        except ValueError as error:
            refused += 1
            assert len(str(error)) > 20
    assert refused > 30
