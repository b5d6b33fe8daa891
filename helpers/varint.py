"""Whole numbers of any size in a binary file, and bytes that are there before they are read."""

from __future__ import annotations

import io


def varint(number: int) -> bytes:
    """A whole number >= 0 in 7 bits a byte, the lowest first; the top bit says that more follow.

    >>> varint(300).hex()
    'ac02'
    """
    found = b""
    while number > 127:
        found += bytes([number & 127 | 128])
        number >>= 7
    return found + bytes([number])


def read_varint(file: io.BytesIO) -> int:
    """The whole number, below 2^42, that begins here; ValueError if it does not end.

    >>> read_varint(io.BytesIO(bytes.fromhex("ac02")))
    300
    """
    number = 0
    for i in range(6):
        byte = take(file, 1)[0]
        number |= (byte & 127) << 7 * i
        if byte < 128:
            return number
    raise ValueError("a whole number never ends")


def take(file: io.BytesIO, count: int) -> bytes:
    """The next `count` bytes; ValueError where there are fewer, before any is copied."""
    left = len(file.getbuffer()) - file.tell()
    if count > left:
        raise ValueError(f"{count:,} bytes are announced and {left:,} left")
    return file.read(count)
