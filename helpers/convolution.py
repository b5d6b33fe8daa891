"""Lesson 12's fast convolution and its pooling, in NumPy, for the lessons that build on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Pair = int | Sequence[int]


def pair(name: str, value: Pair, least: int) -> tuple[int, int]:
    """An int, or two for the vertical and the horizontal axis, as two ints; ValueError names it.

    >>> pair("stride", 2, 1), pair("padding", (0, 1), 0)
    ((2, 2), (0, 1))
    """
    values = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(values) != 2 or not all(isinstance(v, int | np.integer) and v >= least for v in values):
        raise ValueError(f"{name} is {value!r}: pass an int or a pair of ints, {least} or more")
    return values


def windows(
    x: np.ndarray, kernel: Pair, stride: Pair = 1, dilation: Pair = 1, writeable: bool = False
) -> np.ndarray:
    """All windows of x [N, C, H, W] as a view [N, C, kh, kw, H_out, W_out]; nothing is copied.

    Entry [:, :, m, n, i, j] is x[:, :, s i + d m, s j + d n]. Windows that do not fit at the end
    are left out. `writeable`: writing into the view writes into x. Raises ValueError.

    >>> windows(np.arange(9).reshape(1, 1, 3, 3), 2)[0, 0, :, :, 0, 1].tolist()
    [[1, 2], [4, 5]]
    """
    if np.ndim(x) != 4:
        raise ValueError(f"x has shape {np.shape(x)}: pass [N, C, H, W]")
    kernel, stride = pair("kernel", kernel, 1), pair("stride", stride, 1)
    dilation = pair("dilation", dilation, 1)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if any(r > n for r, n in zip(reach, np.shape(x)[2:], strict=True)):
        raise ValueError(
            f"the kernel reaches over {reach[0]} x {reach[1]} pixels, the padded image has "
            f"{x.shape[2]} x {x.shape[3]}: pass a larger image, more padding, a smaller kernel or "
            "less dilation"
        )
    view = sliding_window_view(x, reach, axis=(2, 3), writeable=writeable)
    view = view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    return view.transpose(0, 1, 4, 5, 2, 3)


def pad(x: np.ndarray, padding: Pair) -> np.ndarray:
    """x [N, C, H, W] with `padding` zeros on every side of the two last axes."""
    height, width = pair("padding", padding, 0)
    return np.pad(x, [(0, 0), (0, 0), (height, height), (width, width)])


def conv2d(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> np.ndarray:
    """The cross-correlation of deep learning by im2col (Chellapilla, Puri, Simard 2006).

    x [N, C, H, W], w [out, C / groups, kh, kw], b [out] -> y [N, out, H_out, W_out], in the dtype
    of x and w (bytes and other integers: int64). Raises ValueError.
    """
    x, w = np.asarray(x), np.asarray(w)
    if x.dtype.kind in "bui":
        x = x.astype(np.int64)  # or a sum of bytes would wrap at 256
    if x.ndim != 4 or w.ndim != 4:
        raise ValueError(f"x {x.shape}, w {w.shape}: pass [N, C, H, W], [out, C / groups, kh, kw]")
    C, out = x.shape[1], len(w)
    if not isinstance(groups, int | np.integer) or groups < 1 or C % groups or out % groups:
        raise ValueError(f"groups={groups!r}: pass an int that divides x's {C} and w's {out} maps")
    if w.shape[1] != C // groups:
        raise ValueError(
            f"w {w.shape} reads {w.shape[1]} channels, x {x.shape} has {C} in {groups} group(s): "
            f"pass w [out, {C // groups}, kh, kw]"
        )
    if b is not None and np.shape(b) != (out,):
        raise ValueError(f"b has shape {np.shape(b)}: pass one bias for each output, ({out},)")
    view = windows(pad(x, padding), w.shape[2:], stride, dilation)
    (N, _, kh, kw, H, W) = view.shape
    y = np.empty((N, groups, out // groups, H * W), np.result_type(x, w))
    buffer = np.empty((C, kh, kw, H, W), y.dtype)  # one image's windows, used again for the next
    columns = buffer.reshape(groups, -1, H * W)
    rows = w.reshape(groups, out // groups, -1).astype(y.dtype, copy=False)
    for image, result in zip(view, y, strict=True):
        buffer[:] = image
        np.matmul(rows, columns, out=result)
    y = y.reshape(N, out, H, W)
    if b is not None:
        y += np.asarray(b, y.dtype)[:, None, None]
    return y


def max_pool2d(x: np.ndarray, size: Pair, stride: Pair | None = None) -> np.ndarray:
    """The largest value of each window of x [N, C, H, W]; stride None means size. ValueError."""
    return windows(x, pair("size", size, 1), size if stride is None else stride).max((2, 3))
