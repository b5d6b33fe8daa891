"""What lesson 49 writes out: requantizing, repairing a MobileNet, words in a file."""

import copy
import io
import zipfile
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from PIL import Image
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.mobilenetv2 import MobileNetV2

from helpers.convert import to_tflite, with_signature
from helpers.models import build
from helpers.runtime import open_model

lesson = definitions("49_harder_conversions")


@pytest.fixture(scope="module")
def network():
    """A narrow MobileNetV2, its batch norms as if trained, and folded."""
    torch.manual_seed(0)
    model = MobileNetV2(num_classes=5, width_mult=0.25, inverted_residual_setting=SETTING).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.weight, 0.3, 3)
            nn.init.normal_(module.bias, 0, 0.3)
    for part in list(model.modules()):
        if isinstance(part, nn.Sequential):
            children = list(part._modules.items())
            for (name, layer), (place, after) in pairwise(children):
                if isinstance(after, nn.BatchNorm2d):
                    part._modules[name] = fuse_conv_bn_eval(layer, after)
                    part._modules[place] = nn.Identity()
    return model.requires_grad_(False)


SETTING = [[1, 16, 1, 1], [6, 24, 2, 2], [4, 32, 3, 2]]  # expansion, channels, blocks, stride
x = torch.randn(4, 3, 48, 48, generator=torch.Generator().manual_seed(0))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(-128, 127), st.integers(1, 400), st.integers(-128, 127))
def test_requantizing_is_exact(s_out, z_out, s_in, z_in):
    q = np.arange(-128, 128).astype(np.int8)
    exact = [round(Fraction(s_out, s_in) * (int(k) - z_out)) + z_in for k in q]
    found = lesson.requantize(q, s_out / 128, z_out, s_in / 128, z_in)
    assert found.dtype == np.int8
    assert np.abs(found - np.clip(exact, -128, 127)).max() <= 1  # a tie may fall either way
    assert np.mean(found == np.clip(exact, -128, 127)) > 0.4
    if s_out == s_in:
        assert np.array_equal(found, np.clip(exact, -128, 127))


def test_the_groups_are_all_places_where_channels_are_written_and_read(network):
    groups = lesson.groups(network)
    writers = [layer for group in groups for layer in group[0]]
    readers = [layer for group in groups for layer in group[1]]
    convs = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert set(writers) == set(convs[:-1]) and len(writers) == len(convs) - 1
    assert set(readers) == set(convs[1:]) and len(readers) == len(convs) - 1
    for written, read in groups:
        channels = {w.out_channels for w in written} | {r.in_channels for r in read}
        assert len(channels) == 1 and len(written) == len(read)
    assert sorted(len(w) for w, _ in groups)[-2:] == [2, 3], "blocks with a shortcut share a sum"


@pytest.mark.parametrize(("free", "shared"), [(0, 0), (0.9, 0.5), (1, 0), (0, 1)])
def test_equalizing_leaves_the_function_on_what_it_saw(network, free, shared):
    even = lesson.equalized(network, x, free, shared)
    before, after = network(x), even(x)
    assert torch.allclose(before, after, atol=1e-3 * float(before.abs().max()))
    changed = any(
        not torch.equal(a, b) for a, b in zip(network.parameters(), even.parameters(), strict=True)
    )
    assert changed == bool(free or shared)


def test_equalizing_to_the_end_brings_channels_to_the_ceiling(network):
    even = lesson.equalized(network, x, free=1.0, shared=0.0)
    for writers, readers in lesson.groups(even):
        if readers[0].groups > 1 and len(writers) == 1:
            largest, after_relu6 = lesson.collected(even, readers, x, lesson.reach)[0]
            assert after_relu6 and largest.max() <= 6 + 1e-4
            assert (largest > 5.9).float().mean() > 0.5


def test_factors_as_in_the_text():
    e = lesson.factors(torch.tensor([4.0, 0.25]), 4.0, 0.5)
    assert torch.equal(e, torch.tensor([1.0, 4.0]))
    assert float(lesson.factors(torch.tensor([0.0]), 6.0, 0.5)) == pytest.approx(10)


def test_corrected_biases_give_the_means_of_the_reference(network):
    rounded = lesson.int8_weights(network)
    for layer in lesson.layers(rounded):
        layer.weight.mul_(1.05)  # an error to correct
    weights = [layer.weight.clone() for layer in lesson.layers(rounded)]
    means = [
        lesson.collected(m, lesson.layers(m), x, lesson.channel_means) for m in (network, rounded)
    ]
    assert max((a - b).abs().max() for a, b in zip(*means, strict=True)) > 1e-2
    lesson.correct(rounded, network, x)
    found = lesson.collected(rounded, lesson.layers(rounded), x, lesson.channel_means)
    for target, mean in zip(means[0], found, strict=True):
        assert torch.allclose(target, mean, atol=1e-3 * max(1, float(target.abs().max())))
    for layer, weight in zip(lesson.layers(rounded), weights, strict=True):
        assert torch.equal(layer.weight, weight) and not layer._forward_hooks


def test_int8_weights_have_255_levels_a_filter(network):
    for layer, other in zip(
        lesson.layers(network), lesson.layers(lesson.int8_weights(network)), strict=True
    ):
        for w, w_hat in zip(layer.weight, other.weight, strict=True):
            q = w_hat / (w.abs().max() / 127)
            assert torch.allclose(q, q.round(), atol=1e-3) and q.abs().max() <= 127.001
            assert (w - w_hat).abs().max() <= w.abs().max() / 254 * 1.001


def test_rounded_activations_lie_on_256_levels_and_the_hooks_go(network):
    places = lesson.places(network)
    ends = lesson.collected(network, places, x, lambda i, o: (float(o.min()), float(o.max())))
    model = copy.deepcopy(network)
    with lesson.activations_rounded(model, ends):
        rounded = model(x)
    assert all(len(torch.unique(rounded[:, k])) <= 256 for k in range(5))
    assert 0 < (rounded - network(x)).abs().max() < 0.2 * network(x).abs().max()
    assert torch.equal(model(x), network(x))


def test_the_cuts_are_of_one_size():
    image = Image.fromarray(np.zeros((256, 300, 3), np.uint8))
    assert lesson.five(image).shape == (5, 224, 224, 3)
    assert lesson.center(image).shape == (224, 224, 3)
    assert all(min(lesson.resized(name).size) == 256 for name in lesson.NAMES)


def test_the_top_labels_are_sorted_probabilities():
    lesson.__globals__["LABELS"] = [f"class {k}" for k in range(4)]
    found = lesson.top(np.array([0.0, np.log(3), np.log(2), -50]), 3)
    assert [label for label, _ in found] == ["class 1", "class 2", "class 0"]
    assert [p for _, p in found] == pytest.approx([1 / 2, 1 / 3, 1 / 6])


@settings(max_examples=10, deadline=None)
@given(
    words=st.text(max_size=20),
    facts=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3),
    labels=st.lists(st.text("abc äß", min_size=1, max_size=6), min_size=1, max_size=5),
)
def test_words_in_a_file_come_back_and_change_no_logit(words, facts, labels):
    content = with_signature(TINY)
    complete = lesson.with_labels(lesson.described(content, words, facts), labels)
    assert lesson.about(complete) == (words, facts) and lesson.labels_of(complete) == labels
    assert np.array_equal(open_model(complete).predict(IMAGES), open_model(TINY).predict(IMAGES))
    assert list(Interpreter(model_content=complete).get_signature_list()) == ["serving_default"]
    again = lesson.described(complete, words, facts)
    assert not zipfile.is_zipfile(io.BytesIO(again))


TINY = to_tflite(build("TinyCNN"), "float32")
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28)).astype(np.uint8)
