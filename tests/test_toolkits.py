"""helpers/toolkits.py: what it finds in a .tflite file."""

import numpy as np
import pytest
import torch
from ai_edge_quantizer import recipe

from helpers import convert, models, quantize, toolkits


@pytest.fixture(scope="module")
def network():
    return models.load("TinyCNN")


@pytest.fixture(scope="module")
def content(network):
    return convert.to_tflite(network, "float32")


def test_an_exported_network_takes_batches_of_any_size(network):
    graph = toolkits.exported(network)
    x = torch.rand(7, 1, 28, 28)
    assert torch.allclose(graph(x), network(x), atol=1e-5)


def test_a_dynamic_recipe_stores_rounded_weights(content):
    small = toolkits.by_recipe(content, recipe.dynamic_wi8_afp32())
    assert len(small) < len(content)
    original = toolkits.layer_weights(content)
    for name, (q, scales) in toolkits.layer_weights(small).items():
        if q.dtype == np.int8:
            params = quantize.affine_params(original[name][0], bits=8, symmetric=True, axis=0)
            assert np.array_equal(scales, params.scale.numpy())
            assert np.array_equal(toolkits.with_scales(small, scales), q)


def test_scales_that_no_tensor_has(content):
    with pytest.raises(LookupError, match="no tensor has these 3 scales"):
        toolkits.with_scales(content, np.ones(3))
