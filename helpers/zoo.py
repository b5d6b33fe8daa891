"""The recipes behind data/models. `make zoo` trains all, `python -m helpers.zoo NAME ...` some.

Choices were made on validation. Image models train on the split "fit"; sensor models were chosen by
leaving out groups of subjects of "train" and then train on all of "train", so that their validation
accuracy is of people they know. data/README.md tells which test accuracies had been seen before.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import nn
from torch.optim.swa_utils import update_bn

from helpers.arguments import one_of
from helpers.augment import flip_and_shift, half_moved, move_watch
from helpers.codec import decode
from helpers.compress import compress
from helpers.data import DATA, fashion_mnist, watch
from helpers.distill import with_answers
from helpers.filters import remove_filters
from helpers.inputs import as_tensor, to_tensor
from helpers.machine import seeded
from helpers.models import build, fingerprint, load
from helpers.ptq import fold
from helpers.qat import insert_quantizers, start_steps
from helpers.train import History, accuracy, fit, predict

IMAGE = dict(optimizer="sgd", schedule="one_cycle", batch_size=64, seed=0)
QAT = IMAGE | dict(start="mse", weight_decay=1e-4, augment=flip_and_shift)
UNCHANGED_IMAGES = dict(seed=1, epochs=2, lr=0.01, augment=None)  # a short round at the end
SENSOR = dict(optimizer="adam", schedule="one_cycle", batch_size=64, seed=0, weight_decay=0.01)


def smoothed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy against 0.9 for the label and 0.1 spread over all classes (Szegedy 2016)."""
    return nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)


NOT_FOR_FIT = ("then", "average", "bits", "start", "model", "keep", "chosen")
NOT_FOR_FIT += ("teacher", "T", "alpha", "copies", "stored")
# What fit is called with; "then" lists what changes in each further round on the same model, and
# "average" says over how many of the last rounds' ends the weights are averaged (Izmailov et al.
# 2018, averaging weights leads to wider optima); "model" names a shipped one to go on from, "keep"
# how many filters of some of its layers stay, and "chosen" which. "teacher" names a shipped one
# whose answers to the images as they are count beside the labels (distill.soft_target_loss), and
# "copies" how many moved copies of each image are added, with the answers to them as they are then.
# "stored" says that the weights ship rounded to float16; all is measured with the rounded ones.
RECIPES: dict[str, dict] = {
    "LeNet300": IMAGE | dict(epochs=30, lr=0.05, weight_decay=1e-4),
    "LeNet5": IMAGE | dict(epochs=20, lr=0.03, weight_decay=5e-4, augment=flip_and_shift),
    "TinyCNN": IMAGE | dict(epochs=25, lr=0.1, weight_decay=1e-4),
    # A second cycle from the first one's weights (warm restart, Loshchilov and Hutter 2017), and a
    # short third one on the images as they are.
    "ResNet8": IMAGE
    | dict(epochs=22, lr=0.1, weight_decay=3e-4, augment=flip_and_shift)
    | dict(then=[dict(seed=1), dict(seed=2, epochs=5, lr=0.02, augment=None)]),
    "WideResNet": IMAGE
    | dict(epochs=15, lr=0.08, weight_decay=5e-4, augment=flip_and_shift)
    | dict(
        then=[
            dict(seed=1, epochs=3, lr=0.02, augment=None),
            dict(seed=2, epochs=12, lr=0.06),
            dict(seed=3, epochs=3, lr=0.02, augment=None),
            *(dict(seed=4 + i, epochs=2, lr=0.03, augment=half_moved) for i in range(3)),
        ],
        average=4,
        stored="float16",
    ),
    "SensorGRU": SENSOR | dict(epochs=40, lr=0.005, augment=move_watch),
    "SensorLSTM": SENSOR
    | dict(epochs=20, lr=0.01, augment=move_watch, loss=smoothed_cross_entropy),
    # Quantization-aware training goes on from ResNet8; fewer bits need more of it.
    "ResNet8_8bit": QAT | dict(bits=8, epochs=1, lr=0.002, augment=None),
    "ResNet8_4bit": QAT | dict(bits=4, epochs=6, lr=0.02, then=[UNCHANGED_IMAGES]),
    "ResNet8_3bit": QAT | dict(bits=3, epochs=6, lr=0.02, then=[UNCHANGED_IMAGES]),
    "ResNet8_2bit": QAT | dict(bits=2, epochs=10, lr=0.03, then=[UNCHANGED_IMAGES]),
}
# The same from LSQ's own start, and both once more in another order of the images: what is the
# start's doing, and what is chance?
SEED_7 = dict(seed=7, then=[UNCHANGED_IMAGES | dict(seed=8)])
OTHER_RUNS = {"lsq": dict(start="lsq"), "seed7": SEED_7, "lsq_seed7": SEED_7 | dict(start="lsq")}
RECIPES |= {
    f"ResNet8_{bits}bit_{run}": RECIPES[f"ResNet8_{bits}bit"] | changed
    for bits in (4, 2)
    for run, changed in OTHER_RUNS.items()
}
# As long a training in float: what do the further epochs do by themselves?
RECIPES |= {
    f"ResNet8_float_{epochs}": IMAGE
    | dict(weight_decay=1e-4, augment=flip_and_shift, epochs=epochs, lr=lr)
    | dict(then=[UNCHANGED_IMAGES], model="ResNet8")
    for epochs, lr in ((6, 0.02), (10, 0.03))
}
# Half of ResNet8's MACs: fewer filters inside each block, those that the next layer's weights read
# most, and further training. Another order of the images; random filters; a new start.
HALF = IMAGE | dict(weight_decay=1e-4, augment=flip_and_shift, epochs=20, lr=0.05)
HALF |= dict(then=[UNCHANGED_IMAGES], model="ResNet8", chosen="readers")
HALF |= dict(keep={"3.body.0": 8, "4.body.0": 16, "5.body.0": 28})
AFRESH = dict(chosen="new", weight_decay=3e-4, lr=0.1)  # as ResNet8 began
OTHER_HALVES = {
    "seed1": dict(seed=1, then=[UNCHANGED_IMAGES | dict(seed=2)]),
    "random": dict(chosen="random"),
    "scratch": AFRESH,
    "scratch_long": AFRESH  # all the epochs of ResNet8 and of ResNet8_half
    | dict(epochs=22)
    | dict(
        then=[
            *RECIPES["ResNet8"]["then"],
            dict(seed=3, epochs=20, lr=0.05, weight_decay=1e-4),
            UNCHANGED_IMAGES | dict(seed=4, weight_decay=1e-4),
        ]
    ),
}
TAUGHT = dict(teacher="WideResNet", T=4.0, alpha=0.9)
OTHER_HALVES |= {"distilled": AFRESH | TAUGHT, "taught": TAUGHT}
RECIPES |= {"ResNet8_half": HALF}
RECIPES |= {f"ResNet8_half_{run}": HALF | changed for run, changed in OTHER_HALVES.items()}
RECIPES |= {"TinyCNN_distilled": RECIPES["TinyCNN"] | TAUGHT}
# The rate that is best for labels alone, of 0.1, 0.2, 0.4 and 0.8, on validation images.
RECIPES |= {"TinyCNN_retuned": RECIPES["TinyCNN"] | dict(lr=0.4)}
# Filters removed, taught, and then few bits: the last step of lesson 38.
RECIPES |= {
    f"ResNet8_half_taught_{bits}bit": RECIPES[f"ResNet8_{bits}bit"]
    | dict(model="ResNet8_half_taught")
    | TAUGHT
    for bits in (8, 4)
}
RECIPES |= {"SearchedCNN": RECIPES["TinyCNN"]}  # only the architecture is to differ
# Four times as fast as ResNet8: a small network has to see its teacher's answers to more images.
RECIPES |= {
    "ResNet7": IMAGE
    | dict(epochs=6, lr=0.4, weight_decay=5e-5, copies=10)
    | dict(then=[dict(seed=1, epochs=10, lr=0.1, copies=0)])
    | TAUGHT
}

# Deep Compression goes on from a shipped network: zeros in the first round, then codebooks, which
# "tune" trains. "dense" is the control: as long a training, and neither zeros nor codebooks.
TUNE = dict(optimizer="adam", epochs=1, lr=0.001, weight_decay=0.0, batch_size=128, augment=None)
DEEP = IMAGE | dict(model="LeNet300", weight_decay=1e-4, epochs=10, lr=0.05, tune=TUNE)
COMPRESSED: dict[str, dict] = {
    "LeNet300_deep": DEEP | dict(sparsity=0.93, bits=4),
    "LeNet300_deeper": DEEP | dict(sparsity=0.95, bits=3),
    "LeNet300_dense": DEEP | dict(sparsity=0.0, bits=None),
    "LeNet5_deep": DEEP
    | dict(model="LeNet5", sparsity=0.95, bits=4, epochs=4, lr=0.03, augment=flip_and_shift)
    | dict(
        then=[
            dict(seed=1, epochs=5, batch_size=128),
            dict(seed=2, epochs=4, lr=0.02, batch_size=128, augment=None),
        ]
    ),
    "ResNet8_deep": DEEP
    | dict(model="ResNet8", sparsity=0.9, bits=4, epochs=20, augment=flip_and_shift)
    | dict(then=[UNCHANGED_IMAGES])
    | TAUGHT,
    "ResNet7_deep": DEEP | dict(model="ResNet7", sparsity=0.5, bits=5, epochs=10, lr=0.1) | TAUGHT,
}


def splits(name: str) -> tuple[tuple, tuple, tuple]:
    """(inputs, labels) of what model `name` trains on, is validated on, and is tested on."""
    if name.startswith("Sensor"):
        sets = [watch(split) for split in ("train", "validation", "test")]
        return tuple((s.windows, s.labels) for s in sets)
    sets = [fashion_mnist(split) for split in ("fit", "validation", "test")]
    return tuple((s.images, s.labels) for s in sets)


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` beside `path` and rename it, so that no reader sees half a file."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(content)
    temporary.replace(path)


def average_weights(model: nn.Module, states: list[dict], images: np.ndarray) -> None:
    """Give the model the mean of several states, and batch norm the statistics of the images.

    The running averages of batch norm belong to one set of weights; those of the mean are measured.
    states: state_dicts of the same model. images: uint8 [N, 28, 28], read in batches of 250.
    The mean is taken in float64, since torch's AveragedModel rounds after each state.
    """
    mean = {key: sum(s[key].double() for s in states) / len(states) for key in states[0]}
    model.load_state_dict({key: value.to(states[0][key].dtype) for key, value in mean.items()})
    update_bn((to_tensor(batch) for batch in as_tensor(images).split(250)), model.eval())


def smaller(model: nn.Module, keep: dict[str, int], chosen: str, seed: int) -> nn.Module:
    """A copy with `keep[path]` filters in the layers at these paths, the first one of each block.

    chosen: "readers", by the sum of |w| of the block's next convolution over what it reads of a
    filter; "random", by `seed`; "new", any, and all weights of the copy initialized from `seed`.

    >>> smaller(build("ResNet8"), {"3.body.0": 8}, "readers", 0)[3].body[0]
    Conv2d(16, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
    """
    one_of("chosen", chosen, ("readers", "random", "new"))
    generator, best = torch.Generator().manual_seed(100 + seed), {}
    for path, count in keep.items():
        reader = model.get_submodule(path.removesuffix("0") + "3").weight.detach()
        scores = reader.abs().sum((0, 2, 3))
        if chosen != "readers":
            scores = torch.rand(len(scores), generator=generator)
        best[path] = scores.argsort(descending=True, stable=True)[:count].sort().values
    model = remove_filters(model, best)
    if chosen == "new":
        with seeded(seed):
            for module in model.modules():
                getattr(module, "reset_parameters", lambda: None)()
    return model


def told(recipe: object) -> object:
    """A recipe as its card tells it: functions by their names.

    >>> told({"lr": 0.1, "augment": flip_and_shift, "then": [{"augment": None}]})
    {'lr': 0.1, 'augment': 'flip_and_shift', 'then': [{'augment': None}]}
    """
    if isinstance(recipe, dict):
        return {key: told(value) for key, value in recipe.items()}
    if isinstance(recipe, list | tuple):
        return [told(value) for value in recipe]
    return getattr(recipe, "__name__", recipe)


def with_copies(images: np.ndarray, labels: np.ndarray, copies: int) -> list[tuple]:
    """[(images, labels)] and as many more: each image mirrored or not and shifted, at random."""
    sets = [(images, labels)]
    for seed in range(1000, 1000 + copies):
        generator = torch.Generator().manual_seed(seed)
        parts = as_tensor(images).unsqueeze(1).split(5000)
        moved = torch.cat([flip_and_shift(part, generator) for part in parts])
        sets.append((moved.squeeze(1).numpy(), labels))
    return sets


def taught(recipe: dict, images: np.ndarray, labels: np.ndarray) -> tuple:
    """(images, labels, {"loss": theirs}) to fit: with copies and a teacher's answers where the
    recipe says so, and {} without a teacher.
    """
    if "teacher" not in recipe:
        return images, labels, {}
    teacher, sets = load(recipe["teacher"]), with_copies(images, labels, recipe.get("copies", 0))
    answers = np.concatenate([predict(teacher, part) for part, _ in sets])
    images, labels = (np.concatenate(part) for part in zip(*sets, strict=True))
    rows, loss = with_answers(answers, labels, T=recipe["T"], alpha=recipe["alpha"])
    return images, rows, {"loss": loss}


def train(name: str, folder: Path = DATA / "models", **changes) -> dict:
    """Train model `name` by its recipe, write NAME.safetensors and NAME.json, return the card.

    changes override entries of the recipe (the tests train for less time than the recipe says).
    """
    one_of("recipe", name, RECIPES)
    recipe = RECIPES[name] | changes
    fitting, validation, _ = splits(name)
    if "bits" in recipe:
        model = insert_quantizers(load(recipe.get("model", "ResNet8")), recipe["bits"])
        start_steps(model, fitting[0][:500], recipe["start"])
    elif "keep" in recipe:
        model = smaller(load(recipe["model"]), recipe["keep"], recipe["chosen"], recipe["seed"])
    elif "model" in recipe:
        model = load(recipe["model"])
    else:
        model = build(name.split("_")[0], recipe["seed"])
    options = {key: value for key, value in recipe.items() if key not in NOT_FOR_FIT}
    images, labels, loss = taught(recipe, *fitting)
    ends = []
    for changed in ({}, *recipe.get("then", ())):
        rows = len(fitting[1]) * (1 + (recipe | changed).get("copies", 0))  # the copies come last
        given = {key: value for key, value in (options | loss | changed).items() if key != "copies"}
        history = fit(model, images[:rows], labels[:rows], validation=validation, **given)
        ends.append({key: value.clone() for key, value in model.state_dict().items()})
    if "average" in recipe:
        average_weights(model, ends[-recipe["average"] :], fitting[0][:5000])
        history.validation_accuracy.append(accuracy(predict(model, validation[0]), validation[1]))
    model.to(memory_format=torch.contiguous_format)
    if recipe.get("stored") == "float16":
        model.half()
    content = save({key: value.contiguous() for key, value in model.state_dict().items()})
    return publish(name, model.float(), recipe, history, folder, content)


def train_compressed(name: str, folder: Path = DATA / "models", **changes) -> dict:
    """Compress a shipped model by recipe `name`, write NAME.dc and NAME.json, return the card.

    What is measured is the network that is decoded from the file. changes: as of train.
    """
    one_of("recipe", name, COMPRESSED)
    recipe = COMPRESSED[name] | changes
    fitting, validation, _ = splits(name)
    model = load(recipe["model"])
    options = {k: v for k, v in recipe.items() if k not in (*NOT_FOR_FIT, "tune", "sparsity")}
    images, labels, loss = taught(recipe, *fitting)
    options |= loss
    content, history = compress(
        model,
        images,
        labels,
        sparsity=recipe["sparsity"],
        bits=recipe["bits"],
        rounds=[options | changed for changed in ({}, *recipe.get("then", ()))],
        tune=options | {"seed": options["seed"] + 9} | recipe["tune"],
        validation=validation,
    )
    model = fold(model)
    model.load_state_dict(decode(content))
    return publish(name, model, recipe, history, folder, content, "dc")


def publish(
    name: str,
    model: nn.Module,
    recipe: dict,
    history: History,
    folder: Path,
    content: bytes,
    ending: str = "safetensors",
) -> dict:
    """Measure the finished model on the test set, write its file and card, return the card."""
    fitting, _, test = splits(name)
    test_accuracy = accuracy(predict(model, test[0]), test[1])
    card = {
        "name": name,
        "recipe": told(recipe),
        "data": "watch" if name.startswith("Sensor") else "fashion_mnist",
        "trained_on": len(fitting[1]),
        "final_training_loss": round(history.loss[-1], 4),
        "validation_accuracy": round(history.validation_accuracy[-1], 4),
        "test_accuracy": round(test_accuracy, 4),
        "test_correct": round(test_accuracy * len(test[1])),
        "test_total": len(test[1]),
        "parameters": sum(p.numel() for p in model.parameters()),
        "sha256": hashlib.sha256(content).hexdigest(),
        "torch": torch.__version__,
    }
    card["card_sha256"] = fingerprint(card)
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / f"{name}.{ending}", content)
    replace_file(folder / f"{name}.json", (json.dumps(card, indent=2) + "\n").encode())
    return card


if __name__ == "__main__":
    names = sys.argv[1:] or [*RECIPES, *COMPRESSED]
    for name in names:
        one_of("recipe", name, (*RECIPES, *COMPRESSED))  # before hours of training
    for name in names:
        card = train(name) if name in RECIPES else train_compressed(name)
        print(
            f"{name}: {card['test_accuracy']:.2%} on {card['test_total']} test examples, "
            f"{card['parameters']} parameters",
            flush=True,
        )
