"""PyTorch to ExecuTorch: float files compute what the model does, int8 files nearly."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from test_convert_onnx import NETWORKS
from test_twins import randomized
from torch import nn

from helpers.convert import to_executorch
from helpers.data import fashion_mnist
from helpers.models import build, load
from helpers.runtime import open_model
from helpers.runtime_executorch import check_ends
from helpers.seal import without_seal
from helpers.train import predict

IMAGES = fashion_mnist("test").images[:60]
CALIBRATION = fashion_mnist("fit").images[:40]
FLOAT = ("LeNet5", "ResNet8_half", "SearchedCNN", "mobile")  # every kind of layer, seconds each
INT8 = ("LeNet5", "ResNet8_half", "SearchedCNN")


@pytest.fixture(scope="module")
def tiny() -> tuple[nn.Module, bytes]:
    model = randomized(build("LeNet300"))
    return model, to_executorch(model)


@pytest.mark.parametrize("name", FLOAT)
def test_a_float_file_computes_what_the_model_does(name):
    model = NETWORKS[name]()
    expected = predict(model, IMAGES)
    logits = open_model(to_executorch(model)).predict(IMAGES)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    assert (logits.argmax(1) == expected.argmax(1)).all()


@pytest.mark.parametrize("name", INT8)
def test_an_integer_file_computes_nearly_what_the_model_does(name):
    test = fashion_mnist("test")
    model, images, labels = load(name), test.images[:300], test.labels[:300]
    expected = predict(model, images)
    content = to_executorch(model, int8=True, calibration=CALIBRATION)
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters < len(content) < 1.3 * parameters + 25_000
    logits = open_model(content).predict(images)
    assert np.abs(logits - expected).mean() < 0.03 * np.ptp(expected)
    right = [(z.argmax(1) == labels).mean() for z in (logits, expected)]
    assert abs(right[0] - right[1]) <= 0.02


def test_the_file_is_as_it_is_said(tiny):
    _, content = tiny
    assert content[4:8] == b"ET12" and b"XnnpackBackend" in content
    bare = without_seal(content, ".pte")
    assert bare == content[:-79]
    check_ends(bare)
    assert b".py" not in content


def test_the_mode_does_not_matter_and_the_model_stays(tiny):
    model, content = tiny
    trained = copy.deepcopy(model).train()
    before = copy.deepcopy(trained.state_dict())
    same = to_executorch(trained)
    assert trained.training and all(m.training for m in trained.modules())
    assert all(torch.equal(v, before[k]) for k, v in trained.state_dict().items())
    np.testing.assert_array_equal(
        open_model(same).predict(IMAGES), open_model(content).predict(IMAGES)
    )


class Bessel(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x.flatten(1)[:, :10])


class Branch(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10] if x.sum() > 0 else -x.flatten(1)[:, :10]


def test_what_no_file_can_hold_is_refused(capfd):
    for model, error, words in (
        (Bessel(), RuntimeError, "to ExecuTorch failed: .*bessel_j0"),
        (Branch(), RuntimeError, "to ExecuTorch failed: Could not guard on data"),
        (nn.Conv2d(1, 1, 3), ValueError, r"expected float32 logits \[2, C\]"),
        (None, TypeError, "model is a NoneType"),
    ):
        with pytest.raises(error, match=words) as caught:
            to_executorch(model)
        assert len(str(caught.value)) < 900
    assert capfd.readouterr() == ("", "")


def test_an_integer_file_needs_calibration_and_a_float_model_of_images(tiny):
    model, _ = tiny
    for wrong, error, words in (
        (None, ValueError, "needs calibration"),
        (CALIBRATION[:0], ValueError, "holds no image"),
        (CALIBRATION.astype(float), TypeError, "float64"),
        (CALIBRATION[0], ValueError, r"expected \[N, 28, 28\]"),
    ):
        with pytest.raises(error, match=words):
            to_executorch(model, int8=True, calibration=wrong)
    with pytest.raises(ValueError, match="reads windows"):
        to_executorch(build("SensorGRU"), int8=True, calibration=CALIBRATION)
    with pytest.raises(ValueError, match="has quantizers"):
        to_executorch(load("ResNet8_8bit"), int8=True, calibration=CALIBRATION)


def test_several_threads_convert_in_silence(tiny, capfd):
    model, content = tiny
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(to_executorch, (model, model))
    for again in (first, second):
        logits = open_model(again).predict(IMAGES)
        np.testing.assert_array_equal(logits, open_model(content).predict(IMAGES))
    assert capfd.readouterr() == ("", "")
