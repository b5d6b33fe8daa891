"""A learned step: its gradients against the paper, its start, its limits."""

import pytest
import torch

from helpers import quantize as Q
from helpers.qat import LSQ


def test_lsq_gradient_of_the_step_is_the_papers():
    """Esser et al. 2020, equation 3: round(v) - v inside, the end of the range outside."""
    x = torch.tensor([-9.0, -0.7, 0.2, 0.9, 1.6, 9.0])
    layer = LSQ(bits=3)
    layer.start(x)
    layer.step.data.fill_(0.5)
    layer(x).sum().backward()
    v = x / 0.5
    expected = torch.where(v <= -4, -4.0, torch.where(v >= 3, 3.0, v.round() - v)).sum()
    torch.testing.assert_close(layer.step.grad[0], expected / (3 * 6) ** 0.5)


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


@pytest.mark.parametrize("step", [-0.5, 0.0])
def test_a_step_that_crosses_zero_stays_usable(step):
    layer, other = LSQ(4), LSQ(4)
    x = torch.randn(100, generator=torch.Generator().manual_seed(0))
    for quantizer, value in ((layer, step), (other, max(abs(step), 1e-8))):
        quantizer.start(x)
        quantizer.step.data.fill_(value)
    assert torch.equal(layer(x), other(x)) and torch.isfinite(layer(x)).all()
    layer(x).sum().backward()
    assert torch.isfinite(layer.step.grad).all()
    assert layer.params().scale > 0


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


def test_one_bit_is_too_few():
    with pytest.raises(ValueError, match="needs 2 bits"):
        LSQ(bits=1)
