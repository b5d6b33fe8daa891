"""The models that ship, by name: a new one, a trained one, and what its card says."""

from __future__ import annotations

import json

import torch
from torch import nn

from helpers.architectures import (
    LeNet5,
    LeNet300,
    ResNet8,
    SensorGRU,
    SensorLSTM,
    TinyCNN,
    WideResNet,
)
from helpers.arguments import one_of
from helpers.data import DATA, DataError, read_verified
from helpers.inputs import as_input  # noqa: F401  (a model and its input are imported together)
from helpers.qat import insert_quantizers

CLASSES = (LeNet300, LeNet5, TinyCNN, ResNet8, WideResNet, SensorGRU, SensorLSTM)


NAMES = tuple(model.__name__ for model in CLASSES)


QUANTIZED = (  # ResNet8 with quantizers, trained further
    *(f"ResNet8_{bits}bit" for bits in (8, 4, 3, 2)),
    *(f"ResNet8_{bits}bit_{run}" for bits in (4, 2) for run in ("lsq", "seed7", "lsq_seed7")),
)


SHIPPED = (*NAMES, *QUANTIZED, "MobileNetV2")


def build(name: str, seed: int = 0) -> nn.Module:
    """A new model by its name in NAMES, initialized from `seed`."""
    one_of("model", name, NAMES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLASSES[NAMES.index(name)]()


def card(name: str) -> dict:
    """What data/models/NAME.json says of a shipped model: recipe, seed, accuracies, SHA-256, ..."""
    one_of("model", name, SHIPPED)
    path = DATA / "models" / f"{name}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"data/models/{name}.json cannot be read ({error}); restore it with "
            f"`git checkout -- data/models/{name}.json` or train the model again with `make zoo`"
        ) from error


def weights(name: str) -> dict[str, torch.Tensor]:
    """The state_dict of a shipped model, checked against the SHA-256 on its card."""
    from safetensors.torch import load as parse

    return parse(read_verified(DATA / "models" / f"{name}.safetensors", card(name)["sha256"]))


def load(name: str) -> nn.Module:
    """A shipped, trained model by its name in NAMES or QUANTIZED, checked, in evaluation mode."""
    one_of("model", name, (*NAMES, *QUANTIZED))
    if name in QUANTIZED:
        model = insert_quantizers(build("ResNet8"), card(name)["recipe"]["bits"])
    else:
        model = build(name)
    model.load_state_dict(weights(name))
    return model.eval()


def mobilenet_v2() -> nn.Module:
    """torchvision's MobileNetV2 for 224x224 RGB images and 1,000 ImageNet classes, trained.

    The weights ship rounded to float16; they are computed with in float32.
    """
    from torchvision.models import mobilenet_v2 as network

    model = network()
    model.load_state_dict(weights("MobileNetV2"))
    return model.eval()
