"""Training and prediction, for every PyTorch model of the course."""

from __future__ import annotations

import ctypes
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from helpers.models import as_input


@dataclass
class History:
    """What each epoch measured: mean training loss, validation accuracy if asked for, seconds."""

    loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks instead of returning them to the system after every batch.

    A large block that goes back is mapped and zeroed page by page when it is asked for again, which
    costs a training step up to a third of its time. Other C libraries are left as they are.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD: blocks below 1 GiB come from the heap
        mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD: and the heap is not given back


def flip_and_shift(x: torch.Tensor, generator: torch.Generator, pixels: int = 2) -> torch.Tensor:
    """Mirror half of the images [N, 1, H, W] and shift each by up to `pixels` along both axes."""
    n, _, height, width = x.shape
    shift = torch.randint(0, 2 * pixels + 1, (2, n, 1), generator=generator)
    rows = shift[0] + torch.arange(height)
    columns = shift[1] + torch.arange(width)
    mirror = torch.rand(n, 1, generator=generator) < 0.5
    columns = torch.where(mirror, columns.flip(1), columns)
    padded = nn.functional.pad(x, (pixels,) * 4)
    moved = padded[torch.arange(n)[:, None, None], 0, rows[:, :, None], columns[:, None, :]]
    return moved.unsqueeze(1)


def to_tensor(inputs: np.ndarray | torch.Tensor) -> torch.Tensor:
    """uint8 images become [N, 1, 28, 28] in [0, 1], channels last; float32 windows stay."""
    inputs = torch.as_tensor(inputs)
    if inputs.dtype == torch.uint8:
        return as_input(inputs).to(memory_format=torch.channels_last)
    if inputs.dtype != torch.float32:
        raise TypeError(f"inputs have dtype {inputs.dtype}: pass uint8 images or float32 windows")
    return inputs


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


def side_by_side(function: Callable, jobs: Mapping) -> dict:
    """{key: job} -> {key: function(job)}, two jobs at a time, each with one torch thread.

    On two cores this is faster than one job after the other with two threads each: the products of
    a small network leave the second thread little to do. The results are those of one job after the
    other, unless the jobs draw from the same random generator, as new layers and dropout do from
    torch's own.
    """
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return dict(zip(jobs, pool.map(function, jobs.values()), strict=True))


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows of logits [N, C] whose largest entry is at the label [N], in 0..1."""
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"logits {logits.shape}, labels {labels.shape}: expected [N, C] and [N]")
    return float((logits.argmax(1) == labels).mean())
