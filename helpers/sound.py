"""Sound as this course computes with it: one channel, 8,000 samples a second, float32 in -1..1."""

from __future__ import annotations

import io

import numpy as np

RATE = 8000  # samples a second, as a telephone has
CLIP = RATE  # samples of one clip: a second
FULL_SCALE = 32768  # of 16-bit samples


def as_samples(samples: object, rate: int) -> np.ndarray:
    """Samples as float32 [n] in -1..1, or an error that says what is wrong with them.

    samples: int16 [n], which are divided by 32,768, or floating point [n] in -1..1. rate: samples
    a second, which must be 8,000: `resampled` makes it so. Raises TypeError for another dtype,
    ValueError for another rate, stereo, no samples, NaN or infinity, and floats beyond 1.

    >>> as_samples(np.array([0, 16384, -32768], np.int16), 8000)
    array([ 0. ,  0.5, -1. ], dtype=float32)
    """
    x = np.asarray(samples)
    if x.dtype != np.int16 and x.dtype.kind != "f":
        raise TypeError(f"samples have dtype {x.dtype}: pass int16, or floating point in -1..1")
    if rate != RATE:
        raise ValueError(f"the sound has {rate} samples a second: make them {RATE} with resampled")
    if x.ndim != 1:
        raise ValueError(
            f"samples have shape {x.shape}: expected one channel [n]; of stereo [n, 2] take the "
            "mean, samples.mean(1)"
        )
    if x.size == 0:
        raise ValueError("the sound is empty: pass at least one sample")
    if x.dtype == np.int16:
        return x / np.float32(FULL_SCALE)
    if not np.isfinite(x).all():
        raise ValueError("the sound holds NaN or infinity: leave those samples out")
    peak = float(abs(x).max())
    if peak > 1.001:  # a filter may ring a little beyond full scale
        raise ValueError(
            f"the largest sample is {peak:.6g}: floats are in -1..1; 16-bit numbers that were "
            f"stored as floats must be divided by {FULL_SCALE:,}"
        )
    return x.astype(np.float32)


def resampled(samples: np.ndarray, rate: int, to: int = RATE) -> np.ndarray:
    """Samples [n] at `rate` a second as float32 at `to` a second, band-limited before.

    Raises ValueError for rates that are not above 0.

    >>> resampled(np.zeros(16000, np.float32), 16000).shape
    (8000,)
    """
    from scipy.signal import resample_poly

    if not (int(rate) == rate > 0 and int(to) == to > 0):
        raise ValueError(f"rates are {rate} and {to}: pass whole numbers above 0")
    x = np.asarray(samples)
    x = x / np.float32(FULL_SCALE) if x.dtype == np.int16 else x
    divisor = int(np.gcd(int(rate), int(to)))
    made = resample_poly(x, int(to) // divisor, int(rate) // divisor)
    return np.clip(made, -1, 1).astype(np.float32)


def clipped_share(samples: np.ndarray) -> float:
    """The share of samples within one 16-bit step of full scale; a clean sound has next to none.

    >>> clipped_share(np.clip(2 * np.sin(np.arange(8000)), -1, 1)) > 0.6
    True
    """
    return float((abs(np.asarray(samples)) >= 1 - 1.5 / FULL_SCALE).mean())


def trimmed(samples: np.ndarray, below: float = 0.03) -> np.ndarray:
    """Without the beginning and the end, where no sample reaches `below` of the largest one.

    >>> trimmed(np.array([0.0, 0.001, 1, 0, -1, 0], np.float32))
    array([ 1.,  0., -1.], dtype=float32)
    """
    loud = np.flatnonzero(abs(samples) > below * abs(samples).max(initial=0))
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples


def one_second(samples: np.ndarray, start: int | None = None) -> np.ndarray:
    """float32 [8000]: the samples from `start` on, or in the middle, and zeros around them.

    Of more than a second the loudest second is taken.

    >>> one_second(np.ones(2, np.float32), 1)[:4]
    array([0., 1., 1., 0.], dtype=float32)
    """
    x = np.asarray(samples, np.float32)
    if len(x) > CLIP:
        energy = np.concatenate([[0.0], np.cumsum(x.astype(float) ** 2)])
        first = int((energy[CLIP:] - energy[:-CLIP]).argmax())
        x = x[first : first + CLIP]
    start = (CLIP - len(x)) // 2 if start is None else min(max(0, start), CLIP - len(x))
    made = np.zeros(CLIP, np.float32)
    made[start : start + len(x)] = x
    return made


def decoded(content: bytes) -> tuple[np.ndarray, int]:
    """The bytes of a FLAC, Ogg or WAV file -> (float32 [n], or [n, channels]; samples a second).

    Raises ValueError for what is no such file.
    """
    import soundfile

    try:
        return soundfile.read(io.BytesIO(content), dtype="float32")
    except soundfile.SoundFileError as error:
        raise ValueError(f"this is no sound file ({len(content)} bytes; {error})") from error
