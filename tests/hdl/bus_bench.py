# SPDX-License-Identifier: Apache-2.0
"""What the benches of the bus engines share: configurations, memories, and a log of what the engine reports.

A bench has one of two main memories on its AXI port: ``"model"`` is the memory model of ``tilewright_hdl.bus_timing``,
exact to the cycle; ``"axi"`` is cocotbext-axi's subordinate, an independent peer, with random pauses on every channel.
Both answer addresses in ``errors`` (of beats) with SLVERR.
"""

import dataclasses
import functools
import random
from collections.abc import Iterator, Sequence
from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from tilewright_hdl.axi import Axi4Read, connect_axi
from tilewright_hdl.bus_timing import memory_sizes
from tilewright_hdl.config import PRESETS, AcceleratorConfig, BusConfig
from tilewright_hdl.fetch_direct import fetch_engine
from tilewright_hdl.isa import Instruction, Load, Memory, Segment, Store
from tilewright_hdl.isa_layout import instruction_layout
from tilewright_hdl.load_engine import LoadEngine
from tilewright_hdl.once import emit_verilog
from tilewright_hdl.read_arbiter import ReadArbiter

IMAGE_BYTES = 1 << 15
BASES = {Segment.CONSTANT: 0x0, Segment.ARENA: 0x3000}

_nano = dataclasses.replace(PRESETS["nano4"], bus=BusConfig(data_bits=32, burst_beats=16, outstanding=4))
CONFIGS: dict[str, AcceleratorConfig] = {
    # A word is one beat; few bursts.
    "nano": _nano,
    # A word is four beats.
    "long": dataclasses.replace(
        PRESETS["edge16"],
        memory=dataclasses.replace(PRESETS["edge16"].memory, activation_bytes=4 << 10, weight_bytes=4 << 10,
                                   parameter_groups=16),
        bus=BusConfig(data_bits=32, burst_beats=256, outstanding=1),
    ),
    "single-long": dataclasses.replace(
        PRESETS["edge16"],
        memory=dataclasses.replace(PRESETS["edge16"].memory, activation_bytes=4 << 10, weight_bytes=4 << 10,
                                   parameter_groups=16),
        in_flight=1,
        bus=BusConfig(data_bits=32, burst_beats=8, outstanding=1),
    ),
    # One burst of one instruction at a time, and a word is one beat.
    "single": dataclasses.replace(_nano, in_flight=1, bus=BusConfig(data_bits=32, burst_beats=16, outstanding=1)),
    # A word is half of a beat.
    "short": dataclasses.replace(_nano, bus=BusConfig(data_bits=64, burst_beats=8, outstanding=16)),
}


def beat_image(seed: int = 5) -> bytes:
    """Main memory full of noise."""
    return random.Random(seed).randbytes(IMAGE_BYTES)


def payload(config: AcceleratorConfig, instruction: Instruction) -> int:
    """The decoded fields of an instruction as a stream's payload."""
    layout = instruction_layout(config, type(instruction))
    return int(layout.const({name: getattr(instruction, name) for name in layout.members}).as_value().value)


def row_bytes(config: AcceleratorConfig, instruction: Load | Store) -> int:
    """Bytes that a row fills in main memory."""
    word_bytes = memory_sizes(config)[Memory(instruction.memory)][1]
    return instruction.words * config.beats(word_bytes) * config.bus.data_bytes


def places(config: AcceleratorConfig, instruction: Load | Store) -> Iterator[tuple[int, int]]:
    """Address in main memory and word on chip, for each word of an instruction."""
    word_bytes = memory_sizes(config)[Memory(instruction.memory)][1]
    step = config.beats(word_bytes) * config.bus.data_bytes
    base = BASES[Segment(instruction.segment)] + instruction.dram_address
    for row in range(instruction.rows):
        for word in range(instruction.words):
            yield (base + row * instruction.dram_stride + word * step,
                   instruction.address + row * instruction.stride + word)


def transfers(
    config: AcceleratorConfig, cls: type[Load | Store], count: int, seed: int, memories: Sequence[Memory]
) -> list[Any]:
    """Random instructions inside of the memories: each third ends in the last word, the first one crosses 4 KiB."""
    chance = random.Random(seed)
    beat = config.bus.data_bytes
    found = []
    for number in range(count):
        memory = memories[number % len(memories)]
        size, word_bytes = memory_sizes(config)[memory]
        # Rows of some more beats than the longest burst of the small configurations.
        words, rows = chance.randint(1, max(2, 20 // config.beats(word_bytes))), chance.randint(1, 4)
        stride = chance.randint(0, min(30, (size - words) // max(1, rows - 1)))
        last_place = size - words - (rows - 1) * stride
        width = words * config.beats(word_bytes) * beat
        before_4_kib, anywhere = 0x1000 - beat * chance.randint(1, 2), beat * chance.randrange(0x2000 // beat)
        found.append(cls(
            memory=memory,
            dram_address=before_4_kib if number == 0 else anywhere,
            segment=chance.choice(list(Segment)),
            address=last_place if number % 3 == 0 else chance.randint(0, last_place),
            words=words,
            rows=rows,
            dram_stride=width + beat * chance.randint(0, 5),
            stride=stride,
            index=100 + number,
        ))
    return found


class ReadSide(wiring.Component):
    """LOAD and FETCH on one AXI port. Their ports, but the channel, begin with ``load_`` or ``fetch_`` here."""

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._parts = {"load": LoadEngine(config), "fetch": fetch_engine(config)}
        super().__init__({
            "axi": Out(Axi4Read(config.bus.address_bits, config.bus.data_bits)),
            **{f"{part}_{name}": member for part, engine in self._parts.items()
               for name, member in engine.signature.members.items() if name != "channel"},
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.arbiter = arbiter = ReadArbiter(self._config)
        connect_axi(m, self.axi, arbiter.axi)
        for part, engine in self._parts.items():
            m.submodules[part] = engine
            wiring.connect(m, engine.channel, getattr(arbiter, part))
            for name, member in engine.signature.members.items():
                outer, inner = getattr(self, f"{part}_{name}", None), getattr(engine, name)
                if name == "channel":
                    continue
                if member.is_port:
                    m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
                elif member.dimensions:
                    for one, other in zip(outer, inner, strict=True):
                        wiring.connect(m, wiring.flipped(one), other)
                else:
                    wiring.connect(m, wiring.flipped(outer), inner)
        return m


@functools.cache
def verilog_of(component: type[wiring.Component], config: AcceleratorConfig) -> str:
    """Verilog of a component, made once for all of a module's runs."""
    return emit_verilog(component(config), "dut")


class Log:
    """Record, in each cycle, the pulses of an engine."""

    def __init__(self, tb: Any, prefix: str = ""):
        self._tb = tb
        self._prefix = prefix
        self.done: list[int] = []
        self.faults: list[tuple[int, int]] = []
        self.stalls = 0
        self.idle_since = 0

    def port(self, name: str) -> Any:
        return getattr(self._tb.dut, self._prefix + name)

    async def run(self) -> None:
        while True:
            await self._tb.settle()
            if int(self.port("done").value):
                self.done.append(self._tb.cycle)
            if int(self.port("fault").value) & 1:
                fault = int(self.port("fault").value)
                self.faults.append((fault >> 1 & 15, fault >> 5))
            self.stalls += int(self.port("stall").value)
            self.idle_since = 0 if int(self.port("busy").value) else self.idle_since + 1
            await self._tb.cycles()

    async def idle(self, cycles: int = 50) -> None:
        """Wait until the engine has not been busy for some cycles."""
        while self.idle_since < cycles:
            await self._tb.cycles()

    def report(self) -> dict[str, Any]:
        return {"done": self.done, "faults": self.faults, "stalls": self.stalls}
