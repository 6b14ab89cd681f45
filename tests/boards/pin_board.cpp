// SPDX-License-Identifier: Apache-2.0
// A board from its pins on: a host's UART on its line, its button, its clock, and what its memory complains about.
//
// Python puts host_uart.cpp in front.

#include <cstdint>
#include <memory>

#include "Vtop.h"
#include "verilated.h"

namespace {

struct Board {
    explicit Board(double bit) : host{bit} { press(8); }

    void press(uint64_t cycles) {
        top->button = 1;
        for (uint64_t n = 0; n < cycles; n++) tick();
        top->button = 0;
    }

    void tick() {
        top->rx = host.drive();
        top->clk = 0;
        top->eval();
        host.listen(top->tx);
        top->clk = 1;
        top->eval();
        cycle++;
    }

    HostUart host;
    std::unique_ptr<VerilatedContext> context = std::make_unique<VerilatedContext>();
    std::unique_ptr<Vtop> top = std::make_unique<Vtop>(context.get());
    uint64_t cycle = 0;
};

}  // namespace

extern "C" {

Board* board_open(double bit) { return new Board(bit); }

void board_close(Board* board) { delete board; }

void board_press(Board* board, uint64_t cycles) { board->press(cycles); }

void board_put(Board* board, const uint8_t* data, uint64_t length) { board->host.put(data, length); }

// Runs, and takes up to `most` bytes of what the board has sent; returns how many.
uint64_t board_run(Board* board, uint64_t cycles, uint8_t* data, uint64_t most) {
    for (uint64_t n = 0; n < cycles; n++) board->tick();
    return board->host.take(data, most);
}

uint64_t board_cycle(Board* board) { return board->cycle; }

uint32_t board_leds(Board* board) { return board->top->leds; }

// The first rule of the memory that was broken, 0 if none was; and when, and in which bank.
uint32_t board_error(Board* board, uint64_t* when, uint32_t* bank) {
    *when = board->top->error_ps;
    *bank = board->top->error_bank;
    return board->top->error;
}
}
