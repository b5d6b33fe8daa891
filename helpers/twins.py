"""The PyTorch models of the course as Keras models: the way from PyTorch to a .tflite file."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator

import numpy as np
from torch import nn

from helpers.architectures import ResidualBlock, SensorRNN
from helpers.qat import LSQ, QuantizedLayer
from helpers.quiet import captured_stderr

Made = list[tuple["keras.Layer", list[np.ndarray]]]  # noqa: F821  layers and their weights


def import_keras():
    """Keras on TensorFlow on the CPU, without the log lines that both write while starting."""
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        with captured_stderr():
            # Optimizers of PyTorch import Triton, which crashes if TensorFlow was loaded first.
            if importlib.util.find_spec("triton"):
                importlib.import_module("triton")
            import tensorflow

            tensorflow.config.set_visible_devices([], "GPU")
            tensorflow.get_logger().setLevel("ERROR")
    import keras

    return keras


def leaves(model: nn.Sequential, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules of a Sequential in order, each with its path; inner Sequentials are opened."""
    for key, module in model.named_children():
        if is_sequential(module):
            yield from leaves(module, f"{path}{key}_")
        else:
            yield path + key, module


def is_sequential(module: nn.Module) -> bool:
    return type(module).forward is nn.Sequential.forward


def array(tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def require(condition: bool, name: str, module: nn.Module, allowed: str) -> None:
    if not condition:
        raise ValueError(f"{name} ({module}) has no Keras twin: it must have {allowed}")


def conv(layers, module: nn.Conv2d, name: str) -> Made:
    """The kernel [out, in, h, w] becomes [h, w, in, out], or [h, w, in, multiplier] if depthwise.

    TensorFlow's "same" pads a strided convolution by one row at the bottom only, where PyTorch
    pads at the top as well. So only a stride of 1 uses it.
    """
    plain = module.padding_mode == "zeros" and module.dilation == (1, 1)
    require(
        plain and module.padding != "same", name, module, "numbers as zero padding, no dilation"
    )
    padding = (0, 0) if module.padding == "valid" else module.padding
    same = module.stride == (1, 1) and all(
        k == 2 * p + 1 for k, p in zip(module.kernel_size, padding, strict=True)
    )
    made = (
        []
        if same or padding == (0, 0)
        else [(layers.ZeroPadding2D(padding, name=f"pad_{name}"), [])]
    )
    options = {
        "kernel_size": module.kernel_size,
        "strides": module.stride,
        "padding": "same" if same else "valid",
        "use_bias": module.bias is not None,
        "name": name,
    }
    kernel = array(module.weight)
    if 1 < module.groups == module.in_channels:
        multiplier = module.out_channels // module.in_channels
        kernel = kernel.reshape(module.in_channels, multiplier, *module.kernel_size)
        layer = layers.DepthwiseConv2D(depth_multiplier=multiplier, **options)
        kernel = kernel.transpose(2, 3, 0, 1)
    else:
        layer = layers.Conv2D(module.out_channels, groups=module.groups, **options)
        kernel = kernel.transpose(2, 3, 1, 0)
    bias = [] if module.bias is None else [array(module.bias)]
    return [*made, (layer, [kernel, *bias])]


def batch_norm(layers, module: nn.BatchNorm1d | nn.BatchNorm2d, name: str) -> Made:
    layer = layers.BatchNormalization(
        epsilon=module.eps, center=module.affine, scale=module.affine, name=name
    )
    affine = [module.weight, module.bias] if module.affine else []
    return [(layer, [array(t) for t in (*affine, module.running_mean, module.running_var)])]


def linear(layers, module: nn.Linear, name: str) -> Made:
    """The weight [out, in] becomes [in, out]."""
    bias = [] if module.bias is None else [array(module.bias)]
    layer = layers.Dense(module.out_features, use_bias=module.bias is not None, name=name)
    return [(layer, [array(module.weight).T, *bias])]


def pool(layers, module: nn.MaxPool2d | nn.AvgPool2d, name: str) -> Made:
    plain = module.padding in (0, (0, 0)) and not module.ceil_mode
    plain = plain and getattr(module, "dilation", 1) in (1, (1, 1))
    require(plain, name, module, "no padding, no dilation and ceil_mode=False")
    kind = layers.MaxPooling2D if type(module) is nn.MaxPool2d else layers.AveragePooling2D
    return [(kind(module.kernel_size, module.stride, name=name), [])]


def global_pool(layers, module: nn.AdaptiveAvgPool2d, name: str) -> Made:
    require(module.output_size in (1, (1, 1)), name, module, "output_size 1")
    return [(layers.GlobalAveragePooling2D(keepdims=True, name=name), [])]


def relu(layers, module: nn.ReLU, name: str) -> Made:
    return [(layers.ReLU(name=name), [])]


def flatten(layers, module: nn.Flatten, name: str) -> Made:
    require((module.start_dim, module.end_dim) == (1, -1), name, module, "start_dim=1, end_dim=-1")
    return [(layers.Flatten(name=name), [])]


def gru(layers, module: nn.GRU, name: str) -> Made:
    """PyTorch stacks the gates as (r, z, n), Keras as (z, r, h); both keep two bias rows."""
    plain = module.num_layers == 1 and not module.bidirectional and module.bias
    require(plain, name, module, "one layer, one direction and a bias")

    def reordered(tensor):
        r, z, n = np.split(array(tensor), 3)
        return np.concatenate([z, r, n])

    weights = [
        reordered(module.weight_ih_l0).T,
        reordered(module.weight_hh_l0).T,
        np.stack([reordered(module.bias_ih_l0), reordered(module.bias_hh_l0)]),
    ]
    layer = layers.GRU(module.hidden_size, reset_after=True, return_sequences=True, name=name)
    return [(layer, weights), mean_over_time(layers, name)]


def lstm(layers, module: nn.LSTM, name: str) -> Made:
    """Both stack the gates as (i, f, g, o); Keras keeps one bias, the sum of PyTorch's two."""
    plain = module.num_layers == 1 and not module.bidirectional and module.bias
    require(plain and not module.proj_size, name, module, "one layer, one direction and a bias")
    weights = [
        array(module.weight_ih_l0).T,
        array(module.weight_hh_l0).T,
        array(module.bias_ih_l0) + array(module.bias_hh_l0),
    ]
    layer = layers.LSTM(module.hidden_size, return_sequences=True, name=name)
    return [(layer, weights), mean_over_time(layers, name)]


def learned_step(layers, module: LSQ, name: str) -> Made:
    """A fake-quantize node: the converter takes the tensor's scale from its range."""
    from tensorflow.quantization import fake_quant_with_min_max_args as fake

    plain = module.bits == 8 and module.axis is None and bool(module.started)
    require(plain, name, module, "8 bits and one step, which is started")
    low, high = (float(limit * module.scale.detach()) for limit in (module.qmin, module.qmax))
    return [(layers.Lambda(lambda x: fake(x, low, high, num_bits=8), name=name), [])]


def quantized_layer(layers, module: QuantizedLayer, name: str) -> Made:
    """The kernel passes a fake-quantize node with a range for each filter, ±127 steps.

    The converter cannot transpose the ranges of a dense kernel, so that a dense layer becomes the
    1x1 convolution that it is.
    """
    from tensorflow.quantization import fake_quant_with_min_max_vars_per_channel as fake

    inner = module.layer
    if isinstance(inner, nn.Linear):
        inner = nn.Conv2d(inner.in_features, inner.out_features, 1)
        inner.weight, inner.bias = (
            nn.Parameter(module.layer.weight[..., None, None]),
            module.layer.bias,
        )
    require(inner.bias is not None, name, module, "its batch norm folded, by helpers.qat.fold")
    limit = 127 * array(module.weight_quantizer.scale)
    made = conv(layers, inner, name)
    layer = made[-1][0]
    convolve = layer.convolution_op
    layer.convolution_op = lambda x, kernel: convolve(
        x, fake(kernel, -limit, limit, num_bits=8, narrow_range=True)
    )
    if isinstance(module.layer, nn.Linear):
        reshape = layers.Reshape((1, 1, inner.in_channels), name=f"{name}_1x1")
        return [(reshape, []), *made, (layers.Flatten(name=f"{name}_flat"), [])]
    return made


def mean_over_time(layers, name: str) -> tuple:
    """SensorRNN reads the mean of its states."""
    return layers.GlobalAveragePooling1D(name=f"mean_{name}"), []


MAKERS = {
    nn.Conv2d: conv,
    nn.BatchNorm1d: batch_norm,
    nn.BatchNorm2d: batch_norm,
    nn.Linear: linear,
    nn.MaxPool2d: pool,
    nn.AvgPool2d: pool,
    nn.AdaptiveAvgPool2d: global_pool,
    nn.ReLU: relu,
    nn.Flatten: flatten,
    nn.GRU: gru,
    nn.LSTM: lstm,
    LSQ: learned_step,
    QuantizedLayer: quantized_layer,
}


def apply(layers, modules: Iterable[tuple[str, nn.Module]], x):
    """Run the Keras tensor x through the twins of the modules."""
    flattened = ()
    for path, module in modules:
        name = f"{type(module).__name__.lower()}_{path}"
        if type(module) is ResidualBlock:
            body = apply(layers, leaves(module.body, f"{path}_body_"), x)
            shortcut = apply(layers, leaves(module.shortcut, f"{path}_shortcut_"), x)
            x = layers.Add(name=f"add_{path}")([body, shortcut])
            x = apply(layers, [(path, module.relu)], x)
            continue
        if type(module) not in MAKERS:
            raise TypeError(
                f"module {path} is a {type(module).__name__}, which has no Keras twin: "
                f"use {', '.join(kind.__name__ for kind in MAKERS)}, Sequential or ResidualBlock"
            )
        if type(module) is nn.Flatten:
            flattened = x.shape[1:]
        for layer, weights in MAKERS[type(module)](layers, module, name):
            if type(module) is nn.Linear and len(flattened) == 3:
                weights[0] = height_width_channel(weights[0], flattened)
                flattened = ()
            x = layer(x)
            layer.set_weights(weights)
    return x


def height_width_channel(kernel: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Reorder the rows [C*H*W, out] that follow a Flatten in PyTorch to the order H, W, C."""
    height, width, channels = shape
    rows = kernel.reshape(channels, height, width, -1)
    return rows.transpose(1, 2, 0, 3).reshape(kernel.shape)


def keras_twin(model: nn.Module):
    """The same network as a keras.Model: weights copied, logits equal to 1e-4, in evaluation mode.

    model: a nn.Sequential for images, whose twin reads float32 [N, 28, 28, 1], pixels / 255; or a
    SensorRNN, whose twin reads float32 windows [N, 100, 6]. Sizes are read from the modules, so
    that a pruned model has a twin too. A layer is called after its module: "conv2d_3_body_0" is
    the twin of model[3].body[0].
    Raises TypeError for a module without a twin, ValueError for one with unusual settings.
    """
    keras = import_keras()
    if isinstance(model, SensorRNN):
        start = keras.Input((100, model.rnn.input_size), name="window")
        modules = model.named_children()
    elif is_sequential(model):
        start, modules = keras.Input((28, 28, 1), name="image"), leaves(model)
    else:
        raise TypeError(f"{type(model).__name__} has no Keras twin: pass a Sequential or SensorRNN")
    return keras.Model(
        start, apply(keras.layers, modules, start), name=type(model).__name__.lower()
    )
