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
# # 32 · Pruning structures
#
# A zero in a weight matrix is still a number that is multiplied. To make a network smaller and faster on kernels that know nothing of zeros, whole filters have to go, and with them all that belongs to them. How is a filter taken out, which ones, and what does the clock say? And the question that decides whether pruning was worth it: is the pruned network better than the same small network trained from scratch?
#
# | | |
# |---|---|
# | **You will** | take filters out of a residual block by hand · find which layers have to lose filters together · compare nine ways to choose, with and without measuring batch norm again · see which shapes a processor likes · compare pruning with training from scratch |
# | **You need** | 12 (convolution, MACs), 16 (training), 18 (latency); 31 helps (masks) |
# | **Time** | 80 minutes to read, about 1.5 minutes to run on two cores |
# | **Data and models** | Fashion-MNIST; `ResNet8`, and five networks of half its MACs |

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# imports
import copy
from functools import partial
from itertools import pairwise

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.utils.prune as torch_prune
import torch_pruning
from torch import nn
from torch.optim.swa_utils import update_bn

from helpers import convert, data, figures, models, runtime, significance, timing, train
from helpers.checks import check
from helpers.costs import cost
from helpers.keras_start import import_keras
from helpers.machine import keep_freed_memory, side_by_side
from helpers.prune import filter_ties, remove_filters

keras = import_keras()
figures.use_style()
torch.set_num_threads(1)  # two networks side by side below, and clocks: one thread each
keep_freed_memory()

# %%
fit, validation = data.fashion_mnist("fit"), data.fashion_mnist("validation")
resnet = models.load("ResNet8")
images, labels = validation.images[:2000], validation.labels[:2000]


# %% tags=["nbval-check-output"]
def score(network):
    """Accuracy on 2,000 validation images, in percent."""
    return 100 * train.accuracy(train.predict(network, images), labels)


print(f"ResNet8: {score(resnet):.0f} %, {cost(resnet, (1, 28, 28)).macs:,} MACs")

# %% [markdown]
# ## 1 One filter, taken out
#
# Two filters, each of one weight, read the number $x = 4$. Batch norm and ReLU follow, then a next layer that adds both channels up. Per filter $o$: the convolution computes $a_o = w_o x$, batch norm makes $\gamma_o (a_o - \mu_o) / \sigma_o + \beta_o$ of it, with $\sigma_o = \sqrt{\operatorname{var}_o + \varepsilon}$, ReLU makes that $h_o$, and the next layer sums $v_o h_o$ (in this lesson $v$ are the weights of the next layer).
#
# | | $w$ | $a$ | $\gamma, \beta, \mu, \sigma$ | $h$ | $v$ | $vh$ |
# |---|---|---|---|---|---|---|
# | filter 0 | 2 | 8 | 1, 0.5, 6, 2 | 1.5 | 3 | 4.5 |
# | filter 1 | −1 | −4 | 2, −0.5, −6, 4 | 0.5 | 2 | 1.0 |
#
# The sum is 5.5. Filter 1 contributes little; let it go. **Predict**, with the table: what is the sum if filter 1 is removed, and what if only its weight is set to 0?
#
# Removed, its row is gone: 4.5. With $w = 0$ it still has a batch norm, which subtracts a mean that is no longer there: $2 \cdot (0 + 6)/4 - 0.5 = 2.5$, times 2, and the sum is 9.5. Without a weight the filter speaks five times as loud as before. In general a filter of zeros sends the same constant everywhere in its map,
#
# $$h_o = \operatorname{ReLU}\Bigl(\beta_o - \frac{\gamma_o\, \mu_o}{\sigma_o}\Bigr) .$$
#
# To remove a filter is to make its channel zero *after* batch norm. Nothing reads the channel then, and all of this can go:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# draws: what belongs to two of six filters, in three layers
def grid(axis, rows, columns, gone_rows, gone_columns, title):
    for r in range(rows):
        for c in range(columns):
            gone = r in gone_rows or c in gone_columns
            face, edge = ("white", "#999999") if gone else (figures.COLORS["pruned"], "white")
            box = plt.Rectangle((c, -r), 0.88, -0.88, facecolor=face, edgecolor=edge)
            box.set_linestyle(":" if gone else "-")
            axis.add_patch(box)
    axis.set(xlim=(-0.2, columns), ylim=(-rows, 0.2), aspect="equal")
    axis.set_title(title, fontsize=10)
    axis.axis("off")


figure, axes = plt.subplots(1, 3, figsize=(7.6, 2.4), gridspec_kw={"width_ratios": [4, 4, 6]})
grid(axes[0], 6, 4, (1, 4), (), "convolution\n6 filters × 4 inputs")
grid(axes[1], 6, 4, (1, 4), (), "batch norm\n" + r"$\gamma, \beta, \mu, \sigma^2$ of each")
grid(axes[2], 5, 6, (), (1, 4), "next convolution\n5 filters × 6 inputs")
plt.show()

# %% [markdown]
# *Filters 1 and 4 go (dotted): two rows of the convolution, two rows of batch norm, and two columns of the next convolution, from each of its filters. Each square of a convolution is a kernel of 3 × 3 weights.*
#
# **Try it 32.0.** Write it for arrays: `w` [out, in, 3, 3], `norm` [4, out] with the rows $\gamma, \beta, \mu, \sigma^2$, `v` [next, out, 3, 3], and the indices `keep` of the filters that stay. For 6 filters on 4 inputs, 5 filters after them and `keep = [0, 2, 3, 5]`, the shapes are [4, 4, 3, 3], [4, 4] and [5, 4, 3, 3]. Hint: `w[keep]` are rows, `v[:, keep]` columns.

# %% tags=["nbval-check-output"]
def keep_filters(w, norm, v, keep):
    """w [out, in, 3, 3], norm [4, out], v [next, out, 3, 3], keep int [kept] -> the three."""
    ...


check("32.0", keep_filters)


# %% [markdown]
# Ours:

# %%
def keep_filters(w, norm, v, keep):
    """w [out, in, 3, 3], norm [4, out], v [next, out, 3, 3], keep int [kept] -> the three."""
    return w[keep], norm[:, keep], v[:, keep]


# %% [markdown]
# In a residual block the same happens to the filters between its two convolutions. `body` holds convolution, batch norm, ReLU, convolution, batch norm.

# %%
NORM = ("weight", "bias", "running_mean", "running_var")


def shrink(block, keep):
    """A copy of a residual block that keeps only these filters of its first convolution."""
    block = copy.deepcopy(block)
    conv, norm, _, reader, _ = block.body
    rows = torch.stack([getattr(norm, name) for name in NORM])
    w, rows, v = keep_filters(conv.weight, rows, reader.weight, keep)
    conv.weight.data, reader.weight.data = w.data, v.data
    for name, row in zip(NORM, rows, strict=True):
        getattr(norm, name).data = row.data
    return block


# %% [markdown]
# Three checks. `helpers.prune.remove_filters` does it for whole networks; so does the library torch-pruning; and the network whose channels are multiplied by 0 after batch norm must compute the same.

# %%
keep = np.setdiff1d(np.arange(32), [3, 7, 20])
ours = copy.deepcopy(resnet)
ours[4] = shrink(resnet[4], keep)
helper = remove_filters(resnet, {"4.body.0": keep})

theirs, x = copy.deepcopy(resnet), models.as_input(images[:50])
graph = torch_pruning.DependencyGraph().build_dependency(theirs, example_inputs=x)
prune_out = torch_pruning.prune_conv_out_channels
graph.get_pruning_group(theirs[4].body[0], prune_out, idxs=[3, 7, 20]).prune()


# %%
def equal(a, b):
    """Whether two networks have the same weights and batch norm statistics, number for number."""
    a, b = a.state_dict(), b.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


assert equal(ours, helper), "helpers.prune removes something else"
assert equal(ours, theirs), "torch-pruning removes something else"

# %%
masked, stays = copy.deepcopy(resnet), torch.zeros(32, 1, 1)
stays[keep] = 1
masked[4].body[1].register_forward_hook(lambda module, x, y: y * stays)
a, b = (train.predict(network, images[:50]) for network in (ours, masked))
assert np.allclose(a, b, atol=1e-5), "the small network computes something else"

# %% [markdown]
# All three agree. Now the other way, which libraries offer under the name of structured pruning: `torch.nn.utils.prune.ln_structured` sets the weights of the filters with the smallest L1 norm $\sum |w|$ to zero. Take a quarter of the filters between each pair of convolutions, 4, 8 and 16 of them, once like this and once by removal.

# %%
INNER = ("3.body.0", "4.body.0", "5.body.0")


def cut(ranking, kept):
    """ResNet8 with so many inner filters of each block, those with the largest ranks."""
    top = {path: np.argsort(-ranking[path])[:n] for path, n in zip(INNER, kept, strict=True)}
    return remove_filters(resnet, top)


# %%
l1, zeroed = {}, copy.deepcopy(resnet)
for path in INNER:
    l1[path] = resnet.get_submodule(path).weight.detach().abs().flatten(1).sum(1).numpy()
    torch_prune.ln_structured(zeroed.get_submodule(path), "weight", amount=0.25, n=1, dim=0)
removed = cut(l1, (12, 24, 48))

# %% [markdown]
# **Predict.** The same filters, zeroed or removed. Which network is right more often?

# %%
weights_zeroed, gone = score(zeroed), score(removed)
print(f"weights set to zero: {weights_zeroed:.0f} %, removed: {gone:.0f} %")
assert weights_zeroed < gone - 10, "setting weights to zero is no worse than removing"

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# draws: what the channels of block 3 send on before, and what the zeroed ones send on
norm = resnet[3].body[1]
constant = (norm.bias - norm.weight * norm.running_mean / (norm.running_var + norm.eps).sqrt()).relu()
seen = []
handle = resnet[3].body[2].register_forward_hook(lambda module, x, y: seen.append(y.mean((0, 2, 3))))
train.predict(resnet, images[:250])
handle.remove()
usual, least = seen[0].numpy(), np.argsort(l1["3.body.0"])[:4]
constant = constant.detach().numpy()
figure, axis = plt.subplots(figsize=(6.4, 2.4))
axis.bar(np.arange(4) - 0.2, usual[least], 0.38, color=figures.COLORS["float"])
axis.bar(np.arange(4) + 0.2, constant[least], 0.38, color=figures.SERIES[1])
axis.set(xticks=range(4), xticklabels=[f"filter {o}" for o in least], ylabel="mean of $h_o$")
axis.set_ylim(0, 1.35 * max(usual[least].max(), constant[least].max()))
axis.text(0.02, 0.9, "as trained", color=figures.COLORS["float"], transform=axis.transAxes)
axis.text(0.2, 0.9, "weights zero", color=figures.SERIES[1], transform=axis.transAxes)
plt.show()
assert ((constant[least] > usual[least]) & (usual[least] > 0)).sum() == 2

# %% [markdown]
# *The four filters of block 3 with the smallest L1 norm: the mean of their channel over 250 images (blue), and the constant that it becomes when the weights are zero (gray). Two fall silent; two speak louder than before.*
#
# A mask on weights is not a removal, and its accuracy is not that of the small network. It is no smaller and no faster either: all its products are still computed.
#
# ## 2 What has to go together
#
# The filters inside a block are free: one layer makes their channels, one layer reads them. Not so those of the stem. The first block *adds* its output to its input, channel by channel. Channel 3 of the sum is there as long as one of the two summands has it; whoever removes it must remove it from both, and from all that reads the sum.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# draws: the convolutions of ResNet8, with one letter for each group of tied filters
def conv_box(axis, x, y, letter, path):
    free = letter in "BCE"
    face = "white" if free else {"A": "#d9d9d9", "D": "#b8b8b8", "F": "#969696"}[letter]
    edge = figures.COLORS["pruned"] if free else figures.SERIES[3]
    axis.add_patch(plt.Rectangle((x - 0.36, y - 0.3), 0.72, 0.6, facecolor=face, edgecolor=edge, lw=1.6))
    axis.text(x, y, letter, ha="center", va="center", fontsize=11)
    axis.text(x, y + 0.42, path, ha="center", va="bottom", fontsize=7)


def arrow(axis, *points):
    line = {"color": figures.SERIES[1], "lw": 1.1, "zorder": 0}
    for start, end in pairwise(points[:-1]):
        axis.plot(*zip(start, end, strict=True), **line)
    axis.annotate("", points[-1], points[-2], arrowprops={"arrowstyle": "-|>", **line}, zorder=0)


figure, axis = plt.subplots(figsize=(7.8, 2.3))
conv_box(axis, 0, 0, "A", "0")
for block, (inner, outer) in enumerate(("BA", "CD", "EF")):
    at = 1.25 + 3.1 * block
    arrow(axis, (at - 0.9, 0), (at - 0.36, 0))
    conv_box(axis, at, 0, inner, f"{block + 3}.body.0")
    arrow(axis, (at + 0.36, 0), (at + 0.74, 0))
    conv_box(axis, at + 1.1, 0, outer, f"{block + 3}.body.3")
    arrow(axis, (at + 1.46, 0), (at + 1.78, 0))
    axis.text(at + 1.95, 0, "+", ha="center", va="center", fontsize=12)
    axis.add_patch(plt.Circle((at + 1.95, 0), 0.18, fill=False, color=figures.SERIES[3]))
    if block == 0:
        arrow(axis, (at - 0.64, 0), (at - 0.64, -1.2), (at + 1.95, -1.2), (at + 1.95, -0.2))
    else:
        arrow(axis, (at - 0.64, 0), (at - 0.64, -1.2), (at + 0.19, -1.2))
        conv_box(axis, at + 0.55, -1.2, outer, f"{block + 3}.shortcut.0")
        arrow(axis, (at + 0.91, -1.2), (at + 1.95, -1.2), (at + 1.95, -0.2))
arrow(axis, (9.58, 0), (10.0, 0))
axis.text(10.05, 0, "pool,\ndense", va="center", fontsize=8)
axis.set(xlim=(-0.5, 10.9), ylim=(-1.6, 0.9), aspect="equal")
axis.axis("off")
plt.show()

# %% [markdown]
# *The nine convolutions of ResNet8. Equal letters are tied by an addition: filter $o$ goes from both or from neither. B, C and E are free.*
#
# Depthwise convolutions tie as well: each of their filters reads one channel and makes one, so it goes with that channel. Batch norm, ReLU and pooling only hand channels on.
#
# `filter_ties` follows the channels through a network, as DepGraph does (Fang et al. 2023), and gives each filter a number: equal numbers go together, −1 cannot go.

# %% tags=["nbval-check-output"]
groups = {}
for path, ties in filter_ties(resnet).items():
    groups.setdefault(tuple(ties), []).append(path)
for ties, paths in groups.items():
    print(f"{len(ties)} filters{', which stay' if ties[0] < 0 else ''}: {', '.join(paths)}")

# %% tags=["nbval-check-output"]
separable = nn.Sequential(
    *(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
    *(nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)),
).eval()
ties = filter_ties(separable)
print(ties["0"], ties["3"], ties["6"])

# %% [markdown]
# The library has to agree for each group: filters 1 and 5 leave one of its layers, and what follows must be the same.

# %%
def by_library(network, path, gone, x):
    """A copy without these filters, and without what torch-pruning finds tied to them."""
    network = copy.deepcopy(network)
    graph = torch_pruning.DependencyGraph().build_dependency(network, example_inputs=x)
    graph.get_pruning_group(network.get_submodule(path), prune_out, idxs=gone).prune()
    return network


# %%
def by_groups(network, paths, gone):
    """The same by remove_filters, from all layers of the group."""
    filters = len(network.get_submodule(paths[0]).weight)
    return remove_filters(network, dict.fromkeys(paths, np.setdiff1d(np.arange(filters), gone)))


free = [paths for ties, paths in groups.items() if ties[0] >= 0]
for network, group in [(resnet, paths) for paths in free] + [(separable, ["0", "3"])]:
    theirs = by_library(network, group[0], [1, 5], x)
    assert equal(by_groups(network, group, [1, 5]), theirs), f"{group}: torch-pruning differs"

# %% [markdown]
# **Predict.** One filter goes from each group. From which group does it take most multiplications along, from which most parameters? (The maps have 28², 14² and 7² places; block 5 has the widest layers.)

# %% tags=["nbval-check-output"]
whole, rows = cost(resnet, (1, 28, 28)), {}
for paths in free:
    left = cost(by_groups(resnet, paths, [0]), (1, 28, 28))
    rows[", ".join(paths)] = whole.macs - left.macs, whole.params - left.params
pd.DataFrame(rows, ["MACs gone", "parameters gone"]).T

# %% [markdown]
# *Counted: what one filter takes along, of 9,345,920 MACs and 77,754 parameters.*
#
# Early filters hold the multiplications, late ones the parameters. A stem channel takes most MACs along, since five layers know it; but whatever it carried is lost to all blocks that come after. From here on the sums keep their channels, and only the inner filters B, C and E are pruned.
#
# ## 3 Which filters?
#
# By what number should filters be ranked? With $w_o$ the weights of filter $o$, $h_o$ its channel after the ReLU, $v_{r,o}$ the weights with which filter $r$ of the next layer reads it:
#
# | name | score of filter $o$ | reason |
# |---|---|---|
# | L1, L2 | $\sum \lvert w_o\rvert$, $\sqrt{\sum w_o^2}$ | small weights, small output (Li et al. 2017) |
# | gamma | $\lvert\gamma_o\rvert$ | what batch norm scales it with (Liu et al. 2017) |
# | folded L1 | $\lvert\gamma_o\rvert / \sigma_o \cdot \sum \lvert w_o\rvert$ | both, as a folded layer has it |
# | mean | mean of $h_o$ | a channel that is mostly 0 says little |
# | not zero | share of $h_o > 0$ | the same, counted |
# | Taylor | mean over images of $\lvert\sum h_o\, \partial L / \partial h_o\rvert$ | to first order, what the loss loses with the channel (Molchanov et al. 2017) |
# | readers | $\sum_r \lvert v_{r,o}\rvert$ | small if nobody listens |
# | random | | the control |
#
# Taylor by hand: a channel with the two values $(2, 1)$, and derivatives $(-0.1, 0.3)$. At zero it would change by $(-2, -1)$, and the loss by $0.2 - 0.3 = -0.1$: its score is 0.1.
#
# Channels and derivatives are recorded on 250 training images.

# %%
maps = {}


def record(path, module, inputs, output):
    output.retain_grad()
    maps[path] = output


relus = {path: resnet.get_submodule(path[:-1] + "2") for path in INNER}
handles = [m.register_forward_hook(partial(record, path)) for path, m in relus.items()]
logits = resnet(models.as_input(fit.images[:250]))
nn.functional.cross_entropy(logits, torch.from_numpy(fit.labels[:250]), reduction="sum").backward()
for handle in handles:
    handle.remove()


# %%
def rankings(path):
    """{name: score of each filter [out]} of the first convolution of a block."""
    conv, norm, _, reader, _ = resnet[int(path[0])].body
    size, h, dh = conv.weight.abs().flatten(1).sum(1), maps[path], maps[path].grad
    return {
        "L1": size,
        "L2": conv.weight.square().flatten(1).sum(1).sqrt(),
        "gamma": norm.weight.abs(),
        "folded L1": size * norm.weight.abs() / (norm.running_var + norm.eps).sqrt(),
        "mean": h.mean((0, 2, 3)),
        "not zero": (h > 0).float().mean((0, 2, 3)),
        "Taylor": (h * dh).sum((2, 3)).abs().mean(0),
        "readers": reader.weight.abs().sum((0, 2, 3)),
    }


# %%
ranking = {}
for path in INNER:
    for name, values in rankings(path).items():
        ranking.setdefault(name, {})[path] = values.detach().numpy()
for seed in range(5):
    rng = np.random.default_rng(seed)
    ranking[f"random {seed}"] = {path: rng.random(len(l1[path])) for path in INNER}

# %% [markdown]
# **Predict.** Three quarters of the inner filters stay (12, 24 and 48), or about half (8, 16 and 28, which leaves half of the network's MACs). No training follows. Which ranking is best, and does chance come last?

# %%
SIZES = {"three quarters": (12, 24, 48), "half": (8, 16, 28)}
small = {(name, size): cut(ranking[name], SIZES[size]) for name in ranking for size in SIZES}
before = side_by_side(score, small)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# prepares: a table of one number for each ranking and size, the random ones as a range
def as_table(found):
    rows = {}
    for name in [n for n in ranking if not n.startswith("random")]:
        rows[name] = {size: f"{found[name, size]:.0f}" for size in SIZES}
    chance = {size: [v for (n, s), v in found.items() if n[:6] == "random" and s == size] for size in SIZES}
    rows["random, 5 draws"] = {s: f"{min(v):.0f} to {max(v):.0f}" for s, v in chance.items()}
    return pd.DataFrame(rows).T.rename_axis("filters left: accuracy [%]")


as_table(before)

# %%
named = [name for name in ranking if not name.startswith("random")]
chance = max(before[f"random {seed}", "three quarters"] for seed in range(5))
assert sum(before[name, "three quarters"] < chance + 1 for name in named) >= 4
assert max(before[name, "half"] for name in named) < 45

# %% [markdown]
# At three quarters the rankings are far apart, and half of them are no better than the best of five random draws. At half nothing works.
#
# ### Batch norm still expects the old channels
#
# A filter $r$ of the next layer computes $a_r = \sum_o v_{r,o} * h_o$. Without the removed channels its mean falls by their mean contribution,
#
# $$\operatorname{E}[a_r'] = \operatorname{E}[a_r] - \sum_{o\ \text{gone}} \operatorname{E}[v_{r,o} * h_o] ,$$
#
# but the batch norm that follows still subtracts the old $\mu_r$ and divides by the old $\sigma_r$. Both can be measured again: run 500 training images through the network and take means and variances anew. No label, no gradient, no weight is touched. PyTorch has it as `update_bn`.

# %%
batches = models.as_input(fit.images[:500]).split(250)


def remeasured(network):
    """A copy whose batch norms have the means and variances of 500 training images."""
    network = copy.deepcopy(network)
    update_bn(batches, network)
    return network.eval()


# %% [markdown]
# **Predict.** What will do more for the half-sized networks: the best of all rankings instead of the worst, or two passes of 250 images?

# %%
after = side_by_side(lambda network: score(remeasured(network)), small)
as_table(after)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# draws: accuracy before and after measuring batch norm again, for each ranking
figure, axes = plt.subplots(1, 2, figsize=(7.8, 3.5), sharey=True)
names = [n for n in ranking if n[:6] != "random"] + ["random 0"]
for axis, size in zip(axes, SIZES, strict=True):
    for place, name in enumerate(names):
        same = [n for n in ranking if n[:6] == name[:6]] if "random" in name else [name]
        for n in same:
            ends = before[n, size], after[n, size]
            axis.plot(ends, (place, place), color=figures.SERIES[0], lw=1, zorder=0)
            axis.plot(ends[0], place, "o", color=figures.SERIES[1], mfc="white", ms=6)
            axis.plot(ends[1], place, "o", color=figures.COLORS["pruned"], ms=6)
    axis.set(xlabel="validation accuracy [%]", xlim=(0, 100))
    axis.set_title(f"{size} of the inner filters", fontsize=11)
axes[0].set_yticks(range(len(names)), [*names[:-1], "random"])
axes[0].invert_yaxis()
plt.show()

# %% [markdown]
# *Each row is a ranking (the last: five random ones): accuracy as cut (white) and after batch norm has been measured again (green).*

# %%
old, new = ({name: found[name, "half"] for name in named} for found in (before, after))
gain = np.mean([new[name] - old[name] for name in named])
spread = [max(scores.values()) - min(scores.values()) for scores in (old, new)]
print(f"half: measuring again {gain:+.0f} points on average")
print(f"best ranking over worst: {spread[0]:+.0f} as cut, {spread[1]:+.0f} re-measured")

# %%
assert gain > 1.5 * spread[0] and spread[1] > 1.3 * spread[0]
assert min(new.values()) > max(old.values()), "a ranking as cut is ahead of another re-measured"
assert max(new, key=new.get) in ("readers", "mean", "Taylor"), "another ranking is best"
assert new["folded L1"] < max(after[f"random {seed}", "half"] for seed in range(5))

# %% [markdown]
# Two passes of images do far more than the choice does as cut: the worst ranking, re-measured, is ahead of the best one as cut. And only now the choice shows. The rankings lie farther apart, and their order has changed: asking who reads a channel needs no data and is at the top, beside the mean and Taylor; the folded L1, which says how strong the filter of a folded network is, is no better than chance.
#
# Is it the means? Take over only the means, or only the variances.

# %%
def only(part, network):
    """A copy with re-measured means (or variances) alone."""
    mixed, new = copy.deepcopy(network), remeasured(network).state_dict()
    changed = {name: values for name, values in new.items() if name.endswith(part)}
    mixed.load_state_dict(mixed.state_dict() | changed)
    return mixed


rows = {}
for size in SIZES:
    network = small["readers", size]
    one = {part: score(only(part, network)) for part in ("running_mean", "running_var")}
    rows[size] = {"as cut": before["readers", size], **one, "both": after["readers", size]}
parts = pd.DataFrame(rows).T.rename_axis("readers: accuracy [%]")
parts.round(0).astype(int)

# %%
assert parts["running_mean"]["three quarters"] > parts["both"]["three quarters"] - 4
assert max(parts["running_mean"]["half"], parts["running_var"]["half"]) < parts["both"]["half"] - 30
same = score(remeasured(resnet)) - score(resnet)
assert abs(same) < 0.6, "the whole network gains from it, too"

# %% [markdown]
# At three quarters it is the means, almost alone. At half neither part helps without the other. The control: the whole network, measured again, stays where it was. So this is not training by a back door; and it is the line with which fine-tuning has to be compared.
#
# ## 4 What the clock says
#
# Half of the MACs can be had in two ways. **Uniform**: all layers, the sums too, shrink to the share $r$ of their channels, and MACs fall with $r^2$; $r = 0.7$ leaves 11, 22 and 45 channels. **Inner**: the sums stay, the inner filters are halved, and MACs fall in proportion.

# %%
def shaped(stem, inner3, inner4, sum4, inner5, sum5):
    """ResNet8 with so many channels, the first ones; good for its costs, not for its answers."""
    widths = {"0": stem, "3.body.0": inner3, "3.body.3": stem, "4.body.0": inner4}
    widths |= {"4.body.3": sum4, "4.shortcut.0": sum4, "5.body.0": inner5}
    widths |= {"5.body.3": sum5, "5.shortcut.0": sum5}
    return remove_filters(resnet, {path: np.arange(n) for path, n in widths.items()})


# %%
shapes = {
    "ResNet8": shaped(16, 16, 32, 32, 64, 64),
    "uniform": shaped(11, 11, 22, 22, 45, 45),
    "inner": shaped(16, 8, 16, 32, 28, 64),
    "early": shaped(16, 8, 32, 32, 64, 64),
    "middle": shaped(16, 16, 11, 32, 64, 64),
    "late": shaped(16, 16, 32, 32, 21, 64),
}

# %% [markdown]
# **Predict.** Uniform has 48 % of the MACs, inner 50 %. Both become a float32 file for LiteRT and run on one thread. Which one is faster?

# %%
files = {name: convert.to_tflite(network, "float32") for name, network in shapes.items()}
ready = {name: runtime.open_model(file).prepare(images[0]) for name, file in files.items()}
lite = timing.compare_latency(ready, seconds=3).ratio


# %%
def on_torch(network, x):
    """A function that runs the network in PyTorch once."""

    def run():
        with torch.no_grad():
            network(x)

    return run


one = models.as_input(images[:1])
runs = {name: on_torch(network, one) for name, network in shapes.items()}
in_torch = timing.compare_latency(runs, seconds=3).ratio

# %%
rows = {}
for name, network in shapes.items():
    c, t = cost(network, (1, 28, 28)), lite[name]
    shares = c.macs / whole.macs, c.params / whole.params, len(files[name]) / len(files["ResNet8"])
    rows[name] = *shares, t.estimate, t.low, t.high, in_torch[name].estimate
columns = ["MACs", "parameters", "file", "time, LiteRT", "low", "high", "time, PyTorch"]
shape_table = pd.DataFrame(rows, columns).T.rename_axis("share of ResNet8's")
shape_table.round(2)

# %% [markdown]
# *MACs and parameters are counted, files are bytes of real files, times are medians of interleaved rounds on one thread with their 95 % interval, all divided by ResNet8's.*

# %%
time = shape_table["time, LiteRT"]
assert time["inner"] < 0.75, "half of the MACs, and hardly faster"
assert time["inner"] < time["uniform"] - 0.05, "the uniform cut is as fast"

# %% [markdown]
# Equal MACs, unequal time. Look at a single convolution, 3 × 3 on 32 maps of 14 × 14, with 4 to 40 filters.

# %%
def single(filters):
    """A .tflite file of one convolution on [14, 14, 32]."""
    x = keras.Input((14, 14, 32))
    y = keras.layers.Conv2D(filters, 3, padding="same")(x)
    return convert.to_tflite(keras.Model(x, keras.layers.Flatten()(y)), "float32")


# %%
FILTERS = (32, 4, 8, 9, 12, 16, 17, 20, 24, 25, 28, 31, 33, 36, 40)
map_ = np.zeros((14, 14, 32), np.float32)
steps = {str(n): runtime.open_model(single(n)).prepare(map_) for n in FILTERS}
step_time = {int(n): r.estimate for n, r in timing.compare_latency(steps, seconds=3).ratio.items()}

# %% [markdown]
# **Predict.** One filter of 32 goes: how much faster is the layer? And one of 33?

# %%
print({n: round(step_time[n], 2) for n in (31, 32, 33)}, "of the time of 32 filters")
assert abs(step_time[25] - step_time[32]) < 0.15, "seven filters do make a difference"
assert step_time[33] > 1.1 * step_time[32], "one filter more costs next to nothing"

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# draws: time against filters, for one convolution in LiteRT and in PyTorch
conv_x = torch.zeros(1, 32, 14, 14).to(memory_format=torch.channels_last)
layers = {n: nn.Conv2d(32, n, 3, padding=1).to(memory_format=torch.channels_last) for n in FILTERS}
torch_runs = {str(n): on_torch(layer, conv_x) for n, layer in layers.items()}
torch_time = timing.compare_latency(torch_runs, seconds=3).ratio
figure, axis = plt.subplots(figsize=(7.2, 3.2))
order = sorted(FILTERS)
axis.plot([0, 42], [0, 42 / 32], ":", color=figures.SERIES[0], lw=1.5)
axis.plot(order, [torch_time[str(n)].estimate for n in order], "s--", color=figures.SERIES[1], ms=4, lw=1)
axis.plot(order, [step_time[n] for n in order], "o-", color=figures.SERIES[3], ms=5, lw=1.5)
axis.set(xlabel="filters", ylabel="time, 32 filters = 1", xlim=(0, 42), ylim=(0, None))
axis.set_xticks(range(0, 41, 8))
axis.text(0.02, 0.92, "LiteRT: circles", transform=axis.transAxes, color=figures.SERIES[3], fontsize=10)
axis.text(0.02, 0.82, "PyTorch: squares", transform=axis.transAxes, color=figures.SERIES[1], fontsize=10)
axis.text(0.02, 0.72, "in proportion: dotted", transform=axis.transAxes, color="#999999", fontsize=10)
plt.show()

# %% [markdown]
# *The time of one convolution against its filters. LiteRT's XNNPACK climbs a staircase; PyTorch's kernels prefer multiples of 8, and may take longer for one filter fewer. Where the steps lie depends on the processor.*
#
# XNNPACK computes filters in tiles, of as many as the processor's registers hold. A tile that is not full takes its time all the same: within a step filters are free, and the first filter of a step pays for all of it. Eleven channels are more than eight, and on the machine of this page they even take longer than sixteen; that is what the uniform cut fell into. So choose numbers of filters from the processor's steps, and look at the clock before you trust a share of MACs. The 28 of 64 filters in block 5 were chosen for their MACs; by the staircase, 32 would take about as long.
#
# The last three lines of the table remove the same MACs, 19 %, from one block each: early, middle or late. Only accuracy is missing there, of filters chosen by their readers and with batch norm measured again.

# %%
PLACES = {"early": (8, 32, 64), "middle": (16, 11, 64), "late": (16, 32, 21)}
placed = {name: cut(ranking["readers"], kept) for name, kept in PLACES.items()}
placed = side_by_side(lambda network: score(remeasured(network)), placed)
where = shape_table.loc[list(PLACES), ["MACs", "parameters", "file", "time, LiteRT"]]
where.assign(accuracy=pd.Series(placed)).round(2)

# %%
assert np.ptp(where["MACs"]) < 0.01 and np.ptp(where["time, LiteRT"]) < 0.12
assert where["parameters"]["late"] < 0.55 and where["parameters"]["early"] > 0.95
assert placed["early"] > placed["late"] and placed["early"] > placed["middle"]

# %% [markdown]
# For the same MACs all three take about the same time. Early filters cost least accuracy here, and hardly a byte is saved; late ones halve the file. Which layer to prune depends on what you are short of: time or memory.
#
# Choose a rate and a ranking, and see which filters go and what is left.

# %% jupyter={"source_hidden": true} tags=["hide-input", "nbval-ignore-output"]
# draws: the inner filters that stay at any rate, and what the network then costs
def show_cut(rate, name):
    kept = [max(1, round((1 - rate) * n)) for n in (16, 32, 64)]
    network = cut(ranking[name], kept)
    left = cost(network, (1, 28, 28))
    figure, axes = plt.subplots(1, 3, figsize=(7.8, 2.2), gridspec_kw={"width_ratios": [1.2, 2, 4]})
    for axis, path, n in zip(axes, INNER, kept, strict=True):
        values = ranking[name][path] / ranking[name][path].max()
        stays = np.isin(np.arange(len(values)), np.argsort(-values)[:n])
        shades = np.where(stays, figures.COLORS["pruned"], figures.SERIES[0])
        axis.bar(range(len(values)), values, color=shades)
        axis.set(title=f"block {path[0]}: {n} of {len(values)}", xticks=[], yticks=[])
        axis.title.set_fontsize(10)
    accuracy = train.accuracy(train.predict(remeasured(network), images[:500]), labels[:500])
    figure.supxlabel(
        f"{left.macs / whole.macs:.0%} of the MACs, {left.params / whole.params:.0%} of the "
        f"parameters, {accuracy:.0%} right of 500 images after measuring batch norm again",
        fontsize=10,
    )
    plt.show()


rate = widgets.FloatSlider(0.5, min=0, max=0.9, step=0.05, description="rate", continuous_update=False)
choice = widgets.Dropdown(options=list(ranking), value="readers", description="ranking")
widgets.interact(show_cut, rate=rate, name=choice);

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# draws: the same at two settings
show_cut(0.25, "readers")
show_cut(0.5, "L1")

# %% [markdown]
# *Two settings: a rate of 0.25 by readers, and 0.5 by L1. Each bar is the score of a filter; green ones stay.*
#
# ## 5 Fine-tuning, and the question of Liu et al.
#
# Training repairs what is left. The usual recipe: train a large network, prune, fine-tune. Liu et al. (2019) asked what a control would have asked first: train the *small* network from scratch. In their experiments it was as good, if it got enough epochs. What pruning had found was then a shape, and not weights.
#
# First a short trial, one epoch on 5,000 images for each: the filters chosen by their readers, by chance, and all weights drawn anew. The whole network, trained as long, is the control.

# %%
def fresh(network, seed=0):
    """A copy of the same shape with new weights."""
    network = copy.deepcopy(network)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in network.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    return network


# %%
SIZES["quarter"] = (4, 8, 16)
arms = {"all filters, trained on": resnet}
for size, kept in SIZES.items():
    arms[f"readers, {size}"] = cut(ranking["readers"], kept)
    arms[f"random, {size}"] = cut(ranking["random 0"], kept)
arms["from scratch, half"] = fresh(arms["readers, half"])


# %%
def tuned(network, lr):
    """A copy after one epoch on 5,000 images."""
    network = copy.deepcopy(network)
    few = fit.images[:5000], fit.labels[:5000]
    train.fit(network, *few, epochs=1, lr=lr, weight_decay=1e-4)
    return network


# %% [markdown]
# Each start has its own rate. Of 0.003, 0.01, 0.03 and 0.1, tried beforehand on the validation images, trained weights did best with 0.01 or less, new ones with 0.1.
#
# **Predict.** At half, as cut, readers and chance were far apart. Will one epoch close the gap? And will new weights come near?

# %%
def learned(name):
    return score(tuned(arms[name], lr=0.1 if "scratch" in name else 0.01))


short = side_by_side(learned, {name: name for name in arms})
pd.Series(short, name="accuracy [%]").round(1).to_frame()

# %%
assert short["readers, half"] > short["from scratch, half"] + 5
assert short["readers, half"] > after["readers", "half"] + 8, "no better than re-measuring"
gap = short["readers, half"] - short["random, half"]
assert 0 < gap < 0.5 * (after["readers", "half"] - after["random 0", "half"])
assert abs(short["readers, three quarters"] - after["readers", "three quarters"]) < 2

# %% [markdown]
# Much of it. Filters chosen by chance come within a few points of those chosen by their readers: training makes up for most of a bad choice, and new weights do not come near in one epoch. Two controls keep the claim small. The whole network *loses* about half a point in this epoch, on 5,000 images that it knows already. And at three quarters the epoch adds about a point to what measuring batch norm again had given without a single label.
#
# ### With time
#
# One epoch is no fair trial for a network that starts from nothing. So five networks of the same shape (8, 16 and 28 inner filters: 4,660,736 MACs, 37,314 parameters) have been trained for long on all 55,000 images. They ship with the course; `helpers/zoo.py` has the recipes.
#
# | name | starts from | epochs |
# |---|---|---|
# | `ResNet8_half` | ResNet8, filters chosen by readers | 22 |
# | `ResNet8_half_seed1` | the same, other batches | 22 |
# | `ResNet8_half_random` | ResNet8, filters chosen at random | 22 |
# | `ResNet8_half_scratch` | new weights | 22 |
# | `ResNet8_half_scratch_long` | new weights | 71: as many as ResNet8 and the fine-tuning together |

# %%
LONG = {
    "pruned": "ResNet8_half",
    "pruned, other seed": "ResNet8_half_seed1",
    "pruned at random": "ResNet8_half_random",
    "scratch": "ResNet8_half_scratch",
    "scratch, all epochs": "ResNet8_half_scratch_long",
}
long_runs = {label: models.load(name) for label, name in LONG.items()}
for network in long_runs.values():
    c = cost(network, (1, 28, 28))
    assert (c.macs, c.params) == (4_660_736, 37_314)

# %% [markdown]
# ## What we measured
#
# All choices above were made on validation images. Now the 10,000 test images, once, each network against ResNet8 by the paired test.

# %%
test = data.fashion_mnist("test")
arms = {"ResNet8": resnet, "ResNet8, 10 epochs more": models.load("ResNet8_float_10"), **long_runs}
answers = side_by_side(lambda network: train.predict(network, test.images), arms)

# %%
rows = {}
for name, answer in answers.items():
    c = significance.compare_accuracy(answers["ResNet8"], answer, test.labels)
    rows[name] = *(100 * np.array([c.accuracy_b, c.difference, c.low, c.high])), c.p
final = pd.DataFrame(rows, ["accuracy [%]", "change", "low", "high", "p"]).T
final.assign(p=final["p"].map("{:.2g}".format)).round(2)

# %% [markdown]
# *Measured: accuracy on the test images, and its change in points against ResNet8 with the 95 % interval and p of the paired test. All but the first two have 50 % of the MACs and 48 % of the parameters. The second line is the control for training on.*

# %%
half_file = convert.to_tflite(long_runs["pruned"], "float32")
pair = {"ResNet8": ready["ResNet8"], "half": runtime.open_model(half_file).prepare(images[0])}
faster = timing.compare_latency(pair, seconds=3).ratio["half"]
print(f"LiteRT, float32: {faster.low:.2f} to {faster.high:.2f} of ResNet8's time")
assert final["change"]["pruned"] > -0.8, "half of the MACs cost more than 0.8 points"
assert faster.estimate <= 1 / 1.5, "half of the MACs are not 1.5 times as fast"
assert len(half_file) < 0.52 * len(files["ResNet8"])

# %% [markdown]
# And pruned against trained from scratch, directly:

# %%
for name in ("pruned at random", "scratch", "scratch, all epochs"):
    c = significance.compare_accuracy(answers[name], answers["pruned"], test.labels)
    print(f"pruned over {name}: {100 * c.low:+.2f} to {100 * c.high:+.2f} points, p = {c.p:.2g}")

# %% [markdown]
# An interval above 0 says that the weights which pruning kept are worth something that this training of the same shape has not found; one around 0, that the shape was all.
#
# Half of the MACs, half of the bytes and less than two thirds of the time, for less than 0.8 points.
#
# ## Exercises
#
# ### 32.1 What a pruned block costs
#
# Write the MACs of a residual block with `c_in` input channels, `inner` filters in its first convolution and `c_out` in its second, both 3 × 3. Its input has `side` × `side` places; with `stride` 2 the first convolution leaves half of them along each side (`side` is even). The shortcut is free if `stride` is 1 and `c_in` equals `c_out`; else it is a 1 × 1 convolution with the same stride.
#
# For example, block 4 of ResNet8, `block_macs(16, 32, 32, 28, 2)`, has 2,809,856 MACs. Hint: all three convolutions make maps of the same size.

# %% tags=["nbval-check-output"]
def block_macs(c_in, inner, c_out, side, stride):
    """int channels, int side of the input, stride 1 or 2 -> MACs, int."""
    ...


check("32.1", block_macs)


# %% [markdown]
# ### 32.2 Which layers are tied?
#
# `n` layers are numbered from 0, and `additions` int [A, 2] says which two of them are added (the one or the other may already be a sum: its layers are tied). Return int [n]: for each layer the smallest number in its group.
#
# For example, `n = 6` and `additions = [[4, 2], [1, 5], [2, 1]]` give `[0, 1, 1, 3, 1, 1]`: 2 is tied to 4 and to 1, and 1 to 5. Hint: begin with `arange(n)`; an addition of groups $a$ and $b$ gives all members of both the smaller number.

# %% tags=["nbval-check-output"]
def tied(n, additions):
    """int, int array [A, 2] -> int array [n], the smallest layer of each layer's group."""
    ...


check("32.2", tied)


# %% [markdown]
# ### 32.3 A ranking of your own (open)
#
# "Mean" asks how much a channel says, "readers" how much is listened to. Their product is the channel's mean contribution to the next layer. Write it, for `h` [N, out, H, W] after the ReLU and the next layer's weights `v` [next, out, 3, 3], both tensors: the mean of each channel times its $\sum_r |v_{r,o}|$.
#
# For example, one channel that is 2 everywhere, read by two filters whose nine weights are all 0.1 and all −0.1, scores $2 \cdot 1.8 = 3.6$. Hint: each keeps dimension 1.
#
# Then put it into section 3's experiment: is it ahead of its two factors, as cut and re-measured? And is that still so after section 5's epoch?

# %% tags=["nbval-check-output"]
def contribution(h, v):
    """float tensors [N, out, H, W] and [next, out, 3, 3] -> scores [out]."""
    ...


check("32.3", contribution)

# %% [markdown]
# ## Recap
#
# To remove a filter is to make its channel zero after batch norm; setting its weights to zero is something else, and was worse. Additions and depthwise convolutions tie filters of several layers together. After a cut, batch norm's statistics are those of channels that are gone: measuring them again on 500 images did more than the choice of the ranking, and is the line that fine-tuning has to beat. Equal MACs are not equal time: a processor computes filters in steps, and early and late filters of equal MACs differ in bytes. A network pruned to half of its MACs came within 0.8 points of the whole one.
#
# ## Next
#
# 33 · Distillation trains a small network on the answers of a large one, and 35 · Deep compression puts pruning, codebooks and entropy coding into one file.
#
# ## References
#
# - H. Li et al., *Pruning filters for efficient ConvNets*, 2017: filters by L1 norm.
# - Z. Liu et al., *Learning efficient convolutional networks through network slimming*, 2017: channels by batch norm's $\gamma$.
# - P. Molchanov et al., *Pruning convolutional neural networks for resource efficient inference*, 2017, section 2.2: the Taylor criterion.
# - Z. Liu et al., *Rethinking the value of network pruning*, 2019: small networks from scratch, with equal epochs and with equal computation.
# - G. Fang et al., *DepGraph: towards any structural pruning*, 2023: groups of tied layers, and the library torch-pruning.
