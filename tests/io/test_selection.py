"""Residues as a user names them: what is written is read back, and what is read means what it
says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinesphere.errors import InputError
from kinesphere.io.selection import (
    ResidueNumber,
    ResidueRange,
    format_residues,
    format_selection,
    label_residues,
    parse_selection,
    select_residues,
)
from kinesphere.io.structure import AtomicModel

NUMBERS = st.builds(
    ResidueNumber, st.integers(-20, 9999), st.sampled_from(["", "", "", "A", "B", "z"])
)
# Chains that look like residues are among them.
CHAINS = st.text("AbZ059-_.", min_size=1, max_size=4)
RANGES = st.one_of(
    st.builds(ResidueRange, CHAINS),
    st.builds(ResidueRange, st.one_of(CHAINS, st.just("")), NUMBERS, NUMBERS),
    NUMBERS.map(lambda number: ResidueRange("A", number, number)),
)


def chains(**residues: list[str]) -> AtomicModel:
    """Make a model of one atom a residue from the numbers of each chain's residues."""
    names = [name for name, numbers in residues.items() for _ in numbers]
    labels = [label for numbers in residues.values() for label in numbers]
    n = len(labels)
    return AtomicModel(
        positions_angstrom=np.zeros((n, 3)),
        atomic_number=np.full(n, 6),
        atom_name=np.full(n, "CA"),
        alt_loc=np.full(n, ""),
        residue_index=np.arange(n),
        b_factor=np.zeros(n),
        occupancy=np.ones(n),
        residue_name=np.full(n, "ALA"),
        chain=np.array(names),
        insertion_code=np.array([label.lstrip("-0123456789") for label in labels]),
        residue_number=np.array([int(label.rstrip("ABC")) for label in labels]),
        residue_kind=np.full(n, "protein"),
        centre_atom=np.arange(n),
    )


MODEL = chains(A=["-1", "1", "1A", "1B", "2"], B=["1", "5"], C5=["7"])


@given(st.lists(RANGES, min_size=1, max_size=6))
def test_what_is_written_is_read_back(ranges: list[ResidueRange]) -> None:
    assert parse_selection(format_selection(ranges), "--x") == tuple(ranges)


@given(st.sets(st.integers(0, MODEL.n_residues - 1), min_size=1))
def test_rows_of_a_model_are_found_again(rows: set[int]) -> None:
    text = format_residues(MODEL, np.array(sorted(rows)))
    assert set(np.flatnonzero(select_residues(text, MODEL, "--x")).tolist()) == rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("A:-1-1A", [0, 1, 2]),
        ("A:1B,A:2", [3, 4]),
        ("A:1B,2", [3, 4]),
        ("A:1", [1]),
        ("A", [0, 1, 2, 3, 4]),
        ("A:-20-0", [0]),
        ("A:2 B:1 C5", [4, 5, 7]),
        (" A:2 , 1A, B:1-9 ", [2, 4, 5, 6]),
        ("C5:7,B", [5, 6, 7]),
    ],
)
def test_residues_with_insertion_codes_and_negative_numbers(text: str, rows: list[int]) -> None:
    assert np.flatnonzero(select_residues(text, MODEL, "--x")).tolist() == rows


def test_a_number_is_a_chain_where_no_residues_come_before_it() -> None:
    numbered = replace(MODEL, chain=np.array(["1", "1", "1", "2", "2", "3", "3", "3"]))
    assert np.flatnonzero(select_residues("1,2", numbered, "--x")).tolist() == [0, 1, 2, 3, 4]
    assert np.flatnonzero(select_residues("1:-1,1 2", numbered, "--x")).tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize("text", ["", "A:", "A:x", "A:1-", "A:1,,2", "A:1-2-3", "A:1:2", "A:1AB"])
def test_other_forms_are_refused_with_the_option(text: str) -> None:
    with pytest.raises(InputError, match="^--x: '.*' names no residues. Write residues as A:1-29"):
        parse_selection(text, "--x")


def test_items_without_residues_are_named() -> None:
    with pytest.raises(InputError, match="^--x: the model has no residues 'A:9-12'. Name chains"):
        select_residues("A:1-2,9-12", MODEL, "--x")
    with pytest.raises(InputError, match="^--x: the model has no residues 'Z'. Look again"):
        select_residues("Z", MODEL, "--x", "Look again")


def test_domains_are_ranges_and_the_pieces_of_chain_left_over() -> None:
    assert label_residues(MODEL, [], "--x").tolist() == [0, 0, 0, 0, 0, 1, 1, 2]
    assert label_residues(MODEL, ["A:1-1A"], "--x").tolist() == [0, 1, 1, 2, 2, 3, 3, 4]
    assert label_residues(MODEL, ["A:-1-1"], "--x").tolist() == [0, 0, 0, 0, 1, 2, 2, 3]
    assert label_residues(MODEL, ["A:1-2", "A:2-9,B:1"], "--x").tolist() == [
        *(0, 1, 1, 1, 2),
        *(2, 3, 4),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A:1", "'A:1' is not a residue range. Write chain and residues as A:1-120"),
        ("A:1-x", "names no residues. Write chain and residues as A:1-120"),
        ("Q:1-20", "'Q:1-20' holds no residue of the model. Check chain and residue numbers"),
    ],
)
def test_domains_that_cannot_be_meant(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        label_residues(MODEL, [text], "--ranges")
