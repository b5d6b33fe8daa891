"""Calibrators against independent witnesses."""

import pytest
import torch

from helpers import calibrate as C
from helpers import quantize as Q


@pytest.mark.parametrize("calibrate", [C.minmax, C.percentile, C.mse, C.entropy])
def test_a_calibrated_range_lies_inside(calibrate):
    x = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    x[0] = 30
    low, high = calibrate(x)
    assert x.min() <= low < 0 < high <= x.max()
    assert calibrate(torch.zeros(5)).tolist() == [0, 0]


def test_calibrators_clip_an_outlier_where_it_pays():
    x = torch.randn(20000, generator=torch.Generator().manual_seed(0))
    x[0] = 30

    def error(window, bits):
        params = Q.affine_params(window, bits=bits)
        return (x - Q.dequantize(Q.quantize(x, params), params)).square().sum()

    window = C.mse(x, bits=4)
    assert error(window, 4) <= error(C.minmax(x), 4) / 2
    assert C.percentile(x, 99.9)[1] < 4 and C.entropy(x)[1] < 15
    assert torch.equal(C.percentile(x, 100), C.minmax(x))


def test_entropy_is_not_misled_by_the_zeros_of_a_relu():
    x = torch.randn(50000, generator=torch.Generator().manual_seed(0)).sub(1).relu()
    assert (x == 0).float().mean() > 0.8
    low, high = C.entropy(x, bits=4)
    assert low == 0 and high > 0.4 * x.max()


def test_percent_is_checked():
    with pytest.raises(ValueError, match="above 50"):
        C.percentile([1.0], 50)
