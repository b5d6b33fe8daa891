"""Synthetic speech from eSpeak NG, for the recipes of the speech networks (the extra `speech`)."""

from __future__ import annotations

import ctypes
import importlib.util
from typing import NamedTuple

import numpy as np
from scipy.signal import resample_poly

from helpers.arguments import whole

SYNCHRONOUS, RATE, PITCH, RANGE, UTF8, BY_CHARACTER = 2, 1, 3, 4, 1, 1  # speak_lib.h
ESPEAK_RATE, OUR_RATE = 22050, 8000


class Voice(NamedTuple):
    """A language and variant of eSpeak ("it+f3"), words a minute, and pitch and its range, 0-99."""

    name: str
    speed: int = 160
    pitch: int = 50
    range: int = 50


def missing() -> str:
    """What to install before `speak` works; "" where it is here."""
    if importlib.util.find_spec("espeakng_loader"):
        return ""
    return "not installed: the synthesizer (espeakng-loader, of the extra `speech`)"


class _Engine:
    """eSpeak NG, once a process: the library keeps one state."""

    def __init__(self):
        import espeakng_loader

        self.library = ctypes.cdll.LoadLibrary(str(espeakng_loader.get_library_path()))
        folder = str(espeakng_loader.get_data_path()).encode()
        found = self.library.espeak_Initialize(SYNCHRONOUS, 0, folder, 0)
        if found != ESPEAK_RATE:
            raise RuntimeError(f"eSpeak NG answered {found} when it was started")
        self.parts: list[np.ndarray] = []
        kind = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )

        def receive(samples, count, _):
            if samples and count > 0:
                self.parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
            return 0

        self.receive = kind(receive)  # kept, or it is collected while C still calls it
        self.library.espeak_SetSynthCallback(self.receive)


_engine: _Engine | None = None


def speak(text: str, voice: Voice, rate: int = OUR_RATE) -> np.ndarray:
    """The text in that voice: float32 [samples] in -1..1 at `rate` samples a second.

    What hisses in it is noise that goes on from call to call, so two calls differ a little.

    Raises ValueError for a voice that eSpeak does not have, RuntimeError where it says nothing, and
    ModuleNotFoundError without the package (`missing()` says so before).
    """
    global _engine
    rate = whole("rate", rate, 4000)
    _engine = _engine or _Engine()
    library, _engine.parts = _engine.library, []
    if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
        raise ValueError(f"eSpeak NG has no voice {voice.name!r}: take one such as 'it' or 'it+f3'")
    for parameter, value in ((RATE, voice.speed), (PITCH, voice.pitch), (RANGE, voice.range)):
        library.espeak_SetParameter(parameter, int(value), 0)
    words = text.encode()
    library.espeak_Synth(words, len(words) + 1, 0, BY_CHARACTER, 0, UTF8, None, None)
    library.espeak_Synchronize()
    if not _engine.parts:
        raise RuntimeError(f"eSpeak NG said nothing for {text!r} with {voice.name!r}")
    samples = np.concatenate(_engine.parts) / np.float32(32768)
    divisor = np.gcd(rate, ESPEAK_RATE)
    return resample_poly(samples, rate // divisor, ESPEAK_RATE // divisor).astype(np.float32)
