"""Copies in an atomic model: identical chains are found by number and name, others are not, and
what one copy lacks leaves a gap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kinesphere.io.selection import label_residues
from kinesphere.io.structure import AtomicModel, read_model
from kinesphere.motion.copies import Copies, find_copies
from kinesphere.motion.reference import build_reference

NAMES = np.array(["ALA", "GLY", "SER", "LEU", "LYS", "GLU", "PHE", "VAL"])
LENGTH = 100


def sequence(seed: int, length: int = LENGTH) -> list[str]:
    """Draw residue names."""
    return NAMES[np.random.default_rng(seed).integers(len(NAMES), size=length)].tolist()


def model_of(**chains: dict[str, str]) -> AtomicModel:
    """Make a model of one atom a residue from the numbers and names of each chain's residues."""
    labels = [label for residues in chains.values() for label in residues]
    n = len(labels)
    return AtomicModel(
        positions_angstrom=np.random.default_rng(0).normal(size=(n, 3)),
        atomic_number=np.full(n, 6),
        atom_name=np.full(n, "CA"),
        alt_loc=np.full(n, ""),
        residue_index=np.arange(n),
        b_factor=np.zeros(n),
        occupancy=np.ones(n),
        residue_name=np.array([name for residues in chains.values() for name in residues.values()]),
        chain=np.array([chain for chain, residues in chains.items() for _ in residues]),
        insertion_code=np.array([label.lstrip("0123456789") for label in labels]),
        residue_number=np.array([int(label.rstrip("ABC")) for label in labels]),
        residue_kind=np.full(n, "protein"),
        centre_atom=np.arange(n),
    )


def chain_of(seed: int, *, first: int = 1, without: range = range(0)) -> dict[str, str]:
    """Number a drawn sequence, and leave out some numbers."""
    named = enumerate(sequence(seed), start=first)
    return {str(number): name for number, name in named if number not in without}


def copies_in(model: AtomicModel, ranges: tuple[str, ...] = ()) -> Copies | None:
    rows = np.arange(model.n_residues)
    return find_copies(model, rows, label_residues(model, ranges, "--ranges"))


def families_in(model: AtomicModel, ranges: tuple[str, ...] = ()) -> list[int]:
    """List the family of each domain, domains in the order of the model."""
    copies = copies_in(model, ranges)
    labels = label_residues(model, ranges, "--ranges")
    if copies is None:
        return list(range(labels.max() + 1))
    return [int(copies.family[np.flatnonzero(labels == one)[0]]) for one in np.unique(labels)]


def test_chains_of_one_sequence_are_copies() -> None:
    model = model_of(A=chain_of(1), B=chain_of(2), C=chain_of(1), D=chain_of(2), E=chain_of(3))
    copies = copies_in(model)
    assert copies is not None
    assert copies.family.tolist() == np.repeat([0, 1, 0, 1, 2], LENGTH).tolist()
    assert copies.place.tolist() == [*range(LENGTH)] * 5


def test_a_molecule_without_copies_has_none() -> None:
    assert copies_in(model_of(A=chain_of(1), B=chain_of(2))) is None
    assert copies_in(model_of(A=chain_of(1))) is None


def test_residues_that_one_copy_lacks_leave_a_gap() -> None:
    """Whichever of them comes first in the model, and where each lacks what the other has."""
    gap = range(41, 51)
    whole = chain_of(1)
    gapped = chain_of(1, without=gap)
    other_gap = chain_of(1, without=range(91, 99))
    for chains in ((gapped, whole), (whole, gapped), (gapped, other_gap)):
        copies = copies_in(model_of(A=chains[0], B=chains[1]))
        assert copies is not None
        assert not copies.family.any()
        numbers = [int(number) for residues in chains for number in residues]
        assert copies.place.tolist() == [number - 1 for number in numbers]


def test_a_jump_in_the_numbers_of_all_copies_is_no_gap() -> None:
    """Antibodies are numbered by a scheme: numbers are left out and inserted with the chain
    whole."""
    labels = ["1", "2", "52", "52A", "52B", "53", "60"]
    chain = dict(zip(labels, sequence(1), strict=False))
    copies = copies_in(model_of(A=chain, B=chain))
    assert copies is not None
    assert copies.place.tolist() == [*range(7), *range(7)]


def test_numbers_that_do_not_grow_are_taken_in_the_order_of_the_chain() -> None:
    """In thrombin 1A comes before 1. Without one copy that has all, no common order is known."""
    labels = ["1B", "1A", *map(str, range(1, 40))]
    chain = dict(zip(labels, sequence(1), strict=False))
    short = {label: name for label, name in chain.items() if label != "20"}
    shorter = {label: name for label, name in chain.items() if label != "30"}
    copies = copies_in(model_of(A=short, B=chain))
    assert copies is not None
    assert copies.place.tolist() == [place for place in range(41) if place != 21] + [*range(41)]
    assert copies_in(model_of(A=short, B=shorter)) is None


@pytest.mark.parametrize(("n_missing", "alike"), [(20, True), (21, False)])
def test_copies_share_four_fifths_of_their_numbers(n_missing: int, alike: bool) -> None:  # noqa: FBT001
    short = chain_of(1, without=range(30, 30 + n_missing))
    assert (families_in(model_of(A=short, B=chain_of(1))) == [0, 0]) == alike


@pytest.mark.parametrize(("n_mutated", "alike"), [(5, True), (6, False)])
def test_copies_share_all_but_a_twentieth_of_their_names(n_mutated: int, alike: bool) -> None:  # noqa: FBT001
    mutated = {
        number: "TRP" if int(number) <= n_mutated else name for number, name in chain_of(1).items()
    }
    assert (families_in(model_of(A=chain_of(1), B=mutated)) == [0, 0]) == alike


def test_equal_sequences_with_other_numbers_are_not_recognised() -> None:
    assert families_in(model_of(A=chain_of(1), B=chain_of(1, first=101))) == [0, 1]


@pytest.mark.parametrize(
    ("ranges", "families"),
    [
        (("A:1-40", "B:1-40"), [0, 1, 0, 1]),
        (("A:1-90",), [0, 1, 2]),  # that B has the rest, too, is not for want of resolution
        (("A:1-40", "B:1-42"), [0, 1, 2, 3]),
        (("A:31-60", "B:31-60"), [0, 1, 2, 0, 1, 2]),
    ],
)
def test_ranges_are_copies_where_they_are_the_same_residues(
    ranges: tuple[str, ...], families: list[int]
) -> None:
    assert families_in(model_of(A=chain_of(1), B=chain_of(1)), ranges) == families


def test_a_range_is_a_copy_of_one_with_unresolved_residues() -> None:
    model = model_of(A=chain_of(1), B=chain_of(1, without=range(38, 43)))
    assert families_in(model, ("A:1-40", "B:1-40")) == [0, 1, 0, 1]


def test_ligands_are_no_part_of_a_chains_sequence() -> None:
    chain = chain_of(1)
    model = model_of(A={**chain, "200": "HEM"}, B=chain)
    kind = np.where(model.residue_name == "HEM", "other", "protein")
    reference = build_reference(replace(model, residue_kind=kind), np.zeros(3), source="m.pdb")
    assert reference.copies is not None
    assert torch.equal(reference.copies.place, torch.arange(LENGTH).repeat(2))


def test_none_has_every_domain_alone() -> None:
    copies = Copies.none(torch.tensor([4, 4, 4, 1, 7, 7]))
    assert copies.family.tolist() == [0, 0, 0, 1, 2, 2]
    assert copies.place.tolist() == [0, 1, 2, 0, 0, 1]


@pytest.mark.parametrize(
    ("name", "families"), [("igg4", [0, 1, 0, 1]), ("cct", [*range(8), *range(8)])]
)
def test_an_antibody_has_two_of_each_chain_and_a_chaperonin_two_of_each_subunit(
    shared_data: Callable[[str], Path], name: str, families: list[int]
) -> None:
    assert families_in(read_model(shared_data(name) / "model.pdb")) == families
