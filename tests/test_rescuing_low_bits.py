"""What lesson 24 writes out: equalization, bias correction, AdaRound, the GRU by hand."""

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import NOTEBOOKS, cells, definitions

from helpers import models, ptq, train

lesson = definitions("24_rescuing_low_bits")
names = lesson.__globals__
quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**16)


@pytest.fixture(scope="module")
def folded():
    names["folded"] = model = ptq.fold(models.load("ResNet8"))
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (20, 28, 28)).astype(np.uint8)


@pytest.mark.parametrize("decades", [0.0, 1.0, 2.0])
def test_rescaling_and_equalizing_leave_the_function(folded, images, decades):
    x = models.as_input(images).double()
    wide = copy.deepcopy(folded).double()
    sick = lesson.unbalanced(wide, decades)
    well = lesson.equalize(sick)
    assert torch.allclose(wide(x), sick(x), atol=1e-9)
    assert torch.allclose(wide(x), well(x), atol=1e-9)
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
    layers = ptq.layers(folded)
    rounded = ptq.weight_only(folded, 4, per_channel=False)
    corrected = lesson.correct_bias(rounded, folded, images)
    target, found = (lesson.channel_means(m, images, layers) for m in (folded, corrected))
    before = lesson.channel_means(rounded, images, layers)
    for name in layers:
        assert torch.allclose(found[name], target[name], atol=1e-3)
        assert (before[name] - target[name]).abs().max() > 1e-3
        assert torch.equal(corrected.get_submodule(name).weight, rounded.get_submodule(name).weight)


@quick
@given(seeds, st.integers(1, 5), st.integers(1, 6))
def test_the_output_error_is_a_sum_of_quadratic_forms(seed, filters, inputs):
    generator = torch.Generator().manual_seed(seed)
    d = torch.randn(filters, inputs, generator=generator).double()
    x = torch.randn(30, inputs, generator=generator).double()
    H = x.T @ x / 30
    measured = (x @ d.T).square().mean(0).sum()  # E[(d^T x)^2], over filters
    assert float(lesson.output_error(d, H)) == pytest.approx(float(measured), rel=1e-9)


def test_second_moments_give_the_error_of_the_outputs(folded, images):
    H = lesson.second_moments(folded, images)
    layer = folded.get_submodule("4.body.0")
    d = 0.01 * torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0))
    changed = copy.deepcopy(folded)
    changed.get_submodule("4.body.0").weight.add_(d)
    outputs = [
        ptq.collect(m, ["4.body.0"], images, lambda layer, x, y: y)["4.body.0"][0]
        for m in (folded, changed)
    ]
    measured = (outputs[1] - outputs[0]).square().mean((0, 2, 3)).sum()
    modelled = float(lesson.output_error(d.flatten(1), H["4.body.0"]))
    assert float(measured) == pytest.approx(modelled, rel=1e-3)


def test_the_soft_choice_reaches_both_ends():
    found = lesson.h(torch.tensor([-5.0, 0.0, 5.0]))
    assert torch.allclose(found, torch.tensor([0.0, 0.5, 1.0]))


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_adaround_takes_neighbors_and_beats_nearest(bits):
    generator = torch.Generator().manual_seed(bits)
    w = torch.randn(8, 30, generator=generator)
    x = (torch.randn(500, 30, generator=generator) + 0.5).relu()
    H = x.T @ x / len(x)
    s = lesson.best_step(w, bits)
    nearest = lesson.to_nearest(w, s, bits, H)
    found = lesson.adaround(w, s, bits, H)
    q, top = found / s, 2 ** (bits - 1) - 1
    assert torch.allclose(q, q.round(), atol=1e-4) and q.abs().max() <= top + 1e-4
    assert ((q - (w / s).clamp(-top, top)).abs() < 1 + 1e-4).all()
    assert lesson.output_error(found - w, H) < 0.8 * lesson.output_error(nearest - w, H)


@quick
@given(seeds, st.integers(2, 8))
def test_the_best_step_is_no_worse_than_the_largest(seed, bits):
    w = torch.randn(3, 20, generator=torch.Generator().manual_seed(seed))
    top, q = w.abs().amax(1, keepdim=True), 2 ** (bits - 1) - 1

    def error(step):
        return (lesson.to_nearest(w, step, bits) - w).square().sum(1)

    assert lesson.best_step(w, bits).shape == (3, 1)
    assert (error(lesson.best_step(w, bits)) <= error(top / q) * (1 + 1e-5)).all()


@quick
@given(seeds, st.integers(2, 6))
def test_random_rounding_takes_a_neighbor(seed, bits):
    w = torch.randn(3, 20, generator=torch.Generator().manual_seed(seed))
    s = w.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    found = lesson.at_random(seed, w, s, bits, None)
    assert ((found - w).abs() < s * 1.001).all()
    assert torch.equal(found, lesson.at_random(seed, w, s, bits, None)), "one seed, one rounding"


def test_the_gru_by_hand_is_torchs():
    names["gru"] = gru = models.load("SensorGRU")
    keys = ("W_xh", "W_hh", "b_xh", "b_hh", "W_hy", "b_y")
    names.update(zip(keys, (p.detach() for p in gru.parameters()), strict=True))
    windows = np.random.default_rng(0).normal(size=(5, 100, 6)).astype(np.float32)
    logits, states = lesson.run_gru(windows)
    assert np.allclose(logits, train.predict(gru, windows), atol=1e-4)
    _, coarse = lesson.run_gru(windows, state=4)
    assert len(coarse.unique()) <= 16 < len(states.unique())
    assert states.shape == (5, 100, 32)


def test_the_mixed_bits_are_those_of_lesson_23():
    outputs = [
        "".join(output.get("data", {}).get("text/plain", []))
        for cell in json.loads(
            (NOTEBOOKS / "23_post_training_quantization.ipynb").read_text(encoding="utf-8")
        )["cells"]
        for output in cell.get("outputs", [])
    ]
    (plan,) = (text for text in outputs if "\nweights " in text and "\nbits " in text)
    bits = [
        int(b) for line in plan.split("\n") if line.startswith("bits ") for b in line.split()[1:]
    ]
    source = "\n".join(cells("24_rescuing_low_bits"))
    assert f"({', '.join(map(str, bits))})" in source, f"lesson 23 chooses {bits} now"
