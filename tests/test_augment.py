"""Augmentation: a moved image is a shift of the original, a moved window is still a motion."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import data, inputs
from helpers.augment import flip_and_shift, half_moved, move_watch

STILL = dict(tilt=0.0, loudness=0.0, tempo=0.0, shift=0.0)
MIRROR = torch.tensor([-1.0, 1, 1, 1, -1, -1])
SEEDS = st.integers(0, 2**31)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def shifted(image, down, right):
    """By slices: what a shift leaves of an image, with zeros where nothing comes from."""
    height, width = image.shape
    out = np.zeros_like(image)
    rows = slice(max(0, down), min(height, height + down))
    columns = slice(max(0, right), min(width, width + right))
    out[rows, columns] = image[max(0, -down) : height - max(0, down), max(0, -right) :][
        :, : columns.stop - columns.start
    ]
    return out


@given(SEEDS, st.integers(0, 3), st.integers(4, 7), st.integers(4, 7), st.integers(0, 4))
@settings(deadline=None, max_examples=40)
def test_a_moved_image_is_a_shift_of_the_image_or_of_its_mirror(seed, pixels, height, width, n):
    x = normal(n, 1, height, width, seed=seed)
    before = x.clone()
    moved = flip_and_shift(x, generator(seed), pixels)
    assert moved.shape == x.shape and moved.dtype == x.dtype and torch.equal(x, before)
    reach = range(-pixels, pixels + 1)
    for image, found in zip(x[:, 0].numpy(), moved[:, 0].numpy(), strict=True):
        allowed = [shifted(i, a, b) for i in (image, image[:, ::-1]) for a in reach for b in reach]
        assert any(np.array_equal(found, candidate) for candidate in allowed)


def test_every_shift_and_the_mirror_come_up():
    """By two pixels unless told otherwise; mirrored half of the time."""
    x = torch.zeros(400, 1, 28, 28)
    x[:, 0, 10, 5] = 1
    y = flip_and_shift(x, generator(0))
    n, _, rows, columns = y.nonzero(as_tuple=True)
    assert n.tolist() == list(range(400)), "no pixel is lost or doubled"
    assert set(rows.tolist()) == set(range(8, 13))
    assert set(columns.tolist()) == set(range(3, 8)) | set(range(20, 25))
    assert 160 < (columns > 14).sum() < 240
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == 50


@given(SEEDS)
@settings(deadline=None, max_examples=20)
def test_each_image_is_moved_or_not(seed):
    x = normal(6, 1, 8, 8, seed=seed)
    y, moved = half_moved(x, generator(seed)), flip_and_shift(x, generator(seed))
    assert all(torch.equal(a, b) or torch.equal(a, c) for a, b, c in zip(y, x, moved, strict=True))


def test_half_of_the_images_are_moved():
    x = inputs.as_input(data.fashion_mnist("validation").images[:400])
    before = x.clone()
    y = half_moved(x, generator(0))
    changed = (y != x).flatten(1).any(1).float().mean().item()
    assert torch.equal(x, before) and 0.35 < changed < 0.6


@pytest.mark.parametrize("function", [flip_and_shift, half_moved, move_watch])
def test_only_the_generator_that_is_given_is_drawn_from(function):
    x = normal(5, 100, 6) if function is move_watch else normal(5, 1, 28, 28)
    before = torch.get_rng_state()
    first, again, other = (function(x, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 3, 28, 28), (2, 1, 28), (2, 0, 8, 8)])
def test_images_have_one_channel(shape):
    for function in (flip_and_shift, half_moved):
        with pytest.raises(ValueError, match=r"expected images \[N, 1, H, W\]"):
            function(torch.zeros(shape), generator(0))


@pytest.mark.parametrize("pixels", [-1, 1.5, True, None])
def test_pixels_are_counted(pixels):
    with pytest.raises((ValueError, TypeError), match="pixels is .* whole number, at least 0"):
        flip_and_shift(torch.zeros(1, 1, 8, 8), generator(0), pixels)


@pytest.mark.parametrize("shape", [(100, 6), (2, 100, 5), (2, 1, 6), (2, 6, 100), (1, 2, 100, 6)])
def test_windows_have_steps_and_six_channels(shape):
    with pytest.raises(ValueError, match=r"expected windows \[N, time >= 2, 6\]"):
        move_watch(torch.zeros(shape), generator(0))


def test_without_strength_only_the_other_wrist_is_left():
    x = normal(400, 10, 6)
    y = move_watch(x, generator(1), **STILL)
    plain, mirrored = ((y - z).abs().amax((1, 2)) < 1e-5 for z in (x, x * MIRROR))
    assert (plain ^ mirrored).all() and 160 < plain.sum() < 240


def test_a_turned_watch_keeps_lengths_and_the_angle_between_its_sensors():
    x = normal(64, 20, 6)
    turned = move_watch(x, generator(2), **STILL | dict(tilt=0.5))
    for part in (slice(0, 3), slice(3, 6)):
        lengths = turned[..., part].norm(dim=2), x[..., part].norm(dim=2)
        torch.testing.assert_close(*lengths, atol=1e-4, rtol=0)
    angle = [(y[..., :3] * y[..., 3:]).sum(2).abs() for y in (turned, x)]
    torch.testing.assert_close(*angle, atol=1e-3, rtol=0)
    assert (turned.abs() - x.abs()).abs().amax((1, 2)).min() > 0.01, "and each is turned"


def test_the_turn_has_the_deviation_that_is_asked_for():
    """A small rotation by v moves the x axis by v_z along y and v_y along z, up to signs."""
    x = torch.zeros(2000, 2, 6)
    x[:, :, 0] = 1
    for tilt in (0.01, 0.05):
        y = move_watch(x, generator(5), **STILL | dict(tilt=tilt))
        assert y[:, 0, 1:3].std(0).tolist() == pytest.approx([tilt, tilt], rel=0.1)


@given(SEEDS, st.sampled_from([2, 3, 5, 30, 100]))
@settings(deadline=None, max_examples=30)
def test_tempo_and_shift_read_the_window_at_other_times(seed, steps):
    """Against NumPy's interpolation, at positions that a mirror at either end folds back."""
    x = normal(3, steps, 6, seed=seed)
    y = move_watch(x, generator(seed), **STILL | dict(tempo=0.3, shift=10.0))
    draw = generator(seed)
    speed = np.exp(0.3 * (2 * torch.rand(3, generator=draw).numpy() - 1))
    offset = 10 * (2 * torch.rand(3, generator=draw).numpy() - 1)
    end = steps - 1
    for k in range(3):
        at = end / 2 + offset[k] + speed[k] * (np.arange(steps) - end / 2)
        folded = np.clip(np.where(np.abs(at) > end, 2 * end - np.abs(at), np.abs(at)), 0, end)
        expected = np.stack([np.interp(folded, np.arange(steps), c) for c in x[k].numpy().T], 1)
        expected[:, 3:] *= speed[k]  # a faster motion turns faster
        errors = [np.abs(y[k].numpy() - expected * m).max() for m in (1, MIRROR.numpy())]
        assert min(errors) < 1e-3


def test_the_speed_is_spread_over_its_range():
    turning = move_watch(torch.ones(3000, 2, 6), generator(3), **STILL | dict(tempo=0.2))
    logs = turning[:, 0, 3:].abs().log()
    assert torch.equal(logs[:, 0], logs[:, 1]) and logs.abs().max() <= 0.2 + 1e-6
    assert logs[:, 0].min() < -0.19 and logs[:, 0].max() > 0.19 and abs(logs.mean()) < 0.01
    assert torch.equal(turning[:, 0, :3].abs(), torch.ones(3000, 3)), "gravity stays"


def test_each_sensor_has_a_loudness_of_its_own():
    y = move_watch(torch.ones(3000, 2, 6), generator(4), **STILL | dict(loudness=0.1))
    logs = y[:, 0].abs().log()
    assert torch.equal(logs[:, 0], logs[:, 2]) and torch.equal(logs[:, 3], logs[:, 5])
    assert logs[:, [0, 3]].std(0).tolist() == pytest.approx([0.1, 0.1], rel=0.1)
    assert abs(torch.corrcoef(logs[:, [0, 3]].T)[0, 1]) < 0.1


def test_the_usual_strengths_are_those_of_the_recipes():
    x = normal(8, 100, 6)
    usual = dict(tilt=0.2, loudness=0.1, tempo=0.2, shift=10.0)
    assert torch.equal(move_watch(x, generator(1)), move_watch(x, generator(1), **usual))
