# SPDX-License-Identifier: Apache-2.0
"""C for a processor beside the accelerator: what is generated, and the driver on a machine that only notes."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.driver import c_driver
from tests.driver.c_driver import CDriver
from tests.driver.programs import SETUP, program, tensor
from tilewright_driver.c_export import driver_files, program_files, registers_header
from tilewright_driver.device import place
from tilewright_hdl.activation_layout import pack, packed_bytes, unpack
from tilewright_hdl.config import PRESETS
from tilewright_hdl.errors import ProgramError
from tilewright_hdl.isa import encode_program
from tilewright_hdl.program import HostStep, Program, TensorInfo
from tilewright_hdl.registers import (
    CONTROL_START,
    DIGEST_WORDS,
    IDENTITY,
    REGISTERS,
    STATUS_BUSY,
    STATUS_DONE,
    STATUS_ERROR,
    STATUS_ERROR_CODE_OFFSET,
    VERSION,
    ErrorCode,
)

OFFSETS = {name: register.address for name, register in REGISTERS.items()}


class NotingBus:
    """Registers and memory of an accelerator that ends each job after a few looks at its status, and does nothing."""

    def __init__(self, made: Program, *, looks: int = 3):
        self.memory = np.full(1 << 16, 0xAA, np.uint8)
        self.registers = dict.fromkeys(OFFSETS.values(), 0)
        self.registers |= {OFFSETS["IDENTITY"]: IDENTITY, OFFSETS["VERSION"]: VERSION, OFFSETS["STATUS"]: STATUS_DONE}
        for n in range(DIGEST_WORDS):
            self.registers[OFFSETS[f"CONFIG_DIGEST_{n}"]] = int(made.config.digest[8 * n :][:8], 16)
        self.jobs: list[tuple[int, ...]] = []
        self.end, self.patience = STATUS_DONE, 100
        self.asked: list[bool] = []
        self._looks, self._left = looks, 0

    def read_register(self, offset: int) -> int:
        assert offset in self.registers
        if offset == OFFSETS["STATUS"] and self._left:
            self._left -= 1
            return STATUS_BUSY if self._left else self.end
        return self.registers[offset]

    def write_register(self, offset: int, value: int) -> None:
        if offset == OFFSETS["CONTROL"]:
            assert value == CONTROL_START
            names = ("PROGRAM_ADDRESS", "PROGRAM_BYTES", "CONSTANT_BASE", "ARENA_BASE")
            self.jobs.append(tuple(self.registers[OFFSETS[name]] for name in names))
            self.registers[OFFSETS["STATUS"]] = self.end
            self._left = self._looks
        else:
            self.registers[offset] = value

    def read(self, address: int, length: int) -> bytes:
        return self.memory[address:][:length].tobytes()

    def write(self, address: int, data: bytes) -> None:
        assert address + len(data) <= len(self.memory)
        self.memory[address:][: len(data)] = np.frombuffer(data, np.uint8)

    def give_up(self, first: bool) -> bool:
        self.asked.append(first)
        return len(self.asked) > self.patience


def made(folder: Path, program: Program, **options: Any) -> tuple[NotingBus, CDriver]:
    bus = NotingBus(program, **options)
    return bus, CDriver(program, bus, folder)


def test_the_header_has_each_register_and_code() -> None:
    text = registers_header()
    found = {name: int(value, 16) for name, value in re.findall(r"#define TW_REG_(\w+) 0x(\w+)u /\*", text)}
    assert found == OFFSETS
    codes = {name: int(value) for name, value in re.findall(r"TW_ERROR_(\w+) = (\d+)", text)}
    assert codes == {code.name: code.value for code in ErrorCode}


def test_the_driver_is_short_and_is_c_plus_plus_too(tmp_path: Path) -> None:
    files = driver_files()
    assert files["tilewright.c"].count("\n") <= 200
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "both.cpp").write_text('#include "tilewright.h"\n#include "tilewright_registers.h"\n')
    subprocess.run(["c++", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", str(tmp_path / "both.cpp")], check=True)


def test_load_and_run(tmp_path: Path) -> None:
    whole = program(setup=encode_program([SETUP]))
    contents, setup, jobs, end = place(whole)
    assert setup is not None
    bus, driver = made(tmp_path, whole)
    assert driver.load() == c_driver.OK
    assert bus.jobs == [tuple(vars(setup).values())]
    for address, data in contents:
        assert bus.read(address, len(data)) == data
    image = np.arange(12, dtype=np.int8).reshape(3, 2, 2)
    result, outputs = driver.run(image)
    # The machine does nothing, and the fake program has its output where its input is.
    assert result == c_driver.OK
    np.testing.assert_array_equal(outputs[0], image)
    assert bus.jobs[1:] == [tuple(vars(job).values()) for job in jobs]
    assert bus.asked == 2 * [True, False, False]
    assert end <= len(bus.memory)


LAYOUTS = {
    "image": tensor("x", shape=(3, 4, 5)),
    "many channels": tensor("x", shape=(70, 2, 3)),
    "vector": tensor("x", shape=(9,)),
    "tokens": tensor("x", shape=(5, 6)),
    "channels last": tensor("x", shape=(5, 3, 2), channels_last=True),
    "unsigned": tensor("x", shape=(5, 3, 2), unsigned=True),
    "rows": tensor("x", shape=(3, 4, 5), rows=True),
    "wide rows": tensor("x", shape=(70, 2, 2), rows=True, channels_last=True, unsigned=True),
}


@pytest.mark.parametrize("config", ["nano4", "edge16"])
@pytest.mark.parametrize("info", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts_are_those_of_python(tmp_path: Path, config: str, info: TensorInfo) -> None:
    """Inputs lie in memory as `pack` has them, padding included; outputs are what `unpack` finds there."""
    cfg = PRESETS[config]
    out = replace(info, name="y", rows=False, arena_offset=2048)
    both = program(cfg, tensors={"x": info, "y": out}, inputs=("x",), outputs=("y",))
    bus, driver = made(tmp_path, both)
    rng = np.random.default_rng(1)
    array = rng.integers(0, 256, info.end_shape).astype(np.uint8).view(info.end_dtype)
    base = place(both)[2][0].arena_base
    there = rng.integers(0, 256, packed_bytes(cfg, out.shape)).astype(np.uint8)
    bus.write(base + 2048, there.tobytes())
    result, outputs = driver.run(array)
    assert result == c_driver.OK
    wanted = np.frombuffer(pack(cfg, info.from_end(array), rows=info.rows), np.uint8)
    found = np.frombuffer(bus.read(base, len(wanted)), np.uint8)
    # Bytes beyond a word's lanes or a row's pixels are read by nobody.
    word = cfg.beats(cfg.array.rows) * cfg.bus.data_bytes
    used = info.shape[0] * info.shape[2] if info.rows else cfg.array.rows
    pitch = len(wanted) // info.shape[1] if info.rows else word
    np.testing.assert_array_equal(found.reshape(-1, pitch)[:, :used], wanted.reshape(-1, pitch)[:, :used])
    np.testing.assert_array_equal(outputs[0], out.to_end(unpack(cfg, there.tobytes(), out.shape)))


def test_each_error(tmp_path: Path) -> None:
    whole = program()
    image = np.zeros((3, 2, 2), np.int8)
    for number, (register, value, wanted) in enumerate([
        ("IDENTITY", 0xFFFF_FFFF, c_driver.NO_ACCELERATOR),
        ("VERSION", VERSION + 1, c_driver.NO_ACCELERATOR),
        (f"CONFIG_DIGEST_{DIGEST_WORDS - 1}", 0, c_driver.OTHER_CONFIGURATION),
        ("STATUS", STATUS_BUSY, c_driver.BUSY),
    ]):
        folder = tmp_path / str(number)
        folder.mkdir()
        bus, driver = made(folder, whole)
        bus.registers[OFFSETS[register]] = value
        assert (driver.load(), driver.run(image)[0], bus.jobs) == (wanted, wanted, [])
        assert (bus.memory == 0xAA).all()


def test_a_broken_memory_is_found(tmp_path: Path) -> None:
    whole = program()
    bus, driver = made(tmp_path, whole)
    bus.write = lambda address, data: NotingBus.write(bus, address, data[:-1])  # type: ignore[method-assign]
    assert driver.load() == c_driver.NOT_WRITTEN


def test_a_program_that_does_not_end_or_stops(tmp_path: Path) -> None:
    bus, driver = made(tmp_path, program(), looks=1000)
    image = np.zeros((3, 2, 2), np.int8)
    assert (driver.run(image)[0], len(bus.asked)) == (c_driver.TIMEOUT, bus.patience + 1)
    bus._left = 0
    bus.end = STATUS_ERROR | ErrorCode.READ << STATUS_ERROR_CODE_OFFSET
    bus._looks, bus.patience = 2, 10**6
    bus.registers[OFFSETS["STATUS"]] = STATUS_DONE
    bus.registers |= {OFFSETS["ERROR_INDEX"]: 7, OFFSETS["CYCLES"]: 1234}
    assert driver.run(image)[0] == c_driver.STOPPED
    found = [driver.ask(f"tw_{name}") for name in ("stop_code", "stop_index", "cycles")]
    assert found == [ErrorCode.READ, 7, 1234]


def test_results_have_texts(tmp_path: Path) -> None:
    _, driver = made(tmp_path, program())
    texts = [driver.text(n) for n in range(8)]
    assert len(set(texts)) == 8
    assert texts[-1] == "unknown result"


def test_a_program_for_the_host_is_refused() -> None:
    step = HostStep(kind="reshape", layer=2, inputs=("y",), outputs=("z",))
    whole = program(host=(step,), tensors={"x": tensor("x"), "y": tensor("y"), "z": tensor("z", arena_offset=None)},
                    outputs=("z",))
    with pytest.raises(ProgramError, match="accelerator alone, but the host has to run c \\(aten"):
        program_files(whole)


def test_names_become_identifiers() -> None:
    files = program_files(program(name='a-b "c" */ é'))
    assert list(files) == ["tw_program_a_b__c______.h", "tw_program_a_b__c______.c"]
    assert '"a-b \\042c\\042 */ \\303\\251"' in files["tw_program_a_b__c______.c"]
    assert "a-b" in files["tw_program_a_b__c______.h"]
