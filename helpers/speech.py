"""The speech that ships (data/speech): real digits, real sentences, and the networks of lesson 46.

A network has 51 classes: digit d of language k is 10 k + d, and 50 is anything else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from helpers.architectures import SpeechCNN, SpeechGRU
from helpers.arguments import one_of
from helpers.data import shipped
from helpers.sound import CLIP, as_samples, decoded

LANGUAGES = ("en", "es", "fr", "it", "ru")
OTHER = 50
VOICES = {  # who spoke, and the language; Allison speaks two
    "allison_en": ("Allison", "en"),
    "allison_es": ("Allison", "es"),
    "june_fr": ("June", "fr"),
    "armelle_fr": ("Armelle", "fr"),
    "carlo_it": ("Carlo", "it"),
    "menardi_it": ("Menardi", "it"),
    "ivrvoice_ru": ("Ivrvoice", "ru"),
}
SENTENCES = ("june_fr", "carlo_it", "menardi_it")
HELD_OUT = ("f5", "m8", "Hugo", "Mike", "steph", "victor")  # eSpeak's voices of no network
SYNTHETIC = tuple(f"{language}+{voice}" for language in LANGUAGES for voice in HELD_OUT)
WAKE_RATE, WAKE_CLIP = 16000, 40000  # samples a second, and of one clip
WAKE_SAID = tuple(  # words, program and voice of each clip
    (words, voice)
    for words in ("hey Jarvis", "hey Travis", "hey service")
    for voice in ("flite slt", "flite kal16", "flite awb", "flite rms", "espeak en", "espeak en-us")
)


@dataclass(frozen=True)
class Digits:
    """sounds float32 [N, 8000], labels 0..50, languages 0..4, people and voices [N]."""

    sounds: np.ndarray
    labels: np.ndarray
    languages: np.ndarray
    people: np.ndarray
    voices: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def label_of(digit: int, language: int) -> int:
    """The class of a digit in the language at this place of LANGUAGES.

    >>> label_of(7, LANGUAGES.index("it"))
    37
    """
    return 10 * language + digit


def in_language(logits: np.ndarray, languages: np.ndarray | int) -> np.ndarray:
    """Logits [N, 51] -> [N, 10], the digits of each row's language.

    >>> in_language(np.arange(51.0)[None], 1)[0]
    array([10., 11., 12., 13., 14., 15., 16., 17., 18., 19.])
    """
    first = 10 * np.broadcast_to(languages, len(logits))
    return np.take_along_axis(logits, first[:, None] + np.arange(10), 1)


def as_input(model: nn.Module, features: np.ndarray) -> torch.Tensor:
    """uint8 [N, 49, 32] as the network reads it: / 255, for a CNN with a channel [N, 1, 49, 32].

    Raises TypeError for another dtype, ValueError for another shape.
    """
    x = np.asarray(features)
    if x.dtype != np.uint8:
        raise TypeError(f"features have dtype {x.dtype}: pass the uint8 that as_bytes makes")
    if x.ndim != 3 or x.shape[2] != 32:
        raise ValueError(f"features have shape {x.shape}: expected [N, frames, 32]")
    x = torch.from_numpy(x.astype(np.float32) / 255)
    if isinstance(model, nn.Sequential):
        x = x[:, None].to(memory_format=torch.channels_last)
    return x


def _sound(name: str) -> np.ndarray:
    with shipped(f"speech/{name}") as content:
        return as_samples(*decoded(content))


def real_digits() -> Digits:
    """Seven voices of six people say the ten digits, each in a second of its own.

    >>> digits = real_digits()
    >>> digits.sounds.shape, len(set(digits.people))
    ((70, 8000), 6)
    """
    sounds = np.concatenate([_sound(f"{v}_digits.flac").reshape(10, CLIP) for v in VOICES])
    people, languages = zip(*VOICES.values(), strict=True)
    places = np.repeat([LANGUAGES.index(language) for language in languages], 10)
    labels = np.tile(np.arange(10), len(VOICES)) + 10 * places
    return Digits(sounds, labels, places, np.repeat(people, 10), np.repeat(list(VOICES), 10))


def synthetic_digits() -> Digits:
    """Six synthetic voices that no network was trained on say the ten digits in each language.

    >>> synthetic_digits().sounds.shape
    (300, 8000)
    """
    sounds = _sound("synthetic_digits.ogg").reshape(-1, CLIP)
    places = np.repeat(np.arange(5), 60)
    names = np.tile(np.repeat(HELD_OUT, 10), 5)
    return Digits(sounds, np.tile(np.arange(10), 30) + 10 * places, places, names, names)


def sentences(voice: str) -> np.ndarray:
    """Minutes of a voice's announcements, one after the other: float32 [n], decoded from Opus.

    >>> len(sentences("menardi_it")) / (60 * 8000)  # minutes
    4.0
    """
    one_of("voice", voice, SENTENCES)
    return _sound(f"{voice}_sentences.ogg")


def network(name: str) -> nn.Module:
    """A shipped network in evaluation mode, such as "SpeechCNN_plain_0" (`network_names()`).

    The weights are stored as float16 and computed with in float32.
    """
    from safetensors.torch import load

    one_of("network", name, network_names())
    model = {"SpeechCNN": SpeechCNN, "SpeechGRU": SpeechGRU}[name.split("_")[0]]()
    with shipped("speech/networks.safetensors") as content:
        found = {k.removeprefix(name + "."): v for k, v in load(content).items() if name + "." in k}
        model.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in found.items()}
        )
    return model.eval()


def network_names() -> tuple[str, ...]:
    """The names of the shipped networks: kind, training, seed."""
    return tuple(card()["networks"])


def card() -> dict:
    """What is said of the networks: recipes, parameters, validation accuracies, voices."""
    with shipped("speech/networks.json") as content:
        return json.loads(content)


def wake_word() -> bytes:
    """A published streaming network for "hey Jarvis", an int8 .tflite file (microWakeWord)."""
    with shipped("speech/hey_jarvis.tflite") as content:
        return content


def wake_word_clips() -> list[tuple[str, str, np.ndarray]]:
    """(words, voice, int16 [40000] at 16,000 samples a second) of each synthetic clip.

    >>> len(wake_word_clips())
    18
    """
    with shipped("speech/wake_word_clips.ogg") as content:
        sound, _ = decoded(content)
        clips = np.rint(sound * 32767).astype(np.int16).reshape(len(WAKE_SAID), WAKE_CLIP)
    return [(*said, clip) for said, clip in zip(WAKE_SAID, clips, strict=True)]
