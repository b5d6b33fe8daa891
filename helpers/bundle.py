"""A folder that a device can run: the model, its labels, its preprocessing, and a program."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from helpers.arguments import whole
from helpers.convert_tflite import to_tflite
from helpers.deployed import pixels_of
from helpers.runtime import open_model

REQUIREMENTS = "ai-edge-litert>=2.3,<3\npillow>=11\n"  # the first brings numpy
PROGRAM = Path(__file__).with_name("device_run.py")


def bundle(
    model: object,
    folder: str | os.PathLike,
    *,
    mode: str = "float32",
    calibration: np.ndarray | None = None,
    labels: Sequence[str] | None = None,
    resize: int | None = None,
) -> Path:
    """Write a folder with which `python run.py image.png` says what the image shows.

    It holds model.tflite, labels.txt, preprocess.json, run.py and requirements.txt; the program
    needs numpy, Pillow and ai-edge-litert, and nothing of this workbook.

    model, mode, calibration: as of to_tflite, for a model that reads images. labels: a name for
    each output; None for the ten of Fashion-MNIST, whose images are 28 x 28. resize: to how many
    pixels the program scales the short side of an image before it cuts out the center that the
    model reads; None for the longer side of that center. Returns the folder, which must be new or
    empty: it appears whole or not at all.

    Raises what to_tflite raises; ValueError for a model that reads no images, labels that do not
    fit, or a resize below the center's size; FileExistsError for a folder that holds something.
    """
    folder = Path(folder)
    if folder.is_symlink() or (folder.exists() and (folder.is_file() or any(folder.iterdir()))):
        raise FileExistsError(f"{folder} is there already, and not empty: choose a new folder")
    content = to_tflite(model, mode, calibration)
    opened = open_model(content)
    size = pixels_of(opened.input_shape)
    if size is None:
        raise ValueError(
            f"the model reads {list(opened.input_shape)}: a bundle is for models that read images"
        )
    texts = {
        "labels.txt": "".join(f"{name}\n" for name in checked_labels(labels, opened.classes, size)),
        "preprocess.json": json.dumps(preprocessing(size, resize), indent=2) + "\n",
        "run.py": PROGRAM.read_text(encoding="utf-8"),
        "requirements.txt": REQUIREMENTS,
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (part / "model.tflite").write_bytes(content)
        for name, text in texts.items():
            (part / name).write_text(text, encoding="utf-8", newline="\n")
        part.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return folder


def preprocessing(size: tuple, resize: int | None) -> dict:
    """What preprocess.json says.

    >>> preprocessing((224, 224, 3), 256)
    {'mode': 'RGB', 'resize': 256, 'crop': [224, 224]}
    """
    height, width, *colors = size
    resize = max(height, width) if resize is None else whole("resize", resize)
    if resize < max(height, width):
        raise ValueError(
            f"resize is {resize}, and the model reads {height} x {width} pixels: choose at least "
            f"{max(height, width)}"
        )
    return {"mode": "RGB" if colors else "L", "resize": resize, "crop": [height, width]}


def checked_labels(labels: Sequence[str] | None, classes: int, size: tuple) -> list[str]:
    """One name for each class; ValueError otherwise. size: of the image that the model reads.

    >>> checked_labels(["cat", "dog"], 2, (224, 224, 3))
    ['cat', 'dog']
    """
    if labels is None and (classes, size) != (10, (28, 28)):
        raise ValueError(
            f"the model reads {list(size)} and has {classes} outputs, so it is none of "
            "Fashion-MNIST: pass labels=[...], one name for each output"
        )
    if labels is None:
        from helpers.data import fashion_mnist

        labels = fashion_mnist("test").names
    labels = [str(name) for name in labels]
    if len(labels) != classes:
        raise ValueError(
            f"{len(labels)} labels for {classes} outputs: pass labels=[...], one name for each"
        )
    for name in labels:
        if not name.strip() or len(name.splitlines()) != 1:
            raise ValueError(f"the label {name!r} is empty or has several lines: pass one line")
    return labels
