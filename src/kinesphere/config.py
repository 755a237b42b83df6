"""Configuration as frozen dataclasses, written to YAML and read back with every value checked
against its type.
"""

from __future__ import annotations

import dataclasses
import difflib
import numbers
import types
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    SupportsFloat,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import yaml

from kinesphere.errors import InputError
from kinesphere.runtime import atomic_write

CONFIG_KEY = "config"
_LINE_BREAKS = frozenset("\x85\u2028\u2029")

ConfigT = TypeVar("ConfigT")

ADVANCED = "advanced"
Advanced = Annotated[ConfigT, ADVANCED]
"""Marks a field, or a group of fields, that few users set: `tolerance: Advanced[float] = 0.02`.
`--help` leaves it out, `--help-all` lists it."""


class _MismatchError(ValueError):
    """A value does not fit its field; the dotted field name goes in front of the problem."""

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.field = field
        self.problem = problem
        self.remedy = remedy


class _Dumper(yaml.SafeDumper):
    """Quotes text with Unicode's line breaks so that they are escaped: unescaped, reading folds
    them into spaces.
    """

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = '"' if _LINE_BREAKS.intersection(data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


def save_yaml(config: Any, path: Path, **extras: Any) -> None:
    """Write a configuration, and what else should stand beside it.

    Parameters
    ----------
    config
        An instance of a dataclass; it comes under the key `config`.
    path
        The file, replaced as a whole.
    **extras
        Further top-level entries, such as the command, versions, input hashes and the seed:
        numbers, text, paths, dataclasses, and sequences and mappings of these.
    """
    document = {
        CONFIG_KEY: to_plain(config),
        **{key: to_plain(value) for key, value in extras.items()},
    }
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yaml.dump(document, file, _Dumper, sort_keys=False, allow_unicode=True, width=120)


def load_yaml(cls: type[ConfigT], path: Path) -> ConfigT:
    """Read back the configuration that `save_yaml` wrote.

    Parameters
    ----------
    cls
        The dataclass to fill in; fields that the file leaves out take their defaults.
    path
        A YAML file with the fields under the key `config`.

    Returns
    -------
    ConfigT
        An instance of `cls`, nested dataclasses and tuples included.

    Raises
    ------
    InputError
        Where the file is missing or no YAML, or a field is unknown, missing or of another type; it
        names the field.
    """
    document = load_document(path)
    if CONFIG_KEY not in document:
        raise InputError(
            path,
            f"has no entry {CONFIG_KEY!r}",
            "Give a file that kinesphere wrote, such as run.yaml",
        )
    try:
        return _read_dataclass(cls, document[CONFIG_KEY], "")
    except _MismatchError as error:
        raise InputError(
            path, f"{error.field or CONFIG_KEY}: {error.problem}", error.remedy
        ) from error


def load_document(path: Path) -> dict[str, Any]:
    """Read a YAML file's top-level entries as plain values, unchecked: the configuration and what
    stands beside it.

    Raises
    ------
    InputError
        Where the file is missing, is not YAML, or holds something other than named entries.
    """
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(path, "does not exist", "Check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            path, f"cannot be read ({error})", "Check that it is a text file you may read"
        ) from error
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise InputError(path, f"is not valid YAML ({where})", "Correct that line") from error
    if not isinstance(document, dict):
        raise InputError(
            path, "holds no named entries", "Give a file that kinesphere wrote, such as run.yaml"
        )
    return document


def to_plain(value: Any) -> Any:
    """Reduce a value to what YAML and JSON hold: dataclasses to mappings, tuples to lists, paths to
    text.

    Raises
    ------
    TypeError
        Where there is no plain form, which is a fault of the caller.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> bool | int | float | str | None:
    """Reduce a scalar, NumPy's included (they are registered with the abstract number types), to a
    built-in one.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(f"{type(value).__name__} has no plain form for a configuration file")


def _read_dataclass(cls: type[ConfigT], value: Any, field: str) -> ConfigT:
    """Fill in a dataclass from a mapping."""
    if not isinstance(value, dict):
        raise _MismatchError(
            field, f"{value!r} is not a group of fields", f"Give the fields of {cls.__name__}"
        )
    types_by_name = get_type_hints(cls)
    fields = {item.name: item for item in dataclasses.fields(cls) if item.init}  # type: ignore[arg-type]
    for name in value:
        if name not in fields:
            raise _MismatchError(
                _join(field, str(name)), "is not a known field", _suggest(str(name), fields)
            )
    for name, item in fields.items():
        has_default = (
            item.default is not dataclasses.MISSING
            or item.default_factory is not dataclasses.MISSING
        )
        if name not in value and not has_default:
            raise _MismatchError(_join(field, name), "is missing", "Add it")
    read = {
        name: _read(types_by_name[name], item, _join(field, name)) for name, item in value.items()
    }
    try:
        return cls(**read)
    except ValueError as error:  # what __post_init__ rejects
        raise _MismatchError(field, str(error), "Change the value") from error


def _read(expected: Any, value: Any, field: str) -> Any:
    """Check one value against the type of its field, and turn it into that type."""
    origin = get_origin(expected)
    arguments = get_args(expected)
    if expected is Any:
        return value
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        return _read_dataclass(expected, value, field)
    if origin in {Union, types.UnionType}:
        return _read_union(arguments, value, field)
    if origin is Literal:
        return _read_choice(arguments, value, field)
    if origin in {tuple, list}:
        return _read_sequence(origin, arguments, value, field)
    if origin is dict:
        return _read_mapping(arguments, value, field)
    return _read_scalar(expected, value, field)


def _read_union(alternatives: tuple[Any, ...], value: Any, field: str) -> Any:
    """Take the first alternative that fits; the error of a sole alternative to None is kept, since
    it says more.
    """
    mismatches = []
    for alternative in alternatives:
        try:
            return _read(alternative, value, field)
        except _MismatchError as error:
            if alternative is not types.NoneType:
                mismatches.append(error)
    if len(mismatches) == 1:
        raise mismatches[0]
    problem = f"{value!r} is none of: {', '.join(_type_name(item) for item in alternatives)}"
    raise _MismatchError(field, problem, "Give a value of one of these kinds")


def _read_choice(choices: tuple[Any, ...], value: Any, field: str) -> Any:
    """Check that a value is one of a few; True is not taken for 1."""
    for choice in choices:
        if choice == value and type(choice) is type(value):
            return choice
    named = ", ".join(map(str, choices))
    raise _MismatchError(field, f"{value!r} is not one of the choices", f"Use one of: {named}")


def _read_sequence(kind: type, arguments: tuple[Any, ...], value: Any, field: str) -> Any:
    """Check a list, or a tuple of fixed or open length, item by item."""
    if not isinstance(value, list):
        raise _MismatchError(field, f"{value!r} is not a list", "Write it as [first, second]")
    is_open = kind is list or (len(arguments) == 2 and arguments[1] is Ellipsis)
    if not is_open and len(value) != len(arguments):
        raise _MismatchError(
            field, f"has {len(value)} values, not {len(arguments)}", "Give all of them"
        )
    expected = [arguments[0]] * len(value) if is_open else list(arguments)
    items = zip(expected, value, strict=True)
    return kind(
        _read(item_type, item, f"{field}[{row}]") for row, (item_type, item) in enumerate(items)
    )


def _read_mapping(arguments: tuple[Any, ...], value: Any, field: str) -> dict[Any, Any]:
    """Check the keys and the values of a mapping."""
    if not isinstance(value, dict):
        raise _MismatchError(
            field, f"{value!r} is not a set of named values", "Write it as name: value"
        )
    key_type, item_type = arguments
    return {
        _read(key_type, key, field): _read(item_type, item, _join(field, str(key)))
        for key, item in value.items()
    }


def _read_scalar(expected: Any, value: Any, field: str) -> Any:
    """Check a number, text, truth value or path."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if expected is float and is_number:
        return float(value)
    if expected is float and isinstance(value, str):
        return _read_number(value, field)
    if expected is Path and isinstance(value, str):
        return Path(value)
    if type(value) is expected:
        return value
    raise _MismatchError(field, f"{value!r} is not {_type_name(expected)}", "Change the value")


def _read_number(text: str, field: str) -> float:
    """Read 1e-3, which YAML 1.1 takes for text because it has no decimal point."""
    try:
        return float(text)
    except ValueError as error:
        raise _MismatchError(
            field, f"{text!r} is not {_type_name(float)}", "Change the value"
        ) from error


def _type_name(expected: Any) -> str:
    """Name a type as a user would."""
    if get_origin(expected) is Literal:
        return " or ".join(repr(choice) for choice in get_args(expected))
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        Path: "a path",
    }
    if expected is types.NoneType:
        return "empty"
    return names.get(expected) or str(getattr(expected, "__name__", expected))


def _join(field: str, name: str) -> str:
    """Extend a dotted field name."""
    return f"{field}.{name}" if field else name


def _suggest(name: str, known: dict[str, Any]) -> str:
    """Offer the nearest known field name, or all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"Perhaps {near[0]} was meant" if near else f"Known fields: {', '.join(known)}"


def require_positive(**values: SupportsFloat | None) -> None:
    """Refuse options, named as their fields, that are given and not above zero.

    Raises
    ------
    InputError
        Naming the first of them.
    """
    for name, value in values.items():
        if value is not None and not float(value) > 0:
            raise InputError(_option(name), f"{value} cannot be used", "Give a number above zero")


def require_not_negative(**values: SupportsFloat) -> None:
    """Refuse options, named as their fields, that are below zero or no number.

    Raises
    ------
    InputError
        Naming the first of them.
    """
    for name, value in values.items():
        if not float(value) >= 0:
            raise InputError(_option(name), f"{value} cannot be used", "Give zero or more")


def _option(field_name: str) -> str:
    return f"--{field_name.replace('_', '-')}"
