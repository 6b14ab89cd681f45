# SPDX-License-Identifier: Apache-2.0
"""The half of the LOAD and STORE engines that takes instructions and announces their bursts."""

from collections.abc import Sequence
from typing import Any

from amaranth import Array, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .burst import AnnouncedLayout, BurstSplitter
from .config import AcceleratorConfig
from .isa import Load, Segment, Store
from .isa_layout import instruction_layout
from .word_walker import WordsLayout

__all__ = ["TransferFront", "first_beat", "row_beats"]


class TransferFront(wiring.Component):
    """Take instructions; announce their bursts, and hand on which words they touch.

    At most ``config.bus.outstanding`` bursts are announced and not finished.

    Latency
    -------
    That of :class:`~tilewright_hdl.burst.BurstSplitter`, from the transfer of an instruction. A burst that had to wait
    for the end of another is offered 2 cycles after it.

    Parameters
    ----------
    config : AcceleratorConfig
    cls : type
        ``Load`` or ``Store``.
    beats : sequence of int
        Beats in a word of each memory, by the value of the field ``memory``.

    windows : bool
        Whether a ``Load`` may have windows.

    Members
    -------
    instruction : ``In(stream.Signature(instruction_layout(config, cls)))``
    constant_base, arena_base : ``In(32)``
    burst : ``Out(stream.Signature(AnnouncedLayout(config)))``
        Bursts. One that is offered stays so, even with ``stop``.
    fresh : ``Out(1)``
        The burst is offered for the first cycle.
    burst_ends : ``In(1)``
        A burst is finished in this cycle.
    words : ``Out(stream.Signature(WordsLayout(config, windows)))``
        Offered in the cycle of the instruction's transfer only.
    done : ``In(1)``
        An instruction is finished in this cycle.
    stop : ``In(1)``
        Level: take no instruction and announce no burst.
    under_way : ``Out(1)``
        An instruction is not finished.
    busy : ``Out(1)``
        A burst is not finished, or, without ``stop``, an instruction.
    """

    def __init__(
        self, config: AcceleratorConfig, cls: type[Load | Store], beats: Sequence[int], *, windows: bool = False
    ):
        self._config = config
        self._windows = windows
        self._beats = tuple(beats)
        super().__init__({
            "instruction": In(stream.Signature(instruction_layout(config, cls))),
            "constant_base": In(32),
            "arena_base": In(32),
            "burst": Out(stream.Signature(AnnouncedLayout(config))),
            "fresh": Out(1),
            "burst_ends": In(1),
            "words": Out(stream.Signature(WordsLayout(config, windows))),
            "done": In(1),
            "stop": In(1),
            "under_way": Out(1),
            "busy": Out(1),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    @property
    def beats(self) -> tuple[int, ...]:
        return self._beats

    @property
    def windows(self) -> bool:
        return self._windows

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus = self.config.bus
        fields = self.instruction.p

        m.submodules.splitter = splitter = BurstSplitter(
            self.config, beats_bits=len(fields.words) + max(self.beats).bit_length()
        )
        wiring.connect(m, splitter.o, wiring.flipped(self.burst))
        taken = Signal()
        m.d.comb += [
            self.instruction.ready.eq(splitter.i.ready & self.words.ready & ~self.stop),
            taken.eq(self.instruction.valid & self.instruction.ready),
            splitter.i.valid.eq(taken),
            self.words.valid.eq(taken),
            *(self.words.p[name].eq(fields[name]) for name in self.words.p.shape().members),
        ]

        m.d.comb += [
            splitter.i.p.address.eq(first_beat(self, fields)),
            splitter.i.p.beats.eq(row_beats(self.config, self.beats, fields, windows=self.windows)),
            splitter.i.p.rows.eq(fields.rows),
            splitter.i.p.stride.eq(fields.dram_stride[exact_log2(bus.data_bytes):]),
        ]

        outstanding = Signal(range(bus.outstanding + 1))
        # The walker's queue, the word that is walked, and the word that is written or answered.
        in_flight = Signal(range(self.config.in_flight + 3))
        m.d.comb += [
            splitter.enable.eq((outstanding != bus.outstanding) & ~self.stop),
            self.under_way.eq(in_flight.any() & ~self.stop),
            self.busy.eq(outstanding.any() | self.under_way),
        ]
        m.d.sync += [
            self.fresh.eq(splitter.issue),
            outstanding.eq(outstanding + splitter.issue - self.burst_ends),
            in_flight.eq(in_flight + taken - self.done),
        ]
        return m


def first_beat(front: TransferFront, fields: Any) -> Value:
    """Address of an instruction's first beat, in beats."""
    bus = front.config.bus
    within = slice(exact_log2(bus.data_bytes), bus.address_bits)
    base = Mux(fields.segment == Segment.ARENA, front.arena_base[within], front.constant_base[within])
    return base + fields.dram_address[within]


def row_beats(config: AcceleratorConfig, beats: Sequence[int], fields: Any, *, windows: bool) -> Value:
    """Beats of each row of an instruction; ``beats`` of a word as of :class:`TransferFront`."""
    found: Value = _times(fields.words, beats[0])
    if len(beats) > 1:
        found = Array(_times(fields.words, n) for n in beats)[fields.memory]
    if windows:
        data_bytes = config.bus.data_bytes
        found = Mux(fields.window, (fields.row_bytes + data_bytes - 1) >> exact_log2(data_bytes), found)
    return found


def _times(value: Value, factor: int) -> Value:
    """``value * factor`` by addition: no DSP block is worth a few bits."""
    terms = [value << place for place in range(factor.bit_length()) if factor >> place & 1]
    product: Value = sum(terms[1:], terms[0])
    return product
