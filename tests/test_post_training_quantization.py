"""What lesson 23 writes out: folding, three ways to quantize, observers, the knapsack."""

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from torch.nn.utils.fusion import fuse_conv_bn_weights

from helpers import calibrate, models, ptq, quantize, train

lesson = definitions("23_post_training_quantization")
names = lesson.__globals__
quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**16)


@pytest.fixture(scope="module")
def folded():
    model = ptq.fold(models.load("ResNet8"))
    names["folded"], names["LAYERS"] = model, ptq.layers(model)
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (20, 28, 28)).astype(np.uint8)


@quick
@given(seeds)
def test_folding_is_pytorchs(seed):
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(3, 2, 3, 3, generator=generator)
    gamma, beta, mean = torch.randn(3, 3, generator=generator)
    var = 3 * torch.rand(3, generator=generator)
    theirs = fuse_conv_bn_weights(w, None, mean, var, 1e-5, gamma, beta)
    ours = lesson.fold(w, gamma, beta, mean, var, 1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


def test_folding_by_hand():
    one = torch.ones(1)
    w, b = lesson.fold(2 * torch.ones(1, 1, 1, 1), 4 * one, one, 5 * one, 4 * one, 0.0)
    assert w.item() == 4 and b.item() == -9


@quick
@given(seeds, st.integers(2, 8))
def test_each_image_gets_a_scale_of_its_own(seed, bits):
    x = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(seed))
    found = lesson.round_images(x, bits)
    for image, mine in zip(x, found, strict=True):
        params = quantize.affine_params(image, bits=bits, symmetric=True)
        assert torch.allclose(
            mine, quantize.fake_quantize(image, params), atol=float(params.scale) * 1e-3
        )


def test_an_image_of_zeros_stays_zero():
    assert (lesson.round_images(torch.zeros(2, 3), 8) == 0).all()


@quick
@given(seeds, st.integers(2, 8), st.booleans())
def test_weights_land_on_the_helpers_levels(seed, bits, per_channel):
    w = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed))
    found = lesson.nearest_levels(w, bits, per_channel)
    assert torch.equal(found, ptq.nearest_levels(w, bits, per_channel))


def test_dynamic_does_not_depend_on_the_rest_of_the_batch(folded, images):
    model = lesson.dynamic(folded)
    alone = train.predict(model, images[:1])
    assert np.allclose(train.predict(model, images)[:1], alone, atol=1e-3)
    assert not np.allclose(alone, train.predict(folded, images[:1]), atol=1e-3), (
        "nothing is rounded"
    )


def test_static_is_the_helpers(folded, images):
    samples, theirs = lesson.observe(folded, images), ptq.observe(folded, images)
    assert all(torch.equal(x, theirs[name]) for name, x in samples.items())
    ours = lesson.static(folded, 4, lesson.choose(samples, 4), False)
    helper = ptq.static(folded, 4, ptq.choose(theirs, 4), False)
    assert np.array_equal(train.predict(ours, images), train.predict(helper, images))
    assert not ptq.collect(folded, ["2"], images, lambda layer, x, y: len(y.unique()) < 20)["2"][0]


def test_divergence_is_torchs(folded, images):
    log_p = lesson.log_softmax(folded, images)
    model = lesson.weight_only(copy.deepcopy(folded), {"0": 2})
    log_q = lesson.log_softmax(model, images)
    theirs = torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
    assert lesson.divergence(model, images, log_p) == pytest.approx(float(theirs), rel=1e-3)


@quick
@given(seeds)
def test_the_knapsack_is_solved_exactly(seed):
    rng = np.random.default_rng(seed)
    size = {n: int(rng.integers(1, 9)) for n in "abcd"}
    choices = (2, 3, 5)
    cost = {(n, b): float(rng.random()) for n in size for b in choices}
    budget = int(rng.integers(2 * sum(size.values()), 5 * sum(size.values()) + 1))
    found = lesson.knapsack(size, cost, budget, choices)
    assert sum(size[n] * b for n, b in found.items()) <= budget
    possible = [
        sum(cost[n, b] for n, b in zip(size, bits, strict=True))
        for bits in itertools.product(choices, repeat=4)
        if sum(size[n] * b for n, b in zip(size, bits, strict=True)) <= budget
    ]
    assert sum(cost[n, b] for n, b in found.items()) == pytest.approx(min(possible))


@quick
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_the_front_holds_what_nobody_beats(pairs):
    plans = [(used, float(cost), {"n": i}) for i, (used, cost) in enumerate(pairs)]
    kept = {plan[:2] for plan in lesson.front(plans)}
    beaten = {
        p[:2] for p in plans if any(q[0] <= p[0] and q[1] <= p[1] and q[:2] != p[:2] for q in plans)
    }
    assert kept == {p[:2] for p in plans} - beaten


def test_observers_keep_the_extremes(folded, images):
    seen = lesson.observe(folded, images, keep=10)
    every = ptq.collect(folded, list(seen), images, lambda layer, x, y: y.flatten())
    for name, parts in every.items():
        assert torch.equal(calibrate.minmax(seen[name]), calibrate.minmax(torch.cat(parts)))
