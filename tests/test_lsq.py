"""A learned step: its gradients against the paper, its start, its limits; the layer it rounds."""

import copy
import threading
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers import quantize as Q
from helpers.learned_step import LSQ, QuantizedLayer, best_step, borders
from helpers.qparams import TINY, limits

seeds = st.integers(0, 2**16)


def normal(seed: int, *shape: int) -> torch.Tensor:
    """None of them so close to 0 that scaling would end in float32's subnormals."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x + 1e-3 * x.sign()


def started(step: float = 0.5, **options) -> LSQ:
    layer = LSQ(**options)
    layer.set_step(step)
    return layer


# --- the formulas ------------------------------------------------------------------------------


def test_lsq_gradient_of_the_step_is_the_papers():
    """Esser et al. 2020, equation 3: round(v) - v inside, the end of the range outside."""
    x = torch.tensor([-9.0, -0.7, 0.2, 0.9, 1.6, 9.0])
    layer = started(bits=3)
    layer(x).sum().backward()
    v = x / 0.5
    expected = torch.where(v <= -4, -4.0, torch.where(v >= 3, 3.0, v.round() - v)).sum()
    torch.testing.assert_close(layer.step.grad[0], expected / (3 * 6) ** 0.5)


@pytest.mark.parametrize("options", [{}, dict(signed=False), dict(narrow=True), dict(axis=1)])
def test_gradients_are_those_of_the_formula_in_basic_operations(options):
    """Inside clip(x / step), rounded with the straight-through estimator; scaled by section 2.2."""
    layer = LSQ(bits=3, size=4, **options)
    layer.set_step(torch.linspace(0.3, 0.6, len(layer.step)))
    x, weights = normal(0, 5, 4, 3), normal(1, 5, 4, 3)
    step = layer.step.detach().clone().requires_grad_()
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    v = theirs / step.reshape(1, -1, 1)
    inside = v.clamp(layer.qmin, layer.qmax)
    (
        weights * step.reshape(1, -1, 1) * (inside + (inside.round() - inside).detach())
    ).sum().backward()
    (weights * layer(ours)).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    count = x.numel() / len(step)
    torch.testing.assert_close(layer.step.grad, step.grad / (count * layer.qmax) ** 0.5)


@pytest.mark.parametrize("axis", [None, 0])
def test_lsq_starts_from_the_first_batch_and_gives_its_levels(axis):
    x = torch.randn(3, 50, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [[1.0], [5.0], [0.0]]
    )
    layer = LSQ(bits=4, axis=axis, size=3)
    y = layer(x).detach()
    mean = x.abs().mean() if axis is None else x.abs().mean(1)
    expected = 2 * mean / 7**0.5
    expected = torch.where(expected > 0, expected, 1.0)
    torch.testing.assert_close(layer.params().scale, expected)
    torch.testing.assert_close(y, Q.fake_quantize(x, layer.params()))
    before = layer.step.clone()
    layer(10 * x)
    assert torch.equal(layer.step, before)


def test_lsq_of_a_vector_has_a_step_for_each_entry():
    layer = LSQ(bits=4, axis=0, size=3)
    layer(torch.tensor([0.3, -2.0, 7.0])).sum().backward()
    assert layer.step.grad.shape == (3,)


def test_an_unsigned_step_starts_from_what_the_clip_leaves():
    x = torch.rand(50, generator=torch.Generator().manual_seed(0))
    layer, other = LSQ(4, signed=False), LSQ(4, signed=False)
    layer.start(torch.cat([x, -x]))
    other.start(torch.cat([x, 0 * x]))
    assert torch.equal(layer.step, other.step)


@pytest.mark.parametrize("axis", [None, 0])
def test_without_gradients_the_numbers_are_the_same(axis):
    layer = LSQ(3, axis=axis, size=4)
    x = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    expected = layer(x).detach()
    with torch.no_grad():
        assert torch.equal(layer(x), expected)
    assert torch.equal(x, before), "nothing is computed in place of the input"


@pytest.mark.parametrize("axis", [0, 1, -1, -3])
def test_the_steps_lie_along_any_axis(axis):
    x = normal(0, 3, 4, 5)
    layer = LSQ(4, axis=axis, size=x.shape[axis])
    y = layer(x).movedim(axis, 0)
    for i, row in enumerate(x.movedim(axis, 0)):
        alone = LSQ(4)
        torch.testing.assert_close(y[i], alone(row))
        torch.testing.assert_close(layer.step[i], alone.step[0])


# --- its integers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "ends"),
    [
        ({}, (-128, 127)),
        (dict(narrow=True), (-127, 127)),
        (dict(bits=2), (-2, 1)),
        (dict(bits=2, narrow=True), (-1, 1)),
        (dict(bits=1, signed=False), (0, 1)),
        (dict(bits=16, signed=False), (0, 65535)),
    ],
)
def test_params_report_the_integers_that_are_used(options, ends):
    layer = started(0.5, **options)
    params = layer.params()
    y = layer(torch.tensor([-1e9, 1e9])) / 0.5
    assert tuple(y.tolist()) == ends == (layer.qmin, layer.qmax) == (params.qmin, params.qmax)
    assert (params.bits, params.signed) == (layer.bits, layer.signed)
    assert params.narrow == layer.narrow and params.scale == 0.5 and params.zero_point == 0


def test_a_step_has_documented_defaults():
    layer = LSQ()
    assert (layer.bits, layer.signed, layer.axis, layer.narrow) == (8, True, None, False)
    assert layer.step.tolist() == [1] and not layer.started
    assert LSQ(axis=0).step.shape == (1,) and LSQ(axis=0, size=3).step.shape == (3,)
    assert LSQ(size=3).step.shape == (1,), "one step without an axis"


def test_params_keep_the_channels():
    layer = LSQ(4, axis=1, size=3)
    x = normal(0, 2, 3)
    y = layer(x)
    params = layer.params()
    assert params.axis == 1 and params.scale.shape == (3,) and not params.scale.requires_grad
    torch.testing.assert_close(y, Q.fake_quantize(x, params))


@pytest.mark.parametrize("step", [-0.5, 0.0])
def test_a_step_that_crosses_zero_stays_usable(step):
    layer, other = LSQ(4), LSQ(4)
    x = torch.randn(100, generator=torch.Generator().manual_seed(0))
    for quantizer, value in ((layer, step), (other, max(abs(step), TINY))):
        quantizer.start(x)
        quantizer.step.data.fill_(value)
    assert torch.equal(layer(x), other(x)) and torch.isfinite(layer(x)).all()
    layer(x).sum().backward()
    assert torch.isfinite(layer.step.grad).all()
    assert layer.params().scale > 0


def test_a_step_that_is_almost_zero_finds_back():
    """x / step is infinite, all is clipped, and the gradient widens the range."""
    layer = started(2 * TINY, bits=4)
    x = torch.tensor([30.0, -50.0])
    ((layer(x) - x) ** 2).sum().backward()
    assert torch.isfinite(layer.step.grad).all() and layer.step.grad < 0


# --- of any size -------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(-90, 100), st.integers(2, 8), st.booleans(), st.sampled_from([None, 0]))
def test_scaling_by_a_power_of_two_scales_steps_and_results(seed, exponent, bits, signed, axis):
    x, factor = normal(seed, 3, 20), 2.0**exponent
    one, other = (LSQ(bits, signed, axis, 3) for _ in range(2))
    assert torch.equal(one(x) * factor, other(x * factor))
    assert torch.equal(one.step * factor, other.step)
    assert torch.equal(best_step(one, x) * factor, best_step(other, x * factor))


@pytest.mark.parametrize("factor", [1e-35, 1e-30, 1e-9, 1e9, 1e30, 1e35])
@pytest.mark.parametrize("axis", [None, 0])
def test_scaling_by_any_number_changes_no_quality(factor, axis):
    x = normal(0, 20, 50)
    for start in (LSQ.start, lambda q, x: q.set_step(best_step(q, x))):
        one, other = LSQ(8, axis=axis, size=20), LSQ(8, axis=axis, size=20)
        start(one, x), start(other, x * factor)
        torch.testing.assert_close(one.step * factor, other.step, rtol=1e-5, atol=0)
        noise = Q.sqnr_db(x, one(x)), Q.sqnr_db(x * factor, other(x * factor))
        assert noise[0] > 25 and noise[0] == pytest.approx(noise[1], abs=0.1)


@pytest.mark.parametrize("value", [1e-45, 1e-39, 3e38])
def test_steps_of_the_ends_of_float32(value):
    x = torch.tensor([value, -value])
    for step in (lambda q: q.start(x), lambda q: q.set_step(best_step(q, x))):
        quantizer = LSQ(8)
        step(quantizer)
        assert TINY <= quantizer.step < 1e38
        assert (quantizer(x) - x).abs().max() <= max(TINY, 0.7 * value)


def test_a_start_that_leaves_float32_is_an_error():
    with pytest.raises(ValueError, match=r"step \[inf\] is \[inf\] in torch.float32"):
        LSQ(1, signed=False).start(torch.tensor([3e38]))


def test_many_large_values_do_not_overflow_their_mean():
    layer = LSQ(8)
    layer.start(torch.full((10_000,), 1e36))
    assert layer.step.item() == pytest.approx(2e36 / 127**0.5)


# --- of any dtype ------------------------------------------------------------------------------

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("stored", DTYPES)
@pytest.mark.parametrize("given", DTYPES)
def test_the_result_has_the_dtype_of_x(given, stored, gradients):
    layer = LSQ(8).to(stored)
    x = normal(0, 100).to(given).requires_grad_()
    with torch.set_grad_enabled(gradients):
        y = layer(x)
    assert y.dtype == given and layer.step.dtype == stored and layer.started.dtype == torch.bool
    assert Q.sqnr_db(x, y) > 20
    if gradients:
        y.sum().backward()
        assert x.grad.dtype == given and layer.step.grad.dtype == stored


def test_float64_is_computed_in_float64():
    x = normal(0, 100).double()
    layer = started(0.1, bits=8).double()
    expected = (x / layer.step).round().clamp(-128, 127) * layer.step
    torch.testing.assert_close(layer(x), expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("cast", ["half", "bfloat16", "double", "float"])
def test_a_network_may_be_cast(cast):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(6, 5), LSQ(8), QuantizedLayer(nn.Linear(5, 4), 8))
    x = normal(0, 9, 6)
    expected = copy.deepcopy(network)(x)
    network = getattr(network, cast)()
    x = getattr(x, cast)().requires_grad_()
    y = network(x)
    assert y.dtype == x.dtype
    torch.testing.assert_close(y.float(), expected, rtol=0, atol=0.1)
    y.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_autocast():
    network = nn.Sequential(QuantizedLayer(nn.Linear(6, 5), 8), LSQ(8), nn.Linear(5, 4))
    x = normal(0, 9, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = network(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), network(x), rtol=0, atol=0.1)
    y.float().sum().backward()
    assert network[1].step.grad.dtype == torch.float32


def test_what_float16_cannot_hold_is_an_error():
    layer = LSQ(8).half()
    with pytest.raises(ValueError, match="torch.float16: every step is finite and above 0"):
        layer.start(torch.full((9,), 1e-9))
    assert not layer.started and layer.step == 1


# --- in training -------------------------------------------------------------------------------


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("axis", [None, 1])
def test_an_empty_batch_gives_an_empty_result(axis, gradients):
    layer = LSQ(8, axis=axis, size=3)
    layer(torch.ones(2, 3))
    x = torch.zeros(0, 3, requires_grad=True)
    with torch.set_grad_enabled(gradients):
        y = layer(x)
    assert y.shape == (0, 3)
    if gradients:
        y.sum().backward()
        assert x.grad.shape == (0, 3) and not layer.step.grad.any()


def test_an_empty_batch_starts_nothing():
    layer = LSQ(8)
    with pytest.raises(ValueError, match="x is empty"):
        layer(torch.zeros(0, 3))
    assert not layer.started


@pytest.mark.parametrize("signed", [True, False])
def test_a_single_value_and_a_single_bit_start(signed):
    layer = LSQ(2 if signed else 1, signed)
    assert layer(torch.tensor(0.75)).shape == ()
    torch.testing.assert_close(layer.step.detach(), torch.tensor([1.5]))  # 2 * 0.75 / sqrt(1)
    layer(torch.tensor(0.75)).backward()
    assert layer.step.grad.shape == (1,)
    assert best_step(layer, torch.tensor(0.75)) == 0.75


def test_state_and_copies_keep_step_and_start():
    layer = LSQ(4, axis=0, size=3)
    x = normal(0, 3, 9)
    expected = layer(x)
    assert list(layer.state_dict()) == ["step", "started"]
    other = LSQ(4, axis=0, size=3)
    other.load_state_dict(layer.state_dict())
    for same in (other, copy.deepcopy(layer)):
        assert same.started and torch.equal(same(x), expected)
        same(5 * x).sum().backward()
        assert torch.equal(same.step, layer.step) and layer.step.grad is None


def test_a_frozen_step_stays():
    layer = started(0.5)
    layer.step.requires_grad_(False)
    x = normal(0, 9).requires_grad_()
    layer(x).sum().backward()
    assert layer.step.grad is None and torch.equal(x.grad, torch.ones(9))


def test_a_step_started_in_inference_mode_can_be_trained():
    layer = LSQ(4)
    with torch.inference_mode():
        x = normal(0, 50)
        layer(x)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(x).square().sum().backward()
    optimizer.step()
    assert not layer.step.is_inference() and torch.isfinite(layer.step)
    assert not copy.deepcopy(layer).step.is_inference()


# --- the best step -----------------------------------------------------------------------------


def squared_error(rows: torch.Tensor, step: torch.Tensor, ends: tuple[int, int]) -> torch.Tensor:
    rows, step = rows.double(), step.double()[:, None]
    return ((rows / step).round().clamp(*ends) * step - rows).square().sum(1)


@settings(deadline=None, max_examples=40)
@given(seeds, st.sampled_from([2, 3, 4, 8]), st.booleans(), st.booleans(), st.sampled_from([1, 50]))
def test_best_step_is_the_best_of_its_fractions(seed, bits, signed, channels, n):
    x = torch.randn(3, n, generator=torch.Generator().manual_seed(seed))
    x[1] = 0
    quantizer = LSQ(bits, signed, axis=0 if channels else None, size=3)
    step = best_step(quantizer, x)
    assert step.shape == (3 if channels else 1,) and (step > 0).all()
    seen = x if signed else x.clamp(min=0)
    rows = seen if channels else seen.reshape(1, -1)
    top = rows.abs().amax(1)
    ends = limits(bits, signed)
    tried = [torch.where(top > 0, top * (i / 100) / ends[1], 1.0) for i in range(1, 101)]
    errors = torch.stack([squared_error(rows, other, ends) for other in tried])
    slack = 1e-5 * errors.amin(0) + 1e-9 * top.square()
    assert (squared_error(rows, step, ends) <= errors.amin(0) + slack).all()
    among = (torch.stack(tried) - step).abs() <= 1e-6 * step
    assert among.any(0).all()


def test_of_many_values_every_kth_is_looked_at():
    """199,999 values are all looked at; of 200,000 every second, of 300,000 every third."""
    x = torch.full((1, 300_000), 1.0)
    x[0, 1::6], x[0, 2::6] = 70.0, 70.0
    quantizer = LSQ(8, axis=0)
    assert best_step(quantizer, x) == best_step(quantizer, torch.ones(1, 1)), "0, 3, 6, ..."
    half = x[:, :200_000].clone()
    half[0, ::2], half[0, 1::2] = 1.0, 70.0
    assert best_step(quantizer, half) == best_step(quantizer, torch.ones(1, 1))
    assert best_step(quantizer, half[:, :-1]) > 0.5
    assert best_step(LSQ(8), half.reshape(-1, 2)) == best_step(LSQ(8), torch.ones(1))


# --- a layer with rounded weights --------------------------------------------------------------

CONVOLUTIONS = [
    dict(kernel_size=3),
    dict(kernel_size=(3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), bias=False),
    dict(kernel_size=3, groups=2, padding=1),
    dict(kernel_size=(3, 5), padding="same", dilation=(2, 1)),
    dict(kernel_size=3, padding="valid", padding_mode="reflect"),
    *(
        dict(kernel_size=(2, 3), padding=padding, padding_mode=mode)
        for mode in ("zeros", "reflect", "replicate", "circular")
        for padding in ("same", (2, 1))
    ),
]


def with_rounded_weights(layer: nn.Module, x: torch.Tensor, bits: int) -> torch.Tensor:
    """What the layer itself computes when its weights are exchanged for a moment."""
    quantizer = LSQ(bits, axis=0, size=len(layer.weight), narrow=bits == 8)
    return torch.func.functional_call(layer, {"weight": quantizer(layer.weight)}, (x,))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("bits", [8, 3])
def test_a_quantized_convolution_is_the_convolution_with_rounded_weights(options, bits):
    layer = nn.Conv2d(4, 6, **options)
    x = normal(1, 2, 4, 7, 9)
    assert torch.equal(QuantizedLayer(layer, bits)(x), with_rounded_weights(layer, x, bits))
    assert torch.equal(QuantizedLayer(layer, bits)(x[0]), with_rounded_weights(layer, x[0], bits))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 6), (6,)])
def test_a_quantized_dense_layer_is_the_layer_with_rounded_weights(bias, shape):
    layer = nn.Linear(6, 4, bias=bias)
    x = normal(0, *shape)
    assert torch.equal(QuantizedLayer(layer, 3)(x), with_rounded_weights(layer, x, 3))


def test_only_eight_bits_are_narrow():
    for bits in range(2, 17):
        quantizer = QuantizedLayer(nn.Linear(2, 3), bits).weight_quantizer
        assert (quantizer.qmin, quantizer.qmax) == limits(bits, narrow=bits == 8)
        assert quantizer.params().qmin == quantizer.qmin
        assert (quantizer.bits, quantizer.axis, len(quantizer.step)) == (bits, 0, 3)


def test_gradients_reach_the_weights_the_bias_and_the_steps():
    layer = QuantizedLayer(nn.Conv2d(1, 2, 3), 4)
    layer(normal(0, 1, 1, 5, 5)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in layer.parameters())


def test_two_threads_may_use_one_layer():
    """torch.func.functional_call exchanges the weights in place, and loses them here."""
    layer = QuantizedLayer(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), 4)
    x = normal(0, 1, 3, 8, 8)
    expected, found = layer(x).detach(), []

    def run():
        with torch.no_grad():
            found.append(all(torch.equal(layer(x), expected) for _ in range(300)))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 3 and isinstance(layer.layer.weight, nn.Parameter)


def test_borders_are_what_the_layer_adds():
    assert borders(nn.Conv2d(1, 1, 3, padding="valid")) == [0, 0, 0, 0]
    assert borders(nn.Conv2d(1, 1, 3, padding=(1, 2))) == [2, 2, 1, 1]
    assert borders(nn.Conv2d(1, 1, (2, 5), padding="same", dilation=(3, 1))) == [2, 2, 1, 2]


# --- what is refused ---------------------------------------------------------------------------


class Derived(nn.Linear):
    def forward(self, x):
        return super().forward(x).square()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: LSQ(bits=1), ValueError, "needs 2 bits, or 1 unsigned"),
        (lambda: LSQ(bits=17), ValueError, "bits is 17"),
        (lambda: LSQ(bits=4.0), TypeError, "bits is 4.0"),
        (lambda: LSQ(8, signed=False, narrow=True), ValueError, "narrow is for signed"),
        (lambda: LSQ(8, axis=0, size=0), ValueError, "size is 0"),
        (lambda: LSQ(8)(torch.tensor([1, 2])), TypeError, "x has dtype torch.int64"),
        (lambda: LSQ(8)(torch.zeros(3, dtype=torch.uint8)), TypeError, "dtype torch.uint8"),
        (lambda: LSQ(8)(torch.tensor([float("nan")])), ValueError, "x holds NaN"),
        (lambda: LSQ(8).start(torch.zeros(0)), ValueError, "x is empty"),
        (lambda: LSQ(8, axis=1, size=3)(torch.ones(2, 4)), ValueError, "x has 4 channels"),
        (lambda: started(axis=1, size=3)(torch.ones(2, 4)), ValueError, "there are 3"),
        (lambda: LSQ(8, axis=2, size=3)(torch.ones(2, 3)), ValueError, "axis is 2"),
        (lambda: LSQ().set_step(0), ValueError, "step 0 is 0.0 in torch.float32: every step is f"),
        (lambda: LSQ().set_step(torch.tensor([-1.0])), ValueError, "finite and above 0"),
        (lambda: LSQ().set_step(torch.tensor([float("nan")])), ValueError, "finite and above"),
        (lambda: best_step(LSQ(8), torch.tensor([float("nan")])), ValueError, "x holds NaN"),
        (lambda: best_step(LSQ(8), torch.zeros(0)), ValueError, "x is empty"),
        (lambda: best_step(LSQ(8, axis=0, size=3), torch.ones(2, 4)), ValueError, "2 channels"),
        (lambda: QuantizedLayer(nn.Conv1d(1, 1, 1), 8), TypeError, "a Conv1d: pass a Conv2d"),
        (lambda: QuantizedLayer(Derived(2, 3), 8), TypeError, "layer is a Derived"),
        (lambda: QuantizedLayer(nn.ConvTranspose2d(1, 1, 1), 8), TypeError, "ConvTranspose2d"),
        (lambda: QuantizedLayer(nn.Linear(2, 3), 1), ValueError, "needs 2 bits"),
    ],
)
def test_bad_input(call, error, words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(error, match=words):
            call()


def test_a_diverged_step_is_seen():
    layer = started(0.5)
    layer.step.data.fill_(float("nan"))
    assert layer(torch.ones(2)).isnan().all()
    with pytest.raises(ValueError, match="scale nan: every scale is finite"):
        layer.params()
