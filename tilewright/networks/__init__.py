# SPDX-License-Identifier: Apache-2.0
"""Networks to begin with: the four of MLPerf Tiny and a ResNet-18, with their names.

They are written here in PyTorch after the published architectures and come without weights: train them on your own
data. PyTorch is imported when the first one is built.
"""

import importlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["NETWORKS", "Network"]

MLPERF_TINY = "MLPerf Tiny (mlcommons/tiny)"


@dataclass(frozen=True, kw_only=True)
class Network:
    """An architecture.

    Members
    -------
    name : str
        On the command line.
    constructor : str
        Module of this package and class, ``"resnet8.ResNet8"``.
    input_shape : tuple of int
        Of one input, channels first.
    classes : int or None
        Logits that come out; ``None`` if the network gives its input back.
    macs : int
        Products in the convolutions and linear layers of one inference; those with padding count too.
    about : str
        What it is and what for.
    source : str
        Where the architecture is from.
    """

    name: str
    constructor: str
    input_shape: tuple[int, ...]
    classes: int | None
    macs: int
    about: str
    source: str

    @property
    def output_size(self) -> int:
        """Numbers that come out for one input."""
        return self.classes or math.prod(self.input_shape)

    def build(self, seed: int = 0) -> "nn.Module":
        """The network in evaluation mode, with random weights that the seed determines.

        Takes float32 of shape (N, *input_shape) and gives (N, output_size). PyTorch's global generator is as before.
        """
        import torch

        module, _, name = self.constructor.partition(".")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network: nn.Module = getattr(importlib.import_module(f".{module}", __name__), name)()
        return network.eval()

    def parameters(self) -> int:
        """Numbers that training finds: weights, biases, and scales and shifts of batch norms."""
        import torch

        with torch.device("meta"):
            return sum(parameter.numel() for parameter in self.build().parameters())


NETWORKS = {network.name: network for network in (
    Network(name="resnet8", constructor="resnet8.ResNet8", input_shape=(3, 32, 32), classes=10, macs=12_501_632,
            about="MLPerf Tiny image classification: ResNet8", source=MLPERF_TINY),
    Network(name="dscnn", constructor="dscnn.DsCnn", input_shape=(1, 49, 10), classes=12, macs=2_656_768,
            about="MLPerf Tiny keyword spotting: DS-CNN", source=MLPERF_TINY),
    Network(name="mobilenet", constructor="mobilenet.MobileNet", input_shape=(3, 96, 96), classes=2, macs=7_489_664,
            about="MLPerf Tiny visual wake words: MobileNetV1 of width 0.25", source=MLPERF_TINY),
    Network(name="autoencoder", constructor="autoencoder.Autoencoder", input_shape=(640,), classes=None, macs=264_192,
            about="MLPerf Tiny anomaly detection: autoencoder", source=MLPERF_TINY),
    Network(name="resnet18", constructor="resnet18.ResNet18", input_shape=(3, 224, 224), classes=1000,
            macs=1_814_073_344, about="ResNet-18 for photographs",
            source="He et al., Deep Residual Learning for Image Recognition, 2015"),
)}
"""By name."""
