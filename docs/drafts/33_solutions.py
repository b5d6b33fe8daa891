# %% [markdown]
# # Solutions · 33 Distillation
#
# One way to solve each exercise. Yours may look different: the check tells you whether it does the same.

# %%
import numpy as np
import pandas as pd
import torch
from scipy.special import softmax
from torch import nn

from helpers import data, models, train
from helpers.checks import check
from helpers.distill import soft_target_loss
from helpers.machine import keep_freed_memory, side_by_side

torch.set_num_threads(1)
keep_freed_memory()
fit, validation = data.fashion_mnist("fit"), data.fashion_mnist("validation")
images, labels = fit.images[:3000], fit.labels[:3000]
RECIPE = dict(epochs=5, lr=0.1, weight_decay=1e-4)

# %% [markdown]
# ## 33.1 The gradient
#
# $T^2$ from the loss, $1/T$ from the gradient of the divergence, and $1/N$ from the mean.

# %% tags=["nbval-check-output"]
def gradient(z, v, T):
    """float [N, K], float [N, K], float -> the gradient of soft_loss in z, [N, K]."""
    return T * (softmax(z / T, 1) - softmax(v / T, 1)) / len(z)


check("33.1", gradient)

# %%
rng = np.random.default_rng(0)
z, v = rng.normal(0, 3, (2, 5, 10))
student = torch.from_numpy(z).requires_grad_()
soft_target_loss(student, torch.from_numpy(v), torch.zeros(5).long(), T=3, alpha=1).backward()
assert np.allclose(gradient(z, v, 3), student.grad), "autograd's gradient differs"

# %% [markdown]
# ## 33.2 A teacher that knows only the label

# %% tags=["nbval-check-output"]
def smoothing_teacher(labels, K, eps):
    """int [N], int, float -> logits float [N, K]."""
    return np.log((1 - eps) * np.eye(K)[labels] + eps / K)


check("33.2", smoothing_teacher)

# %%
z, some = rng.normal(0, 3, (6, 10)), rng.integers(0, 10, 6)
v = smoothing_teacher(some, 10, 0.1)
gradients = []
for loss in (
    lambda z: soft_target_loss(z, torch.from_numpy(v), torch.from_numpy(some), T=1, alpha=1),
    lambda z: nn.functional.cross_entropy(z, torch.from_numpy(some), label_smoothing=0.1),
):
    student = torch.from_numpy(z).requires_grad_()
    loss(student).backward()
    gradients.append(student.grad)
assert torch.allclose(*gradients), "the two losses train differently"

# %% [markdown]
# At $T = 1$ and $\alpha = 1$ this is label smoothing: the two losses differ by the entropy of the answers, which no student changes, and have the same gradient.

# %%
def student(targets, loss, seed, network=None):
    """A TinyCNN, trained; `network` wraps it where the loss wants more than logits."""
    inner = models.build("TinyCNN", seed)
    outer = inner if network is None else network(inner)
    train.fit(outer, images, targets, loss=loss, seed=seed, **RECIPE)
    return 100 * train.accuracy(train.predict(inner, validation.images), validation.labels)


def soft(T):
    return lambda z, v: soft_target_loss(z, v, torch.zeros(len(z)).long(), T, alpha=1)


teacher = models.load("WideResNet")
halves = dict(enumerate(np.split(images, 2)))
halves = side_by_side(lambda half: train.predict(teacher, half), halves)
answers = np.concatenate(list(halves.values()))

# %%
goal = softmax(answers / 4, 1).max(1).mean()
eps = (1 - goal) / (1 - 1 / 10)
smoothed = smoothing_teacher(labels, 10, eps).astype(np.float32)
arms = {
    "labels": (labels, nn.functional.cross_entropy),
    "smoothed labels": (smoothed, soft(1)),
    "answers, T = 4": (answers, soft(4)),
}
keys = {(name, seed): (name, seed) for name in arms for seed in range(3)}
scores = pd.Series(side_by_side(lambda key: student(*arms[key[0]], key[1]), keys)).unstack()
print(f"ε = {eps:.2f}, so that the label has {goal:.2f}")
scores.round(1)

# %% [markdown]
# The smoothed labels are as soft as the teacher's answers. Compare their row with the labels: what is left of the lead over labels is what softness alone is worth.
#
# ## 33.3 Where the teacher looks

# %% tags=["nbval-check-output"]
def attention(h):
    """float tensor [N, C, H, W] -> one row of length 1 for each image, [N, H * W]."""
    a = h.square().sum(1).flatten(1)
    return a / a.norm(dim=1, keepdim=True)


check("33.3", attention)


# %% [markdown]
# The wrapped student returns ten logits and 49 places in one row, and the targets have the same columns.

# %%
class WithMap(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        h = self.network[:11](x)
        return torch.cat([self.network[11:](h), attention(h)], 1)


with torch.no_grad():
    parts = torch.from_numpy(images).split(250)
    maps = torch.cat([attention(teacher[:7](models.as_input(part.numpy()))) for part in parts])
targets = np.concatenate([answers, maps.numpy()], 1)


def followed(beta):
    """The loss of answers at T = 4, and beta times that of the maps."""

    def loss(z, v):
        far = (z[:, 10:] - v[:, 10:]).square().sum(1).mean()
        return soft(4)(z[:, :10], v[:, :10]) + beta * far

    return loss


# %%
keys = {(beta, seed): (beta, seed) for beta in (1, 10) for seed in range(3)}
found = side_by_side(lambda key: student(targets, followed(key[0]), key[1], WithMap), keys)
with_maps = pd.Series(found).unstack()
with_maps.index = [f"answers and maps, β = {beta}" for beta in with_maps.index]
pd.concat([scores.loc[["answers, T = 4"]], with_maps]).round(1)

# %% [markdown]
# Compare the rows with the scatter of the three seeds before you believe a difference.
