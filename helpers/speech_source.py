"""How data/speech was made of Debian's packages and synthetic voices.

`EDGE_SPEECH=folder python -m helpers.speech_source`, where the folder has the unpacked packages
that data/README.md names (dpkg -x), needs the extra `speech` and the program `flite`.
"""

from __future__ import annotations

import io
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from helpers.data import DATA
from helpers.sound import RATE, one_second, resampled, trimmed
from helpers.speech import (
    SENTENCES,
    SYNTHETIC,
    VOICES,
    WAKE_CLIP,
    WAKE_RATE,
    WAKE_SAID,
)
from helpers.voices import Voice, speak

FOLDERS = {
    "allison_en": "en_US_f_Allison",
    "allison_es": "es_MX_f_Allison",
    "june_fr": "fr_CA_f_June",
    "armelle_fr": "sounds/fr",
    "carlo_it": "it_IT_m_Carlo",
    "menardi_it": "it_IT_f_Menardi",
    "ivrvoice_ru": "ru_RU_f_IvrvoiceRU",
}
MINUTES = {"june_fr": 1.5, "carlo_it": 3.8, "menardi_it": 4.0}
LEVEL = {"sentences": 0.985, "digits": 0.965, "wake": 0.95}  # of Opus: 0 is 256, 1 is 6 kbit/s


def read(path: Path) -> np.ndarray:
    """A recording of 8,000 samples a second: WAV, or bare GSM 06.10."""
    raw = dict(samplerate=RATE, channels=1, format="RAW", subtype="GSM610")
    return soundfile.read(path, dtype="float32", **(raw if path.suffix == ".gsm" else {}))[0]


def opus(samples: np.ndarray, rate: int, level: float) -> bytes:
    """Samples [n] as the bytes of an Ogg Opus file. level: see LEVEL."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="OGG", subtype="OPUS", compression_level=level)
    return buffer.getvalue()


def folder_of(source: Path, voice: str) -> Path:
    """Where the recordings of a voice lie below `source`."""
    (found,) = (p for p in source.rglob("*") if p.is_dir() and str(p).endswith(FOLDERS[voice]))
    return found


def digits(folder: Path) -> np.ndarray:
    """float32 [10 * 8000]: each digit in the middle of a second."""
    found = [next(folder.glob(f"digits/{d}.*")) for d in range(10)]
    return np.concatenate([one_second(trimmed(read(path))) for path in found])


def announcements(folder: Path, minutes: float) -> np.ndarray:
    """Files of the folder itself, in an order by chance, with 0.3 s between them."""
    paths = sorted(folder.glob("*.wav"))
    parts, pause = [], np.zeros(int(0.3 * RATE), np.float32)
    for k in np.random.default_rng(46).permutation(len(paths)):
        parts += [read(paths[k]), pause]
    return np.concatenate(parts)[: int(minutes * 60 * RATE)]


def flite(text: str, voice: str) -> np.ndarray:
    """The text in a voice of flite: float32 [n] at 16,000 samples a second."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "said.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(path)], check=True)
        sound, rate = soundfile.read(path, dtype="float32")
    return resampled(sound, rate, WAKE_RATE)


def said(text: str, voice: str) -> np.ndarray:
    """One clip for the wake word: half a second of silence, the words, and silence to 2.5 s."""
    program, name = voice.split(" ")
    sound = flite(text, name) if program == "flite" else speak(text, Voice(name), WAKE_RATE)
    made = np.zeros(WAKE_CLIP, np.float32)
    start = WAKE_RATE // 2
    made[start : start + len(sound)] = sound[: WAKE_CLIP - start]
    return made


def main(source: Path, folder: Path = DATA / "speech") -> None:
    """Write every sound of data/speech from the packages unpacked below `source`."""
    for voice in VOICES:
        place = folder_of(source, voice)
        soundfile.write(folder / f"{voice}_digits.flac", digits(place), RATE, subtype="PCM_16")
        if voice in SENTENCES:
            content = opus(announcements(place, MINUTES[voice]), RATE, LEVEL["sentences"])
            (folder / f"{voice}_sentences.ogg").write_bytes(content)
    rng = np.random.default_rng(460)
    spoken = [
        one_second(
            trimmed(
                speak(str(digit), Voice(name, *rng.integers((120, 20, 20), (220, 80, 80)).tolist()))
            )
        )
        for name in SYNTHETIC
        for digit in range(10)
    ]
    content = opus(np.concatenate(spoken), RATE, LEVEL["digits"])
    (folder / "synthetic_digits.ogg").write_bytes(content)
    clips = np.concatenate([said(text, voice) for text, voice in WAKE_SAID])
    (folder / "wake_word_clips.ogg").write_bytes(opus(clips, WAKE_RATE, LEVEL["wake"]))


if __name__ == "__main__":
    main(Path(os.environ["EDGE_SPEECH"]))
