"""One block of memory for all tensors of a model, planned by their lifetimes: the arena.

Two tensors may share bytes if no operator needs both. A planner decides on an order of the tensors
and puts each into the lowest gap that is wide enough (TensorFlow Lite Micro's greedy planner takes
the largest first; R. David et al. 2021, section 4.4).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import NamedTuple

from helpers.tflite_file import Operator


class Buffer(NamedTuple):
    """A tensor in the arena: `size` bytes, alive from operator `first` to operator `last`."""

    index: int
    size: int
    first: int
    last: int


def lifetimes(
    steps: Sequence[Operator], given: Collection[int], result: Collection[int]
) -> list[Buffer]:
    """A buffer for each int8 tensor that is read from outside or computed.

    given, result: indices of the model's inputs and outputs. An input is alive from operator 0 on,
    an output until the last one. A RESHAPE computes nothing: `steps` come without it.
    """
    sizes, first, last = {}, dict.fromkeys(given, 0), dict.fromkeys(result, len(steps) - 1)
    for number, step in enumerate(steps):
        for tensor in (*step.inputs, *step.outputs):
            if tensor.values is None:
                size = 1
                for n in tensor.shape:
                    size *= n
                sizes[tensor.index] = size
                first.setdefault(tensor.index, number)
                last[tensor.index] = max(last.get(tensor.index, 0), number)
    return [Buffer(i, size, first[i], last[i]) for i, size in sizes.items()]


def alive(buffers: Sequence[Buffer]) -> list[int]:
    """Bytes that are needed at once, at each operator.

    >>> alive([Buffer(0, 784, 0, 0), Buffer(1, 300, 0, 1), Buffer(2, 100, 1, 1)])
    [1084, 400]
    """
    steps = range(max(b.last for b in buffers) + 1)
    return [sum(b.size for b in buffers if b.first <= k <= b.last) for k in steps]


def place(buffers: Sequence[Buffer]) -> dict[int, int]:
    """{index: offset in bytes}: each buffer, in this order, at the lowest place that is free.

    >>> place([Buffer(0, 784, 0, 0), Buffer(1, 300, 0, 1), Buffer(2, 100, 1, 1)])
    {0: 0, 1: 784, 2: 0}
    """
    offsets: dict[int, int] = {}
    placed: list[Buffer] = []
    for b in buffers:
        taken = sorted(
            (offsets[o.index], o.size) for o in placed if o.first <= b.last and b.first <= o.last
        )
        offset = 0
        for start, size in taken:
            if offset + b.size <= start:
                break
            offset = max(offset, start + size)
        offsets[b.index] = offset
        placed.append(b)
    return offsets


def extent(buffers: Sequence[Buffer], offsets: dict[int, int]) -> int:
    """Bytes from 0 to the end of the last buffer."""
    return max(offsets[b.index] + b.size for b in buffers)


ORDERS: dict[str, Callable[[Buffer], tuple]] = {
    "largest first": lambda b: (-b.size, b.first),
    "largest first, of equals the one that dies last": lambda b: (-b.size, -b.last),
    "largest first, of equals the one that lives longest": lambda b: (-b.size, b.first - b.last),
    "as they are computed": lambda b: (b.first, -b.size),
    "those that live longest first": lambda b: (b.first - b.last, -b.size),
}


def plan(buffers: Sequence[Buffer]) -> dict[int, int]:
    """The offsets of the smallest extent among ORDERS, improved by trying swaps of neighbors.

    It need not be the smallest there is, unless it equals max(alive(buffers)).
    """

    def cost(order):
        return extent(order, place(order))

    best = min((sorted(buffers, key=key) for key in ORDERS.values()), key=cost)
    improved = True
    while improved and cost(best) > max(alive(buffers)):
        improved = False
        for i, _ in enumerate(pairwise(best)):
            other = [*best[:i], best[i + 1], best[i], *best[i + 2 :]]
            if cost(other) < cost(best):
                best, improved = other, True
    return place(best)
