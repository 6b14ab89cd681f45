# SPDX-License-Identifier: Apache-2.0
"""The instruction set: encoding, decoding, text, and each error message."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright_hdl.config import PRESETS
from tilewright_hdl.errors import IsaError
from tilewright_hdl.isa import (
    ENGINES,
    INSTRUCTIONS,
    WORD_BITS,
    Combine,
    Exec,
    Instruction,
    Load,
    Memory,
    Post,
    Segment,
    Source,
    Store,
    decode_program,
    encode_program,
    field_specs,
)
from tilewright_hdl.isa_layout import encoded_layout, instruction_layout

from .random_instructions import encode_raw, plain, representable, values

FULL = PRESETS["edge16"]
LOAD = Load(dram_address=64, segment=Segment.ARENA, address=3, words=5)
EXEC = Exec(input_address=0, bank=1, weight_address=0, output_height=2, output_width=3, input_height=4, input_width=5,
            column_tiles=2, kernel_height=3, channel_tiles=7)
POST = Post(source=Source.ACTIVATION, source_address=0, source_height=4, source_width=4, output_height=2,
            output_width=2, output_address=9, groups=3, combine=Combine.MAX, window_height=2, window_width=5)
STORE = Store(dram_address=0, segment=Segment.ARENA, address=0, words=1)
SAMPLES: tuple[Instruction, ...] = (LOAD, EXEC, POST, STORE)


@pytest.mark.parametrize("cls", INSTRUCTIONS)
def test_round_trip(cls: type[Instruction]) -> None:
    @given(values(cls))
    def check(fields: dict[str, int]) -> None:
        instruction = cls(**fields)
        data = instruction.encode()
        assert len(data) == cls.BYTES
        assert cls.decode(data) == instruction

    check()


@pytest.mark.parametrize("cls", INSTRUCTIONS)
def test_fields_do_not_overlap_or_straddle(cls: type[Instruction]) -> None:
    taken: set[int] = set()
    for spec in field_specs(cls):
        assert 0 <= spec.offset <= spec.offset + spec.bits <= WORD_BITS
        bits = set(range(spec.word * WORD_BITS + spec.offset, spec.word * WORD_BITS + spec.offset + spec.bits))
        assert not bits & taken
        taken |= bits
        least, most = representable(spec)
        assert least <= spec.low <= spec.high <= most
    assert max(taken) < cls.BYTES * 8
    header = [(s.name, s.word, s.offset) for s in field_specs(cls)[:4]]
    assert header == [("opcode", 0, 0), ("wait", 0, 4), ("signal", 0, 8), ("index", 0, 12)], "FETCH relies on it"


def test_instructions_are_in_the_order_of_engines() -> None:
    assert [cls.ENGINE for cls in INSTRUCTIONS] == list(ENGINES)
    assert len({cls.OPCODE for cls in INSTRUCTIONS}) == len(INSTRUCTIONS)
    assert all(cls.BYTES % 32 == 0 for cls in INSTRUCTIONS), "whole beats of the widest bus"


@pytest.mark.parametrize("instruction", SAMPLES, ids=lambda i: i.MNEMONIC)
def test_hardware_layouts_read_the_same_fields(instruction: Instruction) -> None:
    cls = type(instruction)
    encoded = encoded_layout(cls).from_bits(int.from_bytes(instruction.encode(), "little"))
    assert {s.name: encoded[s.name] for s in field_specs(cls)} == plain(instruction)
    layout = instruction_layout(FULL, cls)
    decoded = layout.const(plain(instruction))
    found = {name: decoded[name] for name in layout.members} | {k: v.value for k, v in layout.fixed.items()}
    assert found == plain(instruction)


@pytest.mark.parametrize("instruction", SAMPLES, ids=lambda i: i.MNEMONIC)
def test_each_field_out_of_range_is_refused(instruction: Instruction) -> None:
    for spec in field_specs(type(instruction)):
        if spec.name == "opcode":
            continue
        for value in (spec.low - 1, spec.high + 1, 1.0, True, "1"):
            with pytest.raises(IsaError) as error:
                dataclasses.replace(instruction, **{spec.name: value})
            assert str(error.value) == (f"{instruction.MNEMONIC}.{spec.name} ({spec.meaning}) must be {spec.low} to "
                                        f"{spec.high}, not {value!r}")


@pytest.mark.parametrize("instruction", SAMPLES, ids=lambda i: i.MNEMONIC)
def test_decode_refuses_each_illegal_value(instruction: Instruction) -> None:
    cls = type(instruction)
    for spec in field_specs(cls):
        least, most = representable(spec)
        for value in (v for v in (spec.low - 1, spec.high + 1) if least <= v <= most):
            with pytest.raises(IsaError, match=rf"{cls.MNEMONIC}.{spec.name} "):
                cls.decode(encode_raw(instruction, {spec.name: value}))


@pytest.mark.parametrize("instruction", SAMPLES, ids=lambda i: i.MNEMONIC)
def test_decode_refuses_bits_outside_of_fields(instruction: Instruction) -> None:
    cls = type(instruction)
    fields = {bit for s in field_specs(cls) for bit in range(s.word * 32 + s.offset, s.word * 32 + s.offset + s.bits)}
    for bit in set(range(cls.BYTES * 8)) - fields:
        data = bytearray(instruction.encode())
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(IsaError, match=f"{cls.MNEMONIC} must have zeros outside its fields, was {data.hex()}"):
            cls.decode(bytes(data))


@pytest.mark.parametrize("what", ["wait", "signal"])
def test_own_engine_is_refused(what: str) -> None:
    with pytest.raises(IsaError) as error:
        dataclasses.replace(EXEC, **{what: 0b1010})
    assert str(error.value) == f"exec.{what} must not name the instruction's own engine (bit 1), was 0b1010"


def test_wrong_opcode_is_refused() -> None:
    with pytest.raises(IsaError, match=r"^exec.opcode must be 2, not 3$"):
        dataclasses.replace(EXEC, opcode=3)


def test_store_of_another_memory_is_refused() -> None:
    with pytest.raises(IsaError) as error:
        dataclasses.replace(STORE, memory=Memory.WEIGHT)
    assert str(error.value) == "store.memory must be <Memory.ACTIVATION: 0>, not <Memory.WEIGHT: 1>"


@pytest.mark.parametrize("combine", [c for c in Combine if c not in (Combine.MAX, Combine.AVERAGE)])
def test_window_without_a_use_is_refused(combine: Combine) -> None:
    with pytest.raises(IsaError) as error:
        dataclasses.replace(POST, combine=combine)
    assert str(error.value) == f"post with combine={combine.name} must have a 1 x 1 window, not 2 x 5"


def test_derived_counts() -> None:
    assert (EXEC.passes, EXEC.vectors) == (2 * 3 * 1 * 7, 6)
    assert POST.steps == 3 * 2 * 2 * 2 * 5


def test_program_round_trip() -> None:
    data = encode_program([*SAMPLES, *SAMPLES])
    back = list(decode_program(data))
    assert [i.index for i in back] == list(range(8))
    assert [dataclasses.replace(i, index=0) for i in back] == [*SAMPLES, *SAMPLES]
    assert list(decode_program(b"")) == []


@pytest.mark.parametrize(("data", "message"), [
    (encode_program([LOAD]) + b"\x00" * 32, "Instruction 1 at byte 0x20: opcode must be one of 1 (load), 2 (exec), "
                                            "3 (post), 4 (store), not 0"),
    (encode_program([LOAD, EXEC])[:-1], "Instruction 1 at byte 0x20: exec must have 64 bytes, only 63 are left"),
    (encode_program([LOAD]) + LOAD.encode(), "Instruction 1 at byte 0x20: index must be 1, not 0"),
    (encode_raw(LOAD, {"words": 0}),
     "Instruction 0 at byte 0x0: load.words (words in a row) must be 1 to 65535, not 0"),
])
def test_damaged_program_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(IsaError) as error:
        list(decode_program(data))
    assert str(error.value) == message


@given(st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    try:
        instructions = list(decode_program(data))
    except IsaError:
        return
    assert encode_program(instructions) == data
