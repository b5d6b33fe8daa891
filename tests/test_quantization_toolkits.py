"""The functions that lesson 26 writes out, against torchao and helpers."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from torchao.quantization.pt2e.observer import MovingAverageMinMaxObserver

from helpers import qat

lesson = definitions("26_quantization_toolkits")
quick = settings(max_examples=40, deadline=None)


@quick
@given(st.integers(0, 10_000), st.integers(1, 12), st.sampled_from([0.01, 0.05, 0.3, 1.0]))
def test_the_moving_range_is_torchaos(seed, n, c):
    rng = np.random.default_rng(seed)
    batches = [rng.normal(rng.normal(), 2, 7).astype(np.float32) for _ in range(n)]
    theirs = MovingAverageMinMaxObserver(averaging_constant=c)
    for batch in batches:
        theirs(torch.from_numpy(batch))
    assert np.allclose(lesson.moving_range(batches, c), [theirs.min_val, theirs.max_val], atol=1e-4)


@quick
@given(st.integers(0, 10_000))
def test_folding_keeps_the_integers_but_for_the_sign_of_gamma(seed):
    generator = torch.Generator().manual_seed(seed)
    conv, norm = torch.nn.Conv2d(1, 3, 3, bias=False), torch.nn.BatchNorm2d(3)
    with torch.no_grad():
        conv.weight.copy_(torch.randn(conv.weight.shape, generator=generator))
        norm.weight.copy_(torch.randn(3, generator=generator))
        norm.running_var.copy_(torch.rand(3, generator=generator) + 0.1)
    model = qat.insert_quantizers(torch.nn.Sequential(conv, norm, torch.nn.ReLU()), 8)
    images = np.random.default_rng(seed).integers(0, 256, (2, 28, 28)).astype(np.uint8)
    qat.start_steps(model, images)
    before, after = (lesson.quantized_layers(n)[0] for n in (model, qat.fold(model)))
    sign = lesson.signs(model)[0].reshape(3, 1, 1, 1)
    q = lesson.integer_weights(before) * sign
    assert torch.equal(q.to(torch.int8), lesson.integer_weights(after))
