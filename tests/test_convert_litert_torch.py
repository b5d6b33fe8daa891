"""litert-torch's files are the networks that they were made from."""

import numpy as np
import pytest
import torch
from test_twins import randomized
from torch import nn

from helpers import convert_litert_torch
from helpers.convert_litert_torch import torch_to_tflite
from helpers.data import fashion_mnist
from helpers.models import build
from helpers.runtime import open_model
from helpers.train import predict

installed = pytest.mark.skipif(not convert_litert_torch.available(), reason="an extra")


@installed
def test_it_agrees_with_pytorch_and_prints_nothing(capfd):
    model, images = randomized(build("TinyCNN")), fashion_mnist("test").images[:20]
    expected = predict(model, images)
    model.train()
    content = torch_to_tflite(model)
    assert all(module.training for module in model.modules())
    np.testing.assert_allclose(open_model(content).predict(images), expected, atol=1e-4)
    assert capfd.readouterr() == ("", "")


class Choosing(nn.Module):
    """Its path depends on its input's values, which no graph of operators can tell."""

    def forward(self, x):
        x = x.flatten(1)[:, :10]
        return x if x.sum() > 0 else -x


@installed
def test_a_network_that_cannot_be_exported_is_said():
    with pytest.raises(RuntimeError, match="conversion to float32 failed"):
        torch_to_tflite(Choosing())


def test_what_is_wrong_is_said(monkeypatch):
    with pytest.raises(TypeError, match="Tensor: pass a PyTorch model"):
        torch_to_tflite(torch.zeros(1))
    monkeypatch.setattr(convert_litert_torch, "available", lambda: False)
    with pytest.raises(RuntimeError, match="litert-torch is not installed: .*requirements.txt"):
        torch_to_tflite(build("TinyCNN"))
