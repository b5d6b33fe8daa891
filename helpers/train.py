"""Training and prediction, for every PyTorch model of the course."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from helpers.inputs import to_tensor
from helpers.machine import keep_freed_memory


@dataclass
class History:
    """What each epoch measured: mean training loss, validation accuracy if asked for, seconds."""

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
    """Train `model` in place and leave it in evaluation mode.

    images: uint8 [N, 28, 28], or float32 windows [N, time, channels]. labels: anything with N rows
    that `loss(outputs, labels)` accepts: int64 [N], or float32 [N, ...] for soft targets.
    optimizer: "sgd" (Nesterov momentum 0.9) or "adam" (AdamW). schedule: "one_cycle" warms up over
    a tenth of the steps and then falls along a cosine to zero (Smith and Topin 2018); "constant".
    callbacks are called as callback(model, step, steps) after each optimizer step, step from 1.
    augment(batch, generator) changes a training batch. validation: (images, labels), measured after
    each epoch. The same seed on the same machine gives the same weights.
    """
    if len(images) != len(labels) or len(labels) == 0:
        raise ValueError(f"{len(images)} images, {len(labels)} labels: pass as many, at least one")
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs {epochs} and batch_size {batch_size} must be at least 1")
    inputs, targets = torch.as_tensor(images), torch.as_tensor(labels)
    steps = epochs * math.ceil(len(targets) / batch_size)
    if optimizer == "sgd":
        update = torch.optim.SGD(
            model.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=weight_decay
        )
    elif optimizer == "adam":
        update = torch.optim.AdamW(model.parameters(), lr, weight_decay=weight_decay)
    else:
        raise ValueError(f"unknown optimizer {optimizer!r}: choose sgd or adam")
    if schedule == "one_cycle":
        rate = torch.optim.lr_scheduler.OneCycleLR(
            update, lr, total_steps=steps + 1, pct_start=0.1, cycle_momentum=False
        )
    elif schedule == "constant":
        rate = torch.optim.lr_scheduler.ConstantLR(update, factor=1.0)
    else:
        raise ValueError(f"unknown schedule {schedule!r}: choose one_cycle or constant")

    keep_freed_memory()
    generator = torch.Generator().manual_seed(seed)
    history = History()
    model.to(memory_format=torch.channels_last)
    quiet = bool(os.environ.get("TQDM_DISABLE"))  # the tests: no bars in outputs
    bar = tqdm(total=steps, leave=False, unit="step", disable=quiet)
    with torch.random.fork_rng(devices=[]), bar:
        torch.manual_seed(seed)  # dropout draws from the global generator
        step = 0
        for epoch in range(epochs):
            start, total = time.perf_counter(), 0.0
            history.learning_rate.append(rate.get_last_lr()[0])
            model.train()
            for rows in torch.randperm(len(targets), generator=generator).split(batch_size):
                batch = to_tensor(inputs[rows])
                if augment is not None:
                    batch = augment(batch, generator)
                update.zero_grad()
                value = loss(model(batch), targets[rows])
                value.backward()
                update.step()
                rate.step()
                step += 1
                for callback in callbacks:
                    callback(model, step, steps)
                total += value.item() * len(rows)
                bar.update()
            history.loss.append(total / len(targets))
            history.seconds.append(time.perf_counter() - start)
            if validation is not None:
                history.validation_accuracy.append(
                    accuracy(predict(model, validation[0]), validation[1])
                )
            bar.set_description(f"epoch {epoch + 1}/{epochs}, loss {history.loss[-1]:.3f}")
            if not math.isfinite(history.loss[-1]):
                raise FloatingPointError(f"the loss is {history.loss[-1]}: lower lr (it is {lr})")
    model.eval()
    return history


def predict(model: nn.Module, images: np.ndarray, batch_size: int = 250) -> np.ndarray:
    """Logits float32 [N, C] of uint8 images [N, 28, 28] or float32 windows, in evaluation mode."""
    keep_freed_memory()
    model.eval()
    with torch.inference_mode():
        parts = torch.as_tensor(images).split(batch_size)
        return np.concatenate([model(to_tensor(part)).numpy() for part in parts])


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows of logits [N, C] whose largest entry is at the label [N], in 0..1."""
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"logits {logits.shape}, labels {labels.shape}: expected [N, C] and [N]")
    return float((logits.argmax(1) == labels).mean())
