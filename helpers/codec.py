"""Deep Compression on disk: many zeros and few distinct values, in a file where every byte counts.

encode changes no value. What makes a file small is done before: pruning (prune.py) and sharing
values (sharing.py). After Han et al. 2016, sections 2 to 4: codebooks, gaps, Huffman codes.

    "EDGEDC", version 1; how many tensors; of each tensor
        name, dtype, number of dimensions, dimensions, the dtype its values are stored in,
        how many entries K its codebook has; then, if K = 0, all its values, and if K > 0
            the codebook, ascending; bits of a gap; number of steps
            code lengths of the 2^bits gaps; bytes of the gaps; the gaps
            code lengths of the K + 1 indices; bytes of the indices; the indices
    CRC-32 of all that, 4 bytes

A step goes on by a gap of 1 to 2^bits places and sets the value there: index 0 is zero (too long a
gap is walked in steps that set padding zeros), index i the i-th entry. Code lengths take 4 bits
each. Numbers are little-endian, whole ones 7 bits a byte, the top bit set if more follow.

The checksum finds accidents: a changed file passes once in 4 billion times. It stops nobody who can
compute it again, and a longer one would not either: decode also checks whatever it reads.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn

from helpers import huffman
from helpers.arguments import whole
from helpers.varint import read_varint, take, varint

MAGIC = b"EDGEDC\x01"
DTYPES = ("<f4", "|i1", "<i2", "<i4", "<i8")
STORED = ("<f2", *DTYPES)  # what values may be stored in: the narrowest that changes none
MOST = 2**22  # numbers in one file: what decode allocates at most, in numbers
ENTRIES = 255  # of a codebook
WIDEST = 8  # bits of a gap
DIMENSIONS = 8


def split_gaps(places: object, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """(gaps int64 [m], in 1..2^bits; which of the steps end at one of the places, bool [m]).

    places: ascending whole numbers [n] from 0, where the nonzero weights are. A gap reaches from
    one to the next, the first from before place 0. One longer than 2^bits takes more steps: first
    some of 2^bits, which end at padding zeros. Source: Han et al. 2016, figure 2.

    >>> split_gaps([1, 4, 15], 3)
    (array([2, 3, 8, 3]), array([ True,  True, False,  True]))
    """
    places, reach = huffman.whole_numbers("places", places), 2 ** whole("bits", bits, 0, 16)
    gaps = np.diff(places, prepend=-1)
    if (gaps < 1).any():
        raise ValueError("places do not ascend: sort them, each once")
    more = (gaps - 1) // reach
    last = (more + 1).cumsum() - 1
    steps = np.full(len(gaps) + more.sum(), reach)
    steps[last] = gaps - more * reach
    real = np.zeros(len(steps), bool)
    real[last] = True
    return steps, real


def encode(model: nn.Module | Mapping[str, torch.Tensor]) -> bytes:
    """A file with all tensors of the model's state_dict, or of such a dictionary.

    A tensor with up to 255 distinct values besides zero gets a codebook, gaps and Huffman codes
    where that is shorter; any other, its values. Each is stored in the narrowest dtype that changes
    no value, so a codebook rounded to float16 takes half the bytes. -0.0 becomes 0.0.
    Tensors: float32, int8, int16, int32 or int64, finite, up to 8 dimensions; 2^22 numbers at most.
    Raises TypeError and ValueError.

    >>> len(encode({"w": torch.tensor([0.0, 0.5]).repeat(500)}))
    29
    """
    content = b"".join(part for _, _, part in _parts(model))
    return content + zlib.crc32(content).to_bytes(4, "little")


def sizes(model: nn.Module | Mapping[str, torch.Tensor]) -> dict[tuple[str, str], int]:
    """How many bytes of encode(model) are what: by (tensor, part), in the order of the file.

    >>> sizes({"w": torch.ones(1)})
    {('', 'header'): 8, ('w', 'header'): 7, ('w', 'values'): 2, ('', 'checksum'): 4}
    """
    found = {}
    for name, kind, part in _parts(model):
        found[name, kind] = found.get((name, kind), 0) + len(part)
    return found | {("", "checksum"): 4}


def decode(content: bytes) -> dict[str, torch.Tensor]:
    """The tensors that encode was given, bit for bit (but for -0.0, which is 0.0), by name.

    Raises TypeError for anything but bytes, and ValueError, before it allocates, for a file that is
    cut off, changed, of another kind or version, or claims more than 2^22 numbers.

    >>> decode(encode({"w": torch.tensor([[0.5, 0.0]])}))
    {'w': tensor([[0.5000, 0.0000]])}
    """
    if not isinstance(content, bytes | bytearray | memoryview):
        raise TypeError(f"content is a {type(content).__name__}: pass the bytes of a file")
    content = bytes(content)
    try:
        return _decoded(content)
    except ValueError as error:
        raise ValueError(
            f"no model can be read from these {len(content):,} bytes: {error}; fetch the file "
            "again, or make it anew with codec.encode"
        ) from error


def _parts(model: object) -> Iterator[tuple[str, str, bytes]]:
    """(tensor, what it is, bytes) of each section of the file but the checksum."""
    state = _state(model)
    yield "", "header", MAGIC + varint(len(state))
    for name, values in state.items():
        text = name.encode()
        stored = _narrowest(values)
        header = varint(len(text)) + text + bytes([DTYPES.index(values.dtype.str), values.ndim])
        header += b"".join(varint(n) for n in values.shape) + bytes([STORED.index(stored)])
        plain = [("header", header + b"\0"), ("values", values.astype(stored).tobytes())]
        choices = [plain, *_shared(values.ravel(), stored, header)]
        for kind, part in min(choices, key=lambda parts: sum(len(part) for _, part in parts)):
            yield name, kind, part


def _shared(values: np.ndarray, stored: str, header: bytes) -> Iterator[list[tuple[str, bytes]]]:
    """The sections of a tensor with a codebook, for each width of a gap."""
    places = values.nonzero()[0]
    book, index = np.unique(values[places], return_inverse=True)
    if not 0 < len(book) <= ENTRIES:
        if len(book) or not len(values):
            return
        book, index = np.zeros(1, values.dtype), places  # all zero: an entry that nobody uses
    head = [("header", header + bytes([len(book)])), ("codebook", book.astype(stored).tobytes())]
    for bits in range(WIDEST + 1):
        gaps, real = split_gaps(places, bits)
        symbols = np.zeros(len(gaps), np.int64)
        symbols[real] = index + 1
        parts = [*head, ("steps", bytes([bits]) + varint(len(gaps)))]
        for kind, which, choices in (("gap", gaps - 1, 2**bits), ("index", symbols, len(book) + 1)):
            lengths = huffman.limited_lengths(np.bincount(which, minlength=choices))
            packed = huffman.pack(which, lengths)
            parts += [(f"{kind} code", huffman.table(lengths) + varint(len(packed)))]
            parts += [("gaps" if kind == "gap" else "indices", packed)]
        yield parts


def _decoded(content: bytes) -> dict[str, torch.Tensor]:
    """As decode; ValueError says what is wrong."""
    if content[: len(MAGIC) - 1] != MAGIC[:-1]:
        raise ValueError("they are of another kind")
    if len(content) < len(MAGIC) + 5:
        raise ValueError("they end too early")
    if content[len(MAGIC) - 1] != MAGIC[-1]:
        raise ValueError(f"version {content[len(MAGIC) - 1]} is not known here")
    if zlib.crc32(content[:-4]) != int.from_bytes(content[-4:], "little"):
        raise ValueError("the checksum is of other content: they were changed or cut off")
    file, state, room = io.BytesIO(content[len(MAGIC) : -4]), {}, MOST
    for _ in range(read_varint(file)):
        name = take(file, read_varint(file)).decode()  # UnicodeDecodeError is a ValueError
        if name in state:
            raise ValueError(f"two tensors are called {name!r}")
        kind, dimensions = take(file, 2)
        if kind >= len(DTYPES) or dimensions > DIMENSIONS:
            raise ValueError(f"{name!r} has dtype {kind} and {dimensions} dimensions")
        shape = [read_varint(file) for _ in range(dimensions)]
        room -= math.prod(max(n, 1) for n in shape)
        if room < 0:
            raise ValueError(f"{name!r} has shape {shape}: at most {MOST:,} numbers are allowed")
        values = _read_values(file, name, np.dtype(DTYPES[kind]), math.prod(shape))
        state[name] = torch.from_numpy(values.reshape(shape))
    if file.read(1):
        raise ValueError("they go on after the last tensor")
    return state


def _read_values(file: io.BytesIO, name: str, dtype: np.dtype, size: int) -> np.ndarray:
    """The values of one tensor, [size]."""
    kind, entries = take(file, 2)
    if kind >= len(STORED) or not _fits(STORED[kind], dtype.str):
        raise ValueError(f"{name!r}, {dtype}, is stored as number {kind}")
    stored = np.dtype(STORED[kind])
    numbers = np.frombuffer(take(file, (entries or size) * stored.itemsize), stored).astype(dtype)
    if dtype.kind == "f" and not np.isfinite(numbers).all():
        raise ValueError(f"{name!r} holds NaN or infinity")
    if not entries:
        return numbers
    bits, steps = take(file, 1)[0], read_varint(file)
    if bits > WIDEST or steps > size:
        raise ValueError(f"{name!r} has gaps of {bits} bits and {steps} steps over {size} places")
    gaps = _read_symbols(file, 2**bits, steps) + 1
    places = gaps.cumsum() - 1
    if steps and places[-1] >= size:
        raise ValueError(f"the gaps of {name!r} lead beyond its {size} places")
    index = _read_symbols(file, entries + 1, steps)
    values = np.zeros(size, dtype)
    values[places] = np.append(numbers.dtype.type(0), numbers)[index]
    return values


def _read_symbols(file: io.BytesIO, choices: int, count: int) -> np.ndarray:
    """Code lengths, how many bytes, and as many symbols."""
    lengths = huffman.table_lengths(take(file, (choices + 1) // 2), choices)
    return huffman.unpack(take(file, read_varint(file)), lengths, count)


def _state(model: object) -> dict[str, np.ndarray]:
    """The arrays to be stored, by name; TypeError or ValueError."""
    state = model.state_dict() if isinstance(model, nn.Module) else model
    if not isinstance(state, Mapping):
        raise TypeError(f"model is a {type(model).__name__}: pass a network or its state_dict")
    found, room = {}, MOST
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name!r}: pass tensors by name, not {type(tensor).__name__}")
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in [np.dtype(known).name for known in DTYPES]:
            raise TypeError(f"{name!r} is {dtype}: pass float32, int8, int16, int32 or int64")
        values = tensor.detach().cpu().contiguous().numpy()
        values = np.asarray(values + values.dtype.type(0))  # -0.0 + 0.0 is 0.0
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"{name!r} holds NaN or infinity: train again before you store it")
        room -= math.prod(max(n, 1) for n in values.shape)
        if room < 0 or values.ndim > DIMENSIONS:
            raise ValueError(
                f"{name!r} has shape {list(values.shape)}: a file holds {DIMENSIONS} dimensions "
                f"and {MOST:,} numbers at most"
            )
        found[name] = values.astype(values.dtype.newbyteorder("<"))
    return found


def _narrowest(values: np.ndarray) -> str:
    """The first of STORED that holds all values exactly."""
    with np.errstate(over="ignore"):
        return next(
            stored
            for stored in STORED
            if _fits(stored, values.dtype.str)
            and np.array_equal(values.astype(stored).astype(values.dtype), values)
        )


def _fits(stored: str, dtype: str) -> bool:
    """Whether a tensor of dtype may be stored so: both real or both whole, and not wider."""
    stored, dtype = np.dtype(stored), np.dtype(dtype)
    return stored.kind == dtype.kind and stored.itemsize <= dtype.itemsize
