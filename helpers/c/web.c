/* What a page asks of a model: where the image is put, where the logits are, and model_run. */
#include "model.h"

int8_t *image(void)
{
    return model_arena + MODEL_INPUT;
}

int8_t *logits(void)
{
    return model_arena + MODEL_OUTPUT;
}
