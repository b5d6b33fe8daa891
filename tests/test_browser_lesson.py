"""The functions of lesson 48 are those of the helpers, and its record says what its text says."""

import numpy as np
import pytest
from lesson_code import definitions

from helpers import in_browser, picture
from helpers.data import fashion_mnist

lesson = definitions("48_browser")


@pytest.mark.parametrize(("given", "out"), [(3, 2), (200, 28), (28, 28), (5, 1), (2, 7)])
def test_the_lesson_shares_pixels_out_as_the_helper_does(given, out):
    np.testing.assert_allclose(
        lesson.overlaps(given, out), picture.overlaps(given, out) / given, atol=1e-12
    )


def test_the_lesson_shrinks_as_the_helper_does():
    gray = np.random.default_rng(0).integers(0, 256, (50, 31), np.uint8)
    found = lesson.shrink(gray, 28, 17)
    assert np.abs(found - picture.shrink(gray, 28, 17)).max() <= 0.5 + 1e-9


def test_the_record_has_what_the_lesson_reads():
    found = in_browser.recorded()
    assert set(found["logits"]) == set(found["times"]) == {"own", "litert", "ort"}
    assert all(v.shape == (100, 10) for v in found["logits"].values())
    assert found["offline"] and not found["outside"] and found["pixels_differ"] == 0
    right = (found["logits"]["own"].argmax(1) == fashion_mnist("test").labels[:100]).mean()
    assert right > 0.85


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(in_browser.wasm, "missing", lambda: "")
    monkeypatch.setattr(in_browser.importlib.util, "find_spec", lambda name: None)
    assert in_browser.missing() == 'skipped: not installed: playwright (the extra "pages")'
    monkeypatch.undo()
    monkeypatch.setattr(in_browser.wasm, "missing", lambda: "skipped: why")
    assert in_browser.missing() == "skipped: why"
    with pytest.raises(RuntimeError, match="skipped: why"):
        in_browser.measured(b"", b"")
    monkeypatch.setattr(in_browser.wasm, "missing", lambda: "")
    monkeypatch.setattr(in_browser.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(in_browser, "chromium", lambda: "chromium")
    monkeypatch.setattr(in_browser, "_memory_is_limited", lambda: True)
    assert "little memory" in in_browser.missing()
