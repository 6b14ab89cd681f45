// SPDX-License-Identifier: Apache-2.0
// A host's UART, one call a clock cycle of the board.

#include <cstdint>
#include <deque>

namespace {

// Bits take `bit` cycles, which need not be whole.
struct HostUart {
    double bit;

    // The level of the line to the board: start, eight bits, stop.
    int drive() {
        if (!sending && !to_board.empty()) {
            sending = true;
            sent = 0;
        }
        if (!sending) return 1;
        const int place = int(sent / bit);
        const int level = place == 0 ? 0 : place > 8 ? 1 : to_board.front() >> (place - 1) & 1;
        if (++sent >= 10 * bit) {
            sending = false;
            to_board.pop_front();
        }
        return level;
    }

    // Takes the level of the line from the board; samples in the middle of each bit.
    void listen(int level) {
        if (receiving < 0) {
            if (level) return;
            receiving = 0;
            taken = 0;
            byte = 0;
        }
        const bool sample = receiving >= (taken + 0.5) * bit;
        receiving++;
        if (!sample) return;
        if (taken >= 1 && taken <= 8) byte |= level << (taken - 1);
        if (taken == 9) {
            if (level) to_host.push_back(byte);
            receiving = -1;
        }
        taken++;
    }

    void put(const uint8_t* data, uint64_t length) { to_board.insert(to_board.end(), data, data + length); }

    // Up to `most` bytes of what the board has sent; how many.
    uint64_t take(uint8_t* data, uint64_t most) {
        uint64_t length = 0;
        while (length < most && !to_host.empty()) {
            data[length++] = to_host.front();
            to_host.pop_front();
        }
        return length;
    }

    uint64_t waiting() const { return to_board.size(); }

    std::deque<uint8_t> to_board, to_host;
    bool sending = false;
    double sent = 0, receiving = -1;
    int taken = 0;
    uint8_t byte = 0;
};

}  // namespace
