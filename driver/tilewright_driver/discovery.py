# SPDX-License-Identifier: Apache-2.0
"""Which devices there are."""

from collections.abc import Iterable
from dataclasses import dataclass

from tilewright_hdl.config import PRESETS, AcceleratorConfig
from tilewright_hdl.errors import DeviceError

from .find_board import config_of, find_board
from .open_device import DEVICES, SERIAL

__all__ = ["BRIDGES", "FoundDevice", "devices"]

BRIDGES = {
    (0x0403, 0x6010): "FT2232 or one that acts as it (iCEBreaker, Tang Nano)",
    (0x0403, 0x6014): "FT232H",
    (0x0403, 0x6015): "FT231X (ULX3S)",
}
"""USB vendor and product of the bridges on boards that we serve. Only these are asked who they are: bytes that come out
of the blue may disturb other things on serial ports."""


@dataclass(frozen=True)
class FoundDevice:
    """A device that can be opened, or might.

    Members
    -------
    device : str
        What :func:`~.open_device.open_device` takes.
    meaning : str
        What it is; of a serial port, the description that the system has of it, if it has one.
    usb : str or None
        USB vendor and product, such as ``"0403:6015"``.
    board, config, build : str or None
        What the board said of itself: its name, the name of its configuration or the beginning of that one's digest,
        and the digest of its build.
    problem : str or None
        Why the board said nothing.
    """

    device: str
    meaning: str
    usb: str | None = None
    board: str | None = None
    config: str | None = None
    build: str | None = None
    problem: str | None = None


def devices(known: Iterable[AcceleratorConfig] = tuple(PRESETS.values())) -> list[FoundDevice]:
    """The simulators, and all serial ports; those with one of our :data:`BRIDGES` are asked who they are.

    Parameters
    ----------
    known : iterable of AcceleratorConfig
        Configurations whose names are told.

    Raises
    ------
    DeviceError
        If pyserial is not installed.
    """
    try:
        from serial.tools.list_ports import comports
    except ImportError as error:
        raise DeviceError("A list of boards needs pyserial: pip install tilewright[serial]") from error
    found = [FoundDevice(name, meaning) for name, meaning in DEVICES.items()]
    for port in sorted(comports(), key=lambda port: port.device):
        # What pyserial says of a port that the system does not describe.
        description = "a serial port" if port.description == "n/a" else port.description
        if port.vid is None:
            found.append(FoundDevice(SERIAL + port.device, description, problem="not on USB: not asked"))
            continue
        usb = f"{port.vid:04x}:{port.pid:04x}"
        if (port.vid, port.pid) in BRIDGES:
            found.append(_ask(port.device, description, usb, known))
        else:
            problem = "an unknown bridge: not asked"
            found.append(FoundDevice(SERIAL + port.device, description, usb, problem=problem))
    return found


def _ask(port: str, description: str, usb: str, known: Iterable[AcceleratorConfig]) -> FoundDevice:
    """Find out which board is at a port; another program that uses it is left alone."""
    try:
        found = find_board(port, timeout=0.1, attempts=3)
    except DeviceError as error:
        return FoundDevice(SERIAL + port, description, usb, problem=str(error))
    found.link.close()
    config = config_of(found.digest, known)
    return FoundDevice(SERIAL + port, description, usb, board=found.identity.board,
                       config=found.digest[:12] if config is None else config.name, build=found.identity.build.hex())
