"""Which filters of a network go together, or cannot go.

Each channel of each tensor gets a number, its tie. A layer makes new ones; batch norm, pooling and
depthwise convolutions hand them on; an addition makes two of them one: what is tied together goes
together. DepGraph (Fang et al. 2023) finds the same groups, between layers instead of channels.
"""

from __future__ import annotations

import copy
import operator
import threading
from collections import Counter
from collections.abc import Iterable

import numpy as np
import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from helpers.arguments import whole
from helpers.places import require_plain

F = nn.functional
RANK = {nn.Conv1d: 3, nn.Conv2d: 4, nn.Linear: 2}  # of what a layer reads, the batch included
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
# What works value by value, and makes zero of zero: a removed channel is one that is zero.
VALUES = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU)
VALUES += (nn.SiLU, nn.GELU, nn.Hardswish, nn.Tanh)
ADDS = {operator.add, operator.iadd, torch.add}
CALLS = {torch.relu, F.relu, F.relu6, F.silu, F.gelu, F.hardswish, torch.tanh, F.dropout, "relu"}
POOL_CALLS = {F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d}
FLATTENS = {torch.flatten, "flatten"}

_tracing = threading.Lock()


class OneThreadTracer(fx.Tracer):
    """While torch.fx traces, nn.Module is patched for all threads; the others' calls stay theirs.

    Two traces at a time would undo each other's patches: hold _tracing.
    """

    def __init__(self):
        super().__init__()
        self.thread = threading.get_ident()

    def call_module(self, m, forward, args, kwargs):
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr, attr_val, parameter_proxy_cache):
        if threading.get_ident() != self.thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


class Survey:
    """The ties of what each layer of a network reads and makes, found by running it once."""

    def __init__(self, model: nn.Module, input_shape: Iterable[int]):
        self.parent: list[int] = []  # a forest: each tie points to one that it is equal to
        self.reads: dict[str, np.ndarray] = {}
        self.makes: dict[str, np.ndarray] = {}
        self.fixed: dict[int, str] = {}
        self.graph = traced(model, input_shape)
        self.modules = dict(self.graph.named_modules())
        of: dict[fx.Node, np.ndarray] = {}
        for node in self.graph.graph.nodes:
            of[node] = self.visit(node, [of[source] for source in node.all_input_nodes])

    def new(self, count: int) -> np.ndarray:
        """int [count]: ties that are equal to none yet."""
        start = len(self.parent)
        self.parent += range(start, start + count)
        return np.arange(start, start + count)

    def find(self, ties: np.ndarray) -> np.ndarray:
        """For each tie the one that stands for all that it is equal to."""
        found = ties.copy()
        while True:
            above = np.asarray(self.parent, int)[found]
            if (above == found).all():
                return found
            found = above

    def join(self, ties: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Make ties[i] and others[i] one, for each i."""
        for a, b in zip(ties.tolist(), others.tolist(), strict=True):
            low, high = sorted(self.find(np.array([a, b])).tolist())
            self.parent[high] = low
        return ties

    def visit(self, node: fx.Node, sources: list[np.ndarray]) -> np.ndarray:
        """The ties of the channels that this node makes."""
        if node.op == "placeholder":
            ties = self.new(size(node)[1])
            self.fixed |= dict.fromkeys(ties.tolist(), "the network's input")
            return ties
        if node.op == "output":
            if len(sources) != 1 or node.args[0] is not node.all_input_nodes[0]:
                raise ValueError("the network returns more than one tensor: there is no rule")
            self.fixed |= dict.fromkeys(self.find(sources[0]).tolist(), "the network's output")
            return sources[0]
        if node.op == "call_module":
            return self.through(node, node.target, self.modules[node.target], *sources)
        if node.target in ADDS and len(node.args) == 2 and len(sources) in (1, 2):
            shapes = {size(part) for part in node.args if isinstance(part, fx.Node)}
            if len(shapes) == 1 and all(isinstance(part, fx.Node) for part in node.args):
                return self.join(sources[0], sources[-1])
        if node.target is torch.cat and concatenated(*node.args, **node.kwargs) is not None:
            ties = dict(zip(node.all_input_nodes, sources, strict=True))
            parts = concatenated(*node.args, **node.kwargs)
            return np.concatenate([ties[part] for part in parts])
        if len(sources) == 1:
            shape, before = size(node), size(node.all_input_nodes[0])
            if node.target in FLATTENS and shape[0] == before[0]:
                return np.repeat(sources[0], shape[1] // before[1])
            if node.target in CALLS or (node.target in POOL_CALLS and len(shape) == 4):
                return sources[0]
        name = getattr(node.target, "__name__", node.target)
        raise ValueError(
            f"{name} (node {node.name}) has no rule: it may mix channels, or make something of "
            "zeros; write it as a layer, a sum of two equal shapes, or a concatenation of channels"
        )

    def through(self, node: fx.Node, path: str, module: nn.Module, ties: np.ndarray) -> np.ndarray:
        """The ties of what the module at this path makes, from the ties of what it reads."""
        kind, shape, before = type(module), size(node), size(node.all_input_nodes[0])
        if kind in VALUES or (kind in POOLS and len(before) == 4):
            return ties
        if kind is nn.Flatten and shape[0] == before[0]:
            return np.repeat(ties, shape[1] // before[1])
        if kind not in NORMS and RANK.get(kind) != len(before):
            raise ValueError(
                f"module {path} ({kind.__name__}) on shape {before[1:]} has no rule: its filters "
                "or those before it cannot be removed"
            )
        if path in self.reads:  # it has run before
            self.join(self.reads[path], ties)
            return ties if kind in NORMS else self.makes[path]
        self.reads[path] = ties
        if kind in NORMS:
            return ties
        groups = getattr(module, "groups", 1)
        depthwise = 1 < groups == module.in_channels if kind is not nn.Linear else False
        filters = module.weight.shape[0]
        self.makes[path] = np.repeat(ties, filters // groups) if depthwise else self.new(filters)
        return self.makes[path]


def concatenated(tensors: list[fx.Node], dim: int = 0) -> list[fx.Node] | None:
    """What torch.cat puts one behind the other, if it does so with channels."""
    return tensors if dim % len(size(tensors[0])) == 1 else None


def size(node: fx.Node) -> tuple[int, ...]:
    """The shape of the tensor that a node makes, the batch of 2 included."""
    meta = node.meta.get("tensor_meta")
    if not hasattr(meta, "shape"):
        raise ValueError(f"{node.name} makes no tensor: there is no rule for it")
    return tuple(meta.shape)


def traced(model: nn.Module, input_shape: Iterable[int]) -> fx.GraphModule:
    """The graph of what a copy of the model does with a batch of two inputs of that shape."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}: pass a PyTorch nn.Module")
    shape = tuple(whole("a size in input_shape", length) for length in input_shape)
    for path, module in model.named_modules():
        require_plain(module, path)
    holders = Counter(p for m in model.modules() for p in set(m._parameters.values()) - {None})
    if any(count > 1 for count in holders.values()):
        raise ValueError("two modules share one parameter: their filters cannot be removed")
    model = copy.deepcopy(model).eval()
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    try:
        with _tracing:
            graph = fx.GraphModule(model, OneThreadTracer().trace(model))
    except Exception as error:  # what the model's forward raises when its input has no values
        raise ValueError(f"{type(model).__name__} cannot be traced: {error}") from error
    try:
        ShapeProp(graph).propagate(torch.zeros(2, *shape, dtype=dtype))
    except Exception as error:
        raise ValueError(f"{type(model).__name__} refuses inputs {shape}: {error}") from error
    return graph


def filter_ties(
    model: nn.Module, input_shape: Iterable[int] = (1, 28, 28)
) -> dict[str, np.ndarray]:
    """For each convolution and dense layer, by its path, int [filters]: the tie of each filter.

    Filters of equal ties go together; -1 is one that cannot go, because it makes the output, or
    works on the input, channel by channel. input_shape: without the batch.
    Raises TypeError and ValueError that name what there is no rule for.

    >>> filter_ties(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 1, groups=2)))
    {'0': array([-1, -1]), '1': array([-1, -1])}
    """
    survey = Survey(model, input_shape)
    fixed = survey.find(np.array(list(survey.fixed), int))
    found = {path: survey.find(ties) for path, ties in survey.makes.items()}
    return {path: np.where(np.isin(ties, fixed), -1, ties) for path, ties in found.items()}
