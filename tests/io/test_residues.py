"""What a residue is, which atom stands for it, and which conformer is kept."""

from __future__ import annotations

import gemmi
import pytest

from kinesphere.io.residues import central_atom, one_conformer, residue_kind


def atoms(*names: str) -> list[gemmi.Atom]:
    """Make atoms one Å apart along x."""
    made = []
    for place, name in enumerate(names):
        atom = gemmi.Atom()
        atom.name = name
        atom.pos = gemmi.Position(float(place), 0.0, 0.0)
        made.append(atom)
    return made


@pytest.mark.parametrize(
    ("name", "held", "kind"),
    [
        ("ALA", ("N", "CA", "C"), "protein"),
        ("SEP", ("CA",), "protein"),
        ("DG", ("P",), "nucleic"),
        ("NAG", ("C1", "C2"), "other"),
        ("CA", ("CA",), "other"),
        # Components that no table has are told by their backbone.
        ("ZZ9", ("N", "CA", "C", "O"), "protein"),
        ("ZZ9", ("C1'", "C3'", "C4'", "O3'"), "nucleic"),
        ("ZZ9", ("C1", "O1"), "other"),
    ],
)
def test_kind_is_by_the_table_else_by_the_backbone(
    name: str, held: tuple[str, ...], kind: str
) -> None:
    assert residue_kind(name, atoms(*held)) == kind


@pytest.mark.parametrize(
    ("kind", "held", "centre"),
    [
        ("protein", ("N", "CA", "C"), 1),
        ("nucleic", ("P", "O5'", "C4'"), 2),
        ("nucleic", ("O5'", "P"), 1),
        ("protein", ("N", "C", "O"), 1),
        ("other", ("CA", "C1", "C2", "C3", "C4"), 2),
    ],
)
def test_central_atom_by_name_else_nearest_the_centroid(
    kind: str, held: tuple[str, ...], centre: int
) -> None:
    assert central_atom(kind, atoms(*held)) == centre


def test_the_conformer_most_occupied_is_kept_and_no_name_is_lost() -> None:
    residue = gemmi.Residue()
    for name, location, occupancy in (
        ("N", "\0", 1.0),
        ("CA", "A", 0.4),
        ("CA", "B", 0.6),
        ("CB", "A", 0.4),
    ):
        (atom,) = atoms(name)
        atom.altloc = location
        atom.occ = occupancy
        residue.add_atom(atom)
    assert [(atom.name, atom.altloc) for atom in one_conformer(residue)] == [
        ("N", "\0"),
        ("CA", "B"),
        ("CB", "A"),
    ]
