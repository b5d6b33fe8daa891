"""What a model costs, how long a call takes, and whether two models really differ."""

from __future__ import annotations

import gc
import operator
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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
MIN_RUNS, MIN_ROUNDS, MAX_ROUNDS, MAX_LOOPS = 5, 10, 200, 1000


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


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its confidence interval, in the unit of the estimate."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Latency:
    """Percentiles of the seconds that one call takes, over `runs` calls."""

    p50: float
    p90: float
    p99: float
    runs: int


@dataclass(frozen=True)
class LatencyComparison:
    """Each function's Latency, and its time divided by the first one's (2.0: twice as slow)."""

    latency: dict[str, Latency]
    ratio: dict[str, Interval]


@dataclass(frozen=True)
class AccuracyComparison:
    """accuracy_b - accuracy_a with its 95 % interval, in 0..1; p: exact McNemar test, two-sided.

    only_a and only_b count the examples that a alone and b alone gets right.
    """

    accuracy_a: float
    accuracy_b: float
    difference: float
    low: float
    high: float
    p: float
    only_a: int
    only_b: int


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


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _call_times(fn: Callable[[], object], count: int, stop: float = float("inf")) -> np.ndarray:
    """Seconds of each of `count` calls, fewer (MIN_RUNS or more) if `stop`, in ns, comes first."""
    stamps = [time.perf_counter_ns()]
    for done in range(count):
        if stamps[-1] >= stop and done >= MIN_RUNS:
            break
        fn()
        stamps.append(time.perf_counter_ns())
    return np.diff(stamps) * 1e-9


def _percentiles(times: np.ndarray) -> Latency:
    return Latency(*np.percentile(times, (50, 90, 99)).tolist(), runs=len(times))


def latency(
    fn: Callable[[], object], *, seconds: float = 1.0, runs: int = 1000, warmup: int = 10
) -> Latency:
    """Time fn() by itself, in seconds, after `warmup` calls; fn takes no arguments.

    At most `runs` calls are timed, fewer when `seconds` are over, but at least five (or `runs`, if
    that is less). Warm-up is cut short after half of `seconds`. Garbage collection is off. A time
    includes the clock's own, about 0.1 µs. Raises ValueError.
    """
    if not seconds > 0 or runs < 1 or warmup < 0:
        raise ValueError(
            f"seconds {seconds}, runs {runs}, warmup {warmup}: expected > 0, >= 1, >= 0"
        )
    warm_until = time.perf_counter() + seconds / 2
    for _ in range(warmup):
        fn()
        if time.perf_counter() > warm_until:
            break
    with _no_garbage_collection():
        return _percentiles(_call_times(fn, runs, time.perf_counter_ns() + seconds * 1e9))


def compare_latency(
    functions: dict[str, Callable[[], object]], *, seconds: float = 2.0, seed: int = 0
) -> LatencyComparison:
    """Time functions in turn, so that a change of the machine's load meets all of them alike.

    Each round runs every function in an order drawn from `seed`: one block of calls each, long
    enough for about 50 rounds in `seconds` (all functions together). There are at least ten rounds,
    so that slow functions take longer. Percentiles are of single calls. A ratio is the median over
    rounds of the block's mean / the first function's, each without its slowest and fastest tenth
    (calls that another process interrupted); low and high: the 95 % interval of that median from
    order statistics (Conover 1999, section 3.2), which takes the rounds for independent.
    Raises ValueError.
    """
    from scipy.stats import quantile_test, trim_mean

    if not seconds > 0 or len(functions) < 2:
        raise ValueError(f"seconds {seconds}, {len(functions)} functions: expected > 0, >= 2")
    block, loops = seconds / (50 * len(functions)), {}
    for name, fn in functions.items():  # this is the warm-up too
        typical = np.median(_call_times(fn, MAX_LOOPS, time.perf_counter_ns() + block * 1e9))
        loops[name] = int(np.clip(block / max(typical, 1e-9), 1, MAX_LOOPS))

    rng, names = np.random.default_rng(seed), list(functions)
    times: dict[str, list[np.ndarray]] = {name: [] for name in names}
    with _no_garbage_collection():
        stop = time.perf_counter() + seconds
        for done in range(MAX_ROUNDS):
            if time.perf_counter() > stop and done >= MIN_ROUNDS:
                break
            for name in rng.permutation(names).tolist():
                times[name].append(_call_times(functions[name], loops[name]))

    means = {name: np.array([trim_mean(calls, 0.1) for calls in times[name]]) for name in names}
    ratio = {names[0]: Interval(1.0, 1.0, 1.0)}
    for name in names[1:]:
        ratios = means[name] / means[names[0]]
        bounds = quantile_test(ratios, p=0.5).confidence_interval(0.95)
        ratio[name] = Interval(float(np.median(ratios)), float(bounds.low), float(bounds.high))
    return LatencyComparison({n: _percentiles(np.concatenate(times[n])) for n in names}, ratio)


def _classes(name: str, prediction: np.ndarray) -> np.ndarray:
    """int [N] of predicted classes, as they are, or from logits [N, C]."""
    values = np.asarray(prediction)
    if values.ndim == 2 and values.shape[1] > 1 and not np.isnan(values).any():
        return values.argmax(1)
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(
            f"{name} is {values.dtype} {values.shape}: pass classes as integers [N], or logits "
            "[N, C] with C >= 2 and no NaN"
        )
    return values


def compare_accuracy(
    pred_a: np.ndarray, pred_b: np.ndarray, labels: np.ndarray
) -> AccuracyComparison:
    """Two models on the same examples: does b get more of them right than a, and how many more?

    pred_a, pred_b: predicted classes int [N], or logits [N, C]. labels: int [N].
    p: exact test of McNemar (1947): if both were equally good, each example that only one of them
    gets right would fall to either with probability 1/2. p is 1 where there is none.
    low, high: 95 % interval of accuracy_b - accuracy_a, in -1..1, by the Laplace-adjusted Wald
    method for pairs (Bonett and Price 2012; recommended by Fagerland, Lydersen and Laake 2014).
    Near p = 0.05 the two may disagree, since the exact test is the more careful one.
    Raises ValueError for other shapes, different N, or none.
    """
    from scipy.stats import binomtest, norm

    a, b = _classes("pred_a", pred_a), _classes("pred_b", pred_b)
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels are {labels.dtype} {labels.shape}: pass integers [N]")
    n = len(labels)
    if n == 0 or len(a) != n or len(b) != n:
        raise ValueError(
            f"{len(a)} and {len(b)} predictions, {n} labels: pass as many, at least one"
        )
    right_a, right_b = a == labels, b == labels
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    discordant = only_a + only_b
    share_a, share_b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    center = share_b - share_a
    half = norm.ppf(0.975) * ((share_a + share_b - center**2) / (n + 2)) ** 0.5
    return AccuracyComparison(
        accuracy_a=float(right_a.mean()),
        accuracy_b=float(right_b.mean()),
        difference=(only_b - only_a) / n,
        low=float(max(center - half, -1)),
        high=float(min(center + half, 1)),
        p=float(binomtest(only_b, discordant).pvalue) if discordant else 1.0,
        only_a=only_a,
        only_b=only_b,
    )


def accuracy_interval(correct: int, total: int, confidence: float = 0.95) -> Interval:
    """Accuracy of `correct` right answers out of `total`, with Wilson's score interval (1927)."""
    from scipy.stats import binomtest

    if total < 1 or not 0 <= correct <= total:
        raise ValueError(
            f"correct {correct} of {total}: expected 0 <= correct <= total, total >= 1"
        )
    bounds = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return Interval(correct / total, float(bounds.low), float(bounds.high))
