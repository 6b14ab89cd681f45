// SPDX-License-Identifier: Apache-2.0
// Models of multiplier blocks for which Yosys' cell libraries have only ports, written from the vendors' documentation:
// Lattice TN1267 "ECP5 and ECP5-5G sysDSP Usage Guide", MULT18X18D; Gowin UG287 "DSP User Guide", MULT9X9 and
// MULT18X18. A mode that is not modelled makes the product x, which Verilator turns into noise.

module MULT18X18D (
  input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
  input B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
  input C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0,
  input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
  input CLK3, CLK2, CLK1, CLK0, CE3, CE2, CE1, CE0, RST3, RST2, RST1, RST0,
  output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18,
  output P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
);
  parameter REG_INPUTA_CLK = "NONE";
  parameter REG_INPUTA_CE = "CE0";
  parameter REG_INPUTA_RST = "RST0";
  parameter REG_INPUTB_CLK = "NONE";
  parameter REG_INPUTB_CE = "CE0";
  parameter REG_INPUTB_RST = "RST0";
  parameter REG_PIPELINE_CLK = "NONE";
  parameter REG_PIPELINE_CE = "CE0";
  parameter REG_PIPELINE_RST = "RST0";
  parameter REG_OUTPUT_CLK = "NONE";
  parameter REG_OUTPUT_CE = "CE0";
  parameter REG_OUTPUT_RST = "RST0";

  wire [17:0] a = {A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0};
  wire [17:0] b = {B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
  // The guide multiplies sign and magnitude of each input, by its SIGNED pin; 18 bits of either kind fit into 19.
  wire [17:0] input_a, input_b;
  wire [35:0] piped;
  wire signed [18:0] wide_a = {SIGNEDA & input_a[17], input_a};
  wire signed [18:0] wide_b = {SIGNEDB & input_b[17], input_b};
  wire signed [37:0] product = wide_a * wide_b;
  wire known = !SOURCEA && !SOURCEB;

  dsp_register #(18, REG_INPUTA_CLK, REG_INPUTA_CE, REG_INPUTA_RST) in_a (
    {CLK3, CLK2, CLK1, CLK0}, {CE3, CE2, CE1, CE0}, {RST3, RST2, RST1, RST0}, a, input_a);
  dsp_register #(18, REG_INPUTB_CLK, REG_INPUTB_CE, REG_INPUTB_RST) in_b (
    {CLK3, CLK2, CLK1, CLK0}, {CE3, CE2, CE1, CE0}, {RST3, RST2, RST1, RST0}, b, input_b);
  dsp_register #(36, REG_PIPELINE_CLK, REG_PIPELINE_CE, REG_PIPELINE_RST) pipe (
    {CLK3, CLK2, CLK1, CLK0}, {CE3, CE2, CE1, CE0}, {RST3, RST2, RST1, RST0},
    known ? product[35:0] : 36'hx, piped);
  dsp_register #(36, REG_OUTPUT_CLK, REG_OUTPUT_CE, REG_OUTPUT_RST) out (
    {CLK3, CLK2, CLK1, CLK0}, {CE3, CE2, CE1, CE0}, {RST3, RST2, RST1, RST0}, piped,
    {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18,
     P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0});
endmodule

module dsp_register #(
  parameter BITS = 1,
  parameter CLOCK = "NONE",
  parameter ENABLE = "CE0",
  parameter RESET = "RST0"
) (
  input [3:0] clk, ce, rst,
  input [BITS-1:0] d,
  output [BITS-1:0] q
);
  reg [BITS-1:0] held = {BITS{1'b0}};
  wire c = CLOCK == "CLK0" ? clk[0] : CLOCK == "CLK1" ? clk[1] : CLOCK == "CLK2" ? clk[2] : clk[3];
  wire e = ENABLE == "CE0" ? ce[0] : ENABLE == "CE1" ? ce[1] : ENABLE == "CE2" ? ce[2] : ce[3];
  wire r = RESET == "RST0" ? rst[0] : RESET == "RST1" ? rst[1] : RESET == "RST2" ? rst[2] : rst[3];
  always @(posedge c) if (r) held <= {BITS{1'b0}}; else if (e) held <= d;
  assign q = CLOCK == "NONE" ? d : held;
endmodule

// MULT9X9 and MULT18X18 are the same at two widths.
module gowin_dsp #(
  parameter BITS = 9,
  parameter AREG = 1'b0,
  parameter BREG = 1'b0,
  parameter OUT_REG = 1'b0,
  parameter PIPE_REG = 1'b0
) (
  input [BITS-1:0] A, SIA, B, SIB,
  input ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET,
  output [2*BITS-1:0] DOUT
);
  reg [BITS-1:0] a = 0, b = 0;
  reg [2*BITS-1:0] pipe = 0, out = 0;
  wire [BITS-1:0] source_a = ASEL ? SIA : A;
  wire [BITS-1:0] source_b = BSEL ? SIB : B;
  wire [BITS-1:0] used_a = AREG ? a : source_a;
  wire [BITS-1:0] used_b = BREG ? b : source_b;
  wire signed [BITS:0] wide_a = {ASIGN & used_a[BITS-1], used_a};
  wire signed [BITS:0] wide_b = {BSIGN & used_b[BITS-1], used_b};
  wire signed [2*BITS+1:0] product = wide_a * wide_b;
  wire [2*BITS-1:0] piped = PIPE_REG ? pipe : product[2*BITS-1:0];
  always @(posedge CLK)
    if (RESET) begin
      a <= 0;
      b <= 0;
      pipe <= 0;
      out <= 0;
    end else if (CE) begin
      a <= source_a;
      b <= source_b;
      pipe <= product[2*BITS-1:0];
      out <= piped;
    end
  assign DOUT = OUT_REG ? out : piped;
endmodule

module MULT9X9 (
  input [8:0] A, SIA, B, SIB,
  input ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET,
  output [17:0] DOUT
);
  parameter AREG = 1'b0;
  parameter BREG = 1'b0;
  parameter OUT_REG = 1'b0;
  parameter PIPE_REG = 1'b0;
  gowin_dsp #(9, AREG, BREG, OUT_REG, PIPE_REG) dsp (A, SIA, B, SIB, ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET, DOUT);
endmodule

module MULT18X18 (
  input [17:0] A, SIA, B, SIB,
  input ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET,
  output [35:0] DOUT
);
  parameter AREG = 1'b0;
  parameter BREG = 1'b0;
  parameter OUT_REG = 1'b0;
  parameter PIPE_REG = 1'b0;
  gowin_dsp #(18, AREG, BREG, OUT_REG, PIPE_REG) dsp (A, SIA, B, SIB, ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET, DOUT);
endmodule
