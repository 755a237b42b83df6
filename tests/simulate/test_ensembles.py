"""Ensembles move what they should, as far as they should, and nothing breaks on the way."""

from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np
import pytest

from helpers.simulated import residue_centres
from kinesphere.io.structure import write_model
from kinesphere.simulate.ensembles import (
    OPEN_FILE,
    Ensemble,
    _bundled,
    adenylate_kinase,
    ensemble_from_files,
)
from kinesphere.simulate.rigid_path import Screw


@pytest.fixture(scope="module")
def kinase() -> Ensemble:
    return adenylate_kinase(11)


def test_bundled_structures_are_adenylate_kinase(kinase: Ensemble) -> None:
    sequence = gemmi.one_letter_code(kinase.model.residue_name.tolist())
    assert sequence.startswith("MRIILLGAPGAGKGTQAQFI")
    assert sequence.endswith("VRADLEKILG")
    assert len(sequence) == 214
    assert gemmi.one_letter_code(_bundled(OPEN_FILE).residue_name.tolist()) == sequence
    assert kinase.model.n_atoms == 1656


def test_path_begins_closed_and_ends_open(kinase: Ensemble) -> None:
    centres = residue_centres(kinase)
    assert np.allclose(kinase.positions[0], kinase.model.positions_angstrom)
    opened = _bundled(OPEN_FILE)
    target = opened.positions_angstrom[opened.centre_atom]
    assert np.allclose(
        Screw.superposing(target, centres[-1]).apply(target, 1.0), centres[-1], atol=1e-6
    )
    whole = Screw.superposing(target, centres[-1]).apply(opened.positions_angstrom, 1.0)
    assert np.allclose(whole, kinase.positions[-1], atol=1e-6)
    # 7.1 Å is the CA RMSD of 1AKE and 4AKE after their best superposition (Müller et al. 1996).
    superposed = Screw.superposing(centres[-1], centres[0]).apply(centres[-1], 1.0)
    assert np.sqrt(((superposed - centres[0]) ** 2).sum(axis=1).mean()) == pytest.approx(
        7.1, abs=0.1
    )


def test_states_from_several_files_and_models(kinase: Ensemble, tmp_path: Path) -> None:
    write_model(tmp_path / "series.cif", kinase.model, kinase.positions[:3])
    write_model(tmp_path / "last.pdb", kinase.model, kinase.positions[-1])
    ensemble = ensemble_from_files([tmp_path / "series.cif", tmp_path / "last.pdb"])
    assert np.allclose(ensemble.coordinate[:, 0], [0, 1 / 3, 2 / 3, 1])
    assert np.allclose(ensemble.positions, kinase.positions[[0, 1, 2, -1]], atol=0.001)


def test_centred_ensemble_has_its_residues_around_zero(kinase: Ensemble) -> None:
    assert np.allclose(residue_centres(kinase.centred()).mean(axis=(0, 1)), 0)
