"""Costs against counts by hand, torch's own counter, and a simulation of what is alive."""

import copy
import threading
from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.flop_counter import FlopCounterMode

from helpers import costs
from helpers.costs import cost, layer_costs
from helpers.models import FOUND, NAMES, build, load
from helpers.qat import LSQ


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Two threads wait for each other where other work holds a core: 20 times as long, measured."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


IMAGE, WINDOW = (1, 28, 28), (100, 6)


def shape_of(name):
    return WINDOW if name.startswith("Sensor") else IMAGE


def block(channels_in, channels_out, size):
    """MACs of a residual block whose output is size x size."""
    first = 9 * channels_in * channels_out * size**2
    second = 9 * channels_out**2 * size**2
    return first + second + (channels_in != channels_out) * channels_in * channels_out * size**2


def residual(width, blocks):
    """MACs of a residual network: 3x3 stem, blocks of (in, out, size), linear layer."""
    return 9 * width * 28**2 + sum(block(*b) for b in blocks) + blocks[-1][1] * 10


MACS = {
    "LeNet300": 784 * 300 + 300 * 100 + 100 * 10,
    "LeNet5": 20 * 25 * 24**2 + 50 * 20 * 25 * 8**2 + 800 * 500 + 500 * 10,
    "TinyCNN": 16 * 9 * 28**2 + 24 * 16 * 9 * 14**2 + 48 * 24 * 9 * 7**2 + 48 * 10,
    "ResNet8": residual(16, [(16, 16, 28), (16, 32, 14), (32, 64, 7)]),
    "WideResNet": residual(32, [(32, 64, 14), (64, 64, 14), (64, 128, 7), (128, 128, 7)]),
    "SensorGRU": 100 * 3 * (6 * 32 + 32 * 32) + 32 * 7,
    "SensorLSTM": 100 * 4 * (6 * 32 + 32 * 32) + 32 * 7,
}


PEAK = {  # float32: 4 bytes
    "LeNet300": 4 * (784 + 300),
    "LeNet5": 4 * (20 * 24**2 + 20 * 12**2),  # around the first pooling
    "TinyCNN": 4 * (16 * 28**2 + 16 * 14**2),
    "ResNet8": 4 * 3 * 16 * 28**2,  # shortcut, input and output of a convolution, or of the sum
    "WideResNet": 4 * (32 * 28**2 + 2 * 64 * 14**2),  # in the first block, as above
    "SensorGRU": 4 * (100 * 6 + 100 * 32 + 32),  # input, all outputs, last state
    "SensorLSTM": 4 * (100 * 6 + 100 * 32 + 32 + 32),
}


@pytest.mark.parametrize("name", NAMES)
def test_cost_of_every_model_is_the_count_by_hand(name):
    model = build(name)
    found = cost(model, shape_of(name))
    state = model.state_dict().values()
    assert found.params == sum(p.numel() for p in model.parameters())
    assert found.macs == MACS[name]
    assert found.weight_bytes == 4 * sum(t.numel() for t in state if t.is_floating_point())
    assert found.peak_activation_bytes == PEAK[name]


def test_known_parameter_counts():
    assert cost(build("LeNet300"), IMAGE).params == 266_610  # Han et al. 2016: 266 K, 431 K
    assert cost(build("LeNet5"), IMAGE).params == 431_080


@pytest.mark.parametrize("name", (*NAMES, *FOUND))
def test_layers_add_up_and_have_the_names_of_the_model(name):
    model = build(name)
    rows = layer_costs(model, shape_of(name))
    total = cost(model, shape_of(name))
    assert sum(row.params for row in rows) == total.params
    assert sum(row.macs for row in rows) == total.macs
    for row in rows:
        assert row.kind == type(model.get_submodule(row.name)).__name__


def test_layer_costs_row():
    rows = layer_costs(build("ResNet8"), IMAGE)
    found = next(row for row in rows if row.name == "4.body.0")
    assert found == costs.LayerCost("4.body.0", "Conv2d", (32, 14, 14), 32 * 16 * 9, 903_168)
    assert rows[0].name == "0" and rows[-1].kind == "Linear"


# Self-attention over 5 steps of width 8: four projections, q with k and their weights with v.
ATTENTION = 4 * 5 * 8 * 8 + 2 * 5 * 5 * 8
ENCODER = ATTENTION + 2 * 5 * 8 * 16


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), (8, 10, 10), 8 * 9 * 100),  # depthwise
        (nn.Conv2d(8, 12, 3, groups=4), (8, 10, 10), 12 * 2 * 9 * 64),
        (nn.Conv2d(3, 5, (1, 3), stride=2, bias=False), (3, 9, 9), 5 * 3 * 3 * 5 * 4),
        (nn.Conv2d(3, 5, 3, dilation=2), (3, 9, 9), 5 * 3 * 9 * 25),
        (nn.Conv1d(6, 4, 5), (6, 20), 4 * 6 * 5 * 16),
        (nn.Conv1d(6, 6, 5, groups=6), (6, 20), 6 * 5 * 16),
        (nn.Linear(6, 7), (6,), 6 * 7),
        (nn.Linear(6, 7), (20, 6), 20 * 6 * 7),  # at each time step
        (nn.RNN(6, 5, batch_first=True), (20, 6), 20 * (6 * 5 + 5 * 5)),
        (nn.GRU(6, 5, batch_first=True), (20, 6), 20 * 3 * (6 * 5 + 5 * 5)),
        (nn.LSTM(6, 5, batch_first=True), (20, 6), 20 * 4 * (6 * 5 + 5 * 5)),
        (
            nn.GRU(6, 5, num_layers=2, bidirectional=True, batch_first=True),
            (20, 6),
            20 * 2 * 3 * ((6 * 5 + 5 * 5) + (10 * 5 + 5 * 5)),
        ),
        (
            nn.LSTM(6, 5, num_layers=3, bias=False, batch_first=True),
            (20, 6),
            20 * 4 * ((6 * 5 + 5 * 5) + 2 * (5 * 5 + 5 * 5)),
        ),
        (nn.LSTM(6, 5, proj_size=2, batch_first=True), (20, 6), 20 * (4 * 5 * (6 + 2) + 5 * 2)),
        (nn.ConvTranspose1d(4, 6, 3, groups=2, stride=2, output_padding=1), (4, 5), 5 * 4 * 3 * 3),
        (nn.ConvTranspose2d(3, 1, 2, stride=2), (3, 2, 2), 48),
        (nn.ConvTranspose3d(2, 3, 2), (2, 3, 3, 3), 27 * 2 * 3 * 8),
        (nn.Conv3d(1, 2, 3), (1, 5, 5, 5), 1458),
        (nn.Conv3d(2, 3, (1, 2, 3), padding=1, bias=False), (2, 3, 3, 3), 3 * 5 * 4 * 3 * 2 * 6),
        (nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular"), (2, 7), 7 * 3 * 2 * 3),
        (nn.GRUCell(3, 4), (3,), 84),
        (nn.LSTMCell(3, 4), (3,), 4 * 4 * 7),
        (nn.RNNCell(3, 4, nonlinearity="relu"), (3,), 4 * 7),
        (nn.RNN(6, 5, nonlinearity="relu", bidirectional=True), (20, 6), 20 * 2 * 5 * 11),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (5, 8), ENCODER),
        (
            nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 3),
            (5, 8),
            3 * ENCODER,
        ),
        (nn.BatchNorm2d(3), (3, 4, 4), 0),
        (nn.GroupNorm(1, 3), (3, 4, 4), 0),
        (nn.LayerNorm(4), (3, 4), 0),
        (nn.RMSNorm(4), (3, 4), 0),
        (nn.InstanceNorm2d(3, affine=True), (3, 4, 4), 0),
        (nn.PReLU(3), (3, 4), 0),
        (nn.Embedding(10, 3), (5,), 0),  # looks up, multiplies nothing
        (nn.EmbeddingBag(10, 3), (5,), 0),
        (nn.Sequential(nn.Embedding(10, 3), nn.GRU(3, 4, batch_first=True)), (5,), 5 * 84),
    ],
)
@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_macs_of_single_layers(layer, shape, macs):
    assert cost(layer, shape).macs == macs
    assert cost(layer, shape).params == sum(p.numel() for p in layer.parameters())


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.a = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.bn, self.head = nn.BatchNorm2d(4), nn.Linear(4, 10)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = (self.bn(self.a(x)) + x).relu()
        return self.head(x.mean((2, 3)))


class Forward(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.ones(4, 1, 3, 3))

    def forward(self, x):
        return self.function(x, self.weight)


class FedToAll(nn.Module):
    """A layer that takes its input as every one of its arguments."""

    def __init__(self, layer, arguments):
        super().__init__()
        self.layer, self.arguments = layer, arguments

    def forward(self, x):
        found = self.layer(*[x] * self.arguments)
        return found[0] if isinstance(found, tuple) else found


@pytest.mark.parametrize(
    ("layer", "arguments", "macs"),
    [
        (nn.Bilinear(8, 8, 3), 2, 5 * 3 * 8 * 8),
        (nn.MultiheadAttention(8, 2, batch_first=True), 3, ATTENTION),
        (nn.MultiheadAttention(8, 4, batch_first=True), 3, ATTENTION),
        (nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 2, 2 * ATTENTION + 2 * 5 * 8 * 16),
        (
            nn.Transformer(8, 2, 1, 1, 16, batch_first=True),
            2,
            3 * ATTENTION + 4 * 5 * 8 * 16,
        ),
    ],
)
def test_macs_of_layers_with_several_inputs(layer, arguments, macs):
    (row,) = layer_costs(FedToAll(layer, arguments), (5, 8))
    assert (row.name, row.kind, row.macs) == ("layer", type(layer).__name__, macs)
    assert row.params == sum(p.numel() for p in layer.parameters())


class Product(nn.Module):
    """A function of the input and of parameters of the given shapes."""

    def __init__(self, function, *shapes):
        super().__init__()
        self.function = function
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(shape)) for shape in shapes])

    def forward(self, x):
        return self.function(x, *self.weights)


def by_loop(x, w, u):
    """A recurrent layer as lessons write it."""
    h = torch.zeros(1, 7)
    for step in range(x.shape[1]):
        h = torch.tanh(x[:, step] @ w + h @ u)
    return h


def into_a_buffer(x, w):
    buffer = torch.zeros(1, 2, 7)
    buffer[:, 0] = x[:, 0] @ w
    buffer[:, 1] = buffer[:, 0] @ w.T @ w
    return buffer


@pytest.mark.parametrize(
    ("function", "shapes", "macs"),
    [
        (lambda x, w: x @ w, [(6, 7)], 5 * 42),
        (lambda x, w: x @ w.T, [(7, 6)], 5 * 42),
        (lambda x, w: torch.matmul(w, x.mT), [(7, 6)], 5 * 42),
        (lambda x, w: torch.bmm(x, w), [(1, 6, 7)], 5 * 42),
        (lambda x: torch.bmm(x, x.mT), [], 5 * 5 * 6),
        (lambda x, w: torch.einsum("bti,ij->btj", x, w), [(6, 7)], 5 * 42),
        (lambda x, w: torch.addmm(torch.ones(7), x[0], w), [(6, 7)], 5 * 42),
        (lambda x, w: torch.baddbmm(torch.ones(1, 1, 7), x, w[None]), [(6, 7)], 5 * 42),
        (lambda x, w: torch.addbmm(torch.ones(5, 7), x, w[None]), [(6, 7)], 5 * 42),
        (lambda x, w: torch.tensordot(x, w, 1), [(6, 7)], 5 * 42),
        (lambda x, w: torch.linalg.multi_dot([x[0], w, w]), [(6, 6)], 2 * 5 * 36),
        (lambda x, w: torch.mv(w, x[0, 0]), [(7, 6)], 42),
        (lambda x, w: torch.addmv(torch.ones(7), w, x[0, 0]), [(7, 6)], 42),
        (lambda x, w: torch.dot(x[0, 0], w), [(6,)], 6),
        (lambda x, w, b: F.linear(x, weight=w, bias=b), [(7, 6), (7,)], 5 * 42),
        (lambda x, w: F.bilinear(x, x, w), [(3, 6, 6)], 5 * 3 * 36),
        (lambda x, w: F.conv1d(x, w), [(4, 5, 3)], 4 * 4 * 5 * 3),
        (lambda x, w: F.conv_transpose1d(x, w, stride=2), [(5, 4, 3)], 30 * 4 * 3),
        (lambda x, w: F.conv2d(x[:, None], w), [(4, 1, 3, 3)], 4 * 9 * 3 * 4),
        (lambda x, w: F.conv_transpose2d(x[:, None], w), [(1, 4, 3, 3)], 30 * 4 * 9),
        (lambda x, w: F.conv3d(x[:, None, None], w), [(4, 1, 1, 3, 3)], 4 * 9 * 3 * 4),
        (lambda x, w: w.flatten(1) @ F.unfold(x[:, None], 3), [(4, 1, 3, 3)], 4 * 9 * 3 * 4),
        (lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None]), [], 2 * 25 * 6),
        (lambda x, w: F.scaled_dot_product_attention(x, x, x @ w), [(6, 7)], 210 + 25 * 13),
        (lambda x, w: torch.ops.aten.mm(x[0], w), [(6, 7)], 5 * 42),
        (lambda x, w: (x[..., None] * w).sum(2), [(6, 7)], 5 * 42),  # a product, by broadcasting
        (lambda x, w: torch.outer(x[0, 0], w), [(7,)], 42),
        (lambda x, w: x @ w if x.shape[1] == 5 else x, [(6, 7)], 5 * 42),  # of shapes, not values
        (by_loop, [(6, 7), (7, 7)], 5 * (42 + 49)),
        (into_a_buffer, [(6, 7)], 3 * 42),
        (lambda x, a, b: x @ (a @ b), [(6, 2), (2, 7)], 5 * 42),  # a @ b comes before any input
        (lambda x, gain, shift: x * gain + shift, [(6,), (6,)], 0),
        (lambda x, gain: x * gain, [(5, 1)], 0),
        (lambda x: F.softmax(x, -1) * x, [], 0),
        (lambda x: torch.fft.rfft(x).abs(), [], 0),
    ],
)
def test_macs_of_functions(function, shapes, macs):
    model = Product(function, *shapes)
    rows = layer_costs(model, (5, 6))
    assert cost(model, (5, 6)).macs == sum(row.macs for row in rows) == macs
    assert not any(row.params for row in rows) and len({row.name for row in rows}) == len(rows)


MAP = 4 * 8 * 8  # bytes of one 8 x 8 map of float32


@pytest.mark.parametrize(
    ("model", "maps"),
    [
        (Residual(), 3 * 4),  # the sum reads two tensors and writes a third
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.ReLU()), 1 + 4),
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 1), nn.ReLU()), 4 + 6),
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 6, 1)), 4 + 6),
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.Softplus(), nn.Flatten()), 4 + 4),  # not in place
        (Forward(lambda x, w: torch.relu(x)), 1),  # in place on the input itself
        (Forward(lambda x, w: torch.relu(x) + x), 3),  # x is read again: not in place
        (Forward(lambda x, w: torch.relu(x.flatten(1)).view(1, 8, 8)), 1),  # views
        (Forward(lambda x, w: torch.cat([x * 2, x * 3, x * 4], 1)), 3 + 3),
        (Forward(lambda x, w: x + 1 + w.sum()), 2),  # what depends on weights alone is a weight
        (Forward(lambda x, w: (x * 2).argmax(1).float() + 1), 2),  # integers are not counted
        (Forward(lambda x, w: torch.stack((x * 2).chunk(2, 2))), 2),  # chunks are views
    ],
)
def test_peak_activations_by_hand(model, maps):
    assert cost(model, (1, 8, 8)).peak_activation_bytes == maps * MAP


def test_a_long_shortcut_stays_alive():
    def function(x, w):
        y = x.repeat(1, 3, 1, 1)  # 3 maps beside x
        return y.mean((1, 2, 3)) + x.mean((1, 2, 3))

    assert cost(Forward(function), (1, 8, 8)).peak_activation_bytes == 4 * MAP + 4  # and y's mean
    assert cost(Forward(lambda x, w: x * 2 * 2 * 2 + x), (1, 8, 8)).peak_activation_bytes == 3 * MAP


def test_functional_layers_count_their_macs():
    conv = Forward(lambda x, w: nn.functional.conv2d(x, w * 2, padding=1))
    assert cost(conv, (1, 8, 8)).macs == 4 * 9 * 64
    assert layer_costs(conv, (1, 8, 8))[0].output_shape == (4, 8, 8)


def test_a_shared_layer_counts_its_parameters_once_and_its_macs_twice():
    layer = nn.Linear(5, 5)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert (cost(model, (5,)).params, cost(model, (5,)).macs) == (30, 50)
    assert layer_costs(model, (5,)) == [costs.LayerCost("0", "Linear", (5,), 30, 50)]


def test_a_parameter_of_two_layers_counts_once():
    model = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
    model[1].weight = model[0].weight
    assert (cost(model, (5,)).params, cost(model, (5,)).macs) == (35, 50)
    assert cost(model, (5,)).weight_bytes == 4 * 35
    assert [row.params for row in layer_costs(model, (5,))] == [30, 5]


def test_two_calls_of_a_function_are_two_rows():
    rows = layer_costs(Product(lambda x, w: x @ w @ w, (6, 6)), (6,))
    assert [(row.name, row.kind, row.macs) for row in rows] == [
        ("matmul", "matmul", 36),
        ("matmul_1", "matmul", 36),
    ]


@pytest.mark.parametrize(
    "change",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
        lambda layer: (
            parametrize.register_parametrization(layer, "weight", LSQ(4, axis=0, size=6)) or layer
        ),
    ],
    ids=["weight_norm", "spectral_norm", "orthogonal", "pruned", "LSQ"],
)
def test_computed_weights_cost_what_the_layer_costs(change):
    layer = change(nn.Linear(6, 6))
    found = cost(nn.Sequential(layer, nn.ReLU()), (6,))
    assert found.macs == 36
    assert found.params == sum(p.numel() for p in layer.parameters())
    assert found.peak_activation_bytes == 4 * 12


@pytest.mark.parametrize("name", ["ResNet8_8bit", "ResNet8_4bit"])
def test_a_network_with_quantizers_costs_what_the_one_without_costs(name):
    plain, quantized = build("ResNet8"), load(name)
    steps = sum(m.step.numel() for m in quantized.modules() if isinstance(m, LSQ))
    found, expected = cost(quantized, IMAGE), cost(plain, IMAGE)
    assert found.macs == expected.macs == MACS["ResNet8"]
    assert found.peak_activation_bytes == expected.peak_activation_bytes
    assert found.params == expected.params + steps
    assert found.weight_bytes == expected.weight_bytes + 4 * steps
    row = layer_costs(quantized, IMAGE)[0]
    assert (row.name, row.kind, row.macs) == ("0", "QuantizedLayer", 9 * 16 * 28**2)


def test_a_subclass_that_changes_its_weights_is_still_a_layer():
    class Rounded(nn.Conv2d):
        def forward(self, x):
            if float(self.weight.detach().abs().max()) < 0:  # torch.fx could not follow into this
                return x
            return self._conv_forward(x, torch.round(self.weight), self.bias)

    assert cost(nn.Sequential(Rounded(1, 4, 3)), (1, 8, 8)).macs == 4 * 9 * 36


def test_half_precision_and_memory_format():
    model = build("TinyCNN")
    last = build("TinyCNN").to(memory_format=torch.channels_last)
    assert cost(last, IMAGE) == cost(model, IMAGE)
    half = cost(build("LeNet300").bfloat16(), IMAGE)
    assert (half.weight_bytes, half.peak_activation_bytes) == (2 * 266_610, PEAK["LeNet300"] // 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["TinyCNN", "SensorGRU", "SensorLSTM"])
def test_the_dtype_changes_bytes_only(name, dtype):
    found, expected = cost(build(name).to(dtype), shape_of(name)), cost(build(name), shape_of(name))
    assert (found.params, found.macs) == (expected.params, expected.macs)
    assert 4 * found.weight_bytes == dtype.itemsize * expected.weight_bytes
    assert 4 * found.peak_activation_bytes == dtype.itemsize * expected.peak_activation_bytes


def test_inference_mode_changes_nothing():
    def network():
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True))

    expected = cost(network(), (1, 8, 8))
    with torch.inference_mode():
        model = network()
        assert cost(model, (1, 8, 8)) == expected
    assert cost(model, (1, 8, 8)) == expected


def test_a_model_that_has_no_memory_yet_costs_the_same():
    with torch.device("meta"):
        model = build("LeNet5").to("meta")
    assert cost(model, IMAGE) == cost(build("LeNet5"), IMAGE)


class Counting(nn.Module):
    """Changes itself in each forward, as streaming layers and observers do."""

    def __init__(self):
        super().__init__()
        self.linear, self.bn, self.quantizer = nn.Linear(4, 4), nn.BatchNorm1d(4), LSQ()
        self.calls, self.last = 0, None
        self.register_buffer("state", torch.zeros(4))

    def forward(self, x):
        self.calls += 1
        self.last = x
        self.state = self.state + 1
        self.state.add_(self.linear.bias)
        return self.quantizer(self.bn(self.linear(x)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4,), (5,)])
def test_cost_leaves_the_model_as_it_was(training, shape):
    model = Counting().train(training)
    model.bn.eval()
    parameters, hook = (
        dict(model.named_parameters()),
        model.bn.register_forward_hook(lambda *_: None),
    )
    state, attributes = copy.deepcopy(model.state_dict()), dict(vars(model))
    modes = [module.training for module in model.modules()]
    if shape == (4,):
        assert cost(model, shape).macs == 16
    else:
        with pytest.raises(ValueError, match="Counting refuses one input of shape"):
            cost(model, shape)
    assert [module.training for module in model.modules()] == modes
    assert vars(model) == attributes and model.calls == 0 and model.last is None
    assert not model.quantizer.started
    assert all(model.get_parameter(name) is value for name, value in parameters.items())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    hooks = [key for m in model.modules() for key in (*m._forward_hooks, *m._forward_pre_hooks)]
    assert hooks == [hook.id]


def test_models_run_and_are_counted_in_several_threads():
    model, other, found = build("ResNet8"), build("LeNet5").eval(), []
    before, x, expected = copy.deepcopy(model.state_dict()), torch.rand(1, *IMAGE), []
    with torch.no_grad():
        expected.append(other(x))

        def run():
            with torch.no_grad():
                found.append(all(torch.equal(other(x), expected[0]) for _ in range(100)))

        counts = [threading.Thread(target=lambda: found.append(cost(model, IMAGE))) for _ in "abcd"]
        threads = [threading.Thread(target=run), *counts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 5 and found.count(True) == 1 and found.count(cost(model, IMAGE)) == 4
    assert all(isinstance(p, nn.Parameter) for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("shape", "error", "words"),
    [
        (28, TypeError, "integers"),
        ((1, 28.0, 28), TypeError, "28.0"),
        ("abc", TypeError, "integers"),
        ((), ValueError, "without the batch"),
        ((1, 0, 28), ValueError, "is 0.*at least 1"),
        ((1, True, 28), TypeError, "True"),
        ((1, -28, 28), ValueError, "-28"),
        ((3, 28, 28), ValueError, r"ResNet8 refuses .*\(3, 28, 28\)"),
        ((1, 1, 28, 28), ValueError, r"ResNet8 refuses .*\(1, 1, 28, 28\)"),
    ],
)
def test_cost_of_a_wrong_shape(shape, error, words):
    with pytest.raises(error, match=words):
        cost(build("ResNet8"), shape)


def test_a_refusal_gives_the_reason_for_real_numbers():
    """Indices are only a second try, and their error would not help."""
    with pytest.raises(ValueError, match="refuses .* shapes cannot be multiplied"):
        cost(nn.Sequential(nn.Conv1d(1, 1, 1), nn.Linear(4, 2)), (1, 5))


def test_an_input_shape_may_be_any_row_of_integers():
    expected = cost(build("LeNet300"), IMAGE)
    for shape in ([1, 28, 28], torch.Size(IMAGE), torch.tensor(IMAGE), iter(IMAGE)):
        assert cost(build("LeNet300"), shape) == expected


class Wrapped(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.inner = Product(function, (6, 6))

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x, w: torch.cdist(x, w), "cdist computes aten::_cdist_forward"),
        (lambda x, w: torch.linalg.solve(w, x.mT), "linalg_solve"),
        (lambda x, w: x if x.sum() > 0 else -x, "control flow .* __bool__"),
        (lambda x, w: x * int(x.sum()), "control flow .* __int__"),
        (lambda x, w: x * float(x.sum()), "control flow .* __float__"),
        (lambda x, w: x[range(5)[x.sum().long()]], "control flow .* __index__"),
        (lambda x, w: x * x.max().item(), "control flow .* item"),
        (lambda x, w: x * sum(x[0].tolist()), "control flow .* tolist"),
        (lambda x, w: torch.from_numpy(x.numpy() @ w.numpy()), "control flow .* numpy"),
        (lambda x, w: x if torch.equal(x, w) else -x, "control flow .* equal"),
        (lambda x, w: x if torch.allclose(x, w) else -x, "control flow .* allclose"),
    ],
)
def test_what_cannot_be_counted_is_refused_by_name(function, words):
    with pytest.raises(ValueError, match=f"the cost of Wrapped cannot be told: .*{words}"):
        cost(Wrapped(function), (6,))


def test_a_branch_on_weights_is_no_branch_on_the_input():
    assert cost(Product(lambda x, w: x @ w if w.sum() < 1e9 else x, (6, 7)), (6,)).macs == 42


def test_a_layer_with_an_unknown_product_is_named():
    class Odd(nn.Linear):
        def forward(self, x):
            return torch.cdist(x, self.weight)

    with pytest.raises(ValueError, match=r"layer '1' \(Odd\) computes aten::_cdist_forward"):
        cost(nn.Sequential(nn.ReLU(), Odd(6, 7)), (6,))


def test_products_of_other_libraries_are_refused():
    from torchvision.ops import DeformConv2d, deform_conv2d

    layer = DeformConv2d(1, 4, 3)
    model = Product(lambda x, w: deform_conv2d(x, torch.zeros(1, 18, 6, 6), w), layer.weight.shape)
    with pytest.raises(ValueError, match="torchvision::deform_conv2d"):
        cost(model, (1, 8, 8))


@pytest.mark.filterwarnings("ignore")
def test_compiled_models_and_lazy_layers_are_refused():
    with pytest.raises(ValueError, match="compiled: pass the nn.Module"):
        cost(nn.Sequential(torch.jit.script(nn.Linear(6, 7))), (6,))
    with pytest.raises(ValueError, match="LazyLinear has layers without weights yet: run it once"):
        cost(nn.LazyLinear(7), (6,))
    dynamic = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(6, 7)), {nn.Linear})
    with pytest.raises(ValueError, match="quantized::linear_dynamic"):
        cost(dynamic, (6,))


def test_a_result_is_not_changed_by_mistake():
    for result in (cost(nn.Linear(1, 1), (1,)), *layer_costs(nn.Linear(1, 1), (1,))):
        with pytest.raises(FrozenInstanceError):
            result.macs = 0


def test_cost_of_what_is_no_model():
    with pytest.raises(TypeError, match="nn.Module"):
        cost(lambda x: x, IMAGE)


def by_torch(model, shape):
    """MACs as torch's counter of floating-point operations sees them."""
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        copy.deepcopy(model).eval()(torch.zeros(1, *shape))
    return flops.get_total_flops() // 2


def conv_options(draw, channels, transposed=False):
    """Channels of the output and options of a convolution."""
    groups = draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == 0]))
    options = {
        "out_channels": groups * draw(st.integers(1, 3)),
        "kernel_size": draw(st.integers(1, 3)),
        "stride": draw(st.integers(1, 2)),
        "dilation": draw(st.integers(1, 2)),
        "groups": groups,
        "bias": draw(st.booleans()),
    }
    if not transposed:
        options["padding_mode"] = draw(st.sampled_from(["zeros", "replicate"]))
    return options


@st.composite
def networks(draw):
    """(network, shape): any convolutions, residual blocks and layers without MACs, then Linear."""
    rank = draw(st.sampled_from([1, 1, 2, 2, 2, 3]))
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1]
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank - 1]
    channels = first = draw(st.integers(1, 4))
    layers, earlier = [], []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["conv", "transposed", "residual", "free", "again"]))
        if kind == "again" and earlier:
            layers.append(draw(st.sampled_from(earlier)))
            continue
        if kind == "conv":
            options = conv_options(draw, channels)
            layers.append(conv(channels, padding=2, **options))
            channels = options["out_channels"]
        elif kind == "transposed":
            options = conv_options(draw, channels, transposed=True)
            layers.append(transposed(channels, **options))
            channels = options["out_channels"]
        elif kind == "residual":
            layers.append(Sum(conv(channels, channels, 3, padding=1), draw(st.booleans())))
        else:
            layers.append(
                draw(st.sampled_from([norm(channels), nn.ReLU(), nn.Dropout(), nn.SiLU()]))
            )
        if kind in ("residual", "free"):  # keeps its channels: may stand at a second place
            earlier = [layers[-1]]
        else:
            earlier = []
    layers += [nn.Flatten(2), nn.LazyLinear(draw(st.integers(1, 5)))]
    return nn.Sequential(*layers), (first, *[draw(st.integers(2, 5)) for _ in range(rank)])


class Sum(nn.Module):
    """x + layer(x), with the layer as a module or its weight in a function."""

    def __init__(self, layer, functional):
        super().__init__()
        self.layer, self.functional = layer, functional

    def forward(self, x):
        if not self.functional:
            return x + self.layer(x)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[x.ndim - 3]
        return x + convolve(x, self.layer.weight, self.layer.bias, padding=1)


@settings(deadline=None, max_examples=250)
@given(networks())
def test_macs_are_those_of_torchs_own_counter(case):
    model, shape = case
    model(torch.zeros(2, *shape))  # the last layer learns its width
    model.train()
    found, rows = cost(model, shape), layer_costs(model, shape)
    assert found.macs == sum(row.macs for row in rows) == by_torch(model, shape)
    assert found.params == sum(p.numel() for p in model.parameters())
    assert all(module.training for module in model.modules())


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)]),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 5),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_macs_of_recurrent_layers(kind, inputs, units, layers, steps, options):
    recurrent, gates = kind
    both, bias, batch_first = options
    model = recurrent(inputs, units, layers, bidirectional=both, bias=bias, batch_first=batch_first)
    widths = [inputs] + [units * (1 + both)] * (layers - 1)
    macs = steps * (1 + both) * sum(gates * units * (width + units) for width in widths)
    assert cost(model, (steps, inputs)).macs == macs


CHAIN = {  # layers on [channels, 6, 6] from c channels to n
    "conv": lambda c, n: nn.Conv2d(c, n, 3, padding=1),
    "softplus": lambda c, n: nn.Softplus(),
    "softmax": lambda c, n: nn.Softmax(1),
    "relu": lambda c, n: nn.ReLU(),
    "hardswish": lambda c, n: nn.Hardswish(inplace=True),
    "norm": lambda c, n: nn.BatchNorm2d(c),
    "dropout": lambda c, n: nn.Dropout(),
    "reshape": lambda c, n: nn.Unflatten(1, (c, 1)),
    "quantizer": lambda c, n: LSQ(),
}


@settings(deadline=None, max_examples=150)
@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.sampled_from(sorted(CHAIN)), st.integers(1, 5)), max_size=8),
)
def test_peak_of_a_chain_is_what_a_simulation_finds(channels, chain):
    """One buffer is alive between layers; a layer that writes a new one needs both."""
    layers, first, peak = [nn.Identity()], channels, channels
    for kind, wanted in chain:
        made = wanted if kind == "conv" else channels
        layers.append(CHAIN[kind](channels, made))
        if kind == "reshape":
            layers.append(nn.Flatten(1, 2))
        new = made if kind in ("conv", "softplus", "softmax") else 0
        peak, channels = max(peak, channels + new), made
    assert cost(nn.Sequential(*layers), (first, 6, 6)).peak_activation_bytes == 4 * 36 * peak
