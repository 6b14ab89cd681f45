# SPDX-License-Identifier: Apache-2.0
"""Which devices there are: ports that the system has, and what answers on them."""

import json
from types import SimpleNamespace

import pytest
from serial.tools import list_ports

from tests.driver.fake_machine import FakeMachine
from tests.driver.pty_board import PtyBoard
from tests.driver.test_serial_machine import IDENTITY, MEMORY_BYTES
from tilewright.cli import main
from tilewright_driver.discovery import devices
from tilewright_driver.open_device import DEVICES
from tilewright_sim.link_model import LinkModel, MachineBuses


class Silent:
    def receive(self, data: bytes) -> bytes:
        return b""


def test_devices(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    model = LinkModel(IDENTITY, MachineBuses(FakeMachine(memory_bytes=MEMORY_BYTES)))
    with PtyBoard(model) as board, PtyBoard(Silent()) as silent, PtyBoard(Silent()) as other:
        monkeypatch.setattr(list_ports, "comports", lambda: [
            SimpleNamespace(device=board.port, vid=0x0403, pid=0x6015, description="ULX3S"),
            SimpleNamespace(device=silent.port, vid=0x0403, pid=0x6010, description="Dual"),
            SimpleNamespace(device=other.port, vid=0x2341, pid=0x0043, description="a printer"),
            SimpleNamespace(device="/dev/ttyS0", vid=None, pid=None, description="n/a"),
        ])
        found = {device.device: device for device in devices()}
        assert other.to_board == 0
        assert list(found)[: len(DEVICES)] == list(DEVICES)
        there = found[f"serial:{board.port}"]
        assert (there.usb, there.board, there.config, there.build) == ("0403:6015", "model", "nano4", "00" * 16)
        assert "must answer within" in str(found[f"serial:{silent.port}"].problem)
        assert found[f"serial:{other.port}"].problem == "an unknown bridge: not asked"
        assert found["serial:/dev/ttyS0"].problem == "not on USB: not asked"
        assert main(["devices"]) == 0
        shown = capsys.readouterr().out
        assert f"serial:{board.port}: model, configuration nano4, build 000000000000; ULX3S (0403:6015)" in shown
        assert "serial:/dev/ttyS0: a serial port; not on USB: not asked" in shown
        assert main(["devices", "--json"]) == 0
        assert [entry["device"] for entry in json.loads(capsys.readouterr().out)] == list(found)


def test_the_command_line_takes_a_port(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "x", "--input", "y", "--device", "fpga"])
    assert "must be iss, rtl or serial:PORT, not 'fpga'" in capsys.readouterr().err
