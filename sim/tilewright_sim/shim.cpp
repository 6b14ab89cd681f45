// SPDX-License-Identifier: Apache-2.0
// The accelerator's surroundings: main memory on its AXI port, a host on its register port, and the clock.
//
// Python puts the constants of a configuration in front of this file: BUS_BYTES, and PROFILE_COUNT, PROFILE_DATA
// (register addresses), PROFILE_WORDS. The memory model is that of hdl/tilewright_hdl/bus_timing.py; addresses outside
// of the memory are answered with DECERR.
//
// A cycle is: inputs of the cycle, clock low, outputs settle; transfers are looked at; clock high, registers change.

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <deque>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "Vtop.h"
#include "verilated.h"
#if VM_TRACE_FST
#include "verilated_fst_c.h"
using Trace = VerilatedFstC;
#elif VM_TRACE_VCD
#include "verilated_vcd_c.h"
using Trace = VerilatedVcdC;
#endif

namespace {

constexpr uint8_t OKAY = 0, DECERR = 3;
constexpr uint64_t RESET_CYCLES = 4;
constexpr uint64_t REGISTER_TIMEOUT = 1000;
// Looking for new records in each cycle would only slow the simulation down.
constexpr uint64_t PROFILE_INTERVAL = 16;

struct Burst {
    uint64_t address;
    uint64_t beats;
    uint64_t ready;  // Cycle from which its first beat may be offered.
};

struct Answer {
    uint8_t response;
    uint64_t ready;
};

#if VM_TRACE_VCD
// Where Verilator's own file would end the whole process on a full disk, this one goes away and says why.
class WaveFile : public VerilatedVcdFile {
public:
    explicit WaveFile(std::string& error) : error_(error) {}

    bool open(const std::string& name) override {
        name_ = name;
        return VerilatedVcdFile::open(name);
    }

    ssize_t write(const char* data, ssize_t length) override {
        if (broken_) return length;
        const ssize_t written = VerilatedVcdFile::write(data, length);
        if (written >= 0 || errno == EAGAIN || errno == EINTR) return written;
        broken_ = true;
        error_ = std::string("the waveform cannot be written: ") + std::strerror(errno);
        std::error_code ignored;
        if (std::filesystem::is_regular_file(name_, ignored)) std::filesystem::remove(name_, ignored);
        return length;
    }

private:
    std::string& error_;
    std::string name_;
    bool broken_ = false;
};
#endif

class Machine {
public:
    Machine(uint8_t* memory, uint64_t memory_bytes, uint64_t latency, uint64_t period, const char* trace_file)
        : memory_(memory), memory_bytes_(memory_bytes), latency_(latency), period_(period),
          context_(std::make_unique<VerilatedContext>()) {
#if VM_TRACE
        context_->traceEverOn(true);
#endif
        top_ = std::make_unique<Vtop>(context_.get());
#if VM_TRACE
#if VM_TRACE_VCD
        trace_ = std::make_unique<Trace>(&wave_file_);
#else
        trace_ = std::make_unique<Trace>();
#endif
        top_->trace(trace_.get(), 99);
        trace_->open(trace_file);
        if (!trace_->isOpen()) error_ = "the waveform cannot be written";
#else
        (void)trace_file;
#endif
        reset();
    }

    ~Machine() {
        top_->final();
#if VM_TRACE
        trace_->close();
#endif
    }

    void reset() {
        reads_.clear();
        writes_.clear();
        answers_.clear();
        read_sent_ = written_ = 0;
        response_ = OKAY;
        offering_ = false;
        top_->s_axil_awvalid = top_->s_axil_wvalid = top_->s_axil_arvalid = 0;
        top_->rst = 1;
        for (uint64_t n = 0; n < RESET_CYCLES; n++) tick();
        top_->rst = 0;
    }

    // Runs for about `cycles` cycles; true when the interrupt has come and all records have been read.
    bool run(uint64_t cycles) {
        const uint64_t end = cycle_ + cycles;
        while (cycle_ < end && error_.empty()) {
            const bool over = top_->irq;
            if (read_records() == 0 && over) {
#if VM_TRACE
                trace_->flush();
#endif
                return true;
            }
            for (uint64_t n = 0; n < PROFILE_INTERVAL && !top_->irq; n++) tick();
        }
        return false;
    }

    uint32_t read_register(uint32_t address) {
        top_->s_axil_araddr = address;
        top_->s_axil_arvalid = 1;
        top_->s_axil_rready = 1;
        for (uint64_t n = 0; n < REGISTER_TIMEOUT; n++) {
            settle();
            const bool asked = top_->s_axil_arvalid && top_->s_axil_arready;
            const bool answered = top_->s_axil_rvalid;
            const uint32_t value = top_->s_axil_rdata;
            const uint8_t response = top_->s_axil_rresp;
            finish();
            if (asked) top_->s_axil_arvalid = 0;
            if (answered) {
                top_->s_axil_rready = 0;
                if (response != OKAY) fail("a read of a register was answered with an error");
                return value;
            }
        }
        fail("a read of a register was not answered");
        return 0;
    }

    void write_register(uint32_t address, uint32_t value) {
        top_->s_axil_awaddr = address;
        top_->s_axil_wdata = value;
        top_->s_axil_wstrb = 0xf;
        top_->s_axil_awvalid = top_->s_axil_wvalid = 1;
        top_->s_axil_bready = 1;
        for (uint64_t n = 0; n < REGISTER_TIMEOUT; n++) {
            settle();
            const bool address_taken = top_->s_axil_awvalid && top_->s_axil_awready;
            const bool data_taken = top_->s_axil_wvalid && top_->s_axil_wready;
            const bool answered = top_->s_axil_bvalid;
            const uint8_t response = top_->s_axil_bresp;
            finish();
            if (address_taken) top_->s_axil_awvalid = 0;
            if (data_taken) top_->s_axil_wvalid = 0;
            if (answered) {
                top_->s_axil_bready = 0;
                if (response != OKAY) fail("a write of a register was answered with an error");
                return;
            }
        }
        fail("a write of a register was not answered");
    }

    uint64_t cycle() const { return cycle_; }
    uint64_t last_progress() const { return last_progress_; }
    const std::string& error() const { return error_; }
    std::vector<uint32_t>& profile() { return profile_; }

private:
    void fail(const char* what) {
        if (error_.empty()) error_ = what;
    }

    void tick() {
        settle();
        finish();
    }

    // First half of a cycle.
    void settle() {
        offer_read();
        const bool offered = !answers_.empty() && answers_.front().ready <= cycle_;
        top_->m_axi_bvalid = offered;
        top_->m_axi_bresp = offered ? answers_.front().response : OKAY;
        top_->m_axi_arready = top_->m_axi_awready = top_->m_axi_wready = 1;
        top_->clk = 0;
        top_->eval();
        dump(0);
    }

    // Second half: the transfers of the cycle, and its end.
    void finish() {
        if (!top_->rst) {
            take_read();
            take_write();
        }
        top_->clk = 1;
        top_->eval();
        dump(1);
        cycle_++;
    }

    bool inside(uint64_t address) const { return address + BUS_BYTES <= memory_bytes_; }

    void offer_read() {
        const bool offer = !reads_.empty() && reads_.front().ready <= cycle_ && next_offer_ <= cycle_;
        top_->m_axi_rvalid = offer;
        if (!offer) return;
        const Burst& burst = reads_.front();
        const uint64_t address = burst.address + read_sent_ * BUS_BYTES;
        if (!offering_) offered_ = cycle_;
        offering_ = true;
        if (inside(address)) std::memcpy(&top_->m_axi_rdata, memory_ + address, BUS_BYTES);
        top_->m_axi_rresp = inside(address) ? OKAY : DECERR;
        top_->m_axi_rlast = read_sent_ + 1 == burst.beats;
    }

    void take_read() {
        if (top_->m_axi_rvalid && top_->m_axi_rready) {
            offering_ = false;
            next_offer_ = std::max(cycle_ + 1, offered_ + period_);
            last_progress_ = cycle_;
            if (++read_sent_ == reads_.front().beats) {
                reads_.pop_front();
                read_sent_ = 0;
            }
        }
        if (top_->m_axi_arvalid) {
            reads_.push_back({top_->m_axi_araddr, uint64_t(top_->m_axi_arlen) + 1, cycle_ + latency_});
        }
    }

    void take_write() {
        if (top_->m_axi_bvalid && top_->m_axi_bready) {
            answers_.pop_front();
            last_progress_ = cycle_;
        }
        if (top_->m_axi_awvalid) {
            writes_.push_back({top_->m_axi_awaddr, uint64_t(top_->m_axi_awlen) + 1, cycle_});
        }
        if (!top_->m_axi_wvalid) return;
        if (writes_.empty()) return fail("a beat was written before its address");
        const Burst& burst = writes_.front();
        const uint64_t address = burst.address + written_ * BUS_BYTES;
        if (inside(address)) {
            write_beat(address);
        } else {
            response_ = DECERR;
        }
        last_progress_ = cycle_;
        const bool last = ++written_ == burst.beats;
        if (last != bool(top_->m_axi_wlast)) fail("wlast did not come with the last beat of a burst");
        if (last) {
            writes_.pop_front();
            answers_.push_back({response_, cycle_ + latency_});
            written_ = 0;
            response_ = OKAY;
        }
    }

    void write_beat(uint64_t address) {
        uint8_t beat[BUS_BYTES];
        std::memcpy(beat, &top_->m_axi_wdata, BUS_BYTES);
        const uint32_t strobe = top_->m_axi_wstrb;
        for (uint32_t n = 0; n < BUS_BYTES; n++) {
            if (strobe >> n & 1) memory_[address + n] = beat[n];
        }
    }

    uint32_t read_records() {
        const uint32_t count = read_register(PROFILE_COUNT);
        for (uint32_t n = 0; n < count * PROFILE_WORDS && error_.empty(); n++) {
            profile_.push_back(read_register(PROFILE_DATA));
        }
        if (count) last_progress_ = cycle_;
        return count;
    }

    void dump(uint64_t half) {
#if VM_TRACE
        trace_->dump(2 * cycle_ + half);
#else
        (void)half;
#endif
    }

    uint8_t* memory_;
    uint64_t memory_bytes_, latency_, period_;
    std::unique_ptr<VerilatedContext> context_;
    std::unique_ptr<Vtop> top_;
    std::string error_;
#if VM_TRACE_VCD
    WaveFile wave_file_{error_};
#endif
#if VM_TRACE
    std::unique_ptr<Trace> trace_;
#endif
    uint64_t cycle_ = 0, last_progress_ = 0;
    std::deque<Burst> reads_, writes_;
    std::deque<Answer> answers_;
    uint64_t read_sent_ = 0, written_ = 0;
    uint64_t next_offer_ = 0, offered_ = 0;
    bool offering_ = false;
    uint8_t response_ = OKAY;
    std::vector<uint32_t> profile_;
};

}  // namespace

extern "C" {

Machine* machine_open(uint8_t* memory, uint64_t memory_bytes, uint64_t latency, uint64_t period,
                      const char* trace_file) {
    return new Machine(memory, memory_bytes, latency, period, trace_file);
}

void machine_close(Machine* machine) { delete machine; }

void machine_reset(Machine* machine) { machine->reset(); }

int machine_run(Machine* machine, uint64_t cycles) { return machine->run(cycles); }

uint32_t machine_read_register(Machine* machine, uint32_t address) { return machine->read_register(address); }

void machine_write_register(Machine* machine, uint32_t address, uint32_t value) {
    machine->write_register(address, value);
}

uint64_t machine_cycle(const Machine* machine) { return machine->cycle(); }

uint64_t machine_last_progress(const Machine* machine) { return machine->last_progress(); }

const char* machine_error(const Machine* machine) { return machine->error().c_str(); }

// Moves up to `words` words of the profile to `to`, and returns how many there were before.
uint64_t machine_take_profile(Machine* machine, uint32_t* to, uint64_t words) {
    std::vector<uint32_t>& profile = machine->profile();
    const uint64_t there = profile.size();
    if (words >= there) {
        std::memcpy(to, profile.data(), there * sizeof(uint32_t));
        profile.clear();
    }
    return there;
}
}
