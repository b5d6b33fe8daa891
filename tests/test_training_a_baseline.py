"""The functions of lesson 16, as the reader sees them, against torch, SciPy and scikit-learn."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from scipy.spatial.distance import cdist
from scipy.stats import binomtest
from sklearn import metrics
from sklearn.calibration import calibration_curve
from torch import nn

from helpers import models, train

LESSON = definitions("16_training_a_baseline")
SOLUTION = definitions("solutions/16_training_a_baseline")
FEW = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32)
small = st.integers(1, 5)


@FEW
@given(seeds, small, small, small)
def test_the_nearest_mean_is_scipys(seed, N, K, pixels):
    rng = np.random.default_rng(seed)
    x, means = rng.random((N, pixels)), rng.random((K, pixels))
    assert np.array_equal(LESSON.nearest_mean(x, means), cdist(x, means).argmin(1))


def test_the_signal_is_kept_by_the_right_scale_only():
    x = np.random.default_rng(1).random((200, 300))
    kept = LESSON.signal(1, x)
    assert kept.shape == (10,) and 0.5 < kept[-1] / kept[0] < 2
    assert np.allclose(LESSON.signal(0.5, x) / kept, 0.5 ** np.arange(1, 11))
    assert np.allclose(
        LESSON.signal(2, x, layers=3, units=64)[1] / 4, LESSON.signal(1, x, 3, 64)[1]
    )


@FEW
@given(st.floats(-5, 5), st.floats(0.001, 0.2))
def test_momentum_takes_torchs_steps(start, rate):
    weight = nn.Parameter(torch.tensor([start], dtype=torch.float64))
    update = torch.optim.SGD([weight], lr=rate, momentum=0.9, nesterov=True)
    w, u = start, 0.0
    for _ in range(6):
        weight.grad = 2 * weight.detach()
        update.step()
        w, u = LESSON.momentum_step(w, u, 2 * w, rate)
        assert np.isclose(weight.item(), w, rtol=1e-9, atol=1e-12)


@FEW
@given(st.integers(11, 900), st.floats(0.001, 1))
def test_one_cycle_is_torchs(steps, peak):
    """From eleven steps on: with nine or fewer torch's climb has no length."""
    update = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=peak)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        update, peak, total_steps=steps + 1, pct_start=0.1, cycle_momentum=False
    )
    for t in range(steps):
        for one_cycle in (LESSON.one_cycle, SOLUTION.one_cycle):
            assert abs(one_cycle(t, steps, peak) - schedule.get_last_lr()[0]) < 1e-5 * peak
        update.step()
        schedule.step()


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (150, 28, 28), np.uint8), rng.integers(0, 10, 150)


@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_the_loop_trains_as_the_helper_does(batch, schedule):
    images, labels = batch
    ours, theirs = models.build("TinyCNN"), models.build("TinyCNN")
    ours.to(memory_format=torch.channels_last)  # as the helper does, to round alike
    steps = 12  # four epochs of two whole batches and one of 22
    rates = [LESSON.one_cycle(t, steps, 0.01) for t in range(steps)]
    rates = [0.01] * steps if schedule == "constant" else rates
    x = models.as_input(images)
    for module, network in ((LESSON, ours), (SOLUTION, copy.deepcopy(ours))):
        assert module.train_by_hand(network, x, torch.from_numpy(labels), rates, 3) is network
        assert not network.training
    train.fit(theirs, images, labels, epochs=4, lr=0.01, schedule=schedule, seed=3)
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


@FEW
@given(seeds, small, small, st.integers(2, 4))
def test_running_averages_are_torchs(seed, N, C, size):
    rng = np.random.default_rng(seed)
    layer, mean, var = nn.BatchNorm2d(C, dtype=torch.float64), np.zeros(C), np.ones(C)
    for _ in range(4):
        x = rng.normal(rng.normal(0, 3, (1, C, 1, 1)), 2, (N, C, size, size))
        layer(torch.from_numpy(x))
        mean, var = LESSON.update_averages(mean, var, x)
    assert np.allclose(mean, layer.running_mean) and np.allclose(var, layer.running_var)


def test_averages_measured_again_are_those_of_the_images(batch):
    images, _ = batch
    network = models.build("TinyCNN")
    before = copy.deepcopy(network.state_dict())
    again = LESSON.measured_again(network.eval(), images)
    first = network[0](models.as_input(images))
    assert torch.allclose(again[1].running_mean, first.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(again[1].running_var, first.var((0, 2, 3)), atol=1e-4)
    assert again[1].momentum == 0.1 and not again.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), "the network itself stays"
    for ours, theirs in zip(again.parameters(), network.parameters(), strict=True):
        assert torch.equal(ours, theirs), "the weights stay"


def test_standing_still_moves_averages_and_no_weight():
    images = np.random.default_rng(0).integers(0, 256, (960, 28, 28), np.uint8)
    network = models.build("TinyCNN").eval()
    rested, again = LESSON.standing_still(network, images), LESSON.measured_again(network, images)
    assert int(rested[1].num_batches_tracked) == 30 and not rested.training
    reached = (1 - 0.9**30) * again[1].running_mean  # from 0; 4 % of the way are left
    assert ((rested[1].running_mean - reached).abs() < 0.05 * again[1].running_var.sqrt()).all()
    for ours, theirs in zip(rested.parameters(), network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@FEW
@given(seeds, st.integers(2, 6))
def test_scores_are_scikit_learns(seed, K):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(K), rng.integers(0, K, 40)])
    answers = np.concatenate([np.arange(K), rng.integers(0, K, 40)])  # each class is right once
    matrix = LESSON.confusion_matrix(labels, answers, K)
    assert np.array_equal(matrix, metrics.confusion_matrix(labels, answers))
    library = metrics.precision_recall_fscore_support(labels, answers)[:3]
    assert np.allclose(LESSON.scores_by_class(matrix), library)
    balanced = SOLUTION.balanced_accuracy(labels, answers)
    assert np.isclose(balanced, metrics.balanced_accuracy_score(labels, answers))


@FEW
@given(st.integers(1, 3000), st.floats(0, 1))
def test_wilsons_interval_is_scipys(total, share):
    correct = round(share * total)
    low, high = LESSON.wilson(correct, total)
    library = binomtest(correct, total).proportion_ci(method="wilson")
    assert np.allclose((low, high), library, atol=1e-6)
    narrow, wide = LESSON.wald(correct, total)
    assert np.isclose((narrow + wide) / 2, correct / total)
    assert (narrow == wide) == (correct in (0, total))


@FEW
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test(only_a, only_b):
    n = only_a + only_b
    library = binomtest(only_a, n).pvalue if n else 1.0
    assert np.isclose(LESSON.mcnemar(only_a, only_b), library)


@FEW
@given(seeds, st.integers(3, 20))
def test_bins_are_scikit_learns(seed, bins):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 2, (200, 4)), rng.integers(0, 4, 200)
    p = torch.from_numpy(logits).softmax(1).numpy()
    right = p.argmax(1) == labels
    accuracy, confidence = calibration_curve(right, p.max(1), n_bins=bins)
    share, mean, rate = LESSON.bins_of(logits, labels, bins)
    assert np.allclose(mean, confidence) and np.allclose(rate, accuracy)
    assert np.isclose(share.sum(), 1) and np.isclose((share * rate).sum(), right.mean())
    error = LESSON.calibration_error(logits, labels, bins)
    assert abs((share * (rate - mean)).sum()) - 1e-12 <= error <= 1


def test_calibration_error_of_the_example_in_the_text():
    """Ten answers with confidence 0.9, seven right; ten with 0.6, six right."""
    p = np.repeat([0.9, 0.6], 10)
    labels = np.repeat([0, 1, 0, 1], [7, 3, 6, 4])
    logits = np.log(np.stack([p, 1 - p], axis=1))
    assert np.isclose(LESSON.calibration_error(logits, labels), 0.1)


@pytest.mark.parametrize("true", [0.6, 1.0, 2.5])
def test_the_temperature_that_was_put_in_is_found(true):
    rng = np.random.default_rng(0)
    z = rng.normal(0, 2, (20000, 5))
    labels = (z + rng.gumbel(size=z.shape)).argmax(1)  # drawn with the probabilities softmax(z)
    assert abs(LESSON.best_temperature(true * z, labels) / true - 1) < 0.05
    assert np.isclose(LESSON.mean_loss(z, labels), metrics.log_loss(labels, _softmax(z)))


def _softmax(z):
    return torch.from_numpy(z).softmax(1).numpy()


def test_the_cheap_camera_keeps_a_third_of_the_contrast():
    images = np.full((50, 28, 28), 240, np.uint8)
    dim = LESSON.cheap_camera(images, 0)
    assert dim.dtype == np.uint8 and dim.shape == images.shape
    assert abs(dim.mean() - 80) < 0.5 and abs(dim.std() - 12) < 0.5
    assert np.array_equal(dim, LESSON.cheap_camera(images, 0))
    assert not np.array_equal(dim, LESSON.cheap_camera(images, 1))


def test_a_saved_network_comes_back(tmp_path):
    network = models.build("TinyCNN", 7).to(memory_format=torch.channels_last)
    LESSON.save(network, tmp_path / "network.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["network.safetensors"]
    loaded = models.build("TinyCNN")
    loaded.load_state_dict(LESSON.load_file(tmp_path / "network.safetensors"))
    for ours, theirs in zip(
        loaded.state_dict().values(), network.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)


@FEW
@given(st.integers(1, 200), st.floats(0.001, 1), st.data())
def test_solution_of_the_falling_rate(steps, peak, draw):
    last = draw.draw(st.integers(0, steps - 1))
    rates = [SOLUTION.falling_rate(t, steps, peak, last) for t in range(steps)]
    fall = np.linspace(peak, 0, last + 2)[1:-1]
    assert np.allclose(rates, np.concatenate([np.full(steps - last, peak), fall]))


@FEW
@given(st.floats(0.05, 0.95), st.floats(0.005, 0.1))
def test_solution_of_the_images_is_the_least(p, h):
    n = SOLUTION.images_needed(p, h)
    low, high = LESSON.wald(p * n, n, z=1.96)
    assert (high - low) / 2 <= h * (1 + 1e-9)
    low, high = LESSON.wald(p * (n - 1), n - 1, z=1.96) if n > 1 else (0, 2)
    assert (high - low) / 2 > h * (1 - 1e-9)


def test_solution_of_erasing_takes_one_square_of_each_image():
    x = torch.ones(40, 1, 28, 28)
    erased = SOLUTION.erase(x, torch.Generator().manual_seed(0))
    assert torch.equal(erased.sum((1, 2, 3)), torch.full((40,), 720.0)) and x.min() == 1
