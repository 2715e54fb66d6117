"""What an example input shows: the sizes of feature maps and which layer feeds which."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode


@dataclass
class Trace:
    """What was seen, by module.

    Attributes:
        shapes: the shapes of the first input, one of each call.
        sources: the modules whose output the first input is, the very tensor.
        maps: the pixels (H, W) of the feature map of which a two-dimensional first input is a flat view.
        functions: calls of torch.nn.functional.pad and interpolate and of torch.roll on feature maps that the
            module's own forward made, each with its bound arguments.
    """

    shapes: dict[nn.Module, list[torch.Size]] = field(default_factory=dict)
    sources: dict[nn.Module, set[nn.Module]] = field(default_factory=dict)
    maps: dict[nn.Module, tuple[int, ...]] = field(default_factory=dict)
    functions: dict[nn.Module, list[tuple[str, dict[str, Any]]]] = field(default_factory=dict)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of an argument or an output, however nested in tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)


WATCHED = {
    functional.pad: inspect.signature(functional.pad),
    functional.interpolate: inspect.signature(functional.interpolate),
    # A built-in function tells no signature.
    torch.roll: inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)
         for name in ("input", "shifts", "dims")]
    ),
}  # fmt: skip


class _Recorder(TorchFunctionMode):
    """Records what modules are given, by their hooks, and what functions they call in between."""

    def __init__(self) -> None:
        super().__init__()
        self.trace = Trace()
        self.running: list[nn.Module] = []
        # Tensors are kept alive: identities and addresses of freed tensors would be given out again.
        self.producer: dict[int, tuple[nn.Module, Tensor]] = {}
        self.map_at: dict[int, Tensor] = {}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in WATCHED and self.running:
            given = WATCHED[function].bind(*args, **(kwargs or {}))
            given.apply_defaults()
            if given.arguments["input"].ndim >= 4:
                calls = self.trace.functions.setdefault(self.running[-1], [])
                calls.append((function.__name__, dict(given.arguments)))
        return function(*args, **(kwargs or {}))

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.running.append(module)
        x = next(tensors_in((args, kwargs)), None)
        if x is None:
            return
        self.trace.shapes.setdefault(module, []).append(x.shape)
        if id(x) in self.producer:
            self.trace.sources.setdefault(module, set()).add(self.producer[id(x)][0])
        image = self.map_at.get(_address(x))
        if image is not None and x.ndim == 2 and x.shape[0] == image.shape[0] and x.numel() == image.numel():
            self.trace.maps[module] = tuple(image.shape[2:])
        self.remember(x)

    def remember(self, y: Tensor) -> None:
        """Keep a feature map, so that flat views of it are known for what they are."""
        if y.ndim >= 4 and y.shape[2:].numel() > 1:
            self.map_at[_address(y)] = y

    def after(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self.running.pop()
        for y in tensors_in(output):
            self.producer[id(y)] = (module, y)
            self.remember(y)


def _address(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def call_of(model: nn.Module, example_input: Any) -> Callable[[], Any]:
    """model(x) of a tensor, model(*x) of a tuple or list, model(**x) of a mapping."""
    if isinstance(example_input, Tensor):
        return partial(model, example_input)
    if isinstance(example_input, Mapping):
        return partial(model, **example_input)
    if isinstance(example_input, (tuple, list)):
        return partial(model, *example_input)
    raise TypeError(
        "example_input must be a tensor, a tuple of arguments or a mapping of keyword arguments, "
        f"got {type(example_input).__name__}"
    )


def trace(model: nn.Module, example_input: Any) -> Trace:
    """Run the model once, in evaluation mode and without gradients, and leave it as it was."""
    call = call_of(model, example_input)
    recorder = _Recorder()
    modules = list(model.modules())
    training = [module.training for module in modules]
    hooks = [module.register_forward_pre_hook(recorder.before, with_kwargs=True) for module in modules]
    hooks += [module.register_forward_hook(recorder.after, with_kwargs=True) for module in modules]
    try:
        model.eval()
        with torch.no_grad(), recorder:
            call()
    finally:
        for hook in hooks:
            hook.remove()
        for module, was in zip(modules, training, strict=True):
            module.training = was
    return recorder.trace
