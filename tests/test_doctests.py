"""What a docstring shows is what the code does, and the names that lessons call are there."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HELPERS = sorted(f"helpers.{p.stem}" for p in (ROOT / "helpers").glob("*.py"))
TOOLS = sorted(p.stem for p in (ROOT / "tools").glob("*.py"))
PUBLIC = [name for name in HELPERS if not name.startswith("helpers.checks")]
# fmt: off
CONTRACT = {  # what lessons, tests and outside checks import
    "calibrate": {"minmax", "percentile", "mse", "entropy"},
    "checks": {"check"},
    "convert": {"to_tflite"},
    "costs": {"cost", "layer_costs"},
    "data": {"fashion_mnist", "watch", "photo", "ImageSet", "SequenceSet", "DataError"},
    "figures": {"COLORS", "use_style", "image_row", "heat_table"},
    "gates": {"L0Gate"},
    "models": {"NAMES", "build", "load", "as_input"},
    "prune": {
        "filter_ties", "global_mask", "gradient_mask", "gradual_sparsity", "keep_zeros",
        "magnitude_mask", "n_m_mask", "remove_filters", "L0Gate",
    },
    "qat": {"LSQ", "insert_quantizers", "start_steps", "best_step", "fold"},
    "quantize": {
        "QParams", "affine_params", "quantize", "dequantize", "fake_quantize",
        "power_of_two_params", "kmeans_codebook", "sqnr_db",
    },
    "runtime": {"open_model", "RUNTIMES"},
    "significance": {"compare_accuracy", "accuracy_interval"},
    "timing": {"latency", "compare_latency"},
    "train": {"fit", "predict", "accuracy"},
    "twins": {"keras_twin"},
}
# fmt: on
WITHOUT_EXAMPLE = {"check", "fit"}  # prints; trains


def public(module: str) -> dict[str, object]:
    """The functions and classes that a module defines for others."""
    found = vars(importlib.import_module(module)).items()
    return {
        f"{module}.{name}": value
        for name, value in found
        if (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module
        and not name.startswith("_")
    }


@pytest.mark.parametrize("module", HELPERS + TOOLS)
def test_the_examples_are_true(module):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(importlib.import_module(module), optionflags=flags)
    assert result.failed == 0, f"{result.failed} examples of {module} differ: see the output"


def says(value: object) -> str:
    """Its own docstring: not a base class's, nor the signature that dataclass puts there."""
    text = (vars(value)["__doc__"] if inspect.isclass(value) else value.__doc__) or ""
    return "" if text.startswith(f"{value.__name__}(") else text


@pytest.mark.parametrize("module", PUBLIC + TOOLS)
def test_public_names_say_what_they_are(module):
    silent = [name for name, value in public(module).items() if not says(value)]
    assert not silent, f"without a docstring: {', '.join(silent)}"


@pytest.mark.parametrize("name", CONTRACT)
def test_the_names_that_lessons_use_are_there_with_an_example(name):
    module = importlib.import_module(f"helpers.{name}")
    found = {key: getattr(module, key, None) for key in CONTRACT[name]}
    missing = {key for key, value in found.items() if value is None}
    assert not missing, f"helpers.{name} lacks {missing}"
    functions = {key for key, value in found.items() if inspect.isfunction(value)}
    shown = {key for key in functions if ">>> " in (found[key].__doc__ or "")}
    assert functions - shown <= WITHOUT_EXAMPLE, f"without an example: {functions - shown}"
