"""The functions of lesson 15, as the reader sees them, against torch, Keras and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from torch import nn

from helpers import twins

LESSON = definitions("15_lstm_and_gru")
SOLUTION = definitions("solutions/15_lstm_and_gru")
FEW = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32)
small = st.integers(1, 5)


def drawn(seed, gates, inputs, hidden, scale=1.0):
    """x [3, T, inputs] for T drawn, W_xh, W_hh and two biases in torch's layout, float64."""
    rng = np.random.default_rng(seed)
    rows = gates * hidden
    shapes = (rows, inputs), (rows, hidden), (rows,), (rows,)
    x = rng.standard_normal((3, rng.integers(1, 8), inputs))
    return x, [scale * rng.standard_normal(shape) for shape in shapes]


def filled(layer, weights):
    layer = layer.double()
    with torch.no_grad():
        for parameter, w in zip(layer.parameters(), weights, strict=True):
            parameter.copy_(torch.from_numpy(w))
    return layer


@FEW
@given(seeds, small, small, st.sampled_from([0.1, 1.0, 30.0]))
def test_lstm_equals_torchs_layer(seed, inputs, hidden, scale):
    x, (W_xh, W_hh, b_ih, b_hh) = drawn(seed, 4, inputs, hidden, scale)
    layer = filled(nn.LSTM(inputs, hidden, batch_first=True), (W_xh, W_hh, b_ih, b_hh))
    outputs, (_, last) = layer(torch.from_numpy(x))
    h, c = LESSON.lstm_states(x, W_xh, W_hh, b_ih + b_hh)
    assert np.allclose(h[:, 1:], outputs.detach(), atol=1e-10)
    assert np.allclose(c[:, -1], last[0].detach(), atol=1e-10) and not c[:, 0].any()


@FEW
@given(seeds, small, small, st.sampled_from([0.1, 1.0, 30.0]))
def test_gru_equals_torchs_layer_also_from_a_state(seed, inputs, hidden, scale):
    x, weights = drawn(seed, 3, inputs, hidden, scale)
    start = np.tanh(np.random.default_rng(seed).standard_normal((3, hidden)))
    layer = filled(nn.GRU(inputs, hidden, batch_first=True), weights)
    outputs, _ = layer(torch.from_numpy(x), torch.from_numpy(start)[None])
    assert np.allclose(LESSON.gru_states(x, start, *weights), outputs.detach(), atol=1e-10)


@FEW
@given(seeds, small, small)
def test_lstm_walk_equals_autograd_at_every_step(seed, inputs, hidden):
    x, (*weights, _) = drawn(seed, 4, inputs, hidden)
    d_outputs = np.random.default_rng(seed).standard_normal((3, x.shape[1], hidden))
    by_torch, cells = LESSON.lstm_autograd(d_outputs, x, *weights)
    steps = list(LESSON.lstm_walk(d_outputs, x, *weights))[::-1]
    da, dc = (np.stack([step[k] for step in steps], 1) for k in (2, 3))
    h, _ = LESSON.lstm_states(x, *weights)
    ours = [np.einsum("nta,nti->ai", da, other) for other in (x, h[:, :-1])] + [da.sum((0, 1))]
    for a, b in zip([*ours, *dc.swapaxes(0, 1)], [*by_torch, *cells], strict=True):
        assert np.allclose(a, b, atol=1e-10)


def test_closed_input_gates_leave_the_product_of_the_forget_gates():
    """With W_hh = 0 the gradient of the cell is multiplied with sigmoid(b_f) at each step."""
    x, b_h = np.zeros((1, 6, 1)), np.array([0.0, 2.0, 0.0, 0.0])
    d_outputs = np.zeros((1, 6, 1))
    d_outputs[:, -1] = 1
    walk = list(LESSON.lstm_walk(d_outputs, x, np.zeros((4, 1)), np.zeros((4, 1)), b_h))
    dc = np.array([step[1].item() for step in walk])
    assert np.allclose(dc[1:] / dc[:-1], 1 / (1 + np.exp(-2)))


@FEW
@given(st.floats(-4, 8), st.floats(-8, 4))
def test_the_gated_memory_fades_by_its_forget_gate(forget_bias, input_bias):
    x, c = LESSON.gated_memory(forget_bias, input_bias, noise=0.0)
    assert x[10] == 1 and not c[:10].any()
    assert np.allclose(c[11:] / c[10:-1], 1 / (1 + np.exp(-forget_bias)), atol=1e-12)


def test_keras_computes_the_same():
    keras = twins.import_keras()
    x, weights = drawn(4, 3, 4, 5, 0.6)
    x = x.astype("f4")
    gru = keras.layers.GRU(5, return_sequences=True)
    gru.build(x.shape)
    gru.set_weights(LESSON.keras_gru_weights(*weights))
    ours = LESSON.gru_states(x, np.zeros((3, 5)), *weights)
    assert np.allclose(gru(x).numpy(), ours, atol=1e-5)

    before = keras.layers.GRU(5, reset_after=False, return_sequences=True)
    before.build(x.shape)
    W_xh, W_hh, b_x, b_h = weights
    kernel, recurrent, biases = LESSON.keras_gru_weights(W_xh, W_hh, b_x, 0 * b_h)
    before.set_weights([kernel, recurrent, biases[0]])
    h = np.zeros((3, 5))
    for t in range(x.shape[1]):
        h = SOLUTION.gru_reset_before(x[:, t], h, W_xh, W_hh, b_x)
    assert np.allclose(before(x).numpy()[:, -1], h, atol=1e-5)

    x, (W_xh, W_hh, b_h, _) = drawn(5, 4, 4, 5, 0.6)
    lstm = keras.layers.LSTM(5, return_sequences=True)
    lstm.build(x.shape)
    lstm.set_weights(LESSON.keras_lstm_weights(W_xh, W_hh, b_h))
    ours = LESSON.lstm_states(x, W_xh, W_hh, b_h)[0][:, 1:]
    assert np.allclose(lstm(x.astype("f4")).numpy(), ours, atol=1e-5)


@pytest.mark.parametrize(("layer", "gates"), [(nn.LSTM, {1: 5.0, 0: -5.0}), (nn.GRU, {1: 5.0})])
def test_a_network_starts_with_its_gates_and_the_rest_as_torch(layer, gates):
    network, plain = LESSON.build(layer, 3, gates), LESSON.build(layer, 3, {})
    bias = network.rnn.bias_ih_l0 + network.rnn.bias_hh_l0
    for gate in range(bias.shape[0] // 16):
        rows = slice(16 * gate, 16 * gate + 16)
        expected = plain.rnn.bias_ih_l0[rows] + plain.rnn.bias_hh_l0[rows]
        assert torch.equal(
            bias[rows], torch.full((16,), gates[gate]) if gate in gates else expected
        )
    assert torch.equal(network.rnn.weight_hh_l0, plain.rnn.weight_hh_l0)


def test_recall_batches_show_the_symbol_first():
    x, symbol = LESSON.recall_batch(50, torch.Generator().manual_seed(0), steps=7)
    assert x.shape == (50, 7, 4) and torch.equal(x[:, 0].argmax(1), symbol)
    assert x[:, 0].sum() == 150 and set(symbol.tolist()) == {0, 1, 2, 3}


@FEW
@given(seeds, small)
def test_solution_of_the_path_equals_autograd(seed, hidden):
    rng = np.random.default_rng(seed)
    h, z, n = (torch.tensor(rng.uniform(-1, 1, (2, hidden)), requires_grad=True) for _ in range(3))
    dh = rng.standard_normal((2, hidden))
    (z * h + (1 - z) * n).backward(torch.from_numpy(dh))
    ours = SOLUTION.gru_path(dh, *(v.detach().numpy() for v in (h, z, n)))
    for a, leaf in zip(ours, (h, z, n), strict=True):
        assert np.allclose(a, leaf.grad)


@FEW
@given(st.integers(2, 1000), st.floats(0.01, 0.99))
def test_solution_of_the_bias_keeps_what_is_asked(steps, kept):
    gate = LESSON.sigmoid(np.array(SOLUTION.forget_bias(steps, kept)))
    assert gate**steps == pytest.approx(kept, rel=1e-6)


@FEW
@given(st.lists(st.floats(1.01, 1e5), min_size=1, max_size=9))
def test_solution_of_the_lengths_sets_the_gates(lengths):
    b_f, b_i = SOLUTION.memory_biases(lengths)
    assert np.allclose(LESSON.sigmoid(b_f), 1 - 1 / np.array(lengths))
    assert np.allclose(LESSON.sigmoid(b_i), 1 / np.array(lengths))
