"""The SHA-256 of a model file at its own end, where every runtime passes it over.

A flipped bit in a weight makes no file invalid: it makes another network. And what a runtime does
with a damaged file is its own affair; ExecuTorch's may end the process. So `helpers.convert` seals
the .onnx and .pte files that it writes, and `helpers.runtime` opens a sealed file only if it is
whole.
"""

from __future__ import annotations

import hashlib

# .onnx: entry "sha256" of the metadata. .pte: after the last segment, where no offset leads.
STARTS = {
    ".onnx": b"\x72\x52\x0a\x06sha256\x12\x48",
    ".pte": b"sha256:",
}
DIGITS, SIZE = 64, 8  # hexadecimal, of the SHA-256 and of the number of bytes that it is of


def sealed(content: bytes, kind: str) -> bytes:
    """The file and its seal. kind: ".onnx" or ".pte".

    >>> len(sealed(b"model", ".pte"))
    84
    """
    digest = hashlib.sha256(content).hexdigest()
    return content + STARTS[kind] + f"{digest}{len(content):0{SIZE}x}".encode()


def without_seal(content: bytes, kind: str) -> bytes:
    """The file as it was before it was sealed; ValueError if its bytes are not those any more.

    A file without a seal passes as it is: other tools write none. So does one whose seal is of
    another file, since tools that rewrite a model keep its metadata.

    >>> without_seal(sealed(b"model", ".pte"), ".pte")
    b'model'
    >>> without_seal(sealed(b"model", ".pte").replace(b"mo", b"no"), ".pte")
    Traceback (most recent call last):
    ValueError: the model (84 bytes) is damaged: its SHA-256 is not the one that it ends with; \
convert it again
    """
    start = STARTS[kind]
    at = len(content) - len(start) - DIGITS - SIZE
    found = content[max(at, 0) :][: len(start)]
    alike = sum(a == b for a, b in zip(found, start, strict=False))
    if at < 0 or alike < len(start) - 2:  # a seal with one or two bytes changed is one
        return content
    inner, digest, size = content[:at], content[-SIZE - DIGITS : -SIZE], content[-SIZE:]
    same_digest = hashlib.sha256(inner).hexdigest().encode() == digest
    same_size = f"{at:0{SIZE}x}".encode() == size
    if found == start and not same_digest and not same_size:
        return content
    if found != start or not same_digest or not same_size:
        raise ValueError(
            f"the model ({len(content)} bytes) is damaged: its SHA-256 is not the one that it ends "
            "with; convert it again"
        )
    return inner
