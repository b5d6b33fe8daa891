# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Solutions to 32 · Pruning structures

# %%
import copy

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from helpers import data, models, train
from helpers.checks import check
from helpers.costs import cost
from helpers.machine import keep_freed_memory, side_by_side
from helpers.prune import filter_ties, remove_filters

torch.set_num_threads(1)
keep_freed_memory()
resnet = models.load("ResNet8")


# %% [markdown]
# ## 32.0 One filter, taken out
#
# Rows of the layer that makes the channel, columns of the layer that reads it.

# %% tags=["nbval-check-output"]
def keep_filters(w, norm, v, keep):
    return w[keep], norm[:, keep], v[:, keep]


check("32.0", keep_filters)


# %% [markdown]
# ## 32.1 What a pruned block costs

# %% tags=["nbval-check-output"]
def block_macs(c_in, inner, c_out, side, stride):
    places = (side // stride) ** 2
    fitted = stride != 1 or c_in != c_out
    return places * (9 * c_in * inner + 9 * inner * c_out + fitted * c_in * c_out)


check("32.1", block_macs)

# %% [markdown]
# The inner filters stand in two of the three terms: MACs fall in proportion to them, down to the shortcut's. The three blocks, the stem and the dense layer together are ResNet8:

# %% tags=["nbval-check-output"]
blocks = block_macs(16, 16, 16, 28, 1), block_macs(16, 32, 32, 28, 2), block_macs(32, 64, 64, 14, 2)
total = sum(blocks) + 28 * 28 * 9 * 16 + 64 * 10
print(blocks, total, total == cost(resnet, (1, 28, 28)).macs)


# %% [markdown]
# ## 32.2 Which layers are tied?
#
# An addition makes two groups one: all members of both take the smaller number. It does not matter in which order the additions come.

# %% tags=["nbval-check-output"]
def tied(n, additions):
    group = np.arange(n)
    for a, b in additions:
        both = (group == group[a]) | (group == group[b])
        group[both] = min(group[a], group[b])
    return group


check("32.2", tied)

# %% [markdown]
# ResNet8's nine convolutions, numbered in order, and its three additions give the groups of the lesson:

# %% tags=["nbval-check-output"]
convolutions = [path for path, m in resnet.named_modules() if isinstance(m, nn.Conv2d)]
additions = [("0", "3.body.3"), ("4.body.3", "4.shortcut.0"), ("5.body.3", "5.shortcut.0")]
numbers = np.array([[convolutions.index(path) for path in pair] for pair in additions])
groups = tied(len(convolutions), numbers)
ties = filter_ties(resnet)
print(groups)
pairs = zip(convolutions, groups, strict=True)
assert all(ties[path][0] == ties[convolutions[g]][0] for path, g in pairs)


# %% [markdown]
# ## 32.3 A ranking of your own (open)

# %% tags=["nbval-check-output"]
def contribution(h, v):
    return h.mean((0, 2, 3)) * v.abs().sum((0, 2, 3))


check("32.3", contribution)

# %% [markdown]
# It is an upper bound of how far the means of the next layer's filters move, all together, but for the border: what measuring batch norm again repairs. The experiment of section 3, with its two factors beside it:

# %%
INNER = ("3.body.0", "4.body.0", "5.body.0")
SIZES = {"three quarters": (12, 24, 48), "half": (8, 16, 28)}
fit, validation = data.fashion_mnist("fit"), data.fashion_mnist("validation")
images, labels = validation.images[:2000], validation.labels[:2000]
maps, ranking = {}, {"mean": {}, "readers": {}, "contribution": {}}
for path in INNER:
    relu = resnet.get_submodule(path[:-1] + "2")
    relu.register_forward_hook(lambda module, x, y, path=path: maps.update({path: y}))
with torch.no_grad():
    resnet(models.as_input(fit.images[:250]))
for path in INNER:
    h, v = maps[path], resnet.get_submodule(path[:-1] + "3").weight.detach()
    ranking["mean"][path] = h.mean((0, 2, 3)).numpy()
    ranking["readers"][path] = v.abs().sum((0, 2, 3)).numpy()
    ranking["contribution"][path] = contribution(h, v).numpy()
resnet = models.load("ResNet8")  # without the hooks


# %%
def score(network):
    return 100 * train.accuracy(train.predict(network, images), labels)


def remeasured(network):
    network = copy.deepcopy(network)
    update_bn(models.as_input(fit.images[:500]).split(250), network)
    return network.eval()


def tuned(network):
    network = copy.deepcopy(network)
    few = fit.images[:5000], fit.labels[:5000]
    train.fit(network, *few, epochs=1, lr=0.01, weight_decay=1e-4)
    return network


# %%
small = {}
for name, scores in ranking.items():
    for size, kept in SIZES.items():
        top = {p: np.argsort(-scores[p])[:n] for p, n in zip(INNER, kept, strict=True)}
        small[name, size] = remove_filters(resnet, top)
steps = {"as cut": lambda n: n, "re-measured": remeasured, "tuned": tuned}
found = {
    step: side_by_side(lambda network, do=do: score(do(network)), small)
    for step, do in steps.items()
}
pd.DataFrame(found).rename_axis(["ranking", "filters left"]).round(1)

# %%
half = {step: {name: found[step][name, "half"] for name in ranking} for step in steps}
assert half["re-measured"]["contribution"] > max(
    half["re-measured"]["mean"], half["re-measured"]["readers"]
)
gap = np.ptp(list(half["re-measured"].values())), np.ptp(list(half["tuned"].values()))
print(f"half: best over worst {gap[0]:.1f} points re-measured, {gap[1]:.1f} tuned")
assert gap[1] < gap[0]

# %% [markdown]
# Re-measured, the product is ahead of both factors at half. After one epoch the three lie within two points of each other, and the product is no longer first there: what a ranking gains before training says little about what is left of it afterwards.
