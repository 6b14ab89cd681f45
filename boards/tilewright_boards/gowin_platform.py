# SPDX-License-Identifier: Apache-2.0
"""Gowin FPGAs by nextpnr-himbaechel, which took the place of the nextpnr-gowin that Amaranth's platform runs."""

from amaranth.vendor import GowinPlatform

__all__ = ["HimbaechelPlatform"]


class HimbaechelPlatform(GowinPlatform):
    """Platform of a Gowin FPGA; ``chip_family`` is the database of its die, such as ``"GW2A-18C"``."""

    chip_family: str

    _apicula_required_tools = ("yosys", "nextpnr-himbaechel-gowin", "gowin_pack")
    _apicula_command_templates = (
        GowinPlatform._apicula_command_templates[0],
        r"""
        {{invoke_tool("nextpnr-himbaechel-gowin")}}
            {{quiet("--quiet")}}
            {{get_override("nextpnr_opts")|options}}
            --log {{name}}.tim
            --device {{platform.part}}
            --vopt family={{platform.chip_family}}
            --vopt cst={{name}}.cst
            --json {{name}}.syn.json
            --write {{name}}.pnr.json
        """,
        r"""
        {{invoke_tool("gowin_pack")}}
            -d {{platform.chip_family}}
            -o {{name}}.fs
            {{get_override("gowin_pack_opts")|options}}
            {{name}}.pnr.json
        """,
    )
