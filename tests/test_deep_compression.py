"""What lesson 35 writes out: gaps, k-means, Huffman codes, and the recipe that makes its files."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from sklearn.cluster import KMeans
from torch import nn

from helpers import codec, compress, data, huffman, models, train
from helpers.sharing import share_weights

lesson = definitions("35_deep_compression")
solutions = definitions("solutions/35_deep_compression")
quick = settings(max_examples=60, deadline=None)
seeds, widths = st.integers(0, 2**16), st.integers(0, 6)
counts_lists = st.lists(st.integers(0, 200), min_size=2, max_size=30).filter(
    lambda counts: sum(count > 0 for count in counts) > 1
)


# --- gaps --------------------------------------------------------------------------------------


@quick
@given(st.sets(st.integers(0, 400), max_size=40), widths)
def test_gaps_lead_to_the_places_as_the_codecs_do(places, d):
    places = np.array(sorted(places), int)
    gaps, real = lesson.split_gaps(places, d)
    assert np.array_equal((gaps.cumsum() - 1)[real.astype(bool)], places)
    assert len(gaps) == 0 or (gaps.min() >= 1 and gaps.max() <= 2**d and real[-1])
    for ours, theirs in zip((gaps, real), codec.split_gaps(places, d), strict=True):
        assert np.array_equal(ours, theirs)


@quick
@given(seeds, st.integers(1, 60), st.floats(0, 0.95), st.integers(1, 4))
def test_steps_lead_back_to_the_weights(seed, n, zeros, d):
    rng = np.random.default_rng(seed)
    book = np.sort(rng.normal(size=5))
    index = rng.integers(1, 6, n) * (rng.random(n) >= zeros)
    gaps, real = lesson.split_gaps(np.flatnonzero(index), d)
    stored = np.zeros(len(gaps), int)
    stored[real.astype(bool)] = index[index > 0]
    again = solutions.from_steps(gaps.astype(int), stored, book, n)
    assert np.array_equal(again, np.append(0, book)[index])


@quick
@given(seeds, st.integers(2, 60), st.floats(0, 0.9), st.integers(1, 6))
def test_fixed_lengths_are_counted_for_the_best_gaps(seed, n, zeros, entries):
    rng = np.random.default_rng(seed)
    w = rng.integers(1, entries + 1, n) * (rng.random(n) >= zeros)
    places, used = np.flatnonzero(w), len(set(w[w > 0].tolist()))
    bits = int(np.ceil(np.log2(used + 1)))
    best = min(len(codec.split_gaps(places, d)[0]) * (d + bits) for d in range(1, 9))
    tensor = torch.from_numpy(w.astype(np.float32))
    assert lesson.fixed_bytes({"w": tensor}) == round(best / 8 + 4 * used)


# --- codebooks ---------------------------------------------------------------------------------


@quick
@given(seeds, st.integers(1, 3))
def test_lloyd_is_scikit_learns_k_means_from_the_density_start(seed, b):
    """Where no entry is left without values, which scikit-learn would move elsewhere."""
    x = np.random.default_rng(seed).normal(size=200)
    start = lesson.density(x, b)
    book, index = lesson.lloyd(x, start, rounds=300)
    theirs = KMeans(2**b, init=start[:, None], n_init=1, max_iter=300, tol=0).fit(x[:, None])
    assert np.allclose(book, theirs.cluster_centers_[:, 0])
    assert np.array_equal(index, theirs.labels_)


@quick
@given(seeds, st.integers(1, 4), st.sampled_from(["linear", "density"]))
def test_rounds_make_no_error_larger(seed, b, start):
    x = np.random.default_rng(seed).normal(size=100) ** 3
    first = getattr(lesson, start)(x, b)
    errors = []
    for rounds in (0, 1, 5, 50):
        book, index = lesson.lloyd(x, first, rounds)
        assert len(book) == 2**b
        errors.append(((x - book[index]) ** 2).sum())
    assert all(b <= a + 1e-9 for a, b in itertools.pairwise(errors))


@quick
@given(seeds, st.integers(1, 5))
def test_evenly_spaced_entries_miss_by_half_a_step_at_most(seed, b):
    x = np.random.default_rng(seed).normal(size=50)
    book, index = solutions.evenly_spaced(x, b)
    step = (x.max() - x.min()) / (2**b - 1)
    assert np.allclose(np.diff(book), step) and np.abs(x - book[index]).max() <= step / 2 + 1e-9


# --- Huffman codes -----------------------------------------------------------------------------


@quick
@given(counts_lists)
def test_lengths_cost_as_much_as_the_helpers_and_fill_the_tree(counts):
    counts = np.array(counts)
    lengths = lesson.huffman_lengths(counts)
    assert ((lengths > 0) == (counts > 0)).all()
    assert lengths @ counts == huffman.huffman_lengths(counts) @ counts
    assert sum(2.0 ** -int(length) for length in lengths if length) == 1
    p = counts[counts > 0] / counts.sum()
    entropy, mean = -(p * np.log2(p)).sum(), lengths @ counts / counts.sum()
    assert entropy - 1e-9 <= mean < entropy + 1


@quick
@given(counts_lists, seeds)
def test_codes_are_the_helpers_and_are_read_back(counts, seed):
    lengths = huffman.limited_lengths(np.array(counts))
    codes, theirs = lesson.canonical_codes(lengths), huffman.canonical_codes(lengths)
    for symbol, code in codes.items():
        assert (int(code, 2), len(code)) == (theirs[symbol], lengths[symbol])
    symbols = np.random.default_rng(seed).choice(np.flatnonzero(lengths), 50)
    bits = "".join(codes[symbol] for symbol in symbols.tolist())
    assert np.array_equal(solutions.read_symbols(bits, lengths), symbols)
    packed = np.packbits(np.array(list(bits), np.uint8)).tobytes()
    assert packed == huffman.pack(symbols, lengths)


# --- the recipe --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def some():
    part = data.fashion_mnist("validation")
    return part.images[:256], part.labels[:256]


ROUND = dict(epochs=1, lr=0.02, batch_size=32)
TUNE = dict(epochs=1, lr=1e-3, optimizer="adam", weight_decay=0.0, batch_size=32)


def squeezed(some, **changes):
    options = dict(sparsity=0.9, bits=3, rounds=[ROUND, ROUND | dict(seed=1)], tune=TUNE)
    return compress.compress(models.load("LeNet300"), *some, **options | changes)


def test_a_compressed_network_has_few_values_and_many_zeros(some):
    file, history = squeezed(some, validation=some)
    state = codec.decode(file)
    weights = [values for name, values in state.items() if name.endswith("weight")]
    zeros = sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    assert abs(zeros - 0.9) < 1e-4
    assert all(len(values[values != 0].unique()) <= 8 for values in weights)
    assert all(len(v.unique()) <= 17 for n, v in state.items() if n.endswith("bias"))
    model = models.build("LeNet300")
    model.load_state_dict(state)
    right = train.accuracy(train.predict(model, some[0]), some[1])
    assert abs(history.validation_accuracy[-1] - right) < 0.01  # but for float16


def test_the_zeros_of_the_first_round_stay(some):
    first, both = (
        codec.decode(squeezed(some, rounds=[ROUND] * n, bits=8)[0])["1.weight"] for n in (1, 2)
    )
    assert torch.equal(first == 0, both == 0) and not torch.equal(first, both)


def test_the_control_has_neither_zeros_nor_codebooks(some):
    file, _ = squeezed(some, sparsity=0.0, bits=None)
    state = codec.decode(file)
    assert len(file) > 2 * 266_610 and (state["1.weight"] != 0).float().mean() > 0.99
    assert all(torch.equal(v, v.half().float()) for v in state.values())


def test_pruning_without_codebooks_keeps_its_zeros(some):
    state = codec.decode(squeezed(some, bits=None)[0])
    assert abs(float((state["1.weight"] == 0).float().mean()) - 0.9) < 0.05


@pytest.mark.parametrize(("steps", "until", "every"), [(100, 0.6, 50), (10, 0.5, 3), (1, 0.6, 50)])
def test_zeros_grow_until_their_time_and_stay(steps, until, every):
    model, shares = nn.Linear(40, 50), []
    with torch.no_grad():
        model.weight.normal_(generator=torch.Generator().manual_seed(0))
    apply = compress.prune_gradually(0.8, until=until, every=every)
    for step in range(1, steps + 1):
        with torch.no_grad():
            model.weight += 0.01
        apply(model, step, steps)
        shares.append(float((model.weight == 0).float().mean()))
    assert shares[-1] == pytest.approx(0.8) and all(a <= b for a, b in itertools.pairwise(shares))
    assert shares[max(1, int(until * steps)) - 1] == pytest.approx(0.8)


def test_bits_by_layer():
    lenet = models.build("LeNet300")
    found = compress.widths(lenet, (5, 4, 3))
    assert found["1.weight"] == 5 and found["5.weight"] == 3 and found["5.bias"] == 4
    assert set(found) == {name for name, _ in lenet.named_parameters()}
    assert compress.widths(lenet, None) == {}
    with pytest.raises(ValueError):
        compress.widths(lenet, (5, 4))


@quick
@given(seeds, st.integers(1, 3))
def test_the_gradient_of_an_entry_is_the_sum_of_its_weights(seed, b):
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(6, 5, bias=False)
    layer.weight.data = torch.randn(5, 6, generator=generator)
    layer.weight.data[layer.weight.abs() < 0.3] = 0
    x = torch.randn(7, 6, generator=generator)
    shared = share_weights(layer, {"weight": b})
    plain = shared.weight.detach().clone().requires_grad_()
    nn.functional.linear(x, plain).square().mean().backward()
    shared(x).square().mean().backward()
    entries = shared.parametrizations.weight.original
    sums = [plain.grad[plain.detach() == value].sum() for value in entries.detach()]
    torch.testing.assert_close(entries.grad, torch.stack(sums), atol=1e-5, rtol=1e-4)
