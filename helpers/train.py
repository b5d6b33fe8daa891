"""Training and prediction, for every PyTorch model of the course."""

from __future__ import annotations

import copy
import itertools
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from helpers.arguments import function, number, one_of, whole
from helpers.inputs import examples, fitting_labels, in_dtype_of, stored, to_tensor
from helpers.machine import keep_freed_memory, seeded
from helpers.significance import right


@dataclass
class History:
    """Of each epoch: mean loss, validation accuracy if asked for, seconds, first learning rate."""

    loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)


def fit(
    model: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int,
    lr: float = 0.1,
    batch_size: int = 64,
    loss: Callable = nn.functional.cross_entropy,
    seed: int = 0,
    callbacks: Sequence[Callable[[nn.Module, int, int], None]] = (),
    optimizer: str = "sgd",
    schedule: str = "one_cycle",
    weight_decay: float = 5e-4,
    augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = None,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
) -> History:
    """Train `model` in place and leave it, also where training ends in an error, in evaluation mode
    and without gradients.

    images: uint8 [N, 28, 28], or float32 windows [N, time, channels]. labels: anything with N rows
    that `loss(outputs, labels)` accepts: integers [N] in 0..C-1, or soft targets float32 [N, C].
    optimizer: "sgd" (Nesterov momentum 0.9) or "adam" (AdamW). schedule: "one_cycle" warms up over
    a tenth of the steps and then falls along a cosine to zero (Smith and Topin 2018); "constant".
    callbacks are called as callback(model, step, steps) after each optimizer step, step from 1.
    augment(batch, generator) changes a training batch. validation: (images, labels), measured after
    each epoch.
    The same seed on the same machine, with the same number of threads, gives the same weights; in
    `side_by_side`, too, where models that draw (dropout) wait for each other.
    Raises TypeError and ValueError before the first optimizer step, and FloatingPointError as soon
    as the loss or a weight is not finite.
    """
    inputs, targets = examples(images, labels)
    held_out = None if validation is None else examples(*validation, soft=False)
    epochs, batch_size = whole("epochs", epochs), whole("batch_size", batch_size)
    seed = whole("seed", seed, 0, 2**63 - 1)
    steps = epochs * math.ceil(len(targets) / batch_size)
    update = _optimizer(optimizer, model, lr, weight_decay)
    rate = _schedule(schedule, update, steps)
    loss = _checked_loss(function("loss", loss), targets)
    callbacks = [function("a callback", callback) for callback in callbacks]
    change = (lambda x, _: x) if augment is None else function("augment", augment)
    _refuse_a_batch_of_one(model, inputs, batch_size)

    keep_freed_memory()
    model.to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(seed)
    history, counter = History(), itertools.count(1)
    quiet = bool(os.environ.get("TQDM_DISABLE"))  # the tests; tqdm's widget does not look
    with seeded(seed) as share, tqdm(total=steps, leave=False, unit="step", disable=quiet) as bar:

        def after_step() -> None:
            step = next(counter)
            for callback in callbacks:
                callback(model, step, steps)
            bar.update()
            if step == 1:  # it draws nothing from the global generator, or would have by now
                share()

        try:
            for epoch in range(1, epochs + 1):
                start = time.perf_counter()
                history.learning_rate.append(rate.get_last_lr()[0])
                order = torch.randperm(len(targets), generator=generator).split(batch_size)
                changed = ((change(to_tensor(inputs[r]), generator), targets[r]) for r in order)
                batches = ((in_dtype_of(model, x), y) for x, y in changed)
                history.loss.append(_epoch(model, batches, loss, update, rate, after_step))
                history.seconds.append(time.perf_counter() - start)
                if held_out is not None:
                    score = accuracy(predict(model, held_out[0]), held_out[1])
                    history.validation_accuracy.append(score)
                bar.set_description(f"epoch {epoch}/{epochs}, loss {history.loss[-1]:.3f}")
        finally:
            model.eval()  # which returns None in an exported graph
            model.zero_grad()
    return history


def predict(model: nn.Module, images: np.ndarray, batch_size: int = 250) -> np.ndarray:
    """Logits float32 [N, C] of uint8 images [N, 28, 28] or float32 windows, also for N = 0.

    The model computes in evaluation mode, in the dtype of its weights, and stays in that mode: two
    threads may predict with one model. Raises ValueError if it returns anything but [N, C].

    >>> predict(nn.Flatten(), np.full((1, 28, 28), 51, np.uint8))[:, :2]
    array([[0.2, 0.2]], dtype=float32)
    """
    keep_freed_memory()
    model.eval()
    parts = stored(images).split(whole("batch_size", batch_size))
    with torch.inference_mode(False), torch.no_grad():
        return np.concatenate([_logits(model, part) for part in parts])


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows of logits [N, C] whose largest entry is at the label, int [N]; in 0..1.

    Raises ValueError for no rows, fewer than two columns, a row whose largest logit is not finite,
    and labels that are no integers in 0..C-1.

    >>> accuracy([[0.1, 0.9], [0.8, 0.2]], [1, 1])
    0.5
    """
    if np.ndim(logits) != 2:
        raise ValueError(f"logits have shape {np.shape(logits)}: expected [N, C]")
    return float(right("logits", logits, labels).mean())


def _epoch(
    model: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    loss: Callable,
    update: torch.optim.Optimizer,
    rate: torch.optim.lr_scheduler.LRScheduler,
    after_step: Callable[[], None],
) -> float:
    """Train on each batch (inputs, labels); the mean of the losses before each step."""
    model.train()
    total, n = 0.0, 0
    with torch.inference_mode(False), torch.enable_grad():
        for x, y in batches:
            if not model.training:  # a callback has predicted
                model.train()
            value = loss(model(x), y)
            now = value.item()
            if not math.isfinite(now):
                raise FloatingPointError(
                    f"the loss is {now}: lower lr (it is {rate.get_last_lr()[0]:g} now), and look "
                    "for labels that the loss ignores"
                )
            update.zero_grad()
            value.backward()
            update.step()
            rate.step()
            total, n = total + now * len(y), n + len(y)
            after_step()
    if not all(p.isfinite().all() for p in model.parameters()):
        raise FloatingPointError(f"weights are no longer finite after {n} examples: lower lr")
    return total / n


def _optimizer(
    name: str, model: nn.Module, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """The optimizer of that name for all parameters, of which one at least must learn."""
    one_of("optimizer", name, ("sgd", "adam"))
    lr, decay = number("lr", lr), number("weight_decay", weight_decay, zero=True)
    parameters = list(model.parameters())
    if not any(p.requires_grad for p in parameters):
        raise ValueError(
            f"none of the model's {len(parameters)} parameters learns: "
            "set requires_grad_(True) where one should"
        )
    if any(p.is_inference() for p in parameters):
        raise ValueError("the model was made in torch.inference_mode: make it outside, to train it")
    if name == "adam":
        return torch.optim.AdamW(parameters, lr, weight_decay=decay)
    return torch.optim.SGD(parameters, lr, momentum=0.9, nesterov=True, weight_decay=decay)


def _schedule(
    name: str, update: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate of each of the steps, as a share of the optimizer's."""
    one_of("schedule", name, ("one_cycle", "constant"))
    if name == "constant":
        return torch.optim.lr_scheduler.ConstantLR(update, factor=1.0)
    warm = 0.09 if steps == 9 else 0.1  # torch divides by 0.1 (steps + 1) - 1
    return torch.optim.lr_scheduler.OneCycleLR(
        update, update.defaults["lr"], total_steps=steps + 1, pct_start=warm, cycle_momentum=False
    )


def _logits(model: nn.Module, inputs: torch.Tensor) -> np.ndarray:
    """float32 [N, C] of one batch."""
    outputs = model(in_dtype_of(model, to_tensor(inputs.clone())))  # it may write in place
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2 or len(outputs) != len(inputs):
        given = f"{type(outputs).__name__} {list(getattr(outputs, 'shape', []))}"
        raise ValueError(f"of {len(inputs)} inputs the model made a {given}: expected [N, C]")
    return outputs.float().numpy()


def _checked_loss(loss: Callable, targets: torch.Tensor) -> Callable:
    """`loss`, with errors that say what is wrong with the labels or with what it returns."""
    plain = loss is nn.functional.cross_entropy

    def checked(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if plain:
            fitting_labels(outputs, labels, targets)
        try:
            value = loss(outputs, labels)
        except IndexError as error:  # what torch raises for a class that does not exist
            raise ValueError(f"the loss does not take these labels: {error}") from error
        if not isinstance(value, torch.Tensor) or value.numel() != 1 or not value.requires_grad:
            raise ValueError(
                f"the loss returned {value!r}: expected one number, the mean over the batch, "
                "that depends on parameters which learn"
            )
        return value

    return checked


def _refuse_a_batch_of_one(model: nn.Module, inputs: torch.Tensor, batch_size: int) -> None:
    """ValueError if the last batch has one example, and batch norm would find no variance in it."""
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    if (len(inputs) - 1) % batch_size or not any(isinstance(m, norms) for m in model.modules()):
        return
    trial = copy.deepcopy(model).train()
    try:
        with seeded(0), torch.no_grad():
            trial(in_dtype_of(model, to_tensor(inputs[:1].clone())))
    except ValueError as error:
        raise ValueError(
            f"{len(inputs)} images and batch_size {batch_size} leave one image for the last batch, "
            f"too few for batch norm: choose another batch_size, or leave one out ({error})"
        ) from error
