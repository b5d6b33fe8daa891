"""A space of small CNNs, what each of them costs, short trainings, and searches among them.

`python -m helpers.search` trains all that data/search/trials.json tells, in about half an hour.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
from optuna.trial import TrialState
from torch import nn

from helpers.architectures import conv_bn, inverted, separable, with_shortcut
from helpers.costs import cost
from helpers.data import DATA, checksums, fashion_mnist, read_verified
from helpers.machine import seeded
from helpers.train import accuracy, fit, predict

optuna.logging.set_verbosity(optuna.logging.ERROR)
NAME = "search/trials.json"
KINDS: dict[str, Callable] = {
    "conv": conv_bn,
    "separable": separable,
    "inverted2": inverted,
    "inverted4": lambda *shape: inverted(*shape, expansion=4),
}
SPACE: dict[str, tuple] = {  # of each gene, what may be chosen
    "stem": (8, 16, 24),  # channels of the first convolution
    "first": ("pool", "stride"),  # how 28 x 28 becomes 14 x 14, and 14 x 14 becomes 7 x 7
    "second": ("pool", "stride"),
    "kind1": tuple(KINDS),
    "width1": (16, 20, 24, 32, 40),
    "depth1": (1, 2, 3),
    "kernel1": (3, 5),
    "kind2": tuple(KINDS),
    "width2": (32, 40, 48, 64, 80),
    "depth2": (1, 2, 3),
    "kernel2": (3, 5),
}
TINY_GENES = {"stem": 16, "first": "pool", "second": "pool"}
TINY_GENES |= {"kind1": "conv", "width1": 24, "depth1": 1, "kernel1": 3}
TINY_GENES |= {"kind2": "conv", "width2": 48, "depth2": 1, "kernel2": 3}
SAMPLERS = {  # of each kind of search: its sampler, its goals, and what an unfit trial is told as
    "tpe": (
        partial(optuna.samplers.TPESampler, n_startup_trials=60, multivariate=True),
        ["maximize"],
        TrialState.PRUNED,
    ),
    "nsga": (
        partial(optuna.samplers.NSGAIISampler, population_size=8),
        ["maximize", "minimize"],
        TrialState.FAIL,
    ),
}
SHORT = dict(epochs=1, lr=0.1, weight_decay=1e-4)  # on 5,000 images
LONGER = dict(epochs=3, lr=0.1, weight_decay=1e-4)  # on 10,000 images
Genes = Mapping[str, int | str]


class Bill(NamedTuple):
    """What a network costs on a device: MACs, bytes of int8 weights and int32 biases, peak bytes of
    int8 activations."""

    macs: int
    weight_bytes: int
    peak_bytes: int


def bill(network: nn.Module) -> Bill:
    """The costs of one image, once batch norm is folded and all is quantized to int8.

    >>> bill(network(TINY_GENES))
    Bill(macs=1298784, weight_bytes=14840, peak_bytes=15680)
    """
    counted, size = cost(network, (1, 28, 28)), 0
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            size += layer.weight.numel() + 4 * len(layer.weight)
    return Bill(counted.macs, size, counted.peak_activation_bytes // 4)


BUDGET = Bill(1_298_784, 14_840, 15_680)  # TinyCNN's


def fits(costs: Bill, budget: Bill = BUDGET) -> bool:
    """Whether all three costs are within the budget.

    >>> fits(Bill(1_000_000, 14_000, 15_680)), fits(Bill(1_000_000, 14_000, 15_681))
    (True, False)
    """
    return all(spent <= allowed for spent, allowed in zip(costs, budget, strict=True))


def block(
    kind: str, channels_in: int, channels_out: int, kernel: int, stride: int
) -> list[nn.Module]:
    """One block of a stage, with its ReLU; it adds its input where the shapes allow that.

    >>> len(block("separable", 16, 24, 3, 1)), len(block("separable", 24, 24, 3, 1))
    (6, 1)
    """
    body = KINDS[kind](channels_in, channels_out, kernel, stride)
    if channels_in == channels_out and stride == 1:
        return [with_shortcut(body, channels_in)]
    return [*body, nn.ReLU()]


def network(genes: Genes, seed: int = 0) -> nn.Sequential:
    """A new network: a stem, a stage on maps of 14 x 14, one on 7 x 7, a mean, a dense layer.

    >>> network(TINY_GENES)[-1]
    Linear(in_features=48, out_features=10, bias=True)
    """
    with seeded(seed):
        pools = genes["first"] == "pool"
        layers = [*conv_bn(1, genes["stem"], 3, 1 if pools else 2), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] * pools
        channels = genes["stem"]
        for stage in "12":
            stride = 1
            if stage == "2" and genes["second"] == "pool":
                layers.append(nn.MaxPool2d(2))
            elif stage == "2":
                stride = 2
            for _ in range(genes["depth" + stage]):
                width, kernel = genes["width" + stage], genes["kernel" + stage]
                layers += block(genes["kind" + stage], channels, width, kernel, stride)
                channels, stride = width, 1
        return nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)
        )


def draw(rng: np.random.Generator) -> dict[str, int | str]:
    """Genes at random, each choice equally likely.

    >>> draw(np.random.default_rng(0))["kind1"]
    'separable'
    """
    return {name: options[rng.integers(len(options))] for name, options in SPACE.items()}


def score(genes: Genes, images: int = 5000, seed: int = 0, judged: int = 2000, **training) -> float:
    """Percent right of `judged` validation images after training on the first images of "fit".

    training: of train.fit; as it is, SHORT. `seed` is of the weights and of the order.
    """
    fitting, validation = fashion_mnist("fit"), fashion_mnist("validation")
    model = network(genes, seed)
    few = fitting.images[:images], fitting.labels[:images]
    fit(model, *few, seed=seed, **(training or SHORT))
    logits = predict(model, validation.images[:judged])
    return 100 * accuracy(logits, validation.labels[:judged])


def longer_score(genes: Genes, judged: int = 2000) -> float:
    """The score after LONGER, six times as many steps: three epochs on 10,000 images."""
    return score(genes, 10_000, judged=judged, **LONGER)


def ask(study: optuna.Study) -> tuple[optuna.Trial, dict[str, int | str], Bill]:
    """The study's next trial, its genes, and what they cost; the study hears what is over budget.

    >>> trial, genes, costs = ask(optuna.create_study())
    >>> list(genes) == list(SPACE), trial.params == genes
    (True, True)
    """
    trial = study.ask()
    genes = {name: trial.suggest_categorical(name, SPACE[name]) for name in SPACE}
    costs = bill(network(genes))
    for name, spent, allowed in zip(Bill._fields, costs, BUDGET, strict=True):
        trial.set_constraint(name, spent / allowed - 1)  # met where it is not above 0
    return trial, genes, costs


def random_search(count: int, seed: int = 0, judge: Callable = score) -> list[dict]:
    """`count` networks that fit, drawn at random, none twice."""
    rng, drawn, found = np.random.default_rng(seed), 0, {}
    while len(found) < count:
        genes, drawn = draw(rng), drawn + 1
        key = tuple(genes.values())
        if key not in found and fits(bill(network(genes))):
            found[key] = {"genes": genes, "score": judge(genes), "drawn": drawn}
    return list(found.values())


def optuna_search(kind: str, count: int, seed: int = 0, judge: Callable = score) -> list[dict]:
    """The same with Optuna: kind "tpe", or "nsga", which minimizes MACs beside.

    What does not fit is not trained. TPE hears of it, with what is over budget; the children of
    NSGA-II that do not fit are not born. TPE's first 60 draws are random, about seven of them fit.
    """
    sampler, goals, unfit = SAMPLERS[kind]
    study = optuna.create_study(directions=goals, sampler=sampler(seed=seed))
    drawn, found = 0, {}
    while len(found) < count:
        drawn, (trial, genes, costs) = drawn + 1, ask(study)
        key = tuple(genes.values())
        if not fits(costs):
            study.tell(trial, state=unfit)
            continue
        if key not in found:
            found[key] = {"genes": genes, "score": judge(genes), "drawn": drawn}
        study.tell(trial, [found[key]["score"], costs.macs][: len(goals)])
    return list(found.values())


def trials() -> dict[str, list[dict]]:
    """What data/search/trials.json tells: lists of trials, by how they were chosen.

    Each trial has its "genes", its "score" in percent, and after how many draws it came ("drawn").
    Raises DataError if the file is missing or damaged.

    >>> [round(trial["score"], 1) for trial in trials()["random"][:3]]
    [75.8, 74.5, 70.2]
    """
    told = json.loads(read_verified(DATA / NAME, checksums()[NAME]))
    keys = "genes", "score", "drawn"
    found = {how: [dict(zip(keys, row, strict=True)) for row in rows] for how, rows in told.items()}
    for trial in (trial for rows in found.values() for trial in rows):
        trial["genes"] = dict(zip(SPACE, trial["genes"], strict=True))
    return found


def record(
    count: int = 115, each: int = 24, judge: Callable = score, longer: Callable = longer_score
) -> dict[str, list[dict]]:
    """What `trials` tells: `count` random networks, three runs of `each` trainings by each sampler,
    the first `each` random ones again from another seed and trained longer, and the finalists.

    judge and longer stand in for the trainings.
    """
    found = {"random": random_search(count, judge=judge)}
    for kind in SAMPLERS:
        found |= {f"{kind} {seed}": optuna_search(kind, each, seed, judge) for seed in range(3)}
    first = found["random"][:each]
    found["again"] = [t | {"score": judge(t["genes"], seed=1)} for t in first]
    found["longer"] = [t | {"score": longer(t["genes"])} for t in first]
    found["finalists"] = [
        {"genes": genes, "score": longer(genes, judged=5000), "drawn": 0}
        for genes in finalists(found)
    ]
    return found


def write(found: dict[str, list[dict]], folder: Path = DATA) -> None:
    """Store a record in folder/search/trials.json, whole or not at all, and its SHA-256 beside the
    others in folder/SHA256SUMS."""
    rows = {
        how: [[[*t["genes"].values()], round(t["score"], 2), t["drawn"]] for t in trials_]
        for how, trials_ in found.items()
    }
    content = (json.dumps(rows) + "\n").encode()
    sums = folder / "SHA256SUMS"
    lines = [line for line in sums.read_text().splitlines() if not line.endswith(f"  {NAME}")]
    lines.append(f"{hashlib.sha256(content).hexdigest()}  {NAME}")
    (folder / "search").mkdir(exist_ok=True)
    for path, text in ((folder / NAME, content), (sums, ("\n".join(lines) + "\n").encode())):
        path.with_name(path.name + ".part").write_bytes(text)
        path.with_name(path.name + ".part").replace(path)


def finalists(found: dict[str, list[dict]]) -> list[Genes]:
    """The ten best of all trials that the searches made, the best first, and TinyCNN.

    >>> finalists(trials())[-1] == TINY_GENES
    True
    """
    pool = {}
    for how, rows in found.items():
        if how.split()[0] in ("random", *SAMPLERS):
            pool |= {tuple(t["genes"].values()): t for t in rows}
    best = sorted(pool.values(), key=lambda trial: -trial["score"])[:10]
    return [*(trial["genes"] for trial in best), TINY_GENES]


if __name__ == "__main__":
    write(record())
