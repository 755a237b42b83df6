"""Methods on an atomic model: its residues, ranges that stay apart, restraints that it fulfils."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.fake_run import helix_bundle
from kinesphere.errors import InputError
from kinesphere.io.structure import write_model
from kinesphere.methods.atomic_model import AtomicModelTrainingConfig, RestraintsConfig
from kinesphere.methods.molecule import MODEL_FILE
from kinesphere.methods.segments import Segments, SegmentsOptions, SegmentsTrainingConfig

MODEL = helix_bundle()
CENTRE = MODEL.positions_angstrom.mean(0)


def method(**options: object) -> Segments:
    return Segments(SegmentsOptions(particles=Path("p.star"), model=Path("m.pdb"), **options))  # type: ignore[arg-type]


def test_points_are_the_residues_about_the_centre_of_the_box() -> None:
    reference = method().make_reference(MODEL, CENTRE)
    np.testing.assert_allclose(reference.points.numpy(), MODEL.centres_angstrom - CENTRE, atol=1e-4)
    assert method().source == Path("m.pdb")


@pytest.mark.parametrize(
    ("beads", "count"), [("centroid", MODEL.n_residues), ("atoms", MODEL.n_atoms)]
)
def test_gaussians_are_what_was_asked_for(beads: str, count: int) -> None:
    reference = method(beads=beads).make_reference(MODEL, CENTRE)
    assert len(reference.beads) == count
    assert method(bead_width_angstrom=3.5).width_angstrom(reference) == 3.5


def test_a_range_is_a_domain_of_its_own() -> None:
    plain = method().make_reference(MODEL, CENTRE)
    assert torch.equal(plain.domains, plain.chain)
    ranged = method(ranges=("A:19-36",)).make_reference(MODEL, CENTRE)
    inside = torch.zeros(MODEL.n_residues, dtype=torch.bool)
    inside[18:36] = True
    (number,) = ranged.domains[inside].unique()
    assert not bool((ranged.domains[~inside] == number).any())
    assert torch.equal(ranged.chain, plain.chain)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_model_itself_costs_nothing_and_a_torn_chain_what_its_weight_says(
    weight: float,
) -> None:
    training = SegmentsTrainingConfig(restraints=RestraintsConfig(continuity_weight=weight))
    chosen = method(training=training)
    reference = chosen.make_reference(MODEL, CENTRE)
    restraints = chosen.make_restraints(reference)
    torn = reference.points.clone()
    torn[50:] += 3.0
    energy = restraints.energy(torch.stack([reference.points, torn]))
    assert float(energy[0]) == pytest.approx(0.0, abs=1e-6)
    assert (float(energy[1]) > 1.0) == (weight > 0)


def test_a_run_folder_gives_the_model_back(tmp_path: Path) -> None:
    write_model(tmp_path / MODEL_FILE, MODEL)
    molecule = method().load(tmp_path, CENTRE)
    assert molecule.model.n_atoms == MODEL.n_atoms
    np.testing.assert_allclose(
        molecule.reference.points.numpy(), MODEL.centres_angstrom - CENTRE, atol=2e-3
    )


def test_numbers_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(InputError, match="--bead-width-angstrom"):
        replace(method().options, bead_width_angstrom=0.0).require_sensible()
    for name in ("continuity_weight", "clash_weight"):
        restraints = RestraintsConfig(**{name: -1.0})
        with pytest.raises(InputError, match=f"--{name.replace('_', '-')}"):
            AtomicModelTrainingConfig(restraints=restraints).require_sensible()
    method().options.require_sensible()
