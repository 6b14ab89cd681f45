# SPDX-License-Identifier: Apache-2.0
"""What the parts of the SDRAM controller meet by: pins, commands, pieces."""

from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from .config_parts import bits_for
from .sdram_config import BANKS, SdramChip, SdramConfig

__all__ = ["ALL_BANKS", "BeatWrite", "Command", "PieceLayout", "SdramPins"]

ALL_BANKS = 1 << 10
"""Address bit 10: PRECHARGE closes all banks."""


class Command(enum.Enum, shape=3):
    """Command on the pins: ``ras``, ``cas`` and ``we``, each 1 where the pin is low; ``ras`` is the highest bit."""

    NOTHING = 0b000
    ACTIVE = 0b100
    READ = 0b010
    WRITE = 0b011
    PRECHARGE = 0b101
    REFRESH = 0b110
    LOAD_MODE = 0b111


class SdramPins(wiring.Signature):
    """Pins of a chip, seen from the controller; a 1 on ``cs``, ``ras``, ``cas`` or ``we`` is a low pin.

    All outputs come from registers. The chip takes a command at the clock edge that ends the cycle in which it stands
    here; ``dq_i`` is registered at each edge.

    Members
    -------
    cke, cs, ras, cas, we : ``Out(1)``
    ba : ``Out(2)``
    a : ``Out(chip.row_bits)``
    dqm : ``Out(chip.data_bytes)``
    dq_o : ``Out(chip.data_bits)``
    dq_oe : ``Out(1)``
    dq_i : ``In(chip.data_bits)``
    """

    def __init__(self, chip: SdramChip):
        super().__init__({
            **dict.fromkeys(("cke", "cs", "ras", "cas", "we"), Out(1)),
            "ba": Out(bits_for(BANKS)),
            "a": Out(chip.row_bits),
            "dqm": Out(chip.data_bytes),
            "dq_o": Out(chip.data_bits),
            "dq_oe": Out(1),
            "dq_i": In(chip.data_bits),
        })


class PieceLayout(data.StructLayout):
    """Part of an AXI burst within a page: its first ``column``, and its column commands less one as ``count``."""

    def __init__(self, config: SdramConfig):
        commands = config.piece_beats * config.beat_words // config.burst_words
        super().__init__({
            "write": 1,
            "bank": bits_for(BANKS),
            "row": config.chip.row_bits,
            "column": config.chip.column_bits,
            "count": bits_for(commands),
        })


class BeatWrite(data.StructLayout):
    """A beat that is written, with the bytes that count."""

    def __init__(self, config: SdramConfig):
        super().__init__({"data": config.bus.data_bits, "strobe": config.bus.data_bytes})
