"""A picture of any size as the 28 x 28 pixels that a network has learned from, as web/picture.js.

Integers only: page and Python find the same pixels for the same RGBA bytes.
"""

from __future__ import annotations

import numpy as np

SIDE = 28
SEEN = 32  # gray levels above the background count as the thing


def gray_of(rgba: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 4] -> gray uint8 [H, W], what is transparent being white.

    The weights are those of ITU-R 601-2, as PIL's mode "L" takes them.

    >>> gray_of(np.array([[[255, 0, 0, 255], [255, 0, 0, 0]]], np.uint8))
    array([[ 76, 255]], dtype=uint8)
    """
    rgba = _checked(rgba, "rgba", 3).astype(np.int64)
    if rgba.shape[2] != 4:
        raise ValueError(f"rgba has {rgba.shape[2]} channels: pass image.convert('RGBA')")
    color, alpha = rgba[..., :3], rgba[..., 3:]
    over = (color * alpha + 255 * (255 - alpha) + 127) // 255
    return ((over @ [19595, 38470, 7471] + 32768) >> 16).astype(np.uint8)


def on_black(gray: np.ndarray) -> np.ndarray:
    """A bright thing on black: the border's median is the background, which becomes 0.

    A background of 128 or more is a bright one, and the picture is inverted first.

    >>> on_black(np.array([[200, 200, 200], [200, 20, 200], [200, 200, 200]], np.uint8))[1]
    array([  0, 230,   0], dtype=uint8)
    """
    gray = _checked(gray, "gray", 2).astype(np.int64)
    border = np.ones(gray.shape, bool)
    border[1:-1, 1:-1] = False
    values = np.sort(gray[border])
    level = int(values[(len(values) - 1) // 2])
    if level >= 128:
        gray, level = 255 - gray, 255 - level
    span = 255 - level
    return ((2 * np.maximum(0, gray - level) * 255 + span) // (2 * span)).astype(np.uint8)


def box_of(gray: np.ndarray) -> tuple[slice, slice]:
    """(rows, columns) around all that is brighter than SEEN; ValueError if nothing is."""
    rows, columns = (np.flatnonzero((gray > SEEN).any(axis)) for axis in (1, 0))
    if not len(rows):
        raise ValueError("there is nothing in the picture but background")
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def overlaps(given: int, out: int) -> np.ndarray:
    """int64 [out, given]: how much of each input each output covers, in 1 / out of an input.

    >>> overlaps(3, 2)
    array([[2, 1, 0],
           [0, 1, 2]])
    """
    edges = np.arange(out + 1)[:, None] * given  # of outputs, in 1 / out of an input
    places = np.arange(given)[None] * out
    high, low = np.minimum(edges[1:], places + out), np.maximum(edges[:-1], places)
    return np.maximum(0, high - low)


def shrink(gray: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [H, W] -> uint8 [height, width], each the mean of the area that it covers, rounded.

    >>> shrink(np.array([[0, 100, 200]], np.uint8), 1, 2)
    array([[ 33, 167]], dtype=uint8)
    """
    gray = _checked(gray, "gray", 2).astype(np.int64)
    rows, columns = overlaps(gray.shape[0], height), overlaps(gray.shape[1], width)
    return ((2 * (rows @ gray @ columns.T) + gray.size) // (2 * gray.size)).astype(np.uint8)


def fitted(gray: np.ndarray) -> np.ndarray:
    """Its box, the longer side 28 pixels long, in the middle of uint8 [28, 28]."""
    return centered(gray[box_of(gray)])


def centered(gray: np.ndarray) -> np.ndarray:
    """uint8 [H, W] -> uint8 [28, 28]: the longer side fills it, the other one has black beside."""
    longest = max(gray.shape)
    height, width = (max(1, (2 * SIDE * n + longest) // (2 * longest)) for n in gray.shape)
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    pixels[top : top + height, left : left + width] = shrink(gray, height, width)
    return pixels


def to_pixels(rgba: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 4] -> uint8 [28, 28]: what the page gives the network.

    Raises TypeError or ValueError for other arrays and for a picture with nothing in it.
    """
    return fitted(on_black(gray_of(rgba)))


def photograph(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A test image [28, 28] as a made-up photograph: gray uint8 [200, 240].

    A dark thing, 112 to 168 pixels in size, somewhere on a bright sheet that is lit from one side,
    with noise of a standard deviation of 3 levels.
    """
    from PIL import Image

    size = int(rng.integers(112, 169))
    top, left = int(rng.integers(0, 201 - size)), int(rng.integers(0, 241 - size))
    thing = np.zeros((200, 240))
    large = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    thing[top : top + size, left : left + size] = np.asarray(large)
    paper = 225 + np.linspace(-8, 8, 240) * rng.choice([-1, 1])
    seen = paper * (1 - 0.9 * thing / 255) + rng.normal(0, 3, thing.shape)
    return seen.round().clip(0, 255).astype(np.uint8)


def _checked(values: np.ndarray, name: str, axes: int) -> np.ndarray:
    if not isinstance(values, np.ndarray) or values.dtype != np.uint8:
        kind = getattr(values, "dtype", type(values).__name__)
        raise TypeError(f"{name} is {kind}: pass a uint8 array, such as np.asarray(image)")
    if values.ndim != axes or not values.size:
        raise ValueError(f"{name} has the shape {values.shape}: pass one picture, not empty")
    return values
