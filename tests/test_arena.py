"""Tensors that are alive together never share bytes, and a plan is as small as orders allow."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import arena
from helpers.arena import Buffer, alive, extent, lifetimes, place, plan
from helpers.tflite_file import Operator, StoredTensor

LIVES = st.tuples(st.integers(1, 40), st.integers(0, 6), st.integers(0, 3))


def made(rows: list[tuple[int, int, int]]) -> list[Buffer]:
    return [Buffer(i, size, first, first + more) for i, (size, first, more) in enumerate(rows)]


def share(a: Buffer, b: Buffer, offsets: dict[int, int]) -> bool:
    together = a.first <= b.last and b.first <= a.last
    left, right = offsets[a.index], offsets[b.index]
    return together and left < right + b.size and right < left + a.size


@given(st.lists(LIVES, min_size=1, max_size=9))
def test_no_two_tensors_share_bytes_while_both_are_alive(rows):
    buffers = made(rows)
    for offsets in (
        place(buffers),
        plan(buffers),
        *(place(sorted(buffers, key=key)) for key in arena.ORDERS.values()),
    ):
        assert offsets.keys() == {b.index for b in buffers}
        assert all(offset >= 0 for offset in offsets.values())
        assert not any(share(a, b, offsets) for a, b in combinations(buffers, 2))


@given(st.lists(LIVES, min_size=1, max_size=5))
def test_a_plan_lies_between_what_is_alive_and_the_best_order(rows):
    buffers = made(rows)
    found = extent(buffers, plan(buffers))
    least = min(extent(order, place(order)) for order in permutations(buffers))
    known = min(extent(buffers, place(sorted(buffers, key=key))) for key in arena.ORDERS.values())
    assert max(alive(buffers)) <= least <= found <= known


def test_the_order_decides():
    chain = made([(2, 0, 0), (1, 0, 1), (1, 1, 1), (2, 2, 0)])
    largest = sorted(chain, key=arena.ORDERS["largest first"])
    assert alive(chain) == [3, 2, 3]
    assert extent(chain, place(largest)) == 4
    assert extent(chain, plan(chain)) == 3


def test_a_search_beats_every_single_order():
    """The sizes and lives of ResNet8's tensors, in units of 64 bytes."""
    big, half, small = 196, 98, 49
    lives = [
        *[(12, 0, 0), (big, 0, 3), (big, 1, 1), (big, 2, 1), (big, 3, 2), (half, 4, 4)],
        *[(225, 5, 1), (half, 6, 1), (half, 7, 1), (half, 8, 2), (small, 9, 4)],
        *[(128, 10, 1), (small, 11, 1), (small, 12, 1), (small, 13, 1), (1, 14, 1)],
    ]
    buffers = made(lives)
    single = [extent(buffers, place(sorted(buffers, key=key))) for key in arena.ORDERS.values()]
    assert extent(buffers, plan(buffers)) == max(alive(buffers)) == 3 * big < min(single)


def tensor(index: int, shape: tuple, values: np.ndarray | None = None) -> StoredTensor:
    none = np.array([])
    return StoredTensor(index, f"t{index}", "INT8", shape, none, none, 0, 0, values)


def test_lifetimes_run_from_the_writer_to_the_last_reader():
    x, a, b, y = (tensor(i, (1, 2, n)) for i, n in enumerate((3, 5, 5, 4)))
    weights = tensor(9, (4, 5), np.zeros((4, 5), np.int8))
    steps = [
        Operator("CONV_2D", [x, weights], [a], {}),
        Operator("CONV_2D", [a, weights], [b], {}),
        Operator("ADD", [a, b], [y], {}),
        Operator("MEAN", [b, weights], [tensor(4, (1, 1))], {}),
    ]
    assert lifetimes(steps, [0], [3]) == [
        Buffer(0, 6, 0, 0),
        Buffer(1, 10, 0, 2),
        Buffer(2, 10, 1, 3),
        Buffer(3, 8, 2, 3),  # an output is kept until the end
        Buffer(4, 1, 3, 3),
    ]


@pytest.mark.parametrize("end", [0, 3])
def test_an_end_of_the_model_lives_from_the_beginning_or_to_the_end(end):
    steps = [Operator("MEAN", [tensor(0, (1, 4))], [tensor(1, (1, 4))], {}) for _ in range(4)]
    found = {b.index: (b.first, b.last) for b in lifetimes(steps, [0], [1])}
    assert found == {0: (0, 3), 1: (0, 3)}
