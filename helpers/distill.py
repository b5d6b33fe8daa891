"""Distillation: a student learns from a teacher's answers as well as from labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor, nn

from helpers.arguments import number

UNLABELED = -1  # the label of an image of which only the teacher's answer is known


def soft_target_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, T: float, alpha: float
) -> Tensor:
    """Mean over the batch of alpha T^2 KL(teacher || student, both at temperature T), in nats,
    plus (1 - alpha) times the cross-entropy of the labels at temperature 1.

    student, teacher: logits [N, C], of which only the student's are differentiated. labels: int
    [N] in 0..C-1, or UNLABELED for a row without the second part. T: above 0. alpha: in 0..1.
    T^2 undoes that a gradient through softened probabilities is 1/T^2 as large.
    Raises ValueError for other shapes, temperatures, shares and labels. Source: Hinton, Vinyals and
    Dean 2015, section 2.

    >>> import torch
    >>> logits = torch.tensor([[2.0, 0.0]])
    >>> soft_target_loss(logits, logits, torch.tensor([0]), T=2.0, alpha=1.0)
    tensor(0.)
    """
    T, alpha = number("T", T), number("alpha", alpha, zero=True)
    if alpha > 1:
        raise ValueError(f"alpha is {alpha}: choose a share of the loss, 0 to 1")
    if student.ndim != 2 or student.shape != teacher.shape or labels.shape != student.shape[:1]:
        raise ValueError(
            f"student {list(student.shape)}, teacher {list(teacher.shape)}, labels "
            f"{list(labels.shape)}: expected [N, C], [N, C] and [N]"
        )
    if len(labels) == 0 or labels.min() < UNLABELED or labels.max() >= student.shape[1]:
        raise ValueError(f"labels: pass integers 0 to {student.shape[1] - 1}, or {UNLABELED}")
    soft = nn.functional.kl_div(
        nn.functional.log_softmax(student / T, 1),
        nn.functional.log_softmax(teacher.detach() / T, 1),
        reduction="batchmean",
        log_target=True,
    )
    hard = nn.functional.cross_entropy(
        student, labels.long(), reduction="sum", ignore_index=UNLABELED
    )
    return alpha * T**2 * soft + (1 - alpha) * hard / len(labels)


def with_answers(
    answers: np.ndarray, labels: np.ndarray, *, T: float, alpha: float
) -> tuple[np.ndarray, Callable[[Tensor, Tensor], Tensor]]:
    """(rows float32 [N, C + 1], loss): what train.fit takes as labels and loss to distill.

    answers: the teacher's logits float [N, C] of the images as they are: an augmented image keeps
    the answer to the image it was made from. labels: int [N], UNLABELED where there is none.
    Raises TypeError and ValueError for answers and labels that do not fit.

    >>> rows, loss = with_answers([[2.0, 0.0]], [1], T=4.0, alpha=0.5)
    >>> rows
    array([[2., 0., 1.]], dtype=float32)
    """
    answers, labels = np.asarray(answers, np.float32), np.asarray(labels)
    if answers.ndim != 2 or labels.shape != (len(answers),):
        raise ValueError(
            f"answers {list(answers.shape)}, labels {list(labels.shape)}: expected [N, C] and [N]"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels are {labels.dtype}: pass integers")

    def loss(logits: Tensor, rows: Tensor) -> Tensor:
        return soft_target_loss(logits, rows[:, :-1], rows[:, -1], T, alpha)

    return np.concatenate([answers, labels[:, None]], 1, dtype=np.float32), loss
