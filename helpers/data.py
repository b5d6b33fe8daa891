"""The data that ships with the workbook: every file is checked before it is believed."""

from __future__ import annotations

import gzip
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helpers.arguments import one_of

DATA = Path(__file__).resolve().parent.parent / "data"

FASHION_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
WATCH_NAMES = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
WATCH_TEST_SUBJECTS = (8, 9, 10)
WATCH_VALIDATION_SUBJECTS = (6, 7)
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
VALIDATION_IMAGES = 5000


class DataError(Exception):
    """A data file is missing, damaged or not what it says it is."""


@dataclass(frozen=True)
class ImageSet:
    """images uint8 [N, 28, 28], labels int64 [N] in 0..9, names: the ten classes."""

    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class SequenceSet:
    """windows float32 [N, 100, 6] (time-major within a window), labels and subjects int64 [N].

    Channels 0-2 are acceleration (g) and 3-5 rotation (rad/s), sampled at 50 Hz.
    """

    windows: np.ndarray
    labels: np.ndarray
    subjects: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


def read_verified(path: Path, expected: str) -> bytes:
    """The bytes of `path`, after its SHA-256 has been found equal to `expected` (64 hex digits)."""
    path = Path(path)
    shown = path.relative_to(DATA.parent) if path.is_relative_to(DATA.parent) else path
    restore = f"restore it with `git checkout -- {shown}` (or clone the repository again)"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{shown} cannot be read ({error.strerror}); expected SHA-256 {expected}; {restore}"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DataError(f"{shown} is damaged: SHA-256 is {found}, expected {expected}; {restore}")
    return content


def checksums() -> dict[str, str]:
    """The path under data/ of every data file, and its SHA-256, as data/SHA256SUMS lists them."""
    try:
        lines = (DATA / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise DataError(
            "data/SHA256SUMS cannot be read; restore it with `git checkout -- data/SHA256SUMS`"
        ) from error
    return {name: digest for digest, name in (line.split("  ") for line in lines)}


def _shipped(name: str) -> bytes:
    return read_verified(DATA / name, checksums()[name])


def _idx(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """An IDX file of unsigned bytes: two zero bytes, type 8, rank, big-endian sizes, values."""
    content = gzip.decompress(_shipped(f"fashion_mnist/{name}"))
    header = 4 + 4 * len(shape)
    sizes = tuple(np.frombuffer(content[4:header], ">u4").tolist())
    if content[:4] != bytes([0, 0, 8, len(shape)]) or sizes != shape:
        raise DataError(f"data/fashion_mnist/{name} is not an IDX file of shape {shape}")
    return np.frombuffer(bytearray(content), np.uint8, offset=header).reshape(shape)


def fashion_mnist(split: str) -> ImageSet:
    """Fashion-MNIST (Xiao, Rasul, Vollgraf 2017), whole and in its original order.

    split: "train" is the original 60,000 images and "test" the original 10,000. To choose anything,
    use "fit" and "validation": the first 55,000 and the last 5,000 of "train". Every model in
    data/models was trained on "fit", so "validation" is unseen to all of them.
    """
    one_of("split", split, ("train", "fit", "validation", "test"))
    n, prefix = (10000, "t10k") if split == "test" else (60000, "train")
    part = {
        "fit": slice(0, n - VALIDATION_IMAGES),
        "validation": slice(n - VALIDATION_IMAGES, n),
    }.get(split, slice(None))
    images = _idx(f"{prefix}-images-idx3-ubyte.gz", (n, 28, 28))
    labels = _idx(f"{prefix}-labels-idx1-ubyte.gz", (n,))
    return ImageSet(images[part], labels[part].astype(np.int64), FASHION_NAMES)


def watch(split: str) -> SequenceSet:
    """Smartwatch motion of ten people doing seven shoulder exercises (Burns et al. 2018).

    Each recording is cut into windows of 100 steps (2 s), 50 steps apart. People are never shared:
    split "train" is subjects 1-7 and "test" subjects 8-10. To choose anything, use "fit" (subjects
    1-5) and "validation" (6 and 7), or hold out subjects of "train" one by one.
    """
    one_of("split", split, ("train", "fit", "validation", "test"))
    with np.load(io.BytesIO(_shipped("watch/watch.npz")), allow_pickle=False) as archive:
        signal = archive["signal"].astype(np.float32)
        lengths, labels, subjects = (
            archive[name].astype(np.int64) for name in ("lengths", "labels", "subjects")
        )
    ends = lengths.cumsum()
    starts = [np.arange(end - n, end - 99, 50) for n, end in zip(lengths, ends, strict=True)]
    windows = signal[np.concatenate(starts)[:, None] + np.arange(100)]
    recording = np.repeat(np.arange(len(lengths)), [len(s) for s in starts])
    people = subjects[recording]
    test = np.isin(people, WATCH_TEST_SUBJECTS)
    validation = np.isin(people, WATCH_VALIDATION_SUBJECTS)
    part = {"test": test, "train": ~test, "validation": validation, "fit": ~test & ~validation}
    rows = part[split]
    return SequenceSet(windows[rows], labels[recording][rows], people[rows], WATCH_NAMES)


def photo(name: str) -> np.ndarray:
    """A photograph as uint8 [H, W, 3], RGB: "astronaut", "chelsea", "coffee" or "rocket"."""
    from PIL import Image

    one_of("photo", name, PHOTOS)
    with Image.open(io.BytesIO(_shipped(f"photos/{name}.jpg"))) as image:
        return np.array(image.convert("RGB"))
