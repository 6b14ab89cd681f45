# SPDX-License-Identifier: Apache-2.0
"""Networks on the RTL, driven by the reference driver in C."""

from pathlib import Path

import numpy as np
import pytest

from tests.driver import c_driver
from tests.driver.c_driver import CDriver
from tests.tilewright.test_residency import cases
from tilewright.cli import main
from tilewright_driver.device import required_memory
from tilewright_driver.open_device import open_device
from tilewright_hdl.registers import REGISTERS
from tilewright_sim.rtl import RtlMachine

NAMES = {register.address: name for name, register in REGISTERS.items()}
MOST_LOOKS = 100_000


class RtlBus:
    """The registers and the memory of the RTL; its clock goes on with each access."""

    def __init__(self, machine: RtlMachine):
        self._machine = machine
        self._looks = 0
        self.read, self.write = machine.read, machine.write

    def read_register(self, offset: int) -> int:
        return self._machine.read_register(NAMES[offset])

    def write_register(self, offset: int, value: int) -> None:
        self._machine.write_register(NAMES[offset], value)

    def give_up(self, first: bool) -> bool:
        self._looks = 0 if first else self._looks + 1
        return self._looks > MOST_LOOKS


@pytest.mark.parametrize("name", ["nano4", "tiny"])
def test_networks(tmp_path: Path, name: str) -> None:
    """Two networks in turn, with constants that stay on chip."""
    pair = cases(name)
    config = pair[0].program.config
    memory_bytes = max(required_memory(case.program) for case in pair)
    with open_device("rtl", config=config, memory_bytes=memory_bytes) as device:
        assert isinstance(device.machine, RtlMachine)
        for number, case in enumerate((*pair, pair[0])):
            folder = tmp_path / str(number)
            folder.mkdir()
            driver = CDriver(case.program, RtlBus(device.machine), folder)
            assert driver.load() == c_driver.OK
            for image, expected in zip(case.image, case.expected, strict=True):
                result, (output,) = driver.run(image)
                assert result == c_driver.OK
                np.testing.assert_array_equal(output, expected)
                assert driver.ask("tw_cycles") == case.program.predicted_cycles


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases("nano4")[0].program.save(tmp_path / "p")
    assert main(["c", str(tmp_path / "p"), "-o", str(tmp_path / "out")]) == 0
    name = cases("nano4")[0].program.name
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([
        "tilewright.c", "tilewright.h", "tilewright_registers.h", f"tw_program_{name}.c", f"tw_program_{name}.h"])
    assert "tilewright.c" in capsys.readouterr().out
    assert main(["c", "-o", str(tmp_path / "p")]) == 1
    assert "must be a folder" in capsys.readouterr().err
