"""Deployed files: three kernel sets behind one interface, and errors that say what to do."""

import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from hypothesis import given, settings
from hypothesis import strategies as st
from test_twins import randomized

from helpers.convert import to_tflite
from helpers.data import fashion_mnist
from helpers.deployed import as_array
from helpers.models import build
from helpers.quiet import quiet_converter
from helpers.runtime import RUNTIMES, open_model
from helpers.tflite_file import graph_of, operators
from helpers.twins import import_keras

TFLITE = [
    name
    for name, kind in RUNTIMES.items()
    if kind == ".tflite" and (name != "tflite-micro" or importlib.util.find_spec("tflite_micro"))
]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return fashion_mnist("test").images[:60]


@pytest.fixture(scope="module")
def files(images) -> dict[str, bytes]:
    model = randomized(build("TinyCNN"))
    return {mode: to_tflite(model, mode, images) for mode in ("float32", "int8", "int16x8")}


@pytest.mark.parametrize("runtime", TFLITE)
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
    logits = {runtime: open_model(files[mode], runtime).predict(images) for runtime in TFLITE}
    tolerance = 1e-5 if mode == "float32" else 0.03 * np.ptp(logits["litert"])
    for runtime in TFLITE:
        np.testing.assert_allclose(logits[runtime], logits["litert"], rtol=0, atol=tolerance)


@pytest.mark.skipif("tflite-micro" not in TFLITE, reason="no wheel for this machine")
def test_micro_computes_the_reference_and_tells_its_arena(files, images):
    micro = open_model(files["int8"], "tflite-micro")
    reference = open_model(files["int8"], "litert-reference")
    np.testing.assert_array_equal(micro.predict(images[:9]), reference.predict(images[:9]))
    assert micro.size_bytes == len(files["int8"]) and 10_000 < micro.arena_bytes < 50_000
    assert reference.arena_bytes is None
    assert micro.tensor_bytes == 15680  # what is alive at once, of the arena
    model = randomized(build("TinyCNN"))
    for mode in ("float16", "dynamic"):
        with pytest.raises(ValueError, match="has fewer operations than LiteRT"):
            open_model(to_tflite(model, mode), "tflite-micro")


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
    np.testing.assert_array_equal(model._interpreter.get_tensor(model._output), expected)
    with pytest.raises(ValueError, match=r"\[N, 28, 28\]"):
        model.prepare(images)


def test_a_file_or_its_bytes(files, images, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(files["int8"])
    for source in (path, str(path), files["int8"]):
        model = open_model(source)
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
    for threads in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            open_model(files["int8"], threads=threads)
    for threads in (1.5, True, "2", None):
        with pytest.raises(TypeError, match="threads is .*at least 1"):
            open_model(files["int8"], threads=threads)
    assert open_model(files["int8"], threads=np.int64(2)).predict(images[:1]).shape == (1, 10)
    model = open_model(files["int8"])
    with pytest.raises(TypeError, match="float64.*uint8 in 0..255"):
        model.predict(images / 255)
    for wrong in (images[0], images[..., None], images[:, :27], np.uint8(3)):
        with pytest.raises(ValueError, match=r"expected \[N, 28, 28\]"):
            model.predict(wrong)


ROWS = np.random.default_rng(0).normal(size=(50, 4, 3)).astype(np.float32)


def converted(function, *, batch: int | None = 1, integer: bool = False) -> bytes:
    """A .tflite file of a function of float32 [batch, 4, 3], by TensorFlow's own converter."""
    import_keras()
    import tensorflow as tf

    spec = tf.TensorSpec((batch, 4, 3), tf.float32)
    traced = tf.function(function).get_concrete_function(spec)
    with quiet_converter("a test's file"):
        converter = tf.lite.TFLiteConverter.from_concrete_functions([traced])
        if integer:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
            converter.representative_dataset = lambda: ([row[None]] for row in ROWS)
        return converter.convert()


def dense(x):
    """Twelve numbers -> two."""
    import tensorflow as tf

    weights = np.linspace(-1, 1, 24, dtype=np.float32).reshape(12, 2)
    return tf.matmul(tf.reshape(x, (-1, 12)), weights)


@pytest.fixture(scope="module")
def windows() -> dict[str, bytes]:
    return {"float32": converted(dense), "int8": converted(dense, integer=True)}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_have_no_integer(windows, value):
    x = ROWS[:3].copy()
    x[1, 2, 0] = value
    model = open_model(windows["int8"])
    with pytest.raises(ValueError, match="NaN or infinity, and the model reads int8"):
        model.predict(x)
    with pytest.raises(ValueError, match="NaN or infinity"):
        model.prepare(x[1])
    assert np.isfinite(model.predict(x[:1])).all()
    logits = open_model(windows["float32"]).predict(x)
    assert np.isfinite(logits[[0, 2]]).all() and not np.isfinite(logits[1]).any()


def test_integers_saturate_where_float_goes_on(windows):
    largest = np.abs(ROWS).max()
    model = open_model(windows["int8"])
    far = np.full((1, 4, 3), 1e30, np.float32)
    np.testing.assert_array_equal(model.as_read(far), 127)
    np.testing.assert_array_equal(model.as_read(-far), -128)
    scale, zero_point = model.input_quantization
    q = model.as_read(ROWS).astype(int)
    assert np.abs((q - zero_point) * scale - ROWS).max() <= 0.5001 * scale + 1e-6 * largest


def test_no_input_gives_no_logits(windows, files, images):
    for content in windows.values():
        logits = open_model(content).predict(ROWS[:0])
        assert logits.shape == (0, 2) and logits.dtype == np.float32
    for content in files.values():
        logits = open_model(content).predict(images[:0])
        assert logits.shape == (0, 10) and logits.dtype == np.float32


LAYOUTS = {
    "flipped": lambda x: x[:, ::-1].copy()[:, ::-1],
    "reversed": lambda x: x[::-1].copy()[::-1],
    "Fortran": np.asfortranarray,
    "transposed": lambda x: x.swapaxes(0, 2).copy().swapaxes(0, 2),
    "every other": lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "list of arrays": list,
    "tensor": torch.as_tensor,
}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(kind=st.sampled_from(sorted(LAYOUTS)), first=st.integers(0, 40), n=st.integers(0, 3))
def test_any_memory_layout_is_read_alike(windows, files, images, kind, first, n):
    if kind == "list of arrays":
        n = max(n, 1)  # an empty list has no dtype
    for content, inputs in ((windows["float32"], ROWS), (files["int8"], images)):
        x, model = inputs[first : first + n], open_model(content)
        expected = model.predict(x.copy())
        other = LAYOUTS[kind](x)
        np.testing.assert_array_equal(model.predict(other), expected)
        if isinstance(other, np.ndarray) and other.base is None:
            other.setflags(write=False)
            np.testing.assert_array_equal(model.predict(other), expected)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "float64", "U1"])
def test_other_dtypes_are_refused(windows, files, images, dtype):
    with pytest.raises(TypeError, match="pass the raw pixels as uint8 in 0..255, unscaled"):
        open_model(files["int8"]).predict(images[:1].astype(dtype))
    with pytest.raises(TypeError, match=f"dtype {np.dtype(dtype)}: pass float32"):
        open_model(windows["int8"]).predict(ROWS[:1].astype(dtype))


def test_what_is_no_array_is_refused(windows):
    graph = torch.as_tensor(ROWS).requires_grad_()
    for wrong in (graph, torch.ones(1, 4, 3).bfloat16(), [[1], [2, 3]], iter(ROWS), None):
        with pytest.raises(TypeError, match=f"{type(wrong).__name__}: pass one NumPy array"):
            open_model(windows["float32"]).predict(wrong)
    assert as_array("x", graph.detach() * 2).dtype == np.float32


def test_another_shape_of_window_is_refused(windows):
    for wrong in (ROWS[0], ROWS[:, :3], ROWS[..., None], np.float32(1)):
        with pytest.raises(ValueError, match=r"expected \[N, 4, 3\]; for a single input use x"):
            open_model(windows["float32"]).predict(wrong)


def test_a_batch_left_open_runs_one_at_a_time(windows):
    loose = open_model(converted(dense, batch=None))
    np.testing.assert_allclose(
        loose.predict(ROWS), open_model(windows["float32"]).predict(ROWS), atol=1e-6
    )


def ends() -> dict:
    """kind: (a file, what is said when it is opened)."""
    import tensorflow as tf

    return {
        "a map": (converted(lambda x: x * 2), r"output has shape \[1, 4, 3\]: expected \[1, C\]"),
        "one number": (converted(tf.reduce_sum), r"output has shape \[\]"),
        "one axis": (converted(lambda x: tf.reduce_sum(x, (1, 2))), r"output has shape \[1\]"),
        "no batch": (converted(lambda x: tf.reshape(x, (2, 6))), r"output has shape \[2, 6\]"),
        "two outputs": (converted(lambda x: (x + 1, x * 2)), "1 inputs and 2 outputs"),
        "truth values": (converted(lambda x: dense(x) > 0), "output is bool_? without a scale"),
        "classes": (
            converted(lambda x: tf.cast(dense(x) * 9, tf.int32)),
            "output is int32 without a scale",
        ),
        "a batch of two": (converted(dense, batch=2), r"input has shape \[2, 4, 3\]"),
    }


def test_other_ends_are_refused_when_the_file_is_opened():
    for kind, (content, words) in ends().items():
        with pytest.raises(ValueError, match=words):
            open_model(content)
            pytest.fail(kind)


def test_a_model_that_reads_bytes_without_a_scale_is_refused():
    import_keras()
    import tensorflow as tf

    spec = tf.TensorSpec((1, 4, 3), tf.uint8)
    function = tf.function(lambda x: dense(tf.cast(x, tf.float32))).get_concrete_function(spec)
    with quiet_converter("a test's file"):
        content = tf.lite.TFLiteConverter.from_concrete_functions([function]).convert()
    with pytest.raises(ValueError, match="input is uint8 without a scale: expected float32"):
        open_model(content)


@pytest.mark.parametrize("mode", ["float32", "int8"])
def test_threads_may_share_a_model(files, images, mode):
    """An interpreter has one input: without a lock, a thread reads another's output."""
    model = open_model(files[mode])
    expected = model.predict(images)
    run = model.prepare(images[0])

    def work(i: int) -> np.ndarray:
        for _ in range(20):
            run()
        return model.predict(images[i::8])

    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for i, logits in enumerate(pool.map(work, range(8))):
                np.testing.assert_array_equal(logits, expected[i::8])


def test_nothing_is_printed(files, images, capfd):
    for runtime in TFLITE:
        open_model(files["float32"], runtime).predict(images[:1])
    with pytest.raises(ValueError):
        open_model(files["float32"][:100])
    assert capfd.readouterr() == ("", "")


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


STRETCH = """
import sys
import numpy as np
from ai_edge_litert.tools import flatbuffer_utils
from helpers.runtime import open_model
from helpers.tflite_file import graph_of, operators

content = open(sys.argv[1], "rb").read()
outputs = [o.outputs[0].index for o in operators(content) if len(o.outputs[0].scales)]
rng, opened = np.random.default_rng(0), 0
for _ in range(150):
    model, graph = graph_of(content)
    for i in rng.choice(outputs, rng.integers(1, 4), replace=False):
        q = graph.tensors[i].quantization
        odd = rng.choice([0.0, -1.0, np.nan, np.inf, 1e-40, 1e38])
        scale = q.scale * 2.0 ** rng.uniform(-45, 45) if rng.random() < 0.8 else [odd]
        q.scale = np.array(scale, np.float32)
    changed = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    for runtime in sys.argv[2:]:
        try:
            open_model(changed, runtime).predict(np.zeros((1, 28, 28), np.uint8))
            opened += 1
        except ValueError:
            pass
print(opened)
"""


def test_scales_of_any_size_are_an_error_and_not_a_crash(images, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(to_tflite(randomized(build("ResNet8")), "int8", images))
    command = [sys.executable, "-c", STRETCH, str(path), *TFLITE]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"ended by signal {-done.returncode}"
    assert 5 < int(done.stdout) < 150 * len(TFLITE) - 100  # some of each kind


def test_a_tensor_that_hardly_varied_is_named(images):
    content = to_tflite(randomized(build("ResNet8")), "int8", images)
    sums = [o.outputs[0] for o in operators(content) if o.name == "ADD"]
    model, graph = graph_of(content)
    graph.tensors[sums[0].index].quantization.scale = np.float32(sums[0].scales * 1e-9)
    content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    words = r"step of ADD's input is .* steps of its output .*: it hardly varied while"
    with pytest.raises(ValueError, match=words):
        open_model(content)
