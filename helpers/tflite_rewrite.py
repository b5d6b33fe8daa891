"""An old .tflite file as the tools of today expect it: the same network, written another way."""

from __future__ import annotations

import numpy as np

from helpers.tflite_file import graph_of, kind


def in_float32(content: bytes) -> bytes:
    """A float16 .tflite file with float32 weights, and operators named where tools look for them.

    Files of 2020 and earlier keep an operator's kind in a field that newer tools do not read, and
    float16 weights as tensors behind DEQUANTIZE. The result computes the same bits, and has a
    signature "serving_default" with the graph's own names of inputs and outputs.
    Raises ValueError for bytes that are no .tflite model.
    """
    from ai_edge_litert import schema_py_generated as schema

    model, graph = graph_of(content)
    for code in model.operatorCodes:
        code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
    kept = []
    for operator in graph.operators or ():
        source, target = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
        raw = model.buffers[source.buffer].data
        stored = raw is not None and source.type == schema.TensorType.FLOAT16
        if kind(model, operator) != "DEQUANTIZE" or not stored:
            kept.append(operator)
            continue
        values = np.frombuffer(bytes(raw), "<f2").astype("<f4")
        target.buffer = len(model.buffers)
        model.buffers.append(buffer(values))
    ends = [
        [schema.TensorMapT(graph.tensors[i].name.decode(), int(i)) for i in side]
        for side in (graph.inputs, graph.outputs)
    ]
    model.signatureDefs = [schema.SignatureDefT(*ends, "serving_default", 0)]
    return with_operators(model, graph, kept)


def with_fused_relu(content: bytes) -> bytes:
    """The same file with each ReLU inside of the addition or convolution that it follows.

    A ReLU stays where another operator reads what comes before it, or where it has its own clip.
    Raises ValueError for bytes that are no .tflite model.
    """
    from ai_edge_litert import schema_py_generated as schema

    none, relu = schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU
    model, graph = graph_of(content)
    makers = {int(i): o for o in graph.operators or () for i in o.outputs}
    read = [int(i) for o in graph.operators or () for i in o.inputs] + [
        int(i) for i in graph.outputs
    ]
    kept = []
    for operator in graph.operators or ():
        before = makers.get(int(operator.inputs[0]))
        if (
            kind(model, operator) == "RELU"
            and before is not None
            and kind(model, before) in ("ADD", "CONV_2D", "DEPTHWISE_CONV_2D")
            and before.builtinOptions.fusedActivationFunction == none
            and read.count(int(operator.inputs[0])) == 1
        ):
            before.builtinOptions.fusedActivationFunction = relu
            before.outputs = operator.outputs
            makers[int(operator.outputs[0])] = before
        else:
            kept.append(operator)
    return with_operators(model, graph, kept)


def with_float_ends(content: bytes) -> bytes:
    """An int8 file that reads and writes float32: QUANTIZE before it, DEQUANTIZE after it.

    For runtimes that take no int8 tensors (LiteRT.js). What lies between stays as it is, and so do
    the names of the signature. Raises ValueError for a file with other ends.
    """
    from ai_edge_litert import schema_py_generated as schema

    model, graph = graph_of(content)
    kinds = schema.BuiltinOperator
    before, after, place = [], [], {}
    for side, made, name in ((graph.inputs, before, "input"), (graph.outputs, after, "output")):
        for index in map(int, side):
            inner = graph.tensors[index]
            if inner.type != schema.TensorType.INT8:
                raise ValueError(f"an {name} of the file is no int8 tensor: float ends need int8")
            outer = schema.TensorT()
            outer.name, outer.shape = inner.name, inner.shape
            inner.name += b"_int8"
            outer.shapeSignature = inner.shapeSignature
            outer.type, outer.buffer = schema.TensorType.FLOAT32, 0
            place[index] = len(graph.tensors)
            graph.tensors.append(outer)
            operator = schema.OperatorT()
            ends = [[place[index]], [index]] if made is before else [[index], [place[index]]]
            operator.inputs, operator.outputs = (np.array(end, np.int32) for end in ends)
            wanted = kinds.QUANTIZE if made is before else kinds.DEQUANTIZE
            operator.opcodeIndex = opcode(model, wanted)
            made.append(operator)
    for signature in model.signatureDefs or []:
        for end in signature.inputs + signature.outputs:
            end.tensorIndex = place[end.tensorIndex]
    graph.inputs = np.array([place[int(i)] for i in graph.inputs], np.int32)
    graph.outputs = np.array([place[int(i)] for i in graph.outputs], np.int32)
    return with_operators(model, graph, [*before, *graph.operators, *after])


def opcode(model, wanted: int) -> int:
    """The place of an operator in a model's list of kinds, at the end if it was not there."""
    from ai_edge_litert import schema_py_generated as schema

    for number, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == wanted:
            return number
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = wanted
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def buffer(values: np.ndarray):
    """An array as a buffer of a .tflite model."""
    from ai_edge_litert.schema_py_generated import BufferT

    made = BufferT()
    made.data = np.frombuffer(values.tobytes(), np.uint8)
    return made


def with_operators(model, graph, operators: list) -> bytes:
    """The file with these operators, and with the tensors and the buffers that they use."""
    from ai_edge_litert.tools import flatbuffer_utils

    ends = [
        graph.inputs,
        graph.outputs,
        *(side for o in operators for side in (o.inputs, o.outputs)),
    ]
    used = sorted({int(i) for side in ends for i in side if i >= 0})
    place = {old: new for new, old in enumerate(used)} | {-1: -1}
    graph.tensors = [graph.tensors[i] for i in used]

    def moved(side) -> np.ndarray:
        return np.array([place[int(i)] for i in side], np.int32)

    graph.operators, graph.inputs, graph.outputs = (
        operators,
        moved(graph.inputs),
        moved(graph.outputs),
    )
    for operator in operators:
        operator.inputs, operator.outputs = moved(operator.inputs), moved(operator.outputs)
    for signature in model.signatureDefs or []:
        for end in signature.inputs + signature.outputs:
            end.tensorIndex = place[end.tensorIndex]
    buffers = [model.buffers[0]]  # the first one is empty: of tensors that are computed
    for tensor in graph.tensors:
        data = model.buffers[tensor.buffer].data
        if data is not None and len(data):
            buffers.append(model.buffers[tensor.buffer])
            tensor.buffer = len(buffers) - 1
        else:
            tensor.buffer = 0
    model.buffers, model.metadata = buffers, None
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
