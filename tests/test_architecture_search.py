"""The space of networks and the searches of helpers/search.py, and what lesson 39 writes out."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from scipy.stats import hypergeom, spearmanr
from torch import nn

from helpers import models, search
from helpers.costs import cost

lesson = definitions("39_architecture_search")
solutions = definitions("solutions/39_architecture_search")
quick = settings(max_examples=20, deadline=None)
genes_of = st.fixed_dictionaries({n: st.sampled_from(o) for n, o in search.SPACE.items()})


# --- the space ---------------------------------------------------------------------------------


def test_tinycnn_is_a_point_of_the_space():
    ours, tiny = search.network(search.TINY_GENES), models.build("TinyCNN")
    assert list(ours.state_dict()) == list(tiny.state_dict())
    assert all(
        torch.equal(a, b)
        for a, b in zip(ours.state_dict().values(), tiny.state_dict().values(), strict=True)
    )
    assert search.bill(tiny) == search.BUDGET


def test_the_searched_network_is_a_point_of_the_space():
    genes = search.trials()["finalists"][9]["genes"]
    ours, theirs = search.network(genes), models.build("SearchedCNN")
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]
    assert search.bill(theirs) == search.bill(ours) and search.fits(search.bill(theirs))
    x = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


@quick
@given(genes_of)
def test_genes_say_what_the_network_is(genes):
    network = search.network(genes)
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert network[0].weight.shape[0] == genes["stem"]
    assert network[-1].in_features == genes["width2"]
    pools = sum(isinstance(m, nn.MaxPool2d) for m in network)
    assert pools == (genes["first"] == "pool") + (genes["second"] == "pool")
    kernels = {m.kernel_size[0] for m in network.modules() if isinstance(m, nn.Conv2d)}
    assert kernels <= {1, 3, genes["kernel1"], genes["kernel2"]}


@quick
@given(genes_of)
def test_a_bill_counts_the_folded_network(genes):
    network = search.network(genes)
    counted, modules = cost(network, (1, 28, 28)), list(network.modules())
    weights = sum(m.weight.numel() for m in modules if isinstance(m, nn.Conv2d | nn.Linear))
    biases = sum(m.num_features for m in modules if isinstance(m, nn.BatchNorm2d)) + 10
    peak = counted.peak_activation_bytes // 4
    assert search.bill(network) == (counted.macs, weights + 4 * biases, peak)


def test_a_network_is_drawn_from_its_seed():
    first, again, other = (search.network(search.TINY_GENES, seed) for seed in (0, 0, 1))
    assert torch.equal(first[0].weight, again[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)


# --- the searches ------------------------------------------------------------------------------


def judged(genes):
    """A score without training: wide networks with large kernels are good."""
    return genes["width1"] + genes["width2"] + 10 * genes["kernel2"]


@pytest.mark.parametrize("kind", ["random", "tpe", "nsga"])
def test_searches_find_networks_that_fit_and_none_twice(kind):
    if kind == "random":
        found = search.random_search(8, 0, judged)
    else:
        found = search.optuna_search(kind, 8, 0, judged)
    keys = {tuple(trial["genes"].values()) for trial in found}
    assert len(found) == len(keys) == 8
    assert all(search.fits(search.bill(search.network(t["genes"]))) for t in found)
    assert all(trial["score"] == judged(trial["genes"]) for trial in found)
    drawn = [trial["drawn"] for trial in found]
    assert drawn == sorted(drawn) and drawn[-1] > 8


def test_the_record_is_of_this_space_and_this_seed():
    recorded = search.trials()
    for how in ("random", "tpe 0", "nsga 0"):
        for trial in recorded[how]:
            assert all(trial["genes"][name] in search.SPACE[name] for name in search.SPACE)
    first = search.random_search(3, 0, judged)
    for ours, old in zip(first, recorded["random"], strict=False):
        assert (ours["genes"], ours["drawn"]) == (old["genes"], old["drawn"])
    finalists = search.finalists(recorded)
    assert finalists == [trial["genes"] for trial in recorded["finalists"]]


def test_a_score_is_an_accuracy_after_training():
    value = search.score(search.TINY_GENES, images=640, judged=200)
    assert 10 < value < 80 and value == pytest.approx(round(2 * value) / 2)


# --- the lesson --------------------------------------------------------------------------------

numbers = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12)


@given(numbers)
def test_the_front_is_what_nobody_dominates(pairs):
    costs, scores = np.array(pairs, float).T
    expected = [not any(c <= a and s >= b and (c < a or s > b) for c, s in pairs) for a, b in pairs]
    assert lesson.pareto(costs, scores).tolist() == expected
    assert solutions.pareto(costs, scores).tolist() == expected


def test_proxies_are_their_formulas():
    x = torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 4, 5])
    lesson.__globals__.update(images=x, labels=labels)
    network = search.network(search.TINY_GENES)
    gradient, snip = lesson.gradients(network)
    network.train().zero_grad()
    nn.functional.cross_entropy(network(x), labels).backward()
    pairs = [(p.detach(), p.grad) for p in network.parameters()]
    assert gradient == pytest.approx(sum(float(g.abs().sum()) for _, g in pairs), rel=1e-3)
    assert snip == pytest.approx(sum(float((w * g).abs().sum()) for w, g in pairs), rel=1e-3)
    assert math.isfinite(lesson.naswot(search.network(search.TINY_GENES)))
    assert math.isfinite(lesson.synflow(search.network(search.TINY_GENES)))


def test_naswot_counts_equal_states():
    class Signs(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x):
            return self.relu(x)

    x = torch.tensor([[1.0, -1, 1], [1, 1, 1], [-1, -1, 1]])
    lesson.__globals__.update(images=x)
    expected = np.linalg.slogdet([[3, 2, 2], [2, 3, 1], [2, 1, 3]])[1]
    assert lesson.naswot(Signs()) == pytest.approx(expected)


def test_tpe_of_the_lesson_draws_as_the_recorded_run():
    found = lesson.tpe_search(4, judged)
    helper = search.optuna_search("tpe", 4, 0, judged)
    assert [genes for genes, _ in found] == [trial["genes"] for trial in helper]


# --- exercises ---------------------------------------------------------------------------------


@given(st.integers(1, 30), st.data())
def test_hit_is_the_hypergeometric(total, data):
    good, drawn = (data.draw(st.integers(0, total)) for _ in range(2))
    expected = hypergeom(total, good, drawn).sf(0)
    assert solutions.hit(good, total, drawn) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.integers(-50, 50), min_size=3, max_size=12, unique=True), st.randoms())
def test_spearman_is_scipys(a, random):
    b = random.sample(range(100), len(a))
    assert solutions.spearman(np.array(a), np.array(b)) == pytest.approx(spearmanr(a, b).statistic)
    ranks = solutions.rank_sum(np.array(a), np.array(b))
    assert ranks.sum() == len(a) * (len(a) - 1)


def test_a_record_is_written_whole_with_its_sum(tmp_path, monkeypatch):
    """With made-up scores: the best ten are the finalists, and what is written is read again."""

    def judge(genes, seed=0, judged=0):
        return float(genes["width1"] + genes["width2"] / 100)

    found = search.record(6, 2, judge=judge, longer=judge)
    assert [len(rows) for rows in found.values()] == [6, *[2] * 6, 2, 2, 11]
    scores = [trial["score"] for trial in found["finalists"][:10]]
    assert scores == sorted(scores, reverse=True) and scores[0] == max(
        t["score"] for how, rows in found.items() for t in rows if how != "finalists"
    )
    (tmp_path / "SHA256SUMS").write_text("00  other.npz\n11  search/trials.json\n")
    search.write(found, tmp_path)
    assert (tmp_path / "SHA256SUMS").read_text().startswith("00  other.npz\n")
    assert not list(tmp_path.rglob("*.part"))
    sums = dict(line.split()[::-1] for line in (tmp_path / "SHA256SUMS").read_text().splitlines())
    monkeypatch.setattr(search, "DATA", tmp_path)
    monkeypatch.setattr(search, "checksums", lambda: sums)
    again = search.trials()
    assert [t["genes"] for t in again["random"]] == [t["genes"] for t in found["random"]]
