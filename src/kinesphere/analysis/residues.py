"""Names for residues and for sets of residues, as a biologist writes them: `A:30-59`."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from kinesphere.io.structure import AtomicModel


def residue_number_label(model: AtomicModel, residue: int) -> str:
    """Give a residue's number with its insertion code, such as `52A`."""
    return f"{model.residue_number[residue]}{str(model.insertion_code[residue]).strip()}"


def residue_spans(model: AtomicModel, residues: Int[np.ndarray, " r"]) -> list[tuple[int, int]]:
    """Compress residue rows into runs that follow each other in one chain.

    Parameters
    ----------
    model
        The model whose residue table is meant.
    residues
        (r,) rows, in any order.

    Returns
    -------
    list of (int, int)
        First and last row of each run.
    """
    rows = np.unique(residues)
    if not len(rows):
        return []
    breaks = (np.diff(rows) > 1) | (model.chain[rows[1:]] != model.chain[rows[:-1]])
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    ends = np.concatenate([starts[1:] - 1, [len(rows) - 1]])
    return [(int(rows[start]), int(rows[end])) for start, end in zip(starts, ends, strict=True)]


def residue_ranges(model: AtomicModel, residues: Int[np.ndarray, " r"]) -> str:
    """Write residue rows as ranges by chain, `A:1-29,60-121 B:5`.

    Parameters
    ----------
    model
        The model whose residue table is meant.
    residues
        (r,) rows.

    Returns
    -------
    str
        Ranges in the order of the model, each chain named once where its ranges follow each other.
    """
    text, previous = "", None
    for first, last in residue_spans(model, residues):
        chain = str(model.chain[first])
        start, end = residue_number_label(model, first), residue_number_label(model, last)
        span = start if first == last else f"{start}-{end}"
        text += f",{span}" if chain == previous else f"{' ' if text else ''}{chain}:{span}"
        previous = chain
    return text
