# SPDX-License-Identifier: Apache-2.0
"""The accelerator as Verilog."""

from functools import cache

from .config import AcceleratorConfig
from .targets import Target

__all__ = ["TOP", "generate"]

TOP = "accelerator"
"""Name of the top module."""


@cache
def generate(config: AcceleratorConfig, target: Target = Target.GENERIC) -> str:
    """Verilog-2005 text of an accelerator, complete in itself, with the top module ``accelerator``.

    Ports: ``clk``, ``rst`` (synchronous, active high), ``restart``, ``irq``, ``running``, ``failed``, an AXI4 manager
    ``m_axi_*`` and an AXI4-Lite subordinate ``s_axil_*``; see :class:`~.accelerator.Accelerator`. For a target with
    multipliers of its own the text has instances of them; the cycles are the same. The text depends on the
    configuration's numbers, on the target, on this package's version and on those of Amaranth and Yosys alone.
    """
    if not isinstance(config, AcceleratorConfig):
        raise TypeError(f"config must be an AcceleratorConfig, not {config!r}")
    from .accelerator import Accelerator
    from .once import emit_verilog

    header = [
        f"// Tilewright accelerator, configuration {config.digest}.",
        "// Generated; do not edit.",
        "// Many modules in one file cannot all have its name.",
        "/* verilator lint_off DECLFILENAME */",
        "",
        "",
    ]
    return "\n".join(header) + emit_verilog(Accelerator(config), TOP, separator="_", target=target)

