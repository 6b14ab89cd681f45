# SPDX-License-Identifier: Apache-2.0
"""Verilog around the SPRAM of the iCE40UP5K: four blocks of 16,384 words of 16 bits, with one port each."""

__all__ = ["SPRAM_BYTES", "SPRAM_DATA_BITS", "spram_text"]

_BLOCKS = 4
_ADDRESS_BITS = 14
_BLOCK_BITS = 16

SPRAM_BYTES = _BLOCKS * (_BLOCK_BITS // 8) << _ADDRESS_BITS
SPRAM_DATA_BITS = (2 * _BLOCK_BITS, 4 * _BLOCK_BITS)
"""Widths that all blocks can make together."""


def spram_text(name: str, data_bits: int) -> str:
    """Verilog of all blocks as the module ``name``, a memory of words of ``data_bits`` with one port.

    Blocks lie side by side until they make a word; what follows is in the next such row of blocks.
    """
    columns = data_bits // _BLOCK_BITS
    rows = _BLOCKS // columns
    lines = [
        f"module {name} (",
        "  input wire clk,",
        "  input wire enable,",
        "  input wire write,",
        f"  input wire [{_ADDRESS_BITS + rows - 2}:0] address,",
        f"  input wire [{data_bits // 8 - 1}:0] mask,",
        f"  input wire [{data_bits - 1}:0] data,",
        f"  output wire [{data_bits - 1}:0] word",
        ");",
    ]
    for row in range(rows):
        lines.append(f"  wire [{data_bits - 1}:0] word_{row};")
        select = "enable" if rows == 1 else f"enable & ({'' if row else '~'}address[{_ADDRESS_BITS}])"
        lines.append(f"  wire select_{row} = {select};")
        for column in range(columns):
            low = column * _BLOCK_BITS
            bits = f"[{low + _BLOCK_BITS - 1}:{low}]"
            high_byte, low_byte = f"mask[{2 * column + 1}]", f"mask[{2 * column}]"
            lines += [
                f"  SB_SPRAM256KA spram_{row}_{column} (",
                f"    .CLOCK(clk), .CHIPSELECT(select_{row}), .WREN(write), .ADDRESS(address[{_ADDRESS_BITS - 1}:0]),",
                # A bit for each four.
                f"    .MASKWREN({{{high_byte}, {high_byte}, {low_byte}, {low_byte}}}), .DATAIN(data{bits}),",
                f"    .DATAOUT(word_{row}{bits}), .STANDBY(1'b0), .SLEEP(1'b0), .POWEROFF(1'b1)",
                "  );",
            ]
    if rows == 1:
        lines.append("  assign word = word_0;")
    else:
        lines += [
            "  reg last;",
            f"  always @(posedge clk) if (enable) last <= address[{_ADDRESS_BITS}];",
            "  assign word = last ? word_1 : word_0;",
        ]
    return "\n".join([*lines, "endmodule", "", ""])
