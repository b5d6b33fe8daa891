"""Training: checked against a loop written out here, at every size, with errors for bad input."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import nn

from helpers import augment, data, models, train, zoo
from helpers.inputs import to_tensor
from helpers.machine import seeded

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
LABELS = np.arange(40) % 10
WINDOWS = np.random.default_rng(1).normal(size=(8, 20, 6)).astype(np.float32)


def dense(seed=0, *layers):
    with seeded(seed):
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), *layers, nn.Linear(8, 10))


def state(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def fitted(model=None, images=IMAGES, labels=LABELS, **options):
    model = dense() if model is None else model
    train.fit(model, images, labels, **dict(epochs=1, batch_size=16) | options)
    return state(model)


@pytest.fixture(scope="module")
def some():
    part = data.fashion_mnist("validation")
    return part.images[:200], part.labels[:200]


def one_cycle(lr, steps, step):
    """Smith and Topin's cycle as torch lays it out, with a tenth of the steps to warm up."""
    low, end = lr / 25, 0.1 * (steps + 1) - 1
    if step <= end:
        return low + (lr - low) * (1 - math.cos(math.pi * step / end)) / 2
    part = (step - end) / (steps - end)
    return low / 1e4 + (lr - low / 1e4) * (1 + math.cos(math.pi * part)) / 2


@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("moved", [None, augment.flip_and_shift])
def test_fit_is_the_loop_written_out(some, optimizer, schedule, moved):
    """Two epochs with dropout, against torch used directly."""
    images, labels = some
    model = models.build("TinyCNN").insert(11, nn.Dropout(0.2))
    reference = copy.deepcopy(model)
    history = train.fit(
        model, images, labels, epochs=2, lr=0.02, optimizer=optimizer, schedule=schedule,
        weight_decay=1e-3, seed=4, augment=moved,
    )  # fmt: skip
    reference.train().to(memory_format=torch.channels_last)
    parameters = reference.parameters()
    if optimizer == "sgd":
        update = torch.optim.SGD(parameters, 0.02, 0.9, nesterov=True, weight_decay=1e-3)
    else:
        update = torch.optim.AdamW(parameters, 0.02, weight_decay=1e-3)
    draw, step, epochs = torch.Generator().manual_seed(4), 0, []
    with seeded(4):
        for _ in range(2):
            losses = []
            for rows in torch.randperm(200, generator=draw).split(64):
                x = models.as_input(images[rows.numpy()])
                x = (x if moved is None else moved(x, draw)).to(memory_format=torch.channels_last)
                rate = one_cycle(0.02, 8, step) if schedule == "one_cycle" else 0.02
                update.param_groups[0]["lr"] = rate
                loss = nn.functional.cross_entropy(reference(x), torch.tensor(labels)[rows])
                update.zero_grad()
                loss.backward()
                update.step()
                step += 1
                losses.append(loss.item() * len(rows))
            epochs.append(sum(losses) / 200)
    for a, b in zip(model.state_dict().values(), reference.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)
    assert history.loss == pytest.approx(epochs, abs=1e-4)
    assert not model.training


def test_the_usual_settings_are_those_of_the_docstring():
    spelled = dict(lr=0.1, batch_size=64, loss=nn.functional.cross_entropy, seed=0, callbacks=())
    spelled |= dict(optimizer="sgd", schedule="one_cycle", weight_decay=5e-4, augment=None)
    models_ = dense(), dense()
    train.fit(models_[0], np.tile(IMAGES, (3, 1, 1)), np.tile(LABELS, 3), epochs=2)
    train.fit(models_[1], np.tile(IMAGES, (3, 1, 1)), np.tile(LABELS, 3), epochs=2, **spelled)
    assert same(*map(state, models_))


def test_the_seed_chooses_the_order_and_the_augmentation():
    options = dict(epochs=2, augment=augment.flip_and_shift)
    first, again, other = (fitted(seed=seed, **options) for seed in (3, 3, 4))
    assert same(first, again) and not same(first, other)
    assert not same(first, fitted(seed=3, epochs=2))


def test_training_leaves_the_global_generator_alone_and_does_not_hear_it():
    def run():
        return fitted(dense(0, nn.Dropout(0.5)), seed=1)

    torch.manual_seed(5)
    first, after = run(), torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after)
    assert same(first, run())


@pytest.mark.parametrize("steps", [*range(1, 13), 19, 20, 21, 99])
def test_every_number_of_steps_trains_along_the_cycle(steps):
    """One step an epoch, so that the history tells each rate. 0.1 (9 + 1) - 1 is 0."""
    model, before = dense(), state(dense())
    history = train.fit(model, IMAGES[:4], LABELS[:4], epochs=steps, batch_size=4, lr=0.02)
    if steps == 9:
        assert history.learning_rate[0] == pytest.approx(0.02, rel=0.01)
        assert history.learning_rate == sorted(history.learning_rate, reverse=True)
    else:
        expected = [one_cycle(0.02, steps, step) for step in range(steps)]
        assert history.learning_rate == pytest.approx(expected, rel=1e-6)
    assert len(history.loss) == len(history.seconds) == steps and not same(state(model), before)
    assert history.validation_accuracy == [] and min(history.seconds) > 0


def test_a_constant_rate_stays():
    history = train.fit(dense(), IMAGES, LABELS, epochs=3, lr=0.02, schedule="constant")
    assert history.learning_rate == [0.02] * 3


@given(st.integers(1, 40), st.integers(1, 45), st.integers(1, 4))
@settings(deadline=None, max_examples=25)
def test_every_size_trains_and_counts_its_steps(n, batch_size, epochs):
    calls, seen = [], []

    def loss(outputs, labels):
        seen.append(labels)
        return nn.functional.cross_entropy(outputs, labels)

    note = lambda model, step, steps: calls.append((step, steps, model.training))  # noqa: E731
    history = train.fit(
        dense(), IMAGES[:n], LABELS[:n], epochs=epochs, batch_size=batch_size, loss=loss, lr=0.01,
        callbacks=[note], validation=(IMAGES[:1], LABELS[:1]),
    )  # fmt: skip
    steps = epochs * math.ceil(n / batch_size)
    assert calls == [(step, steps, True) for step in range(1, steps + 1)]
    assert all(len(batch) <= batch_size for batch in seen)
    counts = torch.cat(seen).bincount(minlength=10).tolist()
    assert counts == (epochs * np.bincount(LABELS[:n], minlength=10)).tolist(), "each image once"
    assert len(history.loss) == len(history.validation_accuracy) == epochs


def test_the_loss_of_an_epoch_is_the_mean_over_its_images():
    """Also where the last batch is smaller: here the weights do not move."""
    model = dense()
    labels = torch.tensor(LABELS)
    expected = nn.functional.cross_entropy(model(to_tensor(IMAGES)), labels).item()
    history = train.fit(
        model, IMAGES, LABELS, epochs=2, batch_size=16, lr=1e-30, schedule="constant"
    )
    assert history.loss == pytest.approx([expected, expected], rel=1e-5)


NORMS = {
    "dense": lambda: [nn.Flatten(), nn.Linear(784, 6), nn.BatchNorm1d(6), nn.Linear(6, 10)],
    "1x1 maps": lambda: [nn.Conv2d(1, 4, 28), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 10)],
    "maps": lambda: [nn.Conv2d(1, 2, 27), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 10)],
}


@pytest.mark.parametrize("kind", NORMS)
@given(n=st.integers(1, 12), batch_size=st.integers(1, 13))
@settings(deadline=None, max_examples=30)
def test_batch_norm_refuses_a_batch_of_one_before_anything_is_trained(kind, n, batch_size):
    model = nn.Sequential(*NORMS[kind]())
    before, calls = state(model), []
    options = dict(epochs=1, batch_size=batch_size, callbacks=[lambda *_: calls.append(1)])
    if n % batch_size == 1 % batch_size and kind != "maps":
        words = f"^{n} images and batch_size {batch_size} leave one image for the last batch"
        with pytest.raises(ValueError, match=words):
            train.fit(model, IMAGES[:n], LABELS[:n], **options)
        assert same(before, state(model)) and not calls
    else:
        train.fit(model, IMAGES[:n], LABELS[:n], **options)
        assert len(calls) == math.ceil(n / batch_size)


def test_a_trial_for_batch_norm_changes_nothing():
    """33 images leave one: the trial is of a copy, and draws from no generator of the training."""
    layers = [
        nn.Conv2d(1, 2, 27),
        nn.BatchNorm2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(8, 10),
    ]
    first = nn.Sequential(*layers)
    second = copy.deepcopy(first)
    one, two = fitted(first, IMAGES[:33], LABELS[:33]), fitted(second, IMAGES[:33], LABELS[:33])
    assert same(one, two) and one["1.num_batches_tracked"] == 3


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", ">i2", "u2", "i4", ">i4", "u4", "i8", "u8"])
def test_labels_of_any_integer_type_train_the_same_weights(dtype):
    assert same(fitted(), fitted(labels=LABELS.astype(dtype)))


FORMS = {
    "list": list,
    "tensor": torch.tensor,
    "flipped": lambda x: x[::-1].copy()[::-1],
    "read-only": lambda x: np.broadcast_to(x, x.shape),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_images_and_labels_of_any_form_train_the_same_weights(form):
    assert same(fitted(), fitted(images=form(IMAGES), labels=form(LABELS)))


def test_soft_targets_with_a_gradient_are_taken():
    soft = torch.eye(10)[LABELS].requires_grad_()
    hard, found = fitted(lr=0.01), fitted(lr=0.01, labels=soft)
    for key in hard:
        torch.testing.assert_close(found[key], hard[key], atol=1e-5, rtol=1e-4)
    assert soft.grad is None


def test_windows_and_what_augments_them():
    model = models.build("SensorGRU")
    train.fit(
        model, WINDOWS, LABELS[:8] % 7, epochs=1, optimizer="adam", augment=augment.move_watch
    )
    assert train.predict(model, WINDOWS).shape == (8, 7)
    assert model.norm.num_batches_tracked == 1


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("soft", [False, True])
def test_a_model_of_another_precision_is_trained_in_it(dtype, soft):
    model = dense().to(dtype)
    labels = np.eye(10, dtype=np.float32)[LABELS] if soft else LABELS
    history = train.fit(
        model, IMAGES, labels, epochs=20, lr=0.05, augment=augment.half_moved, seed=1,
        validation=(IMAGES, LABELS),
    )  # fmt: skip
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert history.loss[-1] < history.loss[0]


def test_frozen_layers_stay_and_the_others_learn():
    """Also a layer that was frozen with a gradient in it."""
    model = dense()
    model(to_tensor(IMAGES)).sum().backward()
    model[1].requires_grad_(False)
    before = state(model)
    after = fitted(model)
    assert torch.equal(before["1.weight"], after["1.weight"])
    assert torch.equal(before["1.bias"], after["1.bias"])
    assert not torch.equal(before["2.weight"], after["2.weight"])
    assert not model[1].weight.requires_grad


def test_gradients_that_were_there_have_no_effect_and_none_are_left():
    model = dense()
    model(to_tensor(IMAGES)).sum().backward()
    assert same(fitted(model), fitted())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_does_not_need_gradients_to_be_on(mode):
    model = dense()
    with mode():
        found = fitted(model, torch.from_numpy(IMAGES).clone())
    assert same(found, fitted()) and torch.is_grad_enabled()


def test_images_made_in_inference_mode_are_taken():
    with torch.inference_mode():
        windows = torch.tensor(WINDOWS)
    model = models.build("SensorLSTM")
    train.fit(model, windows, LABELS[:8] % 7, epochs=1)


def test_what_a_callback_predicts_with_does_not_stop_the_training():
    """Batch norm still learns in the steps after it."""

    def model():
        return nn.Sequential(*(copy.deepcopy(layer) for layer in LAYERS))

    with seeded(0):
        LAYERS = NORMS["maps"]()
    look = lambda network, step, steps: train.predict(network, IMAGES[:4])  # noqa: E731
    assert same(fitted(model()), fitted(model(), callbacks=[look]))


def test_what_a_callback_sets_to_evaluation_stays_so_for_the_epoch():
    with seeded(0):
        model = nn.Sequential(*NORMS["maps"]())
    freeze = lambda network, step, steps: network[1].eval()  # noqa: E731
    fitted(model, callbacks=[freeze], epochs=2)
    assert model[1].num_batches_tracked == 2, "the first step of each epoch"


class Bar:
    """In the place of tqdm's."""

    def __init__(self, **options):
        self.options, self.steps, self.said, self.closed = options, 0, [], 0
        Bar.last = self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.closed += 1

    def update(self):
        self.steps += 1

    def set_description(self, words):
        self.said.append(words)


@pytest.mark.parametrize("quiet", [True, False])
def test_the_bar_counts_the_steps_and_goes(monkeypatch, quiet):
    monkeypatch.setattr(train, "tqdm", Bar)
    monkeypatch.setenv("TQDM_DISABLE", "1" if quiet else "")
    history = train.fit(dense(), IMAGES, LABELS, epochs=2, batch_size=16, lr=0.01)
    assert Bar.last.options == dict(total=6, leave=False, unit="step", disable=quiet)
    assert (Bar.last.steps, Bar.last.closed) == (6, 1)
    assert Bar.last.said == [f"epoch {k + 1}/2, loss {history.loss[k]:.3f}" for k in (0, 1)]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, StopIteration])
def test_an_error_leaves_a_model_to_predict_with(monkeypatch, error):
    """In evaluation mode, without gradients, trained so far; the bar and the generator put back."""
    monkeypatch.setattr(train, "tqdm", Bar)
    at_two, state_before = [], torch.get_rng_state()

    def fail(model, step, steps):
        if step == 2:
            at_two.append(state(model))
            raise error("enough")

    model = dense(0, nn.Dropout(0.5))
    with pytest.raises((error, RuntimeError), match="enough|StopIteration"):
        fitted(model, callbacks=[fail])
    assert not any(m.training for m in model.modules()) and same(state(model), at_two[0])
    assert all(p.grad is None for p in model.parameters())
    assert Bar.last.closed == 1 and torch.equal(torch.get_rng_state(), state_before)
    assert same(fitted(dense(0, nn.Dropout(0.5))), fitted(dense(0, nn.Dropout(0.5))))


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (dict(epochs=0), ValueError, "epochs is 0: choose a whole number, at least 1"),
        (dict(epochs=True), TypeError, "epochs is True"),
        (dict(epochs=1.5), TypeError, "epochs is 1.5"),
        (dict(batch_size=0), ValueError, "batch_size is 0"),
        (dict(batch_size=1.5), TypeError, "batch_size is 1.5"),
        (dict(seed=-1), ValueError, "seed is -1: choose a whole number, 0 to"),
        (dict(seed=2**63), ValueError, "seed is"),
        (dict(seed=None), TypeError, "seed is None"),
        (dict(lr=0), ValueError, "lr is 0: choose a finite number above 0"),
        (dict(lr=-0.1), ValueError, "lr is -0.1"),
        (dict(lr=NAN), ValueError, "lr is nan"),
        (dict(lr=INF), ValueError, "lr is inf"),
        (dict(lr="0.1"), TypeError, "lr is '0.1'"),
        (dict(lr=True), TypeError, "lr is True"),
        (dict(weight_decay=-1), ValueError, "weight_decay is -1: choose a finite number from 0 on"),
        (dict(weight_decay=NAN), ValueError, "weight_decay is nan"),
        (dict(optimizer="rmsprop"), ValueError, "'rmsprop': choose one of sgd, adam"),
        (dict(schedule="step"), ValueError, "'step': choose one of one_cycle, const"),
        (dict(loss="mse"), TypeError, "loss is 'mse': pass a function"),
        (dict(augment=3), TypeError, "augment is 3: pass a function"),
        (dict(augment=""), TypeError, "augment is '': pass a function"),
        (dict(callbacks=[None]), TypeError, "a callback is None: pass a function"),
        (dict(callbacks=len), TypeError, "not iterable"),
        (dict(images=IMAGES[:39]), ValueError, "39 images, 40 labels: pass as many"),
        (dict(images=IMAGES[:0], labels=[]), ValueError, "0 images, 0 labels: .*at least one"),
        (dict(images=IMAGES.astype(float)), TypeError, "uint8 images or float32 windows"),
        (dict(images=IMAGES[:, :14]), ValueError, r"expected \[N, 28, 28\]"),
        (dict(images=np.full((40, 784), NAN, "f4")), ValueError, "images hold NaN or infinity"),
        (dict(labels=LABELS + 1), ValueError, "labels run from 1 to 10, for 10 classes"),
        (dict(labels=LABELS - 1), ValueError, "labels run from -1 to 8"),
        (dict(labels=np.full(40, -100)), ValueError, "labels run from -100 to -100"),
        (dict(labels=LABELS.astype(float)), ValueError, "and labels torch.float64 .16.:"),
        (dict(labels=LABELS[:, None]), ValueError, "torch.int64 .16, 1.: expected integers"),
        (dict(labels=LABELS % 2 == 0), TypeError, "labels are torch.bool"),
        (dict(labels=np.full((40, 10), NAN)), ValueError, "labels hold NaN"),
        (dict(labels=np.ones((40, 9), "f4")), ValueError, "or soft targets"),
        (dict(labels=LABELS + 1, loss=zoo.smoothed_cross_entropy), ValueError, "does not take"),
        (dict(validation=(IMAGES, LABELS[1:])), ValueError, "40 images, 39 labels"),
        (dict(validation=(IMAGES[:0], [])), ValueError, "0 images, 0 labels"),
        (dict(validation=(IMAGES, LABELS * 1.0)), TypeError, "float64: pass integers$"),
        (dict(validation=(WINDOWS.astype(float), LABELS[:8])), TypeError, "inputs are float64"),
        (dict(loss=lambda x, y: (x - 1).square().mean(1)), ValueError, "expected one number"),
        (dict(loss=lambda x, y: 0.5), ValueError, "the loss returned 0.5: expected one number"),
        (dict(loss=lambda x, y: x.mean().detach()), ValueError, "that depends on parameters"),
        (dict(loss=lambda x, y: None), ValueError, "the loss returned None"),
    ],
)
def test_fit_refuses_before_it_trains(change, error, words):
    model, calls = dense(), []
    before = state(model)
    arguments = dict(images=IMAGES, labels=LABELS, epochs=1, batch_size=16)
    arguments |= dict(callbacks=[lambda *_: calls.append(1)]) | change
    with pytest.raises(error, match=words):
        train.fit(model, **arguments)
    assert same(before, state(model)) and not calls


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([nn.Flatten()], "none of the model's 0 parameters learns"),
        (
            [nn.Flatten(), nn.Linear(784, 10).requires_grad_(False)],
            "none of the model's 2 parameters",
        ),
        ([nn.Flatten(), nn.Linear(784, 1)], r"a Tensor \[16, 1\]: cross-entropy needs logits"),
        (
            [nn.Flatten(), nn.Linear(784, 10), nn.Flatten(0)],
            r"a Tensor \[160\]: cross-entropy needs",
        ),
        ([nn.GRU(28, 10)], r"a tuple \[\]: cross-entropy needs logits"),
    ],
)
def test_fit_refuses_models_that_learn_nothing(layers, words):
    class Squeezed(nn.Sequential):
        def forward(self, x):
            return super().forward(x[:, 0])

    with pytest.raises(ValueError, match=words):
        fitted(Squeezed(*layers))


def test_fit_refuses_a_model_made_in_inference_mode():
    with torch.inference_mode():
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    with pytest.raises(ValueError, match="made in torch.inference_mode: make it outside"):
        fitted(model)


def test_outputs_of_another_form_train_with_a_loss_of_their_own():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = dense()

        def forward(self, x):
            return self.body(x), x

    def loss(outputs, labels):
        return nn.functional.cross_entropy(outputs[0], labels)

    found = fitted(Two(), loss=loss)
    expected = fitted()
    assert all(torch.equal(found[f"body.{key}"], expected[key]) for key in expected)


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_lost():
    model, calls = dense(), []

    def loss(outputs, labels):
        value = nn.functional.cross_entropy(outputs, labels)
        return value * NAN if len(calls) == 2 else value

    def note(model, step, steps):
        calls.append(state(model))

    with pytest.raises(FloatingPointError, match=r"the loss is nan: lower lr \(it is 0.03 now\)"):
        fitted(model, loss=loss, callbacks=[note], lr=0.03, schedule="constant")
    assert len(calls) == 2 and same(state(model), calls[-1]) and not model.training


def test_a_rate_that_is_too_high_is_told():
    with pytest.raises(FloatingPointError, match="lower lr"):
        fitted(models.build("LeNet300"), epochs=3, lr=1e6)
    with pytest.raises(FloatingPointError, match="no longer finite after 40 examples: lower lr"):
        fitted(lr=1e38, batch_size=40, schedule="constant", weight_decay=1e3)


def test_validation_is_measured_in_evaluation_mode(some):
    model = models.build("TinyCNN").append(nn.Dropout(0.9))
    history = train.fit(model, *some, epochs=2, lr=0.02, validation=some)
    assert history.validation_accuracy[-1] == train.accuracy(train.predict(model, some[0]), some[1])
    alone = models.build("TinyCNN").append(nn.Dropout(0.9))
    train.fit(alone, *some, epochs=2, lr=0.02)
    assert same(state(model), state(alone)), "measuring changes nothing"


def test_predict_is_the_model_in_evaluation_mode(some):
    model = models.load("TinyCNN").train()
    found = train.predict(model, some[0])
    assert not model.training
    with torch.no_grad():
        expected = model(to_tensor(some[0])).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


@given(st.integers(1, 50))
@settings(deadline=None, max_examples=10)
def test_predict_does_not_depend_on_the_batch(batch_size):
    sizes, model = [], dense()
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    whole = train.predict(model, IMAGES)
    assert sizes == [40]
    found = train.predict(model, IMAGES, batch_size)
    np.testing.assert_allclose(found, whole, atol=1e-5)
    assert sizes[1:] == [len(part) for part in np.split(IMAGES, range(batch_size, 40, batch_size))]


def test_predict_takes_250_at_a_time(some):
    sizes, model = [], dense()
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    train.predict(model, np.concatenate([some[0], some[0]]))
    assert sizes == [250, 150]


@pytest.mark.parametrize("name", models.NAMES)
def test_no_images_have_no_logits(name):
    sensor = name.startswith("Sensor")
    none = WINDOWS[:0] if sensor else IMAGES[:0]
    found = train.predict(models.build(name), none)
    assert found.shape == (0, 7 if sensor else 10) and found.dtype == np.float32


LAYOUTS = {
    "flipped": lambda x: x[:, ::-1],
    "mirrored": lambda x: x[:, :, ::-1],
    "every second": lambda x: x[::2],
    "Fortran": np.asfortranarray,
    "read-only": lambda x: np.broadcast_to(x, x.shape),
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "list": list,
    "tensor": lambda x: torch.from_numpy(x.copy()),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_predict_takes_any_layout(layout):
    """A list of windows is float64, and says so."""
    image_model, window_model = dense(), models.build("SensorGRU")
    for model, x in ((image_model, IMAGES), (window_model, WINDOWS)):
        if layout is list and x is WINDOWS:
            with pytest.raises(TypeError, match="float64"):
                train.predict(model, [row.tolist() for row in x])
        given_x = layout(x)
        plain = np.ascontiguousarray(np.asarray(given_x), x.dtype)
        assert np.array_equal(train.predict(model, given_x), train.predict(model, plain))


@pytest.mark.parametrize("dtype", [torch.float32, torch.half, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("batch_size", [10, 250])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_predictions_are_plain_numbers_of_the_callers_own(dtype, batch_size, mode):
    model = dense().to(dtype)
    with mode():
        found = train.predict(model, IMAGES, batch_size)
    assert type(found) is np.ndarray and found.dtype == np.float32 and found.flags.owndata
    assert found.flags.writeable and found.flags.c_contiguous
    before = state(model)
    found[:] = 7
    assert same(state(model), before)
    with torch.no_grad():
        expected = model(to_tensor(IMAGES).to(dtype)).float().numpy()
    np.testing.assert_allclose(train.predict(model, IMAGES), expected, atol=1e-2)


def test_predicting_changes_neither_the_images_nor_their_owner():
    """A model may write to what it reads."""

    class Writes(nn.Module):
        def forward(self, x):
            return x.mul_(0).flatten(1)

    for x in (IMAGES.copy(), WINDOWS.copy(), torch.tensor(WINDOWS)):
        before = copy.deepcopy(x)
        assert not train.predict(Writes(), x).any()
        assert (x == before).all()


def test_what_a_model_keeps_while_it_predicts_can_be_trained_on():
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(784, 10)
            self.register_buffer("mean", None)

        def forward(self, x):
            if self.mean is None:
                self.mean = x.flatten(1).mean(0)
            return self.body(x.flatten(1) - self.mean)

    for mode in (torch.enable_grad, torch.inference_mode):
        model = Keeps()
        with mode():
            train.predict(model, torch.from_numpy(IMAGES))
        assert not model.mean.is_inference() and not model.mean.requires_grad
        fitted(model)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: (x, x), "of 40 inputs the model made a tuple"),
        (lambda x: {"logits": x}, "made a dict"),
        (lambda x: x, r"made a Tensor \[40, 1, 28, 28\]: expected \[N, C\]"),
        (lambda x: x.flatten(1).sum(1), r"made a Tensor \[40\]"),
        (lambda x: x.flatten(1)[1:], r"made a Tensor \[39, 784\]"),
        (lambda x: None, "made a NoneType"),
        (lambda x: x.numpy(), "made a ndarray"),
    ],
)
def test_predict_wants_logits(answer, words):
    class Model(nn.Module):
        def forward(self, x):
            return answer(x)

    with pytest.raises(ValueError, match=words):
        train.predict(Model(), IMAGES)


@pytest.mark.parametrize(
    ("images", "batch_size", "error", "words"),
    [
        (WINDOWS.astype(float), 250, TypeError, r"inputs are float64: .* x.astype\(np.float32\)"),
        (IMAGES.astype(np.int64), 250, TypeError, "inputs are int64"),
        (IMAGES[0], 250, ValueError, r"images have shape .*: expected \[N, 28, 28\]"),
        (np.uint8(3), 250, ValueError, "expected N examples"),
        (["image"], 250, TypeError, "pass an array of numbers"),
        (IMAGES, 0, ValueError, "batch_size is 0"),
        (IMAGES, 1.5, TypeError, "batch_size is 1.5"),
        (IMAGES, True, TypeError, "batch_size is True"),
    ],
)
def test_predict_refuses(images, batch_size, error, words):
    with pytest.raises(error, match=words):
        train.predict(dense(), images, batch_size)


@given(
    st.integers(2, 5).flatmap(
        lambda c: npst.arrays(
            np.float32, st.tuples(st.integers(1, 9), st.just(c)), elements=st.integers(-3, 3)
        )
    ),
    st.data(),
)
@settings(deadline=None, max_examples=50)
def test_accuracy_counts_rows(logits, draw):
    """The first of equal logits is the answer, as NumPy has it."""
    n, classes = logits.shape
    labels = draw.draw(npst.arrays(np.uint8, n, elements=st.integers(0, classes - 1)))
    right = sum(
        list(row).index(max(row)) == label for row, label in zip(logits, labels, strict=True)
    )
    for form in (np.asarray, torch.tensor, np.ndarray.tolist, lambda x: torch.tensor(x).double()):
        assert train.accuracy(form(logits), labels) == right / n
    assert train.accuracy(torch.tensor(logits, requires_grad=True).bfloat16(), labels) == right / n


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (np.full((3, 4), NAN), [0, 1, 2]),
        ([[1, NAN], [1, 2]], [0, 1]),
        (np.zeros((0, 10)), []),
        (np.zeros((3, 1)), [0, 0, 0]),
        (np.zeros((3, 0)), [0, 0, 0]),
        (np.zeros((3, 4)), [0.0, 1.0, 2.0]),
        (np.zeros((3, 4)), [True, False, True]),
        (np.zeros((3, 4)), [0, 1, 4]),
        (np.zeros((3, 4)), [0, -1, 2]),
        (np.zeros((3, 4)), [0, 1]),
        (np.zeros((3, 4)), [[0], [1], [2]]),
        (np.zeros((3, 4)), np.eye(4)[:3]),
        (np.zeros(3), [0, 1, 2]),
        (np.array([0, 1, 2]), [0, 1, 2]),
        (np.zeros((3, 4, 1)), [0, 1, 2]),
        (np.zeros((3, 4), complex), [0, 1, 2]),
        ([["a", "b"]], [0]),
        ([[1, 2], [3]], [0, 1]),
        (None, [0]),
        (3.0, 3),
    ],
)
def test_accuracy_refuses(logits, labels):
    with pytest.raises(ValueError):
        train.accuracy(logits, labels)


def test_a_graph_whose_eval_returns_none_is_trained(some):
    x, labels = some
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    model.eval = lambda: None  # as torchao makes it for an exported network
    assert len(train.fit(model, x[:64], labels[:64], epochs=1).loss) == 1
