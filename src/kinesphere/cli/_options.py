"""The options of a command, read from its dataclass: what its help page and completion are made
from.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from kinesphere.config import ADVANCED

_POSITIONAL = get_args(tyro.conf.Positional[str])[1:]  # what tyro adds to such a type


@dataclass(frozen=True)
class Option:
    """One option of a command, or one of the arguments that come without a name.

    Parameters
    ----------
    name
        The field's.
    annotation
        Type of its value, with what `Annotated` adds.
    default
        Its value where the user gives none; `dataclasses.MISSING` where one has to be given.
    help
        What it means.
    is_advanced
        Whether only `--help-all` lists it.
    """

    name: str
    annotation: Any
    default: Any
    help: str
    is_advanced: bool

    @property
    def is_positional(self) -> bool:
        """Whether its value stands alone, without a name before it."""
        return any(mark in _POSITIONAL for mark in _marks(self.annotation))

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value: naming it is enough."""
        return bool in self._types()

    @property
    def flags(self) -> tuple[str, ...]:
        """What the user writes: --name, and --no-name for a switch."""
        if self.is_positional:
            return ()
        words = self.name.replace("_", "-")
        return (f"--{words}", f"--no-{words}") if self.is_switch else (f"--{words}",)

    @property
    def choices(self) -> tuple[str, ...]:
        """The values it may have, where they are few and known."""
        return tuple(str(kind) for kind in self._types() if not isinstance(kind, type))

    @property
    def is_path(self) -> bool:
        """Whether its values are files or folders."""
        return Path in self._types()

    @property
    def takes_several(self) -> bool:
        """Whether more than one value may follow."""
        return get_origin(_unwrapped(self.annotation)) is tuple

    def _types(self) -> tuple[Any, ...]:
        """Types that one value may have; for a choice, the values themselves."""
        return tuple(_alternatives(self.annotation))


def options_of(options_class: type) -> tuple[Option, ...]:
    """List the options of a command, those of its groups of settings included.

    Parameters
    ----------
    options_class
        The command's dataclass. A field that is a dataclass itself is a group, whose options need
        no prefix.
    """
    return tuple(_options(options_class, None, is_advanced=False))


def common_only(options: tuple[Option, ...]) -> type:
    """Make a dataclass of the options that are not advanced, for a help page of one list."""
    return _make([_field(option) for option in options if not option.is_advanced], "")


def in_groups(group: type, defaults: Any = None) -> type:
    """Make a dataclass of all options in their groups, for the help page that lists them all.

    It differs from the command's own in that its help texts are free of the source's line breaks.

    Parameters
    ----------
    group
        The command's dataclass, or that of a group in it.
    defaults
        An instance of it with the options' defaults, where there is one.
    """
    members: list[Any] = []
    for item in _fields(group, defaults):
        if isinstance(item, Option):
            members.append(_field(item))
        else:
            inner = in_groups(item.kind, item.defaults)
            kind = _annotated(inner, *item.marks)
            members.append((item.name, kind, field(default_factory=inner)))
    return _make(members, group.__doc__ or "")


@dataclass(frozen=True)
class _Group:
    """Options that stand together: a field that is a dataclass itself."""

    name: str
    kind: type
    defaults: Any
    marks: tuple[Any, ...]


def _fields(group: type, defaults: Any) -> Iterator[Option | _Group]:
    """Go through the fields of a group; `defaults` is an instance of it, or None."""
    hints = get_type_hints(group, include_extras=True)
    docs = _docs(group)
    for item in dataclasses.fields(group):
        annotation = hints[item.name]
        default = getattr(defaults, item.name, _default(item))
        kind, marks = _unwrapped(annotation), _marks(annotation)
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            inner = None if default is dataclasses.MISSING else default
            yield _Group(item.name, kind, inner, marks)
        else:
            told = [mark.help for mark in marks if getattr(mark, "help", None)]
            text = told[0] if told else docs.get(item.name, "")
            yield Option(item.name, annotation, default, text, ADVANCED in marks)


def _field(option: Option) -> tuple[str, Any, Any]:
    """Describe a field to `make_dataclass`."""
    described = _annotated(option.annotation, tyro.conf.arg(help=option.help))
    return option.name, described, field(default=option.default)


def _make(members: list[Any], docstring: str) -> type:
    namespace = {"__doc__": docstring}
    made = dataclasses.make_dataclass("Options", members, kw_only=True, namespace=namespace)
    return tyro.conf.configure(tyro.conf.OmitArgPrefixes)(made)


def _options(group: type, defaults: Any, *, is_advanced: bool) -> Iterator[Option]:
    """Go through the options of a group and of those in it: first what has to be given, then the
    group's own, then those of its groups, the most special first.
    """
    members = list(_fields(group, defaults))
    own = [item for item in members if isinstance(item, Option)]
    for item in sorted(own, key=lambda option: option.default is not dataclasses.MISSING):
        yield dataclasses.replace(item, is_advanced=is_advanced or item.is_advanced)
    for inner in reversed([item for item in members if isinstance(item, _Group)]):
        is_hidden = is_advanced or ADVANCED in inner.marks
        yield from _options(inner.kind, inner.defaults, is_advanced=is_hidden)


def _default(item: dataclasses.Field[Any]) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return item.default


def _docs(group: type) -> dict[str, str]:
    """Read the docstrings of a dataclass's fields from its source, inherited ones included."""
    docs = {}
    for parent in reversed(group.__mro__):
        if not dataclasses.is_dataclass(parent):
            continue
        try:
            source = textwrap.dedent(inspect.getsource(parent))
        except OSError:  # a class made at run time has none
            continue
        (definition,) = ast.parse(source).body
        if not isinstance(definition, ast.ClassDef):
            continue
        for statement, after in pairwise(definition.body):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                docs[statement.target.id] = " ".join(str(after.value.value).split())
    return docs


def _unwrapped(annotation: Any) -> Any:
    """Take what `Annotated` adds off a type."""
    return annotation.__origin__ if get_origin(annotation) is Annotated else annotation


def _annotated(kind: Any, *marks: Any) -> Any:
    """Add marks to a type."""
    return Annotated[(kind, *marks)] if marks else kind


def _marks(annotation: Any) -> tuple[Any, ...]:
    """List what `Annotated` adds to a type."""
    return annotation.__metadata__ if get_origin(annotation) is Annotated else ()


def _alternatives(annotation: Any) -> Iterator[Any]:
    """Go through the types that a value may have, and the values of a choice; None is left out."""
    kind = _unwrapped(annotation)
    if get_origin(kind) in {Union, types.UnionType, tuple}:
        for part in get_args(kind):
            yield from _alternatives(part)
    elif get_origin(kind) is Literal:
        yield from get_args(kind)
    elif isinstance(kind, type) and kind is not types.NoneType:
        yield kind
