"""From sound to log-mel features: what the speech networks of the course read.

A window of 256 samples (32 ms) every 160 (20 ms), its power spectrum, 32 bands on the mel scale,
and the natural logarithm. Lesson 46 writes it out; a library gives the same numbers.
"""

from __future__ import annotations

import numpy as np

from helpers.sound import CLIP, RATE

WINDOW, HOP, BANDS = 256, 160, 32
LOW, HIGH = 60.0, 3800.0  # Hz, the ends of the mel scale
FLOOR = 1e-3  # added to the energy of a band before the logarithm: silence has one
FRAMES = 1 + (CLIP - WINDOW) // HOP  # of one second
STEP, ZERO = 15.0, 128.0  # levels of the uint8 features for a factor of e; the level of the mean


def to_mel(hertz: np.ndarray | float) -> np.ndarray | float:
    """O'Shaughnessy's mel scale, 1,000 at about 1,000 Hz ("htk" in libraries).

    >>> float(np.round(to_mel(1000.0)))
    1000.0
    """
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def mel_filters(bands: int = BANDS, low: float = LOW, high: float = HIGH) -> np.ndarray:
    """Triangles over the bins of the spectrum: float64 [bands, WINDOW / 2 + 1].

    Each rises from the center of the band below to 1 at its own, and falls to that of the next.
    """
    mels = np.linspace(to_mel(low), to_mel(high), bands + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    bins = np.arange(WINDOW // 2 + 1) * RATE / WINDOW
    left, center, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.maximum(
        0, np.minimum((bins - left) / (center - left), (right - bins) / (right - center))
    )


HANN = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
FILTERS = mel_filters()


def log_mel(samples: np.ndarray) -> np.ndarray:
    """float [..., n] in -1..1, n >= 256 -> float32 [..., frames, 32], with 1 + (n - 256) // 160
    frames.

    Raises ValueError for fewer samples than one window.

    >>> log_mel(np.zeros(8000, np.float32)).shape
    (49, 32)
    """
    x = np.asarray(samples)
    if x.ndim == 0 or x.shape[-1] < WINDOW:
        raise ValueError(f"{x.shape[-1:]} samples: one window has {WINDOW}; add zeros")
    frames = np.lib.stride_tricks.sliding_window_view(x, WINDOW, -1)[..., ::HOP, :]
    power = abs(np.fft.rfft(frames * HANN, axis=-1)) ** 2
    return np.log(power @ FILTERS.T + FLOOR).astype(np.float32)


def as_bytes(mels: np.ndarray) -> np.ndarray:
    """Log-mels float [..., frames, 32] -> uint8: 15 levels for a factor of e in energy.

    Level 128 is the mean of each band over the frames, so that loudness and the color of a channel
    drop out.

    >>> as_bytes(np.array([[0.0], [1.0], [2.0]])).ravel()
    array([113, 128, 143], dtype=uint8)
    """
    mels = np.asarray(mels)
    return np.clip(np.rint(STEP * (mels - mels.mean(-2, keepdims=True)) + ZERO), 0, 255).astype(
        np.uint8
    )
