"""What stands in a .tflite file: operators, the tensors that they read and write, a signature."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from helpers.runtime import read_tflite

NUMPY = {
    "FLOAT32": "f4",
    "FLOAT16": "f2",
    "INT8": "i1",
    "INT16": "i2",
    "INT32": "i4",
    "INT64": "i8",
}
DAMAGED = "the file is damaged; convert the model again"


class StoredTensor(NamedTuple):
    """One tensor of a file.

    kind: "INT8", "FLOAT32", … scales: float32 [n], zero_points: int64 [n], n being 0 without
    quantization, 1 for the whole tensor, else one for each slice along `axis`. nbytes: what its
    values take in the file, 0 if they are computed. values: a NumPy array, 4-bit integers as int8;
    None if they are computed, or of a kind that is not in NUMPY.
    """

    index: int
    name: str
    kind: str
    shape: tuple
    scales: np.ndarray
    zero_points: np.ndarray
    axis: int
    nbytes: int
    values: np.ndarray | None


class Operator(NamedTuple):
    """One operation of a file; an input that an operation may have and lacks is left out.

    options: its settings by the format's names, such as {"strideH": 2, "padding": 0, ...}.
    """

    name: str
    inputs: list[StoredTensor]
    outputs: list[StoredTensor]
    options: dict


def operators(content: bytes) -> list[Operator]:
    """The operators of a .tflite file, in the order in which they run.

    Raises ValueError for bytes that are no whole .tflite model.
    """
    found = tensors(content)
    model, graph = graph_of(content)
    result = []
    for number, operator in enumerate(graph.operators if graph.operators is not None else ()):
        try:
            name = kind(model, operator)
        except IndexError as error:
            raise ValueError(f"operator {number} is of no kind: {DAMAGED}") from error
        ends = [
            [pick(found, i, f"operator {number}, {name},") for i in side if i >= 0]
            for side in (
                operator.inputs if operator.inputs is not None else (),
                operator.outputs if operator.outputs is not None else (),
            )
        ]
        options = vars(operator.builtinOptions) if operator.builtinOptions is not None else {}
        result.append(Operator(name, *ends, options))
    return result


def kind(model, operator) -> str:
    """The name of an operator of a graph, such as "CONV_2D"; which field says it depends on the
    file's age."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    code = model.operatorCodes[operator.opcodeIndex]
    code = max(code.builtinCode, code.deprecatedBuiltinCode)
    return named(BuiltinOperator).get(code, f"operation {code}")


def pick(found: list[StoredTensor], index: int, who: str) -> StoredTensor:
    """The tensor with this index; ValueError, with `who` uses it, if there is none."""
    if not 0 <= index < len(found):
        raise ValueError(f"{who} uses tensor {index}, and there are {len(found)}: {DAMAGED}")
    return found[index]


def signature(content: bytes) -> tuple[dict[str, StoredTensor], dict[str, StoredTensor]]:
    """{name: tensor} of a file's inputs and of its outputs; ValueError as operators.

    The names are those of its first signature, else the tensors' own.
    """
    found = tensors(content)
    model, graph = graph_of(content)
    if model.signatureDefs:
        first = model.signatureDefs[0]
        sides = [
            [(end.name.decode(errors="replace"), end.tensorIndex) for end in side or ()]
            for side in (first.inputs, first.outputs)
        ]
    else:
        sides = [[(None, i) for i in side] for side in (graph.inputs, graph.outputs)]
    picked = [[(name, pick(found, i, "the model")) for name, i in side] for side in sides]
    return tuple(
        {tensor.name if name is None else name: tensor for name, tensor in side} for side in picked
    )


def tensors(content: bytes) -> list[StoredTensor]:
    """The tensors of a .tflite file's graph, computed and stored ones; ValueError as operators."""
    from ai_edge_litert import schema_py_generated as schema

    kinds = named(schema.TensorType)
    model, graph = graph_of(content)
    result = []
    for i, tensor in enumerate(graph.tensors):
        name = (tensor.name or b"").decode(errors="replace")
        kind = kinds.get(tensor.type, f"type {tensor.type}")
        shape = tuple(map(int, tensor.shape if tensor.shape is not None else ()))
        scheme, data = tensor.quantization, model.buffers[tensor.buffer].data
        quantized = scheme is not None and scheme.scale is not None
        raw = None if data is None or len(data) == 0 else np.asarray(data, np.uint8)
        try:
            values = None if raw is None else unpacked(raw, kind, shape)
        except ValueError as error:
            raise ValueError(
                f"tensor {name!r} has {len(raw)} bytes, no {kind} of shape {shape}: {DAMAGED}"
            ) from error
        result.append(
            StoredTensor(
                i,
                name,
                kind,
                shape,
                np.asarray(scheme.scale if quantized else [], np.float32),
                np.asarray(scheme.zeroPoint if quantized else [], np.int64),
                int(scheme.quantizedDimension) if quantized else 0,
                0 if raw is None else len(raw),
                values,
            )
        )
    return result


def unpacked(raw: np.ndarray, kind: str, shape: tuple) -> np.ndarray | None:
    """Bytes uint8 [n] as the numbers that they hold; 4-bit integers lie two in a byte, low first.

    >>> unpacked(np.array([0x7F, 0x08], np.uint8), "INT4", (3,))
    array([-1,  7, -8], dtype=int8)
    """
    if kind == "INT4":
        halves = np.stack([raw << 4, raw], 1).view(np.int8) >> 4  # the sign comes with the shift
        return halves.ravel()[: int(np.prod(shape))].reshape(shape)
    return raw.view("<" + NUMPY[kind]).reshape(shape) if kind in NUMPY else None


def named(enumeration: type) -> dict[int, str]:
    """{number: name} of one of the schema's enumerations."""
    return {v: k for k, v in vars(enumeration).items() if isinstance(v, int) and k[0] != "_"}


def with_signature(content: bytes) -> bytes:
    """The same .tflite model with a signature "serving_default", from "input" to "output".

    ai-edge-quantizer calibrates through a signature, and the files of to_tflite have none.
    Raises ValueError for bytes that are no .tflite model, or one with several inputs or outputs.
    """
    from ai_edge_litert.schema_py_generated import SignatureDefT, TensorMapT
    from ai_edge_litert.tools import flatbuffer_utils

    model, graph = graph_of(content)
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ValueError(
            f"the model has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs: "
            "expected one of each"
        )
    inputs = [TensorMapT("input", int(graph.inputs[0]))]
    outputs = [TensorMapT("output", int(graph.outputs[0]))]
    model.signatureDefs = [SignatureDefT(inputs, outputs, "serving_default", 0)]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def graph_of(content: bytes) -> tuple:
    """A .tflite model as an object, and its only graph; ValueError for damaged bytes."""
    from ai_edge_litert.tools import flatbuffer_utils

    content = read_tflite(content)
    try:
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
        return model, model.subgraphs[0]
    except Exception as error:  # the parser has no error of its own
        raise ValueError(
            f"the model ({len(content)} bytes) is damaged; convert the model again ({error})"
        ) from error
