"""Costs against counts by hand."""

import pytest
import torch
from torch import nn

from helpers import costs
from helpers.costs import cost, layer_costs
from helpers.models import NAMES, build


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


@pytest.mark.parametrize("name", NAMES)
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
        (nn.BatchNorm2d(3), (3, 4, 4), 0),
    ],
)
@pytest.mark.filterwarnings("ignore:LSTM with projections")
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
    assert len(layer_costs(model, (5,))) == 1


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


@pytest.mark.parametrize("training", [True, False])
def test_cost_leaves_the_model_as_it_was(training):
    model = build("ResNet8").train(training)
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    cost(model, IMAGE)
    with pytest.raises(ValueError, match="refuses"):
        cost(model, (2, 28, 28))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("shape", "error", "words"),
    [
        (28, TypeError, "integers"),
        ((1, 28.0, 28), TypeError, "28.0"),
        ("abc", TypeError, "integers"),
        ((), ValueError, "without the batch"),
        ((1, 0, 28), ValueError, ">= 1"),
        ((3, 28, 28), ValueError, r"ResNet8 refuses .*\(3, 28, 28\)"),
        ((1, 1, 28, 28), ValueError, r"ResNet8 refuses .*\(1, 1, 28, 28\)"),
    ],
)
def test_cost_of_a_wrong_shape(shape, error, words):
    with pytest.raises(error, match=words):
        cost(build("ResNet8"), shape)


def test_cost_of_what_is_no_model():
    with pytest.raises(TypeError, match="nn.Module"):
        cost(lambda x: x, IMAGE)
    with pytest.raises(ValueError, match="control flow"):
        cost(Forward(lambda x, w: x if x.sum() > 0 else -x), IMAGE)
