"""The recipes: each leads to a model and a card that load again. They train for less time here."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from helpers import augment, codec, data, inputs, models, qat, train, zoo
from helpers.train import History


@pytest.fixture(scope="module")
def some():
    part = data.fashion_mnist("validation")
    return part.images[:128], part.labels[:128]


@pytest.fixture
def models_folder(tmp_path, monkeypatch, some):
    """Models are trained on 128 images, tested on 100 of them, and loaded from a new folder."""
    few = some[0][:100], some[1][:100]
    monkeypatch.setattr(zoo, "splits", lambda name: (some, some, few))
    monkeypatch.setattr(models, "DATA", tmp_path)
    monkeypatch.setattr(data, "DATA", tmp_path)
    return tmp_path / "models"


def test_every_model_has_a_recipe():
    assert tuple(zoo.RECIPES) == models.SHIPPED[:-1]


def test_every_compressed_model_has_a_recipe():
    assert tuple(zoo.COMPRESSED) == models.COMPRESSED


@pytest.mark.parametrize("name", zoo.COMPRESSED)
def test_a_card_tells_how_a_file_was_made(name):
    recipe = json.loads(json.dumps(zoo.told(zoo.COMPRESSED[name])))
    assert models.card(name)["recipe"] == recipe


@pytest.mark.parametrize("name", zoo.RECIPES)
def test_a_card_tells_the_recipe_that_made_its_model(name):
    recipe = json.loads(json.dumps(zoo.told(zoo.RECIPES[name])))
    assert models.card(name)["recipe"] == recipe


def test_a_recipe_writes_a_model_and_its_card(models_folder, some):
    card = zoo.train("TinyCNN", models_folder, epochs=1)
    files = ["TinyCNN.json", "TinyCNN.safetensors"]
    assert sorted(p.name for p in models_folder.iterdir()) == files
    written = json.loads((models_folder / "TinyCNN.json").read_text())
    assert written == card and card["recipe"]["epochs"] == 1 and card["recipe"]["lr"] == 0.1
    model = models.load("TinyCNN")
    logits = train.predict(model, some[0])
    assert card["validation_accuracy"] == round(train.accuracy(logits, some[1]), 4)
    correct = int((logits.argmax(1) == some[1])[:100].sum())
    assert (card["test_correct"], card["test_total"], card["trained_on"]) == (correct, 100, 128)
    assert card["test_accuracy"] == correct / 100 and card["parameters"] == 14634
    assert card["data"] == "fashion_mnist" and card["torch"] == torch.__version__


def test_the_same_recipe_gives_the_same_model(models_folder):
    first = zoo.train("LeNet300", models_folder, epochs=1)
    again = zoo.train("LeNet300", models_folder, epochs=1)
    other = zoo.train("LeNet300", models_folder, epochs=1, seed=1)
    assert first == again and first["sha256"] != other["sha256"]


@pytest.mark.parametrize(("name", "bits", "how"), [("4bit", 4, "mse"), ("2bit_lsq", 2, "lsq")])
def test_a_quantized_model_starts_from_resnet8(models_folder, monkeypatch, some, name, bits, how):
    """Its steps are started before training, and trained with the weights."""
    begun = []

    def noted(model, images, start):
        qat.start_steps(model, images, start)
        begun.append((len(images), start, {k: v.clone() for k, v in model.state_dict().items()}))

    monkeypatch.setattr(zoo, "load", models.build)
    monkeypatch.setattr(zoo, "start_steps", noted)
    card = zoo.train(f"ResNet8_{name}", models_folder, epochs=1, then=[])
    ((count, start, before),) = begun
    assert (count, start, card["recipe"]["bits"]) == (128, how, bits)
    after = models.load(f"ResNet8_{name}").state_dict()
    assert after.keys() == before.keys()
    steps = [key for key in after if key.endswith("step")]
    assert steps and all((after[key] != before[key]).any() for key in steps)
    assert torch.equal(before["0.layer.weight"], models.build("ResNet8")[0].weight)


def test_a_round_changes_what_it_says_and_goes_on_from_the_last(models_folder, some):
    """Two rounds by recipe are two calls of fit."""
    options = dict(optimizer="sgd", schedule="one_cycle", batch_size=64, weight_decay=1e-4)
    model = models.build("LeNet300", 0)
    train.fit(model, *some, epochs=1, lr=0.05, seed=0, **options)
    history = train.fit(model, *some, epochs=2, lr=0.01, seed=5, **options)
    card = zoo.train("LeNet300", models_folder, epochs=1, then=[dict(seed=5, epochs=2, lr=0.01)])
    for key, value in models.weights("LeNet300").items():
        assert torch.equal(value, model.state_dict()[key])
    assert card["final_training_loss"] == round(history.loss[-1], 4)


def test_a_recipe_can_store_half_of_the_bytes(models_folder, some):
    card = zoo.train("TinyCNN", models_folder, epochs=1, stored="float16")
    kept = models.weights("TinyCNN")
    assert kept["0.weight"].dtype == torch.float16 and card["recipe"]["stored"] == "float16"
    model = models.build("TinyCNN")
    model.load_state_dict(kept)
    logits = train.predict(model, some[0])
    assert card["validation_accuracy"] == round(train.accuracy(logits, some[1]), 4)


def test_a_recipe_can_average_its_last_rounds(models_folder, some):
    rounds = [dict(seed=1, augment=augment.half_moved), dict(seed=2)]
    card = zoo.train("TinyCNN", models_folder, epochs=1, then=rounds, average=2)
    assert card["recipe"]["then"][0]["augment"] == "half_moved"
    averaged = models.weights("TinyCNN")
    zoo.train("TinyCNN", models_folder, epochs=1, then=rounds[:1])
    second = models.weights("TinyCNN")
    zoo.train("TinyCNN", models_folder, epochs=1, then=rounds)
    third = models.weights("TinyCNN")
    expected = (second["0.weight"].double() + third["0.weight"]) / 2
    assert torch.equal(averaged["0.weight"], expected.float())
    model = models.build("TinyCNN")
    model.load_state_dict(averaged)
    logits = train.predict(model, some[0])
    assert card["validation_accuracy"] == round(train.accuracy(logits, some[1]), 4)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_averaged_weights_are_the_mean_with_fresh_statistics(count):
    images = data.fashion_mnist("validation").images[:500]
    states = [models.build("TinyCNN", seed).state_dict() for seed in range(count)]
    model = models.build("TinyCNN", 9)
    zoo.average_weights(model, states, images)
    library = AveragedModel(models.build("TinyCNN", 0))
    for seed in range(count):
        library.update_parameters(models.build("TinyCNN", seed))
    for ours, theirs in zip(model.parameters(), library.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-6)
    maps = nn.functional.conv2d(inputs.as_input(images), model[0].weight, padding=1)
    torch.testing.assert_close(model[1].running_mean, maps.mean((0, 2, 3)), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(
        model[1].running_var,
        torch.stack([m.var((0, 2, 3)) for m in maps.split(250)]).mean(0),
        atol=1e-4,
        rtol=1e-3,
    )
    assert not model.training and model[1].momentum == 0.1
    assert model[1].num_batches_tracked == 2


def test_a_card_tells_functions_by_their_names():
    recipe = {"loss": zoo.smoothed_cross_entropy, "then": ({"augment": None}, [1, "x"]), "lr": 0.1}
    assert zoo.told(recipe) == {
        "loss": "smoothed_cross_entropy",
        "then": [{"augment": None}, [1, "x"]],
        "lr": 0.1,
    }


def test_smoothed_labels_are_soft_targets_of_nine_tenths():
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 0])
    soft = 0.9 * torch.eye(4)[labels] + 0.1 / 4
    expected = -(soft * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(zoo.smoothed_cross_entropy(logits, labels), expected)


def test_a_card_of_a_model_that_answers_nan_is_not_written(models_folder):
    model = models.build("LeNet300")
    nn.init.constant_(model[5].bias, float("nan"))
    history = History(loss=[1.0], validation_accuracy=[0.5])
    with pytest.raises(ValueError, match="NaN"):
        zoo.publish("LeNet300", model, {}, history, models_folder, b"")
    assert not models_folder.exists()


@pytest.mark.parametrize("name", ["LeNet300_deep", "LeNet300_dense"])
def test_a_network_is_compressed_written_and_read(models_folder, monkeypatch, some, name):
    monkeypatch.setattr(zoo, "load", models.build)
    card = zoo.train_compressed(name, models_folder, epochs=1, then=[dict(seed=1)])
    again = zoo.train_compressed(name, models_folder, epochs=1, then=[dict(seed=1)])
    assert card == again and card["recipe"]["then"] == [{"seed": 1}]
    assert sorted(p.name for p in models_folder.iterdir()) == [f"{name}.dc", f"{name}.json"]
    model = models.build(name.split("_")[0])
    model.load_state_dict(codec.decode(models.compressed(name)))
    assert card["parameters"] == sum(p.numel() for p in model.parameters())
    correct = int((train.predict(model, some[0][:100]).argmax(1) == some[1][:100]).sum())
    assert (card["test_correct"], card["test_total"]) == (correct, 100)
    zeros = [float((w == 0).float().mean()) for n, w in model.named_parameters() if w.ndim > 1]
    assert all(zeros) != (name == "LeNet300_dense")


def test_an_unknown_recipe_lists_the_others(tmp_path):
    with pytest.raises(ValueError, match="unknown recipe 'VGG': choose one of LeNet300, LeNet5"):
        zoo.train("VGG", tmp_path)
    with pytest.raises(ValueError, match="unknown recipe 'LeNet300': choose one of LeNet300_deep"):
        zoo.train_compressed("LeNet300", tmp_path)


@pytest.mark.parametrize("name", ["ResNet8_2bit_lsq", "SensorGRU"])
def test_splits_keep_the_test_set_apart(name):
    fitting, validation, test = zoo.splits(name)
    if name.startswith("Sensor"):
        assert fitting[0].shape[1:] == (100, 6)
        expected = [data.watch(s) for s in ("train", "validation", "test")]
        arrays = [s.windows for s in expected]
    else:
        expected = [data.fashion_mnist(s) for s in ("fit", "validation", "test")]
        arrays = [s.images for s in expected]
    for (x, y), array, part in zip((fitting, validation, test), arrays, expected, strict=True):
        assert np.array_equal(x, array) and np.array_equal(y, part.labels)


def test_a_sensor_model_is_known_by_its_data(models_folder, monkeypatch):
    rng = np.random.default_rng(0)
    few = rng.normal(size=(20, 100, 6)).astype(np.float32), np.arange(20) % 7
    monkeypatch.setattr(zoo, "splits", lambda name: (few, few, few))
    card = zoo.train("SensorGRU", models_folder, epochs=1)
    assert card["data"] == "watch" and card["recipe"]["augment"] == "move_watch"


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "card.json"
    path.write_bytes(b"old")
    zoo.replace_file(path, b"new")
    assert path.read_bytes() == b"new" and [p.name for p in tmp_path.iterdir()] == ["card.json"]


@pytest.mark.parametrize("chosen", ["readers", "random", "new"])
def test_a_smaller_network_keeps_what_the_recipe_says(chosen):
    model, keep = models.load("ResNet8"), {"3.body.0": 5, "5.body.0": 40}
    small = zoo.smaller(model, keep, chosen, 0)
    assert [small[i].body[0].out_channels for i in (3, 4, 5)] == [5, 32, 40]
    again, other = (zoo.smaller(model, keep, chosen, seed) for seed in (0, 1))
    first = [m.state_dict()["3.body.0.weight"] for m in (small, again, other)]
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[0], first[2]) == (chosen == "readers")
    old = model.state_dict()["3.body.0.weight"]
    kept = [any(torch.equal(row, w) for w in old) for row in first[0]]
    assert all(kept) if chosen != "new" else not any(kept)


def test_the_filters_that_are_read_most_stay():
    model = models.load("ResNet8")
    read = model[3].body[3].weight.detach().abs().sum((0, 2, 3))
    best = sorted(sorted(range(16), key=lambda i: -read[i])[:3])
    small = zoo.smaller(model, {"3.body.0": 3}, "readers", 0)
    assert torch.equal(small[3].body[0].weight, model[3].body[0].weight[best])


def test_a_smaller_model_is_trained_written_and_loaded(models_folder, monkeypatch, some):
    monkeypatch.setattr(zoo, "load", models.build)
    card = zoo.train("ResNet8_half", models_folder, epochs=1, then=[])
    model = models.load("ResNet8_half")
    assert card["recipe"]["keep"] == {"3.body.0": 8, "4.body.0": 16, "5.body.0": 28}
    assert sum(p.numel() for p in model.parameters()) == card["parameters"] == 37314
    correct = (train.predict(model, some[0][:100]).argmax(1) == some[1][:100]).sum()
    assert card["test_correct"] == correct


def test_a_student_is_trained_on_the_answers_of_its_teacher(models_folder, monkeypatch, some):
    monkeypatch.setattr(zoo, "load", models.build)
    states = []
    for T, alpha in ((4.0, 0.9), (4.0, 0.0), (1.0, 0.0)):
        changes = dict(teacher="WideResNet", T=T, alpha=alpha, epochs=1, then=[])
        card = zoo.train("ResNet8_half_scratch", models_folder, **changes)
        states.append(models.load("ResNet8_half_scratch").state_dict())
    assert card["recipe"]["teacher"] == "WideResNet"
    assert all(torch.equal(states[1][key], value) for key, value in states[2].items())
    assert any(not torch.equal(states[1][key], value) for key, value in states[0].items())


def test_copies_are_mirrored_and_shifted_and_the_teacher_answers_to_them(monkeypatch, some):
    images, labels = some[0][:20], some[1][:20]
    sets = zoo.with_copies(images, labels, 2)
    assert np.array_equal(sets[0][0], images) and len(sets) == 3
    assert not np.array_equal(sets[1][0], sets[2][0])
    for moved, same in sets[1:]:
        assert moved.dtype == np.uint8 and np.array_equal(same, labels)
        for image, copy in zip(images, moved, strict=True):
            places = [np.pad(side, 2) for side in (image, image[:, ::-1])]
            shifts = [p[r : r + 28, c : c + 28] for p in places for r in range(5) for c in range(5)]
            assert any(np.array_equal(copy, shift) for shift in shifts)
    monkeypatch.setattr(zoo, "load", models.build)
    recipe = dict(teacher="WideResNet", T=4.0, alpha=0.9, copies=2)
    shown, rows, loss = zoo.taught(recipe, images, labels)
    answers = train.predict(models.build("WideResNet"), shown)
    assert np.array_equal(shown, np.concatenate([part for part, _ in sets])) and "loss" in loss
    np.testing.assert_allclose(rows[:, :10], answers, rtol=1e-5, atol=1e-5)
    assert np.array_equal(rows[:, 10], np.tile(labels, 3))


@pytest.mark.parametrize("keep", [None, {"3.body.0": 17}, {"3.body.0": 0}, {"nowhere": 1}, [8]])
def test_a_card_that_does_not_say_which_filters_stay(models_folder, monkeypatch, keep):
    monkeypatch.setattr(zoo, "load", models.build)
    zoo.train("ResNet8_half", models_folder, epochs=1, then=[])
    path = models_folder / "ResNet8_half.json"
    card = json.loads(path.read_text())
    card["recipe"]["keep"] = keep
    del card["card_sha256"]
    card["card_sha256"] = models.fingerprint(card)
    path.write_text(json.dumps(card))
    with pytest.raises(data.DataError, match="ResNet8_half.json does not say which network"):
        models.load("ResNet8_half")
