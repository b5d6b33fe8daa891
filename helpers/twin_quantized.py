"""The twins of quantized layers: fake-quantize nodes, from which the converter takes its scales."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn

from helpers.keras_start import import_keras, keras_layer
from helpers.qat import LSQ, QuantizedLayer
from helpers.twin_layers import LAST, Flow, array, convolution, dense_weight, in_order, require


def learned_step(module: LSQ, name: str, x: Flow) -> Flow:
    """A fake-quantize node: the converter takes the tensor's scale from its range."""
    from tensorflow.quantization import fake_quant_with_min_max_args as fake

    steps = module.qmax - module.qmin
    plain = module.bits == 8 and module.axis is None and bool(module.started)
    require(plain and steps in (254, 255), "8 bits and one step, which is started")
    low, high = (float(limit * array(module.scale)[0]) for limit in (module.qmin, module.qmax))

    def quantized(values):
        return fake(values, low, high, num_bits=8, narrow_range=steps == 254)

    return x._replace(tensor=keras_layer("Lambda", x.tensor, function=quantized, name=name))


def quantized_layer(module: QuantizedLayer, name: str, x: Flow) -> Flow:
    """The layer with its quantized weights, which pass a fake-quantize node as well.

    The converter cannot transpose the ranges of a dense kernel, so that a dense layer becomes the
    1x1 convolution that it is.
    """
    inner, quantizer = module.layer, module.weight_quantizer
    require(type(inner) in (nn.Conv2d, nn.Linear), "a Conv2d or a Linear inside")
    require(inner.bias is not None, "its batch norm folded, by helpers.qat.fold")
    plain = type(quantizer) is LSQ and (quantizer.bits, quantizer.axis) == (8, 0)
    plain = plain and (quantizer.qmin, quantizer.qmax) == (-127, 127) and bool(quantizer.started)
    require(plain, "weights of 8 bits and one step for each filter, which is started, ±127 steps")
    kind = functools.partial(quantized_conv2d(), 127 * array(quantizer.scale))
    with torch.no_grad():
        weight = array(quantizer(inner.weight))  # PyTorch rounds a half to even, TensorFlow up
    if type(inner) is nn.Conv2d:
        sizes = {"filters": len(weight), "groups": inner.groups}
        return convolution(kind, inner, weight, name, x, **sizes)
    weights = [dense_weight(weight, x).T[None, None], array(inner.bias)]
    tensor = keras_layer(
        "Reshape", x.tensor, target_shape=(1, 1, weight.shape[1]), name=f"{name}_1x1"
    )
    options = {"filters": len(weight), "kernel_size": 1, "padding": "same", "name": name, **LAST}
    tensor = keras_layer(kind, tensor, weights, **options)
    return in_order(keras_layer("Flatten", tensor, name=f"{name}_flat", **LAST))


@functools.cache
def quantized_conv2d() -> type:
    """A Conv2D whose kernel passes a fake-quantize node with a range for each filter.

    limit: float32 [filters], the range is ±limit, in ±127 steps.
    """
    from tensorflow.quantization import fake_quant_with_min_max_vars_per_channel as fake

    class QuantizedConv2D(import_keras().layers.Conv2D):
        def __init__(self, limit: np.ndarray, **options):
            super().__init__(**options)
            self.limit = limit

        def convolution_op(self, inputs, kernel):
            kernel = fake(kernel, -self.limit, self.limit, num_bits=8, narrow_range=True)
            return super().convolution_op(inputs, kernel)

    return QuantizedConv2D
