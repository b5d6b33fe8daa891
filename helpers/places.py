"""A network as its modules run, one after the other, each with its path.

What rewrites a network (quantizers, folding) must know all that it does. So a module that does more
than its class says, or for which there is no rule, is refused by its path.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

from torch import nn

from helpers.architectures import ResidualBlock

Places = Iterable[tuple[str, nn.Module]]
AVERAGES = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
PASSING = (nn.MaxPool2d, nn.Flatten, nn.Dropout, nn.Identity)  # what is on the levels stays there


def require_plain(module: object, path: str) -> None:
    """TypeError or ValueError unless it is a module that does what its class says, and no more."""
    where, kind = f"module {path or 'at the top'}", type(module).__name__
    if not isinstance(module, nn.Module):
        raise TypeError(f"{where} is a {kind}: pass a PyTorch module")
    hooks = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    if any(getattr(module, name) for name in hooks) or "forward" in vars(module):
        raise ValueError(
            f"{where} ({kind}) has a hook or a forward of its own, which would be lost: remove it"
        )


def places(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules in a Sequential as they run, each with its path; inner Sequentials are opened.

    A module object that stands at two places comes twice. Each has to pass require_plain.

    >>> [path for path, _ in places(nn.Sequential(nn.Flatten(), nn.Sequential(nn.ReLU())))]
    ['0', '1.0']
    """
    require_plain(module, path)
    if type(module).forward is nn.Sequential.forward:
        for key, child in module._modules.items():  # named_children leaves out a second place
            yield from places(child, f"{path}.{key}" if path else key)
    else:
        yield path, module


def refuse(path: str, module: nn.Module, allowed: Iterable[type]) -> None:
    """TypeError: the module at this path is none of those for which there is a rule."""
    raise TypeError(
        f"module {path or 'at the top'} is a {type(module).__name__}, for which there is no rule: "
        f"choose one of {', '.join(kind.__name__ for kind in allowed)}"
    )


def require_relu(block: ResidualBlock, path: str, kind: type) -> None:
    """TypeError or ValueError unless what follows the addition is a plain module of this kind."""
    require_plain(block.relu, f"{path}.relu")
    if type(block.relu) is not kind:
        refuse(f"{path}.relu", block.relu, [kind])


def with_parts(block: ResidualBlock, parts: dict[str, nn.Module]) -> ResidualBlock:
    """A copy of a residual block that runs these modules as its body, shortcut and relu."""
    block = copy.deepcopy(block)
    for name, part in parts.items():
        setattr(block, name, part)
    return block
