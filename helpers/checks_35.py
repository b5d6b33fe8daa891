"""Checks of lesson 35, Deep Compression."""

from __future__ import annotations

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def huffman_lengths(counts, *, rarest=True):
    """The code lengths of 35.0, or with an option changed, one of its mistakes."""
    lengths = np.zeros(len(counts), int)
    groups = [(int(count), [i]) for i, count in enumerate(counts) if count]
    while len(groups) > 1:
        (a, left), (b, right), *rest = sorted(groups, reverse=not rarest)
        lengths[left + right] += 1
        groups = [*rest, (a + b, left + right)]
    return lengths


def _shannon(counts):
    counts = np.asarray(counts)
    p = np.maximum(counts, 1) / counts.sum()
    return np.where(counts > 0, np.ceil(-np.log2(p)), 0).astype(int)


def _never_again(counts):
    """Sorted once: a chain from the rarest symbol up."""
    lengths = np.zeros(len(counts), int)
    order = [i for i in np.argsort(counts, kind="stable") if counts[i]]
    for end in range(1, len(order)):
        lengths[order[: end + 1]] += 1
    return lengths


@exercise(
    "35.0",
    huffman_lengths,
    {
        "join the two rarest groups, not the two most frequent ones": {"rarest": False},
        "a new group counts as much as its parts together: sort again before each joining": (
            _never_again
        ),
        "ceil(-log2 p) is a code, but a longer one: join groups": _shannon,
        "a symbol that does not occur gets length 0": lambda counts: huffman_lengths(
            np.maximum(counts, 1)
        ),
        "that is one bit too many for each symbol: only a joining costs one": lambda counts: (
            huffman_lengths(counts) + (np.asarray(counts) > 0)
        ),
        "a joining costs every symbol of both groups one bit": lambda counts: np.minimum(
            huffman_lengths(counts), 1
        ),
        "the lengths are asked for, not the bits of all occurrences": lambda counts: (
            huffman_lengths(counts) * np.asarray(counts)
        ),
    },
)
def check_huffman_lengths(answer: Answer) -> None:
    """Whole numbers, one a symbol."""
    cases = [[9, 3, 2, 2], [30, 1, 5, 9, 14], [7, 0, 12, 2, 0, 1], [8, 1], [20, 21, 22, 23, 25]]
    cases += [[50, 3, 9, 1, 24, 100], [0, 3, 40, 5, 17, 0, 9]]
    compare(answer, [(np.array(counts),) for counts in cases], "lengths")


def from_steps(gaps, index, book, n, *, first=-1, shift=0, reverse=False):
    """The weights of 35.1, or with an option changed, one of its mistakes."""
    weights = np.zeros(n)
    places = np.cumsum(gaps) + first
    values = np.concatenate([[0.0], np.asarray(book, float)])
    values = np.roll(values, shift)[::-1] if reverse else np.roll(values, shift)
    inside = (places >= 0) & (places < n)
    weights[places[inside]] = values[np.asarray(index)][inside]
    return weights


def _padding_is_a_weight(gaps, index, book, n):
    index = np.asarray(index)
    book = np.asarray(book)
    weights = np.zeros(n)
    weights[np.cumsum(gaps) - 1] = book[index - 1]
    return weights


def _without_padding(gaps, index, book, n):
    index = np.asarray(index)
    return from_steps(np.asarray(gaps)[index > 0], index[index > 0], book, n)


@exercise(
    "35.1",
    from_steps,
    {
        "index 0 is a padding zero, not the last entry": _padding_is_a_weight,
        "the step to a padding zero counts, too": _without_padding,
        "the first gap starts before place 0: a gap of 1 leads to place 0": {"first": 0},
        "a gap is where the last step ended plus so many places: add them up": lambda g, i, b, n: (
            from_steps(np.diff(np.concatenate([[0], g])) % n, i, b, n)
        ),
        "entries count from 1, since 0 is the padding zero": {"shift": -1},
        "return n weights, also those after the last step": lambda g, i, b, n: from_steps(
            g, i, b, n
        )[: int(np.sum(g))],
        "the weights are entries of the codebook, not indices": lambda g, i, b, n: from_steps(
            g, i, np.arange(1, len(b) + 1), n
        ),
    },
)
def check_from_steps(answer: Answer) -> None:
    """The weights, n numbers."""
    cases = [
        ([1, 3, 4, 4, 2, 1], [3, 1, 0, 0, 2, 3], [-1.5, 0.25, 2.0], 18),
        ([4, 4, 4, 3], [0, 0, 2, 1], [0.5, 1.5], 17),
        ([2, 2, 4, 1], [2, 1, 0, 2], [-0.8, 1.0], 10),
    ]
    cases = [(np.array(g), np.array(i), np.array(b), n) for g, i, b, n in cases]
    compare(answer, cases, "weights")


def canonical_codes(lengths, order=lambda i: 0):
    """{symbol: code as text}; of equal lengths in the order that `order` gives."""
    codes, code, before = {}, 0, 0
    for symbol in sorted(np.flatnonzero(lengths), key=lambda i: (lengths[i], order(i))):
        code <<= int(lengths[symbol]) - before
        before = int(lengths[symbol])
        codes[int(symbol)] = f"{code:0{before}b}"
        code += 1
    return codes


def read_symbols(bits, lengths, *, order=lambda i: 0, turn=lambda code: code):
    """The symbols of 35.2, or with an option changed, one of its mistakes."""
    symbols = {turn(code): symbol for symbol, code in canonical_codes(lengths, order).items()}
    found, word = [], ""
    for bit in bits:
        word += bit
        if word in symbols:
            found.append(symbols[word])
            word = ""
    return np.array(found, int)


def _by_rank(bits, lengths):
    """Counted in the order of the codes, not by symbol."""
    rank = {symbol: i for i, symbol in enumerate(canonical_codes(lengths))}
    return np.array([rank[int(s)] for s in read_symbols(bits, lengths)])


@exercise(
    "35.2",
    read_symbols,
    {
        "of equal lengths the first symbol has the lowest code": {"order": lambda i: -i},
        "the bits of a code are read from the left": {"turn": lambda code: code[::-1]},
        "a 0 is a 0 and a 1 a 1: the bits are the other way round": {
            "turn": lambda code: code.translate({48: 49, 49: 48})
        },
        "symbols count from 0": lambda bits, lengths: read_symbols(bits, lengths) + 1,
        "that is a symbol's place among the codes: its number in lengths is asked for": _by_rank,
        "the first symbol is missing or comes last: keep their order": lambda bits, lengths: (
            read_symbols(bits, lengths)[::-1]
        ),
        "the last symbol is missing: its code ends with the text": lambda bits, lengths: (
            read_symbols(bits, lengths)[:-1]
        ),
        "that is the length of each code: the symbols are asked for": lambda bits, lengths: (
            np.asarray(lengths)[read_symbols(bits, lengths)]
        ),
    },
)
def check_read_symbols(answer: Answer) -> None:
    """The symbols, whole numbers in order."""
    cases = []
    for lengths, symbols in (
        ([3, 2, 0, 3, 2, 2], [0, 1, 5, 3, 3, 4, 1, 0, 5]),
        ([4, 1, 3, 4, 3], [1, 1, 0, 4, 2, 3, 1, 2]),
        ([1, 2, 3, 3], [0, 2, 1, 0]),
    ):
        codes = canonical_codes(lengths)
        cases.append(("".join(codes[s] for s in symbols), np.array(lengths)))
    compare(answer, cases, "symbols")


def evenly_spaced(x, b, *, ends=lambda x: (x.min(), x.max()), more=0):
    """Entries and indices of 35.3, or with an option changed, one of its mistakes."""
    x = np.asarray(x, float)
    book = np.linspace(*ends(x), 2**b + more)
    return book, np.abs(x[:, None] - book).argmin(1)


def _rounded_down(x, b):
    book, _ = evenly_spaced(x, b)
    return book, np.clip(np.searchsorted(book, x, side="right") - 1, 0, len(book) - 1)


def _cells(x, b):
    low, high = np.min(x), np.max(x)
    step = (high - low) / 2**b
    book = low + step * (np.arange(2**b) + 0.5)
    return book, np.abs(np.asarray(x)[:, None] - book).argmin(1)


def _moved(x, b):
    book, index = evenly_spaced(x, b)
    for k in np.unique(index):
        book[k] = x[index == k].mean()
    return book, index


@exercise(
    "35.3",
    evenly_spaced,
    {
        "the entries number 2^b, not one more": {"more": 1},
        "the entries number 2^b, not b": lambda x, b: (
            np.linspace(x.min(), x.max(), b),
            np.abs(x[:, None] - np.linspace(x.min(), x.max(), b)).argmin(1),
        ),
        "the least and the largest value are entries themselves": _cells,
        "the entries lie between the least and the largest value, not around zero": {
            "ends": lambda x: (-np.abs(x).max(), np.abs(x).max())
        },
        "the entries begin at the least value, not at zero": {"ends": lambda x: (0, x.max())},
        "the nearest entry is asked for, not the one below": _rounded_down,
        "no entry moves: evenly spaced they stay": _moved,
        "the index of each value comes second": lambda x, b: evenly_spaced(x, b)[::-1],
        "the index is asked for, not the entry itself": lambda x, b: (
            evenly_spaced(x, b)[0],
            evenly_spaced(x, b)[0][evenly_spaced(x, b)[1]],
        ),
    },
)
def check_evenly_spaced(answer: Answer) -> None:
    """Two arrays: the entries, and for each value an index."""
    rng = np.random.default_rng(35)
    cases = [(rng.normal(size=9).round(3) - 0.4, 2), (rng.normal(size=12).round(3) + 1, 3)]
    cases.append((np.array([0, 1, 2.2, 6]), 2))
    compare(answer, cases, "entries, index")
