"""Quantization-aware networks: where the quantizers go, how steps start, and what is deployed."""

import copy

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers import models
from helpers.architectures import ResidualBlock, conv_bn
from helpers.convert import to_tflite
from helpers.models import load
from helpers.qat import LSQ, QuantizedLayer, best_step, fold, insert_quantizers, start_steps
from helpers.runtime import open_model
from helpers.train import predict


def small(seed: int = 0) -> nn.Sequential:
    """A residual network with batch norms that have seen data; half of their factors are < 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            *conv_bn(1, 4, stride=2),
            nn.ReLU(),
            ResidualBlock(4, 4),
            ResidualBlock(4, 6, stride=2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 10),
        )
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.data = torch.empty_like(module.weight).uniform_(0.5, 2)
                module.weight.data[::2] *= -1
                module.bias.data.normal_()
    return model.eval()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)


@pytest.fixture(scope="module")
def quantized(images) -> nn.Sequential:
    model = insert_quantizers(small(), 8)
    start_steps(model, images)
    return model


def quantizers(model: nn.Module) -> list[tuple[int, bool, int | None]]:
    return [(q.bits, q.signed, q.axis) for q in model.modules() if isinstance(q, LSQ)]


def test_every_tensor_has_a_quantizer():
    model = small()
    before = copy.deepcopy(model.state_dict())
    changed = insert_quantizers(model, 3)
    found = quantizers(changed)
    assert found.count((3, True, 0)) == 7, "six convolutions and the dense layer"
    assert found.count((3, False, None)) == 6, "five ReLUs and the pooling"
    assert found.count((8, True, None)) == 4, "three summands and the logits"
    assert not any(isinstance(m, nn.ReLU) for m in changed.modules())
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(isinstance(m, LSQ | QuantizedLayer) for m in model.modules())


def test_eight_bits_change_little_and_two_bits_much(quantized, images):
    floats = predict(small(), images)
    two = insert_quantizers(small(), 2)
    start_steps(two, images)
    error = [np.abs(predict(m, images) - floats).mean() / floats.std() for m in (quantized, two)]
    assert error[0] < 0.05 < error[1]


def test_a_start_has_a_name(images):
    with pytest.raises(ValueError, match="how is 'minmax': choose mse or lsq"):
        start_steps(insert_quantizers(small(), 4), images, "minmax")


def test_no_hook_stays_behind(quantized):
    assert not any(module._forward_pre_hooks for module in quantized.modules())


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([2, 3, 4, 8]), st.booleans(), st.booleans())
def test_best_step_is_the_best_of_its_fractions(seed, bits, signed, channels):
    x = torch.randn(3, 50, generator=torch.Generator().manual_seed(seed))
    x[1] = 0
    quantizer = LSQ(bits, signed, axis=0 if channels else None, size=3)
    step = best_step(quantizer, x)
    assert step.shape == (3 if channels else 1,) and (step > 0).all()
    seen = x if signed else x.clamp(min=0)
    rows = seen if channels else seen.reshape(1, -1)

    def error(step: torch.Tensor) -> torch.Tensor:
        q = (rows / step[:, None]).round().clamp(quantizer.qmin, quantizer.qmax)
        return (q * step[:, None] - rows).square().sum(1)

    top = rows.abs().amax(1)
    for fraction in (0.2, 0.5, 0.77, 1.0):
        other = torch.where(top > 0, top * fraction / quantizer.qmax, 1.0)
        assert (error(step) <= error(other) * (1 + 1e-5)).all()


def test_folding_keeps_outputs_and_integers(quantized, images):
    folded = fold(quantized)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    a, b = predict(quantized, images), predict(folded, images)
    step = float(quantized[-1].step.detach())
    assert np.abs(a - b).max() < 2.5 * step and (np.abs(a - b) > step / 2).mean() < 0.05

    def integers(layer: QuantizedLayer) -> torch.Tensor:
        step = layer.weight_quantizer.step.detach().reshape(
            -1, *[1] * (layer.layer.weight.ndim - 1)
        )
        return (layer.layer.weight.detach() / step).round()

    pairs = zip(
        (m for m in quantized.modules() if isinstance(m, QuantizedLayer)),
        (m for m in folded.modules() if isinstance(m, QuantizedLayer)),
        strict=True,
    )
    norms = [m.weight for m in quantized.modules() if isinstance(m, nn.BatchNorm2d)]
    for i, (before, after) in enumerate(pairs):
        sign = norms[i].detach().sign()[:, None, None, None] if i < len(norms) else 1
        assert torch.equal(integers(before) * sign, integers(after))


def test_a_batch_norm_without_a_quantized_layer_is_not_folded():
    with pytest.raises(ValueError, match="expected a quantized layer without a bias"):
        fold(nn.Sequential(*conv_bn(1, 2)))


def test_the_file_holds_the_learned_steps(quantized, images):
    folded = fold(quantized)
    content = to_tflite(folded, "int8")
    deployed = open_model(content)
    assert (
        np.isclose(deployed.input_quantization[0], 1 / 255)
        and deployed.input_quantization[1] == -128
    )
    step = float(folded[-1].step.detach())
    difference = np.abs(deployed.predict(images) - predict(folded, images)) / step
    assert difference.max() < 3.5 and (difference > 0.5).mean() < 0.5
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    tensors = interpreter.get_tensor_details()
    assert not any(t["dtype"] == np.float32 for t in tensors)
    stored = [t["quantization_parameters"]["scales"] for t in tensors]
    for module in folded.modules():
        if isinstance(module, LSQ):
            learned = module.step.detach().numpy()
            assert any(
                len(s) == len(learned) and np.allclose(s, learned, rtol=1e-5) for s in stored
            )


@pytest.mark.parametrize(
    ("change", "mode", "words"),
    [
        (lambda m: fold(m), "dynamic", "has learned its ranges"),
        (lambda m: m, "int8", "its batch norm folded"),
        (lambda m: fold(insert_quantizers(small(), 8)), "int8", "8 bits and one step"),
    ],
)
def test_what_cannot_be_exported_is_said(quantized, change, mode, words):
    with pytest.raises(ValueError, match=words):
        to_tflite(change(quantized), mode)


def test_calibration_is_not_mixed_with_learned_steps(quantized, images):
    with pytest.raises(ValueError, match="has learned its ranges"):
        to_tflite(fold(quantized), "int8", images)


def test_four_bits_have_no_int8_file(images):
    model = insert_quantizers(small(), 4)
    start_steps(model, images)
    with pytest.raises(ValueError, match="8 bits and one step"):
        to_tflite(fold(model), "int8")


@pytest.mark.parametrize("name", models.QUANTIZED)
def test_shipped_models_load(name):
    model = load(name)
    assert all(q.started for q in model.modules() if isinstance(q, LSQ))
    assert models.card(name)["parameters"] == sum(p.numel() for p in model.parameters())


def test_an_unknown_name():
    with pytest.raises(ValueError, match="unknown model 'ResNet8': choose one of ResNet8_8bit"):
        load("ResNet8")
