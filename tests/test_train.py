"""Training: held to a loop written out here, and the errors for bad input."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from helpers import augment, data, machine, models, train, zoo


@pytest.fixture(scope="module")
def some():
    part = data.fashion_mnist("validation")
    return part.images[:300], part.labels[:300]


def test_fit_is_the_loop_written_out(some):
    """One epoch of plain SGD with a constant rate, against torch used directly."""
    images, labels = some
    model, reference = models.build("TinyCNN"), models.build("TinyCNN")
    history = train.fit(
        model, images, labels, epochs=1, lr=0.05, schedule="constant", weight_decay=1e-3, seed=4
    )
    reference.train().to(memory_format=torch.channels_last)
    update = torch.optim.SGD(
        reference.parameters(), 0.05, momentum=0.9, nesterov=True, weight_decay=1e-3
    )
    order = torch.randperm(300, generator=torch.Generator().manual_seed(4))
    losses = []
    for rows in order.split(64):
        x = models.as_input(images[rows.numpy()]).to(memory_format=torch.channels_last)
        loss = nn.functional.cross_entropy(reference(x), torch.tensor(labels)[rows])
        update.zero_grad()
        loss.backward()
        update.step()
        losses.append(loss.item() * len(rows))
    for a, b in zip(model.state_dict().values(), reference.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert history.loss == [pytest.approx(sum(losses) / 300, abs=1e-6)]
    assert not model.training


def test_same_seed_same_weights_and_callbacks(some):
    calls = []

    def run(seed):
        model = models.build("TinyCNN")
        note = lambda _, step, steps: calls.append((step, steps))  # noqa: E731
        options = dict(epochs=2, lr=0.02, augment=augment.flip_and_shift, callbacks=[note])
        history = train.fit(model, *some, seed=seed, validation=some, **options)
        return model[0].weight.detach(), history

    (first, history), (second, _), (third, _) = run(0), run(0), run(1)
    assert torch.equal(first, second) and not torch.equal(first, third)
    assert calls[:10] == [(step, 10) for step in range(1, 11)]
    assert len(history.loss) == len(history.seconds) == len(history.validation_accuracy) == 2
    assert history.loss[1] < history.loss[0]


def test_one_cycle_warms_up_and_ends_at_zero(some):
    model = models.build("LeNet300")
    rates = train.fit(model, *some, epochs=10, lr=0.02, optimizer="adam").learning_rate
    assert max(rates) == pytest.approx(0.02, rel=0.05) and rates.index(max(rates)) == 1
    assert rates[-1] < 0.002 and rates[0] < 0.005


def test_soft_targets_and_windows():
    part = data.watch("validation")
    targets = torch.eye(7)[part.labels[:64]]
    model = models.build("SensorGRU")
    train.fit(model, part.windows[:64], targets, epochs=1, lr=0.01, optimizer="adam")
    assert train.predict(model, part.windows[:5]).shape == (5, 7)


def test_flip_and_shift_moves_and_mirrors_whole_images():
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(200, 1, 28, 28)
    x[:, 0, 10, 5] = 1
    y = augment.flip_and_shift(x, generator)
    assert y.shape == x.shape and torch.equal(y.sum((1, 2, 3)), torch.ones(200))
    n, _, rows, columns = y.nonzero(as_tuple=True)
    assert len(n) == 200
    assert set(rows.tolist()) == set(range(8, 13))
    assert set(columns.tolist()) == set(range(3, 8)) | set(range(20, 25))


def test_predict_does_not_depend_on_the_batch(some):
    model = models.build("TinyCNN")
    whole = train.predict(model, some[0])
    parts = train.predict(model, some[0], batch_size=7)
    assert whole.dtype == np.float32 and np.allclose(whole, parts, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (dict(epochs=0), ValueError, "epochs 0"),
        (dict(batch_size=0), ValueError, "batch_size 0"),
        (dict(optimizer="rmsprop"), ValueError, "choose sgd or adam"),
        (dict(schedule="step"), ValueError, "choose one_cycle or constant"),
        (dict(lr=1e6), FloatingPointError, "lower lr"),
    ],
)
def test_fit_refuses(some, change, error, words):
    with pytest.raises(error, match=words):
        train.fit(models.build("LeNet300"), *some, **dict(epochs=2, lr=0.1) | change)


def test_fit_refuses_other_inputs(some):
    images, labels = some
    model = models.build("TinyCNN")
    with pytest.raises(ValueError, match="300 images, 299 labels"):
        train.fit(model, images, labels[1:], epochs=1)
    with pytest.raises(TypeError, match="uint8 images or float32 windows"):
        train.fit(model, images.astype(float), labels, epochs=1)


def test_accuracy():
    logits = np.eye(4)[[0, 1, 2, 3]]
    assert train.accuracy(logits, np.array([0, 1, 2, 0])) == 0.75
    with pytest.raises(ValueError, match="expected"):
        train.accuracy(logits.argmax(1), np.array([0, 1, 2, 0]))


def test_a_recipe_writes_a_model_and_its_card(tmp_path, monkeypatch, some):
    monkeypatch.setattr(zoo, "splits", lambda name: (some, some, some))
    card = zoo.train("TinyCNN", tmp_path, epochs=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["TinyCNN.json", "TinyCNN.safetensors"]
    monkeypatch.setattr(models, "DATA", tmp_path.parent)
    tmp_path.rename(tmp_path.parent / "models")
    model = models.load("TinyCNN")
    assert train.accuracy(train.predict(model, some[0]), some[1]) == card["test_accuracy"]
    with pytest.raises(ValueError, match="no recipe for 'VGG'"):
        zoo.train("VGG", tmp_path)


def test_every_model_has_a_recipe():
    assert tuple(zoo.RECIPES) == (*models.NAMES, *models.QUANTIZED)


def test_move_watch_keeps_what_a_motion_is():
    """Without strength only the mirror is left; a turn keeps lengths, and the sensors together."""
    x = torch.randn(64, 100, 6, generator=torch.Generator().manual_seed(0))
    still = dict(tilt=0.0, loudness=0.0, tempo=0.0, shift=0.0)
    same = augment.move_watch(x, torch.Generator().manual_seed(1), **still)
    mirror = torch.tensor([-1.0, 1, 1, 1, -1, -1])
    plain, mirrored = ((same - y).abs().amax((1, 2)) < 1e-4 for y in (x, x * mirror))
    assert (plain ^ mirrored).all() and 10 < plain.sum() < 54
    turned = augment.move_watch(x, torch.Generator().manual_seed(2), **still | dict(tilt=0.5))
    for part in (slice(0, 3), slice(3, 6)):
        lengths = turned[..., part].norm(dim=2), x[..., part].norm(dim=2)
        assert torch.allclose(*lengths, atol=1e-4)
    angle = [(y[..., :3] * y[..., 3:]).sum(2).abs() for y in (turned, x)]
    assert torch.allclose(*angle, atol=1e-3)
    again = [augment.move_watch(x, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*again) and again[0].shape == x.shape


def test_half_of_the_images_are_moved():
    x = models.as_input(data.fashion_mnist("validation").images[:400])
    before = x.clone()
    y = augment.half_moved(x, torch.Generator().manual_seed(0))
    changed = (y != x).flatten(1).any(1).float().mean().item()
    assert torch.equal(x, before) and 0.35 < changed < 0.6
    assert torch.equal(y, augment.half_moved(x, torch.Generator().manual_seed(0)))


def test_averaged_weights_are_the_mean_with_fresh_statistics():
    images = data.fashion_mnist("validation").images[:500]
    models_ = [models.build("TinyCNN", seed) for seed in (0, 1)]
    states = [{k: v.clone() for k, v in m.state_dict().items()} for m in models_]
    model = models.build("TinyCNN", 2)
    zoo.average_weights(model, states, images)
    weight = (states[0]["0.weight"] + states[1]["0.weight"]) / 2
    torch.testing.assert_close(model[0].weight.detach(), weight)
    maps = torch.nn.functional.conv2d(models.as_input(images), weight, padding=1)
    torch.testing.assert_close(model[1].running_mean, maps.mean((0, 2, 3)), atol=1e-4, rtol=1e-3)
    assert not model.training


def test_a_recipe_can_average_its_last_rounds(tmp_path, monkeypatch):
    part = data.fashion_mnist("validation")
    some = part.images[:300], part.labels[:300]
    monkeypatch.setattr(zoo, "splits", lambda name: (some, some, some))
    rounds = [dict(seed=1, augment=augment.half_moved), dict(seed=2)]
    card = zoo.train("TinyCNN", tmp_path, epochs=1, then=rounds, average=2)
    assert card["recipe"]["then"][0]["augment"] == "half_moved"
    assert card["validation_accuracy"] == card["test_accuracy"]


def test_side_by_side_is_one_after_the_other(some):
    """Training, too: the same weights, in the order of the jobs, and the caller's threads stay."""

    start = models.build("TinyCNN")

    def trained(seed):
        model = copy.deepcopy(start)
        train.fit(model, *some, epochs=1, lr=0.05, seed=seed)
        return train.predict(model, some[0][:50]), torch.get_num_threads()

    before = torch.get_num_threads()
    jobs = {"a": 3, "b": 4, "c": 5}
    together = machine.side_by_side(trained, jobs)
    assert torch.get_num_threads() == before
    assert list(together) == ["a", "b", "c"]
    torch.set_num_threads(1)
    try:
        for key, (logits, threads) in together.items():
            assert threads == 1
            assert np.array_equal(logits, trained(jobs[key])[0])
    finally:
        torch.set_num_threads(before)
    with pytest.raises(ZeroDivisionError):
        machine.side_by_side(lambda job: 1 / job, {"bad": 0})
