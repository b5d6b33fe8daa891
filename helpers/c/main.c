/* A program without an operating system: where it begins, and its endless loop. */
#include "model.h"

#define CYCLES (*(volatile uint32_t *)0xE0001004) /* DWT_CYCCNT: clock cycles since the start */
#define DEMCR (*(volatile uint32_t *)0xE000EDFC)  /* bit 24 switches the DWT unit on */
#define DWT_CTRL (*(volatile uint32_t *)0xE0001000)

extern uint32_t stack_top[], data_start[], data_end[], data_source[], bss_start[], bss_end[];
uint32_t cycles[MODEL_LAYERS]; /* what each layer took */

static void stop(void)
{
    __asm volatile("bkpt 0"); /* a debugger (or an emulator) takes over, until it goes on */
}

void reset(void)
{
    for (uint32_t *to = data_start, *from = data_source; to < data_end;)
        *to++ = *from++; /* variables with a start value: from flash to RAM */
    for (uint32_t *to = bss_start; to < bss_end;)
        *to++ = 0;
    DEMCR |= 1u << 24;
    DWT_CTRL |= 1;
    for (;;) {
        stop(); /* an image is put into model_arena + MODEL_INPUT */
        for (int k = 0; k < MODEL_LAYERS; k++) {
            uint32_t start = CYCLES;
            model_layers[k]();
            cycles[k] = CYCLES - start;
        }
    }
}

static void fault(void)
{
    for (;;)
        stop();
}

/* What the processor reads at the beginning of the flash: its stack, where to begin, and where to go
 * when something is wrong. */
__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_top, (void *)reset, (void *)fault, (void *)fault, (void *)fault, (void *)fault, (void *)fault,
};
