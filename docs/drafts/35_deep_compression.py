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
# # 35 · Deep Compression
#
# A device gets its network over a radio link, or keeps it in a flash memory of a few kilobytes. How small can the file become? Three steps that you know one by one are put in a row: remove weights, let the others share a few values, and give frequent symbols short codes. Han et al. (2016) made two small networks 40 and 39 times smaller with them. Here you follow ten weights through all steps by hand, then a network, and every byte of the file counts.
#
# | | |
# |---|---|
# | **You will** | write weights as gaps and indices · choose a codebook by its bytes, not only by its error · train shared weights through the sum of their gradients · build a Huffman code, and see how far from the entropy it is · read a compressed file part by part |
# | **You need** | 31 (pruning by magnitude); 22 (k-means codebooks); 37 (formats and entropy) |
# | **Time** | 60 minutes to read, about 1 minute to run on two cores |
# | **Data and models** | Fashion-MNIST; `LeNet300` (784-300-100-10) and its compressed files |

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# imports
import copy
import itertools
import lzma

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.cluster import KMeans

from helpers import codec, compress, data, figures, machine, models, prune, significance, train
from helpers.checks import check
from helpers.quantize import sqnr_db
from helpers.sharing import plain_state, share_weights

figures.use_style()
torch.set_num_threads(1)  # small layers: a second thread would cost more than it brings
machine.keep_freed_memory()

# %%
fit, validation = data.fashion_mnist("fit"), data.fashion_mnist("validation")
lenet = models.load("LeNet300")

# %% [markdown]
# ## 1 Ten weights by hand
#
# After pruning, three of ten weights are left:

# %% tags=["nbval-check-output"]
w = np.array([0, 1.1, 0, -0.8, 0, 0, 0, 0, 0.9, 0])
places = np.flatnonzero(w)
print("places", places, "gaps", np.diff(places, prepend=-1))

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# draws: the ten weights, the steps from one to the next, and what is stored of each
figure, axis = plt.subplots(figsize=(7.4, 2.7))
for i, value in enumerate(w):
    shade = figures.COLORS["pruned"] if value else "#eeeeee"
    axis.add_patch(plt.Rectangle((i - 0.45, 0), 0.9, 0.7, fc=shade, ec="white"))
    axis.text(i, 0.35, f"{value:g}", ha="center", va="center", color="white" if value else "#999999")
    axis.text(i, -0.25, str(i), ha="center", va="center", fontsize=8, color="#777777")
for start, end, text in ((-1, 1, "2"), (1, 3, "2"), (3, 7, "4"), (7, 8, "1")):
    style = {"arrowstyle": "->", "connectionstyle": "arc3,rad=-0.45", "color": "black"}
    axis.annotate("", (end, 0.75), (start, 0.75), arrowprops=style)
    axis.text((start + end) / 2, 1.02 + 0.2 * (end - start), text, ha="center", fontsize=11)
rows = {"gap": ["2", "2", "4", "1"], "index": ["2", "1", "0", "2"]}
for y, (name, cells) in zip((-0.85, -1.35), rows.items(), strict=True):
    axis.text(-1.15, y, name, ha="left", va="center", fontsize=10)
    for x, cell in zip((1, 3, 7, 8), cells, strict=True):
        axis.text(x, y, cell, ha="center", va="center", fontsize=11)
axis.set(xlim=(-1.3, 9.6), ylim=(-1.7, 2.1))
axis.axis("off")
plt.show()

# %% [markdown]
# *Four steps lead through the ten weights. The third ends at place 7 on a zero, because a gap of 2 bits reaches no further than four places.*
#
# **Gaps.** Instead of a place, store the step from the stored weight before (the first from before place 0): 2, 2, 5. With $d$ bits a step can be $1$ to $2^d$ places. For $d = 2$ the 5 is too long: first a step of 4 to a *padding zero*, then a step of 1. (Exercise 37.2 counted the zeros between two weights; here a gap counts the step, one more.)
#
# **A codebook.** Let 1.1 and 0.9 share their mean. Then the layer has two *entries*, $C_1 = -0.8$ and $C_2 = 1.0$, and a weight is an index; index 0 stands for a padding zero.
#
# In bits, where three indices take two bits each:
#
# | | bits |
# |---|---|
# | ten weights of 32 bits | 320 |
# | four steps, 2 + 2 bits | 16 |
# | two entries of 32 bits | 64 |
#
# The codebook is most of it, but it is paid once, for ten weights as for the 235,200 of a layer. The steps as code, for any places:

# %%
def split_gaps(places, d):
    """ascending places, bits -> gaps in 1..2^d, and True where a gap ends at a weight."""
    gaps, real = [], []
    for gap in np.diff(places, prepend=-1).tolist():
        padding, rest = divmod(gap - 1, 2**d)
        gaps += [2**d] * padding + [rest + 1]
        real += [False] * padding + [True]
    return np.array(gaps), np.array(real)


# %% tags=["nbval-check-output"]
gaps, real = split_gaps(places, d=2)
print("gaps", gaps, "weights", real.astype(int))
print("back:", (gaps.cumsum() - 1)[real])

# %% [markdown]
# ## 2 Sharing
#
# Now a network. `LeNet300` trains on for three epochs while its smallest weights become zero, 95 % in the end, by one threshold for all layers.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# prepares: LeNet300 with 95 % zeros, three more epochs
def right(network):
    """Accuracy on the validation images."""
    return train.accuracy(train.predict(network, validation.images), validation.labels)


def further(callbacks=()):
    """LeNet300 after three more epochs."""
    network, options = copy.deepcopy(lenet), dict(epochs=3, lr=0.03, weight_decay=1e-4)
    train.fit(network, fit.images, fit.labels, callbacks=callbacks, **options)
    return network


pruned = further([compress.prune_gradually(0.95)])
for name, layer in compress.layers(pruned).items():
    kept = int((layer.weight != 0).sum())
    print(f"layer {name}: {kept:6,} of {layer.weight.numel():7,} weights left")
print(f"validation accuracy: {right(lenet):.1%} dense, {right(pruned):.1%} with 95 % zeros")
assert right(pruned) > right(lenet) - 0.015, "95 % zeros cost more than 1.5 points"

# %% [markdown]
# About 13,000 weights are left, each with 32 bits of its own. Give each layer a codebook of $2^b$ entries. Lesson 22 found them by k-means: each value goes to the nearest entry, each entry moves to the mean of its values, and so on. One thing was left open there: where do the entries start? Han et al. compare three starts and recommend the *linear* one, evenly spaced from the smallest to the largest value, because it keeps entries for the few large weights. The *density* start puts an equal number of values around each entry.

# %%
def lloyd(x, book, rounds=100):
    """values [n], start of the entries [k] -> entries [k], index of each value [n]."""
    for _ in range(rounds):
        index = np.abs(x[:, None] - book).argmin(1)
        count = np.bincount(index, minlength=len(book))
        total = np.bincount(index, x, minlength=len(book))
        book = np.where(count > 0, total / np.maximum(count, 1), book)
    return book, np.abs(x[:, None] - book).argmin(1)


# %%
def linear(x, b):
    return np.linspace(x.min(), x.max(), 2**b)


def density(x, b):
    return np.quantile(x, (np.arange(2**b) + 0.5) / 2**b)


# %%
layer = pruned.get_submodule("1").weight.detach().numpy().ravel().astype(float)
x = layer[layer != 0]
theirs = KMeans(8, init=density(x, 3)[:, None], n_init=1, max_iter=100, tol=0).fit(x[:, None])
ours = lloyd(x, density(x, 3))[0]
assert np.allclose(ours, theirs.cluster_centers_[:, 0], atol=2e-3), "scikit-learn's entries differ"

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# draws: what stays of the first layer, and the entries from both starts
figure, axis = plt.subplots(figsize=(7.4, 3.0))
axis.hist(x, 120, range=np.quantile(x, (0.001, 0.999)), color=figures.COLORS["pruned"], alpha=0.45)
top = axis.get_ylim()[1]
for start, height, shade in ((linear, -0.10, "black"), (density, -0.22, "#7F7F7F")):
    book, index = lloyd(x, start(x, 4))
    used = np.bincount(index, minlength=16) > 0
    for at, marker in ((book[used], "|"), (book[~used], "x")):
        axis.plot(at, np.full(len(at), height * top), marker, color=shade, ms=11, mew=2)
    axis.text(np.quantile(x, 0.999) * 1.12, height * top, start.__name__, va="center", color=shade)
axis.axhline(0, color="#cccccc", linewidth=0.8)
low, high = np.quantile(x, (0.001, 0.999))
axis.set(xlabel="value", ylabel="weights", ylim=(-0.3 * top, top), xlim=(1.1 * low, 1.4 * high))
axis.set_yticks([t for t in axis.get_yticks() if 0 <= t < top])
plt.show()

# %% [markdown]
# *The first layer's weights that stay. Pruning has left a hole around zero. Below, the sixteen entries that k-means ends in from both starts (a cross: an entry without a weight; entries beyond the frame are not drawn).*
#
# **Predict.** After k-means, at the same number of bits: which start has the smaller error? And which gives the smaller file, if indices get Huffman codes?

# %%
def put_back(layer, values):
    """The layer with its nonzero weights replaced, as a tensor of float16 numbers."""
    new = np.zeros(len(layer), np.float32)
    new[layer != 0] = values
    return torch.from_numpy(new).half().float()


rows = {}
for b, start in itertools.product((3, 4, 5), (linear, density)):
    book, index = lloyd(x, start(x, b))
    file = codec.encode({"w": put_back(layer, book[index])})
    used = len(np.unique(index))
    rows[b, start.__name__] = [used, sqnr_db(x, book[index]), len(file)]
starts = pd.DataFrame.from_dict(rows, "index", columns=["entries used", "SQNR [dB]", "bytes"])
starts.round(2)

# %%
for b in (4, 5):
    ours, theirs = starts.loc[[(b, "linear")]].iloc[0], starts.loc[[(b, "density")]].iloc[0]
    assert theirs["SQNR [dB]"] > ours["SQNR [dB]"] + 0.1, f"{b} bits: density has no smaller error"
    assert theirs["bytes"] > 1.01 * ours["bytes"], f"{b} bits: density makes no larger file"

# %% [markdown]
# From four bits on: smaller error, larger file. The density start spends its entries where the weights are, so all indices are about equally frequent, and there is nothing for short codes to gain. The linear start leaves some entries rare or, in the hole, without any weight. With codes of different lengths "4 bits" is not a price any more: a fair comparison has the file's bytes on one axis and the accuracy on the other. Exercise 35.3 makes it.
#
# ## 3 Tuning the entries
#
# Rounding to entries costs accuracy; training can win it back, if the weights of an entry move together. A weight is $w_i = C_{k(i)}$, with $k(i)$ the index of weight $i$. By the chain rule each weight adds its gradient to its entry's:
#
# $$\frac{\partial L}{\partial C_k} = \sum_{i:\, k(i) = k} \frac{\partial L}{\partial w_i}$$
#
# (Han et al., equation 3). By hand: four weights with indices $(0, 1, 1, 0)$ and gradients $(0.1, -0.2, 0.3, 0.4)$. Entry 0 gets $0.1 + 0.4 = 0.5$, entry 1 gets $-0.2 + 0.3 = 0.1$. Automatic differentiation finds the same through the look-up:

# %% tags=["nbval-check-output"]
book = torch.tensor([-0.8, 1.0], requires_grad=True)
index, slope = torch.tensor([0, 1, 1, 0]), torch.tensor([0.1, -0.2, 0.3, 0.4])
loss = (slope * book[index]).sum()  # its gradient in weight i is slope[i]
loss.backward()
print([round(g, 4) for g in book.grad.tolist()])

# %% [markdown]
# `share_weights` makes such a network: a copy in which each layer's weights are entries by index, started as above by k-means from evenly spaced values, and only the entries learn. Its gradient in the first layer against the sum of those that autograd finds for the single weights:

# %%
shared, plain = share_weights(pruned, {"1.weight": 2}), copy.deepcopy(pruned)
plain.get_submodule("1").weight.data = shared.get_submodule("1").weight.detach()
batch, labels = models.as_input(fit.images[:256]), torch.from_numpy(fit.labels[:256])
for network in (shared, plain):
    torch.nn.functional.cross_entropy(network(batch), labels).backward()

# %%
entries = shared.get_submodule("1").parametrizations.weight.original
each, values = plain.get_submodule("1").weight.grad, plain.get_submodule("1").weight
by_entry = torch.stack([each[values == v].sum() for v in values.unique() if v != 0])
assert torch.allclose(by_entry, entries.grad, rtol=1e-3, atol=1e-4), "an entry's is not the sum"
print(f"largest gradient of a weight {float(each.abs().max()):.3f}, of an entry", end=" ")
print(f"{float(entries.grad.abs().max()):.2f}")

# %% [markdown]
# **Predict.** The weights were trained by SGD with momentum at a rate of 0.03, and the network holds four values a layer now. Train the entries at the same rate for 100 steps. What happens to the accuracy?

# %%
def tune(bits, lr=1e-3, optimizer="adam", n=12_800):
    """The pruned network with shared weights, its entries trained on n images, each once."""
    shared = share_weights(pruned, bits)
    for name, parameter in shared.named_parameters():
        parameter.requires_grad_("parametrizations" in name)  # only entries learn
    chosen = fit.images[:n], fit.labels[:n]
    options = dict(epochs=1, lr=lr, optimizer=optimizer, weight_decay=0, batch_size=128)
    train.fit(shared, *chosen, **options)
    return shared


# %%
two_bits = compress.widths(pruned, 2)
trap = {"not tuned": right(share_weights(pruned, two_bits))}
trap["SGD, rate 0.03"] = right(tune(two_bits, 0.03, "sgd"))
trap["SGD, rate 0.0003"] = right(tune(two_bits, 0.0003, "sgd"))
trap["AdamW, rate 0.001"] = right(tune(two_bits))
pd.Series(trap, name="validation accuracy").map("{:.1%}".format).to_frame()

# %%
assert trap["SGD, rate 0.03"] < trap["not tuned"] - 0.05, "the weights' rate does no harm"
for name in ("SGD, rate 0.0003", "AdamW, rate 0.001"):
    assert trap[name] > trap["not tuned"] - 0.005, f"{name} does harm"

# %% [markdown]
# An entry's gradient is a sum over thousands of weights, and a rate that suits one weight throws it far off. A hundredth of the rate works. AdamW divides by the size of the gradient (lesson 11), so that its usual rate fits as it is.
#
# ## 4 Huffman codes
#
# Indices and gaps are symbols now, and some are much more frequent than others. Four symbols A to D, which occur 9, 3, 2 and 2 times, take two bits each with a fixed length: 32 bits. Give A one bit instead.
#
# Huffman's rule (1952): join the two rarest into one group, which costs each symbol in it one bit. Repeat until a single group is left.
#
# | joined | counts left | lengths A, B, C, D |
# |---|---|---|
# | C and D | 9, 3, 4 | 0, 0, 1, 1 |
# | B and CD | 9, 7 | 0, 1, 2, 2 |
# | A and BCD | 16 | 1, 2, 3, 3 |
#
# Bits: $9 \cdot 1 + 3 \cdot 2 + 2 \cdot 3 + 2 \cdot 3 = 27$ in place of 32.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# draws: the tree of the four symbols
figure, axis = plt.subplots(figsize=(6.4, 2.5))
nodes = {"A": (0, 2), "B": (1.5, 1), "C": (3, 0), "D": (4.5, 0)}
inner = {"16": (1.9, 3), "7": (2.8, 2), "4": (3.75, 1)}
edges = (("16", "A"), ("16", "7"), ("7", "B"), ("7", "4"), ("4", "C"), ("4", "D"))
spots = nodes | inner
for number, (parent, child) in enumerate(edges):
    (x0, y0), (x1, y1) = spots[parent], spots[child]
    axis.plot([x0, x1], [y0, y1], color="#999999", linewidth=1.3, zorder=1)
    side = -0.14 if number % 2 == 0 else 0.14
    axis.text((x0 + x1) / 2 + side, (y0 + y1) / 2 + 0.12, str(number % 2), ha="center", fontsize=10)
texts = {"A": "A 9", "B": "B 3", "C": "C 2", "D": "D 2"}
for name, (across, up) in spots.items():
    shade = figures.COLORS["other"] if name in nodes else "#eeeeee"
    box = {"boxstyle": "round,pad=0.3", "fc": shade, "ec": "white"}
    axis.text(across, up, texts.get(name, name), ha="center", va="center", bbox=box, fontsize=10)
axis.set(xlim=(-0.6, 5.2), ylim=(-0.4, 3.4))
axis.axis("off")
plt.show()

# %% [markdown]
# *The joinings as a tree, with the counts. A code is the way from the top: left 0, right 1. No code is the beginning of another one, so a row of bits can be read without separators.*
#
# **Try it 35.0.** Write the rule. From whole counts return the length of each symbol's code; at least two counts are above 0, and a symbol with count 0 gets length 0. For $(9, 3, 2, 2)$ the lengths are $(1, 2, 3, 3)$. Hint: keep a list of groups `(count, [symbols])` and sort it before each joining.

# %% tags=["nbval-check-output"]
def huffman_lengths(counts):
    """whole counts [k] -> code lengths int [k]; (9, 3, 2, 2) -> (1, 2, 3, 3)."""
    ...


check("35.0", huffman_lengths)


# %% [markdown]
# Ours:

# %%
def huffman_lengths(counts):
    """whole counts [k] -> code lengths int [k]; (9, 3, 2, 2) -> (1, 2, 3, 3)."""
    lengths = np.zeros(len(counts), int)
    groups = [(int(count), [i]) for i, count in enumerate(counts) if count]
    while len(groups) > 1:
        (a, left), (b, right_one), *rest = sorted(groups)
        lengths[left + right_one] += 1
        groups = [*rest, (a + b, left + right_one)]
    return lengths


# %% [markdown]
# Is it the best code? A prefix code with lengths $\ell_i$ exists exactly if $\sum_i 2^{-\ell_i} \le 1$ (Kraft 1949). So for five symbols one can try all lengths up to 6:

# %% tags=["nbval-check-output"]
counts = np.array([20, 11, 7, 5, 2])
every = np.array(list(itertools.product(range(1, 7), repeat=5)))
possible = every[(2.0**-every).sum(1) <= 1]
best, found = (possible @ counts).min(), counts @ huffman_lengths(counts)
print(f"{len(possible)} sets of lengths are possible, the best takes {best} bits, ours {found}")
assert found == best, "a shorter code exists"

# %% [markdown]
# With $p_i$ the share of symbol $i$ among all, the mean length $\bar\ell = \sum_i p_i \ell_i$ cannot be below the entropy $H = -\sum_i p_i \log_2 p_i$, and Huffman's stays less than one bit above it: $H \le \bar\ell < H + 1$. For A to D: $H = 1.670$ and $\bar\ell = 27/16 = 1.688$.
#
# On the pruned network's first layer, with a codebook of four bits and gaps of five:

# %%
book, index = lloyd(x, linear(x, 4))
gaps, real = split_gaps(np.flatnonzero(layer), d=5)
symbols = np.zeros(len(gaps), int)
symbols[real] = index + 1  # 0 is a padding zero

# %%
for name, stream, width in (("gaps", gaps - 1, 5), ("indices", symbols, 5)):
    counts = np.bincount(stream)
    p = counts[counts > 0] / counts.sum()
    H, mean = -(p * np.log2(p)).sum(), counts @ huffman_lengths(counts) / counts.sum()
    print(f"{name:7}: fixed {width} bits, Huffman {mean:.3f}, entropy {H:.3f}")
    assert H <= mean < H + 1 and mean < H + 0.06, "Huffman is far from the entropy"
    assert mean < width - 0.4, "Huffman saves little"

# %% [markdown]
# (Seventeen indices, padding included, take five bits without Huffman.) On both streams the code comes within a few hundredths of a bit of the entropy. The bound allows a whole bit; it would matter for a symbol with a share near 1, which cannot get less than one bit.
#
# The receiver needs the code, too. It is enough to send the lengths, if both sides agree on how codes follow from them: short ones first, among equal lengths in the order of the symbols, each code one more than the last. This is the **canonical** code.

# %%
def canonical_codes(lengths):
    """code lengths [k] -> {symbol: code as text}, for lengths above 0."""
    codes, code, before = {}, 0, 0
    for symbol in sorted(np.flatnonzero(lengths), key=lambda i: lengths[i]):
        code <<= int(lengths[symbol]) - before
        before = int(lengths[symbol])
        codes[int(symbol)] = f"{code:0{before}b}"
        code += 1
    return codes


# %% tags=["nbval-check-output"]
print(canonical_codes([1, 2, 3, 3]))
print(canonical_codes([3, 2, 3, 2, 2]))

# %%
codes = list(canonical_codes(huffman_lengths(np.bincount(gaps - 1))).values())
assert not any(b.startswith(a) for a, b in itertools.permutations(codes, 2)), "no prefix code"

# %% [markdown]
# A length takes 4 bits, so the code of 32 gaps takes 16 bytes, and that of 17 indices nine.
#
# ## 5 The file
#
# `codec.encode` puts all of this into one file: a header with names and shapes, then for each tensor its codebook, the codes, the gaps and the indices; for each tensor it tries gaps of 0 to 8 bits, and values without a codebook, and keeps what is shortest. A checksum ends it. Two such files ship with the course. They were made in the same way as the network above, with longer trainings. Decode one, and encode it again:

# %% tags=["nbval-check-output"]
NAMES = ("LeNet300_deep", "LeNet300_deeper")
files = {name: models.compressed(name) for name in NAMES}
states = {name: codec.decode(file) for name, file in files.items()}
for name, file in files.items():
    print(f"{name}: {len(file):,} bytes, the same again: {codec.encode(states[name]) == file}")

# %% [markdown]
# **Predict.** In `LeNet300_deep` the weights are four-bit indices. What takes the most bytes: the indices, the gaps, the codebooks or the biases?

# %%
def parts(state):
    """{part: bytes} of the encoded file."""
    found = dict.fromkeys(("gaps", "indices", "biases", "codes, codebooks, headers"), 0)
    for (name, kind), size in codec.sizes(state).items():
        kind = "biases" if name.endswith("bias") else kind
        found[kind if kind in found else "codes, codebooks, headers"] += size
    return found


# %%
table = pd.DataFrame({name: parts(state) for name, state in states.items()})
for name, file in files.items():
    assert table[name].sum() == len(file), "some bytes belong to no part"
    gap_bytes, index_bytes = table.loc["gaps", name], table.loc["indices", name]
    assert gap_bytes > 1.05 * index_bytes, "the weights take more"

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# draws: the bytes of each file by part, as stacked bars
SHADES = ("#009E73", "#56B4E9", "#B0B0B0", "#4D4D4D")


def stack(axis, table):
    """A bar for each column, from its rows."""
    left = np.zeros(table.shape[1])
    for (part, row), shade in zip(table.iterrows(), SHADES, strict=True):
        axis.barh(list(table), row, left=left, color=shade, label=part)
        for y, (start, size) in enumerate(zip(left, row, strict=True)):
            if size > 0.12 * table.sum().max():
                color = "black" if shade == SHADES[1] else "white"
                axis.text(start + size / 2, y, f"{size:,}", ha="center", va="center", color=color)
        left = left + row.to_numpy()
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("bytes")


figure, axis = plt.subplots(figsize=(7.8, 2.7))
stack(axis, table)
axis.legend(ncols=4, fontsize=9, loc="lower center", bbox_to_anchor=(0.42, 1.0))
plt.show()

# %% [markdown]
# *The two files by part. It takes more bytes to say where the weights are (green) than what they are (blue).*
#
# Fewer bits a weight would touch only the blue part. And what if one bit of the file is wrong?

# %% tags=["nbval-check-output"]
wrong = bytearray(files["LeNet300_deep"])
wrong[1000] ^= 1
try:
    codec.decode(bytes(wrong))
except ValueError as error:
    print(str(error).split(";")[0])

# %% [markdown]
# In a file of float32 numbers such a bit changes one weight. Here all codes after it could be misread, so the checksum is no luxury.
#
# Is a format of its own worth it? Take what a general compressor makes of the same numbers: LZMA (`xz`) on the decoded float32 arrays. And, to see what Huffman brings, gaps and indices of fixed length:

# %%
def fixed_bytes(state):
    """Gaps and indices of fixed length, for each tensor with the best d, and 4 bytes an entry."""
    total = 0
    for tensor in state.values():
        w = tensor.numpy().ravel()
        places, entries = np.flatnonzero(w), len(np.unique(w[w != 0]))
        bits = int(np.ceil(np.log2(entries + 1)))
        steps = {d: len(split_gaps(places, d)[0]) for d in range(1, 9)}
        total += min(n * (d + bits) for d, n in steps.items()) / 8 + 4 * entries
    return round(total)


# %%
rivals = {}
for name, state in states.items():
    raw = b"".join(v.numpy().tobytes() for v in state.values())
    rivals[name] = [len(raw), len(lzma.compress(raw)), fixed_bytes(state), len(files[name])]
rivals = pd.DataFrame(rivals, ["float32", "float32, LZMA", "fixed length", "Huffman"])
rivals

# %%
for name in NAMES:
    raw, general, fixed, ours = rivals[name]
    assert ours < 0.85 * fixed < fixed < general, "LZMA or fixed lengths come closer"
    assert raw / general > 25, "LZMA finds little"

# %% [markdown]
# Most of the saving is in the numbers: once a network has few values and many zeros, LZMA finds much of it without being told. The format of its own comes on top, and in it Huffman codes save about 30 % against fixed lengths.
#
# Choose the share of zeros and the bits yourself. These networks are not trained; bytes do not ask how good a network is.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output", "hide-input"]
# draws: the bytes of LeNet300 by part, for a share of zeros and bits of the codebooks
def squeezed(share, b):
    """LeNet300's state with a share of zeros in all layers together and 2^b values a layer."""
    network = copy.deepcopy(lenet)
    weights = {path: layer.weight.detach() for path, layer in compress.layers(network).items()}
    masks = prune.global_mask({path: w.abs() for path, w in weights.items()}, share)
    prune.keep_zeros(masks)(network, 0, 0)
    return plain_state(share_weights(network, compress.widths(network, b)))


def explore(share, b):
    figure, axis = plt.subplots(figsize=(7.4, 1.9))
    table = pd.DataFrame({"": parts(squeezed(share, b))})
    stack(axis, table)
    size = int(table.sum().iloc[0])
    axis.set_title(
        f"{share:.0%} zeros, {b} bits: {size:,} bytes, 1/{1_066_440 / size:.0f}", fontsize=10
    )
    axis.legend(ncols=4, fontsize=9, loc="upper center", bbox_to_anchor=(0.45, -0.45))
    plt.show()


widgets.interact(
    explore,
    share=widgets.FloatSlider(
        0.9, min=0.5, max=0.98, step=0.02, description="zeros", continuous_update=False
    ),
    b=widgets.IntSlider(4, min=1, max=6, description="bits", continuous_update=False),
);

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# draws: the same at two settings
explore(0.5, 4)
explore(0.96, 4)

# %% [markdown]
# *Four bits, with half the weights zero and with 96 %. With half of them zero the indices dominate, with 96 % the gaps.*
#
# ## 6 Bits and points
#
# Lesson 22 measured codebooks in dB. What counts is accuracy. Give a codebook of $b$ bits to one layer of the pruned network at a time, the others as they are, and measure before and after training its entries alone on 12,800 images.
#
# **Predict.** With one bit a layer has two values besides zero. How many points does that cost in layer 1?

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# prepares: accuracy with a codebook in one layer, before and after tuning
rows, all_bits = {}, (1, 2, 3, 4, 5, 6)
for path, b in itertools.product(("1", "3", "5"), all_bits):
    bits = {f"{path}.weight": b}
    rows[path, b] = [right(share_weights(pruned, bits)), right(tune(bits))]
by_layer = 100 * pd.DataFrame.from_dict(rows, "index", columns=["before", "tuned"])

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# draws: accuracy against bits, one panel a layer
figure, axes = plt.subplots(1, 3, figsize=(7.8, 2.8), sharey=True)
for axis, path in zip(axes, ("1", "3", "5"), strict=True):
    some = by_layer.loc[[(path, b) for b in all_bits]]
    axis.axhline(100 * right(pruned), color="#999999", linewidth=1)
    for name, style in (("before", "o--"), ("tuned", "o-")):
        axis.plot(all_bits, some[name], style, color=figures.COLORS["quantized"], label=name)
    axis.set_title(f"layer {path}", fontsize=10)
    axis.set_xlabel("bits")
axes[0].set_ylabel("validation accuracy [%]")
axes[2].legend(fontsize=9, loc="lower right")
plt.show()

# %% [markdown]
# *One layer with a codebook, the others as they were. Dashed: entries from k-means; solid: after training them. Gray: no codebook.*

# %%
chosen = [(path, b) for path in ("1", "3", "5") for b in (1, 2, 4)]
by_layer.loc[chosen].round(1).T

# %%
lost = 100 * right(pruned) - by_layer
assert lost["before"].max() < 2.5, "one bit in one layer costs more than 2.5 points"
assert (lost["tuned"] < lost["before"] + 0.4).all(), "training the entries does harm"
assert lost.loc[[(path, 4) for path in ("1", "3", "5")]].abs().max().max() < 0.8

# %% [markdown]
# Less than a point in the stored run. With two values, one on each side of the hole, a layer keeps the places and the signs of its weights and not much else, and the network still answers nearly as before. Training the entries wins back a part of what one bit costs; from two bits on there is little left to win, one layer at a time. (Differences of a few tenths are within what 5,000 images can tell.)

# %% [markdown]
# ## What we measured
#
# First what each step brings, on the network of this page and the validation images. *Fixed* is a count of bits, all other bytes are those of real files (or of a buffer through LZMA).

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# prepares: the steps one by one: bytes, accuracy and the paired difference from the dense network
def compared(network):
    """Paired comparison with the dense network on the validation images."""
    logits = [train.predict(n, validation.images) for n in (lenet, network)]
    return significance.compare_accuracy(*logits, validation.labels)


def filled(state):
    """A LeNet300 with these weights."""
    network = models.build("LeNet300")
    network.load_state_dict(state)
    return network


def steps(state):
    """Bytes with fixed lengths, with LZMA, and as the codec's file."""
    raw = b"".join(v.numpy().tobytes() for v in state.values())
    return [len(lzma.compress(raw)), fixed_bytes(state), len(codec.encode(state))]


four_bits = compress.widths(pruned, 4)
control = further()
ablation = {
    "dense, three more epochs": control.state_dict(),
    "dense, 4 bits": plain_state(share_weights(lenet, compress.widths(lenet, 4))),
    "95 % zeros, float32": pruned.state_dict(),
    "95 % zeros, 4 bits": plain_state(share_weights(pruned, four_bits)),
    "95 % zeros, 4 bits, tuned": plain_state(tune(four_bits, n=len(fit.labels))),
    "95 % zeros, 3 bits, tuned": plain_state(
        tune(compress.widths(pruned, 3), n=len(fit.labels))
    ),
}
places_only = sum(
    min(len(split_gaps(np.flatnonzero(v), d)[0]) * (d + 32) for d in range(2, 9)) / 8
    for v in pruned.state_dict().values()
)
rows = {}
for name, state in ablation.items():
    c = compared(filled(state))
    sizes = steps(state)
    if "bits" not in name:  # float32: as it is, or by gaps of fixed length
        sizes[1:] = [round(places_only) if "zeros" in name else 1_066_440, None]
    rows[name] = [*sizes, 100 * c.accuracy_b, 100 * c.difference, 100 * c.low, 100 * c.high]
heads = ["LZMA", "fixed", "file", "accuracy [%]", "change", "low", "high"]
brought = pd.DataFrame.from_dict(rows, "index", columns=heads)
brought.round(2).astype({"LZMA": int, "fixed": int})

# %%
raw = 4 * models.card("LeNet300")["parameters"]
alone, both = brought.loc["95 % zeros, float32", "fixed"], brought.loc["95 % zeros, 4 bits"]
assert raw / brought.loc["dense, 4 bits", "file"] > 7, "sharing alone brings less"
assert 10 < raw / alone < 25, "zeros alone bring something else"
assert raw / both["fixed"] > 40 and both["file"] < 0.85 * both["fixed"]

# %% [markdown]
# *Measured on 5,000 validation images; change in points against the dense network, with its 95 % interval. The network is the one of this page, trained for three further epochs, and tuned for one.*
#
# Zeros alone, with gaps of fixed length and float32 values, make the network about 15 times smaller; sharing alone, with all weights in place, 9 times; both together 55 times; and Huffman codes take another quarter off. Tuning changes no byte, and here the accuracy by less than the intervals. The first row is the control: a dense network after the same three epochs, without zeros.
#
# Now the shipped files, on the 10,000 test images. All were trained with labels alone, from the shipped networks on: zeros in the first epochs, codebooks at the end. The control, `LeNet300_dense`, had the same epochs and neither.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# prepares: the networks of the files on the test images
test = data.fashion_mnist("test")


def decoded(name):
    """The network whose weights stand in a shipped file."""
    network = models.build(name.split("_")[0])
    network.load_state_dict(codec.decode(models.compressed(name)))
    return network


networks = {name: decoded(name) for name in (*NAMES, "LeNet300_dense")}
networks["LeNet300"] = lenet
logits = {name: train.predict(network, test.images) for name, network in networks.items()}
pairs = [
    ("LeNet300", "LeNet300_deep"),
    ("LeNet300", "LeNet300_deeper"),
    ("LeNet300", "LeNet300_dense"),
    ("LeNet300_dense", "LeNet300_deep"),
    ("LeNet300_dense", "LeNet300_deeper"),
]
scores = {(a, b): significance.compare_accuracy(logits[a], logits[b], test.labels) for a, b in pairs}
bytes_of = {name: len(models.compressed(name)) for name in (*NAMES, "LeNet300_dense")}
ratio = {name: 4 * models.card(name)["parameters"] / size for name, size in bytes_of.items()}
rows = {
    f"{a} | {b}": [f"{bytes_of[b]:,}", f"{ratio[b]:.1f}", f"{100 * c.accuracy_b:.2f}"]
    + [f"{100 * v:+.2f}" for v in (c.difference, c.low, c.high)]
    + [f"{c.p:.2g}"]
    for (a, b), c in scores.items()
}
heads = ["bytes", "times smaller", "accuracy [%]", "change", "low", "high", "p"]
pd.DataFrame(rows, heads).T

# %% [markdown]
# *Measured on 10,000 test images: of each pair, the second network's file and accuracy, its change against the first in points with a 95 % interval, and p of the paired test. "Times smaller" is against four bytes a parameter, 1,066,440 bytes for LeNet300, without a file's header. Trainings: one each.*

# %%
deep, deeper, *_ = scores.values()
assert ratio["LeNet300_deep"] >= 50 and deep.p > 0.05, "no 50 times without a significant loss"
assert ratio["LeNet300_deeper"] >= 80 and deeper.difference > -0.01, "no 80 times within a point"

# %% [markdown]
# Published are 40 times for LeNet-300-100 and 39 times for LeNet-5, without a loss, on MNIST (*quoted*: Han et al., table 1). Their files have 27 and 44 kB; part of the difference is perhaps that here the zeros come during training, by one threshold for all layers. 55 times smaller, the network shows no significant loss. 80 times smaller, it loses about 0.8 points, and that is significant. The dense control is a little better than the shipped network, so part of what the further epochs brought has gone into repairing: against the control the first loss is a third of a point, and its interval ends near zero.
#
# ## Exercises
#
# ### 35.1 From steps to weights
#
# Write the decoder of section 1: from gaps, indices (0 is a padding zero, $k$ is entry $k$, counted from 1), the codebook and the number of weights, return the weights.
#
# For example, gaps $(2, 2, 4, 1)$, indices $(2, 1, 0, 2)$, the codebook $(-0.8, 1.0)$ and $n = 10$ give $(0, 1, 0, -0.8, 0, 0, 0, 0, 1, 0)$. Hint: `np.cumsum`, and a codebook with a 0 in front.

# %% tags=["nbval-check-output"]
def from_steps(gaps, index, book, n):
    """int [m], int [m], float [k], int -> weights float [n]."""
    ...


check("35.1", from_steps)


# %% [markdown]
# ### 35.2 Read a Huffman code
#
# `canonical_codes` writes. Change its direction: from a text of bits and the code lengths return the symbols, in order. The text holds whole codes only.
#
# For example, `"0110100"` with lengths $(1, 2, 3, 3)$ holds 0, 110, 10 and 0: symbols $(0, 2, 1, 0)$. Hint: turn the dictionary around, and collect bits until they are a code.
#
# Then encode the gaps of the first layer with `canonical_codes`, read them back, and flip one bit near the start. How many symbols come out, and how many of them are still right?

# %% tags=["nbval-check-output"]
def read_symbols(bits, lengths):
    """text of 0 and 1, code lengths [k] -> symbols int [m]."""
    ...


check("35.2", read_symbols)


# %% [markdown]
# ### 35.3 Without k-means (open)
#
# Write `evenly_spaced`: entries from the least to the largest value, $2^b$ of them at equal distances, and for each value the index of the nearest one (the lower one where two are as near). No rounds of k-means.
#
# For example, $x = (0, 1, 2.2, 6)$ and $b = 2$ give the entries $(0, 2, 4, 6)$ and the indices $(0, 0, 1, 3)$. Hint: `argmin` of the distances returns the first.
#
# Then give all layers of a network with 94 % zeros such entries (the shipped `LeNet300`, pruned by magnitude and trained for two epochs; biases stay), with 3 to 6 bits, and rivals from k-means with the density start, with 2 to 5. Draw accuracy against the bytes of the file. Which is smaller at equal accuracy?

# %% tags=["nbval-check-output"]
def evenly_spaced(x, b):
    """float [n], int -> entries float [2^b], index int [n]."""
    ...


check("35.3", evenly_spaced)

# %% [markdown]
# ## Recap
#
# A pruned network is a list of steps: how far to the next weight, and which entry of a codebook it is. All weights of an entry move together, by the sum of their gradients, which asks for a smaller rate or for Adam. Huffman codes bring the steps to within a few hundredths of a bit of their entropy, so what counts about a codebook is not its number of entries but how unevenly they are used. In the file the places of the weights take as many bytes as the weights, or more. Zeros, shared values and codes together made `LeNet300` more than 50 times smaller, tested as decoded from the file.
#
# ## Next
#
# The same on a network that was small to begin with: distilled, with filters removed and trained with int8 and int4 weights, the steps in several orders, and one picture of bytes against accuracy.
#
# ## References
#
# - S. Han, H. Mao, W. Dally, *Deep Compression*, 2016: sections 2 (gaps, figure 2), 3 (sharing, equation 3) and 4 (Huffman); tables 1 to 3 (40 and 39 times, on MNIST).
# - D. Huffman, *A method for the construction of minimum-redundancy codes*, 1952.
# - L. Kraft, *A device for quantizing, grouping, and coding amplitude-modulated pulses*, 1949.
# - E. Schwartz, B. Kallick, *Generating a canonical prefix encoding*, 1964.
# - H. Gish, J. Pierce, *Asymptotically efficient quantizing*, 1968: even steps under entropy coding.
# - M. Zhu, S. Gupta, *To prune, or not to prune*, 2017, equation 1: the schedule of the zeros.
