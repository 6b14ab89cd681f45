# SPDX-License-Identifier: Apache-2.0
"""Loops and addresses of the post-processor."""

from collections.abc import Iterable
from typing import Any

from amaranth import Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .config import AcceleratorConfig, bits_for
from .isa import ADDRESS_BITS, BINARY, Post, Source
from .isa_layout import instruction_layout
from .loop_nest import LoopNest

__all__ = ["PostAddress", "PostStepLayout"]

# Holds first_y plus the largest possible distance, so that no pixel far outside comes back inside.
_POSITION = signed(26)


def _parameter_bits(config: AcceleratorConfig) -> int:
    fields = instruction_layout(config, Post)
    return 1 + max(fields.width("parameter_address"), fields.width("groups"))


class PostStepLayout(data.StructLayout):
    """One step of a :class:`~.isa.Post`.

    Members
    -------
    source, residual, output : 20
        Addresses of the accumulator entry or activation word, of the residual (if there is any), and of the word
        written.
    bank : 1
    parameter
        Address of the parameter word.
    column_part, row_part
        Group of lanes within an accumulator entry, and within a word of activations.
    inside, first, last, final : 1
        The element is not padding; it is the first, the last of its window; it is the last of all.
    """

    def __init__(self, config: AcceleratorConfig):
        super().__init__({
            "source": ADDRESS_BITS,
            "residual": ADDRESS_BITS,
            "output": ADDRESS_BITS,
            "bank": 1,
            "parameter": _parameter_bits(config),
            "column_part": bits_for(config.column_groups),
            "row_part": bits_for(config.row_groups),
            "inside": 1,
            "first": 1,
            "last": 1,
            "final": 1,
        })


class PostAddress(wiring.Component):
    """Steps of a :class:`~.isa.Post`, in its order, at most one a cycle.

    From the cycle after ``load`` on, ``step`` is the first one; ``advance`` goes on to the next. After the one with
    ``final``, the next instruction must be loaded before anything here has a meaning again.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    load : ``In(1)``
    instruction : ``In(instruction_layout(config, Post))``
        Taken with ``load``.
    advance : ``In(1)``
    step : ``Out(PostStepLayout(config))``
    refused : ``Out(1)``
        The step would touch a word outside of a memory.
    """

    load: Signal
    instruction: Any
    advance: Signal
    step: Any
    refused: Signal

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__({
            "load": In(1),
            "instruction": In(instruction_layout(config, Post)),
            "advance": In(1),
            "step": Out(PostStepLayout(config)),
            "refused": Out(1),
        })

    @property
    def config(self) -> AcceleratorConfig:
        return self._config

    def elaborate(self, platform: object) -> Module:
        m = Module()

        fields = self.instruction.shape()
        counts = {
            "group": "groups", "y": "output_height", "x": "output_width", "wy": "window_height", "wx": "window_width",
        }
        address, flag = unsigned(ADDRESS_BITS), unsigned(1)
        tensor = {"group": flag, "y": address, "x": address}
        binary = self.config.post.binary
        m.submodules.loops = loops = LoopNest(
            {level: fields.width(name) for level, name in counts.items()},
            {
                "source": (address, dict.fromkeys(counts, address)),
                "iy": (_POSITION, {"y": fields["stride_y"].shape, "wy": fields["dilation_y"].shape}),
                "ix": (_POSITION, {"x": fields["stride_x"].shape, "wx": fields["dilation_x"].shape}),
                **({"residual": (address, tensor)} if binary else {}),
                "output": (address, tensor),
                "parameter": (unsigned(_parameter_bits(self.config)), {"group": flag}),
            },
        )
        steps = {
            "source_y": "source_y_step", "source_x": "source_x_step",
            "source_wy": "window_y_step", "source_wx": "window_x_step",
            "iy_y": "stride_y", "iy_wy": "dilation_y", "ix_x": "stride_x", "ix_wx": "dilation_x",
            **({"residual_y": "residual_y_step", "residual_x": "residual_x_step"} if binary else {}),
            "output_y": "output_y_step", "output_x": "output_x_step",
        }
        held = self._hold(m, [
            *counts.values(), *steps.values(),
            "source", "bank", "combine", "source_tile_step", "source_height", "source_width",
        ])
        m.d.comb += [
            loops.load.eq(self.load),
            loops.advance.eq(self.advance),
            *(loops.count[level].eq(held[name]) for level, name in counts.items()),
            *(loops.step[name].eq(held[field]) for name, field in steps.items()),
            *(loops.start[name].eq(self.instruction[f"{name}_address"])
              for name in ("source", "output", "parameter", *(("residual",) if binary else ()))),
            loops.start.iy.eq(self.instruction.first_y),
            loops.start.ix.eq(self.instruction.first_x),
        ]
        self._parts(m, loops, held)
        self._step(m, loops, held)

        return m

    def _hold(self, m: Module, names: Iterable[str]) -> Any:
        """Registers of the fields that are needed after the load."""
        held = Signal(self.instruction.shape().only(names))
        with m.If(self.load):
            m.d.sync += [held[name].eq(self.instruction[name]) for name in held.shape().members]
        return held

    def _parts(self, m: Module, loops: Any, held: Any) -> None:
        """Walk through the groups of lanes of an entry and of a word; each tile's last one goes on to the next tile."""
        inner = [loops.last[level] for level in ("y", "x", "wy", "wx")]
        group_ends = self.advance & inner[0] & inner[1] & inner[2] & inner[3]
        tile_ends = {}
        for name, groups in (("row_part", self.config.row_groups), ("column_part", self.config.column_groups)):
            part = Signal(range(groups), name=name)
            tile_ends[name] = part == groups - 1
            with m.If(self.load):
                m.d.sync += part.eq(0)
            with m.Elif(group_ends):
                m.d.sync += part.eq(Mux(tile_ends[name], 0, part + 1))
            m.d.comb += self.step[name].eq(part)
        source_ends = Mux(held.source == Source.ACTIVATION, tile_ends["row_part"], tile_ends["column_part"])
        m.d.comb += [
            loops.step.source_group.eq(Mux(source_ends, held.source_tile_step, 0)),
            loops.step.output_group.eq(tile_ends["row_part"]),
            loops.step.parameter_group.eq(1),
        ]
        if self.config.post.binary:
            m.d.comb += loops.step.residual_group.eq(tile_ends["row_part"])

    def _step(self, m: Module, loops: Any, held: Any) -> None:
        step, value = self.step, loops.value
        in_rows = (value.iy >= 0) & (value.iy < held.source_height)
        in_columns = (value.ix >= 0) & (value.ix < held.source_width)
        m.d.comb += [
            *(step[name].eq(value[name]) for name in ("source", "output", "parameter")),
            step.bank.eq(held.bank),
            step.inside.eq(in_rows & in_columns),
            step.first.eq(loops.first.wy & loops.first.wx),
            step.last.eq(loops.last.wy & loops.last.wx),
            step.final.eq(loops.done),
        ]
        memory, words = self.config.memory, self.config.activation_words
        refused_source = Mux(
            held.source == Source.ACTIVATION,
            step.inside & _beyond(step.source, words),
            step.inside & _beyond(step.source, memory.accumulator_entries)
            | _beyond(step.parameter, memory.parameter_groups),
        )
        refused_residual: Value = Const(0)
        if self.config.post.binary:
            m.d.comb += step.residual.eq(value.residual)
            refused_residual = held.combine.matches(*BINARY) & _beyond(step.residual, words)
        m.d.comb += self.refused.eq(refused_source | refused_residual | _beyond(step.output, words))


def _beyond(address: Value, words: int) -> Value:
    """Whether an address is not below ``words``, a power of two."""
    return address[bits_for(words) :].any()
