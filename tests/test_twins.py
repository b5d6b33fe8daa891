"""The Keras twins compute what the PyTorch models compute."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from helpers.architectures import ResidualBlock
from helpers.data import fashion_mnist, watch
from helpers.models import NAMES, build, load
from helpers.train import predict
from helpers.twins import keras_twin


def randomized(model: nn.Module, seed: int = 0) -> nn.Module:
    """Batch normalisation as if trained, so that a wrong order or a lost term shows."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            n = module.num_features
            module.running_mean.copy_(torch.randn(n, generator=generator) * 0.2)
            module.running_var.copy_(torch.rand(n, generator=generator) + 0.5)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
                nn.init.normal_(module.bias, 0, 0.2, generator=generator)
    return model.eval()


def outputs(model: nn.Module, shape: tuple = (1, 28, 28)) -> tuple[np.ndarray, np.ndarray]:
    """What the model and its twin say about five random inputs."""
    x = torch.rand(5, *shape, generator=torch.Generator().manual_seed(1))
    keras_x = x.movedim(1, -1) if len(shape) == 3 else x
    with torch.inference_mode():
        return model(x).numpy(), keras_twin(model)(keras_x.numpy()).numpy()


@pytest.mark.parametrize("name", NAMES)
def test_twin_of_every_model(name):
    shape = (100, 6) if name.startswith("Sensor") else (1, 28, 28)
    ours, twins = outputs(randomized(build(name)), shape)
    np.testing.assert_allclose(twins, ours, rtol=0, atol=1e-4)
    assert ours.std(axis=0).max() > 1e-3, "the outputs do not depend on the input"


@pytest.mark.parametrize("name", NAMES)
def test_shipped_model_and_its_twin_over_the_whole_test_set(name):
    model, sensor = load(name), name.startswith("Sensor")
    inputs = watch("test").windows if sensor else fashion_mnist("test").images
    ours = predict(model, inputs)
    x = inputs if sensor else inputs[..., None] / np.float32(255)
    twins = keras_twin(model).predict(x, batch_size=500, verbose=0)
    assert np.abs(twins - ours).max() <= 1e-4
    assert np.array_equal(twins.argmax(1), ours.argmax(1))


def block_with_odd_channels() -> ResidualBlock:
    """A residual block after filter pruning: 7 inner channels that the class never heard of."""
    block = ResidualBlock(6, 10, stride=2)
    block.body[0] = nn.Conv2d(6, 7, 3, 2, padding=1, bias=False)
    block.body[1] = nn.BatchNorm2d(7)
    block.body[3] = nn.Conv2d(7, 10, 3, padding=1, bias=False)
    return block


ODD = {
    "pruned, depthwise, nested": lambda: nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        block_with_odd_channels(),
        nn.Conv2d(10, 20, 3, stride=2, padding=1, groups=10, bias=False),
        nn.BatchNorm2d(20),
        nn.Conv2d(20, 9, 1),
        nn.ReLU(),
        nn.AvgPool2d(2, stride=1),
        nn.Sequential(nn.Flatten(), nn.Linear(9 * 6 * 6, 5)),
    ),
    "other kernels and paddings": lambda: nn.Sequential(
        nn.Conv2d(1, 4, (5, 3), stride=(1, 2), padding=(0, 1)),
        nn.Conv2d(4, 4, 5, padding=1, groups=4),
        nn.MaxPool2d(3, 2),
        nn.Flatten(),
        nn.ReLU(),
        nn.Linear(4 * 10 * 5, 3, bias=False),
    ),
    "even kernel": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 4, padding=2), nn.Flatten(), nn.Linear(2523, 2)
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_twin_reads_sizes_from_the_modules(kind):
    ours, twins = outputs(randomized(ODD[kind]()))
    assert twins.shape == ours.shape
    np.testing.assert_allclose(twins, ours, rtol=0, atol=1e-4)


def test_layers_are_called_after_their_modules():
    twin = keras_twin(build("ResNet8"))
    names = [layer.name for layer in twin.layers]
    assert names[:3] == ["image", "conv2d_0", "batchnorm2d_1"]
    assert {"conv2d_3_body_0", "add_3", "pad_conv2d_4_body_0", "linear_8"} <= set(names)
    assert twin.input_shape == (None, 28, 28, 1)


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Softplus()), TypeError, "module 1 is a Softplus"),
        (nn.Softplus(), TypeError, "Softplus has no Keras twin"),
        (nn.Sequential(nn.Conv2d(1, 2, 3, dilation=2)), ValueError, "no dilation"),
        (nn.Sequential(nn.MaxPool2d(3, padding=1)), ValueError, "no padding"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(2)), ValueError, "output_size 1"),
    ],
)
def test_what_has_no_twin_is_named(model, error, words):
    with pytest.raises(error, match=words):
        keras_twin(model)


def test_a_recurrent_layer_must_be_plain():
    model = build("SensorGRU")
    model.rnn = nn.GRU(6, 8, num_layers=2, batch_first=True)
    with pytest.raises(ValueError, match="one layer"):
        keras_twin(model)


def test_training_after_keras_does_not_crash():
    """In one process, first the twin and then an optimizer, which imports torch's compiler."""
    code = "from helpers.twins import import_keras; import_keras(); import torch._dynamo"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
