"""Huffman codes: frequent symbols get short codes. Only the code lengths are stored.

After Huffman 1952 and, for codes that follow from their lengths, Schwartz and Kallick 1964.
"""

from __future__ import annotations

import heapq

import numpy as np

LONGEST = 15  # bits of a code: its length is stored in 4
CHUNK = 2**16  # bits that are looked up at once


def huffman_lengths(counts: object) -> np.ndarray:
    """int64 [K]: how many bits each of K symbols gets, 0 where the count is 0.

    counts: whole numbers >= 0. The two rarest are joined until one is left, and each joining costs
    its symbols one bit; of equally rare ones the first. A symbol alone gets length 1.
    Source: Huffman 1952. Raises TypeError and ValueError.

    >>> huffman_lengths([5, 2, 1, 1])
    array([1, 2, 3, 3])
    """
    counts = whole_numbers("counts", counts)
    lengths = np.zeros(len(counts), np.int64)
    heap = [(count, i, [i]) for i, count in enumerate(counts.tolist()) if count]
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
    heapq.heapify(heap)
    while len(heap) > 1:
        (a, i, left), (b, j, right) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[left + right] += 1
        heapq.heappush(heap, (a + b, min(i, j), left + right))
    return lengths


def canonical_codes(lengths: object) -> np.ndarray:
    """int64 [K]: the code of each symbol as a number of `lengths` bits; 0 where the length is 0.

    Short codes first, of equal lengths in the order of the symbols, each one more than the last:
    so the lengths tell the codes. Raises ValueError where they leave codes over or need more than
    there are, sum 2^-length != 1, unless a single symbol has length 1.

    >>> [f"{code:0{bits}b}" for code, bits in zip(canonical_codes([1, 2, 3, 3]), [1, 2, 3, 3])]
    ['0', '10', '110', '111']
    """
    lengths = whole_numbers("lengths", lengths)
    symbols = lengths.nonzero()[0]
    symbols = symbols[np.argsort(lengths[symbols], kind="stable")].tolist()
    codes, code, before = [0] * len(lengths), 0, 0
    for symbol in symbols:
        length = int(lengths[symbol])
        if length > LONGEST:
            raise ValueError(f"a code of {length} bits: at most {LONGEST} are allowed")
        code <<= length - before
        codes[symbol], code, before = code, code + 1, length
    if symbols and code != 1 << before and (len(symbols), before) != (1, 1):
        raise ValueError(f"the code lengths {lengths.tolist()} make no prefix code")
    return np.array(codes, np.int64)


def limited_lengths(counts: np.ndarray) -> np.ndarray:
    """huffman_lengths of at most 15 bits: counts are halved until they are, as bzip2 does.

    counts: int [K] >= 0. Costs little: what gets a code of 16 bits is one symbol in 65,536.

    >>> int(limited_lengths(2 ** np.arange(30)).max())
    15
    """
    lengths = huffman_lengths(counts)
    while lengths.max(initial=0) > LONGEST:
        counts = (counts + 1) // 2
        lengths = huffman_lengths(counts)
    return lengths


def table(lengths: np.ndarray) -> bytes:
    """Code lengths up to 15, two a byte, the first in the high half: (K + 1) // 2 bytes.

    >>> table(np.array([1, 2, 2])).hex()
    '1220'
    """
    even = np.append(lengths, [0] * (len(lengths) % 2)).astype(np.uint8)
    return (even[::2] << 4 | even[1::2]).tobytes()


def table_lengths(content: bytes, count: int) -> np.ndarray:
    """The lengths, int64 [count], that `table` made these (count + 1) // 2 bytes of.

    >>> table_lengths(bytes.fromhex("1220"), 3)
    array([1, 2, 2])
    """
    pairs = np.frombuffer(content, np.uint8)
    lengths = np.stack([pairs >> 4, pairs & 15], 1).ravel().astype(np.int64)
    if lengths[count:].any():
        raise ValueError("a code for a symbol that does not exist")
    return lengths[:count]


def pack(symbols: np.ndarray, lengths: np.ndarray) -> bytes:
    """The canonical codes of the symbols, int [n], one after the other, from the top bit on.

    The last byte is filled up with zeros. A symbol alone takes no bits.

    >>> pack(np.array([0, 3, 1]), np.array([1, 2, 3, 3])).hex()
    '78'
    """
    codes = canonical_codes(lengths)
    if np.count_nonzero(lengths) <= 1:
        return b""
    size = lengths[symbols]
    left = np.repeat(size.cumsum(), size) - np.arange(size.sum()) - 1  # bits still to come, each
    bits = np.repeat(codes[symbols], size) >> left & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()


def unpack(packed: bytes, lengths: np.ndarray, count: int) -> np.ndarray:
    """The `count` symbols in packed, int64 [count]. ValueError unless they fill it exactly.

    For each bit a table tells which code would begin there and how long it is; then one walks from
    code to code.

    >>> unpack(bytes.fromhex("78"), np.array([1, 2, 3, 3]), 3)
    array([0, 3, 1])
    """
    codes, known = canonical_codes(lengths), np.flatnonzero(lengths)
    if not len(known) and count:
        raise ValueError(f"{count} symbols, but no code for one")
    if len(known) <= 1:
        if packed:
            raise ValueError(f"{len(packed)} bytes for a symbol that takes none")
        return np.full(count, known[0] if count else 0, np.int64)
    longest = int(lengths.max())
    order = known[np.argsort(codes[known] << (longest - lengths[known]))]
    by_prefix = np.repeat(order, 1 << (longest - lengths[order]))  # [2^longest]: the symbol
    if count > 8 * len(packed):
        raise ValueError(f"{count} symbols in {len(packed)} bytes")
    bits = np.unpackbits(np.frombuffer(packed + bytes(4), np.uint8))
    parts, at, left = [], 0, count
    for start in range(0, 8 * len(packed), CHUNK):
        end = min(start + CHUNK, 8 * len(packed))
        prefix = np.zeros(end - start, np.int64)
        for i in range(longest):
            prefix = prefix << 1 | bits[start + i : end + i]
        symbol = by_prefix[prefix]
        jump, places = (np.arange(end - start) + lengths[symbol]).tolist(), []
        at -= start
        while at < end - start and left:
            places.append(at)
            at, left = jump[at], left - 1
        parts.append(symbol[places])
        at += start
    if left or not 0 <= 8 * len(packed) - at < 8 or bits[at:].any():
        raise ValueError(f"{len(packed)} bytes do not hold exactly {count} symbols")
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def whole_numbers(name: str, given: object) -> np.ndarray:
    """int64 [n] of whole numbers >= 0; TypeError or ValueError."""
    values = np.asarray(given)
    if values.size == 0:
        values = values.astype(np.int64)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise TypeError(f"{name} are {values.dtype} {values.shape}: pass whole numbers [n]")
    if (values < 0).any():
        raise ValueError(f"{name} go down to {values.min()}: pass whole numbers from 0 on")
    return values.astype(np.int64)
