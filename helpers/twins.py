"""The PyTorch models of the course as Keras models: the way from PyTorch to a .tflite file.

litert-torch converts PyTorch models too. These twins are here because they are small enough to
read, need nothing beyond TensorFlow, and call every layer after its module, so that a lesson finds
in the file what it has in PyTorch.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from torch import nn
from torch.nn.modules import module as torch_module

from helpers.architectures import ResidualBlock, SensorRNN
from helpers.keras_start import import_keras, keras_layer
from helpers.qat import LSQ, QuantizedLayer
from helpers.twin_layers import (
    LAST,
    Flow,
    batch_norm,
    conv,
    flatten,
    global_pool,
    in_order,
    linear,
    nothing,
    pool,
    recurrent,
    relu,
)
from helpers.twin_quantized import learned_step, quantized_layer

MAKERS = {
    nn.Conv2d: conv,
    nn.BatchNorm1d: batch_norm,
    nn.BatchNorm2d: batch_norm,
    nn.Linear: linear,
    nn.MaxPool2d: pool,
    nn.AvgPool2d: pool,
    nn.AdaptiveAvgPool2d: global_pool,
    nn.ReLU: relu,
    nn.ReLU6: relu,
    nn.Flatten: flatten,
    nn.Identity: nothing,
    nn.Dropout: nothing,
    LSQ: learned_step,
    QuantizedLayer: quantized_layer,
}


def keras_twin(model: nn.Module):
    """The same network as a keras.Model: weights copied, outputs equal to 1e-4.

    model: a nn.Sequential for images, whose twin reads float32 [N, 28, 28, 1], pixels / 255, or
    what the class's `input_size` says instead of 28 x 28; a
    SensorRNN, whose twin reads float32 windows [N, 100, 6]; or torchvision's MobileNetV2, whose
    twin reads [N, 224, 224, 3], standardized as torchvision does. Whatever the model's mode and
    dtype, the twin computes what it does in evaluation mode and in float32. Logits [N, C] are in
    PyTorch's order; a network that ends in a map [N, C, H, W] has a twin that ends in [N, H, W, C].
    A layer is called after its module: "conv2d_3_body_0" is the twin of model[3].body[0].

    The twin computes the same or is refused: TypeError for a module without a twin (a subclass with
    a forward of its own is one), ValueError for settings, hooks or replaced methods that have none.
    Both name the module.

    >>> keras_twin(nn.Sequential(nn.Flatten(), nn.Linear(784, 10))).output_shape
    (None, 10)
    """
    image, sensor = runs_like(model, nn.Sequential), runs_like(model, SensorRNN)
    photo = is_torchvisions(model, "MobileNetV2")
    if not image and not sensor and not photo:
        raise TypeError(
            f"{type(model).__name__} has no Keras twin: pass a Sequential, SensorRNN or MobileNetV2"
        )
    refuse_hidden_changes(model)
    keras = import_keras()
    if image:
        size = getattr(model, "input_size", (28, 28))
        start = keras.Input((*size, 1), dtype="float32", name="image")
        end = visit(model, "", in_order(start))
    elif photo:
        start = keras.Input((224, 224, 3), dtype="float32", name="photo")
        end = mobilenet(model, in_order(start))
    else:
        start = keras.Input((100, model.rnn.input_size), dtype="float32", name="window")
        end = sensor_rnn(model, in_order(start))
    return keras.Model(start, in_pytorch_order(end), name=plain(type(model).__name__.lower()))


def runs_like(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether the module is of that kind, and its class computes as the kind does.

    >>> runs_like(nn.Sequential(), nn.Sequential), runs_like(nn.ReLU(), nn.Sequential)
    (True, False)
    """
    steps = ("__call__", "_wrapped_call_impl", "_call_impl", "forward", "__iter__")
    return isinstance(module, kind) and all(
        getattr(type(module), step, None) is getattr(kind, step, None) for step in steps
    )


def refuse_hidden_changes(model: nn.Module) -> None:
    """ValueError if something else than the modules' own code takes part in what they compute."""
    if torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks:
        raise ValueError("a forward hook of all modules has no Keras twin: remove it first")
    names = {}
    for path, module in model.named_modules():
        where = f"module {path or 'at the root'} ({type(module).__name__})"
        if module._forward_hooks or module._forward_pre_hooks:
            raise ValueError(
                f"{where} has a forward hook, which has no Keras twin: remove it first"
            )
        replaced = [name for name in vars(module) if callable(getattr(type(module), name, None))]
        if replaced:
            raise ValueError(f"{where} has a {replaced[0]} of its own, which has no Keras twin")
        other = names.setdefault(plain(path), path)
        if other != path:
            raise ValueError(f"{where} and module {other} get the same Keras name: rename one")


def visit(module: nn.Module, path: str, x: Flow) -> Flow:
    """What the twin of the module at this path ("3.body.0") makes of x."""
    if runs_like(module, nn.Sequential):
        for key, child in module._modules.items():  # children() would skip what is used again
            x = visit(child, f"{path}.{key}" if path else key, x)
        return x
    if runs_like(module, ResidualBlock):
        return residual(module, path, x)
    if is_torchvisions(module, "InvertedResidual"):
        return inverted_residual(module, path, x)
    maker = MAKERS.get(type(module))
    if maker is None:
        known = ", ".join(kind.__name__ for kind in MAKERS)
        raise TypeError(
            f"module {path} is a {type(module).__name__}, which has no Keras twin: "
            f"use {known}, Sequential or ResidualBlock"
        )
    return made(maker, module, path, x)


def made(maker: Callable, module: nn.Module, path: str, x: Flow) -> Flow:
    """The maker's result; its errors say which module it was."""
    # A block's ReLU, "3.relu", is called "relu_3", as its sum is "add_3".
    name = plain(f"{type(module).__name__.lower()}_{path.removesuffix('.relu')}")
    try:
        return maker(module, name, x)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"module {path} ({module}) has no Keras twin: {error}") from error


def residual(block: ResidualBlock, path: str, x: Flow) -> Flow:
    """relu(body(x) + shortcut(x))."""
    for branch in ("body", "shortcut"):
        if changes_its_input(getattr(block, branch)):
            raise ValueError(
                f"module {path}.{branch} has no Keras twin: it begins with a ReLU in place, which "
                "changes what the other branch reads; use ReLU(inplace=False)"
            )
    body = visit(block.body, f"{path}.body", x)
    shortcut = visit(block.shortcut, f"{path}.shortcut", x)
    tensors = [in_pytorch_order(body), in_pytorch_order(shortcut)]
    if tensors[0].shape != tensors[1].shape:
        raise ValueError(
            f"module {path} has no Keras twin: it adds {tensors[0].shape} to {tensors[1].shape}, "
            "and a twin adds only what has the same shape"
        )
    total = keras_layer("Add", tensors, name=plain(f"add_{path}"))
    return visit(block.relu, f"{path}.relu", in_order(total))


def is_torchvisions(module: nn.Module, name: str) -> bool:
    """Whether the module is of this class of torchvision, which is not imported for it."""
    kind = type(module)
    return (kind.__module__, kind.__name__) == ("torchvision.models.mobilenetv2", name)


def mobilenet(model: nn.Module, x: Flow) -> Flow:
    """Features, their mean over the map, and a dense layer."""
    x = visit(model.features, "features", x)
    x = made(global_pool, nn.AdaptiveAvgPool2d(1), "mean", x)
    x = made(flatten, nn.Flatten(), "flat", x)
    return visit(model.classifier, "classifier", x)


def inverted_residual(block: nn.Module, path: str, x: Flow) -> Flow:
    """conv(x), plus x where the block keeps its shape."""
    body = visit(block.conv, f"{path}.conv", x)
    if not block.use_res_connect:
        return body
    return in_order(keras_layer("Add", [x.tensor, body.tensor], name=plain(f"add_{path}")))


def changes_its_input(branch: nn.Module) -> bool:
    """Whether a ReLU works in place on what the branch is given, not on a layer's result."""
    for module in branch.modules():
        if not isinstance(module, nn.Sequential | nn.Identity | nn.Dropout | nn.Flatten):
            return getattr(module, "inplace", False)
    return False


def sensor_rnn(model: SensorRNN, x: Flow) -> Flow:
    """The head reads the mean of the states over time."""
    x = visit(model.norm, "norm", x)
    if type(model.rnn) not in (nn.GRU, nn.LSTM):
        raise TypeError(
            f"module rnn is a {type(model.rnn).__name__}, which has no Keras twin: use GRU or LSTM"
        )
    x = made(recurrent, model.rnn, "rnn", x)
    name = f"mean_{type(model.rnn).__name__.lower()}_rnn"
    mean = keras_layer("GlobalAveragePooling1D", x.tensor, name=name, **LAST)
    return visit(model.head, "head", in_order(mean))


def in_pytorch_order(x: Flow):
    """The tensor, its last axis as in PyTorch: a network may end in a Flatten."""
    if np.array_equal(x.order, np.arange(len(x.order))):
        return x.tensor
    return import_keras().ops.take(x.tensor, np.argsort(x.order), axis=-1)


def plain(name: str) -> str:
    """A name that TensorFlow takes.

    >>> plain("conv2d_3.body.0")
    'conv2d_3_body_0'
    """
    return re.sub(r"[^A-Za-z0-9_]", "_", name)
