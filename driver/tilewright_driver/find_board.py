# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a serial line."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from struct import unpack

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.errors import DeviceError
from tilewright_hdl.link_format import Identity, Operation, Request
from tilewright_hdl.registers import DIGEST_WORDS, IDENTITY, REGISTER_BITS, REGISTERS, VERSION

from .link import Link, NoAnswer
from .serial_line import Line, SerialLine

__all__ = ["BAUDS", "Found", "config_of", "find_board", "identify", "read_registers", "words_of"]

BAUDS = (3_000_000, 2_000_000)
"""The highest rates that the bridges of boards really do, the most likely one first."""


@dataclass(frozen=True)
class Found:
    """A board that answers at a rate, and what it says of itself."""

    link: Link
    baud: int
    identity: Identity
    digest: str


def find_board(
    port: str,
    bauds: Sequence[int] = BAUDS,
    *,
    timeout: float,
    attempts: int,
    open_line: Callable[[str, int, float], Line] = SerialLine,
) -> Found:
    """Begin a session at the first of some rates at which a board answers; see :func:`identify`."""
    for baud in bauds:
        link = Link(open_line(port, baud, attempts * timeout), timeout=timeout, attempts=attempts)
        try:
            return Found(link, baud, *identify(link))
        except BaseException as error:
            link.close()
            if not isinstance(error, NoAnswer) or baud == bauds[-1]:
                raise
    raise ValueError("bauds must name a rate")


def identify(link: Link) -> tuple[Identity, str]:
    """Begin a session, and tell what the board is and how the digest of its configuration begins.

    Raises
    ------
    DeviceError
        If nothing answers, or there is no accelerator of this version behind the link.
    """
    identity = link.synchronize()
    found = read_registers(link, "IDENTITY", f"CONFIG_DIGEST_{DIGEST_WORDS - 1}")
    if (found["IDENTITY"], found["VERSION"]) != (IDENTITY, VERSION):
        raise DeviceError(f"The registers of board {identity.board!r} must begin with {IDENTITY:#x} and version "
                          f"{VERSION}, not {found['IDENTITY']:#x} and {found['VERSION']}; program it with a bitstream "
                          f"of this release")
    return identity, "".join(f"{found[f'CONFIG_DIGEST_{n}']:08x}" for n in range(DIGEST_WORDS))


def config_of(digest: str, known: Iterable[AcceleratorConfig]) -> AcceleratorConfig | None:
    """The one of some configurations whose digest begins so, if there is one."""
    return next((config for config in known if config.digest.startswith(digest)), None)


def read_registers(link: Link, first: str, last: str) -> dict[str, int]:
    """Values of the registers from one to another."""
    begin, end = REGISTERS[first].address, REGISTERS[last].address
    names = [name for name, register in REGISTERS.items() if begin <= register.address <= end]
    return dict(zip(names, words_of(link.ask(Request(Operation.READ_REGISTERS, begin, len(names)))), strict=True))


def words_of(data: bytes) -> tuple[int, ...]:
    """The values of registers in the data of a response."""
    return unpack(f"<{len(data) // (REGISTER_BITS // 8)}I", data)
