"""Filters that are really removed: from each layer that makes, changes or reads their channels."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import nn

from helpers.ties import NORMS, Survey


def remove_filters(
    model: nn.Module,
    keep: Mapping[str, np.ndarray],
    input_shape: Iterable[int] = (1, 28, 28),
) -> nn.Module:
    """A smaller copy: without the filters that `keep` leaves out, and without all tied to them.

    keep: for some convolutions and dense layers, by path, a mask bool [filters] or the indices of
    those that stay. The copy computes what the model does with the removed channels set to zero,
    after their batch norm. input_shape: without the batch.
    Raises TypeError and ValueError: for a layer or operation without a rule, by name; for a filter
    that cannot go (see filter_ties), or is tied to one that `keep` wants to stay; for a layer that
    would keep none, and a grouped convolution that would not keep as many in each group.

    >>> layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)
    >>> remove_filters(nn.Sequential(*layers), {"0": [0, 3]})[2].weight.shape
    torch.Size([2, 2, 1, 1])
    """
    survey = Survey(model, input_shape)
    if not isinstance(keep, Mapping):
        raise TypeError(f"keep is a {type(keep).__name__}: pass a dictionary, by the layers' paths")
    masks = {path: chosen(path, stay, survey) for path, stay in keep.items()}
    removed = [survey.find(survey.makes[path])[~stay] for path, stay in masks.items()]
    removed = np.unique(np.concatenate([np.zeros(0, int), *removed]))
    fixed = {survey.find(np.array([tie]))[0]: why for tie, why in survey.fixed.items()}
    for path, stay in masks.items():
        for i, tie in enumerate(survey.find(survey.makes[path])):
            if tie in fixed and not stay[i]:
                raise ValueError(f"filter {i} of {path} must stay: it is tied to {fixed[tie]}")
            if tie in removed and stay[i]:
                raise ValueError(f"filter {i} of {path} is tied to one that goes: leave it out")

    model = copy.deepcopy(model)
    for path, ties in survey.reads.items():
        read = ~np.isin(survey.find(ties), removed)
        made = ~np.isin(survey.find(survey.makes.get(path, ties)), removed)
        shrink(model.get_submodule(path), path, read, made)
    return model


def chosen(path: str, stay: object, survey: Survey) -> np.ndarray:
    """bool [filters] of the layer at this path, from a mask or from indices."""
    if path not in survey.makes:
        raise ValueError(f"keep names {path!r}: choose from {', '.join(survey.makes)}")
    filters, stay = len(survey.makes[path]), np.asarray(stay)
    if stay.dtype == bool and stay.shape == (filters,):
        return stay
    if stay.dtype.kind not in "iu" or stay.ndim != 1:
        raise TypeError(f"keep[{path!r}]: pass a mask bool [{filters}], or indices int [kept]")
    if len(stay) and not (0 <= stay.min() and stay.max() < filters):
        raise ValueError(f"keep[{path!r}] has indices outside 0..{filters - 1}")
    return np.isin(np.arange(filters), stay)


def shrink(module: nn.Module, path: str, read: np.ndarray, made: np.ndarray) -> None:
    """Leave in a layer only what belongs to the channels that stay: bool [in], bool [out]."""
    if not read.any() or not made.any():
        raise ValueError(f"{path} would keep no channel: keep one at least")
    read_, made_ = torch.from_numpy(read), torch.from_numpy(made)
    if type(module) in NORMS:
        module.num_features = int(read.sum())
        for name, values in (*module.named_parameters(), *module.named_buffers()):
            if values.ndim:
                replace(module, name, values[read_])
        return
    groups = getattr(module, "groups", 1)
    counts = {*read.reshape(groups, -1).sum(1)}, {*made.reshape(groups, -1).sum(1)}
    weight = module.weight
    if 1 < groups == len(read):  # depthwise
        module.groups = int(read.sum())
        weight = weight[made_]
    elif any(len(different) > 1 for different in counts):
        raise ValueError(f"{path} has {groups} groups: keep as many channels in each of them")
    else:
        inputs = read_.reshape(groups, -1).repeat_interleave(len(made) // groups, 0)[made_]
        rows = [w[i] for w, i in zip(weight[made_], inputs, strict=True)]
        weight = torch.stack(rows)
    replace(module, "weight", weight)
    if module.bias is not None:
        replace(module, "bias", module.bias[made_])
    of = "features" if type(module) is nn.Linear else "channels"
    setattr(module, f"in_{of}", int(read.sum()))
    setattr(module, f"out_{of}", int(made.sum()))


def replace(module: nn.Module, name: str, values: torch.Tensor) -> None:
    """Put new values in the place of a parameter or buffer."""
    values = values.detach().clone()
    old = getattr(module, name)
    if isinstance(old, nn.Parameter):
        values = nn.Parameter(values, requires_grad=old.requires_grad)
    setattr(module, name, values)
