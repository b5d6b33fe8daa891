r"""LiteRT on 64-bit Arm under Linux: emulated where the reader has it, else as recorded.

usage: EDGE_ARM=folder python -m helpers.arm_linux      (records data/arm_linux/answers.npz anew)

The folder is the root of a small arm64 system: Debian's Python 3.11, in /site the wheels of LiteRT
and NumPy, and QEMU's emulator of one program. On Debian, whose packages mmdebstrap and
qemu-user-static are, without changing the system itself:

    mmdebstrap --mode=root --variant=extract --architectures=arm64 \
        --include=python3,libstdc++6,zlib1g bookworm folder
    cp /usr/bin/qemu-aarch64-static folder/
    uv pip install --python-platform aarch64-manylinux_2_28 --python-version 3.11 \
        --only-binary :all: --target folder/site ai-edge-litert==2.3.0 numpy==2.4.6

What QEMU's processor computes is checked against nothing here; its times mean nothing.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from helpers import data, kernel_answers

RECORD = "arm_linux/answers.npz"
NETWORKS = ("TinyCNN", "ResNet8")
IMAGES = 200
LIMIT_SECONDS = 3600
QEMU, PYTHON = "/qemu-aarch64-static", "/usr/bin/python3.11"
PROCESSOR = "cortex-a76"  # with QEMU 7.2's "max", XNNPACK answered nonsense
TOLD = {  # XNNPACK does not start where it cannot read these
    "sys/devices/system/cpu/possible": "0\n",
    "sys/devices/system/cpu/present": "0\n",
    "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
    "CPU variant\t: 0x4\nCPU part\t: 0xd0b\nCPU revision\t: 1\n\n",
}


def missing() -> str:
    """Why nothing can be run on emulated Arm Linux here; "" where it can."""
    folder = os.environ.get("EDGE_ARM")
    if not folder:
        return "skipped: no emulated Arm Linux here (EDGE_ARM names none), so this is the record"
    wanted = (QEMU, PYTHON, "/site", "/tmp")
    lacking = [name for name in wanted if not Path(folder + name).exists()]
    return f"skipped: the folder of EDGE_ARM lacks {', '.join(lacking)}" if lacking else ""


def pixels() -> np.ndarray:
    """int8 [200, 28, 28, 1]: the first test images."""
    images = data.fashion_mnist("test").images[:IMAGES]
    return (images.astype(np.int16) - 128).astype(np.int8)[..., None]


def recorded() -> tuple[dict[str, bytes], dict[str, np.ndarray]]:
    """The .tflite files that were run, and {"NAME/KERNELS": int8 [200, 10]}, what they answered."""
    with data.shipped(RECORD) as content, np.load(io.BytesIO(content)) as record:
        stored = {name: record[name] for name in record.files}
    contents = {name: stored[name].tobytes() for name in NETWORKS}
    return contents, {name: values for name, values in stored.items() if "/" in name}


def emulated(contents: Mapping[str, bytes], images: np.ndarray) -> dict[str, np.ndarray]:
    """{"NAME/KERNELS": int8 [N, classes]} of .tflite files, from LiteRT on emulated Arm Linux.

    images: int8 [N, ...]. RuntimeError where missing() says so, or if the emulated Python fails.
    """
    if missing():
        raise RuntimeError(missing())
    root = Path(os.environ["EDGE_ARM"]).resolve()
    for name, text in TOLD.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    with tempfile.TemporaryDirectory(dir=root / "tmp") as place:
        job, target, program = (Path(place) / n for n in ("job.npz", "answers.npz", "program.py"))
        files = {name: np.frombuffer(content, np.uint8) for name, content in contents.items()}
        np.savez(job, pixels=images, **files)
        program.write_text(Path(kernel_answers.__file__).read_text("utf-8"), "utf-8")
        inside = [f"/{path.relative_to(root)}" for path in (program, job, target)]
        command = ["unshare", "--user", "--map-root-user", f"--root={root}"]
        command += [QEMU, "-cpu", PROCESSOR, PYTHON, *inside]
        done = subprocess.run(
            command,
            env={"PYTHONPATH": "/site"},
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
        )
        if done.returncode:
            raise RuntimeError(f"the emulated Python failed: {done.stderr.strip()[-400:]}")
        with np.load(target) as found:
            if found["machine"] != "aarch64":
                raise RuntimeError(f"the machine was {found['machine']}, not aarch64")
            return {name: found[name] for name in found.files if name != "machine"}


def record() -> None:
    """Convert the networks, run them on emulated Arm Linux, and store both."""
    from helpers import convert, models

    fit_images = data.fashion_mnist("fit").images[:100]
    contents = {n: convert.to_tflite(models.load(n), "int8", fit_images) for n in NETWORKS}
    files = {name: np.frombuffer(content, np.uint8) for name, content in contents.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **files, **emulated(contents, pixels()))
    sums = {**data.checksums(), RECORD: hashlib.sha256(buffer.getvalue()).hexdigest()}
    (data.DATA / RECORD).parent.mkdir(exist_ok=True)
    (data.DATA / RECORD).write_bytes(buffer.getvalue())
    lines = "".join(f"{value}  {name}\n" for name, value in sums.items())
    (data.DATA / "SHA256SUMS").write_text(lines, "ascii")


if __name__ == "__main__":
    record()
