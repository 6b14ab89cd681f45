# SPDX-License-Identifier: Apache-2.0
"""From rows of dense bytes to the overlapping windows that become words."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .axi import BeatLayout
from .config import AcceleratorConfig
from .window_timing import window_beats
from .word_walker import WordLayout

__all__ = ["WindowLayout", "WindowPacker"]


class WindowLayout(data.StructLayout):
    """``data`` of a word, and the ``mask`` of its lanes that are written."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__({"data": 8 * config.array.rows, "mask": config.array.rows})


class WindowPacker(wiring.Component):
    """Pack the windows of the rows of ``LOAD`` instructions.

    A few beats of the row stand in a buffer, one behind the other, and a shifter takes the window out of them. Beats
    outside of the row, before its first and behind its last, are padding.

    Latency
    -------
    :class:`~.window_timing.WindowWalk`; one window a cycle as long as beats come.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : ``In(stream.Signature(WordLayout(config, windows=True)))``
        Words of instructions with ``window``.
    beat : ``In(stream.Signature(BeatLayout(...)))``
        Beats of the rows of these instructions, whole rows.
    o : ``Out(stream.Signature(WindowLayout(config)))``
        Each in the cycle in which its word leaves ``i``.
    """

    i: stream.Interface
    beat: stream.Interface
    o: stream.Interface

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "i": In(stream.Signature(WordLayout(config, windows=True))),
            "beat": In(stream.Signature(BeatLayout(config.bus.data_bits))),
            "o": Out(stream.Signature(WindowLayout(config))),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat_bytes = self.config.bus.data_bytes
        beats = window_beats(self.config)
        word = self.i.p

        buffer = Signal(data.ArrayLayout(8, beats * beat_bytes))
        farthest = beats * beat_bytes + 2 * ((1 << len(word.row_step)) - 1)  # From `row_start`, in bytes.
        # Where the window stands, and the next one of the row would: an adder in front of what follows takes too long.
        offset, first_offset, next_offset, ahead, first_ahead, next_ahead = (
            Signal(signed(max(len(word.row_start), farthest.bit_length()) + 2), name=name)
            for name in ("offset", "first_offset", "next_offset", "ahead", "first_ahead", "next_ahead"))
        # Bytes of the row that are left, and that are when the beat comes.
        left, before = Signal.like(word.row_bytes), Signal.like(word.row_bytes)
        # Of `offset` and `left`, in registers for the same reason.
        near, rest = Signal(), Signal()
        begun, begins, packs, wants, wants_then, drops, comes, enters, taken = (Signal(name=name) for name in (
            "begun", "begins", "packs", "wants", "wants_then", "drops", "comes", "enters", "taken"))
        m.d.comb += [
            first_offset.eq(word.row_start + beats * beat_bytes),
            first_ahead.eq(word.row_start + word.row_step + beats * beat_bytes),
            self.o.valid.eq(self.i.valid & begun & near & ~(word.row_last & rest)),
            packs.eq(self.o.valid & self.o.ready),
            self.i.ready.eq(packs),
            next_offset.eq(Mux(begun, Mux(packs, ahead, offset), first_offset)),
            next_ahead.eq(Mux(begun, Mux(packs, ahead + word.row_step, ahead), first_ahead)),
            begins.eq(self.i.valid & ~begun & self.beat.valid & self.o.ready),
            # Of next_offset; but `packs` comes late, so what follows of it is known for both its values before.
            wants.eq(~Mux(begun, near, _below(first_offset, beat_bytes))),
            wants_then.eq(~_below(ahead, beat_bytes)),
            # Beats of the row, or padding behind it, come in.
            comes.eq(Mux(begun, self.i.valid & (self.beat.valid | ~rest), begins)),
            enters.eq(comes & Mux(packs, wants_then, wants)),
            # A beat that the last window does not need is taken nevertheless.
            drops.eq(near & word.row_last),
            self.beat.ready.eq(self.i.valid & Mux(
                begun, rest & (drops | Mux(packs, wants_then, wants)), wants & self.o.ready)),
            taken.eq(self.beat.valid & self.beat.ready),
        ]

        m.d.comb += before.eq(Mux(begun, left, word.row_bytes))
        with m.If(begun | begins):
            m.d.sync += offset.eq(Mux(enters, next_offset - beat_bytes, next_offset))
            m.d.sync += ahead.eq(Mux(enters, next_ahead - beat_bytes, next_ahead))
            m.d.sync += left.eq(Mux(taken, Mux(before > beat_bytes, before - beat_bytes, 0), before))
            m.d.sync += rest.eq(Mux(taken, before > beat_bytes, Mux(begun, rest, word.row_bytes.any())))
            m.d.sync += near.eq(Mux(
                begun,
                Mux(packs, Mux(enters, _below(ahead, 2 * beat_bytes), _below(ahead, beat_bytes)),
                    # No choice that leaves it alone: Yosys would make an enable of that, behind all of this.
                    (enters & _below(offset, 2 * beat_bytes)) | (~enters & near)),
                Mux(enters, _below(first_offset, 2 * beat_bytes), _below(first_offset, beat_bytes)),
            ))
            kept = Mux(begun, buffer.as_value(), word.pad_value.as_unsigned().replicate(beats * beat_bytes))
            m.d.sync += buffer.eq(Mux(enters, Cat(kept[8 * beat_bytes:], self._entering(before)), kept))
        with m.If(begins | (packs & word.row_last)):
            m.d.sync += begun.eq(begins)

        self._show(m, buffer.as_value(), offset)
        return m

    def _entering(self, left: Value) -> Value:
        """Bytes of the beat, of which ``left`` belong to the row, and padding behind them."""
        padding, beat = self.i.p.pad_value.as_unsigned(), self.beat.p.data
        return Cat(Mux(left > place, beat.word_select(place, 8), padding)
                   for place in range(self.config.bus.data_bytes))

    def _show(self, m: Module, buffer: Value, offset: Signal) -> None:
        """Take the window out of the buffer, and mark the lanes that it fills."""
        word = self.i.p
        shift = Cat(Const(0, 3), offset[:exact_log2(self.config.bus.data_bytes)])
        m.d.comb += [
            self.o.p.data.eq(buffer >> shift),
            self.o.p.mask.eq(Cat(
                (word.first_lane <= lane) & (word.first_lane + word.lanes > lane)
                for lane in range(self.config.array.rows)
            )),
        ]


def _below(value: Value, bound: int) -> Value:
    """Whether a signed number is less than a power of two, without the carries of a comparison."""
    return value[-1] | ~value[exact_log2(bound):-1].any()
