# SPDX-License-Identifier: Apache-2.0
"""The networks: sizes, shapes, and the architectures that they claim to be."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from tests.mapper.tflite.real_models import real_model
from tests.test_architecture import loaded_after
from tilewright.networks import NETWORKS
from tilewright.networks.layers import same_padding

PARAMETERS = {
    # As Keras counts the reference models, less biases in front of batch norms, less means and variances.
    "resnet8": 78_666 - 240 - 480,
    "dscnn": 24_908 - 576 - 1152,
    "mobilenet": 221_794 - 2736 - 5472,
    "autoencoder": 269_992 - 2064,
    "resnet18": 11_689_512,
}


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer: what it is, its weights and its output as TFLite has them, channels last."""

    kind: str
    weight: tuple[int, ...]
    output: tuple[int, ...]
    stride: tuple[int, int] = (1, 1)

    @property
    def macs(self) -> int:
        depthwise = self.kind == "DEPTHWISE_CONV_2D"
        return math.prod(self.output) * math.prod(self.weight[1:3] if depthwise else self.weight[1:])


def layers(name: str) -> list[Layer]:
    """What runs when one input goes through a network, in order."""
    found: list[Layer] = []

    def record(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        if isinstance(module, nn.Linear):
            found.append(Layer("FULLY_CONNECTED", tuple(module.weight.shape), tuple(output.shape)))
        elif isinstance(module, nn.Conv2d):
            depthwise = module.groups == module.in_channels > 1
            assert depthwise or module.groups == 1
            weight = module.weight.permute(*((1, 2, 3, 0) if depthwise else (0, 2, 3, 1)))
            found.append(Layer("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", tuple(weight.shape),
                               tuple(output.permute(0, 2, 3, 1).shape), module.stride))  # type: ignore[arg-type]

    network = NETWORKS[name].build()
    for module in network.modules():
        module.register_forward_hook(record)
    with torch.no_grad():
        network(torch.zeros(1, *NETWORKS[name].input_shape))
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_sizes(name: str) -> None:
    network = NETWORKS[name]
    assert network.name == name
    assert sum(layer.macs for layer in layers(name)) == network.macs
    assert network.parameters() == PARAMETERS[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_forward_pass(name: str) -> None:
    network = NETWORKS[name]
    x = torch.randn(2, *network.input_shape, generator=torch.Generator().manual_seed(0))
    model = network.build()
    assert not model.training
    with torch.no_grad():
        y = model(x)
    assert y.shape == (2, network.output_size)
    # Random weights are of a size that neither fades nor explodes, so that an untrained network has something to show.
    assert 0.1 < float(y.std()) < 100
    assert not torch.equal(y[0], y[1])


def test_the_seed_determines_the_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        return NETWORKS["dscnn"].build(seed).get_parameter("stem.conv.weight")

    state = torch.random.get_rng_state()
    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_registry_is_light_and_fixed() -> None:
    assert "torch" not in loaded_after("from tilewright.networks import NETWORKS; NETWORKS['resnet8']")
    with pytest.raises(dataclasses.FrozenInstanceError):
        NETWORKS["resnet8"].macs = 0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [(49, 10, 2, (4, 5)), (10, 4, 2, (1, 1)), (96, 3, 2, (0, 1)), (5, 3, 2, (1, 1)), (8, 3, 1, (1, 1)),
     (8, 1, 2, (0, 0)), (9, 2, 1, (0, 1)), (7, 2, 3, (0, 1)), (4, 1, 3, (0, 0))],
)
def test_same_padding(size: int, kernel: int, stride: int, padding: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == padding
    assert (size + sum(padding) - kernel) // stride + 1 == -(-size // stride)


@pytest.mark.parametrize(("name", "file"), [("resnet8", "pretrainedResnet_quant.tflite"),
                                            ("dscnn", "kws_ref_model.tflite")])
def test_layers_are_those_of_the_reference_file(name: str, file: str) -> None:
    from tilewright_mapper.tflite.file import read_tflite

    model = read_tflite(real_model(file))
    expected = []
    for operator in model.operators:
        if operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            stride = (1, 1) if operator.kind == "FULLY_CONNECTED" else (
                operator.options["stride_h"], operator.options["stride_w"])
            expected.append(Layer(operator.kind, model.tensors[operator.inputs[1]].shape,
                                  model.tensors[operator.outputs[0]].shape, stride))  # type: ignore[arg-type]
    assert layers(name) == expected


def test_layers_of_mobilenet() -> None:
    stem, *pairs, classify = layers("mobilenet")
    assert stem == Layer("CONV_2D", (8, 3, 3, 3), (1, 48, 48, 8), (2, 2))
    assert [layer.kind for layer in pairs] == ["DEPTHWISE_CONV_2D", "CONV_2D"] * 13
    assert {layer.weight[1:3] for layer in pairs[::2]} == {(3, 3)}
    assert {layer.weight[1:3] for layer in pairs[1::2]} == {(1, 1)}
    assert [layer.output[1:] for layer in pairs[1::2]] == [
        (48, 48, 16), (24, 24, 32), (24, 24, 32), (12, 12, 64), (12, 12, 64), *[(6, 6, 128)] * 6, (3, 3, 256),
        (3, 3, 256),
    ]
    assert classify == Layer("FULLY_CONNECTED", (2, 256), (1, 2))


def test_layers_of_the_autoencoder() -> None:
    assert [layer.weight for layer in layers("autoencoder")] == [
        (128, 640), *[(128, 128)] * 3, (8, 128), (128, 8), *[(128, 128)] * 3, (640, 128)]


def test_layers_of_resnet18() -> None:
    stem, *blocks, classify = layers("resnet18")
    assert stem == Layer("CONV_2D", (64, 7, 7, 3), (1, 112, 112, 64), (2, 2))
    assert classify == Layer("FULLY_CONNECTED", (1000, 512), (1, 1000))
    stages = [(64, 56, 4), (128, 28, 5), (256, 14, 5), (512, 7, 5)]
    assert [layer.output[1:] for layer in blocks] == [(size, size, c) for c, size, count in stages
                                                      for _ in range(count)]
    shortcuts = [layer for layer in blocks if layer.weight[1:3] == (1, 1)]
    assert [(layer.weight[0], layer.stride) for layer in shortcuts] == [(128, (2, 2)), (256, (2, 2)), (512, (2, 2))]
