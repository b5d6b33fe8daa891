"""An int8 .tflite file as plain C: `model.h` and `model.c`, which call the kernels in helpers/c.

Weights are constants, which stay in flash. All tensors share one arena, planned by helpers.arena.
Each operator becomes one function without arguments, so that a caller can time it by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from helpers import arena
from helpers.c_layers import LAYERS
from helpers.integer import IntegerModel
from helpers.tflite_file import Operator, operators, signature

KINDS = {"conv_2d": "conv", "fully_connected": "dense", "max_pool_2d": "pool"}
WIDTH = 98  # characters of a line
CALLS = """/* What a caller needs of the model: operators, one after the other, on one block of RAM.
 * Write int8 pixels [{given}] to model_arena + MODEL_INPUT, call model_run, read int8 logits
 * [{result}] at model_arena + MODEL_OUTPUT. Both places are used for other tensors in between. */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

#define MODEL_ARENA {arena}
#define MODEL_INPUT {input}
#define MODEL_OUTPUT {output}
#define MODEL_LAYERS {layers}
#define MODEL_WINDOW {window}

extern int8_t model_arena[MODEL_ARENA];
extern void (*const model_layers[MODEL_LAYERS])(void);
void model_run(void);

#endif
"""
CODE = """#include "model.h"

#include "kernels.h"

int8_t model_arena[MODEL_ARENA] __attribute__((aligned(16)));

{layers}
void (*const model_layers[MODEL_LAYERS])(void) = {{{names}}};

void model_run(void)
{{
    for (int k = 0; k < MODEL_LAYERS; k++)
        model_layers[k]();
}}
"""
LAYER = """/* {number}: {name} {shapes} */
{arrays}static const struct {kind} p{number} = {{
{fields}
}};
static void layer_{number}(void)
{{
    {kernel}(&p{number}, {places});
}}
"""


class CModel(NamedTuple):
    """A model as C.

    sources: {"model.h": text, "model.c": text}. layers: names of the operators, in order.
    arena_bytes: RAM for all tensors. places: where in the arena the input is put and the output
    found, as slices.
    """

    sources: dict[str, str]
    layers: list[str]
    arena_bytes: int
    places: tuple[slice, slice]

    def rows(self, images: np.ndarray) -> np.ndarray:
        """int8 [N, ...] -> int8 [N, values of an input]; TypeError or ValueError for others."""
        if images.dtype != np.int8:
            raise TypeError(f"images of {images.dtype}: pass int8, pixel - 128")
        rows, wanted = images.reshape(len(images), -1), self.places[0].stop - self.places[0].start
        if rows.shape[1] != wanted:
            raise ValueError(f"images of {rows.shape[1]} values: the model reads {wanted}")
        return rows


def generate(content: bytes, planner: Callable[[Sequence], dict] = arena.plan) -> CModel:
    """model.h and model.c of an int8 file with one image-like input and one output.

    planner: from the buffers of helpers.arena.lifetimes to {index: offset in the arena}.
    Raises ValueError, which names the operator, for one that is not in LAYERS or is of a form that
    the kernels lack; and as helpers.integer.IntegerModel, which looks at the file first.
    """
    steps = operators(content)
    for number, op in enumerate(steps):
        if op.name not in LAYERS and op.name != "RESHAPE":
            raise ValueError(
                f"operator {number}, {op.name}, has no C kernel: there are {', '.join(LAYERS)}; "
                "add one in helpers/c and helpers/c_layers.py"
            )
    IntegerModel(content)
    given, result = signature(content)
    if len(given) != 1 or len(result) != 1:
        raise ValueError(f"the model reads {list(given)} and writes {list(result)}: one of each")
    steps, same = without_reshapes(steps)
    (x,), (y,) = given.values(), result.values()
    ends = [same.get(t.index, t.index) for t in (x, y)]
    buffers = arena.lifetimes(steps, ends[:1], ends[1:])
    offsets = planner(buffers)
    layers, window = [], 1
    for number, op in enumerate(steps):
        try:
            arrays, fields = LAYERS[op.name](op)
        except ValueError as error:
            raise ValueError(f"operator {number}, {op.name}, {error}") from error
        if op.name == "CONV_2D":
            window = max(window, op.inputs[1].values[0].size)
        layers.append(layer_text(number, op, arrays, fields, offsets))
    size = arena.extent(buffers, offsets)
    places = [
        slice(offsets[end], offsets[end] + int(np.prod(t.shape)))
        for end, t in zip(ends, (x, y), strict=True)
    ]
    header = CALLS.format(
        given=", ".join(map(str, x.shape[1:])),
        result=", ".join(map(str, y.shape[1:])),
        arena=size,
        input=places[0].start,
        output=places[1].start,
        layers=len(steps),
        window=window,
    )
    names = ", ".join(f"layer_{k}" for k in range(len(steps)))
    sources = {"model.h": header, "model.c": CODE.format(layers="\n".join(layers), names=names)}
    return CModel(sources, [op.name for op in steps], size, (places[0], places[1]))


def without_reshapes(steps: Sequence[Operator]) -> tuple[list[Operator], dict[int, int]]:
    """The steps that compute something, and {tensor: the tensor whose bytes it has}.

    A RESHAPE gives the same bytes another shape, so what reads its output reads its input.
    """
    same: dict[int, int] = {}
    kept = []
    for op in steps:
        op = op._replace(inputs=[t._replace(index=same.get(t.index, t.index)) for t in op.inputs])
        if op.name == "RESHAPE":
            same[op.outputs[0].index] = op.inputs[0].index
        else:
            kept.append(op)
    return kept, same


def layer_text(number: int, op: Operator, arrays: dict, fields: dict, offsets: dict) -> str:
    """The C of one operator: its constants, and a function without arguments."""
    read = [t for t in op.inputs if t.values is None]
    places = ", ".join(f"model_arena + {offsets[t.index]}" for t in (*read, op.outputs[0]))
    shapes = " -> ".join(
        " + ".join("x".join(map(str, t.shape[1:])) for t in side) for side in (read, op.outputs)
    )
    names = {name: f"{name}{number}" for name in arrays}
    kernel = op.name.lower()
    return LAYER.format(
        number=number,
        name=op.name,
        shapes=shapes,
        arrays="".join(array(names[name], values) for name, values in arrays.items()),
        kind=KINDS.get(kernel, kernel),
        fields="\n".join(f"    .{key} = {value}," for key, value in fields_of(names, fields)),
        kernel=kernel,
        places=places,
    )


def fields_of(names: dict[str, str], fields: dict) -> Iterable[tuple[str, object]]:
    """Fields of a struct, arrays first; m, n, zero, low and high of a layer go into .finish."""
    for name, value in (names | fields).items():
        inner = "weights" in names and name in ("m", "n", "zero", "low", "high")
        yield f"finish.{name}" if inner else name, value


def array(name: str, values: np.ndarray) -> str:
    """A constant array of C, int8 or int32.

    >>> array("n3", np.array([7, -8], np.int8))
    'static const int8_t n3[2] = {\\n    7, -8,\\n};\\n'
    """
    lines, line = [], "   "
    for value in map(str, values.ravel().tolist()):
        if len(line) + len(value) + 2 > WIDTH:
            lines.append(line)
            line = "   "
        line += f" {value},"
    body = "\n".join([*lines, line])
    return f"static const {values.dtype}_t {name}[{values.size}] = {{\n{body}\n}};\n"
