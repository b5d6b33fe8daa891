"""A .pte model in ExecuTorch, PyTorch's runtime for devices, on this machine's processor."""

from __future__ import annotations

import struct
import threading

import numpy as np

from helpers.deployed import DeployedModel, Tensor
from helpers.quiet import silence
from helpers.seal import without_seal

RESTORE = "convert it again with helpers.convert.to_executorch"

_opening = threading.Lock()  # one program at a time is read


class ExecuTorchModel(DeployedModel):
    """A .pte model in ExecuTorch's interpreter, one input at a time.

    It has a method "forward" with one input and one output [1, C], both float32.

    A file of helpers.convert is sealed with its SHA-256, so that no damage to it passes. ExecuTorch
    itself checks its instructions and not what lies in a delegate's part: a file of other tools in
    which bits were flipped may compute something else, or end the process.
    """

    def __init__(self, content: bytes):
        check_ends(without_seal(content, ".pte"))
        self._content = content  # the program reads its weights from here while it lives
        with silence() as log, _opening:
            try:
                self._method, about = self._open()
            except Exception as error:
                log.seek(0)
                words = log.read().decode(errors="replace").strip().splitlines()[-1:]
                raise ValueError(
                    f"ExecuTorch cannot open the model ({len(content)} bytes): it is damaged, or "
                    f"was made for another version; {RESTORE} ({error} {' '.join(words)})"
                ) from error
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
        self._try()

    def _open(self) -> tuple:
        """The method "forward" and what it says of itself."""
        from executorch.runtime import Runtime, Verification

        self._program = Runtime.get().load_program(
            self._content, verification=Verification.InternalConsistency
        )
        if "forward" not in self._program.method_names:
            raise ValueError(f"it has the methods {sorted(self._program.method_names)}")
        method = self._program.load_method("forward")
        return method, method.metadata

    def _try(self) -> None:
        """ValueError if the model fails on zeros; the delegate is set up at the first run."""
        with silence():
            try:
                self.run(np.zeros(self._given.shape, np.float32))
            except Exception as error:
                raise ValueError(
                    f"the model opens, and fails on an input of zeros; {RESTORE} ({error})"
                ) from error

    def run(self, row: np.ndarray) -> np.ndarray:
        import torch

        return self._method.execute([torch.from_numpy(row[None])])[0].numpy()[0]


def check_ends(content: bytes) -> None:
    """ValueError unless a .pte file holds the parts that its header tells of, and nothing after.

    Its head: the root's offset, "ET12", "eh00", the header's length, then in 64 bits the sizes of
    the program and of what comes before the segments, and in newer files of all segments.
    """
    said = f"the model ({len(content)} bytes) is damaged"
    if len(content) < 40:
        raise ValueError(f"{said}: it ends within its header; {RESTORE}")
    magic, length, program, base, size = struct.unpack("<4sIQQQ", content[8:40])
    if magic != b"eh00":
        raise ValueError(f"{said}, or older than ExecuTorch 1.0: no header; {RESTORE}")
    end = max(program, base + size) if length >= 32 else program
    if end > len(content) or (length >= 32 and end < len(content)):
        raise ValueError(f"{said}: its header tells of {end} bytes; {RESTORE}")


def _tensor(which: str, about, rank: int | None = None) -> Tensor:
    """ValueError unless the tensor is float32, with a batch of 1."""
    shape = tuple(about.sizes())
    if about.dtype() != 6 or shape[:1] != (1,) or rank not in (None, len(shape)):
        raise ValueError(
            f"the model's {which} is of type {about.dtype()} and shape {list(shape)}: expected "
            "float32 (type 6) and " + ("[1, C]" if rank else "a batch of 1")
        )
    return Tensor(shape[1:], np.float32)
