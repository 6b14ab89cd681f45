# SPDX-License-Identifier: Apache-2.0
"""Fields of the instruction that an engine works on: in registers of the engine, or where the decoder has them."""

from typing import Any

from amaranth import Module, Signal, Value

from .config import AcceleratorConfig

__all__ = ["drive_fault", "fields_of"]


def fields_of(m: Module, config: AcceleratorConfig, source: Any, taken: Value) -> Any:
    """View of the fields of the instruction that was taken last, from the cycle after its transfer until it is done.

    Parameters
    ----------
    m : Module
    config : AcceleratorConfig
        With ``in_flight`` at 1 the decoder holds the payload until the instruction retires, so no copy is built.
    source : stream.Interface
        Instructions.
    taken : Value
        One is taken in this cycle.
    """
    if config.in_flight == 1:
        return source.p
    copy = Signal(source.p.shape(), reset_less=True)
    with m.If(taken):
        m.d.sync += copy.eq(source.p)
    return copy


def drive_fault(m: Module, config: AcceleratorConfig, fault: Any, *, valid: Value, code: Value | int, index: Value
                ) -> None:
    """Report a fault one cycle after ``valid``; with ``in_flight`` at 1 its index is still that of the instruction."""
    late = Signal.like(fault.valid)
    late_code = Signal.like(fault.code)
    late_index: Value = index
    m.d.sync += [late.eq(valid), late_code.eq(code)]
    if config.in_flight > 1:
        late_index = Signal.like(fault.index)
        m.d.sync += late_index.eq(index)
    m.d.comb += [fault.valid.eq(late), fault.code.eq(late_code), fault.index.eq(late_index)]
