"""helpers.ptq: folding, the places of quantizers, observers, and what a simulation rounds."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers import calibrate, models, ptq, quantize, train

quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**16)


@pytest.fixture(scope="module")
def resnet():
    return models.load("ResNet8")


@pytest.fixture(scope="module")
def folded(resnet):
    return ptq.fold(resnet)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (20, 28, 28)).astype(np.uint8)


def test_folding_is_exact_in_float64_and_leaves_the_original(resnet, images):
    x = models.as_input(images).double()
    wide = copy.deepcopy(resnet).double()
    before = copy.deepcopy(wide.state_dict())
    narrow = ptq.fold(wide)
    assert torch.allclose(wide(x), narrow(x), rtol=0, atol=1e-10)
    assert all(torch.equal(before[key], value) for key, value in wide.state_dict().items())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in narrow.modules())
    assert ptq.layers(narrow) == ptq.layers(resnet), "every layer keeps its name"
    assert not any(p.requires_grad for p in narrow.parameters())


@quick
@given(seeds, st.booleans(), st.booleans())
def test_folding_keeps_a_bias_and_needs_no_scale(seed, bias, affine):
    generator = torch.Generator().manual_seed(seed)
    norm = nn.BatchNorm2d(3, affine=affine)
    pair = nn.Sequential(nn.Conv2d(2, 3, 3, bias=bias), norm).double().eval()
    for tensor in (*pair.parameters(), norm.running_mean):
        tensor.data = torch.randn(tensor.shape, generator=generator, dtype=torch.double)
    norm.running_var.uniform_(0.1, 3, generator=generator)
    x = torch.randn(2, 2, 6, 6, generator=generator, dtype=torch.double)
    assert torch.allclose(pair(x), ptq.fold(pair)(x))


def test_folding_needs_running_statistics():
    norm = nn.BatchNorm2d(3, track_running_stats=False)
    with pytest.raises(ValueError, match="batch norm 1 has no running statistics"):
        ptq.fold(nn.Sequential(nn.Conv2d(2, 3, 3), norm))


@quick
@given(seeds, st.integers(2, 8), st.booleans())
def test_weights_land_on_their_levels(seed, bits, per_channel):
    w = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed))
    found = ptq.nearest_levels(w, bits, per_channel)
    top = w.abs().amax(1, keepdim=True) if per_channel else w.abs().max()
    step = top / (2 ** (bits - 1) - 1)
    assert ((found - w).abs() <= step / 2 * 1.001).all()
    assert torch.allclose((found / step).round(), found / step, atol=1e-3)


def test_weight_only_takes_a_plan(folded):
    model = ptq.weight_only(folded, {"0": 2})
    assert len(model[0].weight[0].unique()) <= 3
    assert torch.equal(model[8].weight, folded[8].weight)
    assert torch.equal(model[0].bias, folded[0].bias)
    assert len(ptq.weight_only(folded, 4)[8].weight[0].unique()) <= 15


@quick
@given(seeds, st.integers(2, 8))
def test_a_quantizer_rounds_as_the_formulas_do(seed, bits):
    x = torch.randn(100, generator=torch.Generator().manual_seed(seed)) + 0.5
    params = quantize.affine_params(x, bits=bits)
    expected, before = quantize.fake_quantize(x, params), x.clone()
    assert torch.equal(ptq.quantizer(params)(None, None, x), expected)
    with torch.no_grad():
        assert torch.equal(ptq.quantizer(params)(None, None, x), expected)
    assert torch.equal(x, before), "the tensor itself stays as it was"


def test_every_stored_tensor_has_few_levels(folded, images):
    ranges = ptq.choose(ptq.observe(folded, images), 4)
    assert len(ranges) == 14 == len(ptq.places(folded))
    model = ptq.static(folded, 4, ranges)
    seen = ptq.collect(model, list(ranges), images, lambda layer, x, y: len(y.unique()))
    assert all(max(counts) <= 16 for counts in seen.values())
    assert train.predict(folded, images).shape == (20, 10), "the original has no quantizers"
    assert len(folded.get_submodule("5.body.3").weight[0].unique()) > 500


def test_observers_keep_the_extremes_and_spread_the_rest(folded, images):
    few = ptq.observe(folded, images, keep=10)
    every = ptq.collect(folded, ptq.places(folded), images, lambda layer, x, y: y.flatten())
    for name, parts in every.items():
        assert torch.equal(calibrate.minmax(few[name]), calibrate.minmax(torch.cat(parts)))
        assert len(few[name]) == 12 and few[name][0] == parts[0][0]


def test_collect_removes_its_hooks_even_after_an_error(folded, images):
    with pytest.raises(ZeroDivisionError):
        ptq.collect(folded, ["8"], images, lambda layer, x, y: 1 / 0)
    assert not folded[8]._forward_hooks


def test_classes_are_those_of_one_pass(folded, images):
    expected = train.predict(folded, images).argmax(1)
    assert np.array_equal(ptq.classes(folded, images), expected)
