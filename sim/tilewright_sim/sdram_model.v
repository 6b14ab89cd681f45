// SPDX-License-Identifier: Apache-2.0
// An SDR SDRAM of four banks that takes nothing amiss quietly: see sdram_model.py, which fills in the lines marked @.
//
// Everything happens at the rising edge of clk, at which time has advanced by CLOCK_PS. A word that is read stands on
// dq_o before the edge at which the datasheet has it valid, and noise at all other times.
module sdram_model #(
//@PARAMETERS
) (
  input                        power,  // 0: no supply; everything is forgotten.
  input                        clk,
  input                        cke, cs_n, ras_n, cas_n, we_n,
  input      [1:0]             ba,
  input      [ROW_BITS-1:0]    a,
  input      [DATA_BITS/8-1:0] dqm,
  input      [DATA_BITS-1:0]   dq_i,
  input                        dq_oe_i,
  output reg [DATA_BITS-1:0]   dq_o,
  output reg                   dq_oe_o,
  output reg [7:0]             error,     // The first violation, 0 if there was none.
  output reg [63:0]            error_ps,  // When, since power-up.
  output reg [1:0]             error_bank,
  output reg [63:0]            broken     // Bit n: rule n was violated at least once.
);
  localparam BYTES = DATA_BITS / 8;
  localparam WORD_BITS = 2 + ROW_BITS + COLUMN_BITS;
//@RULES

  // Words that were written: data, and above it which of the bytes were.
  reg [DATA_BITS+BYTES-1:0] words [reg [WORD_BITS-1:0]];

  reg [63:0] now;
  reg [3:0] opened;
  reg [ROW_BITS-1:0] row [0:3];
  // Times of the last command of a kind; "long ago" is a time before power-up, so times begin at NEVER.
  localparam [63:0] NEVER = 64'h1_0000_0000_0000;
  reg [63:0] activated [0:3], precharged [0:3], last_written [0:3];
  reg [63:0] refreshed, loaded, next_refresh, debt;
  reg all_precharged, mode_loaded, ready;
  reg [3:0] init_refreshes;

  reg [1:0] mode_length;
  reg mode_cas3;
  wire [3:0] length = 4'd1 << mode_length;

  // The burst under way: words that are left, after the one that came with the command.
  reg [3:0] read_left, write_left, busy_left;
  reg [1:0] burst_bank;
  reg [COLUMN_BITS-1:0] burst_column;
  // One stage more for CAS latency 3.
  reg staged;
  reg [DATA_BITS-1:0] staged_word;
  reg drove;
  reg [BYTES-1:0] masked;
  reg [31:0] noise;

  function [WORD_BITS-1:0] place(input [1:0] bank, input [COLUMN_BITS-1:0] column);
    place = {bank, row[bank], column};
  endfunction

  function [COLUMN_BITS-1:0] after(input [COLUMN_BITS-1:0] column);
    // Bursts wrap within their length.
    after = (column & ~({{COLUMN_BITS-4{1'b0}}, length} - 1'b1))
          | ((column + 1'b1) & ({{COLUMN_BITS-4{1'b0}}, length} - 1'b1));
  endfunction

  task fail(input [7:0] code, input [1:0] bank);
    broken[code[5:0]] = 1'b1;
    if (error == 0) begin
      error = code;
      error_ps = now - NEVER;
      error_bank = bank;
      $display("sdram_model: %0d ps after power-up, bank %0d: %0s", now - NEVER, bank, sentence(code));
    end
  endtask

  task check(input correct, input [7:0] code, input [1:0] bank);
    if (!correct) fail(code, bank);
  endtask

  // The word at a place, noise where it was never written.
  reg [DATA_BITS+BYTES-1:0] word;
  task fetch(input [WORD_BITS-1:0] where);
    word = words.exists(where) ? words[where] : {{BYTES{1'b0}}, noise[DATA_BITS-1:0]};
  endtask

  integer n;
  task store(input [COLUMN_BITS-1:0] column);
    check(dq_oe_i, NO_DATA, burst_bank);
    fetch(place(burst_bank, column));
    for (n = 0; n < BYTES; n = n + 1)
      if (!dqm[n]) begin
        word[8*n +: 8] = dq_i[8*n +: 8];
        word[DATA_BITS + n] = 1'b1;
      end
    words[place(burst_bank, column)] = word;
    last_written[burst_bank] = now;
  endtask

  task settled(input [1:0] bank);
    // Times that every command but NOP keeps.
    check(now - NEVER >= POWER_UP, TOO_EARLY, bank);
    check(now - refreshed >= RFC, T_RFC, bank);
    check(now - loaded >= MRD, T_MRD, bank);
  endtask

  task close(input [1:0] bank);
    if (opened[bank]) begin
      check(now - activated[bank] >= RAS, T_RAS, bank);
      check(now - activated[bank] <= RAS_MAX, T_RAS_MAX, bank);
      check(now - last_written[bank] >= WR, T_WR, bank);
      check(!(busy_left != 0 && burst_bank == bank), TRUNCATED, bank);
    end
    opened[bank] = 1'b0;
    precharged[bank] = now;
  endtask

  integer b;
  task forget;
    begin
      words.delete();
      now = NEVER;
      opened = 0;
      for (b = 0; b < 4; b = b + 1) begin
        activated[b] = 0;
        precharged[b] = 0;
        last_written[b] = 0;
      end
      {refreshed, loaded, debt} = 0;
      {all_precharged, mode_loaded, ready, init_refreshes, mode_length, mode_cas3} = 0;
      {read_left, write_left, busy_left, staged, drove} = 0;
      next_refresh = 0;
      dq_oe_o = 0;
      error = 0;
      broken = 0;
      noise = 32'h2545_f491;
    end
  endtask

  initial forget;

  reg driven, out;
  reg [DATA_BITS-1:0] out_word;
  // Blocking assignments throughout: one process holds all of the state, in the order of its sentences.
  /* verilator lint_off BLKSEQ */
  always @(posedge clk) if (!power) forget; else begin
    now = now + CLOCK_PS;
    noise = {noise[30:0], noise[31] ^ noise[21] ^ noise[1] ^ noise[0]};
    driven = dq_oe_o;  // What stood on the pins up to this edge.
    check(!(driven && dq_oe_i), CONTENTION, burst_bank);
    check(!(drove && dq_oe_i), TURNAROUND, burst_bank);
    check(cke || now - NEVER < POWER_UP, CKE_LOW, 0);

    // Data of the burst under way.
    out = 1'b0;
    out_word = {DATA_BITS{1'b0}};
    if (busy_left != 0) busy_left = busy_left - 1'b1;
    if (read_left != 0) begin
      out = 1'b1;
      fetch(place(burst_bank, burst_column));
      out_word = word[DATA_BITS-1:0];
      if (CHECK_UNWRITTEN) check(&word[DATA_BITS +: BYTES], UNWRITTEN, burst_bank);
      burst_column = after(burst_column);
      read_left = read_left - 1'b1;
    end
    if (write_left != 0) begin
      store(burst_column);
      burst_column = after(burst_column);
      write_left = write_left - 1'b1;
    end else if (dq_oe_i && ({cs_n, ras_n, cas_n, we_n} != 4'b0100)) fail(STRAY, burst_bank);

    if (cke && !cs_n) case ({ras_n, cas_n, we_n})
      3'b111: ;
      3'b011: begin  // ACTIVE
        settled(ba);
        check(ready, NOT_READY, ba);
        check(!opened[ba], ALREADY_OPEN, ba);
        check(now - precharged[ba] >= RP, T_RP, ba);
        check(now - activated[ba] >= RC, T_RC, ba);
        for (b = 0; b < 4; b = b + 1) check(now - activated[b] >= RRD, T_RRD, ba);
        opened[ba] = 1'b1;
        row[ba] = a;
        activated[ba] = now;
      end
      3'b101, 3'b100: begin  // READ, WRITE
        settled(ba);
        check(opened[ba], CLOSED, ba);
        check(now - activated[ba] >= RCD, T_RCD, ba);
        check(!opened[ba] || now - activated[ba] <= RAS_MAX, T_RAS_MAX, ba);
        check(!a[10], AUTO_PRECHARGE, ba);
        check((a >> COLUMN_BITS) == 0 || a[10], COLUMN, ba);
        check(busy_left == 0, INTERRUPTED, ba);
        burst_bank = ba;
        burst_column = a[COLUMN_BITS-1:0];
        busy_left = length;
        if (we_n) read_left = length;
        else begin
          // Words of an earlier READ that are still on their way, or stood on the pins just now.
          check(!(read_left != 0 || staged || out || driven || drove), TURNAROUND, ba);
          store(burst_column);
          burst_column = after(burst_column);
          write_left = length - 1'b1;
        end
      end
      3'b010: begin  // PRECHARGE
        settled(ba);
        if (a[10]) begin
          for (b = 0; b < 4; b = b + 1) close(b[1:0]);
          all_precharged = 1'b1;
        end else close(ba);
      end
      3'b001: begin  // REFRESH
        settled(0);
        check(all_precharged, NOT_PRECHARGED, 0);
        check(opened == 0, ROW_OPEN, 0);
        for (b = 0; b < 4; b = b + 1) check(now - precharged[b] >= RP, T_RP, b[1:0]);
        refreshed = now;
        if (init_refreshes != 8) init_refreshes = init_refreshes + 1'b1;
        if (debt != 0) debt = debt - 1'b1;
      end
      3'b000: begin  // LOAD MODE
        settled(0);
        check(all_precharged, NOT_PRECHARGED, 0);
        check(opened == 0, ROW_OPEN, 0);
        for (b = 0; b < 4; b = b + 1) check(now - precharged[b] >= RP, T_RP, b[1:0]);
        check(ba == 0 && a[2:0] < 4 && a[6:5] == 2'b01 && !a[3] && (a >> 7) == 0, MODE_VALUE, 0);
        check(CLOCK_PS >= (a[4] ? CAS3_PS : CAS2_PS), MODE_CAS, 0);
        mode_length = a[1:0];
        mode_cas3 = a[4];
        mode_loaded = 1'b1;
        loaded = now;
      end
      3'b110: fail(BURST_STOP, ba);
    endcase
    if (!ready && mode_loaded && init_refreshes == 8) begin
      ready = 1'b1;
      next_refresh = now + REFRESH;
    end

    if (ready && now >= next_refresh) begin
      next_refresh = next_refresh + REFRESH;
      debt = debt + 1'b1;
      check(debt <= POSTPONED, MISSED_REFRESH, 0);
    end

    drove = driven;
    dq_oe_o <= mode_cas3 ? staged : out;
    dq_o <= noise[DATA_BITS-1:0];
    for (b = 0; b < BYTES; b = b + 1)
      // DQM takes two cycles to mask what is read.
      if ((mode_cas3 ? staged : out) && !masked[b])
        dq_o[8*b +: 8] <= mode_cas3 ? staged_word[8*b +: 8] : out_word[8*b +: 8];
    masked = dqm;
    staged = out;
    staged_word = out_word;
  end
  /* verilator lint_on BLKSEQ */
endmodule
