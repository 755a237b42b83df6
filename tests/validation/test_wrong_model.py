"""A wrong domain is wrong, of the same size and chain geometry, and nothing else is touched."""

from __future__ import annotations

import numpy as np

from kinesphere.simulate.ensembles import Ensemble
from kinesphere.simulate.hinges import select_residues
from kinesphere.validation.wrong_model import with_wrong_domain


def test_only_the_domain_is_replaced_and_its_chain_keeps_its_geometry(ensemble: Ensemble) -> None:
    model = ensemble.model
    domain = select_residues("A:122-159", model)
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
            np.linalg.norm(x[own] - x[own][0], axis=1) for x in (model.positions_angstrom, wrong.positions_angstrom)
        ]
        assert np.allclose(inner[0], inner[1], atol=1e-6)


def test_models_differ_from_one_another_and_follow_from_the_seed(ensemble: Ensemble) -> None:
    domain = select_residues("A:122-159", ensemble.model)
    rng = np.random.default_rng(2)
    first, second = (with_wrong_domain(ensemble.model, domain, rng).centres_angstrom for _ in range(2))
    assert np.abs(first - second).max() > 5.0
    again = with_wrong_domain(ensemble.model, domain, np.random.default_rng(2)).centres_angstrom
    assert np.array_equal(first, again)
