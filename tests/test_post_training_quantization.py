"""What lesson 22 writes out: folding, quantizers, equalization, bias correction, AdaRound."""

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from torch import nn

from helpers import calibrate, models, quantize, train

lesson = definitions("22_post_training_quantization")
names = lesson.__globals__
quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**16)


@pytest.fixture(scope="module")
def resnet():
    return models.load("ResNet8")


@pytest.fixture(scope="module")
def folded(resnet):
    model = lesson.fold(resnet)
    kinds = nn.Conv2d | nn.Linear
    names["folded"] = model
    names["LAYERS"] = [n for n, m in model.named_modules() if isinstance(m, kinds)]
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (20, 28, 28)).astype(np.uint8)


def test_folding_is_exact_in_float64_and_leaves_the_original(resnet, images):
    x = models.as_input(images).double()
    wide = copy.deepcopy(resnet).double()
    before = copy.deepcopy(wide.state_dict())
    narrow = lesson.fold(wide)
    assert torch.allclose(wide(x), narrow(x), rtol=0, atol=1e-10)
    assert all(torch.equal(before[key], value) for key, value in wide.state_dict().items())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in narrow.modules())


@quick
@given(seeds)
def test_folding_keeps_a_convolutions_own_bias(seed):
    generator = torch.Generator().manual_seed(seed)
    pair = nn.Sequential(nn.Conv2d(2, 3, 3, bias=True), nn.BatchNorm2d(3)).double().eval()
    for tensor in (*pair.parameters(), pair[1].running_mean):
        tensor.data = torch.randn(tensor.shape, generator=generator, dtype=torch.double)
    pair[1].running_var.uniform_(0.1, 3, generator=generator)
    x = torch.randn(2, 2, 6, 6, generator=generator, dtype=torch.double)
    assert torch.allclose(pair(x), lesson.fold(pair)(x))


@quick
@given(seeds, st.integers(2, 8), st.booleans())
def test_weights_land_on_their_levels(seed, bits, per_channel):
    w = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed))
    found = lesson.nearest_levels(w, bits, per_channel)
    top = w.abs().amax(1, keepdim=True) if per_channel else w.abs().max()
    step = top / (2 ** (bits - 1) - 1)
    assert ((found - w).abs() <= step / 2 * 1.001).all()
    assert torch.allclose((found / step).round(), found / step, atol=1e-3)


@quick
@given(seeds, st.integers(2, 8))
def test_a_place_rounds_as_torch_does(seed, bits):
    x = torch.randn(100, generator=torch.Generator().manual_seed(seed)) + 0.5
    p = quantize.affine_params(x, bits=bits)
    theirs = torch.fake_quantize_per_tensor_affine(
        x, float(p.scale), int(p.zero_point), p.qmin, p.qmax
    )
    assert torch.equal(lesson.round_to(p)(None, None, x.clone()), theirs)


def test_every_stored_tensor_has_few_levels(folded, images):
    ranges = lesson.choose(lesson.observe(folded, images), 4)
    assert len(ranges) == 14
    model = lesson.static(folded, 4, ranges)
    seen = lesson.collect(model, ranges, images, lambda layer, x, y: len(y.unique()))
    assert all(max(counts) <= 16 for counts in seen.values())
    assert len(model.get_submodule("5.body.3").weight[0].unique()) <= 15
    assert train.predict(folded, images).shape == (20, 10), "the original has no quantizers"
    assert len(folded.get_submodule("5.body.3").weight[0].unique()) > 500


def test_dynamic_does_not_depend_on_the_rest_of_the_batch(folded, images):
    model = lesson.dynamic(folded)
    alone = train.predict(model, images[:1])
    assert np.allclose(train.predict(model, images)[:1], alone, atol=1e-3)


def test_observers_keep_the_extremes(folded, images):
    seen = lesson.observe(folded, images, keep=10)
    every = lesson.observe(folded, images, keep=10**9)
    for name, x in every.items():
        assert torch.equal(calibrate.minmax(seen[name]), calibrate.minmax(x))
        assert len(seen[name]) < 40


@quick
@given(seeds)
def test_the_knapsack_is_solved_exactly(seed):
    draw = np.random.default_rng(seed)
    size = {n: int(draw.integers(1, 9)) for n in "abcd"}
    choices = (2, 3, 5)
    cost = {(n, b): float(draw.random()) for n in size for b in choices}
    budget = int(draw.integers(2 * sum(size.values()), 5 * sum(size.values()) + 1))
    found = lesson.knapsack(size, cost, budget, choices)
    assert sum(size[n] * b for n, b in found.items()) <= budget
    possible = [
        sum(cost[n, b] for n, b in zip(size, bits, strict=True))
        for bits in itertools.product(choices, repeat=4)
        if sum(size[n] * b for n, b in zip(size, bits, strict=True)) <= budget
    ]
    assert sum(cost[n, b] for n, b in found.items()) == pytest.approx(min(possible))


def test_a_budget_below_the_fewest_bits_is_an_error():
    with pytest.raises(ValueError, match="fewer than 2 bits"):
        lesson.knapsack({"a": 10}, {("a", 2): 0.0}, 19, (2,))


@pytest.mark.parametrize("decades", [0.0, 1.0, 2.0])
def test_rescaling_and_equalizing_leave_the_function(folded, images, decades):
    x = models.as_input(images).double()
    wide = copy.deepcopy(folded).double()
    sick = lesson.unbalanced(wide, decades)
    well = lesson.equalize(sick)
    assert torch.allclose(wide(x), sick(x), atol=1e-9) and torch.allclose(
        wide(x), well(x), atol=1e-9
    )
    for block in lesson.BLOCKS:
        first, second = lesson.pair(well, block)
        r1, r2 = first.weight.abs().amax((1, 2, 3)), second.weight.abs().amax((0, 2, 3))
        assert torch.allclose(r1, r2)


def test_equalizing_skips_a_dead_channel(folded, images):
    model = copy.deepcopy(folded)
    lesson.pair(model, "4")[0].weight[3] = 0
    well = lesson.equalize(model)
    found = train.predict(well, images)
    assert np.isfinite(found).all() and np.allclose(found, train.predict(model, images), atol=1e-3)


def test_corrected_biases_give_the_means_of_the_reference(folded, images):
    rounded = lesson.weight_only(folded, 4, per_channel=False)
    corrected = lesson.correct_bias(rounded, folded, images)
    target, found = (lesson.channel_means(m, images) for m in (folded, corrected))
    before = lesson.channel_means(rounded, images)
    for name in names["LAYERS"]:
        assert torch.allclose(found[name], target[name], atol=1e-3)
        assert (before[name] - target[name]).abs().max() > 1e-3
        assert torch.equal(corrected.get_submodule(name).weight, rounded.get_submodule(name).weight)


def test_second_moments_give_the_error_of_the_outputs(folded, images):
    h = lesson.second_moments(folded, images)
    layer = folded.get_submodule("4.body.0")
    d = 0.01 * torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0))
    changed = copy.deepcopy(folded)
    changed.get_submodule("4.body.0").weight.add_(d)
    outputs = [
        lesson.collect(m, ["4.body.0"], images, lambda layer, x, y: y)["4.body.0"][0]
        for m in (folded, changed)
    ]
    measured = (outputs[1] - outputs[0]).square().mean((0, 2, 3)).sum()
    modelled = lesson.output_error(d.flatten(1), h["4.body.0"])
    assert float(measured) == pytest.approx(modelled, rel=1e-3)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_adaround_takes_neighbors_and_beats_nearest(bits):
    generator = torch.Generator().manual_seed(bits)
    w = torch.randn(8, 30, generator=generator)
    x = (torch.randn(500, 30, generator=generator) + 0.5).relu()
    h = x.T @ x / len(x)
    step = lesson.best_step(w, bits)
    nearest = lesson.to_nearest(w, step, bits, h)
    found = lesson.adaround(w, step, bits, h)
    q, top = found / step, 2 ** (bits - 1) - 1
    assert torch.allclose(q, q.round(), atol=1e-4) and q.abs().max() <= top + 1e-4
    assert ((q - (w / step).clamp(-top, top)).abs() < 1 + 1e-4).all()
    assert lesson.output_error(found - w, h) < 0.8 * lesson.output_error(nearest - w, h)


@quick
@given(seeds, st.integers(2, 8))
def test_the_best_step_is_no_worse_than_the_largest(seed, bits):
    w = torch.randn(3, 20, generator=torch.Generator().manual_seed(seed))
    top, q = w.abs().amax(1, keepdim=True), 2 ** (bits - 1) - 1

    def error(step):
        return (lesson.to_nearest(w, step, bits, None) - w).square().sum(1)

    assert (error(lesson.best_step(w, bits)) <= error(top / q) * (1 + 1e-5)).all()


def test_the_gru_by_hand_is_torchs():
    names["gru"] = gru = models.load("SensorGRU")
    windows = np.random.default_rng(0).normal(size=(5, 100, 6)).astype(np.float32)
    logits, states = lesson.run_gru(windows)
    assert np.allclose(logits, train.predict(gru, windows), atol=1e-4)
    _, coarse = lesson.run_gru(windows, state=4)
    assert len(coarse.unique()) <= 16 < len(states.unique())
    assert states.shape == (5, 100, 32)


@pytest.mark.parametrize("bias", [True, False])
def test_folding_a_norm_without_its_own_scale_and_shift(bias):
    pair = nn.Sequential(nn.Conv2d(2, 3, 3, bias=bias), nn.BatchNorm2d(3, affine=False)).eval()
    pair[1].running_mean.uniform_(-1, 1)
    pair[1].running_var.uniform_(0.5, 2)
    x = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(pair(x), lesson.fold(pair)(x), atol=1e-5)


def test_folding_needs_running_statistics():
    norm = nn.BatchNorm2d(3, track_running_stats=False)
    with pytest.raises(ValueError, match="model.1 has no running statistics"):
        lesson.fold(nn.Sequential(nn.Conv2d(2, 3, 3), norm))
