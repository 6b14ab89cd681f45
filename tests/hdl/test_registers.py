# SPDX-License-Identifier: Apache-2.0
"""The register map: that it is one."""

from tilewright_hdl.isa import ENGINES, Instruction, field_specs
from tilewright_hdl.registers import (
    ADDRESS_BITS,
    COUNTER_BITS,
    DIGEST_WORDS,
    IDENTITY,
    PROFILE_FIELDS,
    REGISTER_BITS,
    REGISTERS,
    STATUS_BUSY,
    STATUS_DONE,
    STATUS_ERROR,
    STATUS_ERROR_CODE_OFFSET,
    TAG_ENGINE_OFFSET,
    ErrorCode,
    counter_name,
)


def test_addresses_are_words_of_the_port_and_none_twice() -> None:
    addresses = [register.address for register in REGISTERS.values()]
    assert len(set(addresses)) == len(addresses)
    assert all(a % (REGISTER_BITS // 8) == 0 and 0 <= a < 1 << ADDRESS_BITS for a in addresses)
    assert all(name == register.name for name, register in REGISTERS.items())
    assert {register.access for register in REGISTERS.values()} == {"r", "w", "rw"}


def test_identity_reads_as_text() -> None:
    assert IDENTITY.to_bytes(4, "big") == b"TLWR"
    assert f"{IDENTITY:#x}" in REGISTERS["IDENTITY"].meaning


def test_every_engine_has_its_counters() -> None:
    for engine in ENGINES:
        for what in ("BUSY", "WAIT", "STALL"):
            assert counter_name(engine, what) in REGISTERS
    digest = [name for name in REGISTERS if name.startswith("CONFIG_DIGEST_")]
    assert digest == [f"CONFIG_DIGEST_{i}" for i in range(DIGEST_WORDS)]


def test_codes_fit_their_fields() -> None:
    assert len({STATUS_BUSY, STATUS_DONE, STATUS_ERROR}) == 3
    assert max(STATUS_BUSY, STATUS_DONE, STATUS_ERROR) < 1 << STATUS_ERROR_CODE_OFFSET
    assert list(ErrorCode) == list(range(len(ErrorCode)))
    index_bits = next(s.bits for s in field_specs(Instruction) if s.name == "index")
    assert index_bits <= TAG_ENGINE_OFFSET
    assert TAG_ENGINE_OFFSET + max(ENGINES).bit_length() <= COUNTER_BITS
    assert PROFILE_FIELDS[0] == "TAG"
