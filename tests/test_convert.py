"""Conversion to .tflite: six modes, quiet, and an int8 input that is exactly uint8 - 128."""

import copy
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from test_convert_onnx import NETWORKS
from test_quiet import unchanged
from test_twins import quantized, randomized, restored_settings, small, step  # noqa: F401
from torch import nn

from helpers.convert import graph_of, to_tflite, with_signature
from helpers.convert_tflite import MODES, calibration_rows
from helpers.data import fashion_mnist
from helpers.inputs import as_input
from helpers.models import build, load
from helpers.qat import fold, insert_quantizers, start_steps
from helpers.quiet import quiet_quantizer
from helpers.runtime import open_model
from helpers.train import predict
from helpers.twins import import_keras


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return fashion_mnist("test").images[:100]


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return randomized(build("TinyCNN"))


@pytest.fixture(scope="module")
def expected(model, images) -> np.ndarray:
    with torch.inference_mode():
        return model(as_input(images)).numpy()


@pytest.fixture(scope="module")
def files(model, images) -> dict[str, bytes]:
    return {mode: to_tflite(model, mode, calibration=images) for mode in MODES}


def details(content: bytes) -> tuple[dict, dict]:
    interpreter = Interpreter(model_content=content)
    return interpreter.get_input_details()[0], interpreter.get_output_details()[0]


@pytest.mark.parametrize(
    ("mode", "share"),
    [
        ("float32", 1e-5),
        ("float16", 2e-3),
        ("dynamic", 0.02),
        ("int8", 0.05),
        ("int16x8", 0.02),
        ("sparse", 1e-5),
    ],
)
def test_every_mode_agrees_with_pytorch(files, expected, images, mode, share):
    """share: the largest error that is allowed, as a share of the range of the logits."""
    logits = open_model(files[mode]).predict(images)
    assert np.abs(logits - expected).max() <= share * np.ptp(expected)
    centered, wanted = logits - logits.mean(0), expected - expected.mean(0)
    assert np.corrcoef(centered.ravel(), wanted.ravel())[0, 1] > 0.98


def test_int8_reads_and_writes_integers(files):
    given, result = details(files["int8"])
    assert given["dtype"] is np.int8 and result["dtype"] is np.int8
    assert given["quantization"] == (np.float32(1 / 255), -128)
    assert given["shape"].tolist() == [1, 28, 28, 1] and result["shape"].tolist() == [1, 10]
    interpreter = Interpreter(model_content=files["int8"])
    kinds = {tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    assert kinds == {np.int8, np.int32}, "something stayed in floating point"


@pytest.mark.parametrize("low, high", [(0, 200), (30, 255), (90, 110), (0, 0), (255, 255), (7, 7)])
def test_int8_input_range_is_whole_whatever_the_calibration(low, high):
    rng = np.random.default_rng(0)
    images = rng.integers(low, high + 1, (3, 28, 28), dtype=np.uint8)
    rows = calibration_rows(images)
    assert rows.min() == 0 and rows.max() == 1 and rows.dtype == np.float32
    assert (rows[..., 0] != images / np.float32(255)).sum() <= 2


def test_int8_input_of_images_without_black_and_white(model, images):
    grey = images[:10] // 4 + 60
    before = grey.copy()
    given, _ = details(to_tflite(model, "int8", calibration=grey))
    assert given["quantization"] == (np.float32(1 / 255), -128)
    assert (grey == before).all(), "the caller's calibration images were changed"


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {"excited"}))
def test_every_network_becomes_a_file(images, name):
    network = NETWORKS[name]()
    expected = predict(network, images)
    found = open_model(to_tflite(network, "float32")).predict(images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    if name in ("ResNet8_half", "SearchedCNN", "mobile"):
        found = open_model(to_tflite(network, "int8", images)).predict(images)
        assert np.abs(found - expected).max() < 0.15 * np.ptp(expected)


def test_a_large_model_shrinks_by_its_bits(images):
    model = build("LeNet300").eval()
    size = {
        mode: len(to_tflite(model, mode, images[:5])) for mode in ("float32", "float16", "int8")
    }
    assert 1.9 < size["float32"] / size["float16"] <= 2
    assert 3.7 < size["float32"] / size["int8"] <= 4


def stored_sparse(content: bytes) -> dict[tuple, bool]:
    """{shape: whether in blocks} of the tensors of a file that are in the sparse format."""
    tensors = [t for t in graph_of(content)[1].tensors if t.sparsity is not None]
    return {tuple(int(n) for n in t.shape): len(t.sparsity.blockMap) > 0 for t in tensors}


def test_zeros_are_left_out_of_a_sparse_file(images):
    dense = build("LeNet300").eval()
    plain, unpruned = to_tflite(dense, "float32"), to_tflite(dense, "sparse")
    assert abs(len(unpruned) - len(plain)) < 64 and stored_sparse(unpruned) == {}
    for in_blocks, share in ((False, 0.45), (True, 0.3)):
        model = copy.deepcopy(dense)
        for name in ("1", "3"):
            w = model.get_submodule(name).weight
            score = torch.rand(w.shape, generator=torch.Generator().manual_seed(0))
            if in_blocks:
                score = score[:, ::4].repeat_interleave(4, dim=1)
            w.data *= score > 0.8
        content = to_tflite(model, "sparse")
        assert len(content) < share * len(plain)
        assert stored_sparse(content) == {(300, 784): in_blocks, (100, 300): in_blocks}
        expected = predict(model, images[:20])
        np.testing.assert_allclose(open_model(content).predict(images[:20]), expected, atol=1e-5)


def test_the_same_model_gives_the_same_bytes(model, files):
    assert to_tflite(model, "float32") == files["float32"]


def test_a_keras_model_converts(images):
    keras = import_keras()
    start = keras.Input((28, 28, 1))
    keras_model = keras.Model(start, keras.layers.Dense(3)(keras.layers.Flatten()(start)))
    logits = open_model(to_tflite(keras_model, "float32")).predict(images[:4])
    np.testing.assert_allclose(logits, keras_model(images[:4, ..., None] / 255), atol=1e-5)


@pytest.mark.parametrize("name", ["SensorGRU", "SensorLSTM"])
def test_a_recurrent_model_converts_in_floating_point(name, images):
    model = randomized(build(name))
    windows = np.random.default_rng(0).normal(size=(3, 100, 6)).astype(np.float32)
    with torch.inference_mode():
        expected = model(torch.as_tensor(windows)).numpy()
    logits = open_model(to_tflite(model, "float32")).predict(windows)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    with pytest.raises(ValueError, match="single time step"):
        to_tflite(model, "int8", calibration=images)


def test_a_layer_that_is_used_twice_is_in_the_file_twice(images):
    relu = nn.ReLU()
    model = randomized(small(relu, nn.Conv2d(4, 4, 3), relu, nn.Flatten(), nn.Linear(100, 3)))
    with torch.inference_mode():
        expected = model(as_input(images)).numpy()
    np.testing.assert_allclose(
        open_model(to_tflite(model, "float32")).predict(images), expected, atol=1e-4
    )


def test_a_model_in_half_precision_converts_as_the_same_in_float32(images):
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        half = build("LeNet300").to(dtype)
        assert to_tflite(half, "dynamic") == to_tflite(half.float(), "dynamic")


def test_a_quantized_network_with_dense_layers_keeps_its_accuracy():
    """The features behind a Flatten stand in another order in the file than in PyTorch."""
    fit, test = fashion_mnist("fit").images[:300], fashion_mnist("test")
    model = insert_quantizers(load("LeNet5"), 8)
    start_steps(model, fit)
    folded = fold(model)
    shown, labels = test.images[:1000], test.labels[:1000]
    simulated = predict(folded, shown).argmax(1)
    in_file = open_model(to_tflite(folded, "int8")).predict(shown).argmax(1)
    assert (simulated == labels).mean() > 0.9
    assert (in_file == simulated).mean() > 0.99


def test_a_grouped_quantized_convolution_keeps_its_steps(images):
    torch.manual_seed(0)
    layers = [quantized(nn.Conv2d(1, 4, 4, 4)), step(0.01, signed=False)]
    layers += [quantized(nn.Conv2d(4, 8, 3, padding=1, groups=4)), step(0.01), nn.Flatten()]
    model = nn.Sequential(step(1 / 255, signed=False), *layers).eval()
    content = to_tflite(model, "int8")
    off = np.abs(open_model(content).predict(images) - predict(model, images)) / 0.01
    assert off.max() < 2.5 and (off > 0.5).mean() < 0.1


def test_a_missing_quantizer_is_said():
    """Else the layers around it stay in floating point, and the file runs."""
    layers = [quantized(nn.Conv2d(1, 4, 4, 4)), nn.ReLU(), nn.Flatten()]
    layers += [quantized(nn.Linear(196, 3)), step(0.1)]
    model = nn.Sequential(step(1 / 255, signed=False), *layers)
    with pytest.raises(ValueError, match="stays in floating point, because a quantizer is missing"):
        to_tflite(model, "int8")


def test_what_is_wrong_is_said(model):
    with pytest.raises(ValueError, match="'int4': choose one of float32, float16, dynamic, int8"):
        to_tflite(model, "int4")
    for mode in ("int8", "int16x8"):
        with pytest.raises(ValueError, match=f"{mode!r} needs calibration: pass some training im"):
            to_tflite(model, mode)
    for wrong in ({}, nn.Linear, None, b"TFL3"):
        with pytest.raises(TypeError, match=f"{type(wrong).__name__}: pass a PyTorch or a Keras"):
            to_tflite(wrong, "float32")
    with pytest.raises(TypeError, match="module 1 is a Softplus"):
        to_tflite(small(nn.Softplus()), "float32")


WRONG_CALIBRATION = {
    "empty": (lambda images: images[:0], ValueError, "holds no image: pass at least one"),
    "scaled": (lambda images: images / 255, TypeError, "uint8 in 0..255, unscaled"),
    "signed": (lambda images: images.astype(np.int8), TypeError, "uint8 in 0..255"),
    "one image": (lambda images: images[0], ValueError, r"\[N, 28, 28\]"),
    "with channels": (lambda images: images[..., None], ValueError, r"\[N, 28, 28\]"),
    "labels too": (lambda images: (images, [1, 2]), TypeError, "calibration is a tuple: pass one"),
    "ragged": (lambda images: [images[0], images[1, 1:]], TypeError, "a list: pass one NumPy"),
    "generator": (lambda images: iter(images), TypeError, "pass one NumPy array of numbers"),
    "as TensorFlow takes it": (
        lambda images: lambda: ([image] for image in images),
        TypeError,
        "calibration is a function: pass one NumPy array",
    ),
}


@pytest.mark.parametrize("kind", WRONG_CALIBRATION)
def test_calibration_is_a_uint8_array(model, images, kind):
    change, error, words = WRONG_CALIBRATION[kind]
    with pytest.raises(error, match=words):
        to_tflite(model, "int8", calibration=change(images))


def test_calibration_may_have_any_layout(images):
    expected = calibration_rows(images[:9, ::-1])
    for given in (
        images[:9, ::-1].copy(),
        np.asfortranarray(images[:9, ::-1]),
        list(images[:9, ::-1]),
        torch.as_tensor(images[:9, ::-1].copy()),
    ):
        np.testing.assert_array_equal(calibration_rows(given), expected)
    readonly = images[:9].copy()
    readonly.setflags(write=False)
    np.testing.assert_array_equal(calibration_rows(readonly)[:, ::-1], expected)


def keras_models() -> dict:
    """kind: (a Keras model that cannot become a file, what is said)."""
    layers, keras = import_keras().layers, import_keras()
    image, other = keras.Input((28, 28, 1)), keras.Input((28, 28, 1))
    head = [layers.Flatten(), layers.Dense(3)]

    class Subclass(keras.Model):
        def call(self, x):
            return x

    def reads(**options):
        return keras.Sequential([keras.Input((28, 28, 1), **options), layers.Rescaling(1), *head])

    nothing, shape = "does not say what it reads: begin it with keras.Input", "only its batch may"
    loose = keras.Input((None, None, 1))
    called = Subclass()
    called(np.zeros((1, 28, 28, 1), np.float32))
    policy = {"dtype": "mixed_float16"}
    half = layers.Conv2D(2, 3, **policy)(image)
    nested = keras.Sequential([keras.Input((28, 28, 1)), layers.ReLU(dtype="float64"), *head])
    return {
        "not built": (keras.Sequential(head), nothing),
        "a subclass": (Subclass(), nothing),
        "a subclass that was called": (called, nothing),
        "two inputs": (keras.Model([image, other], image + other), "has 2 inputs"),
        "a batch of four": (reads(batch_size=4), shape),
        "sizes left open": (keras.Model(loose, layers.GlobalMaxPooling2D()(loose)), shape),
        "bytes": (reads(dtype="uint8"), "reads uint8: a file reads float32, images as pixels"),
        "half": (reads(dtype="float16"), "reads float16: a file reads float32"),
        "integers": (reads(dtype="int32"), "reads int32: a file reads float32"),
        "a layer in half": (keras.Model(image, half), "Cast computes in float16: build the Keras"),
        "float64 inside": (keras.Model(image, nested(image)), "computes in float64: build the K"),
    }


@pytest.mark.parametrize("mode", ["float32", "int8"])
def test_a_keras_model_that_cannot_become_a_file_is_refused(mode, images):
    for kind, (keras_model, words) in keras_models().items():
        with pytest.raises(ValueError, match=words):
            to_tflite(keras_model, mode, images[:2])
            pytest.fail(kind)


def test_a_keras_model_may_be_built_by_a_call_or_have_a_batch_of_one(images):
    keras = import_keras()
    layers = keras.layers
    built = keras.Sequential([layers.Flatten(), layers.Dense(3)])
    expected = built(images[:1, ..., None] / np.float32(255))
    one = keras.Sequential([keras.Input((28, 28, 1), batch_size=1), *built.layers])
    for keras_model in (built, one):
        logits = open_model(to_tflite(keras_model, "float32")).predict(images[:1])
        np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_integers_are_for_images(images):
    keras = import_keras()
    flat = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten()])
    with pytest.raises(ValueError, match=r"reads \[28, 28\]: choose another mode"):
        to_tflite(flat, "int16x8", images[:2])
    assert open_model(to_tflite(flat, "float32")).predict(np.zeros((1, 28, 28), "f4")).shape


@pytest.mark.parametrize("mode", ["int8", "int16x8"])
def test_a_loop_is_refused_before_it_ends_the_process(images, mode):
    """An LSTM that reads an image row by row: the converter itself ends with a signal."""
    keras = import_keras()
    layers = [keras.Input((28, 28, 1)), keras.layers.Reshape((28, 28)), keras.layers.LSTM(4)]
    rows = keras.Sequential([*layers, keras.layers.Dense(10)])
    with pytest.raises(ValueError, match="is a loop, and the converter to mode .* single time ste"):
        to_tflite(rows, mode, images[:2])
    assert open_model(to_tflite(rows, "float32")).predict(images[:2]).shape == (2, 10)


def test_the_settings_of_keras_do_not_change_the_file(model, files, images, restored_settings):  # noqa: F811
    restored_settings.set_dtype_policy("mixed_float16")
    restored_settings.set_floatx("float16")
    restored_settings.set_image_data_format("channels_first")
    assert to_tflite(model, "int8", images) == files["int8"]
    assert to_tflite(model, "float32") == files["float32"]


def test_threads_convert_and_run_side_by_side(model, files, images):
    def convert(mode: str) -> bytes:
        content = to_tflite(model, mode, images)
        open_model(content).predict(images[:2])
        return content

    with unchanged(), ThreadPoolExecutor(4) as pool:
        modes = ["float32", "int8", "dynamic", "float32"]
        assert list(pool.map(convert, modes)) == [files[mode] for mode in modes]


def test_a_failed_conversion_tells_why_and_restores_stderr(capfd):
    keras = import_keras()
    start = keras.Input((28, 28, 1))
    with unchanged(), pytest.raises(RuntimeError, match="to float32 failed(.|\n)*Erfinv"):
        to_tflite(keras.Model(start, keras.ops.erfinv(start)), "float32")
    four = keras.layers.Lambda(lambda x: x if x.shape[0] is None else x[:, :, :, 3:, 0])(start)
    with unchanged(), pytest.raises(RuntimeError, match="conversion to dynamic failed"):
        to_tflite(keras.Model(start, four), "dynamic")
    os.write(2, b"heard")
    assert capfd.readouterr() == ("", "heard")


PROGRAM = """
import numpy as np
from helpers.convert import to_tflite
from helpers.models import build
from helpers.runtime import open_model
images = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)
for mode in ("float32", "dynamic", "int8"):
    open_model(to_tflite(build("TinyCNN").eval(), mode, images)).predict(images)
"""


def test_nothing_is_printed_and_nothing_is_left(tmp_path):
    """A fresh process, because most log lines come while TensorFlow is imported."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "KERAS_"))}
    environment["TMPDIR"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # __pycache__: bytecode of the modules that TensorFlow's AutoGraph writes and removes again
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == []


def test_a_signature_changes_nothing_else(files, images):
    named = with_signature(files["float32"])
    signature = Interpreter(model_content=named).get_signature_list()["serving_default"]
    assert signature == {"inputs": ["input"], "outputs": ["output"]}
    before, after = (open_model(f).predict(images) for f in (files["float32"], named))
    assert np.array_equal(before, after)


def test_a_signature_needs_a_whole_model(files):
    content = files["int8"]
    for damaged in (b"", b"PK", content[:100], content[:8] + bytes(200) + content[208:]):
        with pytest.raises(ValueError, match="convert the model again"):
            with_signature(damaged)
    with pytest.raises(TypeError, match="int"):
        with_signature(3)


def test_a_file_may_have_two_outputs_and_then_no_signature():
    keras = import_keras()
    start = keras.Input((28, 28, 1))
    content = to_tflite(keras.Model(start, [start + 1, keras.ops.sum(start)]), "float32")
    for use in (with_signature, open_model):
        with pytest.raises(ValueError, match="1 inputs and 2 outputs: expected one of each"):
            use(content)


def test_ai_edge_quantizer_calibrates_in_silence(files, images, capfd):
    from ai_edge_quantizer import quantizer, recipe

    job = quantizer.Quantizer(with_signature(files["float32"]), recipe.static_wi8_ai8())
    rows = [{"input": row[None]} for row in calibration_rows(images[:8])]
    with quiet_quantizer():
        ranges = job.calibrate({"serving_default": rows}, num_threads=1)
        content = job.quantize(ranges, enable_progress_report=False).quantized_model
    assert len(content) < len(files["float32"])
    assert capfd.readouterr() == ("", "")
