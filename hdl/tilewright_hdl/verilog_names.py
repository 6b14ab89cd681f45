# SPDX-License-Identifier: Apache-2.0
"""Names and expressions for the bits of a netlist."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from .netlist import Bit, Netlist

__all__ = ["SEPARATOR", "Names", "extend", "runs"]

SEPARATOR = "$"
"""Between the names of parts in a name; occurs nowhere else in one, so what is far down still tells where it is."""

# Of SystemVerilog (IEEE 1800-2017), which most tools assume today, and of C++, into which Verilator translates.
_RESERVED = (
    "accept_on alias always always_comb always_ff always_latch and assert assign assume automatic before "
    "begin bind bins binsof bit break buf bufif0 bufif1 byte case casex casez cell chandle checker class "
    "clocking cmos config const constraint context continue cover covergroup coverpoint cross deassign "
    "default defparam design disable dist do edge else end endcase endchecker endclass endclocking "
    "endconfig endfunction endgenerate endgroup endinterface endmodule endpackage endprimitive endprogram "
    "endproperty endsequence endspecify endtable endtask enum event eventually expect export extends "
    "extern final first_match for force foreach forever fork forkjoin function generate genvar global "
    "highz0 highz1 if iff ifnone ignore_bins illegal_bins implements implies import incdir include "
    "initial inout input inside instance int integer interconnect interface intersect join join_any "
    "join_none large let liblist library local localparam logic longint macromodule matches medium "
    "modport module nand negedge nettype new nexttime nmos nor noshowcancelled not notif0 notif1 null or "
    "output package packed parameter pmos posedge primitive priority program property protected pull0 "
    "pull1 pulldown pullup pulsestyle_ondetect pulsestyle_onevent pure rand randc randcase randsequence "
    "rcmos real realtime ref reg reject_on release repeat restrict return rnmos rpmos rtran rtranif0 "
    "rtranif1 s_always s_eventually s_nexttime s_until s_until_with scalared sequence shortint shortreal "
    "showcancelled signed small soft solve specify specparam static string strong strong0 strong1 struct "
    "super supply0 supply1 sync_accept_on sync_reject_on table tagged task this throughout time "
    "timeprecision timeunit tran tranif0 tranif1 tri tri0 tri1 triand trior trireg type typedef union "
    "unique unique0 unsigned until until_with untyped use uwire var vectored virtual void wait wait_order "
    "wand weak weak0 weak1 while wildcard wire with within wor xnor xor "
    "alignas alignof asm auto bool catch char char16_t char32_t const_cast constexpr decltype delete double "
    "dynamic_cast explicit false float friend goto inline long mutable namespace noexcept nullptr operator "
    "private public register reinterpret_cast short sizeof static_assert static_cast switch template "
    "thread_local throw true try typeid typename using volatile wchar_t"
)
_KEYWORDS = frozenset(_RESERVED.split())


def extend(bits: Sequence[Bit], width: int, signed: bool) -> list[Bit]:
    """Bits of a number brought to ``width``: cut, or extended by its sign or zeros."""
    fill = bits[-1] if signed and bits else "0"
    return [*bits[:width], *[fill] * (width - len(bits))]


def runs(bits: Sequence[Bit], wanted: set[int]) -> Iterator[tuple[int, int]]:
    """Ranges (first, last) of neighbours in ``bits`` that all are in ``wanted``."""
    for is_wanted, group in groupby(range(len(bits)), key=lambda i: bits[i] in wanted):
        places = list(group)
        if is_wanted:
            yield places[0], places[-1]


class Names:
    """Signals of a module and where each bit of the netlist stands in them."""

    def __init__(self, netlist: Netlist):
        self._taken: set[str] = set(_KEYWORDS)
        self._counts: dict[str, int] = {}
        self._place: dict[int, tuple[str, int]] = {}
        self._width: dict[str, int] = {}
        self._given: dict[int, list[tuple[str, int]]] = {}
        for name, bits in netlist.names.items():
            for offset, bit in enumerate(bits):
                if isinstance(bit, int):
                    self._given.setdefault(bit, []).append((name, offset))
        self._lengths = {name: len(bits) for name, bits in netlist.names.items()}

    def fresh(self, wish: str) -> str:
        """A name that is legal and not taken, like ``wish``; the dots of its path are :data:`SEPARATOR`."""
        base = re.sub(r"[^\w.]+", "_", wish).replace(".", SEPARATOR) or "n"
        if base[0].isdigit():
            base = f"n{base}"
        # All before the last count of this base are taken.
        name, count = base, self._counts.get(base, 0)
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._taken.add(name)
        self._counts[base] = count
        return name

    def place(self, name: str, bits: Sequence[Bit]) -> None:
        """State that ``bits`` are the signal ``name``."""
        self._width[name] = len(bits)
        self._place |= {bit: (name, offset) for offset, bit in enumerate(bits) if isinstance(bit, int)}

    def placed(self, bit: Bit) -> bool:
        """Whether the bit has a signal already."""
        return bit in self._place

    def declare(self, bits: Sequence[Bit]) -> str:
        """A signal for ``bits``, which have none yet, named as in the design where it has a name for them."""
        name = self.fresh(self._wish(bits))
        self.place(name, bits)
        return name

    def _wish(self, bits: Sequence[Bit]) -> str:
        candidates = []
        first = bits[0]
        assert isinstance(first, int)
        for name, offset in self._given.get(first, ()):
            if all((name, offset + i) in self._given.get(bit, ()) for i, bit in enumerate(bits)):  # type: ignore[arg-type]
                whole = self._lengths[name] == len(bits)
                wish = name if whole else f"{name}_{offset + len(bits) - 1}_{offset}"
                candidates.append((not whole, name.count("."), len(wish), wish))
        return min(candidates)[-1] if candidates else "n"

    def expression(self, bits: Sequence[Bit]) -> str:
        """Verilog for ``bits``, as wide as they are many."""
        parts: list[str] = []
        position = 0
        while position < len(bits):
            length, text = self._piece(bits[position:])
            parts.append(text)
            position += length
        return parts[0] if len(parts) == 1 else f"{{{', '.join(reversed(parts))}}}"

    def _piece(self, bits: Sequence[Bit]) -> tuple[int, str]:
        """Length and text of the longest piece at the low end of ``bits`` that is one term."""
        if isinstance(bits[0], str):
            length = next((i for i, bit in enumerate(bits) if not isinstance(bit, str)), len(bits))
            digits = "".join("1" if bit == "1" else "0" for bit in reversed(bits[:length]))
            return length, f"{length}'h{int(digits, 2):x}"
        same = next((i for i, bit in enumerate(bits) if bit != bits[0]), len(bits))
        name, offset = self._place[bits[0]]
        if same > 1:
            return same, f"{{{same}{{{self._select(name, offset, offset)}}}}}"
        length = 1
        while length < len(bits) and self._place.get(bits[length]) == (name, offset + length):  # type: ignore[arg-type]
            length += 1
        return length, self._select(name, offset, offset + length - 1)

    def _select(self, name: str, first: int, last: int) -> str:
        if self._width[name] == last - first + 1:
            return name
        return f"{name}[{first}]" if first == last else f"{name}[{last}:{first}]"
