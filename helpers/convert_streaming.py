"""A recurrent network as a .tflite file of one time step: its state goes in and comes out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator

import numpy as np
from torch import nn

from helpers.architectures import SensorRNN
from helpers.arguments import one_of
from helpers.convert_tflite import INTEGER, converting, integers_only
from helpers.deployed import as_array
from helpers.keras_start import import_keras
from helpers.quiet import quiet_converter
from helpers.twin_layers import array, require
from helpers.twins import refuse_hidden_changes, runs_like

MODES = ("float32", *INTEGER)
SIGNATURE = "step"
STRIDE = 3  # of a window's steps one in three calibrates: neighbors are nearly alike


def to_streaming_tflite(model: SensorRNN, mode: str, windows: np.ndarray | None = None) -> bytes:
    """A .tflite file, as bytes, that computes one time step of a SensorGRU or SensorLSTM,
    or of another SensorRNN, such as SpeechGRU.

    Its signature "step" reads x [1, features] and the state h [1, units], an LSTM's c as well, and
    returns the next state under the same names and its logits [1, classes]. Their mean over a
    window is the model's answer, since its head is linear: a device keeps a running sum. What
    standardizes the input is folded into the input weights.

    mode: "float32", "int8" or "int16x8", as in to_tflite. In an integer file a state has one scale
    as an input and one as an output: it must be requantized between two steps, as
    helpers.runtime_streaming does.
    windows: float32 [N, time, features] that set the ranges of the integer modes, some tens of
    windows of training data. Inputs and the states that the float model is in calibrate together.
    Several threads may convert; they wait for one another.

    Raises ValueError for an unknown mode, a network with other settings, and windows that are
    missing or do not fit; TypeError for another model; RuntimeError with the converter's words.

    >>> from helpers.models import build
    >>> content = to_streaming_tflite(build("SensorGRU"), "float32")
    >>> content[4:8], 19_000 < len(content) < 21_000  # 4,263 numbers of 4 bytes, and the graph
    (b'TFL3', True)
    """
    one_of("mode", mode, MODES)
    step, names, units = cell_of(model)
    features = model.rnn.input_size
    windows = calibration_windows(windows, mode, features)
    with converting:
        import_keras()
        import tensorflow as tf

        specs = [
            tf.TensorSpec((1, features if n == "x" else units), tf.float32, n)
            for n in ("x", *names)
        ]
        module = tf.Module()
        with tempfile.TemporaryDirectory() as folder, quiet_converter(mode):
            module.step = tf.function(step, input_signature=specs)
            signatures = {SIGNATURE: module.step.get_concrete_function()}
            tf.saved_model.save(module, folder, signatures)
            settings = tf.lite.TFLiteConverter.from_saved_model(folder, [SIGNATURE])
            if mode in INTEGER:
                integers_only(settings, mode)
                settings.representative_dataset = lambda: (
                    (SIGNATURE, row) for row in calibration_rows(step, names, units, windows)
                )
            return settings.convert()


def cell_of(model: SensorRNN) -> tuple[Callable, tuple, int]:
    """(step, the names of the state, units): step(x [N, 6], *state) -> {name: next, logits}.

    With mean m and deviation s of the input, W (x - m) / s + b = (W / s) x + (b - W m / s).
    """
    if not runs_like(model, SensorRNN) or type(model.rnn) not in (nn.GRU, nn.LSTM):
        raise TypeError(
            f"{type(model).__name__} has no single step: pass a SensorGRU or a SensorLSTM"
        )
    refuse_hidden_changes(model)
    rnn, norm = model.rnn, model.norm
    one = rnn.num_layers == 1 and not rnn.bidirectional and rnn.bias and not rnn.proj_size
    require(one and rnn.batch_first, "one layer, one direction, a bias, batch_first=True")
    plain = type(norm) is nn.BatchNorm1d and norm.track_running_stats and not norm.affine
    require(plain and type(model.head) is nn.Linear, "the course's input norm and a linear head")
    w_ih, w_hh = array(rnn.weight_ih_l0), array(rnn.weight_hh_l0)
    b_ih, b_hh = array(rnn.bias_ih_l0), array(rnn.bias_hh_l0)
    mean, deviation = array(norm.running_mean), np.sqrt(array(norm.running_var) + norm.eps)
    scaled, moved = w_ih / deviation, b_ih - w_ih @ (mean / deviation)
    w_hy, b_y = array(model.head.weight), array(model.head.bias)

    def gru(x, h):
        import tensorflow as tf

        ours = tf.split(tf.matmul(x, scaled.T) + moved, 3, axis=1)
        past = tf.split(tf.matmul(h, w_hh.T) + b_hh, 3, axis=1)
        r, z = (tf.sigmoid(ours[k] + past[k]) for k in (0, 1))
        n = tf.tanh(ours[2] + r * past[2])
        h = n + z * (h - n)
        return {"h": h, "logits": tf.matmul(h, w_hy.T) + b_y}

    def lstm(x, h, c):
        import tensorflow as tf

        total = tf.matmul(x, scaled.T) + tf.matmul(h, w_hh.T) + (moved + b_hh)
        i, f, g, o = tf.split(total, 4, axis=1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        h = tf.sigmoid(o) * tf.tanh(c)
        return {"h": h, "c": c, "logits": tf.matmul(h, w_hy.T) + b_y}

    step, names = (gru, ("h",)) if type(rnn) is nn.GRU else (lstm, ("h", "c"))
    return step, names, rnn.hidden_size


def calibration_windows(
    windows: np.ndarray | None, mode: str, features: int = 6
) -> np.ndarray | None:
    """float32 [N, time, features], one at least and finite; None where the mode needs none."""
    if mode not in INTEGER:
        return None
    if windows is None:
        raise ValueError(
            f"mode {mode!r} needs windows: pass some training windows, for example "
            "windows=helpers.data.watch('fit').windows[::100]"
        )
    windows = as_array("windows", windows)
    if windows.dtype != np.float32 or windows.shape[2:] != (features,) or windows.size == 0:
        given = f"{windows.dtype} {list(windows.shape)}"
        raise ValueError(
            f"windows are {given}: expected float32 [N, time, {features}], at least one"
        )
    if not np.isfinite(windows).all():
        raise ValueError("windows hold NaN or infinity: leave those windows out")
    return windows


def calibration_rows(step: Callable, names: tuple, units: int, windows: np.ndarray) -> Iterator:
    """{"x": [1, features], "h": [1, units]} by name: a list would go by the file's own order."""
    state = {name: np.zeros((len(windows), units), np.float32) for name in names}
    for t, x in enumerate(windows.swapaxes(0, 1)):
        if t % STRIDE == 0:
            for k in range(len(windows)):
                yield {"x": x[k : k + 1], **{name: state[name][k : k + 1] for name in names}}
        state = {n: y.numpy() for n, y in step(x, *state.values()).items() if n in names}
