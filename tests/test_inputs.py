"""From stored data to a model's input: any layout in, nothing of the caller's changed."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import nn

from helpers.inputs import (
    as_input,
    as_tensor,
    examples,
    fitting_labels,
    in_dtype_of,
    stored,
    to_tensor,
)

DTYPES = ("<f4", ">f4", "<f8", ">f8", "<i2", ">i2", "<i4", ">i8", "<u2", ">u4", "u1", "i1", "?")
LAYOUTS = {
    "as it is": lambda x: x,
    "flipped": lambda x: x[..., ::-1],
    "every second": lambda x: x[..., ::2],
    "transposed": lambda x: x.T,
    "Fortran": np.asfortranarray,
    "broadcast": lambda x: np.broadcast_to(x, (2, *x.shape)),
}


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda d: npst.arrays(d, npst.array_shapes(min_dims=1, min_side=0, max_side=4))
    ),
    st.sampled_from(list(LAYOUTS.values())),
    st.booleans(),
)
@settings(deadline=None)
def test_a_tensor_of_any_array_holds_its_numbers(array, layout, locked):
    array = layout(read_only(array) if locked else array)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of an array that it must not write to
        found = as_tensor(array)
    assert tuple(found.shape) == array.shape
    assert np.array_equal(found.numpy(), array, equal_nan=array.dtype.kind == "f")


def test_writing_to_a_tensor_of_a_locked_array_leaves_the_array():
    array = read_only(np.arange(3.0))
    as_tensor(array).zero_()
    assert array.tolist() == [0, 1, 2]


@pytest.mark.parametrize("value", [3.5, np.float32(3.5), np.array(3.5, ">f8")])
def test_a_single_number_has_no_axis(value):
    assert as_tensor(value).shape == () and as_tensor(value).item() == 3.5


def test_lists_and_tensors_are_taken():
    assert as_tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    half = torch.ones(2, dtype=torch.bfloat16)
    assert as_tensor(half).dtype == torch.bfloat16


def test_what_a_tensor_hangs_on_stays_behind():
    w = nn.Parameter(torch.ones(2))
    assert not as_tensor(w).requires_grad and not as_tensor(2 * w).requires_grad
    with torch.inference_mode():
        x = torch.ones(2)
        again = as_tensor(x)
    for found in (as_tensor(x), again):
        assert not found.is_inference() and torch.equal(found, torch.ones(2))
        (w * found).sum().backward()


@pytest.mark.parametrize("values", [["a"], [None], np.array(["a"]), [{}], np.array([1], "M8[s]")])
def test_what_is_no_number_is_refused(values):
    with pytest.raises(TypeError, match="pass an array of numbers"):
        as_tensor(values)


@given(npst.arrays(np.uint8, (3, 28, 28)), st.sampled_from(["as it is", "flipped", "Fortran"]))
@settings(deadline=None, max_examples=20)
def test_images_become_shares_of_255(images, layout):
    images = LAYOUTS[layout](images)
    before = images.copy()
    found = as_input(images)
    assert found.dtype == torch.float32 and found.shape == (3, 1, 28, 28)
    assert np.array_equal(found[:, 0].numpy(), images.astype(np.float32) / np.float32(255))
    assert torch.equal(to_tensor(images), found)
    assert to_tensor(images).is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(images, before)


def test_windows_stay_as_they_are():
    windows = np.random.default_rng(0).normal(size=(2, 100, 6)).astype(">f4")[:, ::-1]
    found = to_tensor(windows)
    assert found.dtype == torch.float32 and np.array_equal(found.numpy(), windows)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, np.int8, bool])
def test_other_inputs_are_refused(dtype):
    words = r"inputs are .*: pass uint8 images or float32 windows, x.astype\(np.float32\)"
    for function in (to_tensor, stored):
        with pytest.raises(TypeError, match=words):
            function(np.zeros((2, 28, 28), dtype))


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.float32, torch.float64])
def test_a_batch_takes_the_dtype_of_the_weights(dtype):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).to(dtype)
    x = torch.ones(3, 2, 2)
    assert network(in_dtype_of(network, x)).dtype == dtype
    norm = nn.BatchNorm1d(4, affine=False).to(dtype)  # no parameters, only buffers
    assert in_dtype_of(norm, x).dtype == dtype
    counter = nn.Flatten()
    counter.register_buffer("count", torch.tensor(0))
    assert in_dtype_of(counter, x) is x


def test_stored_is_the_same_numbers():
    images = np.arange(2 * 784, dtype=np.uint8).reshape(2, 28, 28)
    assert np.array_equal(stored(images).numpy(), images)
    assert stored(images[:0]).shape == (0, 28, 28)
    assert stored(np.zeros((2, 6), np.float32)).shape == (2, 6)


@pytest.mark.parametrize(
    "images",
    [
        np.float32(1),
        np.zeros(3, np.float32),
        np.zeros((2, 14, 28), np.uint8),
        np.zeros(784, np.uint8),
    ],
)
def test_stored_needs_rows_of_examples(images):
    with pytest.raises(ValueError, match=r"shape .*: expected"):
        stored(images)


IMAGES = np.zeros((3, 28, 28), np.uint8)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", ">i2", "u2", "i4", ">i4", "u4", "i8", "u8"])
def test_labels_of_any_integer_type_become_int64(dtype):
    labels = np.array([0, 9, 100], dtype)
    for given_labels in (labels, labels[::-1].copy()[::-1], torch.from_numpy(labels.astype("i8"))):
        _, targets = examples(IMAGES, given_labels)
        assert targets.dtype == torch.int64 and targets.tolist() == [0, 9, 100]
    assert examples(IMAGES, [2, 1, 0], soft=False)[1].tolist() == [2, 1, 0]


def test_soft_targets_stay_floats():
    soft = torch.eye(3, dtype=torch.float64, requires_grad=True)
    _, targets = examples(IMAGES, soft)
    assert targets.dtype == torch.float64 and not targets.requires_grad


@pytest.mark.parametrize(
    ("images", "labels", "error", "words"),
    [
        (IMAGES, [0, 1], ValueError, "3 images, 2 labels: pass as many"),
        (IMAGES[:2], [0, 1, 2], ValueError, "2 images, 3 labels"),
        (IMAGES[:0], [], ValueError, "0 images, 0 labels: .* at least one"),
        (IMAGES, 1, ValueError, "3 images, 1 labels"),
        (IMAGES, [True, False, True], TypeError, "labels are torch.bool: pass integers, or"),
        (IMAGES, np.ones(3, complex), TypeError, "labels are torch.complex128"),
        (IMAGES, ["a", "b", "c"], TypeError, "array of numbers"),
        (IMAGES, [0.5, np.nan, 1], ValueError, "labels hold NaN or infinity"),
        (np.full((1, 2), np.nan, "f4"), [0], ValueError, "images hold NaN or infinity"),
        (np.array([[0, np.inf]], "f4"), [0], ValueError, "images hold NaN or infinity"),
        (IMAGES.astype(float), [0, 1, 2], TypeError, "inputs are float64"),
    ],
)
def test_examples_refuse(images, labels, error, words):
    with pytest.raises(error, match=words):
        examples(images, labels)


def test_where_labels_are_counted_soft_ones_are_refused():
    with pytest.raises(TypeError, match="labels are torch.float32: pass integers$"):
        examples(IMAGES, np.ones(3, np.float32), soft=False)


@given(st.integers(2, 12), st.lists(st.integers(-101, 13), min_size=1, max_size=5))
@settings(deadline=None)
def test_labels_are_classes_of_the_model(classes, labels):
    labels = torch.tensor(labels)
    outputs = torch.zeros(len(labels), classes)
    if all(0 <= label < classes for label in labels.tolist()):
        fitting_labels(outputs, labels, labels)
    else:
        span = f"labels run from {labels.min()} to {labels.max()}, for {classes} classes"
        with pytest.raises(ValueError, match=span):
            fitting_labels(outputs, labels, labels)


def test_a_wrong_label_is_found_before_its_batch_comes():
    with pytest.raises(ValueError, match="pass 0 to 9, and leave other rows out"):
        fitting_labels(torch.zeros(2, 10), torch.tensor([1, 2]), torch.tensor([1, 2, 10]))


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (4, 3, 2, 2)])
def test_labels_have_the_shape_of_outputs_without_classes(shape):
    outputs, one_each = torch.zeros(shape), torch.zeros(shape)[:, 0].long()
    fitting_labels(outputs, one_each, one_each)
    fitting_labels(outputs, outputs, outputs)
    for wrong in (outputs.long(), one_each.float(), one_each[:, None], one_each[:2]):
        with pytest.raises(ValueError, match="expected integers .* or soft targets"):
            fitting_labels(outputs, wrong, wrong)


@pytest.mark.parametrize(
    "outputs", [torch.zeros(3), torch.zeros(3, 1), (torch.zeros(3, 10),), None]
)
def test_cross_entropy_needs_logits_of_two_classes(outputs):
    with pytest.raises(ValueError, match=r"cross-entropy needs logits \[N, C\] with C >= 2"):
        fitting_labels(outputs, torch.zeros(3).long(), torch.zeros(3).long())


def test_soft_targets_may_be_any_numbers():
    for soft in (torch.full((2, 3), -0.5), torch.full((2, 3), 7.0)):
        fitting_labels(torch.zeros(2, 3), soft, soft)
