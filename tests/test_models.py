"""The models: their shapes, their cards, and what a wrong input or a damaged file raises."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from test_data import DAMAGES, damage

from helpers import codec, data, inputs, models, ptq

PARAMETERS = {
    "LeNet300": 266610,
    "LeNet5": 431080,
    "TinyCNN": 14634,
    "ResNet8": 77754,
    "SensorGRU": 4071,
    "SensorLSTM": 5351,
}


@pytest.mark.parametrize("name", (*models.NAMES, *models.FOUND))
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


def test_a_model_and_its_input_are_imported_together():
    assert models.as_input is inputs.as_input


@pytest.mark.parametrize("seed", [-1, 1.5, True, None, 2**63])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises((ValueError, TypeError), match="seed is .* whole number, 0 to"):
        models.build("TinyCNN", seed)


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), 2**63 - 1])
def test_a_seed_of_any_integer_type(seed):
    first, again = models.build("LeNet300", seed), models.build("LeNet300", int(seed))
    assert torch.equal(first[1].weight, again[1].weight)


@pytest.mark.parametrize("name", (*models.NAMES, *models.FOUND))
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


SHIPPED_DATA = data.DATA
NAME = "TinyCNN"
QUANTIZED = "ResNet8_4bit"


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A folder with three models, which tests may damage."""
    folder = tmp_path / "data" / "models"
    folder.mkdir(parents=True)
    for name in (NAME, QUANTIZED, "MobileNetV2"):
        for path in (data.DATA / "models").glob(f"{name}.*"):
            shutil.copy(path, folder)
    monkeypatch.setattr(data, "DATA", tmp_path / "data")
    monkeypatch.setattr(models, "DATA", tmp_path / "data")
    return folder


def say(folder, model, /, **changed):
    """Change entries of a card (None: take it out), as somebody who also seals it again would."""
    path = folder / f"{model}.json"
    card = json.loads(path.read_text()) | changed
    card = {k: v for k, v in card.items() if v is not None and k != "card_sha256"}
    path.write_text(json.dumps(card | {"card_sha256": models.fingerprint(card)}))


def store(folder, name, content):
    """Write the weights, and their SHA-256 on the card."""
    (folder / f"{name}.safetensors").write_bytes(content)
    say(folder, name, sha256=hashlib.sha256(content).hexdigest())


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
        "git checkout -- data/models/TinyCNN.safetensors data/models/TinyCNN.json",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("name", [NAME, QUANTIZED])
@given(damaged=damage())
@settings(DAMAGES, max_examples=25)
def test_damaged_weights_are_noticed(copied, name, damaged):
    path = copied / f"{name}.safetensors"
    intact = path.read_bytes()
    try:
        path.write_bytes(damaged(intact))
        if path.read_bytes() != intact:
            with pytest.raises(data.DataError, match=f"data/models/{name}.safetensors is damaged"):
                models.load(name)
    finally:
        path.write_bytes(intact)


@given(damaged=damage())
@settings(DAMAGES, max_examples=40)
def test_damaged_weights_that_the_card_agrees_with_are_noticed_or_are_a_model(copied, damaged):
    path, card = copied / f"{NAME}.safetensors", copied / f"{NAME}.json"
    intact, written = path.read_bytes(), card.read_bytes()
    try:
        store(copied, NAME, damaged(intact))
        try:
            found = models.load(NAME).state_dict()
            assert all(v.isfinite().all() for v in found.values())
        except data.DataError as error:
            assert f"data/models/{NAME}.safetensors is not the model" in str(error)
            assert "restore both with `git checkout -- data/models/TinyCNN.s" in str(error)
    finally:
        path.write_bytes(intact)
        card.write_bytes(written)


def change(weights, kind):
    first = next(k for k, v in weights.items() if v.ndim and v.is_floating_point())
    tensor = weights[first]
    if kind == "missing":
        del weights[first]
    else:
        weights |= {
            "more": {"another": torch.zeros(1)},
            "shape": {first: tensor[:-1].contiguous()},
            "NaN": {first: torch.full_like(tensor, float("nan"))},
            "one infinity": {first: torch.where(tensor == tensor.max(), float("inf"), tensor)},
        }[kind]
    return weights


@pytest.mark.parametrize("name", [NAME, QUANTIZED, "MobileNetV2"])
@pytest.mark.parametrize("kind", ["missing", "more", "shape", "NaN", "one infinity"])
def test_weights_of_another_network_are_no_model(copied, name, kind):
    store(copied, name, save(change(models.weights(name), kind)))
    load = models.mobilenet_v2 if name == "MobileNetV2" else lambda: models.load(name)
    with pytest.raises(data.DataError, match=f"data/models/{name}.safetensors is not the model of"):
        load()


@pytest.mark.parametrize("content", [b"", b"x", bytes(8), b"\xff" * 100, save({})])
def test_what_is_not_safetensors_is_no_model(copied, content):
    store(copied, NAME, content)
    with pytest.raises(data.DataError, match="TinyCNN.safetensors is not the model of that name"):
        models.load(NAME)


def test_weights_in_half_precision_are_taken(copied):
    halves = {k: v.half() if v.is_floating_point() else v for k, v in models.weights(NAME).items()}
    store(copied, NAME, save(halves))
    model = models.load(NAME)
    assert model[0].weight.dtype == torch.float32
    assert torch.equal(model[0].weight, halves["0.weight"].float())


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_card(copied, damage):
    path = copied / "TinyCNN.json"
    path.unlink() if damage == "missing" else path.write_text(path.read_text()[:40])
    with pytest.raises(data.DataError, match=r"data/models/TinyCNN\.json.*git checkout"):
        models.load("TinyCNN")


NOT_CARDS = (
    b"",
    b"[1]",
    b"null",
    b"{}",
    b"3",
    b'"card"',
    b"true",
    b"\xff\xfe{}",
    b"\xef\xbb\xbf{}",
    "é".encode("latin-1"),
    b"[" * 200_000,
    b"<<<<<<< HEAD\n{}",
    b"version https://git-lfs.github.com/spec/v1\n",
)


@pytest.mark.parametrize("content", NOT_CARDS, ids=lambda content: repr(content[:12]))
def test_what_is_no_card(copied, content):
    (copied / f"{NAME}.json").write_bytes(content)
    for function in (models.card, models.weights, models.load):
        with pytest.raises(data.DataError, match=r"data/models/TinyCNN.json .*`make zoo`"):
            function(NAME)


ENTRIES = ("name", "recipe", "data", "parameters", "sha256")
MEASURED = ("trained_on", "final_training_loss", "validation_accuracy", "test_accuracy")
MEASURED += ("test_correct", "test_total", "torch")


@pytest.mark.parametrize("key", (*ENTRIES[1:], *MEASURED))
@pytest.mark.parametrize("value", [None, True, [1], {}, 1.5, 7, "text"], ids=repr)
def test_an_entry_of_a_card_has_its_type(copied, key, value):
    before = models.card(NAME)
    kinds = (dict, str) if key == "recipe" else type(before[key])
    say(copied, NAME, **{key: value})
    if isinstance(value, kinds) and value is not True:
        assert models.card(NAME) == before | {key: value}
    else:
        with pytest.raises(data.DataError, match=f"TinyCNN.json says .* for {key}; restore it"):
            models.card(NAME)


def test_a_card_of_another_model_or_with_other_entries(copied):
    say(copied, NAME, name="ResNet8")
    with pytest.raises(data.DataError, match="TinyCNN.json is of ResNet8"):
        models.card(NAME)
    say(copied, NAME, name=NAME, licence="MIT")
    assert models.card(NAME)["licence"] == "MIT"
    say(copied, NAME, remark="more")
    with pytest.raises(data.DataError, match="unknown entries .'remark'"):
        models.card(NAME)


def test_what_is_known_of_a_model_trained_elsewhere(copied):
    assert models.card("MobileNetV2")["parameters"] == 3504872
    for key in ENTRIES:
        with pytest.raises(data.DataError, match=f"MobileNetV2.json says None for {key}"):
            say(copied, "MobileNetV2", **{key: None})
            models.card("MobileNetV2")
        shutil.copy(SHIPPED_DATA / "models" / "MobileNetV2.json", copied)


@pytest.mark.parametrize(
    "recipe", [{}, {"bits": None}, {"bits": "4"}, {"bits": 4.0}, {"bits": 1}, {"bits": 9}, "4"]
)
def test_a_quantized_model_has_bits(copied, recipe):
    say(copied, QUANTIZED, recipe=recipe)
    with pytest.raises(data.DataError, match="4bit.json does not say which network.*git checkout"):
        models.load(QUANTIZED)


def test_a_card_may_be_laid_out_in_another_way(copied):
    path, before = copied / f"{NAME}.json", models.card(NAME)
    say(copied, NAME)
    card = json.loads(path.read_text())
    for text in (
        json.dumps(dict(reversed(card.items())), indent=1),
        json.dumps(card, indent=2).replace("\n", "\r\n"),
    ):
        path.write_bytes(text.encode())
        assert models.card(NAME) == before and models.load(NAME)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(data_=st.data())
@settings(DAMAGES, max_examples=80)
def test_a_sealed_card_that_is_damaged_says_what_it_said_or_nothing(copied, data_):
    """Flipped, cut or inserted bytes, entries replaced, taken out or added."""
    path = copied / f"{NAME}.json"
    say(copied, NAME)
    intact, expected = path.read_bytes(), models.card(NAME)
    if data_.draw(st.booleans()):
        path.write_bytes(data_.draw(damage())(intact))
    else:
        card = json.loads(intact)
        key = data_.draw(st.sampled_from(sorted(card)) | st.text(max_size=5))
        if data_.draw(st.booleans()):
            card[key] = data_.draw(JSON)
        else:
            card.pop(key, None)
        path.write_text(json.dumps(card))
    try:
        assert models.card(NAME) == expected
    except data.DataError as error:
        assert "data/models/TinyCNN.json" in str(error) and "git checkout -- " in str(error)
    finally:
        path.write_bytes(intact)


@pytest.mark.parametrize("key", ["test_accuracy", "test_correct", "torch", "recipe"])
def test_a_changed_number_breaks_the_seal(copied, key):
    say(copied, NAME)
    path = copied / f"{NAME}.json"
    card = json.loads(path.read_text())
    changed = {"test_accuracy": 0.99, "test_correct": 9900, "torch": "3", "recipe": {"seed": 1}}
    path.write_text(json.dumps(card | {key: changed[key]}))
    with pytest.raises(data.DataError, match="TinyCNN.json was changed after it was written"):
        models.card(NAME)
    path.write_text(json.dumps(card | {"card_sha256": "0" * 64}))
    with pytest.raises(data.DataError, match="TinyCNN.json was changed after it was written"):
        models.card(NAME)
    cut = json.dumps(card).replace(f'{card["torch"]}", "card_sha256": "', "")  # a piece is lost
    assert json.loads(cut).keys() == card.keys() - {"card_sha256"}
    path.write_text(cut)
    with pytest.raises(data.DataError, match="TinyCNN.json was changed after it was written"):
        models.card(NAME)


@given(st.dictionaries(st.text(), JSON), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=50)
def test_a_fingerprint_is_of_what_is_said_not_of_its_order(card, random):
    items = list(card.items())
    random.shuffle(items)
    assert models.fingerprint(dict(items)) == models.fingerprint(card)
    assert models.fingerprint(card | {"more": 1}) != models.fingerprint(card | {"more": 2})


@pytest.mark.parametrize("name", models.COMPRESSED)
def test_a_compressed_file_is_the_network_of_its_card(name):
    model, file = ptq.fold(models.build(name.split("_")[0])), models.compressed(name)
    model.load_state_dict(codec.decode(file))
    card = models.card(name)
    assert card["parameters"] == sum(p.numel() for p in model.parameters())
    assert hashlib.sha256(file).hexdigest() == card["sha256"]
    assert codec.encode(model) == file


@pytest.mark.parametrize("content", [None, b"", b"EDGEDC"])
def test_a_damaged_compressed_file(copied, content):
    for path in (SHIPPED_DATA / "models").glob("LeNet300_deep.*"):
        shutil.copy(path, copied)
    path = copied / "LeNet300_deep.dc"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(data.DataError, match=r"git checkout -- data/models/LeNet300_deep\.dc"):
        models.compressed("LeNet300_deep")


def test_only_compressed_models_are_files_of_the_codec():
    with pytest.raises(ValueError, match="unknown model 'LeNet300': choose one of LeNet300_deep"):
        models.compressed("LeNet300")


def test_a_missing_model(copied):
    (copied / "TinyCNN.safetensors").unlink()
    with pytest.raises(data.DataError, match=r"data/models/TinyCNN\.safetensors cannot be read"):
        models.load("TinyCNN")


@pytest.mark.parametrize("name", models.QUANTIZED)
def test_quantized_models_load_with_the_bits_of_their_name(name):
    model = models.load(name)
    bits = int(name.split("_")[1].removesuffix("bit"))
    assert (
        not model.training and model[2].bits == bits and models.card(name)["recipe"]["bits"] == bits
    )


@pytest.mark.parametrize("name", models.BOTH)
def test_half_networks_of_few_bits_load(name):
    model, card = models.load(name), models.card(name)
    kept = [model[4].body[0].layer.out_channels, model[5].body[0].layer.out_channels]
    assert kept == [16, 28] and model[2].bits == card["recipe"]["bits"]
    assert models.card(card["recipe"]["model"])["parameters"] < card["parameters"] < 38_000


@pytest.mark.parametrize("name", ["MobileNetV2", *models.QUANTIZED[:1]])
def test_only_some_names_can_be_built_or_loaded(name):
    with pytest.raises(ValueError, match="unknown model"):
        models.build(name)
    if name == "MobileNetV2":
        with pytest.raises(ValueError, match="unknown model"):
            models.load(name)


def test_loading_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    models.load(QUANTIZED)
    models.mobilenet_v2()
    assert torch.equal(torch.get_rng_state(), before)


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
