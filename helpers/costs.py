"""What a model costs: parameters, multiply-accumulates and bytes, counted on its graph."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, fx, nn

# Operations that a deployed runtime fuses into the one before, or runs in place: they need no
# second buffer when nothing reads their input afterwards. Modules, functions and methods by name.
# fmt: off
IN_PLACE = {
    "relu", "relu_", "relu6", "hardtanh", "hardswish", "hardsigmoid", "silu", "sigmoid", "tanh",
    "leakyrelu", "leaky_relu", "elu", "gelu", "clamp", "batchnorm1d", "batchnorm2d", "batch_norm",
    "dropout", "dropout1d", "dropout2d", "identity", "flatten", "unflatten", "reshape",
    "contiguous",
}


# fmt: on


@dataclass(frozen=True)
class LayerCost:
    """One layer: its name in the model, its kind, output shape without the batch, and its costs."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    params: int
    macs: int


@dataclass(frozen=True)
class Cost:
    """Learned parameters, MACs of one forward pass of one example, bytes of both memories."""

    params: int
    macs: int
    weight_bytes: int
    peak_activation_bytes: int


def _run_graph(model: nn.Module, input_shape: Iterable[int]) -> dict[fx.Node, object]:
    """The nodes of the model's graph in execution order, with their values for zeros."""
    import torch
    from torch import fx, nn

    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}: pass a PyTorch nn.Module")
    try:
        shape = tuple(operator.index(size) for size in input_shape)
    except TypeError as error:
        raise TypeError(f"input_shape {input_shape!r}: pass integers, e.g. (1, 28, 28)") from error
    if not shape or min(shape) < 1:
        raise ValueError(
            f"input_shape {shape}: pass one size or more, without the batch, each >= 1"
        )

    class Tracer(fx.Tracer):  # leaves: torch's own layers, and layers derived from those counted
        def is_leaf_module(self, module: nn.Module, name: str) -> bool:
            return isinstance(module, _counted_layers()) or super().is_leaf_module(module, name)

    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    training = [module for module in model.modules() if module.training]
    try:
        root = nn.Sequential(model.eval())  # so that a single layer, too, is a node of a graph
        graph = fx.GraphModule(root, Tracer().trace(root))
        run = fx.Interpreter(graph, garbage_collect_values=False)  # keeps all values in run.env
        run.extra_traceback = False  # its explanation of an error imports for many seconds
        with torch.no_grad():
            run.run(torch.zeros(1, *shape, dtype=like.dtype, device=like.device))
    except Exception as error:  # whatever the model's own code raises
        name, reason = type(model).__name__, str(error).strip().partition("\n")[0]
        raise ValueError(f"{name} refuses one input of shape {shape}: {reason}") from error
    finally:
        for module in training:
            module.training = True
    return {node: run.env.get(node) for node in graph.graph.nodes}


def _counted_layers() -> tuple[type, ...]:
    from torch import nn

    return nn.Conv1d, nn.Conv2d, nn.Linear, nn.RNN, nn.GRU, nn.LSTM


def _tensors(value: object) -> list[Tensor]:
    """The tensors of a node's value, which is a tensor, anything else, or a tuple of those."""
    if isinstance(value, tuple | list):
        return [tensor for item in value for tensor in _tensors(item)]
    return [value] if hasattr(value, "untyped_storage") else []


def _layer_costs(values: dict[fx.Node, object]) -> list[LayerCost]:
    from torch import nn
    from torch.nn import functional as F

    rows: dict[str, LayerCost] = {}
    for node, value in values.items():
        if node.op == "call_module":
            layer = node.graph.owning_module.get_submodule(node.target)
            name, kind = node.target.removeprefix("0").removeprefix("."), type(layer).__name__
            params, macs = sum(p.numel() for p in layer.parameters()), 0
            if isinstance(layer, nn.RNNBase):  # every weight matrix, once for each time step
                matrices = [w for weights in layer.all_weights for w in weights if w.ndim == 2]
                steps = value[0].numel() // value[0].shape[-1]
                macs = steps * sum(w.numel() for w in matrices)
            elif isinstance(layer, _counted_layers()):  # one row of the weights for each output
                macs = value.numel() * layer.weight[0].numel()
        elif node.target in (F.conv1d, F.conv2d, F.linear):
            weight = values[node.args[1] if len(node.args) > 1 else node.kwargs["weight"]]
            name, kind, params = node.name, node.target.__name__, 0
            macs = value.numel() * weight[0].numel()
        else:
            continue
        if params or macs:
            if name in rows:  # a layer that runs again: its parameters are the same
                macs += rows[name].macs
            rows[name] = LayerCost(name, kind, tuple(_tensors(value)[0].shape[1:]), params, macs)
    return list(rows.values())


def _peak_bytes(values: dict[fx.Node, object]) -> int:
    """The largest sum of bytes of the float tensors that are alive at one node of the graph."""
    size, born, last, home = {}, {}, {}, {}  # by storage; home: the storage that it is placed in
    storages: dict[fx.Node, list[int]] = {}  # what a node's value lies in; views share theirs
    varying: set[fx.Node] = set()  # depends on the input; all else lives with the weights
    for step, (node, value) in enumerate(values.items()):
        storages[node] = []
        if node.op == "placeholder" or varying.intersection(node.all_input_nodes):
            varying.add(node)
        for tensor in _tensors(value) if node in varying else []:
            key = tensor.untyped_storage().data_ptr()
            if tensor.is_floating_point():
                storages[node].append(key)
                size.setdefault(key, tensor.numel() * tensor.element_size())
                home.setdefault(key, key)
                born.setdefault(key, step)
                last.setdefault(key, step)
        for key in (key for source in node.all_input_nodes for key in storages[source]):
            last[key] = step

    for step, node in enumerate(values):
        target = node.target
        if node.op == "call_module":
            target = type(node.graph.owning_module.get_submodule(target)).__name__
        target = getattr(target, "__name__", str(target)).lower()
        if target in IN_PLACE and len(storages[node]) == 1 and storages[node.all_input_nodes[0]]:
            (key,), source = storages[node], home[storages[node.all_input_nodes[0]][0]]
            if key != source and born[key] == last[source] == step and size[key] <= size[source]:
                home[key], last[source] = source, last[key]
    buffers = [key for key in size if home[key] == key]
    alive = (sum(size[k] for k in buffers if born[k] <= s <= last[k]) for s in range(len(values)))
    return max(alive)


def layer_costs(model: nn.Module, input_shape: Iterable[int]) -> list[LayerCost]:
    """One row for each layer with parameters, in the order of execution; see `cost` for the rules.

    A layer that runs twice has one row, with the MACs of both runs. A functional convolution or
    product (F.conv2d, F.linear) has a row with its MACs and no parameters of its own.
    """
    return _layer_costs(_run_graph(model, input_shape))


def cost(model: nn.Module, input_shape: Iterable[int]) -> Cost:
    """What one example costs, counted on the model's torch.fx graph; the model is left unchanged.

    input_shape: without the batch, e.g. (1, 28, 28) or (100, 6).
    params: the learned parameters, executed or not, each once.
    macs: multiply-accumulates of Conv1d, Conv2d, Linear (at each time step), RNN, GRU and LSTM (all
    layers and directions): one for each weight and each output position. All else counts zero.
    weight_bytes: parameters and floating buffers (statistics of batch norm), at their own dtype.
    peak_activation_bytes: the most bytes of float tensors alive at one time. A tensor lives from
    the node that produces it to its last reader; while a node runs, its inputs and its output
    live. Views take no bytes, and an operation in IN_PLACE none if nothing else reads its input
    later. Scratch memory inside a layer is not counted, nor is reuse of memory by an addition.
    Raises TypeError, or ValueError for a shape that the model refuses or a forward that torch.fx
    cannot trace (one that branches on values).
    """
    values = _run_graph(model, input_shape)
    tensors = [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]
    return Cost(
        params=sum(p.numel() for p in model.parameters()),
        macs=sum(row.macs for row in _layer_costs(values)),
        weight_bytes=sum(t.numel() * t.element_size() for t in tensors),
        peak_activation_bytes=_peak_bytes(values),
    )
