"""PyTorch to ONNX: float files compute what the model does, int8 files nearly, whoever converts."""

import copy
import logging
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from lesson_code import definitions
from test_twins import randomized
from torch import nn

from helpers.convert import to_onnx, to_onnx_int8
from helpers.data import fashion_mnist, watch
from helpers.models import as_input, build, load
from helpers.qat import insert_quantizers
from helpers.runtime import open_model
from helpers.seal import without_seal
from helpers.train import predict

IMAGES = fashion_mnist("test").images[:60]
CALIBRATION = fashion_mnist("fit").images[:40]


def mobile() -> nn.Module:
    """The small MobileNet of lesson 34, with numbers that no batch norm hides."""
    return randomized(definitions("34_efficient_architectures").mobile())


def excited() -> nn.Module:
    """The gate of lesson 34, and its shuffle of channels."""
    lesson = definitions("34_efficient_architectures")
    shuffle = nn.ChannelShuffle(4)
    layers = [nn.Conv2d(1, 16, 3, 2), lesson.SqueezeExcite(16), shuffle]
    layers += [nn.Conv2d(16, 16, 1, groups=4)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)).eval()


NAMES = ("LeNet300", "LeNet5", "TinyCNN", "ResNet8", "WideResNet", "ResNet8_half", "SearchedCNN")
NETWORKS = {
    **{name: lambda name=name: load(name) for name in NAMES},
    "mobile": mobile,
    "excited": excited,
}


@pytest.fixture(scope="module")
def tiny() -> tuple[nn.Module, bytes]:
    model = randomized(build("TinyCNN"))
    return model, to_onnx(model)


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {"TinyCNN", "ResNet8"}))
def test_a_float_file_computes_what_the_model_does(name):
    model = NETWORKS[name]()
    expected = predict(model, IMAGES)
    logits = open_model(to_onnx(model)).predict(IMAGES)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    assert (logits.argmax(1) == expected.argmax(1)).all()


@pytest.mark.parametrize("name", ["LeNet5", "ResNet8_half", "SearchedCNN"])
def test_an_integer_file_computes_nearly_what_the_model_does(name):
    model, images = load(name), fashion_mnist("test").images[:300]
    labels, expected = fashion_mnist("test").labels[:300], predict(load(name), images)
    content = to_onnx_int8(model, CALIBRATION)
    logits = open_model(content).predict(images)
    assert np.abs(logits - expected).mean() < 0.03 * np.ptp(expected)
    right = [(z.argmax(1) == labels).mean() for z in (logits, expected)]
    assert abs(right[0] - right[1]) <= 0.02
    stored = {i.name: i.data_type for i in onnx.load_from_string(content).graph.initializer}
    assert onnx.TensorProto.INT8 in stored.values()
    floats = [
        k for k, kind in stored.items() if kind == onnx.TensorProto.FLOAT and "scale" not in k
    ]
    assert floats == [], "a weight or a bias stays in floating point"


def test_weights_have_a_scale_for_each_filter_or_one():
    model = load("TinyCNN")
    for per_channel, sizes in ((True, {16, 24, 48, 10}), (False, {1})):
        graph = onnx.load_from_string(
            to_onnx_int8(model, CALIBRATION, per_channel=per_channel)
        ).graph
        scales = [i for i in graph.initializer if i.name.endswith("weight_scale")]
        assert {int(np.prod(s.dims)) for s in scales} == sizes and len(scales) == 4
        zeros = [
            onnx.numpy_helper.to_array(i) for i in graph.initializer if "weight_zero" in i.name
        ]
        assert not any(z.any() for z in zeros) and all(z.dtype == np.int8 for z in zeros)


def test_the_file_is_as_it_is_said(tiny):
    _, content = tiny
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    (given,), (result,) = model.graph.input, model.graph.output
    assert (given.name, result.name) == ("input", "output")
    sizes = [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim]
    assert sizes == ["batch", 1, 28, 28]
    assert all(not i.external_data for i in model.graph.initializer)
    assert b".py" not in content and b"/" not in content.split(b"weight")[0]
    assert not any(n.op_type == "BatchNormalization" for n in model.graph.node)
    assert without_seal(content, ".onnx") == content[:-84]
    assert {p.key for p in model.metadata_props} == {"sha256"}


def test_without_our_runtime_and_unsealed_it_is_the_same_model(tiny):
    model, content = tiny
    x = as_input(IMAGES[:3]).numpy()
    for file in (content, content[:-84]):
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(
            session.run(None, {"input": x})[0], predict(model, IMAGES[:3]), atol=1e-4
        )


def test_the_mode_does_not_matter_and_the_model_stays(tiny):
    model, content = tiny
    trained = copy.deepcopy(model).train()
    trained[3].eval()
    modes = [m.training for m in trained.modules()]
    before = copy.deepcopy(trained.state_dict())
    assert to_onnx(trained) == content
    assert [m.training for m in trained.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in trained.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in trained.parameters())
    assert torch.is_grad_enabled()


def test_a_quantization_aware_model_keeps_its_staircases():
    model = load("ResNet8_8bit")
    expected = predict(model, IMAGES)
    logits = open_model(to_onnx(model)).predict(IMAGES)
    step = model[-1].scale.item()
    assert np.abs(logits - expected).max() < 1.5 * step, "more than one level apart"
    assert (np.abs(logits - expected) > 1e-3).mean() < 0.02
    with pytest.raises(ValueError, match="has quantizers.*pass the float model"):
        to_onnx_int8(model, CALIBRATION)
    with pytest.raises(ValueError, match="no step yet.*start_steps"):
        to_onnx(insert_quantizers(build("TinyCNN"), 8))


def test_a_recurrent_network_converts_in_float():
    model, windows = load("SensorLSTM"), watch("test").windows[:20]
    with torch.no_grad():
        expected = model(torch.from_numpy(windows)).numpy()
    content = to_onnx(model)
    np.testing.assert_allclose(open_model(content).predict(windows), expected, rtol=0, atol=1e-4)
    assert "LSTM" in {n.op_type for n in onnx.load_from_string(content).graph.node}
    with pytest.raises(ValueError, match="reads windows"):
        to_onnx_int8(model, CALIBRATION)


class Bessel(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x.flatten(1)[:, :10])


class Branch(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10] if x.sum() > 0 else -x.flatten(1)[:, :10]


class Fixed(nn.Module):
    def forward(self, x):
        return x.reshape(2, -1)[:, :10]


class Two(nn.Module):
    def forward(self, x):
        return x.flatten(1), x


REFUSED = {
    "no operation": (Bessel(), RuntimeError, "to ONNX failed: No ONNX function found.*bessel_j0"),
    "a branch on data": (Branch(), RuntimeError, "to ONNX failed: Could not guard on data"),
    "a fixed batch": (Fixed(), ValueError, "3 inputs"),
    "two outputs": (Two(), ValueError, r"returns a tuple .* expected float32 logits \[2, C\]"),
    "a map": (nn.Conv2d(1, 1, 3), ValueError, r"returns a tensor \[2, 1, 26, 26\]"),
    "another input": (nn.Linear(5, 3), ValueError, r"does not take inputs \[N, \[1, 28, 28\]\]"),
    "no model": ("ResNet8", TypeError, "model is a str: pass a PyTorch model"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_no_file_can_hold_is_refused(kind, capfd):
    model, error, words = REFUSED[kind]
    with pytest.raises(error, match=words) as caught:
        to_onnx(model)
    assert len(str(caught.value)) < 600
    assert capfd.readouterr() == ("", "")


def test_hooks_are_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    hook = model[1].register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="1 has a forward hook.*remove it first"):
        to_onnx(model)
    hook.remove()
    with nn.modules.module.register_module_forward_hook(lambda *_: None):
        with pytest.raises(ValueError, match="hook of all modules"):
            to_onnx(model)


def test_wrong_calibration_is_refused(tiny):
    model, _ = tiny
    for wrong, error, words in (
        (None, ValueError, "needs calibration: pass some training images"),
        (CALIBRATION[:0], ValueError, "holds no image"),
        (CALIBRATION / 255, TypeError, "float64"),
        (CALIBRATION[:, :27], ValueError, r"expected \[N, 28, 28\]"),
    ):
        with pytest.raises(error, match=words):
            to_onnx_int8(model, wrong)


def test_several_threads_convert_in_silence(tiny, capfd):
    model, content = tiny
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with ThreadPoolExecutor(3) as pool:
            jobs = [pool.submit(to_onnx, model), pool.submit(to_onnx_int8, model, CALIBRATION)]
            jobs.append(pool.submit(to_onnx, model))
            first, integer, second = (job.result() for job in jobs)
        assert warnings.filters[0][0] == "always"
    assert first == second == content and len(integer) < 0.5 * len(content)
    assert [w.message for w in caught] == []
    assert logging.root.manager.disable == 0
    assert capfd.readouterr() == ("", "")
