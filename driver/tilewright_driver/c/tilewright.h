/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reference driver for a processor beside a Tilewright accelerator.
 *
 * C99 without an operating system, a heap or a global variable. The program (tw_program) comes from
 * `tilewright c PROGRAM -o FOLDER`; how this processor reaches registers and main memory, from you (tw_bus).
 *
 *     tw_load(&bus, &tw_program_digits);                       once, and again after a reset or an error
 *     tw_run(&bus, &tw_program_digits, inputs, outputs);       for each inference
 */
#ifndef TILEWRIGHT_H
#define TILEWRIGHT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Your side. Offsets of registers are bytes from the control port's base, and addresses in main memory are the
 * accelerator's. With a data cache, write_memory must write it back before it returns, and read_memory must not read
 * from it. Each function gets `context`.
 */
typedef struct tw_bus {
    void *context;
    uint32_t (*read_register)(void *context, uint32_t offset);
    void (*write_register)(void *context, uint32_t offset, uint32_t value);
    void (*read_memory)(void *context, uint32_t address, void *data, uint32_t length);
    void (*write_memory)(void *context, uint32_t address, const void *data, uint32_t length);
    /* Asked again and again while a program runs; `first` is 1 once, at its start. Not 0: give up (TW_TIMEOUT). */
    int (*give_up)(void *context, int first);
} tw_bus;

/* Bytes that lie in main memory before the first run. */
typedef struct tw_section {
    uint32_t address, length;
    const uint8_t *data;
} tw_section;

/* Code of the accelerator. */
typedef struct tw_job {
    uint32_t address, length;
} tw_job;

/*
 * An input or output. Element (c, y, x) stands in your array at c * step_c + y * step_y + x * step_x, and in main
 * memory at address + y * pitch_y + x * pitch_x + c / lanes * word_bytes + c % lanes.
 * real value = scale * (int8 - zero_point); an array of uint8 holds int8 + 128 (`flip` is 0x80 then, and 0 else).
 */
typedef struct tw_tensor {
    const char *name;
    uint32_t address, channels, height, width;
    uint32_t step_c, step_y, step_x;
    uint32_t pitch_y, pitch_x, lanes, word_bytes;
    float scale;
    int32_t zero_point;
    uint8_t flip;
} tw_tensor;

typedef struct tw_program {
    const char *name;
    const uint32_t *digest;            /* TW_DIGEST_WORDS: of the accelerator that it was compiled for */
    uint32_t memory_bytes;             /* main memory that it takes, from address 0 on */
    uint32_t constant_base, arena_base;
    uint32_t section_count, job_count, input_count, output_count;
    const tw_section *sections;
    tw_job setup;                      /* brings constants on chip; length 0: there are none */
    const tw_job *jobs;                /* one after the other: an inference */
    const tw_tensor *inputs, *outputs;
} tw_program;

typedef enum tw_result {
    TW_OK = 0,
    TW_NO_ACCELERATOR,                 /* IDENTITY or VERSION is not what this driver knows */
    TW_OTHER_CONFIGURATION,            /* the program was compiled for another accelerator */
    TW_BUSY,                           /* a program is running */
    TW_NOT_WRITTEN,                    /* main memory does not hold what was written to it */
    TW_TIMEOUT,                        /* give_up() said so; reset the accelerator before anything else */
    TW_STOPPED                         /* the accelerator stopped with an error: tw_stop_code(), tw_stop_index() */
} tw_result;

/* Put a program into main memory, compare it, and bring its constants on chip. */
tw_result tw_load(const tw_bus *bus, const tw_program *program);

/* One inference: as many arrays as the program has inputs and outputs, each of channels * height * width bytes. */
tw_result tw_run(const tw_bus *bus, const tw_program *program, const void *const *inputs, void *const *outputs);

/* Cycles of the accelerator in the latest job. */
uint32_t tw_cycles(const tw_bus *bus);

/* After TW_STOPPED: why (tw_error_code), and the index of the instruction in its job. */
uint32_t tw_stop_code(const tw_bus *bus);
uint32_t tw_stop_index(const tw_bus *bus);

/* What a result means, in a line of English. */
const char *tw_result_text(tw_result result);

#ifdef __cplusplus
}
#endif
#endif
