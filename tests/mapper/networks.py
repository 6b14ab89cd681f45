# SPDX-License-Identifier: Apache-2.0
"""Small networks with every operator that the front end maps."""

import functools
from collections.abc import Callable

import torch
from torch import nn
from torch.export import ExportedProgram

IMAGE = (1, 12, 12)


class Block(nn.Module):
    """Residual block with batch norm."""

    def __init__(self, channels: int, act: nn.Module):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act = act
        self.conv2 = nn.Conv2d(channels, channels, 1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.bn1(self.conv1(x)))
        return self.act(x + self.bn2(self.conv2(y)))


class ResidualCnn(nn.Module):
    """Stem, two residual blocks, both kinds of pools, depthwise layer, two linear layers and a softmax."""

    def __init__(self, act: Callable[[], nn.Module] = nn.ReLU):
        super().__init__()
        self.act = act()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.block1 = Block(8, act())
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.block2 = Block(8, act())
        self.average = nn.AvgPool2d(2)
        self.fc1 = nn.Linear(8 * 3 * 3, 24)
        self.dropout = nn.Dropout()
        self.fc2 = nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.block1(self.act(self.stem(x))))
        x = self.average(self.block2(self.act(self.depthwise(x))))
        x = self.act(self.fc1(torch.flatten(x, 1)))
        return torch.softmax(self.fc2(self.dropout(x)), 1)


class HandWritten(nn.Module):
    """Activations written out, in-place operators, dilation, explicit padding, a mean and tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3)
        self.conv2 = nn.Conv2d(8, 8, 3, padding="same", dilation=2)
        self.conv3 = nn.Conv2d(8, 8, 3, stride=2)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        x = x * torch.sigmoid(x)
        y = self.conv2(x)
        y += x
        y.relu_()
        y = self.conv3(nn.functional.pad(y, (0, 1, 0, 1)))
        y = y * nn.functional.relu6(y + 3) / 6
        return self.fc(y.mean((2, 3)))


class Tokens(nn.Module):
    """Linear layers over tokens, a GELU, a residual, a mean, and a layer norm that stays on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(12, 16)
        self.up = nn.Linear(16, 32)
        self.down = nn.Linear(32, 16)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x.squeeze(1))
        x = x + self.down(nn.functional.gelu(self.up(x)))
        return self.head(self.norm(x.mean(1)))


def prepare(model: nn.Module) -> nn.Module:
    """Reproducible weights and batch statistics, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            with torch.no_grad():
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator))
                module.weight.div_(module.weight[0].numel() ** 0.5)
                if module.bias is not None:
                    module.bias.copy_(torch.randn(module.bias.shape, generator=generator) / 4)
    return model.eval()


def calibration(count: int = 32) -> torch.Tensor:
    return torch.randn((count, *IMAGE), generator=torch.Generator().manual_seed(1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "relu": ResidualCnn,
    "relu6": functools.partial(ResidualCnn, functools.partial(nn.ReLU6, inplace=True)),
    "hardtanh": functools.partial(ResidualCnn, nn.Hardtanh),
    "silu": functools.partial(ResidualCnn, nn.SiLU),
    "hardswish": functools.partial(ResidualCnn, nn.Hardswish),
    "hand": HandWritten,
    "tokens": Tokens,
}


@functools.cache
def quantized(name: str) -> ExportedProgram:
    """Network quantized by the project's own quantizer; made once a session."""
    from tilewright_mapper.pytorch.quantizer import quantize

    return quantize(prepare(NETWORKS[name]()), [calibration()])
