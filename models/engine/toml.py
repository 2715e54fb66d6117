"""Typed configurations as TOML: frozen dataclasses to text and back, exactly.

Fields are bool, int, float, str, Literal, tuples of these, dataclasses, and any of them or None. TOML has no
None: a field that is None is left out, so its default must be None.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from equikernels.models.engine.errors import ConfigurationError

__all__ = ["from_table", "read_table", "to_toml"]

T = TypeVar("T")

_ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}


# -- writing -------------------------------------------------------------------------------------------------


def to_toml(configuration: Any) -> str:
    """The text of a configuration: its own fields first, then a table for each dataclass in it.

    Raises:
        TypeError: a value that none of the supported types describes.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Optimizer:
    ...     learning_rate: float = 1e-5
    ...     clip: float | None = None
    >>> print(to_toml(Optimizer()), end="")
    learning_rate = 1e-05
    """
    lines: list[str] = []
    _write_table(configuration, "", lines)
    return "\n".join(lines).strip("\n") + "\n"


def _write_table(configuration: Any, prefix: str, lines: list[str]) -> None:
    values = [(field.name, getattr(configuration, field.name)) for field in dataclasses.fields(configuration)]
    lines += [
        f"{name} = {_text(value)}"
        for name, value in values
        if value is not None and not dataclasses.is_dataclass(value)
    ]
    for name, value in values:
        if dataclasses.is_dataclass(value):
            lines += ["", f"[{prefix}{name}]"]
            _write_table(value, f"{prefix}{name}.", lines)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return '"' + "".join(_escaped(character) for character in value) + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_text, value)) + "]"
    raise TypeError(f"a configuration cannot hold {value!r} of type {type(value).__name__}")


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return f"\\u{ord(character):04x}" if ord(character) < 32 or ord(character) == 127 else character


# -- reading -------------------------------------------------------------------------------------------------


def read_table(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        ConfigurationError: it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: no TOML file: {error}") from error


def from_table(kind: type[T], table: Mapping[str, Any], source: str, default: T | None = None) -> T:
    """A configuration of type `kind` from a table as TOML reads it.

    Args:
        kind: a dataclass; of a generic one its parametrization, such as ``RunConfiguration[Sizes]``.
        source: what errors name, the file.
        default: gives the values of absent keys; without it the fields' own defaults do.

    Raises:
        ConfigurationError: an unknown or mistyped key, a missing one without a default, a value that the
            dataclass refuses.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Optimizer:
    ...     learning_rate: float = 1e-5
    >>> from_table(Optimizer, {"learning_rate": 1}, "run.toml")
    Optimizer(learning_rate=1.0)
    >>> from_table(Optimizer, {"learning_rat": 1}, "run.toml")
    Traceback (most recent call last):
    equikernels...ConfigurationError: run.toml: unknown key learning_rat: did you mean learning_rate?
    """
    return typing.cast(T, _read_table(kind, table, source, "", default))


def _read_table(kind: Any, table: Mapping[str, Any], source: str, prefix: str, default: Any) -> Any:
    plain: Any = typing.get_origin(kind) or kind
    parameters = dict(zip(getattr(plain, "__parameters__", ()), typing.get_args(kind), strict=True))
    annotations = typing.get_type_hints(plain)
    fields = {field.name: field for field in dataclasses.fields(plain)}
    for key in table:
        if key not in fields:
            close = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {prefix}{close[0]}?" if close else f"expected one of {', '.join(fields)}"
            raise ConfigurationError(f"{source}: unknown key {prefix}{key}: {hint}")
    values = {} if default is None else {name: getattr(default, name) for name in fields}
    for name, field in fields.items():
        annotation = annotations[name]
        annotation = parameters.get(annotation, annotation)
        if name in table:
            values[name] = _value(table[name], annotation, source, prefix + name, values.get(name))
        elif name not in values and _is_required(field):
            raise ConfigurationError(f"{source}: the key {prefix}{name} is missing")
    try:
        return plain(**values)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{source}: {prefix}{error}") from error


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _value(value: Any, annotation: Any, source: str, key: str, default: Any) -> Any:
    """A value as its annotation wants it; integers are numbers, arrays become tuples."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        (annotation,) = (argument for argument in arguments if argument is not type(None))
        return _value(value, annotation, source, key, default)
    if dataclasses.is_dataclass(origin or annotation):
        if isinstance(value, dict):
            return _read_table(annotation, value, source, f"{key}.", default)
        raise _mistyped(source, key, "a table", value)
    if origin is typing.Literal:
        if value in arguments and type(value) in map(type, arguments):
            return value
        raise _mistyped(source, key, "one of " + ", ".join(map(repr, arguments)), value)
    if origin is tuple:
        return _tuple(value, arguments, source, key)
    if annotation is float and type(value) is int:
        return float(value)
    if annotation in _NAMES and type(value) is annotation:
        return value
    if annotation in _NAMES:
        raise _mistyped(source, key, _NAMES[annotation], value)
    raise TypeError(f"{key}: a configuration cannot have a field of type {annotation}")


def _tuple(value: Any, arguments: tuple[Any, ...], source: str, key: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _mistyped(source, key, "an array", value)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(value) != len(arguments):
        raise _mistyped(source, key, f"an array of {len(arguments)} values", value)
    return tuple(
        _value(item, annotation, source, f"{key}[{position}]", None)
        for position, (item, annotation) in enumerate(zip(value, arguments, strict=True))
    )


def _mistyped(source: str, key: str, expected: str, value: object) -> ConfigurationError:
    return ConfigurationError(f"{source}: {key}: expected {expected}, got {value!r}")
