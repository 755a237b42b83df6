"""A wrong domain is wrong, of the same size and chain geometry, and nothing else is touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kinesphere.io.mrc import DensityMap
from kinesphere.io.selection import select_residues
from kinesphere.simulate.ensembles import Ensemble
from kinesphere.simulate.scattering import potential_map
from kinesphere.validation.wrong_model import ComparedDomain, _beyond_right, with_wrong_domain


def test_only_the_domain_is_replaced_and_its_chain_keeps_its_geometry(ensemble: Ensemble) -> None:
    model = ensemble.model
    domain = select_residues("A:122-159", model, "--domain")
    wrong = with_wrong_domain(model, domain, np.random.default_rng(1))
    atoms = domain[model.residue_index]
    assert np.array_equal(wrong.positions_angstrom[~atoms], model.positions_angstrom[~atoms])
    before, after = model.centres_angstrom[domain], wrong.centres_angstrom[domain]
    assert np.allclose(after.mean(axis=0), before.mean(axis=0), atol=1e-6)
    steps = [np.linalg.norm(np.diff(x, axis=0), axis=1) for x in (before, after)]
    assert np.allclose(steps[1], steps[0][::-1], atol=1e-6)
    assert np.sqrt(((after - before) ** 2).sum(axis=1).mean()) > 5.0
    for residue in np.flatnonzero(domain)[:5]:  # residues stay whole
        own = model.residue_index == residue
        inner = [
            np.linalg.norm(x[own] - x[own][0], axis=1)
            for x in (model.positions_angstrom, wrong.positions_angstrom)
        ]
        assert np.allclose(inner[0], inner[1], atol=1e-6)


def test_models_differ_from_one_another_and_follow_from_the_seed(ensemble: Ensemble) -> None:
    domain = select_residues("A:122-159", ensemble.model, "--domain")
    rng = np.random.default_rng(2)
    first, second = (
        with_wrong_domain(ensemble.model, domain, rng).centres_angstrom for _ in range(2)
    )
    assert np.abs(first - second).max() > 5.0
    again = with_wrong_domain(ensemble.model, domain, np.random.default_rng(2)).centres_angstrom
    assert np.array_equal(first, again)


def test_what_resembles_the_right_model_does_not_count_as_resembling_the_wrong_one(
    ensemble: Ensemble,
) -> None:
    model = ensemble.centred().model
    model = replace(model, positions_angstrom=ensemble.centred().positions[0])
    domain = select_residues("A:122-159", model, "--domain")
    wrong = with_wrong_domain(model, domain, np.random.default_rng(3))
    compared = ComparedDomain(domain, finest_angstrom=6.0)
    box, pixel = 48, 2.0
    noise = np.random.default_rng(4).standard_normal((box, box, box))

    def resemblance(share: float) -> float:
        """Of a map in which the wrong domain has this share."""
        parts = [
            potential_map(m.positions_angstrom, m.atomic_number, box, pixel, 60.0)
            for m in (model, wrong)
        ]
        data = (1.0 - share) * parts[0] + share * parts[1]
        data = data + 0.05 * data.std() * noise
        density = DensityMap(data.astype(np.float32), pixel, np.full(3, -pixel * (box // 2)))
        return _beyond_right(density, wrong, model, compared)

    assert abs(resemblance(0.0)) < 0.15
    assert resemblance(0.5) > 0.5
    assert resemblance(1.0) > resemblance(0.5)
