"""Huffman codes against brute force, files against mutations, shared weights against autograd."""

import functools
import itertools
import time
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import nn

from helpers import codec, huffman
from helpers.models import build, load
from helpers.prune import magnitude_mask
from helpers.sharing import plain_state, share_weights
from helpers.varint import varint

seeds = st.integers(0, 2**32)
counts_lists = st.lists(st.integers(0, 1000), min_size=1, max_size=40)


def kraft(lengths):
    return sum(2.0 ** -int(length) for length in lengths if length)


@functools.cache
def complete_lengths(n):
    """All sorted code lengths of n symbols with Kraft sum 1: each splits one leaf of n - 1."""
    if n == 1:
        return {(0,)}
    found = set()
    for lengths in complete_lengths(n - 1):
        for i, length in enumerate(lengths):
            found.add(tuple(sorted((*lengths[:i], *lengths[i + 1 :], length + 1, length + 1))))
    return found


@given(st.lists(st.integers(1, 50), min_size=2, max_size=8))
@example([1, 1, 2, 3, 5, 8, 13, 21])
def test_no_prefix_code_is_shorter(counts):
    ours = int((huffman.huffman_lengths(counts) * counts).sum())
    falling = sorted(counts, reverse=True)
    best = min(
        sum(c * length for c, length in zip(falling, lengths, strict=True))
        for lengths in complete_lengths(len(counts))
    )
    assert ours == best


@given(counts_lists)
def test_the_mean_length_lies_within_a_bit_of_the_entropy(counts):
    counts = np.array(counts)
    used = counts[counts > 0]
    lengths = huffman.huffman_lengths(counts)
    assert ((lengths > 0) == (counts > 0)).all()
    if len(used) > 1:
        p = used / used.sum()
        entropy = -(p * np.log2(p)).sum()
        mean = (lengths[counts > 0] * p).sum()
        assert entropy - 1e-9 <= mean < entropy + 1
        assert kraft(lengths) == 1


@given(counts_lists)
def test_canonical_codes_are_a_prefix_code_in_order(counts):
    lengths = huffman.huffman_lengths(counts)
    codes = huffman.canonical_codes(lengths)
    words = [f"{c:0{n}b}" for c, n in zip(codes, lengths, strict=True) if n]
    assert all(len(w) == n for w, n in zip(words, lengths[lengths > 0], strict=True))
    assert not any(b.startswith(a) for a, b in itertools.permutations(words, 2))
    pairs = sorted(zip(lengths[lengths > 0].tolist(), np.flatnonzero(lengths), words, strict=True))
    assert [word for _, _, word in pairs] == sorted(words)


@given(st.lists(st.integers(0, 15), max_size=12))
def test_lengths_make_a_code_or_an_error(lengths):
    used = [n for n in lengths if n]
    if kraft(lengths) == 1 or used in ([], [1]):
        assert len(huffman.canonical_codes(lengths)) == len(lengths)
    else:
        with pytest.raises(ValueError, match="make no prefix code"):
            huffman.canonical_codes(lengths)


def test_a_long_code_is_cut_and_still_decodes():
    """Fibonacci's counts make the deepest tree."""
    counts = [1, 1]
    while len(counts) < 30:
        counts.append(counts[-1] + counts[-2])
    counts = np.array(counts)
    free, limited = huffman.huffman_lengths(counts), huffman.limited_lengths(counts)
    assert free.max() == 29 and limited.max() == 15 and kraft(limited) == 1
    assert (limited * counts).sum() < (free * counts).sum() * 1.05
    symbols = np.arange(30).repeat(40)
    packed = huffman.pack(symbols, limited)
    assert np.array_equal(huffman.unpack(packed, limited, len(symbols)), symbols)


def by_the_bit(packed, lengths, count):
    """Decoded one bit after the other, by comparing with each code."""
    codes = huffman.canonical_codes(lengths)
    words = {f"{c:0{n}b}": i for i, (c, n) in enumerate(zip(codes, lengths, strict=True)) if n}
    found, word = [], ""
    for bit in "".join(f"{byte:08b}" for byte in packed):
        word += bit
        if word in words and len(found) < count:
            found.append(words[word])
            word = ""
    return found


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 300), seeds)
def test_packed_symbols_come_back(choices, count, seed):
    rng = np.random.default_rng(seed)
    symbols = np.minimum(rng.geometric(0.3, count) - 1, choices - 1)
    lengths = huffman.limited_lengths(np.bincount(symbols, minlength=choices))
    packed = huffman.pack(symbols, lengths)
    assert np.array_equal(huffman.unpack(packed, lengths, count), symbols)
    if (lengths > 0).sum() > 1:
        assert len(packed) == -(-int(lengths[symbols].sum()) // 8)
        assert by_the_bit(packed, lengths, count) == symbols.tolist()
        for wrong, of in ((packed + b"\0", count), (packed, 8 * len(packed) + 1), (b"", count)):
            with pytest.raises(ValueError):
                huffman.unpack(wrong, lengths, of)
    assert np.array_equal(huffman.table_lengths(huffman.table(lengths), choices), lengths)


def test_codes_across_the_borders_of_the_chunks():
    rng = np.random.default_rng(0)
    symbols = np.minimum(rng.geometric(0.2, 100_000) - 1, 30)
    lengths = huffman.limited_lengths(np.bincount(symbols))
    packed = huffman.pack(symbols, lengths)
    assert len(packed) * 8 > 3 * huffman.CHUNK
    assert np.array_equal(huffman.unpack(packed, lengths, len(symbols)), symbols)


@given(st.sets(st.integers(0, 3000), max_size=60), st.integers(0, 9))
def test_gaps_lead_to_the_places(places, bits):
    places = np.array(sorted(places), np.int64)
    gaps, real = codec.split_gaps(places, bits)
    assert np.array_equal((gaps.cumsum() - 1)[real], places)
    assert len(gaps) == 0 or (gaps.min() >= 1 and gaps.max() <= 2**bits and real[-1])
    assert (gaps[~real] == 2**bits).all()  # padding zeros only where the gap is too long


# Files


def tensor(shape, density, values, seed, dtype=torch.float32):
    """A tensor whose nonzero values, a share `density`, are drawn from `values` different ones."""
    rng = np.random.default_rng(seed)
    if dtype == torch.float32:
        book = torch.from_numpy(rng.normal(size=values).astype(np.float32))
        book = book.half().float() if seed % 2 else book
    else:
        info = torch.iinfo(dtype)
        book = torch.from_numpy(rng.integers(info.min, info.max, values, endpoint=True)).to(dtype)
    found = book[torch.from_numpy(rng.integers(0, values, shape))]
    stays = torch.from_numpy(np.asarray(rng.random(shape) < density))
    return torch.where(stays, found, 0).to(dtype)


def equal(a, b):
    return list(a) == list(b) and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and torch.equal(a[k], b[k]) for k in a
    )


tensors = st.builds(
    tensor,
    st.lists(st.integers(0, 12), max_size=4).map(tuple),
    st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0]),
    st.sampled_from([1, 2, 3, 16, 255, 256, 1000]),
    seeds,
    st.sampled_from([torch.float32, torch.int8, torch.int16, torch.int32, torch.int64]),
)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=12).filter(lambda s: s.isprintable()), tensors, max_size=4))
def test_what_is_encoded_comes_back(state):
    content = codec.encode(state)
    assert equal(codec.decode(content), state)
    assert codec.encode(codec.decode(content)) == content
    assert sum(codec.sizes(state).values()) == len(content)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from([1, 2, 15, 16, 255, 256]), st.sampled_from([0, 0.01, 0.3, 1]), seeds)
def test_larger_layers_come_back_in_fewer_bytes(values, density, seed):
    state = {"weight": tensor((60, 500), density, values, seed)}
    content = codec.encode(state)
    assert equal(codec.decode(content), state)
    if values < 256:  # index and gap, each within a bit of its entropy
        each = np.log2(values + 1) + 1 + (7.5 if density < 0.1 else 3)
        assert len(content) < 30_000 * density * each / 8 * 1.1 + 5 * values + 250


@pytest.mark.parametrize("name", ["LeNet300", "LeNet5", "ResNet8", "SensorGRU"])
def test_shipped_models_come_back(name):
    """Unchanged, with batch norm, statistics and counters; in seconds."""
    model = load(name)
    start = time.perf_counter()
    content = codec.encode(model)
    found = codec.decode(content)
    assert time.perf_counter() - start < 10
    assert equal(found, {k: v.contiguous() for k, v in model.state_dict().items()})
    build(name).load_state_dict(found)


def compressed():
    """LeNet300 with 95 % zeros and 4 bits, without any training."""
    model = load("LeNet300")
    for layer in (model[1], model[3], model[5]):
        layer.weight.data[~magnitude_mask(layer.weight, 0.95)] = 0
    names = dict(model.named_parameters())
    model.load_state_dict(plain_state(share_weights(model, dict.fromkeys(names, 4))))
    return model


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_all_bits_are_counted(bits):
    """Against the entropy of gaps and indices, computed apart."""
    model = compressed()
    sizes = codec.sizes(model)
    content = codec.encode(model)
    assert len(content) == sum(sizes.values()) and len(content) < 266_610 * 4 / 60
    values = model[1].weight.detach().flatten().numpy()
    places = np.flatnonzero(values)
    _, counts = np.unique(values[places], return_counts=True)
    p = counts / counts.sum()
    least = -(counts * np.log2(p)).sum() / 8
    assert least <= sizes["1.weight", "indices"] < least + len(places) / 8


def test_minus_zero_becomes_zero_and_costs_nothing():
    """What a mask multiplied with a negative weight leaves is -0.0."""
    w = torch.tensor([-0.0, 0.0, 1.0, -0.0])
    found = codec.decode(codec.encode({"w": w}))["w"]
    assert torch.equal(found, w) and not torch.signbit(found).any()
    assert codec.encode({"w": w}) == codec.encode({"w": w.abs()})


def test_any_memory_layout():
    w = tensor((4, 5, 3, 3), 0.5, 4, 1)
    for other in (w.to(memory_format=torch.channels_last), w.transpose(0, 1).contiguous().mT.mT):
        assert torch.equal(codec.decode(codec.encode({"w": other}))["w"], other)
    loose = w.transpose(0, 1)
    assert torch.equal(codec.decode(codec.encode({"w": loose}))["w"], loose)


# Damaged files


STATE = {
    "1.weight": tensor((30, 40), 0.08, 15, 1),
    "1.bias": tensor((30,), 1, 400, 3),
    "3.weight": tensor((5, 8, 3, 3), 0.4, 7, 5),
    "bn.count": torch.tensor(70_000),
    "q": tensor((9, 9), 0.9, 200, 2, torch.int8),
    "none": torch.zeros(0, 3),
}
WHOLE = codec.encode(STATE)


def sealed(body):
    return body + zlib.crc32(body).to_bytes(4, "little")


def mutate(content, rng):
    """Bits flipped, cut off, bytes put in or taken out, parts swapped, or a length blown up."""
    body, way = bytearray(content), rng.integers(6)
    i, j = sorted(rng.integers(0, len(body) + 1, 2).tolist())
    if way == 0:
        for place in rng.integers(0, len(body), rng.integers(1, 4)):
            body[place] ^= 1 << int(rng.integers(8))
    elif way == 1:
        del body[i:]
    elif way == 2:
        body[i:i] = rng.bytes(int(rng.integers(1, 20)))
    elif way == 3:
        del body[i : min(j, i + 30)]
    elif way == 4:
        middle = (i + j) // 2
        body[i:j] = body[middle:j] + body[i:middle]
    else:
        body[i : i + 1] = b"\xff" * int(rng.integers(1, 7)) + b"\x01"
    return bytes(body)


def test_2000_damaged_files_are_refused():
    rng = np.random.default_rng(0)
    slowest = 0.0
    for _ in range(2000):
        damaged = mutate(WHOLE, rng)
        start = time.perf_counter()
        if damaged == WHOLE:
            continue
        with pytest.raises(ValueError, match="no model can be read from these"):
            codec.decode(damaged)
        slowest = max(slowest, time.perf_counter() - start)
    assert slowest < 1


def test_2000_files_with_a_checksum_that_fits():
    """Nothing but ValueError, at once and without much memory; what passes has sound tensors."""
    rng, passed, slowest = np.random.default_rng(1), 0, 0.0
    tracemalloc.start()
    try:
        for _ in range(2000):
            damaged = sealed(mutate(WHOLE[:-4], rng))
            start = time.perf_counter()
            try:
                found = codec.decode(damaged)
            except ValueError as error:
                assert "no model can be read" in str(error)
            else:
                passed += 1
                assert sum(t.numel() for t in found.values()) <= codec.MOST
                assert all(t.isfinite().all() for t in found.values())
            slowest = max(slowest, time.perf_counter() - start)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 50 < passed < 1000, "the mutations never, or always, pass the structural checks"
    assert slowest < 5 and peak < 300e6


def test_every_bit_and_every_length():
    for i in range(8 * len(WHOLE)):
        flipped = bytearray(WHOLE)
        flipped[i // 8] ^= 1 << i % 8
        with pytest.raises(ValueError):
            codec.decode(flipped)
    for i in range(len(WHOLE)):
        with pytest.raises(ValueError):
            codec.decode(WHOLE[:i])
    with pytest.raises(ValueError):
        codec.decode(WHOLE + b"\0")


@given(st.binary(max_size=400))
def test_what_is_no_file_at_all(content):
    for file in (content, sealed(codec.MAGIC + content)):
        try:
            assert isinstance(codec.decode(file), dict)
        except ValueError as error:
            assert "fetch the file again" in str(error)


def one(shape, rest, kind=0, name=b"w"):
    """A file with one tensor, its header and then `rest`."""
    header = b"\x01" + varint(len(name)) + name + bytes([kind, len(shape)])
    return sealed(codec.MAGIC + header + b"".join(map(varint, shape)) + rest)


BOMBS = [
    (one([10**12], b"\x01\x00"), "[1000000000000]: at most 4,194,304"),
    (one([2**21, 2**21], b"\x01\x00"), "at most 4,194,304"),
    (one([0, 2**40], b"\x01\x00"), "at most 4,194,304"),
    (one([2**42], b"\x01\x00"), "never ends"),
    (one([2**22], b"\x01\x00"), "16,777,216 bytes are announced and 0 left"),
    (one([4] * 9, b"\x01\x00"), "9 dimensions"),
    (one([4], b"\x01\x00", kind=7), "dtype 7"),
    (one([4], b"\x09\x00"), "is stored as number 9"),
    (one([4], b"\x02\x00"), "is stored as number 2"),
    (one([1], b"\x00\x00\x00\x7c"), "NaN or infinity"),
    (one([4], b"\x00\x01\x00\x3c\x09\x00"), "gaps of 9 bits"),
    (one([4], b"\x00\x01\x00\x3c\x00\x05"), "5 steps over 4 places"),
    (one([4], b"\x00\x01\x00\x3c\x00\x04\x00"), "bytes are announced"),
    (one([4], b"\x00\x01\x00\x3c\x00\x04\x00\x00"), "4 symbols, but no code for one"),
    (one([4], b"\x00\x01\x00\x3c\x01\x04\x01\x00"), "beyond its 4 places"),
    (one([4], b"\x00\x01\x00\x3c\x00\x04\x11\x00"), "a symbol that does not exist"),
    (one([4], b"\x00\x01\x00\x3c\x00\x04\x20\x00"), "make no prefix code"),
    (one([4], b"\x00\x01\x00\x3c\x00\x04\x10\x01\x00"), "1 bytes for a symbol that takes none"),
    (one([4], b"\x00\x01\x00\x3c\x00\x04\x10\x00\x11\x01\x01"), "do not hold exactly 4"),
    (one([4], b"\x00\x01\x00\x3c\x00\x04\x10\x00\x11\x00"), "4 symbols in 0 bytes"),
    (one([1], b"\x00\x00\x00\x3c", name=b"\xff"), "can't decode"),
    (one([1], b"\x00\x00\x00\x3c\x00"), "go on after the last tensor"),
    (sealed(codec.MAGIC[:-1] + b"\x02" + WHOLE[7:-4]), "version 2"),
    (b"\x89PNG\r\n\x1a\n" + bytes(100), "another kind"),
    (b"", "another kind"),
    (codec.MAGIC, "end too early"),
    (WHOLE[:-1], "checksum"),
]


@pytest.mark.parametrize(("content", "words"), BOMBS)
def test_a_false_claim_is_told_before_it_is_believed(content, words):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as caught:
            codec.decode(content)
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()
    assert words in str(caught.value)


def test_two_tensors_of_one_name():
    a = codec.encode({"a": torch.ones(1)})[8:-4]
    with pytest.raises(ValueError, match="two tensors are called 'a'"):
        codec.decode(sealed(codec.MAGIC + b"\x02" + a + a))


BAD = [
    (lambda: codec.encode([torch.ones(2)]), TypeError, "pass a network or its state_dict"),
    (lambda: codec.encode({"w": np.ones(2)}), TypeError, "pass tensors by name, not ndarray"),
    (lambda: codec.encode({1: torch.ones(2)}), TypeError, "pass tensors by name"),
    (lambda: codec.encode({"w": torch.ones(2).double()}), TypeError, "'w' is float64"),
    (lambda: codec.encode({"w": torch.ones(2).bfloat16()}), TypeError, "'w' is bfloat16"),
    (lambda: codec.encode({"w": torch.tensor([float("nan")])}), ValueError, "NaN or infinity"),
    (lambda: codec.encode({"w": torch.zeros(1).expand(2**23)}), ValueError, "4,194,304 numbers"),
    (lambda: codec.encode({"w": torch.zeros([1] * 9)}), ValueError, "8 dimensions"),
    (lambda: codec.decode("EDGEDC"), TypeError, "content is a str"),
    (lambda: codec.split_gaps([3, 2], 4), ValueError, "do not ascend"),
    (lambda: codec.split_gaps([0.5], 4), TypeError, "whole numbers [n]"),
    (lambda: codec.split_gaps([1], 17), ValueError, "bits is 17"),
    (lambda: huffman.huffman_lengths([1, -1]), ValueError, "counts go down to -1"),
    (lambda: huffman.huffman_lengths([0.5, 0.5]), TypeError, "counts are float64"),
    (lambda: huffman.canonical_codes([16] * 2), ValueError, "a code of 16 bits"),
    (lambda: share_weights(build("LeNet300"), {"1.wait": 4}), ValueError, "no parameter '1.wait'"),
    (lambda: share_weights(build("LeNet300"), {"1.bias": 9}), ValueError, "bits['1.bias'] is 9"),
]


@pytest.mark.parametrize(("call", "error", "words"), BAD)
def test_a_wrong_argument_is_told(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)


# Shared weights


@settings(deadline=None)
@given(st.integers(1, 5), st.sampled_from([0.0, 0.1, 0.9]), seeds)
def test_the_gradient_of_an_entry_is_the_sum_of_its_weights(bits, sparsity, seed):
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(12, 7)
    layer.weight.data = torch.randn(7, 12, generator=generator)
    layer.weight.data[~magnitude_mask(layer.weight, sparsity)] = 0
    shared = share_weights(layer, {"weight": bits})
    x = torch.randn(5, 12, generator=generator)
    shared(x).square().sum().backward()
    book = shared.parametrizations.weight.original
    weight = shared.weight.detach().requires_grad_()
    nn.functional.linear(x, weight, layer.bias).square().sum().backward()
    assert len(book) <= 2**bits
    for value, gradient in zip(book, book.grad, strict=True):
        mine = weight.grad[weight == value].sum()
        assert torch.isclose(gradient, mine, rtol=1e-4, atol=1e-3)
    assert ((shared.weight == 0) == (layer.weight == 0)).all()


def test_training_moves_entries_and_keeps_zeros_and_groups():
    from helpers.train import fit

    rng = np.random.default_rng(0)
    model = compressed()
    shared = share_weights(model, {"1.weight": 3, "3.weight": 2, "1.bias": 2})
    before = shared[1].weight.detach().clone()
    fit(shared, rng.integers(0, 256, (96, 28, 28), np.uint8), rng.integers(0, 10, 96), epochs=2)
    plain = plain_state(shared)
    now = plain["1.weight"]
    assert ((now == 0) == (before == 0)).all() and not torch.equal(now, before)
    assert len(now[now != 0].unique()) <= 8 and len(plain["1.bias"].unique()) <= 4
    for value in before.unique():
        assert len(now[before == value].unique()) == 1
    assert torch.equal(now, now.half().float())
    assert plain.keys() == model.state_dict().keys() and not torch.equal(now, before)
    assert equal(codec.decode(codec.encode(plain)), plain)
    assert torch.equal(shared[1].weight, shared[1].weight), "plain_state took the weights away"


def test_the_codebook_is_kmeans_of_the_weights_that_stay():
    """Pruning leaves a gap around zero, and evenly spaced entries that begin in it stay unused."""
    weight = load("LeNet300")[3].weight.detach().clone()
    weight[~magnitude_mask(weight, 0.9)] = 0
    layer = nn.Linear(300, 100)
    layer.weight.data = weight
    book = share_weights(layer, {"weight": 4}).parametrizations.weight.original.detach()
    kept = weight[weight != 0].double().numpy()[:, None]
    library = KMeans(len(book), init=book.double().numpy()[:, None], n_init=1, tol=0).fit(kept)
    assert np.allclose(np.sort(library.cluster_centers_[:, 0]), book, atol=1e-6)
    assert len(book) < 16


def test_a_layer_of_zeros_can_be_shared():
    layer = nn.Linear(3, 2)
    layer.weight.data.zero_()
    assert not plain_state(share_weights(layer, {"weight": 2}))["weight"].any()
