// SPDX-License-Identifier: Apache-2.0
// A board around the gateware: main memory on its AXI port, a host's UART on its line, and the clock.
//
// Python puts BUS_BYTES in front. Memory answers `latency` cycles after an address, a beat a cycle; with `stall`, it is
// ready in some cycles only. Addresses outside of it are answered with DECERR.

#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <random>

#include "Vtop.h"
#include "verilated.h"

namespace {

struct Burst {
    uint64_t address, beats, ready;
};

struct Board {
    Board(uint8_t* memory, uint64_t bytes, uint64_t latency, double stall, double bit)
        : memory(memory), bytes(bytes), latency(latency), stall(stall), bit(bit) {
        top->rx = 1;
        reset();
    }

    void reset() {
        top->rst = 1;
        for (int n = 0; n < 4; n++) tick();
        top->rst = 0;
    }

    void clear() {
        reads.clear();
        writes.clear();
        answers.clear();
        read_sent = written = 0;
        offering = false;
    }

    // The host's transmitter: start, eight bits, stop; each of `bit` cycles, which need not be whole.
    void drive() {
        if (!sending && !to_board.empty()) {
            sending = true;
            sent = 0;
        }
        if (!sending) return;
        const int place = int(sent / bit);
        top->rx = place == 0 ? 0 : place > 8 ? 1 : to_board.front() >> (place - 1) & 1;
        if (++sent >= 10 * bit) {
            sending = false;
            to_board.pop_front();
        }
    }

    // The host's receiver, which samples in the middle of each bit.
    void listen() {
        if (receiving < 0) {
            if (top->tx) return;
            receiving = 0;
            taken = 0;
            byte = 0;
        }
        const bool sample = receiving >= (taken + 0.5) * bit;
        receiving++;
        if (!sample) return;
        if (taken >= 1 && taken <= 8) byte |= top->tx << (taken - 1);
        if (taken == 9) {
            if (top->tx) to_host.push_back(byte);
            receiving = -1;
        }
        taken++;
    }

    bool ready() { return stall == 0 || chance(random) >= stall; }

    void tick() {
        const bool offer = !reads.empty() && reads.front().ready <= cycle && (offering || ready());
        top->axi_rvalid = offering = offer;
        if (offer) {
            const uint64_t address = reads.front().address + read_sent * BUS_BYTES;
            const bool inside = address + BUS_BYTES <= bytes;
            if (inside) std::memcpy(&top->axi_rdata, memory + address, BUS_BYTES);
            top->axi_rresp = inside ? 0 : 3;
            top->axi_rlast = read_sent + 1 == reads.front().beats;
        }
        top->axi_bvalid = !answers.empty() && answers.front().ready <= cycle;
        top->axi_bresp = answers.empty() ? 0 : answers.front().beats;
        top->axi_arready = ready();
        top->axi_awready = ready();
        top->axi_wready = !writes.empty() && ready();
        drive();
        top->clk = 0;
        top->eval();
        listen();
        if (top->rst) {
            clear();
        } else {
            transfer();
        }
        top->clk = 1;
        top->eval();
        cycle++;
    }

    void transfer() {
        if (top->axi_rvalid && top->axi_rready) {
            offering = false;
            if (++read_sent == reads.front().beats) {
                reads.pop_front();
                read_sent = 0;
            }
        }
        if (top->axi_arvalid && top->axi_arready) {
            reads.push_back({top->axi_araddr, uint64_t(top->axi_arlen) + 1, cycle + latency});
        }
        if (top->axi_bvalid && top->axi_bready) answers.pop_front();
        if (top->axi_wvalid && top->axi_wready) {
            const uint64_t address = writes.front().address + written * BUS_BYTES;
            const bool inside = address + BUS_BYTES <= bytes;
            for (unsigned n = 0; inside && n < BUS_BYTES; n++) {
                if (top->axi_wstrb >> n & 1) memory[address + n] = reinterpret_cast<uint8_t*>(&top->axi_wdata)[n];
            }
            if (++written == writes.front().beats) {
                writes.pop_front();
                written = 0;
                answers.push_back({0, inside ? uint64_t(0) : 3, cycle + latency});
            }
        }
        if (top->axi_awvalid && top->axi_awready) {
            writes.push_back({top->axi_awaddr, uint64_t(top->axi_awlen) + 1, cycle});
        }
    }

    uint8_t* memory;
    uint64_t bytes, latency;
    double stall, bit;
    std::unique_ptr<VerilatedContext> context = std::make_unique<VerilatedContext>();
    std::unique_ptr<Vtop> top = std::make_unique<Vtop>(context.get());
    uint64_t cycle = 0;
    std::deque<Burst> reads, writes, answers;
    uint64_t read_sent = 0, written = 0;
    std::deque<uint8_t> to_board, to_host;
    bool offering = false, sending = false;
    double sent = 0, receiving = -1;
    int taken = 0;
    uint8_t byte = 0;
    std::mt19937 random{1};
    std::uniform_real_distribution<double> chance;
};

}  // namespace

extern "C" {

Board* board_open(uint8_t* memory, uint64_t bytes, uint64_t latency, double stall, double bit) {
    return new Board(memory, bytes, latency, stall, bit);
}

void board_close(Board* board) { delete board; }

void board_reset(Board* board) { board->reset(); }

void board_put(Board* board, const uint8_t* data, uint64_t length) {
    board->to_board.insert(board->to_board.end(), data, data + length);
}

// Runs, and takes up to `most` bytes of what the board has sent; returns how many.
uint64_t board_run(Board* board, uint64_t cycles, uint8_t* data, uint64_t most) {
    for (uint64_t n = 0; n < cycles; n++) board->tick();
    uint64_t length = 0;
    while (length < most && !board->to_host.empty()) {
        data[length++] = board->to_host.front();
        board->to_host.pop_front();
    }
    return length;
}

uint64_t board_waiting(Board* board) { return board->to_board.size(); }

uint64_t board_cycle(Board* board) { return board->cycle; }
}
