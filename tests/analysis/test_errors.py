"""Errors of displacements of a run whose motion is linear, and the files that hold them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from kinesphere.analysis.errors import ErrorMeter, displacement_errors, require_latent_errors
from kinesphere.analysis.structures import write_structures
from kinesphere.errors import InputError
from kinesphere.io.structure import AtomicModel, read_models
from kinesphere.motion.base import Unmodelled
from kinesphere.runs.finished_run import LatentTable
from kinesphere.runs.run import Run

N_IMAGES = 60
STD = (0.1, 0.3)
SOME = np.array([41, 3, 58, 4])


class LinearRun(Run):
    """Two half-set models y(z) = y⁰ + z₁·u + z₂·v, in the second of which z₁ has the opposite
    sign."""

    config: dict[str, Any] = {}  # noqa: RUF012 - of the class it stands for
    provenance: dict[str, Any] = {}  # noqa: RUF012
    metrics: dict[str, Any] = {}  # noqa: RUF012
    memberships = np.ones((1, 1))
    reference: Any = None
    unmodelled = Unmodelled(residue_fraction=0.2, floor_angstrom=0.1)

    def __init__(self, path: Path, model: AtomicModel, latents: LatentTable) -> None:
        self.path, self.latents = path, latents
        self.centre_angstrom = np.zeros(3)
        rng = np.random.default_rng(1)
        axes = np.linalg.qr(rng.standard_normal((model.n_residues, 3, 3)))[0]
        self.modes = axes[:, :2].transpose(1, 0, 2) * np.array([3.0, 0.5])[:, None, None]
        vars(self).update(
            model=model, reference=SimpleNamespace(beads=torch.as_tensor(model.centres_angstrom))
        )

    def decode(self, z: np.ndarray, half: int | None = None) -> np.ndarray:
        return self.decode_atoms(z, half)[:, self.model.centre_atom]

    def decode_atoms(self, z: np.ndarray, half: int | None = None) -> np.ndarray:
        signed = z * np.array([-1.0 if half == 2 else 1.0, 1.0])
        return (
            self.model.positions_angstrom
            + np.tensordot(signed, self.modes, 1)[:, self.model.residue_index]
        )

    def structures(self, images: Any) -> np.ndarray:
        latents = zip(self.latents.mean[images], self.latents.half[images], strict=True)
        return np.concatenate([self.decode_atoms(z[None], int(half)) for z, half in latents])

    def residues(self, images: Any) -> np.ndarray:
        return self.structures(images)[:, self.model.centre_atom]


@pytest.fixture
def linear(fake: ModuleType, tmp_path: Path) -> LinearRun:
    """Both half sets see the same states, which lie about zero."""
    rng = np.random.default_rng(2)
    z = rng.standard_normal((N_IMAGES // 2, 2))
    z -= z.mean(axis=0)
    mean = np.stack([z, z * [-1.0, 1.0]], axis=1).reshape(-1, 2)  # half sets take turns
    covariance = np.tile(np.diag(np.square(STD)), (N_IMAGES, 1, 1))
    half = np.tile([1, 2], N_IMAGES // 2)
    latents = LatentTable(
        np.arange(N_IMAGES) + 100, mean.astype(np.float32), covariance.astype(np.float32), half
    )
    (tmp_path / "validation").mkdir()
    return LinearRun(tmp_path, fake.helix_bundle(), latents)


def test_linear_motion_carries_errors_over_exactly(linear: LinearRun) -> None:
    errors = displacement_errors(linear, SOME)
    steps = np.einsum("krx,rx->kr", linear.modes * np.array(STD)[:, None, None], errors.direction)
    assert errors.posterior == pytest.approx(
        np.broadcast_to(np.hypot(*steps), errors.posterior.shape), rel=1e-4
    )
    assert errors.displacement == pytest.approx(
        linear.residues(SOME) - linear.model.centres_angstrom, abs=1e-5
    )
    assert errors.along == pytest.approx((errors.displacement * errors.direction).sum(axis=2))
    assert errors.model == pytest.approx(np.hypot(0.2 * errors.amplitude, 0.1))
    assert not errors.training.any()


def test_images_of_two_half_sets_that_show_the_same_state_agree(linear: LinearRun) -> None:
    errors = displacement_errors(linear, np.array([7, 6]))
    assert np.abs(errors.along).max() > 1.0
    assert errors.along[0] == pytest.approx(errors.along[1], abs=1e-5)


def test_what_half_sets_disagree_about_adds_to_the_total(linear: LinearRun) -> None:
    without = displacement_errors(linear, SOME)
    disagreement = np.full((5, linear.model.n_residues), 0.8)
    np.savez(linear.path / "validation" / "displacement_errors.npz", error_angstrom=disagreement)
    with_it = displacement_errors(linear, SOME)
    assert with_it.training == pytest.approx(0.8 / np.sqrt(2))
    assert with_it.total**2 - without.total**2 == pytest.approx(0.32)


def test_images_measured_one_by_one_are_those_measured_together(
    linear: LinearRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = displacement_errors(linear, SOME)
    monkeypatch.setattr("kinesphere.analysis.ensemble.CHUNK_BYTES", 1)
    meter = ErrorMeter.of(linear)
    for row, image in enumerate(SOME):
        single = meter.measure(np.array([image]))
        assert single.total[0] == pytest.approx(together.total[row])
        assert single.displacement[0] == pytest.approx(together.displacement[row])


@pytest.mark.parametrize("chunk_bytes", [1, 20_000, 10**8])
def test_npz_holds_the_errors_of_the_chosen_images_in_their_order(
    linear: LinearRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    expected = displacement_errors(linear, SOME)
    monkeypatch.setattr("kinesphere.analysis.ensemble.CHUNK_BYTES", chunk_bytes)
    written = write_structures(tmp_path / "some.npz", linear, SOME, ErrorMeter.of(linear))
    assert written.error_angstrom == pytest.approx(np.sqrt(np.mean(expected.total**2)))
    with np.load(tmp_path / "some.npz", allow_pickle=False) as stored:
        assert stored["index"].tolist() == (SOME + 100).tolist()
        assert stored["displacement"] == pytest.approx(expected.displacement, abs=1e-5)
        assert stored["displacement_error"] == pytest.approx(expected.total, rel=1e-5)
        assert stored["direction"] == pytest.approx(expected.direction)
        assert stored["training_error"] == pytest.approx(expected.training)
        assert stored["model_error"] == pytest.approx(expected.model)
        mean = stored["positions"][:, stored["centre_atom"]] - stored["displacement"]
        assert (
            np.ptp(mean, axis=0).max() < 1e-4
        )  # of these two half sets the mean structures are the same
        assert np.array_equal(stored["residue_index"], linear.model.residue_index)


@pytest.mark.parametrize(("name", "digits"), [("some.pdb", 2), ("some.cif", 4)])
def test_models_hold_the_errors_as_b_factors(
    linear: LinearRun, tmp_path: Path, name: str, digits: int
) -> None:
    varied = linear.latents.covariance * np.linspace(0.1, 4.0, N_IMAGES)[:, None, None].astype(
        np.float32
    )
    linear.latents = replace(linear.latents, covariance=varied)
    write_structures(tmp_path / name, linear, SOME, ErrorMeter.of(linear))
    text = (tmp_path / name).read_text()
    assert "standard errors of displacements in angstrom" in text.lower()
    total = displacement_errors(linear, SOME).total[:, linear.model.residue_index]
    assert b_factors(tmp_path / name) == pytest.approx(total, abs=0.51 * 10.0**-digits)
    _, positions = read_models(tmp_path / name)
    assert positions == pytest.approx(linear.structures(SOME), abs=6e-4)


def test_files_without_errors_keep_the_b_factors_of_the_model(
    linear: LinearRun, tmp_path: Path
) -> None:
    vars(linear)["model"] = replace(linear.model, b_factor=np.full(linear.model.n_atoms, 17.0))
    assert write_structures(tmp_path / "some.pdb", linear, SOME).error_angstrom is None
    assert (b_factors(tmp_path / "some.pdb") == 17.0).all()
    assert "standard errors" not in (tmp_path / "some.pdb").read_text().lower()


def b_factors(path: Path) -> np.ndarray:
    """Read the B factors of every model, (n_models, n_atoms)."""
    import gemmi

    return np.array(
        [[site.atom.b_iso for site in model.all()] for model in gemmi.read_structure(str(path))]
    )


def spoilt_by_nan(covariance: np.ndarray) -> np.ndarray:
    covariance[5, 0, 0] = np.nan
    return covariance


@pytest.mark.parametrize(
    ("change", "message"),
    [(np.zeros_like, "is zero throughout"), (spoilt_by_nan, "of particle 105 is not finite")],
)
def test_latents_without_errors_are_refused(
    linear: LinearRun, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    require_latent_errors(linear)
    linear.latents = replace(linear.latents, covariance=change(linear.latents.covariance.copy()))
    with pytest.raises(InputError, match=message):
        require_latent_errors(linear)
