"""The one figure style of the course, and the few plots that more than one lesson draws."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from IPython import get_ipython
from matplotlib_inline.backend_inline import set_matplotlib_formats

# The hues of Okabe and Ito (2008), dark enough for text on white (a contrast of 4.5, WCAG 2.2) and
# told apart with each common color blindness. A color means one thing.
COLORS = {
    "float": "#0072B2",
    "quantized": "#C65000",
    "pruned": "#00805A",
    "teacher": "#8E3A75",
    "student": "#5F4A00",
    "other": "#2C3B96",
    "neutral": "#444444",
}

# For anything that is not one of these: from light to dark, as many as there are lines to draw.
SERIES = ("#767676", "#545454", "#303030", "#000000")


def use_style() -> None:
    """Set matplotlib's defaults for the lesson: 110 dpi, light frame, the course's colors.

    In a notebook pictures appear below their cells as PNG. Neither the environment (MPLBACKEND), a
    matplotlibrc nor an IPython profile of the reader's changes that, or the style.

    >>> use_style()
    >>> plt.rcParams["figure.dpi"]
    110.0
    """
    shell = get_ipython()
    if hasattr(shell, "kernel"):  # not in a terminal: there the reader's windows are right
        shell.run_line_magic("matplotlib", "inline")
        set_matplotlib_formats("png")
    matplotlib.rcdefaults()
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "figure.figsize": (7.2, 3.4),
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#e6e6e6",
            "axes.axisbelow": True,
            "axes.prop_cycle": cycler(color=list(COLORS.values())),
            "legend.frameon": False,
            "lines.linewidth": 2,
            "image.cmap": "gray_r",
        }
    )


def image_row(images: Sequence[np.ndarray], titles: Sequence[str], columns: int = 8) -> plt.Figure:
    """Images [H, W] or [H, W, 3], `columns` in a row, each under its title.

    As many titles as images, at least one; else ValueError. Rows are filled up with empty places.

    >>> figure = image_row([np.eye(2)] * 9, list("abcdefghi"))
    >>> len(figure.axes)
    16
    """
    if len(images) == 0 or len(images) != len(titles):
        raise ValueError(
            f"{len(images)} images and {len(titles)} titles: give each image one title"
        )
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * 1.25, rows * 1.75), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):  # axes may remain
        axis.imshow(image)
        axis.set_title(title, fontsize=9)
    return figure


def heat_table(
    axis: plt.Axes, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], darkest: float
) -> None:
    """A matrix [R, C] of counts with its numbers written in, darkest from `darkest` on.

    >>> figure, axis = plt.subplots()
    >>> heat_table(axis, np.array([[9, 1], [0, 8]]), ["cat", "dog"], ["cat", "dog"], darkest=10)
    >>> [text.get_text() for text in axis.texts]
    ['9', '1', '8']
    """
    axis.imshow(values, cmap="Blues", vmin=0, vmax=darkest, aspect="auto")
    axis.grid(False)
    axis.set_xticks(range(len(columns)), columns, rotation=40, ha="right")
    axis.set_yticks(range(len(rows)), rows)
    for (i, j), value in np.ndenumerate(values):
        if value:
            color = "white" if value > 0.72 * darkest else "black"  # contrast 4.5 or more
            axis.text(j, i, f"{value:g}", ha="center", va="center", fontsize=8, color=color)
