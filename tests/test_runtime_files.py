"""Files of ONNX Runtime and ExecuTorch at run time: inputs, damage, silence, threads."""

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from test_twins import randomized

from helpers.convert import to_executorch, to_onnx
from helpers.data import fashion_mnist
from helpers.models import build
from helpers.runtime import open_model
from helpers.runtime_executorch import check_ends
from helpers.seal import STARTS, sealed, without_seal
from helpers.train import predict

IMAGES = fashion_mnist("test").images[:40]
KINDS = (".onnx", ".pte")
AGAIN = r"convert (it|the model) again"


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return randomized(build("TinyCNN"))


@pytest.fixture(scope="module")
def files(model) -> dict[str, bytes]:
    return {".onnx": to_onnx(model), ".pte": to_executorch(model)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_or_its_bytes_predict_what_the_model_does(files, model, kind, tmp_path):
    path = tmp_path / f"model{kind}"
    path.write_bytes(files[kind])
    for source in (path, files[kind]):
        opened = open_model(source, threads=2)
        assert opened.size_bytes == len(files[kind])
        logits = opened.predict(IMAGES)
        np.testing.assert_allclose(logits, predict(model, IMAGES), rtol=0, atol=1e-4)
        assert logits.dtype == np.float32
    assert opened.input_quantization == (0.0, 0)
    assert opened.predict(IMAGES[:0]).shape == (0, 10)
    assert opened.prepare(IMAGES[3])() is None
    apart = np.concatenate([opened.predict(image[None]) for image in IMAGES[:5]])
    np.testing.assert_allclose(apart, logits[:5], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_inputs_are_refused(files, kind):
    opened = open_model(files[kind])
    for wrong in (IMAGES[0], IMAGES[..., None], IMAGES[:, :27], np.uint8(3)):
        with pytest.raises(ValueError, match=r"expected \[N, 28, 28\]"):
            opened.predict(wrong)
    for dtype in ("float32", "float64", "int64", "bool"):
        with pytest.raises(TypeError, match=f"dtype {dtype}: pass the raw pixels as uint8"):
            opened.predict(IMAGES.astype(dtype))
    with pytest.raises(TypeError, match="pass one NumPy array"):
        opened.predict(None)
    with pytest.raises(ValueError, match="does not read"):
        open_model(files[kind], "litert")


def damaged(content: bytes, draw: random.Random) -> bytes:
    """The file cut short, or with bits flipped, bytes set to zero, lost, or put in between."""
    kind, found = draw.choice(("cut", "flip", "zero", "lose", "insert")), bytearray(content)
    i = draw.randrange(len(found) - 1)
    if kind == "cut":
        return content[:i]
    if kind == "flip":
        found[i] ^= 1 << draw.randrange(8)
    if kind == "zero":
        found[i : i + 50] = bytes(len(found[i : i + 50]))
    if kind == "lose":
        del found[i : i + draw.randrange(1, 9)]
    if kind == "insert":
        found[i:i] = draw.randbytes(draw.randrange(1, 9))
    return bytes(found)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_anywhere_is_an_error_and_not_a_crash(files, kind):
    content, draw = files[kind], random.Random(0)
    cases = [damaged(content, draw) for _ in range(150)]
    cases += [content[:-1], content[:-70], content[: len(content) // 2], content[:8], content[:1]]
    for case in cases:
        if case != content:
            with pytest.raises(ValueError, match=AGAIN):
                open_model(case)


@pytest.mark.parametrize("kind", KINDS)
def test_a_foreign_file_is_an_error(files, kind):
    begin = files[kind][:12]
    for foreign in (begin + bytes(500), begin + b"PK\x03\x04" * 100, begin):
        with pytest.raises(ValueError, match=AGAIN):
            open_model(foreign)
    with pytest.raises(ValueError, match="no .tflite, .onnx or .pte file"):
        open_model(b"PK\x03\x04 this is a zip archive")


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_seal_a_file_opens_and_a_short_one_does_not(files, kind):
    bare = without_seal(files[kind], kind)
    assert len(bare) == len(files[kind]) - len(STARTS[kind]) - 72
    np.testing.assert_array_equal(
        open_model(bare).predict(IMAGES[:3]), open_model(files[kind]).predict(IMAGES[:3])
    )
    for end in (40, 1000, len(bare) // 2, len(bare) - 500, len(bare) - 1):
        with pytest.raises(ValueError, match=AGAIN):
            open_model(bare[:end])


def test_what_lies_in_an_unsealed_file_is_looked_at_in_a_child(files, tmp_path):
    """Instructions of a .pte file are verified, and some damage passes: none ends this process."""
    bare, draw = without_seal(files[".pte"], ".pte"), random.Random(1)
    head = bytearray(bare[:400])
    cases = []
    for _ in range(12):
        case = bytearray(bare)
        case[draw.randrange(8, len(head))] ^= 1 << draw.randrange(8)
        cases.append(bytes(case))
    (tmp_path / "cases").write_bytes(b"".join(cases))
    program = (
        "import sys; from helpers.runtime import open_model\n"
        f"cases, n = open({str(tmp_path / 'cases')!r}, 'rb').read(), {len(bare)}\n"
        "found = []\n"
        "for i in range(0, len(cases), n):\n"
        "    try: open_model(cases[i : i + n]); found.append('opens')\n"
        "    except ValueError: found.append('refused')\n"
        "print(sorted(set(found)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and "refused" in done.stdout, done.stderr
    assert done.stderr == ""


def test_a_seal_with_a_flipped_bit_is_a_seal():
    for kind in KINDS:
        whole = sealed(b"some model", kind)
        assert without_seal(whole, kind) == b"some model"
        assert without_seal(b"", kind) == b"" and without_seal(b"x" * 200, kind) == b"x" * 200
        for i in range(len(whole)):
            wrong = bytearray(whole)
            wrong[i] ^= 4
            with pytest.raises(ValueError, match="SHA-256"):
                without_seal(bytes(wrong), kind)


def test_a_header_of_a_pte_file_says_where_it_ends():
    with pytest.raises(ValueError, match="ends within its header"):
        check_ends(bytes(4) + b"ET12")
    with pytest.raises(ValueError, match="no header"):
        check_ends(bytes(4) + b"ET12" + bytes(60))


def written(nodes, given, result, *, batch="batch", weights=()) -> bytes:
    """An .onnx file of some nodes from "input" [batch, 4] to "output"."""
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [tensor("input", given, [batch, 4])],
        [tensor(name, kind, shape) for name, kind, shape in result],
        list(weights),
    )
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
DOUBLED = helper.make_node("Add", ["input", "input"], ["output"])
OTHER_ENDS = {
    "two outputs": (
        lambda: written(
            [DOUBLED, helper.make_node("Neg", ["input"], ["minus"])],
            FLOAT,
            [("output", FLOAT, ["batch", 4]), ("minus", FLOAT, ["batch", 4])],
        ),
        "1 inputs and 2 outputs",
    ),
    "double": (lambda: written([DOUBLED], DOUBLE, [("output", DOUBLE, ["batch", 4])]), "float32"),
    "a batch of two": (
        lambda: written([DOUBLED], FLOAT, [("output", FLOAT, [2, 4])], batch=2),
        "expected a batch of 1 or any size",
    ),
    "no such operation": (
        lambda: written(
            [helper.make_node("Dreams", ["input"], ["output"])], FLOAT, [("output", FLOAT, [1, 4])]
        ),
        "operations that this version does not have",
    ),
}


@pytest.mark.parametrize("kind", OTHER_ENDS)
def test_other_onnx_files_say_what_is_the_matter(kind, capfd):
    make, words = OTHER_ENDS[kind]
    with pytest.raises(ValueError, match=words):
        open_model(make())
    assert capfd.readouterr() == ("", "")


def test_a_file_with_a_batch_of_one_runs_one_at_a_time():
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    for batch in (1, "batch"):
        content = written([DOUBLED], FLOAT, [("output", FLOAT, [batch, 4])], batch=batch)
        onnx.checker.check_model(onnx.load_from_string(content))
        np.testing.assert_array_equal(open_model(content).predict(rows), 2 * rows)
        with pytest.raises(TypeError, match="pass float32"):
            open_model(content).predict(rows.astype(float))


@pytest.mark.parametrize("kind", KINDS)
def test_threads_may_share_a_model(files, kind):
    opened = open_model(files[kind])
    expected = opened.predict(IMAGES)
    with ThreadPoolExecutor(6) as pool:
        for i, logits in enumerate(pool.map(lambda i: opened.predict(IMAGES[i::6]), range(6))):
            np.testing.assert_allclose(logits, expected[i::6], rtol=0, atol=1e-5)


def test_several_models_live_side_by_side(files):
    both = [open_model(files[kind]) for kind in KINDS for _ in range(2)]
    found = [model.predict(IMAGES) for model in both]
    for logits in found:
        np.testing.assert_allclose(logits, found[0], rtol=0, atol=1e-4)


def test_a_fresh_process_prints_nothing(files, tmp_path):
    """ExecuTorch looks at the processor when it first runs, and says so."""
    for kind in KINDS:
        (tmp_path / f"model{kind}").write_bytes(files[kind])
    program = (
        "import sys, numpy as np; from helpers.runtime import open_model\n"
        "for kind in ('.onnx', '.pte'):\n"
        f"    model = open_model({str(tmp_path / 'model')!r} + kind)\n"
        "    model.predict(np.zeros((2, 28, 28), np.uint8))\n"
        "    if kind == '.onnx': print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
