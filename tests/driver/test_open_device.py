# SPDX-License-Identifier: Apache-2.0
"""Devices by name, and what cannot be opened."""

from typing import Any

import pytest

from tilewright_driver.open_device import open_device
from tilewright_hdl.errors import ConfigError


def test_the_simulator_opens_with_every_way_to_name_a_configuration() -> None:
    with open_device("iss", config="nano4") as device:
        assert device.name == "iss"
        with open_device("iss", config=device.machine.config) as again:
            assert again.machine.config == device.machine.config


@pytest.mark.parametrize(("options", "message"), [
    ({"device": "fpga"}, "Device must be one of iss, rtl, or serial:PORT, not 'fpga'"),
    ({"config": None}, "The device 'iss' must have a config= to simulate"),
    ({"vcd": "x"}, "'iss' has no waveforms"),
    ({"vcd": "x", "fst": "y"}, "as vcd or as fst, not both"),
    ({"memory_bytes": -1}, "memory_bytes must be an integer from 4096 to 4294967296, not -1"),
    ({"memory_latency": 0}, "memory_latency must be an integer from 1 to 65536, not 0"),
    ({"memory_beat_period": "x"}, "memory_beat_period must be an integer from 1 to 1024, not 'x'"),
])
def test_what_cannot_be_opened(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_device(**{"device": "iss", "config": "nano4"} | options)


def test_an_unknown_configuration() -> None:
    with pytest.raises(ConfigError, match="must be one of nano4"):
        open_device("iss", config="edge9")
