# SPDX-License-Identifier: Apache-2.0
"""Who holds which port of the activation scratchpad's banks, and when.

Each bank has one read and one write port. For reads, ``POST`` comes before ``STORE``, and that before ``EXEC``; for
writes ``POST`` before ``LOAD``. ``POST`` never waits, so its cycles are certain from its start on. The others give way,
in the cycles of those before them.
"""

from collections.abc import Callable, Collection, Iterator

import numpy as np
import numpy.typing as npt

from tilewright_hdl.config import AcceleratorConfig
from tilewright_hdl.isa import BINARY, Instruction, Post, Source
from tilewright_hdl.timing import post_first_read, post_first_write, post_interval

from .accesses import activation_accesses
from .iss_window import axis_inside, axis_offsets

__all__ = ["Cycles", "PortUse", "PortUses", "bank_masks", "first_free", "post_reads", "post_writes"]

Cycles = Collection[int]


def bank_masks(config: AcceleratorConfig, instruction: Instruction) -> tuple[int, int]:
    """Banks of the activation scratchpad that an instruction may read, and those that it may write; a bit for each.

    Where writes wait for each other in all banks, a write counts for all of them.
    """
    size = config.activation_bank_words
    masks = [0, 0]
    for access in activation_accesses(config, instruction):
        masks[access.write] |= (2 << (access.end - 1) // size) - (1 << access.start // size)
    everything = (1 << config.memory.activation_banks) - 1
    if config.bus.registered and masks[1]:
        masks[1] = everything
    return masks[0] & everything, masks[1] & everything


class PortUse:
    """Cycles in which one instruction holds the ports of banks.

    Parameters
    ----------
    mask : int
        Banks, a bit for each.
    begin, end : int
        All cycles lie in ``range(begin, end)``.
    cycles : callable
        Gives the cycles for each bank; called when they are asked for.
    """

    def __init__(self, mask: int, begin: int, end: int, cycles: Callable[[], dict[int, Cycles]]):
        self.mask = mask
        self.begin = begin
        self.end = end
        self._work_out = cycles
        self._cycles: dict[int, Cycles] | None = None

    def free_from(self, bank: int, cycle: int) -> int:
        """First cycle, from ``cycle`` on, in which the port of a bank is not held."""
        if not self.begin <= cycle < self.end:
            return cycle
        if self._cycles is None:
            self._cycles = self._work_out()
        held = self._cycles.get(bank, ())
        if isinstance(held, range) and held.step == 1:
            return held.stop if cycle in held else cycle
        while cycle in held:
            cycle += 1
        return cycle


class PortUses:
    """Uses that may still be in somebody's way."""

    def __init__(self) -> None:
        self._uses: list[PortUse] = []

    def add(self, use: PortUse, *, forget: int) -> None:
        """Add a use; those that ended before cycle ``forget`` are dropped."""
        self._uses = [u for u in self._uses if u.end > forget]
        self._uses.append(use)

    def replace(self, old: PortUse, new: PortUse) -> None:
        """Put a use in place of one that was added, if that is still here."""
        self._uses = [new if u is old else u for u in self._uses]

    def overlapping(self, mask: int, since: int) -> list[PortUse]:
        """Uses of some of the banks that do not end before a cycle."""
        return [use for use in self._uses if use.mask & mask and use.end > since]


def first_free(uses: Collection[PortUse], bank: int, cycle: int) -> int:
    """First cycle, from ``cycle`` on, in which none of ``uses`` holds the port of a bank."""
    while True:
        before = cycle
        for use in uses:
            cycle = use.free_from(bank, cycle)
        if cycle == before:
            return cycle


def post_reads(config: AcceleratorConfig, ins: Post, start: int, mask: int) -> PortUse:
    """Reads of the banks ``mask`` by a ``POST`` that starts in cycle ``start``."""
    interval = post_interval(config.post, ins)
    begin = start + post_first_read(config.post)
    end = begin + ins.steps * interval
    padded = ins.source == Source.ACTIVATION and not _all_inside(ins)
    every_cycle = interval == (ins.combine in BINARY) + (ins.source == Source.ACTIVATION)
    if not mask & (mask - 1) and every_cycle and not padded:
        cycles: dict[int, Cycles] = {mask.bit_length() - 1: range(begin, end)}
        return PortUse(mask, begin, end, lambda: cycles)
    return PortUse(mask, begin, end, lambda: _by_bank(config, _read_walk(ins, config, begin, interval)))


def post_writes(config: AcceleratorConfig, ins: Post, start: int, mask: int) -> PortUse:
    """Writes to the banks ``mask`` by a ``POST`` that starts in cycle ``start``."""
    window = ins.window_height * ins.window_width * post_interval(config.post, ins)
    begin = start + post_first_write(config, ins)
    count = ins.groups * ins.output_height * ins.output_width
    end = begin + (count - 1) * window + 1
    if not mask & (mask - 1):
        cycles: dict[int, Cycles] = {mask.bit_length() - 1: range(begin, end, window)}
        return PortUse(mask, begin, end, lambda: cycles)
    if config.bus.registered:
        return PortUse(mask, begin, end, lambda: dict.fromkeys(range(config.memory.activation_banks),
                                                               range(begin, end, window)))
    return PortUse(mask, begin, end, lambda: _by_bank(config, [(
        _tensor_words(config, ins, ins.output_address, ins.output_y_step, ins.output_x_step),
        np.arange(begin, end, window))]))


Int64 = npt.NDArray[np.int64]


def _all_inside(ins: Post) -> bool:
    return bool(_inside_y(ins).all() and _inside_x(ins).all())


def _inside_y(ins: Post) -> npt.NDArray[np.bool_]:
    return axis_inside(ins.output_height, ins.window_height, ins.first_y, ins.stride_y, ins.dilation_y,
                       ins.source_height)


def _inside_x(ins: Post) -> npt.NDArray[np.bool_]:
    return axis_inside(ins.output_width, ins.window_width, ins.first_x, ins.stride_x, ins.dilation_x,
                       ins.source_width)


def _read_walk(ins: Post, config: AcceleratorConfig, begin: int, interval: int) -> Iterator[tuple[Int64, Int64]]:
    """Words read and their cycles. With both operands from here, the residual comes first."""
    if ins.combine in BINARY:
        words = _tensor_words(config, ins, ins.residual_address, ins.residual_y_step, ins.residual_x_step)
        yield words, begin + interval * np.arange(len(words))
    if ins.source == Source.ACTIVATION:
        group = np.arange(ins.groups) // config.row_groups * ins.source_tile_step
        y = axis_offsets(ins.output_height, ins.source_y_step, ins.window_height, ins.window_y_step)
        x = axis_offsets(ins.output_width, ins.source_x_step, ins.window_width, ins.window_x_step)
        words = (ins.source_address + group[:, None, None, None, None]
                 + y[:, None, :, None] + x[None, :, None, :]).ravel()
        inside = np.broadcast_to(_inside_y(ins)[:, None, :, None] & _inside_x(ins)[None, :, None, :],
                                 (ins.groups, *y.shape[:1], *x.shape[:1], *y.shape[1:], *x.shape[1:])).ravel()
        cycles = begin + interval - 1 + interval * np.arange(len(words))
        yield words[inside], cycles[inside]


def _tensor_words(config: AcceleratorConfig, ins: Post, address: int, y_step: int, x_step: int) -> Int64:
    group = np.arange(ins.groups) // config.row_groups
    y, x = np.arange(ins.output_height) * y_step, np.arange(ins.output_width) * x_step
    words: Int64 = (address + group[:, None, None] + y[:, None] + x).ravel()
    return words


def _by_bank(config: AcceleratorConfig, walks: Collection[tuple[Int64, Int64]] | Iterator[tuple[Int64, Int64]]
             ) -> dict[int, Cycles]:
    found: dict[int, set[int]] = {}
    for words, cycles in walks:
        banks = words % config.limits.addresses // config.activation_bank_words
        for bank in np.unique(banks).tolist():
            found.setdefault(bank, set()).update(cycles[banks == bank].tolist())
    return dict(found)
