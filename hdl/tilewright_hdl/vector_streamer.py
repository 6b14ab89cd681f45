# SPDX-License-Identifier: Apache-2.0
"""Middle of the compute engine: from passes to vectors, straight out of the activation scratchpad (implicit im2col)."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .accumulators import AccumulatorWrite
from .config import AcceleratorConfig, bits_for
from .isa import Exec
from .isa_layout import FieldsLayout, instruction_layout
from .loop_nest import LoopNest
from .pass_sequencer import PassLayout, coordinate
from .ports import MemoryRead

__all__ = ["VectorStreamer"]


class VectorStreamer(wiring.Component):
    """Read the vectors of passes, one a cycle with no gap between passes, and say where their sums go.

    Latency
    -------
    A vector is *issued* in the cycle in which its read is granted; padding is issued without a read.
    The first vector of a pass is issued two cycles after the pass was taken, at the earliest. ``vector`` follows
    ``EXEC_READ`` cycles after the issue, everything else one cycle after it; but a pixel's sums, and the end of a pass
    of pixels, are one cycle later.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`

    Members
    -------
    passes : ``In(stream.Signature(PassLayout(config)))``
    activation : ``Out(MemoryRead(...))``
    vector : ``Out(ArrayLayout(signed(8), rows))``
    swap : ``Out(1)``
        Beside ``vector``: it is the first of a pass.
    pixel, slice : ``Out(1)``, ``Out(range(config.array.slices))``
        Beside ``vector``: it is a pixel, of which this part is taken.
    swapped : ``Out(1)``
        The shadow registers are free: a pass's first vector was issued in the cycle before, or the last pixel of a pass
        in the one before that.
    write : ``Out(AccumulatorWrite)``
        Where the sums of the vector that was issued in the cycle before go, or of the pixel in the one before that.
    finish : ``Out(1)``
        Beside ``write``: it was the last one of an instruction.
    stop : ``In(1)``
        Level: issue nothing.
    active : ``Out(1)``
        Vectors of a pass that was taken have not been issued.
    pending : ``Out(1)``
        ``write`` of a pixel follows in the next cycle.
    stall : ``Out(1)``
        A vector waits for its read.
    empty : ``Out(1)``
        No vector could be issued even if every read were granted.
    outside : ``Out(1)``
        A vector must not be issued, because a word that it needs lies outside of a memory. Holds until reset.
    index : ``Out(20)``
        Its instruction.
    """

    passes: Any
    activation: Any
    vector: Any
    swap: Signal
    pixel: Signal
    slice: Signal
    swapped: Signal
    write: Any
    finish: Signal
    stop: Signal
    active: Signal
    pending: Signal
    stall: Signal
    empty: Signal
    outside: Signal
    index: Signal

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        entries = config.memory.accumulator_entries
        super().__init__({
            "passes": In(stream.Signature(PassLayout(config))),
            "activation": Out(MemoryRead(bits_for(config.activation_words), 8 * config.array.rows)),
            "vector": Out(data.ArrayLayout(signed(8), config.array.rows)),
            "swap": Out(1),
            "pixel": Out(1),
            "slice": Out(range(config.array.slices)),
            "swapped": Out(1),
            "write": Out(AccumulatorWrite(bits_for(entries))),
            "finish": Out(1),
            "stop": In(1),
            "active": Out(1),
            "pending": Out(1),
            "stall": Out(1),
            "empty": Out(1),
            "outside": Out(1),
            "index": Out(instruction_layout(config, Exec).width("index")),
        })
        layout = PassLayout(config)["instruction"].shape
        # One bit more than an entry's address, so that the end of the bank does not wrap to the beginning.
        entry = 1 + max(layout.width("accumulator_address"), bits_for(entries))
        self._issue_layout = data.StructLayout({
            "address": config.limits.address_bits,
            "entry": entry,
            "inside": 1,
            "swap": 1,
            "sum": 1,
            "end": 1,
            "last": 1,
            "fresh": 1,
            "outside": 1,
            "slice": range(config.array.slices),
            "fields": layout.only(("index", "bank", "pad_value", "depthwise")),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # A vector stands first in the loop nest, then in `issue` until its read is granted.
        in_nest = Signal()
        in_issue = Signal()
        issue = Signal(self._issue_layout, reset_less=True)
        step = Signal()
        granted = Signal()
        candidate, last_of_pass = self._walk(m, step)
        # Nothing of the next instruction comes before this one is done.
        fields = self.passes.p.instruction if self._config.in_flight == 1 else issue.fields
        m.d.comb += [
            step.eq(in_nest & (~in_issue | granted)),
            self.passes.ready.eq(~in_nest | (step & last_of_pass)),
        ]
        with m.If(self.passes.valid & self.passes.ready):
            m.d.sync += in_nest.eq(1)
        with m.Elif(step & last_of_pass):
            m.d.sync += in_nest.eq(0)
        with m.If(step):
            m.d.sync += [issue.eq(candidate), in_issue.eq(1)]
        with m.Elif(granted):
            m.d.sync += in_issue.eq(0)

        # Whatever is wrong comes to light in the order of the program, because it is only looked at here.
        wanted = Signal()
        m.d.comb += [
            self.outside.eq(in_issue & issue.outside),
            wanted.eq(in_issue & ~self.outside & ~self.stop),
            self.activation.valid.eq(wanted & issue.inside),
            self.activation.address.eq(issue.address),
            granted.eq(wanted & (~issue.inside | self.activation.ready)),
            self.stall.eq(self.activation.valid & ~self.activation.ready),
            self.active.eq(in_nest | in_issue),
            self.empty.eq(~in_issue),
            self.index.eq(fields.index),
        ]
        self._deliver(m, issue, fields, granted)
        return m

    def _walk(self, m: Module, step: Signal) -> tuple[Any, Signal]:
        """Add the loops over the vectors of a pass; describe the vector they stand at; tell whether it is the last."""
        taken = self.passes.p
        begin = Signal()
        current = Signal(PassLayout(self._config), reset_less=True)
        m.d.comb += begin.eq(self.passes.valid & self.passes.ready)
        with m.If(begin):
            m.d.sync += current.eq(taken)

        shared = taken.instruction if self._config.in_flight == 1 else current.instruction
        m.submodules.nest = nest = self._nest(shared.shape())
        extra, before = self._lead(m, begin, step, nest, current)
        m.d.comb += [
            nest.load.eq(begin),
            nest.advance.eq(step & ~before),
            nest.extra.eq(extra),
            nest.start.address.eq(taken.address),
            nest.start.y.eq(taken.y),
            nest.start.x.eq(taken.x),
            nest.first_count.row.eq(taken.instruction.output_height),
            nest.first_count.column.eq(taken.instruction.output_width),
            nest.count.row.eq(shared.output_height),
            nest.count.column.eq(shared.output_width),
            nest.step.address_row.eq(shared.output_y_step),
            nest.step.address_column.eq(shared.output_x_step),
            nest.step.y_row.eq(shared.stride_y),
            nest.step.x_column.eq(Mux(shared.depthwise, 1, shared.stride_x)),
        ]

        # Entries are counted: every pass of a tile begins where the tile began, the next tile behind it.
        entry = Signal(self._issue_layout["entry"].shape)
        tile = Signal.like(entry)
        following = Signal.like(entry)
        opening = Signal.like(entry)
        m.d.comb += [
            following.eq(Mux(step & ~extra, entry + 1, entry)),
            opening.eq(Mux(taken.first, taken.instruction.accumulator_address, following)),
        ]
        with m.If(begin & taken.opens):
            m.d.sync += [tile.eq(opening), entry.eq(opening)]
        with m.Elif(begin):
            m.d.sync += entry.eq(tile)
        with m.Else():
            m.d.sync += entry.eq(following)

        first = Signal()
        with m.If(begin):
            m.d.sync += first.eq(1)
        with m.Elif(step):
            m.d.sync += first.eq(0)

        at = nest.value
        candidate = Signal(self._issue_layout)
        m.d.comb += [
            candidate.address.eq(at.address),
            candidate.entry.eq(entry),
            candidate.inside.eq((at.y < shared.input_height) & (at.x < shared.input_width) & ~before),
            candidate.swap.eq(first),
            candidate.sum.eq(~extra),
            candidate.end.eq(nest.done),
            candidate.last.eq(nest.done & current.last),
            candidate.fresh.eq(current.opens & ~shared.accumulate),
            candidate.outside.eq(
                current.bad
                | (entry >= self._config.memory.accumulator_entries)
                | (candidate.inside & (at.address >= self._config.activation_words))
            ),
            candidate.slice.eq(current.slice),
            *(candidate.fields[name].eq(shared[name]) for name in candidate.fields.shape().members),
        ]
        return candidate, nest.done

    def _lead(self, m: Module, begin: Signal, step: Signal, nest: LoopNest, current: Any) -> tuple[Signal, Signal]:
        """Add the count of the pixels up to the next sum; signals tell that this one has none, or is before all rows.

        The first sum of a row needs a pixel for each kernel column, but some have come with the row before, or as
        padding before the first row. The other sums are ``stride_x`` pixels apart.
        """
        extra = Signal()
        before = Signal()
        if self._config.array.depthwise:
            shared, taken = current.instruction, self.passes.p.instruction
            layout = shared.shape()
            left = Signal(max(layout.width(name) for name in ("kernel_width", "stride_x")))
            padding = Signal(layout.width("overlap"))
            m.d.comb += [extra.eq(shared.depthwise & (left != 1)), before.eq(shared.depthwise & (padding != 0))]
            with m.If(begin):
                m.d.sync += [left.eq(taken.kernel_width), padding.eq(taken.overlap)]
            with m.Elif(step & extra):
                m.d.sync += [left.eq(left - 1), padding.eq(padding - before)]
            with m.Elif(step):
                m.d.sync += left.eq(Mux(nest.last.column, shared.kernel_width - shared.overlap, shared.stride_x))
        return extra, before

    def _nest(self, layout: FieldsLayout) -> LoopNest:
        step, place = unsigned(self._config.limits.address_bits), coordinate(self._config)
        return LoopNest(
            {"row": layout.width("output_height"), "column": layout.width("output_width")},
            {
                "address": (step, {"row": step, "column": step}),
                "y": (place, {"row": unsigned(layout.width("stride_y"))}),
                "x": (place, {"column": unsigned(layout.width("stride_x"))}),
            },
        )

    def _deliver(self, m: Module, issue: Any, fields: Any, granted: Signal) -> None:
        """Add what follows the issue of a vector: its word or padding, and the accumulators that it goes to."""
        inside = Signal(reset_less=True)
        swap = Signal()
        pixel = Signal()
        part = Signal.like(self.slice, reset_less=True)
        then = Signal(data.StructLayout({"write": self.write.shape(), "swapped": 1, "finish": 1}))
        m.d.comb += [
            then.write.valid.eq(granted & issue.sum),
            then.write.bank.eq(fields.bank),
            then.write.address.eq(issue.entry),
            then.write.fresh.eq(issue.fresh),
            then.write.again.eq(
                (self._config.in_flight > 1) & self.write.valid & (self.write.bank == fields.bank)
                & (self.write.address == issue.entry) & ~fields.depthwise
            ),
            then.swapped.eq(granted & Mux(fields.depthwise, issue.end, issue.swap)),
            then.finish.eq(granted & issue.last),
        ]
        m.d.sync += [
            Cat(self.write, self.swapped, self.finish).eq(self._late(m, then, fields.depthwise)),
            swap.eq(granted & issue.swap),
            self.swap.eq(swap),
            pixel.eq(granted & fields.depthwise),
            self.pixel.eq(pixel),
            part.eq(issue.slice),
            self.slice.eq(part),
            inside.eq(issue.inside),
        ]
        pad = fields.pad_value
        if self._config.in_flight > 1:
            pad = Signal(signed(8), reset_less=True)
            m.d.sync += pad.eq(fields.pad_value)
        padding = pad.replicate(self._config.array.rows)
        m.d.sync += self.vector.eq(Mux(inside, self.activation.data, padding))

    def _late(self, m: Module, then: Any, pixel: Signal) -> Value:
        """Add the cycle by which all that follows a pixel is later; nothing comes just before or after their pass."""
        if not self._config.array.depthwise:
            return Value.cast(then)
        late = Signal(then.shape())
        m.d.sync += late.eq(Mux(pixel, then, 0))
        m.d.comb += self.pending.eq(late.write.valid)
        return Mux(pixel, late, then)
