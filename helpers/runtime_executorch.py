"""A .pte model in ExecuTorch, PyTorch's runtime for devices, on this machine's processor."""

from __future__ import annotations

import numpy as np

from helpers.deployed import DeployedModel, Tensor
from helpers.quiet import captured_stderr, no_warnings

RESTORE = "convert it again with helpers.convert.to_executorch"


class ExecuTorchModel(DeployedModel):
    """A .pte model in ExecuTorch's interpreter, one input at a time.

    It has a method "forward" with one input and one output [1, C], both float32.
    """

    def __init__(self, content: bytes):
        with no_warnings():  # that its interface may change
            from executorch.runtime import Runtime, Verification

        self._content = content  # the program reads its weights from here while it lives
        with captured_stderr() as log:
            try:
                self._program = Runtime.get().load_program(
                    content, verification=Verification.InternalConsistency
                )
                self._method = self._program.load_method("forward")
            except Exception as error:
                log.seek(0)
                words = log.read().decode(errors="replace").strip().splitlines()[-1:]
                raise ValueError(
                    f"ExecuTorch cannot open the model ({len(content)} bytes): it is damaged, or "
                    f"was made for another version; {RESTORE} ({error} {' '.join(words)})"
                ) from error
        about = self._method.metadata
        if about.num_inputs() != 1 or about.num_outputs() != 1:
            raise ValueError(
                f"the model has {about.num_inputs()} inputs and {about.num_outputs()} outputs: "
                "expected one of each; run other models with executorch.runtime itself"
            )
        super().__init__(
            len(content),
            _tensor("input", about.input_tensor_meta(0)),
            _tensor("output", about.output_tensor_meta(0), rank=2),
        )

    def run(self, row: np.ndarray) -> np.ndarray:
        import torch

        return self._method.execute([torch.from_numpy(row[None])])[0].numpy()[0]


def _tensor(which: str, about, rank: int | None = None) -> Tensor:
    """ValueError unless the tensor is float32, with a batch of 1."""
    shape = tuple(about.sizes())
    if about.dtype() != 6 or shape[:1] != (1,) or rank not in (None, len(shape)):
        raise ValueError(
            f"the model's {which} is of type {about.dtype()} and shape {list(shape)}: expected "
            "float32 (type 6) and " + ("[1, C]" if rank else "a batch of 1")
        )
    return Tensor(shape[1:], np.float32)
