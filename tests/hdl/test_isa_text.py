# SPDX-License-Identifier: Apache-2.0
"""The instruction set as text."""

from pathlib import Path

from tilewright_hdl.isa import Combine, Engine, Exec, Post, Source
from tilewright_hdl.isa_text import disassemble, markdown


def test_the_page_in_the_documentation_is_current() -> None:
    """If this fails: python -m tilewright_hdl.isa_text > docs/isa.md."""
    page = Path(__file__).parents[2] / "docs" / "isa.md"
    assert page.read_text(encoding="utf-8") == markdown()


def test_disassembly_shows_tokens_and_what_is_not_at_its_default() -> None:
    instruction = Exec(
        input_address=3, bank=1, weight_address=0, output_height=3, output_width=4, input_height=3, input_width=4,
        first_y=-1, wait=1 << Engine.LOAD, signal=1 << Engine.POST | 1 << Engine.LOAD, index=7,
    )
    assert disassemble(instruction) == (
        "     7  exec  wait=load signal=load+post input_address=3 bank=1 weight_address=0 output_height=3 "
        "output_width=4 input_height=3 input_width=4 first_y=-1"
    )


def test_disassembly_names_choices() -> None:
    instruction = Post(
        source=Source.ACTIVATION, combine=Combine.MAX, source_address=0, source_height=2, source_width=2,
        output_height=1, output_width=1, output_address=9, groups=1, window_height=2, window_width=2,
    )
    text = disassemble(instruction)
    assert "source=activation" in text
    assert "combine=max" in text
