"""A molecule of two domains and a hinge, and images of it that the forward model itself makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.spatial.transform import Rotation

from kinesphere.imaging.band import FourierBand
from kinesphere.imaging.ctf import CtfParameters
from kinesphere.imaging.forward import ForwardModel
from kinesphere.imaging.gaussians import RenderGrid
from kinesphere.imaging.pose import project_points
from kinesphere.inference.decoder import Decoder
from kinesphere.inference.encoder import VariationalLatents
from kinesphere.inference.gaussian import GaussianLatents
from kinesphere.inference.latents import LatentModel, MarginalLatents
from kinesphere.inference.objective import make_objective
from kinesphere.methods.segments import SegmentsScheduleConfig
from kinesphere.motion.reference import Reference
from kinesphere.motion.restraints import Restraints
from kinesphere.motion.segments import SegmentsMotion
from kinesphere.observations.observations import Observations
from kinesphere.training.schedule import Schedule, SettlingSchedule
from kinesphere.training.trainer import Model, Trainer

N_RESIDUES, BOX, PIXEL_ANGSTROM, WIDTH_ANGSTROM = 60, 28, 3.0, 2.5
LARGEST_ANGLE_RADIANS = 0.9


@dataclass(frozen=True)
class Toy:
    """Images of a two-domain molecule, what they are compared with, and the truth: angles (n,) and
    noise power."""

    observations: Observations
    forward: ForwardModel
    reference: Reference
    angle_radians: torch.Tensor
    noise_power: float

    def trainer(self, *, inference: str = "marginal", seed: int = 0, **options: Any) -> Trainer:
        """Make a trainer of these images; options are the keys of `chosen`."""
        chosen = {
            "latent_dim": 1,
            "n_nodes": 12,
            "n_draws": 4,
            "look_every": 3,
            "n_segments": 4,
            "encoder_shells": 6,
            "objective": "gaussian",
            "batch_size": 32,
            "checkpoints": None,
            "chooses_dimension": False,
            "schedule": SegmentsScheduleConfig(epochs=4),
        } | options
        torch.manual_seed(seed)
        latent_dim, band = chosen["latent_dim"], self.observations.band
        domains = self.reference.domains
        motion = SegmentsMotion(
            self.reference.points,
            domains,
            latent_dim,
            n_segments=chosen["n_segments"],
        )
        pace = {"n_draws": chosen["n_draws"], "look_every": chosen["look_every"]}
        latents: LatentModel
        if inference == "vae":
            latents = VariationalLatents(
                latent_dim, band, n_shells=chosen["encoder_shells"], hidden=32
            )
        elif inference == "gaussian":
            latents = GaussianLatents(latent_dim, **pace)
        else:
            latents = MarginalLatents(latent_dim, chosen["n_nodes"], **pace)
        objective, restraints = (
            make_objective(chosen["objective"]),
            Restraints(self.reference.points, domains),
        )
        kind = SettlingSchedule if latents.keeps_posteriors else Schedule
        schedule = kind(
            chosen["schedule"], len(self.observations), band.n_shells, chosen["batch_size"]
        )
        return Trainer(
            Model(Decoder(motion, self.reference), latents, objective, restraints),
            self.observations,
            self.forward,
            schedule,
            seed=seed,
            checkpoints=chosen["checkpoints"],
            chooses_dimension=bool(chosen["chooses_dimension"]),
        )


def _two_domains() -> torch.Tensor:
    """A chain that fills one ball, crosses the hinge at the origin, and fills another."""
    draw = torch.Generator().manual_seed(2)
    balls = [
        7.0 * torch.randn(N_RESIDUES // 2, 3, generator=draw).clamp(-1.5, 1.5) for _ in range(2)
    ]
    offset = torch.tensor([14.0, 0.0, 0.0])
    return torch.cat([balls[0] - offset, balls[1] + offset])


def _hinged(points: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Turn the second half of the chain about the z axis through the hinge, by each angle; (n, p,
    3)."""
    turn = torch.from_numpy(Rotation.from_euler("z", angle.numpy()[:, None]).as_matrix()).float()
    half = N_RESIDUES // 2
    moved = torch.einsum("nij,pj->npi", turn, points[half:])
    return torch.cat([points[:half].expand(len(angle), -1, -1), moved], 1)


def _ctf(n: int, draw: torch.Generator) -> CtfParameters:
    ones = torch.ones(n)
    defocus = 8000.0 + 8000.0 * torch.rand(n, generator=draw)
    return CtfParameters(
        defocus_u_angstrom=defocus + 300.0,
        defocus_v_angstrom=defocus,
        defocus_angle_radians=torch.rand(n, generator=draw),
        phase_shift_radians=0 * ones,
        voltage_kv=300 * ones,
        spherical_aberration_mm=2.7 * ones,
        amplitude_contrast=0.1 * ones,
        b_factor_angstrom2=0 * ones,
        scale=ones,
    )


def _make(
    n_images: int = 256,
    noise: float = 1.0,
    n_groups: int = 1,
    seed: int = 0,
    *,
    one_view: bool = False,
) -> Toy:
    draw = torch.Generator().manual_seed(seed)
    points = _two_domains()
    single = torch.arange(N_RESIDUES)
    amplitude = torch.ones(N_RESIDUES)
    zeros = torch.zeros(N_RESIDUES, dtype=torch.int64)
    reference = Reference(points, zeros, zeros, points, amplitude, single, points, single, single)
    band = FourierBand.of_grid(RenderGrid(BOX, PIXEL_ANGSTROM))
    forward = ForwardModel(band, amplitude, WIDTH_ANGSTROM)
    angle = LARGEST_ANGLE_RADIANS * (2 * torch.rand(n_images, generator=draw) - 1)
    rotation = torch.from_numpy(Rotation.random(n_images, random_state=seed).as_matrix()).float()
    if one_view:
        rotation = torch.eye(3).expand(n_images, 3, 3).clone()
    ctf = _ctf(n_images, draw)
    clean = forward.structure_factor(
        project_points(_hinged(points, angle), rotation)
    ) * forward.transfer(ctf)
    level = noise * clean.abs().square().mean().sqrt()
    data = clean + level * torch.randn(clean.shape, generator=draw, dtype=torch.complex64)
    group = torch.arange(n_images) % n_groups
    return Toy(
        Observations(data, rotation, ctf, group, band), forward, reference, angle, float(level**2)
    )


@pytest.fixture(scope="session")
def make_toy() -> Callable[..., Toy]:
    """Make a particle set: `make_toy(n_images=256, noise=1.0, n_groups=1, one_view=False)`.

    The noise is relative to the RMS of the signal's coefficients.
    """
    return _make


@pytest.fixture(scope="session")
def toy() -> Toy:
    """The set that most tests share."""
    return _make(n_images=96)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """A folder for checkpoints."""
    return tmp_path / "checkpoints"
