# SPDX-License-Identifier: Apache-2.0
"""Verilog around the multipliers of FPGAs: signed factors in, their product out of registers of the block.

In a processing element, registers in front of a multiplier are used where they can hold the weights: that takes one
enable for all weights of the block that is not the activations', so iCE40 and pairs. Gowin's block has one enable for
everything; what enables neighbours on an ECP5 share is up to placement, which nextpnr does not look into. So there the
blocks with registers on both sides load in every cycle.
"""

__all__ = ["ECP5", "ECP5_WHOLE", "GOWIN", "GOWIN_PIPELINED", "GOWIN_WHOLE", "ICE40", "ICE40_CHAIN", "ICE40_PAIR"]


def _bits(pin: str, name: str, count: int) -> str:
    return ", ".join(f".{pin}{bit}({name}[{bit}])" for bit in range(count))


def _ties(pin: str, count: int) -> str:
    return ", ".join(f".{pin}{bit}(1'b0)" for bit in range(count))


def _ecp5(name: str, *registers: str) -> str:
    settings = ", ".join(f'.REG_{register}_CLK("CLK0"), .REG_{register}_CE("CE0"), .REG_{register}_RST("RST0")'
                         for register in registers)
    return f"""\
module {name} (
  input wire clk,
  input wire [17:0] a,
  input wire [17:0] b,
  output wire [35:0] p
);
  MULT18X18D #({settings}) dsp (
    .CLK0(clk), .CE0(1'b1), .RST0(1'b0),
    .SIGNEDA(1'b1), .SIGNEDB(1'b1), .SOURCEA(1'b0), .SOURCEB(1'b0),
    {_bits("A", "a", 18)},
    {_bits("B", "b", 18)},
    {_ties("C", 18)},
    {_bits("P", "p", 36)}
  );
endmodule

"""


ECP5 = _ecp5("ecp5_multiplier", "OUTPUT")
"""``ecp5_multiplier``: 18 x 18 bits."""

ECP5_WHOLE = _ecp5("ecp5_whole_multiplier", "INPUTA", "INPUTB", "OUTPUT")
"""``ecp5_whole_multiplier``: 18 x 18 bits, with registers in front as well."""

_ICE40_IDLE = """\
.AHOLD(1'b0), .CHOLD(1'b0), .DHOLD(1'b0), .OHOLDTOP(1'b0), .OHOLDBOT(1'b0),
    .IRSTTOP(1'b0), .IRSTBOT(1'b0), .ORSTTOP(1'b0), .ORSTBOT(1'b0), .OLOADTOP(1'b0), .OLOADBOT(1'b0),
    .ADDSUBTOP(1'b0), .ADDSUBBOT(1'b0), .CI(1'b0), .ACCUMCI(1'b0), .SIGNEXTIN(1'b0)"""

ICE40 = f"""\
module ice40_multipliers (
  input wire clk,
  input wire [15:0] a,
  input wire [15:0] b,
  output wire [31:0] p
);
  SB_MAC16 #(
    .MODE_8x8(1'b1), .A_SIGNED(1'b1), .B_SIGNED(1'b1),
    .TOP_8x8_MULT_REG(1'b1), .BOT_8x8_MULT_REG(1'b1), .TOPOUTPUT_SELECT(2'b10), .BOTOUTPUT_SELECT(2'b10)
  ) dsp (
    .CLK(clk), .CE(1'b1), .A(a), .B(b), .C(16'h0), .D(16'h0), .O(p), .BHOLD(1'b0),
    {_ICE40_IDLE}
  );
endmodule

"""
"""``ice40_multipliers``: the low and the high half of each word make a product of their own."""


def _ice40_sums(name: str, inputs: str, c: str, d: str) -> str:
    return f"""\
module {name} (
  input wire clk,
  input wire hold,
  input wire [15:0] a,
  input wire [15:0] b,
{inputs}  output wire [31:0] p
);
  SB_MAC16 #(
    .MODE_8x8(1'b1), .A_SIGNED(1'b1), .B_SIGNED(1'b1), .A_REG(1'b1), .B_REG(1'b1),
    .TOP_8x8_MULT_REG(1'b1), .BOT_8x8_MULT_REG(1'b1), .TOPOUTPUT_SELECT(2'b01), .BOTOUTPUT_SELECT(2'b01),
    .TOPADDSUB_LOWERINPUT(2'b01), .BOTADDSUB_LOWERINPUT(2'b01),
    .TOPADDSUB_UPPERINPUT(1'b1), .BOTADDSUB_UPPERINPUT(1'b1)
  ) dsp (
    .CLK(clk), .CE(1'b1), .A(a), .B(b), .C({c}), .D({d}), .O(p), .BHOLD(hold),
    {_ICE40_IDLE}
  );
endmodule

"""


ICE40_PAIR = _ice40_sums("ice40_pair", "", "16'h0", "16'h0")
"""``ice40_pair``: the same, with registers for the factors, of which ``b`` can hold, and one more behind."""

ICE40_CHAIN = _ice40_sums("ice40_chain", "  input wire [31:0] s,\n", "s[31:16]", "s[15:0]")
"""``ice40_chain``: the same, with each half of ``s`` added in front of the last register."""


def _gowin(name: str, bits: int, *registers: str) -> str:
    settings = ", ".join(f".{register}(1'b1)" for register in registers)
    return f"""\
module {name} (
  input wire clk,
  input wire [{bits - 1}:0] a,
  input wire [{bits - 1}:0] b,
  output wire [{2 * bits - 1}:0] p
);
  MULT{bits}X{bits} #({settings}) dsp (
    .CLK(clk), .CE(1'b1), .RESET(1'b0), .A(a), .B(b), .DOUT(p),
    .ASIGN(1'b1), .BSIGN(1'b1), .ASEL(1'b0), .BSEL(1'b0), .SIA({bits}'h0), .SIB({bits}'h0)
  );
endmodule

"""


GOWIN = _gowin("gowin_multiplier", 9, "OUT_REG")
"""``gowin_multiplier``: 9 x 9 bits."""

GOWIN_PIPELINED = _gowin("gowin_pipelined_multiplier", 9, "PIPE_REG", "OUT_REG")
"""``gowin_pipelined_multiplier``: the same, with a register within."""

GOWIN_WHOLE = _gowin("gowin_whole_multiplier", 18, "AREG", "BREG", "OUT_REG")
"""``gowin_whole_multiplier``: 18 x 18 bits, with registers in front as well."""
