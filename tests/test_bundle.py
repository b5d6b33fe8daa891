"""The folder for a device: whole or not there, and its program says what the helpers say."""

import importlib.metadata
import json
import os
import subprocess
import sys
import venv

import numpy as np
import pytest
from PIL import Image
from test_twins import randomized

from helpers import bundle as bundle_file
from helpers.convert import bundle, to_tflite
from helpers.data import fashion_mnist
from helpers.keras_start import import_keras
from helpers.models import build
from helpers.runtime import open_model

FILES = {"labels.txt", "model.tflite", "preprocess.json", "requirements.txt", "run.py"}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return fashion_mnist("test").images[:40]


@pytest.fixture(scope="module")
def model():
    return randomized(build("TinyCNN"))


@pytest.fixture(scope="module")
def folder(model, images, tmp_path_factory):
    parent = tmp_path_factory.mktemp("devices")
    return bundle(model, parent / "fashion", mode="int8", calibration=images)


@pytest.fixture(scope="module")
def fresh_python(tmp_path_factory):
    """The Python of an environment with numpy, Pillow and ai-edge-litert, and nothing else."""
    home = tmp_path_factory.mktemp("fresh") / "environment"
    venv.create(home, symlinks=True)
    (site,) = home.glob("lib/python*/site-packages")
    for name in ("numpy", "pillow", "ai-edge-litert"):
        files = importlib.metadata.files(name)
        tops = {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            (site / top).symlink_to(files[0].locate().parents[len(files[0].parts) - 1] / top)
    return home / "bin" / "python"


def run(python, folder, *arguments) -> subprocess.CompletedProcess:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [python, folder / "run.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", env=clean, timeout=60)


def expected(content: bytes, image: np.ndarray, names) -> list[str]:
    z = open_model(content).predict(image[None])[0]
    p = np.exp(z - z.max())
    p /= p.sum()
    return [f"{p[k]:6.1%}  {names[k]}" for k in p.argsort()[::-1][:3]]


def test_what_is_in_it(folder, model, images):
    assert {path.name for path in folder.iterdir()} == FILES
    assert (folder / "model.tflite").read_bytes() == to_tflite(model, "int8", images)
    assert (folder / "labels.txt").read_text().splitlines() == list(fashion_mnist("test").names)
    assert len((folder / "requirements.txt").read_text().splitlines()) == 2
    assert len((folder / "run.py").read_text().splitlines()) < 80
    assert [path.name for path in folder.parent.iterdir()] == ["fashion"], "something is left over"


def test_it_runs_in_an_environment_of_three_packages(fresh_python, folder, images, tmp_path):
    refused = subprocess.run([fresh_python, "-c", "import torch"], capture_output=True, check=False)
    assert refused.returncode != 0, "the environment is not fresh"
    names = fashion_mnist("test").names
    for k, suffix in enumerate(("png", "bmp")):
        path = tmp_path / f"an image.{suffix}"
        Image.fromarray(images[k]).save(path)
        done = run(fresh_python, folder, path)
        assert done.returncode == 0, done.stderr
        wanted = expected((folder / "model.tflite").read_bytes(), images[k], names)
        assert done.stdout.splitlines() == wanted


def test_a_photograph_is_scaled_and_cut(images, tmp_path):
    """A gray ramp, 60 x 40 and in colors, for a model that reads 20 x 10 of its center."""
    keras = import_keras()
    layers = keras.layers
    network = keras.Sequential([keras.Input((10, 20, 3)), layers.Flatten(), layers.Dense(2)])
    folder = bundle(network, tmp_path / "b", labels=["a", "b"], resize=20)
    said = json.loads((folder / "preprocess.json").read_text())
    assert said == {"mode": "RGB", "resize": 20, "crop": [10, 20]}
    ramp = np.random.default_rng(0).integers(0, 256, (40, 60, 4), np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(ramp).save(path)
    small = Image.fromarray(ramp).convert("RGB").resize((30, 20), Image.Resampling.BILINEAR)
    cut = np.asarray(small.crop((5, 5, 25, 15)))
    wanted = expected((folder / "model.tflite").read_bytes(), cut, ["a", "b"])
    done = run(sys.executable, folder, path)
    assert done.stdout.splitlines() == wanted[:2], done.stderr


@pytest.mark.parametrize("kind", ["no argument", "nothing there", "no image", "cut"])
def test_the_program_says_in_one_line_what_is_wrong(folder, images, kind, tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(images[0]).save(path)
    if kind == "no image":
        path.write_text("words")
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:80])
    given = {"no argument": [], "nothing there": [tmp_path / "y.png"]}.get(kind, [path])
    done = run(sys.executable, folder, *given)
    assert done.returncode == 2 and done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("INFO:")]
    assert len(lines) == 1 and lines[0].startswith(("usage:", "run.py: cannot read"))


def test_what_is_wrong_is_said_and_nothing_is_left(model, images, tmp_path):
    keras = import_keras()
    windows = keras.Sequential([keras.Input((4, 3)), keras.layers.Flatten()])
    colors = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    wrong = {
        "calibration": (lambda to: bundle(model, to, mode="int8"), ValueError, "needs calibration"),
        "labels": (lambda to: bundle(model, to, labels=["a"]), ValueError, "1 labels for 10 out"),
        "no labels": (
            lambda to: bundle(colors, to),
            ValueError,
            "and has 192 outputs, so",
        ),
        "lines": (lambda to: bundle(model, to, labels=["a\nb"] * 10), ValueError, "several lines"),
        "empty": (lambda to: bundle(model, to, labels=[" "] * 10), ValueError, "is empty"),
        "resize": (lambda to: bundle(model, to, resize=20), ValueError, "choose at least 28"),
        "fraction": (lambda to: bundle(model, to, resize=30.5), TypeError, "whole number"),
        "no images": (lambda to: bundle(windows, to), ValueError, r"reads \[4, 3\]: a bundle is"),
        "no model": (lambda to: bundle(b"TFL3", to), TypeError, "pass a PyTorch or a Keras"),
    }
    for kind, (make, error, words) in wrong.items():
        with pytest.raises(error, match=words):
            make(tmp_path / "new")
            pytest.fail(kind)
        assert list(tmp_path.iterdir()) == [], kind


def test_a_folder_with_something_in_it_is_left_alone(model, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for taken in ("mine", "file"):
        with pytest.raises(FileExistsError, match="not empty: choose a new folder"):
            bundle(model, tmp_path / taken)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert bundle(model, tmp_path / "empty") == tmp_path / "empty"
    assert {path.name for path in (tmp_path / "empty").iterdir()} == FILES


def test_an_interrupted_writing_leaves_nothing(model, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle_file.Path, "rename", full)
    with pytest.raises(OSError, match="No space"):
        bundle(model, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
