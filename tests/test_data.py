"""The shipped data: what it is, and what happens when it is not."""

import gzip
import hashlib
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import data

DAMAGES = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def damage(draw):
    """A function bytes -> bytes that flips, deletes, inserts, doubles or cuts off some of them."""
    place, size = draw(st.floats(0, 1)), draw(st.integers(1, 40))
    kind = draw(st.sampled_from(["flip", "delete", "insert", "double", "cut", "empty"]))
    mask, new = draw(st.integers(1, 255)), draw(st.binary(min_size=1, max_size=20))

    def damaged(content: bytes) -> bytes:
        i = min(int(place * len(content)), len(content) - 1)
        flipped = content[:i] + bytes([content[i] ^ mask]) + content[i + 1 :]
        return {
            "flip": flipped,
            "delete": content[:i] + content[i + size :],
            "insert": content[:i] + new + content[i:],
            "double": content[: i + size] + content[i:],
            "cut": content[:i],
            "empty": b"",
        }[kind]

    return damaged


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of data/ without the large files, which tests may damage."""
    shutil.copytree(
        data.DATA, tmp_path / "data", ignore=shutil.ignore_patterns("train-images*", "models")
    )
    monkeypatch.setattr(data, "DATA", tmp_path / "data")
    return tmp_path / "data"


def relist(folder, name):
    """Put the SHA-256 that the file has now into SHA256SUMS."""
    path, old = folder / "SHA256SUMS", data.checksums()[name]
    new = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    path.write_text(path.read_text().replace(old, new))


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
        for folder in (
            "arm_linux",
            "browser",
            "detector",
            "fashion_mnist",
            "watch",
            "photos",
            "search",
            "speech",
        )
        for p in (data.DATA / folder).iterdir()
        if not p.name.startswith("LICENSE")
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
    with pytest.raises(data.DataError, match="git checkout -- data/SHA256SUMS`, or clone"):
        data.photo("coffee")


GOOD = "a" * 64


@pytest.mark.parametrize(
    "content",
    [
        b"\n",
        b"# comment\n",
        f"{GOOD} *photos/coffee.jpg\n".encode(),
        f"{GOOD} photos/coffee.jpg\n".encode(),
        f"{GOOD[:-1]}  photos/coffee.jpg\n".encode(),
        f"{GOOD}a  photos/coffee.jpg\n".encode(),
        f"{GOOD.upper()}  photos/coffee.jpg\n".encode(),
        f"{GOOD[:-1]}g  photos/coffee.jpg\n".encode(),
        f"{GOOD}  \n".encode(),
        f"{GOOD}  photos/a b.jpg\n".encode(),
        "é".encode(),
        b"\xff\xfe",
        f"\ufeff{GOOD}  photos/coffee.jpg\n".encode(),
        f"{GOOD}  photos/coffee.jpg\n".encode("utf-16"),
        b"[1]",
        b"null",
        b"<<<<<<< HEAD\n",
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_every_line_of_the_checksums_is_one(copied, content, alone):
    path = copied / "SHA256SUMS"
    path.write_bytes(content if alone else path.read_bytes() + content)
    for read in (data.checksums, lambda: data.photo("coffee")):
        with pytest.raises(data.DataError, match="SHA256SUMS.*git checkout -- data/SHA256SUMS"):
            read()


@pytest.mark.parametrize("content", [b"", f"{GOOD}  photos/other.jpg\n".encode()])
def test_a_file_that_is_not_listed_is_not_believed(copied, content):
    (copied / "SHA256SUMS").write_bytes(content)
    for name, read in (
        ("photos/coffee.jpg", lambda: data.photo("coffee")),
        ("watch/watch.npz", lambda: data.watch("test")),
        ("fashion_mnist/t10k-images-idx3-ubyte.gz", lambda: data.fashion_mnist("test")),
    ):
        with pytest.raises(data.DataError, match=f"SHA256SUMS does not list {name}; restore it"):
            read()


def test_lines_may_end_as_on_windows(copied):
    expected, path = data.checksums(), copied / "SHA256SUMS"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n").rstrip())
    assert data.checksums() == expected and len(expected) == 29
    assert data.photo("coffee").ndim == 3


def test_the_list_or_the_file_may_be_the_damaged_one(copied):
    path = copied / "SHA256SUMS"
    digest = data.checksums()["photos/coffee.jpg"]
    path.write_text(path.read_text().replace(digest, GOOD))
    both = "restore both with `git checkout -- data/photos/coffee.jpg data/SHA256SUMS`, or clone"
    with pytest.raises(data.DataError, match=f"is {digest}, expected {GOOD}; {both}"):
        data.photo("coffee")


@given(damage())
@DAMAGES
def test_damaged_checksums_are_noticed_or_change_nothing(copied, damaged):
    path = copied / "SHA256SUMS"
    intact, expected = path.read_bytes(), data.photo("chelsea")
    try:
        path.write_bytes(damaged(intact))
        try:
            assert np.array_equal(data.photo("chelsea"), expected)
        except data.DataError as error:
            assert "SHA256SUMS" in str(error) and "git checkout -- " in str(error)
    finally:
        path.write_bytes(intact)


FILES = {
    "photos/chelsea.jpg": lambda: data.photo("chelsea"),
    "watch/watch.npz": lambda: data.watch("test").windows,
    "fashion_mnist/t10k-labels-idx1-ubyte.gz": lambda: data.fashion_mnist("test").labels,
}


@pytest.mark.parametrize("name", FILES)
@given(damaged=damage())
@settings(DAMAGES, max_examples=12)
def test_a_damaged_file_is_noticed(copied, name, damaged):
    path = copied / name
    intact = path.read_bytes()
    try:
        path.write_bytes(damaged(intact))
        if path.read_bytes() != intact:
            with pytest.raises(data.DataError, match=f"data/{name} is damaged.*git checkout"):
                FILES[name]()
    finally:
        path.write_bytes(intact)


@pytest.mark.parametrize("name", FILES)
@given(damaged=damage())
@settings(DAMAGES, max_examples=12)
def test_what_a_damaged_file_leads_to_is_named_where_the_list_agrees_with_it(copied, name, damaged):
    """Nothing but a DataError, or an array of the shape that was promised."""
    path, listed = copied / name, (copied / "SHA256SUMS").read_bytes()
    intact = path.read_bytes()
    try:
        path.write_bytes(damaged(intact))
        relist(copied, name)
        try:
            assert FILES[name]().ndim in (1, 3)
        except data.DataError as error:
            assert f"data/{name} is not what it should be" in str(error)
            assert "restore both with `git checkout -- " in str(error)
    finally:
        path.write_bytes(intact)
        (copied / "SHA256SUMS").write_bytes(listed)


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b"\0\0\x0d\1" + bytes(10004), mtime=0),
        gzip.compress(b"\0\0\x08\1" + (10000).to_bytes(4, "big") + bytes(9999), mtime=0),
        gzip.compress(b"\0\0\x08\1" + (10000).to_bytes(4, "big") + bytes(10001), mtime=0),
        gzip.compress(b"\0\0\x08\1" + (9999).to_bytes(4, "big") + bytes(9999), mtime=0),
        gzip.compress(b"\0\0\x08\1" + (5).to_bytes(4, "big") + bytes(10000), mtime=0),
        gzip.compress(b"\0\0\x08\2" + (10000).to_bytes(4, "big") + bytes(10000), mtime=0),
        gzip.compress(b"\0\0", mtime=0),
        gzip.compress(b"", mtime=0),
        b"not gzip",
        b"",
    ],
)
def test_a_file_that_is_not_idx(copied, content):
    name = "fashion_mnist/t10k-labels-idx1-ubyte.gz"
    (copied / name).write_bytes(content)
    relist(copied, name)
    with pytest.raises(data.DataError, match="t10k-labels.* is not what it should be"):
        data.fashion_mnist("test")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(
        data.DataError, match=f"{tmp_path} cannot be read .*expected SHA-256 {GOOD}"
    ):
        data.read_verified(tmp_path, GOOD)


@given(st.binary(max_size=99))
@DAMAGES
def test_verified_bytes_are_those_of_the_file(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    assert data.read_verified(path, digest) == content
    assert data.read_verified(str(path), digest) == content
    for other in (GOOD, digest[:-1], "", None, 3):
        with pytest.raises(
            data.DataError, match=f"SHA-256 is {digest}, expected {other}; restore it"
        ):
            data.read_verified(path, other)


def test_arrays_belong_to_the_caller():
    """Writing to them changes no later reading."""
    first = data.fashion_mnist("test")
    first.images[:], first.labels[:] = 0, 0
    assert data.fashion_mnist("test").images[0].sum() == 33456
    assert data.fashion_mnist("test").labels[0] == 9
    assert data.photo("coffee").flags.writeable and data.watch("test").windows.flags.writeable


def test_windows_are_cut_from_the_recordings():
    """Against the archive: each window is a hundred steps, fifty after the one before."""
    with np.load(data.DATA / "watch" / "watch.npz") as archive:
        signal, lengths = archive["signal"].astype(np.float32), archive["lengths"].astype(int)
        people, classes = archive["subjects"].astype(int), archive["labels"].astype(int)
    starts = np.concatenate([[0], lengths.cumsum()])
    windows, labels, subjects = [], [], []
    for k in np.flatnonzero(people >= 8):
        recording = signal[starts[k] : starts[k + 1]]
        for start in range(0, len(recording) - 99, 50):
            windows.append(recording[start : start + 100])
            labels.append(classes[k])
            subjects.append(people[k])
    part = data.watch("test")
    assert np.array_equal(part.windows, windows)
    assert part.labels.tolist() == labels and part.subjects.tolist() == subjects
    assert part.names == ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
