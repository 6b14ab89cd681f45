# SPDX-License-Identifier: Apache-2.0
"""C for a processor beside the accelerator: the registers, a reference driver, and a program as data.

The driver is ``c/tilewright.h`` and ``c/tilewright.c``; registers and programs become C from what the rest of
Tilewright knows of them.
"""

import re
from collections.abc import Iterator, Sequence
from importlib.resources import files

from tilewright_hdl.activation_layout import channel_tiles, image_shape, packed_bytes
from tilewright_hdl.errors import ProgramError
from tilewright_hdl.program import HostStep, Program, TensorInfo
from tilewright_hdl.registers import (
    CONTROL_CLEAR_IRQ,
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
from tilewright_sim.machine import Job

from .device import place

__all__ = ["driver_files", "program_files", "registers_header"]

_LICENSE = "/* SPDX-License-Identifier: Apache-2.0 */"
_GENERATED = "/* Made by `tilewright c`; do not edit. */"
_LINE_BYTES = 16


def driver_files() -> dict[str, str]:
    """Text of the reference driver's files by name, the header of the registers included."""
    folder = files(__package__) / "c"
    return {
        "tilewright_registers.h": registers_header(),
        **{name: (folder / name).read_text(encoding="utf-8") for name in ("tilewright.h", "tilewright.c")},
    }


def registers_header() -> str:
    """C header with the offset of each register, the bits and the codes in them."""
    lines = [_LICENSE, _GENERATED, "#ifndef TILEWRIGHT_REGISTERS_H", "#define TILEWRIGHT_REGISTERS_H", "",
             "/* Registers of 32 bits: offsets in bytes. */"]
    lines += [f"#define TW_REG_{register.name} 0x{register.address:02x}u /* {register.access}: {register.meaning} */"
              for register in REGISTERS.values()]
    constants = {
        "IDENTITY_VALUE": IDENTITY, "VERSION_VALUE": VERSION, "DIGEST_WORDS": DIGEST_WORDS,
        "CONTROL_START": CONTROL_START, "CONTROL_CLEAR_IRQ": CONTROL_CLEAR_IRQ, "STATUS_BUSY": STATUS_BUSY,
        "STATUS_DONE": STATUS_DONE, "STATUS_ERROR": STATUS_ERROR,
        "STATUS_ERROR_CODE_OFFSET": STATUS_ERROR_CODE_OFFSET,
    }
    lines += ["", "/* What stands in them. */"]
    lines += [f"#define TW_{name} 0x{value:x}u" for name, value in constants.items()]
    lines += ["", "/* Why the accelerator stopped. */", "typedef enum tw_error_code {"]
    lines += [f"    TW_ERROR_{code.name} = {code.value}," for code in ErrorCode]
    lines[-1] = lines[-1].rstrip(",")
    return "\n".join([*lines, "} tw_error_code;", "", "#endif", ""])


def program_files(program: Program) -> dict[str, str]:
    """A program as C data: a header, and a source with the constant ``tw_program_NAME``.

    Raises
    ------
    ProgramError
        If it has steps for the host, which the driver in C has not.
    """
    host = [program.layers[step.layer] for step in program.steps if isinstance(step, HostStep)]
    if host:
        named = ", ".join(f"{layer.name} ({layer.op}{f': {layer.reason}' if layer.reason else ''})" for layer in host)
        raise ProgramError(f"A program for the driver in C must run on the accelerator alone, but the host has to run "
                           f"{named}; compile with strict=True to see what can be changed, or use the driver in Python")
    if not program.steps:
        raise ProgramError(f"A program for the driver in C must have a step for the accelerator, but {program.name!r} "
                           f"has none")
    name = re.sub(r"\W", "_", program.name, flags=re.ASCII) or "network"
    guard = f"TILEWRIGHT_PROGRAM_{name.upper()}_H"
    header = [_LICENSE, _GENERATED, f"#ifndef {guard}", f"#define {guard}", "", '#include "tilewright.h"', "",
              "#ifdef __cplusplus", 'extern "C"', "#endif",
              *(f"/* {line} */" for line in _description(program)),
              f"extern const tw_program tw_program_{name};", "", "#endif", ""]
    return {f"tw_program_{name}.h": "\n".join(header), f"tw_program_{name}.c": _source(program, name)}


def _description(program: Program) -> Iterator[str]:
    yield f"Network {program.name}, for configuration {program.config.name} ({program.config.digest[:12]})."
    for kind, names in (("input", program.inputs), ("output", program.outputs)):
        for number, name in enumerate(names):
            tensor = program.tensors[name]
            shape = " x ".join(map(str, tensor.end_shape))
            yield f"{kind} {number}: {name}, {shape} of {tensor.end_dtype}".replace("*/", "")


def _source(program: Program, name: str) -> str:
    contents, setup, jobs, end = place(program)
    contents = [(address, data) for address, data in contents if data]
    base = setup or jobs[0]
    lines = [_LICENSE, _GENERATED, f'#include "tw_program_{name}.h"', ""]
    for number, (_, data) in enumerate(contents):
        lines += [f"static const uint8_t section_{number}[{len(data)}] = {{", *_bytes(data), "};", ""]
    digest = ", ".join(f"0x{program.config.digest[8 * n:][:8]}u" for n in range(DIGEST_WORDS))
    lines += [f"static const uint32_t digest[{DIGEST_WORDS}] = {{{digest}}};", ""]
    sections = [f"{{0x{address:x}u, {len(data)}u, section_{n}}}" for n, (address, data) in enumerate(contents)]
    lines += _table("tw_section", "sections", sections)
    lines += _table("tw_job", "jobs", [_job(job) for job in jobs])
    for table, names in (("inputs", program.inputs), ("outputs", program.outputs)):
        lines += _table("tw_tensor", table, [_tensor(program, program.tensors[n], base) for n in names])
    lines += [
        f"const tw_program tw_program_{name} = {{",
        f"    {_text(program.name)}, digest, 0x{end:x}u, 0x{base.constant_base:x}u, 0x{base.arena_base:x}u,",
        f"    {len(sections)}u, {len(jobs)}u, {len(program.inputs)}u, {len(program.outputs)}u, sections,",
        f"    {_job(setup) if setup else '{0u, 0u}'}, jobs, inputs, outputs",
        "};", "",
    ]
    return "\n".join(lines)


def _bytes(data: bytes) -> Iterator[str]:
    for at in range(0, len(data), _LINE_BYTES):
        yield "    " + " ".join(f"{byte}," for byte in data[at : at + _LINE_BYTES])


def _table(kind: str, name: str, entries: Sequence[str]) -> list[str]:
    return [f"static const {kind} {name}[{len(entries)}] = {{", *(f"    {entry}," for entry in entries), "};", ""]


def _job(job: Job) -> str:
    return f"{{0x{job.program_address:x}u, {job.program_bytes}u}}"


def _text(text: str) -> str:
    """A string of C: what is no plain character becomes its bytes in octal, which end after three digits."""
    plain = (chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode())
    return f'"{"".join(plain)}"'


def _tensor(program: Program, tensor: TensorInfo, job: Job) -> str:
    config = program.config
    channels, height, width = image_shape(tensor.shape)
    if tensor.channels_last or len(tensor.shape) == 2:
        steps = (1, width * channels, channels)
    else:
        steps = (height * width, width, 1)
    if tensor.rows:
        row = packed_bytes(config, tensor.shape, rows=True) // height
        places = (row, channels, channels, channels)
    else:
        word = config.beats(config.array.rows) * config.bus.data_bytes
        pixel = channel_tiles(config, channels) * word
        places = (width * pixel, pixel, config.array.rows, word)
    assert tensor.arena_offset is not None, "Program checks that accelerator tensors have a place"
    scale, zero_point = tensor.quantization if tensor.is_quantized else (1.0, 0)
    numbers = (job.arena_base + tensor.arena_offset, channels, height, width, *steps, *places)
    return (f"{{{_text(tensor.name)}, {', '.join(f'{n}u' for n in numbers)}, "
            f"{float(scale)!r}f, {zero_point}, 0x{0x80 if tensor.unsigned else 0:02x}u}}")
