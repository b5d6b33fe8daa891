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
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"LiteRT cannot open the model ({len(content)} bytes): it is damaged, or uses "
                f"operations that LiteRT does not have; convert it again ({error})"
            ) from error
    return interpreter


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
