"""Deployed files: three kernel sets behind one interface, and errors that say what to do."""

import os
import subprocess
import sys

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from test_twins import randomized

from helpers.convert import to_tflite
from helpers.data import fashion_mnist
from helpers.models import build
from helpers.quiet import captured_stderr
from helpers.runtime import RUNTIMES, open_model


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return fashion_mnist("test").images[:60]


@pytest.fixture(scope="module")
def files(images) -> dict[str, bytes]:
    model = randomized(build("TinyCNN"))
    return {mode: to_tflite(model, mode, images) for mode in ("float32", "int8", "int16x8")}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_predict_is_what_a_bare_interpreter_computes(files, images, runtime):
    """int8: the input is uint8 - 128, and the output (q - zero_point) * scale, exactly."""
    logits = open_model(files["int8"], runtime).predict(images)
    assert logits.dtype == np.float32 and logits.shape == (60, 10)
    bare = Interpreter(model_content=files["int8"], num_threads=1)
    bare.allocate_tensors()
    result = bare.get_output_details()[0]
    scale, zero_point = result["quantization"]
    for image, row in zip(images, logits, strict=True):
        pixels = (image.astype(np.int16) - 128).astype(np.int8)
        bare.set_tensor(bare.get_input_details()[0]["index"], pixels[None, :, :, None])
        bare.invoke()
        q = np.rint(row / scale) + zero_point
        np.testing.assert_array_equal(np.float32(scale) * (q - zero_point).astype(np.float32), row)
        step = np.abs(q - bare.get_tensor(result["index"])[0]).max()
        assert step == 0 if runtime == "litert" else step <= 3


@pytest.mark.parametrize("mode", ["float32", "int8", "int16x8"])
def test_the_kernel_sets_agree(files, images, mode):
    logits = {runtime: open_model(files[mode], runtime).predict(images) for runtime in RUNTIMES}
    tolerance = 1e-5 if mode == "float32" else 0.03 * np.ptp(logits["litert"])
    for runtime in RUNTIMES:
        np.testing.assert_allclose(logits[runtime], logits["litert"], rtol=0, atol=tolerance)


def test_one_image_or_many_is_the_same(files, images):
    for content in files.values():
        model = open_model(content)
        together = model.predict(images[:8])
        apart = np.concatenate([model.predict(image[None]) for image in images[:8]])
        np.testing.assert_array_equal(together, apart)
    assert model.predict(images[:0]).shape == (0, 10)
    threaded = open_model(files["int8"], threads=2).predict(images[:8])
    np.testing.assert_array_equal(threaded, open_model(files["int8"]).predict(images[:8]))


def test_a_prepared_image_runs_without_arguments(files, images):
    model = open_model(files["float32"])
    expected = model.predict(images[5:6])
    run = model.prepare(images[5])
    model.predict(images[:1])
    assert run() is None
    np.testing.assert_array_equal(model._interpreter.get_tensor(model._output["index"]), expected)
    with pytest.raises(ValueError, match=r"\[N, 28, 28\]"):
        model.prepare(images)


def test_a_file_or_its_bytes(files, images, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(files["int8"])
    for given in (path, str(path), files["int8"]):
        model = open_model(given)
        assert model.size_bytes == path.stat().st_size
        assert model.predict(images[:2]).shape == (2, 10)


def damaged(content: bytes) -> dict[str, bytes]:
    half = len(content) // 2
    return {
        "empty": b"",
        "not a model": b"PK\x03\x04 this is a zip archive",
        "header only": content[:8],
        "cut": content[:half],
        "cut by one byte": content[:-1],
        "zeros at the start": content[:8] + bytes(200) + content[208:],
        "zeros at the end": content[:half] + bytes(half),
    }


@pytest.mark.parametrize("kind", damaged(b"x" * 300))
def test_damaged_bytes_are_an_error_and_not_a_crash(files, kind, tmp_path):
    content = damaged(files["int8"])[kind]
    with pytest.raises(ValueError, match=r"convert (it|the model) again"):
        open_model(content)
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"convert (it|the model) again"):
        open_model(path, "litert-builtin")


def test_what_is_wrong_is_said(files, images, tmp_path):
    with pytest.raises(ValueError, match="choose one of litert, litert-builtin, litert-reference"):
        open_model(files["int8"], "tensorrt")
    with pytest.raises(FileNotFoundError, match="nothing.tflite.*to_tflite"):
        open_model(tmp_path / "nothing.tflite")
    with pytest.raises(TypeError, match="Interpreter|int"):
        open_model(3)
    for threads in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="at least 1"):
            open_model(files["int8"], threads=threads)
    model = open_model(files["int8"])
    with pytest.raises(TypeError, match="float64.*uint8 in 0..255"):
        model.predict(images / 255)
    for wrong in (images[0], images[..., None], images[:, :27], np.uint8(3)):
        with pytest.raises(ValueError, match=r"expected \[N, 28, 28\]"):
            model.predict(wrong)


def test_nothing_is_printed(files, images, capfd):
    for runtime in RUNTIMES:
        open_model(files["float32"], runtime).predict(images[:1])
    with pytest.raises(ValueError):
        open_model(files["float32"][:100])
    assert capfd.readouterr() == ("", "")


def test_captured_stderr_is_restored_after_an_error(capfd):
    with pytest.raises(KeyError), captured_stderr() as log:
        os.write(2, b"caught")
        log.seek(0)
        raise KeyError(log.read().decode())
    os.write(2, b"free")
    assert capfd.readouterr().err == "free"


def test_a_device_needs_neither_torch_nor_tensorflow(files, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(files["int8"])
    program = (
        "import sys, numpy as np; from helpers.runtime import open_model;"
        f"open_model({str(path)!r}).predict(np.zeros((1, 28, 28), np.uint8));"
        "print([m for m in ('torch', 'tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
