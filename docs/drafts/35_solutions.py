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
# # Solutions · 35 Deep Compression
#
# One way to solve each exercise. Yours may look different: the check tells you whether it does the same.

# %%
import copy

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from helpers import codec, compress, data, figures, huffman, models, train
from helpers.checks import check

figures.use_style()
torch.set_num_threads(1)

# %% [markdown]
# ## 35.1 From steps to weights

# %% tags=["nbval-check-output"]
def from_steps(gaps, index, book, n):
    """int [m], int [m], float [k], int -> weights float [n]."""
    weights = np.zeros(n)
    weights[np.cumsum(gaps) - 1] = np.append(0.0, book)[index]
    return weights


check("35.1", from_steps)

# %% [markdown]
# ## 35.2 Read a Huffman code

# %% tags=["nbval-check-output"]
def canonical_codes(lengths):
    """code lengths [k] -> {symbol: code as text}, as in the lesson."""
    codes, code, before = {}, 0, 0
    for symbol in sorted(np.flatnonzero(lengths), key=lambda i: lengths[i]):
        code <<= int(lengths[symbol]) - before
        before = int(lengths[symbol])
        codes[int(symbol)] = f"{code:0{before}b}"
        code += 1
    return codes


def read_symbols(bits, lengths):
    """text of 0 and 1, code lengths [k] -> symbols int [m]."""
    symbols = {code: symbol for symbol, code in canonical_codes(lengths).items()}
    found, word = [], ""
    for bit in bits:
        word += bit
        if word in symbols:
            found.append(symbols[word])
            word = ""
    return np.array(found)


check("35.2", read_symbols)

# %% tags=["nbval-check-output"]
state = codec.decode(models.compressed("LeNet300_deep"))
gaps, _ = codec.split_gaps(np.flatnonzero(state["1.weight"].numpy()), 5)
lengths = huffman.huffman_lengths(np.bincount(gaps - 1))
codes = canonical_codes(lengths)
bits = "".join(codes[gap] for gap in (gaps - 1).tolist())
print("read back:", np.array_equal(read_symbols(bits, lengths), gaps - 1))
wrong = bits[:100] + str(1 - int(bits[100])) + bits[101:]
found = read_symbols(wrong, lengths)
print(f"{len(gaps):,} symbols, {len(found):,} after one wrong bit")
places = np.cumsum(gaps), np.cumsum(found + 1)
shared = np.isin(places[1], places[0]).mean()
print(f"{shared:.0%} of the places that are read are places of the true steps")

# %% [markdown]
# Huffman codes find back into step after a few symbols: from there on the gaps themselves are right again. Their sums are not. Each later weight stands some places too far left or right, so the wrong bit moves nearly the whole layer. (Some places agree by chance.) A bit in a file of float32 numbers would have changed one weight.
#
# ## 35.3 Without k-means

# %% tags=["nbval-check-output"]
def evenly_spaced(x, b):
    """float [n], int -> entries float [2^b], index int [n]."""
    book = np.linspace(x.min(), x.max(), 2**b)
    return book, np.abs(x[:, None] - book).argmin(1)


check("35.3", evenly_spaced)

# %%
def by_density(x, b):
    """k-means from the density start, as in the lesson."""
    book = np.quantile(x, (np.arange(2**b) + 0.5) / 2**b)
    for _ in range(100):
        index = np.abs(x[:, None] - book).argmin(1)
        count, total = np.bincount(index, minlength=2**b), np.bincount(index, x, minlength=2**b)
        book = np.where(count > 0, total / np.maximum(count, 1), book)
    return book, np.abs(x[:, None] - book).argmin(1)


# %%
fit, validation = data.fashion_mnist("fit"), data.fashion_mnist("validation")
pruned = models.load("LeNet300")
zeros = [compress.prune_gradually(0.94)]
train.fit(pruned, fit.images, fit.labels, epochs=2, lr=0.03, weight_decay=1e-4, callbacks=zeros)
print(f"{train.accuracy(train.predict(pruned, validation.images), validation.labels):.1%}")

# %%
rows = {}
for rule, widths in ((evenly_spaced, (3, 4, 5, 6)), (by_density, (2, 3, 4, 5))):
    for b in widths:
        network = copy.deepcopy(pruned)
        for layer in compress.layers(network).values():
            weights = layer.weight.detach().numpy()
            kept = weights != 0
            book, index = rule(weights[kept].astype(float), b)
            weights[kept] = book[index].astype(np.float16)
        right = train.accuracy(train.predict(network, validation.images), validation.labels)
        rows[rule.__name__, b] = [len(codec.encode(network)), 100 * right]
table = pd.DataFrame.from_dict(rows, "index", columns=["bytes", "accuracy [%]"])
table.round(1)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# draws: accuracy against the bytes of the file
figure, axis = plt.subplots(figsize=(6.4, 3.2))
styles = {"evenly_spaced": ("o-", "black"), "by_density": ("s--", figures.COLORS["quantized"])}
for name, (style, shade) in styles.items():
    some = table.loc[[key for key in table.index if key[0] == name]]
    axis.plot(some["bytes"], some["accuracy [%]"], style, color=shade, label=name)
    for (_, b), row in some.iterrows():
        point = row["bytes"], row["accuracy [%]"]
        axis.annotate(str(b), point, xytext=(4, -13), textcoords="offset points", fontsize=9)
axis.set(xlabel="bytes of the file", ylabel="validation accuracy [%]")
axis.legend(fontsize=9, loc="lower right")
plt.show()

# %% [markdown]
# *Accuracy against bytes, with the bits at each point.*

# %%
even, dense = table.loc[[("evenly_spaced", 5)]].iloc[0], table.loc[[("by_density", 4)]].iloc[0]
assert even["bytes"] < dense["bytes"], "five even bits take more bytes than four of k-means"
assert abs(even["accuracy [%]"] - dense["accuracy [%]"]) < 0.8, "their accuracies differ"
assert table.loc[[("evenly_spaced", 3)], "accuracy [%]"].iloc[0] < even["accuracy [%]"]

# %% [markdown]
# Five bits at equal distances, without any k-means, take fewer bytes than four bits of k-means from the density start, at about the same accuracy: many of the 32 entries lie in the hole or far out, are rarely used, and cost little. For high rates this is a theorem: under entropy coding even steps are close to the best quantizer (Gish and Pierce 1968). At very few bits the entries are too far apart, and k-means, which moves them, is needed.
