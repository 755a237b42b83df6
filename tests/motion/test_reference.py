"""From an atomic model to what moves and what is rendered: electrons, owners, insertion codes,
chains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kinesphere.errors import InputError
from kinesphere.io.structure import AtomicModel, read_model
from kinesphere.motion.reference import build_reference

# alanine 1, glycine 52 and 52A (insertion code), then chain B with one serine; heme iron near
# residue 52A, zinc near B
ATOMS = (
    ("ATOM", "N", "ALA", "A", "1 ", (0.0, 0.0, 0.0), "N"),
    ("ATOM", "CA", "ALA", "A", "1 ", (1.5, 0.0, 0.0), "C"),
    ("ATOM", "CB", "ALA", "A", "1 ", (2.0, 1.4, 0.0), "C"),
    ("ATOM", "CA", "GLY", "A", "52 ", (5.3, 0.0, 0.0), "C"),
    ("ATOM", "O", "GLY", "A", "52 ", (5.3, 1.2, 0.0), "O"),
    ("ATOM", "CA", "GLY", "A", "52A", (9.1, 0.0, 0.0), "C"),
    ("ATOM", "O", "GLY", "A", "52A", (9.1, 1.2, 0.0), "O"),
    ("ATOM", "CA", "SER", "B", "1 ", (30.0, 0.0, 0.0), "C"),
    ("ATOM", "OG", "SER", "B", "1 ", (31.0, 1.0, 0.0), "O"),
    ("ATOM", "H", "SER", "B", "1 ", (30.5, -0.9, 0.0), "H"),
    ("HETATM", "FE", "HEM", "A", "90 ", (9.0, 4.0, 0.0), "FE"),
    ("HETATM", "ZN", "ZN", "B", "91 ", (29.0, 5.0, 0.0), "ZN"),
)
CENTRE = np.array([10.0, 0.0, 0.0])


def pdb_line(
    serial: int, atom: tuple[str, str, str, str, str, tuple[float, float, float], str]
) -> str:
    record, name, residue, chain, number, (x, y, z), element = atom
    padded = f" {name:<3}" if len(element) == 1 else f"{name:<4}"
    insertion = number[-1] if number[-1].isalpha() else " "
    place = f"{residue:>3} {chain}{number.rstrip('ABC '):>4}{insertion}"
    return (
        f"{record:<6}{serial:>5} {padded} {place}   {x:8.3f}{y:8.3f}{z:8.3f}  1.00 20.00    "
        f"      {element:>2}\n"
    )


@pytest.fixture
def model(tmp_path: Path) -> AtomicModel:
    path = tmp_path / "model.pdb"
    path.write_text(
        "".join(pdb_line(i + 1, atom) for i, atom in enumerate(ATOMS)) + "END\n", encoding="utf-8"
    )
    return read_model(path)


def test_every_polymer_residue_is_a_point_at_its_central_atom(model: AtomicModel) -> None:
    reference = build_reference(model, CENTRE, source="model.pdb")
    expected = torch.tensor([[-8.5, 0, 0], [-4.7, 0, 0], [-0.9, 0, 0], [20.0, 0, 0]])
    torch.testing.assert_close(reference.points, expected)
    assert [model.insertion_code[i] for i in reference.residue.tolist()] == ["", "", "A", ""]
    assert [int(model.residue_number[i]) for i in reference.residue.tolist()] == [1, 52, 52, 1]


def test_chains_are_domains(model: AtomicModel) -> None:
    assert build_reference(model, CENTRE, source="model.pdb").domains.tolist() == [0, 0, 0, 1]


def test_ranges_of_the_user_are_domains(model: AtomicModel) -> None:
    labels = np.arange(model.n_residues)
    reference = build_reference(model, CENTRE, source="model.pdb", domain_of_residue=labels)
    assert reference.domains.tolist() == labels[reference.residue.numpy()].tolist()


def test_ligands_and_ions_ride_with_the_nearest_residue(model: AtomicModel) -> None:
    reference = build_reference(model, CENTRE, source="model.pdb")
    owner = {
        str(name): int(o) for name, o in zip(model.atom_name, reference.atom_owner, strict=True)
    }
    assert (owner["FE"], owner["ZN"]) == (2, 3)
    assert owner["CB"] == 0
    torch.testing.assert_close(
        reference.atoms.double(),
        torch.from_numpy(model.positions_angstrom - CENTRE),
        atol=1e-5,
        rtol=0,
    )


@pytest.mark.parametrize("placement", ["centroid", "centre", "atoms"])
def test_beads_hold_the_electrons_of_their_atoms(model: AtomicModel, placement: str) -> None:
    reference = build_reference(model, CENTRE, source="model.pdb", placement=placement)  # type: ignore[arg-type]
    electrons = torch.zeros(4).index_add(0, reference.bead_owner, reference.amplitude)
    hydrogen = 0.0 if placement == "atoms" else 1.0
    expected = torch.tensor([7 + 6 + 6.0, 6 + 8.0, 6 + 8 + 26.0, 6 + 8 + 30.0 + hydrogen])
    torch.testing.assert_close(electrons, expected)


def test_a_bead_lies_at_the_centroid_of_its_electrons(model: AtomicModel) -> None:
    reference = build_reference(model, CENTRE, source="model.pdb")
    alanine = (
        7 * np.array([0, 0, 0]) + 6 * np.array([1.5, 0, 0]) + 6 * np.array([2.0, 1.4, 0])
    ) / 19 - CENTRE
    np.testing.assert_allclose(reference.beads[0].numpy(), alanine, atol=1e-5)


def test_atoms_as_beads_leave_out_hydrogen(model: AtomicModel) -> None:
    reference = build_reference(model, CENTRE, source="model.pdb", placement="atoms")
    assert len(reference.beads) == len(ATOMS) - 1
    assert 1.0 not in reference.amplitude.tolist()


def test_a_model_without_polymer_is_refused(model: AtomicModel) -> None:
    ions = model.select(model.atom_name == "ZN")
    with pytest.raises(InputError, match="model.pdb.*no amino acid or nucleotide"):
        build_reference(ions, CENTRE, source="model.pdb")
