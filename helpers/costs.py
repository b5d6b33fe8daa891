"""What a model costs: parameters, multiply-accumulates and bytes, counted as it runs once."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import UntypedStorage, nn

from helpers.arguments import whole
from helpers.recorder import NoRule, Step, record

# fmt: off
# Operations that a deployed runtime fuses into the one before, or runs in place: they need no
# second buffer when nothing reads their input afterwards. Layers, functions and methods by name.
IN_PLACE = {
    "relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "silu", "sigmoid", "tanh",
    "leakyrelu", "leaky_relu", "elu", "gelu", "clamp", "batchnorm1d", "batchnorm2d", "batch_norm",
    "dropout", "dropout1d", "dropout2d", "identity", "flatten", "unflatten", "reshape",
    "contiguous", "lsq",
}
# fmt: on
_LOCK = threading.Lock()  # a model that is counted is not itself meanwhile


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


def _steps(model: nn.Module, input_shape: Iterable[int]) -> list[Step]:
    """What runs for one input of zeros: of the weights' dtype, or indices if it wants those."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}: pass a PyTorch nn.Module")
    kind = type(model).__name__
    if any(isinstance(m, torch.jit.ScriptModule) for m in model.modules()):
        raise ValueError(f"{kind} is compiled: pass the nn.Module that it was made from")
    if any(isinstance(p, nn.parameter.UninitializedTensorMixin) for p in model.parameters()):
        raise ValueError(f"{kind} has layers without weights yet: run it once on a real input")
    try:
        shape = tuple(whole("a size in input_shape", size) for size in input_shape)
    except TypeError as error:
        raise TypeError(f"input_shape {input_shape!r}: pass integers, e.g. (1, 28, 28)") from error
    if not shape:
        raise ValueError("input_shape (): pass one size or more, without the batch")

    reals = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    refusals = []
    for dtype in (reals, torch.int64):
        try:
            return record(model, shape, dtype)
        except NoRule as error:
            raise ValueError(f"the cost of {kind} cannot be told: {error}") from error
        except Exception as error:  # whatever the model's own code raises
            refusals.append(error)
    reason = str(refusals[0]).strip().partition("\n")[0]
    raise ValueError(f"{kind} refuses one input of shape {shape}: {reason}") from refusals[0]


def _layer_costs(steps: list[Step]) -> list[LayerCost]:
    rows: dict[object, LayerCost] = {}
    counted: set[nn.Parameter] = set()
    for number, step in enumerate(steps):
        key, name, parameters = step.layer, step.name, set()
        if step.layer is None:
            key, again = number, sum(row.kind == step.kind for row in rows.values())
            name = f"{step.kind}_{again}" if again else step.kind
        else:
            parameters = set(step.layer.parameters()) - counted
        counted |= parameters
        params = sum(parameter.numel() for parameter in parameters)
        if key in rows:  # a layer that runs again
            rows[key] = replace(rows[key], macs=rows[key].macs + step.macs)
        elif params or step.macs:
            rows[key] = LayerCost(name, step.kind, step.shape, params, step.macs)
    return list(rows.values())


def _peak_bytes(steps: list[Step]) -> int:
    """The largest sum of bytes of the float tensors that are alive at one step."""
    size: dict[UntypedStorage, int] = {}
    born: dict[UntypedStorage, int] = {}
    last: dict[UntypedStorage, int] = {}
    for now, step in enumerate(steps):
        last.update({storage: now for storage in step.reads if storage in size})
        for storage, count in step.writes.items():
            size.setdefault(storage, count)
            born.setdefault(storage, now)
            last.setdefault(storage, now)

    home = {storage: storage for storage in size}  # the storage that it is placed in
    for now, step in enumerate(steps):
        if step.kind.lower() not in IN_PLACE or len(step.writes) != 1 or step.reads[0] not in home:
            continue
        (made,), source = step.writes, home[step.reads[0]]
        if made != source and born[made] == last[source] == now and size[made] <= size[source]:
            home[made], last[source] = source, last[made]
    buffers = [storage for storage in size if home[storage] == storage]
    alive = (
        sum(size[b] for b in buffers if born[b] <= now <= last[b]) for now in range(len(steps))
    )
    return max(alive)


def layer_costs(model: nn.Module, input_shape: Iterable[int]) -> list[LayerCost]:
    """One row for each layer with parameters, in the order of execution; see `cost` for the rules.

    A layer that runs twice has one row, with the MACs of both runs; a parameter that two layers
    share counts in the first. A function with MACs, such as F.conv2d or @, has a row of its own,
    without parameters.

    >>> layer_costs(nn.Sequential(nn.Linear(6, 7), nn.ReLU()), (6,))
    [LayerCost(name='0', kind='Linear', output_shape=(7,), params=49, macs=42)]
    """
    with _LOCK:
        return _layer_costs(_steps(model, input_shape))


def cost(model: nn.Module, input_shape: Iterable[int]) -> Cost:
    """What one example costs, counted as the model runs once; the model is left unchanged.

    input_shape: without the batch, e.g. (1, 28, 28) or (100, 6). The model gets zeros of its
    weights' dtype; if it refuses those, zeros of int64 (the indices of an embedding).
    params: the learned parameters, executed or not, each once.
    macs: multiply-accumulates (as in Sze et al. 2017, table II) of convolutions, also transposed
    ones, of matrix products, and of what consists of them: dense, recurrent and attention layers,
    F.linear, @, einsum. One for each weight and each output position, whatever the dtype. A product
    that spreads its input (an outer product) counts one for each value of its result. All else
    counts zero: normalization, activation, pooling, the look-up in an embedding, whatever works
    value by value, and what depends on weights alone.
    weight_bytes: parameters and floating buffers (statistics of batch norm), at their own dtype. A
    network with quantizers holds float32 weights until it is converted.
    peak_activation_bytes: the most bytes of float tensors alive at one time, the working set of
    Liberis and Lane 2019. A tensor lives from the layer or function that produces it to its last
    reader; while one runs, its inputs and its output live. Views take no bytes, and an operation in
    IN_PLACE none if nothing else reads its input later. Scratch memory inside a layer is not
    counted, nor is reuse of memory by an addition.
    Raises TypeError, or ValueError for a shape that the model refuses, a forward that reads the
    values of its input (it may branch on them), and a product that no rule counts.

    >>> cost(nn.Conv2d(1, 4, 3), (1, 8, 8))
    Cost(params=40, macs=1296, weight_bytes=160, peak_activation_bytes=832)
    """
    with _LOCK:
        steps = _steps(model, input_shape)
        tensors = [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]
        return Cost(
            params=sum(p.numel() for p in model.parameters()),
            macs=sum(step.macs for step in steps),
            weight_bytes=sum(t.numel() * t.element_size() for t in tensors),
            peak_activation_bytes=_peak_bytes(steps),
        )
