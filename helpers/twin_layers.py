"""One function for each PyTorch layer: what its Keras twin makes of a tensor.

A maker takes the layer, a name for its twin, and a Flow; it returns the next Flow. It raises
ValueError with what the layer must have; `helpers.twins` puts in front which layer it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from helpers.keras_start import keras_layer

LAST = {"data_format": "channels_last"}


class Flow(NamedTuple):
    """What flows from one layer to the next.

    tensor: of Keras: [N, H, W, C] where PyTorch has [N, C, H, W], else as in PyTorch.
    order: int64, one for each index i of the last axis: PyTorch has there what is its order[i].
    After a Flatten that is H, W, C instead of C, H, W, and the next weights are reordered to fit.
    """

    tensor: keras.KerasTensor  # noqa: F821  Keras is imported when a twin is built
    order: np.ndarray


def in_order(tensor: keras.KerasTensor) -> Flow:  # noqa: F821
    """A tensor whose last axis stands as in PyTorch."""
    return Flow(tensor, np.arange(tensor.shape[-1]))


def require(condition: bool, allowed: str) -> None:
    """ValueError unless the condition is met."""
    if not condition:
        raise ValueError(f"it must have {allowed}")


def array(tensor: torch.Tensor) -> np.ndarray:
    """The numbers of a layer, float32, from any floating-point tensor on any device.

    >>> array(torch.tensor([0.5], dtype=torch.bfloat16))
    array([0.5], dtype=float32)
    """
    plain = type(tensor) in (torch.Tensor, nn.Parameter) and not tensor.is_meta
    require(plain and tensor.is_floating_point(), "plain tensors of floating-point numbers")
    return tensor.detach().cpu().float().numpy()


def present(*tensors: torch.Tensor | None) -> list[np.ndarray]:
    """The arrays of those that are there: a bias, or a batch norm's factor, may be None."""
    return [array(t) for t in tensors if t is not None]


def pair(value: int | tuple) -> tuple:
    """A size for both axes.

    >>> pair(3), pair((1, 2))
    ((3, 3), (1, 2))
    """
    return (value, value) if isinstance(value, int) else tuple(value)


def conv(module: nn.Conv2d, name: str, x: Flow) -> Flow:
    """The kernel [out, in, h, w] becomes [h, w, in, out], or [h, w, in, factor] if depthwise."""
    weight = array(module.weight)
    if not 1 < module.groups == x.tensor.shape[-1]:
        sizes = {"filters": len(weight), "groups": module.groups}
        return convolution("Conv2D", module, weight, name, x, **sizes)
    factor = len(weight) // module.groups
    weight = weight.reshape(module.groups, factor, *weight.shape[2:]).swapaxes(0, 1)
    return convolution("DepthwiseConv2D", module, weight, name, x, depth_multiplier=factor)


def convolution(
    kind: str | Callable, module: nn.Conv2d, weight: np.ndarray, name: str, x: Flow, **options
) -> Flow:
    """weight: float32 [last, in, h, w], where `last` is the last axis of Keras's kernel.

    TensorFlow's "same" pads a strided convolution by one row at the bottom only, where PyTorch
    pads at the top as well. So only a stride of 1 uses it.
    """
    require(x.tensor.ndim == 4, "a map [N, C, H, W] as its input")
    plain = module.padding_mode == "zeros" and pair(module.dilation) == (1, 1)
    require(plain, "zeros as its padding and no dilation")
    channels = module.weight.shape[1] * module.groups
    require(channels == x.tensor.shape[-1], f"{x.tensor.shape[-1]} input channels")
    tensor, size, stride = x.tensor, weight.shape[2:], pair(module.stride)
    depthwise = 1 < module.groups == channels  # TensorFlow has no kernel for two strides everywhere
    require(not depthwise or stride[0] == stride[1], "equal strides, where it is depthwise")
    padding = (0, 0) if module.padding == "valid" else module.padding
    if padding != "same":
        padding = pair(padding)
        if stride == (1, 1) and all(k == 2 * p + 1 for k, p in zip(size, padding, strict=True)):
            padding = "same"
    if padding not in ("same", (0, 0)):
        tensor = keras_layer("ZeroPadding2D", tensor, padding=padding, name=f"pad_{name}", **LAST)
    require(stride == (1, 1) or padding != "same", "numbers as its padding")
    options |= {
        "kernel_size": size,
        "strides": stride,
        "padding": "same" if padding == "same" else "valid",
        "use_bias": module.bias is not None,
    }
    weights = [weight.transpose(2, 3, 1, 0), *present(module.bias)]
    tensor = keras_layer(kind, tensor, weights, name=name, **options, **LAST)
    # One channel, strides (1, 2) and a result of one column: TensorFlow's kernel is wrong there.
    known = channels == 1 and stride[0] == 1 < stride[1] and tensor.shape[2] == 1
    require(not known, "equal strides, where one channel becomes one column")
    return in_order(tensor)


def batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d, name: str, x: Flow) -> Flow:
    """gamma, beta, mean and variance, one for each channel; gamma and beta may be missing."""
    axes = (4,) if type(module) is nn.BatchNorm2d else (2, 3)
    require(x.tensor.ndim in axes, f"an input of {' or '.join(map(str, axes))} axes")
    statistics = module.running_mean, module.running_var
    require(all(s is not None for s in statistics), "running statistics (track_running_stats=True)")
    weights = present(module.weight, module.bias, *statistics)
    require(all(w.shape == x.order.shape for w in weights), f"{len(x.order)} channels")
    options = {"center": module.bias is not None, "scale": module.weight is not None}
    tensor = keras_layer(
        "BatchNormalization",
        x.tensor,
        [w[x.order] for w in weights],
        epsilon=module.eps,
        name=name,
        **options,
    )
    return x._replace(tensor=tensor)


def linear(module: nn.Linear, name: str, x: Flow) -> Flow:
    """The weight [out, in] becomes [in, out]."""
    weight = dense_weight(array(module.weight), x)
    options = {"units": len(weight), "use_bias": module.bias is not None, "name": name}
    return in_order(keras_layer("Dense", x.tensor, [weight.T, *present(module.bias)], **options))


def dense_weight(weight: np.ndarray, x: Flow) -> np.ndarray:
    """A weight [out, in] for the order in which the features come."""
    require(x.tensor.ndim == 2, "features [N, F] as its input: put a Flatten in front")
    require(weight.shape[1:] == x.tensor.shape[1:], f"{x.tensor.shape[1]} input features")
    return weight[:, x.order]


def pool(module: nn.MaxPool2d | nn.AvgPool2d, name: str, x: Flow) -> Flow:
    """The largest value, or the mean, of each window."""
    require(x.tensor.ndim == 4, "a map [N, C, H, W] as its input")
    plain = pair(module.padding) == (0, 0) and not module.ceil_mode
    plain = plain and pair(getattr(module, "dilation", 1)) == (1, 1)
    require(plain, "no padding, no dilation and ceil_mode=False")
    indices = getattr(module, "return_indices", False)
    divisor = getattr(module, "divisor_override", None)
    require(not indices and divisor is None, "return_indices=False and no divisor_override")
    kind = "MaxPooling2D" if type(module) is nn.MaxPool2d else "AveragePooling2D"
    size = pair(module.kernel_size)
    strides = size if module.stride is None else pair(module.stride)
    options = {"pool_size": size, "strides": strides, "padding": "valid", "name": name, **LAST}
    return x._replace(tensor=keras_layer(kind, x.tensor, **options))


def global_pool(module: nn.AdaptiveAvgPool2d, name: str, x: Flow) -> Flow:
    """The mean of each map; an output size of None is the input's."""
    require(x.tensor.ndim == 4, "a map [N, C, H, W] as its input")
    asked = zip(pair(module.output_size), x.tensor.shape[1:3], strict=True)
    asked = [given if size is None else size for size, given in asked]
    require(asked == [1, 1], "output_size 1")
    tensor = keras_layer("GlobalAveragePooling2D", x.tensor, keepdims=True, name=name, **LAST)
    return x._replace(tensor=tensor)


def relu(module: nn.ReLU | nn.ReLU6, name: str, x: Flow) -> Flow:
    """max(x, 0), and at most 6 for ReLU6."""
    most = 6.0 if type(module) is nn.ReLU6 else None
    return x._replace(tensor=keras_layer("ReLU", x.tensor, max_value=most, name=name))


def nothing(module: nn.Identity | nn.Dropout, name: str, x: Flow) -> Flow:
    """Dropout drops in training only."""
    return x


def flatten(module: nn.Flatten, name: str, x: Flow) -> Flow:
    """Keras's maps give H, W, C, where PyTorch's give C, H, W."""
    require((module.start_dim, module.end_dim) == (1, -1), "start_dim=1, end_dim=-1")
    if x.tensor.ndim == 2:
        return x
    require(x.tensor.ndim == 4, "a map [N, C, H, W] or features [N, F] as its input")
    height, width, channels = x.tensor.shape[1:]
    order = np.arange(height * width * channels).reshape(channels, height, width)
    tensor = keras_layer("Flatten", x.tensor, name=name, **LAST)
    return Flow(tensor, order.transpose(1, 2, 0).ravel())


def recurrent(module: nn.GRU | nn.LSTM, name: str, x: Flow) -> Flow:
    """The states over time: [N, time, features] -> [N, time, units].

    PyTorch stacks the gates of a GRU as (r, z, n), Keras as (z, r, h); both keep two bias rows.
    Both stack those of an LSTM as (i, f, g, o); Keras keeps one bias, the sum of PyTorch's two.
    """
    plain = module.num_layers == 1 and not module.bidirectional and module.bias
    plain = plain and module.batch_first and not module.proj_size
    require(plain, "one layer, one direction and a bias, batch_first=True and no proj_size")
    weights = [module.weight_ih_l0, module.weight_hh_l0, module.bias_ih_l0, module.bias_hh_l0]
    w_ih, w_hh, b_ih, b_hh = map(array, weights)
    require(w_ih.shape[1] == x.tensor.shape[-1], f"{x.tensor.shape[-1]} input features")
    options = {"units": w_hh.shape[1], "return_sequences": True, "name": name}
    if type(module) is nn.LSTM:
        return in_order(keras_layer("LSTM", x.tensor, [w_ih.T, w_hh.T, b_ih + b_hh], **options))

    def reordered(rows: np.ndarray) -> np.ndarray:
        r, z, n = np.split(rows, 3)
        return np.concatenate([z, r, n])

    weights = [reordered(w_ih).T, reordered(w_hh).T, np.stack([reordered(b_ih), reordered(b_hh)])]
    return in_order(keras_layer("GRU", x.tensor, weights, reset_after=True, **options))
