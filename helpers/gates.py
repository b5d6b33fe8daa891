"""Gates that learn which inputs to let through, by a penalty on their number (lesson 36)."""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import nn

from helpers.arguments import is_bool, whole


class L0Gate(nn.Module):
    """One hard-concrete gate for each of `size` inputs (Louizos, Welling and Kingma 2018).

    In training an input is multiplied by a random gate, another one for each example; in
    evaluation by a fixed one. Both lie in 0..1, and are exactly 0 or 1 with some probability.

    log_alpha float32 [size] is what is learned: it begins where a gate is open (not 0) with the
    probability `open_at_start`, between 0 and 1. beta: temperature, between 0 and 1 (the lower, the
    more gates are exactly 0 or 1). low < 0 and high > 1: the interval to which equation 10
    stretches the concrete distribution before it is clipped. generator: where the training draws
    come from; without one, torch's global generator. All numbers are without unit. Other arguments
    raise TypeError or ValueError.

    >>> gate = L0Gate(3)
    >>> with torch.no_grad():
    ...     _ = gate.log_alpha.copy_(torch.tensor([-5.0, 0.0, 5.0]))
    >>> [round(v, 3) for v in gate.open_probability().tolist()]
    [0.032, 0.832, 0.999]
    >>> gate.eval()(torch.tensor([[8.0, 8.0, 8.0]])).tolist()
    [[0.0, 4.0, 8.0]]
    """

    def __init__(
        self,
        size: int,
        *,
        open_at_start: float = 0.9,
        beta: float = 2 / 3,
        low: float = -0.1,
        high: float = 1.1,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        size, self.beta = whole("size", size), _between("beta", beta, 0, 1)
        start = _between("open_at_start", open_at_start, 0, 1)
        self.low, self.high = _between("low", low, most=0), _between("high", high, least=1)
        if not isinstance(generator, torch.Generator | None):
            raise TypeError(f"generator is {generator!r}: pass a torch.Generator, or None")
        self.generator = generator
        self.shift = self.beta * math.log(-self.low / self.high)
        self.log_alpha = nn.Parameter(
            torch.full((size,), math.log(start / (1 - start)) + self.shift)
        )

    def open_probability(self) -> torch.Tensor:
        """Of each gate, the probability that it is not 0, in 0..1, [size]: equation 12."""
        return torch.sigmoid(self.log_alpha - self.shift)

    def expected_open(self) -> torch.Tensor:
        """The expected number of gates that are not 0, []; its gradient moves log_alpha."""
        return self.open_probability().sum()

    def sample(self, count: int) -> torch.Tensor:
        """`count` random draws of all gates, in 0..1, [count, size]: equations 10 and 11."""
        u = torch.empty(whole("count", count), len(self.log_alpha), dtype=self.log_alpha.dtype)
        u.uniform_(1e-6, 1 - 1e-6, generator=self.generator)
        return self._clip(torch.sigmoid((u.logit() + self.log_alpha) / self.beta))

    def fixed(self) -> torch.Tensor:
        """The gates of evaluation, in 0..1, [size]: equation 13."""
        return self._clip(torch.sigmoid(self.log_alpha))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x float [N, size] times the gates, of x's shape.

        ValueError for another shape, TypeError for integers.
        """
        if not x.is_floating_point():
            raise TypeError(f"x has dtype {x.dtype}: pass real numbers, such as float32")
        if x.ndim != 2 or x.shape[1] != len(self.log_alpha):
            raise ValueError(
                f"x has shape {list(x.shape)}, and there are {len(self.log_alpha)} gates: "
                "pass [N, gates], one column for each gate"
            )
        return x * (self.sample(len(x)) if self.training and len(x) else self.fixed())

    def _clip(self, s: torch.Tensor) -> torch.Tensor:
        return (s * (self.high - self.low) + self.low).clamp(0, 1)


def _between(name: str, given: object, least: float = -math.inf, most: float = math.inf) -> float:
    """A finite number between the two, both excluded; TypeError or ValueError otherwise."""
    limits = {(-math.inf, 0): "below 0", (1, math.inf): "above 1"}.get(
        (least, most), f"between {least} and {most}, both excluded"
    )
    if is_bool(given) or not isinstance(given, Real):
        raise TypeError(f"{name} is {given!r}: pass a finite number {limits}")
    if not (math.isfinite(given) and least < given < most):
        raise ValueError(f"{name} is {given}: choose a finite number {limits}")
    return float(given)
