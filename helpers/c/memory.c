/* What a compiler may call by itself, where there is no C library. */
#include <stddef.h>

void *memcpy(void *to, const void *from, size_t n)
{
    for (size_t k = 0; k < n; k++)
        ((char *)to)[k] = ((const char *)from)[k];
    return to;
}

void *memset(void *to, int value, size_t n)
{
    for (size_t k = 0; k < n; k++)
        ((char *)to)[k] = (char)value;
    return to;
}
