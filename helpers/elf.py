"""What stands in a 32-bit ELF file, the format of a compiled program for a microcontroller."""

from __future__ import annotations

import struct
from typing import NamedTuple

NOBITS = 8  # a section that takes memory and no bytes in the file
SYMBOLS = 2
ALLOCATED = 2


class Section(NamedTuple):
    """A piece of the program in memory; data is empty for variables without a start value."""

    address: int
    size: int
    data: bytes


class Program(NamedTuple):
    """sections, symbols: {name: Section}, {name: address}. pieces: [(address in flash, bytes)]."""

    sections: dict[str, Section]
    symbols: dict[str, int]
    pieces: list[tuple[int, bytes]]


def read_elf(content: bytes) -> Program:
    """The sections that take memory, the names of functions and variables, and what flash holds.

    Raises ValueError for bytes that are no little-endian 32-bit ELF file.
    """
    if content[:6] != b"\x7fELF\x01\x01":
        raise ValueError("not a 32-bit little-endian ELF file: compile with toolchain.firmware")
    programs, table = struct.unpack_from("<II", content, 28)
    program_size, program_count, size, count, names_at = struct.unpack_from("<5H", content, 42)
    heads = [struct.unpack_from("<10I", content, table + size * k) for k in range(count)]
    strings = heads[names_at][4]
    sections, symbols = {}, {}
    for name, kind, flags, address, offset, length, link, *_ in heads:
        if flags & ALLOCATED and length:
            data = b"" if kind == NOBITS else content[offset : offset + length]
            sections[text(content, strings + name)] = Section(address, length, data)
        if kind == SYMBOLS:
            for at in range(offset, offset + length, 16):
                word, value = struct.unpack_from("<II", content, at)
                symbols[text(content, heads[link][4] + word)] = value
    pieces = []
    for k in range(program_count):
        kind, offset, _, physical, length = struct.unpack_from(
            "<5I", content, programs + program_size * k
        )
        if kind == 1 and length:  # PT_LOAD
            pieces.append((physical, content[offset : offset + length]))
    return Program(sections, symbols, pieces)


def text(content: bytes, at: int) -> str:
    """The string that begins there and ends before a zero."""
    return content[at : content.index(b"\0", at)].decode()
