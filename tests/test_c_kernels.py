"""The C computes the integers of lesson 43's engine, on this machine and on emulated chips."""

import ctypes
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_integer import converted, litert, pixels, stretched

from helpers import board, fixed_point, toolchain
from helpers.board import Board, HostModel
from helpers.c_layers import LAYERS
from helpers.c_model import generate
from helpers.convert import to_tflite
from helpers.data import fashion_mnist
from helpers.in_c import in_c
from helpers.integer import IntegerModel
from helpers.models import load
from helpers.tflite_file import operators
from helpers.twins import import_keras

pytestmark = pytest.mark.skipif(bool(toolchain.missing()), reason=toolchain.missing() or "there")
NAMES = ("TinyCNN", "LeNet5", "LeNet300", "ResNet8")
THOUSAND = 1000


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    images = fashion_mnist("fit").images[:100]
    return {name: to_tflite(load(name), "int8", images) for name in NAMES}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return pixels(fashion_mnist("test").images[:THOUSAND])


@pytest.fixture(scope="module")
def expected(files, images) -> dict[str, np.ndarray]:
    """What lesson 43's engine answers, int8 [1000, 10]."""
    return {name: IntegerModel(content).run(images) for name, content in files.items()}


def with_change(model, file, old, new):
    text = (toolchain.FOLDER / file).read_text("utf-8")
    assert text.count(old) == 1
    return model._replace(sources=model.sources | {file: text.replace(old, new)})


# --- whole networks ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_thousand_images_on_this_machine(name, files, images, expected):
    model = generate(files[name])
    np.testing.assert_array_equal(HostModel(model).run(images), expected[name])
    for kernels in ("window", "smlad"):
        np.testing.assert_array_equal(
            HostModel(model, kernels).run(images[:50]), expected[name][:50]
        )


@pytest.mark.parametrize("name", NAMES)
def test_twenty_images_on_an_emulated_cortex_m4(name, files, images, expected):
    chip = Board(generate(files[name]), "smlad", "-Os")
    np.testing.assert_array_equal(chip.run(images[:20]), expected[name][:20])


@pytest.mark.parametrize("name", NAMES)
def test_litert_reference_kernels_agree(name, files, images, expected):
    theirs = litert(files[name], images[:200], "reference")
    np.testing.assert_array_equal(theirs, expected[name][:200])


@pytest.mark.parametrize("name", NAMES)
def test_dense_layers_that_round_twice_are_caught(name, files, images, expected):
    twice = with_change(generate(files[name]), "kernels.c", "rescale_once(sum", "rescale_twice(sum")
    assert (HostModel(twice).run(images) != expected[name]).any()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("conv_plain.c", "rescale_twice(sum", "rescale_once(sum"),
        ("rescale.c", "(int64_t)a * m + (1 << 30)", "(int64_t)a * m"),
        ("rescale.c", "(a + half - (a < 0 && n > 0)) >> n", "(a + half) >> n"),
        ("kernels.c", "row >= 0 && row < p->in_h", "row > 0 && row < p->in_h"),
        ("kernels.c", "(b[k] - p->b_zero)", "(b[k] - p->a_zero)"),
        ("kernels.c", "(a[k] - p->a_zero) * (1 << 20)", "(a[k] - p->a_zero) * (1 << 19)"),
    ],
)
def test_other_mistakes_are_caught(file, old, new, files, images, expected):
    broken = with_change(generate(files["ResNet8"]), file, old, new)
    assert (HostModel(broken).run(images[:20]) != expected["ResNet8"][:20]).any()


def network(draw):
    """A small Keras network of operators that have C kernels; draw is Hypothesis's."""
    layers = import_keras().layers

    def whole(least: int, most: int) -> int:
        return draw(st.integers(least, most))

    def one_of(*choices):
        return draw(st.sampled_from(choices))

    x = start = import_keras().Input((whole(4, 9), whole(4, 9), one_of(1, 3)))
    for _ in range(whole(1, 4)):
        _, height, width, channels = x.shape
        kernel = whole(1, min(4, height)), whole(1, min(4, width))
        common = dict(strides=whole(1, 3), padding=one_of("same", "valid"))
        activation = one_of("linear", "relu", "relu6")
        kind = one_of("convolution", "max", "pad", "add")
        if kind == "convolution":
            x = layers.Conv2D(whole(1, 13), kernel, activation=activation, **common)(x)
        elif kind == "max":
            x = layers.MaxPooling2D(kernel, **common)(x)
        elif kind == "pad":
            x = layers.ZeroPadding2D(((whole(0, 2), whole(0, 2)), (1, 0)))(x)
        else:
            x = layers.Add()([x, layers.Conv2D(channels, 1, activation=activation)(x)])
    x = one_of(layers.Flatten, layers.GlobalAveragePooling2D)()(x)
    return import_keras().Model(start, layers.Dense(whole(2, 8))(x))


def test_random_networks():
    """All kernels, steps, paddings and fused activations, with factors below and above 1."""
    kinds, compared = set(), 0

    @settings(max_examples=25, deadline=None, derandomize=True, database=None)
    @given(st.data(), st.integers(0, 2**32 - 1), st.sampled_from(list(toolchain.KERNELS)))
    def compare(data, seed, kernels):
        nonlocal compared
        content, images = converted(network(data.draw), np.random.default_rng(seed))
        for file in (content, stretched(content, np.random.default_rng(seed))):
            try:
                wanted, model = IntegerModel(file).run(pixels(images)), generate(file)
            except ValueError as error:  # of a scale near zero
                refused = ("LiteRT aborts", "kernels take", "batch of 1")
                assert any(words in str(error) for words in refused), error
                continue
            np.testing.assert_array_equal(HostModel(model, kernels).run(pixels(images)), wanted)
            kinds.update(op.name for op in operators(file))
            compared += 1

    compare()
    assert kinds >= LAYERS.keys() and compared > 30


# --- functions ---------------------------------------------------------------------------------

NUMBERS = st.integers(-(2**28), 2**28)


@pytest.fixture(scope="module")
def rescale() -> ctypes.CDLL:
    return toolchain.host_library({}, ("rescale.c",))


@given(NUMBERS, st.floats(2.0**-31, 7.9))
def test_rescaling_twice(rescale, a, factor):
    m, shift = fixed_point.multiplier_and_shift(factor)
    wanted = fixed_point.rescale_twice(np.array([a]), factor)
    assert rescale.rescale_twice(a, int(m), -int(shift)) == wanted


@given(NUMBERS, st.integers(0, 20), st.integers(0, 40))
def test_halves_go_away_from_zero(rescale, a, n, near):
    """Once: where m is a power of two, so that float64 is exact and halves are met."""
    a = (a >> n << n) + (near - 20)
    wanted = fixed_point.rescale_in_float64(np.array([a]), 2.0**-n)
    m, shift = fixed_point.multiplier_and_shift(2.0**-n)
    assert rescale.rescale_once(a, int(m), -int(shift)) == wanted


@given(NUMBERS, st.integers(0, 30))
def test_the_rounding_shift(rescale, a, n):
    assert rescale.right_shift(a, n) == fixed_point.rounding_right_shift(np.array([a]), n)


# --- the emulated board ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chip(files, images) -> Board:
    chip = Board(generate(files["LeNet300"]), "plain", "-Os")
    chip.run(images[:1])
    return chip


def test_instructions_are_those_that_a_slow_counter_counts(files, images):
    """The hook in C adds up whole blocks; here Python is called for each instruction."""
    chip = Board(generate(files["LeNet300"]), "plain", "-Os")
    unicorn = pytest.importorskip("unicorn")
    seen = 0

    def count(*_):
        nonlocal seen
        seen += 1

    chip._uc.hook_add(unicorn.UC_HOOK_CODE, count)
    before = chip._total.value
    chip.run(images[:1])
    counted = chip._total.value - before
    assert 0 <= counted - seen < 200  # a block that reads the counter is entered twice
    assert 0 < counted - chip.instructions.sum() < 300  # the loop around the layers


def test_sizes_are_those_of_the_program(files, chip):
    from elftools.elf.elffile import ELFFile

    program = toolchain.firmware(generate(files["LeNet300"]).sources, optimize="-Os")
    elf = ELFFile(io.BytesIO(program))
    assert chip.code == 64 + elf.get_section_by_name(".text")["sh_size"]
    assert chip.constants == elf.get_section_by_name(".rodata")["sh_size"] > 266_200  # weights
    assert 1084 <= chip.variables < 1084 + 64
    assert 0 < chip.stack_bytes < 300


def test_an_emulated_cortex_m3_gives_the_same(files, images, expected):
    chip = Board(generate(files["TinyCNN"]), "window", "-Os", cpu="cortex_m3")
    np.testing.assert_array_equal(chip.run(images[:2]), expected["TinyCNN"][:2])
    with pytest.raises(ValueError, match="smlad|cortex_m7"):
        Board(generate(files["TinyCNN"]), cpu="cortex_m7")


def test_a_program_that_goes_astray_is_reported(files, images):
    model = generate(files["LeNet300"])
    wild = with_change(model, "kernels.c", "y[o] = to_int8", "y[o + 99999999] = to_int8")
    with pytest.raises(RuntimeError, match="the program failed at 0x"):
        Board(wild).run(images[:1])


def test_unknown_kernels_are_refused(files):
    with pytest.raises(ValueError, match="no kernels 'fast': there are plain, window, smlad"):
        HostModel(generate(files["LeNet300"]), "fast")
    assert board.files(("a.c",)) == ("a.c",)


# --- C in a lesson -----------------------------------------------------------------------------


def test_a_docstring_is_compiled():
    @in_c
    def twice(a):
        """int32_t twice(int32_t a) { return 2 * a; }"""

    @in_c(uses=[twice])
    def add_twice(a, b):
        """
        int64_t add_twice(int32_t a, int64_t b)
        {
            return twice(a) + b;
        }"""

    assert twice(-3) == -6
    found = add_twice(np.array([[1], [2]]), np.array([2**40, 0]))
    np.testing.assert_array_equal(found, [[2 + 2**40, 2], [4 + 2**40, 4]])


def test_the_compilers_message_arrives():
    @in_c
    def broken(a):
        """int32_t broken(int32_t a) { return b; }"""

    with pytest.raises(ValueError, match="(?s)C compiler says.*undeclared identifier 'b'"):
        broken(1)
