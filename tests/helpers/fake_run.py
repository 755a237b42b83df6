"""A finished run whose motion is known exactly: segments that turn about given hinges in proportion
to the latents."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kinesphere.io.structure import AtomicModel
from kinesphere.runs.finished_run import LatentTable

# Radius (Å), angle (degrees) and height (Å) of the backbone atoms of an ideal α-helix against its
# CA.
HELIX_ATOMS = {
    "N": (1.55, -27.5, -0.9),
    "CA": (2.28, 0.0, 0.0),
    "C": (1.68, 26.5, 1.1),
    "O": (2.03, 21.0, 2.3),
}
RESIDUES_A_HELIX = 18


def helix_bundle(n_helices: int = 8, chains: str = "AAAAAABB") -> AtomicModel:
    """Lay antiparallel helices side by side in two rows."""
    places, names, residue_of, chain, number = [], [], [], [], []
    for h in range(n_helices):
        axis = np.array([10.0 * (h // 2), 10.0 * (h % 2), 0.0])
        up = 1 if h % 2 == 0 else -1
        for i in range(RESIDUES_A_HELIX):
            for name, (radius, angle, height) in HELIX_ATOMS.items():
                phi = np.radians(up * (100.0 * i + angle))
                z = up * (1.5 * (i - RESIDUES_A_HELIX / 2) + height)
                places.append(axis + np.array([radius * np.cos(phi), radius * np.sin(phi), z]))
                names.append(name)
                residue_of.append(len(chain))
            chain.append(chains[h])
            number.append(1 + sum(c == chains[h] for c in chain[:-1]))
    n_atoms, n_residues = len(names), len(chain)
    return AtomicModel(
        positions_angstrom=np.array(places),
        atomic_number=np.array([{"N": 7, "O": 8}.get(name, 6) for name in names]),
        atom_name=np.array(names),
        alt_loc=np.array([""] * n_atoms),
        residue_index=np.array(residue_of),
        b_factor=np.zeros(n_atoms),
        occupancy=np.ones(n_atoms),
        residue_name=np.array(["ALA"] * n_residues),
        chain=np.array(chain),
        insertion_code=np.array([""] * n_residues),
        residue_number=np.array(number),
        residue_kind=np.array(["protein"] * n_residues),
        centre_atom=np.arange(n_residues) * len(HELIX_ATOMS) + 1,
    )


@dataclass(frozen=True)
class Hinge:
    """A segment turns about an axis through a point by so many degrees for each unit of one latent
    dimension."""

    segment: int
    latent: int
    degrees: float
    axis: tuple[float, float, float]
    point: tuple[float, float, float]


@dataclass(frozen=True)
class FakeRun:
    """Offers what `kinesphere.runs.finished_run.FinishedRun` asks for."""

    path: Path
    model: AtomicModel
    memberships: np.ndarray
    hinges: tuple[Hinge, ...]
    latents: LatentTable
    config: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, np.ndarray] = field(default_factory=dict)

    def _move(self, points: np.ndarray, segment: np.ndarray, z: np.ndarray) -> np.ndarray:
        moved = np.repeat(points[None], len(z), axis=0)
        for hinge in self.hinges:
            angle = np.radians(hinge.degrees * z[:, hinge.latent])
            rotation = Rotation.from_rotvec(angle[:, None] * np.array(hinge.axis)).as_matrix()
            rows = segment == hinge.segment
            moved[:, rows] = (moved[:, rows] - hinge.point) @ rotation.transpose(
                0, 2, 1
            ) + hinge.point
        return moved

    def decode(self, z: np.ndarray) -> np.ndarray:
        return self._move(self.model.centres_angstrom, self.memberships.argmax(axis=1), z)

    def decode_atoms(self, z: np.ndarray) -> np.ndarray:
        segment = self.memberships.argmax(axis=1)[self.model.residue_index]
        return self._move(self.model.positions_angstrom, segment, z)

    def structures(self, images: np.ndarray) -> np.ndarray:
        return self.decode_atoms(self.latents.mean[images])

    def displacements(self, points: np.ndarray, images: np.ndarray) -> np.ndarray:
        nearest = np.linalg.norm(points[:, None] - self.model.centres_angstrom, axis=2).argmin(
            axis=1
        )
        segment = self.memberships.argmax(axis=1)[nearest]
        return self._move(points, segment, self.latents.mean[images]) - points


def two_populations(n: int, n_latents: int, seed: int) -> LatentTable:
    """Particles around +1 (two thirds) and -1 along the first latent; the other dimensions are
    narrow."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(0.0, 0.3, (n, n_latents))
    mean[:, 0] += np.where(rng.random(n) < 2 / 3, 1.0, -1.0)
    covariance = np.tile(0.01 * np.eye(n_latents), (n, 1, 1))
    return LatentTable(np.arange(n), mean, covariance, np.zeros(n, int))


def training_metrics(n_epochs: int, seed: int) -> dict[str, np.ndarray]:
    """A loss that falls and levels off."""
    epoch = np.arange(1, n_epochs + 1)
    noise = np.random.default_rng(seed).normal(0.0, 0.004, (2, n_epochs))
    loss = 0.62 + 0.3 * np.exp(-epoch / 5)
    return {
        "epoch": epoch.astype(float),
        "loss": loss + noise[0],
        "correlation": 1 - loss + noise[1] / 2,
        "seconds": np.full(n_epochs, 3.2),
    }


def hinge_run(folder: Path, n: int = 2000) -> FakeRun:
    """A bundle of eight helices in four segments, of which the third (A:73-108) swings and the
    others hold still.

    It turns by 15° for each unit of the first latent about y, and by 2° for each unit of the second
    about x.
    """
    model = helix_bundle()
    segment = np.repeat([0, 1, 3, 5], 2 * RESIDUES_A_HELIX)
    memberships = np.eye(7)[segment] * 0.9 + 0.1 / 7
    point = (20.0, 5.0, 14.0)
    hinges = (Hinge(3, 0, 15.0, (0.0, 1.0, 0.0), point), Hinge(3, 1, 2.0, (1.0, 0.0, 0.0), point))
    config = {"segments": {"n_segments": 7}, "training": {"seed": 0, "halves": False}}
    provenance = {
        "command": "kinesphere segments particles.star --model model.pdb --out run",
        "versions": {"kinesphere": "0.1.0"},
        "inputs": {"particles.star": "sha256:00ff"},
    }
    return FakeRun(
        folder,
        model,
        memberships,
        hinges,
        two_populations(n, 2, 11),
        config,
        provenance,
        training_metrics(30, 5),
    )


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    """One swinging segment of four, two populations, 2,000 particles."""
    return hinge_run(tmp_path_factory.mktemp("run"))
