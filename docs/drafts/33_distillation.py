# %% [markdown]
# # 33 · Distillation
#
# A label says "shirt". A good network says "shirt, perhaps a T-shirt, hardly a boot". A small network can learn from such answers in place of the labels, or beside them: it *distills* the large one, which stays at home. When does that make it better than the same small network trained on labels, with the same images and the same number of steps? And what in the answers does it?
#
# | | |
# |---|---|
# | **You will** | soften a teacher's answers by a temperature, and say why its square stands in the loss · compare your loss with PyTorch and Keras · find out with controls what part of an answer teaches · see where distillation pays, and where it does not |
# | **You need** | 11 (softmax, cross-entropy, gradients, intervals over seeds); 16 (training) |
# | **Time** | 50 minutes to read, about 1.5 minutes to run on two cores |
# | **Data and models** | Fashion-MNIST; the teacher `WideResNet` (658,922 parameters), the student `TinyCNN` (14,634) |

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# imports
import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import nn

from helpers import data, figures, models, train
from helpers.checks import check
from helpers.distill import soft_target_loss
from helpers.keras_start import import_keras
from helpers.machine import keep_freed_memory, side_by_side

figures.use_style()
torch.set_num_threads(1)  # two students side by side below: one thread each
keep_freed_memory()

# %%
fit, validation = data.fashion_mnist("fit"), data.fashion_mnist("validation")
images, labels = fit.images[:3000], fit.labels[:3000]
teacher = models.load("WideResNet")

# %%
halves = dict(enumerate(np.split(images, 2)))
halves = side_by_side(lambda half: train.predict(teacher, half), halves)
answers = np.concatenate(list(halves.values()))  # logits [N, 10]
print(f"right on these images: {train.accuracy(answers, labels):.1%}")
card = models.card("WideResNet")
print(f"on validation images, its card says: {card['validation_accuracy']:.1%}")

# %% [markdown]
# The teacher was trained on all 55,000 training images, these 3,000 among them; hence the two numbers. It is asked once for each image, and its logits are kept: from then on the student's training costs no more than on labels.
#
# ## 1 What an answer says
#
# Three of the images, and the probabilities that the teacher gives to the ten classes:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# draws: three images, and the teacher's probabilities
NAMES = [name.replace("T-shirt/top", "T-shirt") for name in fit.names]
ROWS = (1, 4, 215)


def bars(axis, p, shade):
    """Horizontal bars of ten probabilities, the larger ones with their number."""
    axis.barh(NAMES, p, color=shade)
    for k, value in enumerate(p):
        if value >= 0.01:
            axis.text(value + 0.02, k, f"{value:.2f}", va="center", fontsize=8)
    axis.set(xlim=(0, 1.22), xticks=(0, 0.5, 1))
    axis.tick_params(axis="y", labelsize=8)
    axis.invert_yaxis()
    axis.grid(False)


def image_and_bars(row, temperatures):
    """One image, and its answer at several temperatures."""
    _, axes = plt.subplots(1, 1 + len(temperatures), figsize=(7.8, 2.5))
    axes[0].imshow(images[row])
    axes[0].axis("off")
    axes[0].set_title(f"label: {NAMES[labels[row]]}", fontsize=10)
    for axis, T in zip(axes[1:], temperatures, strict=True):
        p = torch.softmax(torch.from_numpy(answers[row]) / T, 0).numpy()
        bars(axis, p, figures.COLORS["teacher"])
        axis.set_title(f"T = {T:g}", fontsize=10)
        if axis is not axes[1]:
            axis.set_yticklabels([])
    plt.show()


figure, axes = plt.subplots(2, 3, figsize=(7.8, 4.4), gridspec_kw={"height_ratios": [1, 1.5]})
for column, row in enumerate(ROWS):
    axes[0, column].imshow(images[row])
    axes[0, column].axis("off")
    axes[0, column].set_title(f"label: {NAMES[labels[row]]}", fontsize=10)
    p = torch.softmax(torch.from_numpy(answers[row]), 0).numpy()
    bars(axes[1, column], p, figures.COLORS["teacher"])
    if column:
        axes[1, column].set_yticklabels([])
    axes[1, column].set_xlabel("probability")
plt.show()

# %% [markdown]
# *The first answer says no more than the label. The others also say what the image resembles.*
#
# Most answers are of the first kind:

# %%
p = torch.softmax(torch.from_numpy(answers), 1)
largest, second = p.topk(2).values.T
print(f"largest probability: median {largest.median():.4f}; second: median {second.median():.4f}")
assert largest.median() > 0.995 and second.median() < 0.003, "most answers are soft already"

# %% [markdown]
# Half of the answers leave less than half a percent to all the nine other classes together. Yet there is order in these small numbers. A *temperature* $T$ brings it up: divide the logits $v$ by $T$ before the softmax,
#
# $$p_k = \frac{e^{v_k / T}}{\sum_j e^{v_j / T}} .$$
#
# By hand, with the logits $v = (6, 4, 0)$:
#
# | $T$ | $v / T$ | $p$ |
# |---|---|---|
# | 1 | 6, 4, 0 | 0.879, 0.119, 0.002 |
# | 2 | 3, 2, 0 | 0.705, 0.259, 0.035 |
# | 4 | 1.5, 1, 0 | 0.547, 0.331, 0.122 |
#
# The order of the classes stays; the ratios shrink. Between the first two classes the ratio is $e^{2/T}$: 7.4, then 2.7, then 1.6. At a very high temperature all classes are equal.

# %% tags=["nbval-check-output"]
for T in (1, 2, 4):
    print(T, torch.softmax(torch.tensor([6.0, 4, 0]) / T, 0).numpy().round(3))

# %% [markdown]
# **Predict.** Take the mean of the teacher's answers at $T = 4$ over all images with the label *sneaker*. Which two wrong classes get the most?

# %%
softened = torch.softmax(torch.from_numpy(answers) / 4, 1)
mean_answer = torch.stack([softened[labels == k].mean(0) for k in range(10)])  # [label, class]

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# draws: the mean answers at T = 4, one row for each label
figure, axis = plt.subplots(figsize=(6.8, 4.2))
figures.heat_table(axis, (100 * mean_answer).round().int().numpy(), NAMES, NAMES, darkest=70)
axis.set(ylabel="label", xlabel="mean probability of each class at T = 4 [%]")
plt.show()

# %% [markdown]
# *Each row is a label, and what the teacher answers to its images on average. A sneaker resembles an ankle boot and a sandal, a shirt a T-shirt, and a trouser nothing in particular.*

# %% tags=["nbval-check-output"]
for name in ("Shirt", "Sneaker", "Ankle boot"):
    row = mean_answer[NAMES.index(name)].clone()
    row[NAMES.index(name)] = 0
    print(f"{name}: then {' and '.join(NAMES[k] for k in row.topk(2).indices)}")

# %% [markdown]
# Nobody told the teacher that a boot is more like a sneaker than like a coat. It follows from the images, and no label contains it. Hinton et al. (2015) call it **dark knowledge**. Move the temperature and the image:

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output", "hide-input"]
# draws: an image and its answer at a temperature
widgets.interact(
    lambda row, T: image_and_bars(row, [T]),
    row=widgets.IntSlider(215, min=0, max=299, description="image", continuous_update=False),
    T=widgets.FloatLogSlider(
        2, base=2, min=-1, max=5, step=0.5, description="T", continuous_update=False
    ),
);

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# draws: the same at three settings
image_and_bars(215, [1, 4, 16])

# %% [markdown]
# *One answer at three temperatures. At 4 all resemblances can be seen, at 16 little is left but the order.*
#
# ## 2 The loss
#
# The student has logits $z$, and at the same temperature the probabilities $q_k = e^{z_k/T} / \sum_j e^{z_j/T}$. How far are they from the teacher's? The **Kullback–Leibler divergence** (Kullback and Leibler 1951) of $q$ from $p$ is
#
# $$\mathrm{KL}(p \,\|\, q) = \sum_k p_k \log \frac{p_k}{q_k},$$
#
# the cross-entropy $-\sum_k p_k \log q_k$ less its least value, which it takes at $q = p$. By hand, with $v = (6, 4, 0)$, $z = (2, 0, 0)$ and $T = 2$:
#
# | class | $p$ | $q$ | $p \log (p/q)$ |
# |---|---|---|---|
# | 0 | 0.705 | 0.576 | 0.143 |
# | 1 | 0.259 | 0.212 | 0.053 |
# | 2 | 0.035 | 0.212 | −0.063 |
# | sum | 1 | 1 | 0.132 |
#
# A single term can be negative, the sum cannot.
#
# ### How strongly it pulls
#
# Training follows the gradient. From $\log q_k = z_k/T - \log \sum_j e^{z_j/T}$,
#
# $$\frac{\partial \log q_j}{\partial z_k} = \frac{1}{T}\,([j = k] - q_k),$$
#
# where $[j = k]$ is 1 if $j = k$, else 0. Only $\log q$ depends on $z$, and the $p_j$ add up to 1, so
#
# $$\frac{\partial\, \mathrm{KL}}{\partial z_k} = -\frac1T \sum_j p_j\, ([j = k] - q_k) = \frac{q_k - p_k}{T} .$$
#
# It is the gradient of the cross-entropy that you know from lesson 11, over $T$. In the example: $(0.576 - 0.705)/2 = -0.065$ for class 0.
#
# And the difference $q_k - p_k$ itself shrinks when both are softened. For a large $T$, $e^{z_k/T} \approx 1 + z_k/T$. Let both logits have mean zero (a constant on all logits changes no softmax); then the sum over the $K$ classes is about $K$, and
#
# $$q_k - p_k \approx \frac{1 + z_k/T}{K} - \frac{1 + v_k/T}{K} = \frac{z_k - v_k}{K\,T}, \qquad\text{so}\qquad \frac{\partial\, \mathrm{KL}}{\partial z_k} \approx \frac{z_k - v_k}{K\,T^2} .$$
#
# So at a high temperature the gradient falls like $1/T^2$. Multiply the loss by $T^2$, and it keeps its strength, beside other terms of the loss and at the same learning rate. In the limit it pulls each logit towards the teacher's: **logit matching**, the gradient of $\frac{1}{2K} \sum_k (z_k - v_k)^2$ (Ba and Caruana 2014).
#
# **Predict.** From $T = 1$ to $T = 64$, how many times smaller does the gradient of the plain KL become? And of $T^2$ KL, is it larger or smaller at $T = 64$ than at $T = 1$?

# %% tags=["nbval-check-output"]
z, v = torch.tensor([2.0, 0, 0]), torch.tensor([6.0, 4, 0])
for T in (1, 2, 4, 16, 64):
    gradient = (torch.softmax(z / T, 0) - torch.softmax(v / T, 0)) / T
    print(f"{T:3}  {gradient.norm():.5f}  {T**2 * gradient.norm():.2f}")
print("limit        ", round(float(((z - z.mean()) - (v - v.mean())).norm() / 3), 2))

# %% [markdown]
# The plain gradient becomes several hundred times smaller; with $T^2$ it grows, towards the limit. (It need not be the same at all temperatures: at $T = 1$ the loss cares about the likely classes only, in the limit about all logits alike.)
#
# **Try it 33.0.** Write $T^2$ times the mean over the rows of $\mathrm{KL}(p \,\|\, q)$, for logits `z` of the student and `v` of the teacher, both `[N, K]`. For the example it is $4 \cdot 0.1322 = 0.529$. Hint: `torch.log_softmax(z / T, 1)` is $\log q$, and $p = e^{\log p}$.

# %% tags=["nbval-check-output"]
def soft_loss(z, v, T):
    """float [N, K], float [N, K], float -> one number."""
    ...


check("33.0", soft_loss)


# %% [markdown]
# Ours:

# %%
def soft_loss(z, v, T):
    """float [N, K], float [N, K], float -> one number."""
    log_q, log_p = torch.log_softmax(z / T, 1), torch.log_softmax(v / T, 1)
    return T**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()


# %% [markdown]
# Labels, where there are any, have their usual cross-entropy, at temperature 1. A share $\alpha$ mixes the two:
#
# $$L = \alpha\, T^2\, \mathrm{KL}(p \,\|\, q) + (1 - \alpha)\, \mathrm{CE}(z, y) .$$

# %%
def mixed_loss(z, v, labels, T, alpha):
    return alpha * soft_loss(z, v, T) + (1 - alpha) * nn.functional.cross_entropy(z, labels)


# %% [markdown]
# Checked against two libraries. PyTorch's `kl_div` wants $\log q$ first, and its default reduction divides by $N K$: `batchmean` is the mean over rows. Keras's `KLDivergence` takes probabilities, the teacher's first. And autograd against the formula of the gradient, for one of the rows.

# %%
generator = torch.Generator().manual_seed(0)
z, v = 3 * torch.randn(2, 64, 10, generator=generator)
p, q = (torch.softmax(logits / 4, 1) for logits in (v, z))
torchs = nn.functional.kl_div(q.log(), p, reduction="batchmean")
kerass = import_keras().losses.KLDivergence()(p.numpy(), q.numpy())
for theirs in (torchs, kerass):
    assert np.isclose(soft_loss(z, v, 4), 16 * float(theirs), rtol=1e-4), "another library differs"

# %%
some = torch.arange(64) % 10
theirs = soft_target_loss(z, v, some, T=4, alpha=0.9)
assert torch.isclose(mixed_loss(z, v, some, 4, 0.9), theirs), "the helper's loss differs"
row = z[:1].clone().requires_grad_()
soft_loss(row, v[:1], 4).backward()
assert torch.allclose(row.grad, 4 * (q - p)[:1], atol=1e-5), "the formula of the gradient is wrong"

# %% [markdown]
# ### Why not the other way around?
#
# $\mathrm{KL}(q \,\|\, p)$ is another number. If the student can be equal to the teacher, both are zero there. A small student cannot, and then they want different things. A sketch: ten classes in a row, a teacher with two favorites, and a student that can only form one bump, $z_k = -(k - m)^2 / (2 w^2)$, of center $m$ and width $w$. Which bump is best?

# %%
k = torch.arange(10.0)


def bump(m, w):
    """m, w [n] -> log q [n, 10] of bumps with these centers and widths."""
    return torch.log_softmax(-((k - m[:, None]) ** 2) / (2 * w[:, None] ** 2), 1)


# %%
peaks = bump(torch.tensor([2.0, 7.0]), torch.tensor([0.7, 0.7])).exp()
p = 0.6 * peaks[0] + 0.4 * peaks[1]  # the teacher
m, w = torch.cartesian_prod(torch.arange(0, 9.01, 0.1), torch.arange(0.3, 6, 0.05)).T
log_q = bump(m, w)

# %% [markdown]
# **Predict.** One of the two divergences is infinite if $q_k = 0$ where $p_k > 0$, the other if $p_k = 0$ where $q_k > 0$. Which of them makes the student cover both favorites, and which lets it choose one?

# %%
forward = (p * (p.log() - log_q)).sum(1)  # KL(p || q)
backward = (log_q.exp() * (log_q - p.log())).sum(1)  # KL(q || p)
for name, divergence in (("KL(p || q)", forward), ("KL(q || p)", backward)):
    best = divergence.argmin()
    print(f"{name}: center {m[best]:.1f}, width {w[best]:.2f}")

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# draws: the teacher's probabilities, and the two best bumps
figure, axis = plt.subplots(figsize=(7.2, 2.8))
axis.bar(k, p, color=figures.COLORS["teacher"], alpha=0.5)
for divergence, style in ((forward, "o-"), (backward, "s--")):
    q = log_q[divergence.argmin()].exp()
    axis.plot(k, q, style, color=figures.COLORS["student"], markersize=5)
axis.text(2.3, 0.5, "KL(q‖p): one favorite", color="#a86f00", fontsize=10)
axis.text(3.6, 0.17, "KL(p‖q): both", color="#a86f00", fontsize=10)
axis.text(7.6, 0.24, "teacher", color=figures.COLORS["teacher"], fontsize=10)
axis.set(xlabel="class $k$", ylabel="probability", xticks=range(10))
plt.show()

# %% [markdown]
# *The best single bump for a teacher (bars) with two favorites, by each divergence.*

# %%
wide, narrow = forward.argmin(), backward.argmin()
mean = (k * p).sum()
assert abs((k * log_q[wide].exp()).sum() - mean) < 0.05, "KL(p || q) has another mean than p"
assert w[narrow] < 1 and abs(m[narrow] - 2) < 0.2, "KL(q || p) does not choose the larger favorite"

# %% [markdown]
# $\mathrm{KL}(p \,\|\, q)$ spreads the student so that it forgets nothing the teacher finds possible, even if it then finds impossible classes possible; among these bumps its best one even has the teacher's mean. $\mathrm{KL}(q \,\|\, p)$ lets it settle on one favorite. For answers that say what an image resembles, the first is meant, and it is what cross-entropy minimizes.
#
# ## 3 Does it help?
#
# The control is the same student with the same images, steps and seed, trained on labels: the recipe of lesson 16, shortened to 5 epochs. A seed sets the first weights and the order of the images. All arms go through one function, and differ in targets and loss.

# %%
def student(targets, loss, epochs=5, lr=0.1, seed=0):
    """A TinyCNN, trained on the first len(targets) images."""
    network = models.build("TinyCNN", seed)
    options = dict(epochs=epochs, lr=lr, weight_decay=1e-4, seed=seed)
    train.fit(network, images[: len(targets)], targets, loss=loss, **options)
    return network


# %%
def soft(T):
    """soft_loss at this temperature, as a function of logits and targets."""
    return lambda z, v: soft_loss(z, v, T)


cross_entropy = nn.functional.cross_entropy
arms = {"labels": (labels, cross_entropy), "soft, T = 4": (answers, soft(4))}

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# prepares: training of arms with several seeds, and the lead of one over another
networks, scores = {}, {}


def accuracy(network, split):
    """In percent."""
    return 100 * train.accuracy(train.predict(network, split.images), split.labels)


def compete(names, seeds):
    """Train these arms with these seeds: networks, and their validation accuracies in scores."""
    keys = {(name, seed): (name, seed) for seed in range(seeds) for name in names}
    found = side_by_side(lambda key: student(*arms[key[0]], seed=key[1]), keys)
    networks.update(found)
    scores.update(side_by_side(lambda network: accuracy(network, validation), found))


def lead(scores, name, over="labels"):
    """Mean lead over the seeds that both have, with its 95 % interval, and the number of seeds."""
    d = [scores[name, s] - scores[over, s] for n, s in scores if n == name and (over, s) in scores]
    half = stats.t.ppf(0.975, len(d) - 1) * np.std(d, ddof=1) / np.sqrt(len(d))
    return np.mean(d), np.mean(d) - half, np.mean(d) + half, len(d)


def leads(names, over="labels"):
    """Their leads as a table."""
    rows = {name: (np.mean([v for (n, _), v in scores.items() if n == name]),) for name in names}
    rows = {name: row + lead(scores, name, over) for name, row in rows.items()}
    heads = ["accuracy [%]", f"lead over {over}", "low", "high", "seeds"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=heads).round(2)


# %% [markdown]
# **Predict.** The student sees a label in neither image nor loss: its only source are the teacher's answers at $T = 4$. Will it be better or worse than the student of labels, and by less or more than two points?

# %%
compete(arms, seeds=5)
leads(["soft, T = 4"])

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# draws: the five pairs
figure, axis = plt.subplots(figsize=(4.6, 2.8))
for seed in range(5):
    pair = [scores[name, seed] for name in ("labels", "soft, T = 4")]
    axis.plot([0, 1], pair, "-", color="#cccccc", linewidth=1)
    axis.plot(0, pair[0], "o", color=figures.COLORS["neutral"])
    axis.plot(1, pair[1], "o", color=figures.COLORS["student"])
axis.set_xticks([0, 1], ["labels", "soft, T = 4"])
axis.set(xlim=(-0.4, 1.4), ylabel="validation accuracy [%]")
plt.show()

# %% [markdown]
# *Lines join the two students of one seed: in most pairs, or all, the student of answers (orange) is the better one, by more in some than in others.*

# %%
wins = sum(scores["soft, T = 4", s] > scores["labels", s] for s in range(5))
assert lead(scores, "soft, T = 4")[0] > 0.4 and wins >= 4, "answers teach no better than labels"

# %% [markdown]
# Better, by about a point, without a single label. The teacher's first class is the label on 98 % of these images, so the labels hold little that the answers leave out. The leads differ from seed to seed; the interval is wide.
#
# Is the control at its best? Five epochs on so few images are 235 steps, and the rate was chosen for longer training. Both arms again, at twice the rate:

# %%
arms["labels, rate 0.2"] = (labels, cross_entropy, 5, 0.2)
arms["soft, rate 0.2"] = (answers, soft(4), 5, 0.2)
compete(["labels, rate 0.2", "soft, rate 0.2"], seeds=3)
leads(["labels, rate 0.2", "soft, rate 0.2"])

# %%
mean, low, high, _ = lead(scores, "soft, rate 0.2", "labels, rate 0.2")
print(f"answers over labels, both at rate 0.2: {mean:+.2f} points [{low:+.2f}, {high:+.2f}]")
assert lead(scores, "labels, rate 0.2")[0] > -0.2, "the larger rate is worse for labels"
assert mean > -0.2, "at the larger rate the lead is gone"

# %% [markdown]
# The larger rate is no worse for either, and the student of answers stays ahead, with an interval as wide as three seeds make it. So the lead is not only that softened answers take larger steps. Below, all arms have the rate 0.1.
#
# ### Other forms
#
# Each form below was proposed for the same purpose. *Hard answers*: the teacher's most likely class as a label. *Smoothed labels*: 0.1 of the label's probability spread over all classes, without a teacher. *Probabilities*: the squared distance of $q$ and $p$, at $T = 1$. *Logits*: the squared distance of $z$ and $v$, section 2's limit.

# %%
def smoothed(z, y):
    return cross_entropy(z, y, label_smoothing=0.1)


def squared(z, v):
    return (torch.softmax(z, 1) - torch.softmax(v, 1)).square().sum(1).mean()


# %%
arms |= {"soft, T = 1": (answers, soft(1)), "soft, T = 16": (answers, soft(16))}
arms |= {"logits": (answers, nn.functional.mse_loss), "probabilities": (answers, squared)}
arms |= {"hard answers": (answers.argmax(1), cross_entropy), "smoothed labels": (labels, smoothed)}

# %% [markdown]
# And a mixture with $\alpha = 0.5$. Its loss needs answers and label of an image, so its targets carry both: ten logits, and the label as an eleventh column. (`distill` in `helpers/distill.py` does the same.)

# %%
def half_and_half(z, rows):
    return mixed_loss(z, rows[:, :10], rows[:, 10].long(), T=4, alpha=0.5)


arms["α = 0.5, T = 4"] = (np.column_stack([answers, labels]).astype(np.float32), half_and_half)

# %% [markdown]
# **Predict.** Most answers at $T = 1$ are hardly softer than a label. Will *soft, T = 1* be closer to the labels or to $T = 4$?

# %%
others = [name for name in arms if "rate" not in name][2:]
compete(others, seeds=3)
leads(["soft, T = 4", *others])

# %%
table = leads(["soft, T = 4", *others])
found = table["lead over labels"]
assert found["probabilities"] < -0.6, "the distance of probabilities is no worse"
near = found[["soft, T = 1", "hard answers", "smoothed labels"]]
assert found["soft, T = 4"] > near.max() + 0.2, "another form does as well as T = 4"
assert near.mean() < 0.5, "without softening there is a lead, too"
high = found[["soft, T = 16", "logits"]]
assert high.mean() < found["soft, T = 4"] - 0.2, "a high temperature loses nothing"
assert found["α = 0.5, T = 4"] < found["soft, T = 4"] + 0.6, "labels beside the answers bring more"

# %% [markdown]
# At $T = 1$ the answers are hardly softer than labels, and teach hardly more. The same holds for hard answers and for smoothed labels, which need no teacher at all. At the other end, $T = 16$ and its limit, the logits, count all classes nearly alike, also those that the teacher finds hopeless; most of the lead is gone there, too. The squared distance of probabilities is clearly the worst: it is the arm to avoid. Half of the weight on labels brought no more than answers alone. Three seeds give wide intervals, so read the order of close neighbors as chance.
#
# ## 4 What in the answer teaches?
#
# Three candidates. The answer names the teacher's class, which may differ from the label (hard answers had that). It says how *sure* the teacher is of this image. And it says what *this image* resembles, or only what its class resembles. Two controls take parts away, and leave the rest as it is, at $T = 4$:
#
# - *shuffled*: the nine logits below the largest change places at random, image by image. How sure the teacher is stays, exactly; which classes are alike is gone.
# - *class means*: each image gets the mean logits of all images of the same first class. Which classes are alike stays; the image itself is gone.

# %%
def shuffled(v, rng):
    """Logits [N, K] -> the same in each row, all but the largest in random order."""
    out = v.copy()
    for row in out:
        rest = np.delete(np.arange(len(row)), row.argmax())
        row[rest] = row[rng.permutation(rest)]
    return out


def class_means(v):
    """Logits [N, K] -> in each row the mean of the rows with the same largest class."""
    first = v.argmax(1)
    return np.stack([v[first == k].mean(0) for k in first])


# %% tags=["nbval-check-output"]
v = np.array([[6.0, 4, 0], [2, 5, 1], [4, 0, 2]])
print(shuffled(v, np.random.default_rng(3)))
print(class_means(v))

# %% [markdown]
# **Predict.** Which of the two loses more of the gain?

# %%
arms |= {"shuffled": (shuffled(answers, np.random.default_rng(0)), soft(4))}
arms |= {"class means": (class_means(answers), soft(4))}
compete(["shuffled", "class means"], seeds=3)
leads(["soft, T = 4", "shuffled", "class means"])

# %%
lost = {name: lead(scores, name, "soft, T = 4")[0] for name in ("shuffled", "class means")}
assert max(lost.values()) < -0.3, f"a part of the answer is enough: {lost}"
assert all(lead(scores, name)[0] < 0.6 for name in lost), "without the image's own part it leads"

# %% [markdown]
# Both lose it, all or nearly all. Neither how sure the teacher is was enough, nor what a class resembles on average: the lead needs resemblances, and those of *the image itself*. Softness alone, here as in the smoothed labels, was worth nothing. (The teacher's opinion of single images is what it learned on 55,000 of them; so its answers pass on something of the images that the student never sees.)
#
# ## 5 Few labels
#
# Answers need no label. Suppose that only the first 300 of the 3,000 images are labeled, and the teacher answers for all. (This teacher has itself been trained on all the labels. The experiment stands for a teacher that comes from elsewhere, and has seen more than you have.) The control are the 300 labeled images alone, for fifty epochs, about as many steps.
#
# **Predict.** How many points does the student of the teacher's answers lead now, about as many as before, or several?

# %%
arms["300 labels"] = (labels[:300], cross_entropy, 50)
compete(["300 labels"], seeds=5)
leads(["soft, T = 4"], over="300 labels")

# %%
assert lead(scores, "soft, T = 4", "300 labels")[1] > 1.5, "with few labels the lead is small"

# %% [markdown]
# Several, and the interval is far from zero. Is it the teacher, or would any answers on the 2,700 other images do? Let each student of 300 labels be a teacher itself: its logits for all 3,000 images are the answers for a new student (*self-training*).

# %%
own = {seed: train.predict(networks["300 labels", seed], images) for seed in range(3)}
again = side_by_side(lambda s: student(own[s], soft(4), seed=s), {s: s for s in own})
for seed, network in again.items():
    scores["taught by itself", seed] = accuracy(network, validation)
leads(["soft, T = 4", "taught by itself"], over="300 labels")

# %%
assert lead(scores, "soft, T = 4", "taught by itself")[0] > 2, "a weak teacher is as good"
assert abs(lead(scores, "taught by itself", "300 labels")[0]) < 2, "self-training changes much"

# %% [markdown]
# It is the teacher. Answers of a network that knows no more than the 300 labels changed little; the better teacher's answers on unlabeled images are worth about as much as their labels, and a bit more.
#
# ## What we measured
#
# The settings were chosen and compared on validation images. Here are the 10,000 test images, read once, for the comparisons that the sections rest on.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# prepares: the accuracies of six arms on the test images
test = data.fashion_mnist("test")
shown = ("labels", "soft, T = 4", "hard answers", "shuffled", "class means", "300 labels")
chosen = {key: network for key, network in networks.items() if key[0] in shown}
on_test = side_by_side(lambda network: accuracy(network, test), chosen)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
# tabulates: the leads on the test images
pairs = [
    ("soft, T = 4", "labels"),
    ("hard answers", "labels"),
    ("shuffled", "soft, T = 4"),
    ("class means", "soft, T = 4"),
    ("soft, T = 4", "300 labels"),
]
measured = {f"{a}, over {b}": lead(on_test, a, b) for a, b in pairs}
heads = ["lead [points]", "low", "high", "seeds"]
pd.DataFrame.from_dict(measured, orient="index", columns=heads).round(2)

# %% [markdown]
# *Measured on 10,000 test images: mean lead of the first over the second, in points, with its 95 % interval over the seeds.*

# %%
main, few_labels = measured["soft, T = 4, over labels"], measured["soft, T = 4, over 300 labels"]
assert main[0] > 0.3 and few_labels[1] > 1.5, "the leads are gone on test images"
assert abs(measured["hard answers, over labels"][0]) < 1.2, "hard answers differ much from labels"
assert max(measured[f"{name}, over soft, T = 4"][0] for name in lost) < -0.2, "a part is enough"

# %% [markdown]
# With labels for all images, softened answers brought this student about a point, and only with a fitting temperature and the image's own resemblances; where labels are rare and the teacher is good, they brought several.
#
# ## Exercises
#
# ### 33.1 The gradient of a batch
#
# Write the gradient of `soft_loss` in the student's logits, in NumPy, for logits `z` and `v` of shape `[N, K]`: the mean over the rows and the factor $T^2$ count.
#
# For example, $z = (2, 0, 0)$, $v = (6, 4, 0)$ and $T = 2$, one row, give about $(-0.259, -0.095, 0.354)$. Hint: `scipy.special.softmax(z / T, 1)`.

# %% tags=["nbval-check-output"]
def gradient(z, v, T):
    """float [N, K], float [N, K], float -> the gradient of soft_loss in z, [N, K]."""
    ...


check("33.1", gradient)


# %% [markdown]
# ### 33.2 A teacher that knows only the label
#
# Label smoothing trains on targets with $1 - \varepsilon + \varepsilon/K$ at the label and $\varepsilon/K$ elsewhere (Szegedy et al. 2016). That is distillation at $T = 1$ from a teacher that has never seen an image. Write its logits for integer `labels` [N].
#
# For example, the label 2 of $K = 4$ classes with $\varepsilon = 0.2$ has the targets $(0.05, 0.05, 0.85, 0.05)$ and the logits $(-3.00, -3.00, -0.16, -3.00)$. Hint: which logits have a given softmax?
#
# Then choose $\varepsilon$ so that this teacher is on average as sure of its first class as yours is at $T = 4$, and train three students on it. Is softness alone worth something?

# %% tags=["nbval-check-output"]
def smoothing_teacher(labels, K, eps):
    """int [N], int, float -> logits float [N, K]."""
    ...


check("33.2", smoothing_teacher)


# %% [markdown]
# ### 33.3 Where the teacher looks (open)
#
# A teacher can also be followed inside. Its *attention map* says where it responds (Zagoruyko and Komodakis 2017): of a layer's output $h$, shape `[N, C, H, W]`, sum $h^2$ over the channels, flatten each image's map to one row, and divide the row by its length $\sqrt{\sum_i a_i^2}$. The number of channels does not matter, so maps of student and teacher can be compared wherever height and width agree.
#
# For example, one image with two channels of 1 × 2, $(1, 2)$ and $(2, 0)$: the sums are $(5, 4)$, and the row is $(0.781, 0.625)$. Hint: `flatten(1)`, `norm(dim=1, keepdim=True)`.
#
# Then add $\beta$ times the mean squared distance of the rows to `soft_loss`, between `student[:11]` and `teacher[:7]`, both 7 × 7. (Let a module return logits and map side by side, so that `train.fit` sees one output.) Does the map bring the student further than the answers alone?

# %% tags=["nbval-check-output"]
def attention(h):
    """float tensor [N, C, H, W] -> one row of length 1 for each image, [N, H * W]."""
    ...


check("33.3", attention)

# %% [markdown]
# ## Recap
#
# A teacher's logits divided by a temperature show what an image resembles. The student's loss is $T^2\, \mathrm{KL}(p \,\|\, q)$: its gradient is $T\,(q - p)$, and for a large $T$ it pulls each logit to the teacher's. At $T = 4$ the small student got about a point better than on labels, without seeing one; at $T = 1$, on hard answers and on smoothed labels it did not. Controls that keep how sure the teacher is, or what its classes resemble on average, lost the lead. It pays most where the teacher can answer for images that nobody has labeled.
#
# ## Next
#
# A student needs a design. Lesson 34 asks which small network to train in the first place, and lesson 35 puts distillation, pruning and quantization together.
#
# ## References
#
# - G. Hinton, O. Vinyals, J. Dean, *Distilling the knowledge in a neural network*, 2015, section 2: temperature, $T^2$; section 2.1: logit matching as the limit.
# - J. Ba, R. Caruana, *Do deep nets really need to be deep?*, 2014, section 2: regression on logits.
# - S. Kullback, R. Leibler, *On information and sufficiency*, 1951.
# - A. Romero et al., *FitNets: hints for thin deep nets*, 2015: a teacher's features as targets.
# - S. Zagoruyko, N. Komodakis, *Paying more attention to attention*, 2017, section 3.1: attention maps.
# - R. Müller, S. Kornblith, G. Hinton, *When does label smoothing help?*, 2019: what smoothing does to a teacher.
# - C. Szegedy et al., *Rethinking the inception architecture for computer vision*, 2016, section 7: label smoothing.
# - D.-H. Lee, *Pseudo-label*, 2013: a network's own answers as labels.
