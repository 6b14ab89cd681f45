# SPDX-License-Identifier: Apache-2.0
"""The SDRAM controller: what was written is read, at the pins' rate, without a violation of the chip's times."""

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest

from tests.hdl.sdram_bench import CONFIGS, peer_writes, power_on, rtl_rounds, verilog_of
from tilewright_hdl.sdram_config import SdramConfig
from tilewright_hdl.sdram_scheduler import TURN_PIECES
from tilewright_sim.cocotb_bench import run_bench
from tilewright_sim.testbench import Testbench, bench

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
OKAY, SLVERR, DECERR = 0, 2, 3
FIXED, WRAP = 0, 2
# Each configuration is a simulator to build; the rarest is left to the long run.
NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name == "ulx3s-wide" else []) for name in CONFIGS]


class Image:
    """Main memory as it should be."""

    def __init__(self, config: SdramConfig, seed: int):
        self.config = config
        self.chance = random.Random(seed)
        self.bytes: dict[int, int] = {}

    def write(self, address: int, beats: int, *, strobes: bool = False) -> dict[str, Any]:
        """A burst of noise; with ``strobes`` some bytes of it count."""
        size = self.config.bus.data_bytes
        data = self.chance.randbytes(beats * size)
        masks = [self.chance.getrandbits(size) if strobes else (1 << size) - 1 for _ in range(beats)]
        begin = address // size * size
        for n, byte in enumerate(data):
            if masks[n // size] >> n % size & 1:
                self.bytes[begin + n] = byte
        return {"address": address, "beats": beats, "data": data.hex(), "strobes": masks,
                "id": self.chance.getrandbits(1)}

    def read(self, address: int, beats: int) -> str:
        """What a burst reads, in hexadecimal."""
        size = self.config.bus.data_bytes
        begin = address // size * size
        return bytes(self.bytes[begin + n] for n in range(beats * size)).hex()


def windows(config: SdramConfig) -> list[int]:
    """Places of 4 KiB: both ends of the chip, two rows of the same banks, and a place between."""
    row = 4 * config.chip.page_bytes
    return [0, 16 * row, 16 * row + 4096, config.chip.bytes // 2, config.chip.bytes - 4096]


def burst(config: SdramConfig, chance: random.Random, base: int) -> tuple[int, int]:
    """Random burst in 4 KiB: now and then any that AXI allows, else one as the accelerator sends them."""
    size = config.bus.data_bytes
    room = 4096 // size
    if chance.random() < 0.3:
        first = chance.randrange(room)
        return base + first * size, chance.randint(1, min(256, room - first))
    first = chance.randrange(room)
    beats = chance.randint(1, config.bus.burst_beats - first % config.bus.burst_beats)
    return base + first * size, beats


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("name", NAMES)
def test_random_bursts(name: str, stall: float) -> None:
    """Reads of some windows while others are written, in an order that the chance gives."""
    config = CONFIGS[name]
    chance = random.Random(f"{name} {stall}")
    image = Image(config, 3)
    size = config.bus.data_bytes
    places = windows(config)
    most = min(256, 4096 // size)
    fill = [image.write(base + n * size, most) for base in places for n in range(0, 4096 // size, most)]
    rounds: list[dict[str, Any]] = [{"writes": fill}]
    expected: list[list[str]] = [[]]
    for _ in range(3):
        read_from = chance.sample(places, 3)
        reads = [burst(config, chance, chance.choice(read_from)) for _ in range(6)]
        expected.append([image.read(*one) for one in reads])
        write_to = [place for place in places if place not in read_from]
        writes = [image.write(*burst(config, chance, chance.choice(write_to)), strobes=True) for _ in range(6)]
        rounds.append({"reads": [{"address": a + chance.randrange(size), "beats": n, "id": n & 1} for a, n in reads],
                       "writes": writes})
    result = rtl_rounds(config, rounds, stall=stall)["rounds"]
    assert [[read["data"] for read in one["reads"]] for one in result] == expected
    for order, one in zip(rounds, result, strict=True):
        for asked, read in zip(order.get("reads", []), one["reads"], strict=True):
            assert read["responses"] == [OKAY] * asked["beats"]
            assert read["lasts"] == [0] * (asked["beats"] - 1) + [1]
            assert read["ids"] == [asked["id"]]
        assert [(write["response"], write["id"]) for write in one["writes"]] == [
            (OKAY, write["id"]) for write in order["writes"]]


def sequential(config: SdramConfig, image: Image, base: int, total: int) -> list[dict[str, Any]]:
    """Longest bursts that write ``total`` bytes from ``base`` on."""
    step = config.bus.burst_beats * config.bus.data_bytes
    return [image.write(base + n, config.bus.burst_beats) for n in range(0, total, step)]


# Cycles of 8 KiB written, 8 KiB read, and 18 KiB in a mix: from the first address to the last beat or response,
# refreshes included.
RATES = {
    "ulx3s": (4209, 4181, 9416),
    "ulx3s-wide": (4186, 4180, 9387),
    "tang": (2109, 2093, 4723),
    "tang-narrow": (2339, 2110, 4705),
}


@pytest.mark.parametrize("name", NAMES)
def test_rates(name: str) -> None:
    """Of the pins' rate at least 96 %: reads in order, writes in order, and fetch, weights and stores at once.

    The three streams of the mix are in different rows of the same banks, which is the worst place for them.
    """
    config = CONFIGS[name]
    image = Image(config, 4)
    row = 4 * config.chip.page_bytes
    step = config.bus.burst_beats * config.bus.data_bytes
    weights = sequential(config, image, 0, 8192)
    code = sequential(config, image, 16 * row, 2048)
    stores = sequential(config, image, 32 * row, 8192)
    reads = [{"address": write["address"], "beats": write["beats"]} for write in weights]
    fetches = [{"address": write["address"], "beats": write["beats"]} for write in code]
    every = max(1, len(reads) // len(fetches))
    mix = [one for n, read in enumerate(reads) for one in ([read, fetches[n // every % len(fetches)]]
                                                           if n % every == 0 else [read])]
    result = rtl_rounds(config, [{"writes": weights}, {"writes": code}, {"reads": reads},
                                 {"reads": mix, "writes": stores}])["rounds"]
    assert [read["data"] for read in result[3]["reads"]] == [image.read(**one) for one in mix]
    found = result[0]["cycles"], result[2]["cycles"], result[3]["cycles"]
    assert found == RATES[name]
    assert len({config.place(stream[0]["address"])[0] for stream in (weights, code, stores)}) == 1
    words = 8192 // config.chip.data_bytes
    moved = words + len(mix) * step // config.chip.data_bytes
    # The first burst is buffered before it is written; in the long run that is nothing.
    first = config.bus.burst_beats
    assert min(words / (found[0] - first), words / found[1], moved / (found[2] - first)) > 0.96


def test_the_documentation_has_these_rates() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, found in RATES.items():
        config = CONFIGS[name]
        write, read, mix = (f"{cycles:,}, {kib * 1024 / config.chip.data_bytes / cycles:.3f}"
                            for cycles, kib in zip(found, (8, 8, 18), strict=True))
        cells = [read, write, mix, str(config.read_delay)]
        assert f" | {' | '.join(cells)} |\n" in page, f"row of {name} in {PAGE.name}"


@pytest.mark.parametrize("name", NAMES)
def test_read_delay(name: str) -> None:
    """A beat alone comes as soon as the configuration says; a refresh may come between and close its row."""
    config = CONFIGS[name]
    write = Image(config, 8).write(0, 1)
    reads = {"reads": [{"address": 0, "beats": 1}]}
    delays = [one["reads"][0]["cycle"] for one in rtl_rounds(config, [{"writes": [write]}, *[reads] * 4])["rounds"][1:]]
    assert min(delays) == config.read_delay
    assert sorted(delays)[2] == config.read_delay


@pytest.mark.parametrize("name", ["ulx3s", "tang"])
def test_nobody_starves(name: str) -> None:
    """One burst among many of the other direction waits for the pieces under way and one turn, not for their end."""
    config = CONFIGS[name]
    image = Image(config, 5)
    base = 64 * config.chip.page_bytes
    beats = config.bus.burst_beats
    many = sequential(config, image, 0, 40 * beats * config.bus.data_bytes)
    one = image.write(base, beats)
    reads = [{"address": write["address"], "beats": write["beats"]} for write in many]
    result = rtl_rounds(config, [{"writes": [one]}, {"reads": [{"address": base, "beats": beats}], "writes": many},
                                 {"reads": reads, "writes": [one]}])["rounds"]
    piece = config.piece_beats * config.beat_words + 25
    bound = (TURN_PIECES + 3) * piece
    assert result[1]["reads"][0]["cycle"] < bound < result[1]["cycles"] // 3
    assert result[2]["writes"][0]["cycle"] < bound + beats < result[2]["cycles"] // 3


@pytest.mark.parametrize("name", ["ulx3s", "tang-narrow"])
def test_hostile_bursts(name: str) -> None:
    """What is outside of the chip or not served gets its error in its turn, and changes nothing."""
    config = CONFIGS[name]
    image = Image(config, 6)
    size, end = config.bus.data_bytes, config.chip.bytes
    top = (1 << config.bus.address_bits) - size
    good = [image.write(0, 8), image.write(end - 4 * size, 4)]
    narrow = size.bit_length() - 2

    def unserved(address: int, beats: int, **how: int) -> dict[str, Any]:
        return {"address": address, "beats": beats, "data": bytes(beats * size).hex(), **how}

    bad = [
        (unserved(end, 4), [DECERR] * 4),
        (unserved(top, 1), [DECERR]),
        (unserved(0, 4, burst=WRAP), [SLVERR] * 4),
        (unserved(0, 2, burst=FIXED), [SLVERR] * 2),
        (unserved(0, 8, burst=3), [SLVERR] * 8),
        (unserved(0, 3, size=narrow), [SLVERR] * 3),
        (unserved(end, 256, burst=WRAP), [DECERR] * 256),
    ]
    reads: list[dict[str, Any]] = []
    for wrong, _ in bad:
        reads += [{key: value for key, value in wrong.items() if key != "data"}, {"address": 0, "beats": 8}]
    # A single beat is served, whatever its type; and a burst over the end is served up to there.
    reads += [{"address": size, "beats": 1, "burst": WRAP, "size": 0}, {"address": end - 4 * size, "beats": 8}]
    last = unserved(end, 1)
    result = rtl_rounds(config, [{"writes": good}, {"writes": [one for one, _ in bad] + [last]}, {"reads": reads}],
                        stall=0.3)["rounds"]
    assert [write["response"] for write in result[1]["writes"]] == [max(codes) for _, codes in bad] + [DECERR]
    answers = result[2]["reads"]
    for (_, codes), wrong, right in zip(bad, answers[0:-2:2], answers[1:-2:2], strict=True):
        assert wrong["responses"] == codes
        assert bytes.fromhex(wrong["data"]) == bytes(len(codes) * size)
        assert wrong["lasts"] == [0] * (len(codes) - 1) + [1]
        assert right["data"] == image.read(0, 8)
    assert (answers[-2]["data"], answers[-2]["responses"]) == (image.read(size, 1), [OKAY])
    assert answers[-1]["data"] == image.read(end - 4 * size, 4) + bytes(4 * size).hex()
    assert answers[-1]["responses"] == [OKAY] * 4 + [DECERR] * 4


def test_planted_times() -> None:
    """A controller that takes the chip for a quicker one is found out in all it does too early."""
    config = CONFIGS["tang-narrow"]
    chip = dataclasses.replace(config.chip, cas_clocks=((3, 7_000),), refresh=1_000_000)
    quicker = dataclasses.replace(chip, cas_clocks=((2, 5_000),), rcd=1, rp=12_000, rrd=1, ras=12_000, rc=1,
                                  rfc=60_000, wr=1, refresh=64_000_000, power_up=chip.power_up // 2)
    row = 4 * config.chip.page_bytes
    image = Image(config, 7)
    writes = [image.write(n % 2 * row, 1) for n in range(6)]
    reads = [{"address": n % 2 * row, "beats": 1} for n in range(6)] * 60
    rtl_rounds(dataclasses.replace(config, chip=quicker), [{"writes": writes}, {"reads": reads}], chip=chip,
               broken=frozenset({"TOO_EARLY", "MODE_CAS", "T_RCD", "T_RP", "T_RAS", "T_RC", "T_RFC", "T_WR",
                                 "MISSED_REFRESH"}))


def rtl_peer(config: SdramConfig) -> bool:
    """Whether an independent manager read what it wrote."""
    verilog = verilog_of(config, config.chip)
    parameters = {"base": config.chip.bytes - 8192}
    return bool(run_bench(verilog, __name__, "bench_peer", parameters=parameters))


@bench(max_cycles=40_000)
async def bench_peer(tb: Testbench) -> None:
    base = tb.parameters["base"]
    await power_on(tb)
    # Bursts that come before the chip was brought up wait for it.
    master, data = await peer_writes(tb, base)
    answer = await master.read(base + 3, len(data) - 7)
    assert int(tb.dut.error.value) == 0
    tb.result = answer.data == data[3:-4]


@pytest.mark.parametrize("name", ["ulx3s", "tang"])
def test_independent_manager(name: str) -> None:
    assert rtl_peer(CONFIGS[name])


def test_power_up_time() -> None:
    """The chip is left alone for the time that it needs, and brought up soon after."""
    config = CONFIGS["ulx3s"]
    timing = config.timing
    up = rtl_rounds(config, [])["up"]
    assert timing.power_up < up < timing.power_up + 20 + timing.rp + 8 * timing.rfc + timing.mrd
