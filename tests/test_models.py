"""The models: their shapes, their cards, and what a wrong input or a damaged file raises."""

import json
import shutil

import numpy as np
import pytest
import torch

from helpers import data, models

PARAMETERS = {
    "LeNet300": 266610,
    "LeNet5": 431080,
    "TinyCNN": 14634,
    "ResNet8": 77754,
    "SensorGRU": 4071,
    "SensorLSTM": 5351,
}


@pytest.mark.parametrize("name", models.NAMES)
def test_build(name):
    model = models.build(name)
    assert type(model).__name__ == name
    sensor = name.startswith("Sensor")
    x = torch.rand(2, 100, 6) if sensor else torch.rand(2, 1, 28, 28)
    assert model(x).shape == (2, 7 if sensor else 10)
    count = sum(p.numel() for p in model.parameters())
    assert count == PARAMETERS.get(name, count) and count <= 1_200_000
    again, other = models.build(name), models.build(name, seed=1)
    first = [next(m.parameters()).detach() for m in (model, again, other)]
    assert torch.equal(first[0], first[1]) and not torch.equal(first[0], first[2])


def test_build_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    models.build("TinyCNN")
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("function", [models.build, models.load, models.card])
def test_unknown_name(function):
    with pytest.raises(ValueError, match="unknown model 'ResNet9': choose one of LeNet300"):
        function("ResNet9")


def test_as_input():
    images = np.array([0, 51, 255], np.uint8).repeat(784).reshape(3, 28, 28)
    x = models.as_input(images)
    assert x.shape == (3, 1, 28, 28) and x.dtype == torch.float32
    assert (
        np.allclose(x[:, 0, 0, 0], [0, 0.2, 1], atol=0)
        and models.as_input(images[:0]).shape[0] == 0
    )


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int8, bool])
def test_as_input_refuses_other_dtypes(dtype):
    with pytest.raises(TypeError, match="uint8"):
        models.as_input(np.zeros((1, 28, 28), dtype))


@pytest.mark.parametrize("shape", [(28, 28), (1, 32, 32), (1, 1, 28, 28), (1, 28, 28, 1), (784,)])
def test_as_input_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"expected \[N, 28, 28\]"):
        models.as_input(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("name", models.NAMES)
def test_load_is_the_card(name):
    model, card = models.load(name), models.card(name)
    assert not model.training
    assert card["parameters"] == sum(p.numel() for p in model.parameters())
    assert card["test_accuracy"] == round(card["test_correct"] / card["test_total"], 4)


def test_mobilenet_knows_a_cat():
    from torchvision.models import MobileNet_V2_Weights

    weights = MobileNet_V2_Weights.IMAGENET1K_V1
    image = torch.tensor(data.photo("chelsea")).permute(2, 0, 1)
    with torch.inference_mode():
        best = models.mobilenet_v2()(weights.transforms()(image)[None]).argmax().item()
    assert weights.meta["categories"][best] == "Egyptian cat"


@pytest.fixture
def copied(tmp_path, monkeypatch):
    shutil.copytree(data.DATA / "models", tmp_path / "data" / "models")
    monkeypatch.setattr(data, "DATA", tmp_path / "data")
    monkeypatch.setattr(models, "DATA", tmp_path / "data")
    return tmp_path / "data" / "models"


def test_a_flipped_byte_in_a_model(copied):
    path = copied / "TinyCNN.safetensors"
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    with pytest.raises(data.DataError) as error:
        models.load("TinyCNN")
    for part in (
        "data/models/TinyCNN.safetensors",
        models.card("TinyCNN")["sha256"],
        "git checkout",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_card(copied, damage):
    path = copied / "TinyCNN.json"
    path.unlink() if damage == "missing" else path.write_text(path.read_text()[:40])
    with pytest.raises(data.DataError, match=r"data/models/TinyCNN\.json.*git checkout"):
        models.load("TinyCNN")


def test_a_missing_model(copied):
    (copied / "ResNet8.safetensors").unlink()
    with pytest.raises(data.DataError, match=r"data/models/ResNet8\.safetensors"):
        models.load("ResNet8")


def test_cards_hold_what_the_course_promises():
    promised = {
        "LeNet300": 0.895,
        "LeNet5": 0.915,
        "TinyCNN": 0.91,
        "ResNet8": 0.933,
        "WideResNet": 0.945,
        "SensorGRU": 0.80,
        "SensorLSTM": 0.80,
    }
    cards = {
        name: json.loads((data.DATA / "models" / f"{name}.json").read_text()) for name in promised
    }
    below = {n: c["test_accuracy"] for n, c in cards.items() if c["test_accuracy"] < promised[n]}
    assert not below
