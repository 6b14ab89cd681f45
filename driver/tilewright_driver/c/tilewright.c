/* SPDX-License-Identifier: Apache-2.0 */
#include "tilewright.h"

#include <string.h>

#include "tilewright_registers.h"

/* Bytes that are packed or compared at once, on the stack. */
#define PIECE 64u

static uint32_t get(const tw_bus *bus, uint32_t offset)
{
    return bus->read_register(bus->context, offset);
}

static void set(const tw_bus *bus, uint32_t offset, uint32_t value)
{
    bus->write_register(bus->context, offset, value);
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static tw_result check(const tw_bus *bus, const tw_program *program)
{
    uint32_t word;

    if (get(bus, TW_REG_IDENTITY) != TW_IDENTITY_VALUE || get(bus, TW_REG_VERSION) != TW_VERSION_VALUE)
        return TW_NO_ACCELERATOR;
    for (word = 0; word < TW_DIGEST_WORDS; word++)
        if (get(bus, TW_REG_CONFIG_DIGEST_0 + 4u * word) != program->digest[word])
            return TW_OTHER_CONFIGURATION;
    return (get(bus, TW_REG_STATUS) & TW_STATUS_BUSY) != 0 ? TW_BUSY : TW_OK;
}

static tw_result run_job(const tw_bus *bus, const tw_program *program, const tw_job *job)
{
    int first = 1;
    uint32_t status;

    set(bus, TW_REG_PROGRAM_ADDRESS, job->address);
    set(bus, TW_REG_PROGRAM_BYTES, job->length);
    set(bus, TW_REG_CONSTANT_BASE, program->constant_base);
    set(bus, TW_REG_ARENA_BASE, program->arena_base);
    set(bus, TW_REG_CONTROL, TW_CONTROL_START);
    do {
        /* Asked before the status is read: a program that ended in time is never given up. */
        int give_up = bus->give_up(bus->context, first);
        status = get(bus, TW_REG_STATUS);
        if (give_up != 0 && (status & TW_STATUS_BUSY) != 0)
            return TW_TIMEOUT;
        first = 0;
    } while ((status & TW_STATUS_BUSY) != 0);
    return (status & TW_STATUS_ERROR) != 0 ? TW_STOPPED : TW_OK;
}

static tw_result write_section(const tw_bus *bus, const tw_section *section)
{
    uint8_t found[PIECE];
    uint32_t at, size;

    bus->write_memory(bus->context, section->address, section->data, section->length);
    for (at = 0; at < section->length; at += size) {
        size = least(PIECE, section->length - at);
        bus->read_memory(bus->context, section->address + at, found, size);
        if (memcmp(found, section->data + at, size) != 0)
            return TW_NOT_WRITTEN;
    }
    return TW_OK;
}

tw_result tw_load(const tw_bus *bus, const tw_program *program)
{
    tw_result result = check(bus, program);
    uint32_t n;

    for (n = 0; result == TW_OK && n < program->section_count; n++)
        result = write_section(bus, &program->sections[n]);
    if (result == TW_OK && program->setup.length != 0)
        result = run_job(bus, program, &program->setup);
    return result;
}

/* Some channels of a pixel: how many, in how many bytes, where they stand in the array and in main memory. */
typedef struct piece {
    uint32_t count, size, element, address;
} piece;

/* The piece that begins with channel c of pixel (y, x): at most a word, and at most PIECE bytes. */
static piece piece_at(const tw_tensor *tensor, uint32_t c, uint32_t y, uint32_t x)
{
    uint32_t lane = c % tensor->lanes;
    piece found;

    found.size = least(tensor->lanes - lane, PIECE);
    found.count = least(found.size, tensor->channels - c);
    found.element = c * tensor->step_c + y * tensor->step_y + x * tensor->step_x;
    found.address = tensor->address + y * tensor->pitch_y + x * tensor->pitch_x
                    + c / tensor->lanes * tensor->word_bytes + lane;
    return found;
}

static void write_tensor(const tw_bus *bus, const tw_tensor *tensor, const uint8_t *array)
{
    uint8_t bytes[PIECE];
    uint32_t c, y, x, n;
    piece at;

    for (y = 0; y < tensor->height; y++)
        for (x = 0; x < tensor->width; x++)
            for (c = 0; c < tensor->channels; c += at.count) {
                at = piece_at(tensor, c, y, x);
                for (n = 0; n < at.count; n++)
                    bytes[n] = (uint8_t)(array[at.element + n * tensor->step_c] ^ tensor->flip);
                memset(bytes + n, 0, at.size - n);   /* channels past the last are zero */
                bus->write_memory(bus->context, at.address, bytes, at.size);
            }
}

static void read_tensor(const tw_bus *bus, const tw_tensor *tensor, uint8_t *array)
{
    uint8_t bytes[PIECE];
    uint32_t c, y, x, n;
    piece at;

    for (y = 0; y < tensor->height; y++)
        for (x = 0; x < tensor->width; x++)
            for (c = 0; c < tensor->channels; c += at.count) {
                at = piece_at(tensor, c, y, x);
                bus->read_memory(bus->context, at.address, bytes, at.count);
                for (n = 0; n < at.count; n++)
                    array[at.element + n * tensor->step_c] = (uint8_t)(bytes[n] ^ tensor->flip);
            }
}

tw_result tw_run(const tw_bus *bus, const tw_program *program, const void *const *inputs, void *const *outputs)
{
    tw_result result = check(bus, program);
    uint32_t n;

    if (result != TW_OK)
        return result;
    for (n = 0; n < program->input_count; n++)
        write_tensor(bus, &program->inputs[n], inputs[n]);
    for (n = 0; result == TW_OK && n < program->job_count; n++)
        result = run_job(bus, program, &program->jobs[n]);
    for (n = 0; result == TW_OK && n < program->output_count; n++)
        read_tensor(bus, &program->outputs[n], outputs[n]);
    return result;
}

uint32_t tw_cycles(const tw_bus *bus)
{
    return get(bus, TW_REG_CYCLES);
}

uint32_t tw_stop_code(const tw_bus *bus)
{
    return get(bus, TW_REG_STATUS) >> TW_STATUS_ERROR_CODE_OFFSET & 0xffu;
}

uint32_t tw_stop_index(const tw_bus *bus)
{
    return get(bus, TW_REG_ERROR_INDEX);
}

const char *tw_result_text(tw_result result)
{
    switch (result) {
    case TW_OK:
        return "all went well";
    case TW_NO_ACCELERATOR:
        return "no accelerator of this version answers: check the base address and the bitstream";
    case TW_OTHER_CONFIGURATION:
        return "the program is for another configuration: compile it for the one in the bitstream";
    case TW_BUSY:
        return "the accelerator runs a program: wait for its end, or reset it";
    case TW_NOT_WRITTEN:
        return "main memory does not hold what was written: check its size, its base and the cache";
    case TW_TIMEOUT:
        return "the program did not end in time: reset the accelerator";
    case TW_STOPPED:
        return "the accelerator stopped with an error: see tw_stop_code() and tw_stop_index()";
    }
    return "unknown result";
}
