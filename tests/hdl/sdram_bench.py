# SPDX-License-Identifier: Apache-2.0
"""The SDRAM controller with the strict model on its pins, and an AXI manager for it.

A test hands over *rounds*; each has reads and writes, which go on at the same time, and ends when all are answered.
"""

import dataclasses
import functools
import random
from collections import deque
from typing import Any

from tilewright_hdl.config import BusConfig
from tilewright_hdl.netlist import module_ports
from tilewright_hdl.once import emit_verilog
from tilewright_hdl.sdram_config import CHIPS, SdramChip, SdramConfig
from tilewright_hdl.sdram_controller import SdramController
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.sdram_model import broken_rules, sdram_model, violation
from tilewright_sim.testbench import Testbench, bench

CHANNELS = ("ar", "r", "aw", "w", "b")


def quick(chip: SdramChip) -> SdramChip:
    """The same chip with a short time of power-up."""
    return dataclasses.replace(chip, power_up=1_000_000)


def sdram(name: str, mhz: float, data_bits: int, burst_beats: int = 32, phy_delay: int = 0) -> SdramConfig:
    bus = BusConfig(data_bits=data_bits, burst_beats=burst_beats)
    return SdramConfig(chip=quick(CHIPS[name]), clock_hz=int(mhz * 1e6), bus=bus, phy_delay=phy_delay)


# Of each chip: a beat of several words, and the extremes of the words that one command moves.
CONFIGS = {
    "ulx3s": sdram("ULX3S", 80, 128),
    "ulx3s-wide": sdram("ULX3S", 133, 256, phy_delay=2),
    "tang": sdram("GW2AR-18", 48, 64),
    "tang-narrow": sdram("GW2AR-18", 108, 32, burst_beats=256, phy_delay=1),
}


@functools.cache
def verilog_of(config: SdramConfig, chip: SdramChip) -> str:
    """A controller for ``config`` with a model of ``chip`` on its pins, as the module ``dut``."""
    controller = emit_verilog(SdramController(config), "controller")
    ports = module_ports(controller)
    outer = [f"  {'input' if is_input else 'output'} [{width - 1}:0] {name}"
             for name, (is_input, width) in ports.items() if not name.startswith("pins__")]
    wires = [f"  wire [{width - 1}:0] {name}, sent_{name};" for name, (_, width) in ports.items()
             if name.startswith("pins__")]
    return "\n".join([
        sdram_model(chip, config.clock_hz, check_unwritten=True), controller,
        "module dut (", ",\n".join([*outer, "  input power", "  output [7:0] error", "  output [63:0] error_ps",
                                    "  output [1:0] error_bank", "  output [63:0] broken"]), ");",
        *wires,
        f"  controller controller ({', '.join(f'.{name}({name})' for name in ports)});",
        # Registers in the pins: all of the delay on the way out is as good as any other share.
        _delayed([name for name in ports if name.startswith("pins__")], ports, config.phy_delay),
        "  sdram_model model (.power(power), .clk(clk), .cke(sent_pins__cke), .cs_n(~sent_pins__cs),",
        "    .ras_n(~sent_pins__ras), .cas_n(~sent_pins__cas), .we_n(~sent_pins__we), .ba(sent_pins__ba),",
        "    .a(sent_pins__a), .dqm(sent_pins__dqm), .dq_i(sent_pins__dq_o), .dq_oe_i(sent_pins__dq_oe),",
        "    .dq_o(pins__dq_i), .dq_oe_o(), .error(error), .error_ps(error_ps), .error_bank(error_bank),",
        "    .broken(broken));",
        "endmodule", "",
    ])


def _delayed(names: list[str], ports: dict[str, tuple[bool, int]], cycles: int) -> str:
    lines = []
    for name in names:
        if not cycles or name == "pins__dq_i":
            lines.append(f"  assign sent_{name} = {name};")
            continue
        width = ports[name][1]
        lines += [f"  reg [{cycles * width - 1}:0] late_{name};",
                  f"  always @(posedge clk) late_{name} <= {{late_{name}, {name}}};",
                  f"  assign sent_{name} = late_{name}[{cycles * width - 1}-:{width}];"]
    return "\n".join(lines)


def rtl_rounds(
    config: SdramConfig,
    rounds: list[dict[str, Any]],
    *,
    chip: SdramChip | None = None,
    stall: float = 0.0,
    broken: frozenset[str] = frozenset(),
    seed: int = 1,
) -> dict[str, Any]:
    """Run rounds and return their answers. The rules that the model saw broken must be ``broken``."""
    parameters = {"rounds": rounds, "stall": stall, "beat_bytes": config.bus.data_bytes}
    verilog = verilog_of(config, chip or config.chip)
    result: dict[str, Any] = run_bench(verilog, __name__, "bench_rounds", parameters=parameters, seed=seed)
    found = broken_rules(result["broken"])
    assert found == broken, f"the model found {sorted(found)}, first {violation(*result['violation'])}"
    return result


@bench(max_cycles=200_000)
async def bench_rounds(tb: Testbench) -> None:
    dut = tb.dut
    await power_on(tb)
    while True:
        await tb.settle()
        if int(dut.ready.value):
            break
        await tb.cycles()
    up = tb.cycle
    await tb.cycles()
    answers = [await Manager(tb).run(one) for one in tb.parameters["rounds"]]
    await tb.cycles(10)
    tb.result = {"rounds": answers, "up": up, "broken": int(dut.broken.value),
                 "violation": [int(getattr(dut, name).value) for name in ("error", "error_bank", "error_ps")]}


async def power_on(tb: Testbench) -> None:
    """Switch the chip on while the controller is in reset; the model reads its supply at a clock edge."""
    tb.dut.rst.value = 1
    await tb.cycles(2)
    tb.dut.power.value = 1
    tb.dut.rst.value = 0


async def peer_writes(tb: Testbench, base: int) -> tuple[Any, bytes]:
    """An independent manager writes 8 KiB from ``base`` on, and parts of them again; gives it, and what is there now.
    """
    from cocotbext.axi import AxiBus, AxiMaster

    master = AxiMaster(AxiBus.from_prefix(tb.dut, "axi_"), tb.dut.clk, tb.dut.rst)
    data = tb.random.randbytes(8192)
    await master.write(base, data)
    for _ in range(8):
        # Any byte may begin and end a transfer.
        begin = tb.random.randrange(8000)
        some = tb.random.randbytes(tb.random.randint(1, 190))
        await master.write(base + begin, some)
        data = data[:begin] + some + data[begin + len(some) :]
    return master, data


class Manager:
    """An AXI4 manager that does one round."""

    def __init__(self, tb: Testbench):
        self._tb = tb
        self._chance = random.Random(tb.random.random())
        self._offered: dict[str, tuple[int, ...]] = {}

    def _get(self, name: str) -> int:
        return int(getattr(self._tb.dut, f"axi__{name}").value)

    def _put(self, channel: str, valid: bool, **values: int) -> None:
        getattr(self._tb.dut, f"axi__{channel}valid").value = int(valid)
        for name, value in values.items():
            getattr(self._tb.dut, f"axi__{channel}{name}").value = value

    async def run(self, order: dict[str, Any]) -> dict[str, Any]:
        tb, size = self._tb, self._tb.parameters["beat_bytes"]
        begin = tb.cycle
        addresses = {"ar": deque(order.get("reads", ())), "aw": deque(order.get("writes", ()))}
        beats = deque((data, strobe, last) for write in order.get("writes", ()) for data, strobe, last in _beats(write))
        reading = deque(order.get("reads", ()))
        read: list[dict[str, Any]] = []
        current: list[tuple[int, int, int, int]] = []
        written: list[dict[str, Any]] = []
        held = dict.fromkeys(CHANNELS, False)
        while reading or len(written) < len(order.get("writes", ())):
            offers = {"ar": bool(addresses["ar"]), "aw": bool(addresses["aw"]), "w": bool(beats), "r": True, "b": True}
            for channel in CHANNELS:
                stalled = not held[channel] and self._chance.random() < tb.parameters["stall"]
                offers[channel] = offers[channel] and not stalled
            for channel in ("ar", "aw"):
                if offers[channel]:
                    one = addresses[channel][0]
                    self._put(channel, True, addr=one["address"], len=one["beats"] - 1, id=one.get("id", 0),
                              size=one.get("size", size.bit_length() - 1), burst=one.get("burst", 1))
                else:
                    self._put(channel, False)
            if offers["w"]:
                data, strobe, last = beats[0]
                self._put("w", True, data=data, strb=strobe, last=int(last))
            else:
                self._put("w", False)
            tb.dut.axi__rready.value = int(offers["r"])
            tb.dut.axi__bready.value = int(offers["b"])
            await tb.settle()
            for channel, queue in (("ar", addresses["ar"]), ("aw", addresses["aw"]), ("w", beats)):
                held[channel] = offers[channel] and not self._get(f"{channel}ready")
                if offers[channel] and not held[channel]:
                    queue.popleft()
            if item := self._taken("r", offers["r"], "data", "resp", "id", "last"):
                current.append(item)
                if len(current) == reading[0]["beats"]:
                    reading.popleft()
                    read.append({"data": b"".join(beat[0].to_bytes(size, "little") for beat in current).hex(),
                                 "responses": [beat[1] for beat in current], "ids": sorted({b[2] for b in current}),
                                 "lasts": [beat[3] for beat in current], "cycle": tb.cycle - begin})
                    current = []
            if item := self._taken("b", offers["b"], "resp", "id"):
                written.append({"response": item[0], "id": item[1], "cycle": tb.cycle - begin})
            await tb.cycles()
        self._put("ar", False)
        self._put("aw", False)
        self._put("w", False)
        return {"reads": read, "writes": written, "cycles": tb.cycle - begin}

    def _taken(self, channel: str, ready: bool, *names: str) -> tuple[int, ...] | None:
        """The transfer of this cycle, if there is one; an offer must stay as it is until it is taken."""
        offer = tuple(self._get(channel + name) for name in names) if self._get(f"{channel}valid") else None
        before = self._offered.pop(channel, None)
        assert before is None or offer == before, f"{channel} offers {before} and then {offer} before it is taken"
        if offer is not None and not ready:
            self._offered[channel] = offer
        return offer if ready else None


def _beats(write: dict[str, Any]) -> list[tuple[int, int, bool]]:
    data = bytes.fromhex(write["data"])
    size = len(data) // write["beats"]
    strobes = write.get("strobes", [(1 << size) - 1] * write["beats"])
    return [(int.from_bytes(data[n * size : (n + 1) * size], "little"), strobes[n], n == write["beats"] - 1)
            for n in range(write["beats"])]
