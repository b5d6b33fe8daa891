"""The functions that lesson 25 writes out, against torch and helpers/qat.py."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions

from helpers import qat

lesson = definitions("25_quantization_aware_training")
quick = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 10_000)
ranges = st.sampled_from([(-2, 1), (-4, 3), (-8, 7), (0, 3), (0, 15), (-128, 127)])
steps = st.sampled_from([0.0625, 0.25, 0.5, 1.0])  # powers of two: x / step is exact


def values(seed: int) -> torch.Tensor:
    return 3 * torch.randn(60, generator=torch.Generator().manual_seed(seed))


def gradients(function, x, step, *limits):
    x, step = x.clone().requires_grad_(), torch.tensor([step], requires_grad=True)
    out = function(x, step, *limits)
    weights = torch.randn(len(x), generator=torch.Generator().manual_seed(1))
    return out.detach(), *torch.autograd.grad((weights * out).sum(), (x, step))


@quick
@given(seeds, steps, ranges)
def test_the_staircase_is_torchs(seed, step, limits):
    x = values(seed).requires_grad_()
    ours = lesson.staircase(x, step, *limits)
    theirs = torch.fake_quantize_per_tensor_affine(x, step, 0, *limits)
    assert torch.allclose(ours, theirs, atol=1e-5)
    slopes = [torch.autograd.grad(y.sum(), x)[0] for y in (ours, theirs)]
    assert torch.equal(*slopes)


@quick
@given(seeds, steps, ranges)
def test_learned_is_torchs_but_for_half_a_step(seed, step, limits):
    x = values(seed)
    v = x / step
    x = x[((v >= limits[0]) & (v <= limits[1])) | (v.round().clamp(*limits) != v.round())]
    ours = gradients(lesson.learned, x, step, *limits)
    theirs = gradients(lesson.torch_learned, x, step, *limits)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-3)


@quick
@given(seeds, steps, ranges)
def test_the_slope_by_hand_is_that_of_learned(seed, step, limits):
    x = values(seed)
    weights = torch.randn(len(x), generator=torch.Generator().manual_seed(1))
    _, _, by_step = gradients(lesson.learned, x, step, *limits)
    by_hand = weights.numpy() @ lesson.step_slope(x.numpy(), step, *limits)
    assert np.isclose(by_hand, by_step.item(), rtol=1e-4, atol=1e-3)


@quick
@given(seeds, steps, ranges)
def test_lsq_is_the_helpers(seed, step, limits):
    x = values(seed)
    layer = qat.LSQ(int(np.log2(limits[1] - limits[0] + 1)), signed=limits[0] < 0)
    layer.start(x)
    layer.step.data.fill_(step)
    out, by_x, by_step = gradients(lesson.lsq, x, step, *limits)
    x = x.requires_grad_()
    weights = torch.randn(len(x), generator=torch.Generator().manual_seed(1))
    theirs = layer(x)
    grads = torch.autograd.grad((weights * theirs).sum(), (x, layer.step))
    assert torch.allclose(out, theirs, atol=1e-5)
    assert torch.allclose(by_x, grads[0], atol=1e-6)
    assert torch.allclose(by_step, grads[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", [-0.4, 0.1, 0.3, 0.5, 1.2])
def test_a_weight_between_levels_is_right_on_average(target):
    _, levels = lesson.descend(2.2, target, steps=1500)
    assert abs(levels[500:].mean() - target) < 0.02


def test_a_weight_on_a_level_comes_to_rest():
    latent, levels = lesson.descend(2.2, 1.0)
    assert set(levels[100:]) == {1.0} and len(set(latent[100:])) == 1


def test_reversals():
    notes = np.array([[0, 1, 0, 0, 1, 2], [0, 1, 1, 0, 0, -1], [-128, 127, 127, -128, -128, 127]])
    turned = lesson.reversals(notes.astype(np.int8).T)
    assert turned.shape == (5, 3)
    assert turned.T.tolist() == [
        [False, True, False, True, False],
        [False, False, True, False, False],
        [False, False, True, False, True],
    ]


def test_a_quantized_layer_computes_as_the_helpers():
    layer, x = torch.nn.Linear(6, 4), torch.rand(5, 6)
    ours, theirs = lesson.QuantizedLinear(layer, 3), qat.QuantizedLayer(layer, 3)
    assert torch.equal(ours(x), theirs(x))
    q = lesson.integer_weights(theirs)
    assert q.dtype == torch.int8 and q.min() >= -4 and q.max() <= 3
    assert lesson.integers(torch.nn.Sequential(theirs)).shape == (24,)


def test_frozen_steps_stay_where_they_are():
    network = torch.nn.Sequential(qat.QuantizedLayer(torch.nn.Linear(6, 4), 3), qat.LSQ(4))
    copy = lesson.frozen(network)
    assert not copy[1].step.requires_grad and network[1].step.requires_grad
    assert copy[0].layer.weight.requires_grad and not copy[0].weight_quantizer.step.requires_grad


def test_measuring_again_gives_batch_norm_the_statistics_of_the_images():
    norm = torch.nn.BatchNorm2d(1)
    images = np.random.default_rng(0).integers(0, 256, (500, 28, 28)).astype(np.uint8)
    lesson.remeasure(torch.nn.Sequential(norm), images)
    assert np.isclose(norm.running_mean.item(), images.mean() / 255, atol=1e-4)
    assert np.isclose(norm.running_var.item(), images.var() / 255**2, rtol=1e-2)


def test_the_number_quoted_from_lesson_24_stands_there():
    folder = Path(__file__).resolve().parent.parent / "notebooks"
    pages = [
        json.loads((folder / f"{name}.ipynb").read_text(encoding="utf-8"))
        for name in ("24_rescuing_low_bits", "25_quantization_aware_training")
    ]
    rows = [
        line.split()
        for cell in pages[0]["cells"]
        for output in cell.get("outputs", [])
        for line in output.get("data", {}).get("text/plain", [])
        if line.startswith("AdaRound, 2 bits, activations too")
    ]
    source = "".join("".join(cell["source"]) for cell in pages[1]["cells"])
    quoted = source.split("ADAROUND = ")[1].split()[0]
    assert any(quoted in row for row in rows), "lesson 24 measures another number now"
