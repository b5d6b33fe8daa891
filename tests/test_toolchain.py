"""What needs no compiler: texts of C, a missing package, damaged programs, unfinished functions."""

import importlib.util

import pytest

from helpers import toolchain
from helpers.in_c import in_c


@pytest.fixture
def without(monkeypatch):
    """A machine without some packages."""
    found = importlib.util.find_spec

    def hide(*names):
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: None if name in names else found("json")
        )

    return hide


def test_what_is_missing_is_named(without):
    without("ziglang", "unicorn")
    words = 'skipped: not installed: ziglang, unicorn (the extra "micro")'
    assert toolchain.missing() == words
    with pytest.raises(RuntimeError, match="not installed: ziglang, unicorn"):
        toolchain.host_library({})
    without("unicorn")
    assert toolchain.missing().startswith("skipped: not installed: unicorn (")


def test_a_c_function_without_a_compiler_says_so(without):
    without("ziglang", "unicorn")

    @in_c
    def same(a):
        """int32_t same(int32_t a) { return a; }"""

    with pytest.raises(RuntimeError, match="not installed: ziglang"):
        same(1)


def test_an_unfinished_function_stays_one():
    def later(a):
        """
        int32_t later(int32_t a)
        {
            ...
        }"""

    assert in_c(later) is later and later(1) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "holds no C function of this name"),
        ("int32_t other(int32_t a) { return a; }", "holds no C function of this name"),
        ("int32_t f(float a) { return 1; }", "f has float: in_c knows uint8_t"),
    ],
)
def test_a_docstring_that_is_no_c_is_refused(text, words):
    def f(a):
        pass

    f.__doc__ = text
    with pytest.raises(ValueError, match=words.replace("uint8_t", "")):
        in_c(f)


def test_a_function_is_found_in_the_kernels():
    assert toolchain.source_of("to_int8").startswith("/* a rescaled sum as an int8 output */\nint8")
    assert "two_products" in toolchain.source_of("dot", "dot_smlad.c")
    assert "two_products" not in toolchain.source_of("dot", "dot_plain.c")
    with pytest.raises(ValueError, match="no function 'softmax' in helpers/c"):
        toolchain.source_of("softmax")


def test_kernels_are_files_that_exist():
    for files in toolchain.KERNELS.values():
        assert all((toolchain.FOLDER / name).is_file() for name in files)
