# SPDX-License-Identifier: Apache-2.0
"""A bitstream into a board, by openFPGALoader."""

from pathlib import Path

from tilewright_hdl.errors import BuildError
from tilewright_hdl.processes import run_all

from .board import Board
from .tools import LOADER, find_loader

__all__ = ["program"]

_SECONDS = 600
"""The longest load: the flash of a board over a slow cable."""

_CAUSES = {
    "error while loading shared libraries": "it does not start: sudo apt-get install libusb-1.0-0 libftdi1-2",
    "device not found": "no board answers: plug it in, and see with lsusb that it is there",
    "usb_open() failed": "the board is there, but you may not open it: install the udev rules of openFPGALoader, or "
                         "let its port be closed by whoever holds it",
    "cannot find board": "it does not know that board: install a newer openFPGALoader",
}
"""What openFPGALoader says, and what that means."""


def program(board: Board, bitstream: Path) -> str:
    """Load a bitstream; the board keeps it until it is switched off, or for good where its loader writes a flash.

    Returns
    -------
    str
        What openFPGALoader printed.

    Raises
    ------
    BuildError
        If there is no such file, no openFPGALoader, or no board that answers.
    """
    if not bitstream.is_file():
        raise BuildError(f"Bitstream {bitstream} must be a file, and is not: make it with "
                         f"`tilewright build --board {board.name}`")
    loader = find_loader()
    command = [*loader.command, "--board", board.loader, str(bitstream.resolve())]
    ended = run_all([command], cwd=Path.cwd(), timeout=_SECONDS)[0]
    if ended.timed_out:
        raise BuildError(f"{LOADER} must load {board.title} within {_SECONDS} s, and was still at it: unplug the board "
                         f"and plug it in again")
    if ended.returncode != 0:
        lowered = ended.output.lower()
        cause = next((meaning for text, meaning in _CAUSES.items() if text in lowered), "it failed")
        last = " / ".join(ended.output.strip().splitlines()[-2:]) or f"exit code {ended.returncode}"
        raise BuildError(f"{LOADER} cannot load {board.title}: {cause} ({last})")
    return ended.output
