"""What LiteRT's three sets of kernels answer: a program that runs on any machine with LiteRT.

usage: python kernel_answers.py JOB.npz ANSWERS.npz

JOB holds `pixels`, int8 [N, ...], and .tflite files as uint8 arrays under their names. ANSWERS then
holds int8 [N, classes] under "NAME/KERNELS", and what machine it was. Nothing but NumPy and LiteRT
is imported, since helpers.arm_linux runs this on an emulated machine.
"""

from __future__ import annotations

import platform
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

KERNELS = {  # how LiteRT calls them
    "reference": "BUILTIN_REF",
    "optimized": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "XNNPACK": "BUILTIN",
}


def answers(content: bytes, pixels: np.ndarray, kernels: str) -> np.ndarray:
    """int8 [N, classes] of an int8 file with one input, for int8 pixels [N, ...].

    RuntimeError if XNNPACK did not take the file: LiteRT would answer with its own kernels.
    """
    kind = OpResolverType[KERNELS[kernels]]
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=kind, num_threads=1
    )
    interpreter.allocate_tensors()
    taken = "DELEGATE" in {step["op_name"] for step in interpreter._get_ops_details()}
    if taken != (kernels == "XNNPACK"):
        raise RuntimeError(
            f"asked for the {kernels} kernels, and XNNPACK {'did' if taken else 'did not'} start"
        )
    given, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = []
    for row in pixels.reshape(-1, *given["shape"]):
        interpreter.set_tensor(given["index"], row)
        interpreter.invoke()
        rows.append(interpreter.get_tensor(result["index"])[0])
    return np.stack(rows)


def main(job: str, target: str) -> None:
    """Answer a job."""
    with np.load(job) as given:
        found = {
            f"{name}/{kernels}": answers(given[name].tobytes(), given["pixels"], kernels)
            for name in given.files
            if name != "pixels"
            for kernels in KERNELS
        }
    np.savez_compressed(target, machine=platform.machine(), **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
