"""A .tflite model in LiteRT, with one of its three sets of kernels."""

from __future__ import annotations

import numpy as np

from helpers.deployed import DeployedModel, Tensor
from helpers.quiet import captured_stderr

KERNELS = {
    "litert": "BUILTIN",
    "litert-builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "litert-reference": "BUILTIN_REF",
}
PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MUL", "TRANSPOSE_CONV")


class LiteRTModel(DeployedModel):
    """A .tflite model in a LiteRT interpreter, one input at a time.

    It has one input and one output [1, C], both float32, or integers with a scale.
    """

    def __init__(self, content: bytes, runtime: str, threads: int):
        self._interpreter = open_interpreter(content, KERNELS[runtime], threads)
        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(
                f"the model has {len(inputs)} inputs and {len(outputs)} outputs: expected one of "
                "each; run other models with ai_edge_litert itself"
            )
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]
        super().__init__(
            len(content), tensor_of("input", inputs[0]), tensor_of("output", outputs[0], rank=2)
        )

    def run(self, row: np.ndarray) -> np.ndarray:
        self._interpreter.set_tensor(self._input, row[None])
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)[0]


def open_interpreter(content: bytes, kernels: str, threads: int):
    """LiteRT's interpreter with its tensors allocated, opened in silence."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with captured_stderr():
        try:
            interpreter = Interpreter(
                model_content=content,
                num_threads=threads,
                experimental_op_resolver_type=OpResolverType[kernels],
            )
            check_scales(interpreter)
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"LiteRT cannot open the model ({len(content)} bytes): it is damaged, or uses "
                f"operations that LiteRT does not have; convert it again ({error})"
            ) from error
    return interpreter


def check_scales(interpreter) -> None:
    """ValueError for scales with which LiteRT's kernels would end the process.

    They do not expect an operator in which one step of an input moves the output by 256 steps or
    more, nor a scale that is no positive number. A tensor that hardly varied while the
    converter watched it may get such a scale.
    """
    tensors = {d["index"]: d for d in interpreter.get_tensor_details()}
    for operator in interpreter._get_ops_details():
        if not len(operator["outputs"]):  # such as ASSIGN_VARIABLE: it rescales nothing
            continue
        name, ends = operator["op_name"], [*operator["inputs"], *operator["outputs"][:1]]
        *inputs, output = [tensors[i] for i in ends if i in tensors]
        given = [scales_of(tensor) for tensor in inputs if len(scales_of(tensor))]
        made = scales_of(output)
        for scales, least in (*((s, 0.0) for s in given), (made, np.finfo(np.float32).tiny)):
            if not np.all((scales >= least) & np.isfinite(scales)):
                raise ValueError(f"{name} has a scale of {scales.min()}: expected above 0")
        if not given or not len(made):
            continue
        if name in PRODUCTS:
            given = [given[0].astype(float) * (given[1] if len(given) > 1 else 1.0)]
        steps = max(float((scales / made.astype(float)).max()) for scales in given)
        if not steps < 256:
            raise ValueError(
                f"one step of {name}'s input is {steps:.3g} steps of its output "
                f"({output['name']!r}): it hardly varied while the converter watched it"
            )


def scales_of(tensor: dict) -> np.ndarray:
    """The scales of an integer tensor that a kernel may rescale; empty for others."""
    small = tensor["dtype"] in (np.int8, np.uint8, np.int16)
    return tensor["quantization_parameters"]["scales"] if small else np.empty(0, np.float32)


def tensor_of(which: str, details: dict, rank: int | None = None) -> Tensor:
    """ValueError unless the tensor is float32, or integers with a scale, and of a known shape."""
    shape = details["shape_signature"].tolist()  # -1 stands for any size
    if shape[:1] not in ([1], [-1]) or -1 in shape[1:] or rank not in (None, len(shape)):
        raise ValueError(
            f"the model's {which} has shape {shape}: expected "
            + ("[1, C]" if rank else "a batch of 1 and known sizes")
            + "; run other models with ai_edge_litert itself"
        )
    scale, zero_point = details["quantization"]
    if details["dtype"] != np.float32 and scale == 0:
        raise ValueError(
            f"the model's {which} is {details['dtype'].__name__} without a scale: expected float32 "
            "or quantized integers; run other models with ai_edge_litert itself"
        )
    return Tensor(details["shape"][1:], details["dtype"], scale, zero_point)
