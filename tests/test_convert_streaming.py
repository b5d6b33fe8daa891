"""A recurrent network as a file of one step computes what PyTorch does, and refuses the rest."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers.architectures import SensorRNN
from helpers.convert import graph_of, to_streaming_tflite, to_tflite
from helpers.data import watch
from helpers.deployed import Tensor
from helpers.models import build, load
from helpers.runtime_streaming import Stream, open_stream, requantize
from helpers.train import predict

NAMES = ("SensorGRU", "SensorLSTM")


def windows(count: int, steps: int = 12, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 1, (count, steps, 6)) + rng.normal(0, 1, 6)).astype(np.float32)


def network(name: str, units: int = 32) -> SensorRNN:
    """New, but with an input norm that is not the identity."""
    model = build(name) if units == 32 else SensorRNN(getattr(nn, name[6:]), units)
    generator = torch.Generator().manual_seed(1)
    nn.init.normal_(model.norm.running_mean, generator=generator)
    nn.init.uniform_(model.norm.running_var, 0.2, 4, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def files():
    """{(name, mode): the file of a shipped model}, and the windows that calibrated it."""
    drawn = watch("fit").windows[::60]
    return {
        (name, mode): to_streaming_tflite(load(name), mode, drawn)
        for name in NAMES
        for mode in ("float32", "int8", "int16x8")
    }


@pytest.mark.parametrize("units", [32, 5])
@pytest.mark.parametrize("name", NAMES)
def test_the_float_file_computes_what_pytorch_does(name, units):
    model, x = network(name, units), windows(7)
    found = open_stream(to_streaming_tflite(model, "float32")).predict(x)
    assert found.dtype == np.float32 and found.shape == (7, 7)
    np.testing.assert_allclose(found, predict(model, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["float32", "int8", "int16x8"])
@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_models_keep_their_answers(name, mode, files):
    x = watch("test").windows[::5]
    float_answers = predict(load(name), x).argmax(1)
    found = open_stream(files[name, mode]).predict(x).argmax(1)
    assert np.mean(found == float_answers) > {"float32": 0.995, "int8": 0.93, "int16x8": 0.98}[mode]


@pytest.mark.parametrize("name", NAMES)
def test_the_signature_and_the_types(name, files):
    for mode, dtype in (("float32", "float32"), ("int8", "int8"), ("int16x8", "int16")):
        stream = Stream(files[name, mode])
        states = ("h",) if name == "SensorGRU" else ("c", "h")
        assert stream.states == states and stream.size_bytes == len(files[name, mode])
        assert set(stream.inputs) == {"x", *states} and set(stream.outputs) == {"logits", *states}
        tensors = [*stream.inputs.values(), *stream.outputs.values()]
        assert {str(tensor.dtype) for tensor in tensors} == {dtype}
        assert all((tensor.scale > 0) == (mode != "float32") for tensor in tensors)


@pytest.mark.parametrize("name", NAMES)
def test_an_integer_file_holds_no_float_tensor(name, files):
    for mode in ("int8", "int16x8"):
        graph = graph_of(files[name, mode])[1]
        assert all(tensor.type != 0 for tensor in graph.tensors), "0 is FLOAT32"


@pytest.mark.parametrize("mode", ["float32", "int8", "int16x8"])
def test_a_batch_is_its_windows_one_by_one(mode, files):
    stream, x = open_stream(files["SensorLSTM", mode]), windows(300, 5)
    together = stream.predict(x)
    for k in (0, 255, 256, 299):
        assert np.array_equal(stream.predict(x[k : k + 1])[0], together[k])
    assert np.array_equal(stream.predict(x), together), "a state was left over"
    assert stream.predict(x[:0]).shape == (0, 7)


def test_a_step_is_what_predict_repeats(files):
    """Also with other kernels, and for another number of rows from step to step."""
    x = windows(3)
    for runtime in ("litert", "litert-reference"):
        stream = open_stream(files["SensorGRU", "int8"], runtime=runtime)
        given, total = {"h": stream.inputs["h"].quantize(np.zeros((3, 32), np.float32))}, 0
        for t in range(x.shape[1]):
            stream.step({name: values[:1] for name, values in given.items()} | first(stream, x))
            given["x"] = stream.inputs["x"].quantize(x[:, t])
            found = stream.step(given)
            total += stream.outputs["logits"].dequantize(found["logits"]).astype(float)
            given["h"] = requantize(found["h"], stream.outputs["h"], stream.inputs["h"])
        logits = (total / x.shape[1]).astype(np.float32)
        np.testing.assert_array_equal(logits, stream.predict(x))


def first(stream, x) -> dict:
    """The first step of the first window."""
    return {"x": stream.inputs["x"].quantize(x[:1, 0])}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (dict(h=None), ValueError, "reads \\['h', 'x'\\]"),
        (dict(h=np.zeros((1, 32), np.float32)), TypeError, "h has dtype float32: pass int8"),
        (dict(h=np.zeros((1, 31), np.int8)), ValueError, "h has shape"),
        (dict(h=np.zeros((2, 32), np.int8)), ValueError, "h has shape"),
    ],
)
def test_other_inputs_of_a_step_are_refused(change, error, words, files):
    stream = open_stream(files["SensorGRU", "int8"])
    given = {"h": np.zeros((1, 32), np.int8), "x": np.zeros((1, 6), np.int8)} | change
    with pytest.raises(error, match=words):
        stream.step({name: values for name, values in given.items() if values is not None})


def test_an_unknown_runtime_is_refused(files):
    with pytest.raises(ValueError, match="choose one of litert"):
        open_stream(files["SensorGRU", "int8"], runtime="onnxruntime")


def test_threads_share_a_stream(files):
    stream = open_stream(files["SensorGRU", "int8"])
    parts = [windows(20, 30, seed) for seed in range(6)]
    expected = [stream.predict(part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(stream.predict, parts), expected, strict=True):
            assert np.array_equal(found, wanted)


@settings(max_examples=60, deadline=None)
@given(
    scales=st.tuples(st.floats(1e-4, 1), st.floats(1e-4, 1)),
    zero_points=st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
    wide=st.booleans(),
)
def test_requantize_is_exact(scales, zero_points, wide):
    dtype = np.int16 if wide else np.int8
    source, target = (Tensor((1,), dtype, s, z) for s, z in zip(scales, zero_points, strict=True))
    limits = np.iinfo(dtype)
    q = np.linspace(limits.min, limits.max, 257).astype(dtype)
    real = [Fraction(scales[0]) * (int(k) - zero_points[0]) / Fraction(scales[1]) for k in q]
    wanted = np.clip([float(r) + zero_points[1] for r in real], limits.min, limits.max)
    found = requantize(q, source, target)
    assert found.dtype == dtype
    off = np.abs(found - wanted)
    assert (off <= 0.5 + 1e-6 * np.abs([float(r) for r in real])).all()


def test_a_state_of_the_same_scale_is_carried_as_it_is():
    q = np.arange(-128, 128).astype(np.int8)
    assert requantize(q, Tensor((1,), np.int8, 0.1, 3), Tensor((1,), np.int8, 0.1, 3)) is q
    floats = Tensor((1,), np.float32)
    x = np.array([1.5], np.float32)
    assert requantize(x, floats, floats) is x


def test_what_is_carried_counts(files):
    stream, x = open_stream(files["SensorGRU", "int8"]), windows(5)
    forgotten = stream.predict(x, lambda q, source, target: np.full_like(q, target.zero_point))
    assert not np.array_equal(forgotten, stream.predict(x))
    seen = []

    def carry(q, source, target):
        seen.append((q.dtype, source, target))
        return requantize(q, source, target)

    assert np.array_equal(stream.predict(x, carry), stream.predict(x))
    assert len(seen) == 12 and seen[0][1:] == (stream.outputs["h"], stream.inputs["h"])


# What is refused.


def altered(**options) -> SensorRNN:
    model = SensorRNN(nn.GRU)
    model.rnn = nn.GRU(6, 32, **{"batch_first": True, **options})
    return model


def hooked() -> SensorRNN:
    model = build("SensorGRU")
    model.rnn.register_forward_hook(lambda module, inputs, output: output)
    return model


def with_norm(norm: nn.Module) -> SensorRNN:
    model = build("SensorGRU")
    model.norm = norm
    return model


def with_head(head: nn.Module) -> SensorRNN:
    model = build("SensorGRU")
    model.head = head
    return model


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (lambda: build("TinyCNN"), TypeError, "TinyCNN has no single step: pass a SensorGRU"),
        (lambda: "SensorGRU", TypeError, "str has no single step"),
        (lambda: SensorRNN(nn.RNN), TypeError, "SensorRNN has no single step"),
        (hooked, ValueError, "module rnn .* has a forward hook"),
        (lambda: altered(num_layers=2), ValueError, "it must have one layer"),
        (lambda: altered(bias=False), ValueError, "it must have one layer.*a bias"),
        (lambda: altered(batch_first=False), ValueError, "it must have .*batch_first=True"),
        (lambda: with_norm(nn.BatchNorm1d(6)), ValueError, "the course's input norm"),
        (lambda: with_norm(nn.Identity()), ValueError, "the course's input norm"),
        (lambda: with_head(nn.Identity()), ValueError, "and a linear head"),
    ],
)
def test_other_networks_are_refused(model, error, words):
    with pytest.raises(error, match=words):
        to_streaming_tflite(model(), "float32")


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        (None, "mode 'int8' needs windows: pass some training windows"),
        (np.zeros((2, 10, 6)), "windows are float64 .* expected float32"),
        (np.zeros((10, 6), np.float32), "expected float32 .N, time, 6."),
        (np.zeros((2, 10, 5), np.float32), "windows are float32 .2, 10, 5."),
        (np.zeros((0, 10, 6), np.float32), "at least one"),
        (np.full((1, 10, 6), np.nan, np.float32), "NaN or infinity"),
    ],
)
def test_windows_that_cannot_calibrate_are_refused(given_, words):
    with pytest.raises(ValueError, match=words):
        to_streaming_tflite(build("SensorGRU"), "int8", given_)


def test_other_modes_and_windows_that_are_no_array_are_refused():
    with pytest.raises(
        ValueError, match="unknown mode 'float16': choose one of float32, int8, int"
    ):
        to_streaming_tflite(build("SensorGRU"), "float16")
    with pytest.raises(TypeError, match="windows is a list_iterator"):
        to_streaming_tflite(build("SensorGRU"), "int8", iter([1]))


def test_other_files_are_refused(tmp_path, files):
    plain = to_tflite(build("TinyCNN"), "float32")
    with pytest.raises(ValueError, match="signatures .*, and not 'step': convert a recurrent"):
        open_stream(plain)
    content = files["SensorGRU", "int8"]
    with pytest.raises(ValueError, match="LiteRT cannot open the model"):
        open_stream(content[:200])
    with pytest.raises(FileNotFoundError):
        open_stream(tmp_path / "missing.tflite")
    with pytest.raises(TypeError):
        open_stream(content, threads=1.5)
    path = tmp_path / "step.tflite"
    path.write_bytes(content)
    x = windows(3)
    assert np.array_equal(open_stream(path).predict(x), open_stream(content).predict(x))


@pytest.mark.parametrize(
    ("given_", "error", "words"),
    [
        (np.zeros((2, 10, 6)), TypeError, "windows have dtype float64: pass float32"),
        (np.zeros((10, 6), np.float32), ValueError, "expected .N, time, 6."),
        (np.zeros((2, 0, 6), np.float32), ValueError, "windows have shape .2, 0, 6."),
        (np.zeros((2, 10, 7), np.float32), ValueError, "expected .N, time, 6."),
        (np.full((1, 4, 6), np.inf, np.float32), ValueError, "NaN or infinity"),
        ("text", TypeError, "windows"),
    ],
)
def test_other_windows_are_refused(given_, error, words, files):
    with pytest.raises(error, match=words):
        open_stream(files["SensorGRU", "int8"]).predict(given_)
