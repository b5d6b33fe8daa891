"""The shipped data: what it is, and what happens when it is not."""

import gzip
import hashlib
import shutil

import numpy as np
import pytest

from helpers import data


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of data/ without the large files, which tests may damage."""
    shutil.copytree(
        data.DATA, tmp_path / "data", ignore=shutil.ignore_patterns("train-images*", "models")
    )
    monkeypatch.setattr(data, "DATA", tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("split", "n"), [("train", 60000), ("fit", 55000), ("validation", 5000), ("test", 10000)]
)
def test_fashion_mnist(split, n):
    part = data.fashion_mnist(split)
    assert part.images.shape == (n, 28, 28) and part.images.dtype == np.uint8
    assert part.labels.shape == (n,) and part.labels.dtype == np.int64
    assert len(part) == n and len(part.names) == 10
    counts = np.bincount(part.labels, minlength=10)
    assert counts.sum() == n and (counts.min() == counts.max() or split in ("fit", "validation"))


def test_fit_and_validation_are_train():
    whole, fit, held = (data.fashion_mnist(s) for s in ("train", "fit", "validation"))
    assert np.array_equal(whole.images, np.concatenate([fit.images, held.images]))
    assert np.array_equal(whole.labels, np.concatenate([fit.labels, held.labels]))


def test_known_first_images():
    test = data.fashion_mnist("test")
    assert [test.names[i] for i in test.labels[:3]] == ["Ankle boot", "Pullover", "Trouser"]
    assert test.images[0].sum() == 33456


def test_watch_keeps_subjects_apart():
    parts = {split: data.watch(split) for split in ("train", "fit", "validation", "test")}
    people = {split: set(part.subjects.tolist()) for split, part in parts.items()}
    assert people["fit"] | people["validation"] == people["train"] == set(range(1, 8))
    assert not people["fit"] & people["validation"] and people["test"] == {8, 9, 10}
    assert len(parts["train"]) + len(parts["test"]) == 4677
    for part in parts.values():
        assert part.windows.shape[1:] == (100, 6) and part.windows.dtype == np.float32
        assert set(part.labels.tolist()) == set(range(7)) and len(part.names) == 7


def test_watch_windows_overlap_by_half_and_stay_in_a_recording():
    part = data.watch("train")
    follows = (part.windows[:-1, 50:] == part.windows[1:, :50]).all(axis=(1, 2))
    changes = np.flatnonzero(~follows)
    assert len(changes) == 97  # 7 subjects x 14 recordings, less one
    same = part.labels[:-1][follows] == part.labels[1:][follows]
    assert same.all() and (part.subjects[:-1][follows] == part.subjects[1:][follows]).all()


@pytest.mark.parametrize("name", data.PHOTOS)
def test_photos(name):
    image = data.photo(name)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


@pytest.mark.parametrize(
    ("function", "given"),
    [(data.fashion_mnist, "tests"), (data.watch, "val"), (data.photo, "cat")],
)
def test_wrong_names_list_the_right_ones(function, given):
    with pytest.raises(ValueError, match=f"{given}.*choose one of"):
        function(given)


def test_every_data_file_is_listed():
    files = {
        p.relative_to(data.DATA).as_posix()
        for folder in ("fashion_mnist", "watch", "photos")
        for p in (data.DATA / folder).iterdir()
        if p.name != "LICENSE"
    }
    assert files == set(data.checksums())


def test_a_flipped_byte_is_named(copied):
    path = copied / "fashion_mnist" / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(path.read_bytes())
    expected = hashlib.sha256(content).hexdigest()
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(data.DataError) as error:
        data.fashion_mnist("test")
    for part in ("data/fashion_mnist/t10k-labels-idx1-ubyte.gz", expected, "git checkout"):
        assert part in str(error.value)


@pytest.mark.parametrize("name", ["watch/watch.npz", "photos/coffee.jpg"])
def test_a_missing_file_is_named(copied, name):
    (copied / name).unlink()
    with pytest.raises(data.DataError) as error:
        data.watch("test") if name.startswith("watch") else data.photo("coffee")
    for part in (f"data/{name}", data.checksums()[name], "git checkout"):
        assert part in str(error.value)


def test_a_missing_list_of_checksums(copied):
    (copied / "SHA256SUMS").unlink()
    with pytest.raises(data.DataError, match="SHA256SUMS"):
        data.photo("coffee")


def test_a_file_that_is_not_idx(copied):
    path = copied / "fashion_mnist" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(b"\0\0\x0d\1" + bytes(10004)))
    sums = (copied / "SHA256SUMS").read_text()
    old = data.checksums()["fashion_mnist/t10k-labels-idx1-ubyte.gz"]
    new = hashlib.sha256(path.read_bytes()).hexdigest()
    (copied / "SHA256SUMS").write_text(sums.replace(old, new))
    with pytest.raises(data.DataError, match="not an IDX file"):
        data.fashion_mnist("test")
