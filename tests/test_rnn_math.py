"""Lesson 13's recurrent cells, as the reader sees them, against PyTorch, Keras and differences."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from lesson_code import definitions
from torch import nn

from helpers import data, models, train, twins

L = definitions("13_rnn_math")
CELLS = {  # name: (hand-written cell, its backward step, torch cell, torch layer, states)
    "RNN": (L.rnn_cell, L.rnn_cell_backward, nn.RNNCell, nn.RNN, 1),
    "LSTM": (L.lstm_cell, L.lstm_cell_backward, nn.LSTMCell, nn.LSTM, 2),
    "GRU": (L.gru_cell, L.gru_cell_backward, nn.GRUCell, nn.GRU, 1),
}
sizes = st.fixed_dictionaries(
    {
        "n": st.integers(1, 5),
        "inputs": st.integers(1, 7),
        "hidden": st.integers(1, 9),
        "time": st.integers(1, 12),
        "seed": st.integers(0, 2**32 - 1),
        "scale": st.sampled_from([0.01, 0.5, 1.0, 3.0, 30.0]),
        "dtype": st.sampled_from(["f4", "f8"]),
    }
)


def draw(kind, size):
    """x [N, time, input], the first state, and the weights in torch's layout."""
    rng = np.random.default_rng(size["seed"])
    states = CELLS[kind][4]
    rows = {"RNN": 1, "LSTM": 4, "GRU": 3}[kind] * size["hidden"]

    def normal(*shape):
        return (size["scale"] * rng.standard_normal(shape)).astype(size["dtype"])

    x = normal(size["n"], size["time"], size["inputs"])
    state = tuple(normal(size["n"], size["hidden"]) / 30 for _ in range(states))
    weights = [normal(rows, size["inputs"]), normal(rows, size["hidden"])]
    return x, state, [*weights, normal(rows), normal(rows)]


def ours(kind, weights):
    """nn.RNN has two biases, the formula one."""
    return [*weights[:2], weights[2] + weights[3]] if kind == "RNN" else weights


def reference(kind, size, weights, layer):
    options = {"batch_first": True} if layer else {}
    made = CELLS[kind][3 if layer else 2](size["inputs"], size["hidden"], **options)
    made = made.to(torch.float32 if size["dtype"] == "f4" else torch.float64)
    with torch.no_grad():
        for parameter, w in zip(made.parameters(), weights, strict=True):
            parameter.copy_(torch.from_numpy(w))
    return made


def tensors(arrays):
    return [torch.from_numpy(a) for a in arrays]


def close(a, b, dtype, scale=1.0):
    b = b.detach().numpy() if torch.is_tensor(b) else np.asarray(b)
    assert a.dtype == dtype and a.shape == b.shape
    tolerance = (1e-5 if dtype == "f4" else 1e-11) * scale
    assert np.abs(a - b).max() <= tolerance * max(1, np.abs(b).max())


@pytest.mark.parametrize("kind", CELLS)
@settings(max_examples=40, deadline=None)
@given(size=sizes)
def test_one_step_is_torchs_cell(kind, size):
    x, state, weights = draw(kind, size)
    cell = reference(kind, size, weights, layer=False)
    start = tensors(state) if len(state) > 1 else tensors(state)[0]
    theirs = L.as_tuple(cell(torch.from_numpy(x[:, 0]), start))
    result = L.as_tuple(CELLS[kind][0](x[:, 0], *state, *ours(kind, weights)))
    for a, b in zip(result, theirs, strict=True):
        close(a, b, size["dtype"], 1 + size["scale"])


@pytest.mark.parametrize("kind", CELLS)
@settings(max_examples=30, deadline=None)
@given(size=sizes)
def test_a_sequence_is_torchs_layer_with_gradients(kind, size):
    size = size | {"scale": min(size["scale"], 1.0)}  # no chaos: it would magnify the rounding
    cell, backward, *_ = CELLS[kind]
    x, state, weights = draw(kind, size)
    layer = reference(kind, size, weights, layer=True)
    start = [s[None].requires_grad_() for s in tensors(state)]
    outputs, last = layer(torch.from_numpy(x), tuple(start) if len(start) > 1 else start[0])
    d_outputs = np.random.default_rng(1).standard_normal(outputs.shape).astype(size["dtype"])
    (outputs * torch.from_numpy(d_outputs)).sum().backward()

    mine, final = L.run(cell, x, state, *ours(kind, weights))
    close(mine, outputs, size["dtype"], 10)
    for a, b in zip(final, L.as_tuple(last), strict=True):
        close(a, b[0], size["dtype"], 10)
    d_start, gradients = L.back_through_time(
        cell, backward, d_outputs, x, state, ours(kind, weights)
    )
    for a, b in zip(d_start, start, strict=True):
        close(a, b.grad[0], size["dtype"], 100)
    theirs = [p.grad for p in layer.parameters()]
    for a, b in zip(gradients, theirs[: len(gradients)], strict=True):
        close(a, b, size["dtype"], 100)


@pytest.mark.parametrize("kind", CELLS)
def test_gradients_are_central_differences(kind):
    size = dict(n=2, inputs=2, hidden=3, time=4, seed=5, scale=0.7, dtype="f8")
    cell, backward, *_ = CELLS[kind]
    x, state, weights = draw(kind, size)
    weights = ours(kind, weights)
    d_outputs = np.random.default_rng(2).standard_normal((2, 4, 3))

    def loss():
        return (L.run(cell, x, state, *weights)[0] * d_outputs).sum()

    d_state, gradients = L.back_through_time(cell, backward, d_outputs, x, state, weights)
    for array, gradient in zip([*weights, *state], [*gradients, *d_state], strict=True):
        assert np.abs(L.central_difference(loss, array) - gradient).max() < 1e-8


def test_the_output_loss_and_its_gradient():
    rng = np.random.default_rng(0)
    x, targets = rng.standard_normal((2, 5, 3)), (rng.random((2, 5, 1)) < 0.5).astype(float)
    weights = [rng.standard_normal(s) for s in ((4, 3), (4, 4), (4,))]
    W_hy, b_y = rng.standard_normal((1, 4)), rng.standard_normal(1)
    loss, y, h = L.loss_of(x, targets, weights, W_hy, b_y)
    expected = nn.functional.binary_cross_entropy(torch.from_numpy(y), torch.from_numpy(targets))
    assert loss == pytest.approx(expected.item(), abs=1e-12)
    difference = L.central_difference(lambda: L.loss_of(x, targets, weights, W_hy, b_y)[0], W_hy)
    by_hand = np.einsum("nto,nth->oh", (y - targets) / targets.size, h)
    assert np.abs(difference - by_hand).max() < 1e-8


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([np.float32, np.float64]).flatmap(
        lambda dtype: hnp.arrays(dtype, st.integers(1, 20), elements={"allow_nan": False})
    )
)
def test_sigmoid_never_overflows(z):
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y = L.sigmoid(z)
    assert y.dtype == z.dtype and ((y >= 0) & (y <= 1)).all()
    assert np.allclose(y, torch.from_numpy(z).sigmoid().numpy(), rtol=1e-5, atol=1e-30)
    assert np.allclose(y + L.sigmoid(-z), 1, atol=1e-6)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("seed", range(4))
def test_large_inputs_do_not_overflow(kind, seed):
    size = dict(n=2, inputs=3, hidden=4, time=3, seed=seed, scale=1e4, dtype="f4")
    x, state, weights = draw(kind, size)
    with np.errstate(over="raise", invalid="raise"):
        outputs, _ = L.run(CELLS[kind][0], x, state, *ours(kind, weights))
    assert np.isfinite(outputs).all() and outputs.dtype == np.float32


@pytest.mark.parametrize("kind", CELLS)
def test_wrong_shapes_are_value_errors(kind):
    size = dict(n=2, inputs=3, hidden=4, time=5, seed=0, scale=1.0, dtype="f8")
    cell = CELLS[kind][0]
    x, state, weights = draw(kind, size)
    weights = ours(kind, weights)
    names = ["W_ih", "W_hh", "bias", "bias"]
    for k, w in enumerate(weights):
        for wrong in (w[:-1], np.concatenate([w, w])):
            changed = [*weights[:k], wrong, *weights[k + 1 :]]
            with pytest.raises(ValueError, match=rf"{names[k]} has shape .*expected"):
                cell(x[:, 0], *state, *changed)
    with pytest.raises(ValueError, match="W_ih has shape"):
        cell(x[:, 0, :2], *state, *weights)
    for wrong in (state[0][:1], state[0][:, :1], state[0][0]):
        with pytest.raises(ValueError, match=r"state has shape .*expected \(2, 4\)"):
            cell(x[:, 0], wrong, *state[1:], *weights)
    for wrong in (x, x[0, 0]):
        with pytest.raises(ValueError, match=r"expected \[N, input\]"):
            cell(wrong, *state, *weights)


@pytest.mark.parametrize("kind", CELLS)
def test_a_sequence_needs_a_step_and_three_axes(kind):
    size = dict(n=2, inputs=3, hidden=4, time=5, seed=0, scale=1.0, dtype="f8")
    cell, backward, *_ = CELLS[kind]
    x, state, weights = draw(kind, size)
    weights = ours(kind, weights)
    for wrong in (x[:, :0], x[0]):
        with pytest.raises(ValueError, match="at least one step"):
            L.run(cell, wrong, state, *weights)
    with pytest.raises(ValueError, match="expected"):
        L.run(cell, x.swapaxes(0, 1), state, *weights)
    with pytest.raises(ValueError, match="time >= 1"):
        L.back_through_time(cell, backward, np.zeros((2, 4, 4)), x, state, weights)
    with pytest.raises(ValueError, match="time >= 1"):
        L.back_through_time(cell, backward, np.zeros((2, 0, 4)), x[:, :0], state, weights)


def test_run_takes_a_bare_state_and_goes_on_where_it_stopped():
    size = dict(n=3, inputs=2, hidden=4, time=9, seed=3, scale=1.0, dtype="f4")
    for kind, (cell, *_) in CELLS.items():
        x, state, weights = draw(kind, size)
        weights = ours(kind, weights)
        whole, last = L.run(cell, x, state, *weights)
        first, middle = L.run(cell, x[:, :4], state, *weights)
        second, end = L.run(cell, x[:, 4:], middle, *weights)
        assert np.array_equal(whole, np.concatenate([first, second], axis=1))
        assert all(np.array_equal(a, b) for a, b in zip(last, end, strict=True))
        if len(state) == 1:
            assert np.array_equal(L.run(cell, x, state[0], *weights)[0], whole)


bounded = {"min_value": -1e6, "max_value": 1e6}
arrays = hnp.arrays(np.float64, hnp.array_shapes(max_dims=2, max_side=4), elements=bounded)


@settings(max_examples=60, deadline=None)
@given(st.lists(arrays, min_size=1, max_size=4), st.floats(1e-3, 1e3))
def test_clipping_is_torchs(gradients, limit):
    parameters = [nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in gradients]
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = torch.from_numpy(g.copy())
    norm = nn.utils.clip_grad_norm_(parameters, limit).item()
    clipped, own = L.clip_by_norm(gradients, limit)
    assert own == pytest.approx(norm, rel=1e-9, abs=1e-12)
    for a, p in zip(clipped, parameters, strict=True):
        assert np.allclose(a, p.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("radius", [0.5, 1.0, 1.7])
def test_radius_and_the_linear_gradient(radius):
    W = L.with_radius(radius, 20, np.random.default_rng(1))
    assert np.abs(np.linalg.eigvals(W)).max() == pytest.approx(radius, rel=1e-9)
    norms = L.norms_at(radius, L.linear_cell, L.linear_cell_backward, seed=1, steps=120)
    assert np.log(norms[-1] / norms[-61]) / 60 == pytest.approx(np.log(radius), abs=0.02)


def test_the_cell_alone_forgets_by_the_product_of_its_gates():
    """Without an input after the pulse, c shrinks by sigmoid(forget_bias) at each step."""
    _, c = L.cell_over_time(2.0, -3.0, noise=0.0)
    assert np.allclose(c[11:] / c[10:-1], 1 / (1 + np.exp(-2)), atol=1e-12)
    assert (c[:10] == 0).all()


@pytest.mark.parametrize("kind", CELLS)
def test_the_networks_trained_side_by_side_are_the_hand_cells(kind):
    generator = torch.Generator().manual_seed(3)
    x, symbol = L.recall_batch(3, generator, seeds=2, steps=7)
    assert (x[:, :, 0].argmax(-1) == symbol).all() and x.shape == (2, 3, 7, 4)
    cell, _, _, _, states = CELLS[kind]
    rows = {"RNN": 1, "LSTM": 4, "GRU": 3}[kind] * 5
    W_ih, W_hh, b = (torch.randn(2, rows, k, generator=generator) for k in (4, 5, 1))
    result = L.last_state(kind, x, W_ih, W_hh, b[..., 0])
    for seed in range(2):
        biases = [b[seed, :, 0].numpy()]
        if kind != "RNN":
            biases.append(np.zeros(rows, "f4"))
        state = (np.zeros((3, 5), "f4"),) * states
        arrays = [W_ih[seed].numpy(), W_hh[seed].numpy(), *biases]
        _, last = L.run(cell, x[seed].numpy(), state, *arrays)
        assert np.abs(last[0] - result[seed].numpy()).max() < 1e-5


@pytest.mark.parametrize(("name", "cell"), [("SensorGRU", L.gru_cell), ("SensorLSTM", L.lstm_cell)])
def test_shipped_models_are_the_hand_cells(name, cell):
    windows = data.watch("validation").windows[::50]
    model = models.load(name)
    by_hand = L.by_hand_logits(model, cell, windows)
    assert by_hand.dtype == np.float32
    assert np.abs(by_hand - train.predict(model, windows)).max() < 1e-5


@pytest.mark.parametrize(("n", "time", "inputs", "hidden"), [(3, 6, 4, 5), (1, 1, 2, 3)])
def test_keras_computes_the_same(n, time, inputs, hidden):
    keras = twins.import_keras()
    size = dict(n=n, inputs=inputs, hidden=hidden, time=time, seed=4, scale=0.6, dtype="f4")
    converters = {"LSTM": L.keras_lstm_weights, "GRU": L.keras_gru_weights}
    for kind, convert in converters.items():
        x, state, weights = draw(kind, size)
        layer = getattr(keras.layers, kind)(hidden, return_sequences=True, return_state=True)
        layer.build(x.shape)
        layer.set_weights(convert(*weights))
        outputs, *last = layer(x, initial_state=list(state))
        mine, final = L.run(CELLS[kind][0], x, state, *weights)
        close(mine, np.asarray(outputs), "f4")
        for a, b in zip(final, last, strict=True):
            close(a, np.asarray(b), "f4")

    reset_before = definitions("solutions/13_rnn_math").gru_reset_before
    x, (h,), (W_ih, W_hh, b, _) = draw("GRU", size)
    layer = keras.layers.GRU(hidden, reset_after=False, return_sequences=True)
    layer.build(x.shape)
    kernel, recurrent, biases = L.keras_gru_weights(W_ih, W_hh, b, np.zeros_like(b))
    layer.set_weights([kernel, recurrent, biases[0]])
    mine, _ = L.run(reset_before, x, h, W_ih, W_hh, b)
    close(mine, np.asarray(layer(x, initial_state=h)), "f4")
