"""Quantization-aware networks: where the quantizers go, how steps start, and what is deployed."""

import copy
import itertools

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
from helpers.folding import absorbed
from helpers.models import load
from helpers.places import places
from helpers.qat import LSQ, QuantizedLayer, best_step, fold, insert_quantizers, start_steps
from helpers.quantize import sqnr_db
from helpers.runtime import open_model
from helpers.train import predict


def seen_data(model: nn.Module, seed: int) -> nn.Module:
    """The model with batch norms that have seen data; half of their factors are below 0."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            if module.affine:
                module.weight.data.uniform_(0.5, 2, generator=generator)
                module.weight.data[::2] *= -1
                module.bias.data.normal_(generator=generator)
    return model.eval()


def small(seed: int = 0) -> nn.Sequential:
    """A residual network whose batch norms have seen data."""
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
    return seen_data(model, seed)


def steps_of(model: nn.Module) -> list[LSQ]:
    return [m for m in model.modules() if isinstance(m, LSQ)]


def layers_of(model: nn.Module) -> list[QuantizedLayer]:
    return [m for m in model.modules() if isinstance(m, QuantizedLayer)]


def integers(layer: QuantizedLayer) -> torch.Tensor:
    quantizer, w = layer.weight_quantizer, layer.layer.weight.detach()
    step = quantizer.scale.detach().reshape(-1, *[1] * (w.ndim - 1))
    return (w / step).round().clamp(quantizer.qmin, quantizer.qmax)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)


@pytest.fixture(scope="module")
def quantized(images) -> nn.Sequential:
    model = insert_quantizers(small(), 8)
    start_steps(model, images)
    return model


# --- where the quantizers go ------------------------------------------------------------------


def kinds(model: nn.Module) -> list[tuple[int, bool, int | None]]:
    return [(q.bits, q.signed, q.axis) for q in steps_of(model)]


def test_every_tensor_has_a_quantizer():
    model = small()
    before = copy.deepcopy(model.state_dict())
    changed = insert_quantizers(model, 3)
    found = kinds(changed)
    assert found.count((3, True, 0)) == 7, "six convolutions and the dense layer"
    assert found.count((3, False, None)) == 6, "five ReLUs and the pooling"
    assert found.count((8, True, None)) == 4, "three summands and the logits"
    assert not any(isinstance(m, nn.ReLU) for m in changed.modules())
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(isinstance(m, LSQ | QuantizedLayer) for m in model.modules())


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        ([nn.ReLU()], "LSQ3u LSQ8"),
        ([nn.Linear(4, 4)], "Layer LSQ8"),
        ([nn.Linear(4, 4), nn.Linear(4, 4)], "Layer LSQ8 Layer LSQ8"),
        ([nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)], "Layer LSQ3u Layer LSQ8"),
        ([nn.AvgPool2d(2)], "AvgPool2d LSQ3 LSQ8"),
        ([nn.ReLU(), nn.AvgPool2d(2)], "LSQ3u AvgPool2d LSQ3u LSQ8"),
        ([nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2)], "LSQ3u MaxPool2d AvgPool2d LSQ3u LSQ8"),
        ([nn.Conv2d(1, 1, 1), nn.AvgPool2d(2)], "Layer LSQ8 AvgPool2d LSQ3 LSQ8"),
        ([nn.ReLU(), nn.BatchNorm2d(1), nn.AvgPool2d(2)], "LSQ3u BatchNorm2d LSQ8 AvgPool2d LSQ3"),
        ([nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(4, 4)], "Layer Flatten LSQ8 Layer LSQ8"),
        ([nn.Dropout(), nn.Identity(), nn.Flatten()], "Dropout Identity Flatten LSQ8"),
        ([nn.Conv2d(1, 4, 1), ResidualBlock(4, 4)], "Layer LSQ8 ResidualBlock LSQ8"),
        ([ResidualBlock(4, 4), nn.AvgPool2d(2)], "ResidualBlock AvgPool2d LSQ3u LSQ8"),
        ([nn.Sequential(nn.ReLU(), nn.Sequential()), nn.ReLU()], "LSQ3u LSQ3u LSQ8"),
    ],
    ids=str,
)
def test_the_places_of_quantizers(modules, expected):
    def name(module: nn.Module) -> str:
        if isinstance(module, nn.Sequential):  # a pooling and its quantizer
            return " ".join(name(child) for child in module)
        if isinstance(module, LSQ):
            return f"LSQ{module.bits}{'' if module.signed else 'u'}"
        return {"QuantizedLayer": "Layer"}.get(type(module).__name__, type(module).__name__)

    found = name(insert_quantizers(nn.Sequential(*modules), 3))
    assert found.startswith(expected) and found.endswith("LSQ8")
    assert found in (expected, f"{expected} LSQ8")


def test_the_summands_of_an_addition_have_a_sign_and_eight_bits():
    fitted, same = insert_quantizers(nn.Sequential(ResidualBlock(2, 3), ResidualBlock(3, 3)), 4)[:2]
    for branch in (fitted.body, fitted.shortcut, same.body):
        assert (branch[-1].bits, branch[-1].signed, branch[-1].axis) == (8, True, None)
    assert len(same.shortcut) == 0, "what is on the levels already stays"
    assert (same.relu.bits, same.relu.signed) == (4, False)


def test_pixels_are_integers_already():
    block = insert_quantizers(nn.Sequential(ResidualBlock(1, 1)), 4)[0]
    assert len(block.shortcut) == 0
    assert isinstance(insert_quantizers(nn.Sequential(nn.Conv2d(1, 1, 1)), 4)[0], QuantizedLayer)


@pytest.mark.parametrize("training", [True, False])
def test_the_copy_is_in_the_mode_of_the_original(training):
    assert insert_quantizers(small().train(training), 4).training == training


def test_one_module_is_a_network_too():
    with torch.random.fork_rng(devices=[]):
        layer, x = nn.Linear(4, 3), torch.rand(5, 4)
    layer.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    error = (insert_quantizers(layer, 8)(x) - layer(x)).abs().max()
    assert 0 < error < 0.5


def test_a_layer_at_two_places_stays_one_layer():
    layer, relu = nn.Linear(4, 4), nn.ReLU()
    model = insert_quantizers(nn.Sequential(layer, relu, nn.Sequential(layer, relu), layer), 4)
    assert len(layers_of(model)) == 1 and [type(m) for m in model].count(QuantizedLayer) == 3
    assert model[0] is model[2] and model[1] is not model[3], "a range for each place"
    model(torch.randn(5, 4)).sum().backward()
    assert model[0].layer.weight.grad.any()


def test_layers_with_one_weight_keep_one_weight():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    first, second = layers_of(insert_quantizers(model, 4))
    assert first is not second and first.layer.weight is second.layer.weight
    assert first.layer.weight is not model[0].weight


# --- on any network -----------------------------------------------------------------------------


class Doubled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


class Custom(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)

    def forward(self, x):
        return self.conv(x[:, :1]).relu()


class Backwards(nn.Sequential):
    def forward(self, x):
        for module in reversed(self):
            x = module(x)
        return x


class Scaled(ResidualBlock):
    def forward(self, x):
        return self.relu(self.body(x) + 0.5 * self.shortcut(x))


def hooked(module: nn.Module, how: str = "register_forward_hook") -> nn.Module:
    getattr(module, how)(lambda *given: None)
    return module


def with_own_forward() -> nn.Module:
    module = nn.ReLU()
    module.forward = lambda x: -x
    return module


def pruned() -> nn.Module:
    from torch.nn.utils import prune

    return prune.l1_unstructured(nn.Conv2d(1, 1, 1), "weight", amount=0.5)


def odd_block(**parts: nn.Module) -> nn.Module:
    block = ResidualBlock(2, 2)
    for name, part in parts.items():
        setattr(block, name, part)
    return block


FOREIGN = {
    "Conv1d": lambda: nn.Conv1d(1, 1, 1),
    "Conv3d": lambda: nn.Conv3d(1, 1, 1),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(1, 1, 1),
    "GRU": lambda: nn.GRU(8, 8),
    "LSTMCell": lambda: nn.LSTMCell(8, 8),
    "Embedding": lambda: nn.Embedding(3, 3),
    "MultiheadAttention": lambda: nn.MultiheadAttention(4, 2),
    "Bilinear": lambda: nn.Bilinear(2, 2, 2),
    "LayerNorm": lambda: nn.LayerNorm(8),
    "GroupNorm": lambda: nn.GroupNorm(1, 1),
    "BatchNorm1d": lambda: nn.BatchNorm1d(8),
    "PReLU": nn.PReLU,
    "GELU": nn.GELU,
    "ReLU6": nn.ReLU6,
    "Softmax": lambda: nn.Softmax(1),
    "ModuleList": lambda: nn.ModuleList([nn.Conv2d(1, 1, 1)]),
    "a subclass": lambda: Doubled(1, 1, 1),
    "a class of its own": Custom,
    "a Sequential that is none": lambda: Backwards(nn.ReLU(), nn.Conv2d(1, 1, 1)),
    "a block that is none": lambda: Scaled(1, 1),
    "lazy": lambda: nn.LazyConv2d(3, 1),
    "quantized": lambda: QuantizedLayer(nn.Conv2d(1, 1, 1), 8),
    "a step": lambda: LSQ(8),
    "forward hook": lambda: hooked(nn.ReLU()),
    "pre-hook": lambda: hooked(nn.Conv2d(1, 1, 1), "register_forward_pre_hook"),
    "backward hook": lambda: hooked(nn.ReLU(), "register_full_backward_hook"),
    "backward pre-hook": lambda: hooked(nn.ReLU(), "register_full_backward_pre_hook"),
    "hook of a Sequential": lambda: hooked(nn.Sequential(nn.ReLU())),
    "hook of a block": lambda: hooked(ResidualBlock(1, 1)),
    "own forward": with_own_forward,
    "pruned": pruned,
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 1, 1)),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2)),
    "block's relu": lambda: odd_block(relu=nn.GELU()),
    "block's body": lambda: odd_block(body=nn.Conv1d(2, 2, 1)),
    "block's shortcut": lambda: odd_block(shortcut=nn.Sequential(nn.Tanh())),
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", FOREIGN)
def test_what_has_no_rule_is_refused_by_its_path(name, nested):
    foreign = FOREIGN[name]()
    model = nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU(), foreign) if nested else foreign)
    inside = {"block's relu": ".relu", "block's body": ".body", "block's shortcut": ".shortcut.0"}
    path = ("1.1" if nested else "1") + inside.get(name, "")
    with pytest.raises((TypeError, ValueError), match=rf"^module {path} [(i]"):
        insert_quantizers(model, 8)


@pytest.mark.parametrize("name", sorted(FOREIGN.keys() - {"quantized", "a step"}))
def test_what_has_no_rule_is_not_folded(name):
    with pytest.raises((TypeError, ValueError), match=r"^module 1(\.[a-z0-9.]+)? [(i]"):
        fold(nn.Sequential(LSQ(8), FOREIGN[name]()))


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        ("ResNet8", TypeError, "module at the top is a str: pass a PyTorch module"),
        (models.build("SensorGRU"), TypeError, "module at the top is a SensorGRU"),
        (hooked(small()), ValueError, r"module at the top \(Sequential\) has a hook"),
        (
            nn.Sequential(nn.GELU()),
            TypeError,
            "GELU, for which there is no rule: choose one of Conv2d, Li",
        ),
    ],
)
def test_what_is_no_network_of_modules_is_refused(model, error, words):
    with pytest.raises(error, match=words):
        insert_quantizers(model, 8)


@pytest.mark.parametrize(("bits", "error"), [(1, ValueError), (17, ValueError), (4.0, TypeError)])
def test_bits_are_checked(bits, error):
    with pytest.raises(error, match="bits"):
        insert_quantizers(small(), bits)


KINDS = "conv pair pair norm relu relu max average global dropout identity block nest again again"
KINDS = KINDS.split()


@st.composite
def networks(draw) -> tuple[nn.Sequential, torch.Tensor]:
    """(a small network of random modules, pixels [6, C, 8, 8] that it accepts)."""
    seed = draw(st.integers(0, 10_000))
    x = (
        torch.randint(
            0,
            256,
            (6, draw(st.integers(1, 4)), 8, 8),
            generator=torch.Generator().manual_seed(seed),
        )
        / 255
    )
    used: list[nn.Module] = []  # any of them may stand at a second place

    def convolution(channels: int) -> nn.Module:
        groups = draw(st.sampled_from([g for g in (1, 1, 2, 4) if channels % g == 0]))
        padding = draw(st.sampled_from([0, 1, (1, 0), "same", "valid"]))
        return nn.Conv2d(
            channels,
            groups * draw(st.integers(1, 4 // groups)),
            draw(st.sampled_from([1, 3, (1, 3), (3, 1)])),
            stride=1 if padding == "same" else draw(st.sampled_from([1, 1, 2, (1, 2)])),
            padding=padding,
            dilation=draw(st.sampled_from([1, 1, 2])),
            groups=groups,
            bias=draw(st.booleans()),
            padding_mode=draw(st.sampled_from(["zeros", "zeros", "reflect", "circular"])),
        )

    def norm(channels: int) -> nn.Module:
        made = nn.BatchNorm2d(
            channels, draw(st.sampled_from([1e-5, 0.1])), affine=draw(st.booleans())
        )
        seen_data(made, seed)
        if made.affine:
            made.weight.data[0] = draw(st.sampled_from([1.0, -1.0, 0.0, 1e-30, -1e-8]))
        return made

    def pair_of(layer: nn.Conv2d) -> nn.Module:
        return nn.Sequential(layer, norm(layer.out_channels))

    def module(channels: int, depth: int) -> nn.Module:
        kind = draw(st.sampled_from(KINDS))
        if kind == "nest" and depth < 2:
            inner, c = [], channels
            for _ in range(draw(st.integers(0, 3))):
                inner.append(module(c, depth + 1))
                convolutions = [m for m in inner[-1].modules() if isinstance(m, nn.Conv2d)]
                c = convolutions[-1].out_channels if convolutions else c
            return nn.Sequential(*inner)
        if kind == "again" and used:
            return draw(st.sampled_from(used))
        out = draw(st.integers(1, 4))
        return {
            "conv": lambda: convolution(channels),
            "pair": lambda: pair_of(convolution(channels)),
            "norm": lambda: norm(channels),
            "max": lambda: nn.MaxPool2d(2, stride=draw(st.sampled_from([None, 1]))),
            "average": lambda: nn.AvgPool2d(2, padding=draw(st.integers(0, 1))),
            "global": lambda: nn.AdaptiveAvgPool2d(draw(st.sampled_from([1, 2, (1, 2)]))),
            "dropout": nn.Dropout,
            "identity": nn.Identity,
            "block": lambda: seen_data(ResidualBlock(channels, out, draw(st.integers(1, 2))), seed),
        }.get(kind, nn.ReLU)()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, y = nn.Sequential().eval(), x
        for _ in range(draw(st.integers(1, 6))):
            added = module(y.shape[1], 0)
            try:
                after = added(y)
            except (RuntimeError, ValueError):
                continue  # channels or sizes that do not fit
            model.append(added), used.append(added)
            y = after
        if draw(st.booleans()):
            model.append(nn.Flatten())
            features = y[0].numel()
            for size in draw(st.lists(st.integers(1, 4), min_size=1, max_size=2)):
                model.append(nn.Linear(features, size, bias=draw(st.booleans())))
                features = size
    return model.eval(), x


def calls(model: nn.Module, x: torch.Tensor) -> list[tuple[nn.Module, torch.Tensor]]:
    """The modules without children that run (quantized layers whole), in order, and their input."""
    found, whole = [], layers_of(model)
    inside = {id(m) for layer in whole for m in layer.modules()} - {id(m) for m in whole}
    leaves = [m for m in model.modules() if not list(m.children()) or m in whole]
    hooks = [
        m.register_forward_hook(lambda module, given, result: found.append((module, given[0])))
        for m in leaves
        if id(m) not in inside and not isinstance(m, nn.Sequential)
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found


def make_fine(model: nn.Module, x: torch.Tensor, weights: bool = True) -> None:
    """Give the quantizers steps of a millionth of what they see, weights only if told."""

    def start(quantizer: LSQ, inputs: tuple[torch.Tensor]) -> None:
        if quantizer.axis == 0 and not weights:
            quantizer.set_step(best_step(quantizer, inputs[0]))
            return
        peak = float(inputs[0].detach().abs().max()) or 1.0
        quantizer.qmin, quantizer.qmax = -(2**22) if quantizer.signed else 0, 2**22
        quantizer.set_step(torch.full((len(quantizer.step),), peak / 2**20))

    hooks = [quantizer.register_forward_pre_hook(start) for quantizer in steps_of(model)]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def assert_equal(ours: nn.Module, theirs: nn.Module, x: torch.Tensor) -> None:
    found, expected = ours(x), theirs(x)
    slack = 1e-3 * float(expected.abs().max()) + 1e-4
    torch.testing.assert_close(found, expected, rtol=0, atol=slack)


quick = settings(max_examples=200, deadline=None)


@quick
@given(networks())
def test_any_network_is_quantized_at_every_place(drawn):
    """With fine steps it computes what it computed; each layer is quantized, each ReLU clipped."""
    model, x = drawn
    before = copy.deepcopy(model)
    quantized = insert_quantizers(model, 8)
    make_fine(quantized, x)
    assert_equal(quantized, model, x)
    assert str(model) == str(before)
    for key, value in before.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)
    ran = [type(m) for m, _ in calls(model, x)]
    kept = calls(quantized, x)
    pooled = [id(m[1]) for m in quantized.modules() if type(m) is nn.Sequential and len(m) == 2]
    clips = [m for m, _ in kept if isinstance(m, LSQ) and not m.signed and id(m) not in pooled]
    assert len(clips) == ran.count(nn.ReLU)
    layers = [m for m, _ in kept if isinstance(m, QuantizedLayer)]
    assert len(layers) == ran.count(nn.Conv2d) + ran.count(nn.Linear)
    assert not any(type(m) in (nn.Conv2d, nn.Linear, nn.ReLU) for m, _ in kept)


@settings(max_examples=100, deadline=None)
@given(networks(), st.integers(2, 8))
def test_what_a_layer_reads_is_on_few_levels(drawn, bits):
    model, x = drawn
    quantized = insert_quantizers(model, bits)
    quantized(x)
    for module, read in calls(quantized, x):
        if isinstance(module, QuantizedLayer):
            assert len(read.unique()) <= 256


@quick
@given(networks(), st.integers(2, 8))
def test_any_network_is_folded_or_refused(drawn, bits):
    """Equal with fine steps of activations; the integers change their sign at most."""
    model, x = drawn
    quantized = insert_quantizers(model, bits)
    make_fine(quantized, x, weights=False)
    kept = [m for m, _ in calls(quantized, x)]
    before_norms = [a for a, b in itertools.pairwise([None, *kept]) if type(b) is nn.BatchNorm2d]
    if not all(isinstance(m, nn.BatchNorm2d | QuantizedLayer) for m in before_norms):
        with pytest.raises(ValueError, match=r"^module [0-9.a-z]+ is a batch norm that follows no"):
            fold(quantized)
        return
    folded = fold(quantized)
    assert_equal(folded, quantized, x)
    assert not folded.training and not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    pairs = zip(
        (m for m in kept if isinstance(m, QuantizedLayer)),
        (m for m, _ in calls(folded, x) if isinstance(m, QuantizedLayer)),
        strict=True,
    )
    for before, after in pairs:
        a, b = integers(before).flatten(1), integers(after).flatten(1)
        for one, other in zip(a, b, strict=True):
            assert torch.equal(one, other) or torch.equal(-one, other) or not other.any()


# --- steps -------------------------------------------------------------------------------------


def test_eight_bits_change_little_and_two_bits_much(quantized, images):
    floats = predict(small(), images)
    two = insert_quantizers(small(), 2)
    start_steps(two, images)
    error = [np.abs(predict(m, images) - floats).mean() / floats.std() for m in (quantized, two)]
    assert error[0] < 0.05 < error[1]


@pytest.mark.parametrize("how", ["mse", "lsq"])
def test_each_step_starts_from_what_its_quantizer_reads(how, images):
    """mse: no other of the fractions has less error; lsq: twice the mean size over sqrt(qmax)."""
    model = insert_quantizers(small(), 3)
    start_steps(model, images[:4], how)
    reads = []
    hooks = [
        q.register_forward_pre_hook(lambda module, given: reads.append((module, given[0])))
        for q in steps_of(model)
    ]
    predict(model, images[:4])
    assert len(reads) == len(hooks) == 17
    for quantizer, x in reads:
        x = x if quantizer.signed else x.clamp(min=0)
        rows = x.flatten(1) if quantizer.axis == 0 else x.reshape(1, -1)
        if how == "lsq":
            expected = 2 * rows.abs().mean(1) / quantizer.qmax**0.5
            torch.testing.assert_close(quantizer.step.detach(), expected)
        else:
            tried = rows.abs().amax(1) * torch.linspace(0.01, 1, 100)[:, None] / quantizer.qmax
            steps = torch.cat([quantizer.step.detach()[None], tried])[..., None].double()
            q = (rows / steps).round().clamp(quantizer.qmin, quantizer.qmax)
            errors = (q * steps - rows).square().sum(2)
            assert (errors[0] <= errors[1:].amin(0) * (1 + 1e-4) + 1e-12).all()


def test_steps_start_by_the_squared_error_unless_told(images):
    models = [insert_quantizers(small(), 3) for _ in range(3)]
    for model, how in zip(models, ([], ["mse"], ["lsq"]), strict=True):
        start_steps(model, images[:4], *how)
    steps = [torch.cat([q.step.detach() for q in steps_of(m)]) for m in models]
    assert torch.equal(steps[0], steps[1]) and not torch.equal(steps[0], steps[2])


def test_steps_may_start_again(images):
    model, other = insert_quantizers(small(), 4), insert_quantizers(small(), 4)
    start_steps(model, images[:2] // 8)
    for m in (model, other):
        start_steps(m.train(), images)
        assert not m.training
    for key, value in other.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)


def test_one_image_is_enough_to_start(images):
    for how in ("mse", "lsq"):
        model = insert_quantizers(small(), 2)
        start_steps(model, images[:1], how)
        assert all(q.started for q in steps_of(model))


def test_windows_start_steps_too():
    model = insert_quantizers(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), 4)
    start_steps(model, torch.randn(5, 2, 6, generator=torch.Generator().manual_seed(0)))
    assert all(q.started for q in steps_of(model))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda m, x: start_steps(m, x, "minmax"),
            "unknown start 'minmax': choose one of mse, lsq",
        ),
        (lambda m, x: start_steps(m, x[:0]), "x is empty"),
        (lambda m, x: start_steps(small(), x), "no quantizer to start: call insert_quantizers"),
    ],
)
def test_what_cannot_be_started_is_said(call, words, images):
    model = insert_quantizers(small(), 4)
    with pytest.raises(ValueError, match=words):
        call(model, images)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_no_hook_stays_behind(quantized):
    assert not any(module._forward_pre_hooks for module in quantized.modules())


# --- folding -----------------------------------------------------------------------------------


def test_folding_keeps_outputs_and_integers(quantized, images):
    folded = fold(quantized)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    a, b = predict(quantized, images), predict(folded, images)
    step = float(quantized[-1].step.detach())
    assert np.abs(a - b).max() < 2.5 * step and (np.abs(a - b) > step / 2).mean() < 0.05
    norms = [m.weight for m in quantized.modules() if isinstance(m, nn.BatchNorm2d)]
    for i, (before, after) in enumerate(zip(layers_of(quantized), layers_of(folded), strict=True)):
        sign = norms[i].detach().sign()[:, None, None, None] if i < len(norms) else 1
        assert torch.equal(integers(before) * sign, integers(after))
        assert after.weight_quantizer.params().qmin == -127


def test_folding_leaves_the_original_and_begins_with_pixels(quantized):
    before = copy.deepcopy(quantized.state_dict())
    folded = fold(quantized.train())
    assert quantized.training and not folded.training
    quantized.eval()
    assert all(torch.equal(v, before[k]) for k, v in quantized.state_dict().items())
    pixels = torch.arange(256) / 255
    torch.testing.assert_close(folded[0](pixels), pixels, rtol=1e-6, atol=0)
    assert (folded[0].bits, folded[0].signed, folded[0].started) == (8, False, True)
    assert folded[0](torch.tensor([-1.0, 2.0])).tolist() == [0, 1]


def pair(bits: int = 8, bias: bool = False, **options) -> nn.Sequential:
    """A convolution of four filters whose weights have started, and its batch norm."""
    generator = torch.Generator().manual_seed(0)
    convolution = nn.Conv2d(2, 4, 3, bias=bias)
    for p in convolution.parameters():
        p.data.normal_(generator=generator)
    model = insert_quantizers(
        seen_data(nn.Sequential(convolution, nn.BatchNorm2d(4, **options)), 1), bits
    )
    layer = model[0]
    layer.weight_quantizer.set_step(best_step(layer.weight_quantizer, layer.layer.weight))
    return model


def absorb(model: nn.Sequential) -> tuple[QuantizedLayer, torch.Tensor, torch.Tensor]:
    """The folded layer, what it computes, and what the pair computed."""
    x = torch.rand(5, 2, 6, 6, generator=torch.Generator().manual_seed(2))
    folded = absorbed(model[0], model[1], "1")
    with torch.no_grad():
        return folded, folded(x), model[1](model[0](x))


@pytest.mark.parametrize("bits", range(2, 17))
@pytest.mark.parametrize("bias", [True, False])
def test_a_pair_is_folded_exactly(bits, bias):
    model = pair(min(bits, 15), bias)
    folded, found, expected = absorb(model)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    sign = model[1].weight.detach().sign()[:, None, None, None]
    assert torch.equal(integers(folded), integers(model[0]) * sign)
    assert folded.layer.bias.shape == (4,) and isinstance(folded.layer.bias, nn.Parameter)


def test_the_formula_of_folding():
    model = pair(bias=True)
    norm, convolution = model[1], model[0].layer
    g = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    step = model[0].weight_quantizer.scale
    folded, _, _ = absorb(model)
    torch.testing.assert_close(folded.weight_quantizer.scale, step * g.abs())
    bias = norm.bias + (convolution.bias - norm.running_mean) * g
    torch.testing.assert_close(folded.layer.bias, bias)
    weight = model[0].weight_quantizer(convolution.weight) * g[:, None, None, None]
    torch.testing.assert_close(folded.layer.weight, weight)


def test_a_norm_without_its_own_scale_and_shift_is_folded():
    _, found, expected = absorb(pair(affine=False))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_where_the_least_integer_turns_positive_the_layer_has_one_bit_more(bits):
    model = pair(bits)
    model[0].layer.weight.data[0, 0, 0, 0] = -100.0  # the first filter's factor is below 0
    folded, found, expected = absorb(model)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    more = bits < 8  # 8 bits are narrow
    assert folded.weight_quantizer.bits == bits + more == folded.weight_quantizer.params().bits
    assert integers(folded).max() == (2 ** (bits - 1) if more else 127)
    model[1].weight.data.abs_()
    assert absorb(model)[0].weight_quantizer.bits == bits


def test_sixteen_bits_have_no_bit_more():
    model = pair(16)
    model[0].layer.weight.data[0, 0, 0, 0] = -1e6
    with pytest.raises(ValueError, match="bits is 17"):
        absorb(model)


@pytest.mark.parametrize("gamma", [0.0, -0.0, 1e-30, -1e-30, 1e-8, 1e-40, 1e30])
def test_a_factor_of_any_size_keeps_the_integers_or_loses_the_filter(gamma):
    model = pair()
    model[1].weight.data[2] = gamma
    folded, found, expected = absorb(model)
    before, after = integers(model[0])[2], integers(folded)[2]
    if 1e-38 < abs(gamma):
        assert torch.equal(after, before * np.sign(gamma)), "as the docstring says"
    else:
        assert (
            not after.any() and folded.weight_quantizer.step[2] == model[0].weight_quantizer.step[2]
        )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_filter_of_zeros_stays_one():
    model = pair()
    model[0].layer.weight.data[1] = 0
    model[0].weight_quantizer.set_step(best_step(model[0].weight_quantizer, model[0].layer.weight))
    folded, found, expected = absorb(model)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not integers(folded)[1].any()


@pytest.mark.parametrize("cast", ["half", "bfloat16", "double"])
def test_a_cast_pair_is_folded_in_its_dtype(cast):
    model = getattr(pair(), cast)()
    folded = absorbed(*model[:2], "1")
    assert {p.dtype for p in folded.parameters()} == {model[1].bias.dtype}
    assert torch.equal(integers(folded).abs(), integers(model[0]).abs())


def test_two_norms_in_a_row_and_two_uses_of_one_layer_are_folded():
    convolution = nn.Conv2d(1, 1, 1, bias=False)
    norms = [seen_data(nn.BatchNorm2d(1), seed) for seed in (1, 2, 3)]
    model = nn.Sequential(convolution, norms[0], norms[1], nn.ReLU(), convolution, norms[2]).eval()
    x = torch.randint(0, 256, (4, 1, 5, 5), generator=torch.Generator().manual_seed(0)) / 255
    quantized = insert_quantizers(model, 8)
    make_fine(quantized, x, weights=False)
    assert_equal(fold(quantized), quantized, x)
    assert len(layers_of(fold(quantized))) == 2 and len(layers_of(quantized)) == 1


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        ([LSQ(8), nn.BatchNorm2d(1)], ValueError, "module 1 is a batch norm that follows no quant"),
        ([nn.BatchNorm2d(1)], ValueError, "module 0 is a batch norm that follows no quantized"),
        (conv_bn(1, 2), TypeError, "module 0 is a Conv2d, for which there is no rule: choose one"),
        (
            [QuantizedLayer(nn.Linear(4, 4), 8), nn.BatchNorm2d(4)],
            ValueError,
            "module 1 is a batch norm that follows no quantized convolution",
        ),
        (
            pair(track_running_stats=False)[:2],
            ValueError,
            "module 1 must have running statistics",
        ),
        (
            insert_quantizers(nn.Sequential(*conv_bn(1, 2)), 8),
            ValueError,
            "the convolution before module 1 has no step yet: call start_steps",
        ),
        (
            [LSQ(8), nn.Sequential(nn.Sequential(nn.ReLU()))],
            TypeError,
            "module 1.0.0 is a ReLU, for which there is no rule: choose one of QuantizedLayer, LSQ",
        ),
    ],
)
def test_what_cannot_be_folded_is_named(model, error, words):
    with pytest.raises(error, match=words):
        fold(nn.Sequential(*model))


@pytest.mark.parametrize("model", ["a name", None, nn.Linear(2, 2), models.build("SensorGRU")])
def test_what_is_no_quantized_network_is_not_folded(model):
    with pytest.raises(TypeError, match="^module at the top is a "):
        fold(model)


def test_places_are_those_that_run():
    relu = nn.ReLU()
    inner = nn.Sequential(relu, models.build("TinyCNN"))
    model = nn.Sequential(relu, inner, nn.Sequential(), inner)
    found = list(places(model, "net"))
    assert [path for path, _ in found[:3]] == ["net.0", "net.1.0", "net.1.1.0"]
    assert [module for _, module in found].count(relu) == 3
    assert len(found) == 1 + 2 * (1 + len(models.build("TinyCNN")))
    assert list(places(relu)) == [("", relu)]
    with pytest.raises(TypeError, match="module 0 is a NoneType: pass a PyTorch module"):
        list(places(nn.Sequential(None)))


# --- what is deployed --------------------------------------------------------------------------


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
    for module in steps_of(folded):
        learned = module.step.detach().numpy()
        assert any(len(s) == len(learned) and np.allclose(s, learned, rtol=1e-5) for s in stored)


def test_dead_channels_survive_to_the_file(images):
    """A filter of zeros, and factors of 0 and of almost 0: no infinity, no wrong integer."""
    model = small()
    model[0].weight.data[3] = 0
    model[1].weight.data[:3] = torch.tensor([0.0, 1e-30, 1e-8])
    model[3].body[1].weight.data[0] = 0
    quantized = insert_quantizers(model, 8)
    start_steps(quantized, images)
    folded = fold(quantized)
    expected = predict(quantized, images)
    assert sqnr_db(expected, predict(folded, images)) > 35
    assert sqnr_db(expected, open_model(to_tflite(folded, "int8")).predict(images)) > 35


@pytest.mark.parametrize(
    ("change", "mode", "words"),
    [
        (lambda m: fold(m), "dynamic", "has learned its ranges"),
        (lambda m: m, "int8", "its batch norm folded"),
        (lambda m: insert_quantizers(m, 8), "int8", "8 bits and one step"),
    ],
)
def test_what_cannot_be_exported_is_said(quantized, change, mode, words):
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 2)) if "8 bits" in words else quantized
    with pytest.raises(ValueError, match=words):
        to_tflite(change(model), mode)


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
    assert all(q.started for q in steps_of(model))
    assert models.card(name)["parameters"] == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ["ResNet8_8bit", "ResNet8_4bit", "ResNet8_2bit_seed7"])
def test_shipped_models_fold(name, images):
    """Their integers -2 and -8 stand in filters with a factor below 0, too."""
    model = load(name)
    folded = fold(model)
    a, b = (predict(m, images) for m in (model, folded))
    step = float(model[-1].scale.detach())
    assert np.abs(a - b).max() < 2.5 * step and (np.abs(a - b) > step / 2).mean() < 0.03
    for before, after in zip(layers_of(model), layers_of(folded), strict=True):
        assert torch.equal(integers(before).abs(), integers(after).abs())
