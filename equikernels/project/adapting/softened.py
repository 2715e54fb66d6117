"""Modules whose parameters are read through a projection, with their own names and checkpoints.

A softened module is its old self with another class: a subclass of its original class in which the
softened parameters are properties. Reading `module.weight` gives the projected tensor; the raw parameter
stays in `module._parameters`, where state_dict, named_parameters, optimizers and load_state_dict work.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from equikernels.project.adapting.parts import Part
from equikernels.project.projected_weight import ProjectedWeight

METADATA_KEY = "softened"


class Entry:
    """One softened parameter: how it is projected, and its projection as it is now."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.cache = ProjectedWeight()

    def __call__(self, raw: Tensor) -> Tensor:
        return self.cache(raw, self.part)

    @property
    def record(self) -> str:
        """What a checkpoint says about this parameter: its cut-off and its representations."""
        projector = self.part.projector
        cutoff = projector.cutoff
        # The default repr is an address, which no other process shares.
        plain = type(cutoff).__repr__ is object.__repr__
        said = type(cutoff).__qualname__ if plain else repr(cutoff)
        return f"{said} on {projector.rep_in!r} -> {projector.rep_out!r}"


class SoftenedModule(nn.Module):
    """What every softened module is an instance of, beside its original class.

    Assigning a Parameter to a softened name replaces the raw parameter, as on a plain module. Deleting one,
    or laying another parametrization over it, raises: the projection would silently be lost.
    """

    _softened: dict[str, Entry]

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "__class__":
            for softened in self.__dict__["_softened"]:
                if getattr(value, softened, None) is not getattr(type(self), softened):
                    raise ValueError(
                        f"the class {value.__name__} would hide the softened parameter {softened}: bake first"
                    )
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in self._softened:
            raise ValueError(
                f"parameter {name} of a softened {plain_class(self).__name__} cannot be removed or "
                "parametrized again: bake the module first"
            )
        super().__delattr__(name)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        metadata = getattr(destination, "_metadata", None)
        if metadata is not None:
            metadata[prefix[:-1]][METADATA_KEY] = {name: e.record for name, e in self._softened.items()}

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, *lists: list[str]
    ) -> None:
        found = local_metadata.get(METADATA_KEY)
        wrong = [] if found is None else disagreements(prefix, self._softened, found)
        if wrong:
            lists[-1].extend(wrong)  # error_msgs: load_state_dict raises them, and this layer stays as it was
            return
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *lists)

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced: Any = super().__reduce_ex__(protocol)
        make, arguments, *rest = reduced
        original = plain_class(self)
        arguments = tuple(original if argument is type(self) else argument for argument in arguments)
        return (_rebuild, (original, tuple(self._softened), make, arguments), *rest)

    def _get_name(self) -> str:
        return f"Softened{plain_class(self).__name__}"

    def extra_repr(self) -> str:
        said = ", ".join(f"{name} by {entry.record}" for name, entry in self._softened.items())
        plain = super().extra_repr()
        return f"{plain}, softened {said}" if plain else f"softened {said}"


def disagreements(prefix: str, entries: Mapping[str, Entry], found: Mapping[str, str]) -> list[str]:
    """What a checkpoint's record of one module says otherwise than the module, one message a parameter."""
    messages = []
    for name in {**entries, **found}:
        here = entries[name].record if name in entries else "not softened"
        there = found.get(name, "not softened")
        if here != there:
            messages.append(
                f"{prefix}{name} is softened by {here}, the checkpoint's by {there}: soften the model "
                "alike, or load dict(state_dict), which carries no such record"
            )
    return messages


def plain_class(module: nn.Module) -> type[nn.Module]:
    """The original class of a softened module, the class of any other."""
    for cls in type(module).__mro__:
        original = cls.__dict__.get("_plain_class")
        if original is not None:
            return original  # type: ignore[no-any-return]
    return type(module)


def _reader(name: str) -> Callable[[SoftenedModule], Tensor | None]:
    def read(self: SoftenedModule) -> Tensor | None:
        # An AttributeError would make torch look the name up among the raw parameters, unprojected.
        parameters = self.__dict__["_parameters"]
        if name not in parameters:
            raise RuntimeError(f"the softened parameter {name} is gone from _parameters")
        raw = parameters[name]
        return None if raw is None else self.__dict__["_softened"][name](raw)

    read.__doc__ = f"The projection of the raw parameter {name}."
    return read


def _refuser(name: str) -> Callable[[SoftenedModule, Any], None]:
    def refuse(self: SoftenedModule, value: Any) -> None:
        raise TypeError(
            f"the softened parameter {name} takes a torch.nn.Parameter (the raw one), "
            f"got {type(value).__name__}"
        )

    return refuse


# Two modules of one class share one softened class, which lives as long as the modules do.
_classes: weakref.WeakValueDictionary[Any, type[SoftenedModule]] = weakref.WeakValueDictionary()


def softened_class(original: type[nn.Module], names: tuple[str, ...]) -> type[SoftenedModule]:
    """The subclass of `original` in which `names` are read through their projections."""
    known = _classes.get((original, names))
    if known is None:
        # The name stays: libraries look classes up by name, to place or to save modules.
        known = type(
            original.__name__,
            (SoftenedModule, original),
            {
                "__module__": original.__module__,
                "__qualname__": original.__qualname__,
                "__doc__": original.__doc__,
                "_plain_class": original,
                **{name: property(_reader(name), _refuser(name)) for name in names},
            },
        )
        _classes[original, names] = known
    return known


def _rebuild(original: type[nn.Module], names: tuple[str, ...], make: Any, arguments: tuple[Any, ...]) -> Any:
    """An empty softened module for pickle and copy; its state follows."""
    module = make(*arguments)
    object.__setattr__(module, "_softened", {})
    object.__setattr__(module, "__class__", softened_class(original, names))
    return module


def is_softened(module: nn.Module) -> bool:
    """Whether parameters of this very module are softened."""
    return isinstance(module, SoftenedModule)


def soften_module(module: nn.Module, parts: Mapping[str, Part]) -> None:
    """Make the named parameters of one plain module softened, in place."""
    cls = softened_class(type(module), tuple(parts))
    object.__setattr__(module, "_softened", {name: Entry(part) for name, part in parts.items()})
    try:
        object.__setattr__(module, "__class__", cls)
    except TypeError:
        object.__delattr__(module, "_softened")
        raise


def check_restorable(module: nn.Module) -> None:
    """Raise ValueError if somebody has changed the class of a softened module since."""
    if type(module).__dict__.get("_plain_class") is None:
        raise ValueError(
            f"the class of a softened {plain_class(module).__name__} was changed to "
            f"{type(module).__name__} since: undo that first"
        )


def restore_module(module: nn.Module) -> None:
    """Give a softened module its original class back; the raw parameters stay as they are."""
    object.__setattr__(module, "__class__", plain_class(module))
    object.__delattr__(module, "_softened")


def softened_entries(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, Entry]]:
    """(qualified module name, module, parameter name, entry) of every softened parameter."""
    for path, module in model.named_modules():
        if isinstance(module, SoftenedModule):
            for name, entry in module._softened.items():
                yield path, module, name, entry


def raw_parameter(module: nn.Module, name: str) -> nn.Parameter:
    """The parameter itself, where `getattr(module, name)` gives its projection.

    Args:
        module: any module, softened or plain.
        name: the parameter's name in it, dotted for a child's.

    Raises:
        TypeError: `module` is no module.
        ValueError: it has no such parameter; the message lists those it has.

    >>> from equikernels.group import CyclicGroup
    >>> from equikernels.project import soften
    >>> conv = nn.Conv2d(1, 1, 3)
    >>> weight = conv.weight
    >>> report = soften(conv, CyclicGroup(4), softness=0.5)
    >>> raw_parameter(conv, "weight") is weight, conv.weight is weight
    (True, False)
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    found = dict(module.named_parameters(remove_duplicate=False))
    if name not in found:
        raise ValueError(f"name must be one of {', '.join(found) or '(no parameters)'}, got {name!r}")
    return found[name]


def projected(entry: Entry, raw: Tensor) -> Tensor:
    """The projection as a new plain tensor."""
    with torch.no_grad():
        return entry.part(raw.detach()).clone()
