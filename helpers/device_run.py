"""Says what an image shows: python run.py image.png

It needs numpy, Pillow and ai-edge-litert, and what lies beside it: model.tflite, labels.txt, and
preprocess.json, which tells how an image becomes what the model reads.
"""

import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

HERE = Path(__file__).resolve().parent


def pixels(path: str, said: dict) -> np.ndarray:
    """The image as uint8 [height, width, channels]: short side to `resize`, then the center."""
    with Image.open(path) as image:
        image = image.convert(said["mode"])
    factor = said["resize"] / min(image.size)
    size = [max(said["resize"], round(side * factor)) for side in image.size]
    if size != list(image.size):
        image = image.resize(size, Image.Resampling.BILINEAR)
    height, width = said["crop"]
    left, top = (image.width - width) // 2, (image.height - height) // 2
    box = (left, top, left + width, top + height)
    return np.asarray(image.crop(box)).reshape(height, width, -1)


def logits(content: bytes, image: np.ndarray) -> np.ndarray:
    """What the model answers, float32 [classes]."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    given, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    x = image[None].astype(np.float32) / 255
    scale, zero_point = given["quantization"]
    if scale:  # the model reads integers
        limits = np.iinfo(given["dtype"])
        x = (np.rint(x / np.float64(scale)) + zero_point).clip(limits.min, limits.max)
    interpreter.set_tensor(given["index"], x.astype(given["dtype"]))
    interpreter.invoke()
    z = interpreter.get_tensor(result["index"])[0].astype(np.float32)
    scale, zero_point = result["quantization"]
    return (z - zero_point) * scale if scale else z


def main(arguments: list[str]) -> int:
    """Print the three likeliest labels; the program's exit status."""
    if len(arguments) != 1:
        print("usage: python run.py image.png", file=sys.stderr)
        return 2
    said = json.loads((HERE / "preprocess.json").read_text(encoding="utf-8"))
    labels = (HERE / "labels.txt").read_text(encoding="utf-8").splitlines()
    try:
        image = pixels(arguments[0], said)
    except (OSError, ValueError) as error:
        print(f"run.py: cannot read {arguments[0]} as an image: {error}", file=sys.stderr)
        return 2
    z = logits((HERE / "model.tflite").read_bytes(), image)
    p = np.exp(z - z.max())
    p /= p.sum()
    for k in p.argsort()[::-1][:3]:
        print(f"{p[k]:6.1%}  {labels[k]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
