/* Called by the emulator at the beginning of each block of instructions: counts them.
 * An instruction of Thumb code has two bytes, or four if its first five bits are 11101 or more. */
#include <stdint.h>

uint64_t instructions;
const uint8_t *code; /* a copy of the flash, which begins at code_start */
uint64_t code_start;

void on_block(void *emulator, uint64_t address, uint32_t size, void *unused)
{
    const uint8_t *at = code + (address - code_start), *end = at + size;
    (void)emulator, (void)unused;
    for (; at < end; instructions++)
        at += at[1] >= 0xE8 ? 4 : 2;
}
