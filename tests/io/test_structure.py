"""Atomic models come back as they were written, with everything a cryo-EM model may hold."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import gemmi
import numpy as np
import pytest

from kinesphere.errors import InputError
from kinesphere.io.structure import AtomicModel, match_atoms, read_model, read_models, write_model

SUFFIXES = (".pdb", ".cif", ".ent.gz", ".cif.gz")

# Two chains; a phosphoserine, nucleotides, an insertion code, two conformers, a point mutation, a
# hydrogen, a sugar, an ion with the name of an alpha carbon, a water, and a residue without its
# alpha carbon.
MIXED = """\
ATOM      1  N   ALA A  51      -1.458   0.000   0.000  1.00 10.00           N
ATOM      2  CA  ALA A  51       0.000   0.000   0.000  1.00 11.00           C
ATOM      3  C   ALA A  51       0.551   1.420   0.000  1.00 12.00           C
ATOM      4  HA  ALA A  51      -0.360  -0.510   0.890  1.00 12.00           H
ATOM      5  N   LYS A  51A      1.458   2.000   0.000  1.00 10.00           N
ATOM      6  CA ALYS A  51A      2.000   3.000   0.000  0.30 11.00           C
ATOM      7  CA BLYS A  51A      2.500   3.000   0.000  0.70 11.00           C
ATOM      8  CB ALYS A  51A      2.000   4.000   0.000  0.30 11.00           C
HETATM    9  N   SEP A  52       5.458   2.000   0.000  1.00 10.00           N
HETATM   10  CA  SEP A  52       6.000   3.000   0.000  1.00 11.00           C
HETATM   11  P   SEP A  52       7.000   3.000   0.000  1.00 11.00           P
ATOM     12  N  AVAL A  53       8.458   2.000   0.000  0.40 10.00           N
ATOM     13  CA AVAL A  53       9.000   3.000   0.000  0.40 11.00           C
ATOM     14  N  BTHR A  53       8.458   2.000   1.000  0.60 10.00           N
ATOM     15  CA BTHR A  53       9.000   3.000   1.000  0.60 11.00           C
ATOM     16  N   GLY A  54      11.000   3.000   1.000  1.00 11.00           N
ATOM     17  C   GLY A  54      12.000   3.000   1.000  1.00 11.00           C
ATOM     18  O   GLY A  54      14.000   3.000   1.000  1.00 11.00           O
TER
ATOM     19  P     G B   1      20.000   0.000   0.000  1.00 20.00           P
ATOM     20  C4'   G B   1      21.000   0.000   0.000  1.00 20.00           C
ATOM     21  P     C B   2      25.000   0.000   0.000  1.00 20.00           P
TER
HETATM   22  C1  NAG A 301      30.000   0.000   0.000  1.00 20.00           C
HETATM   23  C2  NAG A 301      31.000   0.000   0.000  1.00 20.00           C
HETATM   24  C3  NAG A 301      32.500   0.000   0.000  1.00 20.00           C
HETATM   25 CA    CA A 302      40.000   0.000   0.000  1.00 20.00          CA
HETATM   26  O   HOH A 401      50.000   0.000   0.000  1.00 20.00           O
END
"""


@pytest.fixture
def mixed(tmp_path: Path) -> AtomicModel:
    (tmp_path / "mixed.pdb").write_text(MIXED)
    return read_model(tmp_path / "mixed.pdb")


def _random_walk(n_residues: int, chain: str = "A", atoms_per_residue: int = 1) -> AtomicModel:
    """Residues that begin with their CA; further atoms are carbons C1, C2, …"""
    n_atoms = n_residues * atoms_per_residue
    names = ["CA", *(f"C{number}" for number in range(1, atoms_per_residue))]
    return AtomicModel(
        positions_angstrom=np.random.default_rng(1).uniform(-90, 90, size=(n_atoms, 3)),
        atomic_number=np.full(n_atoms, 6),
        atom_name=np.tile(names, n_residues),
        alt_loc=np.full(n_atoms, ""),
        residue_index=np.repeat(np.arange(n_residues), atoms_per_residue),
        b_factor=np.full(n_atoms, 25.0),
        occupancy=np.ones(n_atoms),
        residue_name=np.full(n_residues, "ALA"),
        chain=np.full(n_residues, chain),
        insertion_code=np.full(n_residues, ""),
        residue_number=np.arange(n_residues) + 1,
        residue_kind=np.full(n_residues, "protein"),
        centre_atom=np.arange(n_residues) * atoms_per_residue,
    )


def _assert_same(found: AtomicModel, expected: AtomicModel) -> None:
    assert np.abs(found.positions_angstrom - expected.positions_angstrom).max() <= 0.00051
    for field in fields(AtomicModel):
        if field.name != "positions_angstrom":
            assert np.array_equal(getattr(found, field.name), getattr(expected, field.name)), (
                field.name
            )


def test_residues_and_their_kinds(mixed: AtomicModel) -> None:
    labels = [mixed.residue_label(row) for row in range(mixed.n_residues)]
    kinds = dict(zip(labels, mixed.residue_kind.tolist(), strict=True))
    assert kinds == {
        "A/ALA 51": "protein",
        "A/LYS 51A": "protein",
        "A/SEP 52": "protein",
        "A/THR 53": "protein",
        "A/GLY 54": "protein",
        "A/NAG 301": "other",
        "A/CA 302": "other",
        "B/G 1": "nucleic",
        "B/C 2": "nucleic",
    }
    assert mixed.is_polymer.sum() == 7


def test_central_atoms(mixed: AtomicModel) -> None:
    by_label = {
        mixed.residue_label(row): mixed.atom_name[mixed.centre_atom[row]]
        for row in range(mixed.n_residues)
    }
    assert by_label["A/SEP 52"] == "CA"
    assert by_label["B/G 1"] == "C4'"
    assert by_label["B/C 2"] == "P"
    assert by_label["A/GLY 54"] == "C"  # no CA: nearest the centroid
    assert by_label["A/NAG 301"] == "C2"


def test_conformer_with_the_highest_occupancy_and_no_atom_lost(mixed: AtomicModel) -> None:
    lysine = np.flatnonzero(mixed.residue_index == 1)
    assert mixed.atom_name[lysine].tolist() == ["N", "CA", "CB"]
    assert mixed.alt_loc[lysine].tolist() == ["", "B", "A"]
    assert mixed.positions_angstrom[lysine[1], 0] == 2.5


def test_hydrogens_stay_and_waters_go(mixed: AtomicModel) -> None:
    assert (mixed.atomic_number == 1).sum() == 1
    assert "HOH" not in mixed.residue_name


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip(mixed: AtomicModel, tmp_path: Path, suffix: str) -> None:
    write_model(tmp_path / f"out{suffix}", mixed)
    _assert_same(read_model(tmp_path / f"out{suffix}"), mixed)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mixed.pdb", f"out{suffix}"]


@pytest.mark.parametrize("name", ["adk", "igg", "null"])
def test_round_trip_of_real_models(
    shared_data: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    model = read_model(shared_data(name) / "model.pdb")
    for suffix in (".pdb", ".cif.gz"):
        write_model(tmp_path / f"out{suffix}", model)
        _assert_same(read_model(tmp_path / f"out{suffix}"), model)


def test_gemmi_reads_the_same_atoms_from_what_is_written(
    mixed: AtomicModel, tmp_path: Path
) -> None:
    write_model(tmp_path / "out.cif", mixed)
    structure = gemmi.read_structure(str(tmp_path / "out.cif"))
    sites = [
        (a.chain.name, str(a.residue.seqid), a.atom.name, a.atom.pos.x) for a in structure[0].all()
    ]
    assert ("A", "51A", "CA", 2.5) in sites
    assert len(sites) == mixed.n_atoms


def test_long_chain_names_need_mmcif(tmp_path: Path) -> None:
    model = _random_walk(5, chain="AaB1")
    write_model(tmp_path / "out.cif", model)
    _assert_same(read_model(tmp_path / "out.cif"), model)
    with pytest.raises(InputError, match=r"AaB1.*\.cif"):
        write_model(tmp_path / "out.pdb", model)
    assert not (tmp_path / "out.pdb").exists()


@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_more_atoms_than_pdb_serials(tmp_path: Path, suffix: str) -> None:
    model = _random_walk(10_050, atoms_per_residue=10)
    write_model(tmp_path / f"big{suffix}", model)
    _assert_same(read_model(tmp_path / f"big{suffix}"), model)


def test_coordinates_too_large_for_pdb(tmp_path: Path) -> None:
    model = _random_walk(3).with_positions(
        np.array([[0.0, 0, -1000], [12345.678, 0, 0], [1, 1, 1]])
    )
    with pytest.raises(InputError, match="too large"):
        write_model(tmp_path / "out.pdb", model)
    write_model(tmp_path / "out.cif", model)
    _assert_same(read_model(tmp_path / "out.cif"), model)


@pytest.mark.parametrize("suffix", [".pdb", ".cif.gz"])
def test_series_of_models(mixed: AtomicModel, tmp_path: Path, suffix: str) -> None:
    series = mixed.positions_angstrom + np.array([0.0, 1.5, -2.25])[:, None, None]
    write_model(tmp_path / f"series{suffix}", mixed, series)
    model, positions = read_models(tmp_path / f"series{suffix}")
    _assert_same(model, mixed.with_positions(series[0]))
    assert np.abs(positions - series).max() <= 0.00051
    assert read_model(tmp_path / f"series{suffix}").n_atoms == mixed.n_atoms


def test_models_with_other_atoms_are_refused(tmp_path: Path) -> None:
    lines = [line for line in MIXED.splitlines() if line.startswith(("ATOM", "HETATM"))]
    second = [line for line in lines if " CB ALYS" not in line]
    text = ["MODEL        1", *lines, "ENDMDL", "MODEL        2", *second, "ENDMDL", "END"]
    (tmp_path / "two.pdb").write_text("\n".join(text) + "\n")
    with pytest.raises(InputError, match=r"model 2: lacks atom CB of A/LYS 51A"):
        read_models(tmp_path / "two.pdb")


def test_atoms_are_matched_by_name_not_by_order(mixed: AtomicModel, tmp_path: Path) -> None:
    shuffled = [line for line in MIXED.splitlines() if line.startswith("ATOM")][::-1]
    rest = [line for line in MIXED.splitlines() if line.startswith("HETATM")]
    (tmp_path / "shuffled.pdb").write_text("\n".join([*shuffled, *rest]) + "\n")
    found = match_atoms(mixed, read_model(tmp_path / "shuffled.pdb"), "shuffled.pdb")
    assert np.array_equal(found, mixed.positions_angstrom)


def test_selection_renumbers_and_keeps_a_centre(mixed: AtomicModel) -> None:
    heavy = mixed.select((mixed.atomic_number > 1) & (mixed.atom_name != "CA"))
    # The ion's only atom is called CA too, so its residue goes.
    assert heavy.n_residues == mixed.n_residues - 1
    assert np.array_equal(heavy.residue_index[heavy.centre_atom], np.arange(heavy.n_residues))
    assert heavy.atom_name[heavy.centre_atom[0]] == "N"
    everything = mixed.select(np.ones(mixed.n_atoms, dtype=bool))
    _assert_same(everything, mixed)


def test_suffix_need_not_tell_the_format(tmp_path: Path) -> None:
    (tmp_path / "model.pdb1.gz").write_bytes(gzip.compress(MIXED.encode()))
    assert read_model(tmp_path / "model.pdb1.gz").n_residues == 9


def test_unusable_models_are_refused_by_name(tmp_path: Path) -> None:
    ligand_only = "\n".join(
        line for line in MIXED.splitlines() if "NAG" in line or " CA A 302" in line
    )
    cases = {
        "empty.pdb": ("", "is empty"),
        "no_atoms.pdb": ("HEADER    NOTHING\nEND\n", "no atoms"),
        "ligand.pdb": (ligand_only, "no protein or nucleic residue"),
        "nan.pdb": (
            MIXED.replace("   6.000   3.000", "     nan   3.000"),
            "atom CA of A/SEP 52 has no finite",
        ),
        "broken.cif": ("data_x\nloop_\n_atom_site.id\n'unterminated", "cannot be read"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=words) as caught:
            read_model(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such file"):
        read_model(tmp_path / "absent.pdb")
    with pytest.raises(InputError, match="not a format"):
        write_model(tmp_path / "out.xyz", _random_walk(3))


def test_electrons_are_those_of_the_atoms_that_are_there(mixed: AtomicModel) -> None:
    number = mixed.atomic_number.copy()
    number[:2] = 0
    occupancy = mixed.occupancy.copy()
    occupancy[1:3] = 0.0
    model = replace(mixed, atomic_number=number, occupancy=occupancy)
    expected = np.concatenate([[6.0, 0.0, 0.0], mixed.atomic_number[3:]])
    np.testing.assert_array_equal(model.electrons, expected)
    np.testing.assert_array_equal(model.nuclear_charge[:3], [6.0, 6.0, mixed.atomic_number[2]])
