"""The networks of the course, in PyTorch. Every image model reads pixels / 255 in [0, 1]."""

from __future__ import annotations

import torch
from torch import nn


def conv_bn(
    channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1
) -> list[nn.Module]:
    """A convolution without bias and its batch normalization (Ioffe and Szegedy 2015).

    Maps [N, channels_in, H, W] -> [N, channels_out, H', W'], of the same size for an odd kernel at
    stride 1, of half the size, rounded up, at stride 2.

    >>> nn.Sequential(*conv_bn(1, 16, stride=2))(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 16, 14, 14])
    """
    return [
        nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
    ]


def separable(
    channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1
) -> list[nn.Module]:
    """One kernel for each channel, then a 1x1 convolution across channels (Howard et al. 2017).

    Maps as `conv_bn` does; the ReLU between the two is in it, one after them is not.

    >>> nn.Sequential(*separable(16, 24, stride=2))(torch.zeros(2, 16, 28, 28)).shape
    torch.Size([2, 24, 14, 14])
    """
    c = channels_in
    depthwise = nn.Conv2d(c, c, kernel, stride, padding=kernel // 2, groups=c, bias=False)
    return [depthwise, nn.BatchNorm2d(c), nn.ReLU(), *conv_bn(c, channels_out, 1)]


def inverted(
    channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1, expansion: int = 2
) -> list[nn.Module]:
    """1x1 to `expansion` times the channels, depthwise there, 1x1 back (Sandler et al. 2018).

    Maps as `conv_bn` does; no ReLU after the last convolution.

    >>> [m.weight.shape[0] for m in inverted(16, 24) if isinstance(m, nn.Conv2d)]
    [32, 32, 24]
    """
    wide = expansion * channels_in
    return [
        *conv_bn(channels_in, wide, 1),
        nn.ReLU(),
        *separable(wide, channels_out, kernel, stride),
    ]


class LeNet300(nn.Sequential):
    """784-300-100-10 (LeCun et al. 1998), the 40x example of Deep Compression (Han et al. 2016)."""

    def __init__(self):
        super().__init__(
            nn.Flatten(),
            nn.Linear(784, 300),
            nn.ReLU(),
            nn.Linear(300, 100),
            nn.ReLU(),
            nn.Linear(100, 10),
        )


class LeNet5(nn.Sequential):
    """Caffe's LeNet-5, 20-50-500-10: the 39x example of Deep Compression (Han et al. 2016)."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 20, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(800, 500),
            nn.ReLU(),
            nn.Linear(500, 10),
        )


class TinyCNN(nn.Sequential):
    """Three small convolutions: what fits a microcontroller, and trains in seconds an epoch."""

    def __init__(self):
        super().__init__(
            *conv_bn(1, 16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            *conv_bn(16, 24),
            nn.ReLU(),
            nn.MaxPool2d(2),
            *conv_bn(24, 48),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(48, 10),
        )


class ResidualBlock(nn.Module):
    """relu(body(x) + shortcut(x)) with two 3x3 convolutions (He et al. 2016, figure 2).

    The shortcut passes x on, or fits its channels and size with a 1x1 convolution.

    >>> ResidualBlock(16, 32, stride=2)(torch.zeros(2, 16, 28, 28)).shape
    torch.Size([2, 32, 14, 14])
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1):
        super().__init__()
        self.body = nn.Sequential(
            *conv_bn(channels_in, channels_out, stride=stride),
            nn.ReLU(),
            *conv_bn(channels_out, channels_out),
        )
        same = stride == 1 and channels_in == channels_out
        fitted = [] if same else conv_bn(channels_in, channels_out, 1, stride)
        self.shortcut = nn.Sequential(*fitted)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.body(x) + self.shortcut(x))


def with_shortcut(body: list[nn.Module], channels: int) -> ResidualBlock:
    """relu(body(x) + x), for layers that map `channels` channels to as many, of the same size.

    >>> with_shortcut(separable(16, 16), 16)(torch.zeros(2, 16, 14, 14)).shape
    torch.Size([2, 16, 14, 14])
    """
    block = ResidualBlock(channels, channels)
    block.body = nn.Sequential(*body)
    return block


class ResNet8(nn.Sequential):
    """The image model of MLPerf Tiny (Banbury et al. 2021): three residual blocks, 16-32-64."""

    def __init__(self):
        super().__init__(
            *conv_bn(1, 16),
            nn.ReLU(),
            ResidualBlock(16, 16),
            ResidualBlock(16, 32, stride=2),
            ResidualBlock(32, 64, stride=2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, 10),
        )


class ResNet7(nn.Sequential):
    """ResNet8 for less time: most of its weights see 7x7 and 4x4 maps, one convolution 14x14."""

    def __init__(self):
        super().__init__(
            *conv_bn(1, 16, stride=2),
            nn.ReLU(),
            *conv_bn(16, 16),
            nn.ReLU(),
            ResidualBlock(16, 32, stride=2),
            ResidualBlock(32, 48, stride=2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(48, 10),
        )


class WideResNet(nn.Sequential):
    """The teacher: ResNet8's blocks, twice as wide at each size (Zagoruyko and Komodakis 2016).

    Its first block already halves the image, so that the width is paid for on 14x14 and 7x7 maps.
    """

    def __init__(self):
        super().__init__(
            *conv_bn(1, 32),
            nn.ReLU(),
            ResidualBlock(32, 64, stride=2),
            ResidualBlock(64, 64),
            ResidualBlock(64, 128, stride=2),
            ResidualBlock(128, 128),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(128, 10),
        )


class SearchedCNN(nn.Sequential):
    """Found by the search of lesson 39 within TinyCNN's MACs, int8 bytes and activation memory."""

    def __init__(self):
        super().__init__(
            *conv_bn(1, 16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            *inverted(16, 32, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            *separable(32, 48),
            nn.ReLU(),
            with_shortcut(separable(48, 48), 48),
            with_shortcut(separable(48, 48), 48),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(48, 10),
        )


class SensorRNN(nn.Module):
    """Windows float32 [N, time, features] -> logits [N, classes], read from the mean of the states.

    The smartwatch has 6 features and 7 classes, the mean is over time.

    The input is standardized inside the model with the training data's mean and deviation. On a
    device that streams, the mean is a running sum, so that one step needs no earlier input.

    >>> SensorRNN(nn.GRU, units=8)(torch.zeros(2, 100, 6)).shape
    torch.Size([2, 7])
    """

    def __init__(
        self, recurrent: type[nn.RNNBase], units: int = 32, features: int = 6, classes: int = 7
    ):
        super().__init__()
        self.norm = nn.BatchNorm1d(features, affine=False, momentum=None)
        self.rnn = recurrent(features, units, batch_first=True)
        self.head = nn.Linear(units, classes)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        outputs, _ = self.rnn(self.norm(windows.mT).mT)
        return self.head(outputs.mean(1))


class SensorGRU(SensorRNN):
    """A gated recurrent unit with 32 units on the smartwatch motion data (Cho et al. 2014)."""

    def __init__(self):
        super().__init__(nn.GRU)


class SensorLSTM(SensorRNN):
    """A long short-term memory with 32 units (Hochreiter and Schmidhuber 1997)."""

    def __init__(self):
        super().__init__(nn.LSTM)


class SpeechCNN(nn.Sequential):
    """Depthwise separable convolutions on log-mels (DS-CNN, Zhang et al. 2017), half as wide.

    Reads features / 255, [N, 1, 49, 32]: time, then bands. 51 classes: ten digits in each of five
    languages, and anything else.
    """

    input_size = (49, 32)

    def __init__(self, width: int = 32, classes: int = 51):
        blocks = [m for _ in range(4) for m in (*separable(width, width), nn.ReLU())]
        super().__init__(
            *conv_bn(1, width, 5, stride=2),
            nn.ReLU(),
            *blocks,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, classes),
        )


class SpeechGRU(SensorRNN):
    """A gated recurrent unit with 64 units on the same features / 255, [N, 49, 32]."""

    def __init__(self):
        super().__init__(nn.GRU, units=64, features=32, classes=51)
