"""Sets of residues as a user names them, `A:1-29,60-121 B:5`: one grammar, read and written here.

    selection = group { " " group }
    group     = item { "," item }
    item      = chain | chain ":" span | span
    span      = residue [ "-" residue ]
    residue   = [ "-" ] digits [ insertion code ]

An item is a whole chain, or residues of one. A span without a chain, as in `A:1-29,60-121`, belongs
to the chain of the residues before it in its group; where there are none, it is the name of a chain
(`1,2` are two chains). Within a chain, residues are ordered by their number, and among those of one
number the one without an insertion code comes first: `A:52-52B` holds 52, 52A and 52B, `A:52` only
the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Int

from kinesphere.errors import InputError
from kinesphere.io.structure import AtomicModel

_RESIDUE = r"-?\d+[A-Za-z]?"
_SPAN = re.compile(rf"(?P<first>{_RESIDUE})(-(?P<last>{_RESIDUE}))?")
_ITEM = re.compile(rf"((?P<whole>[^:]+)|(?P<chain>[^:]*):(?P<span>{_SPAN.pattern}))")
_AFTER_ALL_CODES = "~"
_FORM = "Write residues as A:1-29,60-121, one as B:5, a whole chain as C"


@dataclass(frozen=True, order=True)
class ResidueNumber:
    """A residue's number in its chain, ordered as along the chain."""

    number: int
    insertion_code: str = ""

    def __str__(self) -> str:
        """Write it as in `52A`."""
        return f"{self.number}{self.insertion_code}"


@dataclass(frozen=True)
class ResidueRange:
    """Residues of one chain: from a first to a last, both included, or all where these are None."""

    chain: str
    first: ResidueNumber | None = None
    last: ResidueNumber | None = None

    def __str__(self) -> str:
        """Write it as in `A:1-29`, `A:5` or `A`."""
        return f"{self.chain}:{self.span}" if self.span else self.chain

    @property
    def span(self) -> str:
        """The residues without their chain; nothing for a whole chain."""
        if self.first is None:
            return ""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    def mask(
        self, model: AtomicModel, *, with_insertions: bool = False
    ) -> Bool[np.ndarray, " n_residues"]:
        """Return which residues of a model these are, (n_residues,); on request also those inserted
        after a last residue that is given without an insertion code.
        """
        inside: Bool[np.ndarray, " n_residues"] = model.chain == self.chain
        if self.first is None or self.last is None:
            return inside
        last_code = _AFTER_ALL_CODES if with_insertions else ""
        last = ResidueNumber(self.last.number, self.last.insertion_code or last_code)
        return inside & np.array(
            [
                self.first <= ResidueNumber(number, code.strip()) <= last
                for number, code in zip(
                    model.residue_number.tolist(), model.insertion_code.tolist(), strict=True
                )
            ],
            dtype=bool,
        )


def parse_selection(text: str, option: str, remedy: str = _FORM) -> tuple[ResidueRange, ...]:
    """Read a selection.

    Parameters
    ----------
    text
        As in the grammar above; spaces around commas are allowed.
    option
        What the user gave it with, for messages.
    remedy
        What to do where it cannot be read.

    Returns
    -------
    tuple of ResidueRange
        In the order of the text; `format_selection` writes them.

    Raises
    ------
    InputError
        If the text, or an item of it, is not in the grammar.
    """
    ranges: list[ResidueRange] = []
    for group in re.sub(r"\s*,\s*", ",", text.strip()).split() or [""]:
        chain: str | None = None
        for item in group.split(","):
            bare = _SPAN.fullmatch(item) if chain is not None else None
            match = bare or _ITEM.fullmatch(item)
            if match is None:
                raise InputError(option, f"'{item}' names no residues", remedy)
            if bare is None:
                chain = match["chain"]
            if chain is None:
                ranges.append(ResidueRange(match["whole"]))
                continue
            first = _residue_number(match["first"])
            last = _residue_number(match["last"]) if match["last"] else first
            ranges.append(ResidueRange(chain, first, last))
    return tuple(ranges)


def format_selection(ranges: Iterable[ResidueRange]) -> str:
    """Write ranges as a selection, `A:1-29,60-121 B:5`; a chain is named once where its residues
    follow each other.
    """
    text = ""
    previous: ResidueRange | None = None
    for part in ranges:
        if previous is None:
            text = str(part)
        elif part.span and previous.span and part.chain == previous.chain:
            text += f",{part.span}"
        else:
            text += f" {part}"
        previous = part
    return text


def select_residues(
    text: str, model: AtomicModel, option: str, remedy: str | None = None
) -> Bool[np.ndarray, " n_residues"]:
    """Find the residues of a model that a selection names.

    Parameters
    ----------
    text
        Such as `A:122-159,B:7,C`.
    model
        Whose residues are meant.
    option
        What the user gave the text with, for messages.
    remedy
        What to do where it cannot be read or an item holds no residue.

    Returns
    -------
    ndarray
        (n_residues,) True for the residues named.

    Raises
    ------
    InputError
        If the text has another form, or an item of it holds no residue of the model.
    """
    chosen = np.zeros(model.n_residues, dtype=bool)
    for part in parse_selection(text, option, remedy or _FORM):
        inside = part.mask(model)
        if not inside.any():
            raise InputError(
                option,
                f"the model has no residues '{part}'",
                remedy or "Name chains and residues of the model",
            )
        chosen |= inside
    return chosen


def label_residues(
    model: AtomicModel, selections: Sequence[str], option: str
) -> Int[np.ndarray, " n_residues"]:
    """Divide a model into domains that a user names, and what is left of each chain.

    Parameters
    ----------
    model
        The model.
    selections
        One a domain, such as `A:1-120`; of two that overlap the later holds the residue.
    option
        What the user gave them with, for messages.

    Returns
    -------
    ndarray
        (n_residues,) number of the domain of each residue, counted from 0 along the model. Each
        stretch of residues that follow each other in one selection, and each piece of a chain that
        is in none, is a domain of its own. Residues inserted after the last of a range go with it:
        `A:1-82` holds 82A.

    Raises
    ------
    InputError
        If a text is no range of residues, or holds no residue of the model.
    """
    label = np.array([f"chain {name}" for name in model.chain.tolist()], dtype=object)
    for text in selections:
        remedy = "Write chain and residues as A:1-120"
        ranges = parse_selection(text, option, remedy)
        if all(part.first is not None and part.first == part.last for part in ranges):
            raise InputError(option, f"'{text}' is not a residue range", remedy)
        inside = np.any([part.mask(model, with_insertions=True) for part in ranges], axis=0)
        if not inside.any():
            raise InputError(
                option,
                f"'{text}' holds no residue of the model",
                "Check chain and residue numbers",
            )
        label[inside] = text
    starts = np.array([True, *(one != other for one, other in pairwise(label.tolist()))])
    return np.cumsum(starts) - 1


def residue_number_label(model: AtomicModel, residue: int) -> str:
    """Give a residue's number with its insertion code, such as `52A`."""
    return str(_number_of(model, residue))


def format_residues(model: AtomicModel, residues: Int[np.ndarray, " r"]) -> str:
    """Write rows of a model's residue table as a selection, `A:1-29,60-121 B:5`.

    Parameters
    ----------
    model
        The model whose residue table is meant.
    residues
        (r,) rows, in any order.

    Returns
    -------
    str
        Runs of rows that follow each other in one chain, in the order of the model. Where numbers
        grow along each chain, `select_residues` finds these residues and no others.
    """
    return format_selection(
        ResidueRange(str(model.chain[first]), _number_of(model, first), _number_of(model, last))
        for first, last in _runs(model, residues)
    )


def _runs(model: AtomicModel, residues: Int[np.ndarray, " r"]) -> list[tuple[int, int]]:
    """First and last row of each run of residues that follow each other in one chain."""
    rows = np.unique(residues)
    if not len(rows):
        return []
    breaks = (np.diff(rows) > 1) | (model.chain[rows[1:]] != model.chain[rows[:-1]])
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    ends = np.concatenate([starts[1:] - 1, [len(rows) - 1]])
    return [(int(rows[start]), int(rows[end])) for start, end in zip(starts, ends, strict=True)]


def _number_of(model: AtomicModel, residue: int) -> ResidueNumber:
    return ResidueNumber(
        int(model.residue_number[residue]), str(model.insertion_code[residue]).strip()
    )


def _residue_number(text: str) -> ResidueNumber:
    """Split `52A` into number and insertion code."""
    if text[-1].isdigit():
        return ResidueNumber(int(text))
    return ResidueNumber(int(text[:-1]), text[-1])
