"""WebAssembly modules: their sections, their memory, and the generated model inside."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import c_model, convert, toolchain, wasm
from helpers.data import fashion_mnist
from helpers.kernel_answers import answers
from helpers.models import load
from helpers.varint import varint

compiled = pytest.mark.skipif(bool(wasm.missing()), reason=wasm.missing() or "there")
ECHO = "int first(const signed char *x) { return x[0]; }"


@pytest.fixture(scope="module")
def content() -> bytes:
    return convert.to_tflite(load("TinyCNN"), "int8", fashion_mnist("fit").images[:100])


@pytest.fixture(scope="module")
def model(content) -> c_model.CModel:
    return c_model.generate(content)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    images = fashion_mnist("test").images[:1000]
    return (images.astype(np.int16) - 128).astype(np.int8)[..., None]


@compiled
@pytest.mark.parametrize("simd", [False, True])
@pytest.mark.parametrize("kernels", ["plain", "window", "simd128"])
def test_a_thousand_images_have_the_reference_kernels_logits(content, model, pixels, kernels, simd):
    made = wasm.WasmModel(model, kernels, simd=simd)
    np.testing.assert_array_equal(made.run(pixels), answers(content, pixels, "reference"))
    assert "imports" not in wasm.sections(made.content) and made.module.pages == 1
    assert set(made.module.names) == {"memory", *wasm.EXPORTS}


@compiled
def test_an_access_outside_of_the_memory_traps():
    import wasmtime

    module = wasm.Module(toolchain.webassembly({"x.c": ECHO}, exports=["first"]))
    module.memory.view(np.int8)[65535] = -7
    assert module.call("first", 65535) == -7
    with pytest.raises(wasmtime.Trap, match="out of bounds"):
        module.call("first", 65536)


@compiled
def test_what_is_no_module_is_refused(model):
    with pytest.raises(ValueError, match="no WebAssembly module"):
        wasm.Module(b"\0asm\1\0\0\0\xff")
    with pytest.raises(ValueError, match="no kernels 'fast'"):
        wasm.model_module(model, "fast")
    with pytest.raises(TypeError, match="pass int8"):
        wasm.WasmModel(model).run(np.zeros((1, 28, 28), np.uint8))


@given(st.integers(0, 2**32 - 1), st.binary(max_size=3))
def test_numbers_are_read_as_they_are_written(number, before):
    written = before + varint(number)
    assert wasm.unsigned(written, len(before)) == (number, len(written))


@given(st.binary(max_size=40))
def test_sections_are_read_or_refused(tail):
    try:
        found = wasm.sections(b"\0asm\1\0\0\0" + tail)
    except ValueError as error:
        assert "module" in str(error)
    else:
        assert sum(map(len, found.values())) <= len(tail)
    with pytest.raises(ValueError, match="no WebAssembly module: it begins with"):
        wasm.sections(b"TFL3" + tail)


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    words = 'skipped: not installed: ziglang, wasmtime (the extra "micro")'
    assert wasm.missing() == words
    with pytest.raises(RuntimeError, match="not installed: ziglang"):
        toolchain.webassembly({"x.c": ECHO})
