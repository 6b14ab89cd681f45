# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Memories on the FPGA behind AXI4: what was written is read, a beat a cycle, and SPRAM is the memory it should be."""

import ctypes
import functools
import random
from typing import Any

import pytest

from tests.hdl.dsp_blocks import ice40_block
from tests.hdl.sdram_bench import Manager, peer_writes
from tilewright_hdl.block_memory import BlockMemory, Spram, SpramMemory
from tilewright_hdl.burst_server import READ_DELAY, RESPONSE_DELAY, WRITE_DELAY
from tilewright_hdl.config import BusConfig
from tilewright_hdl.errors import ConfigError
from tilewright_hdl.once import emit_verilog
from tilewright_hdl.targets import Target
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench
from tilewright_sim.verilator import build_shared_library

OKAY, SLVERR, DECERR = 0, 2, 3
FIXED, WRAP = 0, 2
BUSES = {"spram": BusConfig(data_bits=32, address_bits=18), "block": BusConfig(data_bits=64, address_bits=16)}
BYTES = {"spram": 128 << 10, "block": 8 << 10}


@functools.cache
def verilog_of(name: str) -> str:
    if name == "spram":
        return ice40_block("SB_SPRAM256KA") + emit_verilog(SpramMemory(BUSES[name]), "dut", target=Target.ICE40)
    return emit_verilog(BlockMemory(BUSES[name], BYTES[name] // BUSES[name].data_bytes), "dut")


class Model:
    """The memory as it should be, and when it answers if nobody makes it wait."""

    def __init__(self, name: str, seed: int):
        self.bus, self.bytes = BUSES[name], BYTES[name]
        self.chance = random.Random(seed)
        self.content = bytearray(self.bytes)

    def burst(self, low: int, high: int) -> dict[str, Any]:
        """A random burst of words that lie between two addresses, within 4 KiB."""
        size = self.bus.data_bytes
        address = self.chance.randrange(low, high)
        room = (min(high, (address // 4096 + 1) * 4096) - address // size * size) // size
        beats = self.chance.choice([1, self.chance.randint(1, min(room, 20)), min(room, 256)])
        return {"address": address, "beats": beats, "id": self.chance.getrandbits(1)}

    def noise(self, burst: dict[str, Any], *, strobes: bool = True) -> dict[str, Any]:
        """The burst as a write of noise."""
        size, beats = self.bus.data_bytes, burst["beats"]
        masks = [self.chance.getrandbits(size) if strobes else (1 << size) - 1 for _ in range(beats)]
        return {**burst, "data": self.chance.randbytes(beats * size).hex(), "strobes": masks}

    def write(self, burst: dict[str, Any]) -> None:
        size = self.bus.data_bytes
        begin = burst["address"] // size * size
        for n, byte in enumerate(bytes.fromhex(burst["data"])):
            if burst["strobes"][n // size] >> n % size & 1:
                self.content[begin + n] = byte

    def read(self, burst: dict[str, Any]) -> str:
        size = self.bus.data_bytes
        begin = burst["address"] // size * size
        return self.content[begin : begin + burst["beats"] * size].hex()

    def round(self, order: dict[str, Any]) -> tuple[list[tuple[str, int]], list[int]]:
        """Data of each read and the cycle of its last beat, and the cycle of each response; cycles from the first on.
        """
        reads, writes = list(order.get("reads", ())), list(order.get("writes", ()))
        read: list[tuple[str, int]] = []
        written: list[int] = []
        now, is_write = 0, False
        while reads or writes:
            # In turn, and a write first.
            is_write = bool(writes) and not (reads and is_write)
            burst = (writes if is_write else reads).pop(0)
            beats = burst["beats"]
            if is_write:
                self.write(burst)
                written.append(now + WRITE_DELAY + beats - 1 + RESPONSE_DELAY)
            else:
                read.append((self.read(burst), now + READ_DELAY + beats - 1))
            now += beats + 1
        return read, written


def places(model: Model) -> list[tuple[int, int]]:
    """Some KiB at both ends, and where one row of SPRAM blocks ends and the next begins."""
    half = model.bytes // 2
    return [(0, 1024), (half - 1024, half), (half, half + 1024), (model.bytes - 1024, model.bytes)]


def filled(model: Model) -> dict[str, Any]:
    """A round that writes all places: SPRAM begins with anything."""
    beats = 1024 // model.bus.data_bytes
    return {"writes": [model.noise({"address": low, "beats": beats, "id": 0}, strobes=False)
                       for low, _ in places(model)]}


def rtl_rounds(name: str, rounds: list[dict[str, Any]], stall: float = 0.0) -> list[dict[str, Any]]:
    parameters = {"rounds": rounds, "stall": stall, "beat_bytes": BUSES[name].data_bytes}
    result: list[dict[str, Any]] = run_bench(verilog_of(name), __name__, "bench_rounds", parameters=parameters)
    return result


@bench(max_cycles=60_000)
async def bench_rounds(tb: Testbench) -> None:
    tb.result = [await Manager(tb).run(one) for one in tb.parameters["rounds"]]


@pytest.mark.parametrize("name", BUSES)
def test_every_cycle(name: str) -> None:
    """Reads and writes of the same places, at once and back to back: which is first, its data and its cycle."""
    model = Model(name, 1)
    rounds = [filled(model)]
    for _ in range(12):
        low, high = model.chance.choice(places(model))
        rounds.append({
            "reads": [model.burst(low, high) for _ in range(model.chance.randint(0, 6))],
            "writes": [model.noise(model.burst(low, high)) for _ in range(model.chance.randint(0, 6))],
        })
    for order, found in zip(rounds, rtl_rounds(name, rounds), strict=True):
        read, written = model.round(order)
        assert [(one["data"], one["cycle"]) for one in found["reads"]] == read
        assert [one["cycle"] for one in found["writes"]] == written
        assert [one["response"] for one in found["writes"]] == [OKAY] * len(written)
        assert [one["id"] for one in found["writes"]] == [one["id"] for one in order["writes"]]
        for asked, one in zip(order.get("reads", ()), found["reads"], strict=True):
            assert one["responses"] == [OKAY] * asked["beats"]
            assert one["lasts"] == [0] * (asked["beats"] - 1) + [1]
            assert one["ids"] == [asked["id"]]


@pytest.mark.parametrize("name", BUSES)
def test_stalls(name: str) -> None:
    """With all channels held up at random; reads and writes of one round are in places of their own."""
    model = Model(name, 2)
    rounds = [filled(model)]
    for _ in range(4):
        a, b = model.chance.sample(places(model), 2)
        rounds.append({"reads": [model.burst(*a) for _ in range(6)],
                       "writes": [model.noise(model.burst(*b)) for _ in range(6)]})
    for order, found in zip(rounds, rtl_rounds(name, rounds, 0.5), strict=True):
        assert [one["data"] for one in found["reads"]] == [data for data, _ in model.round(order)[0]]
        assert [one["ids"] for one in found["reads"]] == [[one["id"]] for one in order.get("reads", ())]
        assert [one["response"] for one in found["writes"]] == [OKAY] * len(order["writes"])


@pytest.mark.parametrize("name", BUSES)
def test_hostile_bursts(name: str) -> None:
    """What is outside or not served gets its error in its turn, and changes nothing."""
    model = Model(name, 3)
    size, end = model.bus.data_bytes, model.bytes
    narrow = size.bit_length() - 2

    def unserved(address: int, beats: int, **how: int) -> dict[str, Any]:
        return {"address": address, "beats": beats, "id": beats & 1, **how}

    bad = [
        (unserved(end, 4), DECERR),
        (unserved((1 << model.bus.address_bits) - size, 1), DECERR),
        (unserved(0, 4, burst=WRAP), SLVERR),
        (unserved(0, 2, burst=FIXED), SLVERR),
        (unserved(0, 8, burst=3), SLVERR),
        (unserved(0, 3, size=narrow), SLVERR),
        (unserved(end, 256, burst=WRAP), DECERR),
    ]
    good = {"address": 0, "beats": 8, "id": 0}
    alone = {"address": size, "beats": 1, "id": 1, "burst": WRAP, "size": 0}
    reads = [one for wrong, _ in bad for one in (wrong, good)] + [alone]
    found = rtl_rounds(name, [filled(model), {"writes": [model.noise(one) for one, _ in bad]}, {"reads": reads}], 0.3)
    model = Model(name, 3)
    model.round(filled(model))
    assert [one["response"] for one in found[1]["writes"]] == [code for _, code in bad]
    answers = found[2]["reads"]
    for (wrong, code), error, right in zip(bad, answers[0::2], answers[1::2], strict=False):
        assert error["responses"] == [code] * wrong["beats"]
        assert error["lasts"] == [0] * (wrong["beats"] - 1) + [1]
        assert error["ids"] == [wrong["id"]]
        assert (right["data"], right["responses"]) == (model.read(good), [OKAY] * 8)
    assert (answers[-1]["data"], answers[-1]["responses"]) == (model.read(alone), [OKAY])


@bench(max_cycles=20_000)
async def bench_peer(tb: Testbench) -> None:
    base = tb.parameters["base"]
    master, data = await peer_writes(tb, base)
    # A reset in the middle of a burst leaves nothing behind but what was written.
    reading = tb.start(master.read(base, 4096))
    await tb.cycles(40)
    tb.dut.rst.value = 1
    await tb.cycles(2)
    reading.cancel()
    tb.dut.rst.value = 0
    await tb.cycles(2)
    answer = await master.read(base + 3, 8192 - 7)
    tb.result = answer.data == data[3:-4]


@pytest.mark.parametrize("name", BUSES)
def test_independent_manager(name: str) -> None:
    assert run_bench(verilog_of(name), __name__, "bench_peer", parameters={"base": BYTES[name] - 8192}) is True


_BOTH = """\
module both (
  input clk, input enable, input write, input [14:0] address, input [7:0] mask, input [63:0] data,
  output [31:0] generic_32, output [31:0] ice40_32, output [63:0] generic_64, output [63:0] ice40_64
);
{instances}
endmodule
"""

# Wrong words of two memories that do the same things: all words and masks, then random ones.
_SHIM = """\
#include "Vtop.h"
#include <cstring>

static unsigned char model[4][131072];
static unsigned long long state = 88172645463325252ull;

static unsigned long long noise() {
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return state;
}

static bool differs(const Vtop &top, unsigned place) {
    unsigned narrow;
    unsigned long long wide;
    std::memcpy(&narrow, &model[0][place * 4], 4);
    std::memcpy(&wide, &model[1][place % 16384 * 8], 8);
    return top.generic_32 != narrow || top.ice40_32 != narrow || top.generic_64 != wide || top.ice40_64 != wide;
}

extern "C" long wrong(long count) {
    Vtop top;
    long found = 0;
    int read = -1;
    for (long step = 0; step < 65536 + count; step++) {
        const bool sweep = step < 65536;
        top.enable = sweep || noise() % 4;
        top.write = sweep ? step < 32768 : noise() % 2;
        // Few places, so that most of what is read was written a moment before, in both rows of blocks.
        top.address = sweep ? step % 32768 : noise() % 64 * 521 % 32768;
        top.mask = sweep ? 255 : noise() % 256;
        top.data = noise();
        top.clk = 0;
        top.eval();
        found += read >= 0 && differs(top, read);
        if (top.enable) {
            read = top.write ? -1 : top.address;
            for (int byte = 0; top.write && byte < 8; byte++)
                if (top.mask >> byte & 1) {
                    if (byte < 4) model[0][top.address * 4 + byte] = top.data >> 8 * byte;
                    model[1][top.address % 16384 * 8 + byte] = top.data >> 8 * byte;
                }
        }
        top.clk = 1;
        top.eval();
    }
    return found;
}
"""


def test_spram_is_the_generic_memory() -> None:
    """With Yosys' model of the block: every word of 32 and 64 bits, and 500,000 random accesses."""
    texts, instances = {"block.v": ice40_block("SB_SPRAM256KA")}, []
    for bits, address in ((32, 14), (64, 13)):
        for target in (Target.GENERIC, Target.ICE40):
            name = f"{target}_{bits}"
            texts[f"{name}.v"] = emit_verilog(Spram(bits), f"spram_{name}", separator="_", target=target)
            instances.append(f"  spram_{name} i_{name} (.clk(clk), .port_enable(enable), .port_write(write),"
                             f" .port_address(address[{address}:0]), .port_mask(mask[{bits // 8 - 1}:0]),"
                             f" .port_data(data[{bits - 1}:0]), .port_word({name}));")
    texts["both.v"] = _BOTH.format(instances="\n".join(instances))
    library = ctypes.CDLL(str(build_shared_library(texts, "both", _SHIM)))
    library.wrong.restype = ctypes.c_long
    assert library.wrong(ctypes.c_long(500_000)) == 0


def test_wrong_arguments() -> None:
    bus = BUSES["spram"]
    for make, message in [
        (lambda: BlockMemory(bus, 512), r"memory.words must be an integer of at least 1024 \(4096 bytes\), not 512"),
        (lambda: BlockMemory(bus, True), "not True"),
        (lambda: BlockMemory(bus, 1025), "memory.words must be a power of two, not 1025"),
        (lambda: SpramMemory(BusConfig(data_bits=32, address_bits=16)),
         "bus.address_bits must be at least 17, to address the 131072 bytes of the memory, not 16"),
        (lambda: SpramMemory(BusConfig(data_bits=128)), "bus.data_bits must be 32 or 64 for SPRAM, not 128"),
    ]:
        with pytest.raises(ConfigError, match=message):
            make()


def test_sizes() -> None:
    assert SpramMemory(BUSES["spram"]).bytes == BYTES["spram"]
    assert BlockMemory(BUSES["block"], 1024).bytes == BYTES["block"]
