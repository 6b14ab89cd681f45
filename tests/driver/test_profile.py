# SPDX-License-Identifier: Apache-2.0
"""Profiles: sums over layers and images."""

import json

import numpy as np
import pytest

from tilewright_driver.device import Device
from tilewright_driver.profile import Profile

from .fake_machine import FakeMachine
from .programs import SHAPE, program


def profile(images: int) -> Profile:
    device = Device(FakeMachine())
    device.run(program(), np.zeros((images, *SHAPE), np.int8))
    return device.profile()


@pytest.mark.parametrize("images", [1, 3])
def test_layers_add_up(images: int) -> None:
    found = profile(images)
    assert (found.images, found.cycles, found.macs) == (images, 100 * images, 160 * images)
    first, second, host = found.layers
    assert (first.cycles, second.cycles, host.cycles) == (70 * images, 30 * images, 0)
    assert first.utilization == pytest.approx(160 / 16 / 70)
    assert found.utilization == pytest.approx(160 / 16 / 100)
    assert found.predicted_cycles == 90 * images
    assert (first.vectors, second.vectors, host.vectors) == (0, 0, 0)
    assert {cause: n for cause, n in first.stalls.items() if n} == {"fetch": 4 * images, "load": 66 * images}
    assert {cause: n for cause, n in second.stalls.items() if n} == {"store": 30 * images}
    assert host.stalls == {}
    assert found.counters["EXEC_BUSY"] == images


def test_plain_data() -> None:
    data = json.loads(json.dumps(profile(2).to_dict()))
    assert data["device"] == "fake"
    assert data["utilization"] == pytest.approx(0.1)
    assert [layer["name"] for layer in data["layers"]] == ["a", "b", "c"]
    assert data["layers"][2]["reason"] == "none has it"
