"""The models that ship, by name: a new one, a trained one, and what its card says."""

from __future__ import annotations

import hashlib
import json

import torch
from torch import nn

from helpers.architectures import (
    LeNet5,
    LeNet300,
    ResNet7,
    ResNet8,
    SearchedCNN,
    SensorGRU,
    SensorLSTM,
    TinyCNN,
    WideResNet,
)
from helpers.arguments import one_of, whole
from helpers.data import DATA, DataError, how_to_restore, read_verified
from helpers.filters import remove_filters
from helpers.inputs import as_input  # noqa: F401  (a model and its input are imported together)
from helpers.machine import seeded
from helpers.qat import insert_quantizers

CLASSES = (LeNet300, LeNet5, TinyCNN, ResNet8, WideResNet, SensorGRU, SensorLSTM)
NAMES = tuple(model.__name__ for model in CLASSES)
FOUND = {"SearchedCNN": SearchedCNN, "ResNet7": ResNet7}  # by lesson 39's search, and by hand
QUANTIZED = (  # ResNet8 with quantizers, trained further
    *(f"ResNet8_{bits}bit" for bits in (8, 4, 3, 2)),
    *(f"ResNet8_{bits}bit_{run}" for bits in (4, 2) for run in ("lsq", "seed7", "lsq_seed7")),
)
CONTROLS = ("ResNet8_float_6", "ResNet8_float_10")  # trained further as 4 and 2 bits, in float
SMALLER = (  # half of ResNet8's MACs: pruned and trained further, and their controls
    "ResNet8_half",
    *(f"ResNet8_half_{run}" for run in ("seed1", "random", "scratch", "scratch_long")),
    *(f"ResNet8_half_{run}" for run in ("distilled", "taught")),  # by WideResNet's answers
)
BOTH = tuple(f"ResNet8_half_taught_{bits}bit" for bits in (8, 4))  # half the MACs, few bits
SHIPPED = (
    *NAMES,
    *QUANTIZED,
    *CONTROLS,
    *SMALLER,
    *("TinyCNN_distilled", "TinyCNN_retuned"),
    *BOTH,
    *FOUND,
    "MobileNetV2",
)
COMPRESSED = (  # files of codec.py
    *(f"LeNet300_{run}" for run in ("deep", "deeper", "dense")),
    *("LeNet5_deep", "ResNet8_deep", "ResNet7_deep"),
)
SAID_OF_ALL = {"name": str, "recipe": dict | str, "data": str, "parameters": int, "sha256": str}
SAID_OF_TRAINED = {
    **dict.fromkeys(("trained_on", "test_correct", "test_total"), int),
    **dict.fromkeys(("final_training_loss", "validation_accuracy", "test_accuracy"), float),
    "torch": str,
}


def build(name: str, seed: int = 0) -> nn.Module:
    """A new model by its name in NAMES or FOUND, initialized from `seed`; the same in any thread.

    >>> build("TinyCNN")[-1]
    Linear(in_features=48, out_features=10, bias=True)
    """
    one_of("model", name, (*NAMES, *FOUND))
    with seeded(whole("seed", seed, 0, 2**63 - 1)):
        return FOUND[name]() if name in FOUND else CLASSES[NAMES.index(name)]()


def card(name: str) -> dict:
    """What data/models/NAME.json says of a shipped model: recipe, seed, accuracies, SHA-256, ...

    Raises DataError if the card is missing or damaged.

    >>> card("ResNet8")["parameters"]
    77754
    """
    one_of("model", name, (*SHIPPED, *COMPRESSED))
    path = DATA / "models" / f"{name}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        fault = _fault(found, name)
    except (OSError, ValueError, RecursionError) as error:
        fault = f"cannot be read ({error})"
    if fault:
        raise DataError(
            f"data/models/{name}.json {fault}; {how_to_restore(path)}, "
            "or train the model again with `make zoo`"
        )
    return {key: value for key, value in found.items() if key != "card_sha256"}


def _fault(found: object, name: str) -> str | None:
    """What is wrong with a card; each carries its own SHA-256, so that no changed number passes."""
    if not isinstance(found, dict):
        return f"holds a {type(found).__name__}, not the entries of a card"
    entries = SAID_OF_ALL if name == "MobileNetV2" else SAID_OF_ALL | SAID_OF_TRAINED
    for key, kind in entries.items():
        if not isinstance(found.get(key), kind) or isinstance(found[key], bool):
            return f"says {found.get(key)!r} for {key}"
    others = found.keys() - entries.keys() - {"licence", "card_sha256"}
    if others or found["name"] != name:
        return f"is of {found['name']}, with unknown entries {sorted(others)}"
    said = {key: value for key, value in found.items() if key != "card_sha256"}
    if found.get("card_sha256") != fingerprint(said):
        return "was changed after it was written"
    return None


def fingerprint(card: dict) -> str:
    """The SHA-256 of what a card says, whatever its layout and the order of its entries.

    >>> fingerprint({"bits": 8, "seed": 0}) == fingerprint({"seed": 0, "bits": 8})
    True
    """
    return hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()


def weights(name: str) -> dict[str, torch.Tensor]:
    """The state_dict of a shipped model, checked against the SHA-256 on its card.

    Raises DataError if the file is missing, damaged, or holds numbers that are not finite.
    """
    from safetensors.torch import load as parse

    path = DATA / "models" / f"{name}.safetensors"
    content = read_verified(path, card(name)["sha256"], said_by=path.with_suffix(".json"))
    try:
        found = parse(content)
    except Exception as error:  # safetensors' own, and what a strange header leads to
        raise _damaged(name, error) from error
    for key, values in found.items():
        if values.is_floating_point() and not values.isfinite().all():
            raise _damaged(name, f"{key} holds NaN or infinity")
    return found


def compressed(name: str) -> bytes:
    """The file of a model in COMPRESSED, for codec.decode, checked against the SHA-256 on its card.

    Raises DataError if the file is missing or damaged.

    >>> compressed("LeNet300_deep")[:6]
    b'EDGEDC'
    """
    one_of("model", name, COMPRESSED)
    path = DATA / "models" / f"{name}.dc"
    return read_verified(path, card(name)["sha256"], said_by=path.with_suffix(".json"))


def load(name: str) -> nn.Module:
    """A shipped, trained model by its name, in evaluation mode: all of SHIPPED but MobileNetV2.

    Raises DataError for a damaged file, or weights that belong to another network.

    >>> load("ResNet8")(torch.zeros(1, 1, 28, 28)).shape
    torch.Size([1, 10])
    """
    one_of("model", name, SHIPPED[:-1])
    return _filled(_skeleton(name), name)


def mobilenet_v2() -> nn.Module:
    """torchvision's MobileNetV2 for 224x224 RGB images and 1,000 ImageNet classes, trained.

    The weights ship rounded to float16; they are computed with in float32. Raises DataError.
    """
    from torchvision.models import mobilenet_v2 as network

    with seeded(0):
        model = network()
    return _filled(model, "MobileNetV2")


def _skeleton(name: str) -> nn.Module:
    """The network that the weights of that name belong to: a new one, changed as its card says."""
    if name in (*NAMES, *FOUND):
        return build(name)
    path, recipe = DATA / "models" / f"{name}.json", card(name)["recipe"]
    try:
        start = recipe.get("model", name.split("_")[0])
        one_of("model", start, SHIPPED[: SHIPPED.index(name)])  # one that came before
        keep = {part: range(whole(part, n)) for part, n in recipe.get("keep", {}).items()}
        bits = whole("bits", recipe["bits"], 2, 8) if name in (*QUANTIZED, *BOTH) else None
        if not keep and name in SMALLER:
            raise KeyError("keep")
        model = _skeleton(start)
        model = remove_filters(model, keep) if keep else model
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"data/models/{path.name} does not say which network it is of ({error}); "
            + how_to_restore(path)
        ) from error
    return model if bits is None else insert_quantizers(model, bits)


def _filled(model: nn.Module, name: str) -> nn.Module:
    """The model with the weights of that name, in evaluation mode."""
    try:
        model.load_state_dict(weights(name))
    except RuntimeError as error:
        raise _damaged(name, error) from error
    return model.eval()


def _damaged(name: str, why: object) -> DataError:
    path = DATA / "models" / f"{name}.safetensors"
    restore = how_to_restore(path, path.with_suffix(".json"))
    return DataError(
        f"data/models/{name}.safetensors is not the model of that name: {why}; {restore}"
    )
