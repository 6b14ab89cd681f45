# SPDX-License-Identifier: Apache-2.0
"""A serial line of this machine."""

import contextlib
from typing import Any, Protocol

from tilewright_hdl.errors import DeviceError

__all__ = ["Line", "SerialLine"]


class Line(Protocol):
    """Bytes to and from a board."""

    def write(self, data: bytes) -> None:
        """Send all of ``data``. ``DeviceError`` if the line is gone."""
        ...

    def read(self, timeout: float) -> bytes:
        """What has come, or what comes first within ``timeout`` seconds; nothing if nothing comes."""
        ...

    def close(self) -> None: ...


class SerialLine:
    """A serial port by pyserial, for this process alone; implements :class:`Line`.

    Parameters
    ----------
    port : str
        Such as ``/dev/ttyUSB0`` or ``COM3``.
    baud : int
    timeout : float
        Seconds in which what is sent must leave.

    Raises
    ------
    DeviceError
        If there is no such port, it is in use, or pyserial is not installed.
    """

    def __init__(self, port: str, baud: int, timeout: float):
        try:
            import serial
        except ImportError as error:
            raise DeviceError("A board on a serial port needs pyserial: pip install tilewright[serial]") from error
        self._port = port
        # What the system raises when a port is gone depends on the moment; pyserial passes some of it on.
        self._errors: tuple[type[BaseException], ...] = (OSError, serial.SerialException, TypeError)
        self._timeout_error = serial.SerialTimeoutException
        try:
            self._serial: Any = serial.Serial(port, baud, timeout=0, write_timeout=timeout, exclusive=True)
        except (OSError, serial.SerialException, ValueError) as error:
            raise DeviceError(f"The serial port {port!r} must be there, free and yours, but cannot be opened: {error}; "
                              f"`tilewright devices` lists the ports") from error
        # Only some drivers can; the line works without, only slower.
        with contextlib.suppress(AttributeError, NotImplementedError, ValueError, OSError):
            self._serial.set_low_latency_mode(True)

    def write(self, data: bytes) -> None:
        try:
            self._serial.write(data)
        except self._timeout_error as error:
            raise DeviceError(f"The serial port {self._port!r} must take what is sent, but does not; plug the board in "
                              f"again") from error
        except self._errors as error:
            raise self._gone(error) from error

    def read(self, timeout: float) -> bytes:
        try:
            self._serial.timeout = timeout
            first = self._serial.read(1)
            return bytes(first + self._serial.read(self._serial.in_waiting)) if first else b""
        except self._errors as error:
            raise self._gone(error) from error

    def close(self) -> None:
        with contextlib.suppress(*self._errors):
            self._serial.close()

    def _gone(self, error: BaseException) -> DeviceError:
        return DeviceError(f"The board at {self._port!r} was unplugged or switched off ({error}); plug it in and run "
                           f"again")
