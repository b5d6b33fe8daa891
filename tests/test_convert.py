"""Conversion to .tflite: five modes, quiet, and an int8 input that is exactly uint8 - 128."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from test_twins import randomized

from helpers.convert import MODES, calibration_rows, to_tflite, with_signature
from helpers.data import fashion_mnist
from helpers.models import as_input, build
from helpers.quiet import quiet_quantizer
from helpers.runtime import open_model
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
    [("float32", 1e-5), ("float16", 2e-3), ("dynamic", 0.02), ("int8", 0.05), ("int16x8", 0.02)],
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


def test_a_large_model_shrinks_by_its_bits(images):
    model = build("LeNet300").eval()
    size = {
        mode: len(to_tflite(model, mode, images[:5])) for mode in ("float32", "float16", "int8")
    }
    assert 1.9 < size["float32"] / size["float16"] <= 2
    assert 3.7 < size["float32"] / size["int8"] <= 4


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


def test_what_is_wrong_is_said(model, images):
    with pytest.raises(ValueError, match="'int4': choose one of float32, float16, dynamic, int8"):
        to_tflite(model, "int4")
    with pytest.raises(ValueError, match="'int8' needs calibration"):
        to_tflite(model, "int8")
    with pytest.raises(ValueError, match="no image"):
        to_tflite(model, "int8", calibration=images[:0])
    with pytest.raises(TypeError, match="uint8"):
        to_tflite(model, "int8", calibration=images / 255)
    with pytest.raises(TypeError, match="dict"):
        to_tflite({}, "float32")


def test_a_failed_conversion_tells_why_and_restores_stderr(capfd):
    keras = import_keras()
    start = keras.Input((28, 28, 1))
    with pytest.raises(RuntimeError, match="conversion to float32 failed(.|\n)*Erfinv"):
        to_tflite(keras.Model(start, keras.ops.erfinv(start)), "float32")
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


def test_ai_edge_quantizer_calibrates_in_silence(files, images, capfd):
    from ai_edge_quantizer import quantizer, recipe

    job = quantizer.Quantizer(with_signature(files["float32"]), recipe.static_wi8_ai8())
    rows = [{"input": row[None]} for row in calibration_rows(images[:8])]
    with quiet_quantizer():
        ranges = job.calibrate({"serving_default": rows}, num_threads=1)
        content = job.quantize(ranges, enable_progress_report=False).quantized_model
    assert len(content) < len(files["float32"])
    assert capfd.readouterr() == ("", "")
