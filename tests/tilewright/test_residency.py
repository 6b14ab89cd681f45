# SPDX-License-Identifier: Apache-2.0
"""Constants stay on the devices from run to run, and come back when something else was there."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.mapper.bench import Net
from tests.tilewright.agreement import CONFIGS, NANO4, Devices
from tilewright_driver.device import Device
from tilewright_driver.profile import Profile
from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import DeviceError
from tilewright_hdl.program import Program
from tilewright_mapper.passes import canonicalize
from tilewright_mapper.pipeline import compile_graph
from tilewright_mapper.reference_run import reference_run

Image = np.ndarray[Any, np.dtype[np.int8]]


class Case:
    """A program, an image, and what comes out."""

    def __init__(self, cfg: AcceleratorConfig, seed: int):
        net = Net((6, 5, 5), seed)
        x = net.conv(net.conv("input", 8, (3, 3)), 10, (2, 2))
        graph = canonicalize(net.graph(net.conv(net.table(x), 6)))
        self.program = compile_graph(graph, cfg)
        self.image = np.stack([net.image()] * 2)
        (output,) = graph.outputs
        self.expected = reference_run(graph, self.image, bits=cfg.post.multiplier_bits)[output]

    def run(self, device: Device) -> Profile:
        """Run it on two images; results and cycles must be what they always are."""
        np.testing.assert_array_equal(device.run(self.program, self.image), self.expected)
        profile = device.profile()
        assert profile.cycles == 2 * self.program.predicted_cycles
        return profile


@cache
def cases(name: str) -> tuple[Case, Case]:
    """Two programs for one accelerator of :data:`CONFIGS`."""
    return Case(CONFIGS[name], 1), Case(CONFIGS[name], 2)


def stays(program: Program) -> tuple[bool, bool]:
    """Whether any constants stay, and whether any do not."""
    shares = program.report["constants"].values()
    return any(share["stay"] for share in shares), any(share["stream"] for share in shares)


def broken_off(*_: Any, **__: Any) -> None:
    raise DeviceError("broken off")


@pytest.mark.parametrize("kind", ["iss", "rtl"])
@pytest.mark.parametrize("name", ["nano4", "tiny"])
def test_programs_in_turn(devices: Devices, monkeypatch: pytest.MonkeyPatch, kind: str, name: str) -> None:
    first, second = cases(name)
    assert stays(first.program) == (True, name == "tiny")
    device = devices.get(kind, first.program.config)
    # Whatever another test has left there.
    second.run(device)
    brought = first.run(device).setup_cycles
    assert brought > 0
    assert first.run(device).setup_cycles == 0
    assert second.run(device).setup_cycles > 0
    assert [first.run(device).setup_cycles for _ in range(2)] == [brought, 0]
    # The simulated hardware is reset after a run that was broken off.
    method = {"iss": "run", "rtl": "_run_to_end"}[kind]
    with monkeypatch.context() as patch:
        patch.setattr(device.machine, method, broken_off)
        with pytest.raises(DeviceError, match="broken off"):
            device.run(first.program, first.image)
    assert [first.run(device).setup_cycles for _ in range(2)] == [brought, 0]


def test_both_devices_take_the_same_time_to_bring_constants_on_chip(devices: Devices) -> None:
    first, second = cases("nano4")
    found = []
    for kind in ("iss", "rtl"):
        device = devices.get(kind, NANO4)
        second.run(device)
        found.append(first.run(device).setup_cycles)
    assert found[0] == found[1] > 0


@pytest.mark.parametrize("kind", ["iss", "rtl"])
def test_inferences_compute_with_what_is_on_chip(
    devices: Devices, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The tests above would notice: who takes another program's constants for his own computes nonsense."""
    first, second = cases("nano4")
    device = devices.get(kind, NANO4)
    second.run(device)
    with monkeypatch.context() as patch:
        patch.setattr(device, "_resident", first.program.digest)
        found = device.run(first.program, first.image)
    assert not np.array_equal(found, first.expected)
    assert device.profile().setup_cycles == 0
