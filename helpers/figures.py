"""The one figure style of the course, and the few plots that more than one lesson draws."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler

# Okabe and Ito (2008), told apart with every common color blindness. A color means one thing.
COLORS = {
    "float": "#0072B2",
    "quantized": "#D55E00",
    "pruned": "#009E73",
    "teacher": "#CC79A7",
    "student": "#E69F00",
    "other": "#56B4E9",
    "neutral": "#555555",
}


def use_style() -> None:
    """Set matplotlib's defaults for the lesson: 80 dpi, light frame, the course's colors."""
    plt.rcParams.update(
        {
            "figure.dpi": 80,
            "figure.figsize": (8.0, 3.6),
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
    """Images [H, W] or [H, W, 3], `columns` in a row, each under its title."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * 1.25, rows * 1.75), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image)
        axis.set_title(title, fontsize=9)
    return figure


def heat_table(
    axis: plt.Axes, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], darkest: float
) -> None:
    """A matrix [R, C] of counts with its numbers written in, darkest from `darkest` on."""
    axis.imshow(values, cmap="Blues", vmin=0, vmax=darkest, aspect="auto")
    axis.grid(False)
    axis.set_xticks(range(len(columns)), columns, rotation=40, ha="right")
    axis.set_yticks(range(len(rows)), rows)
    for (i, j), value in np.ndenumerate(values):
        if value:
            color = "white" if value > 0.55 * darkest else "black"
            axis.text(j, i, f"{value:g}", ha="center", va="center", fontsize=8, color=color)
