"""What happens when a model runs once: its layers and functions, and the MACs below them.

Two modes of torch look on, in this thread only: one sees each call of a function, as the model's
forward writes it, the other each operation of the library that the call comes down to (a GRU is
many matrix products). So it needs no rule for a layer, but one for each product of the library.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, UntypedStorage, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle

from helpers.qat import LSQ, QuantizedLayer

# Parts of the names of operations that read two tensors or more, not value by value, and multiply
# nothing worth a count: normalization, look-up, copies to other places, rounding to steps.
NO_MACS = (
    *("norm", "prelu", "embedding", "index", "gather", "scatter", "take", "masked", "copy", "fill"),
    *("bucketize", "searchsorted", "unpool", "grid_sampler", "pack_padded"),
    *("fake_quantize", "quantize_per", "moving_avg_obs"),
)
# Functions that hand the values in a tensor to Python, where a forward may branch on them.
READS_VALUES = (
    *("__bool__", "__int__", "__float__", "__index__", "__complex__", "__array__", "numpy"),
    *("item", "tolist", "equal", "allclose", "is_nonzero"),
)
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class NoRule(ValueError):
    """A model whose cost cannot be told, and why."""


@dataclass
class Step:
    """A layer or function that ran. Where its tensors lie: storages (a view shares its source's).

    kind: the layer's class, or the function's name. name: of the layer in the model. shape: of the
    first output, without the batch. reads: all inputs. writes: the bytes of those outputs that are
    real numbers and depend on the model's input.
    """

    kind: str
    name: str = ""
    layer: nn.Module | None = None
    macs: int = 0
    shape: tuple[int, ...] = ()
    reads: list[UntypedStorage] = field(default_factory=list)
    writes: dict[UntypedStorage, int] = field(default_factory=dict)


def tensors(value: object) -> list[Tensor]:
    """The tensors in a value: itself, or those in a tuple, list or dictionary."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return [tensor for item in value for tensor in tensors(item)]
    return [value] if isinstance(value, Tensor) else []


def macs_of(name: str, args: tuple, value: Tensor | tuple) -> int | None:
    """MACs of one of the library's products from its arguments and result; None for another one.

    >>> macs_of("mm", (torch.zeros(2, 3), torch.zeros(3, 5)), torch.zeros(2, 5))
    30
    """
    match name:
        case "mm" | "bmm" | "_int_mm":  # [.., n, k] x [.., k, m]
            return args[0].numel() * args[1].shape[-1]
        case "addmm" | "addmm_" | "addbmm" | "baddbmm" | "baddbmm_":
            return args[1].numel() * args[2].shape[-1]
        case "mv" | "dot" | "vdot":
            return args[0].numel()
        case "addmv" | "addmv_":
            return args[1].numel()
        case "convolution":  # each output, or each input of a transposed one, meets weight[0]
            transposed = args[6]
            return (args[0] if transposed else value).numel() * args[1][0].numel()
        case "_trilinear":  # nn.Bilinear, likewise
            return value.numel() * args[1][0].numel()
        case "_scaled_dot_product_flash_attention_for_cpu":  # [.., time, width]: q k^T, then with v
            return (args[0].numel() + value[0].numel()) * args[1].shape[-2]
        case "mkldnn_rnn_layer":  # LSTM, [time, batch, width]: both matrices at each time step
            return args[0][..., 0].numel() * (args[1].numel() + args[2].numel())
    return None


class Counter(TorchDispatchMode):
    """Adds up the MACs of the library's operations, and knows what depends on what."""

    def __init__(self, weights: Iterable[Tensor], x: Tensor):
        super().__init__()
        self.macs, self.running = 0, ""
        # A storage that is a key is not freed, so that no other tensor gets its place.
        self.origin = {t.untyped_storage(): "weights" for t in weights}
        self.origin[x.untyped_storage()] = "input"

    def from_input(self, tensor: Tensor) -> bool:
        """Whether it depends on the model's input."""
        return self.origin.get(tensor.untyped_storage()) == "input"

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        value = func(*args, **(kwargs or {}))
        origins = {self.origin.get(t.untyped_storage()) for t in tensors([args, kwargs])}
        if "input" in origins or len(origins) > 1:  # else it can be done before any input comes
            self.macs += self.count(func, args, value)
        origin = "input" if "input" in origins else "weights" if "weights" in origins else None
        if origin:
            self.origin |= {t.untyped_storage(): origin for t in tensors(value)}
        return value

    def count(self, func: torch._ops.OpOverload, args: tuple, value: object) -> int:
        """MACs of one operation: a product, an outer product written as one of values, or none."""
        name = func.name().partition("::")[2].partition(".")[0]
        macs = macs_of(name, args, value)
        if macs is not None:
            return macs
        if name == "mul":
            factors = [t for t in tensors(args) if self.from_input(t)]
            outer = factors and all(value.numel() > factor.numel() for factor in factors)
            return value.numel() if outer else 0
        operands = [a for a in args if isinstance(a, Tensor | torch.ScriptObject)]
        if len(operands) < 2 or torch.Tag.pointwise in func.tags:
            return 0
        if any(part in name for part in NO_MACS):
            return 0
        raise NoRule(
            f"{self.running} computes {func.name()}, and no rule says how many MACs that is: "
            "write it with convolutions, matrix products, or layers made of them"
        )


class Recorder(TorchFunctionMode):
    """Makes a Step of each layer and, between layers, of each function that runs."""

    def __init__(self, counter: Counter):
        super().__init__()
        self.counter, self.steps, self.depth = counter, [], 0

    def add(self, step: Step, read: object, written: object) -> None:
        """Complete the step by what it read and wrote; one that wrote no tensor is none."""
        made = tensors(written)
        if not made:
            return
        step.macs, self.counter.macs = self.counter.macs, 0
        step.shape = tuple(made[0].shape[1:])
        step.reads = [t.untyped_storage() for t in tensors(read)]
        for t in made:
            if t.is_floating_point() and self.counter.from_input(t):
                step.writes.setdefault(t.untyped_storage(), t.numel() * t.element_size())
        self.steps.append(step)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.depth:  # inside a layer
            return func(*args, **kwargs)
        name = func.__name__.partition(".")[0]
        if name in READS_VALUES and any(self.counter.from_input(t) for t in tensors(args)):
            raise NoRule(f"its control flow may depend on the input, whose values {name} reads")
        self.counter.running = name
        value = func(*args, **kwargs)
        written = args[0] if name == "__setitem__" else value
        self.add(Step(name.strip("_")), [args, kwargs], written)
        return value

    def watch(self, name: str, layer: nn.Module) -> tuple[RemovableHandle, ...]:
        """Hooks that make the layer one step, whatever it calls."""

        def before(layer: nn.Module, args: tuple) -> None:
            self.depth += 1
            if self.depth == 1:
                self.counter.running = f"layer {name!r} ({type(layer).__name__})"

        def after(layer: nn.Module, args: tuple, kwargs: dict, value: object) -> None:
            if self.depth == 1:
                self.add(Step(type(layer).__name__, name, layer), [args, kwargs], value)
            self.depth -= 1

        leave = layer.register_forward_hook(after, with_kwargs=True)
        return layer.register_forward_pre_hook(before), leave


def layers(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Names and modules of the outermost layers: torch's, those derived from them, and ours.

    >>> [name for name, _ in layers(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU())))]
    ['0', '1.0']
    """
    ours = isinstance(module, LSQ | QuantizedLayer)
    kinds = [kind for kind in type(module).__mro__ if kind is not nn.Module]
    torchs = any(kind.__module__.startswith("torch.nn.modules.") for kind in kinds)
    if ours or (torchs and not isinstance(module, CONTAINERS)):
        yield name, module
        return
    for child, part in module.named_children():
        yield from layers(part, f"{name}.{child}".removeprefix("."))


@contextmanager
def kept(model: nn.Module) -> Iterator[None]:
    """Whatever runs inside: afterwards each module has the attributes that it had before."""
    before = [(module, dict(vars(module))) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes in before:
            vars(module).clear()
            vars(module).update(attributes)


def record(model: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> list[Step]:
    """The steps of one pass of zeros [1, *shape] in evaluation mode; the model stays as it was.

    Copies stand in for its weights meanwhile, so one thread at a time may do this to a model. The
    first step, "input", writes x; the last, "output", reads the result. Raises NoRule, or what the
    model's forward raises.

    >>> [step.kind for step in record(nn.Linear(6, 7), (6,), torch.float32)]
    ['input', 'Linear', 'output']
    """
    with torch.inference_mode(False), torch.no_grad(), kept(model), ExitStack() as watched:
        for module in model.modules():
            module.training = False
        named = [*model.named_parameters(), *model.named_buffers()]
        device = named[0][1].device if named else None
        state = {name: tensor.detach().clone() for name, tensor in named}
        x = torch.zeros(1, *shape, dtype=dtype, device=device)
        recorder = Recorder(Counter(state.values(), x))
        recorder.add(Step("input"), [], x)
        names: dict[nn.Module, str] = {}
        for name, layer in layers(model):
            if names.setdefault(layer, name) == name:  # once, if it stands at several places
                for hook in recorder.watch(name, layer):
                    watched.callback(hook.remove)
        with recorder, recorder.counter:
            result = torch.func.functional_call(model, state, (x,))
    recorder.add(Step("output"), result, x)
    return recorder.steps
