"""The recipes behind data/speech/networks: digits in five languages, learned from synthetic voices.

`python -m helpers.speech_zoo` trains all of them, about ten minutes on two cores; it needs the
extra `speech`. Choices were made on synthetic validation voices.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import nn
from tqdm.auto import tqdm

from helpers.architectures import SpeechCNN, SpeechGRU
from helpers.data import DATA
from helpers.features import as_bytes, log_mel
from helpers.machine import seeded
from helpers.models import fingerprint
from helpers.sound import CLIP, one_second, trimmed
from helpers.speech import LANGUAGES, OTHER, as_input, in_language, label_of
from helpers.voices import Voice, missing, speak
from helpers.zoo import replace_file

VOICES = {  # eSpeak's variants; its klatt voices end the process at some speeds
    "fit": "m1 m2 m3 m4 m5 m6 m7 f1 f2 f3 f4 Andy Annie Michael Alex Gene Jacky Lee Mario Denis "
    "adam linda belinda david ed john paul quincy rob sandro",
    "validation": "Diogo zac grandma marcelo",
    "test": "f5 m8 Hugo Mike steph victor",
}
WORDS = {  # of which the networks learn what is no digit
    "en": "yes no stop go left right please enter your password message mailbox the conference "
    "call goodbye press hello marvin house water thank you extension number is not available",
    "es": "sí no para vamos izquierda derecha por favor contraseña mensaje buzón la conferencia "
    "llamada adiós pulse hola casa agua gracias extensión número no está disponible",
    "fr": "oui non arrêt va gauche droite veuillez entrer votre mot passe message boîte la "
    "conférence appel appuyez bonjour maison eau merci poste numéro pas disponible",
    "it": "sì no ferma vai sinistra destra per favore inserire password messaggio casella la "
    "conferenza chiamata arrivederci premere ciao casa acqua grazie interno numero non disponibile",
    "ru": "да нет стоп иди налево направо пожалуйста введите ваш пароль сообщение ящик "
    "конференция звонок свидания нажмите привет дом вода спасибо номер недоступен абонент",
}
NETWORKS = {"SpeechCNN": SpeechCNN, "SpeechGRU": SpeechGRU}
COMMON = dict(epochs=12, batch_size=64, weight_decay=0.01)
RECIPES = {
    f"{name}_{kind}_{seed}": COMMON
    | dict(lr=0.01 if name == "SpeechCNN" else 0.005, augment=kind == "augmented", seed=seed)
    for name in NETWORKS
    for kind in ("plain", "augmented")
    for seed in range(3)
    if (name, kind) != ("SpeechGRU", "plain")  # those were trained once, and do not ship
}


def synthetic(split: str, times: int = 2) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """(sounds, labels, languages): each voice of the split says ten digits and five words.

    Speed, pitch and its range are drawn anew for each. labels: 0..50 as `helpers.speech`.
    """
    rng = np.random.default_rng(list(VOICES).index(split))
    sounds, labels, languages = [], [], []
    for place, language in enumerate(LANGUAGES):
        for variant in VOICES[split].split():
            for _ in range(times):
                digits = [(str(d), label_of(d, place)) for d in range(10)]
                words = rng.choice(WORDS[language].split(), 5, replace=False)
                for text, label in [*digits, *((str(word), OTHER) for word in words)]:
                    settings = rng.integers((120, 20, 20), (220, 80, 80)).tolist()
                    voice = Voice(f"{language}+{variant}", *settings)
                    sounds.append(trimmed(speak(text, voice)))
                    labels.append(label)
                    languages.append(place)
    return sounds, np.array(labels), np.array(languages)


def as_if_recorded(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One sound, of any length -> float32 [8000], as if said and recorded by others.

    Tempo and pitch together by up to 28 %, a first-order filter for the channel, loudness over
    20 dB, moved by up to 1/8 s, and colored noise 15 to 50 dB below the sound.
    """
    length = max(2, int(len(sound) / np.exp(rng.uniform(-0.25, 0.25))))
    x = np.interp(np.linspace(0, len(sound) - 1, length), np.arange(len(sound)), sound)
    x[1:] = x[1:] + rng.uniform(-0.7, 0.7) * x[:-1]
    x *= np.exp(rng.uniform(np.log(0.1), np.log(0.95))) / max(1e-6, abs(x).max())
    power = (x**2).mean()
    start = (CLIP - min(length, CLIP)) // 2 + int(rng.integers(-1000, 1001))
    noise, color = rng.standard_normal(CLIP), rng.uniform(-0.9, 0.9)
    noise[1:] = noise[1:] + color * noise[:-1]
    noise *= np.sqrt(power / (1 + color**2) * 10 ** (-rng.uniform(15, 50) / 10))
    return one_second(x, start) + noise.astype(np.float32)


def features(sounds: list[np.ndarray]) -> np.ndarray:
    """Each in the middle of a second: uint8 [N, 49, 32]."""
    return as_bytes(log_mel(np.stack([one_second(sound) for sound in sounds])))


def train(name: str, sounds: list, labels: np.ndarray, **changes) -> nn.Module:
    """The network of recipe `name`, trained on these sounds, in evaluation mode."""
    recipe = RECIPES[name] | changes
    rng, size = np.random.default_rng(recipe["seed"]), recipe["batch_size"]
    with seeded(recipe["seed"]):
        model = NETWORKS[name.split("_")[0]]()
    unchanged, batches = features(sounds), len(sounds) // size
    steps = recipe["epochs"] * batches
    update = torch.optim.AdamW(model.parameters(), recipe["lr"], weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        update, recipe["lr"], total_steps=steps + 1, pct_start=0.1
    )
    model.train()
    for _ in tqdm(range(recipe["epochs"]), leave=False, desc=name):
        for rows in rng.permutation(len(sounds))[: batches * size].reshape(batches, size):
            x = unchanged[rows]
            if recipe["augment"]:
                x = as_bytes(log_mel(np.stack([as_if_recorded(sounds[k], rng) for k in rows])))
            logits = model(as_input(model, x))
            loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels[rows]))
            update.zero_grad()
            loss.backward()
            update.step()
            rate.step()
    return model.eval()


def score(model: nn.Module, x: np.ndarray, labels: np.ndarray, languages: np.ndarray) -> float:
    """The share of the digits that are found when the language is known."""
    digit = labels != OTHER
    with torch.no_grad():
        logits = model(as_input(model, x[digit])).numpy()
    return float((in_language(logits, languages[digit]).argmax(1) == labels[digit] % 10).mean())


def main(folder: Path = DATA / "speech") -> None:
    """Train every recipe; write networks.safetensors (float16) and networks.json."""
    if missing():
        raise SystemExit(missing())
    torch.set_num_threads(1)
    fitting, validation = synthetic("fit"), synthetic("validation")
    held_out, weights, cards = features(validation[0]), {}, {}
    for name, recipe in RECIPES.items():
        model = train(name, *fitting[:2]).to(memory_format=torch.contiguous_format).half()
        weights |= {
            f"{name}.{key}": value.contiguous() for key, value in model.state_dict().items()
        }
        model = model.float()
        accuracy = score(model, held_out, *validation[1:])
        parameters = sum(p.numel() for p in model.parameters())
        cards[name] = dict(recipe=recipe, parameters=parameters, validation_accuracy=accuracy)
        print(name, f"{accuracy:.3f}", flush=True)
    content = save(weights)
    card = dict(
        networks=cards,
        trained_on=len(fitting[0]),
        voices=VOICES,
        data="eSpeak NG 1.52 (espeakng-loader 0.2.4), five languages",
        torch=torch.__version__.split("+")[0],
    )
    card["card_sha256"] = fingerprint(card)
    replace_file(folder / "networks.safetensors", content)
    replace_file(folder / "networks.json", (json.dumps(card, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
