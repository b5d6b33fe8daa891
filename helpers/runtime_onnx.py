"""An .onnx model in ONNX Runtime, on this machine's processor."""

from __future__ import annotations

import numpy as np

from helpers.deployed import DeployedModel, Tensor
from helpers.quiet import captured_stderr
from helpers.seal import without_seal

RESTORE = "convert it again with helpers.convert.to_onnx"


class OnnxModel(DeployedModel):
    """An .onnx model in an ONNX Runtime session; as many inputs at a time as the file allows.

    It has one input and one output [N, C], both float32.
    """

    ROWS = 256  # of a file that takes any number: more would only use memory

    def __init__(self, content: bytes, threads: int):
        without_seal(content, ".onnx")
        self._session = _session(content, threads)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(
                f"the model has {len(inputs)} inputs and {len(outputs)} outputs: expected one of "
                "each; run other models with onnxruntime itself"
            )
        self._input = inputs[0].name
        self._any_number = not isinstance(inputs[0].shape[0], int)
        super().__init__(
            len(content), _tensor("input", inputs[0]), _tensor("output", outputs[0], rank=2)
        )
        self._try()

    def _try(self) -> None:
        """ValueError if the model fails on zeros: shapes inside may fit no input at all."""
        try:
            found = self.run(np.zeros(self._given.shape, np.float32)).shape
        except Exception as error:
            raise ValueError(
                f"the model opens, and fails on an input of zeros; {RESTORE} ({error})"
            ) from error
        if found != self._result.shape:
            raise ValueError(
                f"the model returns {list(found)} where it says {list(self._result.shape)}; "
                + RESTORE
            )

    def run(self, row: np.ndarray) -> np.ndarray:
        return self._session.run(None, {self._input: row[None]})[0][0]

    def run_all(self, rows: np.ndarray) -> np.ndarray:
        if not self._any_number:
            return super().run_all(rows)
        parts = np.split(rows, range(self.ROWS, len(rows), self.ROWS)) if len(rows) else []
        found = [self._session.run(None, {self._input: part})[0] for part in parts]
        return np.concatenate([np.empty((0, *self._result.shape), np.float32), *found])


def _session(content: bytes, threads: int):
    """ONNX Runtime's session, opened in silence."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised as well as printed
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    with captured_stderr():
        try:
            return onnxruntime.InferenceSession(
                content,
                options,
                providers=["CPUExecutionProvider"],
                enable_fallback=0,  # it would print the error, and try the same provider again
            )
        except Exception as error:  # its own kinds have no common one but this
            raise ValueError(
                f"ONNX Runtime cannot open the model ({len(content)} bytes): it is damaged, or "
                f"uses operations that this version does not have; {RESTORE} ({error})"
            ) from error


def _tensor(which: str, details, rank: int | None = None) -> Tensor:
    """ValueError unless the tensor is float32 of a known shape, but for the batch."""
    shape, said = details.shape, f"the model's {which} is {details.type} {details.shape}"
    known = shape and all(isinstance(size, int) for size in shape[1:])
    if not known or (shape[0] != 1 and isinstance(shape[0], int)):
        raise ValueError(f"{said}: expected a batch of 1 or any size, and other sizes known")
    if details.type != "tensor(float)" or rank not in (None, len(shape)):
        raise ValueError(f"{said}: expected float32" + (" logits [N, C]" if rank else ""))
    return Tensor(shape[1:], np.float32)
